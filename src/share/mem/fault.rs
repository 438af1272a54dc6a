//! What goes wrong on a share in memory: this operation, the Nth one, or by chance.

use crate::sys::Chance;
use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The operations of a share that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the methods of `Files`, `ReadAt` and `SyncWrite`
pub enum ShareOp {
    Open,
    Read,
    Create,
    Reopen,
    GoOn,
    AppendFrom,
    Write,
    Sync,
    Append,
    OpenAppend,
    Rename,
    HardLink,
    Remove,
    MakeDir,
    List,
    SyncDir,
    FreeBytes,
    Owner,
}

impl ShareOp {
    /// True for what a read-only share refuses. A folder is left out: one that is there is fine (mkdir(2): EEXIST).
    pub(super) fn is_change(self) -> bool {
        !matches!(
            self,
            ShareOp::Open
                | ShareOp::Read
                | ShareOp::List
                | ShareOp::SyncDir
                | ShareOp::FreeBytes
                | ShareOp::Owner
                | ShareOp::MakeDir
        )
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareFault {
    /// The operation fails with this errno. After a failed `Sync`, later ones answer 0 although the data is lost, as
    /// Linux does.
    Errno(i32),
    /// A `Write` or `AppendFrom` takes no more than this many bytes (at least 1); other operations are as usual.
    Short(usize),
    /// The operation answers success and does nothing: a server or disk that lies. A dropped `Write` or `AppendFrom`
    /// leaves zeros.
    Dropped,
    /// The whole share stops answering, this operation and all others, before [`super::MemFiles::release`]; then all is fine.
    Hang,
    /// This operation and everything from then on fails with this errno: a share that is taken away.
    Gone(i32),
}

/// How long anything waits for a hang or its end: a test that is wrong fails, and does not stand still itself.
const PATIENCE: Duration = Duration::from_secs(100);

/// Where the share stands still ([`ShareFault::Hang`]).
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// It hangs, and it is not to hang any more.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn hang(&self) {
        self.state().0 = true;
        self.changed.notify_all();
        drop(self.changed.wait_timeout_while(self.state(), PATIENCE, |state| !state.1));
    }

    pub(super) fn wait_for_hang(&self) {
        let waited = self.changed.wait_timeout_while(self.state(), PATIENCE, |state| !state.0);
        assert!(!waited.unwrap_or_else(PoisonError::into_inner).1.timed_out(), "nothing hangs");
    }

    pub(super) fn release(&self) {
        self.state().1 = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, (bool, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Faults by chance.
#[derive(Debug)]
pub(super) struct ShareRandom {
    pub(super) chance: Chance,
    pub(super) one_in: u64,
    pub(super) seen: HashMap<(ShareOp, String), u64>,
}

impl ShareRandom {
    pub(super) fn fault(&mut self, op: ShareOp, path: &str) -> Option<ShareFault> {
        let nth = self.seen.entry((op, path.to_owned())).or_default();
        *nth += 1;
        let what = (op, path, *nth);
        let errno =
            self.chance.choose(&[libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::ESTALE], (what, "errno"));
        let error = ShareFault::Errno(errno.unwrap_or(libc::EIO));
        let faults: &[ShareFault] = match op {
            ShareOp::Write | ShareOp::AppendFrom => &[error, ShareFault::Short(1), ShareFault::Dropped],
            _ => &[error],
        };
        let is_hit = self.chance.one_in(self.one_in, what);
        is_hit.then(|| self.chance.choose(faults, (what, "kind"))).flatten()
    }
}
