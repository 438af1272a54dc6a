//! The boot sector of NTFS: where the master file table is.
#![forbid(unsafe_code)]

use super::doubt::{KIND, doubt};
use crate::bytes::le;
use crate::used::{Doubt, Volume};
use std::ops::Range;

/// Sizes in bytes, positions in clusters.
#[derive(Clone, Debug)]
pub(super) struct NtfsBoot {
    pub(super) sector: u64,
    pub(super) cluster: u64,
    /// Number of clusters, and of bytes in the sectors that the file system counts.
    pub(super) clusters: u64,
    pub(super) bytes: u64,
    pub(super) mft: u64,
    pub(super) mirror: u64,
    /// Length of a file record and of an index record.
    pub(super) record: usize,
    pub(super) index: usize,
}

/// The largest cluster that Windows makes.
const LARGEST_CLUSTER: u64 = 2 << 20;

impl NtfsBoot {
    /// Reads the first sector. `None` where it is no NTFS boot sector.
    pub(super) fn read(volume: &Volume<'_>) -> Result<Option<Self>, Doubt> {
        let Some(bytes) = volume.peek(0, 512) else { return Ok(None) };
        if bytes[3..11] == *b"-FVE-FS-" {
            return Err(Doubt::new("BitLocker", "encrypted by BitLocker"));
        }
        if bytes[3..11] != *b"NTFS    " || bytes[510..] != [0x55, 0xaa] {
            return Ok(None);
        }
        NtfsBoot::of(&bytes, volume.size()).map(Some)
    }

    /// Nothing is free from here on: behind the clusters there is the backup of the boot sector, in the last sector of
    /// the partition or the first one that the file system does not count.
    pub(super) fn end_of_free(&self, volume: &Volume<'_>) -> u64 {
        let last_sector = volume.size().saturating_sub(self.sector.max(u64::from(volume.sector())));
        (self.clusters * self.cluster).min(self.bytes).min(last_sector)
    }

    /// The copy of the boot sector stands in the last sector of the partition, or in the first one that the file system
    /// does not count. Boot program, size and place of the partition can be older in it.
    pub(super) fn copy_fits(&self, volume: &Volume<'_>) -> Result<(), Doubt> {
        /// Magic, sizes, place of the file table and of its copy, sizes of records, serial number.
        const SAME: [Range<usize>; 5] = [3..14, 48..64, 64..65, 68..69, 72..80];
        let bytes = volume.read(KIND, 0, 512)?;
        let size = volume.size();
        let last = |sector: u64| (size / sector).saturating_sub(1) * sector;
        let places = [last(self.sector), last(u64::from(volume.sector().max(512))), self.bytes];
        let is_copy = |at: &u64| {
            volume.peek(*at, 512).is_some_and(|copy| {
                *at > 0 && SAME.iter().all(|field| copy[field.clone()] == bytes[field.clone()])
            })
        };
        match places.iter().any(is_copy) {
            true => Ok(()),
            false => Err(doubt(
                "the copy of its boot sector is not at its end: it may be an old one below encryption, else ntfsfix writes it again",
            )),
        }
    }

