//! `wait`: until jobs have ended, for schedulers of tests.

use super::armed;
use super::config::SettingsFile;
use super::news::{NewsFlags, Newsroom, StatusNews};
use super::output::{Out, say};
use super::{Answer, Error};
use crate::serve::jobs;
use crate::store::status::JobState;
use crate::text::human_time;
use crate::types::JobId;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long a machine that is back may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 failed, and it does not try again; 3 it holds: it waits for a human; 4 the time is over while the \
machine is at work or not back yet; 5 the time is over, or the job has expired, and the machine never came; 6 the job is gone: disarmed, or armed \
anew. Of several jobs, the highest.

Examples:
  testboxctl wait --job 20171017T142602-0123456789abcdef --timeout 3600 --until ssh
  testboxctl arm --wait --timeout 3600 10.42.1.20 restore
        both in one; what has failed is said on standard error, in the machine's own words";

/// How long, and until what.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct WaitFlags {
    /// Seconds to wait at most; time in the store's line does not count [default: for ever]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// What shows that a machine whose job is done is back: tcp:PORT takes a connection, ssh says its greeting
    #[arg(long, value_name = "tcp:PORT|ssh")]
    until: Option<Until>,
}

impl WaitFlags {
    /// The same as words.
    pub fn words(&self) -> Vec<String> {
        let timeout = self.timeout.map(|seconds| ["--timeout".to_owned(), seconds.to_string()]);
        let until = self.until.map(|until| ["--until".to_owned(), until.to_string()]);
        timeout.into_iter().chain(until).flatten().collect()
    }
}

/// Arguments of `wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Id of a job, as 'arm' prints it; may be repeated
    #[arg(long = "job", value_name = "ID", required = true)]
    jobs: Vec<JobId>,
    #[command(flatten)]
    flags: WaitFlags,
    /// For programs: what became of each job
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    folders: NewsFlags,
}

/// What shows that a machine is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Tcp(u16),
    Ssh,
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Until::Tcp(port) => write!(f, "tcp:{port}"),
            Until::Ssh => f.write_str("ssh"),
        }
    }
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = text.strip_prefix("tcp:").and_then(|port| port.parse().ok()).filter(|port| *port != 0);
        match (text, port) {
            ("ssh", _) => Ok(Until::Ssh),
            (_, Some(port)) => Ok(Until::Tcp(port)),
            _ => Err("wanted tcp:PORT, as tcp:22, or ssh".into()),
        }
    }
}

impl Until {
    /// Whether the machine is back.
    fn is_back(self, ip: Ipv4Addr) -> bool {
        let port = match self {
            Until::Tcp(port) => port,
            Until::Ssh => 22,
        };
        let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::from((ip, port)), ANSWER) else {
            return false;
        };
        let mut greeting = [0; 4];
        self != Until::Ssh
            || stream.set_read_timeout(Some(ANSWER)).and_then(|()| stream.read_exact(&mut greeting)).is_ok()
                && greeting == *b"SSH-"
    }
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum JobStage {
    /// The machine has not begun it.
    NotCome,
    /// It is at work, or between two attempts; in words where one has failed.
    AtWork(Option<String>),
    /// It is done and disarmed.
    Done,
    /// It has failed, and the machine is disarmed: nothing tries again.
    Failed(String),
    /// It waits for a human.
    Holding(String),
    /// Neither is the machine armed with it, nor has it begun it last.
    Gone,
}

/// Reads the stage from what is known of the machine.
fn stage(job: &str, news: &StatusNews) -> JobStage {
    let is_armed = news.armed.job().is_some_and(|armed| armed.job.as_deref() == Some(job));
    let own = news.status.as_ref().filter(|status| status.job.as_deref() == Some(job));
    let Some(status) = own else {
        return if is_armed { JobStage::NotCome } else { JobStage::Gone };
    };
    let why = || status.error.clone().unwrap_or_else(|| "it does not say why".into());
    match status.state {
        // Done is written before the machine is disarmed.
        JobState::Done if is_armed => JobStage::AtWork(None),
        JobState::Done => JobStage::Done,
        JobState::Running => JobStage::AtWork(None),
        JobState::Failed if is_armed => {
            JobStage::AtWork(Some(format!("attempt {} failed, it tries again: {}", status.attempt, why())))
        }
        JobState::Failed => JobStage::Failed(why()),
        JobState::Holding => JobStage::Holding(why()),
    }
}

/// How waiting for a job has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct JobEnd {
    word: &'static str,
    code: u8,
    why: Option<String>,
}

