//! LVM2 physical volumes: label, metadata areas, and the text in them (`lvm2/lib/format_text/layout.h`, lvmsystemid(7)
//! and the other pages of lvm(8)).
//!
//! A physical volume is verified for where all of its metadata areas are whole and hold the same text, and where that
//! text leaves no question about which extents are whose. Extents of nobody are free. A logical volume that lies in
//! plain pieces on this one physical volume is shown to the caller, to look at what is inside; all others are used.
#![forbid(unsafe_code)]

mod group;
mod linear;
#[cfg(test)]
mod tests;
mod text;

use super::{Doubt, Volume};
use crate::bytes::le;
use crate::used::sums::agree;
use std::ops::Range;

pub(super) use group::{Logical, VolumeGroup};
pub(super) use linear::Linear;

pub(super) const KIND: &str = "LVM2";
/// Longest text that is read, in bytes: ten thousand logical volumes.
const MAX_TEXT: u64 = 4 << 20;
/// Header of a metadata area, and unit of the label, in bytes.
const SECTOR: usize = 512;

fn doubt(why: impl Into<String>) -> Doubt {
    Doubt::new(KIND, why)
}

/// The label sector of a physical volume.
struct PvLabel {
    /// Its id, 32 letters.
    id: Vec<u8>,
    /// Data areas, metadata areas and boot loader areas: first byte and length, 0 for up to the end.
    data: Vec<(u64, u64)>,
    metadata: Vec<(u64, u64)>,
}

/// What the physical volume says of itself; `None` where it is none.
pub(super) fn parse(volume: &Volume<'_>) -> Result<Option<VolumeGroup>, Doubt> {
    let Some(FoundLabel { label, text, taken }) = find(volume)? else { return Ok(None) };
    let text = std::str::from_utf8(&text).map_err(|_| doubt("its metadata is not a text"))?;
    let group = group::read(text, &label.id).map_err(doubt)?;
    check(volume, &label, &group, &taken)?;
    Ok(Some(group))
}

/// The mirrors and RAIDs over several physical volumes of the group that this one belongs to, in words; whatever else is in
/// doubt about it. `None` where there are none.
pub(super) fn arrays(volume: &Volume<'_>) -> Option<String> {
    let found = find(volume).ok()??;
    group::arrays(std::str::from_utf8(&found.text).ok()?)
}

/// What a physical volume has.
struct FoundLabel {
    label: PvLabel,
    /// The text of its group.
    text: Vec<u8>,
    /// Where its metadata areas are.
    taken: Vec<Range<u64>>,
}

fn find(volume: &Volume<'_>) -> Result<Option<FoundLabel>, Doubt> {
    let len = volume.size().min(4 * SECTOR as u64) as usize;
    let head = volume.read(KIND, 0, len)?;
    let mut labels = head.chunks_exact(SECTOR).enumerate().filter(|(_, raw)| raw.starts_with(b"LABELONE"));
    let Some((number, raw)) = labels.next() else { return Ok(None) };
    if labels.next().is_some() {
        return Err(doubt("there are two labels"));
    }
    let label = label(raw, number as u64).ok_or_else(|| doubt("its label is not whole"))?;
    let mut texts = Vec::new();
    let mut taken = Vec::new();
    for &(start, size) in &label.metadata {
        texts.push(metadata(volume, start, size)?);
        taken.push(start..start.saturating_add(size));
    }
    let Some(text) = texts.pop() else { return Err(doubt("its metadata is on another disk")) };
    if texts.iter().any(|other| *other != text) {
        return Err(doubt("its metadata areas differ"));
    }
    Ok(Some(FoundLabel { label, text, taken }))
}

/// The extents must lie in the data area and outside of everything else that is in use.
fn check(
    volume: &Volume<'_>,
    label: &PvLabel,
    group: &VolumeGroup,
    taken: &[Range<u64>],
) -> Result<(), Doubt> {
    let [(data, size)] = label.data[..] else { return Err(doubt("it has more than one data area")) };
    let end = if size == 0 { volume.size() } else { data.saturating_add(size).min(volume.size()) };
    let extents = &group.extents;
    if extents.start < data.max(4 * SECTOR as u64) || extents.end > end {
        return Err(doubt("its extents lie outside its data area"));
    }
    if taken.iter().any(|range| range.start < extents.end && extents.start < range.end) {
        return Err(doubt("its extents overlap its metadata"));
    }
    Ok(())
}

fn label(raw: &[u8], sector: u64) -> Option<PvLabel> {
    let whole = le::u64(raw, 8)? == sector && agree(crc(raw.get(20..)?), le::u32(raw, 16)?);
    if !whole || raw.get(24..32)? != b"LVM2 001" {
        return None;
    }
    let mut rest = raw.get(le::u32(raw, 20)? as usize..)?;
    let id = rest.get(..32)?.to_vec();
    rest = rest.get(40..)?;
    let mut areas = || {
        let mut areas = Vec::new();
        loop {
            let area = (le::u64(rest, 0)?, le::u64(rest, 8)?);
            rest = rest.get(16..)?;
            if area.0 == 0 {
                return Some(areas);
            }
            areas.push(area);
        }
    };
    let (data, metadata) = (areas()?, areas()?);
    Some(PvLabel { id, data, metadata })
}

/// The committed text of a metadata area of `size` bytes at `start`.
fn metadata(volume: &Volume<'_>, start: u64, size: u64) -> Result<Vec<u8>, Doubt> {
    let header = volume.read(KIND, start, SECTOR)?;
    let field = |at| le::u64(&header, at).ok_or_else(|| doubt("a metadata area is cut short"));
    let whole = agree(le::u32(&header, 0), header.get(4..).map(crc))
        && header.get(4..20) == Some(b" LVM2 x[5A%r0N*>".as_slice())
        && le::u32(&header, 20) == Some(1)
        && field(24)? == start
        && field(32)? == size;
    if !whole || start.checked_add(size).is_none_or(|end| end > volume.size()) {
        return Err(doubt("a metadata area is not whole"));
    }
    // The first location is the text in force; a second one is that of a change which was not finished.
    let (at, len) = (field(40)?, field(48)?);
    if le::u32(&header, 60) != Some(0) {
        return Err(doubt("a metadata area is not in use"));
    }
    if at == 0 {
        return Err(doubt("it belongs to no volume group"));
    }
    if field(64)? != 0 {
        return Err(doubt("a change of its metadata was not finished"));
    }
    let first = SECTOR as u64;
    let wrong = || doubt("its metadata is not where it should be");
    if size <= first || at < first || at >= size || len == 0 || len > size - first || len > MAX_TEXT {
        return Err(wrong());
    }
    // A ring: what does not fit before the end goes on behind the header.
    let until_end = len.min(size - at);
    let piece = |at: u64, len: u64| volume.read(KIND, start + at, len as usize);
    let mut text = piece(at, until_end)?;
    text.extend(piece(first, len - until_end)?);
    if !agree(le::u32(&header, 56), Some(crc(&text))) {
        return Err(doubt("the checksum of its metadata is wrong"));
    }
    // It ends with a zero byte.
    if text.pop() != Some(0) {
        return Err(wrong());
    }
    Ok(text)
}

/// CRC-32 as LVM2 uses it: the usual polynomial, its own start value, and no inversion at the end.
fn crc(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut value = i as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[i] = value;
            i += 1;
        }
        table
    };
    bytes.iter().fold(0xf597_a6cf, |crc, byte| crc >> 8 ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}
