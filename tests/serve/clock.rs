//! A store whose clock is wrong, or is set while it works; and machines that are armed again and again.

use super::{Lab, code, image};
use std::time::Duration;
use testbox::serve::StoreRules;
use testbox::serve::retention::Keep;
use testbox::share::Files;
use testbox::store::protocol::{Code, StoreCall};

const DAY: i64 = 86_400;

fn lab(sets: u32, days: u64) -> Lab {
    Lab::with(StoreRules {
        keep: Keep { sets, age: days * DAY as u64, ..Keep::default() },
        quota: 1 << 30,
        reserve: 0,
        at_work: 8,
    })
}

/// The machine is armed once more, and makes a set.
fn one_more_set(lab: &Lab, n: u64) {
    let agent = lab.at_work(&format!("again-{n}"), "backup-again");
    agent.back_up(&image(100 + n)).unwrap();
    agent.ask(&StoreCall::Disarm, b"").unwrap();
    agent.ask(&StoreCall::Close, b"").unwrap();
}

fn generations(lab: &Lab) -> Vec<String> {
    lab.files.list("10.0.0.5/history").unwrap()
}

/// However often a machine is armed: on one day it pushes out nothing, and on as many days as count only what is old enough.
#[test]
fn a_machine_armed_again_and_again_pushes_out_by_days() {
    let lab = lab(2, 7);
    lab.first_set();
    lab.clock.advance(Duration::from_secs(30 * DAY as u64));
    (0..6).for_each(|n| one_more_set(&lab, n));
    assert_eq!(generations(&lab), ["1", "2", "3", "4", "5", "6"], "all of one day");
    lab.clock.advance(Duration::from_secs(DAY as u64));
    (6..9).for_each(|n| one_more_set(&lab, n));
    // Two days beside it now, and it is older than a week; those of yesterday are not.
    assert_eq!(generations(&lab), ["2", "3", "4", "5", "6", "7", "8", "9"]);
}

/// A clock that is set forward makes no set old, and one that is set back neither.
#[test]
fn a_clock_that_is_set_removes_no_young_set() {
    let mut lab = lab(0, 7);
    lab.first_set();
    one_more_set(&lab, 1);
    lab.clock.set_date(4_102_444_800);
    one_more_set(&lab, 2);
    assert_eq!(generations(&lab), ["1", "2"]);
    assert!(lab.told("the clock was set forward by"));
    lab.clock.set_date(0);
    one_more_set(&lab, 3);
    assert_eq!(generations(&lab), ["1", "2", "3"], "sets of a time to come are young");
    // A server that starts with a wrong clock takes it for right, and the last good set stays even then.
    lab.clock.set_date(4_102_444_800 + 30 * DAY);
    lab.restart();
    one_more_set(&lab, 4);
    assert!(lab.files.get("10.0.0.5/backup.json").is_some());
}

/// Sessions, leases, proofs and the sweep of jobs rest on the time that passes, and not on the date.
#[test]
fn a_clock_that_is_set_ends_no_session_and_no_job() {
    let lab = lab(3, 7);
    // Armed, and not booted yet.
    lab.machine(7, "restore");
    let agent = lab.at_work("one", "backup");
    let image = image(1);
    agent.write(&image).unwrap();
    for date in [4_102_444_800, 0, 1_700_000_000] {
        lab.clock.set_date(date);
        lab.clock.advance(Duration::from_secs(20));
        lab.store.tend();
        agent.ask(&StoreCall::Beat, b"").unwrap();
        let mut thief = lab.agent(&agent.caller.token, 9);
        thief.caller.peer = [10, 0, 0, 66].into();
        assert_eq!(code(thief.open()), Code::Bound);
    }
    agent.prove("10.0.0.5/sda.raw.gz.part").unwrap();
    agent.publish(&image).unwrap();
    assert!(lab.files.get("10.0.0.5/backup.json").is_some());
    lab.machine(7, "restore").open().unwrap();
}
