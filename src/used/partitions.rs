//! The partition table of a disk for people: whatever is there, it is read within bounds and said as it is found. Nothing
//! is left out of an image by it; `table` is what decides that, by the same parsers.
#![forbid(unsafe_code)]

use super::gpt;
use super::mbr::{self, Chain, boot_record};
use crate::bytes::le;
use crate::io::ReadAt;
use crate::text::plain;
use std::{fmt, io};

/// Logical partitions that are followed; the chain on a disk can be a loop.
const MAX_LOGICAL: usize = 256;

/// What a disk says about its partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionTable {
    /// `MBR`, `GPT`, or `none`.
    pub scheme: &'static str,
    /// The partitions, in the table's order.
    pub partitions: Vec<Partition>,
    /// Everything odd about the table, and its identifiers.
    pub notes: Vec<String>,
    /// Logical block size in bytes: the unit of the LBAs.
    pub block_size: u32,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Number as Linux counts them: logical partitions of an MBR from 5.
    pub number: usize,
    /// First LBA.
    pub first: u64,
    /// Length in logical blocks.
    pub blocks: u64,
    /// Type in words with its code.
    pub kind: String,
    /// Name and unique id (GPT), attributes, boot flag.
    pub label: String,
}

/// Reads the partition table of a disk; `block_size` is its logical block size in bytes.
///
/// # Errors
/// Where the first block cannot be read. What is wrong further on stands in the notes.
pub fn read(disk: &dyn ReadAt, block_size: u32) -> io::Result<PartitionTable> {
    let mut table = PartitionTable { scheme: "none", block_size, ..PartitionTable::default() };
    let mut head = [0; 512];
    disk.read_exact_at(&mut head, 0)?;
    let Some(mbr) = boot_record(&head) else {
        table.notes.push("no boot record signature in the first block".into());
        return Ok(table);
    };
    // A protective entry makes it a GPT; beside other entries it is a hybrid, of which the GPT is what counts.
    if mbr.iter().any(|entry| entry.kind == 0xee) {
        table.scheme = "GPT";
        let others = mbr.iter().filter(|entry| !matches!(entry.kind, 0 | 0xee)).count();
        if others > 0 {
            table.notes.push(format!("hybrid MBR with {others} entries beside the protective one"));
        }
        both_gpts(disk, &mut table)?;
        return Ok(table);
    }
    table.scheme = "MBR";
    table.notes.push(format!("disk signature {:08x}", le::u32(&head, 440).unwrap_or_default()));
    for (number, entry) in (1..).zip(&mbr) {
        if entry.kind != 0 {
            table.partitions.push(mbr_partition(number, entry, u64::from(entry.first)));
        }
    }
    for entry in mbr.iter().filter(|entry| entry.is_extended()) {
        logical(disk, &mut table, u64::from(entry.first));
    }
    Ok(table)
}

fn mbr_partition(number: usize, entry: &mbr::MbrEntry, first: u64) -> Partition {
    Partition {
        number,
        first,
        blocks: u64::from(entry.blocks),
        kind: format!("{} (type {:02x})", mbr::type_name(entry.kind), entry.kind),
        label: if entry.status == 0x80 { "active".into() } else { String::new() },
    }
}

/// Adds the logical partitions of the chain of extended boot records from LBA `start`.
fn logical(disk: &dyn ReadAt, table: &mut PartitionTable, start: u64) {
    let mut seen = Vec::new();
    let mut numbers = 5..;
    for record in Chain::new(disk, table.block_size, start) {
        match record {
            Err(why) => return table.notes.push(why),
            Ok((at, _)) if seen.contains(&at) || seen.len() >= MAX_LOGICAL => {
                return table.notes.push(format!("chain of extended boot records goes back to LBA {at}"));
            }
            Ok((at, [data, ..])) => {
                seen.push(at);
                if data.kind != 0 {
                    let first = at.saturating_add(u64::from(data.first));
                    let number = numbers.next().unwrap_or_default();
                    table.partitions.push(mbr_partition(number, &data, first));
                }
            }
        }
    }
}

