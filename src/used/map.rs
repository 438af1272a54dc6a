//! The map of a whole disk: the partition table, then what each volume says of itself.
#![forbid(unsafe_code)]

use super::look::{self, LookOptions, LookPlace, Rules, SeenVolume};
use super::volume::VolumeSlot;
use super::{Beyond, Free, Parser, Volume, btrfs, exfat, ext4, fat, ntfs, signatures, swap, table, xfs};
use crate::io::ReadAt;
use crate::text::without_controls;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The file systems that are looked into.
const PARSERS: &[Parser] =
    &[btrfs::parse, exfat::parse, ext4::parse, fat::parse, ntfs::parse, swap::parse, xfs::parse];

/// Free ranges of the disk are multiples of it, in bytes, and of the logical blocks.
const UNIT: u64 = 4096;
/// Longest text about a partition, in characters; labels and names are shorter in every format.
const MAX_TEXT: usize = 160;

/// What need not be imaged of a disk, and what was found on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Free ranges of the disk in bytes, multiples of 4096 and of its logical blocks: sorted, disjoint, none touching
    /// the next. All of them are inside partitions.
    pub free: Vec<Range<u64>>,
    /// The partitions in the order of the disk, each followed by the logical volumes inside it.
    pub found: Vec<FoundVolume>,
    /// What is odd about the disk, though the map stands: for the log.
    pub notes: Vec<String>,
}

