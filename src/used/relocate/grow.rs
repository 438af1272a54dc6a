//! The last partition of a disk, up to the end of a larger one: its entry in the table, and nothing else of it.
//!
//! The first block and both arrays of a GPT have it, and both headers their checksums; of an MBR, one entry. What grows is
//! the partition that stands last on the disk, whatever its number. Partitions that others own are never grown: those that
//! the firmware or a recovery of Windows looks for.
#![forbid(unsafe_code)]

use super::{MAX_TAIL, Movable, Patch, chs, put};
use crate::bytes::{field, le};
use crate::io::ReadAt;
use crate::used::{gpt, mbr};

/// What the end of a grown partition is a multiple of, in bytes, as partitioning tools align them.
const ALIGN: u64 = 1 << 20;

/// The last partition of a disk, which can grow on a larger one. All in bytes from the beginning of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastPartition {
    /// Its number, as Linux counts them.
    pub number: u32,
    /// Its first byte, which stays.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
    /// Bytes at the end of every disk that are the table's.
    behind: u64,
    /// Byte that no partition reaches, however large the disk is.
    most: u64,
}

/// How it grows on one larger disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Its number, as Linux counts them.
    pub number: u32,
    /// Its first byte, which stays.
    pub start: u64,
    /// First byte behind it before.
    pub old_end: u64,
    /// The same on the larger disk: a multiple of 1 MiB.
    pub end: u64,
}

impl Growth {
    /// What a comparison says that leaves it out.
    pub fn not_compared(&self) -> String {
        let Growth { number, start, old_end, end } = self;
        format!(
            "partition {number} has grown since (from byte {old_end} to byte {end}), and is NOT compared: bytes {start} to {}",
            end - 1
        )
    }
}

impl LastPartition {
    /// On a disk of `target` bytes.
    ///
    /// # Errors
    /// Why it does not grow.
    pub fn on(&self, target: u64) -> Result<Growth, String> {
        let end = target.saturating_sub(self.behind).min(self.most) / ALIGN * ALIGN;
        if end <= self.end {
            return Err(format!("partition {}, the last one, has no free MiB behind it", self.number));
        }
        Ok(Growth { number: self.number, start: self.start, old_end: self.end, end })
    }

    fn checked(self, sector: u64) -> Result<LastPartition, String> {
        let number = self.number;
        if self.start < MAX_TAIL || !ALIGN.is_multiple_of(sector) {
            return Err(format!(
                "partition {number}, the last one, begins in the first MiB of the disk, which a restore writes last"
            ));
        }
        Ok(self)
    }
}

/// The last partition of a disk of `size` bytes with logical blocks of `sector` bytes. Nothing is read but the table: what
/// the partition holds is not looked at.
///
/// # Errors
/// Why it cannot grow.
pub(crate) fn last_partition(disk: &dyn ReadAt, size: u64, sector: u32) -> Result<LastPartition, String> {
    match Movable::find(disk, size, sector)? {
        Some(gpt) => gpt.last().map(|(last, _)| last),
        None => Mbr::read(disk, size, sector).map(|mbr| mbr.last),
    }
}

/// How the last partition of such a disk grows on one of `target` bytes, and what must be there then, as
/// [`super::Moved::wanted`] for a GPT.
///
/// # Errors
/// Why it does not grow.
pub fn growth(
    disk: &dyn ReadAt,
    size: u64,
    sector: u32,
    target: u64,
) -> Result<(Growth, Vec<Patch>), String> {
    if target <= size {
        return Err("the disk is not larger than the imaged one".into());
    }
    match Movable::find(disk, size, sector)? {
        Some(gpt) => gpt.grown(target),
        None => Mbr::read(disk, size, sector)?.grown(target),
    }
}

impl Movable {
    /// The last partition and its entry.
    fn last(&self) -> Result<(LastPartition, &gpt::GptEntry), String> {
        let last = self.entries.iter().max_by_key(|entry| entry.last).ok_or("it has no partition")?;
        if let Some(why) = not_to_grow(last) {
            return Err(format!("partition {}, the last one, {why}", last.number));
        }
        let is_hybrid = mbr::boot_record(&self.record)
            .is_none_or(|record| record.iter().any(|entry| !matches!(entry.kind, 0 | 0xee)));
        if is_hybrid {
            return Err("its MBR is a hybrid one, which has partitions of its own".into());
        }
        if !self.tail.starts_with(self.array.1.get(..self.array_len()).unwrap_or(&self.primary)) {
            return Err("its two arrays differ".into());
        }
        let found = LastPartition {
            number: last.number,
            start: last.first.saturating_mul(self.sector),
            end: last.last.saturating_add(1).saturating_mul(self.sector),
            behind: (self.blocks - 1 - self.last_usable).saturating_mul(self.sector),
            most: u64::MAX,
        };
        Ok((found.checked(self.sector)?, last))
    }

