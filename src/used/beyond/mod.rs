//! What reads the free space of a file system from outside of it, or lies between it and the disk.
//!
//! A file system says truly that nothing of its own is in a block, and the block is needed all the same. Each layer of
//! Linux, Windows and firmware that does so, what is done about it, and why that is safe:
//!
//! | Layer | Reads free blocks? | What is done | Why that is safe |
//! |---|---|---|---|
//! | dm-verity | hashes every block | a superblock on, or in the space of, any volume of any disk of the machine, or a partition of a verity type: all file systems and volume groups of the machine are whole | whose hashes they are is known to the command line or configuration only |
//! | dm-verity without a superblock, or with the tree in a file; Android, ChromeOS | the same | Android's footer and ChromeOS's type: whole. Else not seen: the manual says `--used off` | |
//! | dm-integrity | a tag for every block; where the tags are on another volume, the file system shows as if it were alone | a superblock at the beginning of any volume of any disk: as dm-verity | the superblock does not name the other volume |
//! | dm-snapshot outside LVM | the snapshot reads what the origin freed since | its header at the beginning of any volume of any disk: as dm-verity | as above |
//! | LVM: snapshots, thin pools, caches, RAID, VDO, integrity | snapshots as above; the others move blocks | volumes that are not plain pieces, and those that another one hangs on, are whole | the metadata names all of them |
//! | MD, IMSM, DDF, other firmware RAID: parity, mirrors, bitmaps | parity and rebuilds do | members have a superblock: whole, wherever it is | their bytes, parity with them, come back as they were |
//! | RAID without superblocks, parity on a disk of its own (Unraid) | parity does | not seen: the manual says `--used off` | mirrors differ in free blocks only, which nothing reads |
//! | bcache, bcachefs, Stratis, VDO, DRBD with internal metadata, ZFS, storage spaces, dynamic disks | some do | have signatures or types: whole | |
//! | LUKS, BitLocker | no; what lies inside is not seen | whole, with discards or without | |
//! | encryption without a header (plain dm-crypt, detached LUKS headers) | no | shows as noise: unknown, whole. Over an older file system: [`super::fixed`] | |
//! | shadow copies of NTFS; snapshots of btrfs | the copies of NTFS do; btrfs counts its own | NTFS with copies is whole | |
//! | fs-verity, IMA, quotas, zram, squashfs, EROFS | no: they read files, memory, or have no free blocks | nothing; read-only formats are whole | |
//! | hardware RAID, self-encrypting disks | below the disk that is seen | nothing | what is not written stays valid there |
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use super::lvm::{self, Linear};
use super::volume::VolumeSlot;
use super::{Volume, end, table, types};
use crate::io::ReadAt;
use std::ops::Range;

/// A volume without a file system is searched so far from its beginning, in bytes.
const HEAD: u64 = 64 << 20;
/// Bytes that are read at once, and again one by one where they cannot be read together.
const PIECE: u64 = 1 << 20;
const BLOCK: u64 = 4096;
/// Superblocks of dm-verity begin with it, at any multiple of 512 bytes (cryptsetup's `lib/verity/verity.c`).
const VERITY: &[u8] = b"verity\0\0";
/// What a volume begins with that makes another one more than it seems: name and bytes.
const HEADERS: [(&str, &[u8]); 3] =
    [("dm-verity", VERITY), ("dm-integrity", b"integrt\0"), ("dm-snapshot", b"SnAp")];

/// What was found, on all disks that were looked at, of layers that read free blocks: no file system of the machine is
/// thinned then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    why: Option<String>,
}

impl Beyond {
    /// Looks at a disk called `name`, whose logical blocks have `sector` bytes. What cannot be read is not one of it: where
    /// its superblock is unreadable, the layer does not work either.
    pub fn look(&mut self, disk: &dyn ReadAt, name: &str, sector: u32) {
        if self.why.is_none() {
            self.why = sign(disk, name, sector);
        }
    }

    /// Counts a disk that cannot be looked at: it may hold anything.
    pub fn cannot_look(&mut self, name: &str, why: &str) {
        self.why.get_or_insert_with(|| format!("{name} could hold hashes of free blocks (dm-verity): {why}"));
    }

    /// The reason why file systems are imaged whole, if there is one.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }
}

