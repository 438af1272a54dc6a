//! Where the image before has a run of the same data, at another place of the disk.
//!
//! Memory is bounded: [`MOST`] runs are known, 16 bytes each. Of an image with more, those are whose hash has the lowest
//! bits zero, and what stands around one that was found is looked at with it: data moves in long stretches. What is
//! missed is compressed again, and costs only space.
#![forbid(unsafe_code)]

use crate::image::error::ImageError;
use crate::image::format::member::MemberKind;
use crate::image::format::run::Run;
use crate::image::reader::Image;
use blake3::Hash;

/// Runs that are known: 64 MiB of memory (half as much again for a moment while the list grows), and some 300 GB of data.
const MOST: usize = 4 << 20;
/// Runs that are looked at where one was found.
const AROUND: usize = 64;

/// The places of data in an image, by a part of its hash.
#[derive(Default)]
pub(super) struct MovedRuns {
    /// Hash and first byte on the disk, in order of the hashes.
    places: Vec<(u64, u64)>,
}

impl MovedRuns {
    /// Reads all of the index.
    ///
    /// # Errors
    /// The image cannot be read, or its index is damaged.
    pub fn of(image: &Image) -> Result<Self, ImageError> {
        MovedRuns::with_room(image, MOST)
    }

    fn with_room(image: &Image, most: usize) -> Result<Self, ImageError> {
        let (mut places, mut mask) = (Vec::new(), 0u64);
        for run in image.runs() {
            let run = run?;
            let hash = short(&run.hash);
            while places.len() >= most && mask != u64::MAX {
                mask = mask << 1 | 1;
                places.retain(|(hash, _)| hash & mask == 0);
            }
            if run.kind == MemberKind::Data && hash & mask == 0 && places.len() < most {
                places.push((hash, run.offset));
            }
        }
        places.sort_unstable();
        places.dedup_by_key(|(hash, _)| *hash);
        Ok(MovedRuns { places })
    }

    /// First byte on the disk of a run with this hash.
    fn find(&self, hash: &Hash) -> Option<u64> {
        let hash = short(hash);
        let nth = self.places.binary_search_by_key(&hash, |(hash, _)| *hash).ok()?;
        self.places.get(nth).map(|(_, offset)| *offset)
    }
}

fn short(hash: &Hash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Looks for runs; each thread has its own.
pub(super) struct MovedSearch<'a> {
    image: &'a Image,
    runs: &'a MovedRuns,
    /// What stands around the one that was found last.
    around: Vec<Run>,
}

impl<'a> MovedSearch<'a> {
    pub fn new(image: &'a Image, runs: &'a MovedRuns) -> Self {
        MovedSearch { image, runs, around: Vec::new() }
    }

    /// A data run with this hash.
    ///
    /// # Errors
    /// The image cannot be read, or its index is damaged.
    pub fn find(&mut self, hash: &Hash) -> Result<Option<Run>, ImageError> {
        let is_it = |run: &&Run| run.kind == MemberKind::Data && run.hash == *hash;
        if let Some(run) = self.around.iter().find(is_it) {
            return Ok(Some(*run));
        }
        let Some(offset) = self.runs.find(hash) else { return Ok(None) };
        self.around = self.image.runs_in(offset..u64::MAX).take(AROUND).collect::<Result<_, _>>()?;
        Ok(self.around.iter().find(is_it).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::mem::MemDisk;
    use crate::image::{BackupOptions, DiskAbout, backup};
    use crate::inventory::Identity;
    use crate::progress::Progress;
    use std::sync::Arc;

    /// Noise of 4 MiB in runs of at most 16 KiB.
    fn image() -> Image {
        let mut bytes = vec![0; 4 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let disk = MemDisk::new("sda", bytes, 512);
        let opts = BackupOptions { chunk_size: 16 << 10, ..BackupOptions::default() };
        let about = DiskAbout::new("sda", Identity::default(), &disk);
        let mut file = Vec::new();
        backup(&disk, &mut file, &about, &opts, &Progress::new()).unwrap();
        Image::open(Arc::new(file)).unwrap()
    }

    #[test]
    fn every_run_is_found_and_with_little_room_stretches_are() {
        let image = image();
        let runs: Vec<Run> = image.runs().map(Result::unwrap).collect();
        assert!(runs.len() > 500);
        for (room, least) in [(runs.len(), runs.len()), (runs.len() / 8, runs.len() * 8 / 10), (0, 0)] {
            let moved = MovedRuns::with_room(&image, room).unwrap();
            assert!(moved.places.len() <= room);
            let mut search = MovedSearch::new(&image, &moved);
            let found: Vec<_> = runs.iter().filter_map(|run| search.find(&run.hash).unwrap()).collect();
            assert!(found.len() >= least, "{} of {} with room for {room}", found.len(), runs.len());
            assert!(found.iter().all(|run| runs.contains(run)));
            assert_eq!(search.find(&blake3::hash(b"another")).unwrap(), None);
        }
    }
}
