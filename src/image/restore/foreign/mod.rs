//! Any other gzip of a disk: from `gzip`, `pigz`, `igzip`, or the original system.
//!
//! Such a file has no size, no identity and no hash of its own, so it is inflated twice: [`measure`] inflates all of
//! it before anything is written, and [`restore`] must then find the same bytes, and find them on the disk.
#![forbid(unsafe_code)]

mod gunzip;
#[cfg(test)]
mod tests;

use crate::block::BlockDevice;
use crate::image::error::{ImageError, ImageOp};
use crate::image::reader::{FileKind, file_kind};
use crate::image::resized::AsImaged;
use crate::image::restore::batch::drop_cache;
use crate::image::restore::boot_areas::BootAreas;
use crate::image::restore::lack::Lack;
use crate::image::restore::needed::Needed;
use crate::image::restore::phases::{Body, restore_one};
use crate::image::restore::restored::Restored;
use crate::image::verify::read;
use crate::io::{ReadAt, is_zero};
use crate::progress::Progress;
use blake3::Hash;
use gunzip::{BUFFER, GunzipStage, inflated, overlapped};
use std::sync::atomic::Ordering::Relaxed;

/// What an image file was found to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Bytes of disk.
    pub size: u64,
    /// BLAKE3 of them, or the root hash of an image of testbox, which binds them.
    pub hash: Hash,
}

/// Inflates the whole file, with every CRC32 and ISIZE checked, and writes nothing. More content than `limit`
/// bytes (the size of the target disk) is refused as soon as it shows, so a bomb costs no more than the disk.
///
/// Members may follow each other, and zeros may follow the last, as gzip(1) takes them; anything else behind it is
/// refused. So is every file with a member of testbox in it: a gzip reader cannot tell whether an image is whole.
///
/// # Errors
/// The file cannot be read, is damaged or is not a gzip file, or holds more than `limit`.
pub fn measure(file: &dyn ReadAt, limit: u64, progress: &Progress) -> Result<Measured, ImageError> {
    if file_kind(file)? != FileKind::Gzip {
        return Err(ImageError::foreign(0, "it is not a foreign gzip file"));
    }
    progress.start(limit);
    let mut hasher = blake3::Hasher::new();
    let mut size = 0u64;
    inflated(file, progress, |bytes| {
        size += bytes.len() as u64;
        if size > limit {
            return Err(ImageError::foreign(
                limit,
                format!("it holds more than the {limit} bytes of the disk"),
            ));
        }
        hasher.update(bytes);
        progress.add_done(bytes.len() as u64);
        Ok(())
    })?;
    Ok(Measured { size, hash: hasher.finalize() })
}

/// Writes a foreign gzip onto one disk; `content` is what [`measure`] found. All phases of a restore
/// ([`super::phases`]), one after the other.
///
/// # Errors
/// As [`super::restore()`].
pub fn restore(
    file: &dyn ReadAt,
    content: &Measured,
    disk: &dyn BlockDevice,
    progress: &Progress,
) -> Result<Restored, ImageError> {
    restore_one(disk, &GzipBody::new(file, *content), progress)
}

/// What a foreign gzip holds, to be written onto a disk. Progress counts every byte of disk twice.
pub struct GzipBody<'a> {
    file: &'a dyn ReadAt,
    content: Measured,
}

