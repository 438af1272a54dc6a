//! The end of a machine or its agent at a bad moment, on the real chain: a power cut at any write, no memory, a
//! panic, and a restore that cannot be disarmed. Whatever comes, a disk is unbootable or right, and nothing is restored in a loop.

use crate::lab::{Boot::AgentOnly, Bus, Disk, Lab, Station::Nat, run};
use crate::replay::WriteLog;
use crate::target::{bootable_of, check_unbootable_or_right};
use std::fs;

/// A disk that firmware would boot from is backed up; another one's content is there now.
fn backed_up(lab: &Lab, mib: u64) -> (Disk, Vec<u8>, Vec<u8>) {
    let disk = lab.blank_disk(Bus::Virtio, "V1", mib);
    let [image, old] = [3, 9].map(|seed| bootable_of((mib << 20) as usize, seed));
    fs::write(&disk.path, &image).unwrap();
    lab.run_once(Nat, &[&disk], "testbox.action=backup testbox.job=one");
    fs::write(&disk.path, &old).unwrap();
    (disk, image, old)
}

fn arm_restore(lab: &Lab, overlay: Option<&str>) {
    let words = format!("{} testbox.action=restore testbox.job=two", AgentOnly.words(Nat));
    lab.arm_with_words(Nat, &words, overlay);
}

/// QEMU records every write and flush of the disk; each state that a cut may have left is looked at.
#[test]
fn a_disk_cut_in_its_restore_is_unbootable_or_right() {
    let lab = Lab::new("power-target");
    let (disk, image, old) = backed_up(&lab, 16);
    arm_restore(&lab, None);
    let log = lab.file("writes.log");
    let mut machine = lab.machine(Nat).direct().recorded_disk(&disk, &log).power_on();
    machine.wait_for_reset(60);
    machine.wait_for_reset(600);
    machine.cut_power();
    assert!(!lab.is_armed(Nat) && disk.bytes() == image);
    let log = WriteLog::parse(fs::read(log).unwrap()).unwrap();
    let cuts = log.cuts(0, 10, 512);
    for cut in &cuts {
        check_unbootable_or_right(&log.disk(&old, cut), &image, &old, &format!("cut at {cut:?}"));
    }
    let (entries, flushes) = log.counts();
    println!("restore in QEMU: {} states replayed of {entries} writes with {flushes} flushes", cuts.len());
    assert!(flushes >= 5 && cuts.len() > 50);
}

/// A program beside the agent that ends it once `$DISK` is being written, as `$END` says. init reads the file at its
/// start, and goes on.
const ENDER: &str = r#"(
	begun() { read -r _ _ _ _ _ _ sectors _ </sys/block/vda/stat && [ "$sectors" -ge 16384 ]; }
	until begun 2>/dev/null; do sleep 0.1; done
	echo '<1>the agent is ended now' >/dev/kmsg
	END
) &
"#;

/// Memory runs out while the disk is written (the kernel's own killer is called, and takes the agent: it offers itself),
/// then the agent panics (SIGABRT, which is what a panic ends in). The script around it reboots each time, and the third
/// boot ends the job.
#[test]
fn an_agent_without_memory_or_that_panics_ends_in_a_reboot() {
    let lab = Lab::new("agent-dies");
    let (disk, image, old) = backed_up(&lab, 256);
    for (end, status) in [("echo f >/proc/sysrq-trigger", 137), ("kill -ABRT $(pidof testbox-agent)", 134)] {
        let ender = lab.overlay(&[("conf/conf.d/ender", 0o644, &ENDER.replace("END", end))]);
        arm_restore(&lab, Some(&ender));
        let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
        machine.wait_for("the agent is ended now", 300);
        machine.wait_for(&format!("ended with status {status}"), 120);
        machine.wait_for_reset(120);
        machine.cut_power();
        assert!(lab.is_armed(Nat), "K: the job is not done");
        let now = disk.bytes();
        assert!(now != image && now != old, "it was being written");
        check_unbootable_or_right(&now, &image, &old, end);
    }
    arm_restore(&lab, None);
    let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
    machine.wait_for_reset(60);
    machine.wait_for_reset(600);
    machine.cut_power();
    assert!(!lab.is_armed(Nat) && disk.bytes() == image);
    assert_eq!(lab.share_of(Nat).json("status.json")["attempt"], 3, "attempts that were killed count");
}

/// The TFTP share is exported read-only: the machine holds and says so, and switched off and on it holds again, and writes nothing.
#[test]
fn a_restore_that_cannot_be_disarmed_holds() {
    let lab = Lab::new("cannot-disarm");
    let (disk, image, old) = backed_up(&lab, 16);
    arm_restore(&lab, None);
    lab.stop_nfs();
    run(lab.inside("sed").args(["-i", "/testbox-tftp/ s/= RW/= RO/", "/run/ganesha/conf"]));
    lab.start_nfs();
    for round in 0..2 {
        let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
        machine.wait_for("HOLDING: a reboot would find the same job again", 600);
        machine.cut_power();
        assert!(lab.is_armed(Nat));
        assert!(
            disk.bytes() == if round == 0 { &image[..] } else { &old[..] },
            "round {round}: restored again"
        );
        assert_eq!(lab.share_of(Nat).json("status.json")["state"], "done");
        lab.share_of(Nat).assert_logged("error", "cannot be removed");
        // Whoever uses the disk meanwhile keeps what is on it.
        fs::write(&disk.path, &old).unwrap();
    }
}
