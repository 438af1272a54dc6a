//! What is known of each machine: when it was there last, and how that went.

use super::super::config::SettingsFile;
use super::super::network::Surroundings;
use super::super::news::{Newsroom, StatusNews};
use super::finding::AreaReport;
use super::lab::DoctorLab;
use super::store::CLOCK;
use crate::store::layout::STATUS;
use crate::store::status::JobState;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// A machine that was armed so long ago and has not come is asked after, in seconds.
const NEVER_CAME: i64 = 86_400;
/// Machines that are named one by one in a line.
const NAMED: usize = 8;

/// All machines.
#[derive(Default)]
pub(super) struct ContactsSeen {
    pub news: Vec<StatusNews>,
    /// When the server says that a status was written.
    pub written: BTreeMap<Ipv4Addr, Timestamp>,
    pub why_not: Option<String>,
}

/// Reads what the shares say.
pub(super) fn ask(lab: &DoctorLab) -> ContactsSeen {
    let Some(backup) = &lab.backup_dir else {
        let why = "the folder of the backups is not on this computer (backup-dir)";
        return ContactsSeen { why_not: Some(why.into()), ..ContactsSeen::default() };
    };
    let settings = SettingsFile {
        backup_dir: Some(backup.clone()),
        tftp_dir: lab.tftp_dir.clone(),
        ..lab.settings.clone()
    };
    match Newsroom::open(&settings).and_then(|room| room.all(&[])) {
        Ok(news) => {
            let time = |news: &StatusNews| {
                let path = backup.join(news.ip.to_string()).join(STATUS);
                let at = std::fs::metadata(path).and_then(|about| about.modified()).ok()?;
                Some((news.ip, Timestamp::try_from(at).ok()?))
            };
            let written = news.iter().filter_map(time).collect();
            ContactsSeen { news, written, why_not: None }
        }
        Err(e) => ContactsSeen { why_not: Some(e.to_string()), ..ContactsSeen::default() },
    }
}

impl ContactsSeen {
    /// Bytes of the largest set.
    pub fn largest_set(&self) -> u64 {
        let of = |news: &StatusNews| {
            let images = &news.record.as_ref()?.images;
            Some(images.iter().fold(0u64, |sum, image| sum.saturating_add(image.image_size)))
        };
        self.news.iter().filter_map(of).max().unwrap_or(0)
    }
}

/// Judges them.
pub(super) fn judge(lab: &DoctorLab, seen: &ContactsSeen, now: Timestamp) -> AreaReport {
    let mut report = AreaReport::new("machines");
    addresses(lab, &mut report);
    if let Some(why) = &seen.why_not {
        report.unknown(format!("their last contact: {why}"));
        return report;
    }
    let name = |ip: Ipv4Addr| match lab.machines.iter().find(|machine| machine.address == ip) {
        Some(machine) => format!("{} ({ip})", machine.name),
        None => ip.to_string(),
    };
    for news in &seen.news {
        trouble(news, &name(news.ip), now, &mut report);
    }
    clocks(seen, &name, now, &mut report);
    let contacts = seen.news.iter().filter_map(|news| Some((news.status.as_ref()?.updated, news.ip)));
    match contacts.clone().max() {
        Some((at, ip)) => report.fine(format!(
            "{} machines have been here; the last was {}, {}",
            contacts.count(),
            name(ip),
            at.strftime("%Y-%m-%d %H:%M UTC")
        )),
        None => report.fine("no machine has been here yet"),
    }
    let known: BTreeSet<Ipv4Addr> = seen.news.iter().map(|news| news.ip).collect();
    let never: Vec<&str> =
        lab.machines.iter().filter(|m| !known.contains(&m.address)).map(|m| m.name.as_str()).collect();
    if !never.is_empty() {
        let more =
            if never.len() > NAMED { format!(" and {} more", never.len() - NAMED) } else { String::new() };
        let names = never.iter().take(NAMED).copied().collect::<Vec<_>>().join(" ");
        report.fine(format!("never armed, and never here: {names}{more}"));
    }
    report
}

