//! Little-endian numbers of structures whose length was checked.
#![forbid(unsafe_code)]

use crate::used::le::field;

/// Two bytes at `at`; zeros where `bytes` does not have them.
pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}

/// Four bytes at `at`; zeros where `bytes` does not have them.
pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

/// Eight bytes at `at`; zeros where `bytes` does not have them.
pub(super) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}
