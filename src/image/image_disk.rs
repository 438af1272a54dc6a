//! The disk of an image for many readers at any place, such as a file system that is mounted from it.
#![forbid(unsafe_code)]

use crate::image::error::ImageError;
use crate::image::format::member::MemberKind;
use crate::image::format::run::Run;
use crate::image::reader::{Image, ImageRuns, Summary};
use crate::image::workspace::Workspace;
use crate::progress::Progress;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of inflated runs that are remembered: those used last.
pub const RUN_CACHE: usize = 64 << 20;
/// What remembering a run takes beside its bytes, about.
const RUN_COST: usize = 256;

/// What becomes of a read where the disk did not give its bytes when it was imaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It fails, as it did on the disk.
    Fails,
    /// It gives zeros.
    Zeros,
}

/// Random access to the disk of an image. Of the image only the members that a read needs are read; each is inflated and
/// checked against its hash, in the thread that asks for it.
///
/// Takes [`RUN_CACHE`] bytes, and for each thread that reads at the same time one run and the room to inflate it: at most
/// 4 MiB for an image of default chunks, 13 MiB for one of the largest.
pub struct ImageDisk {
    image: Box<Image>,
    unreadable: Unreadable,
    progress: Arc<Progress>,
    cache: Mutex<RunCache>,
    /// Of threads that are not reading now.
    spaces: Mutex<Vec<Workspace>>,
}

impl ImageDisk {
    /// All of the disk of `image`. Progress counts the bytes that were inflated; once it is cancelled, every read is an
    /// error.
    pub fn new(image: Box<Image>, unreadable: Unreadable, progress: Arc<Progress>) -> Self {
        let (cache, spaces) = Default::default();
        ImageDisk { image, unreadable, progress, cache, spaces }
    }

    /// The image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Fills `buf` from byte `offset` of the disk: all of it, or it is an error. What was unallocated is zeros.
    ///
    /// # Errors
    /// The image is damaged or cannot be read there, the disk did not give these bytes when it was imaged, or they are
    /// behind its end.
    pub fn read(&self, buf: &mut [u8], offset: u64) -> Result<(), ImageError> {
        if self.progress.is_cancelled() {
            return Err(ImageError::cancelled());
        }
        let Summary { disk, image: file, .. } = self.image.summary();
        let range = offset..offset.saturating_add(buf.len() as u64);
        if range.end > disk {
            return Err(ImageError::refused_range(&range, disk));
        }
        let mut rest = buf;
        let mut at = offset;
        for run in self.image.runs_in(range.clone()) {
            let run = run?;
            let end = run.range().end.min(range.end);
            if run.offset > at || end <= at {
                break;
            }
            let (part, behind) = std::mem::take(&mut rest).split_at_mut((end - at) as usize);
            self.read_run(&run, part, at)?;
            (rest, at) = (behind, end);
        }
        match at == range.end {
            true => Ok(()),
            false => Err(ImageError::damaged(file, format!("the index has no run for disk byte {at}"))),
        }
    }

    /// Fills `part` from byte `at` of the disk, which lies in the run.
    fn read_run(&self, run: &Run, part: &mut [u8], at: u64) -> Result<(), ImageError> {
        match run.kind {
            MemberKind::Data => {
                let raw = self.data(run)?;
                let from = (at - run.offset) as usize;
                let bytes = raw.get(from..from + part.len());
                part.copy_from_slice(bytes.ok_or_else(|| ImageError::internal("a run is short"))?);
            }
            MemberKind::Unreadable if self.unreadable == Unreadable::Fails => {
                return Err(ImageError::not_imaged(&run.range()));
            }
            _ => part.fill(0),
        }
        Ok(())
    }

    /// The bytes of a data run.
    fn data(&self, run: &Run) -> Result<Arc<[u8]>, ImageError> {
        if let Some(raw) = lock(&self.cache).find(run.offset) {
            return Ok(raw);
        }
        let free = lock(&self.spaces).pop();
        let mut space = free.unwrap_or_else(|| Workspace::new(&self.image));
        let loaded = space.load(&self.image, run).map(Arc::<[u8]>::from);
        lock(&self.spaces).push(space);
        let raw = loaded?;
        self.progress.add_done(run.length);
        lock(&self.cache).keep(run.offset, raw.clone());
        Ok(raw)
    }

    /// The first byte from `offset` on that may be other than zero because it was imaged; `None` where all is zeros.
    ///
    /// # Errors
    /// The index is damaged or cannot be read.
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>, ImageError> {
        first(self.image.data_runs(offset..u64::MAX), offset)
    }

    /// The first byte from `offset` on that is zero because nothing was imaged there; `None` where there is none.
    ///
    /// # Errors
    /// The index is damaged or cannot be read.
    pub fn next_hole(&self, offset: u64) -> Result<Option<u64>, ImageError> {
        first(self.image.empty_runs(offset..u64::MAX), offset)
    }

    /// Bytes of inflated runs that are remembered now.
    #[cfg(test)]
    pub(super) fn cached(&self) -> usize {
        lock(&self.cache).bytes
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the first of these runs begins, or `offset` inside of it.
fn first(mut runs: ImageRuns<'_>, offset: u64) -> Result<Option<u64>, ImageError> {
    Ok(runs.next().transpose()?.map(|run| run.offset.max(offset)))
}

/// Runs that were inflated and proven, by where they begin on the disk.
#[derive(Default)]
struct RunCache {
    runs: HashMap<u64, (Arc<[u8]>, u64)>,
    /// Which run was used when.
    by_use: BTreeMap<u64, u64>,
    uses: u64,
    bytes: usize,
}

impl RunCache {
    fn find(&mut self, offset: u64) -> Option<Arc<[u8]>> {
        let (raw, used) = self.runs.get_mut(&offset)?;
        self.uses += 1;
        self.by_use.remove(used);
        self.by_use.insert(self.uses, offset);
        *used = self.uses;
        Some(raw.clone())
    }

    /// Two threads may have inflated the same run: then it is here already.
    fn keep(&mut self, offset: u64, raw: Arc<[u8]>) {
        if self.find(offset).is_some() {
            return;
        }
        let cost = |raw: &[u8]| raw.len() + RUN_COST;
        self.bytes += cost(&raw);
        self.by_use.insert(self.uses + 1, offset);
        self.uses += 1;
        self.runs.insert(offset, (raw, self.uses));
        while self.bytes > RUN_CACHE
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            if let Some((raw, _)) = self.runs.remove(&oldest) {
                self.bytes -= cost(&raw);
            }
        }
    }
}
