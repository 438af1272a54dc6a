//! Files of NTFS by number: their attributes, and what is in them.
#![forbid(unsafe_code)]

use super::boot::NtfsBoot;
use super::doubt::{KIND, doubt};
use super::record::{Attribute, FileRecord, NtfsValue};
use super::runs::{NtfsRun, decode};
use crate::bytes::le;
use crate::used::{Doubt, Volume};
use std::ops::Range;

/// Flag of an attribute. On an index it says what files made in the directory will be: no index is compressed itself.
const COMPRESSED: u16 = 1;
/// Types of attributes.
pub(super) const LIST: u32 = 0x20;
pub(super) const DATA: u32 = 0x80;
pub(super) const INDEX_ROOT: u32 = 0x90;
pub(super) const INDEX_ALLOCATION: u32 = 0xa0;

/// Most runs that are kept of one file, 24 MiB of memory.
const MOST_RUNS: usize = 1 << 20;
/// The longest attribute list; Windows makes no longer ones.
const LONGEST_LIST: u64 = 256 << 10;

/// A value in clusters.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    /// In the order of the file, without holes.
    pub(super) runs: Vec<NtfsRun>,
    /// Bytes, and how many of them were ever written: the rest reads as zeros, whatever the clusters hold.
    pub(super) size: u64,
    pub(super) initialized: u64,
    /// Compressed, sparse or encrypted, where it is not 0.
    pub(super) flags: u16,
}

impl Stream {
    /// Its clusters on the volume.
    pub(super) fn clusters(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs.iter().map(|run| run.lcn..run.lcn + run.len)
    }
}

/// The value of an attribute.
#[derive(Debug)]
pub(super) enum NtfsContent {
    Resident(Vec<u8>),
    Stream(Stream),
}

/// Where an attribute, or one extent of it, stands.
struct NtfsPlace {
    reference: u64,
    instance: u16,
}

/// An NTFS volume whose files can be read.
pub(super) struct NtfsFiles<'v> {
    volume: &'v Volume<'v>,
    pub(super) boot: NtfsBoot,
    /// The file of all file records.
    pub(super) mft: Stream,
}

impl<'v> NtfsFiles<'v> {
    /// Finds the master file table, which describes itself: each extent of it is found through the ones before.
    pub(super) fn open(volume: &'v Volume<'v>, boot: NtfsBoot) -> Result<Self, Doubt> {
        let mut files = NtfsFiles { volume, boot, mft: Stream::default() };
        let bytes = volume.read(KIND, files.boot.mft * files.boot.cluster, files.boot.record)?;
        let base = FileRecord::new(bytes).map_err(|wrong| in_record(0, wrong))?;
        let first = find(0, &base, DATA, b"", None)?.ok_or_else(|| doubt("$MFT has no data"))?;
        let NtfsValue::Extent(extent) = &first.value else { return Err(doubt("$MFT is not in clusters")) };
        files.mft = Stream {
            runs: decode(extent, 0, files.boot.clusters).map_err(|wrong| in_file(0, wrong))?,
            size: extent.size,
            initialized: extent.initialized,
            flags: first.flags,
        };
        if files.mft.flags != 0 || files.mft.initialized > files.mft.size {
            return Err(doubt("$MFT is compressed, sparse or encrypted"));
        }
        if files.mft.runs.first().is_none_or(|run| run.lcn != files.boot.mft) {
            return Err(doubt("$MFT does not begin where the boot sector says"));
        }
        let places = files.places(0, &base, DATA, b"")?.unwrap_or_default();
        for (i, place) in places.iter().enumerate() {
            let runs = files.extent(
                0,
                &base,
                DATA,
                b"",
                place,
                &files.mft.runs[..if i == 0 { 0 } else { files.mft.runs.len() }],
            )?;
            match i {
                0 if runs == files.mft.runs => {}
                0 => return Err(in_file(0, "its attribute list is wrong")),
                _ => files.mft.runs.extend(runs),
            }
        }
        files.covered(0, &files.mft)?;
        Ok(files)
    }

    /// File record `number`.
    pub(super) fn record(&self, number: u64) -> Result<FileRecord, Doubt> {
        let len = self.boot.record as u64;
        let at = number.checked_mul(len).filter(|at| *at < self.mft.initialized);
        let at = at.ok_or_else(|| doubt(format!("there is no file record {number}")))?;
        let bytes = self.read(&self.mft, at, self.boot.record)?;
        FileRecord::new(bytes).map_err(|wrong| in_record(number, wrong))
    }

