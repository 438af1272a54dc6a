//! The sets of a machine: which is kept, which is counted, which is left alone; and who may remove one.

use crate::world::{HEX, IP, Machine, REBOOT, Seen, contents, contents_of, disk};
use testbox::share::{ShareFault, ShareOp};

fn run(m: &mut Machine, words: &str) -> Seen {
    m.arm(words);
    m.boot()
}

fn ok(m: &mut Machine, words: &str) -> Seen {
    let seen = run(m, words);
    assert!(!m.is_armed(), "{}", seen.console);
    seen
}

fn small(seed: u64) -> Vec<u8> {
    contents_of(128 << 10, seed)
}

/// One disk, with what `seed` says.
fn with(m: &Machine, seed: u64) {
    m.set_disks(vec![disk("sda S1 @1", small(seed))]);
}

/// A machine with sets 1 to `sets`, of the seeds of their numbers; all are kept.
fn machine_with(sets: u64) -> Machine {
    let mut m = Machine::new();
    for n in 1..=sets {
        with(&m, n);
        let action = if n == 1 { "backup" } else { "backup-again" };
        ok(&mut m, &format!("testbox.action={action} testbox.job=j{n} testbox.keep=99"));
    }
    m
}

fn again(m: &mut Machine, seed: u64, keep: u32) -> Seen {
    with(m, seed);
    ok(m, &format!("testbox.action=backup-again testbox.job=again{seed} testbox.keep={keep}"))
}

/// The seeds of the sets that a reader would trust, the current one first, then as the history counts them.
fn seeds(m: &Machine) -> Vec<u64> {
    let tree = m.backup.tree();
    let mut folders: Vec<(u64, String)> = tree
        .keys()
        .filter_map(|path| path.strip_prefix(&format!("{IP}/history/"))?.strip_suffix("/backup.json"))
        .filter_map(|n| Some((n.parse().ok()?, format!("{IP}/history/{n}/"))))
        .collect();
    folders.push((u64::MAX, format!("{IP}/")));
    folders.sort();
    let of = |folder: &str| {
        let own = tree.iter().filter_map(|(path, bytes)| Some((path.strip_prefix(folder)?, bytes.clone())));
        let own = own.filter(|(name, _)| !name.contains('/')).map(|(name, bytes)| (name.to_owned(), bytes));
        let sets = crate::world::sets_of(&own.collect());
        let found = sets.into_values().next()?;
        (1..10).find(|seed| found.get("sda").is_some_and(|bytes| *bytes == small(*seed)))
    };
    folders.iter().rev().filter_map(|(_, folder)| of(folder)).collect()
}

/// Copies what stands in one folder of the machine to another.
fn copy_set(m: &Machine, from: &str, to: &str) {
    for name in ["backup.json", "sda.raw.gz"] {
        m.backup.put(&format!("{IP}/{to}{name}"), m.file(&format!("{from}{name}")).unwrap());
    }
}

/// t6: a middle byte of set 2 flips. The agent finds that while it makes set 3, and says so.
#[test]
fn a_set_found_damaged_by_its_successor_counts_for_nothing() {
    let mut m = Machine::new();
    let big = |seed| vec![disk("sda S1 @1", contents(8, seed))];
    m.set_disks(big(1));
    ok(&mut m, "testbox.action=backup testbox.job=j1");
    m.set_disks(big(2));
    ok(&mut m, "testbox.action=backup-again testbox.job=j2");
    let mut image = m.file("sda.raw.gz").unwrap();
    let middle = image.len() / 2;
    image[middle] ^= 1;
    m.backup.put(&format!("{IP}/sda.raw.gz"), image);
    m.set_disks(big(2));
    ok(&mut m, "testbox.action=backup-again testbox.job=j3");
    assert!(m.status().notes.iter().any(|note| note.contains("DAMAGED")), "{:?}", m.status().notes);
    assert_eq!(m.good_sets().into_keys().collect::<Vec<_>>(), [1, 3]);
    assert!(m.file("history/2/sda.raw.gz.damaged").is_some() && m.file("sda.raw.gz.damaged").is_none());
    // Boots later it still counts for nothing.
    m.set_disks(big(4));
    ok(&mut m, "testbox.action=backup-again testbox.job=j4 testbox.keep=2");
    assert_eq!(m.good_sets().into_keys().collect::<Vec<_>>(), [1, 3, 4]);
    m.set_disks(big(5));
    ok(&mut m, "testbox.action=backup-again testbox.job=j5 testbox.keep=2");
    assert_eq!(m.good_sets().into_keys().collect::<Vec<_>>(), [3, 4, 5]);
}

