//! Any other gzip of a disk: from `gzip`, `pigz`, `igzip`, or the original system.
//!
//! Such a file has no size, no identity and no hash of its own, so it is inflated twice: [`measure`] inflates all of
//! it before anything is written, and [`restore`] must then find the same bytes, and find them on the disk.
#![forbid(unsafe_code)]

use crate::block::{AlignedBuf, BlockDevice};
use crate::image::bad_sectors::disk_error;
use crate::image::error::ImageError;
use crate::image::format::member::{self, FRAME};
use crate::image::reader::{FileKind, file_kind};
use crate::image::restore::leg::drop_cache;
use crate::image::restore::phases::{Body, Restored, restore_one};
use crate::image::restore::seal::{JUST_WRITTEN, Seal};
use crate::image::verify::{differs, read};
use crate::io::{ReadAt, is_zero};
use crate::progress::Progress;
use crate::sys::isal::Inflater;
use blake3::Hash;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

/// Bytes per buffer of inflated content.
const BUFFER: usize = 1 << 20;
/// Buffers between two stages.
const BUFFERS: usize = 8;
/// Bytes per read of the file.
const INPUT: usize = 1 << 20;

/// Place of the flags in the header of a gzip member, and those that are reserved (RFC 1952 section 2.3.1).
const FLG: usize = 3;
const RESERVED: u8 = 0xe0;

/// What a foreign gzip holds, found by inflating all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Bytes of disk.
    pub size: u64,
    /// BLAKE3 of them.
    pub hash: Hash,
}

/// Inflates the whole file, with every CRC32 and ISIZE checked, and writes nothing. More content than `limit`
/// bytes (the size of the target disk) is refused as soon as it shows, so a bomb costs no more than the disk.
///
/// Members may follow each other, and zeros may follow the last, as gzip(1) takes them; anything else behind it is
/// refused. So is every file with a member of testbox in it: a gzip reader cannot tell whether an image is whole.
pub fn measure(file: &dyn ReadAt, limit: u64, progress: &Progress) -> Result<Content, ImageError> {
    if file_kind(file)? != FileKind::Gzip {
        return Err(wrong(0, "it is not a foreign gzip file"));
    }
    progress.start(limit);
    let mut hasher = blake3::Hasher::new();
    let mut size = 0u64;
    inflated(file, progress, |bytes| {
        size += bytes.len() as u64;
        if size > limit {
            return Err(wrong(limit, format!("it holds more than the {limit} bytes of the disk")));
        }
        hasher.update(bytes);
        progress.add_done(bytes.len() as u64);
        Ok(())
    })?;
    Ok(Content { size, hash: hasher.finalize() })
}

/// Writes a foreign gzip onto one disk; `content` is what [`measure`] found. All phases of a restore
/// ([`super::phases`]), one after the other.
///
/// # Errors
/// As [`super::restore()`].
pub fn restore(
    file: &dyn ReadAt,
    content: &Content,
    disk: &dyn BlockDevice,
    progress: &Progress,
) -> Result<Restored, ImageError> {
    restore_one(disk, &GzipBody::new(file, *content), progress)
}

/// What a foreign gzip holds, to be written onto a disk. Progress counts every byte of disk twice.
pub struct GzipBody<'a> {
    file: &'a dyn ReadAt,
    content: Content,
}

impl<'a> GzipBody<'a> {
    /// The content of this file, as [`measure`] found it.
    pub fn new(file: &'a dyn ReadAt, content: Content) -> Self {
        GzipBody { file, content }
    }
}

impl Body for GzipBody<'_> {
    fn size(&self) -> u64 {
        self.content.size
    }

    fn logical_block_size(&self) -> Option<u32> {
        None
    }

    fn check(&self, _: &Progress) -> Result<(), ImageError> {
        if file_kind(self.file)? != FileKind::Gzip {
            return Err(wrong(0, "it is not a foreign gzip file"));
        }
        Ok(())
    }

    fn work(&self) -> u64 {
        self.content.size.saturating_mul(2)
    }

    fn write(
        &self,
        disk: &dyn BlockDevice,
        seal: &Seal,
        progress: &Progress,
    ) -> Result<Restored, ImageError> {
        let GzipBody { file, content } = self;
        write_content(*file, content, disk, seal, progress)?;
        seal.flush()?;
        drop_cache(disk)?;
        read_back(content, disk, seal, progress)?;
        Ok(Restored {
            disk_bytes: content.size,
            zero_bytes: progress.zero.load(Relaxed),
            written_bytes: content.size,
            ..Restored::default()
        })
    }
}

