//! Whether what a disk holds is read before it is written: as long as that saves more than it costs.
#![forbid(unsafe_code)]

use crate::image::format::member::MemberKind;
use crate::types::Delta;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that are compared before anything is decided.
const FIRST: u64 = 16 << 20;
/// Older figures count half once so many bytes came in: disks are not the same everywhere.
const MEMORY: u64 = 64 << 20;
/// While everything is written, one run in so many is compared all the same, to see whether that has changed.
const PROBE: u32 = 16;

/// What comparing and writing cost lately, on one kind of runs.
#[derive(Debug, Default)]
pub(super) struct Costs {
    /// Bytes that were read and compared.
    compared: u64,
    /// Of them, bytes of runs that differ somewhere: they were fetched from the image.
    fetched: u64,
    /// Of them, bytes that differ: they were written, and will be read back.
    differing: u64,
    reading: Duration,
    /// Bytes of runs that were fetched and written, wholly or in part.
    written: u64,
    writing: Duration,
    since_probe: u32,
}

impl Costs {
    pub fn compared(&mut self, bytes: u64, fetched: u64, differing: u64, time: Duration) {
        self.compared += bytes;
        self.fetched += fetched;
        self.differing += differing;
        self.reading += time;
        if self.compared > MEMORY {
            for sum in [&mut self.compared, &mut self.fetched, &mut self.differing] {
                *sum /= 2;
            }
            self.reading /= 2;
        }
    }

    pub fn wrote(&mut self, bytes: u64, time: Duration) {
        self.written += bytes;
        self.writing += time;
        if self.written > MEMORY {
            self.written /= 2;
            self.writing /= 2;
        }
    }

    /// True where writing everything is cheaper. With r for reading a byte and w for fetching and writing it, p for
    /// the part that is fetched and q for the part that differs, comparing first costs r + p w + q r (reading back)
    /// for each byte, and writing everything w + r. So it loses where q r > (1 - p) w.
    fn is_writing_cheaper(&self) -> bool {
        if self.compared < FIRST || self.written == 0 {
            return false;
        }
        let all = self.compared as f64;
        let r = self.reading.as_secs_f64() / all;
        let w = self.writing.as_secs_f64() / self.written as f64;
        self.differing as f64 / all * r > (1.0 - self.fetched as f64 / all) * w
    }
}

/// Decides for each run whether it is compared first. Data and zeros cost differently, so each has its own figures.
pub(super) struct Chooser {
    mode: Delta,
    costs: [Mutex<Costs>; 2],
}

impl Chooser {
    pub fn new(mode: Delta) -> Self {
        Chooser { mode, costs: Default::default() }
    }

    pub fn costs(&self, kind: MemberKind) -> MutexGuard<'_, Costs> {
        self.costs[usize::from(kind != MemberKind::Data)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn reads_first(&self, kind: MemberKind) -> bool {
        match self.mode {
            Delta::Always => true,
            Delta::Never => false,
            Delta::Auto => {
                let mut costs = self.costs(kind);
                costs.since_probe += 1;
                if costs.is_writing_cheaper() && costs.since_probe < PROBE {
                    return false;
                }
                costs.since_probe = 0;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Figures as of `runs` runs of 1 MiB: p and q of each, r and w in microseconds.
    fn costs(runs: u64, p: f64, q: f64, r: u64, w: u64) -> Costs {
        let mut costs = Costs::default();
        for i in 0..runs {
            let fetched = (((i + 1) as f64 * p) as u64 - (i as f64 * p) as u64) * MIB;
            let differing = (q * MIB as f64) as u64;
            costs.compared(MIB, fetched, differing, Duration::from_micros(r));
            if fetched > 0 {
                costs.wrote(fetched, Duration::from_micros(w));
            }
        }
        costs
    }

    #[test]
    fn reading_first_is_given_up_where_it_costs_more_than_it_saves() {
        for (p, q, r, w, plain) in [
            (0.0, 0.0, 500, 500, false),
            (0.01, 0.01, 500, 500, false),
            (0.1, 0.1, 500, 500, false),
            (0.4, 0.4, 500, 500, false),
            (0.75, 0.75, 500, 500, true),
            (1.0, 1.0, 500, 500, true),
            // A slow share: what is not fetched from it saves much.
            (0.75, 0.75, 500, 5000, false),
            (1.0, 1.0, 500, 50_000, true),
            // A disk that reads slower than it is written.
            (0.25, 0.25, 5000, 500, true),
            // One block of every other run: half of them are not fetched, and hardly anything is read back.
            (0.5, 0.004, 500, 500, false),
        ] {
            assert_eq!(costs(200, p, q, r, w).is_writing_cheaper(), plain, "p {p} q {q} r {r} w {w}");
        }
        assert!(!costs(8, 1.0, 1.0, 500, 500).is_writing_cheaper(), "too little seen");
    }

    #[test]
    fn what_was_seen_last_counts_and_probes_find_a_change() {
        let chooser = |mode| Chooser { mode, costs: Default::default() };
        let auto = chooser(Delta::Auto);
        *auto.costs(MemberKind::Data) = costs(200, 1.0, 1.0, 500, 500);
        let probes = (0..1600).filter(|_| auto.reads_first(MemberKind::Data)).count();
        assert_eq!(probes, 100);
        assert!(auto.reads_first(MemberKind::Zero), "zeros have their own figures");
        // From here on the disk is right: the probes show it.
        let mut runs = 0;
        while auto.costs(MemberKind::Data).is_writing_cheaper() {
            if auto.reads_first(MemberKind::Data) {
                auto.costs(MemberKind::Data).compared(MIB, 0, 0, Duration::from_micros(500));
            }
            runs += 1;
            assert!(runs < 2000);
        }
        assert!((0..100).all(|_| chooser(Delta::Always).reads_first(MemberKind::Data)));
        assert!(!(0..100).any(|_| chooser(Delta::Never).reads_first(MemberKind::Data)));
    }
}
