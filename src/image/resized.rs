//! A disk of another size than the imaged one, as it would be if it had that size: what it is compared by.
//!
//! A restore moves a GPT that is right to the end of the disk ([`crate::used::relocate`]); moved back, it is the image's
//! again, byte by byte, if it is the same table. A disk whose GPT is not at its end holds a plain copy, and is taken as it
//! is.
#![forbid(unsafe_code)]

use crate::block::{BlockDevice, View};
use crate::progress::Progress;
use crate::used::relocate::{Movable, Patch};
use std::io;

/// The disk with the GPT moved back, and zeros behind its end.
pub(super) struct AsImaged<'a> {
    disk: &'a dyn BlockDevice,
    size: u64,
    patches: Vec<Patch>,
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
        AsImaged { disk, size, patches: moved.map_or_else(Vec::new, |moved| moved.wanted) }
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