/// The same, found by a verify; and by a restore, which refuses it.
#[test]
fn a_set_found_damaged_by_verify_or_restore_counts_for_nothing() {
    for action in ["verify", "restore"] {
        let mut m = machine_with(2);
        let whole = m.file("sda.raw.gz").unwrap();
        let mut image = whole.clone();
        let middle = image.len() / 2;
        image[middle] ^= 1;
        m.backup.put(&format!("{IP}/sda.raw.gz"), image);
        let seen = run(&mut m, &format!("testbox.action={action} testbox.job=v"));
        assert!(m.is_armed() && seen.console.contains("[bad-image 52]"), "{}", seen.console);
        again(&mut m, 3, 1);
        assert_eq!(seeds(&m), [3, 1], "{action}");
        // Somebody has put a good copy there, and a verify has proven it.
        m.backup.put(&format!("{IP}/history/2/sda.raw.gz"), whole);
        let set = testbox::types::SetHash::of(&m.file("history/2/backup.json").unwrap());
        ok(&mut m, &format!("testbox.action=verify testbox.job=w testbox.set={set}"));
        again(&mut m, 4, 2);
        assert_eq!(seeds(&m), [4, 3, 2], "{action}");
    }
}

/// What stands in `history/` and is no good set: none of it is counted, and none of it pushes a good set out.
#[test]
fn what_is_not_a_good_set_neither_counts_nor_pushes_one_out() {
    type Spoil = fn(&Machine, &str);
    let rows: [(&str, Spoil); 12] = [
        ("no record", |m, at| m.backup.remove_quietly(&format!("{IP}/{at}/backup.json"))),
        ("a record cut short", |m, at| m.backup.put(&format!("{IP}/{at}/backup.json"), "{\"format\": 1")),
        ("an empty record", |m, at| m.backup.put(&format!("{IP}/{at}/backup.json"), "")),
        ("a long record", |m, at| m.backup.put(&format!("{IP}/{at}/backup.json"), vec![b' '; 5 << 20])),
        ("a record of no image", |m, at| edit_record(m, at, |record| record.images.clear())),
        ("an image missing", |m, at| m.backup.remove_quietly(&format!("{IP}/{at}/sda.raw.gz"))),
        ("an image of another root hash", |m, at| {
            m.backup.put(&format!("{IP}/{at}/sda.raw.gz"), m.file("sda.raw.gz").unwrap());
        }),
        ("an image cut", |m, at| {
            let image = m.file(&format!("{at}/sda.raw.gz")).unwrap();
            m.backup.put(&format!("{IP}/{at}/sda.raw.gz"), &image[..image.len() - 1]);
        }),
        ("a second image missing", |m, at| {
            edit_record(m, at, |record| {
                let mut second = record.images[0].clone();
                second.name = "sdb".into();
                record.images.push(second);
            });
        }),
        ("degraded", |m, at| {
            edit_record(m, at, |record| record.images[0].state = testbox::store::record::SetState::Degraded);
        }),
        ("noted to be damaged", |m, at| {
            let hash = m.record_at(at).images[0].root_hash;
            m.backup.put(&format!("{IP}/{at}/sda.raw.gz.damaged"), format!("{hash} why\n"));
        }),
        ("a copy of the set above it", |m, at| copy_set(m, "history/4/", &format!("{at}/"))),
    ];
    let (four, five) = (machine_with(4), machine_with(5));
    for (what, spoil) in rows {
        for keep in 1..3 {
            // History 1 2 3 4, current 5: set 3 is spoiled.
            let mut m = five.copy();
            spoil(&m, "history/3");
            again(&mut m, 6, keep);
            let expected: &[u64] = if keep == 1 { &[6, 5] } else { &[6, 5, 4] };
            assert_eq!(good_seeds(&m, what), expected, "{what}, keep {keep}");
            // History 1 2 3, current 4: set 3 is spoiled, and is not one of the two.
            let mut m = four.copy();
            if what.starts_with("a copy") {
                continue;
            }
            spoil(&m, "history/3");
            again(&mut m, 5, keep + 1);
            let expected: &[u64] = if keep == 1 { &[5, 4, 2] } else { &[5, 4, 2, 1] };
            assert_eq!(good_seeds(&m, what), expected, "{what}, keep {}", keep + 1);
        }
    }
}