    /// The value of an attribute of a file; `name` in ASCII. `None` where the file has none of this kind and name.
    pub(super) fn attribute(
        &self,
        number: u64,
        kind: u32,
        name: &[u8],
    ) -> Result<Option<NtfsContent>, Doubt> {
        let base = self.record(number)?;
        if base.base != 0 {
            return Err(in_record(number, "it belongs to another one"));
        }
        let Some(places) = self.places(number, &base, kind, name)? else {
            // All of the file is in this record.
            let Some(attribute) = find(number, &base, kind, name, None)? else { return Ok(None) };
            let NtfsValue::Extent(extent) = &attribute.value else {
                return Ok(Some(resident(number, &attribute)?));
            };
            let runs = decode(extent, 0, self.boot.clusters).map_err(|wrong| in_file(number, wrong))?;
            let flags = attribute.flags_that_count();
            let stream = Stream { runs, size: extent.size, initialized: extent.initialized, flags };
            self.covered(number, &stream)?;
            return Ok(Some(NtfsContent::Stream(stream)));
        };
        let Some(first) = places.first() else { return Ok(None) };
        let record = self.record_of(number, &base, first)?;
        let record = record.as_ref().unwrap_or(&base);
        let attribute = find(number, record, kind, name, Some(first.instance))?
            .ok_or_else(|| in_file(number, "its attribute list is wrong"))?;
        let NtfsValue::Extent(extent) = &attribute.value else {
            return if places.len() == 1 {
                Ok(Some(resident(number, &attribute)?))
            } else {
                Err(in_file(number, "its attribute list is wrong"))
            };
        };
        let mut stream = Stream {
            runs: Vec::new(),
            size: extent.size,
            initialized: extent.initialized,
            flags: attribute.flags_that_count(),
        };
        for place in &places {
            let runs = self.extent(number, &base, kind, name, place, &stream.runs)?;
            stream.runs.extend(runs);
        }
        self.covered(number, &stream)?;
        Ok(Some(NtfsContent::Stream(stream)))
    }

    /// As [`NtfsFiles::attribute`], for what must be in clusters.
    pub(super) fn stream(&self, number: u64, kind: u32, name: &[u8]) -> Result<Stream, Doubt> {
        match self.attribute(number, kind, name)? {
            Some(NtfsContent::Stream(stream)) if stream.flags == 0 => Ok(stream),
            Some(NtfsContent::Stream(_)) => Err(in_file(number, "it is compressed, sparse or encrypted")),
            _ => Err(in_file(number, "it is not in clusters")),
        }
    }

    /// `len` bytes at byte `offset` of a value. What was never written is no mistake here: the caller looks at
    /// `initialized`.
    pub(super) fn read(&self, stream: &Stream, mut offset: u64, len: usize) -> Result<Vec<u8>, Doubt> {
        let mut bytes = Vec::with_capacity(len.min(1 << 20));
        if offset.checked_add(len as u64).is_none_or(|end| end > stream.size) {
            return Err(doubt(format!(
                "a file of {} bytes has no {len} bytes at byte {offset}",
                stream.size
            )));
        }
        while bytes.len() < len {
            let (at, there) = self.locate(stream, offset)?;
            let piece = usize::try_from(there).unwrap_or(usize::MAX).min(len - bytes.len());
            bytes.extend(self.volume.read(KIND, at, piece)?);
            offset += piece as u64;
        }
        Ok(bytes)
    }

    /// Where byte `offset` of a value is on the volume, and how many bytes follow it there.
    fn locate(&self, stream: &Stream, offset: u64) -> Result<(u64, u64), Doubt> {
        let (vcn, within) = (offset / self.boot.cluster, offset % self.boot.cluster);
        let next = stream.runs.partition_point(|run| run.vcn <= vcn);
        let run = next.checked_sub(1).and_then(|i| stream.runs.get(i)).filter(|run| vcn - run.vcn < run.len);
        let run = run.ok_or_else(|| doubt(format!("byte {offset} of a file is nowhere")))?;
        // On the volume, so below its size: nothing overflows.
        let skipped = vcn - run.vcn;
        Ok((
            (run.lcn + skipped) * self.boot.cluster + within,
            (run.len - skipped) * self.boot.cluster - within,
        ))
    }

    /// Every byte of the value must have a cluster.
    fn covered(&self, number: u64, stream: &Stream) -> Result<(), Doubt> {
        let clusters = stream.runs.last().map_or(0, |run| run.vcn.saturating_add(run.len));
        if stream.size.div_ceil(self.boot.cluster) > clusters || stream.initialized > stream.size {
            return Err(in_file(number, "its size is wrong"));
        }
        Ok(())
    }

