//! The boot regions of exFAT: where everything is.
#![forbid(unsafe_code)]

use crate::bytes::le;
use crate::used::sums::agree;
use crate::used::{Doubt, Volume};

/// What it is called in [`VolumeAbout`](crate::used::VolumeAbout) and [`Doubt`].
pub(super) const KIND: &str = "exfat";

/// Where the parts of the file system are; positions and lengths are bytes.
#[derive(Debug)]
pub(super) struct ExfatBoot {
    pub(super) fat: u64,
    /// Where cluster 2 begins, and the length of a cluster.
    pub(super) heap: u64,
    pub(super) cluster: u64,
    /// Number of clusters.
    pub(super) count: u32,
    /// First cluster of the root directory.
    pub(super) root: u32,
}

/// Sectors of a boot region; the second one follows the first.
const REGION: usize = 12;

impl ExfatBoot {
    /// Reads both boot regions. `None` where it is no exFAT boot sector.
    pub(super) fn read(volume: &Volume<'_>) -> Result<Option<Self>, Doubt> {
        let doubt = |why: String| Doubt::new(KIND, why);
        let Some(first) = volume.peek(0, 512) else { return Ok(None) };
        if first[3..11] != *b"EXFAT   " || first[510..] != [0x55, 0xaa] {
            return Ok(None);
        }
        let cut = || doubt("its boot sector is cut".into());
        let number = |at| le::u32(&first, at).map(u64::from).ok_or_else(cut);
        if first[..3] != [0xeb, 0x76, 0x90] || first[11..64].iter().any(|byte| *byte != 0) {
            return Err(doubt("its boot sector is not as it must be".into()));
        }
        let (sector_bits, cluster_bits) = (first[108], first[109]);
        if !(9..=12).contains(&sector_bits) || cluster_bits > 25 - sector_bits {
            return Err(doubt(format!(
                "sectors of 2^{sector_bits} bytes, clusters of 2^{cluster_bits} of them"
            )));
        }
        let sector = 1u64 << sector_bits;
        regions_agree(volume, sector as usize)?;

        let revision = le::u16(&first, 104).ok_or_else(cut)?;
        if revision != 0x0100 {
            return Err(doubt(format!("revision {revision:#06x}")));
        }
        let flags = le::u16(&first, 106).ok_or_else(cut)?;
        if flags & 2 != 0 {
            return Err(doubt(
                "it was not unmounted; `chkdsk X: /f` in Windows or `fsck.exfat` mends it".into(),
            ));
        }
        if flags & 4 != 0 {
            return Err(doubt("its medium had errors".into()));
        }
        if flags != 0 || first[110] != 1 {
            return Err(doubt(format!("{} FATs, volume flags {flags:#x}", first[110])));
        }

        // No sum here overflows: lengths and positions have 32 bits, sectors at most 12, clusters at most 25.
        let length = le::u64(&first, 72).ok_or_else(cut)?;
        if length > volume.size() >> sector_bits {
            return Err(doubt(format!(
                "it has {length} sectors of {sector} bytes, its partition {}",
                volume.size()
            )));
        }
        let (fat, fat_len, heap, count) = (number(80)?, number(84)?, number(88)?, number(92)?);
        let root = le::u32(&first, 96).ok_or_else(cut)?;
        let in_order = fat >= 2 * REGION as u64
            && fat_len << sector_bits >= (count + 2) * 4
            && fat + fat_len <= heap
            && heap + (count << cluster_bits) <= length;
        if !in_order
            || count == 0
            || count > 0xffff_fff5
            || u64::from(root) < 2
            || u64::from(root) > count + 1
        {
            return Err(doubt("its parts do not fit".into()));
        }
        Ok(Some(ExfatBoot {
            fat: fat << sector_bits,
            heap: heap << sector_bits,
            cluster: sector << cluster_bits,
            count: count as u32,
            root,
        }))
    }
}

/// Both regions carry the right checksum and say the same; only flags and percentage may be old in the second one.
fn regions_agree(volume: &Volume<'_>, sector: usize) -> Result<(), Doubt> {
    let doubt = |why: &str| Doubt::new(KIND, why);
    let mut regions = Vec::new();
    for (name, at) in [("its boot region", 0), ("the backup of its boot region", REGION * sector)] {
        let mut bytes = volume.read(KIND, at as u64, REGION * sector)?;
        for may_change in [106, 107, 112] {
            bytes[may_change] = 0;
        }
        let (covered, sums) = bytes.split_at((REGION - 1) * sector);
        let sum = checksum(covered);
        if !sums.chunks_exact(4).all(|there| agree(&sum.to_le_bytes()[..], there)) {
            return Err(doubt(&format!("the checksum of {name} is wrong")));
        }
        regions.push(bytes);
    }
    if regions.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(doubt("its boot region is not the same as the backup of it"));
    }
    Ok(())
}

/// The checksum of a boot region (section 3.4 of the specification) whose three uncovered bytes are not looked at.
fn checksum(bytes: &[u8]) -> u32 {
    let covered = bytes.iter().enumerate().filter(|(at, _)| !matches!(at, 106 | 107 | 112));
    covered.fold(0u32, |sum, (_, byte)| sum.rotate_right(1).wrapping_add((*byte).into()))
}

#[cfg(test)]
pub(super) mod fixing {
    /// Gives both regions of a broken image the right checksum again, and makes the second one like the first.
    pub(in crate::used::exfat) fn seal(image: &mut [u8]) {
        let sector = 1usize << image[108];
        let sum = super::checksum(&image[..11 * sector]);
        for word in image[11 * sector..12 * sector].chunks_exact_mut(4) {
            word.copy_from_slice(&sum.to_le_bytes());
        }
        image.copy_within(..12 * sector, 12 * sector);
    }
}