/// Degraded sets, and those with a note, are whole to a reader of images.
fn good_seeds(m: &Machine, what: &str) -> Vec<u64> {
    let mut seeds = seeds(m);
    if what == "degraded" || what == "noted to be damaged" {
        seeds.retain(|seed| *seed != 3);
    }
    seeds
}

fn edit_record(m: &Machine, at: &str, edit: impl FnOnce(&mut testbox::store::record::Record)) {
    let mut record = m.record_at(at);
    edit(&mut record);
    m.backup.put(&format!("{IP}/{at}/backup.json"), record.to_bytes());
}

/// t7, and its kind: a folder of the history has the number of the current set, or a higher one, and is another set, or no
/// set. The set that was current is the newest of the history afterwards.
#[test]
fn a_number_that_is_taken_is_not_reused() {
    type Take = fn(&Machine);
    let rows: [(&str, Take, &[u64]); 9] = [
        ("another set of the same number", |m| take_number(m, "history/3/", 3), &[9, 3, 7, 2, 1]),
        ("another set of a higher number", |m| take_number(m, "history/8/", 8), &[9, 3, 7, 2, 1]),
        (
            "the same record with another image",
            |m| {
                copy_set(m, "", "history/3/");
                m.backup.put(&format!("{IP}/history/3/sda.raw.gz"), m.file("history/2/sda.raw.gz").unwrap());
            },
            &[9, 3, 2, 1],
        ),
        (
            "the same image with another record",
            |m| {
                copy_set(m, "", "history/3/");
                edit_record(m, "history/3", |record| record.job = Some("another".into()));
            },
            &[9, 3, 3, 2, 1],
        ),
        ("the same set", |m| copy_set(m, "", "history/3/"), &[9, 3, 2, 1]),
        (
            "names without content",
            |m| {
                ["backup.json", "sda.raw.gz"]
                    .iter()
                    .for_each(|n| m.backup.put(&format!("{IP}/history/3/{n}"), ""));
            },
            &[9, 3, 2, 1],
        ),
        ("something else", |m| m.backup.put(&format!("{IP}/history/3/x"), "x"), &[9, 3, 2, 1]),
        ("a file", |m| m.backup.put(&format!("{IP}/history/3"), "x"), &[9, 3, 2, 1]),
        (
            "what an attempt has left",
            |m| {
                m.backup.put(&format!("{IP}/history/3.part/sda.raw.gz"), "x");
                m.backup.put(&format!("{IP}/history/3.part/sdb.raw.gz"), "x");
            },
            &[9, 3, 2, 1],
        ),
    ];
    let base = machine_with(3);
    for (what, take, expected) in rows {
        let mut m = base.copy();
        take(&m);
        again(&mut m, 9, 99);
        assert_eq!(seeds(&m), expected, "{what}");
        // However few are kept: what was current until now is one of them.
        let mut m = base.copy();
        take(&m);
        again(&mut m, 9, 1);
        assert_eq!(seeds(&m)[..2], [9, 3], "{what}");
    }
}

