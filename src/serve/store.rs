//! A request, and what is answered. Everything that a store does begins here, and nothing here knows HTTP.

use super::access::{Reading, permit};
use super::jobs::{self, StoreJob};
use super::parts::PartPiece;
use super::proofs::Proofs;
use super::retention::Keep;
use super::sessions::{Caller, Session, Sessions};
use super::sets::Publishing;
use super::slots::Asker;
use super::{access, reads};
use crate::failure::Failure;
use crate::io::ReadAt;
use crate::job::Action;
use crate::job::pxe::{HexIp, own_loader_script};
use crate::share::Files;
use crate::store::layout::own_loader_file;
use crate::store::lease::{Holder, Tell};
use crate::store::protocol::{
    BODY_LIMIT, COPY_LIMIT, Code, DisarmResult, JobFound, Refusal, Room, StoreCall, StorePath,
};
use crate::store::publish;
use crate::sys::System;
use crate::text::is_plain;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest log of a machine, and of all machines, in bytes: a machine that floods it fills nothing else.
const LOG_LIMIT: u64 = 64 << 20;
/// Bytes that one session may add to the log of all machines.
const SHARED_LIMIT: u64 = 64 << 10;
/// How often the files of all jobs are read.
const SWEEP: Duration = Duration::from_secs(600);
/// A clock that was set forward by more is told.
const CLOCK_SET: SignedDuration = SignedDuration::from_hours(1);
/// A range of so many bytes is sent while it is read.
const SENT_WHILE_READ: u64 = 1 << 20;
/// Longest path of a loader.
const LOADER_LIMIT: usize = 255;

/// What the admin has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreRules {
    /// Which old sets stay.
    pub keep: Keep,
    /// Bytes that the sets, parts and logs of one machine may take.
    pub quota: u64,
    /// Bytes that stay free on the file system, whoever writes.
    pub reserve: u64,
    /// Machines that are at work at once.
    pub at_work: usize,
}

/// What is answered.
pub enum Reply {
    /// JSON.
    Json(Vec<u8>),
    /// Bytes of a file; those of a range where one was named.
    Bytes(Vec<u8>, Option<(Range<u64>, u64)>),
    /// This range of a file, read while it is sent; the length of the file where a range was named.
    File(Arc<dyn ReadAt>, Range<u64>, Option<u64>),
    /// The length of a file.
    Length(u64),
    /// It is done.
    Done,
    /// It is refused.
    Refused(Refusal),
}

/// A store.
pub struct Store {
    files: Arc<dyn Files>,
    boot: Arc<dyn Files>,
    system: Arc<dyn System>,
    rules: StoreRules,
    tell: Arc<dyn Tell>,
    sessions: Sessions,
    proofs: Proofs,
    /// When it began, by both clocks.
    began: (Timestamp, Duration),
    /// When the jobs were looked at last.
    swept: Mutex<Option<Duration>>,
}

impl Store {
    /// The store of a backup folder, for machines that are armed by files in the folder of the boot server.
    pub fn new(
        files: Arc<dyn Files>,
        boot: Arc<dyn Files>,
        system: Arc<dyn System>,
        rules: StoreRules,
        tell: Arc<dyn Tell>,
    ) -> Store {
        let sessions = Sessions::new(files.clone(), system.clone(), tell.clone(), rules.at_work);
        let proofs = Proofs::new(files.clone(), system.clone());
        let began = (system.now(), system.monotonic());
        Store { files, boot, system, rules, tell, sessions, proofs, began, swept: Mutex::default() }
    }

    /// What is to be done now and then: folders of silent agents are let go of, jobs that are over removed.
    pub fn tend(&self) {
        self.sessions.reap();
        let now = self.system.monotonic();
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.is_some_and(|swept| now.saturating_sub(swept) < SWEEP) {
            return;
        }
        *swept = Some(now);
        let is_used = |hash: &str| self.sessions.uses(hash);
        match jobs::sweep(&*self.files, &*self.boot, &is_used, self.system.now()) {
            Ok(0) => {}
            Ok(n) => self.tell.info(&format!("{n} jobs are over, and their tokens gone")),
            Err(e) => self.tell.warn(&format!("cannot look for jobs that are over: {e}")),
        }
    }

    /// Lets go of all folders.
    pub fn end(&self) {
        self.sessions.end();
    }

