//! Backup: disk in, image out.
//!
//! A fixed set of slots (a raw buffer and a member buffer each) goes round: free -> reader -> worker -> writer ->
//! free. A reader takes a slot before it takes the next piece of disk, so the piece that the writer waits for
//! always has all that it needs, and nothing can block it: one thread of each kind is enough.
#![forbid(unsafe_code)]

use super::bad_sectors::{disk_error, read_chunk};
use super::codec::{Codec, DataMember, Deflate, data_member, member_buffer};
use super::error::ImageError;
use super::footer::Footer;
use super::header::{DiskAbout, Header};
use super::index::IndexWriter;
use super::member::Kind;
use super::parallel::{is_zero, thread_count};
use super::run::{NO_HASH, Run};
use super::zeros::{MAX_ZERO_RUN, ZeroMembers};
use crate::block::{AlignedBuf, BlockDevice};
use crate::io::SyncWrite;
use crate::progress::Progress;
use blake3::Hash;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Default chunk size in bytes: 1 MiB costs under 1 % of ratio against 4 MiB, and repeats better between images.
pub const DEFAULT_CHUNK: u32 = 1 << 20;
/// Bytes that all slots together may take.
const SLOT_MEMORY: usize = 96 << 20;
/// Reads in flight: a SATA SSD or an NVMe disk reaches its rate only with several.
const READERS: usize = 4;
/// A disk with more unreadable bytes than this is dying, or gone: no image is made of it.
const MAX_UNREADABLE: u64 = 256 << 20;
/// Bad ranges that are listed by name; the index has them all.
const LISTED: usize = 1000;

/// How to back up.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// Threads that compress; 0 is one per core.
    pub threads: usize,
    /// Longest data run in bytes: a power of two from 4 KiB to 4 MiB.
    pub chunk_size: u32,
    /// Who compresses.
    pub codec: Codec,
    /// Sectors that cannot be read become zeros in a degraded image; without it they end the backup.
    pub allow_bad_sectors: bool,
    /// The image id; random unless a test wants equal images.
    pub image_id: Option<[u8; 16]>,
}

impl Default for BackupOptions {
    fn default() -> Self {
        BackupOptions {
            threads: 0,
            chunk_size: DEFAULT_CHUNK,
            codec: Codec::default(),
            allow_bad_sectors: false,
            image_id: None,
        }
    }
}

/// A backup that was written and synced; not yet verified. All sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Names the image and binds every byte of it.
    pub root_hash: Hash,
    /// Size of the image file.
    pub image_bytes: u64,
    /// Size of the disk.
    pub disk_bytes: u64,
    /// Disk in zero runs.
    pub zero_bytes: u64,
    /// Disk that did not compress.
    pub stored_bytes: u64,
    /// Disk that could not be read; the image is degraded where this is not 0.
    pub unreadable_bytes: u64,
    /// Where that is on the disk; the first 1000 ranges.
    pub unreadable: Vec<Range<u64>>,
}

impl Written {
    /// Some of the disk could not be read.
    pub fn is_degraded(&self) -> bool {
        self.unreadable_bytes > 0
    }
}

