//! Takes, keeps and lets go of the lease on a machine's folder: an agent its own, and a store that of each of its sessions.
//! The rules, and what they are worth: [`super`].
#![forbid(unsafe_code)]

use super::{After, BEAT, BLIND, Holder, Next, POLL, RELEASED, Watcher};
use super::{SeenLease, current, newest, read};
use crate::failure::{Failure, Kind};
use crate::share::{Append, Files};
use crate::store::folder::Folder;
use crate::store::keeper::Keeper;
use crate::store::layout::{CLAIM, LEASE};
use crate::store::protocol::Recovery;
use crate::store::share_failure::{cannot_read, cannot_write};
use crate::sys::{System, with_deadline};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Others that were quicker, before something else must be wrong.
const LOST_RACES: u32 = 20;
/// How long a server may keep an agent waiting for its folder, the line not counted: longer than it watches a lease of another
/// machine.
const KEEPER_WAIT: Duration = Duration::from_secs(300);

/// Where the lines of whoever holds a lease go.
pub trait Tell: Send + Sync {
    /// What somebody who waits should know.
    fn info(&self, text: &str);
    /// What is not as it should be.
    fn warn(&self, text: &str);
}

/// The lease that this agent holds. Its heartbeat ends when it is dropped.
pub struct LeaseHolder {
    held: Arc<dyn Hold>,
    /// It was taken over from another machine, which may still have files open.
    pub is_from_another: bool,
    /// What became of a set whose publishing was cut, where the keeper of the folder has looked already.
    pub recovery: Option<Recovery>,
    _beating: mpsc::Sender<()>,
}

/// A lease in somebody's hands: in a file of a share, or with the keeper of the folder.
trait Hold: Send + Sync {
    /// Looks whether it is still theirs.
    fn check(&self) -> Result<(), Failure>;
    /// Why it is lost, as far as that was noticed.
    fn lost(&self) -> Option<Failure>;
    /// One heartbeat; false where there will be none any more.
    fn beat(&self) -> io::Result<bool>;
    /// Lets go of it.
    fn release(&self) -> io::Result<()>;
    /// Where it is, for messages.
    fn place(&self) -> String;
}

struct HeldLease {
    files: Arc<dyn Files>,
    /// The folder of leases, as a path of the share.
    dir: String,
    number: u64,
    /// Why it is lost, once it is.
    lost: Mutex<Option<Failure>>,
    /// Locked while the lease is written.
    writer: Mutex<LeaseWriter>,
}

/// Writes what its holder appends to the lease.
struct LeaseWriter {
    /// Open since before anybody else could open it ([`crate::store::lease`] says what for); `None` where the share cannot,
    /// or has forgotten it.
    open: Option<Box<dyn Append>>,
    /// Released: no heartbeat may follow.
    is_over: bool,
}

impl LeaseWriter {
    fn append(&mut self, files: &dyn Files, path: &str, bytes: &[u8]) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            if open.append(bytes).is_ok() {
                return Ok(());
            }
            // A server that has forgotten that it is open says so for ever.
            self.open = files.open_append(path).ok();
        }
        files.append(path, bytes)
    }
}

