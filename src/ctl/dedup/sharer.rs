//! Which members are shared with which: image by image, in the order of the list, members in the order of the file.
//!
//! The first copies of a member stay as they are, with their blocks; later ones are made to be those blocks. So the oldest set
//! is the source, and of a share that was looked at before only new sets change: with the newest as the source, every older set
//! would be moved with every backup.

use super::places::{Overlap, Places};
use super::rest::{append, rest};
use super::table::{SeenMember, Spot, Table};
use crate::progress::Progress;
use crate::sys::{Deduped, EXTENTS, FileExtent};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;

/// Most bytes that one call shares: what every file system takes, and files are not locked long.
const LONGEST: u64 = 16 << 20;
/// Most damaged members that are listed.
const LISTED: usize = 1000;

/// What the work is done on: the images of a share, by number, or a model of them in a test.
pub(super) trait Images {
    /// Some data members of an image from this byte of its file on, in order; none at its end.
    fn members(&self, image: usize, from: u64) -> Result<Vec<SeenMember>, String>;
    /// As [`crate::sys::extents`].
    fn extents(&self, image: usize, from: u64) -> io::Result<Vec<FileExtent>>;
    /// As [`crate::sys::dedupe`].
    fn dedupe(&self, from: Spot, to: Spot, length: u64) -> io::Result<Deduped>;
    /// Whether the bytes there are what the hash says.
    fn is_whole(&self, image: usize, member: &SeenMember) -> io::Result<bool>;
    /// Whether the file system frees whole extents only.
    fn frees_whole_extents(&self) -> bool;
    /// Lets these ranges of an image be new blocks with the same bytes.
    fn rewrite(&self, image: usize, ranges: &[Range<u64>]) -> io::Result<()>;
}

/// Bytes of members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Were shared with an earlier image already.
    pub before: u64,
    /// Have been shared now.
    pub now: u64,
    /// Are equal to those of an earlier image, and are not shared: nothing was to be done, or the file system refuses.
    pub could: u64,
}

/// Neighbours that are to be shared with neighbours.
struct Stretch {
    from: Spot,
    to: Spot,
    length: u64,
    members: Vec<SeenMember>,
}

/// The work, and what it has found.
pub(super) struct Sharer<'a> {
    images: &'a dyn Images,
    progress: &'a Progress,
    table: Table,
    places: Places,
    /// Copies of each member that stay.
    copies: u64,
    /// Share nothing.
    is_dry: bool,
    stretch: Option<Stretch>,
    /// Members behind the one that was found last, where the table is sampled.
    ahead: (usize, VecDeque<SeenMember>),
    totals: Totals,
    /// What of this image has been shared now, and what was before.
    shared: [Vec<Range<u64>>; 2],
    /// Some of it is shared with other members of the same image.
    is_own_source: bool,
    /// Why the file system shares nothing.
    pub refused: Option<io::Error>,
    /// Members whose bytes are not what their index says.
    pub damaged: Vec<Spot>,
    /// What could not be shared, to which, how long, and why.
    pub failed: Vec<(Spot, Spot, u64, io::Error)>,
}

