//! Signatures of everything that no parser here reads: file systems, encryption, RAID, other tables.
//!
//! They are asked of every volume, also where a parser vouches for it: a file system that was formatted over, or put
//! into an encrypted or mirrored volume, can leave or show a whole superblock. Places and values are those of libblkid
//! (util-linux) and of each format's own header files; where they are weak, more of the structure is looked at.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use super::{Doubt, Volume, mbr};
use crate::bytes::{be, le};
use std::ops::Range;

/// What is read of a volume once, in bytes from its beginning, and before its end.
const HEAD: u64 = 512 << 10;
const TAIL: u64 = 768 << 10;

/// Where a signature is, in bytes.
#[derive(Clone, Copy)]
enum At {
    /// From the beginning.
    Start(u64),
    /// Before the end.
    End(u64),
    /// Before the end, rounded down to 4096.
    End4K(u64),
}
use At::{End, End4K, Start};

impl At {
    /// The place in a volume of `size` bytes.
    fn offset(self, size: u64) -> Option<u64> {
        match self {
            Start(at) => Some(at),
            End(before) => size.checked_sub(before),
            End4K(before) => (size & !4095).checked_sub(before),
        }
    }
}

/// Formats that are known by some bytes at one place.
const SIGNATURES: &[(&str, At, &[u8])] = &[
    // Encryption and device mapper.
    ("LUKS", Start(0), b"LUKS\xba\xbe"),
    ("LUKS", Start(0x4000), b"SKUL\xba\xbe"),
    ("LUKS", Start(0x8000), b"SKUL\xba\xbe"),
    ("LUKS", Start(0x10000), b"SKUL\xba\xbe"),
    ("LUKS", Start(0x20000), b"SKUL\xba\xbe"),
    ("LUKS", Start(0x40000), b"SKUL\xba\xbe"),
    ("LUKS", Start(0x80000), b"SKUL\xba\xbe"),
    ("LUKS", Start(0x10_0000), b"SKUL\xba\xbe"),
    ("LUKS", Start(0x20_0000), b"SKUL\xba\xbe"),
    ("LUKS", Start(0x40_0000), b"SKUL\xba\xbe"),
    ("BitLocker", Start(3), b"-FVE-FS-"),
    ("BitLocker", Start(160), b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01"),
    ("BitLocker", Start(160), b"\x3b\x4d\xa8\x92\x80\xdd\x0e\x4d\x9e\x4e\xb1\xe3\x28\x4e\xae\xd8"),
    ("BitLocker", Start(424), b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01"),
    ("BitLocker", Start(424), b"\x3b\x4d\xa8\x92\x80\xdd\x0e\x4d\x9e\x4e\xb1\xe3\x28\x4e\xae\xd8"),
    ("dm-verity", Start(0), b"verity\0\0"),
    ("Android verified boot", End(64), b"AVBf"),
    ("dm-integrity", Start(0), b"integrt\0"),
    ("dm-snapshot", Start(0), b"SnAp"),
    ("VDO", Start(0), b"dmvdo001"),
    ("Stratis", Start(516), b"!Stra0tis\x86\xff\x02^\x41rh"),
    ("LVM1", Start(0), b"HM\x01\0"),
    ("LVM1", Start(0), b"HM\x02\0"),
    ("bcache", Start(4120), b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
    ("bcachefs", Start(4120), b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
    ("DRBD", End4K(4096 - 60), b"\x83\x74\x02\x6b"),
    ("DRBD", End4K(4096 - 60), b"\x83\x74\x02\x6c"),
    ("DRBD", End4K(4096 - 60), b"\x83\x74\x02\x6d"),
    ("Ceph BlueStore", Start(0), b"bluestore block device"),
    ("Oracle ASM", Start(32), b"ORCLDISK"),
    // RAID. Of MD the version with its superblock at the beginning; the others are looked at below.
    ("Intel RAID", End(1024), b"Intel Raid ISM Cfg Sig. "),
    ("Intel RAID", End(8192), b"Intel Raid ISM Cfg Sig. "),
    ("DDF RAID", End(512), b"\xde\x11\xde\x11"),
    ("DDF RAID", End(512), b"\x11\xde\x11\xde"),
    ("DDF RAID", End(257 * 512), b"\xde\x11\xde\x11"),
    ("DDF RAID", End(257 * 512), b"\x11\xde\x11\xde"),
    ("DDF RAID", End(4096), b"\xde\x11\xde\x11"),
    ("DDF RAID", End(4096), b"\x11\xde\x11\xde"),
    ("NVIDIA RAID", End(1024), b"NVIDIA"),
    ("LSI RAID", End(512), b"$XIDE$"),
    ("Adaptec RAID", End(512), b"\x37\xfc\x4d\x1e"),
    ("HighPoint RAID", Start(4640), b"\xf0\x16\x78\x5a"),
    ("HighPoint RAID", Start(4640), b"\xfd\x16\x78\x5a"),
    ("HighPoint RAID", End(11 * 512), b"\xf3\x16\x78\x5a"),
    ("HighPoint RAID", End(11 * 512), b"\xfd\x16\x78\x5a"),
    ("Promise RAID", End(63 * 512), b"Promise Technology, Inc."),
    ("Promise RAID", End(255 * 512), b"Promise Technology, Inc."),
    ("Promise RAID", End(256 * 512), b"Promise Technology, Inc."),
    ("Promise RAID", End(16 * 512), b"Promise Technology, Inc."),
    ("Promise RAID", End(399 * 512), b"Promise Technology, Inc."),
    ("Promise RAID", End(591 * 512), b"Promise Technology, Inc."),
    ("Promise RAID", End(675 * 512), b"Promise Technology, Inc."),
    ("Promise RAID", End(735 * 512), b"Promise Technology, Inc."),
    ("Promise RAID", End(911 * 512), b"Promise Technology, Inc."),
    ("Promise RAID", End(974 * 512), b"Promise Technology, Inc."),
    ("Promise RAID", End(991 * 512), b"Promise Technology, Inc."),
    ("Promise RAID", End(951 * 512), b"Promise Technology, Inc."),
    ("Promise RAID", End(3087 * 512), b"Promise Technology, Inc."),
    // File systems.
    ("HFS+", Start(1024), b"H+\0\x04"),
    ("HFS+", Start(1024), b"HX\0\x05"),
    ("APFS", Start(32), b"NXSB"),
    ("ReFS", Start(0), b"\0\0\0ReFS\0"),
    ("HPFS", Start(8192), b"\x49\xe8\x95\xf9"),
    ("JFS", Start(32768), b"JFS1"),
    ("reiserfs", Start((64 << 10) + 52), b"ReIsEr"),
    ("reiserfs", Start((8 << 10) + 52), b"ReIsErFs"),
    ("reiserfs", Start((8 << 10) + 20), b"ReIsErFs"),
    ("reiser4", Start(64 << 10), b"ReIsEr4"),
    ("f2fs", Start(1024), b"\x10\x20\xf5\xf2"),
    ("f2fs", Start(4096 + 1024), b"\x10\x20\xf5\xf2"),
    ("nilfs2", Start(1024), b"\x02\0\0\0\0\0\x34\x34"),
    ("iso9660", Start(32769), b"CD001"),
    ("iso9660", Start(32769), b"CDROM"),
    ("UDF", Start(32769), b"BEA01"),
    ("UDF", Start(32769), b"NSR0"),
    ("UDF", Start(32769 + 2048), b"NSR0"),
    ("UDF", Start(32769 + 2 * 2048), b"NSR0"),
    ("UDF", Start(32769 + 3 * 2048), b"NSR0"),
    ("VMFS", Start(1 << 20), b"\x0d\xd0\x01\xc0"),
    ("VMFS", Start(2 << 20), b"\x5e\xf1\xab\x2f"),
    ("squashfs", Start(0), b"hsqs"),
    ("squashfs", Start(0), b"sqsh"),
    ("erofs", Start(1024), b"\xe2\xe1\xf5\xe0"),
    ("cramfs", Start(0), b"\x45\x3d\xcd\x28"),
    ("cramfs", Start(512), b"\x45\x3d\xcd\x28"),
    ("romfs", Start(0), b"-rom1fs-"),
    ("OCFS2", Start(1024), b"OCFSV2"),
    ("OCFS2", Start(2048), b"OCFSV2"),
    ("OCFS2", Start(4096), b"OCFSV2"),
    ("OCFS2", Start(8192), b"OCFSV2"),
    ("OCFS", Start(8), b"OracleCFS"),
    ("GFS", Start(64 << 10), b"\x01\x16\x19\x70"),
    ("BeFS", Start(32), b"BFS1"),
    ("BeFS", Start(32), b"1SFB"),
    ("BeFS", Start(544), b"BFS1"),
    ("BeFS", Start(544), b"1SFB"),
    ("VxFS", Start(1024), b"\xf5\xfc\x01\xa5"),
    ("VxFS", Start(8192), b"\xa5\x01\xfc\xf5"),
    ("NetWare", Start(4096), b"SPB5"),
    ("QNX6", Start(8192), b"\x22\x11\x19\x68"),
    ("UBI", Start(0), b"UBI#"),
    ("UBIFS", Start(0), b"\x31\x18\x10\x06"),
    ("zonefs", Start(0), b"SFOZ"),
    // Other partition tables, of a whole disk or inside a partition.
    ("a GPT", Start(512), b"EFI PART"),
    ("a GPT", Start(4096), b"EFI PART"),
    ("a BSD label", Start(64), b"\x57\x45\x56\x82"),
    ("a BSD label", Start(128), b"\x57\x45\x56\x82"),
    ("a BSD label", Start(512), b"\x57\x45\x56\x82"),
    ("a BSD label", Start(4096), b"\x57\x45\x56\x82"),
    ("a BSD label", Start(512), b"\x59\x4c\x46\xc4"),
    ("a Solaris label", Start(512 + 12), b"\xee\xde\x0d\x60"),
    ("a UnixWare label", Start(29 * 512 + 4), b"\x0d\x60\x5e\xca"),
    ("an SGI label", Start(0), b"\x0b\xe5\xa9\x41"),
    ("an AIX label", Start(0), b"\xc9\xc2\xd4\xc1"),
    ("a Motorola label", Start(248), b"MOTOROLA"),
    ("an Apple partition map", Start(512), b"PM\0\0"),
    ("an Apple partition map", Start(2048), b"PM\0\0"),
    ("a Windows dynamic disk", Start(0xc00), b"PRIVHEAD"),
    ("a Windows dynamic disk", End(512), b"PRIVHEAD"),
];

/// The bytes of a volume that are looked at; what was read once is kept.
struct SignatureBytes<'a> {
    volume: &'a Volume<'a>,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl<'a> SignatureBytes<'a> {
    fn new(volume: &'a Volume<'a>) -> Self {
        let size = volume.size();
        let piece = |offset: u64, len: u64| {
            let len = usize::try_from(len).unwrap_or_default();
            // With a bad place in it: only what is asked for must be readable.
            volume.peek(offset, len).unwrap_or_default()
        };
        let tail = TAIL.min(size);
        SignatureBytes { volume, head: piece(0, HEAD.min(size)), tail: piece(size - tail, tail) }
    }

    /// `len` bytes at `offset`; `None` where the volume has none.
    fn get(&self, offset: u64, len: usize) -> Result<Option<Vec<u8>>, Doubt> {
        let size = self.volume.size();
        if offset.checked_add(len as u64).is_none_or(|end| end > size) {
            return Ok(None);
        }
        let within = |bytes: &[u8], from: u64| {
            let at = usize::try_from(offset.checked_sub(from)?).ok()?;
            bytes.get(at..at.checked_add(len)?).map(<[u8]>::to_vec)
        };
        if let Some(bytes) =
            within(&self.head, 0).or_else(|| within(&self.tail, size - self.tail.len() as u64))
        {
            return Ok(Some(bytes));
        }
        self.volume.read("unknown", offset, len).map(Some)
    }
}

/// The places of a volume of `size` bytes where signatures are looked for: both ends, and blocks between them.
///
/// They are imaged whoever uses them: free space that is not imaged is not written either, so a RAID superblock or a
/// ZFS label of an earlier use of the target disk would show up again beside the file system that was restored.
pub(super) fn places(size: u64) -> Vec<Range<u64>> {
    /// Bytes at each end.
    const ENDS: u64 = 1 << 20;
    let mut places = vec![0..ENDS, size.saturating_sub(ENDS)..size];
    for (_, at, _) in SIGNATURES {
        let Start(place) = at else { continue };
        let block = place & !4095..(place & !4095).saturating_add(4096);
        if block.end > ENDS && block.start < size.saturating_sub(ENDS) && !places.contains(&block) {
            places.push(block);
        }
    }
    places
}

/// Everything that a volume looks like, each once. `partitions` are the ranges, in bytes, in which only the partitions
/// themselves are asked; where there are some, the volume is a whole disk with a table.
///
/// # Errors
/// A place cannot be read: it could hold anything.
pub(super) fn claims(volume: &Volume<'_>, partitions: &[Range<u64>]) -> Result<Vec<&'static str>, Doubt> {
    let bytes = SignatureBytes::new(volume);
    let mut found: Vec<&'static str> = Vec::new();
    let mut add = |kind| {
        if !found.contains(&kind) {
            found.push(kind);
        }
    };
    let disk = !partitions.is_empty();
    for (kind, at, magic) in SIGNATURES {
        let Some(offset) = at.offset(bytes.volume.size()) else { continue };
        // Of a disk with a table: not the table itself, and not what lies in a partition. What stands at the end of the
        // disk can be the disk's also there.
        if disk
            && (*kind == "a GPT" || matches!(at, Start(_)) && partitions.iter().any(|p| p.contains(&offset)))
        {
            continue;
        }
        if bytes.get(offset, magic.len())?.is_some_and(|found| found == *magic) {
            add(kind);
        }
    }
    let checks: [(&'static str, Check); 8] = [
        ("Linux RAID", linux_raid),
        ("ZFS", zfs),
        ("UFS", ufs),
        ("HFS", hfs),
        ("a Sun label", sun_label),
        ("an Amiga table", amiga),
        ("an MBR", nested_mbr),
        ("firmware RAID", firmware_raid),
    ];
    for (kind, check) in checks {
        if check(&bytes, disk)? {
            add(kind);
        }
    }
    Ok(found)
}

/// A look at more than one place or value; `disk`: of a disk with a table.
type Check = fn(&SignatureBytes<'_>, bool) -> Result<bool, Doubt>;

/// Linux MD: superblocks 0.90 (in the byte order of its machine), 1.0, 1.1 and 1.2 (`md_p.h`).
fn linux_raid(bytes: &SignatureBytes<'_>, disk: bool) -> Result<bool, Doubt> {
    const MAGIC: u32 = 0xa92b_4efc;
    let size = bytes.volume.size();
    if let Some(at) = (size & !0xffff).checked_sub(0x10000) {
        let raw = bytes.get(at, 4)?.unwrap_or_default();
        if le::u32(&raw, 0) == Some(MAGIC) || be::u32(&raw, 0) == Some(MAGIC) {
            return Ok(true);
        }
    }
    for at in [Some(0), Some(4096), End4K(8192).offset(size)].into_iter().flatten() {
        let raw = bytes.get(at, 256)?.unwrap_or_default();
        // It says in which sector it is: at the end of a disk that tells the disk's from the last partition's.
        let here = !disk || le::u64(&raw, 144) == Some(at / 512);
        if le::u32(&raw, 0) == Some(MAGIC) && here {
            return Ok(true);
        }
    }
    Ok(false)
}

/// ZFS: four labels of 256 KiB, two at each end, each with a ring of uberblocks in its second half (`vdev_impl.h`).
fn zfs(bytes: &SignatureBytes<'_>, disk: bool) -> Result<bool, Doubt> {
    const LABEL: u64 = 256 << 10;
    let size = bytes.volume.size();
    if size < 4 * LABEL {
        return Ok(false);
    }
    let end = size / LABEL * LABEL;
    // The labels at the end of a disk can be those of its last partition.
    let labels = [0, LABEL, end - 2 * LABEL, end - LABEL];
    for label in labels.iter().take(if disk { 2 } else { 4 }) {
        let ring = bytes.get(label + LABEL / 2, 128 << 10)?.unwrap_or_default();
        let magic = 0x00ba_b10c_u64;
        let is_uberblock =
            |block: &[u8]| le::u64(block, 0).is_some_and(|v| v == magic || v == magic.swap_bytes());
        if ring.chunks(1024).any(is_uberblock) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// UFS 1 and 2, in both byte orders and at all places of the superblock (`ffs/fs.h`).
fn ufs(bytes: &SignatureBytes<'_>, _: bool) -> Result<bool, Doubt> {
    for at in [0, 8 << 10, 64 << 10, 256 << 10] {
        let raw = bytes.get(at + 1372, 4)?.unwrap_or_default();
        let known = |magic: Option<u32>| {
            matches!(
                magic,
                Some(0x0001_1954 | 0x1954_0119 | 0x0019_5612 | 0x0009_5014 | 0x0061_2195 | 0x0523_1994)
            )
        };
        if known(le::u32(&raw, 0)) || known(be::u32(&raw, 0)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// HFS: two letters, and a bitmap and block size that make sense (Inside Macintosh, Files).
fn hfs(bytes: &SignatureBytes<'_>, _: bool) -> Result<bool, Doubt> {
    let raw = bytes.get(1024, 162)?.unwrap_or_default();
    let blocks = be::u32(&raw, 20).unwrap_or_default();
    Ok(raw.starts_with(b"BD") && be::u16(&raw, 14) == Some(3) && blocks > 0 && blocks.is_multiple_of(512))
}

/// Sun's label: two bytes at the end of the first block, and an exclusive or over all of it.
fn sun_label(bytes: &SignatureBytes<'_>, _: bool) -> Result<bool, Doubt> {
    let raw = bytes.get(0, 512)?.unwrap_or_default();
    let sum = (0..512).step_by(2).filter_map(|at| be::u16(&raw, at)).fold(0, |sum, word| sum ^ word);
    Ok(be::u16(&raw, 508) == Some(0xdabe) && sum == 0)
}

/// Amiga's rigid disk block, in one of the first 16 blocks.
fn amiga(bytes: &SignatureBytes<'_>, _: bool) -> Result<bool, Doubt> {
    for block in 0..16 {
        if bytes.get(block * 512, 4)?.is_some_and(|raw| raw == *b"RDSK") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A table inside a volume, all of whose partitions are inside it too; the boot programs of file systems are none.
fn nested_mbr(bytes: &SignatureBytes<'_>, disk: bool) -> Result<bool, Doubt> {
    let raw = bytes.get(0, 512)?.unwrap_or_default();
    let blocks = bytes.volume.size() / 512;
    let fits = |entry: &mbr::MbrEntry| {
        let end = u64::from(entry.first) + u64::from(entry.blocks);
        *entry == mbr::MbrEntry::default()
            || entry.kind != 0
                && entry.first != 0
                && entry.blocks != 0
                && (end <= blocks || entry.kind == 0xee)
    };
    Ok(!disk
        && mbr::boot_record(&raw).is_some_and(|record| mbr::is_table(&record) && record.iter().all(fits)))
}

/// RAID of old controllers whose signatures are short, with their checksums: JMicron, Silicon Image, VIA.
fn firmware_raid(bytes: &SignatureBytes<'_>, _: bool) -> Result<bool, Doubt> {
    let Some(at) = End(512).offset(bytes.volume.size()) else { return Ok(false) };
    let raw = bytes.get(at, 512)?.unwrap_or_default();
    let sum = |end: usize| {
        (0..end).step_by(2).filter_map(|at| le::u16(&raw, at)).fold(0u16, |sum, word| sum.wrapping_add(word))
    };
    let jmicron = raw.starts_with(b"JM") && sum(128) <= 1;
    let silicon = le::u32(&raw, 0x60) == Some(0x2f00_0000)
        && le::u16(&raw, 0x13e) == Some(sum(0x13e).wrapping_neg())
        && raw.get(0x116).is_some_and(|number| *number < 8);
    let eight = raw.iter().take(50).fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    let via =
        raw.starts_with(&[0x55, 0xaa]) && raw.get(2).is_some_and(|v| *v <= 2) && raw.get(50) == Some(&eight);
    Ok(jmicron || silicon || via)
}
