//! Fields of on-disk structures; a field that is cut off is `None`.
#![forbid(unsafe_code)]

fn array<const N: usize>(raw: &[u8], at: usize) -> Option<[u8; N]> {
    raw.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// 16 bits, little-endian, at byte `at`.
pub(crate) fn le16(raw: &[u8], at: usize) -> Option<u16> {
    array(raw, at).map(u16::from_le_bytes)
}

/// 32 bits, little-endian, at byte `at`.
pub(crate) fn le32(raw: &[u8], at: usize) -> Option<u32> {
    array(raw, at).map(u32::from_le_bytes)
}

/// 64 bits, little-endian, at byte `at`.
pub(crate) fn le64(raw: &[u8], at: usize) -> Option<u64> {
    array(raw, at).map(u64::from_le_bytes)
}

/// 16 bits, big-endian, at byte `at`.
pub(crate) fn be16(raw: &[u8], at: usize) -> Option<u16> {
    array(raw, at).map(u16::from_be_bytes)
}

/// 32 bits, big-endian, at byte `at`.
pub(crate) fn be32(raw: &[u8], at: usize) -> Option<u32> {
    array(raw, at).map(u32::from_be_bytes)
}
