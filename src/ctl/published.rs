//! All published images of a backup share, for commands that look at more than one machine.
//!
//! No lease is taken, and nothing is changed: a set that is being published or removed meanwhile is there or not.

use super::Error;
use super::shares::ShareFolder;
use crate::block::FileId;
use crate::image::Image;
use crate::io::ReadAt;
use crate::share::Files;
use crate::store::layout::{HISTORY, RECORD, generation};
use crate::store::record::{RECORD_LIMIT, Record, RecordError};
use crate::text::with_sources;
use blake3::Hash;
use jiff::Timestamp;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// An image that a record names.
#[derive(Clone, Debug)]
pub(super) struct Published {
    /// Whose it is.
    pub machine: Ipv4Addr,
    /// The set that it belongs to.
    pub generation: u64,
    /// When that was finished, by that machine's clock.
    pub finished: Timestamp,
    /// Its path on the share.
    pub path: String,
    /// Which file that was; each is listed once, by the path of its newest set.
    pub id: FileId,
    /// Bytes that it takes of its file system, shared ones as its own.
    pub room: u64,
    root_hash: Hash,
}

impl Published {
    /// `10.42.1.20 set 3, sda.raw.gz`: for messages.
    pub fn label(&self) -> String {
        let file = self.path.rsplit_once('/').map_or("", |(_, file)| file);
        format!("{} set {}, {file}", self.machine, self.generation)
    }

    /// Opens it; `None` where it is gone, or its name is another image's by now.
    pub fn open(&self, share: &ShareFolder) -> Result<Option<OpenedImage>, String> {
        let opened = open(share, &self.path, self.root_hash)?;
        Ok(opened.filter(|(_, about)| FileId::from(about) == self.id).map(|(image, _)| image))
    }
}

/// A published image that is open, and the file that it is.
pub(super) struct OpenedImage {
    pub image: Image,
    file: Arc<dyn ReadAt>,
}

impl OpenedImage {
    /// The file, for the calls of its file system.
    pub fn file(&self) -> io::Result<&File> {
        let file = self.file.as_any().and_then(|any| any.downcast_ref());
        file.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Reads from it.
    pub fn read(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, position)
    }
}

/// All of them, the oldest first, and what is wrong with those that cannot be used. A file with several names (carried over
/// from set to set) is listed once.
pub(super) fn all(share: &ShareFolder) -> Result<(Vec<Published>, Vec<String>), Error> {
    let (mut images, mut problems) = (Vec::new(), Vec::new());
    let names = share.files.list("").map_err(|e| share.error("", "list it", &e))?;
    for machine in names.iter().filter_map(|name| name.parse::<Ipv4Addr>().ok()) {
        let mut folders = vec![machine.to_string()];
        let history = format!("{machine}/{HISTORY}");
        // There may be none, or it is gone by now.
        let mut sets: Vec<u64> =
            share.files.list(&history).unwrap_or_default().iter().filter_map(|set| generation(set)).collect();
        sets.sort_unstable_by(|a, b| b.cmp(a));
        folders.extend(sets.iter().map(|set| format!("{history}/{set}")));
        for folder in folders {
            set(share, machine, &folder, &mut images).unwrap_or_else(|what| {
                problems.push(format!("{}: {what}", share.path.join(&folder).display()))
            });
        }
    }
    images.sort_by(|a, b| {
        let key = |image: &Published| (image.finished, image.machine, image.generation);
        key(a).cmp(&key(b)).then_with(|| a.path.cmp(&b.path))
    });
    Ok((images, problems))
}

/// Adds the images of the set in a folder.
fn set(
    share: &ShareFolder,
    machine: Ipv4Addr,
    folder: &str,
    images: &mut Vec<Published>,
) -> Result<(), String> {
    let record = match share.files.read_limited(&format!("{folder}/{RECORD}"), RECORD_LIMIT) {
        Ok(bytes) => bytes,
        Err(e) if is_gone(&e) => return Ok(()),
        Err(e) => return Err(format!("cannot read {RECORD}: {e}")),
    };
    let record = Record::parse(&record).map_err(|e| match e {
        RecordError::TooNew(_) => format!("{RECORD} cannot be used: {e}; use the testboxctl of that release"),
        e => format!("{RECORD} cannot be used: {e}"),
    })?;
    for image in &record.images {
        let path = format!("{folder}/{}", image.file());
        let Some((_, about)) = open(share, &path, image.root_hash)? else { continue };
        let id = FileId::from(&about);
        if images.iter().all(|other| other.id != id) {
            images.push(Published {
                machine,
                generation: record.generation,
                finished: record.finished,
                path,
                id,
                room: about.blocks().saturating_mul(512),
                root_hash: image.root_hash,
            });
        }
    }
    Ok(())
}

/// `None` where there is no such file, or it is not this image: a set is just being published or removed.
fn open(
    share: &ShareFolder,
    path: &str,
    hash: Hash,
) -> Result<Option<(OpenedImage, std::fs::Metadata)>, String> {
    let file = match share.files.open(path) {
        Ok(file) => file,
        Err(e) if is_gone(&e) => return Ok(None),
        Err(e) => return Err(format!("cannot open {path}: {e}")),
    };
    let image = Image::open(file.clone()).map_err(|e| format!("{path}: {}", with_sources(&e)))?;
    if image.summary().root_hash != hash {
        return Ok(None);
    }
    let opened = OpenedImage { image, file };
    let about =
        opened.file().and_then(File::metadata).map_err(|e| format!("{path}: cannot look at it: {e}"))?;
    Ok(Some((opened, about)))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
