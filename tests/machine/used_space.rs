//! The engine on a disk that is not all used: what is free is neither imaged nor touched, and everything else is right.
//! The file system is made, changed and checked by its own tools.

use crate::world::{Machine, REBOOT, Seen, contents_of, disk, ext4};
use std::ops::Range;
use std::sync::Arc;
use testbox::block::mem::{DiskFault, DiskOp};
use testbox::image::{Image, MemberKind};

const STALE: u8 = 0xa5;
/// In the last MiB of the partition, which is imaged in any case, and where nobody looks for a signature.
const BAD: Range<u64> = 6 << 20..(6 << 20) + 4096;

fn machine(bytes: &[u8]) -> Machine {
    let machine = Machine::new();
    machine.set_disks(vec![disk("sda S1 @1", bytes.to_vec())]);
    machine
}

fn boot(machine: &mut Machine, words: &str) -> Seen {
    machine.arm(words);
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    seen
}

fn backed_up(bytes: &[u8]) -> Machine {
    let mut machine = machine(bytes);
    boot(&mut machine, "testbox.action=backup testbox.job=first");
    machine
}

fn image(machine: &Machine) -> Image {
    Image::open(Arc::new(machine.file("sda.raw.gz").expect("an image"))).unwrap()
}

fn sum(free: &[Range<u64>]) -> u64 {
    free.iter().map(|range| range.end - range.start).sum()
}

/// The property that counts: onto a disk full of 0xa5, and the file system is sound and its files are the same.
#[test]
fn restored_onto_a_dirty_disk_everything_that_is_used_is_right() {
    let bytes = ext4::disk_bytes();
    let free = ext4::map(&bytes).free;
    assert!(sum(&free) > 2 << 20, "{free:?}");
    let mut machine = backed_up(&bytes);
    assert_eq!(image(&machine).summary().unallocated, sum(&free));
    assert_eq!(machine.good_sets()[&1]["sda"], ext4::without_free(&bytes));
    let modes = [("", STALE), ("leave", STALE), ("discard", 0xdb), ("zero", 0)];
    for (n, (how, left)) in modes.into_iter().enumerate() {
        machine.set_disks(vec![disk("sda S1 @1", vec![STALE; ext4::SIZE])]);
        let word = if how.is_empty() { String::new() } else { format!(" testbox.free={how}") };
        boot(&mut machine, &format!("testbox.action=restore testbox.job=r{n}{word}"));
        let now = machine.disk_bytes("sda");
        assert!(now == ext4::filled(&bytes, &free, left), "{how}");
        ext4::check(&now);
        assert_eq!(ext4::read_file(&now, "data"), contents_of(300_000, 77), "{how}");
        let log = machine.text("maintenance.log");
        let line = log.lines().rfind(|line| line.contains("bytes restored and verified")).unwrap();
        let bytes = sum(&free);
        let (unused, gone) = (if left == 0 { 0 } else { bytes }, if left == 0xdb { bytes } else { 0 });
        let figures = format!("{unused} are unallocated and were left alone ({gone} of them discarded)");
        assert!(line.contains(&figures), "{line}");
        boot(&mut machine, &format!("testbox.action=verify testbox.job=v{n}"));
        let note = format!("sda is what sda.raw.gz holds, without {bytes} unallocated bytes");
        assert_eq!(machine.status().notes, [note]);
    }
}

#[test]
fn log_record_and_image_say_what_was_left_out() {
    let bytes = ext4::disk_bytes();
    let free = sum(&ext4::map(&bytes).free);
    let machine = backed_up(&bytes);
    let log = machine.text("maintenance.log");
    assert!(log.contains("image what is used of sda"), "the plan: {log}");
    let verdict = log.lines().find(|line| line.contains("sda1 ext4 'root': ")).expect("a verdict");
    assert!(verdict.ends_with(" of 6.2 MB used, the rest is not imaged"), "{verdict}");
    assert!(log.contains(&format!("{free} unallocated and not read")), "{log}");
    let found = &machine.record().images[0].partitions;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].number, found[0].start, found[0].skipped), (1, 1 << 20, free));
    assert_eq!((found[0].kind.as_str(), found[0].label.as_deref()), ("ext4", Some("root")));
    assert_eq!(image(&machine).header().found.list, *found);
}

#[test]
fn used_off_images_everything() {
    let bytes = ext4::disk_bytes();
    let mut machine = machine(&bytes);
    boot(&mut machine, "testbox.action=backup testbox.job=first testbox.used=off");
    assert_eq!(machine.good_sets()[&1]["sda"], bytes);
    let log = machine.text("maintenance.log");
    assert!(log.contains("image all of sda") && log.contains("sda: all of it is imaged"), "{log}");
}

#[test]
fn a_file_system_in_doubt_is_imaged_whole_and_the_reason_told() {
    let mut bytes = ext4::disk_with("has_journal", "root");
    assert!(!ext4::map(&bytes).free.is_empty());
    ext4::tool(&mut bytes, "debugfs", &["-w", "-R", "feature +needs_recovery", "PART"]);
    let machine = backed_up(&bytes);
    assert_eq!(machine.good_sets()[&1]["sda"], bytes);
    let log = machine.text("maintenance.log");
    let why = machine.record().images[0].partitions[0].why_all.clone().expect("a reason");
    let line = format!("sda1: all of it (6.2 MB) is imaged: ext4: {why}");
    assert!(log.contains(&line), "{log}");
    assert!(why.contains("`mount` it once"), "what mends it: {why}");
    assert_eq!(machine.status().notes, [line], "whoever looks at the status pays for it every night");
}

