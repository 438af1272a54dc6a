//! What one volume holds: all parsers and all signatures are asked, and exactly one parser must vouch for it.
#![forbid(unsafe_code)]

use super::lvm::{self, Linear, Logical};
use super::{Doubt, Free, Parser, Volume, VolumeAbout, end, ntfs, signatures, swap, types};
use crate::text::human_bytes;
use std::ops::Range;

/// What may be left out although somebody could want it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookOptions {
    /// Content of swap areas, and of pagefile.sys, swapfile.sys and hiberfil.sys on NTFS; but not where a hibernated
    /// machine has its memory there.
    pub leave_out_swap: bool,
}

/// Who is asked, and what may be left out.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) parsers: &'a [Parser],
    pub(super) options: LookOptions,
    /// What is imaged of a volume of so many bytes whoever uses it: ranges in any order.
    pub(super) always: fn(u64) -> Vec<Range<u64>>,
    /// Why file systems and volume groups are whole, where another layer reads free blocks: see [`super::beyond`].
    pub(super) beyond: Option<&'a str>,
}

/// What a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookPlace<'a> {
    /// A partition of this type (see [`super::volume::VolumeSlot`]), or a disk without a table.
    Partition(&'a str),
    /// In a volume group.
    Logical,
}

/// What a volume holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SeenVolume {
    /// File system or other format, or `unknown`.
    pub(super) kind: String,
    pub(super) label: Option<String>,
    /// Free ranges in bytes from its beginning, sorted and disjoint; none where it is in doubt.
    pub(super) free: Vec<Range<u64>>,
    /// Bytes behind the end of the file system, all of which are used.
    pub(super) behind: u64,
    /// Why all of it is used.
    pub(super) why_all: Option<String>,
    /// Logical volumes inside, which `free` counts too.
    pub(super) inside: Vec<Inside>,
    /// What else the log is to say of it.
    pub(super) notes: Vec<String>,
}

/// A logical volume inside a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inside {
    /// Group and name: `vg0/root`.
    pub(super) name: String,
    /// Where it lies, in bytes of the volume around it.
    pub(super) place: Vec<Range<u64>>,
    /// Bytes.
    pub(super) size: u64,
    /// What it holds; its `free` has been taken out.
    pub(super) seen: SeenVolume,
}

impl SeenVolume {
    fn whole(kind: &str, why: impl Into<String>) -> SeenVolume {
        SeenVolume { kind: kind.to_owned(), why_all: Some(why.into()), ..SeenVolume::default() }
    }
}

/// What somebody takes a volume for.
enum Claim {
    /// A file system, with its free ranges.
    Ours(VolumeAbout, Free),
    /// A volume group.
    Group(lvm::VolumeGroup),
    /// A format that we read, and a reason not to; or one that we do not read.
    Doubt(Doubt),
    Foreign(&'static str),
}

impl Claim {
    fn kind(&self) -> &'static str {
        match self {
            Claim::Ours(about, _) => about.kind,
            Claim::Group(_) => lvm::KIND,
            Claim::Doubt(doubt) => doubt.kind,
            Claim::Foreign(kind) => kind,
        }
    }
}

/// Everything that anybody takes the volume for. `partitions`: see [`signatures::claims`], also for errors.
fn claims(volume: &Volume<'_>, rules: Rules<'_>, partitions: &[Range<u64>]) -> Result<Vec<Claim>, Doubt> {
    let kinds = signatures::claims(volume, partitions)?;
    let mut claims = Vec::new();
    for parser in rules.parsers {
        let mut free = Free::default();
        match parser(volume, &mut free) {
            Ok(None) => {}
            Ok(Some(about)) => claims.push(Claim::Ours(about, free)),
            Err(doubt) => claims.push(Claim::Doubt(doubt)),
        }
    }
    match lvm::parse(volume) {
        Ok(None) => {}
        Ok(Some(group)) => claims.push(Claim::Group(group)),
        Err(doubt) => claims.push(Claim::Doubt(doubt)),
    }
    for kind in kinds {
        // A parser can say more about a format that has a signature here too.
        if !claims.iter().any(|claim| matches!(claim, Claim::Doubt(doubt) if doubt.kind == kind)) {
            claims.push(Claim::Foreign(kind));
        }
    }
    Ok(claims)
}

fn names(claims: &[Claim]) -> String {
    let mut kinds: Vec<&str> = claims.iter().map(Claim::kind).collect();
    kinds.dedup();
    kinds.join(" and ")
}

/// What a whole disk with a table looks like beside it: a reason to distrust the table.
pub(super) fn beside_table(disk: &Volume<'_>, rules: Rules<'_>, partitions: &[Range<u64>]) -> Option<String> {
    match claims(disk, rules, partitions) {
        Err(doubt) => Some(doubt.why),
        Ok(claims) if claims.is_empty() => None,
        Ok(claims) => Some(format!("it has a partition table, and looks like {}", names(&claims))),
    }
}