/// Reads the primary GPT, or the backup at the end of the disk where the primary is damaged.
fn both_gpts(disk: &dyn ReadAt, table: &mut PartitionTable) -> io::Result<()> {
    let last = (disk.size()? / u64::from(table.block_size)).saturating_sub(1);
    for (what, lba) in [("primary", 1), ("backup", last)] {
        let gpt = gpt::read_at(disk, table.block_size, lba)
            .map(|gpt| (gpt.entries.iter().map(gpt_partition).collect::<Vec<_>>(), gpt));
        match gpt {
            Ok((partitions, gpt)) if table.partitions.is_empty() => {
                table.notes.push(format!("{what} GPT at LBA {lba}, disk id {}", gpt.disk_id));
                table.partitions = partitions;
                if what == "primary" && gpt.alternate != last {
                    let alternate = gpt.alternate;
                    table
                        .notes
                        .push(format!("backup GPT is at LBA {alternate}, but the disk ends with {last}"));
                }
            }
            Ok((partitions, _)) if partitions != table.partitions => {
                table.notes.push("backup GPT differs from the primary one".into());
            }
            Ok(_) => {}
            Err(why) => table.notes.push(format!("{what} GPT at LBA {lba}: {why}")),
        }
    }
    Ok(())
}

fn gpt_partition(entry: &gpt::GptEntry) -> Partition {
    let gpt::GptEntry { kind, id, name, attributes, .. } = entry;
    Partition {
        number: entry.number as usize,
        first: entry.first,
        blocks: entry.blocks(),
        kind: format!("{} (type {kind})", gpt::type_name(kind).unwrap_or("unknown")),
        label: format!("'{}' id {id} attributes {attributes:#x}", plain(name)),
    }
}