impl<'a> GzipBody<'a> {
    /// The content of this file, as [`measure`] found it.
    pub fn new(file: &'a dyn ReadAt, content: Measured) -> Self {
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

    /// All: what of it is not used, nobody has said.
    fn needed(&self) -> Result<Needed, ImageError> {
        Ok(Needed { bytes: self.content.size, why: "a gzip file of all of a disk".into() })
    }

    fn check(&self, _: &Progress) -> Result<(), ImageError> {
        if file_kind(self.file)? != FileKind::Gzip {
            return Err(ImageError::foreign(0, "it is not a foreign gzip file"));
        }
        Ok(())
    }

    /// Nothing is known of its parts: it is written anew.
    fn compare(&self, _: &dyn BlockDevice, _: &BootAreas, _: &Progress) -> Result<Lack, ImageError> {
        Ok(Lack::all())
    }

    fn work(&self) -> u64 {
        self.content.size.saturating_mul(2)
    }

    fn write(
        &self,
        disk: &dyn BlockDevice,
        areas: &BootAreas,
        _: &Lack,
        progress: &Progress,
    ) -> Result<Restored, ImageError> {
        let GzipBody { file, content } = self;
        let image_bytes = file.size().map_err(|source| ImageError::read(0, source))?;
        write_content(*file, content, disk, areas, progress)?;
        areas.flush()?;
        drop_cache(disk)?;
        read_back(content, disk, areas, progress)?;
        Ok(Restored {
            disk_bytes: content.size,
            zero_bytes: progress.zero.load(Relaxed),
            written_bytes: content.size,
            image_bytes,
            // Once to measure it.
            read_bytes: image_bytes.saturating_mul(2),
            ..Restored::default()
        })
    }
}

fn write_content(
    file: &dyn ReadAt,
    content: &Measured,
    disk: &dyn BlockDevice,
    areas: &BootAreas,
    progress: &Progress,
) -> Result<(), ImageError> {
    let mut at = 0u64;
    inflated(file, progress, |bytes| {
        let range = at..at + bytes.len() as u64;
        if range.end > content.size {
            return Err(ImageError::foreign(at, "it holds more than when it was measured"));
        }
        areas.keep(bytes, at);
        if let Some(body) = areas.body(&range) {
            let len = body.end - body.start;
            let part = &bytes[(body.start - at) as usize..(body.end - at) as usize];
            if is_zero(part) {
                progress.zero.fetch_add(len, Relaxed);
                disk.write_zeroes(body.start, len)
                    .map_err(|e| ImageError::transfer(disk, ImageOp::Zero, body.start, len, e))?;
            } else {
                disk.write_at(part, body.start)
                    .map_err(|e| ImageError::transfer(disk, ImageOp::Write, body.start, len, e))?;
            }
        }
        at = range.end;
        progress.add_done(bytes.len() as u64);
        Ok(())
    })?;
    if at != content.size {
        return Err(ImageError::foreign(at, "it holds less than when it was measured"));
    }
    Ok(())
}

/// Hashes the disk, with the boot areas as they will be, and compares with the hash that was measured.
fn read_back(
    content: &Measured,
    disk: &dyn BlockDevice,
    areas: &BootAreas,
    progress: &Progress,
) -> Result<(), ImageError> {
    match hash_of(content.size, disk, progress, |bytes, at| areas.overlay(bytes, at))? == content.hash {
        true => Ok(()),
        false => Err(ImageError::differs(disk, &(0..content.size), ImageOp::ReadBack)),
    }
}

/// The hash of the first `size` bytes of a disk, each buffer of which `change` may change before it counts.
fn hash_of(
    size: u64,
    disk: &dyn BlockDevice,
    progress: &Progress,
    change: impl Fn(&mut [u8], u64) + Sync,
) -> Result<Hash, ImageError> {
    let mut hasher = blake3::Hasher::new();
    let source = |out: &mut GunzipStage| {
        let mut at = 0;
        while at < size {
            let mut buf = out.buffer()?;
            buf.len = (size - at).min(BUFFER as u64) as usize;
            read(disk, &mut buf.bytes[..buf.len], at)?;
            change(&mut buf.bytes[..buf.len], at);
            at += buf.len as u64;
            out.send(buf)?;
        }
        Ok(())
    };
    overlapped(source, |bytes| {
        if progress.is_cancelled() {
            return Err(ImageError::cancelled());
        }
        hasher.update(bytes);
        progress.add_done(bytes.len() as u64);
        Ok(())
    })?;
    Ok(hasher.finalize())
}

/// Compares the beginning of a disk with what a foreign gzip holds, as [`measure`] found it; its table by what it means
/// (`image::resized`). Progress counts bytes of disk.
///
/// # Errors
/// [`ErrorKind::Differs`](crate::image::ErrorKind::Differs), without the place: a single hash is all that there is to
/// compare with; [`ErrorKind::Refused`](crate::image::ErrorKind::Refused) where the disk is smaller; those of the disk.
pub fn compare(content: &Measured, disk: &dyn BlockDevice, progress: &Progress) -> Result<(), ImageError> {
    if disk.size() < content.size {
        let sizes = format!("it has {} bytes, the image {}", disk.size(), content.size);
        return Err(ImageError::refused(disk, sizes));
    }
    progress.start(content.size);
    let as_imaged = AsImaged::new(disk, content.size, disk.logical_block_size());
    match hash_of(content.size, &as_imaged, progress, |_, _| {})? == content.hash {
        true => Ok(()),
        false => Err(ImageError::differs(disk, &(0..content.size), ImageOp::Compare)),
    }
}
