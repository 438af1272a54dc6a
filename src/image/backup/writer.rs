//! From pieces of disk, in order, to the image file.
#![forbid(unsafe_code)]

use crate::block::BlockDevice;
use crate::image::backup::options::{BackupOptions, Written};
use crate::image::backup::output::Output;
use crate::image::backup::pack::append_member;
use crate::image::backup::resume::Unfinished;
use crate::image::backup::slot::{DiskPiece, PieceContent, WindowContent, WindowSlot};
use crate::image::backup::sources::MemberSources;
use crate::image::error::ImageError;
use crate::image::format::codec::{DataMember, Deflate};
use crate::image::format::footer::Footer;
use crate::image::format::header::Header;
use crate::image::format::index::IndexWriter;
use crate::image::format::member::MemberKind;
use crate::image::format::run::{NO_HASH, Run};
use crate::image::format::zeros::{MAX_ZERO_RUN, ZeroMembers};
use crate::io::SyncWrite;
use crate::progress::Progress;
use crate::text::with_sources;
use blake3::Hash;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// A disk with more unreadable bytes than this is dying: no image is made of it.
const MAX_UNREADABLE: u64 = 256 << 20;
/// Bad ranges that are listed by name; the index has them all.
const LISTED: usize = 1000;

/// Writes the members in order, joins pieces of zeros into long runs, and grows the index.
pub(super) struct Writer<'a> {
    out: Output<'a>,
    progress: &'a Progress,
    deflater: Box<dyn Deflate>,
    zeros: ZeroMembers,
    /// A long run that was not written yet.
    pending: (MemberKind, Range<u64>),
    index: IndexWriter,
    nodes: Vec<u8>,
    footer: Footer,
    written: Written,
}

