//! A file system counts only where everything that its format fixes outside of its own superblock fits too.
//!
//! A superblock can be old: encryption without a header (plain dm-crypt, LUKS with a detached header) put over a file system
//! that was never wiped writes noise where its inside writes, and leaves the rest as it was. Whatever is inside begins with
//! something, so the fixed places of the old format are where it shows. What each parser asks for, besides checksums and
//! counts where the format has them; anything else is a doubt about the whole volume:
//!
//! | Format | Has to fit, outside of the superblock | Where |
//! |---|---|---|
//! | btrfs | the first 64 KiB are zeros or a boot loader; each copy of the superblock (64 MiB, 256 GiB) is whole and of the same transaction; chunk, root, device, extent and free space trees | `btrfs/superblock.rs` |
//! | ext2, ext3, ext4 | the first 1024 bytes are zeros or a boot loader; the copies of the superblock in other groups have its UUID and geometry; all descriptors and bitmaps, and the free counts of both | `ext4/backups.rs`, `ext4/mod.rs` |
//! | XFS | the superblock, AGF, AGI and AGFL of every allocation group; the log's head; both free space btrees | `xfs/group.rs` |
//! | NTFS | the copy of the boot sector, in the last sector of the partition or right behind the file system; `$MFTMirr`; `$LogFile`; `$Bitmap` | `ntfs/boot.rs`, `ntfs/mod.rs` |
//! | FAT32 | the copy of the boot sector and FSInfo, where the boot sector names them; all FATs are the same, and their chains whole | `fat/boot.rs`, `fat/mod.rs` |
//! | FAT12, FAT16 | have no copies: the media byte at the head of the FATs, all FATs the same, and their chains whole | `fat/mod.rs` |
//! | exFAT | the second boot region; the checksums of both; the FAT's head; bitmap and up-case table of the root directory | `exfat/boot.rs` |
//! | swap | the first 1024 bytes are zeros or a boot loader; padding and unused places for bad pages are zeros | `swap.rs` |
//! | LVM2 | label, header and text of each metadata area, with their checksums; the same text in all of them | `lvm/mod.rs` |
//! | all | no larger than the volume; no signature of any other format beside it ([`super::signatures`]); a type in the partition table that does not contradict ([`super::types`]); what is inside a logical volume counts by the same rules | `look.rs` |
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

/// Whether a place that formats leave to boot loaders is as they leave it: zeros, or a boot sector of x86 with whatever
/// its program keeps behind it. Noise is neither, but once in 8 million times.
pub(super) fn is_boot_area(bytes: &[u8]) -> bool {
    // jmp, cli, xor: what boot programs begin with.
    const FIRST: [u8; 5] = [0xeb, 0xe9, 0xfa, 0x33, 0x31];
    bytes.iter().all(|byte| *byte == 0)
        || bytes.get(510..512) == Some(&[0x55, 0xaa])
            && bytes.first().is_some_and(|byte| FIRST.contains(byte))
}
