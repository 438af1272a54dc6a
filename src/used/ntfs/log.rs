//! Whether the log of NTFS was closed.
//!
//! The rules are those by which ntfs-3g mounts for writing (its libntfs-3g/logfile.c): the newer of two restart pages
//! says whether anybody had the log open.
#![forbid(unsafe_code)]

use super::doubt::doubt;
use super::files::{NtfsFiles, Stream};
use super::record::fix_up;
use crate::bytes::le;
use crate::used::Doubt;

/// The largest page that a log has.
const LARGEST_PAGE: u64 = 64 << 10;
/// What stands in a list of log clients that is empty.
const NO_CLIENT: u16 = 0xffff;
/// Flag of a restart area.
const VOLUME_IS_CLEAN: u16 = 2;

/// A log that need not be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NtfsLog {
    /// By Windows, after the last change was written.
    Closed,
    /// Full of ones: by a format, or by ntfs-3g when it mounted the volume. It says nothing about what was written
    /// since then.
    Emptied,
}

/// Fails where the log may have to be replayed.
pub(super) fn state(files: &NtfsFiles<'_>, log: &Stream) -> Result<NtfsLog, Doubt> {
    if log.initialized != log.size {
        return Err(doubt("$LogFile was not written as a whole"));
    }
    let head = files.read(log, 0, log.size.min(2 * LARGEST_PAGE) as usize)?;
    judge(&head)
}

/// Of the first 128 KiB of a log, or all of one that is shorter.
fn judge(head: &[u8]) -> Result<NtfsLog, Doubt> {
    if !head.is_empty() && head.iter().all(|byte| *byte == 0xff) {
        return Ok(NtfsLog::Emptied);
    }
    let page = le::u32(head, 16).map(u64::from).filter(|page| page.is_power_of_two());
    let page = page.filter(|page| (512..=LARGEST_PAGE).contains(page));
    let page = page.ok_or_else(|| doubt("$LogFile has no restart page"))? as usize;
    let (first, second) = match (head.get(..page), head.get(page..2 * page)) {
        (Some(first), Some(second)) => (restart(first)?, restart(second)?),
        _ => return Err(doubt("$LogFile is too short")),
    };
    let newest = first.lsn.max(second.lsn);
    if [first, second].iter().any(|restart| restart.lsn == newest && !restart.clean) {
        return Err(doubt(
            "$LogFile was not closed: it was not unmounted; `shutdown /s /t 0` in Windows closes it",
        ));
    }
    Ok(NtfsLog::Closed)
}

/// What a restart page says.
struct Restart {
    /// Number of the last log record.
    lsn: i64,
    clean: bool,
}

fn restart(page: &[u8]) -> Result<Restart, Doubt> {
    let wrong = |why: &str| doubt(format!("a restart page of $LogFile: {why}"));
    let mut page = page.to_vec();
    fix_up(&mut page, b"RSTR").map_err(wrong)?;
    let cut = || wrong("it is cut");
    if le::u32(&page, 16).ok_or_else(cut)? as usize != page.len() || le::u64(&page, 8) != Some(0) {
        return Err(wrong("it is not of this log"));
    }
    // 2.0 is what Windows 8 and later has while it is mounted; unmounting makes it 1.1 again.
    let version = (le::u16(&page, 28).ok_or_else(cut)?, le::u16(&page, 26).ok_or_else(cut)?);
    if version != (1, 1) {
        return Err(wrong(&format!("version {}.{}: Windows has not let go of it", version.0, version.1)));
    }
    let at = usize::from(le::u16(&page, 24).ok_or_else(cut)?);
    let area = page.get(at..).filter(|_| at % 8 == 0 && at >= 30).ok_or_else(cut)?;
    let lsn = le::u64(area, 0).ok_or_else(cut)? as i64;
    let clients = le::u16(area, 8).ok_or_else(cut)?;
    let in_use = le::u16(area, 12).ok_or_else(cut)?;
    let flags = le::u16(area, 14).ok_or_else(cut)?;
    if in_use != NO_CLIENT && in_use >= clients || lsn < 0 {
        return Err(wrong("its restart area is not as it must be"));
    }
    Ok(Restart { lsn, clean: in_use == NO_CLIENT || flags & VOLUME_IS_CLEAN != 0 })
}

