//! From the armed file to the disarmed machine, on networks as strangers have them.

#![allow(clippy::unwrap_used)]

use crate::world::esp::{SHIM, entry, firmware, network};
use crate::world::{HEX, HOLD, IP, Machine, REBOOT, Seen, contents, disk};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use testbox::agent::{Ending, Mode};
use testbox::efi::{BootNumber, BootState};
use testbox::share::Files;
use testbox::sys::System;

const WORDS: &str = "testbox.action=backup testbox.job=j";
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn pxe(words: &str) -> String {
    format!("DEFAULT m\nLABEL m\nKERNEL k\nAPPEND {words}\n")
}

/// A machine that is armed by this file, and booted with these words beside the job's.
fn armed_by(path: &str, more: &str) -> Machine {
    let mut machine = Machine::new();
    let words = format!("{WORDS} {more}");
    machine.arm(&words);
    machine.tftp.remove(&format!("pxelinux.cfg/{HEX}")).unwrap();
    machine.tftp.put(path, pxe(&words));
    machine
}

/// A machine whose kernel command line has no action, and whose file on the boot server has.
fn asking(file: &str, words: &str) -> Machine {
    let mut machine = Machine::new();
    machine.cmdline =
        format!("boot=testbox testbox.backup=10.0.0.1:/b testbox.settle=1 testbox.error-wait=5 {words}");
    machine.tftp.put(&format!("testbox.cfg/{HEX}"), file);
    machine
}

fn set_boot_file(machine: &mut Machine, name: &str) {
    machine.net_conf[0] = machine.net_conf[0].replace("pxelinux.0", name);
}

fn failed_with(seen: &Seen, word: &str) -> bool {
    seen.console.contains(&format!("[{word} "))
}

