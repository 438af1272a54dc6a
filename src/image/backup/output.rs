//! The image file while it is written: front to back, by writing, by leaving what is there already, by having members
//! of an earlier image copied.
#![forbid(unsafe_code)]

use crate::image::backup::resume::Unfinished;
use crate::image::backup::sources::MemberSources;
use crate::image::error::{ImageError, ImageOp};
use crate::image::format::member::UNIT;
use crate::image::format::run::Run;
use crate::image::reader::Image;
use crate::io::{SyncWrite, is_zero};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Bytes that wait to be copied at most: copying goes on beside reading the disk.
const COPY: u64 = 64 << 20;
/// Bytes of a write: members are small.
const WRITE: usize = 1 << 20;
/// Bytes of a read where members are copied by reading and writing.
const PLAIN_COPY: u64 = 1 << 20;

/// The file that is written, front to back.
pub(super) struct Output<'a> {
    sink: &'a mut dyn SyncWrite,
    /// Bytes of image so far, those that wait to be copied among them.
    position: u64,
    holes: u64,
    /// The last of them, which wait to be written.
    pending: Vec<u8>,
    /// Where members may be copied from, and whether that works.
    base: Option<&'a Image>,
    unread: &'a AtomicBool,
    /// Consecutive members of the base that wait to be copied: the longer, the fewer calls.
    waiting: Range<u64>,
    /// What stands in the file from `position` on, as long as it was right up to there.
    part: Option<Unfinished>,
}

impl<'a> Output<'a> {
    pub fn new(sink: &'a mut dyn SyncWrite, part: Option<Unfinished>, sources: &MemberSources<'a>) -> Self {
        Output {
            sink,
            position: 0,
            holes: 0,
            pending: Vec::new(),
            base: sources.base,
            unread: sources.unread,
            waiting: 0..0,
            part,
        }
    }

    /// Bytes of image so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes; true where the bytes stood there already.
    pub fn write(&mut self, bytes: &[u8]) -> Result<bool, ImageError> {
        self.put(bytes, false)
    }

    /// The same for index members. Where nothing has moved since the base was made, it has the same one behind the members
    /// that wait to be copied: then it is copied with them, and they need no call of their own.
    pub fn write_nodes(&mut self, bytes: &[u8]) -> Result<bool, ImageError> {
        let is_next =
            !self.waiting.is_empty() && !bytes.is_empty() && self.base_holds(bytes, self.waiting.end);
        if !is_next {
            return self.write(bytes);
        }
        self.waiting.end += bytes.len() as u64;
        self.position += bytes.len() as u64;
        Ok(false)
    }

    /// True where the base has these bytes at `position`.
    fn base_holds(&self, bytes: &[u8], position: u64) -> bool {
        let mut there = vec![0; bytes.len()];
        self.base.is_some_and(|base| base.read(&mut there, position).is_ok()) && there == bytes
    }

    /// The same for a member of zeros: blocks of it that are zero become holes of the file.
    pub fn write_sparse(&mut self, bytes: &[u8]) -> Result<bool, ImageError> {
        self.put(bytes, true)
    }

    /// Bytes that were not written but left as holes.
    pub fn holes(&self) -> u64 {
        self.holes
    }

    fn put(&mut self, bytes: &[u8], is_sparse: bool) -> Result<bool, ImageError> {
        if bytes.is_empty() {
            return Ok(self.part.is_some());
        }
        if self.part.as_mut().is_some_and(|part| !part.holds(bytes, self.position)) {
            self.cut()?;
        }
        self.copy_waiting()?;
        match self.part.is_some() {
            true => self.position += bytes.len() as u64,
            false if is_sparse => self.append_sparse(bytes)?,
            false => self.append(bytes)?,
        }
        Ok(self.part.is_some())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.pending.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
        if self.pending.len() >= WRITE { self.write_pending() } else { Ok(()) }
    }

