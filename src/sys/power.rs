//! The power of a machine in memory, and chance, for tests.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// What disks and shares of a test hang on: they work until the operation at which the power is cut, and do nothing
/// from then on. Clones are the same power.
#[derive(Clone, Debug)]
pub struct Power {
    state: Arc<PowerState>,
}

#[derive(Debug)]
struct PowerState {
    begun: AtomicUsize,
    cut_at: AtomicUsize,
}

impl Default for Power {
    fn default() -> Self {
        Power {
            state: Arc::new(PowerState { begun: AtomicUsize::new(0), cut_at: AtomicUsize::new(usize::MAX) }),
        }
    }
}

impl Power {
    /// Cuts the power at operation number `nth`, from 0, of all that hangs on it: that one is not done any more.
    pub fn cut_at(&self, nth: usize) {
        self.state.cut_at.store(nth, SeqCst);
    }

    /// Operations so far, those that came after the cut too.
    pub fn operations(&self) -> usize {
        self.state.begun.load(SeqCst)
    }

    /// False from the cut on.
    pub fn is_on(&self) -> bool {
        self.operations() <= self.state.cut_at.load(SeqCst)
    }

    /// Counts an operation; EIO from the cut on.
    ///
    /// # Errors
    /// EIO.
    pub fn begin(&self) -> io::Result<()> {
        let nth = self.state.begun.fetch_add(1, SeqCst);
        if nth < self.state.cut_at.load(SeqCst) {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::EIO))
        }
    }
}

/// Random numbers that depend on a seed and on what they are for, and not on who asks first: a run with several
/// threads has the same ones each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance(pub u64);

impl Chance {
    /// The number for `what`.
    pub fn of(self, what: impl Hash) -> u64 {
        // Its keys are fixed.
        let mut hasher = DefaultHasher::new();
        (self.0, what).hash(&mut hasher);
        hasher.finish()
    }

    /// True once in `n` times.
    pub fn one_in(self, n: u64, what: impl Hash) -> bool {
        self.of(what).is_multiple_of(n.max(1))
    }

    /// One of these, none where there are none.
    pub fn choose<T: Copy>(self, from: &[T], what: impl Hash) -> Option<T> {
        let nth = self.of(what).checked_rem(from.len() as u64)?;
        from.get(usize::try_from(nth).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_goes_at_the_operation_it_was_told_and_stays_off() {
        let power = Power::default();
        power.cut_at(2);
        let done: Vec<bool> = (0..4).map(|_| power.clone().begin().is_ok()).collect();
        assert_eq!(done, [true, true, false, false]);
        assert!(power.operations() == 4 && !power.is_on());
    }

    #[test]
    fn chance_depends_on_the_seed_and_on_what_it_is_for() {
        assert_eq!(Chance(1).of(("write", 7)), Chance(1).of(("write", 7)));
        assert_ne!(Chance(1).of(("write", 7)), Chance(2).of(("write", 7)));
        let hits = (0..10_000).filter(|n| Chance(3).one_in(10, n)).count();
        assert!((800..1200).contains(&hits), "{hits} of 10000");
    }
}