    /// Answers a request.
    pub fn answer(&self, caller: &Caller, call: &StoreCall, body: &Arc<Vec<u8>>) -> Reply {
        self.dispatch(caller, call, body).unwrap_or_else(Reply::Refused)
    }

    /// What the admin has decided.
    pub fn rules(&self) -> &StoreRules {
        &self.rules
    }

    /// How many machines are at work, and how many wait in line.
    pub fn line_counts(&self) -> (usize, usize) {
        self.sessions.line_counts()
    }

    /// Whether a session was begun from this address.
    pub fn has_session(&self, peer: IpAddr) -> bool {
        self.sessions.has_one_of(peer)
    }

    /// Whose request it is: asked before anything of its body is received.
    ///
    /// # Errors
    /// Nobody knows its token.
    pub fn asker_of(&self, caller: &Caller) -> Result<Asker, Refusal> {
        match self.sessions.at_work(caller) {
            Some(action) if action.is_backup() => Ok(Asker::Backup),
            Some(_) => Ok(Asker::AtWork),
            None => self.job_of(caller).map(|_| Asker::Other),
        }
    }

    fn job_of(&self, caller: &Caller) -> Result<StoreJob, Refusal> {
        let job = jobs::find(&*self.files, &caller.token).map_err(|e| Refusal::of_error("the job", &e))?;
        job.ok_or_else(|| {
            Refusal::new(Code::UnknownToken, "no job has this token: it is over, or was armed anew")
        })
    }

    fn dispatch(&self, caller: &Caller, call: &StoreCall, body: &Arc<Vec<u8>>) -> Result<Reply, Refusal> {
        if body.len() > BODY_LIMIT {
            return Err(Refusal::new(Code::TooLarge, format!("a request has at most {BODY_LIMIT} bytes")));
        }
        let job = self.job_of(caller)?;
        let action = job.action();
        let action =
            action.ok_or_else(|| Refusal::new(Code::Failed, "the job's action is unknown to this server"))?;
        let reading = permit(action, &job.ip, call).inspect_err(|refusal| {
            self.tell.warn(&format!("{}: refused: {}", caller.peer, refusal.text));
        })?;
        match call {
            StoreCall::Job => return self.job(job).and_then(|found| json(&found)),
            StoreCall::Open => {
                self.armed(&job)?;
                let me: Holder = serde_json::from_slice(body)
                    .map_err(|e| Refusal::new(Code::Malformed, format!("the holder: {e}")))?;
                return json(&self.sessions.open(caller, &job, action, &me)?);
            }
            StoreCall::Close => return self.sessions.close(caller).map(|()| Reply::Done),
            _ => {}
        }
        let session = self.sessions.of(caller, &job, action)?;
        let reading = match session.late() {
            Ok(()) => reading,
            // It may say so, and be disarmed, which a refresh-info may too.
            Err(late) => {
                permit(Action::RefreshInfo, &job.ip, call).map_err(|_| Refusal::of_failure(&late))?
            }
        };
        self.of_session(&session, caller, call, body, reading)
    }

