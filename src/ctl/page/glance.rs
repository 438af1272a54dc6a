//! The lab at a glance: what is in trouble, what works, what was armed and has not come, and all others.

use super::super::news::{Urgency, age};
use super::super::{status, table};
use super::frame::{ago, badge};
use super::look::{LabMachine, LabSeen, shown};
use crate::store::status::Status;
use crate::text::{human_bytes, human_time};
use jiff::Timestamp;
use maud::{Markup, html};
use std::time::Duration;

/// The groups that an admin sees, with their headings.
const GROUPS: [(Urgency, &str); 4] = [
    (Urgency::Trouble, "Needs somebody"),
    (Urgency::Working, "Working"),
    (Urgency::Armed, "Armed, not come yet"),
    (Urgency::Quiet, "Quiet"),
];

/// The states in the order in which they matter.
pub(super) const STATES: [&str; 8] =
    ["failed", "holding", "stale", "expired", "running", "armed", "done", "-"];

/// How many machines have each state.
pub(super) fn counts(lab: &LabSeen) -> Vec<(&'static str, usize)> {
    let states: Vec<&str> = lab.machines.iter().map(|machine| status::state(&machine.news, lab.at)).collect();
    STATES.map(|state| (state, states.iter().filter(|one| **one == state).count())).to_vec()
}

/// How urgent a machine is; one of which nothing is known yet is nobody's trouble here.
fn urgency(machine: &LabMachine, now: Timestamp) -> Urgency {
    if machine.news.is_known { machine.news.urgency(now) } else { Urgency::Quiet }
}

/// The part that changes.
pub(super) fn live(lab: &LabSeen, is_admin: bool) -> Markup {
    let counts = counts(lab).into_iter().filter(|(_, count)| *count > 0);
    html! {
        p.counts {
            @for (state, count) in counts { span { b { (count) } " " (badge(state)) } }
        }
        @if lab.machines.is_empty() {
            p.note { "No machine has a folder on the backup share yet. Arm one: " code { "testboxctl arm IP backup" } }
        } @else if is_admin {
            @for (group, title) in GROUPS { (section(lab, group, title)) }
        } @else {
            (names(lab))
        }
    }
}

/// What everybody sees: names and states.
fn names(lab: &LabSeen) -> Markup {
    let rank = |machine: &&LabMachine| {
        let state = status::state(&machine.news, lab.at);
        STATES.iter().position(|one| *one == state)
    };
    let mut machines: Vec<&LabMachine> = lab.machines.iter().collect();
    machines.sort_by_key(rank);
    html! {
        ul.grid {
            @for machine in machines {
                li {
                    span.name { (machine.label()) } (badge(status::state(&machine.news, lab.at)))
                }
            }
        }
    }
}

fn section(lab: &LabSeen, group: Urgency, title: &str) -> Markup {
    let now = lab.at;
    let machines: Vec<&LabMachine> =
        lab.machines.iter().filter(|machine| urgency(machine, now) == group).collect();
    html! {
        @if !machines.is_empty() {
            section {
                h2 { (title) " " span.count { (machines.len()) } }
                @if group == Urgency::Quiet {
                    ul.grid { @for machine in machines { (cell(machine, now)) } }
                } @else {
                    ul.rows { @for machine in machines { (row(machine, now)) } }
                }
            }
        }
    }
}

fn link(machine: &LabMachine) -> Markup {
    html! { a.name href={ "/machines/" (machine.news.ip) } { (machine.label()) } }
}

fn cell(machine: &LabMachine, now: Timestamp) -> Markup {
    let news = &machine.news;
    html! {
        li {
            (link(machine)) (badge(status::state(news, now)))
            @if let Some(status) = &news.status { span.dim { (table::short(age(status, now))) } }
        }
    }
}

fn row(machine: &LabMachine, now: Timestamp) -> Markup {
    let news = &machine.news;
    html! {
        li.(format!("is-{}", status::state(news, now))) {
            div.head {
                (link(machine)) (badge(status::state(news, now)))
                @if machine.label() != news.ip.to_string() { span.dim.ip { (news.ip) } }
            }
            (doing(machine, now))
        }
    }
}

