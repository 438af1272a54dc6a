//! The steps that a store does by itself, asked for over a wire.

use super::client::RemoteStore;
use crate::failure::{Failure, Kind};
use crate::image::Hash;
use crate::progress::Progress;
use crate::store::keeper::{Keeper, KeptImage, NotProven};
use crate::store::lease::Holder;
use crate::store::protocol::{
    Code, DisarmResult, Opened, ProofState, PublishedSet, Recovery, Refusal, Room, StoreCall, StorePath,
};
use crate::store::record::Record;
use crate::store::share_failure::{cannot_read, cannot_write};
use crate::sys::System;
use crate::types::DiskName;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Between two questions how far a proof is.
const POLL: Duration = Duration::from_secs(1);

/// Whoever keeps the folder of a machine on a store.
pub struct RemoteKeeper {
    store: Arc<RemoteStore>,
    system: Arc<dyn System>,
}

impl RemoteKeeper {
    /// The keeper of this store; it waits by this clock.
    pub fn new(store: Arc<RemoteStore>, system: Arc<dyn System>) -> Self {
        RemoteKeeper { store, system }
    }
}

impl Keeper for RemoteKeeper {
    fn open(&self, me: &Holder) -> Result<Opened, Failure> {
        match self.store.ask(&StoreCall::Open, &me.to_bytes()) {
            Ok(opened) => Ok(opened),
            // As a lease that somebody else holds: who has it may be dead, which only time can tell.
            Err(e) => match Refusal::of(&e).filter(|refusal| refusal.code == Code::Bound) {
                Some(refusal) => Ok(Opened {
                    is_open: false,
                    waits_for: Some(refusal.text.clone()),
                    is_in_line: false,
                    is_from_another: false,
                    recovery: Recovery::Nothing,
                }),
                None => Err(cannot_write("begin a session", &e)),
            },
        }
    }

    fn beat(&self) -> Result<(), Failure> {
        self.store
            .have_done(&StoreCall::Beat, b"")
            .map_err(|e| cannot_read("look who has the machine's folder", &e))
    }

    fn close(&self) -> io::Result<()> {
        self.store.have_done(&StoreCall::Close, b"")
    }

    fn room(&self) -> io::Result<Room> {
        self.store.ask(&StoreCall::Room, b"")
    }

    fn sweep(&self, wanted: &[String]) -> Result<(), Failure> {
        let names: Result<Vec<DiskName>, _> = wanted.iter().map(|name| name.parse()).collect();
        let failed = |e: io::Error| cannot_write("remove unfinished images", &e);
        let names = names.map_err(|e| failed(io::Error::new(io::ErrorKind::InvalidInput, e)))?;
        self.store.have_done(&StoreCall::Sweep(names), b"").map_err(failed)
    }

    fn prove(&self, path: &str, progress: &Progress) -> Result<KeptImage, NotProven> {
        let place = place(path)?;
        let call = StoreCall::Prove(place);
        loop {
            match self.store.ask(&call, b"")? {
                ProofState::Running { done, total } => {
                    progress.total.store(total, Relaxed);
                    progress.done.store(done, Relaxed);
                }
                ProofState::Proven { root_hash, size, .. } => return proven(path, &root_hash, size),
                ProofState::Damaged(why) => return Err(NotProven::Damaged(why)),
                ProofState::Unreadable(why) => {
                    let why = format!("the store cannot read it from its own disk: {why}");
                    return Err(io::Error::other(why).into());
                }
            }
            if progress.is_cancelled() {
                return Err(io::Error::from(io::ErrorKind::Interrupted).into());
            }
            self.system.sleep(POLL);
        }
    }

    fn suspect(&self, path: &str) -> io::Result<()> {
        let place = place(path)?;
        self.store.have_done(&StoreCall::Suspect(place), b"")
    }

    fn publish(&self, record: &Record) -> Result<PublishedSet, Failure> {
        self.store.ask(&StoreCall::Publish, &record.to_bytes()).map_err(|e| match Refusal::of(&e) {
            None => Failure { kind: Kind::Publish, ..cannot_write("publish the set", &e) },
            Some(_) => cannot_write("publish the set", &e),
        })
    }

    fn disarm(&self) -> Result<DisarmResult, Failure> {
        self.store.ask(&StoreCall::Disarm, b"").map_err(|e| {
            let advice = "remove the file by hand (testboxctl disarm), then switch the machine off and on.";
            match Refusal::of(&e).and_then(Refusal::failure) {
                Some(failure) => failure,
                None => Failure::new(
                    Kind::Disarm,
                    format!("the job is over, but the store does not disarm it: {e}"),
                    advice,
                ),
            }
        })
    }

    fn tell_loader(&self, path: &str) -> io::Result<()> {
        self.store.have_done(&StoreCall::Loader, path.as_bytes())
    }
}

fn proven(path: &str, root_hash: &str, size: u64) -> Result<KeptImage, NotProven> {
    let root_hash = Hash::from_hex(root_hash).map_err(|_| {
        let what = format!("{path}: the store calls it proven, and names no root hash");
        io::Error::new(io::ErrorKind::InvalidData, what)
    })?;
    Ok(KeptImage { root_hash, size })
}

fn place(path: &str) -> io::Result<StorePath> {
    path.parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?}: {e}")))
}
