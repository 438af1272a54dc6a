//! Disk operations that do not return: a thread that waits for a dead disk cannot be stopped, so somebody else must
//! say it and end the machine.

use crate::block::BlockDevice;
use crate::block::watched::{InFlight, Watched};
use crate::failure::{Failure, Kind};
use crate::sys::System;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// After this an operation is worth a line. Linux gives a disk 30 seconds for a command by default.
const SLOW: Duration = Duration::from_secs(60);
/// After this it is given up. The kernel's own retries and resets of a bad disk are over by then.
const HUNG: Duration = Duration::from_secs(600);

/// The open disks of one plan.
#[derive(Default)]
pub struct Watchdog {
    disks: Mutex<Vec<Weak<Watched>>>,
    /// The operation that was last called slow.
    said: Mutex<Option<InFlight>>,
}

/// What the watchdog has found.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// An operation takes long; said once of each.
    Slow(String),
    /// An operation does not come back.
    Hung(Failure),
}

impl Watchdog {
    /// Watches a disk for as long as it is open.
    pub fn watch(&self, disk: Arc<dyn BlockDevice>, system: Arc<dyn System>) -> Arc<dyn BlockDevice> {
        let watched = Arc::new(Watched::new(disk, Arc::new(move || system.monotonic())));
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        disks.retain(|disk| disk.strong_count() > 0);
        disks.push(Arc::downgrade(&watched));
        watched
    }

    /// Looks at what is under way.
    pub fn look(&self, now: Duration) -> Option<Finding> {
        let disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = disks.iter().filter_map(|disk| disk.upgrade()?.oldest()).min_by_key(|op| op.since)?;
        let age = now.saturating_sub(oldest.since);
        if age >= HUNG {
            let what = format!("{oldest} has not come back for {} s: the disk hangs", age.as_secs());
            let advice = "the disk, its cable or its controller has stopped answering: switch the machine off and on, \
                          and look at them. What was written to a disk is not finished.";
            return Some(Finding::Hung(Failure::new(Kind::DiskHung, what, advice)));
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if age < SLOW || said.as_ref() == Some(&oldest) {
            return None;
        }
        let text = format!("{oldest} has not come back for {} s", age.as_secs());
        *said = Some(oldest);
        Some(Finding::Slow(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::mem::{Fault, MemDisk, Op};
    use crate::sys::Recording;

    #[test]
    fn what_hangs_is_named_with_its_place_and_what_returns_is_forgotten() {
        let (system, bytes) = (Arc::new(Recording::new()), Arc::new(MemDisk::new("sdx", vec![0; 8192], 512)));
        let dog = Watchdog::default();
        let disk = dog.watch(bytes.clone(), system.clone());
        disk.read_at(&mut [0; 512], 0).unwrap();
        system.advance(HUNG);
        assert_eq!(dog.look(system.monotonic()), None, "nothing is under way");
        bytes.inject(Op::Write, 1024..1536, Fault::Hang, 1);
        std::thread::scope(|scope| {
            scope.spawn(|| disk.write_at(&[1; 1024], 1024));
            bytes.wait_for_hang();
            assert_eq!(dog.look(system.monotonic()), None);
            system.advance(SLOW);
            let slow = "sdx: write of 1024 bytes at LBA 2 has not come back for 60 s";
            assert_eq!(dog.look(system.monotonic()), Some(Finding::Slow(slow.into())));
            assert_eq!(dog.look(system.monotonic()), None, "said once");
            system.advance(HUNG);
            let Some(Finding::Hung(failure)) = dog.look(system.monotonic()) else { panic!("not found") };
            assert!(failure.kind == Kind::DiskHung && failure.what.contains("LBA 2"), "{failure}");
            bytes.release();
        });
        assert_eq!(dog.look(system.monotonic()), None);
        drop(disk);
        assert!(dog.disks.lock().unwrap()[0].upgrade().is_none(), "a disk is closed when its user is done");
    }
}
