//! The files in which Windows keeps memory: what stands in them is worth nothing after a boot, unless it hibernates.
#![forbid(unsafe_code)]

use super::boot::NtfsBoot;
use super::doubt::doubt;
use super::files::{DATA, NtfsContent, NtfsFiles, Stream, in_file, split};
use super::{every, index};
use crate::used::{Doubt, Volume};
use std::ops::Range;

pub(super) const HIBERNATION: &str = "hiberfil.sys";
const NAMES: [&str; 3] = ["pagefile.sys", "swapfile.sys", HIBERNATION];
/// The first bytes of a hibernation file, which say what is in it.
const HIBERNATION_HEADER: usize = 4096;
/// Bytes at the head of each file that are never left out: there Windows looks whether it is hibernated, or has a crash
/// dump to save. Left out, the disk's older state would answer, and wake a machine that does not fit its files.
const HEAD: u64 = 64 << 10;

/// A file for memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryFile {
    /// Its name, in lower case.
    pub name: &'static str,
    /// What of its content may be left out: bytes of the volume.
    pub ranges: Vec<Range<u64>>,
}

/// pagefile.sys, swapfile.sys and hiberfil.sys in the root directory of a volume that `parse` vouches for. The files
/// stay; of what is in them only the first 64 KiB are worth anything, because Windows is not hibernated.
///
/// # Errors
/// Where one of them cannot be followed, or any two files of the volume share a cluster.
pub fn memory_files(volume: &Volume<'_>) -> Result<Vec<MemoryFile>, Doubt> {
    let Some(boot) = NtfsBoot::read(volume)? else { return Ok(Vec::new()) };
    let files = NtfsFiles::open(volume, boot)?;
    let (cluster, end) = (files.boot.cluster, files.boot.end_of_free(volume));
    let mut found = Vec::new();
    for (which, reference) in index::in_root(&files, &NAMES)? {
        let stream = content(&files, reference)?.unwrap_or_default();
        let ranges = stream.runs.iter().filter_map(|run| {
            let head = HEAD.saturating_sub(run.vcn.saturating_mul(cluster));
            let range = (run.lcn * cluster).saturating_add(head)..((run.lcn + run.len) * cluster).min(end);
            (range.start < range.end).then_some(range)
        });
        found.push(MemoryFile {
            name: NAMES.get(which).copied().unwrap_or_default(),
            ranges: ranges.collect(),
        });
    }
    // $Bitmap says only that somebody uses a cluster: nobody else may lose what is in these.
    if !found.is_empty() {
        every::clusters(&files)?;
    }
    Ok(found)
}

/// The data of one of these files; `None` where it is not in clusters.
fn content(files: &NtfsFiles<'_>, reference: u64) -> Result<Option<Stream>, Doubt> {
    let (number, sequence) = split(reference);
    if files.record(number)?.sequence != sequence {
        return Err(in_file(number, "it is not the one that the root directory means"));
    }
    match files.attribute(number, DATA, b"")? {
        Some(NtfsContent::Stream(stream)) if stream.flags == 0 => Ok(Some(stream)),
        Some(NtfsContent::Stream(_)) => Err(in_file(number, "it is compressed, sparse or encrypted")),
        Some(NtfsContent::Resident(_)) | None => Ok(None),
    }
}

/// A hibernated Windows, and one that shuts down for a fast start, goes on with what it knows about the volume. Its file
/// must be empty of anything; ntfs-3g looks for two of the words that may stand in it.
pub(super) fn must_not_hibernate(files: &NtfsFiles<'_>) -> Result<(), Doubt> {
    for (_, reference) in index::in_root(files, &[HIBERNATION])? {
        // A short one is what a hibernated Windows leaves on its other volumes.
        let stream = content(files, reference)?.filter(|stream| stream.size >= HIBERNATION_HEADER as u64);
        let stream = stream.ok_or_else(|| {
            doubt("Windows may be hibernated: hiberfil.sys is short; `powercfg /h off` in Windows removes it")
        })?;
        if stream.initialized != 0
            && files.read(&stream, 0, HIBERNATION_HEADER)?.iter().any(|byte| *byte != 0)
        {
            return Err(doubt(
                "Windows is hibernated or in a fast start, or was: hiberfil.sys is in use; `powercfg /h off` in Windows \
                 removes it",
            ));
        }
    }
    Ok(())
}