#[test]
fn a_stale_gpt_is_noted_with_the_command_that_removes_it() {
    let mut bytes = ext4::disk_bytes();
    // The headers of a GPT whose protective MBR was written over: as old installers of Windows left them.
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(bytes.len() as u64).unwrap();
    let made = std::process::Command::new("sgdisk").arg("-o").arg(file.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let gpt = std::fs::read(file.path()).unwrap();
    for block in [512..34 * 512, gpt.len() - 33 * 512..gpt.len()] {
        bytes[block.clone()].copy_from_slice(&gpt[block]);
    }
    let machine = backed_up(&bytes);
    let notes = machine.status().notes;
    assert!(notes.iter().any(|note| note.starts_with("sda: ") && note.contains("`sgdisk -z`")), "{notes:?}");
    assert!(machine.text("maintenance.log").contains("`sgdisk -z`"));
}

/// Neither by the backup nor by those who look for free space near it.
#[test]
fn a_bad_sector_in_free_space_is_not_met() {
    let bytes = ext4::disk_bytes();
    let free = ext4::map(&bytes).free;
    // Some places near it, where other formats have their signatures, are looked at whoever uses them.
    let bad = (4 << 20) + (300 << 10)..(4 << 20) + (400 << 10);
    assert!(free.iter().any(|free| free.start <= bad.start && bad.end <= free.end), "{free:?}");
    let source = disk("sda S1 @1", bytes.clone());
    source.bytes.inject(DiskOp::Read, bad, DiskFault::Errno(libc::EIO), u64::MAX);
    let mut machine = Machine::new();
    machine.set_disks(vec![source]);
    boot(&mut machine, "testbox.action=backup testbox.job=first");
    assert_eq!(machine.good_sets()[&1]["sda"], ext4::without_free(&bytes));
}

#[test]
fn backup_again_follows_what_is_used_by_now() {
    let mut bytes = ext4::disk_bytes();
    let mut machine = backed_up(&bytes);
    for (round, name, len) in [(2, "more", 700_000), (3, "again", 400_000)] {
        ext4::add_file(&mut bytes, name, &contents_of(len, round));
        machine.set_disks(vec![disk("sda S1 @1", bytes.clone())]);
        boot(&mut machine, &format!("testbox.action=backup-again testbox.job=j{round}"));
        let content = &machine.good_sets()[&round]["sda"];
        assert!(*content == ext4::without_free(&bytes));
        assert_eq!(ext4::read_file(content, name), contents_of(len, round));
        // A full backup would have made the same runs.
        let image = image(&machine);
        assert!(image.runs().map(Result::unwrap).any(|run| run.kind == MemberKind::Unallocated));
    }
}

/// What a cut attempt has passed over as free was written to before the next one: that is read now.
#[test]
fn a_cut_backup_goes_on_with_what_is_used_by_now() {
    let mut bytes = ext4::disk_bytes();
    let source = disk("sda S1 @1", bytes.clone());
    source.bytes.inject(DiskOp::Read, BAD, DiskFault::Errno(libc::EIO), u64::MAX);
    let mut machine = Machine::new();
    machine.set_disks(vec![source]);
    boot(&mut machine, "testbox.action=backup testbox.job=first");
    assert!(machine.is_armed() && machine.file("sda.raw.gz.part").is_some());
    ext4::add_file(&mut bytes, "new", &contents_of(500_000, 5));
    machine.set_disks(vec![disk("sda S1 @1", bytes.clone())]);
    assert_eq!(machine.boot().ending, REBOOT);
    let content = &machine.good_sets()[&1]["sda"];
    assert!(*content == ext4::without_free(&bytes));
    assert_eq!(ext4::read_file(content, "new"), contents_of(500_000, 5));
}

/// The same disk still: what the cut attempt has made is kept.
#[test]
fn a_cut_backup_of_the_same_disk_keeps_what_it_has() {
    let bytes = ext4::disk_bytes();
    let source = disk("sda S1 @1", bytes.clone());
    source.bytes.inject(DiskOp::Read, BAD, DiskFault::Errno(libc::EIO), u64::MAX);
    let mut machine = Machine::new();
    machine.set_disks(vec![source]);
    boot(&mut machine, "testbox.action=backup testbox.job=first");
    machine.set_disks(vec![disk("sda S1 @1", bytes.clone())]);
    assert_eq!(machine.boot().ending, REBOOT);
    let used = (6 << 20) - sum(&ext4::map(&bytes).free);
    let log = machine.text("maintenance.log");
    let figure = |words: &str| -> u64 {
        let (before, _) = log.rsplit_once(words).unwrap();
        before.rsplit(' ').next().unwrap().parse().unwrap()
    };
    // All but zeros, and the run that the bad sector did not let end.
    let (kept, zeros) = (figure(" kept from a cut attempt"), figure(" zero, "));
    assert!(kept <= used && kept + zeros + (256 << 10) >= used, "{used} used: {log}");
    assert!(machine.good_sets()[&1]["sda"] == ext4::without_free(&bytes));
}
