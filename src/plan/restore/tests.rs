//! Sets and disks as short texts, beside what is written where, or why nothing is.

use super::*;
use crate::image::Needed;
use crate::inventory::Disk;
use crate::plan::testkit::*;
use crate::store::record::{ImageRecord, Record};
use crate::store::{HistorySet, SeenKind, SetDigest};
use crate::types::MapEntry;
use crate::used::DiskContent;

fn restore(disks: &[&str], share: &ShareState) -> Result<Vec<String>, Kind> {
    plan(&request(Action::Restore), &inventory(disks), share).map(|p| writes(&p)).map_err(|f| f.kind)
}

fn mapped(map: &[(&str, &str)], disks: &[&str], share: &ShareState) -> Result<Vec<String>, Kind> {
    let mut request = request(Action::Restore);
    let entry = |(image, disk): &(&str, &str)| MapEntry {
        image: image.parse().unwrap(),
        disk: selectors(disk).remove(0),
    };
    request.map = map.iter().map(entry).collect();
    plan(&request, &inventory(disks), share).map(|p| writes(&p)).map_err(|f| f.kind)
}

/// A set of the history.
fn kept(record: Record) -> HistorySet {
    let (folder, images) = (format!("history/{}", record.generation), files_of(&record));
    HistorySet { folder, record: Some(record), digest: SetDigest::default(), images }
}

fn writes(plan: &Plan) -> Vec<String> {
    short(plan)
        .into_iter()
        .filter(|s| s.starts_with("restore "))
        .map(|s| s["restore ".len()..].into())
        .collect()
}

#[test]
fn every_image_is_checked_before_the_first_disk_is_written() {
    let share = share(record(1, &["sda S1 4G@1", "sdb S2 8G@2"], &[]));
    let plan = plan(&request(Action::Restore), &inventory(&["sda S1 4G@1", "sdb S2 8G@2"]), &share).unwrap();
    let steps = short(&plan);
    assert_eq!(
        steps,
        ["check sda.raw.gz", "check sdb.raw.gz", "restore sda.raw.gz>sda", "restore sdb.raw.gz>sdb"]
    );
}

#[test]
fn swapped_kernel_names_move_nothing() {
    let share = share(record(1, &["sda S1 4G@1", "sdb S2 4G@2"], &[]));
    let swapped = restore(&["sda S2 4G@2", "sdb S1 4G@1"], &share);
    assert_eq!(swapped.unwrap(), ["sda.raw.gz>sdb", "sdb.raw.gz>sda"]);
}

#[test]
fn a_replaced_disk_is_accepted_only_where_no_other_can_be_meant() {
    let set = share(record(1, &["sda S1 4G@1"], &["sdb DATA 8G@2"]));
    let rows: [(&[&str], Result<&str, Kind>); 10] = [
        // The plain case: the dead disk is gone, a new one is in its place, the data disk is still there.
        (&["sda NEW 4G@1", "sdb DATA 8G@2"], Ok("sda")),
        // A larger one.
        (&["sda DATA 8G@2", "sdb NEW 9G@1"], Ok("sdb")),
        // In another slot: it may have been added since, with data on it.
        (&["sda NEW 4G@3", "sdb DATA 8G@2"], Err(Kind::Ambiguous)),
        // The dead disk is gone and the data disk took its name: never.
        (&["sda DATA 8G@2"], Err(Kind::Ambiguous)),
        // The data disk, plugged into the dead disk's port.
        (&["sda DATA 8G@1"], Err(Kind::Ambiguous)),
        // An unknown disk where the data disk was: it may be the admin's new data disk.
        (&["sda NEW 8G@2"], Err(Kind::Ambiguous)),
        // Two that fit, one of them in the dead disk's port.
        (&["sda NEW 4G@1", "sdb NEW2 4G@3"], Err(Kind::Ambiguous)),
        // Too small.
        (&["sda NEW 3G@1"], Err(Kind::Ambiguous)),
        // USB.
        (&["usb:sda NEW 4G@1"], Err(Kind::Ambiguous)),
        (&[], Err(Kind::NoDisk)),
    ];
    for (disks, expected) in rows {
        let expected = expected.map(|disk| vec![format!("sda.raw.gz>{disk}")]);
        assert_eq!(restore(disks, &set), expected, "{disks:?}");
    }
}