/// Images a whole disk: reads, compresses and writes at the same time, then syncs the sink.
///
/// The sink gets the image front to back; it is an image only once this returns. A medium error is an error that
/// names the LBA, unless [`BackupOptions::allow_bad_sectors`].
pub fn backup(
    disk: &dyn BlockDevice,
    sink: &mut dyn SyncWrite,
    about: &DiskAbout,
    opts: &BackupOptions,
    progress: &Progress,
) -> Result<Written, ImageError> {
    let image_id = match opts.image_id {
        Some(id) => id,
        None => {
            let mut id = [0; 16];
            getrandom::fill(&mut id)
                .map_err(|e| ImageError::Refused(format!("no random bytes for the image id: {e}")))?;
            id
        }
    };
    let header = Header {
        disk: about.clone(),
        chunk_size: opts.chunk_size,
        image_id,
        codec: opts.codec.name(),
        writer: concat!("testbox ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let refused = |what: &str| ImageError::Refused(format!("{}: {what}", disk.name()));
    header.check().map_err(refused)?;
    if about.size != disk.size() || about.logical_block_size != disk.logical_block_size() {
        return Err(refused("the disk's size or block size is not what was recorded of it"));
    }
    progress.start(about.size);
    let mut writer = Writer::new(sink, &header, opts, progress)?;
    pipeline(disk, opts, progress, |slot| writer.take(disk, slot))?;
    writer.finish()
}

/// What became of a piece of disk.
enum Content {
    /// All zero, or a hole.
    Zero,
    /// Read, not looked at yet.
    Raw,
    /// Compressed into the slot's member buffer.
    Data(DataMember),
    /// Read with holes, which are bad.
    Torn(Vec<Range<u64>>),
    /// Not to be had.
    Failed(ImageError),
}

/// Everything that a piece of disk needs on its way.
struct Slot {
    /// Pieces are numbered in the order of the disk.
    number: u64,
    offset: u64,
    length: u64,
    raw: AlignedBuf,
    member: Vec<u8>,
    content: Content,
}

/// Hands out the disk piece by piece.
struct Source {
    next: u64,
    number: u64,
    data: Range<u64>,
    ended: bool,
}

impl Source {
    /// Fills in the slot's piece: a chunk, or a hole of any length. False at the end.
    fn next(&mut self, disk: &dyn BlockDevice, chunk: u64, cancelled: bool, slot: &mut Slot) -> bool {
        if self.ended || self.next >= disk.size() {
            return false;
        }
        (slot.number, slot.offset, slot.length) = (self.number, self.next, 0);
        self.number += 1;
        if cancelled {
            self.ended = true;
            slot.content = Content::Failed(ImageError::Cancelled);
            return true;
        }
        if self.next >= self.data.end {
            self.data = match disk.next_data(self.next) {
                Ok(found) => found.unwrap_or(disk.size()..disk.size()),
                Err(e) => {
                    self.ended = true;
                    slot.content = Content::Failed(disk_error(disk, "seek data", self.next, 0, e));
                    return true;
                }
            };
        }
        // Only whole chunks of a hole are skipped, so that chunks keep their place.
        let hole_end =
            if self.data.start >= disk.size() { disk.size() } else { self.data.start / chunk * chunk };
        if hole_end > self.next {
            slot.length = hole_end - self.next;
            slot.content = Content::Zero;
        } else {
            slot.length = chunk.min(disk.size() - self.next);
            slot.content = Content::Raw;
        }
        self.next += slot.length;
        true
    }
}

/// Runs readers and workers and gives their slots to `take` in the order of the disk.
fn pipeline(
    disk: &dyn BlockDevice,
    opts: &BackupOptions,
    progress: &Progress,
    mut take: impl FnMut(&mut Slot) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let chunk = opts.chunk_size as usize;
    let most = SLOT_MEMORY / (chunk + member_buffer(chunk));
    let workers = thread_count(opts.threads).min(most);
    let slots = (READERS + 2 * workers + 2).min(most).max(2);
    let readers = READERS.min(slots - 1);

    let (free_in, free) = unbounded::<Slot>();
    for _ in 0..slots {
        let (raw, member) = (AlignedBuf::new(chunk), vec![0; member_buffer(chunk)]);
        let slot = Slot { number: 0, offset: 0, length: 0, raw, member, content: Content::Raw };
        let _ = free_in.send(slot);
    }
    let (work_in, work) = unbounded();
    let (done_in, done) = unbounded();
    let source = Mutex::new(Source { next: 0, number: 0, data: 0..0, ended: false });

    thread::scope(|scope| {
        let spawn_error = |e| ImageError::Refused(format!("cannot start a thread: {e}"));
        for _ in 0..readers {
            let (free, work_in, done_in) = (free.clone(), work_in.clone(), done_in.clone());
            let source = &source;
            thread::Builder::new()
                .name("backup-read".into())
                .spawn_scoped(scope, move || {
                    read_loop(disk, opts, progress, source, &free, &work_in, &done_in)
                })
                .map_err(spawn_error)?;
        }
        for _ in 0..workers {
            let (work, done_in) = (work.clone(), done_in.clone());
            let deflater = opts.codec.deflater();
            thread::Builder::new()
                .name("backup-pack".into())
                .spawn_scoped(scope, move || work_loop(deflater, &work, &done_in))
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
        Ok(())
    })
}

fn read_loop(
    disk: &dyn BlockDevice,
    opts: &BackupOptions,
    progress: &Progress,
    source: &Mutex<Source>,
    free: &Receiver<Slot>,
    work: &Sender<Slot>,
    done: &Sender<Slot>,
) {
    for mut slot in free {
        {
            let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
            if !source.next(disk, opts.chunk_size.into(), progress.is_cancelled(), &mut slot) {
                return;
            }
        }
        if matches!(slot.content, Content::Raw) {
            let buf = &mut slot.raw[..slot.length as usize];
            match read_chunk(disk, buf, slot.offset, opts.allow_bad_sectors) {
                Ok(bad) if bad.is_empty() => {}
                Ok(bad) => slot.content = Content::Torn(bad),
                Err(e) => slot.content = Content::Failed(e),
            }
        }
        let to = if matches!(slot.content, Content::Raw) { work } else { done };
        if to.send(slot).is_err() {
            return;
        }
    }
}

fn work_loop(mut deflater: Box<dyn Deflate>, work: &Receiver<Slot>, done: &Sender<Slot>) {
    for mut slot in work {
        let raw = &slot.raw[..slot.length as usize];
        let member = &mut slot.member;
        // A slot that is lost would stall the others for ever: a panic must end the backup.
        let made = std::panic::catch_unwind(AssertUnwindSafe(|| match is_zero(raw) {
            true => Content::Zero,
            false => Content::Data(data_member(&mut *deflater, raw, member)),
        }));
        let panicked = || Content::Failed(ImageError::Refused("the compressor panicked".to_owned()));
        slot.content = made.unwrap_or_else(|_| panicked());
        if done.send(slot).is_err() {
            return;
        }
    }
}

/// Writes the members in order, joins zeros into long runs, and grows the index.
struct Writer<'a> {
    sink: &'a mut dyn SyncWrite,
    progress: &'a Progress,
    deflater: Box<dyn Deflate>,
    zeros: ZeroMembers,
    /// Zeros that were not written yet.
    pending: Range<u64>,
    index: IndexWriter,
    nodes: Vec<u8>,
    footer: Footer,
    written: Written,
}

impl<'a> Writer<'a> {
    fn new(
        sink: &'a mut dyn SyncWrite,
        header: &Header,
        opts: &BackupOptions,
        progress: &'a Progress,
    ) -> Result<Self, ImageError> {
        let member = header.encode();
        let hash = blake3::hash(&member);
        let mut writer = Writer {
            sink,
            progress,
            deflater: opts.codec.deflater(),
            zeros: ZeroMembers::default(),
            pending: 0..0,
            index: IndexWriter::default(),
            nodes: Vec::new(),
            footer: Footer {
                header_length: member.len() as u32,
                degraded: false,
                disk_size: header.disk.size,
                root_position: 0,
                root_length: 0,
                runs: 0,
                zero: 0,
                unallocated: 0,
                unreadable: 0,
                header_hash: hash,
                node_hash: NO_HASH,
            },
            written: Written {
                root_hash: NO_HASH,
                image_bytes: 0,
                disk_bytes: header.disk.size,
                zero_bytes: 0,
                stored_bytes: 0,
                unreadable_bytes: 0,
                unreadable: Vec::new(),
            },
        };
        writer.write(&member)?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let written = self.written.image_bytes;
        self.sink.write_all(bytes).map_err(|source| ImageError::Sink { op: "write", written, source })?;
        self.written.image_bytes += bytes.len() as u64;
        self.progress.image.store(self.written.image_bytes, Relaxed);
        Ok(())
    }

    /// Takes the next piece of disk.
    fn take(&mut self, disk: &dyn BlockDevice, slot: &mut Slot) -> Result<(), ImageError> {
        let range = slot.offset..slot.offset + slot.length;
        match std::mem::replace(&mut slot.content, Content::Raw) {
            Content::Zero => self.zero(range)?,
            Content::Data(member) => self.data(range, &member, &slot.member[member.range.clone()])?,
            Content::Torn(bad) => self.torn(disk, slot, &bad)?,
            Content::Failed(error) => return Err(error),
            // Workers turn all raw pieces into something else.
            Content::Raw => return Err(ImageError::Refused("a piece of disk was not handled".to_owned())),
        }
        self.progress.add_done(slot.length);
        Ok(())
    }

    fn data(&mut self, range: Range<u64>, made: &DataMember, member: &[u8]) -> Result<(), ImageError> {
        self.flush_zeros()?;
        if made.stored {
            self.written.stored_bytes += range.end - range.start;
            self.progress.stored.store(self.written.stored_bytes, Relaxed);
        }
        self.put(Kind::Data, range, made.hash, member, made.member_hash)
    }

    /// The parts of a chunk between bad ranges, and those. Rare, so it is done here, one after the other.
    fn torn(
        &mut self,
        disk: &dyn BlockDevice,
        slot: &mut Slot,
        bad: &[Range<u64>],
    ) -> Result<(), ImageError> {
        let end = slot.offset + slot.length;
        let mut at = slot.offset;
        for gap in bad.iter().cloned().chain(std::iter::once(end..end)) {
            if at < gap.start {
                let raw = &slot.raw[(at - slot.offset) as usize..(gap.start - slot.offset) as usize];
                if is_zero(raw) {
                    self.zero(at..gap.start)?;
                } else {
                    let made = data_member(&mut *self.deflater, raw, &mut slot.member);
                    self.data(at..gap.start, &made, &slot.member[made.range.clone()])?;
                }
            }
            if gap.start < gap.end {
                self.unreadable(disk, gap.clone())?;
            }
            at = gap.end;
        }
        Ok(())
    }

    fn unreadable(&mut self, disk: &dyn BlockDevice, range: Range<u64>) -> Result<(), ImageError> {
        self.flush_zeros()?;
        let written = &mut self.written;
        written.unreadable_bytes += range.end - range.start;
        if written.unreadable_bytes > MAX_UNREADABLE {
            return Err(ImageError::Refused(format!(
                "{}: more than {} MiB cannot be read up to byte {}: the disk is failing or gone",
                disk.name(),
                MAX_UNREADABLE >> 20,
                range.end
            )));
        }
        let listed = written.unreadable.len();
        match written.unreadable.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ if listed < LISTED => written.unreadable.push(range.clone()),
            _ => {}
        }
        self.put_zeros(Kind::Unreadable, range)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<(), ImageError> {
        self.written.zero_bytes += range.end - range.start;
        self.progress.zero.store(self.written.zero_bytes, Relaxed);
        if self.pending.is_empty() {
            self.pending = range;
        } else {
            self.pending.end = range.end;
        }
        // Cut where every image cuts, so that a change far away does not move the cuts.
        while let Some(cut) = self.cut() {
            let run = self.pending.start..cut;
            self.pending.start = cut;
            self.put_zeros(Kind::Zero, run)?;
        }
        Ok(())
    }

    /// The first multiple of the longest run in the pending zeros, if they reach it.
    fn cut(&self) -> Option<u64> {
        let cut = (self.pending.start / MAX_ZERO_RUN + 1) * MAX_ZERO_RUN;
        (cut <= self.pending.end).then_some(cut)
    }

    fn flush_zeros(&mut self) -> Result<(), ImageError> {
        let pending = std::mem::replace(&mut self.pending, 0..0);
        if pending.is_empty() { Ok(()) } else { self.put_zeros(Kind::Zero, pending) }
    }

    fn put_zeros(&mut self, kind: Kind, range: Range<u64>) -> Result<(), ImageError> {
        let mut zeros = std::mem::take(&mut self.zeros);
        let (member, member_hash) = zeros.get(kind, range.end - range.start);
        let result = self.put(kind, range, NO_HASH, member, member_hash);
        self.zeros = zeros;
        result
    }

    /// Writes one run and what the index adds behind it.
    fn put(
        &mut self,
        kind: Kind,
        range: Range<u64>,
        hash: Hash,
        member: &[u8],
        member_hash: Hash,
    ) -> Result<(), ImageError> {
        if self.progress.is_cancelled() {
            return Err(ImageError::Cancelled);
        }
        let run = Run {
            kind,
            offset: range.start,
            length: range.end - range.start,
            position: self.written.image_bytes,
            member_length: member.len() as u32,
            hash,
            member_hash,
        };
        self.write(member)?;
        self.footer.runs += 1;
        let mut nodes = std::mem::take(&mut self.nodes);
        self.index.push(&run, &mut nodes);
        self.write(&nodes)?;
        nodes.clear();
        self.nodes = nodes;
        Ok(())
    }

    /// The rest of the index, the footer, and the sync.
    fn finish(mut self) -> Result<Written, ImageError> {
        self.flush_zeros()?;
        let mut nodes = Vec::new();
        let root = std::mem::take(&mut self.index).finish(&mut nodes);
        self.write(&nodes)?;
        let root = root.ok_or_else(|| ImageError::Refused("the disk has no bytes".to_owned()))?;
        if (root.offset, root.disk) != (0, self.footer.disk_size) {
            return Err(ImageError::Refused("not all of the disk was handled".to_owned()));
        }
        self.footer.root_position = self.written.image_bytes - u64::from(root.length);
        self.footer.root_length = root.length;
        self.footer.node_hash = root.hash;
        self.footer.zero = self.written.zero_bytes;
        self.footer.unreadable = self.written.unreadable_bytes;
        self.footer.degraded = self.written.is_degraded();
        self.written.root_hash = self.footer.root_hash();
        let footer = self.footer.encode();
        self.write(&footer)?;
        let written = self.written.image_bytes;
        let sync = |source| ImageError::Sink { op: "sync", written, source };
        self.sink.flush().map_err(sync)?;
        self.sink.sync().map_err(sync)?;
        Ok(self.written)
    }
}
