//! Unpack: the disk of an image into anything that can be written at any place.
#![forbid(unsafe_code)]

use crate::image::error::{ImageError, ImageOp};
use crate::image::format::member::MemberKind;
use crate::image::group::RunGroups;
use crate::image::parallel::{for_each, io_threads};
use crate::image::reader::{Image, Summary};
use crate::image::verify::count;
use crate::image::workspace::Workspace;
use crate::io::is_zero;
use crate::progress::Progress;
use std::ops::Range;

/// Blocks of the disk that are left out where all of them is zero.
const BLOCK: u64 = 4096;

/// Calls `write` for all bytes of the disk that are not zero, in about the order of the disk, from several threads: in pieces
/// that begin and end at multiples of 4096 bytes of the disk, or with a run. Each member is checked against its hash first.
/// What the disk did not give is left out as zeros are.
///
/// `threads` that inflate; 0 is one per core. Progress counts bytes of disk, without those that are unallocated.
///
/// # Errors
/// The image is damaged or cannot be read; those of `write`; cancelled.
pub fn unpack(
    image: &Image,
    threads: usize,
    progress: &Progress,
    write: impl Fn(&[u8], u64) -> std::io::Result<()> + Sync,
) -> Result<(), ImageError> {
    let Summary { disk, unallocated, .. } = image.summary();
    progress.start(disk.saturating_sub(unallocated));
    let groups = RunGroups::new(image.runs());
    for_each(
        groups,
        io_threads(threads),
        progress,
        || Workspace::new(image),
        |space, group| {
            if group.runs().iter().any(|run| run.kind == MemberKind::Data) {
                space.read_members(image, &group)?;
            }
            for run in group.runs() {
                if run.kind == MemberKind::Data {
                    let raw = space.inflate_member(run)?;
                    for part in filled(raw, run.offset) {
                        let at = run.offset + part.start as u64;
                        write(&raw[part], at).map_err(|e| ImageError::sink(ImageOp::Write, at, e))?;
                    }
                }
                count(progress, run);
            }
            Ok(())
        },
    )
}

/// The parts of these bytes, the first of which is byte `offset` of the disk, that lie in blocks with something in them.
fn filled(raw: &[u8], offset: u64) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        let left = (BLOCK - (offset + at as u64) % BLOCK) as usize;
        let end = raw.len().min(at + left);
        if !is_zero(&raw[at..end]) {
            match parts.last_mut().filter(|last| last.end == at) {
                Some(last) => last.end = end,
                None => parts.push(at..end),
            }
        }
        at = end;
    }
    parts
}
