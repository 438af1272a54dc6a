//! GPT (UEFI specification 2.10, chapter 5): header and entry array, both with a checksum, at the two ends of the disk.
#![forbid(unsafe_code)]

use super::volume::VolumeSlot;
use super::{mbr, sums};
use crate::bytes::{field, le};
use crate::guid::Guid;
use crate::io::ReadAt;

/// Longest entry array that is read, in bytes; the usual one has 16 KiB.
const MAX_ENTRIES: u64 = 1 << 20;

/// A header with its entries, whole by their checksums.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gpt {
    /// Id of the disk.
    pub(crate) disk_id: String,
    /// Where the other header should be.
    pub(crate) alternate: u64,
    /// First and last LBA that partitions may have.
    pub(crate) usable: (u64, u64),
    /// First LBA of the entry array, and the one behind it.
    pub(crate) array: (u64, u64),
    /// Entries in use.
    pub(crate) entries: Vec<GptEntry>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GptEntry {
    /// Place in the array, from 1: the number that Linux gives it.
    pub(crate) number: u32,
    /// Type GUID.
    pub(crate) kind: String,
    /// Its own GUID.
    pub(crate) id: String,
    /// First LBA.
    pub(crate) first: u64,
    /// Last LBA, inclusive.
    pub(crate) last: u64,
    pub(crate) attributes: u64,
    pub(crate) name: String,
}

impl GptEntry {
    /// Length in logical blocks; 0 where the entry ends before it begins.
    pub(crate) fn blocks(&self) -> u64 {
        self.last.checked_sub(self.first).and_then(|n| n.checked_add(1)).unwrap_or_default()
    }

    fn parse(number: u32, raw: &[u8]) -> Option<GptEntry> {
        if raw.get(..16)?.iter().all(|b| *b == 0) {
            return None;
        }
        let units: Vec<u16> = (56..128).step_by(2).filter_map(|at| le::u16(raw, at)).collect();
        let name = units.split(|unit| *unit == 0).next().map(String::from_utf16_lossy).unwrap_or_default();
        Some(GptEntry {
            number,
            kind: guid(raw.get(..16)?),
            id: guid(raw.get(16..32)?),
            first: le::u64(raw, 32)?,
            last: le::u64(raw, 40)?,
            attributes: le::u64(raw, 48)?,
            name,
        })
    }
}

/// The GPT with its header at `lba`, in blocks of `sector` bytes.
///
/// # Errors
/// What is wrong with it: `no header` where there is none.
pub(crate) fn read_at(disk: &dyn ReadAt, sector: u32, lba: u64) -> Result<Gpt, String> {
    let read = |lba: u64, len: u64| {
        let mut raw = vec![0; usize::try_from(len).map_err(|e| e.to_string())?];
        let offset = lba.checked_mul(u64::from(sector)).ok_or("LBA out of range")?;
        disk.read_exact_at(&mut raw, offset).map_err(|e| format!("LBA {lba} cannot be read: {e}"))?;
        Ok::<_, String>(raw)
    };
    let mut header = read(lba, u64::from(sector))?;
    if !header.starts_with(b"EFI PART") {
        return Err("no header".into());
    }
    let short = || "cut header".to_owned();
    let len = le::u32(&header, 12).ok_or_else(short)?;
    let want = le::u32(&header, 16).ok_or_else(short)?;
    let Some(body) = usize::try_from(len).ok().filter(|n| *n >= 92).and_then(|n| header.get_mut(..n)) else {
        return Err(format!("header length {len} is impossible"));
    };
    body.iter_mut().skip(16).take(4).for_each(|b| *b = 0);
    if !sums::agree(crc32(body), want) {
        return Err("header checksum is wrong".into());
    }
    let field = |at| le::u64(&header, at).ok_or_else(short);
    if field(24)? != lba {
        return Err("header belongs to another place".into());
    }
    let count = le::u32(&header, 80).ok_or_else(short)?;
    let entry_size = le::u32(&header, 84).ok_or_else(short)?;
    let len = u64::from(count) * u64::from(entry_size);
    if entry_size < 128 || len > MAX_ENTRIES {
        return Err(format!("{count} entries of {entry_size} bytes are impossible"));
    }
    let first = field(72)?;
    let array = read(first, len)?;
    if !sums::agree(Some(crc32(&array)), le::u32(&header, 88)) {
        return Err("checksum of the entries is wrong".into());
    }
    let entry_size = usize::try_from(entry_size).map_err(|e| e.to_string())?;
    let parse = |(number, raw)| GptEntry::parse(number, raw);
    Ok(Gpt {
        disk_id: guid(header.get(56..72).unwrap_or_default()),
        alternate: field(32)?,
        usable: (field(40)?, field(48)?),
        array: (first, first.saturating_add(len.div_ceil(u64::from(sector)))),
        entries: (1..).zip(array.chunks_exact(entry_size)).filter_map(parse).collect(),
    })
}

