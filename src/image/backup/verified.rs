//! A backup that counts: written, read back, and made once more where it rested on what nobody had looked at.
//!
//! Members of the image before, and what a cut backup left, are taken over unread ([`Earlier::prove_base`]): only
//! reading back can tell whether they are good. Where they may be why that fails, the image is made again, each member
//! of the base read and proven before it is taken, and nothing kept.
#![forbid(unsafe_code)]

use crate::block::BlockDevice;
use crate::image::backup::backup_again;
use crate::image::backup::options::{BackupOptions, Earlier, Written};
use crate::image::backup::resume::Part;
use crate::image::error::{ImageError, ImageOp};
use crate::image::format::header::DiskAbout;
use crate::image::reader::Image;
use crate::image::verify::{verify, verify_again};
use crate::io::{ReadAt, SyncWrite};
use crate::progress::Progress;
use blake3::Hash;
use std::io;
use std::sync::Arc;

/// What is done with the file of a backup, one pass over it each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The disk is imaged into the file.
    Write,
    /// The file is read back and proven.
    ReadBack,
}

/// How a new image is read back; all of it is, in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBack {
    /// All of it is inflated.
    Inflate,
    /// What the base has too is not inflated again. The caller vouches for the base: see [`verify_again`].
    TrustBase,
}

/// The file of a backup in the making, and who is told of it.
pub trait BackupFile {
    /// Runs one pass, and tells meanwhile how far it is.
    fn during<T>(&self, pass: Pass, work: impl FnOnce(&Progress) -> T) -> T;

    /// The file to write to, and what a cut backup left in it; without that it must be empty.
    ///
    /// # Errors
    /// The file cannot be made.
    fn begin(&self) -> io::Result<(Box<dyn SyncWrite>, Option<Part>)>;

    /// Takes note of what was written, and not read back yet.
    fn written(&self, written: &Written);

    /// Opens what was written, to be read from where it is kept and not from a cache.
    ///
    /// # Errors
    /// It cannot be opened, or is another file.
    fn reopen(&self) -> io::Result<Arc<dyn ReadAt>>;

    /// Has whoever keeps the file read it back and prove it, where they do that themselves: its root hash and length. `None`
    /// where it is read back here.
    fn prove_there(&self, progress: &Progress) -> Option<Result<(Hash, u64), ImageError>> {
        let _ = progress;
        None
    }

    /// True where nothing of the base can be read here, only be copied there.
    fn hides_base(&self) -> bool {
        false
    }

    /// Takes note of why the image is made once more, and removes what was written: nothing of it may be kept.
    ///
    /// # Errors
    /// It cannot be removed, or the work must end here.
    fn discard(&self, why: &ImageError) -> io::Result<()>;
}

/// Images a whole disk and proves the image, which is returned with what was written. `base` is the image before of the
/// same disk, where there is one.
///
/// # Errors
/// Those of [`backup_again`]; [`ErrorKind::Corrupt`](crate::image::ErrorKind::Corrupt) where the file does not read back
/// as the image that was written, also after having been made from what was read and proven.
pub fn backup_verified(
    disk: &dyn BlockDevice,
    about: &DiskAbout,
    opts: &BackupOptions,
    base: Option<Arc<Image>>,
    read_back: ReadBack,
    file: &impl BackupFile,
) -> Result<(Written, Image), ImageError> {
    let trusted = base.clone().filter(|_| read_back == ReadBack::TrustBase);
    let proof = |written: &Written| prove(written, trusted.as_deref(), opts.threads, file);
    attempts(disk, about, opts, base, file, proof)
}

/// As [`backup_verified`], and nothing is read back.
///
/// # Errors
/// Those of [`backup_again`].
pub fn backup_unverified(
    disk: &dyn BlockDevice,
    about: &DiskAbout,
    opts: &BackupOptions,
    base: Option<Arc<Image>>,
    file: &impl BackupFile,
) -> Result<Written, ImageError> {
    attempts(disk, about, opts, base, file, |_| Ok(())).map(|(written, ())| written)
}

fn attempts<T>(
    disk: &dyn BlockDevice,
    about: &DiskAbout,
    opts: &BackupOptions,
    base: Option<Arc<Image>>,
    file: &impl BackupFile,
    proof: impl Fn(&Written) -> Result<T, ImageError>,
) -> Result<(Written, T), ImageError> {
    let mut earlier = Earlier { base, ..Earlier::default() };
    loop {
        let written = write(disk, about, opts, &earlier, file);
        let rests_on_unread = match &written {
            Ok(written) => written.unread_bytes > 0 || written.kept_bytes > 0,
            Err(_) => earlier.base.is_some(),
        };
        let made = written.and_then(|written| {
            file.written(&written);
            let proven = proof(&written)?;
            Ok((written, proven))
        });
        match made {
            Err(e) if !earlier.prove_base && rests_on_unread && e.is_of_image() => {
                file.discard(&e).map_err(|e| ImageError::sink(ImageOp::Create, 0, e))?;
                earlier.prove_base = true;
                if file.hides_base() {
                    earlier.base = None;
                }
            }
            made => return made,
        }
    }
}

fn write(
    disk: &dyn BlockDevice,
    about: &DiskAbout,
    opts: &BackupOptions,
    earlier: &Earlier,
    file: &impl BackupFile,
) -> Result<Written, ImageError> {
    file.during(Pass::Write, |progress| {
        let (mut sink, part) = file.begin().map_err(|e| ImageError::sink(ImageOp::Create, 0, e))?;
        let earlier = Earlier { part, ..earlier.clone() };
        backup_again(disk, &mut *sink, about, opts, &earlier, progress)
    })
}

/// The file must be a whole image, and the one that was written.
fn prove(
    written: &Written,
    base: Option<&Image>,
    threads: usize,
    file: &impl BackupFile,
) -> Result<Image, ImageError> {
    file.during(Pass::ReadBack, |progress| {
        if let Some(proven) = file.prove_there(progress) {
            return proven_there(written, proven?, file);
        }
        let image = Image::open(file.reopen().map_err(|e| ImageError::read(0, e))?)?;
        let summary = match base {
            Some(base) => verify_again(&image, base, threads, progress)?,
            None => verify(&image, threads, progress)?,
        };
        if summary.root_hash != written.root_hash || summary.image != written.image_bytes {
            return Err(ImageError::not_written("it is not the image that was written"));
        }
        Ok(image)
    })
}

/// What was proven must be what was written; of the image only header, index and footer are read.
fn proven_there(
    written: &Written,
    (root_hash, size): (Hash, u64),
    file: &impl BackupFile,
) -> Result<Image, ImageError> {
    let image = Image::open(file.reopen().map_err(|e| ImageError::read(0, e))?)?;
    let there = image.summary();
    let same = |hash: Hash, bytes: u64| hash == written.root_hash && bytes == written.image_bytes;
    if !same(root_hash, size) || !same(there.root_hash, there.image) {
        return Err(ImageError::not_written("it is not the image that was written"));
    }
    Ok(image)
}
