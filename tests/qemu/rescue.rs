//! `rescue` hands the machine to a human and stays armed until the human is done.

use crate::lab::{Boot, Lab, Station::Nat, manifest};

/// The full Debian boots on the overlay and is writable; the export does not change by a byte.
#[test]
fn rescue_on_the_nfs_root_is_a_writable_debian() {
    let lab = Lab::new("rescue-nfs");
    let before = manifest(lab.nfsroot());
    lab.arm(Nat, Boot::NfsRoot, "rescue");
    let mut machine = lab.machine(Nat).memory(768).power_on();
    machine.wait_for("login:", 600);
    machine.type_line("testbox");
    machine.wait_for("Password:", 120);
    machine.type_line("testbox");
    machine.wait_for("$ ", 120);
    machine.type_line("sudo sh -c 'echo mine >/etc/mine && rm /bin/nano && ls /ro/bin/nano && find /rw -name mine && echo WRIT''ABLE'");
    machine.wait_for("/etc/mine\nWRITABLE", 120);
    machine.cut_power();
    assert!(lab.is_armed(Nat), "rescue stays armed");
    assert_eq!(manifest(lab.nfsroot()), before, "the NFS export must not change");
    assert!(lab.global_log().contains("rescue"));
}

/// Without an NFS root it is the shell of the initramfs, on the console.
#[test]
fn rescue_without_an_nfs_root_is_a_shell() {
    let lab = Lab::new("rescue-shell");
    lab.arm(Nat, Boot::AgentOnly, "rescue");
    let mut machine = lab.machine(Nat).power_on();
    machine.wait_for("(initramfs)", 300);
    machine.type_line("echo the answer is $((6 * 7))");
    machine.wait_for("the answer is 42", 60);
    machine.cut_power();
    assert!(lab.is_armed(Nat), "rescue stays armed");
}
