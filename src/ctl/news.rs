//! What is known of machines: what they say of themselves in their folders, and what they are armed with.
//!
//! All of it comes from machines that may be broken, so it is read with bounds.

use super::Error;
use super::armed::{Armed, ArmedJob};
use super::config::SettingsFile;
use super::many;
use super::shares::{self, ShareFolder};
use crate::job::pxe::HexIp;
use crate::serve::verified::{VerifiedSet, VerifiedSets};
use crate::share::Files;
use crate::store::layout::{
    HISTORY, LEASE, RECORD, RECORD_PENDING, STATUS, STORE_VERIFIED, damage_file, generation, history_dir,
};
use crate::store::lease::{self, SeenLease};
use crate::store::publish;
use crate::store::record::{RECORD_LIMIT, Record, RecordError};
use crate::store::status::{JobState, STATUS_LIMIT, Status};
use crate::types::SetHash;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Images that somebody has found damaged.
    pub damaged: Vec<String>,
    /// What cannot be read.
    pub problems: Vec<String>,
}

/// How urgent a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    Trouble,
    Working,
    Armed,
    Quiet,
}

impl Newsroom {
    /// Opens both folders. The second may be elsewhere, unless somebody has named it.
    pub fn open(settings: &SettingsFile) -> Result<Newsroom, Error> {
        let mut backup = shares::need_backup_dir(settings)?;
        backup.files = backup.files.listed();
        let is_named = settings.cfg_dir.is_some() || settings.tftp_dir.is_some();
        let cfg = match is_named || settings.cfg_dir().is_dir() {
            true => Some(shares::open_cfg_dir(settings)?),
            false => None,
        };
        let cfg = cfg.map(|cfg| ShareFolder { files: cfg.files.listed(), ..cfg });
        Ok(Newsroom { backup, cfg })
    }

    /// What is known of the machines that are named; of all that have a folder or are armed, where none is.
    pub fn all(&self, named: &[Ipv4Addr]) -> Result<Vec<StatusNews>, Error> {
        let armed: BTreeSet<Ipv4Addr> = self.armed()?.into_iter().collect();
        let wanted: Vec<Ipv4Addr> = match named {
            [] => {
                let all: BTreeSet<Ipv4Addr> = self.with_folder()?.into_iter().chain(armed.clone()).collect();
                all.into_iter().collect()
            }
            named => named.to_vec(),
        };
        let files = &self.backup.files;
        let verified =
            VerifiedSets::load(files).map_err(|e| self.backup.error(STORE_VERIFIED, "read it", &e))?;
        let mut damaged: BTreeMap<Ipv4Addr, Vec<(&VerifiedSet, String)>> = BTreeMap::new();
        for (set, found) in verified.damaged() {
            let lines = self.still_damaged(set, found).into_iter().map(|line| (found, line));
            damaged.entry(found.ip).or_default().extend(lines);
        }
        Ok(many::each(&wanted, |ip| {
            let mut news = self.look(*ip, named.contains(ip) || armed.contains(ip));
            // Of the current set its folder has told already.
            let has_told = !news.damaged.is_empty();
            let lines = damaged.get(ip).into_iter().flatten();
            let new = lines.filter(|(found, _)| !(has_told && found.dir.is_empty()));
            news.damaged.extend(new.map(|(_, line)| line.clone()));
            news
        }))
    }

    /// What 'verify' has found of a set, where that is still there.
    fn still_damaged(&self, set: &str, found: &VerifiedSet) -> Vec<String> {
        let folder = match found.dir.as_str() {
            "" => found.ip.to_string(),
            dir => format!("{}/{dir}", found.ip),
        };
        let record = self.backup.files.read_limited(&format!("{folder}/{RECORD}"), RECORD_LIMIT);
        let is_there = record.is_ok_and(|bytes| SetHash::of(&bytes).to_string() == set);
        let at = found.at.strftime("%Y-%m-%d %H:%M UTC");
        let line = |what: &String| format!("set {}, read on {at}: {what}", found.generation);
        found.damaged.iter().filter(|_| is_there).map(line).collect()
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
        self.look(ip, true)
    }

