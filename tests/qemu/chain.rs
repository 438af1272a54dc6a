//! The chain itself.

use crate::lab::{Boot, Bus, Lab, Station::Nat};

/// The default of every lab: the machine boots the system on its own disk, and its disk does not change.
#[test]
fn an_unarmed_machine_boots_its_local_disk() {
    let lab = Lab::new("unarmed");
    let disk = lab.debian_disk(Bus::Virtio, "OWN1");
    let before = disk.hash();
    let mut machine = lab.machine(Nat).disk(&disk).power_on();
    machine.wait_for("OWN-OS-BOOTED", 300);
    machine.wait_for_power_off(120);
    assert_eq!(disk.hash(), before);
}

#[test]
fn stub() {
    let lab = Lab::new("stub");
    lab.arm_with_words(Nat, &format!("{} testbox.action=rescue", Boot::AgentOnly.words(Nat)), None);
    let mut machine = lab.machine(Nat).power_on();
    machine.wait_for("STUB-AGENT-RAN", 200);
    machine.wait_for("(initramfs)", 200);
    machine.type_line("echo $((6*7))-answer");
    machine.wait_for("42-answer", 50);
    machine.cut_power();
    lab.arm_with_words(Nat, &format!("{} testbox.action=rescue", Boot::NfsRoot.words(Nat)), None);
    let mut machine = lab.machine(Nat).memory(768).power_on();
    machine.wait_for("STUB-AGENT-RAN", 200);
    machine.wait_for("login:", 400);
}
