//! Numbers out of bytes that may be too short.
//!
//! Every parser reads by [`array()`], [`le`] and [`be`], which say where bytes are missing, or by [`field`] and the numbers
//! beside it, where the length of a structure was checked before.
#![forbid(unsafe_code)]

/// `N` bytes at `at`; `None` where `bytes` does not have them.
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// `N` bytes at `at`; zeros where `bytes` does not have them: whoever reads a structure checks its length.
pub fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    array(bytes, at).unwrap_or([0; N])
}

/// Little-endian numbers; `None` where `bytes` does not have them.
pub mod le {
    use super::array;

    /// One byte at `at`.
    pub fn u8(bytes: &[u8], at: usize) -> Option<u8> {
        bytes.get(at).copied()
    }

    /// Two bytes at `at`.
    pub fn u16(bytes: &[u8], at: usize) -> Option<u16> {
        array(bytes, at).map(u16::from_le_bytes)
    }

    /// Four bytes at `at`.
    pub fn u32(bytes: &[u8], at: usize) -> Option<u32> {
        array(bytes, at).map(u32::from_le_bytes)
    }

    /// Eight bytes at `at`.
    pub fn u64(bytes: &[u8], at: usize) -> Option<u64> {
        array(bytes, at).map(u64::from_le_bytes)
    }
}

/// Big-endian numbers; `None` where `bytes` does not have them.
pub mod be {
    use super::array;

    /// Two bytes at `at`.
    pub fn u16(bytes: &[u8], at: usize) -> Option<u16> {
        array(bytes, at).map(u16::from_be_bytes)
    }

    /// Four bytes at `at`.
    pub fn u32(bytes: &[u8], at: usize) -> Option<u32> {
        array(bytes, at).map(u32::from_be_bytes)
    }

    /// Eight bytes at `at`.
    pub fn u64(bytes: &[u8], at: usize) -> Option<u64> {
        array(bytes, at).map(u64::from_be_bytes)
    }
}

/// Little-endian, of a structure whose length was checked: zero where `bytes` does not have it.
pub fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}

/// Little-endian, of a structure whose length was checked: zero where `bytes` does not have it.
pub fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

/// Little-endian, of a structure whose length was checked: zero where `bytes` does not have it.
pub fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

/// Big-endian, of a structure whose length was checked: zero where `bytes` does not have it.
pub fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(field(bytes, at))
}

/// Big-endian, of a structure whose length was checked: zero where `bytes` does not have it.
pub fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(field(bytes, at))
}

/// Big-endian, of a structure whose length was checked: zero where `bytes` does not have it.
pub fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(field(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_the_end_and_beyond() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(le::u8(&bytes, 7), Some(8));
        assert_eq!(le::u16(&bytes, 6), Some(0x0807));
        assert_eq!(le::u16(&bytes, 7), None);
        assert_eq!(le::u32(&bytes, 1), Some(0x0504_0302));
        assert_eq!(le::u64(&bytes, 0), Some(0x0807_0605_0403_0201));
        assert_eq!(le::u64(&bytes, usize::MAX), None);
        assert_eq!((be::u16(&bytes, 6), be::u32(&bytes, 1)), (Some(0x0708), Some(0x0203_0405)));
        assert_eq!((be::u64(&bytes, 0), be::u64(&bytes, 1)), (Some(0x0102_0304_0506_0708), None));
        assert_eq!((field(&bytes, 6), field(&bytes, 7), field(&bytes, usize::MAX)), ([7, 8], [0, 0], [0]));
        assert_eq!((le16(&bytes, 6), le32(&bytes, 4), le64(&bytes, 1)), (0x0807, 0x0807_0605, 0));
        assert_eq!((be16(&bytes, 6), be32(&bytes, 4), be64(&bytes, 1)), (0x0708, 0x0506_0708, 0));
    }
}