    fn of_session(
        &self,
        session: &Session,
        caller: &Caller,
        call: &StoreCall,
        body: &Arc<Vec<u8>>,
        reading: Reading,
    ) -> Result<Reply, Refusal> {
        if matches!(call, StoreCall::Heads(..) | StoreCall::Digest(..) | StoreCall::Read(..)) {
            session.parts().catch_up()?;
        }
        match call {
            StoreCall::Beat => session.check().map(|()| Reply::Done).map_err(|f| no_session(&f)),
            StoreCall::Room => json(&Room { left: self.room(session)? }),
            StoreCall::List(path) => json(&self.files.list(path.as_str()).map_err(|e| failed(path, &e))?),
            StoreCall::Length(path) => match access::classify(path, &session.job.ip) {
                access::PathClass::Part => session.parts().length(path.as_str()).map(Reply::Length),
                _ => {
                    session.reader().forget(path.as_str());
                    self.open(path)?.size().map(Reply::Length).map_err(|e| failed(path, &e))
                }
            },
            StoreCall::Read(path, range) => self.read(session, path, range.clone(), reading),
            StoreCall::Heads(path, at) => Ok(Reply::Bytes(reads::heads(&*self.open(path)?, *at)?, None)),
            StoreCall::Digest(path, range) => {
                let hash = reads::digest(&*self.open(path)?, range)?;
                Ok(Reply::Bytes(hash.as_bytes().to_vec(), None))
            }
            StoreCall::Replace(path) => {
                session.check().map_err(|f| no_session(&f))?;
                let written = self.files.write_atomic(path.as_str(), body);
                written.map(|()| Reply::Done).map_err(|e| failed(path, &e))
            }
            StoreCall::Append(path, number) => self.append(session, path, *number, body),
            StoreCall::Create(_)
            | StoreCall::Write(..)
            | StoreCall::Zeros(..)
            | StoreCall::Copy(..)
            | StoreCall::Sync(_)
            | StoreCall::Remove(_)
            | StoreCall::Sweep(_) => self.part(session, call, body),
            StoreCall::Prove(path) => {
                // Held while the proof begins: what is written later makes an end to it.
                let mut parts = session.parts();
                parts.settle(path.as_str())?;
                json(&self.proofs.ask(path.as_str(), &session.job.ip)?)
            }
            StoreCall::Suspect(path) => {
                session.reader().forget(path.as_str());
                self.proofs.doubt(path.as_str());
                json(&self.proofs.ask(path.as_str(), &session.job.ip)?)
            }
            StoreCall::Publish => self.publish(session, caller, body),
            StoreCall::Loader => self.loader(session, body),
            StoreCall::Disarm => json(&self.disarm(session)?),
            StoreCall::Job | StoreCall::Open | StoreCall::Close => {
                Err(Refusal::new(Code::Malformed, "internal error: answered already"))
            }
        }
    }

    fn job(&self, job: StoreJob) -> Result<JobFound, Refusal> {
        let armed_text = String::from_utf8_lossy(&self.armed(&job)?).into_owned();
        let StoreJob { ip, job, action, armed_file, .. } = job;
        let (version, clock) = (env!("CARGO_PKG_VERSION").into(), Some(self.system.now()));
        Ok(JobFound { ip, job, action, armed_file, armed_text, version, clock })
    }

    /// The file that armed the machine, which must hold this job still.
    fn armed(&self, job: &StoreJob) -> Result<Vec<u8>, Refusal> {
        let text = job.armed_text(&*self.boot).map_err(|e| Refusal::of_error(&job.armed_file, &e))?;
        text.ok_or_else(|| {
            let why = format!(
                "{} does not hold job {} any more: it was disarmed, or armed anew",
                job.armed_file, job.job
            );
            Refusal::new(Code::UnknownToken, why)
        })
    }

    fn open(&self, path: &StorePath) -> Result<Arc<dyn ReadAt>, Refusal> {
        self.files.open(path.as_str()).map_err(|e| failed(path, &e))
    }

    fn read(
        &self,
        session: &Session,
        path: &StorePath,
        range: Option<Range<u64>>,
        reading: Reading,
    ) -> Result<Reply, Refusal> {
        let file = match &range {
            Some(_) if reading == Reading::All => session.reader().file(path.as_str(), || self.open(path))?,
            _ => self.open(path)?,
        };
        let size = file.size().map_err(|e| failed(path, &e))?;
        let Some(range) = range else {
            reads::permit_range(&*file, &(0..size), reading)?;
            return Ok(Reply::File(file, 0..size, None));
        };
        reads::permit_range(&*file, &range, reading)?;
        let there = range.start..range.end.min(size).max(range.start);
        let is_long = (SENT_WHILE_READ..=BODY_LIMIT as u64).contains(&(there.end - there.start));
        // Where an answer broke off the next one is read first, so that it can say why.
        if is_long && reading == Reading::All && !session.reader().is_asked_again(path.as_str(), &range) {
            return Ok(Reply::File(file, there, Some(size)));
        }
        let bytes = reads::bytes(&*file, &range)?;
        Ok(Reply::Bytes(bytes, Some((there, size))))
    }

    fn append(
        &self,
        session: &Session,
        path: &StorePath,
        number: u64,
        body: &[u8],
    ) -> Result<Reply, Refusal> {
        let at = path.as_str();
        if access::classify(path, &session.job.ip) == access::PathClass::AllLog {
            check_shared_lines(session, body)?;
        }
        let there = self.files.open(at).and_then(|file| file.size()).unwrap_or(0);
        if there.saturating_add(body.len() as u64) > LOG_LIMIT {
            return Err(Refusal::new(
                Code::Quota,
                format!("{at} has {there} bytes: the admin must move it away"),
            ));
        }
        if !session.is_new_append(at, number) {
            return Ok(Reply::Done);
        }
        self.files.append(at, body).map(|()| Reply::Done).map_err(|e| {
            session.forget_append(at);
            failed(path, &e)
        })
    }