/// The first sign on a disk.
fn sign(disk: &dyn ReadAt, name: &str, sector: u32) -> Option<String> {
    let size = disk.size().ok()?;
    let mut search = BeyondSearch { left: size.saturating_mul(2).saturating_add(HEAD) };
    let slots = table::mentioned(disk, size, sector);
    let whole = Volume::new(disk, 0, size, sector);
    let found = match slots.is_empty() {
        true => search.volume(&whole),
        false => begins_with(&whole).map(|kind| format!("{kind} at its beginning")),
    };
    if let Some(what) = found {
        return Some(told(&what, name));
    }
    slots.iter().find_map(|VolumeSlot { number, start, size, type_id, .. }| {
        let place = format!("partition {number} of {name}");
        if types::is_verity(type_id) {
            return Some(told("its type says dm-verity", &place));
        }
        search.volume(&Volume::new(disk, *start, *size, sector)).map(|what| told(&what, &place))
    })
}

fn told(what: &str, place: &str) -> String {
    format!("free blocks may count too: {place}: {what}")
}

/// Which layer's header a volume begins with.
fn begins_with(volume: &Volume<'_>) -> Option<&'static str> {
    let head = volume.peek(0, 8)?;
    HEADERS.into_iter().find(|(_, magic)| head.starts_with(magic)).map(|(kind, _)| kind)
}

/// A search of one disk, whose tables may name the same bytes again and again.
struct BeyondSearch {
    /// Bytes that may still be read.
    left: u64,
}

impl BeyondSearch {
    /// What a partition, a disk without partitions, or a logical volume has to tell.
    fn volume(&mut self, volume: &Volume<'_>) -> Option<String> {
        if let Some(kind) = begins_with(volume) {
            return Some(format!("{kind} at its beginning"));
        }
        if let Ok(Some(group)) = lvm::parse(volume) {
            return self.group(volume, &group);
        }
        let size = volume.size();
        let searched = match end::of(volume) {
            Some(end) => end / 512 * 512..size,
            None => 0..size.min(HEAD),
        };
        self.superblock(volume, searched)
    }

    /// The same of all logical volumes; of those that are not plain only where each of their pieces begins.
    fn group(&mut self, volume: &Volume<'_>, group: &lvm::VolumeGroup) -> Option<String> {
        let begins = |range: &Range<u64>| volume.peek(range.start, 8).is_some_and(|head| head == VERITY);
        if let Some(range) = group.taken.iter().find(|range| begins(range)) {
            return Some(format!("dm-verity at byte {} of it", range.start));
        }
        group.volumes.iter().find_map(|logical| {
            let linear = Linear::new(*volume, logical.pieces.as_ref().ok()?);
            let inside = Volume::new(&linear, 0, logical.size, volume.sector());
            let name = format!("{}/{}", group.name, logical.name);
            if let Some(kind) = begins_with(&inside) {
                return Some(format!("{name}: {kind} at its beginning"));
            }
            let searched =
                end::of(&inside).map_or(0..logical.size.min(HEAD), |end| end / 512 * 512..logical.size);
            self.superblock(&inside, searched).map(|what| format!("{name}: {what}"))
        })
    }

    /// A superblock of dm-verity in a range that begins with a multiple of 512.
    fn superblock(&mut self, volume: &Volume<'_>, mut searched: Range<u64>) -> Option<String> {
        while searched.start < searched.end {
            let len = (searched.end - searched.start).min(PIECE);
            let Some(left) = self.left.checked_sub(len) else {
                return Some("more lies behind file systems than the disk has".into());
            };
            self.left = left;
            let bytes = readable(volume, searched.start, len);
            if let Some(i) = bytes.chunks(512).position(|block| block.starts_with(VERITY)) {
                return Some(format!(
                    "a dm-verity superblock at byte {} of it",
                    searched.start + 512 * i as u64
                ));
            }
            searched.start += len;
        }
        None
    }
}

/// Bytes of a volume, zeros where they cannot be read.
fn readable(volume: &Volume<'_>, at: u64, len: u64) -> Vec<u8> {
    if let Some(bytes) = volume.peek(at, len as usize) {
        return bytes;
    }
    let blocks = (at..at + len).step_by(BLOCK as usize).map(|start| {
        let len = (at + len - start).min(BLOCK) as usize;
        volume.peek(start, len).unwrap_or_else(|| vec![0; len])
    });
    blocks.flatten().collect()
}