#[test]
fn the_boot_file_name_of_dhcp_is_never_a_verdict() {
    for name in [
        "pxelinux.0",
        "/pxelinux.0",
        "//pxelinux.0",
        "ipxe/undionly.kpxe",
        "http://10.0.0.1/boot.ipxe",
        "http://10.0.0.1:8080/a/b/boot.ipxe?x=/y",
        "/srv/tftp/pxelinux.0",
        "boot\\x86\\pxelinux.0",
        "../../x",
        "",
    ] {
        let mut machine = Machine::new();
        machine.arm(WORDS);
        set_boot_file(&mut machine, name);
        let seen = machine.boot();
        assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{name}: {}", seen.console);
        assert_eq!(machine.status().notes, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_pxe_folder_below_another_one_is_found() {
    for (path, boot_file, more) in [
        ("menu-bios/pxelinux.cfg/0A28292A", "menu-bios/lpxelinux.0", ""),
        ("menu-bios/pxelinux.cfg/0A28292A", "", ""),
        ("menu-bios/pxelinux.cfg/01-52-54-00-12-34-56", "ipxe.efi", ""),
        ("tftp/bios/pxelinux.cfg/0A28292A", "/srv/tftp/bios/pxelinux.0", ""),
        ("a/b/c/pxelinux.cfg/0A28292A", "x.0", "testbox.armed-file=a/b/c/pxelinux.cfg/0A28292A"),
        ("cfg/0A28292A", "x.0", "testbox.armed-file=cfg/0A28292A"),
    ] {
        let mut machine = armed_by(path, more);
        set_boot_file(&mut machine, boot_file);
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{path}: {}", seen.console);
        assert_eq!(machine.tftp.get(path), None, "{path}");
        assert!(machine.tftp.get("pxelinux.cfg/default").is_some());
    }
}

#[test]
fn only_the_file_that_holds_the_job_is_removed() {
    let place = "bios/pxelinux.cfg/0A28292A";
    let machine = armed_by(place, &format!("testbox.armed-file={place}"));
    let others = [
        (format!("pxelinux.cfg/{HEX}"), pxe("testbox.action=backup testbox.job=other")),
        ("efi/pxelinux.cfg/0A28292A".to_owned(), pxe("testbox.action=restore testbox.job=j")),
        ("pxelinux.cfg/0A28292B".to_owned(), pxe(WORDS)),
        ("bios/pxelinux.cfg/default".to_owned(), pxe(WORDS)),
    ];
    for (path, text) in &others {
        machine.tftp.put(path, text.as_str());
    }
    let seen = machine.boot();
    assert_eq!((seen.ending, machine.tftp.get(place)), (REBOOT, None), "{}", seen.console);
    for (path, text) in &others {
        assert_eq!(machine.tftp.get(path).as_deref(), Some(text.as_bytes()), "{path}");
    }
}

/// A file that is named after another machine is not this one's, whoever says so.
#[test]
fn a_job_of_another_machine_is_refused_with_every_path() {
    let machine = armed_by("bios/pxelinux.cfg/0A28292B", "testbox.armed-file=bios/pxelinux.cfg/0A28292B");
    machine.tftp.put(&format!("efi/pxelinux.cfg/{HEX}"), pxe("testbox.action=backup testbox.job=other"));
    let before = machine.tftp.tree();
    let seen = machine.boot();
    assert!(failed_with(&seen, "not-armed"), "{}", seen.console);
    let text: String = seen.console.split_whitespace().collect();
    for path in [
        "pxelinux.cfg/01-52-54-00-12-34-56",
        "pxelinux.cfg/0A28292A",
        "bios/pxelinux.cfg/0A28292A",
        "efi/pxelinux.cfg/0A28292A",
    ] {
        assert!(text.contains(path), "{path}: {}", seen.console);
    }
    assert_eq!(machine.tftp.tree(), before);
    let alone = armed_by("bios/pxelinux.cfg/0A28292B", "testbox.armed-file=bios/pxelinux.cfg/0A28292B");
    let seen = alone.boot();
    assert!(seen.console.contains("names another machine"), "{}", seen.console);
}

/// With proxy DHCP the router is what DHCP calls the boot server.
#[test]
fn the_boot_server_is_the_jobs_before_the_one_of_dhcp() {
    let file = "testbox.action=backup\ntestbox.job=j\n";
    let tftp = "testbox.tftp=10.0.0.1:/t";
    for (words, servers) in [
        (tftp.to_owned(), vec![SERVER]),
        (format!("{tftp} testbox.boot-server=10.0.0.1"), vec![SERVER]),
        ("nfsroot=10.0.0.1:/r".to_owned(), vec![SERVER]),
        ("testbox.tftp=nas.lab:/t".to_owned(), vec![SERVER]),
        // The NFS server has no TFTP, the one of DHCP has.
        ("testbox.tftp=10.0.0.9:/t".to_owned(), vec![ROUTER]),
    ] {
        let mut machine = asking(file, &words);
        machine.net_conf[0] = machine.net_conf[0].replace("10.0.0.1", "10.0.0.254");
        machine.hosts = vec![("nas.lab", SERVER)];
        machine.tftp_servers = servers;
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{words}: {}", seen.console);
        assert!(machine.tftp.get(&format!("testbox.cfg/{HEX}")).is_none(), "{words}");
    }
    let machine = asking(file, &format!("{tftp} testbox.boot-server=10.0.0.7 testbox.net-wait=4"));
    assert!(failed_with(&machine.boot(), "no-action"));
    let asked = machine.asked.lock().unwrap();
    assert!(
        asked.iter().all(|(ip, _)| *ip == Ipv4Addr::new(10, 0, 0, 7)),
        "nobody but the named one: {asked:?}"
    );
}

/// tftpd-hpa says `0, Permission denied`, dnsmasq `2, cannot access ...`, some servers the same of every name.
#[test]
fn what_the_server_says_of_an_unreadable_file_is_told() {
    let own = format!("testbox.cfg/{HEX}");
    let order = "testbox.action=backup\ntestbox.job=j\n";
    for (code, said) in [
        (0, "Permission denied"),
        (2, "cannot access /srv/x: Permission denied"),
        (1, "Access violation"),
        (2, ""),
    ] {
        let told = format!("10.0.0.1 (testbox.tftp=) gives no {own}: error {code}, '{said}'");
        for mode in [Mode::AgentOnly, Mode::NfsRoot("/root".into())] {
            let mut machine = asking(order, "testbox.tftp=10.0.0.1:/t");
            machine.refused.insert(own.clone(), (code, said));
            let seen = machine.boot_as(&mode);
            let text = seen.console.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains(&told), "{code} {said}: {text}");
            assert_eq!(failed_with(&seen, "no-action"), mode == Mode::AgentOnly, "{text}");
        }
        // A file that names more machines gives the order.
        let mut machine = asking(order, "testbox.tftp=10.0.0.1:/t");
        machine.tftp.put("testbox.cfg/default", "testbox.action=refresh-info\ntestbox.job=k\n");
        machine.refused.insert(own.clone(), (code, said));
        let seen = machine.boot();
        let text = seen.console.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&format!("{told}; taken as not there")), "{text}");
        assert!(text.contains("job k"), "{text}");
    }
    for (code, said) in [(1, "File not found"), (1, "file /srv/x not found for 10.40.41.42"), (1, "")] {
        let mut machine = asking(order, "testbox.tftp=10.0.0.1:/t");
        machine.refused.insert(own.clone(), (code, said));
        let seen = machine.boot();
        assert!(failed_with(&seen, "no-action") && !seen.console.contains("gives no"), "{}", seen.console);
    }
}

