//! Partition tables: MBR with its chain of extended boot records, and GPT (UEFI 2.10, chapter 5).
//!
//! For people, not for writing: whatever the disk holds, it is read within bounds and said as it is found.

use crate::io::ReadAt;
use std::{fmt, io};

/// Logical partitions that are followed; the chain on a disk can be a loop.
const MAX_LOGICAL: usize = 256;
/// Longest GPT entry array that is read, in bytes; the usual one has 16 KiB.
const MAX_ENTRIES: u64 = 1 << 20;

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
        gpt(disk, &mut table)?;
        return Ok(table);
    }
    table.scheme = "MBR";
    table.notes.push(format!("disk signature {:08x}", le32(&head, 440).unwrap_or_default()));
    for (number, entry) in (1..).zip(&mbr) {
        if entry.kind != 0 {
            table.partitions.push(entry.partition(number, u64::from(entry.first)));
        }
    }
    for entry in mbr.iter().filter(|entry| entry.is_extended()) {
        logical(disk, &mut table, u64::from(entry.first));
    }
    Ok(table)
}

/// One 16-byte entry of a boot record.
struct Entry {
    active: bool,
    kind: u8,
    first: u32,
    blocks: u32,
}

impl Entry {
    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    fn partition(&self, number: usize, first: u64) -> Partition {
        Partition {
            number,
            first,
            blocks: u64::from(self.blocks),
            kind: format!("{} (type {:02x})", mbr_type(self.kind), self.kind),
            label: if self.active { "active".into() } else { String::new() },
        }
    }
}

/// The four entries of a boot record; `None` without its signature.
fn boot_record(block: &[u8]) -> Option<[Entry; 4]> {
    if block.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let entry = |i: usize| {
        let raw = block.get(446 + 16 * i..462 + 16 * i)?;
        Some(Entry {
            active: *raw.first()? == 0x80,
            kind: *raw.get(4)?,
            first: le32(raw, 8)?,
            blocks: le32(raw, 12)?,
        })
    };
    Some([entry(0)?, entry(1)?, entry(2)?, entry(3)?])
}

/// Follows the chain of extended boot records from LBA `start`: the first entry of each is relative to itself, the
/// second, which leads to the next, to `start`.
fn logical(disk: &dyn ReadAt, table: &mut PartitionTable, start: u64) {
    let mut at = start;
    let mut seen = vec![start];
    let mut number = 5;
    loop {
        let mut block = [0; 512];
        let offset = at.saturating_mul(u64::from(table.block_size));
        if let Err(e) = disk.read_exact_at(&mut block, offset) {
            table.notes.push(format!("extended boot record at LBA {at} cannot be read: {e}"));
            return;
        }
        let Some([data, next, ..]) = boot_record(&block) else {
            table.notes.push(format!("no extended boot record at LBA {at}"));
            return;
        };
        if data.kind != 0 {
            table.partitions.push(data.partition(number, at.saturating_add(u64::from(data.first))));
            number += 1;
        }
        if !next.is_extended() {
            return;
        }
        at = start.saturating_add(u64::from(next.first));
        if seen.contains(&at) || seen.len() >= MAX_LOGICAL {
            table.notes.push(format!("chain of extended boot records goes back to LBA {at}"));
            return;
        }
        seen.push(at);
    }
}

/// Reads the primary GPT, or the backup at the end of the disk where the primary is damaged.
fn gpt(disk: &dyn ReadAt, table: &mut PartitionTable) -> io::Result<()> {
    let last = (disk.size()? / u64::from(table.block_size)).saturating_sub(1);
    for (what, lba) in [("primary", 1), ("backup", last)] {
        match gpt_at(disk, table.block_size, lba) {
            Ok((partitions, guid, alternate)) if table.partitions.is_empty() => {
                table.notes.push(format!("{what} GPT at LBA {lba}, disk id {guid}"));
                table.partitions = partitions;
                if what == "primary" && alternate != last {
                    table
                        .notes
                        .push(format!("backup GPT is at LBA {alternate}, but the disk ends with {last}"));
                }
            }
            Ok((partitions, ..)) if partitions != table.partitions => {
                table.notes.push("backup GPT differs from the primary one".into());
            }
            Ok(_) => {}
            Err(why) => table.notes.push(format!("{what} GPT at LBA {lba}: {why}")),
        }
    }
    Ok(())
}

