//! What the records of a machine know of its disks, and which disk of today each of them is.
//!
//! A serial or WWN names a disk only while it is unique: where two disks of today show it, or one record has it twice,
//! it is nothing to go by. Then place and content speak, and where they do not, nobody guesses.

use crate::inventory::{Disk, Identity, Inventory};
use crate::store::ShareState;
use crate::store::record::{ImageRecord, Record};
use crate::used::DiskContent;

/// A disk that a record knows, in whatever role.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    pub name: &'a str,
    pub identity: &'a Identity,
    pub location: &'a str,
    pub size: u64,
    pub imaged: bool,
    content: &'a DiskContent,
    twin: bool,
}

/// Every disk of a record, the imaged ones first.
pub fn known(record: &Record) -> impl Iterator<Item = Known<'_>> {
    let images = record.images.iter().map(|i| Known {
        name: &i.name,
        identity: &i.identity,
        location: &i.location,
        size: i.disk_size,
        imaged: true,
        content: &i.content,
        twin: i.twin,
    });
    let others = record.others.iter().map(|o| Known {
        name: &o.name,
        identity: &o.identity,
        location: &o.location,
        size: o.disk_size,
        imaged: false,
        content: &o.content,
        twin: o.twin,
    });
    images.chain(others)
}

impl Known<'_> {
    /// True for the disk that the set calls so, not for one that was left out under the same kernel name.
    pub fn is_image(&self, name: &str) -> bool {
        self.imaged && self.name == name
    }

    /// Two entries of one record about one disk: it was left out, and its image carried over.
    fn is_also(&self, other: &Known<'_>) -> bool {
        self.imaged != other.imaged && self.location == other.location
    }

    /// What it is called in a message.
    pub fn role(&self) -> String {
        let left_out = if self.imaged { "" } else { ", which is left out" };
        format!("'{}'{left_out}", self.name)
    }
}

/// All records of a machine beside the disks of today.
pub struct Memory<'a> {
    pub inventory: &'a Inventory,
    /// In no order; generations tell it.
    records: Vec<&'a Record>,
}

impl<'a> Memory<'a> {
    pub fn new(inventory: &'a Inventory, share: &'a ShareState) -> Self {
        let history = share.history.iter().filter_map(|set| set.record.as_ref());
        Memory { inventory, records: share.record.iter().chain(history).collect() }
    }

    pub fn records(&self) -> impl Iterator<Item = &'a Record> + '_ {
        self.records.iter().copied()
    }

    /// True where an identity names one disk and no other.
    pub fn is_certain(&self, identity: &Identity) -> bool {
        let seen = || self.matching_disks(identity).count();
        identity.is_unique() && seen() < 2 && !self.records.iter().any(|record| has_twins(record, identity))
    }