    fn write_pending(&mut self) -> Result<(), ImageError> {
        // What waits to be copied comes behind it.
        let waiting = self.waiting.end - self.waiting.start;
        let written = self.position - waiting - self.pending.len() as u64;
        let done = if self.pending.is_empty() { Ok(()) } else { self.sink.write_all(&self.pending) };
        self.pending.clear();
        done.map_err(|source| ImageError::sink(ImageOp::Write, written, source))
    }

    /// The file is new from here on: what is left out reads as zeros.
    fn append_sparse(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let blocks: Vec<&[u8]> = bytes.chunks(UNIT).collect();
        let mut rest = bytes;
        for alike in blocks.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            let (part, behind) = rest.split_at(alike.iter().map(|block| block.len()).sum());
            if is_zero(part) {
                self.write_pending()?;
                let (written, length) = (self.position, part.len() as u64);
                let done = self.sink.append_zeros(length);
                done.map_err(|source| ImageError::sink(ImageOp::Write, written, source))?;
                self.holes += length;
                self.position += length;
            } else {
                self.append(part)?;
            }
            rest = behind;
        }
        Ok(())
    }

    /// Leaves the member of `run` as it is; false where the file does not have it here any more.
    pub fn keep(&mut self, run: &Run) -> bool {
        let is_here = self.part.is_some() && run.position == self.position;
        if is_here {
            self.position += u64::from(run.member_length);
        }
        is_here
    }

    /// Writes the member of a run of the base, sooner or later; true where it stands in the file already. The base need
    /// not be read to tell: its index has the member's hash.
    pub fn copy(&mut self, run: &Run) -> Result<bool, ImageError> {
        if self.part.as_mut().is_some_and(|part| part.holds_member(run, self.position)) {
            self.position += u64::from(run.member_length);
            return Ok(true);
        }
        self.cut()?;
        let is_long = self.waiting.end - self.waiting.start >= COPY;
        if self.waiting.end != run.position || is_long {
            self.copy_waiting()?;
            self.waiting = run.position..run.position;
        }
        // The index was checked: no member reaches beyond the file.
        let length = u64::from(run.member_length);
        self.waiting.end += length;
        self.position += length;
        Ok(false)
    }

    fn copy_waiting(&mut self) -> Result<(), ImageError> {
        if !self.waiting.is_empty() {
            self.write_pending()?;
        }
        let range = std::mem::replace(&mut self.waiting, 0..0);
        let Some(base) = self.base.filter(|_| !range.is_empty()) else { return Ok(()) };
        let mut written = self.position - (range.end - range.start);
        let sink_error = |written| move |source| ImageError::sink(ImageOp::Write, written, source);
        let copied = self.sink.append_from(base.file(), range.clone()).map_err(sink_error(written))?;
        let mut at = range.start.saturating_add(copied);
        written = written.saturating_add(copied);
        let mut bytes = Vec::new();
        while at < range.end {
            // What has to be read from now on is proven on the way.
            self.unread.store(false, Relaxed);
            bytes.resize((range.end - at).min(PLAIN_COPY) as usize, 0);
            base.read(&mut bytes, at)?;
            self.sink.write_all(&bytes).map_err(sink_error(written))?;
            at += bytes.len() as u64;
            written += bytes.len() as u64;
        }
        Ok(())
    }

    /// Ends the file here: from now on it is written.
    fn cut(&mut self) -> Result<(), ImageError> {
        if let Some(part) = self.part.take() {
            part.end();
            let written = self.position;
            let cut = self.sink.resume_at(written);
            cut.map_err(|source| ImageError::sink(ImageOp::Resume, written, source))?;
        }
        Ok(())
    }

    /// Writes the last bytes and syncs; returns the size of the file.
    ///
    /// The last bytes are written even where they stand there already: the sink resumes the file, and its sync is for all
    /// of it.
    pub fn finish(mut self, bytes: &[u8]) -> Result<u64, ImageError> {
        self.cut()?;
        self.write(bytes)?;
        self.write_pending()?;
        let written = self.position;
        let sync = |source| ImageError::sink(ImageOp::Sync, written, source);
        self.sink.flush().map_err(sync)?;
        self.sink.sync().map_err(sync)?;
        Ok(written)
    }
}
