//! ATA: IDENTIFY DEVICE, SMART RETURN STATUS and the native maximum address (ACS-3, T13/2161-D; the host protected
//! area and the device configuration overlay are ATA8-ACS, T13/1699-D), carried by ATA PASS-THROUGH (16) (SAT-3,
//! T10/2126-D, section 12.2.3).

use super::Health;
use crate::block::passthrough::DiskFirmware;
use crate::bytes::le16;
use std::io;

/// Bytes of the data that IDENTIFY DEVICE and DEVICE CONFIGURATION IDENTIFY give: 256 little-endian words.
pub const PAGE: usize = 512;

/// An ATA command: all the fields that testbox sets; the others are 0.
#[derive(Clone, Copy, Debug, Default)]
struct AtaCommand {
    command: u8,
    feature: u8,
    /// Bits 23:8 of the LBA field: the key that SMART commands want.
    lba_key: u16,
    device: u8,
    /// The 48-bit form.
    is_ext: bool,
    /// It sends one page of data; else what counts are the registers that it leaves.
    is_read: bool,
}

const IDENTIFY: AtaCommand = AtaCommand { command: 0xec, is_read: true, ..AtaCommand::EMPTY };
const SMART_RETURN_STATUS: AtaCommand =
    AtaCommand { command: 0xb0, feature: 0xda, lba_key: SMART_PASSED, ..AtaCommand::EMPTY };
const READ_NATIVE_MAX: AtaCommand = AtaCommand { command: 0xf8, device: LBA_MODE, ..AtaCommand::EMPTY };
const READ_NATIVE_MAX_EXT: AtaCommand =
    AtaCommand { command: 0x27, device: LBA_MODE, is_ext: true, ..AtaCommand::EMPTY };
/// ACCESSIBLE MAX ADDRESS CONFIGURATION with the feature GET NATIVE MAX ADDRESS EXT (0000h).
const GET_NATIVE_MAX_EXT: AtaCommand =
    AtaCommand { command: 0x78, device: LBA_MODE, is_ext: true, ..AtaCommand::EMPTY };
/// DEVICE CONFIGURATION OVERLAY with the feature DEVICE CONFIGURATION IDENTIFY.
const OVERLAY_IDENTIFY: AtaCommand =
    AtaCommand { command: 0xb1, feature: 0xc2, is_read: true, ..AtaCommand::EMPTY };

/// Bit 6 of the device field.
const LBA_MODE: u8 = 0x40;
/// LBA bits 23:8 that SMART RETURN STATUS is given, and gives back where no threshold is exceeded.
const SMART_PASSED: u16 = 0xc24f;
/// The same where one is.
const SMART_EXCEEDED: u16 = 0x2cf4;

impl AtaCommand {
    const EMPTY: AtaCommand =
        AtaCommand { command: 0, feature: 0, lba_key: 0, device: 0, is_ext: false, is_read: false };

    /// The command descriptor block.
    fn descriptor(&self) -> [u8; 16] {
        let mut block = [0; 16];
        block[0] = 0x85;
        // PIO Data-In, or Non-Data.
        let protocol: u8 = if self.is_read { 4 } else { 3 };
        block[1] = protocol << 1 | u8::from(self.is_ext);
        // T_DIR from the device, BYT_BLOK blocks, T_LENGTH in the count field; else CK_COND: give the registers back.
        block[2] = if self.is_read { 0b0000_1110 } else { 0b0010_0000 };
        block[4] = self.feature;
        block[6] = u8::from(self.is_read);
        [block[10], block[12]] = self.lba_key.to_le_bytes();
        block[13] = self.device;
        block[14] = self.command;
        block
    }

    /// The page that a reading command gives.
    fn read(&self, firmware: &dyn DiskFirmware) -> io::Result<LogPage> {
        let mut bytes = [0; PAGE];
        let sense = firmware.ata(&self.descriptor(), &mut bytes)?;
        // With sense data there is an error, or nothing was done: RECOVERED ERROR (1) and NO SENSE (0) go with data.
        match sense_key(&sense) {
            None | Some(0 | 1) => Ok(LogPage(bytes)),
            Some(key) => Err(io::Error::other(format!("sense key {key:#x}"))),
        }
    }

