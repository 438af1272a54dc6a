//! From DHCP's words to the job, on networks as strangers have them.

use crate::lab::Lab;
use crate::lease::{FIRST, HEX, agent};
use crate::servers::{Pool, Server};
use crate::world::REBOOT;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn loop_the_armed_file_is_found_whatever_boot_file_dhcp_names() {
    for name in ["ipxe/undionly.kpxe", "http://10.9.0.1/boot.ipxe", "/srv/tftp/pxelinux.0"] {
        for server in [Server::Dnsmasq, Server::Isc, Server::Kea] {
            let lab = Lab::new();
            server.start_giving(&lab, Pool::One(600), name);
            let first = lab.boot_network("m1", FIRST);
            assert_eq!(first.value("filename").as_deref(), Some(name), "{server:?}: {}", first.console);
            let machine = agent(&first);
            let seen = lab.within("m1", || machine.boot());
            assert_eq!(seen.ending, REBOOT, "{server:?} {name}: {}", seen.console);
            let armed = machine.tftp.get(&format!("pxelinux.cfg/{HEX}"));
            assert_eq!(armed, None, "{server:?} {name}: {}", seen.console);
        }
    }
}

/// The real agent: DHCP names a router, which serves no TFTP; the job's file is on another server.
#[test]
fn loop_the_named_boot_server_counts_if_dhcp_names_the_router() {
    let lab = Lab::new();
    Server::Dnsmasq.start(&lab, Pool::One(600));
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = lab.dir().join("tftp/testbox.cfg");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(HEX), "testbox.action=backup\ntestbox.job=by-name\n").unwrap();
    lab.run("ip netns exec s2 in.tftpd --listen --user nobody --address 10.9.0.2:69 --secure $PWD/tftp");
    let words = FIRST.replace("net-wait=20", "net-wait=5");
    let lost = lab.boot_all("m1", &words);
    assert_eq!(lost.value("ROOTSERVER").as_deref(), Some("10.9.0.1"), "{}", lost.console);
    assert!(lost.console.contains("[no-action 22]"), "{}", lost.console);
    let found = lab.boot_all("m1", &format!("{words} testbox.boot-server=10.9.0.2"));
    assert!(!found.console.contains("[no-action 22]"), "{}", found.console);
    assert!(found.console.contains("by-name"), "the job is taken: {}", found.console);
}

/// Spanning tree: the link is up, and the port forwards only some seconds after the agent has said that nobody answers.
#[test]
fn loop_a_port_that_forwards_late_is_waited_for() {
    let lab = Lab::new();
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = lab.dir().join("tftp/testbox.cfg");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(HEX), "testbox.action=backup\ntestbox.job=late\n").unwrap();
    lab.run(
        "dnsmasq --conf-file=/dev/null --interface=lab --bind-dynamic --user=nobody --no-resolv --no-hosts \
         --ptr-record=100.0.9.10.in-addr.arpa,box1.lab --enable-tftp --tftp-root=$PWD/tftp --pid-file=/run/dns.pid",
    );
    lab.run("bridge link set dev m1 state 0");
    lab.run(
        "(timeout 60 bash -c 'until grep -qs \"nobody answers on this network yet\" m1-*/dev/console m1-*/conf/kmsg; \
         do sleep 0.1; done'; sleep 8; bridge link set dev m1 state 3) >/dev/null 2>&1 &",
    );
    let seen = lab.boot_all(
        "m1",
        "boot=testbox ip=10.9.0.100:10.9.0.1:10.9.0.1:255.255.255.0:maintenance: BOOTIF=01-52-54-00-09-00-01 \
         testbox.dns=10.9.0.1 testbox.net-wait=40 testbox.error-wait=0",
    );
    assert!(seen.console.contains("nobody answers on this network yet"), "{}", seen.console);
    assert!(!seen.console.contains("[no-action 22]"), "{}", seen.console);
    assert!(seen.console.contains("(job late)"), "the job is taken: {}", seen.console);
    assert!(seen.console.contains("box1.lab"), "DNS is asked again: {}", seen.console);
    assert!(seen.console.contains("boot server: 10.9.0.1 (ip=)"), "who names it: {}", seen.console);
}
