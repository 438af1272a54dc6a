//! The sessions: who uses which token, holds which folder's lease, and writes which parts.

use super::jobs::{self, Binding, StoreJob};
use super::line::{Line, Standing};
use super::parts::Parts;
use super::reads::RangeReader;
use crate::failure::{Failure, Kind};
use crate::job::Action;
use crate::job::pxe::HexIp;
use crate::share::Files;
use crate::store::layout::{HISTORY, STORE_PARTS, history_dir};
use crate::store::lease::{Holder, LeaseHolder, OTHER, Tell};
use crate::store::protocol::{Code, Opened, Recovery, Refusal};
use crate::store::publish;
use crate::store::{Folder, cannot_write};
use crate::sys::System;
use crate::types::Expiry;
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How long a session is silent before the same machine may begin another one. Its agent says that it lives every 3 s.
pub const SILENT: Duration = Duration::from_secs(30);
/// How often, and after which pause, the first request of a session looks whether it is open.
const OPENING_LOOKS: u32 = 50;
const OPENING_PAUSE: Duration = Duration::from_millis(20);
/// How often the lease of a session beats.
const BEAT: Duration = Duration::from_secs(3);
/// How long letting go of a lease may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// How far a session is.
enum Stage {
    /// Others are at work. Where it stands.
    InLine(Standing),
    /// Its lease is waited for.
    Opening { waits_for: Option<String> },
    /// It holds the folder.
    Open { lease: Arc<LeaseHolder>, opened: Opened },
    /// It has not got it.
    Failed(Failure),
    /// It has let go.
    Closed,
}

/// One session.
pub struct Session {
    /// What its token is for.
    pub job: StoreJob,
    /// The action.
    pub action: Action,
    /// The machine's folder.
    pub folder: Folder,
    /// SHA-256 of what the agent calls itself.
    id: String,
    /// Where it asks from.
    peer: IpAddr,
    stage: Mutex<Stage>,
    parts: Mutex<Parts>,
    reader: Mutex<RangeReader>,
    /// The number of the last append to each log.
    appended: Mutex<HashMap<String, u64>>,
    last: Mutex<Duration>,
    /// When it came, or its turn did, by this server's clock.
    since: Mutex<Timestamp>,
    used: Mutex<Option<u64>>,
    /// What it has added to the log of all machines.
    pub shared_bytes: AtomicU64,
}

