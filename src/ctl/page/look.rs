//! What a page shows, read from the server's folders by the same code as `status`, `history`, `images` and `log`.

use super::super::Error;
use super::super::config::{self, SettingsFile};
use super::super::history::{self, PastJob};
use super::super::images::FileUsers;
use super::super::log;
use super::super::machine::{MachineName, MachineNames};
use super::super::news::{Newsroom, StatusNews};
use super::super::power;
use super::super::sets::{MachineSets, SetShare};
use super::super::shares;
use crate::share::Files;
use crate::store::layout::MAINTENANCE_LOG;
use crate::text::plain;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Jobs of a machine that are shown.
const JOBS: usize = 20;
/// Bytes of the end of its log that are read.
const LOG: u64 = 16 << 10;

/// Where to look.
#[derive(Clone)]
pub(in super::super) struct LabFolders {
    /// The settings file, where one is named; it is read for each look.
    pub config: Option<PathBuf>,
    /// The folder with the backups.
    pub backup: PathBuf,
    /// The folder that the TFTP server serves.
    pub boot: PathBuf,
}

/// A machine, and what `machines.toml` calls it.
pub(super) struct LabMachine {
    pub news: StatusNews,
    pub name: Option<String>,
}

impl LabMachine {
    /// What people call it: by the file of machines, else by what it calls itself.
    pub fn label(&self) -> String {
        let of_status = self.news.status.as_ref().map(|status| &status.hostname);
        let of_record = self.news.record.as_ref().map(|record| &record.machine.hostname);
        let name = self.name.as_ref().or(of_status).or(of_record);
        let name = name.filter(|name| !name.is_empty() && *name != "unknown");
        name.map_or_else(|| self.news.ip.to_string(), |name| shown(name, 40))
    }
}

/// The lab at a glance.
pub(super) struct LabSeen {
    pub at: Timestamp,
    pub machines: Vec<LabMachine>,
}

/// All of one machine.
pub(super) struct MachineSeen {
    pub at: Timestamp,
    pub machine: LabMachine,
    pub names: MachineNames,
    /// Something says how its power is switched.
    pub has_power: bool,
    pub sets: MachineSets,
    pub costs: FileUsers,
    /// The oldest first.
    pub jobs: Vec<PastJob>,
    /// The last lines of its log, plain.
    pub log: Vec<String>,
}

/// The sets of all machines.
pub(super) struct ImagesSeen {
    pub at: Timestamp,
    pub machines: Vec<MachineSets>,
    pub names: MachineNames,
    pub costs: FileUsers,
    /// Bytes that the file system has left, and has in all.
    pub room: Option<(u64, u64)>,
}

/// Text from outside: plain, and no longer than so many characters.
pub(super) fn shown(text: &str, limit: usize) -> String {
    // Cut before it is escaped too: it may be a megabyte.
    let head: String = text.chars().take(limit.saturating_add(1)).collect();
    super::super::table::cut(&plain(&head), limit)
}

impl LabFolders {
    /// As a command of an admin has them.
    fn settings(&self) -> Result<SettingsFile, Error> {
        let own = SettingsFile {
            backup_dir: Some(self.backup.clone()),
            tftp_dir: Some(self.boot.clone()),
            ..SettingsFile::default()
        };
        Ok(own.or(config::load(self.config.as_deref())?))
    }

    /// The address of a machine that somebody names: by address, or as `machines.toml` does. No server of names is asked.
    pub(super) fn address(&self, name: &str) -> Result<Option<Ipv4Addr>, Error> {
        if let Ok(ip) = name.parse() {
            return Ok(Some(ip));
        }
        let settings = self.settings()?;
        let names = MachineNames::load(&settings)?;
        Ok(names.list().iter().find(|known| known.name == name).map(|known| known.address))
    }

    /// All machines that have a folder, are armed, or are in `machines.toml`.
    pub(super) fn lab(&self) -> Result<LabSeen, Error> {
        let settings = self.settings()?;
        let names = MachineNames::load(&settings)?;
        let room = Newsroom::open(&settings)?;
        let mut all = room.all(&[])?;
        let seen: BTreeSet<Ipv4Addr> = all.iter().map(|news| news.ip).collect();
        let others = names.list().iter().map(|known| known.address).filter(|ip| !seen.contains(ip));
        all.extend(others.map(|ip| room.of(ip)));
        all.sort_by_key(|news| news.ip);
        let names: BTreeMap<Ipv4Addr, &String> =
            names.list().iter().map(|known| (known.address, &known.name)).collect();
        let machine = |news: StatusNews| LabMachine { name: names.get(&news.ip).copied().cloned(), news };
        Ok(LabSeen { at: Timestamp::now(), machines: all.into_iter().map(machine).collect() })
    }

    /// One machine.
    pub(super) fn machine(&self, ip: Ipv4Addr) -> Result<MachineSeen, Error> {
        let settings = self.settings()?;
        let names = MachineNames::load(&settings)?;
        let room = Newsroom::open(&settings)?;
        let mut news = room.all(&[ip])?;
        let news = if news.is_empty() { room.of(ip) } else { news.remove(0) };
        let name = names.list().iter().find(|known| known.address == ip).map(|known| known.name.clone());
        let sets = SetShare::open(&room.backup)?.all(&[ip]);
        let costs = FileUsers::of(&sets);
        let empty = || MachineSets { ip, host: None, sets: Vec::new(), problems: Vec::new() };
        let jobs = history::of_machine(&room.backup, ip, JOBS)?;
        let log = log::tail(&room.backup, &format!("{ip}/{MAINTENANCE_LOG}"), LOG)?;
        Ok(MachineSeen {
            at: Timestamp::now(),
            machine: LabMachine { news, name },
            has_power: power::before_arming(&settings, &[MachineName { ip, word: ip.to_string() }]).is_ok(),
            names,
            sets: sets.into_iter().next().unwrap_or_else(empty),
            costs,
            jobs,
            log: log.lines().map(|line| shown(line, 1000)).collect(),
        })
    }

    /// The sets of all machines.
    pub(super) fn images(&self) -> Result<ImagesSeen, Error> {
        let settings = self.settings()?;
        let names = MachineNames::load(&settings)?;
        let share = shares::need_backup_dir(&settings)?;
        let folders = share.files.list("").map_err(|e| share.error("", "list it", &e))?;
        let machines: BTreeSet<Ipv4Addr> = folders.iter().filter_map(|name| name.parse().ok()).collect();
        let machines = SetShare::open(&share)?.all(&machines.into_iter().collect::<Vec<_>>());
        let size = rustix::fs::statvfs(&share.path).ok();
        let size = size.map(|about| about.f_blocks.saturating_mul(about.f_frsize));
        let room = share.files.free_bytes("").ok().zip(size);
        let costs = FileUsers::of(&machines);
        Ok(ImagesSeen { at: Timestamp::now(), machines, names, costs, room })
    }
}
