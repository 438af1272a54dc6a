//! A logical volume of plain pieces, read through the physical volume that it lies on.
#![forbid(unsafe_code)]

use super::super::Volume;
use crate::io::ReadAt;
use std::io;
use std::ops::Range;

/// A piece of a logical volume; all in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::used) struct Piece {
    /// Where it is in the logical volume.
    pub(super) at: u64,
    /// Where it is on the physical volume.
    pub(super) on_disk: Range<u64>,
}

impl Piece {
    fn len(&self) -> u64 {
        self.on_disk.end - self.on_disk.start
    }
}

/// The bytes of a logical volume.
pub(in crate::used) struct Linear<'a> {
    physical: Volume<'a>,
    pieces: &'a [Piece],
}

impl<'a> Linear<'a> {
    /// `pieces` are in the order of the logical volume, without gaps, from 0 on.
    pub(in crate::used) fn new(physical: Volume<'a>, pieces: &'a [Piece]) -> Self {
        Linear { physical, pieces }
    }

    /// The ranges of the physical volume that hold `range` of the logical one.
    pub(in crate::used) fn on_disk(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let from = self.pieces.partition_point(|piece| piece.at + piece.len() <= range.start);
        let (start, end) = (range.start, range.end);
        self.pieces.iter().skip(from).take_while(move |piece| piece.at < end).map(move |piece| {
            let skipped = start.saturating_sub(piece.at);
            let len = (end - piece.at).min(piece.len());
            piece.on_disk.start + skipped..piece.on_disk.start + len
        })
    }
}

impl ReadAt for Linear<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.pieces.last().map_or(0, |piece| piece.at + piece.len()))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset.saturating_add(buf.len() as u64).min(ReadAt::size(self)?);
        if offset >= end {
            return Ok(0);
        }
        let Some(range) = self.on_disk(&(offset..end)).next() else { return Ok(0) };
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(buf.len());
        let buf = buf.get_mut(..len).unwrap_or_default();
        self.physical.read_at(buf, range.start)
    }
}