impl Session {
    /// The parts that it writes.
    pub fn parts(&self) -> MutexGuard<'_, Parts> {
        locked(&self.parts)
    }

    /// Whether its job had not expired when its turn came.
    ///
    /// # Errors
    /// [`Kind::Expired`].
    pub fn late(&self) -> Result<(), Failure> {
        let expires = self.job.expires.map(Expiry::new);
        expires.map_or(Ok(()), |expires| expires.check(*locked(&self.since), "this store"))
    }

    /// What it reads.
    pub fn reader(&self) -> MutexGuard<'_, RangeReader> {
        locked(&self.reader)
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        locked(&self.stage)
    }

    /// Bytes that the folder took on the disk when this was first asked.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn used(&self, files: &dyn Files) -> io::Result<u64> {
        let mut used = locked(&self.used);
        if let Some(used) = *used {
            return Ok(used);
        }
        let dir = self.folder.path("");
        let mut dirs = vec![dir.clone(), format!("{dir}/{HISTORY}")];
        let generations = self.folder.generations().map_err(|f| io::Error::other(f.what))?;
        dirs.extend(generations.into_iter().map(|n| self.folder.path(&history_dir(n))));
        let mut sum = 0u64;
        for dir in dirs {
            let names = match files.list(&dir) {
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                names => names?,
            };
            sum = names.iter().fold(sum, |sum, name| {
                sum.saturating_add(files.allocated(&format!("{dir}/{name}")).unwrap_or(0))
            });
        }
        Ok(*used.insert(sum))
    }

    /// What the folder takes is to be counted anew.
    pub fn forget_used(&self) {
        *locked(&self.used) = None;
    }

    /// True the first time that this append, or a later one, comes.
    pub fn is_new_append(&self, path: &str, number: u64) -> bool {
        let mut appended = locked(&self.appended);
        let last = appended.entry(path.to_owned()).or_default();
        let is_new = number > *last;
        *last = number.max(*last);
        is_new
    }

    /// The append has failed: it may come again.
    pub fn forget_append(&self, path: &str) {
        locked(&self.appended).remove(path);
    }

    /// How the session stands, as the answer to opening it.
    fn answer(&self) -> Result<Opened, Refusal> {
        let waits = |waits_for: Option<String>, is_in_line| Opened {
            is_open: false,
            waits_for,
            is_in_line,
            is_from_another: false,
            recovery: Recovery::Nothing,
        };
        match &*self.stage() {
            Stage::InLine(standing) => Ok(waits(Some(standing.to_string()), true)),
            Stage::Opening { waits_for } => Ok(waits(waits_for.clone(), false)),
            Stage::Open { opened, .. } => Ok(opened.clone()),
            Stage::Failed(failure) => Err(Refusal::of_failure(failure)),
            Stage::Closed => Err(over("the session has ended")),
        }
    }

    /// Looks whether the folder is still this session's.
    ///
    /// # Errors
    /// The failure that says who has it.
    pub fn check(&self) -> Result<(), Failure> {
        let lease = match &*self.stage() {
            Stage::Open { lease, .. } => lease.clone(),
            Stage::Failed(failure) => return Err(failure.clone()),
            Stage::InLine(_) | Stage::Opening { .. } | Stage::Closed => {
                let what = "the session does not hold the folder";
                return Err(Failure::new(Kind::Lease, what, "boot the machine again."));
            }
        };
        // Not locked while the disk is waited for: others ask how the session stands.
        lease.check()
    }

    /// Whether it holds the folder, as far as its heartbeat has noticed.
    fn usable(&self) -> Result<(), Refusal> {
        match &*self.stage() {
            Stage::Open { lease, .. } => lease.lost().map_or(Ok(()), |failure| Err(lost(&failure))),
            Stage::InLine(standing) => Err(Refusal::new(Code::Busy, standing.to_string())),
            Stage::Opening { .. } => Err(Refusal::new(Code::Busy, "the session is being opened")),
            Stage::Failed(failure) => Err(lost(failure)),
            Stage::Closed => Err(over("the session has ended")),
        }
    }

    fn is_in_line(&self) -> bool {
        matches!(&*self.stage(), Stage::InLine(_))
    }

    fn is_open(&self) -> bool {
        matches!(&*self.stage(), Stage::Open { .. })
    }

    fn is_failed(&self) -> bool {
        matches!(&*self.stage(), Stage::Failed(_) | Stage::Closed)
    }

    /// Lets go of everything.
    fn close(&self) -> io::Result<()> {
        self.parts().close();
        // Not held while the disk is waited for.
        let before = std::mem::replace(&mut *self.stage(), Stage::Closed);
        match before {
            Stage::Open { lease, .. } => lease.release(CLOSE_LIMIT),
            _ => Ok(()),
        }
    }
}

/// The sessions of a store.
pub struct Sessions {
    files: Arc<dyn Files>,
    system: Arc<dyn System>,
    tell: Arc<dyn Tell>,
    began: Duration,
    /// Locked while a token is bound: of two claimants one is first.
    gate: Mutex<()>,
    /// By their tokens' hashes.
    open: Mutex<HashMap<String, Arc<Session>>>,
    /// Who may be at work, by their tokens' hashes. Nothing else is locked while this is.
    line: Arc<Mutex<Line>>,
    /// Who was at work when the server began, and has not come back yet: their places are kept for a while.
    away: Mutex<BTreeSet<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token.
    pub token: String,
    /// What the agent calls itself.
    pub session: String,
    /// Where it asks from.
    pub peer: IpAddr,
}

