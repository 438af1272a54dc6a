//! `sda.raw.gz.damaged` beside an image: that an agent has found it damaged behind its header and index, which alone look
//! whole. Such a set is kept, and never counts as a good one. The note names the root hash, so it says nothing of another
//! image of that name.

use crate::store::Folder;
use crate::store::layout::damage_file;
use crate::store::record::Record;
use blake3::Hash;
use std::io;

/// Largest note that is read, in bytes.
const LIMIT: usize = 64 << 10;

/// Notes that the image at `path`, which has this root hash, is damaged.
///
/// # Errors
/// Those of the share.
pub fn mark(folder: &Folder, path: &str, root_hash: &Hash, why: &str) -> io::Result<()> {
    let text = format!("{root_hash} {}\n", why.replace(char::is_control, " "));
    folder.files.write_atomic(&folder.path(&damage_file(path)), text.as_bytes())
}

/// Takes the note back: the image at `path` was proven whole.
///
/// # Errors
/// Those of the share.
pub fn clear(folder: &Folder, path: &str) -> io::Result<()> {
    folder.files.remove_if_exists(&folder.path(&damage_file(path))).map(drop)
}

/// True where the image at `path`, with this root hash, is noted to be damaged; also where the note cannot be told.
pub fn is_damaged(folder: &Folder, path: &str, root_hash: &Hash) -> io::Result<bool> {
    use io::ErrorKind::{FileTooLarge, InvalidInput, NotFound};
    match folder.files.read_limited(&folder.path(&damage_file(path)), LIMIT) {
        Ok(note) => Ok(note
            .split(|b| *b == b' ')
            .next()
            .is_some_and(|hash| Hash::from_hex(hash).is_ok_and(|hash| hash == *root_hash))),
        Err(e) if e.kind() == NotFound => Ok(false),
        Err(e) if matches!(e.kind(), InvalidInput | FileTooLarge) => Ok(true),
        Err(e) => Err(e),
    }
}

/// Removes the notes about images that those of `new` have replaced. By now they are in the history.
pub fn remove_old(folder: &Folder, new: &Record) -> io::Result<()> {
    for image in &new.images {
        if !is_damaged(folder, &image.file(), &image.root_hash)? {
            clear(folder, &image.file())?;
        }
    }
    Ok(())
}
