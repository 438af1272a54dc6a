//! Where members wait that were read and proven before the first write: memory, with one bound for the whole machine.
//!
//! The bound is a quarter of the memory that is available when the restore begins, at most 4 GiB, for all disks together. A
//! member counts with its bytes in the image, and [`ENTRY`] for the rest. What finds no room is read again when it is written.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Most bytes, however much memory a machine has.
const MOST: u64 = 4 << 30;
/// Where nobody says how much memory there is.
const UNKNOWN: u64 = 256 << 20;
/// Bytes that a run takes beside its member.
pub(super) const ENTRY: u64 = 256;

/// Bytes of memory that members may still take; clones share them.
#[derive(Clone, Debug)]
pub struct MemberMemory(Arc<AtomicU64>);

impl MemberMemory {
    /// So many bytes.
    pub fn of(bytes: u64) -> Self {
        MemberMemory(Arc::new(AtomicU64::new(bytes)))
    }

    /// The share of a machine's available memory, in bytes.
    pub fn of_available(bytes: u64) -> Self {
        Self::of((bytes / 4).min(MOST))
    }

    /// Takes room for a run whose member has so many bytes; false where there is none.
    pub(super) fn take(&self, member: u64) -> bool {
        let less = |left: u64| left.checked_sub(member.saturating_add(ENTRY));
        self.0.fetch_update(Relaxed, Relaxed, less).is_ok()
    }
}

impl Default for MemberMemory {
    fn default() -> Self {
        Self::of(UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_disks_together_take_no_more_than_the_bound() {
        let memory = MemberMemory::of(3 * (4096 + ENTRY));
        let other = memory.clone();
        assert!(memory.take(4096) && other.take(4096) && !memory.take(8192) && memory.take(4096));
        assert!(!other.take(0));
        for (available, most) in [(0, 0), (400 << 20, 100 << 20), (1 << 40, MOST)] {
            let memory = MemberMemory::of_available(available);
            assert!(!memory.take(most) && (most == 0 || memory.take(most - ENTRY)), "{available}");
        }
    }
}