impl<'a> Writer<'a> {
    /// Begins the image, or finds it begun in `part`.
    pub fn new(
        sink: &'a mut dyn SyncWrite,
        header: &Header,
        opts: &BackupOptions,
        sources: &MemberSources<'a>,
        part: Option<Unfinished>,
        progress: &'a Progress,
    ) -> Result<Self, ImageError> {
        let member = header.encode();
        let hash = blake3::hash(&member);
        let mut writer = Writer {
            out: Output::new(sink, part, sources),
            progress,
            deflater: opts.codec.deflater(),
            zeros: ZeroMembers::default(),
            pending: (MemberKind::Zero, 0..0),
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
                hole_bytes: 0,
                disk_bytes: header.disk.size,
                zero_bytes: 0,
                unallocated_bytes: 0,
                stored_bytes: 0,
                taken_bytes: 0,
                unread_bytes: 0,
                kept_bytes: 0,
                retaken_bad: 0,
                bad_base: None,
                unreadable_bytes: 0,
                unreadable: Vec::new(),
            },
        };
        writer.write(&member)?;
        Ok(writer)
    }

    /// True where the bytes stood in the file already.
    fn write(&mut self, bytes: &[u8]) -> Result<bool, ImageError> {
        let was_there = self.out.write(bytes)?;
        self.progress.image.store(self.out.position(), Relaxed);
        Ok(was_there)
    }

    /// Takes the next window of the disk.
    pub fn take(&mut self, disk: &dyn BlockDevice, slot: &mut WindowSlot) -> Result<(), ImageError> {
        for error in slot.bad_base.drain(..) {
            self.written.retaken_bad += 1;
            self.written.bad_base.get_or_insert_with(|| with_sources(&error));
        }
        match std::mem::replace(&mut slot.content, WindowContent::Raw) {
            WindowContent::Failed(error) => return Err(error),
            WindowContent::Raw | WindowContent::Hole | WindowContent::Unallocated => {}
        }
        let pieces = std::mem::take(&mut slot.pieces);
        pieces.iter().try_for_each(|piece| self.piece(disk, piece, slot))?;
        slot.pieces = pieces;
        Ok(())
    }

    fn piece(
        &mut self,
        disk: &dyn BlockDevice,
        piece: &DiskPiece,
        slot: &WindowSlot,
    ) -> Result<(), ImageError> {
        let range = piece.range.clone();
        let length = range.end - range.start;
        match &piece.content {
            PieceContent::Zero => self.zero(range)?,
            PieceContent::Unallocated => return self.unallocated(range),
            PieceContent::Unreadable => self.unreadable(disk, range)?,
            PieceContent::Data(made) => self.data(range, made, &slot.members[made.range.clone()])?,
            PieceContent::Taken(run, place) => {
                self.flush_zeros()?;
                let (about, member) = ((run.hash, run.has_gaps), &slot.members[place.clone()]);
                match self.put(MemberKind::Data, range, about, member, run.member_hash)? {
                    true => self.written.kept_bytes += length,
                    false => self.written.taken_bytes += length,
                }
                self.progress.taken.fetch_add(length, Relaxed);
            }
            PieceContent::Unread(run) => self.copy(range, run)?,
            PieceContent::Kept(run) => self.keep(range, run, slot)?,
            // Packers turn all raw pieces into something else.
            PieceContent::Raw => return Err(ImageError::internal("a piece of disk was not handled")),
        }
        self.progress.add_done(length);
        Ok(())
    }

    fn data(&mut self, range: Range<u64>, made: &DataMember, member: &[u8]) -> Result<(), ImageError> {
        self.flush_zeros()?;
        let length = range.end - range.start;
        if self.put(MemberKind::Data, range, (made.hash, made.has_gaps), member, made.member_hash)? {
            self.written.kept_bytes += length;
            self.progress.taken.fetch_add(length, Relaxed);
        } else if made.stored {
            self.written.stored_bytes += length;
            self.progress.stored.store(self.written.stored_bytes, Relaxed);
        }
        Ok(())
    }

    /// A run whose member is copied from the base, where it does not stand in the file already.
    fn copy(&mut self, range: Range<u64>, old: &Run) -> Result<(), ImageError> {
        self.flush_zeros()?;
        let position = self.out.position();
        let length = range.end - range.start;
        if self.out.copy(old)? {
            self.written.kept_bytes += length;
        } else {
            self.written.taken_bytes += length;
            self.written.unread_bytes += length;
        }
        self.progress.taken.fetch_add(length, Relaxed);
        self.index(&Run { position, offset: range.start, ..*old })
    }

    /// A run whose member stands in the file already, unless the file was cut before it meanwhile.
    fn keep(&mut self, range: Range<u64>, kept: &Run, slot: &WindowSlot) -> Result<(), ImageError> {
        self.flush_zeros()?;
        let position = self.out.position();
        if !self.out.keep(kept) {
            let (raw, gaps) = slot.bytes(&range);
            let mut member = Vec::new();
            let made = append_member(&mut *self.deflater, raw, &gaps, kept.hash, &mut member);
            return self.data(range, &made, &member);
        }
        self.written.kept_bytes += kept.length;
        self.progress.taken.fetch_add(kept.length, Relaxed);
        self.index(&Run { position, offset: range.start, ..*kept })
    }

    fn unreadable(&mut self, disk: &dyn BlockDevice, range: Range<u64>) -> Result<(), ImageError> {
        self.flush_zeros()?;
        let written = &mut self.written;
        written.unreadable_bytes += range.end - range.start;
        if written.unreadable_bytes > MAX_UNREADABLE {
            return Err(ImageError::failing(disk, MAX_UNREADABLE, range.end));
        }
        let listed = written.unreadable.len();
        match written.unreadable.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ if listed < LISTED => written.unreadable.push(range.clone()),
            _ => {}
        }
        self.put_zeros(MemberKind::Unreadable, range)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<(), ImageError> {
        self.written.zero_bytes += range.end - range.start;
        self.progress.zero.store(self.written.zero_bytes, Relaxed);
        self.long(MemberKind::Zero, range)
    }

    fn unallocated(&mut self, range: Range<u64>) -> Result<(), ImageError> {
        self.written.unallocated_bytes += range.end - range.start;
        self.progress.skipped.store(self.written.unallocated_bytes, Relaxed);
        self.long(MemberKind::Unallocated, range)
    }

    /// A piece of a long run, perhaps more of the one before.
    fn long(&mut self, kind: MemberKind, range: Range<u64>) -> Result<(), ImageError> {
        if self.pending.0 != kind {
            self.flush_zeros()?;
        }
        let start = if self.pending.1.is_empty() { range.start } else { self.pending.1.start };
        self.pending = (kind, start..range.end);
        // Cut where every image cuts, so that a change far away does not move the cuts.
        while let Some(cut) = self.cut() {
            let run = self.pending.1.start..cut;
            self.pending.1.start = cut;
            self.put_zeros(kind, run)?;
        }
        Ok(())
    }

    /// The first multiple of the longest run in the pending one, if it reaches that.
    fn cut(&self) -> Option<u64> {
        let cut = (self.pending.1.start / MAX_ZERO_RUN + 1) * MAX_ZERO_RUN;
        (cut <= self.pending.1.end).then_some(cut)
    }

    fn flush_zeros(&mut self) -> Result<(), ImageError> {
        let (kind, range) = std::mem::replace(&mut self.pending, (MemberKind::Zero, 0..0));
        if range.is_empty() { Ok(()) } else { self.put_zeros(kind, range) }
    }

    fn put_zeros(&mut self, kind: MemberKind, range: Range<u64>) -> Result<(), ImageError> {
        let mut zeros = std::mem::take(&mut self.zeros);
        let (member, member_hash) = zeros.get(kind, range.end - range.start);
        let result = self.put(kind, range, (NO_HASH, false), member, member_hash);
        self.zeros = zeros;
        result.map(drop)
    }

    /// Writes one run and what the index adds behind it. True where its member stood in the file already.
    fn put(
        &mut self,
        kind: MemberKind,
        range: Range<u64>,
        (hash, has_gaps): (Hash, bool),
        member: &[u8],
        member_hash: Hash,
    ) -> Result<bool, ImageError> {
        if self.progress.is_cancelled() {
            return Err(ImageError::cancelled());
        }
        let run = Run {
            kind,
            offset: range.start,
            length: range.end - range.start,
            position: self.out.position(),
            member_length: member.len() as u32,
            hash,
            has_gaps,
            member_hash,
        };
        let was_there = match kind {
            MemberKind::Data => self.out.write(member)?,
            _ => self.out.write_sparse(member)?,
        };
        self.progress.image.store(self.out.position(), Relaxed);
        self.index(&run)?;
        Ok(was_there)
    }

    /// Lists a run that was written, and writes the index members that are full with it.
    fn index(&mut self, run: &Run) -> Result<(), ImageError> {
        self.footer.runs += 1;
        let mut nodes = std::mem::take(&mut self.nodes);
        self.index.push(run, &mut nodes);
        self.out.write_nodes(&nodes)?;
        self.progress.image.store(self.out.position(), Relaxed);
        nodes.clear();
        self.nodes = nodes;
        Ok(())
    }

    /// The rest of the index, the footer, and the sync.
    pub fn finish(mut self) -> Result<Written, ImageError> {
        self.flush_zeros()?;
        let mut nodes = Vec::new();
        let root = std::mem::take(&mut self.index).finish(&mut nodes);
        self.write(&nodes)?;
        let root = root.ok_or_else(|| ImageError::internal("none of the disk was handled"))?;
        if (root.offset, root.disk) != (0, self.footer.disk_size) {
            return Err(ImageError::internal("not all of the disk was handled"));
        }
        self.footer.root_position = self.out.position() - u64::from(root.length);
        self.footer.root_length = root.length;
        self.footer.node_hash = root.hash;
        self.footer.zero = self.written.zero_bytes;
        self.footer.unallocated = self.written.unallocated_bytes;
        self.footer.unreadable = self.written.unreadable_bytes;
        self.footer.degraded = self.written.is_degraded();
        self.written.root_hash = self.footer.root_hash();
        self.written.hole_bytes = self.out.holes();
        self.written.image_bytes = self.out.finish(&self.footer.encode())?;
        Ok(self.written)
    }
}
