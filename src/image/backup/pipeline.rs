//! The way of a window of the disk through reader, carver, packer and writer.
//!
//! A fixed set of slots goes round: free -> readers -> carver -> packers -> writer -> free. A reader takes a slot before it
//! takes the next window of the disk, so the window that the carver and the writer wait for always has all that it needs, and
//! nothing can block it: one thread of each kind is enough.
#![forbid(unsafe_code)]

use crate::block::BlockDevice;
use crate::image::backup::carve::Carver;
use crate::image::backup::cheaper::CheaperWay;
use crate::image::backup::cut::CutRule;
use crate::image::backup::moved::MovedRuns;
use crate::image::backup::options::BackupOptions;
use crate::image::backup::pack::{PackBase, Packer};
use crate::image::backup::slot::{WindowContent, WindowSlot};
use crate::image::backup::source::{WindowSource, read_window, window_size};
use crate::image::backup::sources::MemberSources;
use crate::image::bad_sectors::Trouble;
use crate::image::error::{ImageError, ImageOp, check_size};
use crate::image::format::codec::member_buffer;
use crate::image::parallel::{io_threads, thread_count};
use crate::progress::Progress;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Bytes that all slots together may take.
const SLOT_MEMORY: usize = 96 << 20;
/// Reads in flight: a SATA SSD or an NVMe disk reaches its rate only with several.
const READERS: usize = 4;

/// Runs readers, carver and packers, and gives their slots to `take` in the order of the disk.
pub(super) fn pipeline(
    disk: &dyn BlockDevice,
    opts: &BackupOptions,
    sources: MemberSources<'_>,
    progress: &Progress,
    mut take: impl FnMut(&mut WindowSlot) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let (chunk, window) = (opts.chunk_size as usize, window_size(opts.chunk_size));
    // Members take a quarter more than their data where each is as short as can be and does not compress.
    let most = SLOT_MEMORY / ((chunk + window as usize) / 4 * 9 + member_buffer(chunk));
    // Packers wait for the share where they read members of the base.
    let packers = if sources.base.is_some() { io_threads(opts.threads) } else { thread_count(opts.threads) };
    let packers = packers.min(most);
    // A small disk needs no more than it has windows.
    let windows = usize::try_from(disk.size().div_ceil(window)).unwrap_or(usize::MAX);
    let slots = (READERS + 2 * packers + 3).min(most).min(windows).max(2);
    let readers = READERS.min(slots - 1);

    // What is wrong with the index of the base, the carver will find, too.
    let moved = sources.base.map(|base| MovedRuns::of(base).unwrap_or_default()).unwrap_or_default();
    let way = CheaperWay::default();
    let base = sources.base.map(|image| PackBase { image, unread: sources.unread, moved: &moved, way: &way });
    let rule = CutRule::new(opts.chunk_size);
    let mut carver = Carver::new(rule, disk.size(), sources.base.map(|base| base.runs()), sources.kept);
    let source = Mutex::new(WindowSource::new(opts));
    let trouble = opts.allow_bad_sectors.then(|| Trouble::new(opts.patience));

    let (free_in, free) = unbounded();
    for _ in 0..slots {
        let _ = free_in.send(WindowSlot::new(chunk, window as usize));
    }
    let (read_in, read) = unbounded();
    let (work_in, work) = unbounded();
    let (done_in, done) = unbounded();
    thread::scope(|scope| {
        let spawn_error = |source| ImageError::resource(ImageOp::StartThread, source);
        for _ in 0..readers {
            let (free, read_in) = (free.clone(), read_in.clone());
            let reader = WindowReader { disk, progress, source: &source, trouble: trouble.as_ref(), rule };
            let work = move || reader.run(&free, &read_in);
            thread::Builder::new()
                .name("image-read".into())
                .spawn_scoped(scope, work)
                .map_err(spawn_error)?;
        }
        let carve = move || {
            in_order(&read, |mut slot| {
                caught(&mut slot, |slot| carver.take(slot));
                work_in.send(slot).map_err(drop)
            })
        };
        thread::Builder::new().name("image-cut".into()).spawn_scoped(scope, carve).map_err(spawn_error)?;
        for _ in 0..packers {
            let (work, done_in) = (work.clone(), done_in.clone());
            let mut packer = Packer::new(opts.codec.deflater(), base);
            let pack = move || {
                for mut slot in work {
                    caught(&mut slot, |slot| packer.pack(slot));
                    if done_in.send(slot).is_err() {
                        return;
                    }
                }
            };
            thread::Builder::new()
                .name("image-pack".into())
                .spawn_scoped(scope, pack)
                .map_err(spawn_error)?;
        }
        // From here on the threads hold the only other ends: they stop when these go, and `done` ends when they stop.
        drop((free, read_in, work, done_in));
        let (free_in, done) = (free_in, done);
        in_order(&done, |mut slot| {
            take(&mut slot)?;
            let _ = free_in.send(slot);
            Ok(())
        })?;
        // What has grown behind our back is not in the image.
        check_size(disk)
    })
}

/// A slot that is lost would stall the others for ever: a panic must end the backup.
fn caught(slot: &mut WindowSlot, work: impl FnOnce(&mut WindowSlot)) {
    if let Err(error) = ImageError::catch(|| {
        work(slot);
        Ok(())
    }) {
        slot.content = WindowContent::Failed(error);
    }
}

/// Calls `take` for each slot in the order of the disk, until it fails or no more come.
fn in_order<E>(
    slots: &Receiver<WindowSlot>,
    mut take: impl FnMut(WindowSlot) -> Result<(), E>,
) -> Result<(), E> {
    let mut waiting = BTreeMap::new();
    let mut next = 0;
    for slot in slots {
        waiting.insert(slot.number, slot);
        while let Some(slot) = waiting.remove(&next) {
            take(slot)?;
            next += 1;
        }
    }
    Ok(())
}

/// What a thread needs that reads the disk.
struct WindowReader<'a> {
    disk: &'a dyn BlockDevice,
    progress: &'a Progress,
    source: &'a Mutex<WindowSource<'a>>,
    trouble: Option<&'a Trouble>,
    rule: CutRule,
}

impl WindowReader<'_> {
    fn run(&self, free: &Receiver<WindowSlot>, read: &Sender<WindowSlot>) {
        for mut slot in free {
            {
                let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
                if !source.next(self.disk, self.progress.is_cancelled(), &mut slot) {
                    return;
                }
            }
            if matches!(slot.content, WindowContent::Raw) {
                // As with those that compress: no slot may be lost.
                let done = ImageError::catch(|| read_window(self.disk, &mut slot, self.trouble, &self.rule));
                if let Err(error) = done {
                    slot.content = WindowContent::Failed(error);
                }
            }
            if read.send(slot).is_err() {
                return;
            }
        }
    }
}
