//! A disk is replaced by a larger one, and the last partition grows with its file system: the table by testbox, the ext4 by
//! its own tools, which here work on the disk in memory.

use crate::world::disk::sgdisk;
use crate::world::ext4::{self, PART};
use crate::world::{HOLD, IP, Machine, REBOOT, Seen, TestDisk, disk};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use testbox::agent::Mode;
use testbox::block::mem::DiskOp;
use testbox::block::{BlockDevice, mem::MemDisk};
use testbox::share::Survivors;
use testbox::store::status::{JobState, Status};
use testbox::sys::{Chance, Ran};

const MIB: usize = 1 << 20;
/// Bytes of the new disk, and where the partition ends on it.
const LARGER: usize = 24 * MIB + 8192;
const END: usize = 23 * MIB;
const WORDS: &str = "testbox.action=restore testbox.grow=last testbox.job=two";

/// The ext4 as the only partition of a GPT, behind which there are zeros.
fn gpt_disk() -> Vec<u8> {
    let mut bytes = ext4::disk_with("64bit,metadata_csum", "root");
    bytes[..MIB].fill(0);
    bytes[PART.end..].fill(0);
    sgdisk(&bytes, &["-n1:2048:14335", "-c1:root"])
}

/// Set 1 is of this disk, which is gone; a larger one full of something else is in its place.
fn replaced(image: Vec<u8>) -> Machine {
    let mut machine = Machine::new();
    machine.set_disks(vec![disk("sda S1 @1", image)]);
    machine.arm("testbox.action=backup testbox.job=one");
    assert_eq!(machine.boot().ending, REBOOT);
    machine.set_disks(vec![disk("sda NEW @1", vec![0xaa; LARGER])]);
    machine
}

fn boot(machine: &mut Machine, words: &str) -> Seen {
    machine.arm(words);
    machine.boot_as(&Mode::NfsRoot(PathBuf::from("/root")))
}

fn run(program: &str, args: &[&str], path: &Path) -> Ran {
    let out = Command::new(program).args(args).arg(path).output().expect("scripts/packages test");
    let said = [out.stdout, out.stderr].concat();
    Ran { code: out.status.code().unwrap(), output: String::from_utf8_lossy(&said).into_owned() }
}

/// What stands between two bytes of a disk as a file, for a tool; what it has made of that goes back.
fn on_file<T>(disk: &MemDisk, work: impl FnOnce(&Path) -> T) -> T {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all_at(&disk.content()[PART.start..END], 0).unwrap();
    let result = work(file.path());
    // Without power it is lost, as everything is.
    let _ = disk.write_at(&std::fs::read(file.path()).unwrap(), PART.start as u64);
    result
}

/// Tools that work on the disk, which does not boot then; those of `fails` say this code in place of working.
fn tools_on(
    machine: &Machine,
    fails: &'static [(&'static str, i32)],
) -> impl FnMut(&str, &[&str]) -> Ran + Send + 'static {
    let disks: Vec<TestDisk> = machine.disks.lock().unwrap().clone();
    move |program, args| {
        let line = format!("{program} {}", args.join(" "));
        let disk = &disks[0].bytes;
        let bytes = disk.content();
        assert!(bytes[..MIB].iter().all(|byte| *byte == 0), "the disk boots while {line} runs");
        assert!(bytes[LARGER - 512..].iter().all(|byte| *byte == 0), "it boots by its backup");
        if let Some((_, code)) = fails.iter().find(|(start, _)| line.starts_with(start)) {
            return Ran { code: *code, output: "first\nno way\n\n".into() };
        }
        match (program, args) {
            ("losetup", ["--detach", device]) => assert_eq!(*device, "/dev/loop7"),
            ("losetup", _) => return Ran { code: 0, output: "note\n/dev/loop7\n".into() },
            ("modprobe", _) => return Ran { code: 1, output: "it is built in".into() },
            (_, [args @ .., "/dev/loop7"]) => return on_file(disk, |path| run(program, args, path)),
            _ => panic!("{line}"),
        }
        Ran::default()
    }
}

