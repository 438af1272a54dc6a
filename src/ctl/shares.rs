//! The shares as folders of this computer.

use super::Error;
use super::config::SettingsFile;
use crate::failure::Kind;
use crate::share::{DirFiles, Files};
use crate::store::layout::{
    BACKUP_EXPORT, BACKUP_MARKER, DEFAULT_CFG, HISTORY, RECORD, RECORD_PENDING, disk_of_image, generation,
    is_disk_name,
};
use crate::store::record::{RECORD_LIMIT, Record, RecordError};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// `BTRFS_SUPER_MAGIC`.
pub(super) const BTRFS: u32 = 0x9123_683e;

/// What helps against an error of a share.
fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; is it mounted? 'testboxctl init' lays shares out",
        io::ErrorKind::PermissionDenied => {
            "; run it as root, as the account testbox, or have the server do it: --via /run/testbox/admin.sock"
        }
        io::ErrorKind::StaleNetworkFileHandle | io::ErrorKind::TimedOut => "; mount the share again",
        _ => "",
    }
}

/// A folder of a share, and how to name it.
pub(super) struct ShareFolder {
    pub path: PathBuf,
    pub files: DirFiles,
}

impl ShareFolder {
    /// Opens a folder.
    pub fn open(path: &Path) -> Result<ShareFolder, Error> {
        let files = DirFiles::open(path).map_err(|e| {
            Error::failed(format!("{}: cannot open this folder: {e}{}", path.display(), cure(&e)))
        })?;
        log::debug!("works in {}", path.display());
        Ok(ShareFolder { path: path.to_owned(), files })
    }

    /// An error about a file in here.
    pub fn error(&self, file: &str, what: &str, e: &io::Error) -> Error {
        Error::failed(format!("{}: cannot {what}: {e}{}", self.path.join(file).display(), cure(e)))
    }

    /// The number of its file system in `linux/magic.h`.
    pub fn magic(&self) -> io::Result<u32> {
        // They are 32 bits, in a field that is signed and longer.
        Ok(rustix::fs::statfs(&self.path)?.f_type as u32)
    }

    /// Reads a file; `None` where there is none.
    pub fn read(&self, file: &str, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        match self.files.read_limited(file, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            // A folder where a file should be, or a name below a file.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(self.error(file, "read it", &e)),
        }
    }
}

/// Opens PXELINUX's configuration folder: one that PXELINUX does not read arms nobody.
pub(super) fn open_cfg_dir(settings: &SettingsFile) -> Result<ShareFolder, Error> {
    let dir = settings.cfg_dir();
    let why = |what: &str| {
        Error::failed(format!(
            "{}: {what}; give PXELINUX's configuration folder with -c, or make one with 'testboxctl init'",
            dir.display()
        ))
    };
    if !dir.is_dir() {
        return Err(why("it is not a folder"));
    }
    if !dir.join(DEFAULT_CFG).is_file() {
        return Err(why("it holds no file 'default', so it is not PXELINUX's configuration folder"));
    }
    let real = dir.canonicalize().map_err(|e| why(&format!("cannot resolve its path: {e}")))?;
    ShareFolder::open(&real)
}

/// Where the backups are, for commands that need nothing else.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct BackupFlag {
    /// Root of the backup share [default: /export/testbox-backup]
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
}

impl BackupFlag {
    /// The settings that hold with this flag over those of the file.
    pub fn or(self, file: SettingsFile) -> SettingsFile {
        SettingsFile { backup_dir: self.backup_dir, ..SettingsFile::default() }.or(file)
    }
}

/// Opens the backup share. `None` where nobody has named it and it is not at its usual place.
pub(super) fn open_backup_dir(settings: &SettingsFile) -> Result<Option<ShareFolder>, Error> {
    let (path, is_named) = match &settings.backup_dir {
        Some(path) => (path.clone(), true),
        None => (BACKUP_EXPORT.into(), false),
    };
    if !is_named && !path.join(BACKUP_MARKER).is_file() {
        return Ok(None);
    }
    let folder = ShareFolder::open(&path)?;
    match folder.files.exists(BACKUP_MARKER) {
        Ok(true) => Ok(Some(folder)),
        Ok(false) => Err(Error::failed(format!(
            "{}: it is not a backup share: its marker file '{BACKUP_MARKER}' is missing; give another --backup-dir, or make the \
             share with 'testboxctl init'",
            path.display()
        ))),
        Err(e) => Err(folder.error(BACKUP_MARKER, "look for it", &e)),
    }
}

/// The same, where there is nothing to do without it.
pub(super) fn need_backup_dir(settings: &SettingsFile) -> Result<ShareFolder, Error> {
    open_backup_dir(settings)?.ok_or_else(|| {
        Error::failed(format!("{BACKUP_EXPORT}: there is no backup share; give its folder with --backup-dir, make it with 'testboxctl init', or have \
             the server do it with --via"))
    })
}

/// Fails where a newer testbox has made a set of a machine: the current one, one that is being published, or one of the
/// history. What this program would do with it, it cannot know. `dir` is the machine's folder, or that of a set.
pub(super) fn refuse_newer(share: &ShareFolder, dir: &str) -> Result<(), Error> {
    match newer(&share.files, dir) {
        None => Ok(()),
        Some(what) => Err(Error::failed(format!("{}: {what}", share.path.display()))),
    }
}

/// The set in `dir` that a newer testbox has made, in words. What cannot be read is somebody else's to tell.
pub(super) fn newer(files: &dyn Files, dir: &str) -> Option<String> {
    let below = |name: &str| if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
    let mut sets = files.list(&below(HISTORY)).unwrap_or_default();
    sets.retain(|name| generation(name).is_some());
    let sets = sets.into_iter().map(|set| format!("{HISTORY}/{set}/{RECORD}"));
    let mut records = [RECORD.to_owned(), RECORD_PENDING.to_owned()].into_iter().chain(sets);
    records.find_map(|record| newer_record(files, &below(&record)))
}

/// The same of the set with this record.
pub(super) fn newer_record(files: &dyn Files, path: &str) -> Option<String> {
    match Record::parse(&files.read_limited(path, RECORD_LIMIT).ok()?) {
        Err(e @ RecordError::TooNew(_)) => Some(format!(
            "{path} cannot be used: {e} [{} {}]: use the testboxctl of that release, or a newer one",
            Kind::NewerFormat.as_str(),
            Kind::NewerFormat.code()
        )),
        _ => None,
    }
}

/// The first image file of a machine, in its folder or in a set of its history.
pub(super) fn find_image(share: &ShareFolder, machine: Ipv4Addr) -> Result<Option<String>, Error> {
    let list = |path: &str| match share.files.list(path) {
        Ok(names) => Ok(names),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(e) => Err(share.error(path, "list it", &e)),
    };
    let mut folders = vec![machine.to_string()];
    let history = format!("{machine}/{HISTORY}");
    let sets = list(&history)?;
    folders.extend(sets.iter().filter(|s| generation(s).is_some()).map(|s| format!("{history}/{s}")));
    for folder in folders {
        let is_image = |name: &&String| disk_of_image(name).is_some_and(is_disk_name);
        if let Some(name) = list(&folder)?.iter().find(is_image) {
            return Ok(Some(format!("{folder}/{name}")));
        }
    }
    Ok(None)
}
