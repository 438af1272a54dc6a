//! What tells one disk's content from another's: the ids of its partition table and file systems.
//!
//! They say which of two disks that look the same from outside holds what a record knows. They prove nothing about
//! the content: for that, there are the hashes of the image.
#![forbid(unsafe_code)]

use super::volume::VolumeSlot;
use super::{Volume, gpt, lvm, mbr, signatures, table};
use crate::bytes::le;
use crate::io::ReadAt;
use crate::text::ascii;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Most volumes whose ids are kept.
const MAX_VOLUMES: usize = 128;
/// Bytes at the beginning of the disk whose hash is one of the ids.
const HEAD: usize = 64 << 10;

/// The ids of a disk's content, as hex or in the spelling of their format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskContent {
    /// Disk GUID of the GPT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpt: Option<String>,
    /// Disk signature of the MBR, where it is not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mbr: Option<String>,
    /// BLAKE3 of the first 64 KiB, where they are more than one byte again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// `<kind>:<UUID or serial>` of file systems, swap areas, encrypted and physical volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Arrays that the disk or a partition of it is a member of, such as `Linux RAID (partition 2)`. No id, and in no
    /// record.
    #[serde(skip)]
    pub raid: Vec<String>,
}

impl DiskContent {
    /// True where nothing is known.
    pub fn is_empty(&self) -> bool {
        self.ids().next().is_none()
    }

    /// Each id with its kind.
    pub fn ids(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let table = [("GPT", &self.gpt), ("MBR", &self.mbr), ("head", &self.head)];
        let table = table.into_iter().filter_map(|(kind, id)| Some((kind, id.as_deref()?)));
        table.chain(self.volumes.iter().map(|id| ("volume", id.as_str())))
    }

    /// The ids of a disk of `size` bytes with logical blocks of `sector` bytes. What cannot be read or is damaged has
    /// none. It reads the partition table and a few KiB of each partition.
    pub fn read(disk: &dyn ReadAt, size: u64, sector: u32) -> DiskContent {
        let mut head = vec![0; HEAD.min(usize::try_from(size).unwrap_or(HEAD))];
        if disk.read_exact_at(&mut head, 0).is_err() {
            return DiskContent::default();
        }
        let last = (size / u64::from(sector.max(1))).saturating_sub(1);
        let gpt = [1, last].into_iter().find_map(|lba| gpt::read_at(disk, sector, lba).ok());
        // In the first block of FAT and NTFS, which ends alike, a program stands there.
        let is_table =
            head.get(..512).and_then(mbr::boot_record).is_some_and(|record| mbr::is_table(&record));
        let mbr = le::u32(&head, 440).filter(|id| is_table && *id != 0 && *id != u32::MAX);
        let is_uniform = head.iter().all(|byte| Some(byte) == head.first());
        let tables = table::read(disk, size, sector).unwrap_or_default();
        let slots = tables.into_iter().next().unwrap_or_default().slots;
        let parts: Vec<(u64, u64)> = match slots.is_empty() {
            true => vec![(0, size)],
            false => slots.iter().map(|slot| (slot.start, slot.size)).collect(),
        };
        let volume = |(start, len)| volume_id(&Volume::new(disk, start, len, sector));
        let raid = members(&Volume::new(disk, 0, size, sector), &slots, disk);
        DiskContent {
            gpt: gpt.map(|gpt| gpt.disk_id).filter(|id| id.chars().any(|c| !matches!(c, '0' | '-'))),
            mbr: mbr.map(|id| format!("{id:08x}")),
            head: (!is_uniform).then(|| blake3::hash(&head).to_hex().to_string()),
            volumes: parts.into_iter().filter_map(volume).take(MAX_VOLUMES).collect(),
            raid,
        }
    }
}

/// The arrays that have their superblocks on the disk, or in its partitions, and those of the volume groups that it belongs
/// to. What cannot be read is in none.
fn members(whole: &Volume<'_>, slots: &[VolumeSlot], disk: &dyn ReadAt) -> Vec<String> {
    let ranges: Vec<_> = slots.iter().map(|slot| slot.start..slot.end()).collect();
    let of = |volume: &Volume<'_>, partitions: &[Range<u64>]| {
        let kinds = signatures::claims(volume, partitions).unwrap_or_default();
        let kinds = kinds.into_iter().filter(|kind| kind.contains("RAID")).map(str::to_owned);
        kinds.chain(lvm::arrays(volume).map(|arrays| ascii(&arrays)))
    };
    let mut found: Vec<String> = of(whole, &ranges).collect();
    for slot in slots.iter().take(MAX_VOLUMES) {
        let volume = Volume::new(disk, slot.start, slot.size, whole.sector());
        found.extend(of(&volume, &[]).map(|kind| format!("{kind} (partition {})", slot.number)));
    }
    found
}