/// Gives the machine these tools; every line of them is noted.
fn give_tools(machine: &Machine, fails: &'static [(&'static str, i32)]) -> Arc<Mutex<Vec<String>>> {
    let ran = Arc::new(Mutex::new(Vec::new()));
    let (noted, mut tools) = (ran.clone(), tools_on(machine, fails));
    machine.system.on_run(move |program, args| {
        noted.lock().unwrap().push(format!("{program} {}", args.join(" ")));
        tools(program, args)
    });
    ran
}

fn notes(machine: &Machine) -> String {
    machine.status().notes.join("\n")
}

/// Bytes of the ext4 by its superblock, and that all of it is right.
fn ext4_size(bytes: &[u8]) -> usize {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all_at(&bytes[PART.start..END], 0).unwrap();
    let checked = run("e2fsck", &["-f", "-n"], file.path());
    assert_eq!(checked.code, 0, "{}", checked.output);
    let read = run("debugfs", &["-R", "dump /data /dev/stdout"], file.path());
    assert!(!read.output.is_empty(), "the file in it is there");
    let blocks = u32::from_le_bytes(bytes[PART.start + 1028..][..4].try_into().unwrap());
    blocks as usize * 1024
}

#[test]
fn the_last_partition_and_its_file_system_grow_together() {
    for (image, end) in [(gpt_disk(), END), (ext4::disk_with("64bit,metadata_csum", "root"), END + MIB)] {
        let is_gpt = end == END;
        let mut machine = replaced(image.clone());
        let ran = give_tools(&machine, &[]);
        let seen = boot(&mut machine, WORDS);
        assert_eq!(seen.ending, REBOOT, "{}", seen.console);
        assert!(!machine.is_armed());
        let plan =
            format!("partition 1 and its ext4 grow from 6291456 to {} bytes, by resize2fs", end - PART.start);
        assert!(seen.console.contains(&plan), "{}", seen.console);
        let told = notes(&machine);
        let grown = format!("the ext4 has grown: it ended at byte {}", PART.end);
        assert!(told.contains(&grown) && told.contains("ended at byte 7340032 and ends at byte"), "{told}");
        let disk = machine.disk_bytes("sda");
        assert_eq!(ext4_size(&disk), END - PART.start);
        if is_gpt {
            sgdisk(&disk, &["-v"]);
        }
        let lines = ran.lock().unwrap().clone();
        let size = end - PART.start;
        assert_eq!(
            lines[1..],
            [
                format!(
                    "losetup --find --show --offset 1048576 --sizelimit {size} --sector-size 512 /dev/sda"
                ),
                "e2fsck -f -p /dev/loop7".into(),
                "resize2fs /dev/loop7".into(),
                "losetup --detach /dev/loop7".into(),
            ]
        );
        assert!(machine.text("maintenance.log").contains("resize2fs: "), "what it says is in the log");
        if !is_gpt {
            continue;
        }
        // What was mounted for the tools is not there any more.
        let mounts = machine.system.lines();
        for at in ["/root/dev", "/root/proc", "/root/sys"] {
            assert!(mounts.iter().any(|line| *line == format!("unmount {at} detach")), "{mounts:?}");
        }
    }
}

#[test]
fn verify_names_the_grown_partition_and_compares_the_rest() {
    let mut machine = replaced(gpt_disk());
    give_tools(&machine, &[]);
    boot(&mut machine, WORDS);
    let grown = machine.disk_bytes("sda");
    let verified = |machine: &mut Machine, bytes: Vec<u8>, job: usize| {
        // Its own set does not know the new disk: by its serial it would not be compared.
        machine.set_disks(vec![disk("sda S1 @1", bytes)]);
        assert_eq!(boot(machine, &format!("testbox.action=verify testbox.job=v{job}")).ending, REBOOT);
        notes(machine)
    };
    let told = verified(&mut machine, grown.clone(), 0);
    assert!(told.contains("GROWN: sda is what sda.raw.gz holds"), "{told}");
    assert!(told.contains("partition 1 has grown since") && told.contains("is NOT compared"), "{told}");
    assert!(!told.contains("DIFFERS"), "{told}");
    for at in [440, 600, 1100, MIB - 1, LARGER - 100] {
        let mut bad = grown.clone();
        bad[at] ^= 1;
        let told = verified(&mut machine, bad, at);
        assert!(told.contains("DIFFERS: sda") && !told.contains("GROWN"), "byte {at}: {told}");
    }
}

