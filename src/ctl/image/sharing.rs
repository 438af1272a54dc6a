//! Which other sets a bad range of an image belongs to, where images of a share have blocks in common.

use super::super::published::{self, OpenedImage, Published};
use super::super::shares::ShareFolder;
use crate::block::FileId;
use crate::image::{Hash, Image, ImageError, MemberKind};
use crate::store::layout::BACKUP_MARKER;
use crate::sys::extents;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

/// Other images that are listed at most.
const LISTED: usize = 100;
/// Folders between an image and the root of its share: machine, `history`, set.
const DEPTH: usize = 3;

/// Words about the other images of the share that have the blocks where this error was found; none where the image is not on
/// a share, or the error has no place.
pub(super) fn who_shares(path: &Path, image: &Image, error: &ImageError) -> String {
    let Some(position) = error.offset.filter(|_| error.is_of_image()) else { return String::new() };
    look(path, image, position).unwrap_or_else(|e| {
        if e.kind() == io::ErrorKind::NotFound {
            return String::new();
        }
        format!("; which other sets have the same blocks cannot be told: {e}")
    })
}

fn look(path: &Path, image: &Image, position: u64) -> io::Result<String> {
    let path = path.canonicalize()?;
    let root = path.ancestors().skip(2).take(DEPTH).find(|folder| folder.join(BACKUP_MARKER).is_file());
    let share = ShareFolder::open(root.ok_or(io::ErrorKind::NotFound)?).map_err(to_io)?;
    let (list, _) = published::all(&share).map_err(to_io)?;
    let file = File::open(&path)?;
    let ours = FileId::of(&file)?;
    let (member, hash) = member_at(image, position);
    let blocks = blocks(&file, &member);
    let has_it = |other: &OpenedImage| match (&blocks, hash) {
        (Ok(blocks), _) => has_blocks(other.file()?, blocks),
        (Err(_), Some(hash)) => Ok(has_member(other, hash)),
        (Err(_), None) => Ok(false),
    };
    let others = list.iter().filter(|other| other.id != ours);
    let sharers: Vec<&Published> = others
        .filter(|other| {
            other.open(&share).ok().flatten().is_some_and(|other| has_it(&other).unwrap_or(false))
        })
        .collect();
    Ok(words(&sharers, blocks.is_ok()))
}

fn words(sharers: &[&Published], by_blocks: bool) -> String {
    let list: Vec<String> = sharers.iter().take(LISTED).map(|other| other.label()).collect();
    let more = match sharers.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let list = list.join("; ");
    match (by_blocks, sharers.is_empty()) {
        (true, true) => "; no other set of this share has the same blocks".into(),
        (true, false) => format!("; the same blocks of the disk belong to {list}{more}: verify them too"),
        (false, true) => String::new(),
        (false, false) => format!(
            "; an equal member is in {list}{more}: whether it is the same blocks this file system does not tell, verify them too"
        ),
    }
}

/// The bytes of the member there, and its hash where it is one with data; a block of the file where it is not of the disk.
fn member_at(image: &Image, position: u64) -> (Range<u64>, Option<Hash>) {
    match image.runs_at(position..position.saturating_add(1)).next() {
        Some(Ok(run)) => {
            let hash = (run.kind == MemberKind::Data).then_some(run.member_hash);
            (run.position..run.position.saturating_add(run.member_length.into()), hash)
        }
        _ => (position..position.saturating_add(4096), None),
    }
}

/// The blocks of the file system in a range of a file.
fn blocks(file: &File, range: &Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut blocks = Vec::new();
    walk(file, range.clone(), &mut |part| {
        blocks.push(part);
        true
    })?;
    Ok(blocks)
}

fn has_blocks(file: &File, blocks: &[Range<u64>]) -> io::Result<bool> {
    let mut found = false;
    walk(file, 0..u64::MAX, &mut |part| {
        found = blocks.iter().any(|block| block.start < part.end && part.start < block.end);
        !found
    })?;
    Ok(found)
}

/// Calls `each` with the blocks of a range until it says no. Blocks whose place the file system does not tell are left out.
fn walk(file: &File, range: Range<u64>, each: &mut dyn FnMut(Range<u64>) -> bool) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let found = extents(file, at)?;
        for extent in &found {
            let end = extent.logical.saturating_add(extent.length);
            let part = extent.logical.max(at)..end.min(range.end);
            if part.is_empty() {
                continue;
            }
            at = part.end;
            let Some(physical) = extent.physical else { continue };
            let start = physical.saturating_add(part.start.saturating_sub(extent.logical));
            if !each(start..start.saturating_add(part.end - part.start)) {
                return Ok(());
            }
        }
        if found.last().is_none_or(|last| last.logical >= range.end || last.length == 0)
            || found.len() < crate::sys::EXTENTS
        {
            return Ok(());
        }
    }
    Ok(())
}

fn has_member(other: &OpenedImage, hash: Hash) -> bool {
    other.image.runs().any(|run| run.is_ok_and(|run| run.member_hash == hash))
}

fn to_io(error: super::super::Error) -> io::Error {
    io::Error::other(error.to_string())
}
