//! DHCP and proxy DHCP of `testboxctl serve`: the questions that are asked of other servers, and other servers beside it.

use crate::boot_servers::{
    BOOT_SERVER, MACHINE, SERVERS, TOLD, TOLD_BY_PROXY, fetch, init, put_job, told, took_job,
};
use crate::lab::Lab;
use crate::lease::FIRST;
use crate::loader::{Loader, Told};
use crate::serve_tftp::{log, serve};
use crate::servers::{Pool, Server};
use std::fs;
use std::net::Ipv4Addr;

const MACHINES: &str = "[tb1]\naddress = \"10.9.0.100\"\nmac = \"52:54:00:09:00:01\"\n";

/// A lab whose shares are laid out, and whose machine `m1` is known.
fn lab() -> Lab {
    let lab = Lab::new();
    init(&lab);
    fs::write(lab.dir().join("tftp/shimaa64.efi"), "shimaa64.efi").unwrap();
    fs::write(lab.dir().join("machines.toml"), MACHINES).unwrap();
    lab
}

fn wait_for(lab: &Lab, text: &str) {
    lab.run(&format!("timeout 60 bash -c 'until grep -q \"{text}\" serve.log; do sleep 0.1; done' || {{ cat serve.log; false; }}"));
}

/// The address that the DHCP client of another system gets on a machine.
pub fn udhcpc(lab: &Lab, name: &str) -> Option<Ipv4Addr> {
    let ask = format!(
        "ip netns exec {name} busybox udhcpc -i eth0 -n -q -f -t 4 -T 2 -s /bin/true 2>&1 | \
         sed -n 's/.*lease of \\([0-9.]*\\) obtained from.*/\\1/p'"
    );
    lab.run(&ask).trim().parse().ok()
}

#[test]
fn loop_serve_tells_loaders_what_other_servers_tell_them() {
    let lab = lab();
    let words =
        "--tftp --dhcp 10.9.0.110-10.9.0.119 --interface lab --machines machines.toml --state-dir state";
    serve(&lab, "", words);
    let own = Ipv4Addr::new(10, 9, 0, 1);
    for (loader, file) in TOLD {
        let told = told(&lab, loader, false);
        assert_eq!(
            told,
            Told { address: MACHINE, server: own, file: file.into() },
            "{loader:?}: {}",
            log(&lab)
        );
        if !file.is_empty() {
            assert_eq!(fetch(&lab, own, file).unwrap(), file.replace("shimx64.efi", "shim"));
        }
    }
    // Linux: ipconfig of the initramfs, and the agent finds its job.
    put_job(&lab, "by-serve");
    let found = lab.boot_all("m1", FIRST);
    assert_eq!(found.value("ROOTSERVER").as_deref(), Some("10.9.0.1"), "{}", found.console);
    assert!(took_job(&found, "by-serve"), "{}", found.console);
    // Its own system, and a machine that nobody knows.
    assert_eq!(udhcpc(&lab, "m1"), Some(MACHINE), "{}", log(&lab));
    assert_eq!(udhcpc(&lab, "m2"), None, "{}", log(&lab));
    assert!(log(&lab).contains("52:54:00:09:00:02 is not in the file of machines"), "{}", log(&lab));
}

