//! Which disk is meant. Identity (serial, WWN) decides; a kernel name is only what a disk was called when a set
//! was made, or, where no set knows it, what it is called now.

use super::memory::{Memory, known};
use crate::failure::{Failure, Kind};
use crate::inventory::{Disk, Exclusion, Inventory};
use crate::store::record::Record;
use crate::types::DiskSelector;

/// Most words that an advice lists.
const MOST_WORDS: usize = 8;

/// The list, with each disk once, whatever paths lead to it, and every one marked that shows the identity of another
/// one. The notes name the other paths.
pub fn sorted_out(inventory: &Inventory) -> (Inventory, Vec<String>) {
    let (mut disks, mut notes): (Vec<Disk>, Vec<String>) = Default::default();
    for disk in &inventory.disks {
        match disks.iter().find(|first| is_other_path(first, disk)) {
            None => disks.push(disk.clone()),
            Some(first) => notes.push(format!(
                "{} at {} is another path to the disk {} ({}), and not a disk of its own",
                disk.name, disk.location, first.name, first.identity
            )),
        }
    }
    let twins: Vec<bool> = disks
        .iter()
        .map(|disk| disks.iter().any(|d| d.name != disk.name && d.identity.is_same_disk(&disk.identity)))
        .collect();
    disks.iter_mut().zip(twins).for_each(|(disk, is_twin)| disk.is_twin = is_twin);
    (Inventory { disks }, notes)
}

fn is_other_path(a: &Disk, b: &Disk) -> bool {
    let is_other = a.route.as_ref().zip(b.route.as_ref()).is_some_and(|(a, b)| a.is_other_path(b));
    is_other && a.size == b.size && a.identity.is_same_disk(&b.identity)
}

/// What the result of a backup says of disks that cannot be told apart.
pub fn twins(inventory: &Inventory) -> Vec<String> {
    let mut left: Vec<&Disk> = inventory.disks.iter().filter(|disk| disk.is_twin).collect();
    let mut findings = Vec::new();
    while let Some(first) = left.first().copied() {
        let is_same = |disk: &&Disk| disk.name == first.name || disk.identity.is_same_disk(&first.identity);
        let (group, rest): (Vec<&Disk>, Vec<&Disk>) = left.into_iter().partition(is_same);
        left = rest;
        let names: Vec<String> = group.iter().map(|d| format!("{} at {}", d.name, d.location)).collect();
        findings.push(format!(
            "TWINS: {} show the same identity ({}): only their places and what they hold tell them apart",
            names.join(" and "),
            first.identity
        ));
    }
    findings
}

/// The word that means this disk, and no other of today, at the next boot too; the kernel name where there is none.
pub fn selector(disk: &Disk, inventory: &Inventory) -> DiskSelector {
    let number = |text: &Option<String>| text.clone().filter(|_| disk.identity.is_unique());
    let serial = number(&disk.identity.serial).map(DiskSelector::Serial);
    let wwn = number(&disk.identity.wwn).map(DiskSelector::Wwn);
    let at = DiskSelector::At(disk.location.clone());
    let is_only = |s: &DiskSelector| inventory.disks.iter().filter(|d| s.matches(d)).count() == 1;
    // Only what reads back is good advice.
    let is_word = |s: &DiskSelector| s.to_string().parse().as_ref() == Ok(s);
    let name = || disk.name.parse().map_or(DiskSelector::At(disk.location.clone()), DiskSelector::Name);
    serial.into_iter().chain(wwn).chain([at]).find(|s| is_only(s) && is_word(s)).unwrap_or_else(name)
}

/// Advice: the words of `testbox.map` for an image, one for each of these disks.
pub fn say_which<'a>(
    image: &str,
    disks: impl IntoIterator<Item = &'a Disk>,
    inventory: &Inventory,
) -> String {
    let word = |disk| format!("testbox.map={image}:{}", selector(disk, inventory));
    let words: Vec<String> = disks.into_iter().take(MOST_WORDS).map(word).collect();
    match words.is_empty() {
        true => "nothing was written. Plug the disk in.".to_owned(),
        false => format!("nothing was written. Say which disk: {}.", words.join(" or ")),
    }
}

