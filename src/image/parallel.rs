//! The loops of everything that handles runs in any order: restore, read-back, verify.
#![forbid(unsafe_code)]

use crate::image::error::ImageError;
use crate::progress::Progress;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

/// `threads`, or one per core where it is 0.
pub(super) fn thread_count(threads: usize) -> usize {
    let cores = || thread::available_parallelism().map_or(1, |n| n.get());
    if threads == 0 { cores().min(64) } else { threads.min(64) }
}

/// Threads that also wait for disk and share: a few more than there are cores, so that the cores stay busy.
pub(super) fn io_threads(threads: usize) -> usize {
    (thread_count(threads) + 3).min(16)
}

/// Calls `work` for every item, on several threads, each with a `space` of its own, in about the order of the items. The
/// first error stops it all; of several, that of the first item is returned.
pub(super) fn for_each<T, S>(
    items: impl Iterator<Item = Result<T, ImageError>> + Send,
    threads: usize,
    progress: &Progress,
    space: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) -> Result<(), ImageError> + Sync,
) -> Result<(), ImageError> {
    struct WorkQueue<I> {
        items: I,
        next: u64,
        failed: Option<(u64, ImageError)>,
    }
    let shared = Mutex::new(WorkQueue { items, next: 0, failed: None });
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let fail = |number, error| {
        let mut shared = lock();
        if shared.failed.as_ref().is_none_or(|(before, _)| number < *before) {
            shared.failed = Some((number, error));
        }
    };
    let worker = || {
        // Made when there is something to do: not for threads that come late.
        let mut own = None;
        loop {
            let (number, next) = {
                let mut shared = lock();
                if shared.failed.is_some() {
                    return;
                }
                shared.next += 1;
                (shared.next, shared.items.next())
            };
            let item = match next {
                None => return,
                Some(Ok(_)) if progress.is_cancelled() => return fail(number, ImageError::cancelled()),
                Some(Err(error)) => return fail(number, error),
                Some(Ok(item)) => item,
            };
            if let Err(error) = ImageError::catch(|| work(own.get_or_insert_with(&space), item)) {
                return fail(number, error);
            }
        }
    };
    thread::scope(|scope| {
        // A thread that cannot be had is done without: this one does all the work if need be.
        for _ in 1..threads {
            let _ = thread::Builder::new().name("image-run".into()).spawn_scoped(scope, worker);
        }
        worker();
    });
    match shared.into_inner().unwrap_or_else(PoisonError::into_inner).failed {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// Makes one thing after the other, and finishes each: with `overlap`, while the next one is made.
///
/// The first error ends it; of two, that of finishing is returned, which is about what was made before.
pub(super) fn make_and_finish<T: Send>(
    overlap: bool,
    mut make: impl FnMut() -> Result<Option<T>, ImageError>,
    finish: impl Fn(T) -> Result<(), ImageError> + Sync,
) -> Result<(), ImageError> {
    let finish = &finish;
    thread::scope(|scope| {
        let (hand_over, things) = mpsc::sync_channel(0);
        let work = move || things.into_iter().try_for_each(finish);
        let finisher = match overlap {
            true => thread::Builder::new().name("image-finish".into()).spawn_scoped(scope, work).ok(),
            false => None,
        };
        // Without that thread this one does its work.
        let Some(finisher) = finisher else {
            while let Some(thing) = make()? {
                finish(thing)?;
            }
            return Ok(());
        };
        let made = loop {
            match make() {
                Ok(Some(thing)) => {
                    // The other thread has failed, and will say why.
                    if hand_over.send(thing).is_err() {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        drop(hand_over);
        let finished = finisher.join().unwrap_or_else(|panic| Err(ImageError::of_panic(&*panic)));
        finished.and(made)
    })
}