fn write_content(
    file: &dyn ReadAt,
    content: &Content,
    disk: &dyn BlockDevice,
    seal: &Seal,
    progress: &Progress,
) -> Result<(), ImageError> {
    let mut at = 0u64;
    inflated(file, progress, |bytes| {
        let range = at..at + bytes.len() as u64;
        if range.end > content.size {
            return Err(wrong(at, "it holds more than when it was measured"));
        }
        seal.keep(bytes, at);
        if let Some(body) = seal.body(&range) {
            let len = body.end - body.start;
            let part = &bytes[(body.start - at) as usize..(body.end - at) as usize];
            if is_zero(part) {
                progress.zero.fetch_add(len, Relaxed);
                disk.write_zeroes(body.start, len)
                    .map_err(|e| disk_error(disk, "zero", body.start, len, e))?;
            } else {
                disk.write_at(part, body.start).map_err(|e| disk_error(disk, "write", body.start, len, e))?;
            }
        }
        at = range.end;
        progress.add_done(bytes.len() as u64);
        Ok(())
    })?;
    if at != content.size {
        return Err(wrong(at, "it holds less than when it was measured"));
    }
    Ok(())
}

/// Hashes the disk, with the sealed parts as they will be, and compares with the hash that was measured.
fn read_back(
    content: &Content,
    disk: &dyn BlockDevice,
    seal: &Seal,
    progress: &Progress,
) -> Result<(), ImageError> {
    let mut hasher = blake3::Hasher::new();
    let source = |out: &mut Stage| {
        let mut at = 0;
        while at < content.size {
            let mut buf = out.buffer()?;
            buf.len = (content.size - at).min(BUFFER as u64) as usize;
            read(disk, &mut buf.bytes[..buf.len], at)?;
            seal.overlay(&mut buf.bytes[..buf.len], at);
            at += buf.len as u64;
            out.send(buf)?;
        }
        Ok(())
    };
    overlapped(source, |bytes| {
        if progress.is_cancelled() {
            return Err(ImageError::Cancelled);
        }
        hasher.update(bytes);
        progress.add_done(bytes.len() as u64);
        Ok(())
    })?;
    if hasher.finalize() != content.hash {
        return Err(differs(disk, 0..content.size, JUST_WRITTEN));
    }
    Ok(())
}

fn wrong(done: u64, what: impl Into<String>) -> ImageError {
    ImageError::Foreign { done, what: what.into() }
}

/// Inflates `file` on one thread and gives its content to `take` on this one, in buffers of [`BUFFER`] bytes (the
/// last may be shorter).
fn inflated(
    file: &dyn ReadAt,
    progress: &Progress,
    take: impl FnMut(&[u8]) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    overlapped(|out| Gunzip::new(file, progress).run(out), take)
}

/// A buffer on its way.
struct Buffer {
    bytes: AlignedBuf,
    len: usize,
}

/// The producing end: where buffers come from and go to.
struct Stage {
    free: Receiver<Buffer>,
    full: Sender<Buffer>,
}

impl Stage {
    // A closed channel means that the other side failed; its error is the one that counts.
    fn buffer(&self) -> Result<Buffer, ImageError> {
        self.free.recv().map_err(|_| ImageError::Cancelled)
    }

    fn send(&self, buffer: Buffer) -> Result<(), ImageError> {
        self.full.send(buffer).map_err(|_| ImageError::Cancelled)
    }
}