/// Looks at a volume; at logical volumes inside it too, unless it is one.
pub(super) fn look(volume: &Volume<'_>, rules: Rules<'_>, place: LookPlace<'_>) -> SeenVolume {
    let mut claims = match claims(volume, rules, &[]) {
        Ok(claims) => claims,
        Err(doubt) => return SeenVolume::whole(doubt.kind, doubt.why),
    };
    if claims.len() > 1 {
        return SeenVolume::whole("unknown", format!("it looks like {}", names(&claims)));
    }
    let Some(claim) = claims.pop() else { return SeenVolume::whole("unknown", "unknown content") };
    if let (Claim::Ours(..) | Claim::Group(_), LookPlace::Partition(type_id)) = (&claim, place)
        && let Some(why) = types::contradiction(type_id, claim.kind())
    {
        return SeenVolume::whole(claim.kind(), why);
    }
    match claim {
        Claim::Foreign(kind) => SeenVolume::whole(kind, format!("{kind} is not looked into")),
        Claim::Doubt(Doubt { kind, why }) => SeenVolume::whole(kind, why),
        Claim::Group(_) if place == LookPlace::Logical => {
            SeenVolume::whole(lvm::KIND, "it is a physical volume inside a logical one")
        }
        Claim::Group(group) => inside(volume, rules, group),
        Claim::Ours(VolumeAbout { kind: swap::KIND, label }, _) if !rules.options.leave_out_swap => {
            SeenVolume { label, ..SeenVolume::whole(swap::KIND, "swap content is kept") }
        }
        Claim::Ours(about, free) => match rules.beyond {
            // Nothing hashes a swap area, which changes all the time.
            Some(why) if about.kind != swap::KIND || place == LookPlace::Logical => {
                SeenVolume { label: about.label, ..SeenVolume::whole(about.kind, why) }
            }
            _ => file_system(volume, rules, about, free),
        },
    }
}

/// A file system that a parser vouches for.
fn file_system(volume: &Volume<'_>, rules: Rules<'_>, about: VolumeAbout, mut free: Free) -> SeenVolume {
    let VolumeAbout { kind, label } = about;
    let notes = match kind {
        ntfs::KIND if rules.options.leave_out_swap => leave_out_memory(volume, &mut free),
        _ => Vec::new(),
    };
    let free = free.finish();
    if free.last().is_some_and(|last| last.end > volume.size()) {
        return SeenVolume::whole(kind, "its free space goes beyond its end");
    }
    let free = without(free, (rules.always)(volume.size()));
    let behind = end::of(volume).map_or(0, |end| volume.size().saturating_sub(end));
    SeenVolume { kind: kind.to_owned(), label, free, behind, notes, ..SeenVolume::default() }
}

/// Adds what Windows has in its files for memory to what is free, and says so. A doubt about them keeps them, and does
/// not touch the rest: that they are used is what the file system says too.
fn leave_out_memory(volume: &Volume<'_>, free: &mut Free) -> Vec<String> {
    let files = match ntfs::memory_files(volume) {
        Ok(files) => files,
        Err(doubt) => return vec![format!("what is in its files for memory is kept: {}", doubt.why)],
    };
    let told = files.iter().map(|file| {
        let bytes = file.ranges.iter().map(|range| range.end - range.start).sum();
        format!("{} in {} is left out", human_bytes(bytes), file.name)
    });
    let told = told.collect();
    files.into_iter().flat_map(|file| file.ranges).for_each(|range| free.add(range));
    told
}

/// Free ranges, sorted, without what is always imaged.
fn without(free: Vec<Range<u64>>, mut always: Vec<Range<u64>>) -> Vec<Range<u64>> {
    if always.is_empty() {
        return free;
    }
    always.sort_unstable_by_key(|range| range.start);
    let mut left = Vec::with_capacity(free.len());
    for range in free {
        let mut at = range.start;
        for kept in always.iter().filter(|kept| kept.start < range.end && range.start < kept.end) {
            if at < kept.start {
                left.push(at..kept.start);
            }
            at = at.max(kept.end);
        }
        if at < range.end {
            left.push(at..range.end);
        }
    }
    left
}

/// A physical volume: the extents of nobody, and what the file systems in its logical volumes do not use.
fn inside(volume: &Volume<'_>, rules: Rules<'_>, group: lvm::VolumeGroup) -> SeenVolume {
    let mut free = Free::default();
    if rules.beyond.is_none() {
        group.free.iter().for_each(|range| free.add(range.clone()));
    }
    let mut inside = Vec::new();
    for Logical { name, size, pieces, on_disk } in group.volumes {
        let seen = match &pieces {
            Err(why) => SeenVolume::whole("unknown", *why),
            Ok(pieces) => {
                let linear = Linear::new(*volume, pieces);
                let mut seen =
                    look(&Volume::new(&linear, 0, size, volume.sector()), rules, LookPlace::Logical);
                std::mem::take(&mut seen.free)
                    .iter()
                    .flat_map(|range| linear.on_disk(range))
                    .for_each(|r| free.add(r));
                seen
            }
        };
        inside.push(Inside { name: format!("{}/{name}", group.name), place: on_disk, size, seen });
    }
    SeenVolume {
        kind: lvm::KIND.to_owned(),
        label: Some(group.name),
        why_all: rules.beyond.map(str::to_owned),
        free: without(free.finish(), (rules.always)(volume.size())),
        inside,
        ..SeenVolume::default()
    }
}
