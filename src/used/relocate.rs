//! The GPT of a disk on a disk of another size: its backup and the end of the usable blocks move with the end of the disk.
//!
//! ```text
//!  image's disk   | MBR | primary | array | partitions ... | array | backup |
//!  larger disk    | MBR | primary | array | partitions ... | zeros          | free ... | array | backup |
//! ```
//!
//! All that stands behind the last usable block moves as it is: the distances to the end of the disk stay, so moving back
//! gives the same bytes. Entries, GUIDs and names stay. Touched is only a GPT that firmware and every system take as it
//! is: both headers and both arrays whole, each at its end of the disk, and the same. Whatever else is there stays as the
//! image has it, byte by byte. Nothing is read but what is given, nothing written: UEFI specification 2.10, chapter 5.
#![forbid(unsafe_code)]

mod grow;

pub(crate) use grow::last_partition;
pub use grow::{Growth, LastPartition, growth};

use super::{gpt, mbr, table};
use crate::bytes::{field, le};
use crate::io::ReadAt;
use std::ops::Range;

/// Longest end of a disk that moves, in bytes: the array and the header of a backup GPT. A restore holds so much back at
/// each end until everything else is proven.
pub(crate) const MAX_TAIL: u64 = 1 << 20;

/// Bytes at a place of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// First byte.
    pub offset: u64,
    /// What stands there.
    pub bytes: Vec<u8>,
}

/// What is other than in the image, on a disk of another size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// What the disk must hold, disjoint.
    pub wanted: Vec<Patch>,
    /// Bytes between the last partition and the end of the usable blocks.
    pub free: u64,
}

/// A GPT that is right.
#[derive(Clone, Debug)]
pub struct Movable {
    sector: u64,
    /// Blocks of the disk.
    blocks: u64,
    /// The first block, and the header behind it.
    record: Vec<u8>,
    primary: Vec<u8>,
    /// First block behind the usable ones that belongs to the backup, and all from there to the end of the disk.
    tail_start: u64,
    tail: Vec<u8>,
    first_usable: u64,
    last_usable: u64,
    /// First block behind all partitions.
    used_end: u64,
    /// First block of the primary array, and its bytes.
    array: (u64, Vec<u8>),
    entries: Vec<gpt::GptEntry>,
}