#[test]
fn an_older_record_keeps_a_replacement_off_and_no_proven_disk() {
    let older = record(1, &["sda S1 4G@1"], &["sdb DATA 8G@2"]);
    let with_history = |current: Record| ShareState { history: vec![kept(older.clone())], ..share(current) };
    // The data disk of set 1, which set 2 has not seen, is where the dead disk was.
    let set = with_history(record(2, &["sda S1 4G@1"], &[]));
    assert_eq!(restore(&["sda DATA 8G@1"], &set), Err(Kind::Ambiguous));
    assert_eq!(restore(&["sda NEW 8G@1"], &set).unwrap(), ["sda.raw.gz>sda"]);
    // The image of the dead disk is carried over, and a disk that is left out was in its place: so may this one be.
    let set = share(record(2, &["sda S1 4G@1"], &["sdb DATA 8G@1"]));
    assert_eq!(restore(&["sda NEW 8G@1"], &set), Err(Kind::Ambiguous));
    // Set 2 images the disk that set 1 left out: what is newer counts.
    let set = with_history(record(2, &["sdb DATA 8G@2"], &[]));
    assert_eq!(restore(&["sdb DATA 8G@2"], &set).unwrap(), ["sdb.raw.gz>sdb"]);
}

#[test]
fn a_disk_left_out_whose_image_is_carried_is_no_twin() {
    let set = share(record(2, &["sda S1 4G@1", "sdb S2 8G@2"], &["sdb S2 8G@2"]));
    // Its serial finds it wherever it is plugged in.
    let found = restore(&["sda S1 4G@1", "sdb S2 8G@5"], &set);
    assert_eq!(found.unwrap(), ["sda.raw.gz>sda", "sdb.raw.gz>sdb"]);
    // At two places, with two entries of that serial, nobody can tell.
    let set = share(record(2, &["sda S1 4G@1", "sdb S2 8G@2"], &["sdc S2 8G@3"]));
    assert_eq!(restore(&["sda S1 4G@1", "sdb S2 8G@5"], &set), Err(Kind::Ambiguous));
}