/// `init --store` writes all that `serve` needs, and leaves an admin's settings alone.
#[test]
fn loop_init_makes_the_labs_only_server() {
    let lab = lab();
    let program = env!("CARGO_BIN_EXE_testboxctl");
    let init = |range: &str| {
        format!(
            "{program} --config lab.toml init --store --interface lab --dhcp {range} --tftp-dir tftp --backup-dir backup \
             --pxelinux-dir . --modules-dir . --boot-files vmlinuz initrd.img --key keys/key.pem"
        )
    };
    fs::write(lab.dir().join("vmlinuz"), "kernel").unwrap();
    fs::write(lab.dir().join("initrd.img"), "initrd").unwrap();
    let said = lab.run(&init("10.9.0.110-10.9.0.119"));
    assert!(
        said.contains("\n  systemctl enable --now testbox-store") && said.contains("lab.toml: "),
        "{said}"
    );
    assert!(!said.contains("exports"), "no word of NFS: {said}");
    let written = fs::read_to_string(lab.dir().join("lab.toml")).unwrap();
    for part in ["server = \"10.9.0.1\"\n", "network = \"10.9.0.0/24\"\n", "interface = \"lab\"\n"] {
        assert!(written.contains(part), "{part}: {written}");
    }
    assert!(lab.run(&init("10.9.0.110-10.9.0.119")).contains("lab.toml: as it should be"));
    let said = lab.run(&format!("! {}", init("10.9.0.110-10.9.0.120")));
    assert!(
        said.contains("was left alone") && said.contains("\ndhcp = \"10.9.0.110-10.9.0.120\"\n"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(lab.dir().join("lab.toml")).unwrap(), written);
    let said = lab.run(&format!("! {}", init("10.8.0.110-10.8.0.120")));
    assert!(said.contains("it is not in 10.9.0.0/24"), "{said}");
    lab.run(&format!(
        "setsid {program} --config lab.toml serve --state-dir state >serve.out 2>serve.log </dev/null & \
         timeout 60 bash -c 'until grep -qE \" serves |^testboxctl: \" serve.log; do sleep 0.1; done'"
    ));
    assert_eq!(udhcpc(&lab, "m2"), Some(Ipv4Addr::new(10, 9, 0, 110)), "{}", log(&lab));
    assert_eq!(fetch(&lab, Ipv4Addr::new(10, 9, 0, 1), "pxelinux.0").unwrap().len(), 10, "{}", log(&lab));
    // What it says of itself is what the settings have of it.
    let own = fs::read_to_string(lab.dir().join("serve.out")).unwrap();
    assert!(own.lines().next().is_some_and(|key| written.contains(key)), "{own}: {written}");
}

#[test]
fn loop_a_lease_of_serve_survives_its_restart() {
    let lab = lab();
    let words = "--dhcp 10.9.0.99-10.9.0.101 --interface lab --machines machines.toml --state-dir state --unknown-machines allow";
    serve(&lab, "", words);
    let first = udhcpc(&lab, "m2");
    assert_eq!(first, Some(Ipv4Addr::new(10, 9, 0, 99)), "{}", log(&lab));
    assert_eq!(udhcpc(&lab, "m1"), Some(MACHINE), "reserved, though in the range: {}", log(&lab));
    lab.run("kill -KILL $(cat /run/serve.pid); while pgrep -f ' boot-services$'; do sleep 0.1; done");
    lab.run("grep -q '^10.9.0.99 52:54:00:09:00:02 ' state/leases");
    serve(&lab, "", words);
    lab.run("ip -n m1 link set eth0 address 52:54:00:09:00:77");
    assert_eq!(
        udhcpc(&lab, "m1"),
        Some(Ipv4Addr::new(10, 9, 0, 101)),
        "not the one that is leased: {}",
        log(&lab)
    );
    assert_eq!(udhcpc(&lab, "m2"), first, "{}", log(&lab));
}

/// Beside each server that gives addresses and knows nothing of booting.
#[test]
fn loop_serve_as_a_proxy_leads_loaders_to_itself() {
    for main in SERVERS {
        let lab = lab();
        main.start_with(&lab, Pool::One(600), "");
        serve(&lab, "s2", "--tftp --proxy-dhcp --interface eth0 --machines machines.toml");
        for (loader, file) in TOLD_BY_PROXY.into_iter().chain([(Loader::UefiArm64, "shimaa64.efi")]) {
            let told = told(&lab, loader, true);
            let expected = Told { address: MACHINE, server: BOOT_SERVER, file: file.into() };
            assert_eq!(told, expected, "{main:?} {loader:?}: {}", log(&lab));
            assert_eq!(fetch(&lab, told.server, &told.file).unwrap(), file);
        }
        // An unknown machine's loader is told nothing: it has no proxy.
        fs::write(lab.dir().join("machines.toml"), "").unwrap();
        wait_for(&lab, " 0 machines are known now");
        assert_eq!(told(&lab, Loader::Rom, false).file, "", "{main:?}: {}", log(&lab));
    }
}

#[test]
fn loop_serve_gives_no_addresses_beside_another_server() {
    let words = "--dhcp 10.9.0.110-10.9.0.119 --interface eth0 --machines machines.toml --state-dir state";
    for main in SERVERS {
        let lab = lab();
        main.start(&lab, Pool::One(600));
        serve(&lab, "s2", words);
        let said = log(&lab);
        assert!(said.contains("another DHCP server answers on eth0: 10.9.0.1."), "{main:?}: {said}");
        assert!(!said.contains(" serves "), "{main:?}: {said}");
    }
    // One that comes later: a machine takes its offer.
    let lab = lab();
    serve(&lab, "s2", words);
    assert_eq!(udhcpc(&lab, "m1"), Some(MACHINE), "{}", log(&lab));
    Server::Dnsmasq.start_with(&lab, Pool::One(600), "dhcp-range=10.9.0.50,10.9.0.60,600");
    assert!(udhcpc(&lab, "m2").is_some());
    wait_for(&lab, "ANOTHER DHCP SERVER answers on eth0: 10.9.0.1");
    lab.run("kill -KILL $(cat /run/dhcp.pid)");
    assert_eq!(udhcpc(&lab, "m1"), None, "it is silent: {}", log(&lab));
    wait_for(&lab, "machines are answered again");
    assert_eq!(udhcpc(&lab, "m1"), Some(MACHINE), "{}", log(&lab));
}
