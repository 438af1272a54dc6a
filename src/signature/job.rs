//! What of a job is signed.

use crate::action::Action;
use crate::cmdline::Options;
use crate::words::JobId;
use std::net::Ipv4Addr;

/// The text whose signature makes a job a signed one: action, machine, job id, and every testbox word that is in force,
/// each on a line of its own. The words come in one order and one spelling, those of [`Options::words`].
///
/// All words are bound, and not only those that choose a disk: that is easy to say and leaves nothing to find.
pub fn job_text(machine: Ipv4Addr, action: Action, job: &JobId, options: &Options) -> String {
    let head = [
        "testbox-job-v1".into(),
        format!("machine {machine}"),
        format!("action {action}"),
        format!("job {job}"),
    ];
    head.into_iter().chain(options.words()).map(|line| line + "\n").collect()
}
