//! Tables of disks that go onto disks of another size: what is moved or grown is right again, and stays on the disk.

use crate::disk::Sparse;
use std::io;
use testbox::io::ReadAt;
use testbox::used::{Movable, Patch, growable, growth};

/// Sizes of the other disk, as the difference in bytes.
const OTHER: [i64; 8] = [512, 4096, 1 << 20, (1 << 20) + 512, 33 << 20, -512, -4096, -(1 << 19)];

/// A disk of another size, with some bytes in place of what is there.
struct Patched<'a> {
    disk: &'a dyn ReadAt,
    size: u64,
    patches: &'a [Patch],
}

impl ReadAt for Patched<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = self.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..len];
        buf.fill(0);
        let there = self.disk.size()?.saturating_sub(offset).min(len as u64) as usize;
        if there > 0 {
            self.disk.read_exact_at(&mut buf[..there], offset)?;
        }
        for Patch { offset: at, bytes } in self.patches {
            let (start, end) = (offset.max(*at), (offset + len as u64).min(at + bytes.len() as u64));
            if start < end {
                let from = &bytes[(start - at) as usize..(end - at) as usize];
                buf[(start - offset) as usize..(end - offset) as usize].copy_from_slice(from);
            }
        }
        Ok(len)
    }
}

/// On the disk, and none over another.
fn check(patches: &[Patch], size: u64) {
    let mut places: Vec<(u64, u64)> =
        patches.iter().map(|patch| (patch.offset, patch.offset + patch.bytes.len() as u64)).collect();
    places.sort_unstable();
    assert!(places.iter().all(|(_, end)| *end <= size), "{places:?} of {size}");
    assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{places:?}");
}

/// What both headers must say, read by hand: each names its own place and the other's, and they agree.
fn is_twice(disk: &dyn ReadAt, size: u64, sector: u32) -> bool {
    let last = size / u64::from(sector) - 1;
    let header = |lba: u64| {
        let mut block = vec![0; 92];
        disk.read_exact_at(&mut block, lba * u64::from(sector))
            .is_ok_and(|()| block.starts_with(b"EFI PART"))
            .then_some(block)
    };
    let (Some(first), Some(second)) = (header(1), header(last)) else { return false };
    let number = |block: &[u8], at: usize| u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
    let places = [number(&first, 24), number(&first, 32), number(&second, 24), number(&second, 32)];
    places == [1, last, last, 1] && first[40..72] == second[40..72] && first[80..88] == second[80..88]
}

pub fn relocate(bytes: &[u8]) {
    let disk = Sparse::new(bytes);
    let size = disk.bytes();
    for sector in [512, 4096] {
        let _ = growable(&disk, sector);
        let found = Movable::find(&disk, size, sector);
        let Ok(Some(gpt)) = found else {
            grow(&disk, size, sector, false);
            continue;
        };
        assert!(is_twice(&disk, size, sector), "a table that is not right is moved");
        assert!(gpt.needed() <= size, "it needs more than its own disk");
        for more in OTHER {
            let other = size.saturating_add_signed(more);
            let Some(moved) = gpt.on(other) else { continue };
            assert!(other >= gpt.needed());
            check(&moved.wanted, other);
            let there = Patched { disk: &disk, size: other, patches: &moved.wanted };
            let again = Movable::find(&there, other / u64::from(sector) * u64::from(sector), sector);
            let again = again.expect("it is right there").expect("it is there");
            let back = again.on(size).expect("and goes back");
            check(&back.wanted, size);
        }
        grow(&disk, size, sector, true);
    }
}

/// A partition that grows ends where it should by the table that is written, and nothing else does.
fn grow(disk: &Sparse, size: u64, sector: u32, is_gpt: bool) {
    for more in OTHER {
        let other = size.saturating_add_signed(more) / u64::from(sector) * u64::from(sector);
        let Ok((grown, wanted)) = growth(disk, size, sector, other) else { continue };
        assert!(
            other > size && grown.start < grown.old_end && grown.old_end < grown.end && grown.end <= other
        );
        assert!(grown.end % (1 << 20) == 0 && grown.start >= 1 << 20);
        check(&wanted, other);
        let there = Patched { disk, size: other, patches: &wanted };
        if is_gpt {
            assert!(matches!(Movable::find(&there, other, sector), Ok(Some(_))), "it is right there");
        }
        let (next, _) = growth(&there, other, sector, other + (64 << 20)).expect("it can grow again");
        assert_eq!((next.number, next.start, next.old_end), (grown.number, grown.start, grown.end));
    }
}
