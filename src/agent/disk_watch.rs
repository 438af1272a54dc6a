//! Looks at the list of disks while shares are mounted: the wait until it is complete begins with the first look.

use crate::agent::world::{ListDisks, World};
use crate::inventory::{Inventory, Looks, ScanError, Settle, Unsettled, settled};
use crate::sys::System;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::thread;
use std::time::Duration;

/// How long the first look is waited for. The kernel answers at once, except where it is busy with a disk that hangs.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// The looks so far; `None` once somebody has taken them over.
type Shared = Mutex<Option<Looks>>;

/// Looks on a thread of its own, until it is dropped or taken over.
pub struct DiskWatch {
    looks: Arc<Shared>,
    list: ListDisks,
    system: Arc<dyn System>,
}

impl DiskWatch {
    /// Looks for the first time, and then again and again. Nobody waits for the thread's end: where the kernel hangs on a
    /// disk, it hangs there alone.
    pub fn start(world: &dyn World) -> Self {
        let (list, system) = (world.list_disks(), world.system());
        let watch = DiskWatch { looks: Arc::new(Mutex::new(Some(Looks::default()))), list, system };
        let (first, looked) = mpsc::sync_channel(1);
        let (looks, list, system) = (Arc::downgrade(&watch.looks), watch.list.clone(), watch.system.clone());
        let look = move || {
            while look(&looks, &list, &*system) {
                let _ = first.try_send(());
                thread::sleep(Settle::default().interval);
            }
        };
        // Without a thread all looks are those of `settled`.
        if thread::Builder::new().name("disks".into()).spawn(look).is_ok() {
            let _ = looked.recv_timeout(FIRST_LOOK);
        }
        watch
    }

    /// How long the list has been the same by now.
    pub fn quiet(&self) -> Duration {
        lock(&self.looks).as_ref().map_or(Duration::ZERO, |looks| looks.quiet(self.system.monotonic()))
    }

    /// The list once it has been the same for so long, the looks so far included.
    ///
    /// # Errors
    /// As [`settled`].
    pub fn settled(&self, quiet: Duration) -> Result<Inventory, Unsettled<ScanError>> {
        let looks = lock(&self.looks).take().unwrap_or_default();
        let rule = Settle { quiet, ..Settle::default() };
        settled(rule, looks, || (self.list)(), || self.system.monotonic(), |time| self.system.sleep(time))
    }
}

fn lock(looks: &Shared) -> MutexGuard<'_, Option<Looks>> {
    looks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One look; false where nobody wants it any more.
fn look(looks: &Weak<Shared>, list: &ListDisks, system: &dyn System) -> bool {
    let found = list();
    let Some(looks) = looks.upgrade() else { return false };
    let mut looks = lock(&looks);
    // A list that cannot be read is said where it is needed.
    looks.as_mut().map(|looks| looks.note(found, system.monotonic())).is_some()
}
