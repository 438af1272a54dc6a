//! The three widths of FAT entries.
#![forbid(unsafe_code)]

use crate::bytes::le;

/// Bits of a FAT entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Fat12,
    Fat16,
    Fat32,
}

impl Width {
    pub(super) fn name(self) -> &'static [u8] {
        match self {
            Width::Fat12 => b"FAT12",
            Width::Fat16 => b"FAT16",
            Width::Fat32 => b"FAT32",
        }
    }

    pub(super) fn kind(self) -> &'static str {
        match self {
            Width::Fat12 => "fat12",
            Width::Fat16 => "fat16",
            Width::Fat32 => "fat32",
        }
    }

    /// Bytes that `entries` entries take.
    pub(super) fn bytes_for(self, entries: u64) -> u64 {
        match self {
            Width::Fat12 => (entries * 3).div_ceil(2),
            Width::Fat16 => entries * 2,
            Width::Fat32 => entries * 4,
        }
    }

    /// Entry number `i` of `bytes`.
    pub(super) fn entry(self, bytes: &[u8], i: usize) -> Option<u32> {
        match self {
            Width::Fat12 => {
                let pair = le::u16(bytes, i + i / 2)?;
                Some(u32::from(if i.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }))
            }
            Width::Fat16 => le::u16(bytes, i * 2).map(u32::from),
            Width::Fat32 => Some(le::u32(bytes, i * 4)? & 0x0fff_ffff),
        }
    }

    /// Marks a bad cluster; everything above ends a chain.
    pub(super) fn bad(self) -> u32 {
        match self {
            Width::Fat12 => 0xff7,
            Width::Fat16 => 0xfff7,
            Width::Fat32 => 0x0fff_fff7,
        }
    }

    /// The bits of the second entry that are set while nobody has it mounted, and while no error was seen.
    pub(super) fn clean(self) -> (u32, u32) {
        match self {
            Width::Fat12 => (0, 0),
            Width::Fat16 => (0x8000, 0x4000),
            Width::Fat32 => (0x0800_0000, 0x0400_0000),
        }
    }
}
