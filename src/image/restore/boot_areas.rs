//! What makes a disk bootable is written last: a half-restored disk must not look like a whole one.
//!
//! The boot areas are the first MiB (boot sector, primary GPT, boot loaders behind it) and the last MiB of the image's
//! disk (the backup GPT, from which UEFI firmware boots as well). On a larger disk the last MiB of that is zeroed
//! too: a stale backup GPT there must not win.
#![forbid(unsafe_code)]

use crate::block::{ALIGN, AlignedBuf, BlockDevice};
use crate::image::error::{ImageError, Op};
use crate::image::verify::read;
use crate::io::is_zero;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of each.
const AREA: u64 = 1 << 20;

/// The parts of a disk that are held back in memory until the rest is proven.
pub struct BootAreas<'a> {
    disk: &'a dyn BlockDevice,
    head: Range<u64>,
    tail: Range<u64>,
    kept: Mutex<Kept>,
}

/// What boots could not be written.
pub struct NotBootable {
    /// Why.
    pub error: ImageError,
    /// The disk was made unbootable again.
    pub zeroed: bool,
}

struct Kept {
    head: AlignedBuf,
    tail: AlignedBuf,
}

/// The part of `range` inside `limits`.
fn within(range: &Range<u64>, limits: &Range<u64>) -> Option<Range<u64>> {
    let both = range.start.max(limits.start)..range.end.min(limits.end);
    (both.start < both.end).then_some(both)
}

impl<'a> BootAreas<'a> {
    /// For content of `size` bytes on a disk of at least that.
    pub fn new(disk: &'a dyn BlockDevice, size: u64) -> Self {
        let head = 0..AREA.min(size);
        let tail = (size.saturating_sub(AREA) / ALIGN as u64 * ALIGN as u64).max(head.end)..size;
        let buffer = |range: &Range<u64>| AlignedBuf::new((range.end - range.start) as usize);
        let kept = Mutex::new(Kept { head: buffer(&head), tail: buffer(&tail) });
        BootAreas { disk, head, tail, kept }
    }

    /// Makes the disk unbootable: zeros over the boot areas, flushed, and read back.
    pub fn zero(&self) -> Result<(), ImageError> {
        let end = self.disk.size();
        let beyond = end.saturating_sub(AREA).max(self.tail.end)..end;
        let zeros = AlignedBuf::new(AREA as usize + ALIGN);
        let mut back = AlignedBuf::new(AREA as usize + ALIGN);
        let parts = [&self.head, &self.tail, &beyond].into_iter().filter(|part| !part.is_empty());
        for part in parts.clone() {
            self.write(&zeros[..(part.end - part.start) as usize], part.start)?;
        }
        self.flush()?;
        for part in parts {
            let back = &mut back[..(part.end - part.start) as usize];
            read(self.disk, back, part.start)?;
            if !is_zero(back) {
                return Err(ImageError::differs(self.disk, part, Op::ReadBack));
            }
        }
        Ok(())
    }

    /// Bytes of content in them, which are written in any case.
    pub fn bytes(&self) -> u64 {
        (self.head.end - self.head.start) + (self.tail.end - self.tail.start)
    }

    /// The part of `range` outside of them.
    pub fn body(&self, range: &Range<u64>) -> Option<Range<u64>> {
        within(range, &(self.head.end..self.tail.start))
    }

    /// Keeps what of `bytes` lies in them; the bytes belong at byte `offset` of the disk.
    pub fn keep(&self, bytes: &[u8], offset: u64) {
        let mut kept = self.kept();
        let Kept { head, tail } = &mut *kept;
        for (part, to) in [(&self.head, head), (&self.tail, tail)] {
            if let Some(both) = within(&(offset..offset + bytes.len() as u64), part) {
                to[(both.start - part.start) as usize..(both.end - part.start) as usize]
                    .copy_from_slice(&bytes[(both.start - offset) as usize..(both.end - offset) as usize]);
            }
        }
    }

    /// Puts what was kept over `bytes`, as they will be on the disk.
    pub fn overlay(&self, bytes: &mut [u8], offset: u64) {
        let kept = self.kept();
        for (part, from) in [(&self.head, &kept.head), (&self.tail, &kept.tail)] {
            if let Some(both) = within(&(offset..offset + bytes.len() as u64), part) {
                bytes[(both.start - offset) as usize..(both.end - offset) as usize].copy_from_slice(
                    &from[(both.start - part.start) as usize..(both.end - part.start) as usize],
                );
            }
        }
    }

    /// Writes what was kept: last of all the first block of the disk (boot sector, header of the primary GPT), and
    /// before it the last one (header of the backup GPT), since firmware boots by either. Each step is flushed and read
    /// back. After a failure the head is zeroed again; [`NotBootable::zeroed`] says whether that worked.
    pub fn write_last(&self) -> Result<(), NotBootable> {
        let kept = self.kept();
        let block = self.disk.logical_block_size() as usize;
        let first = kept.head.len().min(block.max(ALIGN));
        // A disk writes one logical block or none of it.
        let last = kept.tail.len().saturating_sub(block);
        let steps = [
            (&kept.head[first..], first as u64),
            (&kept.tail[..last], self.tail.start),
            (&kept.tail[last..], self.tail.start + last as u64),
            (&kept.head[..first], 0),
        ];
        let written = steps.into_iter().filter(|step| !step.0.is_empty()).try_for_each(|(bytes, offset)| {
            self.write(bytes, offset)?;
            self.flush()?;
            let mut back = AlignedBuf::new(bytes.len());
            read(self.disk, &mut back, offset)?;
            if *back != *bytes {
                let range = offset..offset + bytes.len() as u64;
                return Err(ImageError::differs(self.disk, &range, Op::ReadBack));
            }
            Ok(())
        });
        written.map_err(|error| NotBootable { error, zeroed: self.zero().is_ok() })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), ImageError> {
        let len = bytes.len() as u64;
        self.disk
            .write_at(bytes, offset)
            .map_err(|e| ImageError::transfer(self.disk, Op::Write, offset, len, e))
    }

    /// Makes what was written durable.
    pub fn flush(&self) -> Result<(), ImageError> {
        self.disk.flush().map_err(|source| ImageError::disk_call(self.disk, Op::Flush, source))
    }
}
