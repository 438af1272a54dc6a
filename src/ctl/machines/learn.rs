//! `machines learn`: tables for machines that have been seen, behind those that are there.

use super::super::boot::STATE_DIR;
use super::super::config::SettingsFile;
use super::super::machine::MachineNames;
use super::super::output::{Out, warn};
use super::super::ownership::{self, Class};
use super::super::{Answer, Error, shares};
use super::leases::{self, SeenMachine};
use crate::boot::machines::{KnownMachine, KnownMachines, MACHINES_FILE, MACHINES_LIMIT};
use crate::boot::seen::SEEN_FILE;
use crate::share::{DirFiles, Files};
use crate::store::layout::LEASE;
use crate::store::lease;
use crate::types::MacAddr;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Largest file of leases in bytes.
const LEASES_LIMIT: u64 = 64 << 20;

/// Arguments of `machines learn`.
#[derive(Debug, clap::Args)]
pub(in crate::ctl) struct Args {
    /// The leases of a DHCP server: of dnsmasq, the ISC's dhcpd, Kea (memfile) or 'testboxctl serve --dhcp'; may be repeated.
    /// What has booted from 'serve' is known without
    #[arg(long, value_name = "FILE")]
    leases: Vec<PathBuf>,
    /// Show what would be added, and add nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Root of the backup share [default: /export/testbox-backup, if it is there]
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, known: &MachineNames, file: &SettingsFile, out: &mut Out) -> Answer {
    let settings = SettingsFile { backup_dir: args.backup_dir, ..SettingsFile::default() }.or(file.clone());
    let mut seen = match shares::open_backup_dir(&settings)? {
        Some(share) => {
            let names = share.files.list("").map_err(|e| share.error("", "list it", &e))?;
            of_folders(&share.files, &names)
        }
        None => Vec::new(),
    };
    let booted = Path::new(STATE_DIR).join(SEEN_FILE);
    for path in args.leases.iter().chain(booted.exists().then_some(&booted)) {
        seen.extend(leases::parse(&read(path)?));
    }
    let is_anybody = !seen.is_empty() || !known.list().is_empty();
    let is_in_lab = |ip: Ipv4Addr| settings.network.is_none_or(|network| network.contains(ip));
    let (outside, seen): (Vec<_>, Vec<_>) = seen.into_iter().partition(|machine| !is_in_lab(machine.address));
    if !outside.is_empty() {
        warn(&format!("{} addresses outside of the lab's network are left out", outside.len()));
    }
    let added = added(known.list(), seen);
    let line = |machine: &KnownMachine| {
        let line = format!("{}: {} {}", machine.name, machine.address, machine.macs.join(" "));
        line.trim_end().to_owned()
    };
    let mut lines: Vec<String> = added.iter().map(line).collect();
    let is_written = !added.is_empty() && !args.dry_run;
    if !is_anybody {
        let what = "no machine has been seen yet: switch them on once, with the network first in their boot order, or give the \
                    leases of the DHCP server (--leases)";
        lines.push(what.into());
    } else if added.is_empty() {
        lines.push("nothing new: all machines that have been seen are in the file".into());
    } else if is_written {
        let path = settings.machines.as_deref().unwrap_or(Path::new(MACHINES_FILE));
        append(path, &added)?;
        lines.push(format!("{} machines added to {}", added.len(), path.display()));
    }
    let value = json!({ "seen": is_anybody, "added": super::to_json(&added), "written": is_written });
    out.result(args.json, &value, &lines)?;
    Ok(is_anybody)
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |e: io::Error| Error::failed(format!("{}: cannot read the leases: {e}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(LEASES_LIMIT).read_to_end(&mut bytes).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Machines that have had a job: the lease of a folder says who they are.
fn of_folders(files: &dyn Files, names: &[String]) -> Vec<SeenMachine> {
    let one = |name: &String| {
        let address: Ipv4Addr = name.parse().ok()?;
        let lease = lease::current(files, &format!("{address}/{LEASE}")).ok()??;
        let holder = lease.holder()?;
        Some(SeenMachine { address, macs: holder.macs.clone(), name: holder.hostname.clone() })
    };
    names.iter().filter_map(one).collect()
}

/// What is new of the machines that were seen, in the order of their addresses: each has an address, cards and a name that
/// nobody else has.
fn added(known: &[KnownMachine], mut seen: Vec<SeenMachine>) -> Vec<KnownMachine> {
    seen.sort_by_key(|machine| machine.address);
    let mut all = known.to_vec();
    let mut taken: BTreeSet<String> = known
        .iter()
        .flat_map(|one| one.groups.iter().chain([&one.name]))
        .map(|name| name.to_ascii_lowercase())
        .collect();
    for machine in seen {
        let is_new_mac = |mac: &MacAddr| {
            let is_his = |other: &KnownMachine| other.macs.iter().any(|one| one.parse() == Ok(*mac));
            mac.0[0] & 1 == 0 && mac.0 != [0; 6] && !all.iter().any(is_his)
        };
        let mut macs: Vec<String> = machine
            .macs
            .iter()
            .filter_map(|mac| mac.parse().ok())
            .filter(is_new_mac)
            .map(|mac: MacAddr| mac.to_string())
            .collect();
        macs.sort();
        macs.dedup();
        let is_there = all.iter().any(|other| other.address == machine.address);
        if is_there || macs.is_empty() {
            continue;
        }
        let address = machine.address;
        let label = machine.name.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let own = (1..).map(|n| format!("tb{n}")).find(|name| !taken.contains(name)).unwrap_or_default();
        // The file's own rules decide whether a name will do.
        let candidate = [label, own].into_iter().find_map(|name| {
            let machine = KnownMachine { name, address, macs: macs.clone(), groups: Vec::new() };
            let is_nobody = machine.name == "unknown" || machine.name == "localhost";
            let with = [all.clone(), vec![machine.clone()]].concat();
            (!is_nobody && KnownMachines::of(with).is_ok()).then_some(machine)
        });
        taken.extend(candidate.iter().map(|machine| machine.name.to_ascii_lowercase()));
        all.extend(candidate);
    }
    all.split_off(known.len())
}

/// Adds tables behind what is there; nothing else of the file changes.
fn append(path: &Path, added: &[KnownMachine]) -> Result<(), Error> {
    let failed = |e: io::Error| Error::failed(format!("{}: cannot write the machines: {e}", path.display()));
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(Error::usage(format!("{}: not the name of a file", path.display())));
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let files = DirFiles::open(folder).map_err(failed)?;
    let mut text = match files.read_limited(name, MACHINES_LIMIT) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|e| failed(io::Error::other(e)))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(failed(e)),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for machine in added {
        let macs: Vec<String> = machine.macs.iter().map(|mac| format!("{mac:?}")).collect();
        let macs = if let [mac] = &macs[..] { mac.clone() } else { format!("[{}]", macs.join(", ")) };
        let space = if text.is_empty() { "" } else { "\n" };
        let _ =
            write!(text, "{space}[{:?}]\naddress = \"{}\"\nmac = {macs}\n", machine.name, machine.address);
    }
    KnownMachines::parse(&text).map_err(|e| failed(io::Error::other(e)))?;
    files.write_atomic(name, text.as_bytes()).map_err(failed)?;
    ownership::own(path, Class::ServerReads)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What machines say of themselves is only a proposal: no name, address or card is taken twice, and none is changed.
    #[test]
    fn only_what_is_new_and_nobodys_is_added() {
        let known = KnownMachines::parse(
            "[tb1]\naddress = \"10.0.0.1\"\nmac = \"52:54:00:00:00:01\"\ngroups = \"rack\"\n",
        )
        .unwrap();
        let seen = |last: u8, mac: &str, name: &str| SeenMachine::new([10, 0, 0, last].into(), mac, name);
        let found = added(
            known.list(),
            vec![
                seen(9, "52:54:00:00:00:09", "tb1"),
                seen(1, "52:54:00:00:00:77", "other"),
                seen(5, "52:54:00:00:00:05", "TB5.lab.example"),
                seen(5, "52:54:00:00:00:06", "twice"),
                seen(6, "52:54:00:00:00:01", "thief-of-a-card"),
                seen(7, "ff:ff:ff:ff:ff:ff", "broadcast"),
                seen(8, "52:54:00:00:00:08", "\u{1b}[2J"),
                seen(10, "52:54:00:00:00:10", "rack"),
                seen(11, "", "no-card"),
            ],
        );
        let names: Vec<String> = found.iter().map(|m| format!("{} {}", m.name, m.address)).collect();
        assert_eq!(names, ["tb5 10.0.0.5", "tb2 10.0.0.8", "tb3 10.0.0.9", "tb4 10.0.0.10"]);
    }
}
