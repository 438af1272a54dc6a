//! The address of a machine with a DHCP lease: renewed while an action runs, and what follows where it is lost. The
//! machine is in memory; real servers are in `loop_network/`.

use crate::world::dhcp::{TestWire, answer};
use crate::world::{IP, Machine, REBOOT, Seen, contents, disk};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use testbox::agent::Ending;
use testbox::block::mem::{DiskFault, DiskOp};
use testbox::sys::System;

const ACK: u8 = 5;
const NAK: u8 = 6;
const ACTIONS: [(&str, DiskOp); 3] =
    [("backup", DiskOp::Read), ("backup-again", DiskOp::Read), ("restore", DiskOp::Write)];
/// Past T1 of a lease of 120 s; past its end.
const RENEWAL: Duration = Duration::from_secs(70);
const END: Duration = Duration::from_secs(130);

fn mine() -> Ipv4Addr {
    IP.parse().unwrap()
}

type Answers = Vec<Vec<u8>>;

/// A machine that has its address for 120 s, and whose nth request (from 0) is answered so.
fn leased(mut server: impl FnMut(usize, Ipv4Addr, &[u8]) -> Answers + Send + 'static) -> Machine {
    let mut machine = Machine::new();
    machine.net_conf = vec![format!(
        "DEVICE='enp0s2'\nPROTO='dhcp'\nIPV4ADDR='{IP}'\nROOTSERVER='10.0.0.1'\nfilename='pxelinux.0'\nUPTIME='0'\n\
         DHCPLEASETIME='120'\n"
    )];
    machine.tick = Duration::from_millis(5);
    let mut nth = 0;
    machine.wire = Some(TestWire::new(move |to, request| {
        nth += 1;
        server(nth - 1, to, request)
    }));
    machine
}

/// The same, with a set of the disk on the share where the action wants one, and armed.
fn armed(action: &str, server: impl FnMut(usize, Ipv4Addr, &[u8]) -> Answers + Send + 'static) -> Machine {
    let mut machine = leased(server);
    if action != "backup" {
        let wire = machine.wire.take();
        let net_conf = std::mem::take(&mut machine.net_conf);
        machine.net_conf = vec![format!("DEVICE='enp0s2'\nIPV4ADDR='{IP}'\nROOTSERVER='10.0.0.1'\n")];
        machine.arm("testbox.action=backup testbox.job=one");
        assert_eq!(machine.boot().ending, REBOOT);
        assert!(!machine.is_armed());
        (machine.wire, machine.net_conf) = (wire, net_conf);
        let seed = if action == "restore" { 7 } else { 2 };
        machine.set_disks(vec![disk("sda S1 @1", contents(2, seed))]);
    }
    machine.arm(&format!("testbox.action={action} testbox.job=two"));
    // The lease counts from the boot on.
    let conf = &mut machine.net_conf[0];
    *conf = conf.replace("UPTIME='0'", &format!("UPTIME='{}'", machine.system.monotonic().as_secs()));
    machine
}

/// One boot, in which the disk hangs in the middle of the action until `meanwhile` is over.
fn boot(machine: &Machine, op: DiskOp, meanwhile: impl FnOnce(&Machine)) -> Seen {
    let bytes = machine.disks.lock().unwrap()[0].bytes.clone();
    bytes.inject(op, (1 << 20) + 4096..(1 << 20) + 8192, DiskFault::Hang, 1);
    std::thread::scope(|scope| {
        let boot = scope.spawn(|| machine.boot());
        bytes.wait_for_hang();
        meanwhile(machine);
        bytes.release();
        boot.join().unwrap()
    })
}

/// Nothing published and nothing bootable; armed; and everybody is told why and what to do.
fn is_stopped(machine: &Machine, seen: &Seen, before: &str, what: &str) {
    assert_eq!(seen.ending, REBOOT, "{what}");
    assert!(machine.is_armed(), "{what}");
    let status = machine.status();
    assert_eq!(status.code, Some(24), "{what}: {status:?}");
    for text in ["[address-lost 24]", "has lost its address 10.40.41.42", "reservation"] {
        assert!(seen.console.contains(text), "{what}: {text:?} is not in {}", seen.console);
        assert!(machine.text("maintenance.log").contains(text), "{what}: {text:?} is not in the log");
    }
    assert_eq!(sets(machine), before, "{what}: a set was published or changed");
}

fn sets(machine: &Machine) -> String {
    format!("{:?}", machine.good_sets().into_keys().collect::<Vec<_>>())
}

#[test]
fn a_lease_is_renewed_for_as_long_as_the_action_takes() {
    for (action, op) in ACTIONS {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let machine = armed(action, move |_, _, request| {
            count.fetch_add(1, SeqCst);
            vec![answer(request, ACK, mine(), 120)]
        });
        let seen = boot(&machine, op, |machine| {
            let wire = machine.wire.as_ref().unwrap();
            wire.settle();
            for _ in 0..5 {
                machine.system.advance(RENEWAL);
                wire.settle();
            }
        });
        assert!(asked.load(SeqCst) >= 6, "{action}: asked {asked:?} times");
        assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{action}: {}", seen.console);
        assert!(seen.console.contains("leased by 10.0.0.1 for 120 s"), "{action}: {}", seen.console);
    }
}

