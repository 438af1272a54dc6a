//! The jobs that a store knows: a file for each token, under the SHA-256 of it, so that whoever reads the folder has no
//! token. `arm` writes it; the store writes beside it which session has bound the token.

use super::line::Need;
use crate::job::{Action, FoundJob};
use crate::share::Files;
use crate::store::layout::{SESSION, STORE, STORE_JOBS};
use crate::store::lease::Holder;
use crate::types::{SetHash, TftpPath};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io;

/// Longest file of a job, or of its session, in bytes.
const LIMIT: usize = 64 << 10;
/// Longest file that arms a machine, in bytes.
const ARMED_LIMIT: usize = 64 << 10;

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreJob {
    /// The machine's address, which is the name of its folder.
    pub ip: String,
    /// Id of the job.
    pub job: String,
    /// The action.
    pub action: String,
    /// The file that arms the machine, below the root of the boot server.
    pub armed_file: String,
    /// Who has armed it.
    pub by: String,
    /// When.
    pub armed: Timestamp,
    /// When it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl StoreJob {
    /// The action, where it is one that this version knows.
    pub fn action(&self) -> Option<Action> {
        self.action.parse().ok()
    }

    /// What stands in the file that armed the machine, where it still holds this job.
    ///
    /// # Errors
    /// Those of the boot server's folder.
    pub fn armed_text(&self, boot: &dyn Files) -> io::Result<Option<Vec<u8>>> {
        let bytes = match boot.read_limited(&self.armed_file, ARMED_LIMIT) {
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        Ok(Some(bytes).filter(|bytes| self.is_in(bytes)))
    }

    /// True where these bytes of an armed file hold this job.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let Ok(path) = self.armed_file.parse::<TftpPath>() else { return false };
        let found = FoundJob::of_machine(&path, bytes.to_vec());
        found.cmdline().job.is_some_and(|id| id.as_str() == self.job)
    }
}

/// The session that uses a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// SHA-256 of what the agent calls itself.
    pub session: String,
    /// The address that it came from first.
    pub peer: String,
    /// Who it is, for the lease.
    pub holder: Holder,
    /// Since when.
    pub since: Timestamp,
    /// It has ended by itself.
    pub is_closed: bool,
    /// It waits in the line, and has done nothing yet.
    #[serde(default)]
    pub is_in_line: bool,
}

/// What stands for a secret on the disk: its SHA-256 in hex.
pub fn hashed(secret: &str) -> String {
    SetHash::of(secret.as_bytes()).to_string()
}

/// The file of a job, below the root of the backup folder.
pub fn path(token: &str) -> String {
    format!("{STORE_JOBS}/{}", hashed(token))
}

/// Writes down what a token is for.
///
/// # Errors
/// Those of the folder.
pub fn write(files: &dyn Files, token: &str, job: &StoreJob) -> io::Result<()> {
    make_folder(files, STORE_JOBS)?;
    files.write_atomic(&path(token), &json(job))
}

/// Forgets a job.
///
/// # Errors
/// Those of the folder.
pub fn remove(files: &dyn Files, token: &str) -> io::Result<()> {
    files.remove_if_exists(&path(token)).map(drop)
}

/// Makes a folder of the store's own, durable with what is above it.
///
/// # Errors
/// Those of the folder.
pub fn make_folder(files: &dyn Files, folder: &str) -> io::Result<()> {
    if files.list(folder).is_ok() {
        return Ok(());
    }
    files.make_dir(STORE)?;
    files.make_dir(folder)?;
    files.sync_dir(STORE)?;
    files.sync_dir("")
}

/// What a token is for; `None` where the store does not know it.
///
/// # Errors
/// Those of the folder; what stands there is none of a job.
pub fn find(files: &dyn Files, token: &str) -> io::Result<Option<StoreJob>> {
    read(files, &path(token))
}

