//! Delta restore: what a disk holds already is read, found right, and left alone.
//!
//! A run whose hash is that of the bytes on the disk is neither read from the image nor written. Of a run that
//! differs, only the blocks that differ are written, and only they are read back. Everything else of a restore stays
//! as it is: see [`crate::image::restore`].
#![forbid(unsafe_code)]

use crate::block::{ALIGN, BlockDevice};
use crate::image::error::{ImageError, ImageOp};
use crate::image::format::member::MemberKind;
use crate::image::format::run::Run;
use crate::image::reader::Image;
use crate::image::restore::batch::{Batch, Wanted};
use crate::image::restore::boot_areas::BootAreas;
use crate::image::restore::options::RestoreOptions;
use crate::image::verify::{data_parts, read};
use crate::image::workspace::Workspace;
use crate::io::is_zero;
use crate::progress::Progress;
use crate::types::{Delta, FreeSpace};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that are compared before anything is decided.
const FIRST: u64 = 16 << 20;
/// Older figures count half once so many bytes came in: disks are not the same everywhere.
const MEMORY: u64 = 64 << 20;
/// While everything is written, one run in so many is compared all the same, to see whether that has changed.
const PROBE: u32 = 16;

/// What comparing and writing cost lately, on one kind of runs.
#[derive(Debug, Default)]
struct Costs {
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
    fn compared(&mut self, bytes: u64, fetched: u64, differing: u64, time: Duration) {
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

    fn wrote(&mut self, bytes: u64, time: Duration) {
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
struct Chooser {
    mode: Delta,
    costs: [Mutex<Costs>; 2],
}

impl Chooser {
    fn costs(&self, kind: MemberKind) -> MutexGuard<'_, Costs> {
        self.costs[usize::from(kind != MemberKind::Data)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reads_first(&self, kind: MemberKind) -> bool {
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

/// The body of a restore: brings one run after the other onto the disk, and notes in a [`Batch`] what of it was written.
pub(super) struct RunWriter<'a> {
    image: &'a Image,
    disk: &'a dyn BlockDevice,
    areas: &'a BootAreas<'a>,
    free: FreeSpace,
    chooser: Chooser,
    progress: &'a Progress,
}

impl<'a> RunWriter<'a> {
    pub fn new(
        image: &'a Image,
        disk: &'a dyn BlockDevice,
        areas: &'a BootAreas<'a>,
        opts: &RestoreOptions,
        progress: &'a Progress,
    ) -> Self {
        let chooser = Chooser { mode: opts.delta, costs: Default::default() };
        RunWriter { image, disk, areas, free: opts.free, chooser, progress }
    }

    /// True where the run is brought onto the disk at all.
    fn is_wanted(&self, run: &Run) -> bool {
        run.kind != MemberKind::Unallocated || self.free == FreeSpace::Zero
    }

    /// Makes the disk hold this run, what of it lies in the boot areas kept in memory. Progress counts what needs no reading back
    /// twice: it is finished.
    pub fn run(&self, space: &mut Workspace, run: &Run, batch: &Batch) -> Result<(), ImageError> {
        if !self.is_wanted(run) {
            // What of it lies in the boot areas is zeros by now, and stays that.
            self.progress.skipped.fetch_add(run.length, Relaxed);
            return Ok(());
        }
        let body = self.areas.body(&run.range());
        let written = if run.kind == MemberKind::Data {
            self.data(space, run, body, batch)?
        } else {
            // The boot areas begin as zeros.
            let written = body.map_or(Ok(0), |body| self.zeros(space, run.kind, body, batch))?;
            self.progress.zero.fetch_add(2 * run.length - written, Relaxed);
            written
        };
        self.progress.add_done(2 * run.length - written);
        Ok(())
    }

    /// Bytes that were written.
    fn data(
        &self,
        space: &mut Workspace,
        run: &Run,
        body: Option<Range<u64>>,
        batch: &Batch,
    ) -> Result<u64, ImageError> {
        let Some(body) = body else {
            self.fetch(space, run)?;
            return Ok(0);
        };
        let len = body.end - body.start;
        let mut found = None;
        if self.chooser.reads_first(run.kind) {
            let start = Instant::now();
            // A block that cannot be read is one that differs: writing it may mend it.
            space.read_gaps(self.image, run)?;
            found = read(self.disk, space.found(len as usize), body.start).ok().map(|()| start);
            if found.is_some() && self.is_there(space, &body, run) {
                self.chooser.costs(run.kind).compared(len, 0, 0, start.elapsed());
                return Ok(0);
            }
        }
        let read_time = found.map(|start| start.elapsed());
        let start = Instant::now();
        self.fetch(space, run)?;
        let wanted = &space.raw[(body.start - run.offset) as usize..(body.end - run.offset) as usize];
        let differing = match read_time {
            None => vec![body.clone()],
            Some(_) => {
                let found = space.found_before(len as usize);
                let at =
                    |part: &Range<u64>| (part.start - body.start) as usize..(part.end - body.start) as usize;
                blocks_where(&body, self.block(), |part| found[at(part)] != wanted[at(part)])
            }
        };
        let mut written = 0;
        for part in &differing {
            let bytes = &wanted[(part.start - body.start) as usize..(part.end - body.start) as usize];
            let len = bytes.len() as u64;
            self.disk
                .write_at(bytes, part.start)
                .map_err(|e| ImageError::transfer(self.disk, ImageOp::Write, part.start, len, e))?;
            written += len;
            let is_hashed = *part == run.range() && !run.has_gaps;
            let hash = if is_hashed { run.hash } else { blake3::hash(bytes) };
            batch.wrote(part.clone(), Wanted::Data(hash));
        }
        let mut costs = self.chooser.costs(run.kind);
        costs.wrote(len, start.elapsed());
        if let Some(time) = read_time {
            costs.compared(len, if differing.is_empty() { 0 } else { len }, written, time);
        }
        Ok(written)
    }

    /// True where what was found on the disk is all of the run. Unless all that is unallocated is to be zero, what stands in
    /// the run's gaps does not count, and is taken as zero from here on.
    fn is_there(&self, space: &mut Workspace, body: &Range<u64>, run: &Run) -> bool {
        let gaps = std::mem::take(&mut space.gaps);
        let found = space.found((body.end - body.start) as usize);
        if self.free != FreeSpace::Zero {
            gaps.clear_in(found, body.start - run.offset);
        }
        *body == run.range() && gaps.hash(found) == run.hash
    }

    /// The raw bytes of a data run, what of it lies in the boot areas kept.
    fn fetch(&self, space: &mut Workspace, run: &Run) -> Result<(), ImageError> {
        let raw = space.load(self.image, run)?;
        self.areas.keep(raw, run.offset);
        self.progress.image.fetch_add(run.member_length.into(), Relaxed);
        Ok(())
    }

    /// Bytes that were zeroed.
    fn zeros(
        &self,
        space: &mut Workspace,
        kind: MemberKind,
        body: Range<u64>,
        batch: &Batch,
    ) -> Result<u64, ImageError> {
        let len = body.end - body.start;
        let mut dirty = vec![body.clone()];
        let mut read_time = None;
        if self.chooser.reads_first(kind) {
            let start = Instant::now();
            dirty.clear();
            let step = space.raw.len() as u64;
            data_parts(self.disk, &body, step, |part| {
                let bytes = &mut space.raw[..(part.end - part.start) as usize];
                let found = read(self.disk, bytes, part.start);
                if found.is_ok() && is_zero(bytes) {
                    return Ok(());
                }
                let blocks = blocks_where(&part, self.block(), |block| {
                    let at = (block.start - part.start) as usize..(block.end - part.start) as usize;
                    found.is_err() || !is_zero(&bytes[at])
                });
                for block in blocks {
                    push(&mut dirty, block);
                }
                Ok(())
            })?;
            read_time = Some(start.elapsed());
        }
        let start = Instant::now();
        let mut written = 0;
        for part in &dirty {
            let len = part.end - part.start;
            self.disk
                .write_zeroes(part.start, len)
                .map_err(|e| ImageError::transfer(self.disk, ImageOp::Zero, part.start, len, e))?;
            batch.wrote(part.clone(), Wanted::Zeros);
            written += len;
        }
        let mut costs = self.chooser.costs(kind);
        if written > 0 {
            costs.wrote(written, start.elapsed());
        }
        if let Some(time) = read_time {
            // Nothing is fetched: what is kept costs the comparison alone, as with data.
            costs.compared(len, written, written, time);
        }
        Ok(written)
    }

    /// Smallest piece that is written, in bytes.
    fn block(&self) -> u64 {
        (ALIGN as u64).max(self.disk.logical_block_size().into())
    }
}

/// The blocks of `range` (cut at multiples of `block` bytes of the disk) for which `differs` holds, neighbours joined.
fn blocks_where(range: &Range<u64>, block: u64, differs: impl Fn(&Range<u64>) -> bool) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let next = (at / block + 1).saturating_mul(block).min(range.end);
        if differs(&(at..next)) {
            push(&mut found, at..next);
        }
        at = next;
    }
    found
}

/// Adds a range behind the others, or to the last where they touch.
fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
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

    #[test]
    fn differing_blocks_are_cut_at_blocks_of_the_disk_and_joined() {
        let bad = |bad: &'static [u64]| move |part: &Range<u64>| bad.iter().any(|b| part.contains(b));
        for (range, bytes, wanted) in [
            (0..16384, &[][..], vec![]),
            (0..16384, &[0], vec![0..4096]),
            (0..16384, &[4095, 4096, 12288], vec![0..8192, 12288..16384]),
            (512..9000, &[600, 8999], vec![512..4096, 8192..9000]),
            (512..1024, &[600], vec![512..1024]),
        ] {
            assert_eq!(blocks_where(&range, 4096, bad(bytes)), wanted);
        }
    }
}
