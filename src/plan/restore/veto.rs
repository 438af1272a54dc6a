//! What the records say against writing an image onto a disk: that it is known in another role.

use crate::inventory::Disk;
use crate::plan::memory::{Known, Memory, known};
use crate::store::record::Record;

/// Why a disk is a target, and so how much is believed against it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// The disk of the image, by serial or WWN. Only what was found out since counts.
    Identity,
    /// The disk of the image by its place, which others may have had before.
    Place,
    /// `testbox.map` gives its kernel name, which can be another disk's at this boot.
    Name,
    /// Nobody knows it, and it is where the recorded disk was.
    Replacement,
}

/// What each record says against writing the image called `name` of the set `chosen` onto `disk`.
pub fn objections(
    memory: &Memory<'_>,
    chosen: &Record,
    name: &str,
    disk: &Disk,
    because: Because,
) -> Vec<String> {
    let is_asked = |record: &&Record| because != Because::Identity || record.generation >= chosen.generation;
    let ask = |record: &Record| {
        let set = record.generation;
        let held = || holds_other(memory, record, name, disk);
        let known = known_as(memory, record, name, disk).map(|role| format!("set {set} knows it as {role}"));
        let known = known.or_else(|| held().map(|role| format!("it holds what set {set} knows of {role}")));
        known.or_else(|| match because {
            Because::Identity | Because::Place => None,
            Because::Name if is_in_place(memory, record, name, disk) => None,
            Because::Name => could_be(memory, record, name, disk),
            Because::Replacement => could_be(memory, record, name, disk)
                .or_else(|| was_here(record, name, disk).filter(|_| set >= chosen.generation)),
        })
    };
    memory.records().filter(is_asked).filter_map(ask).collect()
}

/// The role of the disk in a record, where it is not the one of the image `name`.
fn known_as(memory: &Memory<'_>, record: &Record, name: &str, disk: &Disk) -> Option<String> {
    let roles = || known(record).filter(|entry| memory.is(entry, disk) || memory.sits(entry, disk));
    another(roles, name)
}

/// The disk of the record whose content the disk holds, where it is not the one of the image `name`.
fn holds_other(memory: &Memory<'_>, record: &Record, name: &str, disk: &Disk) -> Option<String> {
    another(|| known(record).filter(|entry| memory.holds(record, entry, disk)), name)
}

fn another<'a, I: Iterator<Item = Known<'a>>>(roles: impl Fn() -> I, name: &str) -> Option<String> {
    let is_own = roles().any(|entry| entry.is_image(name));
    roles().next().filter(|_| !is_own).map(|entry| entry.role())
}

fn is_in_place(memory: &Memory<'_>, record: &Record, name: &str, disk: &Disk) -> bool {
    known(record).any(|entry| entry.is_image(name) && memory.sits(&entry, disk))
}

/// A disk whose serial tells nothing may be another one of the record.
fn could_be(memory: &Memory<'_>, record: &Record, name: &str, disk: &Disk) -> Option<String> {
    let mut others = known(record).filter(|entry| !entry.is_image(name));
    let role = others.find(|entry| memory.could_be(record, entry, disk))?.role();
    Some(format!("its serial does not tell it from {role} of set {}", record.generation))
}

/// The place of a disk that is left out may hold a new one that is to be left out too.
fn was_here(record: &Record, name: &str, disk: &Disk) -> Option<String> {
    let mut others = known(record).filter(|entry| !entry.is_image(name) && !entry.imaged);
    let role = others.find(|entry| entry.location == disk.location)?.role();
    Some(format!("it is where {role} was in set {}", record.generation))
}