    /// The registers that another one leaves; `None` where the disk does not know the command.
    fn registers(&self, firmware: &dyn DiskFirmware) -> Option<Registers> {
        registers(&firmware.ata(&self.descriptor(), &mut []).ok()?)
    }
}

/// What an ATA command leaves in the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registers {
    /// 48 bits.
    lba: u64,
    device: u8,
}

/// The sense key (SPC-4, section 4.5), in both formats of sense data.
fn sense_key(sense: &[u8]) -> Option<u8> {
    match sense.first()? & 0x7f {
        0x70 | 0x71 => Some(sense.get(2)? & 0xf),
        0x72 | 0x73 => Some(sense.get(1)? & 0xf),
        _ => None,
    }
}

/// The ATA registers in sense data: the ATA Status Return descriptor (SAT-3, section 12.2.2.6), or the fixed format
/// (section 12.2.2.7), which has room for 28 bits of LBA and is `None` where it had to cut more. `None` too where the
/// ATA status is an error.
fn registers(sense: &[u8]) -> Option<Registers> {
    let byte = |at: usize| sense.get(at).copied();
    let lba = |bytes: [u8; 6]| bytes.iter().fold(0, |lba, b| lba << 8 | u64::from(*b));
    let (registers, status) = match byte(0)? & 0x7f {
        0x72 => {
            let mut at = 8;
            let end = (at + usize::from(byte(7)?)).min(sense.len());
            let d = loop {
                let descriptor = sense.get(at..end)?;
                let whole = descriptor.get(..2 + usize::from(*descriptor.get(1)?))?;
                if whole[0] == 0x09 && whole.len() == 14 {
                    break whole;
                }
                at += whole.len();
            };
            // With EXTEND 0 the upper bytes mean nothing.
            let is_ext = d[2] & 1 != 0;
            let upper = |b: u8| if is_ext { b } else { 0 };
            let lba = lba([upper(d[10]), upper(d[8]), upper(d[6]), d[11], d[9], d[7]]);
            (Registers { lba, device: d[12] }, d[13])
        }
        // ATA PASS-THROUGH INFORMATION AVAILABLE: in any other fixed sense these bytes are something else.
        0x70 if (byte(12)?, byte(13)?) == (0x00, 0x1d) => {
            const LBA_UPPER_NONZERO: u8 = 1 << 5;
            if byte(8)? & LBA_UPPER_NONZERO != 0 {
                return None;
            }
            (Registers { lba: lba([0, 0, 0, byte(11)?, byte(10)?, byte(9)?]), device: byte(5)? }, byte(4)?)
        }
        _ => return None,
    };
    // DF and ERR of the status field.
    (status & 0x21 == 0).then_some(registers)
}

/// 256 words of identify data.
struct LogPage([u8; PAGE]);

impl LogPage {
    fn word(&self, n: usize) -> u16 {
        le16(&self.0, 2 * n)
    }

    fn bit(&self, word: usize, bit: u32) -> bool {
        self.word(word) >> bit & 1 != 0
    }

    /// A number of `words` words, the lowest first.
    fn number(&self, first: usize, words: usize) -> u64 {
        (first..first + words).rev().fold(0, |n, word| n << 16 | u64::from(self.word(word)))
    }

