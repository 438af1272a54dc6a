//! The way of a piece of disk through reader, worker and writer.
//!
//! A fixed set of slots (a raw buffer and a member buffer each) goes round: free -> reader -> worker -> writer ->
//! free. A reader takes a slot before it takes the next piece of disk, so the piece that the writer waits for
//! always has all that it needs, and nothing can block it: one thread of each kind is enough.
#![forbid(unsafe_code)]

use crate::block::{AlignedBuf, BlockDevice};
use crate::image::backup::incremental::{Aligned, old_member};
use crate::image::backup::options::BackupOptions;
use crate::image::backup::resume::KeptRuns;
use crate::image::backup::slot::{MemberSources, PieceContent, PieceSlot};
use crate::image::bad_sectors::{Trouble, read_chunk};
use crate::image::error::{ImageError, ImageOp, check_size};
use crate::image::format::codec::{Deflate, data_member_hashed, member_buffer};
use crate::image::format::gaps::Gaps;
use crate::image::format::member::UNIT;
use crate::image::parallel::{io_threads, thread_count};
use crate::image::reader::{Image, ImageRuns};
use crate::io::is_zero;
use crate::progress::Progress;
use crate::used::is_in_order;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Bytes that all slots together may take.
const SLOT_MEMORY: usize = 96 << 20;
/// Reads in flight: a SATA SSD or an NVMe disk reaches its rate only with several.
const READERS: usize = 4;

/// Hands out the disk piece by piece.
struct PieceSource<'a> {
    next: u64,
    number: u64,
    data: Range<u64>,
    /// The first free range that ends behind `next`, and those after it.
    free: Range<u64>,
    later: std::slice::Iter<'a, Range<u64>>,
    /// What may be gaps of the next piece, and what lies behind it.
    short: &'a [Range<u64>],
    /// Shortest free range that is no gap.
    split: u64,
    ended: bool,
    base: Option<Aligned<ImageRuns<'a>>>,
    kept: Option<Aligned<KeptRuns>>,
}

impl PieceSource<'_> {
    /// Fills in the slot's piece: free space or a hole of any length, or a chunk, which free space may have cut.
    /// False at the end.
    fn next(&mut self, disk: &dyn BlockDevice, chunk: u64, cancelled: bool, slot: &mut PieceSlot) -> bool {
        let size = disk.size();
        if self.ended || self.next >= size {
            return false;
        }
        (slot.number, slot.offset, slot.length) = (self.number, self.next, 0);
        (slot.kept, slot.old, slot.bad_base) = (None, None, None);
        slot.gaps.clear();
        self.number += 1;
        if cancelled {
            self.ended = true;
            slot.content = PieceContent::Failed(ImageError::cancelled());
            return true;
        }
        while self.free.end <= self.next {
            let next = self.later.find(|range| is_run(range, self.split));
            let next = next.map(|range| whole_blocks(range, disk.logical_block_size()));
            self.free = next.unwrap_or(size..u64::MAX);
        }
        if self.free.start <= self.next {
            slot.length = self.free.end - self.next;
            slot.content = PieceContent::Unallocated;
            self.next = self.free.end;
            return true;
        }
        if self.next >= self.data.end {
            self.data = match disk.next_data(self.next) {
                Ok(found) => found.unwrap_or(size..size),
                Err(e) => {
                    self.ended = true;
                    slot.content =
                        PieceContent::Failed(ImageError::transfer(disk, ImageOp::SeekData, self.next, 0, e));
                    return true;
                }
            };
        }
        // Only whole chunks of a hole are skipped, so that chunks keep their place.
        let hole_end = if self.data.start >= size { size } else { self.data.start / chunk * chunk };
        let hole_end = hole_end.min(self.free.start);
        if hole_end > self.next {
            slot.length = hole_end - self.next;
            slot.content = PieceContent::Zero;
        } else {
            // Chunks end where they always do, whatever lies before them: those of the next image will meet them.
            let chunk_end = (self.next / chunk + 1) * chunk;
            slot.length = chunk_end.min(self.free.start).min(size) - self.next;
            slot.content = PieceContent::Raw;
            let piece = slot.offset..slot.offset + slot.length;
            self.gaps(&piece, disk.logical_block_size(), &mut slot.gaps);
            // Neither ends the backup: what the one cannot tell, the disk can.
            slot.kept = self.kept.as_mut().and_then(|kept| kept.find(&piece).unwrap_or(None));
            (slot.old, slot.bad_base) = match self.base.as_mut().map(|base| base.find(&piece)) {
                Some(Err(error)) => (None, Some(error)),
                found => (found.and_then(Result::ok).flatten(), None),
            };
        }
        self.next += slot.length;
        true
    }

    /// The gaps of a piece; pieces must rise.
    fn gaps(&mut self, piece: &Range<u64>, block: u32, gaps: &mut Gaps) {
        let done = self.short.partition_point(|range| range.end <= piece.start);
        self.short = &self.short[done..];
        let inside = self.short.iter().take_while(|range| range.start < piece.end);
        for range in inside.filter(|range| !is_run(range, self.split)) {
            let (start, end) = (range.start.max(piece.start), range.end.min(piece.end));
            gaps.push(start - piece.start..end - piece.start, u64::from(block).max(UNIT as u64));
        }
    }
}

