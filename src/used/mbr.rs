//! MBR: the table of DOS in the first block, and its chain of extended boot records.
//!
//! There is no specification of it: what counts here is what Linux makes of it (`block/partitions/msdos.c`), and where
//! other systems could see it otherwise, it is refused.
#![forbid(unsafe_code)]

use super::volume::VolumeSlot;
use crate::bytes::le;
use crate::io::ReadAt;

/// Most logical partitions that are followed: Linux goes no further than 100 records either.
const MAX_LOGICAL: usize = 100;

/// One 16-byte entry of a boot record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MbrEntry {
    /// 0x80 active, 0 not; anything else is no entry.
    pub(super) status: u8,
    /// Partition type.
    pub(super) kind: u8,
    /// First logical block; in an extended boot record relative to something else.
    pub(super) first: u32,
    /// Length in logical blocks.
    pub(super) blocks: u32,
}

impl MbrEntry {
    pub(super) fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    /// Whether nobody takes it for a partition: one system goes by the type, another one by the length.
    pub(super) fn is_empty(&self) -> bool {
        self.kind == 0 && self.blocks == 0
    }

    /// # Errors
    /// It is in doubt: no system wrote it so.
    pub(super) fn check(&self, what: &str) -> Result<(), String> {
        if !matches!(self.status, 0 | 0x80) || (self.kind == 0) != (self.blocks == 0) || self.first == 0 {
            return Err(format!("{what} is not a right entry"));
        }
        Ok(())
    }
}

/// The four entries of a boot record; `None` without its signature.
pub(super) fn boot_record(block: &[u8]) -> Option<[MbrEntry; 4]> {
    if block.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let entry = |i: usize| {
        let raw = block.get(446 + 16 * i..462 + 16 * i)?;
        Some(MbrEntry {
            status: *raw.first()?,
            kind: *raw.get(4)?,
            first: le::u32(raw, 8)?,
            blocks: le::u32(raw, 12)?,
        })
    };
    Some([entry(0)?, entry(1)?, entry(2)?, entry(3)?])
}

/// Whether these are the entries of a table, and not the end of a boot program as in the first block of FAT and NTFS.
/// A table without partitions is none.
pub(super) fn is_table(record: &[MbrEntry; 4]) -> bool {
    record.iter().all(|entry| matches!(entry.status, 0 | 0x80))
        && record.iter().any(|entry| !entry.is_empty())
}

/// The partitions of a table on a disk of `size` bytes; instead of the extended one the blocks of its boot records,
/// each as a slot with the number 0. Whether they overlap is not looked at.
pub(super) fn slots(
    disk: &dyn ReadAt,
    size: u64,
    sector: u32,
    record: &[MbrEntry; 4],
) -> Result<Vec<VolumeSlot>, String> {
    let mut slots = Vec::new();
    let mut extended = None;
    for (number, entry) in (1u32..).zip(record).filter(|(_, entry)| !entry.is_empty()) {
        entry.check(&format!("partition {number}"))?;
        let slot = slot(number, entry, u64::from(entry.first), sector)?;
        if !entry.is_extended() {
            slots.push(slot);
        } else if extended.replace(slot).is_some() {
            return Err("there are two extended partitions".into());
        }
    }
    let Some(extended) = extended else { return Ok(slots) };
    if extended.end() > size {
        return Err("the extended partition goes beyond the end of the disk".into());
    }
    let logical = logical(disk, &extended, sector)?;
    let outside = slots.iter().find(|slot| slot.start < extended.end() && extended.start < slot.end());
    if let Some(slot) = outside {
        return Err(format!("partition {} overlaps the extended one", slot.number));
    }
    slots.extend(logical);
    Ok(slots)
}

/// What the entries name, right or not; see [`super::table::mentioned`].
pub(super) fn mentioned(
    disk: &dyn ReadAt,
    size: u64,
    sector: u32,
    record: &[MbrEntry; 4],
) -> Vec<VolumeSlot> {
    if let Ok(slots) = slots(disk, size, sector, record) {
        return slots;
    }
    let entries = (1u32..).zip(record).filter(|(_, entry)| !entry.is_empty());
    entries.filter_map(|(number, entry)| slot(number, entry, u64::from(entry.first), sector).ok()).collect()
}

