//! Numbers out of bytes that may be too short, most of them little-endian.
//!
//! Every parser reads by [`array`], which says where bytes are missing, or by [`field`], where the length of a structure
//! was checked before.
#![forbid(unsafe_code)]

/// `N` bytes at `at`.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// `N` bytes at `at`; zeros where `bytes` does not have them: whoever reads a structure checks its length.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    array(bytes, at).unwrap_or([0; N])
}

pub(super) fn u8(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

pub(crate) fn u16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

pub(crate) fn u32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

pub(crate) fn u64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// A label in UTF-16, without control characters, or `None` where nothing is left of it.
pub(super) fn utf16(bytes: &[u8]) -> Option<String> {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    label(&char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>())
}

/// A label without control characters and without the blanks around it, or `None` where nothing is left of it.
pub(super) fn label(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_the_end_and_beyond() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(u8(&bytes, 7), Some(8));
        assert_eq!(u16(&bytes, 6), Some(0x0807));
        assert_eq!(u16(&bytes, 7), None);
        assert_eq!(u32(&bytes, 1), Some(0x0504_0302));
        assert_eq!(u64(&bytes, 0), Some(0x0807_0605_0403_0201));
        assert_eq!(u64(&bytes, usize::MAX), None);
        assert_eq!((field(&bytes, 6), field(&bytes, 7), field(&bytes, usize::MAX)), ([7, 8], [0, 0], [0]));
    }

    #[test]
    fn labels() {
        assert_eq!(utf16(b"A\0\n\0\xe4\0 \0").as_deref(), Some("Aä"));
        assert_eq!(utf16(b"\0\xd8").as_deref(), Some("\u{fffd}"));
        assert_eq!(utf16(b""), None);
        assert_eq!(label(" \0 "), None);
    }
}