    /// The same; `may_be_armed` where that is not known to be false.
    fn look(&self, ip: Ipv4Addr, may_be_armed: bool) -> StatusNews {
        let mut news = read(&self.backup.files, ip);
        if let Some(cfg) = self.cfg.as_ref().filter(|_| may_be_armed) {
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
            || !self.damaged.is_empty()
            || matches!(state, Some(JobState::Failed | JobState::Holding))
    }

    pub fn urgency(&self, now: Timestamp) -> Urgency {
        let is_running = self.status.as_ref().is_some_and(|status| status.state == JobState::Running);
        match () {
            () if self.is_in_trouble(now) => Urgency::Trouble,
            () if self.not_come().is_some() => Urgency::Armed,
            () if is_running => Urgency::Working,
            () => Urgency::Quiet,
        }
    }

    /// Why it is in trouble, or what it does.
    pub fn what(&self, now: Timestamp) -> String {
        let status = self.status.as_ref();
        let error = status.and_then(|status| status.error.clone());
        let step =
            status.filter(|status| status.state == JobState::Running).map(|status| match &status.disk {
                Some(disk) => format!("{disk}: {}", status.step),
                None => status.step.clone(),
            });
        let damaged = || self.damaged.first().cloned();
        let by = || self.not_come().and_then(|armed| armed.by.as_ref().map(|by| format!("armed by {by}")));
        let text = match self.urgency(now) {
            Urgency::Trouble => {
                damaged().or(error).or(step).or_else(by).or_else(|| self.problems.first().cloned())
            }
            Urgency::Working => step,
            Urgency::Armed => by(),
            Urgency::Quiet => None,
        };
        text.unwrap_or_default()
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

/// What the folder of a machine says. Of files it opens the status, the record, that of the newest set before it and the lease;
/// and what is there only now and then: the record of a set that is being published, and notes of damage.
pub(super) fn read(files: &dyn Files, ip: Ipv4Addr) -> StatusNews {
    let names = files.list(&ip.to_string());
    let mut news = StatusNews {
        ip,
        is_known: names.is_ok(),
        status: None,
        record: None,
        lease: None,
        armed: Armed::No,
        damaged: Vec::new(),
        problems: Vec::new(),
    };
    let names = names.unwrap_or_default();
    let has = |name: &str| names.iter().any(|there| there == name);
    let content = |name: &str, limit, problems: &mut Vec<String>| {
        if !has(name) {
            return None;
        }
        match files.read_limited(&format!("{ip}/{name}"), limit) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                problems.push(format!("cannot read {name}: {e}"));
                None
            }
        }
    };
    if let Some(bytes) = content(STATUS, STATUS_LIMIT, &mut news.problems) {
        news.status = Status::parse(&bytes);
        if news.status.is_none() {
            news.problems.push(format!("{STATUS} is damaged, or of another version"));
        }
    }
    let mut newer = None;
    if let Some(bytes) = content(RECORD, RECORD_LIMIT, &mut news.problems) {
        match Record::parse(&bytes) {
            Ok(record) => news.record = Some(record),
            Err(RecordError::TooNew(_)) => newer = shares::newer_record(files, &format!("{ip}/{RECORD}")),
            Err(e) => news.problems.push(format!("{RECORD} cannot be used: {e}")),
        }
    }
    if has(RECORD_PENDING) {
        newer = newer.or_else(|| shares::newer_record(files, &format!("{ip}/{RECORD_PENDING}")));
    }
    if has(HISTORY) {
        let sets = files.list(&format!("{ip}/{HISTORY}")).unwrap_or_default();
        let newest = sets.iter().filter_map(|name| generation(name)).max();
        let newest = newest.map(|newest| format!("{ip}/{}/{RECORD}", history_dir(newest)));
        newer = newer.or_else(|| shares::newer_record(files, &newest?));
    }
    for image in news.record.iter().flat_map(|record| &record.images) {
        let note = damage_file(&image.file());
        let bytes = content(&note, publish::DAMAGE_LIMIT, &mut news.problems);
        if bytes.is_some_and(|bytes| publish::is_note_of(&bytes, &image.root_hash)) {
            news.damaged.push(format!("{} of the current set is damaged: see {note}", image.file()));
        }
    }
    if has(LEASE) {
        news.lease = lease::current(files, &format!("{ip}/{LEASE}")).unwrap_or_else(|e| {
            news.problems.push(format!("cannot read {LEASE}/: {e}"));
            None
        });
    }
    news.problems.extend(newer);
    news
}
