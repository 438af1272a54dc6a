//! Which partition table a disk has: one that nobody can see otherwise, or none, or a doubt about the whole disk.
#![forbid(unsafe_code)]

use super::{gpt, mbr};
use crate::io::ReadAt;

/// Most partitions of a disk.
const MAX_PARTITIONS: usize = 1024;

/// A partition as its table gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    /// Number as Linux counts them.
    pub(super) number: u32,
    /// First byte on the disk.
    pub(super) start: u64,
    /// Bytes.
    pub(super) size: u64,
    /// Type in words.
    pub(super) kind: String,
    /// Name in the table.
    pub(super) name: Option<String>,
    /// Why all of it is imaged, whatever it holds.
    pub(super) why_all: Option<&'static str>,
}

impl Slot {
    /// First byte behind it.
    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }
}

/// The partitions of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// In the order of the disk, disjoint, all on the disk, none empty. None at all: no table, the disk is one volume.
    pub(super) slots: Vec<Slot>,
    /// What is odd, though the table is trusted.
    pub(super) notes: Vec<String>,
}

/// Reads the table of a disk of `size` bytes with logical blocks of `sector` bytes.
///
/// # Errors
/// Why the whole disk is in doubt.
pub(super) fn read(disk: &dyn ReadAt, size: u64, sector: u32) -> Result<Table, String> {
    let unit = u64::from(sector);
    if !sector.is_power_of_two() || !(512..=65_536).contains(&sector) || !size.is_multiple_of(unit) {
        return Err(format!("a disk of {size} bytes has no blocks of {sector} bytes"));
    }
    let blocks = size / unit;
    let mut block = [0; 512];
    disk.read_exact_at(&mut block, 0).map_err(|e| format!("cannot read the first block: {e}"))?;
    let record = mbr::boot_record(&block).filter(mbr::is_table);
    let gpt_at =
        |unit: u64| (size >= 2 * unit).then(|| [unit, (size / unit - 1) * unit]).into_iter().flatten();
    // A disk that was moved behind another controller: its blocks were 512 bytes and are 4096 now, or the reverse.
    let other = [512, 4096].into_iter().filter(|other| *other != unit).flat_map(gpt_at);
    let other = other.filter(|at| gpt_at(unit).all(|here| here != *at)).any(|at| gpt::has_header(disk, at));
    if other {
        return Err("there is a GPT for another block size".into());
    }
    let gpt = gpt_at(unit).any(|at| gpt::has_header(disk, at));
    let mut table = Table::default();
    match record {
        Some(record) if record.iter().any(|entry| entry.kind == 0xee) => {
            (table.slots, table.notes) = gpt::slots(disk, blocks, sector, &record)?;
        }
        _ if gpt => return Err("there is a GPT, but no MBR that protects it".into()),
        Some(record) => table.slots = mbr::slots(disk, size, sector, &record)?,
        None => {}
    }
    check(&mut table.slots, size)?;
    table.slots.retain(|slot| slot.number != 0);
    Ok(table)
}

/// Puts the slots in the order of the disk. Errors where one is not on the disk, is empty, or overlaps another.
fn check(slots: &mut [Slot], size: u64) -> Result<(), String> {
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
