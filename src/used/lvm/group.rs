//! What the metadata of a volume group says about one of its physical volumes.
#![forbid(unsafe_code)]

use super::linear::Piece;
use super::text::{self, LvmValue, Section};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Bytes of LVM2's sectors, the unit of all sizes in the text.
const SECTOR: u64 = 512;
/// Most logical volumes.
const MAX_VOLUMES: usize = 1024;

/// A volume group, seen from one physical volume; all ranges are bytes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::used) struct VolumeGroup {
    /// Its name.
    pub(in crate::used) name: String,
    /// All extents of the physical volume.
    pub(super) extents: Range<u64>,
    /// Extents that belong to nobody.
    pub(in crate::used) free: Vec<Range<u64>>,
    /// Extents that belong to a logical volume, hidden ones too: one range for each segment, in no order.
    pub(in crate::used) taken: Vec<Range<u64>>,
    /// The visible logical volumes that have extents here.
    pub(in crate::used) volumes: Vec<Logical>,
}

/// A logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::used) struct Logical {
    /// Its name.
    pub(in crate::used) name: String,
    /// Bytes.
    pub(in crate::used) size: u64,
    /// Its pieces in order, or why nothing is known of them.
    pub(in crate::used) pieces: Result<Vec<Piece>, &'static str>,
    /// Where it lies, in no order.
    pub(in crate::used) on_disk: Vec<Range<u64>>,
}

/// The physical volume that all is about.
struct Physical<'a> {
    /// Its name in the text, `pv0`.
    name: &'a str,
    /// First byte of its extents, how many there are, and bytes of each.
    start: u64,
    count: u64,
    extent: u64,
}

impl Physical<'_> {
    fn bytes(&self, extents: &Range<u64>) -> Option<Range<u64>> {
        let at = |extent: u64| extent.checked_mul(self.extent)?.checked_add(self.start);
        (extents.end <= self.count).then_some(at(extents.start)?..at(extents.end)?)
    }
}

/// Reads the text of a group, as the physical volume with this id. Errors say what is in doubt.
pub(super) fn read(text: &str, id: &[u8]) -> Result<VolumeGroup, String> {
    const INCOMPLETE: &str = "its metadata is incomplete";
    let top = text::parse(text)?;
    let ours = top.text("contents") == Some("Text Format Volume Group") && top.number("version") == Some(1);
    let mut groups = top.sections.iter();
    let (Some((name, group)), None, true) = (groups.next(), groups.next(), ours) else {
        return Err("its metadata is not that of one volume group".into());
    };
    let writable = ["RESIZEABLE", "READ", "WRITE"];
    let known = ["physical_volumes", "logical_volumes", "historical_logical_volumes"];
    if group.list("status").is_none()
        || !group.only("status", &writable)
        || !group.only("flags", &[])
        || group.text("lock_type").is_some_and(|lock| lock != "none")
        || group.text("format").is_some_and(|format| format != "lvm2")
        || !group.sections.keys().all(|name| known.contains(name))
    {
        return Err(format!("volume group {name} is exported, shared, partial or unknown"));
    }
    let extent = group.number("extent_size").and_then(|n| n.checked_mul(SECTOR)).filter(|n| *n > 0);
    let physical_volumes = group.sections.get("physical_volumes").ok_or(INCOMPLETE)?;
    let physical = physical(physical_volumes, id, extent.ok_or(INCOMPLETE)?)?;
    let nothing = Section::default();
    let logical_volumes = group.sections.get("logical_volumes").unwrap_or(&nothing);
    let names = VolumeNames { physical: &physical_volumes.sections, logical: &logical_volumes.sections };
    if names.physical.keys().any(|name| names.logical.contains_key(name)) || names.logical.len() > MAX_VOLUMES
    {
        return Err("it has too many logical volumes, or one named as a physical volume".into());
    }
    let mut found = Vec::new();
    let mut inner = BTreeSet::new();
    let mut used: Vec<Range<u64>> = Vec::new();
    for (name, section) in names.logical {
        let volume =
            volume(section, &physical, &names).map_err(|why| format!("logical volume {name}: {why}"))?;
        inner.extend(volume.inner.iter().copied());
        used.extend(volume.used.iter().cloned());
        found.push((*name, section, volume));
    }
    let free = gaps(used.clone(), physical.count).ok_or("two logical volumes have the same extent")?;
    let bytes =
        |extents: &Range<u64>| physical.bytes(extents).ok_or("it has more extents than room".to_owned());
    let mut volumes = Vec::new();
    for (name, section, volume) in found {
        if volume.used.is_empty() || !has(section, "status", "VISIBLE") {
            continue;
        }
        let pieces = if inner.contains(name) { Err("it is a part of another volume") } else { volume.pieces };
        volumes.push(Logical {
            name: name.to_owned(),
            size: volume.extents.checked_mul(physical.extent).ok_or(INCOMPLETE)?,
            pieces,
            on_disk: volume.used.iter().map(bytes).collect::<Result<_, _>>()?,
        });
    }
    Ok(VolumeGroup {
        name: (*name).to_owned(),
        extents: bytes(&(0..physical.count))?,
        free: free.iter().map(bytes).collect::<Result<_, _>>()?,
        taken: used.iter().map(bytes).collect::<Result<_, _>>()?,
        volumes,
    })
}