/// A server that has the same word for every name says it once.
#[test]
fn a_server_that_refuses_every_name_is_told_once() {
    let mut machine = asking("", "testbox.tftp=10.0.0.1:/t");
    for id in ["01-52-54-00-12-34-56", HEX, "0A28292", "default"] {
        for folder in ["testbox.cfg", "pxelinux.cfg"] {
            machine.refused.insert(format!("{folder}/{id}"), (2, "Access violation"));
        }
    }
    let text = machine.boot().console.split_whitespace().collect::<Vec<_>>().join(" ");
    let told =
        "gives no testbox.cfg/01-52-54-00-12-34-56: error 2, 'Access violation' (and 7 more such answers)";
    assert!(text.contains(told), "{text}");
}

#[test]
fn the_server_of_a_fixed_address_is_not_dhcps() {
    for (word, who) in [
        ("ip=10.40.41.42:10.0.0.1:10.40.0.1:255.255.0.0:maintenance:", "ip="),
        ("ip=10.40.41.42::10.40.0.1:255.255.0.0:maintenance:", "DHCP"),
        ("ip=10.40.41.42:10.0.0.9:10.40.0.1:255.255.0.0::dhcp", "DHCP"),
        ("ip=dhcp", "DHCP"),
        ("", "DHCP"),
    ] {
        let mut machine = Machine::new();
        machine.cmdline = format!("boot=testbox testbox.net-wait=4 testbox.error-wait=5 {word}");
        machine.tftp_servers.clear();
        let seen = machine.boot();
        assert!(seen.console.contains(&format!("boot server: 10.0.0.1 ({who})")), "{word}: {}", seen.console);
        assert!(seen.console.contains(&format!("10.0.0.1 ({who}) for ")), "{word}: {}", seen.console);
    }
}

/// An NFS server that serves no TFTP must not keep a machine that nobody has armed.
#[test]
fn a_silent_nfs_server_is_not_waited_for_in_vain() {
    let mut machine = Machine::new();
    machine.cmdline = "boot=nfs nfsroot=10.0.0.9:/r".into();
    let seen = machine.boot_as(&Mode::NfsRoot("/root".into()));
    assert_eq!(seen.ending, Ending::Continue, "{}", seen.console);
    assert!(seen.console.contains("did not answer"), "{}", seen.console);
    assert!(machine.system.monotonic() < Duration::from_secs(60));
}

/// Spanning tree: a link at once, and no frame for half a minute.
#[test]
fn a_port_that_forwards_late_is_waited_for() {
    for by_tftp in [false, true] {
        let mut machine = if by_tftp {
            asking("testbox.action=backup\ntestbox.job=j\n", "testbox.tftp=nas.lab:/t")
        } else {
            let mut machine = Machine::new();
            machine.arm(WORDS);
            machine
        };
        machine.hosts = vec![("nas.lab", SERVER)];
        machine.net_conf[0] += "IPV4NETMASK='255.255.0.0'\nIPV4GATEWAY='10.40.0.1'\nIPV4DNS0='10.40.0.2'\n";
        machine.forwards_after = Duration::from_secs(40);
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{}", seen.console);
        assert_eq!(machine.status().hostname, "box1", "{}", seen.console);
        assert!(seen.console.contains("nobody answers on this network yet"), "{}", seen.console);
        assert!(seen.console.contains("gateway 10.40.0.1 DOES NOT ANSWER"), "{}", seen.console);
    }
}

/// Nobody is asked in vain, nothing is said of what takes a moment, and a cable that is not there is told.
#[test]
fn a_link_that_comes_late_is_waited_for_first() {
    for (seconds, is_told) in [(3, false), (60, true)] {
        let mut machine = Machine::new();
        machine.arm(WORDS);
        machine.net_conf[0] += "IPV4NETMASK='255.255.0.0'\nIPV4GATEWAY='10.40.0.1'\n";
        machine.link_after = Duration::from_secs(seconds);
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{}", seen.console);
        assert_eq!(machine.asked_without_link.load(Relaxed), is_told, "{}", seen.console);
        assert_eq!(seen.console.contains("nobody answers on this network yet"), is_told, "{}", seen.console);
        assert_eq!(seen.console.contains("NO LINK"), is_told, "{}", seen.console);
    }
}

