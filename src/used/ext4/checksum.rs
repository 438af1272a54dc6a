//! The checksums of ext4's structures, as the kernel's `fs/ext4` makes them: none of them inverts at the end.
#![forbid(unsafe_code)]

/// What protects the group descriptors, and with crc32c the superblock and the bitmaps too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ext4Checksum {
    /// ext2, ext3, and ext4 without either feature.
    None,
    /// Feature `uninit_bg` (`gdt_csum`): CRC-16 of the descriptors only. Holds the CRC of the UUID.
    Crc16(u16),
    /// Feature `metadata_csum`. Holds the seed: the CRC of the UUID, or `s_checksum_seed`.
    Crc32c(u32),
}

impl Ext4Checksum {
    /// The checksum that belongs into a group descriptor, over all of it but the field at bytes 30 and 31.
    pub(super) fn descriptor(self, group: u64, desc: &[u8]) -> Option<u16> {
        let group = (group as u32).to_le_bytes();
        let (head, rest) = desc.split_at(desc.len().min(30));
        let tail = rest.get(2..).unwrap_or_default();
        match self {
            Ext4Checksum::None => None,
            Ext4Checksum::Crc16(seed) => Some(crc16(crc16(crc16(seed, &group), head), tail)),
            Ext4Checksum::Crc32c(seed) => {
                let zeroed = crc32c(crc32c(crc32c(seed, &group), head), &[0, 0]);
                Some(crc32c(zeroed, tail) as u16)
            }
        }
    }
}

/// CRC-32C (Castagnoli) going on from `seed`.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// CRC-16 with polynomial 0x8005 reflected, going on from `seed`. Only for some bytes: no table.
pub(super) fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 != 0 { 0xa001 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_of_the_catalogue_of_crcs() {
        // CRC-32/ISCSI (inverted at the end), CRC-16/ARC and CRC-16/MODBUS.
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(!0, b"1234"), b"56789"), !0xe306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
        assert_eq!(crc16(0xffff, b"123456789"), 0x4b37);
    }
}