impl Sessions {
    /// None yet; so many may be at work at once.
    pub fn new(
        files: Arc<dyn Files>,
        system: Arc<dyn System>,
        tell: Arc<dyn Tell>,
        at_work: usize,
    ) -> Sessions {
        let began = system.monotonic();
        let mut line = Line::new(at_work);
        let away = jobs::at_work(&*files).unwrap_or_else(|e| {
            tell.warn(&format!("cannot tell who was at work when the server ended: {e}"));
            Vec::new()
        });
        away.iter().for_each(|hash| line.go_on(hash));
        Sessions {
            files,
            system,
            tell,
            began,
            gate: Mutex::default(),
            open: Mutex::default(),
            line: Arc::new(Mutex::new(line)),
            away: Mutex::new(away.into_iter().collect()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        locked(&self.open)
    }

    /// True while a session uses the token with this hash.
    pub fn uses(&self, token_hash: &str) -> bool {
        self.lock().contains_key(token_hash)
    }

    /// True where a session was begun from this address.
    pub fn has_one_of(&self, peer: IpAddr) -> bool {
        self.lock().values().any(|session| session.peer == peer)
    }

    /// What the caller's session does, where it is among those at work.
    pub fn at_work(&self, caller: &Caller) -> Option<Action> {
        let session = self.lock().get(&jobs::hashed(&caller.token)).cloned()?;
        let is_his = session.id == jobs::hashed(&caller.session) && jobs::need(session.action).is_some();
        (is_his && session.is_open()).then_some(session.action)
    }

    /// The session that this caller has opened. After a restart of the server it is opened again by itself.
    ///
    /// # Errors
    /// [`Code::NoSession`], [`Code::Busy`], [`Code::Bound`].
    pub fn of(&self, caller: &Caller, job: &StoreJob, action: Action) -> Result<Arc<Session>, Refusal> {
        let id = jobs::hashed(&caller.session);
        let known = self.lock().get(&jobs::hashed(&caller.token)).cloned();
        let session = match known {
            Some(session) if session.id == id => session,
            Some(_) => return Err(Refusal::new(Code::Bound, "another session uses this token")),
            None => {
                let binding = self.binding(caller)?;
                let mine = binding
                    .filter(|binding| binding.session == id && !binding.is_closed && !binding.is_in_line);
                let mine = mine.ok_or_else(|| over("there is no such session"))?;
                if jobs::need(action).is_some() {
                    locked(&self.line).go_on(&jobs::hashed(&caller.token));
                }
                self.begin(caller, job, action, (&mine.holder, mine.since), Standing::AtWork)?
            }
        };
        self.touch(&session);
        session.usable().map(|()| session)
    }

    fn touch(&self, session: &Session) {
        *locked(&session.last) = self.system.monotonic();
    }

    fn silence(&self, session: &Session) -> Duration {
        let last = *locked(&session.last);
        self.system.monotonic().saturating_sub(last)
    }

    fn binding(&self, caller: &Caller) -> Result<Option<Binding>, Refusal> {
        jobs::binding(&*self.files, &caller.token).map_err(|e| Refusal::of_error("the session's file", &e))
    }

    /// Opens a session, or says how far its opening is. The first one binds the token; another one takes its place only
    /// from the same address, and only where the first has ended or is silent.
    ///
    /// # Errors
    /// [`Code::Bound`], told to the admin; what became of the lease.
    pub fn open(
        &self,
        caller: &Caller,
        job: &StoreJob,
        action: Action,
        me: &Holder,
    ) -> Result<Opened, Refusal> {
        let id = jobs::hashed(&caller.session);
        let known = || self.lock().get(&jobs::hashed(&caller.token)).cloned();
        if let Some(session) = known().filter(|session| session.id == id) {
            self.touch(&session);
            self.advance(&session, caller, me)?;
            return session.answer();
        }
        let gate = locked(&self.gate);
        let known = known();
        self.may_bind(caller, job, &id, known.as_ref())?;
        if let Some(before) = known {
            // Silent or over: its lease is found again by the new one, which is the same machine's.
            let _ = before.close();
        }
        let hash = jobs::hashed(&caller.token);
        let standing =
            jobs::need(action).map_or(Standing::AtWork, |need| locked(&self.line).come(&hash, need));
        let begun = self
            .bind(caller, me, standing)
            .and_then(|since| self.begin(caller, job, action, (me, since), standing));
        let session = begun.inspect_err(|_| locked(&self.line).leave(&hash))?;
        if session.is_in_line() {
            self.tell.info(&format!("{} (job {}, {action}) {standing}", job.ip, job.job));
        }
        drop(gate);
        // A free lease is taken at once: nobody need ask twice for that.
        for _ in 0..OPENING_LOOKS {
            if !matches!(&*session.stage(), Stage::Opening { waits_for: None }) {
                break;
            }
            std::thread::sleep(OPENING_PAUSE);
        }
        session.answer()
    }

    /// Since when the token is bound.
    fn bind(&self, caller: &Caller, me: &Holder, standing: Standing) -> Result<Timestamp, Refusal> {
        let since = self.system.now();
        let binding = Binding {
            session: jobs::hashed(&caller.session),
            peer: caller.peer.to_string(),
            holder: me.clone(),
            since,
            is_closed: false,
            is_in_line: standing != Standing::AtWork,
        };
        jobs::bind(&*self.files, &caller.token, &binding)
            .map_err(|e| Refusal::of_error("cannot bind the token", &e))?;
        Ok(since)
    }

    /// How many machines are at work, and how many wait in line.
    pub fn line_counts(&self) -> (usize, usize) {
        locked(&self.line).counts()
    }

    /// Begins to open a session that has waited in the line, where it is its turn.
    fn advance(&self, session: &Arc<Session>, caller: &Caller, me: &Holder) -> Result<(), Refusal> {
        let Some(need) = jobs::need(session.action) else { return Ok(()) };
        let hash = jobs::hashed(&caller.token);
        let mut stage = session.stage();
        if !matches!(&*stage, Stage::InLine(_)) {
            return Ok(());
        }
        let standing = locked(&self.line).come(&hash, need);
        if standing != Standing::AtWork {
            *stage = Stage::InLine(standing);
            return Ok(());
        }
        // Where this cannot be written, the next question comes here again.
        *locked(&session.since) = self.bind(caller, me, standing)?;
        *stage = Stage::Opening { waits_for: None };
        drop(stage);
        self.start(session, hash, me)
    }

    fn may_bind(
        &self,
        caller: &Caller,
        job: &StoreJob,
        id: &str,
        known: Option<&Arc<Session>>,
    ) -> Result<(), Refusal> {
        let Some(bound) = self.binding(caller)?.filter(|bound| bound.session != id) else { return Ok(()) };
        let who = format!("{} (job {} of {}, {})", caller.peer, job.job, job.ip, job.action);
        let is_alive = !bound.is_closed
            && match known {
                Some(session) => !session.is_failed() && self.silence(session) < SILENT,
                // The server has just begun: its agent has had no time to say that it lives.
                None => self.system.monotonic().saturating_sub(self.began) < SILENT,
            };
        let refused = |why: &str| {
            self.tell.warn(&format!("SECOND CLAIM: {who} wants to use a token that {}: {why}", bound.peer));
            Err(Refusal::new(Code::Bound, format!("the token is used by {}, {why}", bound.peer)))
        };
        if caller.peer.to_string() != bound.peer {
            return refused(
                "and it comes from another address: refused. Arm the machine again if it has moved",
            );
        }
        if is_alive {
            return refused("which is at work: refused");
        }
        self.tell.info(&format!(
            "{who} begins again: a session of the same address before it has ended or is silent"
        ));
        Ok(())
    }

    /// Begins a session; where it is its turn, a thread waits for its lease.
    fn begin(
        &self,
        caller: &Caller,
        job: &StoreJob,
        action: Action,
        (me, since): (&Holder, Timestamp),
        standing: Standing,
    ) -> Result<Arc<Session>, Refusal> {
        let (id, hash) = (jobs::hashed(&caller.session), jobs::hashed(&caller.token));
        let mut open = self.lock();
        // Another request of the same session was quicker.
        if let Some(session) = open.get(&hash).filter(|session| session.id == id) {
            return Ok(session.clone());
        }
        let session = Arc::new(Session {
            job: job.clone(),
            action,
            folder: Folder::new(self.files.clone(), job.ip.clone()),
            id,
            peer: caller.peer,
            stage: Mutex::new(match standing {
                Standing::AtWork => Stage::Opening { waits_for: None },
                Standing::InLine { .. } => Stage::InLine(standing),
            }),
            parts: Mutex::new(Parts::new(self.files.clone())),
            reader: Mutex::default(),
            appended: Mutex::default(),
            last: Mutex::new(self.system.monotonic()),
            since: Mutex::new(since),
            used: Mutex::default(),
            shared_bytes: AtomicU64::new(0),
        });
        open.insert(hash.clone(), session.clone());
        drop(open);
        locked(&self.away).remove(&hash);
        if standing == Standing::AtWork {
            self.start(&session, hash, me)?;
        }
        Ok(session)
    }

    fn start(&self, session: &Arc<Session>, hash: String, me: &Holder) -> Result<(), Refusal> {
        let (line, system) = (self.line.clone(), self.system.clone());
        let opening = Opening { session: session.clone(), system, me: me.clone(), line, hash };
        let tell: Arc<dyn Tell> =
            Arc::new(SessionTell { session: Arc::downgrade(session), tell: self.tell.clone() });
        let spawned = std::thread::Builder::new().name("opening".into()).spawn(move || opening.run(&tell));
        spawned.map(drop).map_err(|e| Refusal::of_error("no thread to open the session", &e))
    }

    /// Ends the caller's session. One that has ended already is fine.
    ///
    /// # Errors
    /// The lease was not let go of; whoever comes next has to wait.
    pub fn close(&self, caller: &Caller) -> Result<(), Refusal> {
        let id = jobs::hashed(&caller.session);
        let hash = jobs::hashed(&caller.token);
        if let Some(mut binding) = self.binding(caller)?.filter(|binding| binding.session == id) {
            binding.is_closed = true;
            jobs::bind(&*self.files, &caller.token, &binding)
                .map_err(|e| Refusal::of_error("cannot end the session", &e))?;
        }
        let mine = self.lock().get(&hash).filter(|session| session.id == id).cloned();
        let Some(session) = mine else { return Ok(()) };
        let closed = session.close();
        self.lock().remove(&hash);
        locked(&self.line).leave(&hash);
        closed.map_err(|e| Refusal::of_error("the lease of the folder is not let go of", &e))
    }

    /// Lets go of the folders whose agents are silent for so long that an agent on a mounted share would be taken for dead; who
    /// waits in the line holds nothing, and leaves it sooner.
    pub fn reap(&self) {
        let limit = |session: &Session| if session.is_in_line() { SILENT } else { OTHER };
        let all: Vec<_> = self.lock().iter().map(|(hash, session)| (hash.clone(), session.clone())).collect();
        for (hash, session) in all.into_iter().filter(|(_, session)| self.silence(session) > limit(session)) {
            let StoreJob { ip, job, .. } = &session.job;
            let what = if session.is_in_line() { "it leaves the line" } else { "its folder is free" };
            self.tell.warn(&format!(
                "{ip}: the agent of job {job} is silent for {} s: {what}",
                limit(&session).as_secs()
            ));
            if let Err(e) = session.close() {
                self.tell.warn(&format!("{ip}: its lease is not let go of: {e}"));
            }
            self.lock().remove(&hash);
            locked(&self.line).leave(&hash);
        }
        if self.system.monotonic().saturating_sub(self.began) > OTHER {
            let away = std::mem::take(&mut *locked(&self.away));
            away.iter().for_each(|hash| locked(&self.line).leave(hash));
        }
    }

    /// Lets go of all folders; the sessions go on when the store begins again.
    pub fn end(&self) {
        for (_, session) in self.lock().drain() {
            let _ = session.close();
        }
    }
}

struct Opening {
    session: Arc<Session>,
    system: Arc<dyn System>,
    me: Holder,
    line: Arc<Mutex<Line>>,
    hash: String,
}

impl Opening {
    fn run(&self, tell: &Arc<dyn Tell>) {
        let stage = match self.open(tell) {
            Ok((lease, opened)) => Stage::Open { lease: Arc::new(lease), opened },
            Err(failure) => {
                locked(&self.line).leave(&self.hash);
                Stage::Failed(failure)
            }
        };
        let mut now = self.session.stage();
        // Closed meanwhile: then dropping the lease ends its heartbeat, and it is found dead.
        if matches!(*now, Stage::Opening { .. }) {
            *now = stage;
        } else if let Stage::Open { lease, .. } = stage {
            let _ = lease.release(CLOSE_LIMIT);
        }
    }

    fn open(&self, tell: &Arc<dyn Tell>) -> Result<(LeaseHolder, Opened), Failure> {
        let Session { folder, job, action, .. } = &*self.session;
        let failed = |what: &str, e: io::Error| cannot_write(what, &e);
        let ip =
            job.ip.parse().map_err(|_| failed("read the job", io::Error::other("it names no address")))?;
        folder
            .make(&self.me.hostname, &HexIp(ip).to_string())
            .map_err(|e| failed(&format!("make the folder {ip}"), e))?;
        let lease = LeaseHolder::take(&*self.system, tell, folder, &self.me, BEAT)?;
        let recovery = publish::recover(folder, None, 0, &|| lease.check())?;
        if action.is_backup() && self.session.late().is_ok() {
            self.sweep_foreign_parts(&lease).map_err(|e| failed("remove parts of another job", e))?;
        }
        let is_from_another = lease.is_from_another;
        let opened = Opened { is_open: true, waits_for: None, is_in_line: false, is_from_another, recovery };
        Ok((lease, opened))
    }

    /// Parts of another job are no work of this one: nothing is known of what stands in them.
    fn sweep_foreign_parts(&self, lease: &LeaseHolder) -> io::Result<()> {
        let (folder, job) = (&self.session.folder, &self.session.job);
        let files = &*folder.files;
        jobs::make_folder(files, STORE_PARTS)?;
        let note = format!("{STORE_PARTS}/{}", job.ip);
        let owner = files.read_limited(&note, 1 << 10).unwrap_or_default();
        if owner == job.job.as_bytes() && !lease.is_from_another {
            return Ok(());
        }
        lease.check().and_then(|()| publish::sweep(folder, &[])).map_err(|f| io::Error::other(f.what))?;
        files.write_atomic(&note, job.job.as_bytes())
    }
}

/// What taking a lease says goes to the server's log, and to the agent that waits.
struct SessionTell {
    /// The session owns the lease, whose heartbeat tells through this: it must not keep the session in turn.
    session: Weak<Session>,
    tell: Arc<dyn Tell>,
}

impl Tell for SessionTell {
    fn info(&self, text: &str) {
        if let Some(session) = self.session.upgrade()
            && let Stage::Opening { waits_for } = &mut *session.stage()
        {
            *waits_for = Some(text.to_owned());
        }
        self.tell.info(text);
    }

    fn warn(&self, text: &str) {
        self.tell.warn(text);
    }
}

fn over(why: &str) -> Refusal {
    Refusal::new(Code::NoSession, why)
}

fn lost(failure: &Failure) -> Refusal {
    Refusal { code: Code::NoSession, ..Refusal::of_failure(failure) }
}
