//! What is known of machines: what they say of themselves in their folders, and what they are armed with.
//!
//! All of it comes from machines that may be broken, so it is read with bounds.

use super::Error;
use super::armed::{Armed, ArmedJob};
use super::config::SettingsFile;
use super::shares::{self, ShareFolder};
use crate::job::pxe::HexIp;
use crate::share::Files;
use crate::store::layout::{LEASE, RECORD, STATUS};
use crate::store::lease::{self, SeenLease};
use crate::store::record::{RECORD_LIMIT, Record, RecordError};
use crate::store::status::{JobState, STATUS_LIMIT, Status};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// A running machine writes every few seconds; older news than this means that it hangs, or that the share does.
pub(super) const STALE: Duration = Duration::from_secs(30);

/// Where to look for news.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct NewsFlags {
    /// Root of the backup share [default: /export/testbox-backup]
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
    /// PXELINUX's configuration folder, for what is armed [default: pxelinux.cfg in the TFTP root]
    #[arg(short, long, value_name = "DIR")]
    cfg_dir: Option<PathBuf>,
    /// Root of the TFTP share [default: /export/testbox-tftp, if it is there]
    #[arg(long, value_name = "DIR")]
    tftp_dir: Option<PathBuf>,
}

impl NewsFlags {
    /// The settings that hold with these flags over those of the file.
    pub fn or(self, file: SettingsFile) -> SettingsFile {
        let NewsFlags { backup_dir, cfg_dir, tftp_dir } = self;
        SettingsFile { backup_dir, cfg_dir, tftp_dir, ..SettingsFile::default() }.or(file)
    }
}

/// Where news come from.
pub(super) struct Newsroom {
    /// The backup share.
    pub backup: ShareFolder,
    /// PXELINUX's configuration folder, where it is on this computer.
    pub cfg: Option<ShareFolder>,
}

/// What is known of one machine.
pub(super) struct StatusNews {
    pub ip: Ipv4Addr,
    /// It has a folder, or is armed.
    pub is_known: bool,
    pub status: Option<Status>,
    pub record: Option<Record>,
    /// The lease of the folder that counts.
    pub lease: Option<SeenLease>,
    pub armed: Armed,
    /// What cannot be read.
    pub problems: Vec<String>,
}

impl Newsroom {
    /// Opens both folders. The second may be elsewhere, unless somebody has named it.
    pub fn open(settings: &SettingsFile) -> Result<Newsroom, Error> {
        let backup = shares::need_backup_dir(settings)?;
        let is_named = settings.cfg_dir.is_some() || settings.tftp_dir.is_some();
        let cfg = match is_named || settings.cfg_dir().is_dir() {
            true => Some(shares::open_cfg_dir(settings)?),
            false => None,
        };
        Ok(Newsroom { backup, cfg })
    }

    /// What is known of the machines that are named; of all that have a folder or are armed, where none is.
    pub fn all(&self, named: &[Ipv4Addr]) -> Result<Vec<StatusNews>, Error> {
        let wanted: BTreeSet<Ipv4Addr> = match named {
            [] => self.with_folder()?.into_iter().chain(self.armed()?).collect(),
            named => return Ok(named.iter().map(|ip| self.of(*ip)).collect()),
        };
        Ok(wanted.into_iter().map(|ip| self.of(ip)).collect())
    }

    /// Machines with a folder.
    pub fn with_folder(&self) -> Result<Vec<Ipv4Addr>, Error> {
        let names = self.backup.files.list("").map_err(|e| self.backup.error("", "list it", &e))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Machines with a configuration of their own.
    pub fn armed(&self) -> Result<Vec<Ipv4Addr>, Error> {
        let Some(cfg) = &self.cfg else { return Ok(Vec::new()) };
        let names = cfg.files.list("").map_err(|e| cfg.error("", "list it", &e))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).map(|HexIp(ip)| ip).collect())
    }

    /// What is known of one.
    pub fn of(&self, ip: Ipv4Addr) -> StatusNews {
        let is_known = self.backup.files.list(&ip.to_string()).is_ok();
        let mut news = read(&self.backup.files, ip, is_known);
        if let Some(cfg) = &self.cfg {
            match Armed::read(cfg, &HexIp(ip).to_string()) {
                Ok(armed) => news.armed = armed,
                Err(e) => news.problems.push(e.to_string()),
            }
        }
        news.is_known |= news.armed != Armed::No;
        news
    }
}

impl StatusNews {
    /// The job that it is armed with and has not begun. Of one without an id that cannot be told: then its word for
    /// being at work counts.
    pub fn not_come(&self) -> Option<&ArmedJob> {
        let armed = self.armed.job()?;
        let status = self.status.as_ref();
        let has_come = match &armed.job {
            Some(job) => status.is_some_and(|status| status.job.as_ref() == Some(job)),
            None => status.is_some_and(|status| status.state == JobState::Running),
        };
        (!has_come).then_some(armed)
    }

    /// When the job expired that it is armed with and has not begun, by the clock that says `now`: it will be refused.
    pub fn expired(&self, now: Timestamp) -> Option<Timestamp> {
        self.not_come()?.expires.filter(|at| *at <= now)
    }

    /// It says that it is running, and has said nothing for a while.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        let status = self.status.as_ref();
        status.is_some_and(|status| status.state == JobState::Running && age(status, now) > STALE)
    }

    /// Somebody should look at it.
    pub fn is_in_trouble(&self, now: Timestamp) -> bool {
        let state = self.status.as_ref().map(|status| status.state);
        !self.is_known
            || self.is_stale(now)
            || self.expired(now).is_some()
            || matches!(state, Some(JobState::Failed | JobState::Holding))
    }
}

/// Age of the news; none where a clock is ahead.
pub(super) fn age(status: &Status, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(status.updated)).unwrap_or_default()
}

/// What a machine says of itself; none where it says nothing that can be read.
pub(super) fn status(files: &dyn Files, ip: Ipv4Addr) -> Option<Status> {
    Status::parse(&files.read_limited(&format!("{ip}/{STATUS}"), STATUS_LIMIT).ok()?)
}

/// What the folder of a machine says.
pub(super) fn read(files: &dyn Files, ip: Ipv4Addr, is_known: bool) -> StatusNews {
    let mut problems = Vec::new();
    let mut content = |name: &str, limit| match files.read_limited(&format!("{ip}/{name}"), limit) {
        Ok(bytes) => Some(bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => {
            problems.push(format!("cannot read {name}: {e}"));
            None
        }
    };
    let (status, record) = (content(STATUS, STATUS_LIMIT), content(RECORD, RECORD_LIMIT));
    let status = status.and_then(|bytes| {
        let status = Status::parse(&bytes);
        if status.is_none() {
            problems.push(format!("{STATUS} is damaged, or of another version"));
        }
        status
    });
    let record = record.and_then(|bytes| match Record::parse(&bytes) {
        Ok(record) => Some(record),
        // Below.
        Err(RecordError::TooNew(_)) => None,
        Err(e) => {
            problems.push(format!("{RECORD} cannot be used: {e}"));
            None
        }
    });
    let newer = shares::newer(files, &ip.to_string());
    let lease = lease::current(files, &format!("{ip}/{LEASE}")).unwrap_or_else(|e| {
        problems.push(format!("cannot read {LEASE}/: {e}"));
        None
    });
    problems.extend(newer);
    StatusNews { ip, is_known, status, record, lease, armed: Armed::No, problems }
}
