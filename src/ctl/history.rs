//! `history`: the jobs of machines over time, as the log of all machines tells them: when each was armed and by whom, when
//! it began, and what came out. That log is the one file that is read of it.

mod jobs;

use super::config::SettingsFile;
use super::images;
use super::log::tail;
use super::machine::MachineNames;
use super::news;
use super::output::Out;
use super::ownership::{self, Class};
use super::shares::{self, BackupFlag, ShareFolder};
use super::table::{self, minute};
use super::{Answer, Error};
use crate::share::Files;
use crate::store::layout::MAINTENANCE_LOG;
use crate::store::log::LoggedLine;
use crate::store::status::JobState;
use crate::text::human_time;
use jiff::Timestamp;
use jobs::JobHistory;
pub(super) use jobs::{JobResult, PastJob};
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// Bytes of the end of the log that are read: some hundred thousand jobs.
const LIMIT: u64 = 32 << 20;

const AFTER_HELP: &str = "\
Results: done; failed (the reason is in the next line; a machine that tries again is one job with several tries); cut (it has \
begun and never said how it ended); running; armed (it has not come); disarmed and replaced (before it came). BY and JOB are \
known of jobs that were armed where the backup share could be written.

Examples:
  testboxctl history tb1
  testboxctl history --last 3 rack3
  testboxctl history --json | jq '.[].jobs[] | select(.result == \"failed\")'";

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Machines [default: all]
    #[arg(value_name = "IP|HOST")]
    machines: Vec<String>,
    /// So many of the last jobs of each machine
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: usize,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    backup: BackupFlag,
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let names = MachineNames::load(&file)?;
    let settings = args.backup.or(file);
    let mut share = shares::need_backup_dir(&settings)?;
    share.files = share.files.listed();
    let mut history = read(&share)?;
    let wanted = match &args.machines[..] {
        [] => history.machines(),
        words => images::machines(&names, words, &share)?,
    };
    let all: Vec<(Ipv4Addr, Vec<PastJob>)> = wanted
        .into_iter()
        .map(|ip| {
            let jobs = last_of(&share, &mut history, ip, args.last);
            (ip, jobs)
        })
        .collect();
    let name = |ip: Ipv4Addr| names.list().iter().find(|known| known.address == ip).map(|known| &*known.name);
    if args.json {
        let one = |(ip, jobs): &(Ipv4Addr, Vec<PastJob>)| json!({ "ip": ip, "name": name(*ip), "jobs": jobs.iter().map(to_json).collect::<Vec<_>>() });
        out.json(&Value::Array(all.iter().map(one).collect()), false)?;
        return Ok(true);
    }
    for (number, (ip, jobs)) in all.iter().enumerate() {
        if number > 0 {
            out.line("")?;
        }
        let label = name(*ip).map_or_else(|| ip.to_string(), |name| format!("{ip} ({name})"));
        if jobs.is_empty() {
            out.line(format!("{label}: the log of all machines has no job of it"))?;
            continue;
        }
        out.line(format!("{label}:"))?;
        for line in text_of(jobs) {
            out.line(line)?;
        }
    }
    if all.is_empty() {
        out.line("the log of all machines has no job yet")?;
    }
    Ok(true)
}

fn read(share: &ShareFolder) -> Result<JobHistory, Error> {
    let text = tail(share, MAINTENANCE_LOG, LIMIT)?;
    Ok(JobHistory::of(text.lines().filter_map(LoggedLine::parse)))
}

fn last_of(share: &ShareFolder, history: &mut JobHistory, ip: Ipv4Addr, last: usize) -> Vec<PastJob> {
    let mut jobs = history.take(ip);
    settle(share, ip, &mut jobs);
    jobs.drain(..jobs.len().saturating_sub(last));
    jobs
}

/// The last jobs of one machine, the oldest first.
pub(super) fn of_machine(share: &ShareFolder, ip: Ipv4Addr, last: usize) -> Result<Vec<PastJob>, Error> {
    Ok(last_of(share, &mut read(share)?, ip, last))
}

/// Writes down that a machine was armed.
pub(super) fn note_armed(share: &ShareFolder, ip: Ipv4Addr, action: &str, job: &str, by: &str) {
    note(share, ip, &jobs::armed_text(action, job, by));
}

/// Writes down that a machine was disarmed.
pub(super) fn note_disarmed(share: &ShareFolder, ip: Ipv4Addr, by: &str) {
    note(share, ip, &jobs::disarmed_text(by));
}

/// Adds a line to the log of all machines. Where that cannot be written, the history knows less; nothing else is hurt.
fn note(share: &ShareFolder, ip: Ipv4Addr, text: &str) {
    let line = LoggedLine { at: Timestamp::now(), ip, level: "info", text };
    let is_new = !share.path.join(MAINTENANCE_LOG).exists();
    let noted = share.files.append(MAINTENANCE_LOG, format!("{line}\n").as_bytes());
    let noted = noted.map_err(|e| e.to_string()).and_then(|()| match is_new {
        true => {
            ownership::own(&share.path.join(MAINTENANCE_LOG), Class::BackupFile).map_err(|e| e.to_string())
        }
        false => Ok(()),
    });
    if let Err(e) = noted {
        log::debug!("{}: cannot note it there: {e}", share.path.join(MAINTENANCE_LOG).display());
    }
}

/// Only the machine's own status tells whether it is still at work; one that is not has been cut.
fn settle(share: &ShareFolder, ip: Ipv4Addr, jobs: &mut [PastJob]) {
    let Some(last) = jobs.last_mut().filter(|job| job.result == JobResult::Running) else { return };
    let news = news::status(&share.files, ip);
    let is_at_work = news.is_some_and(|status| {
        status.state == JobState::Running && news::age(&status, Timestamp::now()) <= news::STALE
    });
    if !is_at_work {
        last.result = JobResult::Cut;
    }
}

fn text_of(jobs: &[PastJob]) -> Vec<String> {
    let none = || "-".to_owned();
    let row = |job: &PastJob| {
        vec![
            format!("  {}", job.begin().map_or_else(none, minute)),
            job.action.clone(),
            job.result.word().to_owned(),
            job.took().map_or_else(none, human_time),
            if job.tries > 0 { job.tries.to_string() } else { none() },
            job.by.clone().unwrap_or_else(none),
        ]
    };
    let rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
    let head = ["  BEGAN", "ACTION", "RESULT", "TOOK", "TRY", "BY"];
    let mut table = table::lines(&head, &rows, &[3, 4]).into_iter();
    let mut lines: Vec<String> = table.next().into_iter().collect();
    for (job, line) in jobs.iter().zip(table) {
        lines.push(line);
        lines.extend(job.reason.iter().map(|reason| format!("      {reason}")));
    }
    lines
}

/// What `--json` prints of a job.
pub(super) fn to_json(job: &PastJob) -> Value {
    json!({
        "action": job.action,
        "job": job.job,
        "by": job.by,
        "armed": job.armed,
        "started": job.started,
        "ended": job.ended,
        "seconds": job.took().map(|took| took.as_secs()),
        "tries": job.tries,
        "result": job.result.word(),
        "reason": job.reason,
    })
}
