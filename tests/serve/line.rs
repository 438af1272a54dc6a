//! The line of a store: so many machines are at work, and the others wait.

use super::{Agent, Lab, code};
use std::time::Duration;
use testbox::serve::StoreRules;
use testbox::serve::retention::Keep;
use testbox::store::protocol::{Code, StoreCall};

pub fn lab(at_work: usize) -> Lab {
    Lab::with(StoreRules {
        keep: Keep { sets: 1, age: 0, ..Keep::default() },
        quota: 1 << 30,
        reserve: 0,
        at_work,
    })
}

/// What an agent is told that waits in line; nothing where it does not.
fn waits(agent: &Agent<'_>) -> Option<String> {
    let opened = agent.ask_for_session().unwrap();
    opened.waits_for.filter(|_| opened.is_in_line)
}

fn holds_lease(lab: &Lab, n: u8) -> bool {
    lab.files.tree().keys().any(|path| path.starts_with(&format!("10.0.0.{n}/lease/")))
}

#[test]
fn at_most_so_many_are_at_work_and_restores_come_first() {
    let lab = lab(2);
    let (a, b) = (lab.machine(1, "backup"), lab.machine(2, "verify"));
    a.open().unwrap();
    b.open().unwrap();
    let (c, d, e) = (lab.machine(3, "backup"), lab.machine(4, "backup"), lab.machine(5, "restore"));
    assert_eq!(waits(&c).unwrap(), "waits in line: 1st, behind nobody (2 of 2 machines are at work)");
    assert_eq!(waits(&d).unwrap(), "waits in line: 2nd, behind 1 other (2 of 2 machines are at work)");
    assert!(waits(&e).unwrap().contains("1st, behind nobody"));
    assert!(waits(&c).unwrap().contains("2nd, behind 1 other"));
    for n in [3, 4, 5] {
        assert!(!holds_lease(&lab, n), "nothing is held while one waits");
    }
    assert_eq!(code(e.ask(&StoreCall::Room, b"")), Code::Busy, "and nothing done");
    // It is short, and waits for nobody.
    lab.machine(6, "refresh-info").open().unwrap();
    a.ask(&StoreCall::Close, b"").unwrap();
    e.open().unwrap();
    assert!(waits(&c).unwrap().contains("1st, behind nobody"));
    assert!(lab.told("10.0.0.4 (job job-4, backup) waits in line: 2nd"));
}

#[test]
fn who_falls_silent_in_line_leaves_it() {
    let lab = lab(1);
    let (a, gone, c) = (lab.machine(1, "backup"), lab.machine(2, "restore"), lab.machine(3, "backup"));
    a.open().unwrap();
    waits(&gone).unwrap();
    assert!(waits(&c).unwrap().contains("2nd"));
    for _ in 0..4 {
        lab.clock.advance(Duration::from_secs(10));
        a.ask(&StoreCall::Beat, b"").unwrap();
        waits(&c).unwrap();
        lab.store.tend();
    }
    assert!(waits(&c).unwrap().contains("1st"));
    assert!(lab.told("10.0.0.2: the agent of job job-2 is silent for 30 s: it leaves the line"));
    // The one at work, too, but later.
    lab.clock.advance(Duration::from_secs(100));
    waits(&c).unwrap();
    lab.clock.advance(Duration::from_secs(25));
    waits(&c).unwrap();
    lab.store.tend();
    c.open().unwrap();
}

/// Whose lease somebody else holds ends, and the next one comes.
#[test]
fn who_gets_no_lease_keeps_no_place() {
    let lab = lab(1);
    let (a, b) = (lab.machine(1, "backup"), lab.machine(2, "backup"));
    lab.files.put("10.0.0.1/lease", "a file where leases should be");
    assert!(a.open().is_err());
    b.open().unwrap();
}

/// Machines at work go on after a restart of the server, and nobody gets their places meanwhile.
#[test]
fn a_restart_gives_no_place_of_a_machine_at_work_away() {
    let mut lab = lab(1);
    lab.machine(1, "backup").open().unwrap();
    waits(&lab.machine(2, "restore")).unwrap();
    lab.restart();
    let (a, b) = (lab.machine(1, "backup"), lab.machine(2, "restore"));
    assert!(waits(&b).unwrap().contains("1 of 1"));
    assert_eq!(code(b.ask(&StoreCall::Room, b"")), Code::Busy);
    a.until("going on", || a.ask(&StoreCall::Room, b"").ok());
    assert!(waits(&b).is_some());
    a.ask(&StoreCall::Close, b"").unwrap();
    b.open().unwrap();
    b.ask(&StoreCall::Close, b"").unwrap();
    // One that does not come back keeps its place for two minutes.
    lab.machine(3, "backup").open().unwrap();
    lab.restart();
    let d = lab.machine(4, "backup");
    assert!(waits(&d).is_some());
    for _ in 0..13 {
        lab.clock.advance(Duration::from_secs(10));
        waits(&d);
        lab.store.tend();
    }
    d.open().unwrap();
}

/// A machine that is armed again and again, or boots again, has one place in line.
#[test]
fn one_token_has_one_place() {
    let lab = lab(1);
    lab.machine(1, "backup").open().unwrap();
    for n in 1..=20u8 {
        let mut again = lab.machine(2, "restore");
        again.caller.session = format!("{n:032x}");
        assert!(waits(&again).unwrap().contains("1st"));
        lab.clock.advance(Duration::from_secs(31));
        waits(&lab.machine(1, "backup"));
    }
}