/// A set of seed 7 with this generation.
fn take_number(m: &Machine, to: &str, generation: u64) {
    let mut other = Machine::new();
    with(&other, 7);
    ok(&mut other, "testbox.action=backup testbox.job=other");
    let mut record = other.record();
    record.generation = generation;
    m.backup.put(&format!("{IP}/{to}backup.json"), record.to_bytes());
    m.backup.put(&format!("{IP}/{to}sda.raw.gz"), other.file("sda.raw.gz").unwrap());
}

/// The number is taken while the set is published, at each rename of it: the next boot ends the job all the same.
#[test]
fn a_number_taken_while_a_set_is_published_loses_nothing() {
    for n in 0..40 {
        let mut m = machine_with(2);
        with(&m, 9);
        m.backup.fail_nth_of(
            ShareOp::Rename,
            m.backup.count(ShareOp::Rename) + n,
            ShareFault::Errno(libc::EIO),
        );
        run(&mut m, "testbox.action=backup-again testbox.job=j9 testbox.keep=99 testbox.attempts=9");
        let is_cut = m.is_armed();
        m.backup.clear_faults();
        if m.file("history/2/backup.json").is_none() {
            take_number(&m, "history/2/", 2);
        }
        take_number(&m, "history/3/", 3);
        let seen = m.boot();
        assert!(!m.is_armed() || seen.ending != REBOOT, "{n}: {}", seen.console);
        let found = seeds(&m);
        assert!(
            found.contains(&1) && found.contains(&2) && found.contains(&9),
            "{n}: {found:?}: {}",
            seen.console
        );
        if !is_cut {
            return;
        }
    }
    panic!("a boot has more than 40 renames");
}

/// Images of the original system, which have no record, by the same rule.
#[test]
fn images_without_a_record_are_kept_whatever_their_number_holds() {
    for taken in [None, Some("sda.gz"), Some("backup.json")] {
        let mut m = Machine::new();
        let old = b"\x1f\x8b of the original".to_vec();
        m.backup.put(&format!("{IP}/sda.gz"), old.clone());
        if let Some(name) = taken {
            m.backup.put(&format!("{IP}/history/1/{name}"), "something else");
        }
        with(&m, 5);
        ok(&mut m, "testbox.action=backup-again testbox.job=a testbox.keep=99");
        let kept =
            m.backup.tree().into_iter().filter(|(path, bytes)| path.contains("history/") && *bytes == old);
        assert_eq!(kept.count(), 1, "{taken:?}");
        assert!(m.file("sda.gz").is_none() && seeds(&m) == [5], "{taken:?}");
    }
}

/// t9, and its kind: who completes what a cut backup left removes nothing, but for a further attempt of that job.
#[test]
fn only_the_action_that_made_a_set_removes_older_ones() {
    let others = [
        "verify testbox.job=v",
        "restore testbox.job=v",
        "refresh-info testbox.job=v",
        "verify",
        "backup testbox.job=v",
    ];
    let (base, mut cuts) = (machine_with(4), 0);
    for n in 0..12 {
        for (words, may_prune) in
            others.map(|w| (w, false)).into_iter().chain([("backup-again testbox.job=j5", true)])
        {
            let mut m = base.copy();
            with(&m, 5);
            m.backup.fail_nth_of(ShareOp::Rename, n, ShareFault::Errno(libc::EIO));
            run(&mut m, "testbox.action=backup-again testbox.job=j5 testbox.keep=9");
            if !m.is_armed() || m.file("backup.json.part").is_none() {
                continue;
            }
            cuts += 1;
            m.backup.clear_faults();
            let seen = run(&mut m, &format!("testbox.action={words} testbox.keep=1"));
            assert!(seen.console.contains("completed set 5"), "{n}: {}", seen.console);
            let expected: &[u64] = if may_prune { &[5, 4] } else { &[5, 4, 3, 2, 1] };
            assert_eq!(seeds(&m), expected, "rename {n}, {words}: {}", seen.console);
        }
    }
    assert!(cuts > 6, "{cuts} cuts");
}