/// VolumeNames of arrays that are told.
const TOLD: usize = 5;

/// What of a group keeps copies or parity on several physical volumes (lvmraid(7): the types raid1 to raid10 and mirror), by
/// its text; `None` where nothing does.
pub(super) fn arrays(text: &str) -> Option<String> {
    let top = text::parse(text).ok()?;
    let (name, group) = top.sections.iter().next()?;
    if group.sections.get("physical_volumes")?.sections.len() < 2 {
        return None;
    }
    let is_array = |volume: &Section<'_>| {
        let kinds = volume.sections.values().filter_map(|segment| segment.text("type"));
        kinds.into_iter().any(|kind| kind == "mirror" || kind.starts_with("raid"))
    };
    let volumes = &group.sections.get("logical_volumes")?.sections;
    let names: Vec<&str> =
        volumes.iter().filter(|(_, volume)| is_array(volume)).map(|(name, _)| *name).collect();
    let told = names.iter().take(TOLD).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > TOLD { ", ..." } else { "" };
    (!names.is_empty()).then(|| format!("LVM RAID or mirror of volume group {name}: {told}{more}"))
}

fn has(section: &Section<'_>, key: &str, word: &str) -> bool {
    section.list(key).is_some_and(|list| list.contains(&LvmValue::Text(word)))
}

/// The one with the id among all; none of them may be missing or given away.
fn physical<'a>(all: &Section<'a>, id: &[u8], extent: u64) -> Result<Physical<'a>, String> {
    let is_ours = |section: &Section<'_>| {
        section.text("id").is_some_and(|text| text.bytes().filter(|c| *c != b'-').eq(id.iter().copied()))
    };
    let mut ours = all.sections.iter().filter(|(_, section)| is_ours(section));
    let (Some((name, section)), None) = (ours.next(), ours.next()) else {
        return Err("its metadata does not name it".into());
    };
    for (name, section) in &all.sections {
        if !section.only("status", &["ALLOCATABLE"]) || !section.only("flags", &[]) {
            return Err(format!("physical volume {name} is missing or exported"));
        }
    }
    let start = section.number("pe_start").and_then(|n| n.checked_mul(SECTOR));
    let boot = match (section.number("ba_start"), section.number("ba_size")) {
        (None, None) => Some(0),
        (Some(start), Some(size)) => start.checked_add(size).and_then(|n| n.checked_mul(SECTOR)),
        _ => None,
    };
    match (start, section.number("pe_count"), boot) {
        (Some(start), Some(count), Some(boot)) if boot <= start => {
            Ok(Physical { name, start, count, extent })
        }
        _ => Err(format!("physical volume {name} is not described as it should be")),
    }
}

/// What a name can mean.
struct VolumeNames<'a, 'b> {
    physical: &'b BTreeMap<&'a str, Section<'a>>,
    logical: &'b BTreeMap<&'a str, Section<'a>>,
}

/// Where a logical volume lies.
struct FoundGroup<'a> {
    /// Extents of it.
    extents: u64,
    /// Extents of our physical volume that it has.
    used: Vec<Range<u64>>,
    /// Logical volumes that it is made of, or hangs on.
    inner: BTreeSet<&'a str>,
    pieces: Result<Vec<Piece>, &'static str>,
}

