//! The log inside the file system: whether its last record is that of a clean unmount.
//!
//! The log is a ring of blocks of 512 bytes. Each of them begins with the cycle in which it was written (a record's
//! header: with a magic number, then the cycle), so a log has cycle `n` up to its head and `n - 1` behind it. The kernel
//! finds the head by bisection and looks for holes near it, then believes an unmount record that ends at the head
//! (`xlog_find_head`, `xlog_check_unmount_rec`). Here every block is looked at: the log is 1/2048 of a file system
//! (2 GiB at most), and a hole anywhere is a doubt. (xfs_admin leaves one when it changes the UUID; the next mount
//! writes over it.)
#![forbid(unsafe_code)]

use super::bytes::{BASIC_BLOCK, KIND, doubt};
use super::superblock::XfsSuperblock;
use crate::bytes::{be16, be32, be64, field};
use crate::used::sums::agree;
use crate::used::{Doubt, Volume};

/// First word of a record's header.
const MAGIC: u32 = 0xfeed_babe;
/// Longest record and its buffer, in bytes.
const MOST_RECORD: u32 = 256 << 10;
/// Bytes of a record whose first words a single header holds.
const PER_HEADER: u32 = 32 << 10;
/// Bytes of the log that are read at once.
const PIECE: u64 = 1 << 20;

/// The log sequence number (cycle and block) at which the next record would be written.
///
/// # Errors
/// The log is not clean, or its state is not certain.
pub fn clean_head(volume: &Volume<'_>, fs: &XfsSuperblock) -> Result<u64, Doubt> {
    let geometry = &fs.geometry;
    let log = XfsLog {
        volume,
        fs,
        start: geometry.byte(geometry.log_group as u32, geometry.log_start),
        blocks: (u64::from(geometry.log_blocks) * u64::from(geometry.block) / BASIC_BLOCK) as u32,
    };
    let ends = log.scan()?;
    log.check_unmount(&ends)?;
    // All of it has one cycle: the next record begins the next one.
    let cycle = if ends.head == 0 { ends.cycle.wrapping_add(1) } else { ends.cycle };
    Ok(u64::from(cycle) << 32 | u64::from(ends.head))
}

struct XfsLog<'a> {
    volume: &'a Volume<'a>,
    fs: &'a XfsSuperblock,
    /// Byte on the volume.
    start: u64,
    /// Blocks of 512 bytes: at most 4 million.
    blocks: u32,
}

/// Where the log was written last.
struct Ends {
    /// First block that was written in the cycle before; 0 where all are of one cycle.
    head: u32,
    /// Cycle of block 0.
    cycle: u32,
    /// Header of the record before the head.
    last: u32,
}

