//! From verified `*.part` files to the machine's set, without a moment in which no good set is there.
//!
//! The order, each point durable before the next:
//!
//! 1. `backup.json.part`: the new record. From here on the new set is complete and only has to be moved.
//! 2. `history/<generation>/`: hard links to the old set, made aside and renamed as a whole.
//! 3. Each `<name>.raw.gz.part` is renamed to `<name>.raw.gz`.
//! 4. `backup.json.part` is renamed to `backup.json`: the commit.
//! 5. Old generations beyond the wanted number are removed.
//!
//! Cut anywhere, [`recover`] goes on from what it finds: every step can be done again.

use super::folder::{Folder, HISTORY, PART};
use super::share_failure::{advice, is_full};
use crate::failure::{Failure, Kind};
use crate::image::{Image, ddrescue_map};
use crate::share::{Files, exists, read_limited, write_atomic};
use crate::signature::{SIGNATURE, SIGNATURE_LIMIT};
use crate::store::record::{RECORD, RECORD_LIMIT, RECORD_PENDING, Record, SetState, image_file, map_file};
use crate::sys::errno_words;
use std::io;

/// What [`recover`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Recovered {
    /// Nothing was under way.
    Nothing,
    /// A set was complete and is published now.
    Completed(Box<Record>),
    /// A set could not be completed: the old one is as it was.
    RolledBack(String),
}

/// Makes the images that `new` names the machine's set. Those of them that are new stand verified in their
/// `*.part` files; the others are those of the set before.
pub fn publish(folder: &Folder, new: &Record, keep: u32) -> Result<(), Failure> {
    let step = |what: &str, e: io::Error| failed(folder, what, &e);
    let pending = folder.path(RECORD_PENDING);
    write_atomic(&*folder.files, &pending, &new.to_bytes()).map_err(|e| step("write the new record", e))?;
    // A server that says yes and does nothing must show while the old record is still in place.
    let there = read_limited(&*folder.files, &pending, RECORD_LIMIT);
    if there.map_err(|e| step("read the new record back", e))? != new.to_bytes() {
        let why = io::Error::other("it is not what was just written: the server loses or changes writes");
        return Err(step("keep the new record", why));
    }
    complete(folder, new, keep)
}

/// Completes or rolls back what an interrupted [`publish`] left.
pub fn recover(folder: &Folder, keep: u32) -> Result<Recovered, Failure> {
    let step = |what: &str, e: io::Error| failed(folder, what, &e);
    let found = match folder.record(RECORD_PENDING) {
        Ok(None) => return Ok(Recovered::Nothing),
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
            complete(folder, &new, keep)?;
            Ok(Recovered::Completed(Box::new(new)))
        }
        Err(why) => {
            put_back(folder)?;
            folder
                .files
                .remove(&folder.path(RECORD_PENDING))
                .map_err(|e| step("remove the record of the cut set", e))?;
            folder.files.sync_dir(&folder.path("")).map_err(|e| step("sync the folder", e))?;
            Ok(Recovered::RolledBack(why))
        }
    }
}

/// Removes the unfinished images of cut attempts, but for those of the disks in `wanted`, which are gone on with. Only
/// where no set waits to be published.
pub fn sweep(folder: &Folder, wanted: &[String]) -> Result<(), Failure> {
    let sweep = || -> io::Result<()> {
        let names = folder.files.list(&folder.path(""))?;
        if names.iter().any(|n| n == RECORD_PENDING) {
            return Ok(());
        }
        names
            .iter()
            .filter(|n| n.ends_with(".raw.gz.part"))
            .filter(|n| !wanted.iter().any(|name| format!("{}{PART}", image_file(name)) == **n))
            .try_for_each(|n| folder.files.remove(&folder.path(n)))
    };
    sweep().map_err(|e| failed(folder, "remove unfinished images", &e))
}

