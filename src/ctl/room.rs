//! What removing files would give back to the file system of a share: blocks that no other file has.
//!
//! A file with another name stays; blocks that files share (`testboxctl dedup`, NFS 4.2's copies) go with the last of them.
//! Where the file system does not tell (NFS), the files' own figures are an upper bound.

use super::many;
use super::sets::SetShare;
use crate::block::FileId;
use crate::share::Files;
use crate::store::layout::{HISTORY, disk_of_image, generation, history_dir, is_part_file};
use crate::sys::{EXTENTS, extents};
use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

/// Room that files give back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FreedRoom {
    pub bytes: u64,
    /// The file system has told which blocks they are.
    pub is_exact: bool,
}

/// What goes when the folders `gone` go, paths of the share; `machines` are all that have files there.
pub(super) fn freed(share: &SetShare, machines: &[Ipv4Addr], gone: &HashSet<String>) -> FreedRoom {
    let found: Vec<Vec<FoundFile>> = many::each(machines, |ip| image_files(share, *ip));
    let mut files: HashMap<FileId, (FoundFile, u64, bool)> = HashMap::new();
    for file in found.into_iter().flatten() {
        let goes = gone.contains(&file.folder);
        let (_, names, all_go) = files.entry(file.id).or_insert((file, 0, true));
        *names += 1;
        *all_go &= goes;
    }
    // One with a name somewhere else stays too.
    let goes = |(file, names, all_go): &&(FoundFile, u64, bool)| *all_go && *names >= file.links;
    let (go, stay): (Vec<_>, Vec<_>) = files.values().partition(|file| goes(file));
    let room = go.iter().fold(0u64, |sum, (file, ..)| sum.saturating_add(file.room));
    let blocks = |files: &[&(FoundFile, u64, bool)]| -> io::Result<FileBlocks> {
        let each = many::each(files, |(file, ..)| FileBlocks::of(share, &file.path()));
        each.into_iter().try_fold(FileBlocks::default(), |all, one| Ok(all.and(one?)))
    };
    let told = blocks(&go).and_then(|go| Ok((go, blocks(&stay)?)));
    match told {
        Ok((go, stay)) => {
            let bytes = outside(merged(go.placed), &merged(stay.placed)).saturating_add(go.elsewhere);
            // What a file takes beside its blocks is of its own.
            FreedRoom { bytes: bytes.min(room), is_exact: true }
        }
        Err(_) => FreedRoom { bytes: room, is_exact: go.is_empty() },
    }
}

/// A name of a file.
struct FoundFile {
    folder: String,
    name: String,
    id: FileId,
    links: u64,
    room: u64,
}

impl FoundFile {
    fn new(folder: &str, name: &str, about: &Metadata) -> FoundFile {
        FoundFile {
            folder: folder.to_owned(),
            name: name.to_owned(),
            id: FileId::from(about),
            links: about.nlink(),
            room: about.blocks().saturating_mul(512),
        }
    }

    fn path(&self) -> String {
        format!("{}/{}", self.folder, self.name)
    }
}

/// Images and parts of a machine, of sets without a record too.
fn image_files(share: &SetShare, ip: Ipv4Addr) -> Vec<FoundFile> {
    let folder = share.folder(ip);
    let history = share.files.list(&folder.path(HISTORY)).unwrap_or_default();
    let sets = history.iter().filter_map(|name| generation(name)).map(|n| folder.path(&history_dir(n)));
    let mut files = Vec::new();
    for folder in [folder.path("")].into_iter().chain(sets) {
        let names = share.files.list(&folder).unwrap_or_default();
        for name in names.iter().filter(|name| disk_of_image(name).is_some() || is_part_file(name)) {
            let about = share.files.about(&format!("{folder}/{name}"));
            files.extend(about.ok().map(|about| FoundFile::new(&folder, name, &about)));
        }
    }
    files
}

/// Where the bytes of files lie.
#[derive(Default)]
struct FileBlocks {
    placed: Vec<Range<u64>>,
    /// Bytes whose place cannot be told: nobody shares them.
    elsewhere: u64,
}

impl FileBlocks {
    /// A file that is gone by now has none.
    fn of(share: &SetShare, path: &str) -> io::Result<FileBlocks> {
        let file = match share.files.open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(FileBlocks::default()),
            file => file?,
        };
        let file: &File =
            file.as_any().and_then(|any| any.downcast_ref()).ok_or(io::ErrorKind::Unsupported)?;
        let (mut blocks, mut at) = (FileBlocks::default(), 0);
        loop {
            let found = extents(file, at)?;
            for extent in &found {
                match extent.physical {
                    Some(start) => blocks.placed.push(start..start.saturating_add(extent.length)),
                    None => blocks.elsewhere = blocks.elsewhere.saturating_add(extent.length),
                }
            }
            let end = found.last().map(|last| last.logical.saturating_add(last.length));
            match end.filter(|end| found.len() >= EXTENTS && *end > at) {
                Some(end) => at = end,
                None => break,
            }
        }
        blocks.placed = merged(blocks.placed);
        Ok(blocks)
    }

    fn and(mut self, other: FileBlocks) -> FileBlocks {
        self.placed.extend(other.placed);
        FileBlocks { elsewhere: self.elsewhere.saturating_add(other.elsewhere), ..self }
    }
}

/// The same bytes as ranges that are sorted and apart.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => merged.push(range),
        }
    }
    merged
}

/// Bytes of `ranges` that are in none of `others`; both sorted and apart.
fn outside(ranges: Vec<Range<u64>>, others: &[Range<u64>]) -> u64 {
    let mut bytes = 0;
    for range in ranges {
        let mut at = range.start;
        let first = others.partition_point(|other| other.end <= range.start);
        for other in others.iter().skip(first).take_while(|other| other.start < range.end) {
            bytes += other.start.saturating_sub(at);
            at = at.max(other.end);
        }
        bytes += range.end.saturating_sub(at);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
        proptest::collection::vec((0..60u64, 0..9u64), 0..12)
            .prop_map(|ranges| ranges.into_iter().map(|(start, length)| start..start + length).collect())
    }

    proptest! {
        #[test]
        fn what_is_freed_is_what_nobody_else_has(go in ranges(), stay in ranges()) {
            let bytes = |ranges: &[Range<u64>]| ranges.iter().cloned().flatten().collect::<BTreeSet<u64>>();
            let expected = bytes(&go).difference(&bytes(&stay)).count() as u64;
            prop_assert_eq!(outside(merged(go), &merged(stay)), expected);
        }
    }
}