#[cfg(test)]
pub(super) mod making {
    /// A restart page as Windows writes it: sequence number of the last log record, open clients, flags, version.
    pub(in crate::used::ntfs) fn page(lsn: u64, in_use: u16, flags: u16, version: (u8, u8)) -> Vec<u8> {
        let mut page = vec![0; 4096];
        page[..4].copy_from_slice(b"RSTR");
        page[4..8].copy_from_slice(&[0x1e, 0, 9, 0]);
        page[16..24].copy_from_slice(&[0, 0x10, 0, 0, 0, 0x10, 0, 0]);
        page[24..30].copy_from_slice(&[0x30, 0, version.1, 0, version.0, 0]);
        page[0x30..0x38].copy_from_slice(&lsn.to_le_bytes());
        page[0x38..0x3c].copy_from_slice(&[1, 0, 0xff, 0xff]);
        page[0x3c..0x3e].copy_from_slice(&in_use.to_le_bytes());
        page[0x3e..0x40].copy_from_slice(&flags.to_le_bytes());
        // The update sequence: number 7 at the end of every 512 bytes.
        page[0x1e] = 7;
        for sector in 1..=8 {
            page[sector * 512 - 2] = 7;
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::making::page;
    use super::*;

    fn log(first: Vec<u8>, second: Vec<u8>) -> Vec<u8> {
        let mut log = [first, second].concat();
        log.resize(128 << 10, 0xff);
        log
    }

    #[test]
    fn a_closed_log_is_clean() {
        for (first, second) in [
            // No client has it open.
            (page(5, NO_CLIENT, 0, (1, 1)), page(4, NO_CLIENT, 0, (1, 1))),
            // Open, but marked clean.
            (page(5, 0, 2, (1, 1)), page(4, 0, 2, (1, 1))),
            // The older page was written while it was open.
            (page(5, NO_CLIENT, 0, (1, 1)), page(4, 0, 0, (1, 1))),
            (page(4, 0, 0, (1, 1)), page(5, NO_CLIENT, 0, (1, 1))),
        ] {
            assert_eq!(judge(&log(first, second)), Ok(NtfsLog::Closed));
        }
        assert_eq!(judge(&[0xff; 128 << 10]), Ok(NtfsLog::Emptied));
    }

    #[test]
    fn everything_else_is_doubted() {
        let good = || page(5, NO_CLIENT, 0, (1, 1));
        let mut torn = good();
        torn[1022] = 8;
        let mut checked = good();
        checked[..4].copy_from_slice(b"CHKD");
        let mut far = good();
        far[24] = 0xff;
        far[25] = 0xff;
        for (first, second, why) in [
            (page(5, 0, 0, (1, 1)), page(4, NO_CLIENT, 0, (1, 1)), "not closed"),
            (page(4, NO_CLIENT, 0, (1, 1)), page(5, 0, 0, (1, 1)), "not closed"),
            (page(5, 0, 0, (1, 1)), page(5, NO_CLIENT, 0, (1, 1)), "not closed"),
            (page(5, NO_CLIENT, 0, (2, 0)), good(), "version 2.0"),
            (good(), page(4, NO_CLIENT, 0, (2, 0)), "version 2.0"),
            (good(), page(4, 3, 0, (1, 1)), "restart area"),
            (good(), vec![0xff; 4096], "mark"),
            (vec![0xff; 4096], good(), "no restart page"),
            (vec![0; 4096], good(), "no restart page"),
            (good(), torn, "only a part"),
            (checked, good(), "mark"),
            (far, good(), "cut"),
        ] {
            let doubt = judge(&log(first, second)).unwrap_err().to_string();
            assert!(doubt.contains(why), "{why}: {doubt}");
        }
        assert!(judge(&good()).unwrap_err().to_string().contains("too short"));
        assert!(judge(&[]).is_err());
    }
}
