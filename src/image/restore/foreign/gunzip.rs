//! Inflating on one thread beside the work on another, and the reader of gzip members.
#![forbid(unsafe_code)]

use crate::block::AlignedBuf;
use crate::image::error::{ImageError, ImageOp};
use crate::image::format::member::{self, FRAME};
use crate::io::{ReadAt, is_zero};
use crate::progress::Progress;
use crate::sys::isal::Inflater;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

/// Bytes per buffer of inflated content.
pub(super) const BUFFER: usize = 1 << 20;
/// Buffers between two stages.
const BUFFERS: usize = 8;
/// Bytes per read of the file.
pub(super) const INPUT: usize = 1 << 20;

/// Place of the flags in the header of a gzip member, and those that are reserved (RFC 1952 section 2.3.1).
pub(super) const FLG: usize = 3;
const RESERVED: u8 = 0xe0;

/// Inflates `file` on one thread and gives its content to `take` on this one, in buffers of [`BUFFER`] bytes (the
/// last may be shorter).
pub(super) fn inflated(
    file: &dyn ReadAt,
    progress: &Progress,
    take: impl FnMut(&[u8]) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    overlapped(|out| Gunzip::new(file, progress).run(out), take)
}

/// A buffer on its way.
pub(super) struct Buffer {
    pub(super) bytes: AlignedBuf,
    pub(super) len: usize,
}

/// The producing end: where buffers come from and go to.
pub(super) struct GunzipStage {
    free: Receiver<Buffer>,
    full: Sender<Buffer>,
}

impl GunzipStage {
    // A closed channel means that the other side failed; its error is the one that counts.
    pub(super) fn buffer(&self) -> Result<Buffer, ImageError> {
        self.free.recv().map_err(|_| ImageError::cancelled())
    }

    pub(super) fn send(&self, buffer: Buffer) -> Result<(), ImageError> {
        self.full.send(buffer).map_err(|_| ImageError::cancelled())
    }
}

/// Runs `produce` on a thread of its own beside `take` here, with a few buffers between them.
pub(super) fn overlapped(
    produce: impl FnOnce(&mut GunzipStage) -> Result<(), ImageError> + Send,
    mut take: impl FnMut(&[u8]) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let (free_in, free) = bounded(BUFFERS);
    let (full, full_out) = bounded::<Buffer>(BUFFERS);
    for _ in 0..BUFFERS {
        let _ = free_in.send(Buffer { bytes: AlignedBuf::new(BUFFER), len: 0 });
    }
    thread::scope(|scope| {
        let mut stage = GunzipStage { free, full };
        let producer = thread::Builder::new()
            .name("image-stage".into())
            .spawn_scoped(scope, move || produce(&mut stage))
            .map_err(|source| ImageError::resource(ImageOp::StartThread, source))?;
        let taken = (|| {
            for buffer in &full_out {
                take(&buffer.bytes[..buffer.len])?;
                let _ = free_in.send(buffer);
            }
            Ok(())
        })();
        drop((free_in, full_out));
        let produced = producer.join().unwrap_or_else(|panic| Err(ImageError::of_panic(&*panic)));
        taken.and(produced)
    })
}

/// Reads gzip members one after the other.
struct Gunzip<'a> {
    file: &'a dyn ReadAt,
    progress: &'a Progress,
    inflater: Inflater,
    input: Vec<u8>,
    /// What of `input` is not used up.
    start: usize,
    end: usize,
    position: u64,
    done: u64,
}

impl<'a> Gunzip<'a> {
    fn new(file: &'a dyn ReadAt, progress: &'a Progress) -> Self {
        let inflater = Inflater::new();
        Gunzip { file, progress, inflater, input: vec![0; INPUT], start: 0, end: 0, position: 0, done: 0 }
    }

    /// Gets more input when there is none left; false at the end of the file.
    fn fill(&mut self) -> Result<bool, ImageError> {
        while self.start == self.end {
            match self.file.read_at(&mut self.input, self.position) {
                Ok(0) => return Ok(false),
                Ok(n) => (self.start, self.end, self.position) = (0, n, self.position + n as u64),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ImageError::read(self.position, source)),
            }
            self.progress.image.store(self.position, Relaxed);
        }
        Ok(true)
    }

    /// True where another member follows; zeros up to the end of the file are passed over.
    fn next_member(&mut self) -> Result<bool, ImageError> {
        if !self.fill()? {
            return Ok(false);
        }
        if self.input[self.start] == 0x1f {
            return Ok(true);
        }
        while self.fill()? {
            if !is_zero(&self.input[self.start..self.end]) {
                return Err(ImageError::foreign(
                    self.done,
                    "something that is not a gzip member follows the last one",
                ));
            }
            self.start = self.end;
        }
        Ok(false)
    }

    /// An error where the member that begins here carries our subfield: whatever its first bytes look like, the file
    /// is a testbox image, and not whole. And where a reserved bit of FLG is set, which "must give an error indication"
    /// (RFC 1952 section 2.3.1.2): what it stands for may change what follows.
    fn check_header(&self) -> Result<(), ImageError> {
        let have = &self.input[self.start..self.end];
        let at = self.position - have.len() as u64;
        let mut frame = [0; FRAME];
        let known = have.len().min(FRAME);
        frame[..known].copy_from_slice(&have[..known]);
        // It may begin at the end of the buffer. A file that ends here has no room for a member of ours.
        match self.file.read_exact_at(&mut frame[known..], at + known as u64) {
            Err(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => {
                return Err(ImageError::read(at, e));
            }
            _ => {}
        }
        if member::is_own(&frame) {
            let what = format!("it is damaged, with members of a testbox image from byte {at} on");
            return Err(ImageError::not_an_image(what));
        }
        if frame[FLG] & RESERVED != 0 {
            let what = format!("the gzip member at byte {at} of the file has reserved flags (RFC 1952)");
            return Err(ImageError::foreign(self.done, what));
        }
        Ok(())
    }

    fn run(mut self, out: &mut GunzipStage) -> Result<(), ImageError> {
        let mut buffer = out.buffer()?;
        buffer.len = 0;
        while self.next_member()? {
            self.check_header()?;
            self.inflater.begin_gzip();
            loop {
                if buffer.len == buffer.bytes.len() {
                    out.send(buffer)?;
                    buffer = out.buffer()?;
                    buffer.len = 0;
                    if self.progress.is_cancelled() {
                        return Err(ImageError::cancelled());
                    }
                }
                // The inflater may still hold output when the input is used up, so the end of the file is an error
                // only where nothing comes out any more.
                let more = self.fill()?;
                let step = self
                    .inflater
                    .step(&self.input[self.start..self.end], &mut buffer.bytes[buffer.len..])
                    .map_err(|e| ImageError::foreign(self.done, e))?;
                self.start += step.read;
                buffer.len += step.written;
                self.done += step.written as u64;
                if step.ended {
                    break;
                }
                if !more && step.written == 0 {
                    return Err(ImageError::foreign(self.done, "it was cut short"));
                }
                if step.read == 0 && step.written == 0 {
                    return Err(ImageError::foreign(self.done, "its deflate stream makes no sense"));
                }
            }
        }
        if buffer.len > 0 {
            out.send(buffer)?;
        }
        Ok(())
    }
}
