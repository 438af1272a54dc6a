//! The sets before the current one, below `history/`.

use super::damage::is_damaged;
use super::{failed, is_image};
use crate::failure::{Failure, Kind};
use crate::signature::SIGNATURE_LIMIT;
use crate::store::Folder;
use crate::store::layout::{
    GENERATION_MAX, HISTORY, PART, RECORD, SIGNATURE, back_file, damage_file, history_dir, legacy_image_file,
    map_file,
};
use crate::store::record::{RECORD_LIMIT, Record, SetState};
use std::collections::BTreeSet;
use std::io;

/// A record and the bytes of its file.
type Old = (Record, Vec<u8>);

/// Where the old set goes.
pub struct HistorySlot {
    /// The number of its folder.
    pub number: u64,
    /// What belongs to it, by the names that it has until now.
    names: Vec<String>,
    /// It stands there already.
    is_kept: bool,
}

impl HistorySlot {
    /// The folder.
    pub fn dir(&self) -> String {
        history_dir(self.number)
    }
}

/// The place of the old set, or of images without a record, those of the original system. It is the newest set of the
/// history, so it gets its own generation only where nothing has that or a higher number. `None` where there is nothing
/// to keep.
pub fn slot(folder: &Folder, old: Option<&Old>, new: &Record) -> Result<Option<HistorySlot>, Failure> {
    let look = |e: io::Error| failed(folder, "look at the old set", &e);
    let names = match old {
        Some((old, _)) => names_of(folder, old),
        None => names_without_record(folder, new),
    };
    let names = names.map_err(look)?;
    if names.is_empty() {
        return Ok(None);
    }
    let top = folder.generations()?.last().copied().unwrap_or(0);
    if top > 0 && holds(folder, &history_dir(top), &names, old).map_err(look)? {
        return Ok(Some(HistorySlot { number: top, names, is_kept: true }));
    }
    let own = old.map_or(0, |(old, _)| old.generation);
    let number = if own > top { own } else { top.saturating_add(1) };
    if number > GENERATION_MAX {
        let why = io::Error::other(format!("{} leaves no number above it: move it away", history_dir(top)));
        return Err(failed(folder, "keep the old set in history/", &why));
    }
    Ok(Some(HistorySlot { number, names, is_kept: false }))
}

/// What is not the image that the old record names is no good backup, and not worth keeping.
fn names_of(folder: &Folder, old: &Record) -> io::Result<Vec<String>> {
    let files = &*folder.files;
    let mut names = Vec::new();
    for image in &old.images {
        if !is_image(folder, &image.file(), &image.root_hash)? {
            continue;
        }
        let map = (image.state == SetState::Degraded).then(|| map_file(&image.name));
        names.push(image.file());
        for beside in map.into_iter().chain([damage_file(&image.file())]) {
            if files.exists(&folder.path(&beside)).or_else(no_file)? {
                names.push(beside);
            }
        }
    }
    names.push(RECORD.into());
    Ok(names)
}

fn names_without_record(folder: &Folder, new: &Record) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for image in &new.images {
        for file in [image.file(), legacy_image_file(&image.name)] {
            let is_new = file == image.file() && is_image(folder, &file, &image.root_hash)?;
            if !is_new && folder.files.exists(&folder.path(&file))? {
                names.push(file);
            }
        }
    }
    Ok(names)
}

/// A link or a folder in a file's place is no file.
fn no_file(error: io::Error) -> io::Result<bool> {
    if error.kind() == io::ErrorKind::InvalidInput { Ok(false) } else { Err(error) }
}

