//! What the rules of [`retention`](super::retention) are asked about: the sets of a machine, as they stand in its folder.

use super::retention::OldSet;
use super::verified::VerifiedSets;
use crate::failure::Failure;
use crate::store::layout::{PINNED, RECORD, SIGNATURE, STORE_PROVEN, history_dir};
use crate::store::{Folder, publish};
use crate::types::SetHash;
use jiff::Timestamp;
use std::io;

/// The sets of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldSets {
    /// When the current one was finished, and whether it is good.
    pub current: Option<(Timestamp, bool)>,
    /// Those of the history.
    pub old: Vec<OldSet>,
}

impl OldSets {
    /// Looks at all of them.
    ///
    /// # Errors
    /// The history cannot be listed.
    pub fn of(folder: &Folder, verified: &VerifiedSets, now: Timestamp) -> Result<OldSets, Failure> {
        // Where no store has ever proven anything, what the agents have proven when they published it counts.
        let has_store = match folder.files.list(STORE_PROVEN) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            proven => proven.map_or(true, |proven| !proven.is_empty()),
        };
        let is_proven = |set: &SetHash| {
            let proven = || folder.files.exists(&format!("{STORE_PROVEN}/{set}")).unwrap_or(false);
            !verified.is_bad(set) && (!has_store || verified.is_whole(set) || proven())
        };
        let set = |dir: &str, generation| old_set(folder, dir, generation, &is_proven, now);
        let current = set("", 0);
        let old =
            folder.generations()?.into_iter().map(|generation| set(&history_dir(generation), generation));
        Ok(OldSets { current: Some((current.finished, current.is_good)), old: old.collect() })
    }
}

/// What is known of the set in a folder; what cannot be read is held, and looked at by the admin.
fn old_set(
    folder: &Folder,
    dir: &str,
    generation: u64,
    is_proven: &dyn Fn(&SetHash) -> bool,
    now: Timestamp,
) -> OldSet {
    let files = &*folder.files;
    let at = |name: &str| if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
    let held = OldSet { generation, finished: now, is_good: false, is_held: true };
    let Ok(Some((record, bytes))) = folder.record_and_bytes(&at(RECORD)) else { return held };
    let exists = |path: String| files.exists(&path).unwrap_or(true);
    let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
    let is_whole = publish::is_whole(folder, &prefix, &record).unwrap_or(false);
    OldSet {
        generation,
        finished: record.finished,
        is_good: is_whole && is_proven(&SetHash::of(&bytes)) && record.is_complete(),
        is_held: exists(folder.path(&at(SIGNATURE))) || exists(folder.path(&at(PINNED))),
    }
}
