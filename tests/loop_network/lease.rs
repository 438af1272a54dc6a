//! The lease of the address: with one address in the pool, the second machine shows whether the first one keeps it.

use crate::lab::{Booted, Lab};
use crate::servers::{Pool, Server};
use crate::world::{Machine, REBOOT, Seen, contents, disk};
use std::time::Duration;
use testbox::agent::world::OpenWire;
use testbox::block::mem::{DiskFault, DiskOp, MemDisk};
use testbox::net::dhcp::Datagrams;
use testbox::sys::{RealSystem, System};

pub const FIRST: &str =
    "boot=testbox ip=dhcp BOOTIF=01-52-54-00-09-00-01 testbox.net-wait=20 testbox.error-wait=0";
/// Longer than a lease of six seconds lasts.
const SECOND: &str =
    "boot=testbox ip=dhcp BOOTIF=01-52-54-00-09-00-02 testbox.net-wait=11 testbox.error-wait=0";
pub const HEX: &str = "0A090064";

/// The agent on the machine that was booted: its real network and clock; disk and shares in memory.
pub fn agent(booted: &Booted) -> Machine {
    let mut machine = Machine::new();
    // The boot server is the one in memory.
    let conf = booted.conf.clone().expect(&booted.console);
    machine.net_conf = vec![conf.replace("ROOTSERVER='10.9.0.1'", "ROOTSERVER='10.0.0.1'")];
    machine.nic = "eth0";
    machine.mac = "52:54:00:09:00:01";
    machine.tick = Duration::from_millis(50);
    machine.open_wire = Some(|device| -> OpenWire {
        let device = device.to_owned();
        Box::new(move || Ok(Box::new(Datagrams::open(&device)?)))
    });
    let clock = RealSystem::new();
    machine.system.set_boot_clock(move || clock.since_boot());
    machine.set_disks(vec![disk("sda S1 @1", contents(2, 1))]);
    machine.arm("testbox.action=backup testbox.job=one");
    let file = machine.tftp.get("pxelinux.cfg/0A28292A").unwrap();
    machine.tftp.put(&format!("pxelinux.cfg/{HEX}"), file);
    machine
}

/// A boot of the agent in the network of `m1`; its disk hangs while `meanwhile` looks at the network.
fn run<T: Send>(lab: &Lab, machine: &Machine, meanwhile: impl FnOnce() -> T + Send) -> (Seen, T) {
    let bytes = machine.disks.lock().unwrap()[0].bytes.clone();
    bytes.inject(DiskOp::Read, (1 << 20)..(1 << 20) + 4096, DiskFault::Hang, 1);
    std::thread::scope(|scope| {
        let boot = scope.spawn(|| lab.within("m1", || machine.boot()));
        // A test that fails must end too.
        let released = Release(&bytes);
        bytes.wait_for_hang();
        let seen = meanwhile();
        drop(released);
        (boot.join().unwrap(), seen)
    })
}

struct Release<'a>(&'a MemDisk);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// What ipconfig leaves is lost when the lease ends; what the agent renews is not.
fn one_address(server: Server) {
    let lab = Lab::new();
    server.start(&lab, Pool::One(6));
    let first = lab.boot_network("m1", FIRST);
    assert_eq!(first.value("IPV4ADDR").as_deref(), Some("10.9.0.100"), "{}", first.console);
    let machine = agent(&first);
    let (seen, second) = run(&lab, &machine, || lab.boot_network("m2", SECOND));
    assert_eq!(
        second.conf, None,
        "{server:?}: the address is given away:\n{}\n{}",
        second.console, seen.console
    );
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert!(machine.tftp.get(&format!("pxelinux.cfg/{HEX}")).is_none(), "{server:?}: {}", seen.console);
    assert!(seen.console.contains("leased by 10.9.0.1 for"), "{server:?}: {}", seen.console);
    // The agent has ended.
    let second = lab.boot_network("m2", SECOND);
    assert_eq!(second.value("IPV4ADDR").as_deref(), Some("10.9.0.100"), "{server:?}: {}", second.console);
}

