//! A machine's folder on the backup share, and what stands in it.

use super::keeper::Keeper;
use super::share_failure::cannot_read;
use crate::failure::{Failure, Kind};
use crate::image::{DiskAbout, Image, ImageError, Needed, needed};
use crate::share::Files;
use crate::signature::{SIGNATURE_LIMIT, Trust, Verdict};
use crate::store::disk_list;
use crate::store::layout::{
    DISK_LIST, HISTORY, INFO_TEXT, RECORD, SIGNATURE, disk_of_image, generation, history_dir, image_file,
    is_disk_name, is_free_for_host,
};
use crate::store::record::{RECORD_LIMIT, Record, RecordError};
use crate::store::state::{HistorySet, SeenImage, SeenKind, SetDigest, ShareState};
use crate::types::{DiskSelector, SetHash};
use crate::used::{Growable, growable};
use blake3::Hash;
use std::io;
use std::sync::Arc;

/// What mends [`Kind::NewerFormat`].
const UPDATE: &str = "nothing was changed. The initrd of this machine has an older testbox-agent than the one that made this set: make it \
                      again with the scripts/make-nfsroot of the newer release, then boot the machine again.";
const DISK_LIST_LIMIT: usize = 1 << 20;

/// The folder `<ip>/` of one machine. Every path given to it is relative to that folder.
#[derive(Clone)]
pub struct Folder {
    /// The share.
    pub files: Arc<dyn Files>,
    dir: String,
    /// Who does the steps that matter, where that is not whoever has this.
    keeper: Option<Arc<dyn Keeper>>,
}

impl Folder {
    /// The folder called `dir` in the root of the share.
    pub fn new(files: Arc<dyn Files>, dir: impl Into<String>) -> Self {
        Folder { files, dir: dir.into(), keeper: None }
    }

    /// The same, of a store, whose keeper does the steps by itself.
    pub fn kept_by(self, keeper: Arc<dyn Keeper>) -> Self {
        Folder { keeper: Some(keeper), ..self }
    }

    /// The server that keeps the folder, where one does.
    pub fn keeper(&self) -> Option<&dyn Keeper> {
        self.keeper.as_deref()
    }

    /// The same, for who keeps it longer.
    pub fn shared_keeper(&self) -> Option<Arc<dyn Keeper>> {
        self.keeper.clone()
    }

    /// Makes the folder, and the empty files in it whose names tell people whose it is: host name and address in hex. What is
    /// there already, of whatever kind, stays as it is.
    ///
    /// # Errors
    /// Those of the share.
    pub fn make(&self, hostname: &str, hex_ip: &str) -> io::Result<()> {
        self.files.make_dir(&self.dir)?;
        // A host name comes from whoever answers DNS, or from the machine.
        let host = Some(hostname).filter(|name| is_free_for_host(name));
        for name in host.into_iter().chain([hex_ip]) {
            make_name_file(&*self.files, &self.path(name))?;
        }
        self.files.sync_dir(&self.dir)?;
        self.files.sync_dir("")
    }

    /// `name` as a path of the share; the folder itself for an empty name.
    pub fn path(&self, name: &str) -> String {
        if name.is_empty() { self.dir.clone() } else { format!("{}/{name}", self.dir) }
    }

    /// Root hash of the image at `path`, where it is one whose header, index and footer agree; else why not.
    /// `NotFound` and other errors of the share are errors.
    ///
    /// # Errors
    /// Those of the share, `NotFound` among them.
    pub fn root_hash(&self, path: &str) -> io::Result<Result<Hash, String>> {
        Ok(self.look(path)?.map(|(hash, _)| hash))
    }

    /// The same, and the disk that the image was taken from.
    fn look(&self, path: &str) -> io::Result<Result<(Hash, DiskAbout), String>> {
        let file = self.files.open(&self.path(path))?;
        match Image::open(file).map_err(ImageError::into_read_error) {
            Ok(image) => Ok(Ok((image.summary().root_hash, image.header().disk.clone()))),
            Err(Ok(unreadable)) => Err(unreadable),
            Err(Err(e)) => Ok(Err(e.to_string())),
        }
    }