impl Movable {
    /// The GPT of a disk of `size` bytes with logical blocks of `sector` bytes; `None` where there is none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn find(disk: &dyn ReadAt, size: u64, sector: u32) -> Result<Option<Movable>, String> {
        let unit = u64::from(sector);
        if !sector.is_power_of_two() || !(512..=65_536).contains(&sector) || !size.is_multiple_of(unit) {
            return Ok(None);
        }
        let blocks = size / unit;
        let last = blocks.saturating_sub(1);
        let mut first = [0; 512];
        let record = disk.read_exact_at(&mut first, 0).ok().and_then(|()| mbr::boot_record(&first));
        let is_protected = record.is_some_and(|record| record.iter().any(|entry| entry.kind == 0xee));
        let has_header = |lba: u64| gpt::has_header(disk, lba.saturating_mul(unit));
        if !is_protected && !has_header(1) && !has_header(last) {
            return Ok(None);
        }
        if !is_protected {
            return Err("no MBR protects it".into());
        }
        // As the kernel and the used-block map see it, which is strict about the MBR and about overlaps.
        table::read(disk, size, sector)?;
        let at = |lba| gpt::read_at(disk, sector, lba);
        let primary = at(1).map_err(|why| format!("primary: {why}"))?;
        let backup = at(last).map_err(|why| format!("backup at the end of the disk: {why}"))?;
        if primary.alternate != last || backup.alternate != 1 {
            return Err("the headers do not name each other's place".into());
        }
        let (first_usable, last_usable) = primary.usable;
        let tail_start = backup.array.0;
        if primary.array.1 > first_usable || tail_start <= last_usable || backup.array.1 > last {
            return Err("an array of entries lies among the usable blocks, or beside its header".into());
        }
        if (blocks - tail_start).saturating_mul(unit) > MAX_TAIL {
            return Err("its backup takes more than the last MiB of the disk".into());
        }
        let read = |lba: u64, count: u64| {
            let mut bytes = vec![0; usize::try_from(count.saturating_mul(unit)).unwrap_or_default()];
            disk.read_exact_at(&mut bytes, lba.saturating_mul(unit)).map_err(|e| e.to_string())?;
            Ok::<_, String>(bytes)
        };
        let found = Movable {
            sector: unit,
            blocks,
            record: read(0, 1)?,
            primary: read(1, 1)?,
            tail_start,
            tail: read(tail_start, blocks - tail_start)?,
            first_usable,
            last_usable,
            used_end: primary.entries.iter().map(|e| e.last.saturating_add(1)).max().unwrap_or(first_usable),
            array: (primary.array.0, read(primary.array.0, primary.array.1 - primary.array.0)?),
            entries: primary.entries,
        };
        if !found.is_twice_the_same() {
            return Err("its two headers differ".into());
        }
        Ok(Some(found))
    }

    /// Whether both headers say the same: revision, length, ids, usable blocks, number, size and checksum of the entries,
    /// and that all of it is as the specification wants it.
    fn is_twice_the_same(&self) -> bool {
        let header = self.backup_header();
        let same = |range: Range<usize>| self.primary.get(range.clone()) == header.get(range);
        let entry_size = le::u32(&self.primary, 84).unwrap_or_default();
        let is_known = self.primary.get(8..12) == Some(&[0, 0, 1, 0]);
        is_known && entry_size.is_power_of_two() && same(8..16) && same(40..72) && same(80..92)
    }

    /// Bytes that the checksum of the entries covers.
    fn array_len(&self) -> usize {
        let [number, size] = [80, 84].map(|at| le::u32(&self.primary, at).unwrap_or_default() as usize);
        number.saturating_mul(size)
    }

    fn backup_header(&self) -> &[u8] {
        let at = self.tail.len().saturating_sub(usize::try_from(self.sector).unwrap_or_default());
        self.tail.get(at..).unwrap_or_default()
    }

    /// The bytes of the image's disk that hold the backup.
    pub(crate) fn tail(&self) -> Range<u64> {
        self.tail_start * self.sector..self.blocks * self.sector
    }

    /// Bytes that a disk must have at least for the partitions and this GPT.
    pub fn needed(&self) -> u64 {
        let used_end = self.used_end.max(self.first_usable.saturating_add(1));
        used_end.saturating_add(self.blocks - 1 - self.last_usable).saturating_mul(self.sector)
    }

    /// The same GPT on a disk of `size` bytes; `None` where there is nothing to move, or no room for it.
    pub fn on(&self, size: u64) -> Option<Moved> {
        self.with_entries(size, None)
    }

    /// As [`Movable::on`], with another array of entries of the same length.
    fn with_entries(&self, size: u64, array: Option<&[u8]>) -> Option<Moved> {
        let blocks = size / self.sector;
        if blocks == self.blocks || blocks.saturating_mul(self.sector) < self.needed() {
            return None;
        }
        // What is there is at most `blocks`, so that the order of the two does not matter.
        let moved = |lba: u64| (lba + blocks).saturating_sub(self.blocks);
        let (last_usable, tail_start) = (moved(self.last_usable), moved(self.tail_start));
        let (mut primary, mut tail) = (self.primary.clone(), self.tail.clone());
        let header = tail.len().saturating_sub(self.primary.len());
        if let Some(array) = array {
            let sum = gpt::crc32(array.get(..self.array_len()).unwrap_or_default());
            [&mut primary[..], tail.get_mut(header..).unwrap_or_default()]
                .into_iter()
                .for_each(|header| put(header, 88, &sum.to_le_bytes()));
            put(&mut tail, 0, array);
        }
        rewrite(&mut primary, &[(32, blocks - 1), (48, last_usable)]);
        let fields = [(24, blocks - 1), (48, last_usable), (72, tail_start)];
        rewrite(tail.get_mut(header..).unwrap_or_default(), &fields);
        let at = |lba: u64, bytes: Vec<u8>| Patch { offset: lba * self.sector, bytes };
        let zeros = |blocks: u64| vec![0; usize::try_from(blocks * self.sector).unwrap_or_default()];
        let mut wanted = vec![at(0, self.protective(blocks)), at(1, primary)];
        wanted.extend(array.map(|array| at(self.array.0, array.to_vec())));
        // Where the backup was, as far as it is not there again: a stale one must not be found.
        let uncovered = self.blocks.min(tail_start).saturating_sub(self.tail_start);
        wanted.push(at(self.tail_start, zeros(uncovered)));
        wanted.push(at(tail_start, tail));
        wanted.retain(|patch| !patch.bytes.is_empty());
        let free = (last_usable + 1).saturating_sub(self.used_end) * self.sector;
        Some(Moved { wanted, free })
    }

    /// The first block for a disk of so many blocks: an entry that protects all of this disk protects all of that one.
    fn protective(&self, blocks: u64) -> Vec<u8> {
        let mut record = self.record.clone();
        for at in (446..510).step_by(16) {
            let entry: [u8; 16] = field(&record, at);
            let [first, length] = [8, 12].map(|field| le::u32(&entry, field).unwrap_or_default());
            if entry[4] != 0xee || first != 1 || length != protected(self.blocks) {
                continue;
            }
            put(&mut record, at + 12, &protected(blocks).to_le_bytes());
            // Of a small disk the address of its last block in the old notation; else one that means "beyond it".
            if entry[5..8] == chs(self.blocks - 1) {
                put(&mut record, at + 5, &chs(blocks - 1));
            }
        }
        record
    }
}

