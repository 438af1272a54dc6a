//! An image file of either kind: one of testbox, or any other gzip of a disk.
//!
//! What both can do is here, once: who has an image need not know which it is. A foreign gzip says nothing of itself,
//! so all of it is inflated where an image of testbox is checked by its hashes, and its disk is compared as a whole.
#![forbid(unsafe_code)]

use crate::block::BlockDevice;
use crate::image::error::ImageError;
use crate::image::reader::{FileKind, Image, file_kind};
use crate::image::restore::ImageBody;
use crate::image::restore::foreign::{self, GzipBody, Measured};
use crate::image::restore::options::RestoreOptions;
use crate::image::restore::phases::{Body, restore_one};
use crate::image::restore::restored::Restored;
use crate::image::verify::{scrub, verify, verify_again, verify_against};
use crate::io::ReadAt;
use crate::progress::Progress;
use crate::used::Growth;
use std::sync::Arc;

/// An open image file.
pub enum ImageFile {
    /// One of testbox.
    Own(Box<Image>),
    /// A gzip file that testbox did not make.
    Foreign(Arc<dyn ReadAt>),
}

/// How an image of testbox is proven whole. A foreign gzip is always inflated.
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    /// Everything is inflated: [`verify()`].
    Inflate,
    /// No byte is another than when it was made: [`scrub`].
    Scrub,
    /// What this image has too is not inflated again: [`verify_again`].
    Base(&'a Image),
}

impl ImageFile {
    /// Opens an image. A damaged one of testbox is an error, and never a foreign gzip: a gzip reader could not tell that
    /// it was cut.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::image::ErrorKind::Corrupt) where it is neither; those of reading it.
    pub fn open(file: Arc<dyn ReadAt>) -> Result<Self, ImageError> {
        match file_kind(&*file)? {
            FileKind::Testbox => Image::open(file).map(|image| ImageFile::Own(Box::new(image))),
            FileKind::Gzip => Ok(ImageFile::Foreign(file)),
            FileKind::Other => Err(ImageError::corrupt("it is neither a testbox image nor a gzip file")),
        }
    }

    /// The image of testbox.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::image::ErrorKind::Corrupt) where it is a foreign gzip.
    pub fn into_own(self) -> Result<Box<Image>, ImageError> {
        match self {
            ImageFile::Own(image) => Ok(image),
            ImageFile::Foreign(_) => Err(ImageError::not_an_image("it does not begin as one")),
        }
    }

    /// True where parts of the disk could not be read when it was imaged, as far as the image knows.
    pub fn is_degraded(&self) -> bool {
        match self {
            ImageFile::Own(image) => image.summary().degraded,
            ImageFile::Foreign(_) => false,
        }
    }

    /// Bytes of disk that the image leaves out because they were unallocated.
    pub fn unallocated(&self) -> u64 {
        match self {
            ImageFile::Own(image) => image.summary().unallocated,
            ImageFile::Foreign(_) => 0,
        }
    }

    /// What the image says that it holds, unproven; a foreign gzip says nothing.
    pub fn claim(&self) -> Option<Measured> {
        match self {
            ImageFile::Own(image) => Some(claim(image)),
            ImageFile::Foreign(_) => None,
        }
    }

    /// Proves the image whole, and finds out what it holds. A foreign gzip that holds more than `limit` bytes, the size
    /// of the disk that it is for, is refused as soon as that shows. `threads` that work; 0 is one per core.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::image::ErrorKind::Corrupt), and those of reading it.
    pub fn verify(
        &self,
        proof: Proof<'_>,
        limit: u64,
        threads: usize,
        progress: &Progress,
    ) -> Result<Measured, ImageError> {
        let image = match self {
            ImageFile::Own(image) => image,
            ImageFile::Foreign(file) => return foreign::measure(&**file, limit, progress),
        };
        match proof {
            Proof::Inflate => verify(image, threads, progress)?,
            Proof::Scrub => scrub(image, threads, progress)?,
            Proof::Base(base) => verify_again(image, base, threads, progress)?,
        };
        Ok(claim(image))
    }

    /// Compares a disk with what [`ImageFile::verify`] has found the image to hold. The disk may be longer. The answer is the
    /// partition that has grown since it was restored, and was not compared.
    ///
    /// # Errors
    /// [`ErrorKind::Differs`](crate::image::ErrorKind::Differs),
    /// [`ErrorKind::Refused`](crate::image::ErrorKind::Refused) where the disk is smaller; those of disk and file.
    pub fn compare(
        &self,
        measured: &Measured,
        disk: &dyn BlockDevice,
        threads: usize,
        progress: &Progress,
    ) -> Result<Option<Growth>, ImageError> {
        match self {
            ImageFile::Own(image) => verify_against(image, disk, threads, progress),
            ImageFile::Foreign(_) => foreign::compare(measured, disk, progress).map(|()| None),
        }
    }

    /// What is to be written onto a disk: what [`ImageFile::verify`] has found, or [`ImageFile::claim`] says.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::image::ErrorKind::Corrupt) where the file is another image than that.
    pub fn body(
        &self,
        measured: &Measured,
        options: &RestoreOptions,
    ) -> Result<Box<dyn Body + '_>, ImageError> {
        match self {
            ImageFile::Own(image) if claim(image) != *measured => {
                Err(ImageError::corrupt("it is another image than the one that was checked"))
            }
            ImageFile::Own(image) => Ok(Box::new(ImageBody::new(image, options.clone()))),
            ImageFile::Foreign(file) => Ok(Box::new(GzipBody::new(&**file, *measured))),
        }
    }

    /// Writes the image onto one disk: see [`crate::image::restore()`].
    ///
    /// # Errors
    /// Those of [`ImageFile::body`] and [`crate::image::restore()`].
    pub fn restore(
        &self,
        measured: &Measured,
        disk: &dyn BlockDevice,
        options: &RestoreOptions,
        progress: &Progress,
    ) -> Result<Restored, ImageError> {
        restore_one(disk, &*self.body(measured, options)?, progress)
    }
}

/// An image is named, and all that it holds is bound, by its root hash.
fn claim(image: &Image) -> Measured {
    let summary = image.summary();
    Measured { size: summary.disk, hash: summary.root_hash }
}