/// True where a free range is worth a run of its own.
fn is_run(range: &Range<u64>, split: u64) -> bool {
    range.end - range.start >= split
}

/// The part of a free range that is whole logical blocks; perhaps empty.
fn whole_blocks(range: &Range<u64>, block: u32) -> Range<u64> {
    let block = u64::from(block);
    let (start, end) = (range.start.next_multiple_of(block), range.end / block * block);
    if start < end { start..end } else { 0..0 }
}

/// Bytes of disk that the free ranges stand for which become runs. They must be sorted, disjoint, and on the disk.
pub(super) fn free_bytes(disk: &dyn BlockDevice, opts: &BackupOptions) -> Result<u64, ImageError> {
    let free = &opts.used.free;
    if !is_in_order(free, disk.size()) {
        return Err(ImageError::internal(format!("{}: free ranges that are out of order", disk.name())));
    }
    let whole = free
        .iter()
        .filter(|range| is_run(range, opts.split))
        .map(|range| whole_blocks(range, disk.logical_block_size()));
    Ok(whole.map(|range| range.end - range.start).sum())
}

/// Runs readers and workers and gives their slots to `take` in the order of the disk.
pub(super) fn pipeline(
    disk: &dyn BlockDevice,
    opts: &BackupOptions,
    sources: MemberSources<'_>,
    progress: &Progress,
    mut take: impl FnMut(&mut PieceSlot) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let chunk = opts.chunk_size as usize;
    let most = SLOT_MEMORY / (chunk + member_buffer(chunk));
    let old = sources.base.map(|base| (base, sources.unread));
    // Workers wait for the share where they read members of the base.
    let workers = if old.is_some() { io_threads(opts.threads) } else { thread_count(opts.threads) };
    let workers = workers.min(most);
    // A small disk needs no more than it has chunks.
    let chunks = usize::try_from(disk.size().div_ceil(chunk as u64)).unwrap_or(usize::MAX);
    let slots = (READERS + 2 * workers + 2).min(most).min(chunks).max(2);
    let readers = READERS.min(slots - 1);

    let (free_in, free) = unbounded::<PieceSlot>();
    for _ in 0..slots {
        let (raw, member) = (AlignedBuf::new(chunk), vec![0; member_buffer(chunk)]);
        let slot = PieceSlot {
            number: 0,
            offset: 0,
            length: 0,
            raw,
            member,
            content: PieceContent::Raw,
            gaps: Gaps::default(),
            kept: None,
            old: None,
            bad_base: None,
        };
        let _ = free_in.send(slot);
    }
    let (work_in, work) = unbounded();
    let (done_in, done) = unbounded();
    let source = Mutex::new(PieceSource {
        next: 0,
        number: 0,
        data: 0..0,
        free: 0..0,
        later: opts.used.free.iter(),
        short: &opts.used.free,
        split: opts.split,
        ended: false,
        base: old.map(|(base, _)| Aligned::new(base.runs())),
        kept: sources.kept.map(Aligned::new),
    });

    let trouble = opts.allow_bad_sectors.then(|| Trouble::new(opts.patience));
    thread::scope(|scope| {
        let spawn_error = |source| ImageError::resource(ImageOp::StartThread, source);
        for _ in 0..readers {
            let (free, work_in, done_in) = (free.clone(), work_in.clone(), done_in.clone());
            let (source, trouble) = (&source, trouble.as_ref());
            thread::Builder::new()
                .name("image-read".into())
                .spawn_scoped(scope, move || {
                    read_loop(disk, opts, trouble, progress, source, &free, &work_in, &done_in)
                })
                .map_err(spawn_error)?;
        }
        for _ in 0..workers {
            let (work, done_in) = (work.clone(), done_in.clone());
            let deflater = opts.codec.deflater();
            thread::Builder::new()
                .name("image-pack".into())
                .spawn_scoped(scope, move || work_loop(deflater, old, &work, &done_in))
                .map_err(spawn_error)?;
        }
        // From here on the threads hold the only other ends: they stop when these go, and `done` ends when they stop.
        drop((free, work_in, work, done_in));
        let (free_in, done) = (free_in, done);
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for slot in done {
            waiting.insert(slot.number, slot);
            while let Some(mut slot) = waiting.remove(&next) {
                take(&mut slot)?;
                next += 1;
                let _ = free_in.send(slot);
            }
        }
        // What has grown behind our back is not in the image.
        check_size(disk)
    })
}