    /// The record at `path`; `None` where there is none.
    ///
    /// # Errors
    /// Those of the share; [`Kind::BadRecord`], [`Kind::NewerFormat`].
    pub fn record(&self, path: &str) -> Result<Option<Record>, Failure> {
        Ok(self.record_and_bytes(path)?.map(|(record, _)| record))
    }

    /// The same with its bytes, which are what is signed and compared.
    ///
    /// # Errors
    /// As [`Folder::record`].
    pub fn record_and_bytes(&self, path: &str) -> Result<Option<(Record, Vec<u8>)>, Failure> {
        let bytes = match self.files.read_limited(&self.path(path), RECORD_LIMIT) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.unreadable(path, &e)),
        };
        let record = Record::parse(&bytes).map_err(|e| {
            let what = format!("{} cannot be used: {e}", self.path(path));
            match e {
                RecordError::TooNew(_) => Failure::new(Kind::NewerFormat, what, UPDATE),
                _ => Failure::new(
                    Kind::BadRecord,
                    what,
                    "nothing was written. Put a good copy there. Without this record nobody knows which disks were left out on \
                     purpose: if it is moved away, a restore takes the newest set of history/ that has one, and where there \
                     is none, each image goes only to the disk that its own header names.",
                ),
            }
        })?;
        Ok(Some((record, bytes)))
    }

    /// The record of the set in a folder, and what its bytes, read once, and the signature beside them say.
    fn set(&self, folder: &str, trust: &Trust) -> Result<(Option<Record>, SetDigest), Failure> {
        let path = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        let Some((record, bytes)) = self.record_and_bytes(&path(RECORD))? else {
            return Ok((None, SetDigest::default()));
        };
        let signed = if trust.is_idle() {
            Verdict::Unsigned
        } else {
            match self.files.read_limited(&self.path(&path(SIGNATURE)), SIGNATURE_LIMIT) {
                Ok(signature) => trust.of_set(&bytes, Some(&signature)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => trust.of_set(&bytes, None),
                Err(e) => Verdict::Not(format!("it cannot be read: {e}")),
            }
        };
        Ok((Some(record), SetDigest { set: SetHash::of(&bytes), signed }))
    }

    fn unreadable(&self, path: &str, error: &io::Error) -> Failure {
        cannot_read(&format!("read {}", self.path(path)), error)
    }

    /// Everything that a plan needs to know of the folder.
    ///
    /// # Errors
    /// Those of the share, and of a current record that cannot be relied on.
    pub fn state(&self, trust: &Trust) -> Result<ShareState, Failure> {
        let (record, digest) = self.set("", trust)?;
        let images = self.images("", record.as_ref())?;
        let mut history = Vec::new();
        for generation in self.generations()?.into_iter().rev() {
            let folder = history_dir(generation);
            let (record, digest) = match self.set(&folder, trust) {
                Err(failure) if failure.kind == Kind::NewerFormat => return Err(failure),
                // A set of the history whose record is bad is only a set that is not trusted.
                set => set.unwrap_or_default(),
            };
            let images =
                if self.is_folder(&folder)? { self.images(&folder, record.as_ref())? } else { Vec::new() };
            history.push(HistorySet { folder, record, digest, images });
        }
        let has_info =
            self.files.exists(&self.path(INFO_TEXT)).map_err(|e| self.unreadable(INFO_TEXT, &e))?;
        Ok(ShareState { record, digest, images, history, disk_list: self.disk_list()?, has_info })
    }

    /// False for what stands in a folder's place and is none: a file, a link, a FIFO.
    ///
    /// # Errors
    /// Those of the share.
    pub fn is_folder(&self, path: &str) -> Result<bool, Failure> {
        match self.files.list(&self.path(path)) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput) => {
                Ok(false)
            }
            Err(e) => Err(self.unreadable(path, &e)),
        }
    }

    /// The numbers of the sets in the history, ascending; what else has a number for its name, too.
    ///
    /// # Errors
    /// Those of the share.
    pub fn generations(&self) -> Result<Vec<u64>, Failure> {
        let names = match self.files.list(&self.path(HISTORY)) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(self.unreadable(HISTORY, &e)),
        };
        let mut generations: Vec<u64> = names.iter().filter_map(|name| generation(name)).collect();
        generations.sort_unstable();
        Ok(generations)
    }

    /// The image files of one folder. With a record only those that it names matter, and what the original wrote.
    fn images(&self, folder: &str, record: Option<&Record>) -> Result<Vec<SeenImage>, Failure> {
        let names = self.files.list(&self.path(folder)).map_err(|e| self.unreadable(folder, &e))?;
        let mut images = Vec::new();
        for file in names {
            let Some(name) = disk_of_image(&file) else { continue };
            let known = record.is_some_and(|r| r.image(name).is_some() && image_file(name) == file);
            if !known && !is_disk_name(name) {
                continue;
            }
            let path = if folder.is_empty() { file.clone() } else { format!("{folder}/{file}") };
            let mut about = None;
            let kind = match self.look(&path) {
                Ok(Ok((hash, disk))) => {
                    about = Some(disk);
                    SeenKind::Own(hash)
                }
                Ok(Err(why)) => SeenKind::Foreign(why),
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                    SeenKind::Foreign("not a regular file".into())
                }
                Err(e) => return Err(self.unreadable(&path, &e)),
            };
            images.push(SeenImage { name: name.to_owned(), file, kind, about, needed: None });
        }
        Ok(images)
    }

    /// Finds out how much disk the images need that are of a larger disk than `smallest` bytes. It reads some of each.
    ///
    /// # Errors
    /// Those of the share.
    pub fn ask_needed(&self, state: &mut ShareState, smallest: u64) -> Result<(), Failure> {
        let current = state.images.iter_mut().map(|image| (String::new(), image));
        let older = state.history.iter_mut().flat_map(|set| {
            let folder = format!("{}/", set.folder);
            set.images.iter_mut().map(move |image| (folder.clone(), image))
        });
        for (folder, image) in current.chain(older) {
            if image.about.as_ref().is_some_and(|about| about.size > smallest) {
                let path = format!("{folder}{}", image.file);
                image.needed = self.needed(&path).map_err(|e| self.unreadable(&path, &e))?;
            }
        }
        Ok(())
    }

    /// What the image at `path` needs; `None` where that cannot be told, because it is damaged.
    fn needed(&self, path: &str) -> io::Result<Option<Needed>> {
        let file = self.files.open(&self.path(path))?;
        match Image::open(file).and_then(|image| needed(&image)).map_err(ImageError::into_read_error) {
            Ok(needed) => Ok(Some(needed)),
            Err(Ok(unreadable)) => Err(unreadable),
            Err(Err(_)) => Ok(None),
        }
    }

    /// Whether the last partition of what the image at `path` holds can grow, and else why not.
    ///
    /// # Errors
    /// Those of the share.
    pub fn growable(&self, path: &str) -> Result<Result<Growable, String>, Failure> {
        let file = self.files.open(&self.path(path)).map_err(|e| self.unreadable(path, &e))?;
        match Image::open(file).map_err(ImageError::into_read_error) {
            Ok(image) => Ok(growable(&image.content(), image.header().disk.logical_block_size)),
            Err(Ok(unreadable)) => Err(self.unreadable(path, &unreadable)),
            Err(Err(_)) => Ok(Err("its image is not one of testbox, and does not say what is in it".into())),
        }
    }

    fn disk_list(&self) -> Result<Option<Vec<DiskSelector>>, Failure> {
        let bytes = match self.files.read_limited(&self.path(DISK_LIST), DISK_LIST_LIMIT) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.unreadable(DISK_LIST, &e)),
        };
        disk_list::parse(&String::from_utf8_lossy(&bytes)).map(Some).map_err(|e| {
            let what = format!("{}: {e}", self.path(DISK_LIST));
            Failure::new(
                Kind::DiskList,
                what,
                "correct the file. One disk a line: sda, serial=..., wwn=..., at=..., # comment.",
            )
        })
    }
}

fn make_name_file(files: &dyn Files, path: &str) -> io::Result<()> {
    match files.exists(path) {
        Ok(true) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Ok(()),
        Ok(false) => {}
        Err(e) => return Err(e),
    }
    match files.create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created?.sync(),
    }
}
