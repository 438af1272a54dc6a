//! Jobs out of the lines of the log of all machines. Pure.
//!
//! `arm` and `disarm` write a line there ([`armed_text`], [`disarmed_text`]), and the agent one when a job begins, when it is
//! done, and when it fails. Each machine is a row of its own; a line that fits nowhere is left out.

use crate::store::log::LoggedLine;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// What `arm` writes.
pub(in super::super) fn armed_text(action: &str, job: &str, by: &str) -> String {
    format!("armed: {action}, job {job}, by {by}")
}

/// What `disarm` writes.
pub(in super::super) fn disarmed_text(by: &str) -> String {
    format!("disarmed by {by}")
}

/// What a line says of a job.
#[derive(Debug, PartialEq, Eq)]
enum JobLine<'a> {
    Armed { action: &'a str, job: &'a str, by: &'a str },
    Disarmed,
    Started { action: &'a str },
    Done { action: &'a str },
    Failed { reason: &'a str },
}

impl<'a> JobLine<'a> {
    fn of(line: &LoggedLine<'a>) -> Option<JobLine<'a>> {
        let text = line.text;
        if line.level == "error" {
            return Some(JobLine::Failed { reason: text });
        }
        if let Some(rest) = text.strip_prefix("armed: ") {
            let (action, rest) = rest.split_once(", job ")?;
            let (job, by) = rest.split_once(", by ")?;
            return Some(JobLine::Armed { action, job, by });
        }
        if text.starts_with("disarmed by ") {
            return Some(JobLine::Disarmed);
        }
        if let Some(rest) = text.strip_prefix("started: ") {
            return rest.rsplit_once(", action ").map(|(_, action)| JobLine::Started { action });
        }
        let done = text
            .strip_suffix(": done")
            .or_else(|| text.strip_suffix(": this job is done already; disarming"));
        done.filter(|action| !action.contains(' ')).map(|action| JobLine::Done { action })
    }
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum JobResult {
    Armed,
    Disarmed,
    Replaced,
    Running,
    Cut,
    Done,
    Failed,
}

impl JobResult {
    pub fn word(self) -> &'static str {
        match self {
            JobResult::Armed => "armed",
            JobResult::Disarmed => "disarmed",
            JobResult::Replaced => "replaced",
            JobResult::Running => "running",
            JobResult::Cut => "cut",
            JobResult::Done => "done",
            JobResult::Failed => "failed",
        }
    }
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct PastJob {
    pub action: String,
    pub job: Option<String>,
    pub by: Option<String>,
    pub armed: Option<Timestamp>,
    /// When its first try began.
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// Boots that have begun it.
    pub tries: u32,
    pub result: JobResult,
    /// Why the last try has failed.
    pub reason: Option<String>,
    /// Another try would be of this job.
    is_open: bool,
}

impl PastJob {
    fn new(action: &str) -> PastJob {
        PastJob {
            action: action.to_owned(),
            job: None,
            by: None,
            armed: None,
            started: None,
            ended: None,
            tries: 0,
            result: JobResult::Armed,
            reason: None,
            is_open: true,
        }
    }

    /// When it began, or else when it was armed.
    pub fn begin(&self) -> Option<Timestamp> {
        self.started.or(self.armed)
    }

    /// From its begin to its end; none where a clock was set in between.
    pub fn took(&self) -> Option<Duration> {
        Duration::try_from(self.ended?.duration_since(self.started?)).ok()
    }
}

/// The jobs of all machines, each the oldest first.
#[derive(Debug, Default)]
pub(super) struct JobHistory(BTreeMap<Ipv4Addr, Vec<PastJob>>);

impl JobHistory {
    /// Reads the lines, the oldest first.
    pub fn of<'a>(lines: impl Iterator<Item = LoggedLine<'a>>) -> JobHistory {
        let mut history = JobHistory::default();
        for line in lines {
            if let Some(what) = JobLine::of(&line) {
                add(history.0.entry(line.ip).or_default(), line.at, &what);
            }
        }
        history
    }

    /// The machines that have had a job.
    pub fn machines(&self) -> Vec<Ipv4Addr> {
        self.0.iter().filter(|(_, jobs)| !jobs.is_empty()).map(|(ip, _)| *ip).collect()
    }

    /// The jobs of one.
    pub fn take(&mut self, ip: Ipv4Addr) -> Vec<PastJob> {
        self.0.remove(&ip).unwrap_or_default()
    }
}

fn add(jobs: &mut Vec<PastJob>, at: Timestamp, what: &JobLine<'_>) {
    match what {
        JobLine::Armed { action, job, by } => {
            close(jobs, JobResult::Replaced);
            let (job, by) = (Some((*job).to_owned()), Some((*by).to_owned()));
            jobs.push(PastJob { job, by, armed: Some(at), ..PastJob::new(action) });
        }
        JobLine::Disarmed => close(jobs, JobResult::Disarmed),
        JobLine::Started { action } => {
            if jobs.last().is_none_or(|job| !job.is_open || job.action != *action) {
                close(jobs, JobResult::Replaced);
                jobs.push(PastJob::new(action));
            }
            let Some(job) = jobs.last_mut() else { return };
            job.started.get_or_insert(at);
            job.tries = job.tries.saturating_add(1);
            (job.result, job.ended) = (JobResult::Running, None);
        }
        JobLine::Done { action } => {
            let Some(job) = jobs.last_mut().filter(|job| job.action == *action && job.tries > 0) else {
                return;
            };
            (job.result, job.ended, job.reason, job.is_open) = (JobResult::Done, Some(at), None, false);
        }
        JobLine::Failed { reason } => {
            // What comes behind the end is a job of which only that was said.
            let Some(job) = jobs.last_mut().filter(|job| job.is_open) else { return };
            (job.result, job.ended, job.reason) = (JobResult::Failed, Some(at), Some((*reason).to_owned()));
        }
    }
}

/// No further try is of the last job; `result` is what became of one that never came.
fn close(jobs: &mut [PastJob], result: JobResult) {
    let Some(job) = jobs.last_mut() else { return };
    if job.is_open {
        job.is_open = false;
        job.result = match job.result {
            JobResult::Armed => result,
            // The machine is elsewhere by now.
            JobResult::Running if result == JobResult::Replaced => JobResult::Cut,
            other => other,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn history(texts: &[&str]) -> Vec<PastJob> {
        let lines: Vec<String> = texts
            .iter()
            .enumerate()
            .map(|(n, text)| {
                let (level, text) = text.strip_prefix('!').map_or(("info", *text), |text| ("error", text));
                format!("2026-01-01T00:{n:02}:00+00:00: 10.0.0.1: {level}: {text}")
            })
            .collect();
        JobHistory::of(lines.iter().filter_map(|line| LoggedLine::parse(line)))
            .take(Ipv4Addr::new(10, 0, 0, 1))
    }

    fn results(texts: &[&str]) -> Vec<(String, &'static str, u32)> {
        history(texts).iter().map(|job| (job.action.clone(), job.result.word(), job.tries)).collect()
    }

    fn row(action: &str, result: &'static str, tries: u32) -> (String, &'static str, u32) {
        (action.to_owned(), result, tries)
    }

    #[test]
    fn a_job_is_told_from_its_arming_to_its_end() {
        let armed = armed_text("restore", "j1", "alice (uid 1000)");
        let jobs = history(&[
            &armed,
            "started: tb1 (0A000001), action restore",
            "!sda: gone [disk-open 20]",
            "started: tb1 (0A000001), action restore",
            "restore: done",
        ]);
        let [job] = &jobs[..] else { panic!("{jobs:?}") };
        assert_eq!((job.job.as_deref(), job.by.as_deref()), (Some("j1"), Some("alice (uid 1000)")));
        assert_eq!((job.result, job.tries, &job.reason), (JobResult::Done, 2, &None));
        assert_eq!(job.took(), Some(Duration::from_secs(180)));
    }

    #[test]
    fn each_end_of_a_job_has_its_word() {
        let armed = |action| armed_text(action, "j", "bob");
        let started = |action: &str| format!("started: tb1 (0A000001), action {action}");
        let of = |texts: &[String]| results(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(of(&[armed("backup")]), [row("backup", "armed", 0)]);
        assert_eq!(of(&[armed("backup"), disarmed_text("bob")]), [row("backup", "disarmed", 0)]);
        assert_eq!(
            of(&[armed("backup"), armed("verify"), started("verify")]),
            [row("backup", "replaced", 0), row("verify", "running", 1)]
        );
        assert_eq!(
            of(&[started("backup"), started("restore"), "!no".into(), disarmed_text("bob")]),
            [row("backup", "cut", 1), row("restore", "failed", 1)]
        );
        // Armed by hand, again and again: each is a job of its own once the one before is done.
        assert_eq!(
            of(&[started("verify"), "verify: done".into(), started("verify"), "verify: done".into()]),
            [row("verify", "done", 1), row("verify", "done", 1)]
        );
        // A failure behind the end of a job is not of it.
        assert_eq!(of(&[started("verify"), "verify: done".into(), "!no".into()]), [row("verify", "done", 1)]);
        assert_eq!(of(&["sets: done".into(), "!no".into(), disarmed_text("bob")]), []);
    }

    proptest! {
        /// Whatever machines write there: no panic, and no job that has both ended and never begun as done.
        #[test]
        fn any_order_of_lines_gives_jobs(order in proptest::collection::vec(0..6usize, 0..40)) {
            let texts = [
                armed_text("backup", "j", "x"), disarmed_text("x"), "started: a (b), action backup".into(),
                "started: a (b), action restore".into(), "backup: done".into(), "!failed".into(),
            ];
            let picked: Vec<&str> = order.iter().map(|n| texts[*n].as_str()).collect();
            for job in history(&picked) {
                prop_assert!(job.result != JobResult::Done || job.tries > 0 && job.ended.is_some());
                prop_assert!(job.result != JobResult::Failed || job.reason.is_some());
            }
        }
    }
}
