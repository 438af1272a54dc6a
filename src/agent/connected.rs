//! The shares are proven ours: the machine's folder is leased, and the attempt counted.

use super::address::Address;
use super::disk_watch::DiskWatch;
use super::image_failure::internal;
use super::named::Named;
use super::proven::ProvenJob;
use super::shares::Shares;
use crate::failure::{Failure, Kind};
use crate::job::Action;
use crate::store::cannot_write;
use crate::store::layout::STATUS;
use crate::store::lease::{Holder, LeaseHolder, Tell};
use crate::store::status::{JobState, STATUS_LIMIT, Status};
use crate::sys::random_id;
use std::sync::Arc;

/// Logs and status may be written once the lease is held.
pub struct Connected<'a> {
    pub named: Named<'a>,
    /// Kept from the moment on at which there is something to do.
    pub address: Option<Arc<Address>>,
    pub proven: ProvenJob,
    /// Looks at the disks since there is something to do.
    pub disks: DiskWatch,
}

impl Connected<'_> {
    /// Every action that writes into the folder takes its lease, `refresh-info` and `verify` too: they write
    /// `status.json`, and an agent counts on it that nobody else does.
    ///
    /// # Errors
    /// As [`LeaseHolder::take`].
    pub fn acquire_lease(&self) -> Result<LeaseHolder, Failure> {
        let Named { context, facts, order, who, .. } = &self.named;
        let session = random_id().map_err(|e| internal(format!("no random numbers: {e}")))?;
        let mut macs: Vec<String> =
            facts.macs.iter().filter(|(_, mac)| mac.0 != [0; 6]).map(|(_, mac)| mac.to_string()).collect();
        macs.sort();
        let me = Holder {
            session: format!("{session:016x}"),
            uuid: facts.uuid.filter(|uuid| uuid.is_set()).map(|uuid| uuid.to_string()),
            macs,
            hostname: who.hostname.clone(),
            action: order.words.action.map_or("unknown", Action::as_str).into(),
            job: order.words.job.as_ref().map(|id| id.as_str().to_owned()),
        };
        let world = context.world;
        let tell: Arc<dyn Tell> = Arc::new(context.journal.clone());
        LeaseHolder::take(&*world.system(), &tell, &self.proven.folder, &me, world.tick())
    }

    /// The folder is another's: then all machines' log tells who was refused.
    pub fn tell_all_machines(&self, shares: &Shares<'_>, failure: &Failure) {
        let is_kept = self.proven.folder.keeper().is_some();
        // A store tells it itself.
        if failure.kind != Kind::Lease || shares.given_up().is_some() || is_kept {
            return;
        }
        let journal = self.named.context.journal;
        if let Err(e) = journal.only_global(&*self.proven.backup.files, &failure.to_string()) {
            journal.warn(&format!("cannot write to the log of all machines: {e}"));
        }
    }

    /// Counts this attempt. The count is on the share before anything else happens: no failure, and no crash, can
    /// loop for ever. The status of a job that is done stays as it is.
    ///
    /// # Errors
    /// The status cannot be written.
    pub fn count_attempt(&self) -> Result<Status, Failure> {
        let Named { context, order, who, .. } = &self.named;
        let (folder, journal) = (&self.proven.folder, context.journal);
        let id = order.words.job.as_ref().map(|id| id.as_str().to_owned());
        let action = order.words.action.map_or("unknown", Action::as_str);
        let earlier = match folder.files.read_limited(&folder.path(STATUS), STATUS_LIMIT) {
            Ok(bytes) => Status::parse(&bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => {
                journal.warn(&format!("cannot read {}: {e}", folder.path(STATUS)));
                None
            }
        };
        let same = earlier.filter(|s| s.is_of(id.as_deref(), action));
        // Without an id nobody can tell the same job from the next one: then it is always a new one.
        if let Some(done) = same.as_ref().filter(|s| s.state == JobState::Done && id.is_some()) {
            return Ok(done.clone());
        }
        let attempt = same.filter(|s| s.state != JobState::Done).map_or(1, |s| s.attempt.saturating_add(1));
        let now = context.world.system().now();
        let status = Status {
            state: JobState::Running,
            action: action.into(),
            job: id,
            ip: who.ip.to_string(),
            hostname: who.hostname.clone(),
            step: "starting".into(),
            disk: None,
            bytes_done: 0,
            bytes_total: 0,
            rate: 0,
            eta: None,
            attempt,
            error: None,
            code: None,
            notes: Vec::new(),
            stages: Vec::new(),
            started: now,
            updated: now,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        folder
            .files
            .write_atomic(&folder.path(STATUS), &status.to_bytes())
            .map_err(|e| cannot_write(&format!("write {}", folder.path(STATUS)), &e))?;
        if attempt > 1 {
            journal.info(&format!("attempt {attempt} of {}", context.settings.attempts));
        }
        Ok(status)
    }
}
