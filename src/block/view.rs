//! A disk as bytes, for parsers that read a few of them here and there.
#![forbid(unsafe_code)]

use super::{ALIGN, AlignedBuf, BlockDevice};
use crate::io::ReadAt;
use crate::progress::Progress;
use std::io;
use std::sync::{Mutex, PoisonError};

/// Bytes of a block that is remembered: file systems keep what belongs together near each other.
const BLOCK: u64 = 64 << 10;
/// Blocks that are remembered, 8 MiB of them: those used last.
const BLOCKS: usize = 128;
/// Reads of at least so many bytes go through in pieces of this length, and are not remembered.
const LONG: usize = 1 << 20;

/// Reads of any length at any place, made of aligned transfers. Takes at most 9 MiB of memory.
///
/// Progress counts the bytes that are read from the disk; once it is cancelled, every read is an error.
pub struct View<'a> {
    disk: &'a dyn BlockDevice,
    progress: &'a Progress,
    cache: Mutex<Cache>,
}

struct Cache {
    blocks: Vec<BlockView>,
    clock: u64,
    long: Option<AlignedBuf>,
}

struct BlockView {
    offset: u64,
    len: usize,
    last_use: u64,
    bytes: AlignedBuf,
}

impl<'a> View<'a> {
    /// A view of all of `disk`.
    pub fn new(disk: &'a dyn BlockDevice, progress: &'a Progress) -> Self {
        let cache = Cache { blocks: Vec::new(), clock: 0, long: None };
        View { disk, progress, cache: Mutex::new(cache) }
    }

    fn transfer(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if self.progress.is_cancelled() {
            return Err(io::Error::other("it was stopped"));
        }
        self.disk.read_at(buf, offset)?;
        self.progress.add_done(buf.len() as u64);
        Ok(())
    }