#[test]
fn loop_isc_dhcpd_gives_a_renewed_address_to_nobody_else() {
    one_address(Server::Isc);
}

#[test]
fn loop_kea_gives_a_renewed_address_to_nobody_else() {
    one_address(Server::Kea);
}

/// The server comes back with a reservation: it refuses the address that the machine has.
fn reserved(server: Server, seconds: u32) {
    let lab = Lab::new();
    server.start(&lab, Pool::One(seconds));
    let first = lab.boot_network("m1", FIRST);
    let machine = agent(&first);
    let (seen, ()) = run(&lab, &machine, || {
        machine.wait_for_screen("leased by 10.9.0.1", 1);
        server.start(&lab, Pool::Reserved(seconds));
        machine.wait_for_screen("stopping: this machine has lost its address 10.9.0.100", 1);
    });
    assert!(seen.console.contains("[address-lost 24]"), "{server:?}: {}", seen.console);
    assert!(machine.tftp.get(&format!("pxelinux.cfg/{HEX}")).is_some(), "{server:?}: {}", seen.console);
    assert!(machine.backup.get("10.9.0.100/backup.json").is_none(), "{server:?}");
    let refused = seen.console.contains("DHCPNAK") || seen.console.contains("another address");
    assert!(refused, "{server:?}: {}", seen.console);
}

#[test]
fn loop_isc_dhcpd_that_refuses_an_address_stops_the_job() {
    reserved(Server::Isc, 8);
}

#[test]
fn loop_kea_that_refuses_an_address_stops_the_job() {
    reserved(Server::Kea, 8);
}

/// dnsmasq gives no lease of less than two minutes: one renewal is all that is waited for.
#[test]
fn loop_dnsmasq_beside_a_proxy_renews_by_both_ways() {
    let lab = Lab::new();
    Server::Dnsmasq.start(&lab, Pool::One(120));
    // A second server, which does not know the lease, hears every broadcast.
    let proxy = "port=0\ninterface=eth0\nbind-dynamic\ndhcp-range=10.9.0.0,proxy\npxe-service=x86PC,boot,pxelinux\nuser=root\n\
        dhcp-leasefile=/dev/null\npid-file=/run/proxy.pid\nlog-dhcp\nlog-facility=/run/proxy.log\n";
    std::fs::write(lab.dir().join("proxy"), proxy).unwrap();
    lab.run("ip netns exec s2 dnsmasq --conf-file=proxy");
    let first = lab.boot_network("m1", FIRST);
    assert_eq!(first.value("IPV4ADDR").as_deref(), Some("10.9.0.100"), "{}", first.console);
    assert_eq!(first.value("DHCPLEASETIME").as_deref(), Some("120"));
    let machine = agent(&first);
    let (seen, ()) = run(&lab, &machine, || machine.wait_for_screen("leased by 10.9.0.1 for 120 s", 1));
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert!(!seen.console.contains("address-lost"), "{}", seen.console);
}

/// A fixed address asks nobody, and the servers that are there do not matter.
#[test]
fn loop_a_fixed_address_is_not_renewed() {
    let lab = Lab::new();
    let words =
        "boot=testbox ip=10.9.0.100:10.9.0.1:10.9.0.1:255.255.255.0:maintenance: BOOTIF=01-52-54-00-09-00-01";
    let first = lab.boot_network("m1", words);
    let machine = agent(&first);
    let (seen, ()) = run(&lab, &machine, || ());
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert!(!seen.console.contains("lease"), "{}", seen.console);
}

/// RealSystem's clock counts as `UPTIME` of ipconfig does, which is rounded up.
#[test]
fn loop_the_lease_of_ipconfig_begins_on_the_clock_of_the_agent() {
    let lab = Lab::new();
    Server::Isc.start(&lab, Pool::One(600));
    let before = RealSystem::new().since_boot().as_secs();
    let first = lab.boot_network("m1", FIRST);
    let since: u64 = first.value("UPTIME").expect(&first.console).parse().unwrap();
    let after = RealSystem::new().since_boot().as_secs();
    assert!((before..=after + 1).contains(&since), "{before} {since} {after}");
}