fn slot(number: u32, entry: &MbrEntry, first: u64, sector: u32) -> Result<VolumeSlot, String> {
    let bytes = |blocks: u64| {
        blocks
            .checked_mul(u64::from(sector))
            .ok_or_else(|| format!("partition {number} lies beyond every disk"))
    };
    Ok(VolumeSlot {
        number,
        start: bytes(first)?,
        size: bytes(u64::from(entry.blocks))?,
        kind: format!("{} ({:02x})", type_name(entry.kind), entry.kind),
        type_id: format!("{:02x}", entry.kind),
        name: None,
        // Dynamic disks: the volumes inside are spanned and striped by a database elsewhere on the disk.
        why_all: (entry.kind == 0x42).then_some("its type has a layout of its own"),
    })
}

/// The extended boot records from LBA `start`, each with its LBA, as far as links lead: for ever where they are a loop. The
/// first entry of each is relative to itself, the second, which leads to the next, to `start`.
pub(super) struct Chain<'a> {
    disk: &'a dyn ReadAt,
    sector: u32,
    start: u64,
    next: Option<u64>,
}

impl<'a> Chain<'a> {
    pub(super) fn new(disk: &'a dyn ReadAt, sector: u32, start: u64) -> Self {
        Chain { disk, sector, start, next: Some(start) }
    }
}

impl Iterator for Chain<'_> {
    type Item = Result<(u64, [MbrEntry; 4]), String>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.next.take()?;
        let mut block = [0; 512];
        if let Err(e) = self.disk.read_exact_at(&mut block, at.saturating_mul(u64::from(self.sector))) {
            return Some(Err(format!("cannot read the extended boot record at LBA {at}: {e}")));
        }
        let Some(record) = boot_record(&block) else {
            return Some(Err(format!("no extended boot record at LBA {at}")));
        };
        self.next = record[1].is_extended().then(|| self.start.saturating_add(u64::from(record[1].first)));
        Some(Ok((at, record)))
    }
}

/// The partitions of the chain inside the partition `extended`.
fn logical(disk: &dyn ReadAt, extended: &VolumeSlot, sector: u32) -> Result<Vec<VolumeSlot>, String> {
    let unit = u64::from(sector);
    let (start, end) = (extended.start / unit, extended.end() / unit);
    let mut slots = Vec::new();
    for (number, record) in (5u32..).zip(Chain::new(disk, sector, start)).take(MAX_LOGICAL) {
        let (at, [data, next, rest @ ..]) = record?;
        if rest.iter().any(|entry| !entry.is_empty()) || data.is_extended() {
            return Err(format!("the extended boot record at LBA {at} has more than a partition and a link"));
        }
        slots.push(VolumeSlot { start: at.saturating_mul(unit), size: unit, ..VolumeSlot::default() });
        if !data.is_empty() {
            data.check(&format!("logical partition {number}"))?;
            let slot = slot(number, &data, at.saturating_add(u64::from(data.first)), sector)?;
            if slot.end() > extended.end() {
                return Err(format!("logical partition {number} leaves the extended one"));
            }
            slots.push(slot);
        } else if !next.is_empty() {
            // Linux gives no number to a record without a partition, others do.
            return Err(format!("the extended boot record at LBA {at} has a link and no partition"));
        }
        if next.is_empty() {
            return Ok(slots);
        }
        if !next.is_extended() || !matches!(next.status, 0 | 0x80) {
            return Err(format!("the link of the extended boot record at LBA {at} is wrong"));
        }
        // A loop ends by the overlap of records that the caller finds, or by the count here.
        let to = start.saturating_add(u64::from(next.first));
        if next.first == 0 || to >= end {
            return Err(format!("the chain of extended boot records leaves its partition for LBA {to}"));
        }
    }
    Err(format!("the chain of extended boot records has more than {MAX_LOGICAL} links or is a loop"))
}

/// A type in words.
pub(super) fn type_name(kind: u8) -> &'static str {
    match kind {
        0x01 => "FAT12",
        0x04 | 0x06 | 0x0e => "FAT16",
        0x05 | 0x0f | 0x85 => "extended",
        0x07 => "NTFS, exFAT or HPFS",
        0x0b | 0x0c => "FAT32",
        0x27 => "Windows recovery",
        0x42 => "Windows dynamic disk",
        0x82 => "Linux swap or Solaris",
        0x83 => "Linux",
        0x8e => "Linux LVM",
        0xa5 => "FreeBSD",
        0xa6 => "OpenBSD",
        0xa8 => "Darwin UFS",
        0xa9 => "NetBSD",
        0xaf => "HFS",
        0xbe => "Solaris boot",
        0xbf => "Solaris",
        0xef => "EFI system",
        0xfd => "Linux RAID",
        _ => "unknown",
    }
}
