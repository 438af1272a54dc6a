//! Records that are protected by an update sequence, and the attributes in a file record.
#![forbid(unsafe_code)]

use crate::bytes::le;

/// What is wrong with a record, in a few words.
pub(super) type Wrong = &'static str;

/// Distance of the protected words, whatever the sector size.
const STRIDE: usize = 512;

/// Checks the mark of a record, and puts the last word of each 512 bytes back in its place: on the disk the same
/// number stands there everywhere, so that a record of which only a part was written shows.
pub(super) fn fix_up(record: &mut [u8], mark: &[u8; 4]) -> Result<(), Wrong> {
    if record.get(..4) != Some(mark) {
        return Err("it does not begin with its mark");
    }
    let (Some(at), Some(count)) = (le::u16(record, 4), le::u16(record, 6)) else { return Err("it is cut") };
    let (at, count) = (usize::from(at), usize::from(count));
    let sectors = record.len() / STRIDE;
    // The array must not reach into the first word that it protects.
    if !record.len().is_multiple_of(STRIDE)
        || count != sectors + 1
        || at % 2 != 0
        || at < 8
        || at + 2 * count > STRIDE - 2
    {
        return Err("its update sequence is not as it must be");
    }
    let number = [record[at], record[at + 1]];
    for sector in 0..sectors {
        let last = (sector + 1) * STRIDE - 2;
        if record[last..last + 2] != number {
            return Err("only a part of it was written");
        }
        let word = at + 2 + 2 * sector;
        record.copy_within(word..word + 2, last);
    }
    Ok(())
}

/// A file record whose update sequence is undone.
#[derive(Debug)]
pub(super) struct FileRecord {
    bytes: Vec<u8>,
    /// How often it was used for another file.
    pub(super) sequence: u16,
    pub(super) directory: bool,
    /// The reference of the record that this one belongs to, 0 where it is a file's first.
    pub(super) base: u64,
}

impl FileRecord {
    /// Of the bytes on the disk. It must be in use.
    pub(super) fn new(mut bytes: Vec<u8>) -> Result<Self, Wrong> {
        fix_up(&mut bytes, b"FILE")?;
        let (Some(sequence), Some(flags), Some(base)) =
            (le::u16(&bytes, 16), le::u16(&bytes, 22), le::u64(&bytes, 32))
        else {
            return Err("it is cut");
        };
        if flags & 1 == 0 {
            return Err("it is not in use");
        }
        let record = FileRecord { bytes, sequence, directory: flags & 2 != 0, base };
        record.attributes()?;
        Ok(record)
    }

    /// The bytes in use.
    pub(super) fn used(&self) -> Option<&[u8]> {
        self.bytes.get(..le::u32(&self.bytes, 24)? as usize)
    }

    /// All attributes, in their order.
    pub(super) fn attributes(&self) -> Result<Vec<Attribute<'_>>, Wrong> {
        let bytes = self.used().ok_or("it is longer than a record")?;
        let mut at = usize::from(le::u16(bytes, 20).ok_or("it is cut")?);
        let mut found = Vec::new();
        loop {
            let kind = le::u32(bytes, at).ok_or("its attributes have no end")?;
            if kind == u32::MAX {
                return Ok(found);
            }
            let len = le::u32(bytes, at + 4).ok_or("an attribute is cut")? as usize;
            let attribute = at.checked_add(len).and_then(|end| bytes.get(at..end));
            let attribute =
                attribute.filter(|_| len >= 24 && len.is_multiple_of(8)).ok_or("an attribute is cut")?;
            found.push(Attribute::new(kind, attribute).ok_or("an attribute is cut")?);
            at += len;
        }
    }
}

/// An attribute of a file, or one extent of it.
#[derive(Debug)]
pub(super) struct Attribute<'r> {
    pub(super) kind: u32,
    /// In UTF-16.
    pub(super) name: &'r [u8],
    /// Compressed (1), sparse (0x8000), encrypted (0x4000).
    pub(super) flags: u16,
    pub(super) instance: u16,
    pub(super) value: NtfsValue<'r>,
}

/// Where the value of an attribute is.
#[derive(Debug)]
pub(super) enum NtfsValue<'r> {
    Resident(&'r [u8]),
    Extent(Extent<'r>),
}

/// A part of a value, or all of it, that is in clusters.
#[derive(Debug)]
pub(super) struct Extent<'r> {
    /// First and last of its clusters, counted in the value; the last is one below the first where there are none.
    pub(super) lowest: u64,
    pub(super) highest: u64,
    /// Where they are, as the disk says it.
    pub(super) pairs: &'r [u8],
    /// Sizes in bytes; only the first extent has them.
    pub(super) size: u64,
    pub(super) initialized: u64,
}

impl<'r> Attribute<'r> {
    fn new(kind: u32, bytes: &'r [u8]) -> Option<Self> {
        let name_at = usize::from(le::u16(bytes, 10)?);
        let name = bytes.get(name_at..name_at + 2 * usize::from(le::u8(bytes, 9)?))?;
        let value = if le::u8(bytes, 8)? == 0 {
            let (len, at) = (le::u32(bytes, 16)? as usize, usize::from(le::u16(bytes, 20)?));
            NtfsValue::Resident(bytes.get(at..at.checked_add(len)?)?)
        } else {
            NtfsValue::Extent(Extent {
                lowest: le::u64(bytes, 16)?,
                highest: le::u64(bytes, 24)?,
                pairs: bytes.get(usize::from(le::u16(bytes, 32)?)..)?,
                size: le::u64(bytes, 48).unwrap_or_default(),
                initialized: le::u64(bytes, 56).unwrap_or_default(),
            })
        };
        Some(Attribute { kind, name, flags: le::u16(bytes, 12)?, instance: le::u16(bytes, 14)?, value })
    }
}
