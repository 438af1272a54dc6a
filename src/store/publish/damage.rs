//! `sda.raw.gz.damaged` beside an image: that an agent has found it damaged behind its header and index, which alone look
//! whole. Such a set is kept, and never counts as a good one. The note names the root hash, so it says nothing of another
//! image of that name. A store believes no agent there: it looks for itself.

use crate::store::Folder;
use crate::store::layout::damage_file;
use crate::store::record::Record;
use blake3::Hash;
use std::io;

/// Largest note that is read, in bytes.
pub const DAMAGE_LIMIT: usize = 64 << 10;

/// Notes that the image at `path`, which has this root hash, is damaged.
///
/// # Errors
/// Those of the share.
pub fn mark(folder: &Folder, path: &str, root_hash: &Hash, why: &str) -> io::Result<()> {
    if let Some(keeper) = folder.keeper() {
        return keeper.suspect(&folder.path(path));
    }
    let text = format!("{root_hash} {}\n", why.replace(char::is_control, " "));
    folder.files.write_atomic(&folder.path(&damage_file(path)), text.as_bytes())
}

/// Takes the note back: the image at `path` was proven whole.
///
/// # Errors
/// Those of the share.
pub fn clear(folder: &Folder, path: &str) -> io::Result<()> {
    if let Some(keeper) = folder.keeper() {
        return keeper.suspect(&folder.path(path));
    }
    folder.files.remove_if_exists(&folder.path(&damage_file(path))).map(drop)
}

/// True where the image at `path`, with this root hash, is noted to be damaged; also where the note cannot be told.
///
/// # Errors
/// Those of the share.
pub fn is_damaged(folder: &Folder, path: &str, root_hash: &Hash) -> io::Result<bool> {
    use io::ErrorKind::{FileTooLarge, InvalidInput, NotFound};
    match folder.files.read_limited(&folder.path(&damage_file(path)), DAMAGE_LIMIT) {
        Ok(note) => Ok(is_note_of(&note, root_hash)),
        Err(e) if e.kind() == NotFound => Ok(false),
        Err(e) if matches!(e.kind(), InvalidInput | FileTooLarge) => Ok(true),
        Err(e) => Err(e),
    }
}

/// True where this is the content of a note about the image with this root hash, or about nobody knows which.
pub fn is_note_of(note: &[u8], root_hash: &Hash) -> bool {
    let hash = note.split(|b| *b == b' ').next().unwrap_or_default();
    Hash::from_hex(hash).map_or(true, |hash| hash == *root_hash)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::MemFiles;
    use std::sync::Arc;

    /// A note that cannot be read back was made for this image as likely as for another: the image must not count as good.
    #[test]
    fn a_note_that_names_no_hash_counts() {
        let folder = Folder::new(Arc::new(MemFiles::new()), "10.0.0.1");
        folder.files.make_dir("10.0.0.1").unwrap();
        let (own, other) = (blake3::hash(b"own"), blake3::hash(b"other"));
        for (note, expected) in [
            (format!("{own} a member's hash is wrong\n"), true),
            (own.to_string(), true),
            (format!("{other} a member's hash is wrong\n"), false),
            (String::new(), true),
            ("\0\0\0\0".into(), true),
            (own.to_string()[..40].into(), true),
        ] {
            folder.files.write_atomic(&folder.path("sda.raw.gz.damaged"), note.as_bytes()).unwrap();
            assert_eq!(is_damaged(&folder, "sda.raw.gz", &own).unwrap(), expected, "{note:?}");
        }
        clear(&folder, "sda.raw.gz").unwrap();
        assert!(!is_damaged(&folder, "sda.raw.gz", &own).unwrap());
    }
}
