//! What stands in a machine's folder, as far as a plan needs to know it. [`Folder::state`](super::Folder::state) reads it.
#![forbid(unsafe_code)]

use crate::image::{DiskAbout, Needed};
use crate::signature::Verdict;
use crate::store::record::Record;
use crate::types::{DiskSelector, SetHash};
use blake3::Hash;

/// What the machine's folder on the backup share holds.
#[derive(Clone, Debug, Default)]
pub struct ShareState {
    /// `backup.json`.
    pub record: Option<Record>,
    /// Which set that is, and who vouches for it.
    pub digest: SetDigest,
    /// The image files in the folder itself.
    pub images: Vec<SeenImage>,
    /// The sets in `history/`, the newest first.
    pub history: Vec<HistorySet>,
    /// `disk-devices.lst`.
    pub disk_list: Option<Vec<DiskSelector>>,
    /// `testbox-info.txt` is there.
    pub has_info: bool,
}

/// What is known of a set beside its content.
#[derive(Clone, Debug, Default)]
pub struct SetDigest {
    /// The name of the set, by the bytes of its `backup.json`.
    pub set: SetHash,
    /// Its signature over the same bytes.
    pub signed: Verdict,
}

/// A set below `history/`.
#[derive(Clone, Debug)]
pub struct HistorySet {
    /// Its folder, relative to the machine's: `history/3`.
    pub folder: String,
    /// Its record; a set without a readable one is never trusted.
    pub record: Option<Record>,
    /// Which set it is, and who vouches for it.
    pub digest: SetDigest,
    /// Its image files.
    pub images: Vec<SeenImage>,
}

/// An image file, as its first and last bytes show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenImage {
    /// Its name in its folder, such as `sda.raw.gz` or the original's `sda.gz`.
    pub file: String,
    /// The disk name in it: `sda`.
    pub name: String,
    /// What it is.
    pub kind: SeenKind,
    /// The disk that it was taken from, as its own header says; `None` where it has none.
    pub about: Option<DiskAbout>,
    /// What a disk needs at least for it; asked only where one here has less than the imaged one.
    pub needed: Option<Needed>,
}

/// What an image file turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenKind {
    /// An image of testbox whose header, index and footer agree; its root hash.
    Own(Hash),
    /// Anything else: a plain gzip perhaps, or a damaged image; the reason why it is no testbox image.
    Foreign(String),
}
