//! Disks for tests: tables made by hand, a file system that exists in tests only, and physical volumes.

use super::look::Rules;
use super::{Doubt, Free, LookOptions, Volume, VolumeAbout, gpt, mbr};
use std::ops::Range;

/// The only parser of tests, on volumes that are too small for the rest of the rules.
pub(super) const FAKE: Rules<'_> = Rules {
    parsers: &[fake],
    options: LookOptions { leave_out_swap: false },
    always: |_| Vec::new(),
    beyond: None,
};

/// A file system in its first 4096 bytes: magic, its size, and ranges that are free.
pub(super) fn format_fake(volume: &mut [u8], free: &[Range<u64>]) {
    volume[..4096].fill(0);
    volume[1024..1032].copy_from_slice(b"FAKE-FS!");
    let size = volume.len() as u64;
    volume[1032..1040].copy_from_slice(&size.to_le_bytes());
    volume[1040..1048].copy_from_slice(&(free.len() as u64).to_le_bytes());
    for (range, raw) in free.iter().zip(volume[1048..4096].chunks_exact_mut(16)) {
        raw[..8].copy_from_slice(&range.start.to_le_bytes());
        raw[8..].copy_from_slice(&range.end.to_le_bytes());
    }
}

fn fake(volume: &Volume<'_>, free: &mut Free) -> Result<Option<VolumeAbout>, Doubt> {
    let Some(raw) = volume.peek(0, 4096).filter(|raw| raw[1024..].starts_with(b"FAKE-FS!")) else {
        return Ok(None);
    };
    let field = |at: usize| u64::from_le_bytes(raw[at..at + 8].try_into().unwrap());
    if field(1032) > volume.size() {
        return Err(Doubt::new("fake", "it is longer than its partition"));
    }
    for i in 0..field(1040) as usize {
        free.add(field(1048 + 16 * i)..field(1056 + 16 * i));
    }
    Ok(Some(VolumeAbout { kind: "fake", label: Some("a\nb".into()) }))
}

/// Writes an entry of a boot record with its signature.
pub(super) fn entry(block: &mut [u8], i: usize, kind: u8, first: u64, blocks: u64) {
    let at = 446 + 16 * i;
    block[at + 4] = kind;
    block[at + 8..at + 12].copy_from_slice(&(first as u32).to_le_bytes());
    block[at + 12..at + 16].copy_from_slice(&(blocks as u32).to_le_bytes());
    block[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert!(mbr::boot_record(block).is_some());
}

/// A partition of a test's GPT: first and last block.
pub(super) type Blocks = (u64, u64);

/// Writes both headers and arrays with 128 entries, and the protective MBR.
pub(super) fn format_gpt(disk: &mut [u8], sector: u32, partitions: &[Blocks]) {
    entry(disk, 0, 0xee, 1, u32::MAX.into());
    let last = disk.len() as u64 / u64::from(sector) - 1;
    write_gpt(disk, sector, partitions, 1, last);
    write_gpt(disk, sector, partitions, last, 1);
}

/// Writes the header at `lba`, and its array behind or before it.
pub(super) fn write_gpt(disk: &mut [u8], sector: u32, partitions: &[Blocks], lba: u64, other: u64) {
    let mut array = vec![0u8; 128 * 128];
    for (raw, (first, last)) in array.chunks_exact_mut(128).zip(partitions) {
        // Linux.
        raw[..16].copy_from_slice(b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4");
        raw[16..24].copy_from_slice(&first.to_be_bytes());
        raw[32..40].copy_from_slice(&first.to_le_bytes());
        raw[40..48].copy_from_slice(&last.to_le_bytes());
        raw[56..60].copy_from_slice(b"r\0\x1b\0");
    }
    let blocks = array.len() as u64 / u64::from(sector);
    let at = if lba < other { lba + 1 } else { lba - blocks };
    let end = lba.max(other);
    let mut header = [0u8; 92];
    header[..8].copy_from_slice(b"EFI PART");
    header[8..12].copy_from_slice(&0x10000u32.to_le_bytes());
    header[12..16].copy_from_slice(&92u32.to_le_bytes());
    for (field, value) in [(24, lba), (32, other), (40, 2 + blocks), (48, end - 1 - blocks), (72, at)] {
        header[field..field + 8].copy_from_slice(&value.to_le_bytes());
    }
    header[56..72].fill(7);
    header[80..84].copy_from_slice(&128u32.to_le_bytes());
    header[84..88].copy_from_slice(&128u32.to_le_bytes());
    header[88..92].copy_from_slice(&gpt::crc32(&array).to_le_bytes());
    let crc = gpt::crc32(&header);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    let place = |lba: u64| (lba * u64::from(sector)) as usize;
    disk[place(lba)..place(lba) + 92].copy_from_slice(&header);
    disk[place(at)..place(at) + array.len()].copy_from_slice(&array);
}