impl LeaseHolder {
    /// Waits for the lease of the folder and takes it; from then on it beats every `tick`.
    ///
    /// # Errors
    /// [`Kind::Lease`]: another agent has it, and lives. Nothing was changed then.
    pub fn take(
        system: &dyn System,
        tell: &Arc<dyn Tell>,
        folder: &Folder,
        me: &Holder,
        tick: Duration,
    ) -> Result<LeaseHolder, Failure> {
        if let Some(keeper) = folder.shared_keeper() {
            return LeaseHolder::take_kept(system, tell, folder, me, tick, keeper);
        }
        let (files, dir) = (folder.files.clone(), folder.path(LEASE));
        let failed = |e: io::Error| cannot_write(&format!("take the lease {dir}"), &e);
        let mut watcher = Watcher::new(me.clone());
        let mut is_said = false;
        let began = system.monotonic();
        for _ in 0..LOST_RACES {
            let (number, after) = loop {
                let seen = current(&*files, &dir).map_err(failed)?;
                match watcher.look(seen.clone(), system.monotonic()) {
                    Next::Claim(number, after) => break (number, after),
                    Next::GiveWay => return Err(in_use(folder, seen.as_ref())),
                    Next::Watch(_) if system.monotonic().saturating_sub(began) > BLIND => {
                        return Err(too_slow(&dir));
                    }
                    Next::Watch(limit) => {
                        if !std::mem::replace(&mut is_said, true) {
                            let who = seen.as_ref().map_or_else(String::new, SeenLease::who);
                            tell.info(&format!(
                                "{dir} was not released by {who}: watching for up to {} s whether that agent lives",
                                limit.as_secs()
                            ));
                        }
                        system.sleep(POLL);
                    }
                }
            };
            if super::number(&number.to_string()).is_none() {
                let why =
                    format!("{} leaves no number above it; no agent counts that far: remove it", number - 1);
                return Err(failed(io::Error::other(why)));
            }
            if let Some(writer) = claim(&*files, &dir, number, me).map_err(failed)? {
                if after == After::Another {
                    tell.warn("the agent of another machine held the folder and is silent: taking over");
                }
                let held = Arc::new(HeldLease::new(files, dir, number, writer));
                let is_from_another = after == After::Another;
                return Ok(LeaseHolder::keep(held, is_from_another, None, tell.clone(), tick));
            }
        }
        let why = io::Error::other("the share says that it is taken, and does not show by whom");
        Err(cannot_write(&format!("take the lease {dir}"), &why))
    }

    /// The same of a folder that a server keeps: it watches whoever has the folder, and says whom it waits for.
    fn take_kept(
        system: &dyn System,
        tell: &Arc<dyn Tell>,
        folder: &Folder,
        me: &Holder,
        tick: Duration,
        keeper: Arc<dyn Keeper>,
    ) -> Result<LeaseHolder, Failure> {
        let mut began = system.monotonic();
        let mut said = String::new();
        loop {
            let opened = keeper.open(me)?;
            if opened.is_open {
                let place = format!("the session for {}", folder.path(""));
                let held =
                    Arc::new(KeptLease { keeper, place, lost: Mutex::default(), is_over: Mutex::default() });
                let (is_from_another, recovery) = (opened.is_from_another, Some(opened.recovery));
                return Ok(LeaseHolder::keep(held, is_from_another, recovery, tell.clone(), tick));
            }
            let is_told = opened.waits_for.is_some();
            let who = opened.waits_for.unwrap_or_else(|| "the server is slow".into());
            if opened.is_in_line {
                // As long as others work.
                began = system.monotonic();
            }
            if system.monotonic().saturating_sub(began) > KEEPER_WAIT {
                return Err(kept_by_another(folder, &who));
            }
            if is_told && said != who {
                match opened.is_in_line {
                    true => tell.info(&who),
                    false => tell.info(&format!("waiting for the folder {}: {who}", folder.path(""))),
                }
                said = who;
            }
            system.sleep(POLL);
        }
    }