    /// All disks that carry this identity: none, one, or, where a vendor was careless, several.
    pub fn matching_disks(&self, identity: &Identity) -> impl Iterator<Item = &'a Disk> + use<'a, '_> {
        let identity = identity.clone();
        self.inventory.disks.iter().filter(move |disk| disk.identity.is_same_disk(&identity))
    }

    /// True where serial or WWN prove that `disk` is the one of `entry`.
    pub fn is(&self, entry: &Known<'_>, disk: &Disk) -> bool {
        disk.identity.is_same_disk(entry.identity)
            && self.is_certain(entry.identity)
            && self.is_certain(&disk.identity)
    }

    /// The disk that serial or WWN prove to be the one of `entry`.
    pub fn disk_of(&self, entry: &Known<'_>) -> Option<&'a Disk> {
        self.inventory.disks.iter().find(|disk| self.is(entry, disk))
    }

    /// True where nothing but the place tells whether `disk` is the one of `entry`, and the place says yes.
    pub fn sits(&self, entry: &Known<'_>, disk: &Disk) -> bool {
        is_alike(entry, disk)
            && !self.is(entry, disk)
            && entry.location == disk.location
            && self.is_place(disk)
    }

    /// Behind a network, and on a bus that nobody knows, places are not unique either.
    fn is_place(&self, disk: &Disk) -> bool {
        let at = |other: &&Disk| other.location == disk.location;
        !disk.location.is_empty() && self.inventory.disks.iter().filter(at).count() == 1
    }

    /// True where `disk` is at its place, and no other disk of today is.
    pub fn is_at(&self, location: &str, disk: &Disk) -> bool {
        disk.location == location && self.is_place(disk)
    }

    /// True where `disk` holds content that, of all disks of this record, that of `entry` had.
    pub fn holds(&self, record: &Record, entry: &Known<'_>, disk: &Disk) -> bool {
        let has = |content: &DiskContent, id| content.ids().any(|other| other == id);
        let is_only = |id| {
            let mut others = known(record).filter(|e| has(e.content, id));
            others.all(|e| (e.imaged, e.name) == (entry.imaged, entry.name) || e.is_also(entry))
        };
        disk.content.ids().any(|id| has(entry.content, id) && is_only(id))
    }

    /// The entry of `record` whose content `disk` holds.
    pub fn held<'r>(&self, record: &'r Record, disk: &Disk) -> Option<Known<'r>> {
        known(record).find(|entry| self.holds(record, entry, disk))
    }

    /// True where `disk` may be that of `entry`, for all that anybody can tell: the same serial as another one, or no
    /// serial at all.
    pub fn could_be(&self, record: &Record, entry: &Known<'_>, disk: &Disk) -> bool {
        let others = || self.inventory.disks.iter().filter(|other| other.name != disk.name);
        let is_elsewhere =
            || !self.holds(record, entry, disk) && others().any(|other| self.holds(record, entry, other));
        if is_alike(entry, disk) {
            return !self.is(entry, disk) && !is_elsewhere();
        }
        // A controller that does not pass the serial on: nobody else is that disk, and the size is the same.
        let is_nameless = entry.identity.is_unique() != disk.identity.is_unique();
        let is_there = || others().any(|other| self.is(entry, other) || self.sits(entry, other));
        is_nameless && entry.size == disk.size && has_one_model(entry, disk) && !is_elsewhere() && !is_there()
    }

    /// The disk of an image, where place and content leave no doubt although its serial proves nothing. Where only the
    /// others prove it, and the image was carried over, the set that it was made for must say the same: what is known of
    /// the others is of a later time.
    pub fn in_place(&self, record: &Record, image: &ImageRecord) -> Option<&'a Disk> {
        let (disk, is_proven) = self.placed(record, image)?;
        let made = |record: &'a Record| {
            let made = record.images.iter().find(|other| other.is_made_as(image))?;
            Some(self.placed(record, made).is_some_and(|(other, _)| other.name == disk.name))
        };
        let mut agree = self.records().filter_map(made).peekable();
        let is_clear = is_proven || !image.carried || (agree.peek().is_some() && agree.all(|agrees| agrees));
        is_clear.then_some(disk)
    }

    /// The disk of an image for this record, and whether its own content proves it.
    fn placed(&self, record: &Record, image: &ImageRecord) -> Option<(&'a Disk, bool)> {
        let entry = &known(record).find(|entry| entry.is_image(&image.name))?;
        let disk = self.inventory.disks.iter().find(|disk| self.sits(entry, disk))?;
        let is_other = |e: &Known<'_>| (e.imaged, e.name) != (entry.imaged, entry.name) && !e.is_also(entry);
        let rivals = || self.inventory.disks.iter().filter(|d| d.name != disk.name && is_alike(entry, d));
        if known(record).filter(is_other).any(|e| self.holds(record, &e, disk)) {
            return None;
        }
        let is_proven = self.holds(record, entry, disk) && !rivals().any(|d| self.holds(record, entry, d));
        // Each disk that could be meant too is proven to be another one, and nobody else is missing.
        let is_another = |d: &Disk| known(record).filter(is_other).any(|e| self.holds(record, &e, d));
        let is_left = rivals().next().is_some()
            && rivals().all(is_another)
            && !known(record).filter(is_other).any(|e| self.could_be(record, &e, disk));
        (is_proven || is_left).then_some((disk, is_proven))
    }

    /// The disk of `entry` for a reader: by serial, else by its place where its content does not speak against it.
    pub fn seat(&self, record: &Record, entry: &Known<'_>) -> Option<&'a Disk> {
        let has_other = |disk: &Disk| self.held(record, disk).is_some() && !self.holds(record, entry, disk);
        let at = || self.inventory.disks.iter().find(|disk| self.sits(entry, disk) && !has_other(disk));
        // A machine with one disk of this kind: the name and the size that it always had.
        let nameless = |disk: &&Disk| is_alike(entry, disk) && !entry.identity.is_unique();
        let only = || {
            let mut all = self.inventory.disks.iter().filter(nameless);
            let is_only = known(record).filter(|e| is_alike_entry(e, entry)).count() == 1;
            all.next().filter(|disk| all.next().is_none() && is_only && disk.name == entry.name)
        };
        self.disk_of(entry).or_else(at).or_else(|| only().filter(|disk| !has_other(disk)))
    }
}

/// True where one record has this identity at two places: two disks that nobody can tell apart by it.
fn has_twins(record: &Record, identity: &Identity) -> bool {
    let same: Vec<Known<'_>> = known(record).filter(|e| e.identity.is_same_disk(identity)).collect();
    let is_twin = |(n, a): (usize, &Known<'_>)| a.twin || same.iter().skip(n + 1).any(|b| !a.is_also(b));
    same.iter().enumerate().any(is_twin)
}

/// True where serial and WWN do not tell them apart, for whatever reason.
fn is_alike(entry: &Known<'_>, disk: &Disk) -> bool {
    match (entry.identity.is_unique(), disk.identity.is_unique()) {
        (true, true) => entry.identity.is_same_disk(&disk.identity),
        (false, false) => entry.size == disk.size && has_one_model(entry, disk),
        _ => false,
    }
}

fn is_alike_entry(a: &Known<'_>, b: &Known<'_>) -> bool {
    !a.identity.is_unique() && !b.identity.is_unique() && a.size == b.size
}

fn has_one_model(entry: &Known<'_>, disk: &Disk) -> bool {
    match (&entry.identity.model, &disk.identity.model) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => true,
    }
}