/// Looks at the segments of a logical volume. Errors where it cannot be said which extents it has.
fn volume<'a>(
    section: &Section<'a>,
    physical: &Physical<'_>,
    names: &VolumeNames<'a, '_>,
) -> Result<FoundGroup<'a>, String> {
    const KEYS: [&str; 13] = [
        "id",
        "status",
        "flags",
        "creation_time",
        "creation_host",
        "allocation_policy",
        "segment_count",
        "tags",
        "profile",
        "read_ahead",
        "major",
        "minor",
        "lock_args",
    ];
    let mut found =
        FoundGroup { extents: 0, used: Vec::new(), inner: BTreeSet::new(), pieces: Ok(Vec::new()) };
    let plain =
        section.only("status", &["READ", "WRITE", "VISIBLE", "FIXED_MINOR"]) && section.only("flags", &[]);
    if !plain || !section.only_keys(&KEYS) {
        found.pieces = Err("it is being changed, or of an unknown kind");
    }
    let count = section.number("segment_count").unwrap_or_default();
    if count == 0 || count != section.sections.len() as u64 {
        return Err("its segments are not complete".into());
    }
    let mut segments = Vec::new();
    for segment in section.sections.values() {
        let (Some(first), Some(count)) = (segment.number("start_extent"), segment.number("extent_count"))
        else {
            return Err("a segment has no place".into());
        };
        segments.push((first, count, segment));
    }
    segments.sort_by_key(|(first, ..)| *first);
    for (first, count, segment) in segments {
        if first != found.extents || count == 0 {
            return Err("its segments do not follow each other".into());
        }
        let areas = areas(segment, names)?;
        let Some(areas) = areas else {
            found.inner.extend(segment.texts());
            found.pieces = Err("it is of a kind that is not looked into");
            found.extents = first.checked_add(count).ok_or("it is too long")?;
            continue;
        };
        let stripes = areas.len() as u64;
        if !count.is_multiple_of(stripes) {
            return Err("a segment has a broken stripe".into());
        }
        if stripes > 1
            || !segment.only_keys(&[
                "start_extent",
                "extent_count",
                "type",
                "stripe_count",
                "stripes",
                "tags",
            ])
        {
            found.pieces = Err("it is striped");
        }
        for (name, at) in areas {
            let extents = at..at.checked_add(count / stripes).ok_or("an area has no end")?;
            if name == physical.name {
                let bytes = physical.bytes(&extents).ok_or("an area lies beyond the end")?;
                if let Ok(pieces) = &mut found.pieces {
                    pieces.push(Piece { at: first.saturating_mul(physical.extent), on_disk: bytes });
                }
                found.used.push(extents);
            } else {
                found.inner.insert(name);
                found.pieces = found.pieces.and(Err("a part of it is on another disk or volume"));
            }
        }
        found.extents = first.checked_add(count).ok_or("it is too long")?;
    }
    Ok(found)
}

/// The areas of a plain or striped segment: name and first extent. `None` for other types, which must be made of
/// logical volumes.
fn areas<'a>(
    segment: &Section<'a>,
    names: &VolumeNames<'a, '_>,
) -> Result<Option<Vec<(&'a str, u64)>>, String> {
    let kind = segment.text("type").ok_or("a segment has no type")?;
    if kind != "striped" || !segment.sections.is_empty() {
        // How many extents each of them has is known to that type only.
        return match segment.texts().iter().find(|text| names.physical.contains_key(*text)) {
            Some(name) => Err(format!("a {kind} lies on {name}")),
            None => Ok(None),
        };
    }
    let stripes = segment.list("stripes").unwrap_or_default();
    let mut areas = Vec::new();
    for pair in stripes.chunks(2) {
        match pair {
            [LvmValue::Text(name), LvmValue::Number(at)]
                if names.physical.contains_key(name) || names.logical.contains_key(name) =>
            {
                areas.push((*name, u64::try_from(*at).map_err(|_| "an area begins nowhere")?));
            }
            _ => return Err("an area of it is unknown".into()),
        }
    }
    if areas.is_empty() || segment.number("stripe_count") != Some(areas.len() as u64) {
        return Err("a segment has no areas".into());
    }
    Ok(Some(areas))
}

/// What is left of `0..count`; `None` where two ranges overlap.
fn gaps(mut used: Vec<Range<u64>>, count: u64) -> Option<Vec<Range<u64>>> {
    used.sort_unstable_by_key(|range| range.start);
    let mut gaps = Vec::new();
    let mut at = 0;
    for range in used {
        if range.start < at {
            return None;
        }
        if range.start > at {
            gaps.push(at..range.start);
        }
        at = range.end;
    }
    if at < count {
        gaps.push(at..count);
    }
    Some(gaps)
}