/// Disks for a refusal's text, one a line.
pub fn listing<'a>(disks: impl IntoIterator<Item = &'a Disk>) -> String {
    let lines: Vec<_> = disks.into_iter().map(|d| format!("\n    {d}")).collect();
    if lines.is_empty() { "\n    (no disk)".into() } else { lines.concat() }
}

/// Finds the one disk that a selector means now. `record` is the set that names refer to.
pub fn find<'a>(
    selector: &DiskSelector,
    memory: &Memory<'a>,
    record: Option<&Record>,
    where_from: &str,
) -> Result<&'a Disk, Failure> {
    let inventory = memory.inventory;
    // A USB or removable disk is another one tomorrow, in the same port.
    let by_serial = matches!(selector, DiskSelector::Serial(_) | DiskSelector::Wwn(_));
    let found: Vec<&Disk> = match selector {
        DiskSelector::Serial(_) | DiskSelector::Wwn(_) | DiskSelector::At(_) => {
            inventory.disks.iter().filter(|d| selector.matches(d)).collect()
        }
        DiskSelector::Name(name) => find_name(name.as_str(), memory, record, where_from)?,
    };
    match found[..] {
        [disk] if disk.excluded.is_some() && !by_serial => {
            let why = if disk.excluded == Some(Exclusion::Usb) { "a USB disk" } else { "removable" };
            let advice = "name it by serial= if it is really meant.";
            Err(Failure::new(Kind::DiskList, format!("{where_from}: '{selector}' is {why}: {disk}"), advice))
        }
        [disk] => Ok(disk),
        [] => Err(Failure::new(
            Kind::DiskList,
            format!(
                "{where_from}: '{selector}' matches no disk of this machine:{}",
                listing(&inventory.disks)
            ),
            "correct the entry, or plug the disk in.",
        )),
        _ => {
            let words: Vec<String> = found.iter().map(|d| self::selector(d, inventory).to_string()).collect();
            Err(Failure::new(
                Kind::Ambiguous,
                format!("{where_from}: '{selector}' matches several disks:{}", listing(found)),
                format!("use a word that means one of them: {}.", words.join(" or ")),
            ))
        }
    }
}

