//! Errors on a proven share: both logs and the console tell why, the machine stays armed, waits and reboots.

use crate::lab::{Boot::AgentOnly, Bus, Lab, Machine, Station::Nat};

fn ends_in_the_logs(lab: &Lab, words: &str, why: &str, plug: impl FnOnce(&Lab) -> Machine) {
    lab.arm_with_words(Nat, &format!("{} {words}", AgentOnly.words(Nat)), None);
    let mut machine = plug(lab);
    machine.wait_for(why, 300);
    machine.wait_for_reset(120);
    machine.cut_power();
    assert!(lab.is_armed(Nat), "the machine must stay armed");
    lab.share_of(Nat).assert_logged("error", why);
    assert!(lab.global_log().contains(why), "the global log must tell why:\n{}", lab.global_log());
    lab.share_of(Nat).assert_lacks(&["vda.raw.gz", "backup.json"]);
}

fn with_a_disk(lab: &Lab) -> Machine {
    lab.machine(Nat).direct().disk(&lab.small_disk(Bus::Virtio, "V1", 16)).power_on()
}

#[test]
fn an_unknown_action_is_refused() {
    let lab = Lab::new("unknown-action");
    ends_in_the_logs(&lab, "testbox.action=format testbox.job=j", "[bad-words 23]", with_a_disk);
}

#[test]
fn an_unknown_testbox_word_is_refused() {
    let lab = Lab::new("unknown-word");
    ends_in_the_logs(
        &lab,
        "testbox.action=backup testbox.job=j testbox.disk=vda",
        "[bad-words 23]",
        with_a_disk,
    );
}

#[test]
fn a_machine_without_disks_says_so() {
    let lab = Lab::new("no-disk");
    ends_in_the_logs(&lab, "testbox.action=backup testbox.job=j", "[no-disk 40]", |lab| {
        lab.machine(Nat).direct().power_on()
    });
}

/// The agent is killed before it could say anything: the script around it notices, and reboots.
#[test]
fn a_killed_agent_ends_in_a_reboot() {
    let lab = Lab::new("killed-agent");
    // A shell script in the agent's place.
    let overlay = lab.overlay(&[("sbin/testbox-agent", 0o755, "#!/bin/sh\nkill -9 $$\n")]);
    let words = format!("{} testbox.action=backup testbox.job=j", AgentOnly.words(Nat));
    lab.arm_with_words(Nat, &words, Some(&overlay));
    let mut machine = with_a_disk(&lab);
    machine.wait_for("ended with status 137", 300);
    machine.wait_for_reset(120);
    machine.cut_power();
    assert!(lab.is_armed(Nat));
    assert_eq!(lab.global_log(), "");
}

/// By the clock of the file server, which is that of this computer: the machine is free again, and its disk untouched.
#[test]
fn a_machine_that_comes_too_late_is_disarmed() {
    let lab = Lab::new("too-late");
    let disk = lab.small_disk(Bus::Virtio, "V1", 16);
    let words = "testbox.action=backup testbox.job=j testbox.expires=2026-01-01T00:00:00Z";
    lab.arm_with_words(Nat, &format!("{} {words}", AgentOnly.words(Nat)), None);
    let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
    machine.wait_for("[expired 25]", 300);
    machine.wait_for_reset(120);
    machine.cut_power();
    assert!(!lab.is_armed(Nat), "the machine must be disarmed");
    lab.share_of(Nat)
        .assert_logged("error", "the job expired at 2026-01-01T00:00:00Z, and the clock of 10.0.2.2:");
    lab.share_of(Nat).assert_lacks(&["vda.raw.gz", "backup.json", ".clock"]);
    let waited = lab.testboxctl_ends(1, "wait --job j");
    assert!(waited.contains("failed, job j") && waited.contains("the job expired"), "{waited}");
}