    /// What the attribute list of a file says about one attribute, in the order of its extents. `None` where the
    /// file has no list, because one record is enough for it.
    fn places(
        &self,
        number: u64,
        base: &FileRecord,
        kind: u32,
        name: &[u8],
    ) -> Result<Option<Vec<NtfsPlace>>, Doubt> {
        let wrong = |why| in_file(number, why);
        let Some(attribute) = find(number, base, LIST, b"", None)? else { return Ok(None) };
        let list = match &attribute.value {
            NtfsValue::Resident(bytes) => bytes.to_vec(),
            NtfsValue::Extent(extent) => {
                if extent.size > LONGEST_LIST || extent.initialized != extent.size || attribute.flags != 0 {
                    return Err(wrong("its attribute list is too long, or not plain"));
                }
                let runs = decode(extent, 0, self.boot.clusters).map_err(wrong)?;
                let stream = Stream { runs, size: extent.size, initialized: extent.size, flags: 0 };
                self.read(&stream, 0, extent.size as usize)?
            }
        };
        let cut = || wrong("its attribute list is cut");
        let mut places = Vec::new();
        let mut rest = &list[..];
        while !rest.is_empty() {
            let len = usize::from(le::u16(rest, 4).ok_or_else(cut)?);
            let entry = rest.get(..len).filter(|_| len >= 26).ok_or_else(cut)?;
            rest = &rest[len..];
            let name_at = usize::from(entry[7]);
            let entry_name = entry.get(name_at..name_at + 2 * usize::from(entry[6])).ok_or_else(cut)?;
            if le::u32(entry, 0) != Some(kind) || !same_name(entry_name, name) {
                continue;
            }
            places.push(NtfsPlace {
                reference: le::u64(entry, 16).ok_or_else(cut)?,
                instance: le::u16(entry, 24).ok_or_else(cut)?,
            });
        }
        Ok(Some(places))
    }

    /// The record that a place names, where it is not the file's first.
    fn record_of(
        &self,
        number: u64,
        base: &FileRecord,
        place: &NtfsPlace,
    ) -> Result<Option<FileRecord>, Doubt> {
        let (target, sequence) = split(place.reference);
        if target == number {
            return Ok(None);
        }
        let record = self.record(target)?;
        if record.sequence != sequence || record.base == 0 || split(record.base) != (number, base.sequence) {
            return Err(in_record(target, "it is not the one that a file means"));
        }
        Ok(Some(record))
    }

    /// The runs of one extent; `before` are the runs of the file in front of it.
    fn extent(
        &self,
        number: u64,
        base: &FileRecord,
        kind: u32,
        name: &[u8],
        place: &NtfsPlace,
        before: &[NtfsRun],
    ) -> Result<Vec<NtfsRun>, Doubt> {
        let record = self.record_of(number, base, place)?;
        let attribute = find(number, record.as_ref().unwrap_or(base), kind, name, Some(place.instance))?;
        let wrong = |why| in_file(number, why);
        let Some(Attribute { value: NtfsValue::Extent(extent), .. }) = attribute else {
            return Err(wrong("its attribute list is wrong"));
        };
        let vcn = before.last().map_or(0, |run| run.vcn + run.len);
        let runs = decode(&extent, vcn, self.boot.clusters).map_err(wrong)?;
        if before.len() + runs.len() > MOST_RUNS {
            return Err(wrong("it is in too many pieces"));
        }
        Ok(runs)
    }
}

impl Attribute<'_> {
    /// Flags that say something about the bytes of this attribute.
    fn flags_that_count(&self) -> u16 {
        match self.kind {
            INDEX_ROOT | INDEX_ALLOCATION => self.flags & !COMPRESSED,
            _ => self.flags,
        }
    }
}

/// The number of a file record, and how often it was used for another file.
pub(super) fn split(reference: u64) -> (u64, u16) {
    (reference & ((1 << 48) - 1), (reference >> 48) as u16)
}

/// The one attribute of this kind and name, and with this instance number where one is given.
fn find<'r>(
    number: u64,
    record: &'r FileRecord,
    kind: u32,
    name: &[u8],
    instance: Option<u16>,
) -> Result<Option<Attribute<'r>>, Doubt> {
    let mut found = record.attributes().map_err(|wrong| in_record(number, wrong))?;
    found.retain(|attribute| {
        attribute.kind == kind
            && same_name(attribute.name, name)
            && instance.is_none_or(|instance| attribute.instance == instance)
    });
    if found.len() > 1 {
        return Err(in_record(number, "it has an attribute twice"));
    }
    Ok(found.pop())
}

fn resident(number: u64, attribute: &Attribute<'_>) -> Result<NtfsContent, Doubt> {
    match attribute.value {
        NtfsValue::Resident(bytes) if attribute.flags_that_count() == 0 => {
            Ok(NtfsContent::Resident(bytes.to_vec()))
        }
        _ => Err(in_file(number, "it is compressed, sparse or encrypted")),
    }
}

/// Whether a name in UTF-16 is this one in ASCII.
fn same_name(utf16: &[u8], ascii: &[u8]) -> bool {
    utf16.len() == 2 * ascii.len()
        && utf16.chunks_exact(2).zip(ascii).all(|(unit, letter)| unit[0] == *letter && unit[1] == 0)
}

fn in_record(number: u64, wrong: &str) -> Doubt {
    doubt(format!("file record {number}: {wrong}"))
}

pub(super) fn in_file(number: u64, wrong: &str) -> Doubt {
    doubt(format!("file {number}: {wrong}"))
}
