//! NVMe: the critical warning of the SMART / Health Information log page (NVM Express Base Specification 2.0,
//! section 5.16.1.3).

use super::Health;
use crate::block::passthrough::DiskFirmware;
use std::io;

/// Log page identifier of SMART / Health Information.
pub const SMART_LOG: u8 = 0x02;
/// Size of the page in bytes.
pub const SMART_LOG_SIZE: usize = 512;

/// Bits of byte 0, the critical warning, that mean that data is, or soon may be, lost. Bit 1 is the temperature, bit 5
/// the persistent memory region, which no disk image holds.
const FAILING: [(u8, &str); 4] = [
    (0, "its spare blocks are used up"),
    (2, "its reliability is degraded by media or internal errors"),
    (3, "its medium is read-only"),
    (4, "the backup of its volatile memory has failed"),
];
const TEMPERATURE: u8 = 1 << 1;

pub(super) fn ask(firmware: &dyn DiskFirmware) -> io::Result<Health> {
    let mut page = [0; SMART_LOG_SIZE];
    firmware.nvme_log(SMART_LOG, &mut page)?;
    Ok(health(page[0]))
}

fn health(warning: u8) -> Health {
    // Not all of the defined bits can be set at once, nor any of the reserved ones: a page of 0xff is no answer.
    if warning == 0xff {
        return Health::default();
    }
    let signs = FAILING.iter().filter(|(bit, _)| warning & 1 << bit != 0).map(|(_, sign)| *sign);
    let signs: Vec<&str> = signs.collect();
    Health {
        failing: (!signs.is_empty()).then(|| format!("NVMe critical warning: {}", signs.join("; "))),
        temperature: warning & TEMPERATURE != 0,
        ..Health::default()
    }
}