    /// What `buf` wants, cut out of a transfer of whole blocks of `unit` bytes into the front of `through`. The whole
    /// of it must be on the disk.
    fn aligned(&self, buf: &mut [u8], offset: u64, unit: u64, through: &mut [u8]) -> io::Result<()> {
        let start = offset / unit * unit;
        let end = (offset + buf.len() as u64).next_multiple_of(unit).min(self.disk.size());
        let through = through.get_mut(..(end - start) as usize).ok_or(io::ErrorKind::InvalidInput)?;
        self.transfer(through, start)?;
        let skip = (offset - start) as usize;
        buf.copy_from_slice(through.get(skip..skip + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Cache {
    /// The remembered block at `offset`, or the one that was used least recently, to be filled.
    fn block(&mut self, offset: u64) -> &mut BlockView {
        self.clock += 1;
        let found = self.blocks.iter().position(|block| block.offset == offset && block.len > 0);
        let at = found.unwrap_or_else(|| {
            if self.blocks.len() < BLOCKS {
                let bytes = AlignedBuf::new(BLOCK as usize);
                self.blocks.push(BlockView { offset, len: 0, last_use: 0, bytes });
                return self.blocks.len() - 1;
            }
            let oldest = self.blocks.iter().enumerate().min_by_key(|(_, block)| block.last_use);
            oldest.map_or(0, |(at, _)| at)
        });
        let block = &mut self.blocks[at];
        if found.is_none() {
            (block.offset, block.len) = (offset, 0);
        }
        block.last_use = self.clock;
        block
    }
}

impl ReadAt for View<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.size())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.disk.size().saturating_sub(offset);
        let wanted = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let unit = u64::from(self.disk.logical_block_size()).max(ALIGN as u64);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted >= LONG {
            let through = cache.long.get_or_insert_with(|| AlignedBuf::new(LONG + 2 * unit as usize));
            self.aligned(&mut buf[..LONG], offset, unit, through)?;
            return Ok(LONG);
        }
        let start = offset / BLOCK * BLOCK;
        let block = cache.block(start);
        let inside = (offset - start) as usize;
        if block.len == 0 {
            let len = BLOCK.min(self.disk.size() - start) as usize;
            let buf = &mut buf[..wanted.min(len - inside)];
            if self.transfer(&mut block.bytes[..len], start).is_err() {
                // Something of the block may be bad; what was asked for perhaps is not.
                let unit = u64::from(self.disk.logical_block_size().max(1));
                self.aligned(buf, offset, unit, &mut block.bytes)?;
                return Ok(buf.len());
            }
            block.len = len;
        }
        let len = wanted.min(block.len - inside);
        buf[..len].copy_from_slice(&block.bytes[inside..inside + len]);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::mem::{DiskFault, DiskOp, MemDisk};
    use proptest::prelude::*;

    fn disk(len: usize, block: u32) -> MemDisk {
        MemDisk::new("sdx", (0..len as u32 / 4).flat_map(u32::to_le_bytes).collect(), block)
    }

    proptest! {
        #[test]
        fn any_read_gives_the_bytes_of_the_disk(
            reads in proptest::collection::vec((0usize..3_100_000, 0usize..2_500_000, 0u32..3), 1..12),
            block in prop::sample::select(vec![512u32, 4096, 65_536]),
        ) {
            let disk = disk((3 << 20) / block as usize * block as usize - block as usize, block);
            let (bytes, progress) = (disk.content(), Progress::default());
            let view = View::new(&disk, &progress);
            for (offset, len, shift) in reads {
                let len = len >> (shift * 8);
                let mut buf = vec![0; len];
                let read = view.read_exact_at(&mut buf, offset as u64);
                if offset + len <= bytes.len() {
                    read.unwrap();
                    prop_assert!(buf == bytes[offset..offset + len]);
                } else {
                    prop_assert!(read.is_err() || len == 0);
                }
            }
        }
    }

    #[test]
    fn small_reads_share_transfers_and_the_last_blocks_stay() {
        let disk = disk(32 << 20, 512);
        let progress = Progress::default();
        let view = View::new(&disk, &progress);
        let mut buf = [0; 100];
        for i in 0..1000 {
            view.read_exact_at(&mut buf, i * 100).unwrap();
        }
        assert_eq!(disk.count(DiskOp::Read), 2);
        for i in 2..2 * BLOCKS as u64 {
            view.read_exact_at(&mut buf, i * BLOCK).unwrap();
            view.read_exact_at(&mut buf, 17).unwrap();
        }
        assert_eq!(disk.count(DiskOp::Read), 2 * BLOCKS);
        assert_eq!(view.cache.lock().unwrap().blocks.len(), BLOCKS);
        view.read_exact_at(&mut buf, BLOCK).unwrap();
        assert_eq!(disk.count(DiskOp::Read), 2 * BLOCKS + 1);
        let mut long = vec![0; 5 << 20];
        view.read_exact_at(&mut long, 777).unwrap();
        assert!(long == disk.content()[777..777 + (5 << 20)]);
        assert_eq!(disk.count(DiskOp::Read), 2 * BLOCKS + 6);
        assert_eq!(progress.done.load(std::sync::atomic::Ordering::Relaxed) / (6 << 20), 3);
    }

    #[test]
    fn a_bad_sector_fails_only_reads_over_it_and_a_stop_fails_all() {
        let disk = disk(1 << 20, 512);
        disk.inject(DiskOp::Read, 5120..5632, DiskFault::Errno(libc::EIO), u64::MAX);
        let progress = Progress::default();
        let view = View::new(&disk, &progress);
        let mut buf = [0; 512];
        for (offset, is_good) in
            [(0, true), (4608, true), (4609, false), (5200, false), (5632, true), (70_000, true)]
        {
            assert_eq!(view.read_exact_at(&mut buf, offset).is_ok(), is_good, "{offset}");
        }
        progress.cancel();
        assert!(view.read_exact_at(&mut buf, 300_000).is_err());
    }
}
