//! The footer member: the proof that a file is a whole image.
#![forbid(unsafe_code)]

use crate::bytes::{array, le};
use crate::image::format::member::{self, MemberKind, Reason, UNIT};
use blake3::Hash;

const CONTEXT: &str = "testbox image root hash v1";
/// Bytes of payload that the root hash covers.
const BOUND: usize = 136;

/// The fields of the footer member. All sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Length of the header member.
    pub header_length: u32,
    /// There are unreadable runs.
    pub degraded: bool,
    /// Size of the disk.
    pub disk_size: u64,
    /// File position of the root node of the index.
    pub root_position: u64,
    /// Length of the root node's member.
    pub root_length: u32,
    /// Number of runs.
    pub runs: u64,
    /// Bytes of disk in zero runs.
    pub zero: u64,
    /// Bytes of disk in unallocated runs.
    pub unallocated: u64,
    /// Bytes of disk in unreadable runs.
    pub unreadable: u64,
    /// Hash of the header member.
    pub header_hash: Hash,
    /// Hash of the root node's member.
    pub node_hash: Hash,
}

impl Footer {
    /// The bytes that the root hash covers.
    fn bound(&self) -> [u8; BOUND] {
        let mut payload = [0; BOUND];
        payload[..2].copy_from_slice(&[member::VERSION, MemberKind::Footer as u8]);
        payload[4..8].copy_from_slice(&(UNIT as u32).to_le_bytes());
        payload[8..12].copy_from_slice(&self.header_length.to_le_bytes());
        payload[12] = self.degraded.into();
        payload[16..24].copy_from_slice(&self.disk_size.to_le_bytes());
        payload[24..32].copy_from_slice(&self.root_position.to_le_bytes());
        payload[32..36].copy_from_slice(&self.root_length.to_le_bytes());
        payload[40..48].copy_from_slice(&self.runs.to_le_bytes());
        payload[48..56].copy_from_slice(&self.zero.to_le_bytes());
        payload[56..64].copy_from_slice(&self.unallocated.to_le_bytes());
        payload[64..72].copy_from_slice(&self.unreadable.to_le_bytes());
        payload[72..104].copy_from_slice(self.header_hash.as_bytes());
        payload[104..136].copy_from_slice(self.node_hash.as_bytes());
        payload
    }

    /// The hash that names the image: it binds every byte of it.
    pub fn root_hash(&self) -> Hash {
        Hash::from_bytes(blake3::derive_key(CONTEXT, &self.bound()))
    }

    /// The member, [`UNIT`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = self.bound().to_vec();
        payload.extend_from_slice(self.root_hash().as_bytes());
        member::empty_member(MemberKind::Footer, &payload, None)
    }

    /// Reads the member, and refuses any byte that differs from what [`Footer::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Reason> {
        const SHORT: Reason = "the footer is too short";
        let member = member::parse(bytes)?;
        if member.kind != MemberKind::Footer {
            return Err("the file does not end with a footer member: it was cut short or added to");
        }
        let payload = member.payload;
        let footer = Footer {
            header_length: le::u32(payload, 8).ok_or(SHORT)?,
            degraded: payload.get(12) == Some(&1),
            disk_size: le::u64(payload, 16).ok_or(SHORT)?,
            root_position: le::u64(payload, 24).ok_or(SHORT)?,
            root_length: le::u32(payload, 32).ok_or(SHORT)?,
            runs: le::u64(payload, 40).ok_or(SHORT)?,
            zero: le::u64(payload, 48).ok_or(SHORT)?,
            unallocated: le::u64(payload, 56).ok_or(SHORT)?,
            unreadable: le::u64(payload, 64).ok_or(SHORT)?,
            header_hash: Hash::from_bytes(array(payload, 72).ok_or(SHORT)?),
            node_hash: Hash::from_bytes(array(payload, 104).ok_or(SHORT)?),
        };
        if footer.encode() != bytes {
            return Err("the footer is damaged: its root hash or another field is wrong");
        }
        Ok(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_of_a_footer_is_found() {
        let footer = Footer {
            header_length: 4096,
            degraded: true,
            disk_size: 1 << 30,
            root_position: 8192,
            root_length: 4096,
            runs: 3,
            zero: 5,
            unallocated: 6,
            unreadable: 512,
            header_hash: blake3::hash(b"h"),
            node_hash: blake3::hash(b"n"),
        };
        let bytes = footer.encode();
        assert_eq!(bytes.len(), UNIT);
        assert_eq!(Footer::decode(&bytes), Ok(footer));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Footer::decode(&bad).is_err(), "bit {bit}");
        }
        for len in [0, 1, 15, 16, 100, 4095] {
            assert!(Footer::decode(&bytes[..len]).is_err());
        }
    }
}