/// Partitions, disk id and alternate LBA of the GPT with its header at `lba`.
fn gpt_at(disk: &dyn ReadAt, block_size: u32, lba: u64) -> Result<(Vec<Partition>, String, u64), String> {
    let read = |lba: u64, len: u64| {
        let mut raw = vec![0; usize::try_from(len).map_err(|e| e.to_string())?];
        let offset = lba.checked_mul(u64::from(block_size)).ok_or("LBA out of range")?;
        disk.read_exact_at(&mut raw, offset).map_err(|e| format!("LBA {lba} cannot be read: {e}"))?;
        Ok::<_, String>(raw)
    };
    let mut header = read(lba, u64::from(block_size))?;
    if !header.starts_with(b"EFI PART") {
        return Err("no header".into());
    }
    let short = || "cut header".to_owned();
    let len = le32(&header, 12).ok_or_else(short)?;
    let want = le32(&header, 16).ok_or_else(short)?;
    let Some(body) = usize::try_from(len).ok().filter(|n| *n >= 92).and_then(|n| header.get_mut(..n)) else {
        return Err(format!("header length {len} is impossible"));
    };
    body.iter_mut().skip(16).take(4).for_each(|b| *b = 0);
    if crc32(body) != want {
        return Err("header checksum is wrong".into());
    }
    if le64(&header, 24) != Some(lba) {
        return Err("header belongs to another place".into());
    }
    let alternate = le64(&header, 32).ok_or_else(short)?;
    let entries = le64(&header, 72).ok_or_else(short)?;
    let count = le32(&header, 80).ok_or_else(short)?;
    let entry_size = le32(&header, 84).ok_or_else(short)?;
    let array = u64::from(count) * u64::from(entry_size);
    if entry_size < 128 || array > MAX_ENTRIES {
        return Err(format!("{count} entries of {entry_size} bytes are impossible"));
    }
    let array = read(entries, array)?;
    if Some(crc32(&array)) != le32(&header, 88) {
        return Err("checksum of the entries is wrong".into());
    }
    let entry_size = usize::try_from(entry_size).map_err(|e| e.to_string())?;
    let partitions =
        (1..).zip(array.chunks_exact(entry_size)).filter_map(|(n, raw)| gpt_entry(n, raw)).collect();
    Ok((partitions, guid(header.get(56..72).unwrap_or_default()), alternate))
}

fn gpt_entry(number: usize, raw: &[u8]) -> Option<Partition> {
    let kind = guid(raw.get(..16)?);
    if kind.bytes().all(|b| b == b'0' || b == b'-') {
        return None;
    }
    let (first, last) = (le64(raw, 32)?, le64(raw, 40)?);
    let units: Vec<u16> = raw
        .get(56..128)?
        .chunks_exact(2)
        .filter_map(|c| Some(u16::from_le_bytes(c.try_into().ok()?)))
        .collect();
    let name = units.split(|unit| *unit == 0).next().map(String::from_utf16_lossy).unwrap_or_default();
    Some(Partition {
        number,
        first,
        blocks: last.checked_sub(first).and_then(|n| n.checked_add(1)).unwrap_or_default(),
        kind: format!("{} (type {kind})", gpt_type(&kind)),
        label: format!("'{name}' id {} attributes {:#x}", guid(raw.get(16..32)?), le64(raw, 48)?),
    })
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

fn le32(raw: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(raw.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn le64(raw: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(raw.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// CRC-32 of UEFI is that of gzip.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A GUID in its mixed byte order (UEFI 2.10, appendix A); also what SMBIOS 2.6 and later use.
pub(super) fn guid(raw: &[u8]) -> String {
    let mut text = String::new();
    for (i, at) in [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].into_iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{:02x}", raw.get(at).copied().unwrap_or_default());
    }
    text
}

fn mbr_type(kind: u8) -> &'static str {
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

fn gpt_type(kind: &str) -> &'static str {
    match kind {
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" => "EFI system",
        "21686148-6449-6e6f-744e-656564454649" => "BIOS boot",
        "e3c9e316-0b5c-4db8-817d-f92df00215ae" => "Microsoft reserved",
        "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7" => "Microsoft basic data",
        "de94bba4-06d1-4d40-a16a-bfd50179d6ac" => "Windows recovery",
        "0fc63daf-8483-4772-8e79-3d69d8477de4" => "Linux",
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" => "Linux root (x86-64)",
        "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f" => "Linux swap",
        "e6d6d379-f507-44c2-a23c-238f2a3df928" => "Linux LVM",
        "a19d880f-05fc-4d3b-a006-743f0f84911e" => "Linux RAID",
        "516e7cb4-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD",
        "516e7cb6-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD UFS",
        "516e7cba-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD ZFS",
        "48465300-0000-11aa-aa11-00306543ecac" => "Apple HFS+",
        "7c3457ef-0000-11aa-aa11-00306543ecac" => "Apple APFS",
        "6a85cf4d-1dd2-11b2-99a6-080020736631" => "Solaris root",
        "6a898cc3-1dd2-11b2-99a6-080020736631" => "Solaris /usr or ZFS",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
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
    fn logical_partitions_are_found_relative_to_their_records_and_a_loop_ends() {
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