/// One partition, or a disk without a table, or a logical volume. For people: `image info` shows it. No text has control
/// characters or more than 160 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundVolume {
    /// Number as Linux counts partitions, 0 for a disk without a table; of a logical volume, that of the partition.
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Type in the table, such as `EFI system` or `Linux (83)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_type: Option<String>,
    /// Name in the table (GPT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only of a logical volume: group and name, such as `vg0/root`. Its bytes are counted in its partition too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logical_volume: Option<String>,
    /// What it holds, such as `ext4` or `unknown`.
    pub kind: String,
    /// Its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Bytes of it that are not imaged.
    pub skipped: u64,
    /// Bytes behind the end of its file system, which is smaller than it; all of them are imaged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub behind: u64,
    /// Why all of it is imaged, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_all: Option<String>,
}

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// Looks at a disk whose logical blocks have `sector` bytes. What cannot be read or understood is used.
pub fn map(disk: &dyn ReadAt, sector: u32) -> Map {
    map_leaving_out(disk, sector, LookOptions::default())
}

/// As [`map`], and leaves out what `options` allow.
pub fn map_leaving_out(disk: &dyn ReadAt, sector: u32, options: LookOptions) -> Map {
    let mut beyond = Beyond::default();
    beyond.look(disk, "this disk", sector);
    map_beside(disk, sector, options, &beyond)
}

/// As [`map_leaving_out`], of one of several disks, all of which were looked at for `beyond`.
pub(super) fn map_beside(disk: &dyn ReadAt, sector: u32, options: LookOptions, beyond: &Beyond) -> Map {
    map_with(
        disk,
        sector,
        Rules { parsers: PARSERS, options, always: signatures::places, beyond: beyond.why() },
    )
}

/// As [`map`], by these rules. Of several tables, a block is free only where it is by each of them; the partitions are
/// those of the first.
pub(super) fn map_with(disk: &dyn ReadAt, sector: u32, rules: Rules<'_>) -> Map {
    let size = match disk.size() {
        Ok(size) => size,
        Err(e) => return whole(0, &format!("cannot tell its size: {e}")),
    };
    let tables = match table::read(disk, size, sector) {
        Ok(tables) => tables,
        Err(why) => return whole(size, &why),
    };
    let mut maps = tables.into_iter().map(|table| map_of(table, disk, size, sector, rules));
    let (mut map, mut places) = maps.next().unwrap_or_default();
    for (other, _) in maps {
        map.free = common(&map.free, &other.free);
        let why = other.found.iter().find_map(|found| found.why_all.as_deref());
        map.notes.extend(why.map(|why| clean(&format!("by the second table: {why}"))));
    }
    for (found, place) in map.found.iter_mut().zip(&mut places) {
        found.skipped = place.iter().map(|range| overlap(&map.free, range)).sum();
    }
    map
}

/// What one table makes of the disk, and where what was found lies; the bytes skipped are not counted yet.
fn map_of(
    table: table::DiskTable,
    disk: &dyn ReadAt,
    size: u64,
    sector: u32,
    rules: Rules<'_>,
) -> (Map, Vec<Vec<Range<u64>>>) {
    let mut slots = table.slots;
    let mut map = Map { notes: table.notes.iter().map(|note| clean(note)).collect(), ..Map::default() };
    if slots.is_empty() {
        slots.push(VolumeSlot { size, ..VolumeSlot::default() });
    } else {
        let partitions: Vec<Range<u64>> = slots.iter().map(|slot| slot.start..slot.end()).collect();
        if let Some(why) = look::beside_table(&Volume::new(disk, 0, size, sector), rules, &partitions) {
            return (Map { notes: map.notes, ..whole(size, &why) }, Vec::new());
        }
    }
    let mut free = Free::default();
    let mut places = Vec::new();
    for slot in slots {
        let seen = match slot.why_all {
            Some(why) => {
                SeenVolume { kind: "unknown".into(), why_all: Some(why.into()), ..SeenVolume::default() }
            }
            None => {
                let volume = Volume::new(disk, slot.start, slot.size, sector);
                look::look(&volume, rules, LookPlace::Partition(&slot.type_id))
            }
        };
        let on_disk = |range: &Range<u64>| {
            slot.start.saturating_add(range.start)..slot.start.saturating_add(range.end).min(slot.end())
        };
        let unit = UNIT.max(u64::from(sector));
        for range in seen.free.iter().map(on_disk) {
            free.add(range.start.div_ceil(unit).saturating_mul(unit)..range.end / unit * unit);
        }
        add_found(&mut map, &mut places, &slot, &seen, on_disk);
    }
    map.free = free.finish();
    (map, places)
}

/// Adds a partition and the logical volumes inside it.
fn add_found(
    map: &mut Map,
    places: &mut Vec<Vec<Range<u64>>>,
    slot: &VolumeSlot,
    seen: &SeenVolume,
    on_disk: impl Fn(&Range<u64>) -> Range<u64>,
) {
    map.found.push(FoundVolume {
        number: slot.number,
        start: slot.start,
        size: slot.size,
        partition_type: (slot.number != 0).then(|| clean(&slot.kind)),
        name: slot.name.as_deref().map(clean),
        ..about(seen)
    });
    tell(&mut map.notes, slot.number, None, seen);
    places.push(vec![slot.start..slot.end()]);
    for inside in &seen.inside {
        let place: Vec<Range<u64>> = inside.place.iter().map(&on_disk).collect();
        map.found.push(FoundVolume {
            number: slot.number,
            start: place.iter().map(|range| range.start).min().unwrap_or_default(),
            size: inside.size,
            logical_volume: Some(clean(&inside.name)),
            ..about(&inside.seen)
        });
        tell(&mut map.notes, slot.number, Some(&inside.name), &inside.seen);
        places.push(place);
    }
}

/// What is in both lists, which are sorted and disjoint.
fn common(a: &[Range<u64>], b: &[Range<u64>]) -> Vec<Range<u64>> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut both = Vec::new();
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        let range = x.start.max(y.start)..x.end.min(y.end);
        let first_ends = x.end <= y.end;
        if range.start < range.end {
            both.push(range);
        }
        if first_ends {
            a.next()
        } else {
            b.next()
        };
    }
    both
}

/// All of the disk is used, and why.
fn whole(size: u64, why: &str) -> Map {
    let found =
        FoundVolume { size, kind: "unknown".into(), why_all: Some(clean(why)), ..FoundVolume::default() };
    Map { found: vec![found], ..Map::default() }
}

/// Adds what is to be said of a volume to the notes about the disk.
fn tell(notes: &mut Vec<String>, number: u32, logical_volume: Option<&str>, seen: &SeenVolume) {
    let place = match (number, logical_volume) {
        (0, None) => String::new(),
        (_, None) => format!("partition {number}: "),
        (_, Some(name)) => format!("{name}: "),
    };
    notes.extend(seen.notes.iter().map(|note| clean(&format!("{place}{note}"))));
}

fn about(seen: &SeenVolume) -> FoundVolume {
    FoundVolume {
        kind: clean(&seen.kind),
        label: seen.label.as_deref().map(clean),
        behind: seen.behind,
        why_all: seen.why_all.as_deref().map(clean),
        ..FoundVolume::default()
    }
}

/// A text for a log and a header: short, and without control characters.
fn clean(text: &str) -> String {
    without_controls(text).chars().take(MAX_TEXT).collect()
}

/// Bytes of `range` that are in `free`, which is sorted.
fn overlap(free: &[Range<u64>], range: &Range<u64>) -> u64 {
    let from = free.partition_point(|piece| piece.end <= range.start);
    let inside = free.iter().skip(from).take_while(|piece| piece.start < range.end);
    inside.map(|piece| piece.end.min(range.end) - piece.start.max(range.start)).sum()
}
