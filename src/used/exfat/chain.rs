//! Chains of clusters in the FAT of exFAT.
#![forbid(unsafe_code)]

use super::boot::{ExfatBoot, KIND};
use crate::bytes::le;
use crate::used::{Doubt, Volume};
use std::collections::HashSet;

/// Bytes of the FAT that are read at once: chains are mostly in one piece.
const PIECE: u64 = 4096;

/// Reads FAT entries, one piece at a time.
pub(super) struct Fat<'a> {
    volume: &'a Volume<'a>,
    boot: &'a ExfatBoot,
    start: u64,
    piece: Vec<u8>,
}

impl<'a> Fat<'a> {
    pub(super) fn new(volume: &'a Volume<'a>, boot: &'a ExfatBoot) -> Self {
        Fat { volume, boot, start: 0, piece: Vec::new() }
    }

    fn doubt(why: String) -> Doubt {
        Doubt::new(KIND, why)
    }

    /// Entry number `entry`, which must be below the number of clusters plus 2.
    pub(super) fn entry(&mut self, entry: u64) -> Result<u32, Doubt> {
        let start = entry * 4 / PIECE * PIECE;
        if self.piece.is_empty() || self.start != start {
            let rest = ((u64::from(self.boot.count) + 2) * 4).saturating_sub(start);
            self.piece = self.volume.read(KIND, self.boot.fat + start, rest.min(PIECE) as usize)?;
            self.start = start;
        }
        le::u32(&self.piece, (entry * 4 - start) as usize)
            .ok_or_else(|| Fat::doubt(format!("no FAT entry {entry}")))
    }

    /// The clusters of a chain, at most `most` of them.
    pub(super) fn chain(&mut self, first: u32, most: u64) -> Result<Vec<u32>, Doubt> {
        let mut clusters = Vec::new();
        let mut seen = HashSet::new();
        let mut next = first;
        while next != u32::MAX {
            if next < 2 || next - 2 >= self.boot.count {
                return Err(Fat::doubt(format!("the chain of cluster {first} leads to {next:#x}")));
            }
            if clusters.len() as u64 >= most || !seen.insert(next) {
                return Err(Fat::doubt(format!("the chain of cluster {first} is too long, or a circle")));
            }
            clusters.push(next);
            next = self.entry(next.into())?;
        }
        Ok(clusters)
    }

    /// Whether the chain of `first` has exactly `count` clusters, one behind the other.
    pub(super) fn in_one_piece(&mut self, first: u32, count: u64) -> Result<bool, Doubt> {
        let start = u64::from(first);
        if start < 2 || count == 0 || start + count > u64::from(self.boot.count) + 2 {
            return Ok(false);
        }
        for cluster in start..start + count {
            let last = cluster + 1 == start + count;
            let want = if last { u64::from(u32::MAX) } else { cluster + 1 };
            if u64::from(self.entry(cluster)?) != want {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
