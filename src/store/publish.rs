//! From verified `*.part` files to the machine's set, without a moment in which no good set is there.
//!
//! The order, each point durable before the next:
//!
//! 1. `backup.json.part`: the new record. From here on the new set is complete and only has to be moved.
//! 2. `history/<number>/`: hard links to the old set, made aside and renamed as a whole. The number is the old set's own, or one
//!    above all that are there: what was current until now is the newest set of the history.
//! 3. Each `<name>.raw.gz.part` is renamed to `<name>.raw.gz`.
//! 4. `backup.json.part` is renamed to `backup.json`: the commit.
//! 5. Old generations beyond the wanted number are removed, where the action that made the set comes this far itself.
//!
//! Cut anywhere, [`recover`] goes on from what it finds: every step can be done again.

mod damage;
mod history;

pub use damage::{DAMAGE_LIMIT, clear, is_damaged, is_note_of, mark};
pub use history::{is_whole, remove_set};

use super::folder::Folder;
use super::protocol::Recovery;
use super::share_failure::{advice, is_full};
use crate::failure::{Failure, Kind};
use crate::image::{Image, ddrescue_map};
use crate::store::layout::{
    GENERATION_MAX, RECORD, RECORD_PENDING, SIGNATURE, history_dir, is_part_file, legacy_image_file,
    map_file, part_file,
};
use crate::store::record::{RECORD_LIMIT, Record, SetState};
use crate::sys::errno_words;
use blake3::Hash;
use std::io;

/// Says whether the folder is still this agent's.
pub type Ours<'a> = &'a dyn Fn() -> Result<(), Failure>;

/// Makes the images that `new` names the machine's set, and gives its generation, which is higher than asked for where
/// that is taken. Those of the images that are new stand verified in their `*.part` files; the others are those of the
/// set before. Of older sets `keep` whole ones stay; in a folder of a store those that its rules keep.
///
/// # Errors
/// [`Kind::Publish`] and errors of the share: the old set is in place or in the history, and [`recover`] resumes.
pub fn publish(folder: &Folder, new: &Record, keep: u32, ours: Ours) -> Result<u64, Failure> {
    if let Some(keeper) = folder.keeper() {
        return keeper.publish(new).map(|published| published.generation);
    }
    write_pending(folder, new)?;
    complete(folder, new.clone(), Some(keep), ours).map(|published| published.generation)
}

/// Completes or rolls back what an interrupted [`publish`] left. Old sets are removed only where that was an attempt of
/// the same job, `job`, of which then `keep` stay.
///
/// # Errors
/// As [`publish`]; [`Kind::NewerFormat`]: what is there was left alone.
pub fn recover(folder: &Folder, job: Option<&str>, keep: u32, ours: Ours) -> Result<Recovery, Failure> {
    let step = |what: &str, e: io::Error| failed(folder, what, &e);
    let found = match folder.record(RECORD_PENDING) {
        Ok(None) => return Ok(Recovery::Nothing),
        Ok(Some(new)) => match missing(folder, &new).map_err(|e| step("look for the new images", e))? {
            None => Ok(new),
            Some(why) => Err(why),
        },
        // A server that has lost what it was given.
        Err(failure) if failure.kind == Kind::BadRecord => Err(failure.what),
        Err(failure) => return Err(failure),
    };
    match found {
        Ok(new) => {
            let keep = (job.is_some() && new.job.as_deref() == job).then_some(keep);
            let published = complete(folder, new, keep, ours)?;
            Ok(Recovery::Completed(published.generation))
        }
        Err(why) => {
            ours()?;
            put_back(folder)?;
            folder
                .files
                .remove(&folder.path(RECORD_PENDING))
                .map_err(|e| step("remove the record of the cut set", e))?;
            folder.files.sync_dir(&folder.path("")).map_err(|e| step("sync the folder", e))?;
            Ok(Recovery::RolledBack(why))
        }
    }
}