/// Length of the protective entry.
fn protected(blocks: u64) -> u32 {
    u32::try_from(blocks - 1).unwrap_or(u32::MAX)
}

/// A block's cylinder, head and sector with 255 heads and 63 sectors, as in an entry of an MBR.
fn chs(lba: u64) -> [u8; 3] {
    let (cylinder, head, sector) = (lba / (255 * 63), lba / 63 % 255, lba % 63 + 1);
    match u16::try_from(cylinder) {
        Ok(cylinder) if cylinder < 1024 => {
            let [low, high] = cylinder.to_le_bytes();
            [u8::try_from(head).unwrap_or(0xff), u8::try_from(sector).unwrap_or(0xff) | high << 6, low]
        }
        _ => [0xff; 3],
    }
}

/// Puts numbers into a header, and its checksum.
fn rewrite(header: &mut [u8], fields: &[(usize, u64)]) {
    for (at, number) in fields {
        put(header, *at, &number.to_le_bytes());
    }
    put(header, 16, &[0; 4]);
    let len = le::u32(header, 12).and_then(|len| usize::try_from(len).ok()).unwrap_or_default();
    let sum = gpt::crc32(header.get(..len).unwrap_or_default());
    put(header, 16, &sum.to_le_bytes());
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

/// Byte behind the last partition of a disk whose table is a plain MBR; extended partitions are counted with all that they
/// span.
///
/// # Errors
/// Why that cannot be said: no table, or one in doubt.
pub(crate) fn partitions_end(disk: &dyn ReadAt, size: u64, sector: u32) -> Result<u64, String> {
    let tables = table::read(disk, size, sector)?;
    if tables.iter().all(|table| table.slots.is_empty()) {
        return Err("no partition table says where what is on it ends".into());
    }
    let mut first = [0; 512];
    disk.read_exact_at(&mut first, 0).map_err(|e| e.to_string())?;
    let record = mbr::boot_record(&first).ok_or("it has no MBR")?;
    let end = |entry: &mbr::MbrEntry| (u64::from(entry.first) + u64::from(entry.blocks)) * u64::from(sector);
    Ok(record.iter().map(end).max().unwrap_or_default())
}

#[cfg(test)]
mod tests;