impl fmt::Display for PartitionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "partition table: {} (LBAs of {} bytes)", self.scheme, self.block_size)?;
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        for p in &self.partitions {
            let last = p.first.saturating_add(p.blocks).saturating_sub(1);
            let bytes = p.blocks.saturating_mul(u64::from(self.block_size));
            writeln!(f, "  {:3}: LBA {} - {last}, {bytes} bytes, {} {}", p.number, p.first, p.kind, p.label)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::gpt::crc32;
    use super::*;
    use proptest::prelude::*;

    fn entry(block: &mut [u8], i: usize, kind: u8, first: u32, blocks: u32) {
        let at = 446 + 16 * i;
        block[at + 4] = kind;
        block[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
        block[at + 12..at + 16].copy_from_slice(&blocks.to_le_bytes());
        block[510..512].copy_from_slice(&[0x55, 0xaa]);
    }

    fn spans(disk: &Vec<u8>) -> (PartitionTable, Vec<(usize, u64, u64)>) {
        let table = read(disk, 512).unwrap();
        let spans = table.partitions.iter().map(|p| (p.number, p.first, p.blocks)).collect();
        (table, spans)
    }

    #[test]
    fn logical_partitions_are_relative_to_their_records() {
        let mut disk = vec![0; 512 * 100];
        entry(&mut disk, 0, 0x83, 2, 8);
        entry(&mut disk, 3, 0x05, 10, 90);
        disk[446] = 0x80;
        entry(&mut disk[10 * 512..], 0, 0x83, 1, 9);
        entry(&mut disk[10 * 512..], 1, 0x05, 20, 10);
        entry(&mut disk[30 * 512..], 0, 0x82, 1, 9);
        let (table, found) = spans(&disk);
        assert_eq!(found, [(1, 2, 8), (4, 10, 90), (5, 11, 9), (6, 31, 9)]);
        assert_eq!(table.partitions[0].label, "active");
        assert!(
            table.to_string().contains("    6: LBA 31 - 39, 4608 bytes, Linux swap or Solaris (type 82)")
        );

        entry(&mut disk[30 * 512..], 1, 0x05, 20, 10);
        let (table, found) = spans(&disk);
        assert_eq!(found.len(), 4);
        assert!(table.notes.iter().any(|n| n.contains("goes back to LBA 30")), "{table}");
    }

    /// A disk of 100 blocks with one partition in both tables.
    fn gpt_disk() -> Vec<u8> {
        let mut disk = vec![0; 512 * 100];
        entry(&mut disk, 0, 0xee, 1, 99);
        let mut array = vec![0u8; 128 * 4];
        array[..16].copy_from_slice(&[
            0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
        ]);
        array[32..40].copy_from_slice(&40u64.to_le_bytes());
        array[40..48].copy_from_slice(&59u64.to_le_bytes());
        for (i, unit) in "root".encode_utf16().enumerate() {
            array[56 + 2 * i..58 + 2 * i].copy_from_slice(&unit.to_le_bytes());
        }
        for (lba, other, entries) in [(1usize, 99u64, 2u64), (99, 1, 95)] {
            let mut header = [0u8; 92];
            header[..8].copy_from_slice(b"EFI PART");
            header[12..16].copy_from_slice(&92u32.to_le_bytes());
            header[24..32].copy_from_slice(&(lba as u64).to_le_bytes());
            header[32..40].copy_from_slice(&other.to_le_bytes());
            header[72..80].copy_from_slice(&entries.to_le_bytes());
            header[80..84].copy_from_slice(&4u32.to_le_bytes());
            header[84..88].copy_from_slice(&128u32.to_le_bytes());
            header[88..92].copy_from_slice(&crc32(&array).to_le_bytes());
            let crc = crc32(&header);
            header[16..20].copy_from_slice(&crc.to_le_bytes());
            disk[lba * 512..lba * 512 + 92].copy_from_slice(&header);
            let at = usize::try_from(entries).unwrap() * 512;
            disk[at..at + array.len()].copy_from_slice(&array);
        }
        disk
    }

    #[test]
    fn gpt_is_read_and_its_backup_stands_in_for_a_damaged_primary() {
        let (table, found) = spans(&gpt_disk());
        assert_eq!(found, [(1, 40, 20)]);
        assert!(table.to_string().contains("Linux (type 0fc63daf-8483-4772-8e79-3d69d8477de4) 'root' id"));
        assert_eq!(table.notes.len(), 1, "{table}");

        for (at, want) in
            [(512, "no header"), (512 + 60, "header checksum"), (2 * 512 + 60, "checksum of the entries")]
        {
            let mut disk = gpt_disk();
            disk[at] ^= 1;
            let (table, found) = spans(&disk);
            assert_eq!(found, [(1, 40, 20)]);
            assert!(table.notes[0].contains(want), "{table}");
            assert!(table.notes[1].starts_with("backup GPT at LBA 99"), "{table}");
        }
        let mut grown = gpt_disk();
        grown.extend([0; 512]);
        let (table, _) = spans(&grown);
        assert!(table.notes[1].contains("backup GPT is at LBA 99, but the disk ends with 100"), "{table}");
    }

    #[test]
    fn empty_disk_and_disk_without_a_first_block() {
        let (table, found) = spans(&vec![0; 512]);
        assert_eq!((table.scheme, found.len()), ("none", 0));
        assert!(read(&vec![0; 100], 512).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            flips in proptest::collection::vec((0usize..512 * 100, any::<u8>()), 0..40), gpt: bool
        ) {
            let mut disk = if gpt { gpt_disk() } else { vec![0; 512 * 100] };
            if !gpt {
                entry(&mut disk, 0, 0x05, 1, 99);
            }
            for (at, byte) in flips {
                disk[at] = byte;
            }
            let _ = read(&disk, 512).unwrap().to_string();
            let _ = read(&disk, 4096).unwrap().to_string();
        }
    }
}