/// True where the image at `path` is there and has this root hash.
fn is_image(folder: &Folder, path: &str, root_hash: &str) -> io::Result<bool> {
    match folder.root_hash(path) {
        Ok(found) => Ok(found.is_ok_and(|hash| hash.eq_ignore_ascii_case(root_hash))),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The first image of `new` that is neither published nor waiting in its `*.part`.
fn missing(folder: &Folder, new: &Record) -> io::Result<Option<String>> {
    for image in &new.images {
        let (file, hash) = (image.file(), &image.root_hash);
        if !is_image(folder, &format!("{file}{PART}"), hash)? && !is_image(folder, &file, hash)? {
            return Ok(Some(format!("{file} of set {} is not there as its record names it", new.generation)));
        }
    }
    Ok(None)
}

fn complete(folder: &Folder, new: &Record, keep: u32) -> Result<(), Failure> {
    let files = &*folder.files;
    let step = |what: &str, e: io::Error| failed(folder, what, &e);
    let old = folder.record(RECORD)?;
    if old.as_ref().is_none_or(|o| o.generation != new.generation) {
        archive(folder, old.as_ref(), new).map_err(|e| step("keep the old set in history/", e))?;
        if let Some(old) = &old {
            let kept = format!("{HISTORY}/{}", old.generation);
            keep_signature(folder, &kept).map_err(|e| step("keep the old set's signature", e))?;
        }
    }
    for image in &new.images {
        let (file, part) = (image.file(), format!("{}{PART}", image.file()));
        if is_image(folder, &part, &image.root_hash).map_err(|e| step("look at a new image", e))? {
            files
                .rename(&folder.path(&part), &folder.path(&file))
                .map_err(|e| step(&format!("rename {part}"), e))?;
        }
    }
    write_maps(folder, new).map_err(|e| step("write the map of what could not be read", e))?;
    // The old set's: beside the new record it would prove nothing. By now that set is in the history.
    remove_if_there(files, &folder.path(SIGNATURE)).map_err(|e| step("remove the old set's signature", e))?;
    files.sync_dir(&folder.path("")).map_err(|e| step("sync the folder", e))?;
    files
        .rename(&folder.path(RECORD_PENDING), &folder.path(RECORD))
        .and_then(|()| files.sync_dir(&folder.path("")))
        .map_err(|e| step("rename the new record", e))?;
    remove_legacy(folder, new).map_err(|e| step("remove the old form of an image", e))?;
    // Where the current set has holes, the newest one that has none is worth more than what was asked for.
    prune(folder, if new.is_complete() { keep } else { keep.max(1) })
}

/// Writes the map file beside each degraded image of `set`, made from the image itself, and removes those that others
/// have left beside complete ones.
fn write_maps(folder: &Folder, set: &Record) -> io::Result<()> {
    for image in &set.images {
        let map = folder.path(&map_file(&image.name));
        if image.state == SetState::Complete {
            match folder.files.remove(&map) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => continue,
            }
        }
        if !is_image(folder, &image.file(), &image.root_hash)? {
            continue;
        }
        let opened =
            Image::open(folder.files.open(&folder.path(&image.file()))?).map_err(io::Error::other)?;
        let bad = opened.unreadable_ranges().map_err(io::Error::other)?;
        write_atomic(&*folder.files, &map, ddrescue_map(image.disk_size, &bad).as_bytes())?;
    }
    Ok(())
}

/// Gives the old set second names in `history/<generation>/`. Images without a record, the original system's, go
/// to the number before the new set's, which the plan leaves free for them.
fn archive(folder: &Folder, old: Option<&Record>, new: &Record) -> io::Result<()> {
    let files = &*folder.files;
    let mut names: Vec<String> = Vec::new();
    match old {
        Some(old) => {
            for image in &old.images {
                // What is not the image that the old record names is no good backup, and not worth keeping.
                if is_image(folder, &image.file(), &image.root_hash)? {
                    names.push(image.file());
                    let map = map_file(&image.name);
                    if image.state == SetState::Degraded && exists(files, &folder.path(&map))? {
                        names.push(map);
                    }
                }
            }
            names.push(RECORD.into());
        }
        None => {
            for image in &new.images {
                for file in [image.file(), format!("{}.gz", image.name)] {
                    let is_new = file == image.file() && is_image(folder, &file, &image.root_hash)?;
                    if !is_new && exists(files, &folder.path(&file))? {
                        names.push(file);
                    }
                }
            }
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    let target = format!("{HISTORY}/{}", old.map_or(new.generation - 1, |o| o.generation));
    match files.list(&folder.path(&target)) {
        // An attempt before this one came as far as here.
        Ok(there) if names.iter().all(|n| there.contains(n)) => return Ok(()),
        Ok(_) => {
            let why = format!("{target} is there already, and does not hold the set that is to be kept");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let aside = format!("{target}{PART}");
    files.make_dir(&folder.path(HISTORY))?;
    files.sync_dir(&folder.path(""))?;
    files.make_dir(&folder.path(&aside))?;
    for name in &names {
        let kept = folder.path(&format!("{aside}/{name}"));
        // What an attempt before this one has left here may be of other files than those of now.
        match files.remove(&kept) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => files.hard_link(&folder.path(name), &kept)?,
        }
    }
    files.sync_dir(&folder.path(&aside))?;
    // The old images lose their own names next: a server that says yes and does nothing must show before that.
    check_kept(folder, &aside, &names, old)?;
    files.rename(&folder.path(&aside), &folder.path(&target))?;
    files.sync_dir(&folder.path(HISTORY))?;
    check_kept(folder, &target, &names, old)
}

/// Gives the signature of the current set a second name beside the record in `dir`. On its own, because it may have been
/// made, or be gone from here, since an attempt before this one.
fn keep_signature(folder: &Folder, dir: &str) -> io::Result<()> {
    use io::ErrorKind::{FileTooLarge, InvalidInput, NotFound};
    let files = &*folder.files;
    let (own, kept) = (folder.path(SIGNATURE), folder.path(&format!("{dir}/{SIGNATURE}")));
    let read = |path: &str| read_limited(files, path, SIGNATURE_LIMIT);
    let signature = match read(&own) {
        Ok(signature) => signature,
        // A link, a folder, a long file: no signature, and no reason to have no backup.
        Err(e) if matches!(e.kind(), NotFound | InvalidInput | FileTooLarge) => return Ok(()),
        Err(e) => return Err(e),
    };
    if read(&kept).is_ok_and(|there| there == signature) {
        return Ok(());
    }
    remove_if_there(files, &kept)?;
    files.hard_link(&own, &kept)?;
    files.sync_dir(&folder.path(dir))?;
    // It loses its own name next.
    if read(&kept)? != signature {
        return Err(io::Error::other(format!("{kept} is not what was just made there")));
    }
    Ok(())
}

fn remove_if_there(files: &dyn Files, path: &str) -> io::Result<()> {
    match files.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Fails unless all of `names` stand in `dir`, and images of `old` are what its record says.
fn check_kept(folder: &Folder, dir: &str, names: &[String], old: Option<&Record>) -> io::Result<()> {
    for name in names {
        let path = format!("{dir}/{name}");
        let image = old.and_then(|old| old.images.iter().find(|image| image.file() == *name));
        let is_there = match image {
            Some(image) => is_image(folder, &path, &image.root_hash)?,
            None => exists(&*folder.files, &folder.path(&path))?,
        };
        if !is_there {
            return Err(io::Error::other(format!("{path} is not there although it was just made")));
        }
    }
    Ok(())
}

/// Puts images of the current record back from the history where an interrupted publishing has replaced them.
fn put_back(folder: &Folder) -> Result<(), Failure> {
    let Some(old) = folder.record(RECORD)? else { return Ok(()) };
    let files = &*folder.files;
    let back = || -> io::Result<()> {
        for image in &old.images {
            let kept = format!("{HISTORY}/{}/{}", old.generation, image.file());
            if is_image(folder, &image.file(), &image.root_hash)?
                || !is_image(folder, &kept, &image.root_hash)?
            {
                continue;
            }
            let aside = folder.path(&format!("{}.back", image.file()));
            match files.remove(&aside) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => files.hard_link(&folder.path(&kept), &aside)?,
            }
            files.rename(&aside, &folder.path(&image.file()))?;
        }
        let kept = folder.path(&format!("{HISTORY}/{}/{SIGNATURE}", old.generation));
        let own = folder.path(SIGNATURE);
        if !exists(files, &own).unwrap_or(true) && exists(files, &kept)? {
            files.hard_link(&kept, &own)?;
        }
        write_maps(folder, &old)?;
        files.sync_dir(&folder.path(""))
    };
    back().map_err(|e| failed(folder, "put the old images back from history/", &e))
}

/// The original's `sda.gz` beside our `sda.raw.gz` would make two images of one disk. It is in `history/` by now.
fn remove_legacy(folder: &Folder, new: &Record) -> io::Result<()> {
    for image in &new.images {
        let legacy = format!("{}.gz", image.name);
        let kept = format!("{HISTORY}/{}/{legacy}", new.generation - 1);
        if exists(&*folder.files, &folder.path(&kept))? {
            match folder.files.remove(&folder.path(&legacy)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes the sets of the history that are older than its newest `keep` whole and complete ones. A set that cannot be
/// trusted never pushes such a one out, nor does a degraded one; of those, too, at most `keep` stay. The record goes first, so that a set that is half removed is not trusted.
pub fn prune(folder: &Folder, keep: u32) -> Result<(), Failure> {
    let (mut whole, mut degraded) = (0, 0);
    for generation in folder.generations()?.into_iter().rev() {
        let remove = |dir: String| -> io::Result<()> {
            let mut names = folder.files.list(&dir)?;
            names.sort_by_key(|n| n != RECORD);
            for name in names {
                folder.files.remove(&format!("{dir}/{name}"))?;
            }
            folder.files.remove(&dir)
        };
        let at = format!("{HISTORY}/{generation}");
        if !folder.is_folder(&at)? {
            continue;
        }
        if whole >= keep {
            remove(folder.path(&at)).map_err(|e| failed(folder, &format!("remove the old set {at}"), &e))?;
            continue;
        }
        let look = |e: io::Error| failed(folder, &format!("look at the old set {at}"), &e);
        if !is_whole(folder, &at).map_err(look)? {
            continue;
        }
        if folder.record(&format!("{at}/{RECORD}"))?.is_some_and(|record| record.is_complete()) {
            whole += 1;
        } else if degraded < keep {
            degraded += 1;
        } else {
            remove(folder.path(&at)).map_err(|e| failed(folder, &format!("remove the old set {at}"), &e))?;
        }
    }
    Ok(())
}

fn is_whole(folder: &Folder, at: &str) -> io::Result<bool> {
    let Ok(Some(record)) = folder.record(&format!("{at}/{RECORD}")) else { return Ok(false) };
    for image in &record.images {
        if !is_image(folder, &format!("{at}/{}", image.file()), &image.root_hash)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn failed(folder: &Folder, what: &str, error: &io::Error) -> Failure {
    let kind = if is_full(error) { Kind::NoSpace } else { Kind::Publish };
    let mend = advice(error).map_or_else(String::new, |advice| format!("{advice} "));
    Failure::new(
        kind,
        format!("cannot {what} in {} on the backup share: {}", folder.path(""), errno_words(error)),
        format!(
            "{mend}The set before is untouched, in place or in history/. The next attempt goes on from here."
        ),
    )
}
