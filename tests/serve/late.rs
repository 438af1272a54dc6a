//! Jobs that expire: the store refuses them by its own clock, whatever their agents do.

use super::{Agent, IP, Lab, PART, code, image};
use std::time::Duration;
use testbox::serve::jobs;
use testbox::store::protocol::{Code, Refusal, StoreCall};
use testbox::sys::System;

const HOUR: Duration = Duration::from_secs(3600);

impl Agent<'_> {
    /// Its job expires so long from now.
    fn expires_after(&self, time: Duration) {
        let mut job = jobs::find(&self.lab.files, &self.caller.token).unwrap().unwrap();
        job.expires = Some(self.lab.clock.now() + time);
        jobs::write(&self.lab.files, &self.caller.token, &job).unwrap();
    }

    fn tells(&self) -> Result<Vec<u8>, Refusal> {
        self.ask(&StoreCall::Replace(format!("{IP}/status.json").parse().unwrap()), b"{}")
    }
}

fn part() -> StoreCall {
    StoreCall::Create(PART.parse().unwrap())
}

#[test]
fn a_late_agent_may_say_so_and_be_disarmed_and_no_more() {
    for action in ["backup", "backup-again", "restore", "verify"] {
        let lab = Lab::new();
        lab.first_set();
        let agent = lab.armed("late", action);
        agent.expires_after(HOUR);
        lab.clock.advance(HOUR);
        agent.open().unwrap();
        let image = || format!("{IP}/sda.raw.gz").parse().unwrap();
        let own = if action.starts_with("backup") { part() } else { StoreCall::Prove(image()) };
        for call in [own, StoreCall::Prove(image())] {
            let refusal = agent.ask(&call, b"").unwrap_err();
            assert_eq!(refusal.kind.as_deref(), Some("expired"), "{action}: {call:?}: {refusal:?}");
            assert!(refusal.text.contains("the clock of this store says"), "{refusal:?}");
        }
        // As to every agent that needs no byte of a disk.
        assert_eq!(code(agent.ask(&StoreCall::Read(image(), None), b"")), Code::Forbidden, "{action}");
        agent.tells().unwrap();
        agent.ask(&StoreCall::Disarm, b"").unwrap();
        assert_eq!(lab.boot.get("pxelinux.cfg/0A000005"), None, "{action}");
        agent.ask(&StoreCall::Close, b"").unwrap();
    }
}

/// It goes on behind that time, also where the store was restarted meanwhile; its next boot is another one's.
#[test]
fn who_has_begun_in_time_ends_when_it_ends() {
    let mut lab = Lab::new();
    let (one, caller) = {
        let agent = lab.armed("slow", "backup");
        agent.expires_after(HOUR);
        agent.open().unwrap();
        agent.ask(&part(), b"").unwrap();
        (image(1), agent.caller.clone())
    };
    lab.clock.advance(HOUR);
    lab.restart();
    let agent = Agent { lab: &lab, caller: caller.clone() };
    agent.until("taking it up again", || match agent.tells() {
        Err(refusal) if refusal.code == Code::Busy => None,
        told => Some(told.unwrap()),
    });
    agent.back_up(&one).unwrap();
    lab.clock.advance(Duration::from_secs(60));
    let again = lab.agent(&caller.token, 9);
    again.open().unwrap();
    assert_eq!(again.ask(&part(), b"").unwrap_err().kind.as_deref(), Some("expired"));
}

/// What counts is when its turn comes.
#[test]
fn a_job_may_expire_in_the_line() {
    let lab = super::line::lab(1);
    let (at_work, waits) = (lab.machine(1, "backup"), lab.machine(2, "restore"));
    at_work.open().unwrap();
    waits.expires_after(HOUR);
    assert!(waits.ask_for_session().unwrap().is_in_line);
    for _ in 0..360 {
        lab.clock.advance(Duration::from_secs(10));
        waits.ask_for_session().unwrap();
    }
    at_work.ask(&StoreCall::Close, b"").unwrap();
    waits.open().unwrap();
    let call = StoreCall::Prove("10.0.0.2/sda.raw.gz".parse().unwrap());
    assert_eq!(waits.ask(&call, b"").unwrap_err().kind.as_deref(), Some("expired"));
}
