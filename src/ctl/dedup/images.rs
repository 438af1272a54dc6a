//! The images of a share, as [`super::sharer`] works on them.

use super::super::published::{OpenedImage, Published};
use super::super::shares::ShareFolder;
use super::sharer::Images;
use super::table::{SeenMember, Spot};
use crate::image::MemberKind;
use crate::sys::{self, Deduped, FileExtent};
use crate::text::with_sources;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// Images that are open at a time.
const OPEN: usize = 200;
/// Members that are read from an index at a time.
const BATCH: usize = 1500;

/// All images of a share by their number in the list, opened when they are needed.
pub(super) struct ShareImages<'a> {
    share: &'a ShareFolder,
    list: &'a [Published],
    opened: RefCell<VecDeque<(usize, Rc<OpenedImage>)>>,
}

impl<'a> ShareImages<'a> {
    pub fn new(share: &'a ShareFolder, list: &'a [Published]) -> Self {
        ShareImages { share, list, opened: RefCell::default() }
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
}