/// A name is the set's own word for a disk; only what no set knows is called as it is today.
fn find_name<'a>(
    name: &str,
    memory: &Memory<'a>,
    record: Option<&Record>,
    where_from: &str,
) -> Result<Vec<&'a Disk>, Failure> {
    let inventory = memory.inventory;
    let now = || inventory.disks.iter().filter(|d| d.name == name).collect::<Vec<_>>();
    let Some(record) = record else { return Ok(now()) };
    // An imaged disk's name is the set's own word, so it goes before the name of a disk that was left out.
    if let Some(role) = known(record).find(|k| k.name == name) {
        if let Some(disk) = memory.seat(record, &role) {
            return Ok(vec![disk]);
        }
        if !role.identity.is_unique() {
            return Ok(Vec::new());
        }
        let found: Vec<&Disk> = memory.matching_disks(role.identity).collect();
        if !found.is_empty() {
            let words: Vec<String> = found.iter().map(|d| selector(d, inventory).to_string()).collect();
            return Err(Failure::new(
                Kind::Ambiguous,
                format!("{where_from}: '{name}' cannot be told from other disks:{}", listing(found)),
                format!("use a word that means one of them: {}.", words.join(" or ")),
            ));
        }
        return Err(Failure::new(
            Kind::DiskMissing,
            format!(
                "{where_from}: '{name}' is the disk {} of set {}, which is not here:{}",
                role.identity,
                record.generation,
                listing(&inventory.disks)
            ),
            format!("if it was replaced, say by what: testbox.map={name}:serial=<new serial>."),
        ));
    }
    for disk in now() {
        let is_it = |k: &super::memory::Known<'_>| memory.is(k, disk) || memory.sits(k, disk);
        if let Some(role) = known(record).find(is_it) {
            return Err(Failure::new(
                Kind::Ambiguous,
                format!(
                    "{where_from}: '{name}' is today's name of the disk that set {} calls '{}': {disk}",
                    record.generation, role.name
                ),
                format!("write '{}', or {}.", role.name, selector(disk, inventory)),
            ));
        }
    }
    Ok(now())
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::store::ShareState;

    fn found(selector: &str, disks: &[&str], record: Option<&Record>) -> Result<String, Kind> {
        let (inventory, record) = (inventory(disks), record.cloned());
        let share = ShareState { record, ..ShareState::default() };
        let memory = Memory::new(&inventory, &share);
        find(&selectors(selector)[0], &memory, share.record.as_ref(), "test")
            .map(|d| d.name.clone())
            .map_err(|f| f.kind)
    }

    #[test]
    fn a_name_means_the_disk_of_the_set_not_that_of_today() {
        let set = record(1, &["sda S1 4G@1"], &["sdb S2 8G@2"]);
        let swapped = ["sda S2 8G@2", "sdb S1 4G@1"];
        assert_eq!(found("sda", &swapped, Some(&set)), Ok("sdb".into()));
        assert_eq!(found("sdb", &swapped, Some(&set)), Ok("sda".into()));
        assert_eq!(found("sda", &swapped, None), Ok("sda".into()));
        // The system disk is dead, the data disk took its name: never the data disk.
        assert_eq!(found("sda", &["sda S2 8G@2"], Some(&set)), Err(Kind::DiskMissing));
        // The set does not know the name, but knows the disk under another one.
        assert_eq!(found("sdc", &["sdc S1 4G@1"], Some(&set)), Err(Kind::Ambiguous));
    }

    #[test]
    fn the_only_disk_without_a_serial_is_found_wherever_it_is() {
        let set = record(1, &["vda - 4G@1"], &[]);
        assert_eq!(found("vda", &["vda - 4G@9"], Some(&set)), Ok("vda".into()));
        assert_eq!(found("vda", &["vda - 4G@9", "vdb - 4G@8"], Some(&set)), Err(Kind::DiskList));
        // One with a serial is not found by its place and name.
        let set = record(1, &["sda S1 4G@1"], &[]);
        assert_eq!(found("sda", &["sda S2 4G@9"], Some(&set)), Err(Kind::DiskMissing));
    }

    #[test]
    fn two_paths_are_one_disk_by_the_kernels_evidence_only() {
        let mut seen = inventory(&["sda T 4G@1", "sdb T 4G@2", "sdc T 4G@3"]);
        assert!(sorted_out(&seen).0.disks.iter().all(|disk| disk.is_twin));
        for (n, port) in [(0, "p1"), (1, "p2")] {
            let (unit, port) = ("naa.1".into(), port.into());
            seen.disks[n].route = Some(crate::inventory::Route { unit, port });
        }
        let (disks, notes) = sorted_out(&seen);
        assert_eq!(disks.disks.iter().map(|d| &*d.name).collect::<Vec<_>>(), ["sda", "sdc"]);
        assert!(disks.disks[0].is_twin && notes[0].starts_with("sdb at 2 is another path to the disk sda"));
        seen.disks.pop();
        assert!(!sorted_out(&seen).0.disks[0].is_twin);
        seen.disks[1].size -= 512;
        assert_eq!(sorted_out(&seen).0.disks.len(), 2);
    }

    #[test]
    fn usb_disks_only_by_serial_and_twins_never() {
        let disks = ["sda S1 4G@1", "usb:sdb S2 8G@2", "sdc T 4G@3", "sdd T 4G@4"];
        assert_eq!(found("serial=S2", &disks, None), Ok("sdb".into()));
        assert_eq!(found("at=2", &disks, None), Err(Kind::DiskList));
        assert_eq!(found("at=4", &disks, None), Ok("sdd".into()));
        assert_eq!(found("sdb", &disks, None), Err(Kind::DiskList));
        assert_eq!(found("serial=T", &disks, None), Err(Kind::Ambiguous));
        assert_eq!(found("serial=nobody", &disks, None), Err(Kind::DiskList));
        assert_eq!(found("sdx", &disks, None), Err(Kind::DiskList));
    }
}
