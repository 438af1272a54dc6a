//! One loop for everything that handles runs in any order: restore, read-back, verify.
#![forbid(unsafe_code)]

use super::error::ImageError;
use super::reader::{Image, Workspace};
use super::run::Run;
use crate::progress::Progress;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Zeros to write or to compare with.
pub(super) static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// True where all bytes are zero. memcmp is the fastest way in every build.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|part| *part == ZEROS[..part.len()])
}

/// `threads`, or one per core where it is 0.
pub(super) fn thread_count(threads: usize) -> usize {
    let cores = || thread::available_parallelism().map_or(1, |n| n.get());
    if threads == 0 { cores().min(64) } else { threads.min(64) }
}

/// Threads that also wait for disk and share: a few more than there are cores, so that the cores stay busy.
pub(super) fn io_threads(threads: usize) -> usize {
    (thread_count(threads) + 3).min(16)
}

/// Calls `work` for every run, on several threads, in about the order of the disk. The first error stops it all;
/// of several, the one at the lowest offset is returned.
pub(super) fn for_each_run<W>(
    image: &Image,
    runs: impl Iterator<Item = Result<Run, ImageError>> + Send,
    threads: usize,
    progress: &Progress,
    work: W,
) -> Result<(), ImageError>
where
    W: Fn(&mut Workspace, &Run) -> Result<(), ImageError> + Sync,
{
    let runs = runs.map(|run| run.map(|run| (run, ())));
    for_each_run_with(image, runs, threads, progress, |space, run, ()| work(space, run))
}

/// [`for_each_run`] where something goes along with each run.
pub(super) fn for_each_run_with<T, W>(
    image: &Image,
    runs: impl Iterator<Item = Result<(Run, T), ImageError>> + Send,
    threads: usize,
    progress: &Progress,
    work: W,
) -> Result<(), ImageError>
where
    W: Fn(&mut Workspace, &Run, T) -> Result<(), ImageError> + Sync,
{
    struct Shared<I> {
        runs: I,
        failed: Option<(u64, ImageError)>,
    }
    let shared = Mutex::new(Shared { runs, failed: None });
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let fail = |offset, error| {
        let mut shared = lock();
        if shared.failed.as_ref().is_none_or(|(before, _)| offset < *before) {
            shared.failed = Some((offset, error));
        }
    };
    let worker = || {
        let mut space = Workspace::new(image);
        loop {
            let next = {
                let mut shared = lock();
                if shared.failed.is_some() {
                    return;
                }
                shared.runs.next()
            };
            let (run, with) = match next {
                None => return,
                Some(Ok(_)) if progress.is_cancelled() => return fail(u64::MAX, ImageError::Cancelled),
                Some(Err(error)) => return fail(u64::MAX, error),
                Some(Ok(both)) => both,
            };
            if let Err(error) = work(&mut space, &run, with) {
                return fail(run.offset, error);
            }
        }
    };
    thread::scope(|scope| {
        // A thread that cannot be had is done without: this one does all the work if need be.
        for _ in 1..threads {
            let _ = thread::Builder::new().name("image".into()).spawn_scoped(scope, worker);
        }
        worker();
    });
    match shared.into_inner().unwrap_or_else(PoisonError::into_inner).failed {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}
