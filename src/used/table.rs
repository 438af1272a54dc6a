//! Which partition table a disk has: one that nobody can see otherwise, or none, or a doubt about the whole disk.
#![forbid(unsafe_code)]

use super::volume::VolumeSlot;
use super::{gpt, mbr};
use crate::io::ReadAt;

/// Most partitions of a disk.
const MAX_PARTITIONS: usize = 1024;

/// The partitions of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DiskTable {
    /// In the order of the disk, disjoint, all on the disk, none empty. None at all: no table, the disk is one volume.
    pub(super) slots: Vec<VolumeSlot>,
    /// What is odd, though the table is trusted.
    pub(super) notes: Vec<String>,
}

/// Reads the tables of a disk of `size` bytes with logical blocks of `sector` bytes: what the kernel goes by first, then
/// a GPT that it does not see, because no MBR protects it. Such a GPT is one that was not wiped, or its MBR is damaged.
///
/// # Errors
/// Why the whole disk is in doubt.
pub(super) fn read(disk: &dyn ReadAt, size: u64, sector: u32) -> Result<Vec<DiskTable>, String> {
    let unit = u64::from(sector);
    if !sector.is_power_of_two() || !(512..=65_536).contains(&sector) || !size.is_multiple_of(unit) {
        return Err(format!("a disk of {size} bytes has no blocks of {sector} bytes"));
    }
    let blocks = size / unit;
    let mut block = [0; 512];
    disk.read_exact_at(&mut block, 0).map_err(|e| format!("cannot read the first block: {e}"))?;
    let record = mbr::boot_record(&block).filter(mbr::is_table);
    // A disk that was moved behind another controller: its blocks were 512 bytes and are 4096 now, or the reverse.
    let other = [512, 4096].into_iter().filter(|other| *other != unit).flat_map(|other| gpt_at(size, other));
    let other =
        other.filter(|at| gpt_at(size, unit).all(|here| here != *at)).any(|at| gpt::has_header(disk, at));
    if other {
        return Err("there is a GPT for another block size".into());
    }
    let stale = gpt_at(size, unit).any(|at| gpt::has_header(disk, at));
    let mut first = DiskTable::default();
    let mut tables = Vec::new();
    match record {
        Some(record) if record.iter().any(|entry| entry.kind == 0xee) => {
            (first.slots, first.notes) = gpt::slots(disk, blocks, sector, &record)?;
        }
        Some(record) => {
            first.slots = mbr::slots(disk, size, sector, &record)?;
            if stale {
                let (slots, notes) = gpt::unprotected(disk, blocks, sector)
                    .map_err(|why| format!("there is a GPT, but no MBR that protects it; {STALE} ({why})"))?;
                first.notes.push(format!("a GPT that no MBR protects counts too; {STALE}"));
                tables.push(DiskTable { slots, notes });
            }
        }
        None if stale => return Err("there is a GPT, but no MBR that protects it".into()),
        None => {}
    }
    tables.insert(0, first);
    for table in &mut tables {
        check(&mut table.slots, size)?;
        table.slots.retain(|slot| slot.number != 0);
    }
    Ok(tables)
}

/// What ends the doubt about a GPT that no MBR protects.
const STALE: &str = "if it is stale, `sgdisk -z` removes it, and a boot loader right behind the MBR with it";

/// The bytes where a GPT of blocks of `unit` bytes has its headers.
fn gpt_at(size: u64, unit: u64) -> impl Iterator<Item = u64> {
    (size >= 2 * unit).then(|| [unit, (size / unit - 1) * unit]).into_iter().flatten()
}

/// Every partition that any table on the disk names, trusted or not, in any order; those of other block sizes too. For
/// looking at what may be there: nothing is left out by it.
pub(super) fn mentioned(disk: &dyn ReadAt, size: u64, sector: u32) -> Vec<VolumeSlot> {
    let mut block = [0; 512];
    let record = disk.read_exact_at(&mut block, 0).ok().and_then(|()| mbr::boot_record(&block));
    let mut slots = record.map_or_else(Vec::new, |record| mbr::mentioned(disk, size, sector, &record));
    for unit in [sector, 512, 4096] {
        for at in gpt_at(size, u64::from(unit.max(1))) {
            let found = gpt::read_at(disk, unit, at / u64::from(unit.max(1)));
            slots.extend(found.iter().flat_map(|gpt| &gpt.entries).map(|entry| gpt::slot(entry, unit)));
        }
    }
    slots.retain_mut(|slot| {
        slot.size = slot.size.min(size.saturating_sub(slot.start));
        // The protective entry is the GPT's, and none of the disk's partitions.
        slot.number != 0 && slot.size > 0 && slot.type_id != "ee"
    });
    slots.sort_by(|a, b| (a.start, a.size, &a.type_id).cmp(&(b.start, b.size, &b.type_id)));
    slots.dedup_by(|a, b| (a.start, a.size, &a.type_id) == (b.start, b.size, &b.type_id));
    slots.truncate(MAX_PARTITIONS);
    slots
}

/// Puts the slots in the order of the disk. Errors where one is not on the disk, is empty, or overlaps another.
fn check(slots: &mut [VolumeSlot], size: u64) -> Result<(), String> {
    if slots.len() > MAX_PARTITIONS {
        return Err(format!("there are more than {MAX_PARTITIONS} partitions"));
    }
    if let Some(slot) = slots.iter().find(|slot| slot.size == 0 || slot.end() > size) {
        return Err(format!("partition {} goes beyond the end of the disk", slot.number));
    }
    slots.sort_by_key(|slot| slot.start);
    for pair in slots.windows(2) {
        let [a, b] = pair else { continue };
        if a.end() > b.start {
            return Err(match (a.number, b.number) {
                (0, 0) => "the chain of extended boot records is a loop".into(),
                (0, n) | (n, 0) => format!("partition {n} overlaps an extended boot record"),
                (n, m) => format!("partitions {n} and {m} overlap"),
            });
        }
    }
    Ok(())
}
