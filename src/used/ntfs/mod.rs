//! NTFS 3.0 and 3.1. There is no specification; the layout is that of the Linux-NTFS documentation and of ntfs-3g's
//! include/ntfs-3g/layout.h.
//!
//! Believed where Windows and ntfs-3g would mount it for writing without a word: no dirty flag, the log closed, the
//! copy of the first file records the same, not hibernated, no shadow copies. Then $Bitmap says what is used; the
//! clusters of the file system's own files must be in it, and where the log was emptied, those of all files.
#![forbid(unsafe_code)]

mod boot;
mod doubt;
mod every;
mod files;
mod index;
mod log;
mod memory;
mod record;
mod runs;
mod shadow;
#[cfg(test)]
mod tests;

use super::bits;
use super::clusters::Claims;
use super::{Doubt, Free, Volume, VolumeAbout};
use crate::bytes::le;
use crate::text;
use boot::NtfsBoot;
use doubt::doubt;
use files::{DATA, NtfsContent, NtfsFiles, Stream, in_file};
use log::NtfsLog;

pub(super) use doubt::KIND;
pub use memory::{MemoryFile, memory_files};

/// Numbers of the files that every volume has.
const MFT_MIRROR: u64 = 1;
const LOG_FILE: u64 = 2;
const VOLUME: u64 = 3;
const BITMAP: u64 = 6;
const BOOT: u64 = 7;
/// File records that $MFTMirr repeats, whatever else it has.
const MIRRORED: u64 = 4;
/// Attributes of $Volume.
const VOLUME_NAME: u32 = 0x60;
const VOLUME_INFORMATION: u32 = 0x70;
/// A flag that volumes of Windows 8 and later often have. Nobody has written down what it means (libfsntfs lists it as
/// unknown); every other driver mounts such volumes for writing.
const HARMLESS: u16 = 0x0080;
/// Bytes of $Bitmap that are read at once.
const PIECE: u64 = 1 << 20;

/// The clusters whose bit is clear in $Bitmap.
///
/// # Errors
/// Why the file system is imaged whole.
pub fn parse(volume: &Volume<'_>, free: &mut Free) -> Result<Option<VolumeAbout>, Doubt> {
    let Some(boot) = NtfsBoot::read(volume)? else { return Ok(None) };
    let files = NtfsFiles::open(volume, boot)?;
    let own = Own::open(&files)?;
    mirror_agrees(&files, &own.mirror)?;
    let label = volume_is_clean(&files)?;
    let log = log::state(&files, &own.log)?;
    memory::must_not_hibernate(&files)?;
    shadow::must_be_none(volume)?;
    let claims = match log {
        NtfsLog::Closed => own.claims,
        NtfsLog::Emptied => every::clusters(&files)?,
    };
    read_bitmap(&files, &own.bitmap, &claims, files.boot.end_of_free(volume), free)?;
    files.boot.copy_fits(volume)?;
    Ok(Some(VolumeAbout { kind: KIND, label }))
}

/// The files that NTFS needs for itself.
struct Own {
    mirror: Stream,
    log: Stream,
    bitmap: Stream,
    /// The clusters of these, of $MFT and of $Boot.
    claims: Claims,
}

impl Own {
    fn open(files: &NtfsFiles<'_>) -> Result<Self, Doubt> {
        let file = |number| files.stream(number, DATA, b"");
        let (mirror, log, bitmap, boot) = (file(MFT_MIRROR)?, file(LOG_FILE)?, file(BITMAP)?, file(BOOT)?);
        if boot.runs.first().is_none_or(|run| run.lcn != 0) {
            return Err(in_file(BOOT, "it is not at the beginning"));
        }
        let all = [&files.mft, &mirror, &log, &bitmap, &boot];
        let claims = Claims::new(all.into_iter().flat_map(Stream::clusters).collect());
        let claims = claims.ok_or_else(|| doubt("two of its own files are in the same cluster"))?;
        Ok(Own { mirror, log, bitmap, claims })
    }
}

/// The first file records are there twice; a difference is an interrupted write.
fn mirror_agrees(files: &NtfsFiles<'_>, mirror: &Stream) -> Result<(), Doubt> {
    if mirror.runs.first().is_none_or(|run| run.lcn != files.boot.mirror) {
        return Err(doubt("$MFTMirr does not begin where the boot sector says"));
    }
    let len = files.boot.record;
    for number in 0..MIRRORED {
        let copy = files.read(mirror, number * len as u64, len)?;
        let copy = record::FileRecord::new(copy)
            .map_err(|wrong| doubt(format!("$MFTMirr, record {number}: {wrong}")))?;
        if files.record(number)?.used() != copy.used() {
            return Err(doubt(format!("record {number} of $MFTMirr is not that of $MFT")));
        }
    }
    Ok(())
}

/// Checks version and flags, and gives the label.
fn volume_is_clean(files: &NtfsFiles<'_>) -> Result<Option<String>, Doubt> {
    let Some(NtfsContent::Resident(information)) = files.attribute(VOLUME, VOLUME_INFORMATION, b"")? else {
        return Err(in_file(VOLUME, "it says nothing about the volume"));
    };
    let (Some(major), Some(minor), Some(flags)) =
        (le::u8(&information, 8), le::u8(&information, 9), le::u16(&information, 10))
    else {
        return Err(in_file(VOLUME, "it is cut"));
    };
    if major != 3 || minor > 1 {
        return Err(doubt(format!("version {major}.{minor}")));
    }
    if flags & 1 != 0 {
        return Err(doubt("it is dirty: chkdsk has to look at it (`chkdsk X: /f` in Windows)"));
    }
    if flags & !HARMLESS != 0 {
        return Err(doubt(format!("volume flags {flags:#06x}")));
    }
    Ok(match files.attribute(VOLUME, VOLUME_NAME, b"")? {
        Some(NtfsContent::Resident(name)) => text::utf16_label(&name),
        _ => None,
    })
}

fn read_bitmap(
    files: &NtfsFiles<'_>,
    bitmap: &Stream,
    claims: &Claims,
    end: u64,
    free: &mut Free,
) -> Result<(), Doubt> {
    let (count, cluster) = (files.boot.clusters, files.boot.cluster);
    let need = count.div_ceil(8);
    if bitmap.size < need || bitmap.initialized != bitmap.size {
        return Err(doubt(format!("$Bitmap has {} bytes for {count} clusters", bitmap.initialized)));
    }
    let mut done = 0;
    let mut clash = false;
    while done < need {
        let bits = files.read(bitmap, done, (need - done).min(PIECE) as usize)?;
        for run in bits::zeros_from(&bits, done * 8, count) {
            clash |= claims.touch(&run);
            free.add(run.start * cluster..(run.end * cluster).min(end));
        }
        done += bits.len() as u64;
    }
    if clash {
        return Err(doubt("$Bitmap calls clusters free that a file uses"));
    }
    Ok(())
}