/// True where all of `names` stand in `dir` as they stand in the folder itself: the record byte for byte, images by
/// their root hash, or, without a record, as the same file. A name alone proves nothing: anybody can have made the folder.
fn holds(folder: &Folder, dir: &str, names: &[String], old: Option<&Old>) -> io::Result<bool> {
    for name in names {
        let path = format!("{dir}/{name}");
        let image = old.and_then(|(old, _)| old.images.iter().find(|image| image.file() == *name));
        let is_there = match (image, old) {
            (Some(image), _) => is_image(folder, &path, &image.root_hash),
            (None, Some((_, bytes))) if name == RECORD => is_record(folder, &path, bytes),
            (None, Some(_)) => folder.files.exists(&folder.path(&path)),
            (None, None) => folder.files.is_same_file(&folder.path(name), &folder.path(&path)),
        };
        match is_there {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(e) if is_absent(&e) => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

fn is_record(folder: &Folder, path: &str, bytes: &[u8]) -> io::Result<bool> {
    Ok(folder.files.read_limited(&folder.path(path), RECORD_LIMIT)? == bytes)
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, InvalidInput, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidInput | FileTooLarge)
}

/// Gives the old set second names in its [`HistorySlot`].
pub fn archive(folder: &Folder, old: Option<&Old>, slot: &HistorySlot) -> io::Result<()> {
    if slot.is_kept {
        return Ok(());
    }
    let files = &*folder.files;
    let (target, aside) = (slot.dir(), format!("{}{PART}", slot.dir()));
    files.make_dir(&folder.path(HISTORY))?;
    files.sync_dir(&folder.path(""))?;
    files.make_dir(&folder.path(&aside))?;
    // What an attempt before this one has left here may be of other files than those of now.
    for left in files.list(&folder.path(&aside))? {
        files.remove(&folder.path(&format!("{aside}/{left}")))?;
    }
    for name in &slot.names {
        files.hard_link(&folder.path(name), &folder.path(&format!("{aside}/{name}")))?;
    }
    files.sync_dir(&folder.path(&aside))?;
    // The old images lose their own names next: a server that says yes and does nothing must show before that.
    check_kept(folder, &aside, slot, old)?;
    files.rename(&folder.path(&aside), &folder.path(&target))?;
    files.sync_dir(&folder.path(HISTORY))?;
    check_kept(folder, &target, slot, old)
}

fn check_kept(folder: &Folder, dir: &str, slot: &HistorySlot, old: Option<&Old>) -> io::Result<()> {
    if holds(folder, dir, &slot.names, old)? {
        return Ok(());
    }
    Err(io::Error::other(format!("{dir} does not hold the set that was just linked there")))
}

/// Gives the signature of the current set a second name beside the record in `dir`. On its own, because it may have been
/// made, or be gone from here, since an attempt before this one.
pub fn keep_signature(folder: &Folder, dir: &str) -> io::Result<()> {
    use io::ErrorKind::{FileTooLarge, InvalidInput, NotFound};
    let files = &*folder.files;
    let (own, kept) = (folder.path(SIGNATURE), folder.path(&format!("{dir}/{SIGNATURE}")));
    let read = |path: &str| files.read_limited(path, SIGNATURE_LIMIT);
    let signature = match read(&own) {
        Ok(signature) => signature,
        // A link, a folder, a long file: no signature, and no reason to have no backup.
        Err(e) if matches!(e.kind(), NotFound | InvalidInput | FileTooLarge) => return Ok(()),
        Err(e) => return Err(e),
    };
    if read(&kept).is_ok_and(|there| there == signature) {
        return Ok(());
    }
    files.remove_if_exists(&kept)?;
    files.hard_link(&own, &kept)?;
    files.sync_dir(&folder.path(dir))?;
    // It loses its own name next.
    if read(&kept)? != signature {
        return Err(io::Error::other(format!("{kept} is not what was just made there")));
    }
    Ok(())
}

/// Puts what the set in `dir` has of the current one, `old`, back where it is missing: images, and the signature of the
/// same record.
pub fn put_back(folder: &Folder, dir: &str, old: &Record, bytes: &[u8]) -> io::Result<()> {
    let files = &*folder.files;
    for image in &old.images {
        let kept = format!("{dir}/{}", image.file());
        if is_image(folder, &image.file(), &image.root_hash)?
            || !is_image(folder, &kept, &image.root_hash)
                .or_else(|e| if is_absent(&e) { Ok(false) } else { Err(e) })?
        {
            continue;
        }
        let aside = folder.path(&back_file(&image.file()));
        files.remove_if_exists(&aside)?;
        files.hard_link(&folder.path(&kept), &aside)?;
        files.rename(&aside, &folder.path(&image.file()))?;
    }
    let (kept, own) = (folder.path(&format!("{dir}/{SIGNATURE}")), folder.path(SIGNATURE));
    let is_same_set = is_record(folder, &format!("{dir}/{RECORD}"), bytes).unwrap_or(false);
    if is_same_set && !files.exists(&own).unwrap_or(true) && files.exists(&kept)? {
        files.hard_link(&kept, &own)?;
    }
    Ok(())
}

/// What a set of the history is worth.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// Whole, and every byte was read.
    Complete,
    /// Whole, with holes.
    Degraded,
    /// No set to rely on: without a record that can be read, without an image or with another one, known to be damaged, or
    /// there already under a higher number.
    None,
    /// A newer testbox has made it.
    Newer,
}

/// Removes the sets of the history that are older than its newest `keep` whole and complete ones. A set that cannot be
/// trusted never counts as one of them, nor does a degraded one; of those, too, at most `keep` stay. Where the current
/// set, `new`, has holes or is not whole, one stays whatever was asked for.
pub fn prune(folder: &Folder, new: &Record, keep: u32) -> Result<(), Failure> {
    let look = |at: &str, e: io::Error| failed(folder, &format!("look at the old set {at}"), &e);
    let mut known = BTreeSet::from([new.to_bytes()]);
    let is_good = new.is_complete() && is_whole(folder, "", new).map_err(|e| look("in place", e))?;
    let keep = if is_good { keep } else { keep.max(1) };
    let (mut complete, mut degraded) = (0, 0);
    for generation in folder.generations()?.into_iter().rev() {
        let at = history_dir(generation);
        if !folder.is_folder(&at)? {
            continue;
        }
        let is_surplus = match worth(folder, &at, &mut known).map_err(|e| look(&at, e)) {
            Ok(Worth::Newer) => false,
            _ if complete >= keep => true,
            Err(failure) => return Err(failure),
            Ok(Worth::None) => false,
            Ok(Worth::Degraded) => {
                degraded += 1;
                degraded > keep
            }
            Ok(Worth::Complete) => {
                complete += 1;
                false
            }
        };
        if is_surplus {
            remove_set(folder, &at)?;
        }
    }
    Ok(())
}

fn worth(folder: &Folder, at: &str, known: &mut BTreeSet<Vec<u8>>) -> io::Result<Worth> {
    let (record, bytes) = match folder.record_and_bytes(&format!("{at}/{RECORD}")) {
        Ok(Some(set)) => set,
        Err(failure) if failure.kind == Kind::NewerFormat => return Ok(Worth::Newer),
        Ok(None) | Err(_) => return Ok(Worth::None),
    };
    if !is_whole(folder, &format!("{at}/"), &record)? || !known.insert(bytes) {
        return Ok(Worth::None);
    }
    Ok(if record.is_complete() { Worth::Complete } else { Worth::Degraded })
}

/// True where the images of a set stand below `prefix`, and none of them is known to be damaged.
///
/// # Errors
/// Those of the share.
pub fn is_whole(folder: &Folder, prefix: &str, record: &Record) -> io::Result<bool> {
    for image in &record.images {
        let path = format!("{prefix}{}", image.file());
        if !is_image(folder, &path, &image.root_hash)? || is_damaged(folder, &path, &image.root_hash)? {
            return Ok(false);
        }
    }
    Ok(!record.images.is_empty())
}

/// Removes the set in the folder `at` of the history.
///
/// # Errors
/// [`Kind::Publish`], with what could not be removed.
pub fn remove_set(folder: &Folder, at: &str) -> Result<(), Failure> {
    remove(folder, at).map_err(|e| failed(folder, &format!("remove the old set {at}"), &e))
}

/// The record goes first, so that a set that is half removed is not trusted.
fn remove(folder: &Folder, at: &str) -> io::Result<()> {
    let dir = folder.path(at);
    let mut names = folder.files.list(&dir)?;
    names.sort_by_key(|n| n != RECORD);
    for name in names {
        folder.files.remove(&format!("{dir}/{name}"))?;
    }
    folder.files.remove(&dir)
}