    fn keep(
        held: Arc<dyn Hold>,
        is_from_another: bool,
        recovery: Option<Recovery>,
        tell: Arc<dyn Tell>,
        tick: Duration,
    ) -> LeaseHolder {
        let (beating, stop) = mpsc::channel();
        let beat = held.clone();
        // Not joined by anybody: on a dead server it hangs in the kernel.
        let spawned = std::thread::Builder::new().name("lease".into()).spawn({
            let tell = tell.clone();
            move || {
                let mut is_said = false;
                while stop.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                    match beat.beat() {
                        Ok(true) => {}
                        Ok(false) => return,
                        Err(e) if !is_said => {
                            tell.warn(&format!("no heartbeat in {}: {e}", beat.place()));
                            is_said = true;
                        }
                        Err(_) => {}
                    }
                }
            }
        });
        if let Err(e) = spawned {
            tell.warn(&format!("no thread for the heartbeat, others will take this agent for dead: {e}"));
        }
        LeaseHolder { held, is_from_another, recovery, _beating: beating }
    }

    /// Looks whether the lease is still this agent's.
    ///
    /// # Errors
    /// [`Kind::Lease`]: it is not. Those of the share.
    pub fn check(&self) -> Result<(), Failure> {
        self.held.check()
    }

    /// Looks, and says only whether it is certainly lost: then not even the status may be written.
    pub fn is_lost(&self) -> bool {
        self.check().is_err_and(|failure| failure.kind == Kind::Lease)
    }

    /// Why the lease is lost, as far as the heartbeat has noticed.
    pub fn lost(&self) -> Option<Failure> {
        self.held.lost()
    }

    /// Lets go of the folder: who comes next need not wait.
    ///
    /// # Errors
    /// Those of the share, also that it did not answer in time.
    pub fn release(&self, limit: Duration) -> io::Result<()> {
        let held = self.held.clone();
        with_deadline(limit, move || held.release())
    }
}

impl HeldLease {
    fn new(files: Arc<dyn Files>, dir: String, number: u64, writer: LeaseWriter) -> Self {
        HeldLease { files, dir, number, lost: Mutex::default(), writer: Mutex::new(writer) }
    }

    fn path(&self) -> String {
        format!("{}/{}", self.dir, self.number)
    }
}

impl Hold for HeldLease {
    fn check(&self) -> Result<(), Failure> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = &*lost {
            return Err(failure.clone());
        }
        drop(lost);
        let newest = newest(&*self.files, &self.dir)
            .map_err(|e| cannot_read(&format!("look who holds {}", self.dir), &e))?;
        if newest == Some(self.number) {
            return Ok(());
        }
        let by = newest.and_then(|number| read(&*self.files, &self.dir, number).ok().flatten());
        let failure = Failure::new(
            Kind::Lease,
            match (by, newest) {
                (Some(seen), _) => {
                    format!("{} was taken over by {}: this agent was silent too long", self.dir, seen.who())
                }
                (None, Some(other)) if other > self.number => format!(
                    "{} was taken over by somebody whose lease {other} cannot be read: this agent was silent too long",
                    self.dir
                ),
                (None, _) => format!("the lease {}/{} was removed", self.dir, self.number),
            },
            "this agent has stopped; what it has not published does not count. If two machines have one address, \
             mend that. The machine stays armed, and tries again after a reboot.",
        );
        lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        *lost = Some(failure.clone());
        Err(failure)
    }

    fn beat(&self) -> io::Result<bool> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_over {
            return Ok(false);
        }
        match self.check() {
            Err(failure) if failure.kind == Kind::Lease => return Ok(false),
            Err(failure) => return Err(io::Error::other(failure.what)),
            Ok(()) => {}
        }
        writer.append(&*self.files, &self.path(), BEAT).map(|()| true)
    }

    fn release(&self) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut writer.is_over, true) || self.check().is_err() {
            return Ok(());
        }
        let released = writer.append(&*self.files, &self.path(), RELEASED);
        writer.open = None;
        released
    }

    fn lost(&self) -> Option<Failure> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn place(&self) -> String {
        self.path()
    }
}

/// A lease that the keeper of the folder holds for the session of this agent.
struct KeptLease {
    keeper: Arc<dyn Keeper>,
    place: String,
    lost: Mutex<Option<Failure>>,
    /// Locked while the keeper is told anything: nothing may follow the end.
    is_over: Mutex<bool>,
}

impl Hold for KeptLease {
    fn check(&self) -> Result<(), Failure> {
        if let Some(failure) = self.lost() {
            return Err(failure);
        }
        self.keeper.beat().inspect_err(|failure| {
            if failure.kind == Kind::Lease {
                *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.clone());
            }
        })
    }

    fn lost(&self) -> Option<Failure> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn beat(&self) -> io::Result<bool> {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_over {
            return Ok(false);
        }
        match self.check() {
            Err(failure) if failure.kind == Kind::Lease => Ok(false),
            Err(failure) => Err(io::Error::other(failure.what)),
            Ok(()) => Ok(true),
        }
    }

    fn release(&self) -> io::Result<()> {
        let mut is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *is_over, true) || self.lost().is_some() {
            return Ok(());
        }
        self.keeper.close()
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