/// The record of a set that is complete and has to be moved into place.
fn write_pending(folder: &Folder, new: &Record) -> Result<(), Failure> {
    let step = |what: &str, e: io::Error| failed(folder, what, &e);
    let pending = folder.path(RECORD_PENDING);
    folder.files.write_atomic(&pending, &new.to_bytes()).map_err(|e| step("write the new record", e))?;
    // A server that says yes and does nothing must show while the old record is still in place.
    let there = folder.files.read_limited(&pending, RECORD_LIMIT);
    if there.map_err(|e| step("read the new record back", e))? != new.to_bytes() {
        let why = io::Error::other("it is not what was just written: the server loses or changes writes");
        return Err(step("keep the new record", why));
    }
    Ok(())
}

/// Removes the unfinished images of cut attempts, but for those of the disks in `wanted`, which are gone on with. Only
/// where no set waits to be published.
///
/// # Errors
/// [`Kind::Publish`], with what could not be removed.
pub fn sweep(folder: &Folder, wanted: &[String]) -> Result<(), Failure> {
    if let Some(keeper) = folder.keeper() {
        return keeper.sweep(wanted);
    }
    let sweep = || -> io::Result<()> {
        let names = folder.files.list(&folder.path(""))?;
        if names.iter().any(|n| n == RECORD_PENDING) {
            return Ok(());
        }
        names
            .iter()
            .filter(|n| is_part_file(n))
            .filter(|n| !wanted.iter().any(|name| part_file(name) == **n))
            .try_for_each(|n| folder.files.remove(&folder.path(n)))
    };
    sweep().map_err(|e| failed(folder, "remove unfinished images", &e))
}