/// The session that a token is bound to.
///
/// # Errors
/// As [`find`].
pub fn binding(files: &dyn Files, token: &str) -> io::Result<Option<Binding>> {
    read(files, &format!("{}{SESSION}", path(token)))
}

/// Binds a token, or says what has become of its session.
///
/// # Errors
/// Those of the folder.
pub fn bind(files: &dyn Files, token: &str, binding: &Binding) -> io::Result<()> {
    files.write_atomic(&format!("{}{SESSION}", path(token)), &json(binding))
}

/// The hashes of the tokens whose sessions are at work, as far as the folder tells.
///
/// # Errors
/// Those of the folder.
pub fn at_work(files: &dyn Files) -> io::Result<Vec<String>> {
    let names = match files.list(STORE_JOBS) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let is_at_work = |name: &&str| {
        let binding = read::<Binding>(files, &format!("{STORE_JOBS}/{name}{SESSION}")).ok().flatten();
        let job = read::<StoreJob>(files, &format!("{STORE_JOBS}/{name}")).ok().flatten();
        let need = job.and_then(|job| job.action()).and_then(need);
        need.is_some() && binding.is_some_and(|binding| !binding.is_closed && !binding.is_in_line)
    };
    let hashes = names.iter().filter_map(|name| name.strip_suffix(SESSION));
    Ok(hashes.filter(is_at_work).map(str::to_owned).collect())
}

/// Whether the machine of this job waits in the line, as far as the folder tells.
pub fn is_in_line(files: &dyn Files, job: &str) -> bool {
    let of_job = |name: &&str| {
        let found = read::<StoreJob>(files, &format!("{STORE_JOBS}/{name}")).ok().flatten();
        found.is_some_and(|found| found.job == job)
    };
    let waits = |name: &str| {
        let binding = read::<Binding>(files, &format!("{STORE_JOBS}/{name}{SESSION}")).ok().flatten();
        binding.is_some_and(|binding| !binding.is_closed && binding.is_in_line)
    };
    let names = files.list(STORE_JOBS).unwrap_or_default();
    names.iter().filter_map(|name| name.strip_suffix(SESSION)).filter(of_job).any(waits)
}

/// Whether a machine with this action counts among those at work, and as what.
pub fn need(action: Action) -> Option<Need> {
    match action {
        Action::Restore => Some(Need::Restore),
        Action::Backup | Action::BackupAgain | Action::Verify => Some(Need::Other),
        // Short, and hardly any bytes.
        Action::RefreshInfo | Action::Rescue => None,
    }
}

/// Removes the jobs that no file of the boot server holds any more, but for those whose token's hash `is_used`. How many.
///
/// # Errors
/// Those of both folders.
pub fn sweep(
    files: &dyn Files,
    boot: &dyn Files,
    is_used: &dyn Fn(&str) -> bool,
    now: Timestamp,
) -> io::Result<usize> {
    let names = match files.list(STORE_JOBS) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        names => names?,
    };
    let mut swept = 0;
    for name in names.iter().filter(|name| name.parse::<SetHash>().is_ok() && !is_used(name)) {
        let at = format!("{STORE_JOBS}/{name}");
        let is_over = match read::<StoreJob>(files, &at) {
            // It is written before the file that arms the machine is.
            Ok(Some(job)) => {
                now.as_second() - job.armed.as_second() > 3600 && job.armed_text(boot)?.is_none()
            }
            Ok(None) => false,
            // None of a job; what cannot be read may be one.
            Err(e) if e.kind() == io::ErrorKind::InvalidData => true,
            Err(e) => return Err(e),
        };
        if is_over {
            files.remove_if_exists(&format!("{at}{SESSION}"))?;
            files.remove_if_exists(&at)?;
            swept += 1;
        }
    }
    Ok(swept)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn read<T: for<'de> Deserialize<'de>>(files: &dyn Files, path: &str) -> io::Result<Option<T>> {
    match files.read_limited(path, LIMIT) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {e}"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