#[test]
fn a_network_that_stays_silent_is_told_on_one_screen() {
    let mut machine = asking("", "testbox.tftp=10.0.0.1:/t testbox.net-wait=20");
    machine.net_conf[0] += "IPV4NETMASK='255.255.0.0'\nIPV4GATEWAY='10.40.0.1'\n";
    machine.forwards_after = Duration::from_secs(100_000);
    let seen = machine.boot();
    assert!(failed_with(&seen, "no-action"), "{}", seen.console);
    let report: Vec<&str> = seen.console.rsplit("interface:").next().unwrap().lines().collect();
    let all = report.join("\n");
    for part in [
        "enp0s2 52:54:00:12:34:56 link (up)",
        "address:   10.40.41.42/16, gateway 10.40.0.1 DOES NOT ANSWER, no DNS",
        "boot server: 10.0.0.1 (testbox.tftp=)",
        "asked: 10.0.0.1 by TFTP: no answer",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    let of_report = ["interface:", "address:", "boot server:", "asked:"];
    let lines = seen.console.lines().filter(|line| of_report.iter().any(|word| line.starts_with(word)));
    assert!(lines.clone().count() >= 4 && lines.clone().all(|line| line.len() <= 80), "{}", seen.console);

    let mut machine = Machine::new();
    machine.arm(WORDS);
    machine.net_conf.clear();
    let seen = machine.boot();
    assert!(failed_with(&seen, "network") && seen.console.contains("address:   NONE"), "{}", seen.console);
}

#[test]
fn armed_again_is_never_left_unasked_in_silence() {
    let mut machine = Machine::new();
    machine.arm(WORDS);
    machine.tftp_servers.clear();
    let seen = machine.boot();
    assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false));
    let text = seen.console.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("could not be asked by TFTP") && text.contains("10.0.0.1 (testbox.tftp=): no answer"),
        "{text}"
    );

    // The router answers that it has no such file; the server that has it still gives it when the share has lost it.
    let path = format!("pxelinux.cfg/{HEX}");
    let mut machine = Machine::new();
    machine.arm(WORDS);
    machine.net_conf[0] = machine.net_conf[0].replace("10.0.0.1", "10.0.0.254");
    machine.served.lock().unwrap().insert(path.clone(), pxe(WORDS).into());
    assert_eq!(machine.boot().ending, HOLD);
}

#[test]
fn dhcps_host_name_counts_where_reverse_dns_has_none() {
    for (dns, conf, words, name) in [
        (Some("box1"), "HOSTNAME='dhcp1'\n", "", "box1"),
        (None, "HOSTNAME='dhcp1'\n", "", "dhcp1"),
        (None, "HOSTNAME='dhcp1'\n", "testbox.name=said", "said"),
        (None, "HOSTNAME='maintenance'\n", "ip=10.40.41.42:::255.255.0.0:maintenance:", "unknown"),
        (None, "", "", "unknown"),
    ] {
        let mut machine = Machine::new();
        machine.arm(&format!("{WORDS} {words}"));
        machine.net_conf[0] += conf;
        machine.host_name = dns;
        assert_eq!(machine.boot().ending, REBOOT);
        assert_eq!(machine.status().hostname, name, "{conf} {words}");
    }
}

#[test]
fn of_several_addresses_that_of_the_boot_port_counts() {
    let mut machine = Machine::new();
    machine.arm(&format!("{WORDS} BOOTIF=01:52:54:00:12:34:56"));
    machine.net_conf.insert(0, "DEVICE='enp0s1'\nIPV4ADDR='192.168.7.7'\nROOTSERVER='192.168.7.1'\n".into());
    let seen = machine.boot();
    assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{}", seen.console);
    assert!(machine.backup.get(&format!("{IP}/backup.json")).is_some());
}