/// Whether there is a header at `lba`, whole or not.
pub(super) fn has_header(disk: &dyn ReadAt, offset: u64) -> bool {
    let mut magic = [0; 8];
    disk.read_exact_at(&mut magic, offset).is_ok() && magic == *b"EFI PART"
}

/// The partitions of the GPT of a disk with `blocks` blocks of `sector` bytes, and what is odd about it. `record` is the
/// table in the first block.
pub(super) fn slots(
    disk: &dyn ReadAt,
    blocks: u64,
    sector: u32,
    record: &[mbr::MbrEntry; 4],
) -> Result<(Vec<VolumeSlot>, Vec<String>), String> {
    let (gpt, note) = trusted(disk, sector, blocks.saturating_sub(1))?;
    let slots = checked(&gpt, blocks, sector)?;
    protective(record, &gpt)?;
    Ok((slots, note.into_iter().collect()))
}

/// As [`slots`], of a GPT that no MBR protects.
pub(super) fn unprotected(
    disk: &dyn ReadAt,
    blocks: u64,
    sector: u32,
) -> Result<(Vec<VolumeSlot>, Vec<String>), String> {
    let (gpt, note) = trusted(disk, sector, blocks.saturating_sub(1))?;
    Ok((checked(&gpt, blocks, sector)?, note.into_iter().collect()))
}

/// The partitions, all of which must be inside the usable blocks.
fn checked(gpt: &Gpt, blocks: u64, sector: u32) -> Result<Vec<VolumeSlot>, String> {
    let last = blocks.saturating_sub(1);
    let (first_usable, last_usable) = gpt.usable;
    let inside = gpt.array.1 <= first_usable || gpt.array.0 > last_usable;
    if first_usable < 2 || last_usable >= last || !inside || gpt.array.0 < 2 || gpt.array.1 > last + 1 {
        return Err(format!("GPT: blocks {first_usable} to {last_usable} cannot be the usable ones"));
    }
    let mut slots = Vec::new();
    for entry in &gpt.entries {
        if entry.blocks() == 0 || entry.first < first_usable || entry.last > last_usable {
            return Err(format!("GPT: partition {} is not inside the usable blocks", entry.number));
        }
        slots.push(slot(entry, sector));
    }
    Ok(slots)
}

/// Where an entry is, in bytes; at the end of every disk where that cannot be said.
pub(super) fn slot(entry: &GptEntry, sector: u32) -> VolumeSlot {
    VolumeSlot {
        number: entry.number,
        start: entry.first.saturating_mul(u64::from(sector)),
        size: entry.blocks().saturating_mul(u64::from(sector)),
        kind: type_name(&entry.kind).map_or_else(|| entry.kind.clone(), str::to_owned),
        type_id: entry.kind.clone(),
        name: (!entry.name.is_empty()).then(|| entry.name.clone()),
        why_all: layout_of_its_own(&entry.kind).then_some("its type has a layout of its own"),
    }
}

