//! What a boot waits for, on the machine's own clock, and what its log says of it.

use crate::world::{Machine, REBOOT, TestDisk, contents, disk};
use std::time::Duration;
use testbox::agent::world::Purpose;
use testbox::store::status::JobState;

/// Boots with `settle` seconds to settle; mounting the TFTP share takes `mount` seconds, and a disk comes up `late` seconds
/// after its begin, where one does. The console, and the stages with their seconds.
fn booted(
    machine: &mut Machine,
    settle: u64,
    mount: u64,
    late: Option<(u64, TestDisk)>,
) -> (String, Vec<(String, u64)>) {
    machine.arm("testbox.action=backup testbox.job=first");
    machine.cmdline = machine.cmdline.replace("testbox.settle=1", &format!("testbox.settle={settle}"));
    let (system, disks) = (machine.system.clone(), machine.disks.clone());
    let mut late = late;
    *machine.on_mount.lock().unwrap() = Some(Box::new(move |purpose| {
        if purpose != Purpose::Tftp {
            return;
        }
        let after = late.as_ref().map_or(0, |(after, _)| *after);
        system.advance(Duration::from_secs(after));
        disks.lock().unwrap().extend(late.take().map(|(_, disk)| disk));
        system.advance(Duration::from_secs(mount - after));
    }));
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    let seconds = |time: &testbox::store::status::StageTime| (time.stage.clone(), time.milliseconds / 1000);
    let stages = machine.status().stages.iter().map(seconds).collect();
    (seen.console, stages)
}

fn of(stages: &[(String, u64)], stage: &str) -> u64 {
    stages.iter().find(|(name, _)| name == stage).unwrap().1
}

#[test]
fn disks_settle_while_the_shares_are_mounted() {
    for (settle, mount, left) in [(10, 0, 10), (10, 7, 3), (10, 10, 0), (10, 60, 0), (0, 5, 0), (30, 7, 23)] {
        let (console, stages) = booted(&mut Machine::new(), settle, mount, None);
        assert_eq!(
            (of(&stages, "shares"), of(&stages, "settle")),
            (mount, left),
            "{settle} {mount}: {console}"
        );
    }
}

#[test]
fn a_disk_that_comes_while_mounting_is_waited_for_anew() {
    let machine = || Machine::new();
    let late = || disk("sdb S2 @2", contents(2, 2));
    for after in [0, 3, 59] {
        let mut machine = machine();
        let (console, stages) = booted(&mut machine, 10, 60, Some((after, late())));
        let names: Vec<String> = machine.record().images.iter().map(|image| image.name.clone()).collect();
        assert_eq!(names, ["sda", "sdb"], "{console}");
        assert_eq!(of(&stages, "settle"), 10, "{after}: it counts from when it was seen: {console}");
    }
}

#[test]
fn log_ends_with_where_the_time_went_and_status_has_it() {
    let mut machine = Machine::new();
    machine.init_started = Some(Duration::from_secs(2));
    machine.system.advance(Duration::from_secs(5));
    let (console, stages) = booted(&mut machine, 4, 1, None);
    let line = "where the time went: kernel 2.0 s, initramfs 3.0 s, network 0.0 s, shares 1.0 s, settle 3.0 s, plan 0.0 s, \
                work 0.0 s, publish 0.0 s, disarm 0.0 s; 9.0 s since the kernel's start";
    let log = machine.text("maintenance.log");
    assert!(log.trim_end().ends_with(line), "{log}");
    assert!(console.contains("where the time went: kernel 2.0 s"), "{console}");
    assert_eq!(stages.iter().map(|(_, seconds)| seconds).sum::<u64>(), 9);
}

#[test]
fn a_failed_attempt_says_where_its_time_went_before_it_waits() {
    let mut machine = Machine::new();
    machine.set_disks(Vec::new());
    machine.arm("testbox.action=backup testbox.job=first");
    let seen = machine.boot();
    let status = machine.status();
    assert_eq!(status.state, JobState::Failed, "{}", seen.console);
    let names: Vec<&str> = status.stages.iter().map(|time| time.stage.as_str()).collect();
    assert_eq!(names, ["kernel and initramfs", "network", "shares", "settle", "plan"]);
    let spent: u64 = status.stages.iter().map(|time| time.milliseconds).sum();
    assert_eq!(spent, 120_000, "the wait before the reboot is not of it: {}", seen.console);
    assert!(
        machine.text("maintenance.log").contains("where the time went: kernel and initramfs 0.0 s, network")
    );
}
