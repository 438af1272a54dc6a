//! The checksums that stand in the first 32 bytes of the superblock and of every node, over all that follows them.
#![forbid(unsafe_code)]

use super::doubt::doubt;
use crate::used::Doubt;
use crate::used::sums::agree;
use sha2::{Digest, Sha256};
use twox_hash::XxHash64;

/// Bytes that the checksum may take.
const FIELD: usize = 32;

/// Numbers as in `enum btrfs_csum_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BtrfsChecksum {
    Crc32c,
    XxHash64,
    Sha256,
    Blake2b,
}

impl BtrfsChecksum {
    pub fn new(number: u16) -> Result<Self, Doubt> {
        match number {
            0 => Ok(BtrfsChecksum::Crc32c),
            1 => Ok(BtrfsChecksum::XxHash64),
            2 => Ok(BtrfsChecksum::Sha256),
            3 => Ok(BtrfsChecksum::Blake2b),
            _ => Err(doubt(format!("its checksums are of the unknown type {number}"))),
        }
    }

    /// The checksum of `bytes`, without the zeros that fill its field.
    pub fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            BtrfsChecksum::Crc32c => crc32c::crc32c(bytes).to_le_bytes().to_vec(),
            BtrfsChecksum::XxHash64 => XxHash64::oneshot(0, bytes).to_le_bytes().to_vec(),
            BtrfsChecksum::Sha256 => Sha256::digest(bytes).to_vec(),
            BtrfsChecksum::Blake2b => {
                blake2b_simd::Params::new().hash_length(FIELD).hash(bytes).as_bytes().to_vec()
            }
        }
    }

    /// Whether a superblock or node begins with the checksum of the rest of it.
    pub fn holds(self, block: &[u8]) -> bool {
        block
            .split_at_checked(FIELD)
            .is_some_and(|(field, rest)| agree(field.starts_with(&self.of(rest)), true))
    }
}