    fn part(&self, session: &Session, call: &StoreCall, body: &Arc<Vec<u8>>) -> Result<Reply, Refusal> {
        session.check().map_err(|f| no_session(&f))?;
        let mut parts = session.parts();
        let mut put = |path: &StorePath, at: u64, piece: PartPiece<'_>, length: u64| {
            self.proofs.forget(path.as_str());
            if parts.length(path.as_str()).is_ok_and(|there| at < there) {
                // It is cut: what it took counts no more.
                parts.cut(path.as_str(), at)?;
                parts.written = 0;
                session.forget_used();
            }
            self.check_room(session, parts.written, length)?;
            parts.put(path.as_str(), at, &piece).map(|_| Reply::Done)
        };
        match call {
            StoreCall::Write(path, at) => put(path, *at, PartPiece::Bytes(body), body.len() as u64),
            StoreCall::Zeros(path, at, length) => put(path, *at, PartPiece::Zeros(*length), 0),
            StoreCall::Copy(path, at, from, range) => {
                let length = range.end - range.start;
                if length > COPY_LIMIT {
                    return Err(Refusal::new(
                        Code::TooLarge,
                        format!("at most {COPY_LIMIT} bytes in one copy"),
                    ));
                }
                let from = self.open(from)?;
                put(path, *at, PartPiece::Copy(&*from, range.clone()), length)
            }
            StoreCall::Create(path) => parts.create(path.as_str()).map(|()| Reply::Done),
            StoreCall::Sync(path) => parts.sync(path.as_str()).map(|()| Reply::Done),
            StoreCall::Remove(path) => {
                self.proofs.forget(path.as_str());
                session.forget_used();
                parts.written = 0;
                parts.remove(path.as_str()).map(|()| Reply::Done)
            }
            StoreCall::Sweep(keep) => {
                parts.close();
                session.forget_used();
                parts.written = 0;
                let keep: Vec<String> = keep.iter().map(|name| name.as_str().to_owned()).collect();
                publish::sweep(&session.folder, &keep)
                    .map(|()| Reply::Done)
                    .map_err(|f| Refusal::of_failure(&f))
            }
            _ => Err(Refusal::new(Code::Malformed, "internal error: not of a part")),
        }
    }

    fn publish(&self, session: &Session, caller: &Caller, body: &[u8]) -> Result<Reply, Refusal> {
        self.armed(&session.job)?;
        // Held to the end: nothing is written behind its proof, or while it is moved into place.
        let mut parts = session.parts();
        parts.settle_all()?;
        let publishing = Publishing {
            folder: &session.folder,
            proofs: &self.proofs,
            job: &session.job,
            keep: &self.rules.keep,
            now: self.system.now(),
            passed: self.passed(),
        };
        let published = publishing.publish(body, &|| session.check())?;
        let StoreJob { ip, job, .. } = &session.job;
        let (generation, pruned) = (published.generation, published.pruned.join(", "));
        self.tell
            .info(&format!("{ip}: set {generation} of job {job} is published (told by {})", caller.peer));
        if !pruned.is_empty() {
            self.tell.info(&format!("{ip}: pruned by the rules: {pruned}"));
        }
        json(&published)
    }

    /// What time it is, where nobody has set the clock forward since the server began.
    fn passed(&self) -> Timestamp {
        let now = self.system.now();
        let since = self.system.monotonic().saturating_sub(self.began.1);
        let passed =
            self.began.0.checked_add(SignedDuration::try_from(since).unwrap_or_default()).unwrap_or(now);
        if now.duration_since(passed) > CLOCK_SET {
            self.tell.warn(&format!(
                "the clock was set forward by {} h since the server began: until it is started again no set is old by that",
                now.duration_since(passed).as_hours()
            ));
        }
        now.min(passed)
    }

    /// Bytes that the machine may still write.
    fn room(&self, session: &Session) -> Result<u64, Refusal> {
        let parts = session.parts();
        self.room_beside(session, parts.written)
    }

    fn room_beside(&self, session: &Session, written: u64) -> Result<u64, Refusal> {
        let folder = session.folder.path("");
        let free = self.files.free_bytes(&folder).map_err(|e| Refusal::of_error("free space", &e))?;
        let used = session.used(&*self.files).map_err(|e| Refusal::of_error(&folder, &e))?;
        let of_quota = self.rules.quota.saturating_sub(used.saturating_add(written));
        Ok(free.saturating_sub(self.rules.reserve).min(of_quota))
    }

    fn check_room(&self, session: &Session, written: u64, length: u64) -> Result<(), Refusal> {
        let left = self.room_beside(session, written)?;
        if length <= left {
            return Ok(());
        }
        let folder = session.folder.path("");
        let free = self.files.free_bytes(&folder).unwrap_or(0);
        let reserve = self.rules.reserve;
        Err(match free.saturating_sub(reserve) < length {
            true => Refusal::new(
                Code::Full,
                format!("the server has {free} bytes free, of which {reserve} are its reserve"),
            ),
            false => Refusal::new(
                Code::Quota,
                format!(
                    "sets, parts and logs of {} have reached its quota of {} bytes",
                    session.job.ip, self.rules.quota
                ),
            ),
        })
    }

    fn loader(&self, session: &Session, body: &[u8]) -> Result<Reply, Refusal> {
        let malformed = |why: &str| Refusal::new(Code::Malformed, format!("the loader's path {why}"));
        let path = std::str::from_utf8(body).map_err(|_| malformed("is not UTF-8"))?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+');
        if path.len() > LOADER_LIMIT
            || !path.starts_with('/')
            || !path.chars().all(is_plain)
            || path.contains("..")
        {
            return Err(malformed("is none on an EFI system partition"));
        }
        let ip: Ipv4Addr = session.job.ip.parse().map_err(|_| malformed("is of no machine"))?;
        let (file, text) = (own_loader_file(HexIp(ip)), own_loader_script(path));
        if self.boot.read_limited(&file, text.len() + 1).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(Reply::Done);
        }
        let written = self.boot.write_atomic(&file, text.as_bytes());
        written.map(|()| Reply::Done).map_err(|e| Refusal::of_error(&file, &e))
    }

    fn disarm(&self, session: &Session) -> Result<DisarmResult, Refusal> {
        session.check().map_err(|f| no_session(&f))?;
        let file = &session.job.armed_file;
        let failed = |e: &io::Error| Refusal::of_error(file, e);
        if session.job.armed_text(&*self.boot).map_err(|e| failed(&e))?.is_none() {
            return Ok(match self.boot.exists(file).map_err(|e| failed(&e))? {
                true => DisarmResult::ArmedAgain,
                false => DisarmResult::WasGone,
            });
        }
        self.boot.remove_if_exists(file).map_err(|e| failed(&e))?;
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.boot.sync_dir(folder).map_err(|e| failed(&e))?;
        let StoreJob { ip, job, action, .. } = &session.job;
        self.tell.info(&format!("{ip}: job {job} ({action}) is done and disarmed"));
        Ok(DisarmResult::Removed)
    }
}

