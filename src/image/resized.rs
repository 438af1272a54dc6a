//! A disk of another size than the imaged one, as it would be if it had that size: what it is compared by.
//!
//! A restore moves a GPT that is right to the end of the disk ([`crate::used::relocate`]); moved back, it is the image's
//! again, byte by byte, if it is the same table. A disk whose GPT is not at its end holds a plain copy, and is taken as it
//! is. A disk whose last partition has grown as a restore has it grow is known by its table, which must be the grown one
//! to the last byte: then that partition is not compared, and everything else is.
#![forbid(unsafe_code)]

use crate::block::{AlignedBuf, BlockDevice, View};
use crate::image::error::{ImageError, ImageOp};
use crate::image::format::member::MemberKind;
use crate::image::reader::Image;
use crate::progress::Progress;
use crate::used::Growth;
use crate::used::relocate::{Movable, Patch, growth};
use std::io;
use std::ops::Range;

/// The disk with the GPT moved back, and zeros behind its end.
pub(super) struct AsImaged<'a> {
    disk: &'a dyn BlockDevice,
    size: u64,
    patches: Vec<Patch>,
    /// The partition that is not compared.
    pub(super) grown: Option<Growth>,
}

/// The parts of `range` before and behind `hole`, one of which or both can be empty.
pub(super) fn outside(range: &Range<u64>, hole: &Range<u64>) -> [Range<u64>; 2] {
    [
        range.start..range.end.min(hole.start).max(range.start),
        range.start.max(hole.end).min(range.end)..range.end,
    ]
}

impl<'a> AsImaged<'a> {
    /// As a disk of `size` bytes; `sector` is the size of the blocks that its GPT would count in.
    pub(super) fn new(disk: &'a dyn BlockDevice, size: u64, sector: u32) -> Self {
        let progress = Progress::new();
        let found = match disk.size() == size {
            true => Ok(None),
            // What cannot be read, the comparison meets.
            false => Movable::find(&View::new(disk, &progress), disk.size(), sector),
        };
        let moved = found.ok().flatten().and_then(|gpt| gpt.on(size));
        AsImaged { disk, size, patches: moved.map_or_else(Vec::new, |moved| moved.wanted), grown: None }
    }

    /// As a disk of the size of `image`, whose last partition may have grown.
    ///
    /// # Errors
    /// Those of image and disk.
    pub(super) fn of(disk: &'a dyn BlockDevice, image: &Image) -> Result<Self, ImageError> {
        let (size, sector) = (image.summary().disk, image.header().disk.logical_block_size);
        let plain = Self::new(disk, size, sector);
        let wanted = growth(&image.content(), size, sector, disk.size());
        let Some((growth, wanted)) = wanted.ok().filter(|_| disk.size() > size) else { return Ok(plain) };
        let hole = growth.start..growth.end;
        let mut table = Vec::new();
        for Patch { offset, bytes } in &wanted {
            for part in outside(&(*offset..offset + bytes.len() as u64), &hole) {
                let wanted = &bytes[(part.start - offset) as usize..(part.end - offset) as usize];
                let mut found = AlignedBuf::new(wanted.len());
                let read = disk.read_at(&mut found, part.start);
                read.map_err(|e| {
                    ImageError::transfer(disk, ImageOp::Read, part.start, wanted.len() as u64, e)
                })?;
                if *found != *wanted {
                    return Ok(plain);
                }
                table.push(part.start.min(size)..part.end.min(size));
            }
        }
        // Of a run that begins before the partition, or ends behind it, the hash is of all its bytes.
        for at in [hole.start, hole.end] {
            let run = image.runs_in(at..at.saturating_add(1)).next().transpose()?;
            let run =
                run.filter(|run| run.kind == MemberKind::Data && run.offset < at).map(|run| run.range());
            table.extend(run.map(|run| run.start.max(hole.start)..run.end.min(hole.end)));
        }
        let mut patches = Vec::new();
        for part in table.into_iter().filter(|part| part.start < part.end) {
            let mut bytes = Vec::new();
            image.cat(part.clone(), &mut bytes)?;
            patches.push(Patch { offset: part.start, bytes });
        }
        Ok(AsImaged { disk, size, patches, grown: Some(growth) })
    }
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "it is only read")
}

impl BlockDevice for AsImaged<'_> {
    fn name(&self) -> &str {
        self.disk.name()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn logical_block_size(&self) -> u32 {
        self.disk.logical_block_size()
    }

    fn physical_block_size(&self) -> u32 {
        self.disk.physical_block_size()
    }

    fn is_regular_file(&self) -> bool {
        self.disk.is_regular_file()
    }

    fn is_rotational(&self) -> bool {
        self.disk.is_rotational()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let there = usize::try_from(self.disk.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let (on_disk, behind) = buf.split_at_mut(there.min(buf.len()));
        if !on_disk.is_empty() {
            self.disk.read_at(on_disk, offset)?;
        }
        behind.fill(0);
        for patch in &self.patches {
            let start = patch.offset.max(offset);
            let end = (patch.offset + patch.bytes.len() as u64).min(offset + buf.len() as u64);
            if start < end {
                let from = (start - patch.offset) as usize..(end - patch.offset) as usize;
                buf[(start - offset) as usize..(end - offset) as usize].copy_from_slice(&patch.bytes[from]);
            }
        }
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn write_zeroes(&self, _: u64, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn flush(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.disk.drop_cache()
    }

    fn reread_partition_table(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn next_data(&self, from: u64) -> io::Result<Option<std::ops::Range<u64>>> {
        if self.patches.is_empty() && self.size <= self.disk.size() {
            return self.disk.next_data(from);
        }
        Ok((from < self.size).then_some(from..self.size))
    }
}
