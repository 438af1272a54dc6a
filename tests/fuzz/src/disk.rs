//! Disks out of fuzzer's bytes: mostly zeros, with pieces where the bytes say.

use std::io;
use testbox::io::ReadAt;

/// Length of the head of an input: log2 of the disk's size.
const HEAD: usize = 1;
/// Length of a piece's head: position in units of 512 bytes (4), number of bytes (2).
const PIECE: usize = 6;

/// A disk of 1 MiB to 64 GiB that is zero but for some pieces.
pub struct Sparse {
    size: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Sparse {
    /// Later pieces lie over earlier ones. The seeds in `corpus/` are written in this form by the tests' file systems.
    pub fn new(bytes: &[u8]) -> Sparse {
        let size = 1u64 << (20 + bytes.first().copied().unwrap_or(0) % 17);
        let mut rest = bytes.get(HEAD..).unwrap_or_default();
        let mut pieces = Vec::new();
        while let Some((head, after)) = rest.split_at_checked(PIECE) {
            let at = u64::from(u32::from_le_bytes([head[0], head[1], head[2], head[3]])) * 512;
            let len = usize::from(u16::from_le_bytes([head[4], head[5]])).min(after.len());
            pieces.push((at, after[..len].to_vec()));
            rest = &after[len..];
        }
        Sparse { size, pieces }
    }

    pub fn bytes(&self) -> u64 {
        self.size
    }
}

impl ReadAt for Sparse {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = self.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..len];
        buf.fill(0);
        for (at, piece) in &self.pieces {
            let (start, end) = (offset.max(*at), (offset + len as u64).min(at + piece.len() as u64));
            if start < end {
                let from = &piece[(start - at) as usize..(end - at) as usize];
                buf[(start - offset) as usize..(end - offset) as usize].copy_from_slice(from);
            }
        }
        Ok(len)
    }
}