impl<'a> Sharer<'a> {
    /// `copies` of each member stay where there are so many; where `is_dry`, nothing is shared.
    pub fn new(
        images: &'a dyn Images,
        table: Table,
        copies: u64,
        is_dry: bool,
        progress: &'a Progress,
    ) -> Self {
        Sharer {
            images,
            progress,
            table,
            places: Places::default(),
            copies,
            is_dry,
            stretch: None,
            ahead: (0, VecDeque::new()),
            totals: Totals::default(),
            shared: Default::default(),
            is_own_source: false,
            refused: None,
            damaged: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Shares what an image has that earlier ones have too.
    ///
    /// # Errors
    /// Its index cannot be read; what came before that is done.
    pub fn share_image(&mut self, image: usize) -> (Totals, Result<(), String>) {
        self.totals = Totals::default();
        self.shared = Default::default();
        self.is_own_source = false;
        let extents =
            if self.images.frees_whole_extents() && !self.is_dry { self.extents(image) } else { Vec::new() };
        let walked = self.walk(image);
        self.finish_stretch();
        let [now, before] = std::mem::take(&mut self.shared);
        self.rewrite(image, &rest(&extents, &now, &before));
        (self.totals, walked)
    }

    /// All extents of an image; what the file system does not tell is none.
    fn extents(&self, image: usize) -> Vec<Range<u64>> {
        let mut all: Vec<Range<u64>> = Vec::new();
        loop {
            let from = all.last().map_or(0, |last| last.end);
            let Ok(found) = self.images.extents(image, from) else { return all };
            all.extend(
                found.iter().map(|extent| extent.logical..extent.logical.saturating_add(extent.length)),
            );
            if found.len() < EXTENTS || all.last().is_none_or(|last| last.end <= from) {
                return all;
            }
        }
    }

    fn rewrite(&mut self, image: usize, ranges: &[Range<u64>]) {
        let Some(first) = ranges.first() else { return };
        if let Err(e) = self.images.rewrite(image, ranges) {
            let spot = Spot { image, position: first.start };
            self.failed.push((spot, spot, first.end - first.start, e));
        }
        self.places.forget(image);
        if self.is_own_source {
            // Members that are its own twice: they are still the old blocks of what was written anew.
            let totals = self.totals;
            // That the index can be read it has just shown.
            let _ = self.walk(image);
            self.finish_stretch();
            self.totals = totals;
        }
    }

    fn walk(&mut self, image: usize) -> Result<(), String> {
        let mut at = 0;
        loop {
            let members = self.images.members(image, at)?;
            let Some(last) = members.last().filter(|_| !self.progress.is_cancelled()) else { return Ok(()) };
            at = last.position + last.length;
            for member in &members {
                self.share_member(image, member);
                self.progress.add_done(member.length);
            }
        }
    }

    fn share_member(&mut self, image: usize, member: &SeenMember) {
        let to = Spot { image, position: member.position };
        let mut copies = self.table.copies(&member.hash);
        if copies.is_empty() {
            copies.extend(self.next_ahead(member));
        }
        let images = self.images;
        let ask = |image: usize, from: u64| images.extents(image, from);
        let overlaps: Vec<Overlap> =
            copies.iter().map(|from| self.places.overlap(&ask, *from, to, member.length)).collect();
        if let Some(same) = overlaps.iter().position(|overlap| *overlap == Overlap::Same) {
            self.totals.before += member.length;
            append(&mut self.shared[1], to.position..to.position + member.length);
            self.found(copies[same], to, member);
        } else if (copies.len() as u64) < self.copies {
            // What has blocks of another copy is not a copy of its own, and could be the only one of its other blocks.
            if overlaps.iter().all(|overlap| *overlap == Overlap::Apart) {
                self.table.set(&member.hash, copies.len() as u64, to);
            }
        } else {
            // Spread over the copies, the same one for all of an image, so that neighbours stay neighbours.
            let from = copies[image % copies.len()];
            self.found(from, to, member);
            self.push(from, to, member);
        }
    }

    /// The copy that stands behind the member that was found last.
    fn next_ahead(&mut self, member: &SeenMember) -> Option<Spot> {
        let (image, members) = &mut self.ahead;
        let next = members.pop_front().filter(|next| next.hash == member.hash);
        if next.is_none() {
            members.clear();
        }
        next.map(|next| Spot { image: *image, position: next.position })
    }

    fn found(&mut self, from: Spot, to: Spot, member: &SeenMember) {
        self.is_own_source |= from.image == to.image;
        self.look_ahead(from, member);
    }

    /// Reads which members stand behind a copy, where the table cannot know all of them.
    fn look_ahead(&mut self, from: Spot, member: &SeenMember) {
        let behind = from.position + member.length;
        // What stands between is an index member at most.
        let near = behind..behind + (64 << 10);
        let is_there = self.ahead.0 == from.image
            && self.ahead.1.front().is_some_and(|next| near.contains(&next.position));
        if self.table.is_sampled() && !is_there {
            let members = self.images.members(from.image, behind).unwrap_or_default();
            self.ahead = (from.image, members.into());
        }
    }

    /// Adds a member to the stretch before it where both ends fit, or begins a new one.
    fn push(&mut self, from: Spot, to: Spot, member: &SeenMember) {
        let is_next = |stretch: &Stretch| {
            let ends = |spot: Spot| Spot { position: spot.position + stretch.length, ..spot };
            ends(stretch.from) == from && ends(stretch.to) == to && stretch.length + member.length <= LONGEST
        };
        if !self.stretch.as_ref().is_some_and(is_next) {
            self.finish_stretch();
        }
        let stretch = self.stretch.get_or_insert(Stretch { from, to, length: 0, members: Vec::new() });
        stretch.length += member.length;
        stretch.members.push(*member);
    }

    fn finish_stretch(&mut self) {
        let Some(Stretch { from, to, length, members }) = self.stretch.take() else { return };
        if self.is_dry || self.refused.is_some() {
            self.totals.could += length;
            return;
        }
        match self.share(from, to, length) {
            Ok(true) => self.add_shared(to, length),
            // Something differs, or is gone: what, and on which side.
            Ok(false) => self.share_singly(from, to, &members),
            Err(e) if is_gone(&e) => self.share_singly(from, to, &members),
            Err(e) => self.fail(from, to, length, e),
        }
    }

    fn add_shared(&mut self, to: Spot, length: u64) {
        self.totals.now += length;
        append(&mut self.shared[0], to.position..to.position + length);
    }

    /// Member by member.
    fn share_singly(&mut self, from: Spot, to: Spot, members: &[SeenMember]) {
        for member in members {
            let this = Spot { position: member.position, ..to };
            let copy = Spot { position: from.position + (member.position - to.position), ..from };
            match self.share(copy, this, member.length) {
                Ok(true) => self.add_shared(this, member.length),
                Ok(false) => self.judge(copy, this, member),
                Err(e) if is_gone(&e) => self.replace(copy, this, member),
                Err(e) => self.fail(copy, this, member.length, e),
            }
        }
    }

    /// True where all of it is shared, false where bytes differ.
    fn share(&self, from: Spot, to: Spot, length: u64) -> io::Result<bool> {
        let behind = |spot: Spot, done: u64| Spot { position: spot.position + done, ..spot };
        let mut done = 0;
        while done < length {
            match self.images.dedupe(behind(from, done), behind(to, done), length - done)? {
                Deduped::Differs => return Ok(false),
                Deduped::Shared(0) => {
                    return Err(io::Error::other("the file system has shared nothing of it"));
                }
                Deduped::Shared(bytes) => done += bytes,
            }
        }
        Ok(true)
    }

    fn fail(&mut self, from: Spot, to: Spot, length: u64, error: io::Error) {
        match error.raw_os_error() {
            Some(
                libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EROFS,
            ) => {
                self.totals.could += length;
                self.refused = Some(error);
            }
            _ => self.failed.push((from, to, length, error)),
        }
    }

    /// Two members of one hash that are not equal: which one is not what its index says. A whole one takes the place of a
    /// damaged copy.
    fn judge(&mut self, from: Spot, to: Spot, member: &SeenMember) {
        let is_whole = |spot: Spot| {
            let member = SeenMember { position: spot.position, ..*member };
            self.images.is_whole(spot.image, &member)
        };
        let (copy, this) = match (is_whole(from), is_whole(to)) {
            (Ok(copy), Ok(this)) => (copy, this),
            (Err(e), _) | (_, Err(e)) => return self.failed.push((from, to, member.length, e)),
        };
        for (spot, _) in [(from, copy), (to, this)].iter().filter(|(_, is_whole)| !is_whole) {
            if self.damaged.len() < LISTED && !self.damaged.contains(spot) {
                self.damaged.push(*spot);
            }
        }
        if this && !copy {
            self.replace(from, to, member);
        }
    }

    /// Another member takes the place of a copy that cannot be used, where it is one of its own.
    fn replace(&mut self, copy: Spot, by: Spot, member: &SeenMember) {
        let copies = self.table.copies(&member.hash);
        let Some(number) = copies.iter().position(|spot| *spot == copy) else { return };
        let images = self.images;
        let ask = |image: usize, from: u64| images.extents(image, from);
        let mut others = copies.iter().filter(|other| **other != copy);
        if others.all(|other| self.places.overlap(&ask, *other, by, member.length) == Overlap::Apart) {
            self.table.set(&member.hash, number as u64, by);
        }
    }
}

/// The set of a copy was removed meanwhile.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests;
