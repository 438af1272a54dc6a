//! Waiting until the list of disks is complete.
#![forbid(unsafe_code)]

use super::Inventory;
use std::time::Duration;

/// How long to look before a list of disks is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settle {
    /// The list must stay the same for this long.
    pub quiet: Duration,
    /// Time between two looks.
    pub interval: Duration,
    /// Longest wait in all.
    pub limit: Duration,
}

impl Default for Settle {
    /// 10 s unchanged, looked at every second, for at most 2 minutes (slow RAID controllers take more than one).
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Settle { quiet: seconds(10), interval: seconds(1), limit: seconds(120) }
    }
}

/// The list of disks did not come to rest.
#[derive(Debug, thiserror::Error)]
pub enum Unsettled<E> {
    /// It still changed within the last `quiet` time.
    #[error(
        "the list of disks still changes after {} s (it changed {changes} times; now {} disks): \
         is a disk or a cable failing?", limit.as_secs(), last.disks.len()
    )]
    Changing {
        /// How long was waited.
        limit: Duration,
        /// How often the list changed.
        changes: u32,
        /// The list of the last look.
        last: Inventory,
    },
    /// The last look failed.
    #[error(transparent)]
    Scan(E),
}

/// What the looks at the list of disks have shown so far.
#[derive(Debug, Default)]
pub struct Looks {
    held: Option<Inventory>,
    /// Since when the list is as it is.
    since: Duration,
    changes: u32,
}

impl Looks {
    /// Notes what a look at this time has shown. A scan that fails counts as a change.
    ///
    /// # Errors
    /// That of the scan.
    pub fn note<E>(&mut self, found: Result<Inventory, E>, time: Duration) -> Result<(), E> {
        let found = match found {
            Ok(found) => found,
            Err(e) => {
                self.held = None;
                return Err(e);
            }
        };
        if self.held.as_ref() != Some(&found) {
            self.changes += u32::from(self.held.is_some());
            self.held = Some(found);
            self.since = time;
        }
        Ok(())
    }

    /// How long the list has been the same; nothing where there is none.
    pub fn quiet(&self, now: Duration) -> Duration {
        self.held.as_ref().map_or(Duration::ZERO, |_| now.saturating_sub(self.since))
    }
}

/// Scans until the list has been the same for `rule.quiet`, and returns it; earlier `looks` count. `now` is any monotonic
/// time, the one of those looks.
///
/// An empty list is believed only after the limit: no disk is an error anyway, and drivers may still be starting.
///
/// # Errors
/// [`Unsettled`] when `rule.limit` is over.
pub fn settled<E>(
    rule: Settle,
    mut looks: Looks,
    mut scan: impl FnMut() -> Result<Inventory, E>,
    mut now: impl FnMut() -> Duration,
    mut sleep: impl FnMut(Duration),
) -> Result<Inventory, Unsettled<E>> {
    let start = now();
    loop {
        let found = scan();
        let time = now();
        let at_limit = time.saturating_sub(start) >= rule.limit;
        let seen = looks.note(found, time);
        if let (true, Err(e)) = (at_limit, seen) {
            return Err(Unsettled::Scan(e));
        }
        let quiet = looks.quiet(time);
        if let Some(list) = looks.held.take() {
            let is_believed = at_limit || quiet >= rule.limit || !list.disks.is_empty();
            if quiet >= rule.quiet && is_believed {
                return Ok(list);
            }
            if at_limit {
                return Err(Unsettled::Changing { limit: rule.limit, changes: looks.changes, last: list });
            }
            looks.held = Some(list);
        }
        sleep(rule.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fixture::disk;
    use std::cell::Cell;

    /// Looks once a second at what `at` says for that second; answers with the verdict and the seconds it took.
    fn run(at: impl Fn(u64) -> Result<usize, &'static str>) -> (Result<usize, String>, u64) {
        run_after(0, at)
    }

    /// The same where the first `before` seconds were looked at beside something else.
    fn run_after(
        before: u64,
        at: impl Fn(u64) -> Result<usize, &'static str>,
    ) -> (Result<usize, String>, u64) {
        let clock = Cell::new(Duration::from_secs(1000));
        let seconds = || clock.get().as_secs() - 1000;
        let scan =
            || at(seconds()).map(|n| Inventory { disks: (0..n).map(|i| disk(&format!("sd{i}"))).collect() });
        let mut looks = Looks::default();
        for _ in 0..before {
            let _ = looks.note(scan(), clock.get());
            clock.set(clock.get() + Duration::from_secs(1));
        }
        let result = settled(Settle::default(), looks, scan, || clock.get(), |d| clock.set(clock.get() + d));
        (result.map(|list| list.disks.len()).map_err(|e| e.to_string()), seconds())
    }

    #[test]
    fn a_late_disk_starts_the_ten_quiet_seconds_again() {
        assert_eq!(run(|_| Ok(2)), (Ok(2), 10));
        assert_eq!(run(|t| Ok(if t < 9 { 1 } else { 2 })), (Ok(2), 19));
        assert_eq!(run(|t| if t == 5 { Err("gone") } else { Ok(1) }), (Ok(1), 16));
    }

    #[test]
    fn what_was_looked_at_before_is_not_waited_for_again() {
        assert_eq!(run_after(4, |_| Ok(2)), (Ok(2), 10));
        assert_eq!(run_after(40, |_| Ok(2)), (Ok(2), 40));
        // Ten seconds from the disk that came last, and not from the first look.
        assert_eq!(run_after(4, |t| Ok(if t < 3 { 1 } else { 2 })), (Ok(2), 13));
        assert_eq!(run_after(40, |t| Ok(if t < 40 { 1 } else { 2 })), (Ok(2), 50));
        assert_eq!(run_after(40, |t| if t == 39 { Err("gone") } else { Ok(1) }), (Ok(1), 50));
        assert_eq!(run_after(200, |_| Ok(0)), (Ok(0), 200));
        assert_eq!(run_after(200, |t| Ok(usize::from(t >= 195))), (Ok(1), 205));
    }

    #[test]
    fn no_disk_is_believed_only_at_the_limit() {
        assert_eq!(run(|_| Ok(0)), (Ok(0), 120));
        assert_eq!(run(|t| Ok(usize::from(t >= 90))), (Ok(1), 100));
    }

    #[test]
    fn wait_is_bounded_when_the_list_never_rests_or_cannot_be_read() {
        let (result, took) = run(|t| Ok(usize::from(t / 5 % 2 == 0) + 1));
        assert_eq!(took, 120);
        assert!(result.unwrap_err().contains("still changes after 120 s (it changed 24 times"));
        assert_eq!(run(|_| Err("EIO")), (Err("EIO".into()), 120));
    }
}
