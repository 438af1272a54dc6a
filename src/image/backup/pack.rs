//! Makes members of pieces of disk, or finds them.
#![forbid(unsafe_code)]

use crate::image::backup::cheaper::CheaperWay;
use crate::image::backup::incremental::old_member;
use crate::image::backup::moved::{MovedRuns, MovedSearch};
use crate::image::backup::slot::{PieceContent, WindowSlot};
use crate::image::format::codec::{DataMember, Deflate, data_member_hashed, member_buffer};
use crate::image::format::gaps::Gaps;
use crate::image::reader::Image;
use crate::io::is_zero;
use blake3::Hash;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// The image before.
#[derive(Clone, Copy)]
pub(super) struct PackBase<'a> {
    pub image: &'a Image,
    /// Its members need not be read.
    pub unread: &'a AtomicBool,
    pub moved: &'a MovedRuns,
    /// Whether they are read at all, where they have to be.
    pub way: &'a CheaperWay,
}

/// What one thread needs.
pub(super) struct Packer<'a> {
    deflater: Box<dyn Deflate>,
    base: Option<(PackBase<'a>, MovedSearch<'a>)>,
}

impl<'a> Packer<'a> {
    pub fn new(deflater: Box<dyn Deflate>, base: Option<PackBase<'a>>) -> Self {
        let base = base.map(|base| (base, MovedSearch::new(base.image, base.moved)));
        Packer { deflater, base }
    }

    /// Makes something else of all raw pieces of a window.
    pub fn pack(&mut self, slot: &mut WindowSlot) {
        for nth in 0..slot.pieces.len() {
            let piece = &slot.pieces[nth];
            if !matches!(piece.content, PieceContent::Raw) {
                continue;
            }
            let (raw, gaps) = slot.bytes(&piece.range);
            let hash = gaps.hash(raw);
            let content = if gaps.is_empty() && is_zero(raw) {
                PieceContent::Zero
            } else if let Some(run) = piece.kept.filter(|run| run.hash == hash) {
                PieceContent::Kept(run)
            } else if let Some(found) = self.old(slot, nth, &hash) {
                found
            } else {
                let range = slot.pieces[nth].range.clone();
                PieceContent::Data(self.compress(slot, &range, hash))
            };
            slot.pieces[nth].content = content;
        }
    }

    /// What the base has of a piece with this hash.
    fn old(&mut self, slot: &mut WindowSlot, nth: usize, hash: &Hash) -> Option<PieceContent> {
        let (base, search) = self.base.as_mut()?;
        let in_place = slot.pieces.get(nth)?.old.filter(|run| run.hash == *hash);
        let found = in_place.map_or_else(|| search.find(hash), |run| Ok(Some(run)));
        let taken = found.and_then(|found| {
            let Some(run) = found else { return Ok(None) };
            if base.unread.load(Relaxed) {
                return Ok(Some(PieceContent::Unread(run)));
            }
            if !base.way.is_reading() {
                return Ok(None);
            }
            let start = Instant::now();
            let place = old_member(base.image, &run, &mut slot.members)?;
            base.way.read(run.length, start.elapsed());
            Ok(Some(PieceContent::Taken(run, place)))
        });
        taken.unwrap_or_else(|error| {
            slot.bad_base.push(error);
            None
        })
    }

    fn compress(&mut self, slot: &mut WindowSlot, range: &Range<u64>, hash: Hash) -> DataMember {
        let mut members = std::mem::take(&mut slot.members);
        let (raw, gaps) = slot.bytes(range);
        let start = Instant::now();
        let made = append_member(&mut *self.deflater, raw, &gaps, hash, &mut members);
        if let Some((base, _)) = &self.base {
            base.way.made(range.end - range.start, start.elapsed());
        }
        slot.members = members;
        made
    }
}

/// Makes the data member of `raw` behind the others in `members`.
pub(super) fn append_member(
    deflater: &mut dyn Deflate,
    raw: &[u8],
    gaps: &Gaps,
    hash: Hash,
    members: &mut Vec<u8>,
) -> DataMember {
    let at = members.len();
    members.resize(at + member_buffer(raw.len()), 0);
    let made = data_member_hashed(deflater, raw, gaps, hash, &mut members[at..]);
    // It stands somewhere in that room.
    let len = made.range.end - made.range.start;
    members.copy_within(at + made.range.start..at + made.range.end, at);
    members.truncate(at + len);
    DataMember { range: at..at + len, ..made }
}