/// Whatever hides a list of disks ends the job before a disk is touched.
#[test]
fn a_list_of_disks_is_never_lost_on_the_way() {
    for (first, is_kept) in [
        ("testbox.disks=sda\r\n", true),
        ("\u{feff}testbox.disks=sda\r\n", true),
        ("\u{feff}\u{feff}testbox.disks=sda\n", false),
        ("testbox_disks=sda\n", false),
        ("Testbox.Disks=sda\n", false),
        ("testboxdisks=sda\n", false),
        ("disks=sda\n", false),
        ("testbox.disks=sda\u{a0}\n", false),
        ("testbox\u{200b}.disks=sda\n", false),
        ("# rack 3\rtestbox.disks=sda\r\n", false),
        ("testbox.disks=sda\ntestbox.disks=sdb\n", false),
    ] {
        let two = |seeds: [u64; 2]| {
            vec![disk("sda S1 @1", contents(2, seeds[0])), disk("sdb S2 @2", contents(2, seeds[1]))]
        };
        let mut machine = Machine::new();
        machine.set_disks(two([1, 2]));
        machine.arm(WORDS);
        assert_eq!(machine.boot().ending, REBOOT);
        machine.set_disks(two([8, 9]));
        machine.cmdline =
            "boot=testbox testbox.backup=10.0.0.1:/b testbox.tftp=10.0.0.1:/t testbox.settle=1".into();
        let file = format!("{first}testbox.action=restore\r\ntestbox.job=t1\r\n");
        machine.tftp.put(&format!("testbox.cfg/{HEX}"), file);
        let seen = machine.boot();
        assert_eq!(machine.disk_bytes("sdb"), contents(2, 9), "{first:?}: {}", seen.console);
        assert_eq!(machine.disk_bytes("sda") == contents(2, 1), is_kept, "{first:?}: {}", seen.console);
        assert_eq!(failed_with(&seen, "bad-words"), !is_kept, "{first:?}: {}", seen.console);
    }
}

#[test]
fn a_restriction_outside_of_the_append_line_ends_the_job() {
    let mut machine = Machine::new();
    machine.arm(WORDS);
    let file = pxe(WORDS) + "APPEND\u{a0}testbox.disks=sda\n";
    machine.tftp.put(&format!("pxelinux.cfg/{HEX}"), file);
    let seen = machine.boot();
    assert!(failed_with(&seen, "bad-words") && machine.is_armed(), "{}", seen.console);
}

#[test]
fn no_secret_of_the_command_line_reaches_logs_or_status() {
    let mut machine = Machine::new();
    machine.arm(&format!("{WORDS} testbox_token=hush-hush nfs.password=hush-too"));
    let seen = machine.boot();
    assert!(failed_with(&seen, "bad-words"), "{}", seen.console);
    let logs = [seen.console, machine.text("maintenance.log"), machine.text("status.json")];
    assert!(
        logs.iter().all(|log| !log.contains("hush") && log.contains("testbox_token=[redacted]")),
        "{logs:?}"
    );
}

/// Without a job the machine's own system is next, where its kernel line says so: never on a doubt, and never on an error.
#[test]
fn without_a_job_the_firmware_starts_the_own_system() {
    let next = |machine: &Machine| BootState::read(machine.efi.as_ref()?.as_ref().ok()?).unwrap().next;
    let machine = |words: &str| {
        let mut machine = asking("", &format!("testbox.tftp=10.0.0.1:/t testbox.net-wait=4 {words}"));
        machine.tftp.remove(&format!("testbox.cfg/{HEX}")).unwrap();
        machine.set_efi(Some(Ok(firmware(&[network(), entry("debian", SHIM)], &[0, 1]))));
        machine
    };
    let good = machine("testbox.no-job=boot-disk");
    let seen = good.boot();
    assert_eq!((seen.ending, next(&good)), (REBOOT, Some(BootNumber(1))), "{}", seen.console);
    assert!(
        seen.console.contains("no job for this machine: on to its own system, Boot0001 'debian'"),
        "{}",
        seen.console
    );

    let mut refusing = machine("testbox.no-job=boot-disk");
    refusing.refused.insert(format!("testbox.cfg/{HEX}"), (0, "Permission denied"));
    let mut silent = machine("testbox.no-job=boot-disk");
    silent.tftp_servers.clear();
    let mut bios = machine("testbox.no-job=boot-disk");
    bios.set_efi(None);
    let mut network_only = machine("testbox.no-job=boot-disk");
    network_only.set_efi(Some(Ok(firmware(&[network()], &[0]))));
    for machine in [machine(""), machine("testbox.no-job=fail"), refusing, silent, bios, network_only] {
        let seen = machine.boot();
        assert!(failed_with(&seen, "no-action"), "{}", seen.console);
        assert_eq!(next(&machine), None);
    }
}
