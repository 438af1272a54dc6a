//! What fails before a share is proven ours: the console tells why, nothing is written, the machine stays armed.

use crate::lab::{Advice, Boot, Boot::AgentOnly, Bus, Lab, Machine, Station::Nat};

/// Boots the armed machine, lets `meanwhile` act, and waits for the message and the reboot that must follow.
fn ends_at_the_console(lab: &Lab, why: &str, meanwhile: impl FnOnce(&mut Machine)) {
    let disk = lab.small_disk(Bus::Virtio, "V1", 16);
    let before = disk.hash();
    let marker = lab.backup().join("testbox-backup").exists();
    let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
    machine.wait_for_reset(60);
    meanwhile(&mut machine);
    machine.wait_for(why, 600);
    machine.wait_for_reset(300);
    machine.cut_power();
    assert!(lab.is_armed(Nat), "the machine must stay armed");
    assert_eq!(disk.hash(), before);
    let left: Vec<_> = std::fs::read_dir(lab.backup()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), usize::from(marker), "nothing may be written to the share: {left:?}");
}

fn armed(lab: &Lab, boot: Boot, from: &str, to: &str) {
    let words = boot.words(Nat);
    assert!(words.contains(from), "{words}");
    lab.arm_with_words(
        Nat,
        &format!("{} testbox.action=backup testbox.job=j", words.replace(from, to)),
        None,
    );
}

/// Another machine's address would let it repeat that one's action for ever, in that one's folder.
#[test]
fn a_machine_without_a_pxe_config_of_its_address_writes_nothing() {
    let lab = Lab::new("wrong-ip");
    armed(&lab, AgentOnly, "ip=10.0.2.15:", "ip=10.0.2.77:");
    ends_at_the_console(&lab, "[not-armed 32]", |_| ());
}

#[test]
fn a_share_without_its_marker_file_is_not_written() {
    let lab = Lab::new("no-marker");
    std::fs::remove_file(lab.backup().join("testbox-backup")).unwrap();
    armed(&lab, AgentOnly, "", "");
    ends_at_the_console(&lab, "[not-the-share 31]", |_| ());
}

#[test]
fn an_absent_nfs_server_is_named() {
    let lab = Lab::without_nfs("no-nfs");
    armed(&lab, AgentOnly, "", "");
    ends_at_the_console(&lab, "[share-unreachable 30]", |_| ());
}

#[test]
fn without_a_dhcp_lease_the_machine_reboots() {
    let lab = Lab::new("no-lease");
    armed(
        &lab,
        AgentOnly,
        "ip=10.0.2.15:10.0.2.2:10.0.2.2:255.255.255.0:maintenance:",
        "testbox.net-wait=20 ip=dhcp",
    );
    ends_at_the_console(&lab, "no network", |machine| {
        machine.wait_for("Linux version", 120);
        machine.set_link(false);
    });
}

#[test]
fn a_wrong_nic_name_ends_in_a_reboot() {
    let lab = Lab::new("wrong-nic");
    armed(&lab, Boot::NfsRoot, ":maintenance:", ":maintenance:eth9 testbox.net-wait=20");
    ends_at_the_console(&lab, "no network", |_| ());
}

#[test]
fn an_nfs_root_that_is_not_exported_ends_in_a_reboot() {
    let lab = Lab::new("no-nfsroot");
    armed(&lab, Boot::NfsRoot, "/export/testbox-nfsroot,ro,tcp", "/export/elsewhere,ro,tcp rootdelay=10");
    ends_at_the_console(&lab, "the NFS root could not be mounted", |_| ());
}

/// The ROM of the emulated card is iPXE; it is given the script that `init` prints in place of a loader.
#[test]
fn the_ipxe_script_of_init_leads_to_the_armed_file() {
    let lab = Lab::new("ipxe-script");
    let settings = lab.file("testbox.toml");
    std::fs::write(&settings, format!("server = \"{}\"\n", Nat.server())).unwrap();
    let advice = Advice(lab.testboxctl(&format!("init --config {}", settings.display())));
    std::fs::write(lab.tftp().join("boot.ipxe"), advice.ipxe_script()).unwrap();
    std::fs::write(lab.pxe_file(Nat), "SAY THE-ARMED-FILE\nDEFAULT l\nLABEL l\n  LOCALBOOT 0\n").unwrap();
    let mut machine = lab.machine(Nat).boot_file("boot.ipxe").power_on();
    machine.wait_for("boot.ipxe : ", 120);
    machine.wait_for("tftp://10.0.2.2/pxelinux.0... ok", 120);
    machine.wait_for("THE-ARMED-FILE", 120);
    machine.cut_power();
}