    /// False where the checksum of word 255 is there and wrong: its low byte is then A5h, and all bytes add up to 0.
    fn is_sound(&self) -> bool {
        self.0[510] != 0xa5 || self.0.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)) == 0
    }

    /// True for a disk's IDENTIFY DEVICE data: bit 15 of word 0 is clear, but for CompactFlash.
    fn is_identify(&self) -> bool {
        let kind = self.word(0);
        self.is_sound() && self.0.iter().any(|b| *b != 0) && (kind & 1 << 15 == 0 || kind == 0x848a)
    }

    /// A feature word, 0 where the disk does not fill it: the last word of each group carries 01b in bits 15:14.
    fn feature(&self, word: usize, last_of_group: usize) -> u16 {
        if self.word(last_of_group) >> 14 == 0b01 { self.word(word) } else { 0 }
    }

    /// Words 82 to 84: what it can.
    fn supports(&self, word: usize, bit: u32) -> bool {
        self.feature(word, 83) >> bit & 1 != 0
    }

    fn has_smart(&self) -> bool {
        self.supports(82, 0) && self.feature(85, 87) & 1 != 0
    }

    fn has_48_bits(&self) -> bool {
        self.supports(83, 10)
    }

    fn has_host_protected_area(&self) -> bool {
        self.supports(82, 10)
    }

    fn has_overlay(&self) -> bool {
        self.supports(83, 11)
    }

    fn has_accessible_max(&self) -> bool {
        self.bit(86, 15) && self.feature(119, 119) >> 8 & 1 != 0
    }

    /// Word 128, the security status: supported, enabled and locked.
    fn is_locked(&self) -> bool {
        self.word(128) & 0b111 == 0b111
    }

    fn is_frozen(&self) -> bool {
        self.word(128) & 0b1001 == 0b1001
    }

    /// Bytes of a logical sector: 512, or words 117 and 118 in units of a word.
    fn sector(&self) -> u64 {
        let is_longer = self.feature(106, 106) >> 12 & 1 != 0;
        if is_longer { self.number(117, 2).saturating_mul(2) } else { 512 }
    }

    /// Sectors that it shows.
    fn sectors(&self) -> u64 {
        if self.has_48_bits() { self.number(100, 4) } else { self.number(60, 2) }
    }
}

pub(super) fn ask(firmware: &dyn DiskFirmware, size: u64) -> io::Result<Health> {
    let identify = IDENTIFY.read(firmware)?;
    if !identify.is_identify() {
        return Err(io::Error::other("its identify data is not that of a disk"));
    }
    let is_exceeded = || match (SMART_RETURN_STATUS.registers(firmware)?.lba >> 8) as u16 {
        SMART_EXCEEDED => Some(true),
        SMART_PASSED => Some(false),
        _ => None,
    };
    let is_failing = identify.has_smart() && is_exceeded() == Some(true);
    Ok(Health {
        failing: is_failing.then(|| "SMART: a threshold is exceeded".to_owned()),
        locked: identify.is_locked(),
        frozen: identify.is_frozen(),
        hidden: hidden(firmware, &identify, size),
        ..Health::default()
    })
}

/// Bytes that the disk has beyond the `size` that the kernel sees; 0 where that is not the size that it shows: then
/// somebody in between makes disks of his own.
fn hidden(firmware: &dyn DiskFirmware, identify: &LogPage, size: u64) -> u64 {
    let (sectors, sector) = (identify.sectors(), identify.sector());
    if sectors.checked_mul(sector) != Some(size) {
        return 0;
    }
    let native = match () {
        () if identify.has_accessible_max() => GET_NATIVE_MAX_EXT.registers(firmware).map(|r| r.lba),
        () if !identify.has_host_protected_area() => None,
        () if identify.has_48_bits() => READ_NATIVE_MAX_EXT.registers(firmware).map(|r| r.lba),
        // 28 bits: the upper four are in the device register.
        () => {
            READ_NATIVE_MAX.registers(firmware).map(|r| r.lba & 0xff_ffff | u64::from(r.device & 0xf) << 24)
        }
    };
    let overlay = || {
        let page = OVERLAY_IDENTIFY.read(firmware).ok()?;
        // Words 3 to 6: the highest address that the factory made.
        page.is_sound().then(|| page.number(3, 4)).filter(|lba| *lba < 1 << 48)
    };
    let overlay = if identify.has_overlay() { overlay() } else { None };
    let highest = native.max(overlay).unwrap_or(0);
    (highest + 1).saturating_sub(sectors).saturating_mul(sector)
}
