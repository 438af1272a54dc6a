//! The images of a share, as [`super::sharer`] works on them.

use super::super::published::{OpenedImage, Published};
use super::super::shares::{BTRFS, ShareFolder};
use super::sharer::Images;
use super::table::{SeenMember, Spot};
use crate::image::MemberKind;
use crate::share::ownership::PRIVATE_FILE;
use crate::sys::{self, Deduped, FileExtent};
use crate::text::with_sources;
use rustix::fs::{Mode, OFlags};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// Images that are open at a time.
const OPEN: usize = 200;
/// Bytes that are written anew at a time.
const STEP: u64 = 16 << 20;
/// Members that are read from an index at a time.
const BATCH: usize = 1500;

/// All images of a share by their number in the list, opened when they are needed.
pub(super) struct ShareImages<'a> {
    share: &'a ShareFolder,
    list: &'a [Published],
    opened: RefCell<VecDeque<(usize, Rc<OpenedImage>)>>,
    frees_whole_extents: bool,
}

impl<'a> ShareImages<'a> {
    pub fn new(share: &'a ShareFolder, list: &'a [Published]) -> Self {
        let frees_whole_extents = share.magic().is_ok_and(|magic| magic == BTRFS);
        ShareImages { share, list, opened: RefCell::default(), frees_whole_extents }
    }

    /// `NotFound` for one that is removed by now.
    fn get(&self, image: usize) -> io::Result<Rc<OpenedImage>> {
        let mut opened = self.opened.borrow_mut();
        if let Some((_, known)) = opened.iter().find(|(number, _)| *number == image) {
            return Ok(known.clone());
        }
        let published = self.list.get(image).ok_or(io::ErrorKind::NotFound)?;
        let new =
            Rc::new(published.open(self.share).map_err(io::Error::other)?.ok_or(io::ErrorKind::NotFound)?);
        opened.truncate(OPEN - 1);
        opened.push_front((image, new.clone()));
        Ok(new)
    }
}

/// Parts of an image that are copied behind each other into a file without a name, and then shared with the image: one
/// extent, all of which is needed.
struct FreshBlocks<'a> {
    opened: &'a OpenedImage,
    copy: &'a File,
    parts: Vec<Range<u64>>,
    length: u64,
}

impl FreshBlocks<'_> {
    fn add(&mut self, part: Range<u64>) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(part.end - part.start).unwrap_or(usize::MAX)];
        self.opened.read(&mut bytes, part.start)?;
        self.copy.write_all_at(&bytes, self.length)?;
        self.length += bytes.len() as u64;
        self.parts.push(part);
        Ok(())
    }

    /// Shares them, and begins anew with an empty file: what the image has of it stays.
    ///
    /// The old blocks are given up for these: so the kernel compares what the disk gives of them, not what was to be written.
    fn finish(&mut self) -> io::Result<()> {
        self.copy.sync_all()?;
        sys::drop_cached(self.copy, 0, None)?;
        let mut at = 0;
        for part in self.parts.drain(..) {
            let mut done = part.start;
            while done < part.end {
                let (from, to) = ((self.copy, at), (self.opened.file()?, done));
                match sys::dedupe(from, to, part.end - done)? {
                    Deduped::Shared(bytes) if bytes > 0 => (done, at) = (done + bytes, at + bytes),
                    _ => {
                        return Err(io::Error::other(
                            "a copy of it, made to free what is shared, differs from it",
                        ));
                    }
                }
            }
        }
        self.length = 0;
        self.copy.set_len(0)
    }
}

/// A file on the share that nobody sees, and that is gone with this process.
fn unnamed_file(share: &ShareFolder) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(&share.path, flags, Mode::from_raw_mode(PRIVATE_FILE))?.into())
}

impl Images for ShareImages<'_> {
    fn members(&self, image: usize, from: u64) -> Result<Vec<SeenMember>, String> {
        let opened = match self.get(image) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(|e| e.to_string())?,
        };
        let runs = opened.image.runs_at(from..u64::MAX);
        let data = runs.filter(|run| run.as_ref().map_or(true, |run| run.kind == MemberKind::Data));
        let members = data.take(BATCH).map(|run| {
            run.map(|run| SeenMember {
                hash: *run.member_hash.as_bytes(),
                position: run.position,
                length: run.member_length.into(),
            })
        });
        members.collect::<Result<_, _>>().map_err(|e| with_sources(&e))
    }

    fn extents(&self, image: usize, from: u64) -> io::Result<Vec<FileExtent>> {
        sys::extents(self.get(image)?.file()?, from)
    }

    fn dedupe(&self, from: Spot, to: Spot, length: u64) -> io::Result<Deduped> {
        let (source, target) = (self.get(from.image)?, self.get(to.image)?);
        sys::dedupe((source.file()?, from.position), (target.file()?, to.position), length)
    }

    fn is_whole(&self, image: usize, member: &SeenMember) -> io::Result<bool> {
        let mut bytes = vec![0; usize::try_from(member.length).map_err(|_| io::ErrorKind::FileTooLarge)?];
        self.get(image)?.read(&mut bytes, member.position)?;
        Ok(*blake3::hash(&bytes).as_bytes() == member.hash)
    }

    fn frees_whole_extents(&self) -> bool {
        self.frees_whole_extents
    }

    fn rewrite(&self, image: usize, ranges: &[Range<u64>]) -> io::Result<()> {
        let (opened, copy) = (self.get(image)?, unnamed_file(self.share)?);
        let mut fresh = FreshBlocks { opened: &opened, copy: &copy, parts: Vec::new(), length: 0 };
        for range in ranges {
            let mut at = range.start;
            while at < range.end {
                let part = at..range.end.min(at + STEP);
                at = part.end;
                if fresh.length + (part.end - part.start) > STEP {
                    fresh.finish()?;
                }
                fresh.add(part)?;
            }
        }
        fresh.finish()
    }
}