/// The primary GPT where it is whole, else the backup at the end of the disk; not where both are whole and differ.
pub(crate) fn trusted(disk: &dyn ReadAt, sector: u32, last: u64) -> Result<(Gpt, Option<String>), String> {
    let same = |a: &Gpt, b: &Gpt| (&a.disk_id, a.usable, &a.entries) == (&b.disk_id, b.usable, &b.entries);
    let at_end = read_at(disk, sector, last);
    let primary = match (read_at(disk, sector, 1), &at_end) {
        (Ok(primary), _) => primary,
        (Err(why), Ok(backup)) => {
            return Ok((backup.clone(), Some(format!("the primary GPT is not used ({why}), its backup is"))));
        }
        (Err(why), Err(_)) => return Err(format!("GPT: {why}")),
    };
    // On a disk that was copied onto a larger one, the backup is where its old end was.
    let moved = (primary.alternate != last).then(|| read_at(disk, sector, primary.alternate));
    if [Some(&at_end), moved.as_ref()].into_iter().flatten().flatten().any(|backup| !same(&primary, backup)) {
        return Err("GPT: the backup differs from the primary one".into());
    }
    if primary.alternate <= primary.usable.1 {
        return Err("GPT: the backup lies among the usable blocks".into());
    }
    let note = match moved.as_ref().unwrap_or(&at_end) {
        Err(why) => Some(format!("the backup GPT is not whole: {why}")),
        Ok(_) => moved.is_some().then(|| "the backup GPT is not at the end of the disk".into()),
    };
    Ok((primary, note))
}

/// The MBR beside a GPT protects it by an entry from block 1 on; every other entry must be one of the partitions.
fn protective(record: &[mbr::MbrEntry; 4], gpt: &Gpt) -> Result<(), String> {
    let mut protective = false;
    for (number, entry) in (1..).zip(record).filter(|(_, entry)| **entry != mbr::MbrEntry::default()) {
        let is_partition = |e: &GptEntry| (e.first, e.blocks()) == (entry.first.into(), entry.blocks.into());
        let right = match entry.kind {
            0xee => true,
            _ => !entry.is_extended() && entry.kind != 0 && gpt.entries.iter().any(is_partition),
        };
        if !right || !matches!(entry.status, 0 | 0x80) {
            return Err(format!("partition {number} of the hybrid MBR is not in the GPT"));
        }
        protective |= entry.kind == 0xee && entry.first == 1;
    }
    // Linux takes no GPT without it.
    if protective { Ok(()) } else { Err("there is a GPT, but the MBR does not protect it".into()) }
}

/// CRC-32 of UEFI is that of gzip.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The text of a GUID, whose bytes that are not there count as zeros.
fn guid(raw: &[u8]) -> String {
    Guid(field(raw, 0)).to_string()
}

/// Windows' dynamic disks and storage spaces, Apple's RAID and Core Storage: databases elsewhere say what is inside.
fn layout_of_its_own(kind: &str) -> bool {
    matches!(
        kind,
        "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3"
            | "af9b60a0-1431-4f62-bc68-3311714a69ad"
            | "e75caf8f-f680-4cee-afa3-b001e56efc2d"
            | "52414944-0000-11aa-aa11-00306543ecac"
            | "52414944-5f4f-11aa-aa11-00306543ecac"
            | "53746f72-6167-11aa-aa11-00306543ecac"
    )
}

/// A type in words, where it is a known one.
pub(crate) fn type_name(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" => "EFI system",
        "21686148-6449-6e6f-744e-656564454649" => "BIOS boot",
        "e3c9e316-0b5c-4db8-817d-f92df00215ae" => "Microsoft reserved",
        "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7" => "Microsoft basic data",
        "de94bba4-06d1-4d40-a16a-bfd50179d6ac" => "Windows recovery",
        "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3" => "Windows dynamic disk metadata",
        "af9b60a0-1431-4f62-bc68-3311714a69ad" => "Windows dynamic disk",
        "e75caf8f-f680-4cee-afa3-b001e56efc2d" => "Windows storage spaces",
        "0fc63daf-8483-4772-8e79-3d69d8477de4" => "Linux",
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" => "Linux root (x86-64)",
        "bc13c2ff-59e6-4262-a352-b275fd6f7172" => "Linux extended boot",
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
        _ => return None,
    })
}