#[allow(clippy::too_many_arguments)] // one call, beside its threads
fn read_loop(
    disk: &dyn BlockDevice,
    opts: &BackupOptions,
    trouble: Option<&Trouble>,
    progress: &Progress,
    source: &Mutex<PieceSource<'_>>,
    free: &Receiver<PieceSlot>,
    work: &Sender<PieceSlot>,
    done: &Sender<PieceSlot>,
) {
    for mut slot in free {
        {
            let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
            if !source.next(disk, opts.chunk_size.into(), progress.is_cancelled(), &mut slot) {
                return;
            }
        }
        if matches!(slot.content, PieceContent::Raw) {
            // As with those that compress: no slot may be lost.
            match ImageError::catch(|| read_used(disk, &mut slot, trouble)) {
                Ok(bad) if bad.is_empty() => {}
                Ok(bad) => slot.content = PieceContent::BadRanges(bad),
                Err(e) => slot.content = PieceContent::Failed(e),
            }
        }
        let to = if matches!(slot.content, PieceContent::Raw) { work } else { done };
        if to.send(slot).is_err() {
            return;
        }
    }
}

/// Reads a piece; the bad ranges. Gaps are read along, but need not be readable: they are unallocated.
fn read_used(
    disk: &dyn BlockDevice,
    slot: &mut PieceSlot,
    trouble: Option<&Trouble>,
) -> Result<Vec<Range<u64>>, ImageError> {
    let buf = &mut slot.raw[..slot.length as usize];
    if slot.gaps.is_empty() {
        return read_chunk(disk, buf, slot.offset, trouble);
    }
    let mut bad = Vec::new();
    if disk.read_at(buf, slot.offset).is_err() {
        slot.gaps.clear_in(buf, 0);
        for used in slot.gaps.between(slot.length) {
            let part = &mut buf[used.start as usize..used.end as usize];
            bad.extend(read_chunk(disk, part, slot.offset + used.start, trouble)?);
        }
    }
    Ok(bad)
}

fn work_loop(
    mut deflater: Box<dyn Deflate>,
    base: Option<(&Image, &AtomicBool)>,
    work: &Receiver<PieceSlot>,
    done: &Sender<PieceSlot>,
) {
    for mut slot in work {
        // A slot that is lost would stall the others for ever: a panic must end the backup.
        let made = ImageError::catch(|| Ok(pack(&mut *deflater, base, &mut slot)));
        slot.content = made.unwrap_or_else(PieceContent::Failed);
        if done.send(slot).is_err() {
            return;
        }
    }
}

/// Makes a member of a raw chunk, or finds it.
fn pack(
    deflater: &mut dyn Deflate,
    base: Option<(&Image, &AtomicBool)>,
    slot: &mut PieceSlot,
) -> PieceContent {
    let raw = &mut slot.raw[..slot.length as usize];
    if is_zero(raw) {
        return PieceContent::Zero;
    }
    slot.gaps.clear_in(raw, 0);
    let hash = slot.gaps.hash(raw);
    if let Some(run) = slot.kept.filter(|run| run.hash == hash) {
        return PieceContent::Kept(run);
    }
    if let (Some((base, unread)), Some(run)) = (base, slot.old.filter(|run| run.hash == hash)) {
        if unread.load(Relaxed) {
            return PieceContent::Unread(run);
        }
        match old_member(base, &run, &mut slot.member) {
            Ok(()) => return PieceContent::Taken(run),
            Err(error) => slot.bad_base = Some(error),
        }
    }
    PieceContent::Data(data_member_hashed(deflater, raw, &slot.gaps, hash, &mut slot.member))
}