impl JobEnd {
    fn new(word: &'static str, code: u8, why: impl Into<Option<String>>) -> JobEnd {
        JobEnd { word, code, why: why.into() }
    }
}

/// A job that is waited for.
struct Waited {
    job: String,
    ip: Ipv4Addr,
    /// When the time is over.
    left: Option<Duration>,
    /// What was said of it last.
    said: Option<String>,
    is_done: bool,
    outcome: Option<JobEnd>,
}

impl Waited {
    /// Takes a look, `passed` after the last one.
    fn look(&mut self, room: &Newsroom, until: Option<Until>, passed: Duration) {
        let news = room.of(self.ip);
        let stage = if self.is_done { JobStage::Done } else { stage(&self.job, &news) };
        let expired = news.expired(Timestamp::now());
        let is_in_line = stage == JobStage::NotCome && jobs::is_in_line(&room.backup.files, &self.job);
        if let Some(left) = self.left.as_mut().filter(|_| !is_in_line) {
            *left = left.saturating_sub(passed);
        }
        let ended = |word, code, why: String| Some(JobEnd::new(word, code, why));
        self.outcome = match &stage {
            JobStage::Done if until.is_none_or(|until| until.is_back(self.ip)) => {
                Some(JobEnd::new("done", 0, None))
            }
            JobStage::Failed(why) => ended("failed", 1, why.clone()),
            JobStage::Holding(why) => ended("holding", 3, why.clone()),
            JobStage::Gone => ended("gone", 6, "it was disarmed or armed anew before it came".into()),
            // Not before its turn in the line: then the machine says so itself.
            JobStage::NotCome if !is_in_line && expired.is_some() => {
                let at = expired.map(armed::minute).map(|at| at.to_string()).unwrap_or_default();
                ended("never-came", 5, format!("it expired at {at}, and the machine never came"))
            }
            JobStage::NotCome if self.is_over() => {
                ended("never-came", 5, "it is armed, and the machine never came: was it rebooted?".into())
            }
            JobStage::Done if self.is_over() => {
                ended("timed-out", 4, "it is done, but the machine is not back".into())
            }
            JobStage::AtWork(_) if self.is_over() => ended("timed-out", 4, at_work(&news)),
            _ => None,
        };
        self.is_done = stage == JobStage::Done;
        if self.outcome.is_none() {
            self.tell(match stage {
                JobStage::NotCome if is_in_line => "it waits in the store's line".into(),
                JobStage::NotCome => "armed; it has not come yet".into(),
                JobStage::AtWork(Some(failed)) => failed,
                JobStage::AtWork(None) => "at work".into(),
                _ => "done; it is not back yet".into(),
            });
        }
    }

    fn is_over(&self) -> bool {
        self.left == Some(Duration::ZERO)
    }

    /// Says what is new.
    fn tell(&mut self, text: String) {
        if self.said.as_ref() != Some(&text) {
            say(&format!("{}: {text}", self.ip));
            self.said = Some(text);
        }
    }

    fn json(&self) -> Value {
        let outcome = self.outcome.as_ref();
        json!({
            "ip": self.ip,
            "job": self.job,
            "result": outcome.map(|outcome| outcome.word),
            "code": outcome.map(|outcome| outcome.code),
            "why": outcome.and_then(|outcome| outcome.why.clone()),
        })
    }
}

fn at_work(news: &StatusNews) -> String {
    match &news.status {
        Some(status) => format!("it is still at work: {}", status.step),
        None => "it is still at work".into(),
    }
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let room = Newsroom::open(&args.folders.or(file))?;
    if room.cfg.is_none() {
        return Err(Error::usage("where are machines armed? Give --tftp-dir, or PXELINUX's folder with -c"));
    }
    let jobs: Result<Vec<(JobId, Ipv4Addr)>, Error> =
        args.jobs.into_iter().map(|job| machine_of(&room, job.as_str()).map(|ip| (job, ip))).collect();
    wait(&room, &jobs?, &args.flags, args.json, out)
}

/// The machine that is armed with a job, or has begun it last.
fn machine_of(room: &Newsroom, job: &str) -> Result<Ipv4Addr, Error> {
    for ip in room.armed()?.into_iter().chain(room.with_folder()?) {
        if stage(job, &room.of(ip)) != JobStage::Gone {
            return Ok(ip);
        }
    }
    Err(Error::usage(format!(
        "no machine is armed with job {job}, and none has begun it last: 'testboxctl status' shows the jobs"
    )))
}