    fn grown(&self, target: u64) -> Result<(Growth, Vec<Patch>), String> {
        let (last, entry) = self.last()?;
        // A disk is whole blocks.
        let growth = last.on(target / self.sector * self.sector)?;
        let mut array = self.array.1.clone();
        let entry_size = le::u32(&self.primary, 84).unwrap_or_default() as usize;
        let at = (entry.number as usize).saturating_sub(1).saturating_mul(entry_size);
        put(&mut array, at + 40, &(growth.end / self.sector - 1).to_le_bytes());
        let moved = self.with_entries(target, Some(&array)).ok_or("there is no room for its GPT")?;
        Ok((growth, moved.wanted))
    }
}

/// Why a partition of a GPT is not anybody's to grow.
fn not_to_grow(entry: &gpt::GptEntry) -> Option<&'static str> {
    match entry.kind.as_str() {
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" => Some("is the EFI system partition"),
        "de94bba4-06d1-4d40-a16a-bfd50179d6ac" => Some("is a recovery partition of Windows"),
        "e3c9e316-0b5c-4db8-817d-f92df00215ae" => Some("is reserved by Windows"),
        // Attribute 0 of UEFI: the platform requires it.
        _ if entry.attributes & 1 != 0 => Some("is required by the machine, by its attributes"),
        _ => None,
    }
}

/// The last entry of a record all of whose entries are right, and its place in the record. `blocks` of the disk.
fn last_of(record: &[mbr::MbrEntry; 4], blocks: u64) -> Result<(usize, mbr::MbrEntry), String> {
    let mut entries: Vec<_> = record.iter().copied().enumerate().filter(|(_, e)| !e.is_empty()).collect();
    entries.sort_by_key(|(_, entry)| entry.first);
    let mut behind = 1;
    for (index, entry) in &entries {
        entry.check(&format!("partition {}", index + 1))?;
        if u64::from(entry.first) < behind || end(entry) > blocks {
            return Err(format!("partition {} overlaps another one, or leaves the disk", index + 1));
        }
        behind = end(entry);
    }
    entries.pop().ok_or_else(|| "it has no partition".into())
}

/// First block behind a partition.
fn end(entry: &mbr::MbrEntry) -> u64 {
    u64::from(entry.first) + u64::from(entry.blocks)
}

/// A table in the first block whose last partition is a primary one.
struct Mbr {
    block: [u8; 512],
    sector: u64,
    last: LastPartition,
    /// Byte of its entry.
    at: usize,
}

impl Mbr {
    fn read(disk: &dyn ReadAt, size: u64, sector: u32) -> Result<Mbr, String> {
        let unit = u64::from(sector.max(1));
        let mut block = [0; 512];
        disk.read_exact_at(&mut block, 0).map_err(|e| e.to_string())?;
        let record = mbr::boot_record(&block).filter(mbr::is_table).ok_or("it has no partition table")?;
        let (index, last) = last_of(&record, size / unit)?;
        let why = match last.kind {
            _ if last.is_extended() => Some("is an extended one"),
            0x27 | 0x12 => Some("is for the recovery of the machine"),
            0xef => Some("is the EFI system partition"),
            0xee => Some("protects a GPT that is not there"),
            _ => None,
        };
        if let Some(why) = why {
            return Err(format!("partition {}, the last one, {why}", index + 1));
        }
        let found = LastPartition {
            number: index as u32 + 1,
            start: u64::from(last.first) * unit,
            end: end(&last) * unit,
            behind: 0,
            // It counts no block from 2^32 on.
            most: unit.saturating_mul(u64::from(u32::MAX)),
        };
        Ok(Mbr { block, sector: unit, last: found.checked(unit)?, at: 446 + 16 * index })
    }

    fn grown(self, target: u64) -> Result<(Growth, Vec<Patch>), String> {
        let Mbr { mut block, sector, last, at } = self;
        let growth = last.on(target)?;
        let blocks = u32::try_from((growth.end - growth.start) / sector).map_err(|e| e.to_string())?;
        put(&mut block, at + 12, &blocks.to_le_bytes());
        // The address of its last block in the old notation, where that was one of 255 heads and 63 sectors.
        let in_old = |lba: u64| if lba < 255 * 63 * 1024 { chs(lba) } else { [0xfe, 0xff, 0xff] };
        let old: [u8; 3] = field(&block, at + 5);
        if old == in_old(growth.old_end / sector - 1) {
            put(&mut block, at + 5, &in_old(growth.end / sector - 1));
        }
        Ok((growth, vec![Patch { offset: 0, bytes: block.to_vec() }]))
    }
}

#[cfg(test)]
mod tests;
