//! FAT12, FAT16 and FAT32. Rules: Microsoft's "FAT: General Overview of On-Disk Format", version 1.03 (fatgen103);
//! the bit that Linux sets while it is mounted: `state` in the kernel's include/uapi/linux/msdos_fs.h.
//!
//! FAT has no journal: it is consistent where whoever wrote last said so, all its FATs are the same, and the chains in
//! them are whole. FSInfo's number of free clusters is only a hint, and nobody asks it here.
#![forbid(unsafe_code)]

mod boot;
pub mod files;
#[cfg(test)]
mod tests;
mod width;

use super::bits;
use super::{Doubt, Free, Volume, VolumeAbout};
use crate::text;
use boot::{FatBoot, FatRoot};

/// Bytes of a FAT that are looked at together: whole entries of every width.
const PIECE: usize = 768 << 10;

/// The clusters whose FAT entry is 0.
///
/// # Errors
/// Why the file system is imaged whole.
pub fn parse(volume: &Volume<'_>, free: &mut Free) -> Result<Option<VolumeAbout>, Doubt> {
    let Some(boot) = FatBoot::read(volume)? else { return Ok(None) };
    let doubt = |why: String| Doubt::new(boot.width.kind(), why);
    if boot.state != 0 {
        return Err(doubt(format!(
            "it was not unmounted, or has errors (state {:#x}); `chkdsk X: /f` in Windows or `fsck.fat -a` mends it",
            boot.state
        )));
    }
    let used = Chains::read(volume, &boot)?.used()?;
    for run in bits::zeros_from(&used, 0, boot.count.into()) {
        free.add(boot.data + run.start * boot.cluster..boot.data + run.end * boot.cluster);
    }
    let label = root_label(volume, &boot)?.or(boot.label);
    Ok(Some(VolumeAbout { kind: boot.width.kind(), label }))
}

/// What the FAT says of each cluster: one bit for used, one for the next one of some other. 64 MiB at most, and only
/// on a disk that has room for as many clusters.
struct Chains<'a> {
    boot: &'a FatBoot,
    used: Vec<u8>,
    next: Vec<u8>,
}

impl<'a> Chains<'a> {
    /// Reads all FATs, which must agree.
    fn read(volume: &Volume<'_>, boot: &'a FatBoot) -> Result<Self, Doubt> {
        let kind = boot.width.kind();
        let entries = u64::from(boot.count) + 2;
        let bits = boot.count.div_ceil(8) as usize;
        let mut chains = Chains { boot, used: vec![0; bits], next: vec![0; bits] };
        let len = boot.width.bytes_for(entries);
        let (mut at, mut entry) = (0, 0);
        while at < len {
            let piece = usize::try_from(len - at).unwrap_or(PIECE).min(PIECE);
            let bytes = volume.read(kind, boot.fat + at, piece)?;
            for copy in 1..boot.fats {
                if volume.read(kind, boot.fat + copy * boot.fat_len + at, piece)? != bytes {
                    return Err(Doubt::new(kind, format!("FAT {copy} is not the same as the first")));
                }
            }
            let mut i = 0;
            while entry < entries {
                let Some(value) = boot.width.entry(&bytes, i) else { break };
                chains.take(entry as u32, value)?;
                (entry, i) = (entry + 1, i + 1);
            }
            at += piece as u64;
        }
        Ok(chains)
    }

    fn doubt(&self, why: impl Into<String>) -> Doubt {
        Doubt::new(self.boot.width.kind(), why)
    }

    /// The entry of cluster `cluster`; the first two are none.
    fn take(&mut self, cluster: u32, value: u32) -> Result<(), Doubt> {
        let (bad, (unmounted, sound)) = (self.boot.width.bad(), self.boot.width.clean());
        let Some(index) = cluster.checked_sub(2) else {
            // The first entry repeats the media byte in ones; the second ends a chain, and carries two bits.
            if cluster == 0 && value != (bad | 0xff) & !0xff | u32::from(self.boot.media) {
                return Err(self.doubt("its FAT does not begin with the media byte"));
            }
            if cluster == 1 && value & unmounted != unmounted {
                return Err(
                    self.doubt("it was not unmounted; `chkdsk X: /f` in Windows or `fsck.fat -a` mends it")
                );
            }
            if cluster == 1 && value & sound != sound {
                return Err(self.doubt("it had an input or output error"));
            }
            if cluster == 1 && value <= bad {
                return Err(self.doubt(format!("its second FAT entry is {value:#x}")));
            }
            return Ok(());
        };
        if value == 0 {
            return Ok(());
        }
        set(&mut self.used, index);
        if value >= bad {
            return Ok(());
        }
        match value.checked_sub(2) {
            Some(next) if next < self.boot.count => {
                if set(&mut self.next, next) {
                    return Err(self.doubt(format!("two chains lead to cluster {value}")));
                }
                Ok(())
            }
            _ => Err(self.doubt(format!("cluster {cluster} leads to {value:#x}"))),
        }
    }

    /// The bitmap of used clusters, bit 0 for cluster 2, once nothing leads to a free one.
    fn used(self) -> Result<Vec<u8>, Doubt> {
        if self.used.iter().zip(&self.next).any(|(used, next)| next & !used != 0) {
            return Err(self.doubt("a chain leads to a free cluster"));
        }
        if let FatRoot::Chain(root) = self.boot.root {
            let at = root.saturating_sub(2);
            if !get(&self.used, at) || get(&self.next, at) {
                return Err(self.doubt("its root directory is free, or in the middle of a file"));
            }
        }
        Ok(self.used)
    }
}

/// Sets a bit, and says whether it was set before.
fn set(bits: &mut [u8], index: u32) -> bool {
    let was = get(bits, index);
    if let Some(byte) = bits.get_mut(index as usize / 8) {
        *byte |= 1 << (index % 8);
    }
    was
}

fn get(bits: &[u8], index: u32) -> bool {
    bits.get(index as usize / 8).is_some_and(|byte| byte >> (index % 8) & 1 != 0)
}

/// The label in the root directory, which counts more than the one in the boot sector; looked for at its beginning,
/// where it stands since the volume was formatted.
fn root_label(volume: &Volume<'_>, boot: &FatBoot) -> Result<Option<String>, Doubt> {
    let (at, len) = match boot.root {
        FatRoot::Region { at, len } => (at, len),
        FatRoot::Chain(root) => (boot.data + u64::from(root.saturating_sub(2)) * boot.cluster, boot.cluster),
    };
    let entries = volume.read(boot.width.kind(), at, len.min(64 << 10) as usize)?;
    Ok(entries
        .chunks_exact(32)
        .take_while(|entry| entry[0] != 0)
        // Attribute 8 is a volume label; with the three below it, it is a piece of a long name.
        .find(|entry| entry[0] != 0xe5 && entry[11] & 0x0f == 8)
        .and_then(|entry| text::label(&String::from_utf8_lossy(&entry[..11]))))
}