/// Waits until each of these jobs has ended.
pub(super) fn wait(
    room: &Newsroom,
    jobs: &[(JobId, Ipv4Addr)],
    flags: &WaitFlags,
    is_json: bool,
    out: &mut Out,
) -> Answer {
    let began = Instant::now();
    let left = flags.timeout.map(Duration::from_secs);
    let waited = |(job, ip): &(JobId, Ipv4Addr)| Waited {
        job: job.to_string(),
        ip: *ip,
        left,
        said: None,
        is_done: false,
        outcome: None,
    };
    let mut all: Vec<Waited> = jobs.iter().map(waited).collect();
    let mut last = Instant::now();
    loop {
        let passed = last.elapsed();
        last = Instant::now();
        for one in all.iter_mut().filter(|one| one.outcome.is_none()) {
            one.look(room, flags.until, passed);
            let Some(outcome) = &one.outcome else { continue };
            let took = human_time(began.elapsed());
            let line = format!("{}: {}, job {}, after {took}", one.ip, outcome.word, one.job);
            outcome.why.iter().for_each(|why| say(&format!("{}: {why}", one.ip)));
            if !is_json {
                out.line(line)?;
            }
        }
        if all.iter().all(|one| one.outcome.is_some()) {
            break;
        }
        thread::sleep(INTERVAL);
    }
    if is_json {
        out.json(&Value::Array(all.iter().map(Waited::json).collect()), false)?;
    }
    match all.iter().filter_map(|one| one.outcome.as_ref()).map(|outcome| outcome.code).max() {
        None | Some(0) => Ok(true),
        Some(1) => Ok(false),
        Some(code) => Err(Error::Said(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::armed::{Armed, ArmedJob};
    use super::*;
    use crate::store::status::Status;

    fn news(armed: Option<&str>, status: Option<(JobState, &str)>) -> StatusNews {
        let armed = armed.map(|job| ArmedJob { job: Some(job.into()), ..ArmedJob::default() });
        let status = status.map(|(state, job)| Status {
            state,
            action: "restore".into(),
            job: Some(job.into()),
            ip: "10.0.0.1".into(),
            hostname: "tb1".into(),
            step: "sda".into(),
            disk: None,
            bytes_done: 0,
            bytes_total: 0,
            rate: 0,
            eta: None,
            attempt: 2,
            error: (state != JobState::Done).then(|| "the disk is gone".into()),
            code: None,
            stages: Vec::new(),
            notes: Vec::new(),
            started: Timestamp::UNIX_EPOCH,
            updated: Timestamp::UNIX_EPOCH,
            version: "0".into(),
        });
        StatusNews {
            ip: Ipv4Addr::LOCALHOST,
            is_known: true,
            status,
            record: None,
            lease: None,
            armed: armed.map_or(Armed::No, Armed::With),
            damaged: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Every state that a machine and its file can be in, and what it means for the job `j`.
    #[test]
    fn a_job_is_judged_by_its_own_words_only() {
        use JobState as S;
        let why = || "the disk is gone".to_owned();
        let again = "attempt 2 failed, it tries again: the disk is gone".to_owned();
        for (armed, status, expected) in [
            (Some("j"), None, JobStage::NotCome),
            (Some("j"), Some((S::Done, "i")), JobStage::NotCome),
            (Some("j"), Some((S::Running, "j")), JobStage::AtWork(None)),
            (Some("j"), Some((S::Done, "j")), JobStage::AtWork(None)),
            (None, Some((S::Done, "j")), JobStage::Done),
            (Some("k"), Some((S::Done, "j")), JobStage::Done),
            (Some("j"), Some((S::Failed, "j")), JobStage::AtWork(Some(again))),
            (None, Some((S::Failed, "j")), JobStage::Failed(why())),
            (Some("j"), Some((S::Holding, "j")), JobStage::Holding(why())),
            (None, Some((S::Holding, "j")), JobStage::Holding(why())),
            (None, None, JobStage::Gone),
            (None, Some((S::Failed, "i")), JobStage::Gone),
            (Some("k"), Some((S::Running, "k")), JobStage::Gone),
        ] {
            assert_eq!(stage("j", &news(armed, status)), expected, "{armed:?} {status:?}");
        }
    }

    #[test]
    fn what_shows_that_a_machine_is_back_is_named_exactly() {
        assert_eq!("tcp:22".parse(), Ok(Until::Tcp(22)));
        assert_eq!("ssh".parse(), Ok(Until::Ssh));
        for wrong in ["", "tcp", "tcp:", "tcp:0", "tcp:70000", "SSH", "http"] {
            assert!(wrong.parse::<Until>().is_err(), "{wrong}");
        }
    }
}