/// What a machine does, or why it does not.
pub(super) fn doing(machine: &LabMachine, now: Timestamp) -> Markup {
    let news = &machine.news;
    let not_come = news.not_come();
    let status = news.status.as_ref();
    html! {
        @if let Some(armed) = not_come {
            p {
                "Armed with " b { (shown(armed.action.as_deref().unwrap_or("something wrong"), 40)) }
                @if let Some(since) = armed.since { " " (ago(since, now)) }
                @if let Some(by) = &armed.by { " by " (shown(by, 60)) }
                @match news.expired(now) {
                    Some(at) => { "; it never came, and expired " (ago(at, now)) },
                    None => "; it has not come yet",
                } "."
            }
            @for problem in &armed.problems { p.reason { (shown(problem, 300)) } }
        } @else if let Some(status) = status {
            p {
                b { (shown(&status.action, 40)) }
                @if status.attempt > 1 { ", attempt " (status.attempt) }
                span.dim { ", " (ago(status.updated, now)) }
            }
        }
        @if let Some(status) = status {
            @if not_come.is_none() && status.state == crate::store::status::JobState::Running {
                (progress(status, &machine.label()))
            }
            @if let Some(error) = &status.error {
                p.reason {
                    @if not_come.is_some() { "Before that: " }
                    (shown(error, 600))
                    @if let Some(code) = status.code { span.dim { " (code " (code) ")" } }
                }
            }
            @for note in status.notes.iter().take(8) { p.dim { (shown(note, 300)) } }
        }
        @for what in news.damaged.iter().take(8) { p.reason { "Damaged: " (shown(what, 300)) } }
        @for what in news.problems.iter().take(8) { p.reason { "Problem: " (shown(what, 300)) } }
    }
}

fn progress(status: &Status, label: &str) -> Markup {
    let disk = status.disk.as_ref().map(|disk| format!("{}: ", shown(disk, 20))).unwrap_or_default();
    let eta = status.eta.map(|seconds| human_time(Duration::from_secs(seconds.min(359_999))));
    html! {
        div.work {
            span.step { (disk) (shown(&status.step, 120)) }
            @match super::super::status::percent(status) {
                Some(percent) => {
                    progress max="100" value=(percent) aria-label={ "Progress of " (label) } {}
                    span.figures {
                        b { (percent) " %" }
                        " of " (human_bytes(status.bytes_total))
                        @if status.rate > 0 { " · " (status.rate / 1_000_000) " MB/s" }
                        @if let Some(eta) = eta { " · " (eta) " left" }
                    }
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{armed::Armed, news::StatusNews};
    use super::*;
    use crate::store::status::JobState;
    use std::net::Ipv4Addr;

    fn machine(n: u16, state: JobState) -> LabMachine {
        let at = Timestamp::UNIX_EPOCH;
        let status = Status {
            state,
            action: "backup-again".into(),
            job: Some("j1".into()),
            ip: "10.0.0.1".into(),
            hostname: format!("rack12-node{n}"),
            step: "image".into(),
            disk: Some("sda".into()),
            bytes_done: 410,
            bytes_total: 1000,
            rate: 512_000_000,
            eta: Some(90),
            attempt: 1,
            error: (state == JobState::Failed).then(|| "the disk is gone".into()),
            code: None,
            stages: Vec::new(),
            notes: Vec::new(),
            started: at,
            updated: at,
            version: String::new(),
        };
        let ip = Ipv4Addr::from(0x0A00_0000 + u32::from(n));
        let (status, record, lease, armed) = (Some(status), None, None, Armed::No);
        let (damaged, problems) = (Vec::new(), Vec::new());
        let news = StatusNews { ip, is_known: true, status, record, lease, armed, damaged, problems };
        LabMachine { news, name: None }
    }

    /// What a phone on a slow line loads.
    #[test]
    fn a_lab_of_1000_machines_is_a_small_page() {
        let mut machines: Vec<LabMachine> = (0..1000).map(|n| machine(n, JobState::Done)).collect();
        machines[7] = machine(7, JobState::Failed);
        machines[12] = machine(12, JobState::Running);
        let lab = LabSeen { at: Timestamp::UNIX_EPOCH, machines };
        let text = live(&lab, true).into_string();
        assert!(text.len() < 160_000, "{} bytes", text.len());
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("lacks {part}"));
        assert!(at("the disk is gone") < at("<progress") && at("<progress") < at("rack12-node99"));
        let names = live(&lab, false).into_string();
        assert!(names.contains("rack12-node7") && !names.contains("gone") && !names.contains("backup"));
    }
}
