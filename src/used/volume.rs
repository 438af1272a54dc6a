//! A part of a disk: as its table gives it, and as one parser looks at it.
#![forbid(unsafe_code)]

use crate::io::ReadAt;
use crate::text::without_controls;
use std::{fmt, io};

/// Longest piece that is read at once, in bytes: what a hostile length can cost.
const MAX_READ: usize = 16 << 20;

/// Why a volume is imaged whole: `ext4: the journal needs recovery`. For people; it stands in the log and in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// What the volume looks like, such as `ext4`.
    pub kind: &'static str,
    /// What is in doubt, one line without control characters.
    pub why: String,
}

impl Doubt {
    /// A doubt about a volume that looks like `kind`.
    pub fn new(kind: &'static str, why: impl Into<String>) -> Self {
        Doubt { kind, why: without_controls(&why.into()) }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.why)
    }
}

/// A partition, a logical volume in one piece, or a disk without a table. All positions are bytes from its beginning.
#[derive(Clone, Copy)]
pub struct Volume<'a> {
    disk: &'a dyn ReadAt,
    start: u64,
    size: u64,
    sector: u32,
}

impl<'a> Volume<'a> {
    /// `size` bytes of `disk` from byte `start`; `sector` is the disk's logical block size in bytes.
    pub fn new(disk: &'a dyn ReadAt, start: u64, size: u64, sector: u32) -> Self {
        Volume { disk, start, size, sector }
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Logical block size of the disk in bytes.
    pub fn sector(&self) -> u32 {
        self.sector
    }

    /// `len` bytes at byte `offset`, all of them inside the volume. `kind` goes into the doubt.
    ///
    /// # Errors
    /// Outside the volume, longer than 16 MiB, or not readable.
    pub fn read(&self, kind: &'static str, offset: u64, len: usize) -> Result<Vec<u8>, Doubt> {
        let inside = offset.checked_add(len as u64).is_some_and(|end| end <= self.size);
        if !inside || len > MAX_READ {
            return Err(Doubt::new(
                kind,
                format!("it points to {len} bytes at byte {offset}, which it does not have"),
            ));
        }
        let at =
            self.start.checked_add(offset).ok_or_else(|| Doubt::new(kind, "it lies beyond every disk"))?;
        let mut bytes = vec![0; len];
        self.disk
            .read_exact_at(&mut bytes, at)
            .map_err(|e| Doubt::new(kind, format!("cannot read {len} bytes at byte {offset} of it: {e}")))?;
        Ok(bytes)
    }

    /// As [`Volume::read`], where a volume that is too short or unreadable there simply is not the format looked for.
    pub fn peek(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        self.read("", offset, len).ok()
    }
}

impl ReadAt for Volume<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.size.saturating_sub(offset);
        let len = usize::try_from(rest).unwrap_or(usize::MAX).min(buf.len());
        let Some(at) = self.start.checked_add(offset).filter(|_| len > 0) else { return Ok(0) };
        self.disk.read_at(buf.get_mut(..len).unwrap_or_default(), at)
    }
}

/// A partition as its table gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VolumeSlot {
    /// Number as Linux counts them.
    pub(super) number: u32,
    /// First byte on the disk.
    pub(super) start: u64,
    /// Bytes.
    pub(super) size: u64,
    /// Type in words, and as its table has it: a GUID, or two hexadecimal digits.
    pub(super) kind: String,
    pub(super) type_id: String,
    /// Name in the table.
    pub(super) name: Option<String>,
    /// Why all of it is imaged, whatever it holds.
    pub(super) why_all: Option<&'static str>,
}

impl VolumeSlot {
    /// First byte behind it.
    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }
}