/// In the log of all machines a machine speaks for itself only, and briefly.
fn check_shared_lines(session: &Session, body: &[u8]) -> Result<(), Refusal> {
    let ip = session.job.ip.as_str();
    let text = std::str::from_utf8(body).unwrap_or_default();
    let is_own = |line: &str| line.split(": ").nth(1) == Some(ip) && line.chars().all(is_plain);
    if text.is_empty() || !text.lines().all(is_own) {
        let why = format!("a line of the log of all machines is 'TIME: {ip}: LEVEL: TEXT', and plain");
        return Err(Refusal::new(Code::Malformed, why));
    }
    match session.shared_bytes.fetch_add(body.len() as u64, Relaxed) < SHARED_LIMIT {
        true => Ok(()),
        false => Err(Refusal::new(Code::Quota, "this job has said enough in the log of all machines")),
    }
}

fn failed(path: &StorePath, error: &io::Error) -> Refusal {
    Refusal::of_error(path.as_str(), error)
}

fn no_session(failure: &Failure) -> Refusal {
    Refusal { code: Code::NoSession, ..Refusal::of_failure(failure) }
}

fn json(value: &impl Serialize) -> Result<Reply, Refusal> {
    let bytes = serde_json::to_vec(value);
    bytes.map(Reply::Json).map_err(|e| Refusal::new(Code::Failed, format!("internal error: {e}")))
}
