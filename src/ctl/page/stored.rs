//! The page of all images: what the machines have, and what it costs.

use super::super::images::{self, FileUsers};
use super::super::sets::MachineSets;
use super::frame::ago;
use super::look::{ImagesSeen, shown};
use super::machine::words;
use crate::text::human_bytes;
use maud::{Markup, html};

fn row(seen: &ImagesSeen, machine: &MachineSets) -> Markup {
    let (first, last) = (machine.sets.first(), machine.sets.last());
    let known = seen.names.list().iter().find(|known| known.address == machine.ip);
    let name = known.map(|known| &known.name).or(machine.host.as_ref());
    html! {
        tr {
            th scope="row" data-th="Machine" {
                a href={ "/machines/" (machine.ip) } { (name.map_or_else(|| machine.ip.to_string(), |name| shown(name, 40))) }
            }
            td.right data-th="Sets" { (machine.sets.len()) }
            td data-th="State" { (words(&images::words(machine))) }
            td.right data-th="Disks" { (first.map_or_else(|| "–".into(), |set| human_bytes(set.disk_bytes()))) }
            td.right data-th="Newest" { (first.map_or_else(|| "–".into(), |set| human_bytes(set.room()))) }
            td.right data-th="All sets" { (human_bytes(FileUsers::together(&machine.sets))) }
            td data-th="Newest made" { @if let Some(set) = first { (ago(set.finished, seen.at)) } @else { "–" } }
            td data-th="Oldest made" { @if let Some(set) = last { (ago(set.finished, seen.at)) } @else { "–" } }
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
            table {
                caption.hidden { "What each machine has" }
                thead { tr {
                    th scope="col" { "Machine" } th.right scope="col" { "Sets" } th scope="col" { "State" }
                    th.right scope="col" { "Disks" } th.right scope="col" { "Newest" } th.right scope="col" { "All sets" }
                    th scope="col" { "Newest made" } th scope="col" { "Oldest made" }
                } }
                tbody { @for machine in &seen.machines { (row(seen, machine)) } }
            }
        }
    }
}
