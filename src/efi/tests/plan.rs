use super::super::*;
use super::{after, esp, loader, network, partition, recorded, set_up, state};

const SHIM: &str = "\\EFI\\debian\\shimx64.efi";

fn debian() -> LoadOption {
    loader("debian", 1, SHIM)
}

/// The plan in short: changes, and why what is left.
fn short(plan: &EntryPlan) -> (Vec<String>, Vec<String>) {
    (
        plan.changes.iter().map(ToString::to_string).collect(),
        plan.left.iter().map(|left| left.why.clone()).collect(),
    )
}

fn order(numbers: &[u16]) -> String {
    format!("BootOrder {}", numbers.iter().map(|n| format!("{n:04X}")).collect::<Vec<_>>().join(","))
}

/// The set was made on a machine with network, set-up and Debian.
fn before() -> FirmwareRecord {
    recorded(&state(&[network("PXE"), debian(), set_up()], &[0, 1, 2]))
}

#[test]
fn firmware_that_forgot_all_gets_the_entry_behind_the_network() {
    let now = state(&[set_up(), network("PXE"), network("PXE6")], &[0, 1, 2]);
    let now = BootState { current: Some(BootNumber(1)), ..now };
    let plan = plan(&before(), &now, &[esp(1, &[SHIM])]);
    let (changes, left) = short(&plan);
    // Number 1 is the network's by now.
    let entry = format!("Boot0003 'debian' for '{}'", SHIM);
    assert_eq!(changes, [entry, order(&[1, 3, 0, 2])]);
    assert!(left.is_empty(), "{left:?}");
    let again = super::super::plan(&before(), &after(&now, &plan), &[esp(1, &[SHIM])]);
    assert_eq!(again.changes, []);
}

#[test]
fn what_the_firmware_has_already_is_not_written() {
    let rows: [(&[LoadOption], &[u16], &[u16]); 7] = [
        // (entries, order, the order afterwards): nothing to do.
        (&[network("PXE"), debian(), set_up()], &[0, 1, 2], &[0, 1, 2]),
        // More of the network, and what is not tried, may stand in between.
        (&[network("PXE"), network("PXE6"), set_up(), debian()], &[2, 0, 1, 3], &[2, 0, 1, 3]),
        // Under another number, and not in the order.
        (&[network("PXE"), set_up(), debian()], &[0, 1], &[0, 2, 1]),
        // Behind another system.
        (&[network("PXE"), loader("other", 7, "\\x.efi"), debian()], &[0, 1, 2], &[0, 2, 1]),
        // Before the network.
        (&[debian(), network("PXE")], &[0, 1], &[1, 0]),
        // Other spelling of the path.
        (&[network("PXE"), loader("Debian", 1, "\\efi\\DEBIAN\\shimx64.EFI")], &[0, 1], &[0, 1]),
        // Numbers that nothing has stay.
        (&[network("PXE"), debian()], &[0, 9, 1, 9], &[0, 9, 1, 9]),
    ];
    for (entries, present, wanted) in rows {
        let now = state(entries, present);
        let current = now.entries.iter().find(|(_, option)| option.is_network()).map(|(n, _)| *n);
        let now = BootState { current, ..now };
        let plan = plan(&before(), &now, &[esp(1, &[SHIM])]);
        let (changes, left) = short(&plan);
        let expected = if present == wanted { vec![] } else { vec![order(wanted)] };
        assert_eq!((changes, left.len()), (expected, 0), "{present:?}");
    }
}

#[test]
fn entries_that_do_something_else_are_not_taken_for_it() {
    let inactive = LoadOption { attributes: 0, ..debian() };
    let hidden = LoadOption { attributes: 9, ..debian() };
    let with_options = LoadOption { options: b"init=/bin/sh".to_vec(), ..debian() };
    let of_another_place = loader("debian", 2, SHIM);
    for other in [inactive, hidden, with_options, of_another_place, loader("debian", 1, "\\other.efi")] {
        let now = state(&[network("PXE"), other.clone()], &[0, 1]);
        let plan = plan(&before(), &now, &[esp(1, &[SHIM])]);
        assert!(
            matches!(&plan.changes[..], [Change::Entry(BootNumber(2), _), Change::Order(_)]),
            "{other:?}"
        );
        assert_eq!(plan.changes[1].to_string(), order(&[0, 2, 1]));
        assert_eq!(after(&now, &plan).entries[&BootNumber(1)], other, "it stays");
    }
}

#[test]
fn a_path_with_a_controller_counts_until_its_disk_moves() {
    let mut full = debian();
    full.path.insert(0, PathNode::Other(1, 1, vec![0, 2]));
    let now = state(&[network("PXE"), full], &[0, 1]);
    let here = esp(1, &[SHIM]);
    assert_eq!(plan(&before(), &now, std::slice::from_ref(&here)).changes, []);
    let moved = Esp { is_moved: true, ..here };
    assert_eq!(plan(&before(), &now, &[moved]).changes.len(), 2);
}

