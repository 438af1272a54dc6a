//! The page of all images: what the machines have, and what it costs.

use super::super::images::{self, FileUsers};
use super::super::sets::MachineSets;
use super::super::table::{short, since};
use super::look::{ImagesSeen, shown};
use super::machine::words;
use crate::text::human_bytes;
use maud::{Markup, html};

/// What its cells are on a narrow screen is in `page.css`, once and not for each machine.
fn row(seen: &ImagesSeen, machine: &MachineSets) -> Markup {
    let (first, last) = (machine.sets.first(), machine.sets.last());
    let known = seen.names.list().iter().find(|known| known.address == machine.ip);
    let name = known.map(|known| &known.name).or(machine.host.as_ref());
    html! {
        tr {
            // The first of its row: that is scope enough, a thousand times.
            th {
                a href={ "/machines/" (machine.ip) } { (name.map_or_else(|| machine.ip.to_string(), |name| shown(name, 40))) }
            }
            td { (machine.sets.len()) }
            td { (words(&images::words(machine))) }
            td { (first.map_or_else(|| "–".into(), |set| human_bytes(set.disk_bytes()))) }
            td { (first.map_or_else(|| "–".into(), |set| human_bytes(set.room()))) }
            td { (human_bytes(FileUsers::together(&machine.sets))) }
            td { @if let Some(set) = first { (short(since(set.finished, seen.at))) } @else { "–" } }
            td { @if let Some(set) = last { (short(since(set.finished, seen.at))) } @else { "–" } }
        }
    }
}

/// All of it but the frame.
pub(super) fn page(seen: &ImagesSeen) -> Markup {
    let sets: usize = seen.machines.iter().map(|machine| machine.sets.len()).sum();
    let cost = FileUsers::together(seen.machines.iter().flat_map(|machine| &machine.sets));
    html! {
        h1 { "Images" }
        p.counts {
            span { b { (seen.machines.len()) } " machines" }
            span { b { (sets) } " sets" }
            span { b { (human_bytes(cost)) } " on the disk" }
            @if let Some((free, size)) = seen.room { span { b { (human_bytes(free)) } " free of " (human_bytes(size)) } }
        }
        @if seen.machines.is_empty() {
            p.note { "No machine has a folder on the backup share yet." }
        } @else {
            table.stored {
                caption.hidden { "What each machine has" }
                thead { tr {
                    th scope="col" { "Machine" } th.right scope="col" { "Sets" } th scope="col" { "State" }
                    th.right scope="col" { "Disks" } th.right scope="col" { "Newest" } th.right scope="col" { "All sets" }
                    th scope="col" { "Newest, age" } th scope="col" { "Oldest, age" }
                } }
                tbody { @for machine in &seen.machines { (row(seen, machine)) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::machine::MachineNames;
    use super::super::super::sets::{ListedImage, ListedSet};
    use super::*;
    use crate::types::SetHash;
    use jiff::Timestamp;
    use std::net::Ipv4Addr;

    #[test]
    fn the_images_of_1000_machines_are_a_small_page() {
        let image = |name: &str| ListedImage {
            name: name.into(),
            file: format!("{name}.raw.gz"),
            disk_bytes: 500_107_862_016,
            root_hash: blake3::hash(b""),
            image_bytes: 1 << 34,
            is_degraded: false,
            is_damaged: false,
            place: None,
        };
        let set = |generation: u64| ListedSet {
            generation,
            dir: String::new(),
            finished: Timestamp::UNIX_EPOCH,
            job: None,
            set: SetHash::of(b""),
            is_signed: false,
            is_pinned: false,
            is_imported: false,
            images: vec![image("sda"), image("sdb")],
        };
        let machine = |n: u32| MachineSets {
            ip: Ipv4Addr::from(0x0A00_0000 + n),
            host: Some(format!("rack12-node{n}")),
            sets: (0..10).map(set).collect(),
            problems: Vec::new(),
        };
        let machines: Vec<MachineSets> = (0..1000).map(machine).collect();
        let (names, costs) = (MachineNames::default(), FileUsers::of(&machines));
        let seen = ImagesSeen { at: Timestamp::UNIX_EPOCH, machines, names, costs, room: None };
        let bytes = page(&seen).into_string().len();
        assert!(bytes < 200_000, "{bytes}");
    }
}
