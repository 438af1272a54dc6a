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

/// Scans until the list has been the same for `rule.quiet`, and returns it. `now` is any monotonic time.
///
/// An empty list is believed only at the limit: no disk is an error anyway, and drivers may still be starting. A
/// scan that fails counts as a change.
///
/// # Errors
/// [`Unsettled`] when `rule.limit` is over.
pub fn settled<E>(
    rule: Settle,
    mut scan: impl FnMut() -> Result<Inventory, E>,
    mut now: impl FnMut() -> Duration,
    mut sleep: impl FnMut(Duration),
) -> Result<Inventory, Unsettled<E>> {
    let start = now();
    let mut held: Option<Inventory> = None;
    let mut since = start;
    let mut changes = 0;
    loop {
        let found = scan();
        let time = now();
        let at_limit = time.saturating_sub(start) >= rule.limit;
        match found {
            Ok(found) => {
                if held.as_ref() != Some(&found) {
                    changes += u32::from(held.is_some());
                    held = Some(found);
                    since = time;
                }
            }
            Err(e) if at_limit => return Err(Unsettled::Scan(e)),
            Err(_) => held = None,
        }
        if let Some(list) = held.take() {
            let quiet = time.saturating_sub(since) >= rule.quiet;
            if quiet && (at_limit || !list.disks.is_empty()) {
                return Ok(list);
            }
            if at_limit {
                return Err(Unsettled::Changing { limit: rule.limit, changes, last: list });
            }
            held = Some(list);
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
        let clock = Cell::new(Duration::from_secs(1000));
        let seconds = || clock.get().as_secs() - 1000;
        let scan =
            || at(seconds()).map(|n| Inventory { disks: (0..n).map(|i| disk(&format!("sd{i}"))).collect() });
        let result = settled(Settle::default(), scan, || clock.get(), |d| clock.set(clock.get() + d));
        (result.map(|list| list.disks.len()).map_err(|e| e.to_string()), seconds())
    }

    #[test]
    fn a_late_disk_starts_the_ten_quiet_seconds_again() {
        assert_eq!(run(|_| Ok(2)), (Ok(2), 10));
        assert_eq!(run(|t| Ok(if t < 9 { 1 } else { 2 })), (Ok(2), 19));
        assert_eq!(run(|t| if t == 5 { Err("gone") } else { Ok(1) }), (Ok(1), 16));
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