/// Machines that 'arm' would refuse.
fn addresses(lab: &DoctorLab, report: &mut AreaReport) {
    let place = Surroundings {
        servers: [lab.server, lab.boot].into_iter().flatten().collect(),
        gateway: lab.settings.gateway,
        netmask: lab.settings.netmask,
        lab: lab.settings.network,
        own: lab.own.clone(),
    };
    let problem = |machine: &crate::boot::machines::KnownMachine| {
        let problems = place.problems(machine.address);
        (!problems.is_empty())
            .then(|| format!("{} ({}): {}", machine.name, machine.address, problems.join("; ")))
    };
    let wrong: Vec<String> = lab.machines.iter().filter_map(problem).take(NAMED).collect();
    if !wrong.is_empty() {
        report.error(
            "machine-address",
            "the addresses in the file of machines",
            wrong.join("\n"),
            "address = \"IP\" in /etc/testbox/machines.toml, or network = \"IP/BITS\" in /etc/testbox.toml",
        );
    }
}

fn trouble(news: &StatusNews, name: &str, now: Timestamp, report: &mut AreaReport) {
    let asked = format!("how {name} is");
    for problem in &news.problems {
        let cure =
            format!("testboxctl status {} shows it; a file that is damaged may be moved away", news.ip);
        report.warning("machine-files", asked.clone(), problem.clone(), cure);
    }
    if let Some(armed) = news.not_come()
        && let Some(since) = armed.since.filter(|since| now.duration_since(*since).as_secs() > NEVER_CAME)
    {
        report.warning(
            "machine-never-came",
            asked,
            format!("armed since {} and never came", since.strftime("%Y-%m-%d %H:%M UTC")),
            format!(
                "reboot it, network first in its set-up; what stands on its screen is explained by: testboxctl doctor CODE; \
                 or: testboxctl disarm {}",
                news.ip
            ),
        );
        return;
    }
    let Some(status) = &news.status else { return };
    let why = status.error.clone().unwrap_or_else(|| "it does not say why".into());
    let (id, found) = match status.state {
        JobState::Holding => ("machine-holds", format!("it waits for a human: {why}")),
        JobState::Failed => ("machine-failed", format!("{} has failed: {why}", status.action)),
        JobState::Running if news.is_stale(now) => (
            "machine-stale",
            format!(
                "at work by its own word, and silent since {}",
                status.updated.strftime("%Y-%m-%d %H:%M UTC")
            ),
        ),
        _ => return,
    };
    let code =
        status.code.map_or_else(String::new, |code| format!("code {code} in: testboxctl help failures; "));
    report.warning(id, asked, found, format!("{code}testboxctl status {}", news.ip));
}

/// The server's time of a file beside the machine's own in it, and beside this computer's.
fn clocks(seen: &ContactsSeen, name: &dyn Fn(Ipv4Addr) -> String, now: Timestamp, report: &mut AreaReport) {
    if let Some((ip, at)) = seen.written.iter().find(|(_, at)| now.duration_since(**at).as_secs() < -CLOCK) {
        report.warning(
            "clock-share",
            "the clock of the file server, by the time of a status beside this computer's clock",
            format!(
                "the status of {} was written {} s in the future",
                name(*ip),
                -now.duration_since(*at).as_secs()
            ),
            "on the one that is wrong: timedatectl set-ntp true",
        );
        return;
    }
    for news in &seen.news {
        let (Some(status), Some(written)) = (&news.status, seen.written.get(&news.ip)) else { continue };
        let ahead = status.updated.duration_since(*written).as_secs();
        if ahead.abs() > 3600 {
            let which = if ahead > 0 { "ahead of" } else { "behind" };
            report.fine(format!(
                "note: the clock of {} is {} h {which} the file server's; nothing depends on it",
                name(news.ip),
                ahead.abs() / 3600
            ));
        }
    }
}