/// Runs `produce` on a thread of its own beside `take` here, with a few buffers between them.
fn overlapped(
    produce: impl FnOnce(&mut Stage) -> Result<(), ImageError> + Send,
    mut take: impl FnMut(&[u8]) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let (free_in, free) = bounded(BUFFERS);
    let (full, full_out) = bounded::<Buffer>(BUFFERS);
    for _ in 0..BUFFERS {
        let _ = free_in.send(Buffer { bytes: AlignedBuf::new(BUFFER), len: 0 });
    }
    thread::scope(|scope| {
        let mut stage = Stage { free, full };
        let producer = thread::Builder::new()
            .name("image-stage".into())
            .spawn_scoped(scope, move || produce(&mut stage))
            .map_err(|source| ImageError::Resource { op: "start a thread", source })?;
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
                Err(source) => return Err(ImageError::Read { position: self.position, source }),
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
                return Err(wrong(self.done, "something that is no gzip member follows the last one"));
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
                return Err(ImageError::Read { position: at, source: e });
            }
            _ => {}
        }
        if member::is_own(&frame) {
            let what = format!("it is damaged, with members of a testbox image from byte {at} on");
            return Err(ImageError::NotAnImage(what));
        }
        if frame[FLG] & RESERVED != 0 {
            let what = format!("the gzip member at byte {at} of the file has reserved flags (RFC 1952)");
            return Err(wrong(self.done, what));
        }
        Ok(())
    }

    fn run(mut self, out: &mut Stage) -> Result<(), ImageError> {
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
                        return Err(ImageError::Cancelled);
                    }
                }
                // The inflater may still hold output when the input is used up, so the end of the file is an error
                // only where nothing comes out any more.
                let more = self.fill()?;
                let step = self
                    .inflater
                    .step(&self.input[self.start..self.end], &mut buffer.bytes[buffer.len..])
                    .map_err(|e| wrong(self.done, e))?;
                self.start += step.read;
                buffer.len += step.written;
                self.done += step.written as u64;
                if step.ended {
                    break;
                }
                if !more && step.written == 0 {
                    return Err(wrong(self.done, "it was cut short"));
                }
                if step.read == 0 && step.written == 0 {
                    return Err(wrong(self.done, "its deflate stream makes no sense"));
                }
            }
        }
        if buffer.len > 0 {
            out.send(buffer)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::mem::{Fault, MemDisk, Op};
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn disk_bytes(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes[..len / 3]);
        for (i, byte) in bytes[len / 3..len / 2].iter_mut().enumerate() {
            *byte = (i / 7) as u8;
        }
        bytes
    }

    /// Several members of several levels, as pigz -i, bgzip or cat make them.
    fn members(bytes: &[u8], sizes: usize) -> Vec<u8> {
        bytes.chunks(sizes).enumerate().flat_map(|(i, part)| gzip(part, i as u32 % 10)).collect()
    }

    #[test]
    fn gzips_of_one_and_many_members_restore_exactly() {
        let bytes = disk_bytes((5 << 20) + 512);
        let progress = Progress::new();
        for mut file in [gzip(&bytes, 6), gzip(&bytes, 0), members(&bytes, 100_000), members(&bytes, 1 << 20)]
        {
            for padding in [0, 10_240] {
                file.resize(file.len() + padding, 0);
                let content = measure(&file, bytes.len() as u64, &progress).unwrap();
                assert_eq!((content.size, content.hash), (bytes.len() as u64, blake3::hash(&bytes)));
                let disk = MemDisk::new("sda", vec![0xaa; bytes.len() + 4096], 512);
                let restored = restore(&file, &content, &disk, &progress).unwrap();
                assert!(restored.disk_bytes == content.size && disk.durable()[..bytes.len()] == bytes);
            }
        }
    }

    #[test]
    fn damaged_cut_and_too_large_files_are_refused_before_the_first_write() {
        let bytes = disk_bytes(300_000);
        let file = members(&bytes, 50_000);
        let progress = Progress::new();
        let size = bytes.len() as u64;
        assert!(measure(&file, size, &progress).is_ok());
        let error = measure(&file, size - 1, &progress).unwrap_err().to_string();
        assert!(error.contains("more than the 299999 bytes"), "{error}");
        let last = file.len() - gzip(&bytes[250_000..], 5).len();
        for cut in (0..40).map(|i| file.len() * i / 40).filter(|c| *c != 0) {
            // A cut between members leaves a shorter gzip, which only a size can tell.
            let whole = measure(&file[..cut].to_vec(), size, &progress);
            assert!(whole.is_err() || cut == last, "cut at {cut}");
        }
        for at in (0..file.len()).step_by(997) {
            let mut bad = file.clone();
            bad[at] ^= 0x10;
            let found = measure(&bad, size, &progress);
            assert!(found.is_err() || found.unwrap().hash == blake3::hash(&bytes), "byte {at}");
        }
        let mut garbage = file.clone();
        garbage.extend_from_slice(b"\0\0\0more");
        assert!(measure(&garbage, size, &progress).is_err());
        for other in [&b""[..], b"\x1f", b"hello", &[0; 512]] {
            assert!(measure(&other.to_vec(), size, &progress).is_err());
        }
    }

    #[test]
    fn reserved_flags_of_any_member_are_refused() {
        let bytes = disk_bytes(300_000);
        let (size, progress) = (bytes.len() as u64, Progress::new());
        let parts: Vec<Vec<u8>> = bytes.chunks(100_000).map(|part| gzip(part, 6)).collect();
        // A header can lie across two reads of the file, too.
        let padding = vec![gzip(&[], 0); INPUT / gzip(&[], 0).len()].concat();
        for (nth, bit) in (0..parts.len()).flat_map(|nth| [0x20, 0x40, 0x80].map(|bit| (nth, bit))) {
            let mut bad = parts.clone();
            bad[nth][FLG] |= bit;
            for front in [&[][..], &padding] {
                let file = [front, &bad.concat()].concat();
                let error = measure(&file, size, &progress).unwrap_err().to_string();
                assert!(error.contains("reserved flags"), "member {nth}, {bit:#x}: {error}");
                assert!(measure(&[front, &parts.concat()].concat(), size, &progress).is_ok());
            }
        }
    }

    #[test]
    fn a_file_that_changed_after_measuring_leaves_the_disk_unbootable() {
        let bytes = disk_bytes(4 << 20);
        let progress = Progress::new();
        let content = measure(&gzip(&bytes, 1), 1 << 30, &progress).unwrap();
        let mut other = bytes.clone();
        other[2 << 20] ^= 1;
        for file in [gzip(&other, 1), gzip(&bytes[..3 << 20], 1), gzip(&[&bytes[..], &[0; 512]].concat(), 1)]
        {
            let disk = MemDisk::new("sda", vec![0xaa; 5 << 20], 512);
            let error = restore(&file, &content, &disk, &progress).unwrap_err();
            assert!(error.disk_was_touched(), "{error}");
            assert!(is_zero(&disk.content()[..1 << 20]));
        }
    }

    #[test]
    fn whatever_operation_fails_the_disk_is_unbootable_or_whole() {
        let bytes = disk_bytes(3 << 20);
        let progress = Progress::new();
        let file = gzip(&bytes, 1);
        let content = measure(&file, 1 << 30, &progress).unwrap();
        let count = {
            let disk = MemDisk::new("sda", vec![0xaa; bytes.len()], 512);
            restore(&file, &content, &disk, &progress).unwrap();
            disk.log().len() as u64
        };
        for fault in [Fault::Errno(libc::EIO), Fault::Drop, Fault::FlipBit(12_345)] {
            for nth in 0..count {
                let disk = MemDisk::new("sda", vec![0xaa; bytes.len()], 512);
                disk.fail_nth(nth, fault, false);
                let result = restore(&file, &content, &disk, &progress);
                let now = disk.content();
                match result {
                    Ok(_) => assert!(now == bytes, "{fault:?} at {nth}"),
                    Err(error) => {
                        let unbootable = is_zero(&now[..1 << 20]);
                        let body_untouched = now[1 << 20..2 << 20].iter().all(|b| *b == 0xaa);
                        assert!(unbootable || body_untouched, "{fault:?} at {nth}: {error}");
                    }
                }
            }
        }
        let disk = MemDisk::new("sda", vec![0xaa; bytes.len()], 512);
        disk.inject(Op::Write, 0..u64::MAX, Fault::Errno(libc::EIO), u64::MAX);
        let error = restore(&file, &content, &disk, &progress).unwrap_err().to_string();
        assert!(error.contains("sda") && error.contains("LBA 0"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_are_an_error_and_no_crash(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = measure(&bytes, 1 << 20, &Progress::new());
            bytes.splice(0..0, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
            let _ = measure(&bytes, 1 << 20, &Progress::new());
        }
    }
}
