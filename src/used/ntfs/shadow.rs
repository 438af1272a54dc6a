//! Shadow copies ("previous versions", restore points) on an NTFS volume.
//!
//! A shadow copy keeps what was overwritten since it was made, in a file. What was only deleted since then still lies
//! in clusters that the live volume calls free, and belongs to the copy: such a volume has no free clusters.
//! Layout: "Volume Shadow Snapshot (VSS) format" of the libvshadow project.
#![forbid(unsafe_code)]

use super::doubt::{KIND, doubt};
use crate::bytes::le;
use crate::used::{Doubt, Volume};

/// 3808876b-c176-4e48-b7ae-04046e6cc752, at the head of everything that belongs to shadow copies.
const MARK: [u8; 16] =
    [0x6b, 0x87, 0x08, 0x38, 0x76, 0xc1, 0x48, 0x4e, 0xb7, 0xae, 0x04, 0x04, 0x6e, 0x6c, 0xc7, 0x52];
/// Where the header is.
const HEADER: u64 = 0x1e00;
/// Bytes of a block of the catalogue, its header, and an entry.
const BLOCK: usize = 0x4000;
const ENTRY: usize = 128;
/// Most blocks: a volume has at most 512 shadow copies, with two entries each.
const MOST_BLOCKS: usize = 64;

/// Fails where the volume may have shadow copies.
pub(super) fn must_be_none(volume: &Volume<'_>) -> Result<(), Doubt> {
    let cut = || doubt("the header of its shadow copies is cut");
    // A volume that is too short for the header has none.
    let Some(header) = volume.peek(HEADER, 512) else {
        return if volume.size() < HEADER + 512 { Ok(()) } else { Err(cut()) };
    };
    if header[..16] != MARK {
        return Ok(());
    }
    if header[64..80] != header[80..96] {
        return Err(doubt("its shadow copies are on another volume"));
    }
    let mut next = le::u64(&header, 48).ok_or_else(cut)?;
    for _ in 0..MOST_BLOCKS {
        if next == 0 {
            return Ok(());
        }
        let block = volume.read(KIND, next, BLOCK)?;
        if block[..16] != MARK || le::u32(&block, 20) != Some(2) || le::u64(&block, 32) != Some(next) {
            return Err(doubt("the catalogue of its shadow copies cannot be read"));
        }
        // 0 is empty and 1 unused; 2 and 3 are a shadow copy and where it is.
        if block[ENTRY..].chunks_exact(ENTRY).any(|entry| le::u64(entry, 0).is_none_or(|kind| kind > 1)) {
            return Err(doubt(
                "it has shadow copies, which need what is deleted; `vssadmin delete shadows /all` removes them",
            ));
        }
        next = le::u64(&block, 40).ok_or_else(cut)?;
    }
    Err(doubt("the catalogue of its shadow copies has no end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A volume with a header and a catalogue of two blocks.
    fn volume() -> Vec<u8> {
        let mut bytes = vec![0; 0x20000];
        let header = HEADER as usize;
        bytes[header..header + 16].copy_from_slice(&MARK);
        bytes[header + 48 + 2] = 1;
        for (at, next) in [(0x10000u64, 0x14000u64), (0x14000, 0)] {
            let block = &mut bytes[at as usize..][..BLOCK];
            block[..16].copy_from_slice(&MARK);
            block[20] = 2;
            block[32..40].copy_from_slice(&at.to_le_bytes());
            block[40..48].copy_from_slice(&next.to_le_bytes());
            block[ENTRY] = 1;
        }
        bytes
    }

    fn check(bytes: &Vec<u8>) -> String {
        let told = must_be_none(&Volume::new(bytes, 0, bytes.len() as u64, 512));
        told.map_or_else(|doubt| doubt.why, |()| "none".into())
    }

    #[test]
    fn a_catalogue_with_a_copy_in_it_is_noticed() {
        assert_eq!(check(&volume()), "none");
        assert_eq!(check(&vec![0; 0x20000]), "none");
        assert_eq!(check(&vec![0; 0x1000]), "none");
        let mut empty = volume();
        empty[HEADER as usize + 50] = 0;
        assert_eq!(check(&empty), "none");
        for (at, value, why) in [
            (0x10000 + 5 * ENTRY, 2, "has shadow copies"),
            (0x14000 + 127 * ENTRY, 3, "has shadow copies"),
            (0x14000 + ENTRY + 7, 1, "has shadow copies"),
            (0x10000, 0, "cannot be read"),
            (0x14000 + 20, 3, "cannot be read"),
            (0x10000 + 41, 0, "no end"),
            (0x14000 + 42, 1, "no end"),
            (HEADER as usize + 53, 1, "does not have"),
            (HEADER as usize + 64, 1, "another volume"),
        ] {
            let mut bytes = volume();
            bytes[at] = value;
            assert!(check(&bytes).contains(why), "{at:#x}: {}", check(&bytes));
        }
        let mut circle = volume();
        circle[0x14000 + 40..0x14000 + 48].copy_from_slice(&0x10000u64.to_le_bytes());
        assert!(check(&circle).contains("no end"));
    }
}