/// The new set is lost while it is published, at each rename of it: what is current again has its signature again.
#[test]
fn a_rolled_back_set_has_its_signature_again() {
    let (signature, mut rolled_back) = (b"-----BEGIN SSH SIGNATURE-----".to_vec(), 0);
    let base = machine_with(1);
    base.backup.put(&format!("{IP}/backup.json.sig"), signature.clone());
    for n in 0..20 {
        let mut m = base.copy();
        with(&m, 2);
        m.backup.fail_nth_of(ShareOp::Rename, n, ShareFault::Errno(libc::EIO));
        run(&mut m, "testbox.action=backup-again testbox.job=j2");
        m.backup.clear_faults();
        // A server that has lost what it was given: the new image is nowhere.
        let new = m.file("backup.json.part").is_some();
        for name in ["sda.raw.gz", "sda.raw.gz.part"] {
            if m.image(name).is_some_and(|bytes| bytes == small(2)) {
                m.backup.remove_quietly(&format!("{IP}/{name}"));
            }
        }
        let seen = run(&mut m, "testbox.action=verify testbox.job=v");
        assert_eq!(seen.console.contains("rolled back"), new, "rename {n}: {}", seen.console);
        if new {
            rolled_back += 1;
            assert_eq!(m.file("backup.json.sig"), Some(signature.clone()), "rename {n}: {}", seen.console);
            assert_eq!(seeds(&m)[0], 1, "rename {n}: {}", seen.console);
        }
    }
    assert!(rolled_back > 2, "{rolled_back} roll-backs");
}

/// Rolling back while the share cannot be read, at each opening of a file: what is told as rolled back is whole.
#[test]
fn a_set_is_not_called_rolled_back_before_it_is() {
    let mut cut = machine_with(1);
    with(&cut, 2);
    // The new image stands in the old one's place, and its record does not; then the server loses it.
    for n in 0.. {
        assert!(n < 40, "no rename leaves a new image beside the old record");
        let mut m = cut.copy();
        m.backup.fail_nth_of(
            ShareOp::Rename,
            m.backup.count(ShareOp::Rename) + n,
            ShareFault::Errno(libc::EIO),
        );
        run(&mut m, "testbox.action=backup-again testbox.job=j2");
        m.backup.clear_faults();
        if m.file("backup.json.part").is_some() && m.image("sda.raw.gz") == Some(small(2)) {
            m.backup.remove_quietly(&format!("{IP}/sda.raw.gz"));
            cut = m;
            break;
        }
    }
    for n in 0..60 {
        let mut m = cut.copy();
        m.backup.fail_nth_of(ShareOp::Open, m.backup.count(ShareOp::Open) + n, ShareFault::Errno(libc::EIO));
        let seen = run(&mut m, "testbox.action=verify testbox.job=v");
        if seen.console.contains("rolled back") {
            assert_eq!(m.image("sda.raw.gz"), Some(small(1)), "open {n}: {}", seen.console);
        }
        m.backup.clear_faults();
        run(&mut m, "testbox.action=verify testbox.job=w");
        assert_eq!(m.image("sda.raw.gz"), Some(small(1)), "open {n}, the boot after it");
    }
}