#[test]
fn an_address_that_is_lost_stops_every_action_at_a_safe_point() {
    type Server = fn(usize, Ipv4Addr, &[u8]) -> Answers;
    let rows: [(&str, Duration, &str, Server); 5] = [
        ("refused", RENEWAL, "DHCPNAK by 10.0.0.1", |nth, _, request| {
            vec![answer(request, if nth == 0 { ACK } else { NAK }, mine(), 120)]
        }),
        ("another address", RENEWAL, "another address by 10.0.0.1: 10.0.0.77", |nth, _, request| {
            let address = if nth == 0 { mine() } else { Ipv4Addr::new(10, 0, 0, 77) };
            vec![answer(request, ACK, address, 120)]
        }),
        ("silence", END, "no DHCP server has renewed it", |_, _, _| Vec::new()),
        ("answers to somebody else", END, "no DHCP server has renewed it", |_, _, request| {
            let mut other = answer(request, NAK, mine(), 120);
            other[4] ^= 1;
            let mut of_another = answer(request, NAK, mine(), 120);
            of_another[33] ^= 1;
            vec![other, of_another]
        }),
        ("garbage", END, "no DHCP server has renewed it", |_, _, request| {
            let ack = answer(request, ACK, mine(), 120);
            vec![vec![0xff; 700], Vec::new(), ack[..200].to_vec(), request.to_vec()]
        }),
    ];
    for (action, op) in ACTIONS {
        for (what, time, why, server) in rows {
            let what = format!("{action}, {what}");
            let machine = armed(action, server);
            let before = sets(&machine);
            let seen = boot(&machine, op, |machine| {
                machine.system.advance(time);
                machine.wait_for_screen("the address is lost", 1);
                machine.wait_for_screen("stopping: this machine has lost its address", 1);
            });
            is_stopped(&machine, &seen, &before, &what);
            assert!(seen.console.contains(why), "{what}: {why:?} is not in {}", seen.console);
            if action == "restore" {
                assert!(machine.disk_bytes("sda")[..512].iter().all(|b| *b == 0), "{what}: it boots");
            }
        }
    }
}

/// Who renews may hang for ever, in a driver or behind a console: the end of the lease is seen all the same.
#[test]
fn a_thread_that_hangs_keeps_no_address() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let held = gate.clone();
    let machine = armed("backup", move |_, _, _| {
        let (open, changed) = &*held;
        let _open = changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap();
        Vec::new()
    });
    let seen = boot(&machine, DiskOp::Read, |machine| {
        machine.system.advance(END);
        machine.wait_for_screen("stopping: this machine has lost its address", 1);
    });
    is_stopped(&machine, &seen, "[]", "hang");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
}

/// Refused before anything was done: nothing is done.
#[test]
fn an_address_that_is_refused_at_the_start_costs_no_write() {
    let machine = armed("restore", |_, _, request| vec![answer(request, NAK, mine(), 120)]);
    machine.set_disks(vec![disk("sda S1 @1", vec![7; 2 << 20])]);
    let (system, wire) = (machine.system.clone(), machine.wire.clone().unwrap());
    // Time for the server of the lease to contradict; that one does not.
    let mut is_first = true;
    *machine.on_mount.lock().unwrap() = Some(Box::new(move |_| {
        if !std::mem::take(&mut is_first) {
            return;
        }
        wire.settle();
        system.advance(Duration::from_secs(6));
        wire.settle();
    }));
    let seen = machine.boot();
    assert_eq!((seen.ending, machine.status().code), (REBOOT, Some(24)), "{}", seen.console);
    assert_eq!(machine.disk_bytes("sda"), vec![7; 2 << 20]);
    assert!(machine.is_armed());
}

/// It begins again under the same address, with what it has.
#[test]
fn the_job_is_done_at_the_next_boot_with_the_address() {
    for (action, op) in ACTIONS {
        let machine = armed(action, |nth, _, request| {
            vec![answer(request, if nth == 1 { NAK } else { ACK }, mine(), 100_000)]
        });
        boot(&machine, op, |machine| {
            machine.system.advance(Duration::from_secs(50_000));
            machine.wait_for_screen("the address is lost", 1);
        });
        assert!(machine.is_armed(), "{action}");
        let mut machine = machine;
        machine.net_conf[0] = machine.net_conf[0].replace("'120'", "'1000000'");
        let again = machine.boot();
        assert_eq!((again.ending, machine.is_armed()), (REBOOT, false), "{action}: {}", again.console);
    }
}

/// The clock may leap, and servers may be silent: that is said, once, and not the end before the lease's.
#[test]
fn silence_is_said_once_and_so_is_its_end() {
    let machine = armed("backup", |nth, _, request| {
        let answers = nth == 0 || nth > 2;
        if answers { vec![answer(request, ACK, mine(), 120)] } else { Vec::new() }
    });
    let seen = boot(&machine, DiskOp::Read, |machine| {
        for _ in 0..50 {
            machine.wire.as_ref().unwrap().settle();
            machine.system.advance(Duration::from_secs(2));
        }
        machine.wait_for_screen("after silence", 1);
    });
    assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{}", seen.console);
    assert_eq!(seen.console.matches("no DHCP server answers").count(), 1, "{}", seen.console);
}

/// A fixed address is nobody's to take away, and a rescue's agent is gone before the lease ends.
#[test]
fn a_fixed_address_and_a_rescue_ask_nobody() {
    for (proto, action, ending) in [("none", "backup", REBOOT), ("dhcp", "rescue", Ending::RescueShell)] {
        let mut machine =
            armed(if action == "rescue" { "backup" } else { action }, |_, _, _| panic!("asked"));
        machine.net_conf[0] = machine.net_conf[0].replace("'dhcp'", &format!("'{proto}'"));
        machine.arm(&format!("testbox.action={action} testbox.job=two"));
        assert_eq!(machine.boot().ending, ending, "{action}");
    }
}