#[test]
fn a_grown_disk_is_restored_and_grows_again() {
    let mut machine = replaced(gpt_disk());
    give_tools(&machine, &[]);
    boot(&mut machine, WORDS);
    let first = machine.disk_bytes("sda");
    for delta in ["always", "never"] {
        let mut used = first.clone();
        used[PART.start + 4096..PART.end].iter_mut().step_by(5).for_each(|byte| *byte ^= 0x55);
        machine.set_disks(vec![disk("sda NEW @1", used)]);
        give_tools(&machine, &[]);
        let seen = boot(&mut machine, &format!("{WORDS}-{delta} testbox.delta={delta}"));
        assert_eq!(seen.ending, REBOOT, "{}", seen.console);
        let again = machine.disk_bytes("sda");
        assert_eq!(ext4_size(&again), END - PART.start, "{delta}");
        assert!(again[..1024] == first[..1024] && again[LARGER - 512..] == first[LARGER - 512..]);
    }
    // And without the word it is as before.
    let seen = boot(&mut machine, "testbox.action=restore testbox.job=plain");
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert_eq!(ext4_size(&machine.disk_bytes("sda")), PART.len());
}

#[test]
fn a_tool_that_fails_leaves_restored_data_and_its_own_code() {
    for (fails, why) in [
        (&[("resize2fs", 1)][..], "resize2fs /dev/loop7 ended with 1: no way"),
        (&[("e2fsck -f -p", 4)], "its check refuses it: e2fsck -f -p /dev/loop7 ended with 4"),
        (&[("losetup --find", 1)], "ended with 1: no way"),
        (&[("losetup --find", 0)], "losetup names no device"),
    ] {
        let image = gpt_disk();
        let mut machine = replaced(image.clone());
        give_tools(&machine, fails);
        let seen = boot(&mut machine, WORDS);
        assert_eq!(seen.ending, REBOOT, "{}", seen.console);
        let status = machine.status();
        assert_eq!((status.code, machine.is_armed()), (Some(66), false), "{}", seen.console);
        assert!(status.error.unwrap().contains(why), "{}", seen.console);
        assert!(seen.console.contains("restored and verified") && seen.console.contains("is disarmed"));
        let disk = machine.disk_bytes("sda");
        assert!(
            sgdisk(&disk, &["-v"]) == disk
                && disk[1024 + 40..1024 + 48] == (END as u64 / 512 - 1).to_le_bytes()
        );
        assert_eq!(ext4_size(&disk), PART.len());
        // Cut before it was disarmed, the job is done all the same: the machine only disarms, and says the same.
        let status = Status { state: JobState::Done, error: None, ..machine.status() };
        machine.backup.put(&format!("{IP}/status.json"), status.to_bytes());
        machine.system.on_run(|_, _| panic!("nothing runs"));
        let seen = boot(&mut machine, WORDS);
        assert_eq!((machine.status().code, machine.is_armed()), (Some(66), false), "{}", seen.console);
        assert!(machine.disk_bytes("sda") == disk);
    }
}

#[test]
fn a_file_system_that_a_tool_has_damaged_fails_the_restore() {
    let mut machine = replaced(gpt_disk());
    give_tools(&machine, &[("resize2fs", 1), ("e2fsck -f -n", 4)]);
    let seen = boot(&mut machine, WORDS);
    assert_eq!((machine.status().code, machine.is_armed()), (Some(51), true), "{}", seen.console);
    assert!(seen.console.contains("was damaged while it grew"), "{}", seen.console);
    let disk = machine.disk_bytes("sda");
    assert!(disk[..MIB].iter().all(|byte| *byte == 0) && disk[LARGER - 512..].iter().all(|byte| *byte == 0));
    // The next attempt mends it.
    give_tools(&machine, &[]);
    assert_eq!(boot(&mut machine, WORDS).ending, REBOOT);
    assert_eq!(ext4_size(&machine.disk_bytes("sda")), END - PART.start);
}