/// t14, and its kind.
#[test]
fn a_set_of_a_newer_format_is_left_alone_and_refused() {
    let base = machine_with(2);
    let newer = r#"{ "format": 3, "generation": "seven", "sets": [] }"#;
    for path in ["backup.json", "backup.json.part", "history/1/backup.json", "history/7/backup.json"] {
        for action in ["backup", "backup-again", "restore", "verify", "refresh-info"] {
            let mut m = base.copy();
            m.backup.put(&format!("{IP}/{path}"), newer);
            m.backup.put(&format!("{IP}/sda.raw.gz.part"), "an image of the newer set");
            with(&m, 3);
            let own = |m: &Machine| {
                let mut tree = m.backup.tree();
                tree.retain(|path, _| {
                    !path.ends_with(".log") && !path.contains("/lease/") && !path.ends_with("status.json")
                });
                tree
            };
            let before = own(&m);
            let seen = run(&mut m, &format!("testbox.action={action} testbox.job=n testbox.keep=0"));
            let what = format!("{path}, {action}: {}", seen.console);
            assert!(m.is_armed() && own(&m) == before, "{what}");
            assert_eq!((m.status().code, seen.ending), (Some(64), REBOOT), "{what}");
            let words = seen.console.replace(['!', '\n'], " ");
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains("[newer-format 64]") && words.contains("initrd"), "{what}");
            assert!(m.disk_bytes("sda") == small(3), "{what}");
        }
    }
}

/// t11, and its kind: anybody can make a folder.
#[test]
fn folders_with_numbers_that_no_testbox_makes_are_no_sets() {
    let names = [
        "18446744073709551615",
        "18446744073709551614",
        "9223372036854775807",
        "1000000000000000",
        "99999999999999999999999",
        "0",
        "00",
        "03",
        "+3",
        "-1",
        "3 ",
    ];
    let base = machine_with(1);
    for name in names {
        let mut m = base.copy();
        m.backup.put(&format!("{IP}/history/{name}/x"), "");
        again(&mut m, 2, 0);
        assert_eq!(m.record().generation, 2, "{name}");
        assert!(m.file(&format!("history/{name}/x")).is_some(), "{name} is not ours to remove");
        with(&m, 3);
        ok(&mut m, "testbox.action=restore testbox.job=r");
        assert!(m.disk_bytes("sda") == small(2), "{name}");
    }
}

#[test]
fn a_number_that_leaves_none_above_it_is_refused() {
    for name in ["999999999999999", "999999999999998"] {
        let mut m = machine_with(1);
        m.backup.put(&format!("{IP}/history/{name}/x"), "");
        with(&m, 2);
        let seen = run(&mut m, "testbox.action=backup-again testbox.job=a");
        assert!(m.is_armed() && seen.console.contains("[bad-record 45]"), "{}", seen.console);
        assert!(seen.console.contains(&format!("history/{name}")) && seeds(&m) == [1], "{}", seen.console);
    }
    for generation in ["1000000000000000", "18446744073709551615", "18446744073709551616", "-1", "0"] {
        let mut m = machine_with(1);
        let record =
            m.text("backup.json").replace("\"generation\": 1", &format!("\"generation\": {generation}"));
        m.backup.put(&format!("{IP}/backup.json"), record);
        let seen = run(&mut m, "testbox.action=backup-again testbox.job=a");
        assert!(m.is_armed() && seen.console.contains("[bad-record 45]"), "{generation}: {}", seen.console);
    }
}

