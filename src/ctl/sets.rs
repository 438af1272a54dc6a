//! The sets of machines, as a listing shows them: what their records say, what stands beside these, and what the files take.
//! Nothing of an image is read. Of each set that is its record, and a note of damage where there is one.

use super::Error;
use super::many;
use super::shares::ShareFolder;
use crate::block::FileId;
use crate::failure::Kind;
use crate::share::{DirFiles, Files};
use crate::store::layout::{HISTORY, PINNED, RECORD, SIGNATURE, damage_file, generation, history_dir};
use crate::store::record::SetState;
use crate::store::{Folder, publish};
use crate::types::SetHash;
use blake3::Hash;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The sets of one machine.
#[derive(Debug)]
pub(super) struct MachineSets {
    pub ip: Ipv4Addr,
    /// What it called itself in its newest set.
    pub host: Option<String>,
    /// The newest first: the current one, then those of the history.
    pub sets: Vec<ListedSet>,
    /// What cannot be read.
    pub problems: Vec<String>,
}

/// One set.
#[derive(Clone, Debug)]
pub(super) struct ListedSet {
    /// Its number: in the history that of its folder.
    pub generation: u64,
    /// `history/3`; empty for the current set.
    pub dir: String,
    pub finished: Timestamp,
    pub job: Option<String>,
    pub set: SetHash,
    /// A signature stands beside it; by whom, and whether it is good, is not looked at.
    pub is_signed: bool,
    pub is_pinned: bool,
    /// An admin has made it of disks from elsewhere.
    pub is_imported: bool,
    pub images: Vec<ListedImage>,
}

/// One image of a set.
#[derive(Clone, Debug)]
pub(super) struct ListedImage {
    pub name: String,
    pub file: String,
    pub disk_bytes: u64,
    pub root_hash: Hash,
    /// Length of the file, holes included.
    pub image_bytes: u64,
    pub is_degraded: bool,
    /// It is noted to be damaged.
    pub is_damaged: bool,
    /// Which file it is and what it takes of the file system, shared blocks as its own; none where it is gone.
    pub place: Option<(FileId, u64)>,
}

impl ListedSet {
    pub fn is_current(&self) -> bool {
        self.dir.is_empty()
    }

    pub fn disk_bytes(&self) -> u64 {
        self.images.iter().fold(0, |sum, image| sum.saturating_add(image.disk_bytes))
    }

    /// What its files take, each as its own.
    pub fn room(&self) -> u64 {
        self.images.iter().filter_map(|image| image.place).fold(0, |sum, (_, room)| sum.saturating_add(room))
    }

    /// What there is to say of it, in words: `current, degraded, pinned`.
    pub fn words(&self, is_previous: bool) -> Vec<&'static str> {
        let any = |test: fn(&ListedImage) -> bool| self.images.iter().any(test);
        let all = [
            ("current", self.is_current()),
            ("previous", is_previous),
            ("DAMAGED", any(|image| image.is_damaged)),
            ("INCOMPLETE", any(|image| image.place.is_none())),
            ("degraded", any(|image| image.is_degraded)),
            ("signed", self.is_signed),
            ("pinned", self.is_pinned),
            ("imported", self.is_imported),
        ];
        all.into_iter().filter_map(|(word, is_it)| is_it.then_some(word)).collect()
    }
}

impl MachineSets {
    /// The newest set of the history: where a restore of the one before goes.
    pub fn is_previous(&self, set: &ListedSet) -> bool {
        let newest = self.sets.iter().find(|set| !set.is_current());
        newest.is_some_and(|newest| newest.dir == set.dir)
    }
}

/// A backup share, for listings.
pub(super) struct SetShare {
    pub files: Arc<DirFiles>,
}

impl SetShare {
    pub fn open(share: &ShareFolder) -> Result<SetShare, Error> {
        let files = DirFiles::open(&share.path).map_err(|e| share.error("", "open it", &e))?;
        Ok(SetShare { files: Arc::new(files.listed()) })
    }

    /// The folder of a machine.
    pub fn folder(&self, ip: Ipv4Addr) -> Folder {
        Folder::new(self.files.clone(), ip.to_string())
    }

    /// The sets of these machines.
    pub fn all(&self, machines: &[Ipv4Addr]) -> Vec<MachineSets> {
        many::each(machines, |ip| self.of(*ip))
    }

    /// The sets of one.
    pub fn of(&self, ip: Ipv4Addr) -> MachineSets {
        let folder = self.folder(ip);
        let mut found = MachineSets { ip, host: None, sets: Vec::new(), problems: Vec::new() };
        let history = match names(&*self.files, &folder.path(HISTORY)) {
            Ok(names) => names,
            Err(e) => {
                found.problems.push(format!("cannot list {HISTORY}: {e}"));
                BTreeSet::new()
            }
        };
        let mut numbers: Vec<u64> = history.iter().filter_map(|name| generation(name)).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let dirs = [(String::new(), 0)].into_iter().chain(numbers.into_iter().map(|n| (history_dir(n), n)));
        for (dir, number) in dirs {
            match self.set(&folder, &dir, number) {
                Ok(Some((set, host))) => {
                    found.host.get_or_insert(host);
                    found.sets.push(set);
                }
                // A folder without a record is no set: half removed, or made by hand.
                Ok(None) => {}
                Err(what) => found.problems.push(what),
            }
        }
        found
    }

    /// The set in a folder, and what its machine called itself.
    fn set(&self, folder: &Folder, dir: &str, number: u64) -> Result<Option<(ListedSet, String)>, String> {
        let at = |name: &str| if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
        let names =
            names(&*self.files, &folder.path(dir)).map_err(|e| format!("cannot list {}: {e}", at("")))?;
        if !names.contains(RECORD) {
            return Ok(None);
        }
        let found = folder.record_and_bytes(&at(RECORD)).map_err(|failure| match failure.kind {
            Kind::NewerFormat => format!("{}: use the testboxctl of that release", failure.what),
            _ => failure.what,
        })?;
        let Some((record, bytes)) = found else { return Ok(None) };
        let image = |image: &crate::store::record::ImageRecord| {
            let file = image.file();
            let has_note = names.contains(&damage_file(&file));
            let about = self.files.about(&folder.path(&at(&file))).ok();
            ListedImage {
                name: image.name.clone(),
                disk_bytes: image.disk_size,
                root_hash: image.root_hash,
                image_bytes: image.image_size,
                is_degraded: image.state == SetState::Degraded,
                is_damaged: has_note
                    && publish::is_damaged(folder, &at(&file), &image.root_hash).unwrap_or(true),
                place: about.map(|about| {
                    use std::os::unix::fs::MetadataExt;
                    (FileId::from(&about), about.blocks().saturating_mul(512))
                }),
                file,
            }
        };
        let set = ListedSet {
            generation: if dir.is_empty() { record.generation } else { number },
            dir: dir.to_owned(),
            finished: record.finished,
            job: record.job.clone(),
            set: SetHash::of(&bytes),
            is_signed: names.contains(SIGNATURE),
            is_pinned: names.contains(PINNED),
            is_imported: record.imported.is_some(),
            images: record.images.iter().map(image).collect(),
        };
        Ok(Some((set, record.machine.hostname)))
    }
}

/// The names in a folder; none where it is not there.
fn names(files: &dyn Files, path: &str) -> io::Result<BTreeSet<String>> {
    match files.list(path) {
        Ok(names) => Ok(names.into_iter().collect()),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(BTreeSet::new())
        }
        Err(e) => Err(e),
    }
}