/// K and U: a cut leaves a disk that does not boot, or one that has grown whole, and a job that is done again.
#[test]
fn a_power_cut_while_it_grows_is_survived() {
    let mut before = replaced(gpt_disk());
    before.arm(&format!("{WORDS} testbox.attempts=99"));
    let root = Mode::NfsRoot(PathBuf::from("/root"));
    let (first_tool, operations) = {
        let machine = before.copy();
        let at = Arc::new(Mutex::new(None));
        let (seen, power) = (at.clone(), machine.power.clone());
        let mut tools = tools_on(&machine, &[]);
        machine.system.on_run(move |program, args| {
            seen.lock().unwrap().get_or_insert(power.operations());
            tools(program, args)
        });
        assert_eq!(machine.boot_as(&root).ending, REBOOT);
        (at.lock().unwrap().unwrap(), machine.power.operations())
    };
    let mut whole = 0;
    let is_long = std::env::var_os("TESTBOX_LONG").is_some();
    let step = |operations: usize, points: usize| if is_long { 1 } else { (operations / points).max(1) };
    let growing = operations - first_tool;
    let points = (0..first_tool)
        .step_by(step(first_tool, 3))
        .chain((first_tool..operations).step_by(step(growing, 12)));
    for nth in points.chain(operations - 3..operations) {
        let machine = before.copy();
        give_tools(&machine, &[]);
        machine.power.cut_at(nth);
        machine.boot_as(&root);
        let after = machine.after_cut(Survivors::AllNames, Chance(nth as u64));
        let found = after.disk_bytes("sda");
        if found[510..512] == [0x55, 0xaa] || found[512..].starts_with(b"EFI PART") {
            assert_eq!(ext4_size(&found), END - PART.start, "cut at {nth}: it boots");
            whole += 1;
        }
        let mut boots = 0;
        while after.is_armed() {
            give_tools(&after, &[]);
            let seen = after.boot_as(&root);
            boots += 1;
            assert!(boots < 3, "cut at {nth}: does not end: {}", seen.console);
        }
        let found = after.disk_bytes("sda");
        assert!(ext4_size(&found) == END - PART.start && sgdisk(&found, &["-v"]) == found, "cut at {nth}");
    }
    assert!(whole > 0 && growing > 10, "{whole} {first_tool} {operations}");
}

#[test]
fn growing_without_its_tools_is_refused_before_a_write() {
    for (missing, why) in [(Some("resize2fs"), "apt-get install e2fsprogs"), (None, "boot=testbox")] {
        let mut machine = replaced(gpt_disk());
        machine.arm(WORDS);
        let seen = match missing {
            Some(name) => {
                machine.system.take_program(name);
                machine.boot_as(&Mode::NfsRoot(PathBuf::from("/root")))
            }
            None => machine.boot(),
        };
        assert_eq!((machine.status().code, machine.is_armed()), (Some(67), true), "{}", seen.console);
        assert!(
            seen.console.contains(why) && seen.console.contains("nothing was written"),
            "{}",
            seen.console
        );
        assert_eq!(machine.disks.lock().unwrap()[0].bytes.count(DiskOp::Write), 0);
    }
}

#[test]
fn what_cannot_grow_is_restored_and_said() {
    let swap = {
        let mut bytes = gpt_disk();
        bytes[PART].fill(0);
        bytes[PART.start + 4086..][..10].copy_from_slice(b"SWAPSPACE2");
        bytes
    };
    let mut dirty = gpt_disk();
    // s_state: not unmounted.
    dirty[PART.start + 1024 + 0x3a] = 0;
    for (image, why) in [
        (sgdisk(&gpt_disk(), &["-t1:2700"]), "recovery partition of Windows"),
        (sgdisk(&gpt_disk(), &["-t1:ef00"]), "EFI system partition"),
        (swap, "swap"),
        (dirty, "ext4"),
        (vec![0x5a; 8 * MIB], "no partition table"),
    ] {
        let mut machine = replaced(image);
        machine.system.on_run(|_, _| panic!("nothing runs"));
        let seen = boot(&mut machine, WORDS);
        assert_eq!(seen.ending, REBOOT, "{why}: {}", seen.console);
        let told = notes(&machine);
        assert!(told.contains("NOT GROWN: sda: ") && told.contains(why), "{why}: {told}");
        assert!(!seen.console.contains("; then partition"), "{}", seen.console);
    }
    // On a disk of the same size there is nothing to grow.
    let mut machine = replaced(gpt_disk());
    machine.set_disks(vec![disk("sda S1 @1", vec![0; 8 * MIB])]);
    let seen = boot(&mut machine, WORDS);
    assert!(seen.ending != HOLD && seen.console.contains("nothing grows on it"), "{}", seen.console);
}