/// Takes the lease `number`, which must be free; `None` where somebody else was quicker. Then removes what it follows.
fn claim(files: &dyn Files, dir: &str, number: u64, me: &Holder) -> io::Result<Option<LeaseWriter>> {
    files.make_dir(dir)?;
    let (claim, lease) = (format!("{dir}/{CLAIM}{}", me.session), format!("{dir}/{number}"));
    let mut file = files.create(&claim)?;
    let written = file.write_all(&me.to_bytes()).and_then(|()| file.sync());
    let linked = written.and_then(|()| files.hard_link(&claim, &lease));
    let seen = read(files, dir, number);
    let holder = seen.as_ref().ok().and_then(Option::as_ref).and_then(SeenLease::holder);
    let is_mine = holder.is_some_and(|holder| holder == *me);
    let mut writer = LeaseWriter { open: None, is_over: false };
    if is_mine {
        writer.open = files.open_append(&lease).ok();
    }
    // Open for writing by one name or the other all the time; and closed by the name that goes, which an NFS client would
    // otherwise keep as another one.
    drop(file);
    let removed = files.remove(&claim);
    seen?;
    match linked {
        _ if is_mine => {}
        // Somebody else has it; or has it already, and has tidied up.
        Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
        Ok(()) => return Err(io::Error::other("the share says that it is done, and it is not")),
    }
    removed?;
    files.sync_dir(dir)?;
    let names = files.list(dir)?;
    // A number is free again where its successor has removed it: who was so slow has lost.
    if names.iter().any(|name| super::number(name).is_some_and(|other| other > number)) {
        drop(writer);
        files.remove(&lease)?;
        return Ok(None);
    }
    for name in names {
        let is_older = super::number(&name).is_some_and(|other| other < number);
        if is_older || name.starts_with(CLAIM) {
            files.remove_if_exists(&format!("{dir}/{name}"))?;
        }
    }
    files.sync_dir(dir)?;
    Ok(Some(writer))
}

fn too_slow(dir: &str) -> Failure {
    let minutes = BLIND.as_secs() / 60;
    Failure::new(
        Kind::ShareHung,
        format!(
            "for {minutes} minutes the share answered too slowly to tell whether the holder of {dir} lives"
        ),
        "look at the server and the network: an answer took several seconds again and again. Nothing was changed; this \
         machine stays armed, and tries again after a reboot.",
    )
}

fn kept_by_another(folder: &Folder, who: &str) -> Failure {
    let minutes = KEEPER_WAIT.as_secs() / 60;
    Failure::new(
        Kind::Lease,
        format!("the folder {} was not free for {minutes} minutes: {who}", folder.path("")),
        "look at the log of the server: two machines may have this address, or somebody uses the token of this one. Nothing was \
         changed; this machine stays armed, and tries again after a reboot.",
    )
}

fn in_use(folder: &Folder, seen: Option<&SeenLease>) -> Failure {
    let who = seen.map_or_else(String::new, SeenLease::who);
    Failure::new(
        Kind::Lease,
        format!(
            "the folder {} is in use: {} is held by {who}, which lives",
            folder.path(""),
            folder.path(LEASE)
        ),
        "two machines have this address, or two virtual machines behind one NAT: give each its own (DHCP reservations). \
         Nothing was changed; this machine stays armed, and tries again after a reboot.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_too_slow_to_tell_is_named_with_the_time() {
        let failure = too_slow("10.0.0.1/lease");
        assert_eq!(failure.kind, Kind::ShareHung);
        assert!(
            failure.what.starts_with("for 60 minutes ") && failure.what.contains("10.0.0.1/lease"),
            "{failure}"
        );
    }
}
