//! What a machine is armed with, as the file says that its loader reads.

use super::Error;
use super::shares::ShareFolder;
use crate::job::pxe::{ArmedBy, PxeFile};
use crate::text::quoted;
use crate::types::Expiry;
use jiff::Timestamp;
use std::fmt;
use std::fs;
use std::io;

/// Largest PXE configuration that is read, in bytes.
const PXE_LIMIT: usize = 64 << 10;

/// What the PXE configuration of one machine says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Armed {
    /// There is none.
    No,
    /// A job.
    With(ArmedJob),
    /// No testbox word at all: somebody's own configuration.
    ByHand,
    /// A symbolic link, and where it leads: somebody's own too, and neither followed nor read.
    Link(String),
    /// A folder or something else that cannot be replaced by a file.
    NotAFile,
}

/// The job in such a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ArmedJob {
    /// The action; none where the words are wrong.
    pub action: Option<String>,
    /// What is wrong with the words.
    pub problems: Vec<String>,
    /// Its id; one that was written by hand may have none.
    pub job: Option<String>,
    /// Who has armed it.
    pub by: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// When it expires.
    pub expires: Option<Timestamp>,
}

/// A time for people.
pub(super) fn minute(at: Timestamp) -> impl fmt::Display {
    at.strftime("%Y-%m-%d %H:%M UTC")
}

impl fmt::Display for ArmedJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.action, &self.job) {
            (Some(action), Some(job)) => write!(f, "{action}, job {job}")?,
            (Some(action), None) => write!(f, "{action}, no job id")?,
            (None, _) => write!(f, "something wrong: {}", self.problems.join("; "))?,
        }
        self.by.iter().try_for_each(|by| write!(f, ", by {by}"))?;
        self.since.iter().try_for_each(|at| write!(f, ", {}", minute(*at)))?;
        self.expires.iter().try_for_each(|at| write!(f, ", expires {}", minute(*at)))
    }
}

impl Armed {
    /// Reads the configuration of this name.
    pub fn read(folder: &ShareFolder, file: &str) -> Result<Armed, Error> {
        let path = folder.path.join(file);
        match fs::symlink_metadata(&path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Armed::No);
            }
            Err(e) => return Err(folder.error(file, "look at it", &e)),
            Ok(there) if there.is_symlink() => {
                let leads_to = fs::read_link(&path).unwrap_or_default();
                return Ok(Armed::Link(quoted(&leads_to.to_string_lossy())));
            }
            Ok(there) if !there.is_file() => return Ok(Armed::NotAFile),
            Ok(_) => {}
        }
        let bytes = folder.read(file, PXE_LIMIT)?;
        Ok(bytes.map_or(Armed::No, |bytes| Armed::of(&String::from_utf8_lossy(&bytes))))
    }

    fn of(text: &str) -> Armed {
        let words = PxeFile::parse(text).cmdline();
        if words.action.is_none() && words.problems.is_empty() {
            return Armed::ByHand;
        }
        let note = ArmedBy::of(text);
        Armed::With(ArmedJob {
            action: words.action.map(|action| action.to_string()),
            problems: words.problems,
            job: words.job.map(|job| job.to_string()),
            by: note.as_ref().map(|note| note.who().to_owned()),
            since: note.map(|note| note.at),
            expires: words.options.expires.map(Expiry::at),
        })
    }

    /// The job, where there is one.
    pub fn job(&self) -> Option<&ArmedJob> {
        match self {
            Armed::With(job) => Some(job),
            _ => None,
        }
    }
}