/// t15, and its kind: whoever answers reverse DNS names a file in the machine's folder.
#[test]
fn a_host_name_that_is_a_name_of_ours_becomes_no_file() {
    let names = [
        "backup.json",
        "BACKUP.JSON",
        "disk-devices.lst",
        "history",
        "lease",
        "sda.raw.gz",
        "sda.gz",
        "nvme0n1.raw.gz.part",
        "sdb.raw.gz.map",
        "status.json",
        "backup.json.part",
        "backup.json.sig",
        "maintenance.log",
        "maintenance-output.log",
        "testbox-info.txt",
        "testbox-info.zip",
        "0A28292B",
        "10.1.2.3",
        "sda.raw.gz.damaged",
    ];
    for name in names {
        let mut m = Machine::new();
        m.host_name = Some(name);
        with(&m, 1);
        ok(&mut m, "testbox.action=backup testbox.job=a");
        assert!(m.file(name).is_none_or(|bytes| !bytes.is_empty()), "{name}");
        assert_eq!(m.record().machine.hostname, name);
        with(&m, 2);
        ok(&mut m, "testbox.action=backup-again testbox.job=b");
        ok(&mut m, "testbox.action=restore testbox.job=c");
        assert_eq!(seeds(&m), [2, 1], "{name}");
    }
    let mut m = Machine::new();
    m.host_name = Some("box1.history.example.com");
    ok(&mut m, "testbox.action=backup testbox.job=a");
    assert_eq!(m.file("box1.history.example.com"), Some(Vec::new()));
}

#[test]
fn a_file_with_the_name_of_the_host_stays_as_it_is() {
    for kind in ["file", "folder", "special"] {
        let mut m = Machine::new();
        match kind {
            "file" => m.backup.put(&format!("{IP}/box1"), "notes of the admin"),
            "folder" => m.backup.put(&format!("{IP}/box1/notes"), "of the admin"),
            _ => {
                m.backup.put(&format!("{IP}/x"), "");
                m.backup.put_special(&format!("{IP}/box1"));
            }
        }
        let before = m.file("box1");
        ok(&mut m, "testbox.action=backup testbox.job=a");
        assert_eq!(m.file("box1"), before, "{kind}");
    }
}

/// t12, and its kind: what happens to the file between the look at it and its removal. It is asked for by TFTP in between.
#[test]
fn a_file_that_is_gone_when_it_is_to_be_disarmed_is_disarmed() {
    let path = format!("pxelinux.cfg/{HEX}");
    let other = "DEFAULT m\nLABEL m\nKERNEL k\nAPPEND testbox.action=restore testbox.job=other\n";
    type Between = fn(&Machine, &str, &str);
    let rows: [(&str, Between, Option<&str>); 4] = [
        ("removed by the admin", |m, path, _| m.tftp.remove_quietly(path), None),
        (
            "removed, and the reply was lost",
            |m, path, _| {
                m.tftp.remove_quietly(path);
                m.tftp.fail_nth_of(
                    ShareOp::Remove,
                    m.tftp.count(ShareOp::Remove),
                    ShareFault::Errno(libc::ENOENT),
                );
            },
            None,
        ),
        (
            "replaced before the removal is answered",
            |m, path, other| {
                m.tftp.fail_nth_of(
                    ShareOp::Remove,
                    m.tftp.count(ShareOp::Remove),
                    ShareFault::Errno(libc::ENOENT),
                );
                m.tftp.put(path, other);
            },
            Some(other),
        ),
        (
            "armed again when it was gone",
            |m, path, other| {
                m.tftp.remove_quietly(path);
                m.tftp.fail_nth_of(
                    ShareOp::Remove,
                    m.tftp.count(ShareOp::Remove),
                    ShareFault::Errno(libc::ENOENT),
                );
                m.tftp.put(path, other);
            },
            Some(other),
        ),
    ];
    for (what, between, left) in rows {
        let mut m = Machine::new();
        m.arm("testbox.action=backup testbox.job=a");
        let m: &'static Machine = Box::leak(Box::new(m));
        let (path, mut is_first) = (path.clone(), true);
        *m.on_fetch.lock().unwrap() = Some(Box::new(move || {
            if std::mem::take(&mut is_first) {
                between(m, &path, other);
            }
        }));
        let seen = m.boot();
        assert_eq!(seen.ending, REBOOT, "{what}: {}", seen.console);
        let found = m.tftp.get(&format!("pxelinux.cfg/{HEX}")).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(found.as_deref(), left, "{what}: {}", seen.console);
    }
}