/// Where a format has its magic bytes, and where its id: offsets in bytes from the beginning of the volume.
struct ContentPlace {
    kind: &'static str,
    magic: (u64, &'static [u8]),
    id: (u64, usize),
    is_text: bool,
}

const fn place(
    kind: &'static str,
    magic: (u64, &'static [u8]),
    id: (u64, usize),
    is_text: bool,
) -> ContentPlace {
    ContentPlace { kind, magic, id, is_text }
}

/// From each format's own header file, as in libblkid. An encrypted volume goes before what could be left of another
/// format in its first blocks.
const PLACES: &[ContentPlace] = &[
    place("LUKS", (0, b"LUKS\xba\xbe"), (168, 36), true),
    place("LVM2", (512, b"LABELONE"), (544, 32), true),
    place("XFS", (0, b"XFSB"), (32, 16), false),
    place("btrfs", (0x10040, b"_BHRfS_M"), (0x10020, 16), false),
    place("NTFS", (3, b"NTFS    "), (0x48, 8), false),
    place("exFAT", (3, b"EXFAT   "), (0x64, 4), false),
    place("FAT", (82, b"FAT32   "), (0x43, 4), false),
    place("FAT", (54, b"FAT16   "), (0x27, 4), false),
    place("FAT", (54, b"FAT12   "), (0x27, 4), false),
    place("swap", (4086, b"SWAPSPACE2"), (1036, 16), false),
    place("ext4", (0x438, b"\x53\xef"), (0x468, 16), false),
    place("MD", (4096, b"\xfc\x4e\x2b\xa9"), (4096 + 168, 16), false),
    place("MD", (0, b"\xfc\x4e\x2b\xa9"), (168, 16), false),
];

/// `<kind>:<id>` of the first format whose magic bytes are there, and whose id is more than zeros.
fn volume_id(volume: &Volume<'_>) -> Option<String> {
    PLACES.iter().find_map(|ContentPlace { kind, magic: (at, magic), id: (place, len), is_text }| {
        let found = volume.peek(*at, magic.len()).filter(|found| found == magic);
        let id = found.and_then(|_| volume.peek(*place, *len))?;
        if id.iter().all(|byte| *byte == 0) {
            return None;
        }
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let is_plain = id.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
        let id = if *is_text && is_plain { String::from_utf8_lossy(&id).into_owned() } else { hex };
        Some(format!("{kind}:{id}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(disk: &Vec<u8>) -> DiskContent {
        DiskContent::read(disk, disk.len() as u64, 512)
    }

    #[test]
    fn a_blank_disk_has_no_content_ids() {
        for byte in [0, 0xff, 0x5a] {
            assert!(read(&vec![byte; 1 << 20]).is_empty());
        }
        assert!(DiskContent::read(&vec![0; 100], 1 << 20, 512).is_empty(), "it cannot be read");
    }

    #[test]
    fn ids_of_the_table_and_of_each_volume_are_found() {
        let mut disk = vec![0; 4 << 20];
        disk[440..444].copy_from_slice(&[0x78, 0x56, 0x34, 0x12]);
        for (n, (kind, first)) in [(0x83, 2048u32), (0x82, 4096)].into_iter().enumerate() {
            let entry = 446 + 16 * n;
            disk[entry + 4] = kind;
            disk[entry + 8..entry + 12].copy_from_slice(&first.to_le_bytes());
            disk[entry + 12..entry + 16].copy_from_slice(&2048u32.to_le_bytes());
        }
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[(1 << 20) + 0x438..][..2].copy_from_slice(b"\x53\xef");
        disk[(1 << 20) + 0x468..][..16].copy_from_slice(&[7; 16]);
        disk[(2 << 20) + 4086..][..10].copy_from_slice(b"SWAPSPACE2");
        let content = read(&disk);
        assert_eq!((content.mbr.as_deref(), content.gpt.as_deref()), (Some("12345678"), None));
        assert_eq!(
            content.volumes,
            [format!("ext4:{}", "07".repeat(16))],
            "a swap area without a UUID has none"
        );
        assert!(content.head.is_some());
    }

    #[test]
    fn members_of_arrays_are_named_with_their_partition() {
        let mut disk = vec![0; 4 << 20];
        assert!(read(&disk).raid.is_empty());
        let end = disk.len();
        disk[end - 1024..][..24].copy_from_slice(b"Intel Raid ISM Cfg Sig. ");
        assert_eq!(read(&disk).raid, ["Intel RAID"]);
        super::super::fixture::entry(&mut disk, 0, 0x83, 64, 1000);
        super::super::fixture::entry(&mut disk, 1, 0xfd, 2048, 2048);
        disk[(1 << 20) + 4096..][..4].copy_from_slice(&0xa92b_4efcu32.to_le_bytes());
        assert_eq!(read(&disk).raid, ["Intel RAID", "Linux RAID (partition 2)"]);
        disk[end - 1024..].fill(0);
        disk[end - 512..][..4].copy_from_slice(b"\xde\x11\xde\x11");
        assert_eq!(read(&disk).raid, ["DDF RAID", "Linux RAID (partition 2)"]);
    }

    proptest! {
        #[test]
        fn any_bytes_give_ids_without_control_characters(
            mut disk in proptest::collection::vec(any::<u8>(), 1024..9000), magic in 0..PLACES.len()
        ) {
            let ContentPlace { magic: (at, magic), .. } = &PLACES[magic];
            let at = usize::try_from(*at).unwrap();
            if let Some(place) = disk.get_mut(at..at + magic.len()) {
                place.copy_from_slice(magic);
            }
            let content = read(&disk);
            prop_assert!(content.ids().all(|(_, id)| id.bytes().all(|b| b.is_ascii_graphic())));
        }
    }
}