#[test]
fn only_files_on_partitions_that_were_restored_come_back() {
    let now = state(&[network("PXE")], &[0]);
    let smaller = Esp { partition: HardDrive { blocks: 1, ..partition(1) }, ..esp(1, &[SHIM]) };
    let unread = Esp { problem: Some("fat32: damaged".into()), ..esp(1, &[]) };
    let rows: [(&[Esp], &str); 6] = [
        (&[], ""),
        (&[esp(2, &[SHIM])], ""),
        (&[smaller], ""),
        (&[esp(1, &["\\EFI\\other.efi"])], "there is no '\\EFI"),
        (&[unread], "(fat32: damaged)"),
        (&[esp(1, &[SHIM]), esp(1, &[SHIM])], "two of the restored disks"),
    ];
    for (esps, why) in rows {
        let plan = plan(&before(), &now, esps);
        assert_eq!((plan.changes.len(), plan.restored.len()), (0, 0), "{esps:?}");
        assert_eq!(plan.wanted, usize::from(!why.is_empty()));
        assert!(plan.left.iter().all(|left| left.why.contains(why)), "{:?}", plan.left);
    }
}

#[test]
fn a_record_gives_no_options_no_attributes_and_no_other_path() {
    let kernel = LoadOption {
        attributes: 3,
        options: b"root=/dev/sda2".to_vec(),
        ..loader("a\u{1b}[2Jb", 1, "\\efi\\DEBIAN\\shimx64.EFI")
    };
    let inactive = LoadOption { attributes: 0, ..loader("off", 1, SHIM) };
    let unordered = loader("unordered", 1, SHIM);
    let record = recorded(&state(&[network("PXE"), kernel, inactive, unordered], &[0, 2, 1]));
    let plan = plan(&record, &state(&[network("PXE")], &[0]), &[esp(1, &[SHIM])]);
    let Change::Entry(_, option) = &plan.changes[0] else { panic!("{:?}", plan.changes) };
    assert_eq!(*option, loader("a[2Jb", 1, SHIM));
    assert_eq!((plan.wanted, plan.changes.len()), (1, 2));
    assert_eq!(plan.left[0].why, "it comes without its 14 bytes of options");
}

#[test]
fn options_that_the_firmware_still_has_are_used() {
    let kernel = |options: &[u8]| LoadOption { options: options.to_vec(), ..debian() };
    let record = recorded(&state(&[network("PXE"), kernel(b"one"), kernel(b"two")], &[0, 1, 2]));
    let now = state(&[network("PXE"), kernel(b"two"), kernel(b"one")], &[0]);
    let found = plan(&record, &now, &[esp(1, &[SHIM])]);
    assert_eq!(short(&found), (vec![order(&[0, 2, 1])], vec![]));
    // Neither: both would be the same entry without them.
    let found = plan(&record, &state(&[network("PXE")], &[0]), &[esp(1, &[SHIM])]);
    assert_eq!((found.changes.len(), found.left.len()), (2, 2));
}

#[test]
fn without_a_network_entry_nothing_is_put_in_front() {
    let disk = loader("other", 7, "\\x.efi");
    let restored = [esp(1, &[SHIM])];
    let now = BootState { current: None, ..state(std::slice::from_ref(&disk), &[0]) };
    let (changes, _) = short(&plan(&before(), &now, &restored));
    assert_eq!(changes[1..], [order(&[0, 1])]);
    // The entry that this boot came from is the network's, whatever firmware calls it.
    let odd = LoadOption { attributes: 1, ..set_up() };
    let now = BootState { current: Some(BootNumber(1)), ..state(&[disk, odd], &[0, 1]) };
    let (changes, _) = short(&plan(&before(), &now, &restored));
    assert_eq!(changes[1..], [order(&[1, 2, 0])]);
    let found = plan(&before(), &BootState::default(), &restored);
    assert_eq!((found.changes.len(), found.restored.len(), found.wanted), (0, 0, 1));
    assert!(found.left[0].why.contains("no boot order with a network entry"), "{:?}", found.left);
}

#[test]
fn no_more_than_sixteen_entries_are_written() {
    let files: Vec<String> = (0..40).map(|n| format!("\\EFI\\{n}.efi")).collect();
    let entries: Vec<LoadOption> = files.iter().map(|file| loader("x", 1, file)).collect();
    let numbers: Vec<u16> = (0..40).collect();
    let record = recorded(&state(&entries, &numbers));
    let esp = Esp { files, ..esp(1, &[]) };
    let found = plan(&record, &state(&[network("PXE")], &[0]), std::slice::from_ref(&esp));
    assert_eq!((found.changes.len(), found.restored.len(), found.left.len()), (17, 16, 24));
    let long = format!("\\EFI\\{}.efi", "x".repeat(490));
    let record = recorded(&state(&[loader("x", 1, &long)], &[0]));
    let esp = Esp { files: vec![long], ..esp };
    let found = plan(&record, &state(&[network("PXE")], &[0]), &[esp]);
    assert!(found.changes.is_empty() && found.left[0].why.contains("longer than 1024 bytes"), "{found:?}");
}