/// True where the image at `path` is there and has this root hash.
fn is_image(folder: &Folder, path: &str, root_hash: &Hash) -> io::Result<bool> {
    match folder.root_hash(path) {
        Ok(found) => Ok(found.is_ok_and(|hash| hash == *root_hash)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The first image of `new` that is neither published nor waiting in its `*.part`.
fn missing(folder: &Folder, new: &Record) -> io::Result<Option<String>> {
    for image in &new.images {
        let (file, hash) = (image.file(), &image.root_hash);
        if !is_image(folder, &part_file(&image.name), hash)? && !is_image(folder, &file, hash)? {
            return Ok(Some(format!("{file} of set {} is not there as its record names it", new.generation)));
        }
    }
    Ok(None)
}

fn complete(folder: &Folder, mut new: Record, keep: Option<u32>, ours: Ours) -> Result<Record, Failure> {
    let files = &*folder.files;
    let step = |what: &str, e: io::Error| failed(folder, what, &e);
    ours()?;
    let old = folder.record_and_bytes(RECORD)?;
    // Where it is the same, an attempt before this one came as far as the commit.
    let kept = if old.as_ref().is_none_or(|(_, bytes)| *bytes != new.to_bytes()) {
        keep_old(folder, old.as_ref(), &mut new)?
    } else {
        None
    };
    for image in &new.images {
        let (file, part) = (image.file(), part_file(&image.name));
        if is_image(folder, &part, &image.root_hash).map_err(|e| step("look at a new image", e))? {
            files
                .rename(&folder.path(&part), &folder.path(&file))
                .map_err(|e| step(&format!("rename {part}"), e))?;
        }
    }
    write_maps(folder, &new).map_err(|e| step("write the map of what could not be read", e))?;
    // The old set's: beside the new record it would prove nothing. By now that set is in the history.
    files.remove_if_exists(&folder.path(SIGNATURE)).map_err(|e| step("remove the old set's signature", e))?;
    files.sync_dir(&folder.path("")).map_err(|e| step("sync the folder", e))?;
    ours()?;
    files
        .rename(&folder.path(RECORD_PENDING), &folder.path(RECORD))
        .and_then(|()| files.sync_dir(&folder.path("")))
        .map_err(|e| step("rename the new record", e))?;
    damage::remove_old(folder, &new).map_err(|e| step("remove the old set's note of damage", e))?;
    if let Some(kept) = kept {
        remove_legacy(folder, &new, &kept).map_err(|e| step("remove the old form of an image", e))?;
    }
    if let Some(keep) = keep {
        ours()?;
        history::prune(folder, &new, keep)?;
    }
    Ok(new)
}

/// Keeps the old set in the history, where there is one, and gives the new one a generation above it. The folder that
/// it is kept in.
fn keep_old(
    folder: &Folder,
    old: Option<&(Record, Vec<u8>)>,
    new: &mut Record,
) -> Result<Option<String>, Failure> {
    let Some(slot) = history::slot(folder, old, new)? else { return Ok(None) };
    if new.generation <= slot.number {
        new.generation = slot.number.checked_add(1).filter(|n| *n <= GENERATION_MAX).ok_or_else(|| {
            let why =
                io::Error::other(format!("it leaves no number for a new set: move {} away", slot.dir()));
            failed(folder, "number the new set", &why)
        })?;
        write_pending(folder, new)?;
    }
    history::archive(folder, old, &slot).map_err(|e| failed(folder, "keep the old set in history/", &e))?;
    if old.is_some() {
        history::keep_signature(folder, &slot.dir())
            .map_err(|e| failed(folder, "keep the old set's signature", &e))?;
    }
    Ok(Some(slot.dir()))
}

/// Writes the map file beside each degraded image of `set`, made from the image itself, and removes those that others
/// have left beside complete ones.
fn write_maps(folder: &Folder, set: &Record) -> io::Result<()> {
    for image in &set.images {
        let map = folder.path(&map_file(&image.name));
        if image.state == SetState::Complete {
            folder.files.remove_if_exists(&map)?;
            continue;
        }
        if !is_image(folder, &image.file(), &image.root_hash)? {
            continue;
        }
        let opened =
            Image::open(folder.files.open(&folder.path(&image.file()))?).map_err(io::Error::other)?;
        let bad = opened.unreadable_ranges().map_err(io::Error::other)?;
        folder.files.write_atomic(&map, ddrescue_map(image.disk_size, &bad).as_bytes())?;
    }
    Ok(())
}

/// Puts images of the current record back from the history where an interrupted publishing has replaced them.
fn put_back(folder: &Folder) -> Result<(), Failure> {
    let Some((old, bytes)) = folder.record_and_bytes(RECORD)? else { return Ok(()) };
    let sets = folder.generations()?;
    let back = || -> io::Result<()> {
        sets.iter().rev().try_for_each(|n| history::put_back(folder, &history_dir(*n), &old, &bytes))?;
        write_maps(folder, &old)?;
        folder.files.sync_dir(&folder.path(""))
    };
    back().map_err(|e| failed(folder, "put the old images back from history/", &e))
}

/// The original's `sda.gz` beside our `sda.raw.gz` would make two images of one disk. It is in the history by now, in
/// `kept`.
fn remove_legacy(folder: &Folder, new: &Record, kept: &str) -> io::Result<()> {
    for image in &new.images {
        let legacy = legacy_image_file(&image.name);
        if folder.files.exists(&folder.path(&format!("{kept}/{legacy}")))? {
            folder.files.remove_if_exists(&folder.path(&legacy))?;
        }
    }
    Ok(())
}

fn failed(folder: &Folder, what: &str, error: &io::Error) -> Failure {
    let kind = if is_full(error) { Kind::NoSpace } else { Kind::Publish };
    let mend = advice(error).map_or_else(String::new, |advice| format!("{advice} "));
    Failure::new(
        kind,
        format!("cannot {what} in {} on the backup share: {}", folder.path(""), errno_words(error)),
        format!(
            "{mend}The set before is untouched, in place or in history/. The next attempt resumes from here."
        ),
    )
}
