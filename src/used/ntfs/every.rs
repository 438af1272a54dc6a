//! What all files of NTFS use, by their records, where nothing else proves that $Bitmap is right: ntfs-3g writes without
//! a log and without setting the dirty flag, so that a volume looks clean after the machine was cut off.
#![forbid(unsafe_code)]

use super::doubt::doubt;
use super::files::NtfsFiles;
use super::record::{FileRecord, NtfsValue, Wrong};
use super::runs;
use crate::bytes::le;
use crate::used::Doubt;
use crate::used::clusters::Claims;
use std::ops::Range;

/// Most runs that are kept, 64 MiB of memory. More than any volume of a test machine has.
const MOST: usize = 4 << 20;
/// Bytes of the file table that are read at once.
const PIECE: u64 = 1 << 20;

/// The clusters of all files. Two that share one are a doubt as well.
pub(super) fn clusters(files: &NtfsFiles<'_>) -> Result<Claims, Doubt> {
    let len = files.boot.record as u64;
    let records = files.mft.initialized / len;
    let at_once = PIECE / len;
    let mut used = Vec::new();
    let mut first = 0;
    while first < records {
        let count = (records - first).min(at_once);
        let piece = files.read(&files.mft, first * len, (count * len) as usize)?;
        for (number, bytes) in (first..).zip(piece.chunks_exact(len as usize)) {
            add(bytes, files.boot.clusters, &mut used)
                .map_err(|wrong| doubt(format!("file record {number}: {wrong}")))?;
        }
        first += count;
    }
    Claims::new(used).ok_or_else(|| doubt("two files are in the same cluster"))
}

/// The clusters of one record, if it is in use.
fn add(bytes: &[u8], clusters: u64, used: &mut Vec<Range<u64>>) -> Result<(), Wrong> {
    // Never used, or not any more.
    if bytes.starts_with(&[0; 4])
        || bytes.starts_with(b"FILE") && le::u16(bytes, 22).is_some_and(|flags| flags & 1 == 0)
    {
        return Ok(());
    }
    for attribute in FileRecord::new(bytes.to_vec())?.attributes()? {
        let NtfsValue::Extent(extent) = &attribute.value else { continue };
        runs::each(extent, clusters, |_, lcn, len| {
            let Some(lcn) = lcn else { return Ok(()) };
            match used.last_mut() {
                Some(last) if last.end == lcn => last.end += len,
                _ => used.push(lcn..lcn + len),
            }
            if used.len() > MOST { Err("there are too many runs to look at") } else { Ok(()) }
        })?;
    }
    Ok(())
}
