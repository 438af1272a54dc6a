//! Where the file system in a volume ends, as its superblock says: not believed, only where to look for what lies behind.
#![forbid(unsafe_code)]

use super::Volume;
use crate::bytes::{be, le};

/// Byte behind the file system, at most the size of the volume; `None` where none of the formats is there. Of several,
/// the first end.
pub(super) fn of(volume: &Volume<'_>) -> Option<u64> {
    let formats: [fn(&Volume<'_>) -> Option<u64>; 7] = [btrfs, exfat, ext, fat, ntfs, swap, xfs];
    let end = formats.into_iter().filter_map(|end| end(volume)).min()?;
    Some(end.min(volume.size()))
}

/// See `btrfs/superblock.rs`.
fn btrfs(volume: &Volume<'_>) -> Option<u64> {
    let block = volume.peek(64 << 10, 4096).filter(|block| block[0x40..].starts_with(b"_BHRfS_M"))?;
    le::u64(&block, 0xc9 + 8)
}

/// See `exfat/boot.rs`.
fn exfat(volume: &Volume<'_>) -> Option<u64> {
    let block = volume.peek(0, 512).filter(|block| block[3..].starts_with(b"EXFAT   "))?;
    le::u64(&block, 72)?.checked_mul(1u64.checked_shl(block[108].into())?)
}

/// See `ext4/superblock.rs`.
fn ext(volume: &Volume<'_>) -> Option<u64> {
    let block = volume.peek(1024, 1024).filter(|block| le::u16(block, 0x38) == Some(0xef53))?;
    let wide = le::u32(&block, 0x60)? & 0x80 != 0;
    let high = if wide { u64::from(le::u32(&block, 0x150)?) << 32 } else { 0 };
    (u64::from(le::u32(&block, 4)?) | high).checked_mul(1024u64.checked_shl(le::u32(&block, 0x18)?)?)
}

/// See `fat/boot.rs`.
fn fat(volume: &Volume<'_>) -> Option<u64> {
    let block = volume.peek(0, 512).filter(|block| block[510..] == [0x55, 0xaa])?;
    let sector = u64::from(le::u16(&block, 11)?);
    let total = match le::u16(&block, 19)? {
        0 => u64::from(le::u32(&block, 32)?),
        total => total.into(),
    };
    let right = matches!(block[0], 0xe9 | 0xeb) && matches!(sector, 512 | 1024 | 2048 | 4096) && total != 0;
    (right && block[13].is_power_of_two() && (1..=4).contains(&block[16])).then_some(total * sector)
}

/// See `ntfs/boot.rs`. The copy of the boot sector behind the clusters is counted.
fn ntfs(volume: &Volume<'_>) -> Option<u64> {
    let block = volume.peek(0, 512).filter(|block| block[3..].starts_with(b"NTFS    "))?;
    le::u64(&block, 40)?.checked_add(1)?.checked_mul(le::u16(&block, 11)?.into())
}

/// See `swap.rs`.
fn swap(volume: &Volume<'_>) -> Option<u64> {
    let page = volume.peek(0, 4096).filter(|page| page.ends_with(b"SWAPSPACE2"))?;
    Some((u64::from(le::u32(&page, 1028)?) + 1) * 4096)
}

/// See `xfs/superblock.rs`.
fn xfs(volume: &Volume<'_>) -> Option<u64> {
    let block = volume.peek(0, 512).filter(|block| block.starts_with(b"XFSB"))?;
    be::u64(&block, 8)?.checked_mul(be::u32(&block, 4)?.into())
}

#[cfg(test)]
mod tests {
    use super::super::testing::run;
    use super::*;

    #[test]
    fn every_format_ends_where_its_tool_was_told_to() {
        const MIB: u64 = 1 << 20;
        for (program, args, size, end) in [
            ("mke2fs", &["-q", "-F", "-t", "ext4"][..], &["200M"][..], 200 * MIB),
            ("mke2fs", &["-q", "-F", "-t", "ext2", "-b", "1024"], &["100M"], 100 * MIB),
            ("mkfs.xfs", &["-q", "-f", "--unsupported", "-d", "size=200m"], &[], 200 * MIB),
            ("mkfs.btrfs", &["-q", "-f", "-b", "209715200"], &[], 200 * MIB),
            ("mkntfs", &["-q", "-F", "-Q"], &["204800"], 100 * MIB),
            // It ends with a whole track of 32 sectors.
            ("mkfs.fat", &["-F", "32", "-s", "1"], &["102400"], 104_832_000),
            ("mkfs.exfat", &[], &[], 320 * MIB),
            ("mkswap", &["-q"], &[], 320 * MIB),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(320 * MIB).unwrap();
            let path = file.path().to_str().unwrap();
            run(program, &[args, &[path], size].concat());
            let found = of(&Volume::new(file.as_file(), 0, 320 * MIB, 512));
            assert_eq!(found, Some(end), "{program} {args:?}");
        }
        assert_eq!(of(&Volume::new(&vec![0x5a; 128 << 10], 0, 128 << 10, 512)), None);
    }
}