/// Twins were swapped after set 1, and only one of them was imaged again: what set 2 knows of that one says nothing about
/// the other one's image, which is of set 1.
#[test]
fn a_carried_image_of_a_twin_is_judged_by_its_first_set() {
    let content = |id: &str| DiskContent {
        volumes: [id.to_owned()].into_iter().filter(|id| !id.is_empty()).collect(),
        ..DiskContent::default()
    };
    let record = |generation: u64, contents: [&str; 2]| {
        let mut record = record(generation, &["sda T 4G@1", "sdb T 4G@2"], &[]);
        record.images.iter_mut().zip(contents).for_each(|(image, id)| {
            (image.twin, image.content) = (true, content(id));
        });
        record
    };
    let both = vec!["sda.raw.gz>sda".to_owned(), "sdb.raw.gz>sdb".to_owned()];
    // What set 1 saw, what set 2 saw, is sdb carried, what is there today; is it clear, and is it without set 1.
    type Row = ([&'static str; 2], [&'static str; 2], bool, [&'static str; 2], [bool; 2]);
    let rows: [Row; 6] = [
        (["", ""], ["z", ""], false, ["z", ""], [true, true]),
        (["", ""], ["z", ""], true, ["z", ""], [false, false]),
        (["x", "y"], ["z", "y"], true, ["z", "y"], [true, true]),
        (["x", "y"], ["z", "y"], true, ["z", "x"], [false, false]),
        // Wiped, or made anew: the other one is still the one that it was.
        (["z", "y"], ["z", "y"], true, ["z", ""], [true, false]),
        (["x", "y"], ["z", "y"], true, ["z", ""], [false, false]),
    ];
    for (n, (first, second, is_carried, today, is_clear)) in rows.into_iter().enumerate() {
        let (older, mut newer) = (record(1, first), record(2, second));
        if is_carried {
            newer.images[1] = ImageRecord { carried: true, ..older.images[1].clone() };
        }
        let mut disks = inventory(&["sda T 4G@1", "sdb T 4G@2"]);
        disks.disks.iter_mut().zip(today).for_each(|(disk, id)| disk.content = content(id));
        for (is_pruned, is_clear) in [false, true].into_iter().zip(is_clear) {
            let history = if is_pruned { Vec::new() } else { vec![kept(older.clone())] };
            let share = ShareState { history, ..share(newer.clone()) };
            let found =
                plan(&request(Action::Restore), &disks, &share).map(|p| writes(&p)).map_err(|f| f.kind);
            let expected = if is_clear { Ok(both.clone()) } else { Err(Kind::Ambiguous) };
            assert_eq!(found, expected, "row {n}, pruned: {is_pruned}");
        }
    }
}

#[test]
fn two_replaced_disks_want_the_admins_word() {
    let set = share(record(1, &["sda S1 4G@1", "sdb S2 8G@2"], &[]));
    let disks = ["sda N1 4G@1", "sdb N2 8G@2"];
    assert_eq!(restore(&disks, &set), Err(Kind::Ambiguous));
    let both = mapped(&[("sda", "serial=N1"), ("sdb", "sdb")], &disks, &set);
    assert_eq!(both.unwrap(), ["sda.raw.gz>sda", "sdb.raw.gz>sdb"]);
    // One named leaves one: that is no guess any more.
    assert!(mapped(&[("sda", "serial=N1")], &disks, &set).is_ok());
    assert_eq!(mapped(&[("sda", "sda"), ("sdb", "sda")], &disks, &set), Err(Kind::Ambiguous));
    assert_eq!(mapped(&[("sda", "sdb"), ("sdb", "sda")], &disks, &set), Err(Kind::Unfit));
    assert_eq!(mapped(&[("sdz", "sda")], &disks, &set), Err(Kind::DiskList));
}

#[test]
fn disks_without_serials_are_taken_only_where_there_is_one() {
    let set = share(record(1, &["vda - 4G@1"], &[]));
    assert_eq!(restore(&["vda - 4G@1"], &set).unwrap(), ["vda.raw.gz>vda"]);
    assert_eq!(restore(&["vda - 4G@1", "vdb - 4G@2"], &set), Err(Kind::Ambiguous));
    // A left-out disk without a serial and a candidate without one cannot be told apart.
    let set = share(record(1, &["vda S1 4G@1"], &["vdb - 8G@2"]));
    assert_eq!(restore(&["vda - 8G@1"], &set), Err(Kind::Ambiguous));
}

/// Nobody has said which disk it is for, and no place: it goes to none by itself, not even to the only one.
#[test]
fn an_imported_image_without_identity_is_for_no_disk() {
    let set = share(record(1, &["vda - 4G@"], &[]));
    for disks in [&["vda S1 4G@1"][..], &["vda - 4G@1"], &["vda - 4G@"], &["vda S1 4G@1", "vdb S2 4G@2"]] {
        assert_eq!(restore(disks, &set), Err(Kind::Ambiguous), "{disks:?}");
    }
    let disks = ["vda S1 4G@1", "vdb S2 4G@2"];
    assert_eq!(mapped(&[("vda", "serial=S2")], &disks, &set).unwrap(), ["vda.raw.gz>vdb"]);
}

#[test]
fn twins_are_refused() {
    let set = share(record(1, &["sda T 4G@1"], &[]));
    assert_eq!(restore(&["sda T 4G@1", "sdb T 4G@2"], &set), Err(Kind::Ambiguous));
    assert_eq!(mapped(&[("sda", "sdb")], &["sda T 4G@1", "sdb T 4G@2"], &set).unwrap(), ["sda.raw.gz>sdb"]);
}

/// Behind a network, or on an unknown bus, several disks are in one place, or nobody knows the place: it proves nothing.
#[test]
fn a_place_that_is_not_unique_names_no_disk() {
    for (image, disks, expected) in [
        ("sda S1 4G@net", &["sda NEW 4G@net", "sdb DATA 8G@2"][..], Ok("sda")),
        ("sda S1 4G@net", &["sda NEW 4G@net", "sdc OLD 1G@net", "sdb DATA 8G@2"], Err(Kind::Ambiguous)),
        ("sda S1 4G@", &["sda NEW 4G@", "sdb DATA 8G@2"], Err(Kind::Ambiguous)),
        ("sda - 4G@net", &["sda - 4G@net", "sdb - 4G@net"], Err(Kind::Ambiguous)),
    ] {
        let set = share(record(1, &[image], &["sdb DATA 8G@2"]));
        let found = restore(disks, &set);
        assert_eq!(found, expected.map(|disk| vec![format!("sda.raw.gz>{disk}")]), "{image} {disks:?}");
    }
}

#[test]
fn a_disk_that_does_not_fit_is_refused_before_the_first_write() {
    let set = share(record(1, &["sda S1 4G@1"], &[]));
    assert_eq!(restore(&["sda S1 3G@1"], &set), Err(Kind::Unfit));
    for spoil in [|d: &mut Disk| d.logical_block_size = 4096, |d: &mut Disk| d.read_only = true] {
        let mut disks = inventory(&["sda S1 4G@1"]);
        spoil(&mut disks.disks[0]);
        assert_eq!(plan(&request(Action::Restore), &disks, &set).unwrap_err().kind, Kind::Unfit);
    }
}

/// The image itself says what it needs; a disk that has as much is as good as one of the old size.
#[test]
fn a_smaller_disk_is_a_target_where_the_image_has_room() {
    let mut set = share(record(1, &["sda S1 4G@1"], &[]));
    let gib = 1u64 << 30;
    for (least, disks, expected) in [
        (3 * gib, &["sda S1 3G@1"][..], Ok("sda")),
        (3 * gib + 1, &["sda S1 3G@1"], Err(Kind::Unfit)),
        (3 * gib, &["sda NEW 3G@1"], Ok("sda")),
        (3 * gib + 1, &["sda NEW 3G@1"], Err(Kind::Ambiguous)),
        (3 * gib, &["sda NEW 3G@1", "sdb NEW2 2G@3"], Ok("sda")),
        (2 * gib, &["sda NEW 3G@1", "sdb NEW2 2G@3"], Err(Kind::Ambiguous)),
        // An image that says that it needs more than its disk had asks for no more than that.
        (9 * gib, &["sda S1 4G@1"], Ok("sda")),
    ] {
        set.images[0].needed = Some(Needed { bytes: least, why: "partitions".into() });
        assert_eq!(
            restore(disks, &set),
            expected.map(|d| vec![format!("sda.raw.gz>{d}")]),
            "{least} {disks:?}"
        );
    }
    set.images[0].needed = Some(Needed { bytes: 3 * gib + 7, why: "its partitions".into() });
    let failure = plan(&request(Action::Restore), &inventory(&["sda S1 3G@1"]), &set).unwrap_err();
    for part in ["(its partitions): 7 are missing", "shrink the last partition"] {
        assert!(failure.what.contains(part), "{failure:?}");
    }
    let mut disks = inventory(&["sda S1 4G@1"]);
    disks.disks[0].logical_block_size = 4096;
    let failure = plan(&request(Action::Restore), &disks, &set).unwrap_err();
    assert!(
        failure.what.contains("logical blocks have 4096 bytes") && failure.what.contains("512e"),
        "{failure:?}"
    );
    // 512 bytes emulated on a medium of 4096 is the same to an image.
    (disks.disks[0].logical_block_size, disks.disks[0].physical_block_size) = (512, 4096);
    assert!(plan(&request(Action::Restore), &disks, &set).is_ok());
}

#[test]
fn only_images_of_the_record_are_trusted_else_the_newest_set() {
    let old = |generation| kept(record(generation, &["sda S1 4G@1"], &[]));
    let disks = ["sda S1 4G@1"];
    type Spoil = fn(&mut ShareState);
    let rows: [(Spoil, Result<&str, Kind>); 6] = [
        (|_| {}, Ok("sda.raw.gz>sda")),
        (|s| s.images[0].kind = SeenKind::Own(blake3::hash(b"another")), Ok("history/8/sda.raw.gz>sda")),
        (|s| s.images[0].kind = SeenKind::Foreign("cut".into()), Ok("history/8/sda.raw.gz>sda")),
        (|s| s.images.clear(), Ok("history/8/sda.raw.gz>sda")),
        (
            |s| {
                s.images.clear();
                s.history[0].images.clear();
            },
            Ok("history/7/sda.raw.gz>sda"),
        ),
        (
            |s| {
                s.images.clear();
                s.history.clear();
            },
            Err(Kind::NoImage),
        ),
    ];
    for (spoil, expected) in rows {
        let mut share = share(record(9, &["sda S1 4G@1"], &[]));
        share.history = vec![old(8), old(7)];
        spoil(&mut share);
        assert_eq!(restore(&disks, &share), expected.map(|e| vec![e.to_owned()]));
    }
}

#[test]
fn a_subset_names_images_by_their_names_on_the_share() {
    let set = share(record(1, &["sda S1 4G@1", "sdb S2 8G@2"], &[]));
    let swapped = inventory(&["sda S2 8G@2", "sdb S1 4G@1"]);
    let mut request = request(Action::Restore);
    request.disks = selectors("sda");
    assert_eq!(writes(&plan(&request, &swapped, &set).unwrap()), ["sda.raw.gz>sdb"]);
    request.disks = selectors("sdq");
    assert_eq!(plan(&request, &swapped, &set).unwrap_err().kind, Kind::DiskList);
}

#[test]
fn a_foreign_gzip_goes_only_where_one_disk_can_be_meant() {
    let share = |files: &[&str]| ShareState {
        images: files.iter().map(|f| foreign_gzip(f)).collect(),
        ..ShareState::default()
    };
    assert_eq!(restore(&["sdb S1 4G@1"], &share(&["sda.gz"])).unwrap(), ["sda.gz>sdb"]);
    assert_eq!(restore(&["sda S1 4G@1", "sdb S2 4G@2"], &share(&["sda.gz"])), Err(Kind::Ambiguous));
    assert_eq!(restore(&["sda S1 4G@1"], &share(&["sda.gz", "sdb.gz"])), Err(Kind::Ambiguous));
    assert_eq!(restore(&["sda S1 4G@1"], &share(&["sda.gz", "sda.raw.gz"])), Err(Kind::Ambiguous));
    assert_eq!(restore(&["sda S1 4G@1"], &share(&[])), Err(Kind::NoImage));
    let two = ["sda S1 4G@1", "sdb S2 4G@2"];
    assert_eq!(mapped(&[("sda", "serial=S2")], &two, &share(&["sda.gz"])).unwrap(), ["sda.gz>sdb"]);
}

#[test]
fn a_restore_onto_a_member_of_an_array_says_so() {
    let set = share(record(1, &["sda S1 4G@1"], &[]));
    let mut disks = inventory(&["sda S1 4G@1"]);
    let found = |disks: &Inventory, action| crate::plan::plan(&request(action), disks, &set).unwrap();
    assert!(!found(&disks, Action::Restore).findings.join("").contains("array"));
    disks.disks[0].raid = vec!["Intel RAID".into(), "Linux RAID (partition 2)".into()];
    let said = found(&disks, Action::Restore).findings.join("\n");
    assert!(said.contains("sda is a member of an array: Intel RAID, Linux RAID (partition 2)"), "{said}");
    let notes = found(&disks, Action::BackupAgain).notes.join("\n");
    assert!(notes.contains("sda is a member of an array: Intel RAID"), "{notes}");
}

#[test]
fn the_other_areas_of_an_emmc_are_named_as_left_alone() {
    let set = share(record(1, &["mmcblk0 S1 4G@1"], &[]));
    let disks = inventory(&["mmcblk0 S1 4G@1"]);
    for action in [Action::Restore, Action::BackupAgain] {
        let notes = crate::plan::plan(&request(action), &disks, &set).unwrap().notes.join("\n");
        assert!(notes.contains("mmcblk0 is an eMMC: its boot partitions, RPMB"), "{action}: {notes}");
    }
    let other = share(record(1, &["sda S1 4G@1"], &[]));
    let plan = crate::plan::plan(&request(Action::Restore), &inventory(&["sda S1 4G@1"]), &other).unwrap();
    assert!(!plan.notes.join("").contains("eMMC"));
}

#[test]
fn verify_compares_only_with_the_disk_itself() {
    let set = share(record(1, &["sda S1 4G@1", "sdb S2 8G@2"], &[]));
    let plan = plan(&request(Action::Verify), &inventory(&["sda NEW 4G@1", "sdb S2 8G@2"]), &set).unwrap();
    assert_eq!(short(&plan), ["check sda.raw.gz", "check sdb.raw.gz", "compare sdb.raw.gz~sdb"]);
}
