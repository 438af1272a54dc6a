//! What `testboxctl verify` has found when it read sets again: one file for the whole share, so that a listing can show it.
//! It can be removed at any time: then nothing was read again yet.

use crate::share::Files;
use crate::store::layout::{STORE, STORE_VERIFIED};
use crate::types::SetHash;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;

/// Largest file that is read, in bytes: some hundred thousand sets.
const LIMIT: usize = 64 << 20;

/// What was found of one set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedSet {
    /// Whose it is.
    pub ip: Ipv4Addr,
    /// Its folder below that machine's: `history/3`, or empty.
    pub dir: String,
    /// Its number.
    pub generation: u64,
    /// When.
    pub at: Timestamp,
    /// What is wrong, a line for each image; none where all of it is whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
}

/// What was found, by the SHA-256 of the sets' records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedSets {
    sets: BTreeMap<String, VerifiedSet>,
}

impl VerifiedSets {
    /// Reads it; a file that is damaged or not there tells nothing.
    ///
    /// # Errors
    /// Those of the share.
    pub fn load(files: &dyn Files) -> io::Result<VerifiedSets> {
        match files.read_limited(STORE_VERIFIED, LIMIT) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge) => {
                Ok(VerifiedSets::default())
            }
            Err(e) => Err(e),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// Those of the share.
    pub fn save(&self, files: &dyn Files) -> io::Result<()> {
        files.make_dir(STORE)?;
        let bytes = serde_json::to_vec(self)?;
        files.write_atomic(STORE_VERIFIED, &bytes)
    }

    /// Notes what was found.
    pub fn note(&mut self, set: &SetHash, found: VerifiedSet) {
        self.sets.insert(set.to_string(), found);
    }

    /// What was found of a set.
    pub fn of(&self, set: &SetHash) -> Option<&VerifiedSet> {
        self.sets.get(&set.to_string())
    }

    /// What was found whole counts as proven.
    pub fn is_whole(&self, set: &SetHash) -> bool {
        self.of(set).is_some_and(|found| found.damaged.is_empty())
    }

    /// What was found damaged, or could not be read, counts as good for nothing until it is read again.
    pub fn is_bad(&self, set: &SetHash) -> bool {
        self.of(set).is_some_and(|found| !found.damaged.is_empty())
    }

    /// Sets with something wrong.
    pub fn damaged(&self) -> impl Iterator<Item = (&str, &VerifiedSet)> {
        let all = self.sets.iter().map(|(set, found)| (set.as_str(), found));
        all.filter(|(_, found)| !found.damaged.is_empty())
    }

    /// Forgets sets that are gone.
    pub fn keep_only(&mut self, is_there: impl Fn(&str) -> bool) {
        self.sets.retain(|set, _| is_there(set));
    }
}
