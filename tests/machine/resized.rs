//! A disk is replaced by one of another size, from the word on the command line to what is on the new disk.

use crate::world::disk::{bootable_of, on_larger, partitioned, sgdisk};
use crate::world::{Machine, REBOOT, Seen, TestDisk, disk};
use testbox::block::mem::DiskOp;

/// Bytes that the partition and the GPT of [`partitioned`] need.
const LEAST: usize = (4500 + 33) * 512;

/// Set 1 is published, and the disk is another one now.
fn replaced(image: &[u8], now: TestDisk) -> Machine {
    let mut machine = Machine::new();
    machine.set_disks(vec![disk("sda S1 @1", image.to_vec())]);
    machine.arm("testbox.action=backup testbox.job=one");
    assert_eq!(machine.boot().ending, REBOOT);
    machine.set_disks(vec![now]);
    machine
}

fn run(machine: &mut Machine, words: &str) -> Seen {
    machine.arm(words);
    machine.boot()
}

#[test]
fn a_replaced_larger_disk_gets_its_gpt_at_its_end() {
    let (image, old) = (partitioned(3), bootable_of(9 << 19, 9));
    let mut machine = replaced(&image, disk("sda NEW @1", old.clone()));
    let seen = run(&mut machine, "testbox.action=restore testbox.job=two");
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert!(machine.disk_bytes("sda") == on_larger(&image, &old));
    let plan = "which is 1572864 bytes larger than the imaged disk; its GPT, where it is right, moves";
    assert!(seen.console.contains(plan), "{}", seen.console);
    let free = old.len() - LEAST;
    let notes = machine.status().notes.join("\n");
    assert!(notes.contains(&format!("{free} bytes behind the last partition are free")), "{notes}");
    // It is what the image holds, by name; and its own backup is as good.
    let map = "testbox.map=sda:serial=NEW";
    let seen = run(&mut machine, &format!("testbox.action=backup-again {map} testbox.job=three"));
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    run(&mut machine, "testbox.action=restore testbox.job=four");
    assert!(machine.disk_bytes("sda") == on_larger(&image, &old));
}

#[test]
fn verify_takes_a_disk_of_another_size_for_what_it_is() {
    let image = partitioned(3);
    for size in [9 << 19, 5 << 19, LEAST] {
        let mut machine = replaced(&image, disk("sda S1 @1", bootable_of(size, 9)));
        assert_eq!(run(&mut machine, "testbox.action=restore testbox.job=two").ending, REBOOT);
        let seen = run(&mut machine, "testbox.action=verify testbox.job=three");
        let notes = machine.status().notes.join("\n");
        assert!(notes.contains("sda is what sda.raw.gz holds"), "{size}: {notes} {}", seen.console);
        let renamed = sgdisk(&machine.disk_bytes("sda"), &["-c1:x"]);
        machine.set_disks(vec![disk("sda S1 @1", renamed)]);
        run(&mut machine, "testbox.action=verify testbox.job=four");
        let notes = machine.status().notes.join("\n");
        assert!(notes.contains("DIFFERS: sda"), "{size}: {notes}");
    }
}

#[test]
fn a_smaller_disk_with_room_for_all_that_is_used_is_taken() {
    let image = partitioned(3);
    for words in ["sda S1 @1", "sda NEW @1"] {
        for size in [LEAST, 5 << 19, image.len() - 512] {
            let mut machine = replaced(&image, disk(words, bootable_of(size, 9)));
            let seen = run(&mut machine, "testbox.action=restore testbox.job=two");
            assert_eq!(seen.ending, REBOOT, "{size}: {}", seen.console);
            let found = machine.disk_bytes("sda");
            assert!(on_larger(&found, &vec![0; image.len()]) == image, "{size}");
            let plan = format!("which is {} bytes smaller than the imaged disk", image.len() - size);
            assert!(seen.console.contains(&plan), "{}", seen.console);
        }
    }
}

#[test]
fn a_disk_too_small_for_what_is_used_is_refused_before_a_write() {
    let image = partitioned(3);
    let mut no_gpt = image.clone();
    no_gpt[512] ^= 1;
    for (image, size, missing) in [
        (&image, LEAST - 512, 512),
        (&image, LEAST - (1 << 20), 1 << 20),
        (&no_gpt, image.len() - 512, 512),
        (&bootable_of(3 << 20, 4), (3 << 20) - 4096, 4096),
    ] {
        let mut machine = replaced(image, disk("sda S1 @1", vec![7; size]));
        let seen = run(&mut machine, "testbox.action=restore testbox.job=two");
        let text = &seen.console;
        assert_eq!(machine.status().code, Some(48), "{text}");
        assert!(text.contains(&format!("{missing} are missing")), "{text}");
        assert!(text.contains("shrink the last partition") && machine.is_armed(), "{text}");
        let disks = machine.disks.lock().unwrap();
        assert_eq!(disks[0].bytes.count(DiskOp::Write), 0);
    }
}
