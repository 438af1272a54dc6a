//! Little-endian fields of what was read, which may be shorter than it should be.
#![forbid(unsafe_code)]

use super::doubt::doubt;
use crate::bytes::array;
use crate::used::Doubt;

/// A structure on the disk; all positions are bytes from its beginning.
#[derive(Clone, Copy)]
pub struct NodeBytes<'a>(pub &'a [u8]);

impl<'a> NodeBytes<'a> {
    /// `len` bytes at `at`.
    pub fn slice(self, at: usize, len: usize) -> Result<&'a [u8], Doubt> {
        at.checked_add(len).and_then(|end| self.0.get(at..end)).ok_or_else(|| {
            doubt(format!("a structure of {} bytes is shorter than it should be", self.0.len()))
        })
    }

    fn array<const N: usize>(self, at: usize) -> Result<[u8; N], Doubt> {
        array(self.0, at).ok_or_else(|| too_short(self.0))
    }

    pub fn uuid(self, at: usize) -> Result<[u8; 16], Doubt> {
        self.array(at)
    }

    pub fn u8(self, at: usize) -> Result<u8, Doubt> {
        self.array(at).map(u8::from_le_bytes)
    }

    pub fn u16(self, at: usize) -> Result<u16, Doubt> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub fn u32(self, at: usize) -> Result<u32, Doubt> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub fn u64(self, at: usize) -> Result<u64, Doubt> {
        self.array(at).map(u64::from_le_bytes)
    }
}

fn too_short(bytes: &[u8]) -> Doubt {
    doubt(format!("a structure of {} bytes is shorter than it should be", bytes.len()))
}
