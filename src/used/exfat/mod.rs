//! exFAT. Rules: Microsoft's "exFAT file system specification", revision 1.00.
//!
//! There is no journal: it is consistent where it was unmounted. Which clusters are free stands in a bitmap that the
//! root directory names; the FAT says nothing about files in one piece. TexFAT's second FAT and bitmap are not read.
#![forbid(unsafe_code)]

mod boot;
mod chain;
#[cfg(test)]
mod tests;

use super::bits;
use super::clusters::Claims;
use super::{Doubt, Free, Volume, VolumeAbout};
use crate::bytes::le;
use crate::text;
use boot::{ExfatBoot, KIND};
use chain::Fat;

/// Bytes of the bitmap or of a directory that are read at once.
const PIECE: u64 = 1 << 20;
/// The longest directory (section 7.4 of the specification).
const LONGEST_DIRECTORY: u64 = 256 << 20;
/// The longest up-case table: one word for each UTF-16 unit.
const LONGEST_UPCASE: u64 = 128 << 10;

/// The clusters whose bit is clear in the allocation bitmap.
///
/// # Errors
/// Why the file system is imaged whole.
pub fn parse(volume: &Volume<'_>, free: &mut Free) -> Result<Option<VolumeAbout>, Doubt> {
    let doubt = |why: String| Doubt::new(KIND, why);
    let Some(boot) = ExfatBoot::read(volume)? else { return Ok(None) };
    let mut fat = Fat::new(volume, &boot);
    // The two entries that are no cluster's.
    if fat.entry(0)? != 0xffff_fff8 || fat.entry(1)? != u32::MAX {
        return Err(doubt("its FAT does not begin as it must".into()));
    }
    let root_clusters = fat.chain(boot.root, (LONGEST_DIRECTORY / boot.cluster).max(1))?;
    let root = ExfatRoot::read(volume, &boot, &root_clusters)?;
    let (bitmap, upcase) = root.tables(&boot)?;

    let bitmap_clusters = bitmap.len.div_ceil(boot.cluster);
    if !fat.in_one_piece(bitmap.first, bitmap_clusters)? {
        return Err(doubt("its allocation bitmap is not in one piece".into()));
    }
    let first = u64::from(bitmap.first) - 2;
    let mut claims = vec![first..first + bitmap_clusters];
    let upcase = fat.chain(upcase.first, upcase.len.div_ceil(boot.cluster))?;
    for cluster in root_clusters.iter().chain(&upcase) {
        let index = u64::from(*cluster) - 2;
        claims.push(index..index + 1);
    }
    let claims =
        Claims::new(claims).ok_or_else(|| doubt("two of its tables are in the same cluster".into()))?;

    let at = boot.heap + first * boot.cluster;
    let (count, need) = (u64::from(boot.count), u64::from(boot.count).div_ceil(8));
    let mut done = 0;
    let mut clash = false;
    while done < need {
        let bits = volume.read(KIND, at + done, (need - done).min(PIECE) as usize)?;
        for run in bits::zeros_from(&bits, done * 8, count) {
            clash |= claims.touch(&run);
            free.add(boot.heap + run.start * boot.cluster..boot.heap + run.end * boot.cluster);
        }
        done += bits.len() as u64;
    }
    if clash {
        return Err(doubt("its bitmap calls clusters free that it uses itself".into()));
    }
    Ok(Some(VolumeAbout { kind: KIND, label: root.label }))
}

/// A table that the root directory names.
#[derive(Clone, Copy, Debug)]
struct ExfatTable {
    first: u32,
    len: u64,
}

/// What the root directory says about the file system itself.
#[derive(Debug, Default)]
struct ExfatRoot {
    bitmaps: Vec<(u8, ExfatTable)>,
    upcases: Vec<ExfatTable>,
    label: Option<String>,
}

impl ExfatRoot {
    /// Reads the entries up to the end of the directory.
    fn read(volume: &Volume<'_>, boot: &ExfatBoot, clusters: &[u32]) -> Result<Self, Doubt> {
        let mut root = ExfatRoot::default();
        let step = boot.cluster.min(PIECE);
        for cluster in clusters {
            let start = boot.heap + u64::from(cluster.saturating_sub(2)) * boot.cluster;
            for piece in 0..boot.cluster / step {
                let entries = volume.read(KIND, start + piece * step, step as usize)?;
                for entry in entries.chunks_exact(32) {
                    if entry[0] == 0 {
                        return Ok(root);
                    }
                    root.take(entry)?;
                }
            }
        }
        Ok(root)
    }

    /// One entry of 32 bytes (section 6 and 7 of the specification).
    fn take(&mut self, entry: &[u8]) -> Result<(), Doubt> {
        let cut = || Doubt::new(KIND, "a directory entry is cut");
        let table = || {
            Ok(ExfatTable {
                first: le::u32(entry, 20).ok_or_else(cut)?,
                len: le::u64(entry, 24).ok_or_else(cut)?,
            })
        };
        match entry[0] {
            0x81 => self.bitmaps.push((entry[1], table()?)),
            0x82 => self.upcases.push(table()?),
            0x83 => {
                self.label = entry.get(2..2 + 2 * usize::from(entry[1].min(11))).and_then(text::utf16_label)
            }
            _ => return Ok(()),
        }
        if self.bitmaps.len() > 1 || self.upcases.len() > 1 {
            return Err(Doubt::new(KIND, "it has more than one allocation bitmap or up-case table"));
        }
        Ok(())
    }

    /// Its bitmap and its up-case table.
    fn tables(&self, boot: &ExfatBoot) -> Result<(ExfatTable, ExfatTable), Doubt> {
        let doubt = |why: String| Doubt::new(KIND, why);
        let (&[(0, bitmap)], &[upcase]) = (&self.bitmaps[..], &self.upcases[..]) else {
            return Err(doubt("its root directory names no allocation bitmap or no up-case table".into()));
        };
        let need = u64::from(boot.count).div_ceil(8);
        // Some formatters round it up.
        if bitmap.len < need || bitmap.len - need > boot.cluster {
            return Err(doubt(format!("a bitmap of {} bytes for {} clusters", bitmap.len, boot.count)));
        }
        if upcase.len == 0 || upcase.len > LONGEST_UPCASE {
            return Err(doubt(format!("an up-case table of {} bytes", upcase.len)));
        }
        Ok((bitmap, upcase))
    }
}
