//! `rescue` hands the machine to a human and stays armed until the human is done.

use crate::lab::{Boot, Lab, Station::Nat, manifest, poll};
use std::time::Duration;

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
    ssh_is_for_keys_and_shows_the_logged_host_key(&lab, "testbox");
    machine.cut_power();
    assert!(lab.is_armed(Nat), "rescue stays armed");
    assert_eq!(manifest(lab.nfsroot()), before, "the NFS export must not change");
    assert!(lab.global_log().contains("rescue"));
}

/// Keys only, and the admin can tell the machine from one that pretends: the host key is the one in its log.
fn ssh_is_for_keys_and_shows_the_logged_host_key(lab: &Lab, user: &str) {
    // The console may be there before sshd is.
    let come_in = || Some(lab.ssh(user, "", "cat /proc/cmdline")).filter(|login| login.status.success());
    let login = poll(Duration::from_secs(120), come_in).expect("a login by ssh");
    let said = String::from_utf8_lossy(&login.stdout);
    assert!(said.contains("testbox.action=rescue"), "{login:?}");
    let shown = lab.shown_fingerprint();
    lab.share_of(Nat).assert_logged("info", &format!("ssh host key of this boot: {shown}"));
    let without = lab.ssh(user, "-o PubkeyAuthentication=no", "true");
    let why = String::from_utf8_lossy(&without.stderr);
    assert!(!without.status.success() && why.contains("Permission denied (publickey)"), "{why}");
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
    ssh_is_for_keys_and_shows_the_logged_host_key(&lab, "root");
    machine.cut_power();
    assert!(lab.is_armed(Nat), "rescue stays armed");
}

/// Where the admin has forbidden it when the initrd was made, no kernel word gives a shell on the console; ssh remains.
#[test]
fn a_rescue_shell_that_is_forbidden_does_not_come_and_ssh_does() {
    let lab = Lab::new("rescue-no-shell");
    let overlay = lab.overlay(&[("conf/conf.d/testbox-shell", 0o644, "TESTBOX_SHELL=no\n")]);
    let words =
        format!("{} testbox.action=rescue testbox.job=r TESTBOX_SHELL=yes", Boot::AgentOnly.words(Nat));
    lab.arm_with_words(Nat, &words, Some(&overlay));
    let mut machine = lab.machine(Nat).direct().power_on();
    machine.wait_for("allows no shell on the console", 300);
    ssh_is_for_keys_and_shows_the_logged_host_key(&lab, "root");
    machine.type_line("echo the answer is $((6 * 7))");
    let ended = lab.ssh("root", "", "echo the console\\'s turn is over >/dev/kmsg");
    assert!(ended.status.success(), "{ended:?}");
    machine.cut_power();
    let said = machine.said();
    assert!(!said.contains("(initramfs)") && !said.contains("the answer is 42"), "{said}");
}
