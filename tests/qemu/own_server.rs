//! The server that the manual tells to set up: Linux's own NFS server.

use crate::lab::{Bus, Disk, Lab, Server, Station::Wire, manual_block};

/// Backup over NFSv4.2 from the first boot on, backup-again, restore: armed by the manual's lines, and the
/// machine's own Debian boots after each.
#[test]
fn long_a_server_set_up_by_the_manual_serves_the_main_job() {
    let lab = Lab::without_nfs("manual-server");
    let mut server = lab.manual_server();
    let disk = lab.debian_disk(Bus::Nvme, "SYSTEM-1");
    let before = disk.hash();
    boots_its_own(&lab, &disk);
    for line in manual_block(&["--dry-run", "testboxctl watch"]).lines().filter(|line| line.contains(" arm "))
    {
        server.run(line);
    }
    boots_its_own(&lab, &disk);
    is_done(&mut server);

    server.run("testboxctl arm --backup 10.42.1.1:/export/testbox-backup,vers=4.2 10.42.1.20 backup-again");
    boots_its_own(&lab, &disk);
    is_done(&mut server);
    let log = server.run("cat /export/testbox-backup/10.42.1.20/maintenance.log");
    assert!(log.contains("NFSv4.2") && !log.contains("NFSv3"), "{log}");

    disk.wipe();
    server.run("testboxctl arm 10.42.1.20 restore");
    boots_its_own(&lab, &disk);
    is_done(&mut server);
    assert_eq!(disk.hash(), before, "the disk must be what it was, to the last byte");
}

fn boots_its_own(lab: &Lab, disk: &Disk) {
    let mut machine = lab.machine(Wire).disk(disk).memory(768).power_on();
    machine.wait_for("OWN-OS-BOOTED", 1800);
    machine.wait_for_power_off(120);
}

fn is_done(server: &mut Server) {
    assert_eq!(server.run("ls /export/testbox-tftp/pxelinux.cfg"), "default", "the machine is disarmed");
    let status = server.run("testboxctl status 10.42.1.20");
    assert!(status.contains(" done "), "{status}");
}

/// The unit under systemd, with all that it forbids the server, is all that the lab has: store, DHCP and TFTP. Whoever arms is
/// no root.
#[test]
fn long_the_unit_is_the_labs_only_server() {
    let lab = Lab::without_nfs("unit");
    let mut server = lab.manual_server();
    server.run("systemctl stop nfs-kernel-server dnsmasq");
    server.run("mkdir -p /etc/testbox");
    server.run(&format!(
        "printf '[tb1]\\naddress = \"10.42.1.20\"\\nmac = \"{}\"\\n' >/etc/testbox/machines.toml",
        Wire.mac()
    ));
    server.run("echo 'SERVE_OPTIONS=\"--interface eth0 --tftp --dhcp 10.42.1.100-10.42.1.199\"' >/etc/default/testbox-store");
    server.run("install -d -o testbox -g testbox -m 750 /etc/testbox");
    server.run("systemctl daemon-reload && systemctl start testbox-store || { journalctl -u testbox-store -o cat; false; }");
    server.run("journalctl -u testbox-store -o cat | grep ^store >>/etc/testbox.toml");
    server.run("useradd -G testbox alice");
    let alice = |words: &str| format!("su alice -c 'testboxctl --via /run/testbox/admin.sock {words}'");
    let disk = lab.debian_disk(Bus::Nvme, "SYSTEM-1");
    let before = disk.hash();
    boots_its_own(&lab, &disk);
    server.run(&alice("arm --boot testbox tb1 backup"));
    boots_its_own(&lab, &disk);
    assert!(server.run(&alice("status 10.42.1.20")).contains(" done "), "backup");
    // systemd starts it again; what was asked of it before is still so.
    server.run("systemctl kill -s KILL testbox-store; sleep 10; systemctl is-active testbox-store");
    disk.wipe();
    server.run(&alice("arm --boot testbox 10.42.1.20 restore"));
    boots_its_own(&lab, &disk);
    assert!(server.run(&alice("status 10.42.1.20")).contains(" done "), "restore");
    assert_eq!(disk.hash(), before, "the disk must be what it was, to the last byte");
    let log = server.run("systemctl stop testbox-store; journalctl -u testbox-store -o cat");
    for part in [
        "admin alice (uid ",
        "arm --boot testbox 10.42.1.20 restore: exit 0",
        "of Landlock",
        "TFTP: 10.42.1.20 has ",
        "ended; machines at work wait",
    ] {
        assert!(log.contains(part), "no {part:?} in: {log}");
    }
    let ended = server.run("systemctl show -p Result -p ExecMainStatus testbox-store");
    assert_eq!(ended, "Result=success\nExecMainStatus=0");
}

/// What a cut attempt has written may be in the memory of the server only. The next boot keeps all of it, writes the
/// last bytes, and publishes: then the server may lose its power, too.
#[test]
fn long_a_resumed_set_survives_a_power_cut_of_the_server() {
    let lab = Lab::without_nfs("resumed-then-cut");
    let mut server = lab.manual_server();
    let disk = lab.small_disk(Bus::Virtio, "V1", 256);
    server.run("testboxctl arm --boot testbox 10.42.1.20 backup");
    let file = server.run(&format!("cat /export/testbox-tftp/pxelinux.cfg/{}", Wire.hexip()));
    std::fs::write(lab.pxe_file(Wire), file).unwrap();
    let mut machine = lab.machine(Wire).direct().disk(&disk).power_on();
    machine.wait_for("verifying vda.raw.gz.part", 900);
    machine.cut_power();
    // As if the cut had come before the machine's fsync: the server has not written anything back. A copy by reflink would
    // be on its disk.
    server.run("cd /proc/sys/vm && echo 0 >dirty_writeback_centisecs && echo 90 >dirty_background_ratio && echo 95 >dirty_ratio");
    server.run("cd /export/testbox-backup/10.42.1.20 && cp --reflink=never -p vda.raw.gz.part new && mv new vda.raw.gz.part");
    server.run("awk '/^Dirty:/ { print; exit ($2 < 60000) }' /proc/meminfo");
    let mut machine = lab.machine(Wire).direct().disk(&disk).power_on();
    machine.wait_for_reset(60);
    machine.wait_for_reset(900);
    machine.cut_power();
    assert!(machine.said().contains(" 0 compressed, 0 stored, "), "all of the image must be kept");
    is_done(&mut server);
    let image = server.cut_power_and_read(&lab, "testbox-backup/10.42.1.20/vda.raw.gz");
    lab.testboxctl(&format!("image verify {} --against {}", image.display(), disk.path.display()));
}