    fn of(bytes: &[u8], volume: u64) -> Result<Self, Doubt> {
        let cut = || doubt("its boot sector is cut");
        let word = |at| le::u64(bytes, at).ok_or_else(cut);
        let sector = u64::from(le::u16(bytes, 11).ok_or_else(cut)?);
        if !(256..=4096).contains(&sector) || !sector.is_power_of_two() {
            return Err(doubt(format!("sectors of {sector} bytes")));
        }
        // What FAT keeps here: reserved sectors, FATs, root entries, sectors, sectors of a FAT, sectors again.
        if [14..19, 19..21, 22..24, 32..36]
            .into_iter()
            .any(|range| bytes[range].iter().any(|byte| *byte != 0))
        {
            return Err(doubt("its boot sector has fields of FAT"));
        }
        // Sectors of a cluster: a power of two, or above 128 the negative of an exponent.
        let per_cluster = match bytes[13] {
            count @ 1..=128 if count.is_power_of_two() => u64::from(count),
            exponent @ 0xe1..=0xff => 1 << (256 - u32::from(exponent)),
            other => return Err(doubt(format!("{other:#x} sectors a cluster"))),
        };
        let cluster = sector * per_cluster;
        if cluster > LARGEST_CLUSTER {
            return Err(doubt(format!("clusters of {cluster} bytes")));
        }
        let sectors = word(40)?;
        let clusters = sectors / per_cluster;
        if sectors > volume / sector || clusters == 0 {
            return Err(doubt(format!(
                "it has {sectors} sectors of {sector} bytes, its partition {volume} bytes"
            )));
        }
        let (mft, mirror) = (word(48)?, word(56)?);
        if mft >= clusters || mirror >= clusters {
            return Err(doubt(format!("file table in cluster {mft} or {mirror} of {clusters}")));
        }
        Ok(NtfsBoot {
            sector,
            cluster,
            clusters,
            bytes: sectors * sector,
            mft,
            mirror,
            record: record_size(bytes[64], cluster)?,
            index: record_size(bytes[68], cluster)?,
        })
    }
}

/// A size in clusters, or where it is negative, the exponent of a size in bytes.
fn record_size(code: u8, cluster: u64) -> Result<usize, Doubt> {
    let size = match code as i8 {
        count @ 1.. => u64::from(count.unsigned_abs()) * cluster,
        exponent @ -31..=-1 => 1 << exponent.unsigned_abs(),
        _ => 0,
    };
    match size {
        512..=65536 if size.is_power_of_two() => Ok(size as usize),
        _ => Err(Doubt::new(KIND, format!("records of {code:#x}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector() -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[3..11].copy_from_slice(b"NTFS    ");
        bytes[510..].copy_from_slice(&[0x55, 0xaa]);
        bytes[12] = 2;
        bytes[13] = 8;
        bytes[42] = 8;
        bytes[48] = 4;
        bytes[57] = 1;
        bytes[64] = 0xf6;
        bytes[68] = 1;
        bytes
    }

    #[test]
    fn sizes_of_every_kind() {
        let boot = NtfsBoot::of(&sector(), 0x80000 * 512).unwrap();
        assert_eq!((boot.cluster, boot.clusters, boot.bytes), (4096, 0x10000, 0x80000 * 512));
        assert_eq!((boot.mft, boot.mirror, boot.record, boot.index), (4, 256, 1024, 4096));
        for (code, cluster) in [(1, 512), (128, 65536), (0xf8, 131072), (0xf4, 2 << 20), (0xff, 1024)] {
            let mut bytes = sector();
            bytes[13] = code;
            bytes[57] = 0;
            bytes[68] = 0xf4;
            assert_eq!(NtfsBoot::of(&bytes, u64::MAX).unwrap().cluster, cluster, "{code:#x}");
        }
    }

    #[test]
    fn what_cannot_be_is_doubted() {
        assert!(NtfsBoot::of(&sector(), 0x80000 * 512 - 1).is_err());
        for (at, value) in [
            (11, 1),
            (12, 3),
            (12, 0x20),
            (13, 0),
            (13, 3),
            (13, 0xf3),
            (13, 0xe0),
            (13, 129),
            (14, 1),
            (17, 1),
            (19, 1),
            (22, 1),
            (32, 1),
            (42, 0),
            (43, 1),
            (47, 0x80),
            (52, 1),
            (63, 0x80),
            (64, 0),
            (64, 0x80),
            (64, 0xef),
            (64, 0xf8),
            (64, 3),
            (68, 0),
        ] {
            let mut bytes = sector();
            bytes[at] = value;
            let boot = NtfsBoot::of(&bytes, 0x80000 * 512);
            assert!(boot.is_err(), "{at} {value:#x}: {boot:?}");
        }
    }
}
