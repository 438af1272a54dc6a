//! Work in a machine's folder while nobody else may change it.

use super::output::Stderr;
use super::ownership::{self, Class};
use super::{arm, shares::ShareFolder};
use crate::failure::Kind;
use crate::store::Folder;
use crate::store::layout::{LEASE, RECORD_PENDING};
use crate::store::lease::{self, Holder, LeaseHolder, Tell};
use crate::sys::{RealSystem, random_id};
use std::sync::Arc;
use std::time::Duration;

/// How often a held lease says that its holder lives.
const BEAT: Duration = Duration::from_secs(3);
/// How long letting go of it may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// Does `work` with the lease of a folder, whose holder others are told to be at `action`. A folder that an agent holds, or where
/// a set is half published, is left alone.
///
/// # Errors
/// Why it was left alone, in words; those of `work`.
pub(super) fn leased<T>(
    share: &ShareFolder,
    folder: &Folder,
    action: &str,
    work: impl FnOnce(&LeaseHolder) -> Result<T, String>,
) -> Result<T, String> {
    let (system, tell): (RealSystem, Arc<dyn Tell>) = (RealSystem::new(), Arc::new(Stderr));
    let session = random_id().map_err(|e| format!("no random numbers: {e}"))?;
    let me = Holder {
        session: format!("{session:016x}"),
        uuid: None,
        macs: Vec::new(),
        hostname: format!("testboxctl of {}", arm::who()),
        action: action.into(),
        job: None,
    };
    let held =
        LeaseHolder::take(&system, &tell, folder, &me, BEAT).map_err(|failure| match failure.kind {
            Kind::Lease => failure.what,
            _ => failure.to_string(),
        })?;
    let done = (|| {
        own_lease(share, folder);
        let is_pending = folder.files.exists(&folder.path(RECORD_PENDING)).map_err(|e| e.to_string())?;
        if is_pending {
            return Err("a set is being published, or that was cut: its next job settles it".into());
        }
        work(&held)
    })();
    let released = held.release(CLOSE_LIMIT).map_err(|e| format!("cannot let go of its folder: {e}"));
    done.and_then(|done| released.map(|()| done))
}

/// Taken by root, the lease is still the agents' to read.
fn own_lease(share: &ShareFolder, folder: &Folder) {
    let dir = folder.path(LEASE);
    if let Ok(Some(number)) = lease::newest(&*folder.files, &dir) {
        for (path, class) in
            [(dir.clone(), Class::BackupFolder), (format!("{dir}/{number}"), Class::BackupFile)]
        {
            // An agent that cannot read it says so.
            let _ = ownership::own(&share.path.join(path), class);
        }
    }
}