impl XfsLog<'_> {
    /// Bytes of `count` blocks from `block` on, around the end of the ring.
    fn read(&self, block: u32, count: u32) -> Result<Vec<u8>, Doubt> {
        let block = block % self.blocks;
        let first = count.min(self.blocks - block);
        let at = |block: u32| self.start + u64::from(block) * BASIC_BLOCK;
        let len = |count: u32| count as usize * BASIC_BLOCK as usize;
        let mut bytes = self.volume.read(KIND, at(block), len(first))?;
        bytes.extend_from_slice(&self.volume.read(KIND, at(0), len(count - first))?);
        Ok(bytes)
    }

    fn scan(&self) -> Result<Ends, Doubt> {
        let (mut first, mut before) = (None, None);
        let (mut head, mut last_of_cycle, mut last) = (None, None, None);
        let piece = (PIECE / BASIC_BLOCK) as u32;
        for start in (0..self.blocks).step_by(piece as usize) {
            let bytes = self.read(start, piece.min(self.blocks - start))?;
            for (block, bytes) in (start..).zip(bytes.chunks_exact(BASIC_BLOCK as usize)) {
                let is_header = be32(bytes, 0) == MAGIC;
                let cycle = be32(bytes, if is_header { 4 } else { 0 });
                match before {
                    None if cycle == 0 => return Err(doubt("its log was never written")),
                    None => first = Some(cycle),
                    Some(before) if before == cycle => {}
                    Some(before) if before == cycle.wrapping_add(1) && head.is_none() => {
                        head = Some(block);
                        last_of_cycle = last;
                    }
                    Some(_) => return Err(doubt("its log has a hole; mounting it once closes it")),
                }
                before = Some(cycle);
                if is_header {
                    last = Some(block);
                }
            }
        }
        // A record may begin in one cycle and end in the next.
        let (Some(cycle), Some(last)) = (first, last_of_cycle.or(last)) else {
            return Err(doubt("there is no record in its log"));
        };
        Ok(Ends { head: head.unwrap_or(0), cycle, last })
    }

    /// The last record ends at the head, and is that of a clean unmount.
    fn check_unmount(&self, ends: &Ends) -> Result<(), Doubt> {
        let header = self.read(ends.last, 1)?;
        let (cycle, version, length) = (be32(&header, 4), be32(&header, 8), be32(&header, 12));
        let size = be32(&header, 320);
        let wrong = |what| Err(doubt(format!("the last record of its log {what}")));
        if !matches!(version, 1 | 2) || length == 0 || length > MOST_RECORD || size > MOST_RECORD {
            return wrong("has an impossible size");
        }
        let headers = match version {
            2 if self.fs.log_v2 => size.div_ceil(PER_HEADER).max(1),
            _ => 1,
        };
        let data = length.div_ceil(BASIC_BLOCK as u32);
        if headers + data > self.blocks || (ends.last + headers + data) % self.blocks != ends.head {
            return wrong("was not written to its end: it needs recovery; `mount` it once, and unmount it");
        }
        if be64(&header, 16) != u64::from(cycle) << 32 | u64::from(ends.last) {
            return wrong("does not belong there");
        }
        // Byte order: Linux, little-endian or big-endian.
        if !matches!(be32(&header, 300), 1 | 2) || field::<16>(&header, 304) != self.fs.uuid {
            return wrong("was written by another system");
        }
        let record = self.read(ends.last, headers + data)?;
        let (front, body) = record.split_at(headers as usize * BASIC_BLOCK as usize);
        if !checksum_matches(front, body.get(..length as usize).unwrap_or(body)) {
            return wrong("has a wrong checksum");
        }
        // One operation: of the log itself, with the flag of unmounting, and 0x556e in the byte order of the writer. Its
        // length is no help: current kernels leave it 0.
        let operations = be32(&header, 40);
        let unmount = operations == 1
            && body.get(8) == Some(&0xaa)
            && body.get(9).is_some_and(|flags| flags & 0x20 != 0)
            && matches!(be16(body, 12), 0x556e | 0x6e55);
        if !unmount {
            return Err(doubt(
                "its log needs recovery: it was not unmounted cleanly; `mount` it once, and unmount it",
            ));
        }
        Ok(())
    }
}

/// CRC32C of the used part of each header, the sum itself as zero, and of the data. mkfs writes 0 and no sum.
fn checksum_matches(headers: &[u8], data: &[u8]) -> bool {
    let stored = u32::from_le_bytes(field(headers, 32));
    if stored == 0 {
        return true;
    }
    // 32-bit x86 made the sum of the first header without the padding at its end.
    [328, 324].into_iter().any(|used| {
        let (first, more) = headers.split_at(BASIC_BLOCK as usize);
        let mut sum = crc32c::crc32c(&first[..32]);
        sum = crc32c::crc32c_append(sum, &[0; 4]);
        sum = crc32c::crc32c_append(sum, &first[36..used]);
        for header in more.chunks_exact(BASIC_BLOCK as usize) {
            sum = crc32c::crc32c_append(sum, &header[..260]);
        }
        agree(crc32c::crc32c_append(sum, data), stored)
    })
}
