//! The bytes of the disk that an image holds.
#![forbid(unsafe_code)]

use crate::image::error::{ImageError, ImageOp};
use crate::image::format::member::MemberKind;
use crate::image::reader::Image;
use crate::image::workspace::Workspace;
use crate::io::{ReadAt, ZEROS};
use std::io::Write;
use std::ops::Range;

impl Image {
    /// Writes the bytes of a range of the disk to `out`, reading only the members that it needs.
    ///
    /// # Errors
    /// The image cannot be read or is damaged, `out` cannot be written, or the range is behind the end.
    pub fn cat(&self, range: Range<u64>, out: &mut dyn Write) -> Result<(), ImageError> {
        if range.start > range.end || range.end > self.footer().disk_size {
            return Err(ImageError::refused_range(&range, self.footer().disk_size));
        }
        let mut work = Workspace::new(self);
        let mut written = 0;
        for run in self.runs_in(range.clone()) {
            let run = run?;
            let from = range.start.max(run.offset);
            let until = range.end.min(run.offset + run.length);
            let mut write = |bytes: &[u8]| {
                out.write_all(bytes).map_err(|source| ImageError::sink(ImageOp::Write, written, source))?;
                written += bytes.len() as u64;
                Ok(())
            };
            if run.kind == MemberKind::Data {
                let raw = work.load(self, &run)?;
                write(&raw[(from - run.offset) as usize..(until - run.offset) as usize])?;
            } else {
                let mut left = until - from;
                while left > 0 {
                    let n = left.min(ZEROS.len() as u64);
                    write(&ZEROS[..n as usize])?;
                    left -= n;
                }
            }
        }
        Ok(())
    }

    /// The disk that the image holds, for whoever reads a few places of it.
    pub fn content(&self) -> ImageContent<'_> {
        ImageContent(self)
    }
}

/// The bytes of the disk in an image. Each read inflates the members that it needs anew.
pub struct ImageContent<'a>(&'a Image);

impl ReadAt for ImageContent<'_> {
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.0.footer().disk_size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let left = self.0.footer().disk_size.saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let mut to = &mut buf[..len];
        if len > 0 {
            self.0.cat(offset..offset + len as u64, &mut to).map_err(std::io::Error::other)?;
        }
        Ok(len)
    }
}
