//! `doctor`: looks at a lab from the outside, by the protocols that its machines use, and says what is wrong, and the cure.
//!
//! It changes nothing anywhere. Whoever asks (`*_ask`, and `ask` of the smaller parts) only gathers facts; what they mean is
//! judged without any effect (`judge`).

mod boot_files;
mod codes;
mod contact;
mod dhcp;
mod dhcp_ask;
mod finding;
mod folders;
mod lab;
mod nfs;
mod offers;
mod rpc;
mod store;
mod tftp;
mod tftp_ask;

use super::config::SettingsFile;
use super::output::{Out, columns};
use super::{Answer, Error};
use clap::ValueEnum;
use finding::{AreaReport, hang, table};
use jiff::Timestamp;
use lab::DoctorLab;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const AFTER_HELP: &str = "\
Run it on the server as root, or on another computer of the machines' network. It asks by DHCP, TFTP, NFS and HTTPS as machines \
do, reads what they would boot, and looks at the shares; it changes nothing. With a CODE it explains what stands on a machine's \
screen.

Exit codes: 0 nothing is wrong; 1 there are findings, or a code is not known; 2 wrong usage.

Examples:
  testboxctl doctor
  testboxctl doctor --only dhcp --only tftp --json
  testboxctl doctor PXE-E32
  testboxctl doctor 'Unable to locate configuration file'";

/// Beyond the waiting of one part: reading an initramfs over a slow network.
const PATIENCE: u32 = 30;

/// A part of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum LabPart {
    /// The settings
    Settings,
    /// Who gives addresses, and what machines are told to boot
    Dhcp,
    /// The files that they load
    Tftp,
    /// Whether those fit each other
    Boot,
    /// The shares
    Nfs,
    /// The store of 'testboxctl serve'
    Store,
    /// The folders of the shares on this computer
    Folders,
    /// When each machine was here last
    Machines,
}

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// A code or a message from the screen of a machine, to be explained
    #[arg(value_name = "CODE")]
    code: Vec<String>,
    /// Look at this part alone; may be repeated
    #[arg(long, value_name = "PART", conflicts_with = "code")]
    only: Vec<LabPart>,
    /// The interface to ask by DHCP on [default: the one in the machines' network]
    #[arg(long, value_name = "IF", conflicts_with = "code")]
    interface: Option<String>,
    /// Seconds that each answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    wait: u64,
    /// For programs
    #[arg(long)]
    json: bool,
    /// Root of the TFTP share on this computer [default: /export/testbox-tftp, if it is there]
    #[arg(long, value_name = "DIR")]
    tftp_dir: Option<PathBuf>,
    /// Root of the backup share on this computer [default: /export/testbox-backup, if it is there]
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    if !args.code.is_empty() {
        return explain(&args.code.join(" "), args.json, out);
    }
    let flags =
        SettingsFile { tftp_dir: args.tftp_dir, backup_dir: args.backup_dir, ..SettingsFile::default() };
    let lab = DoctorLab::of(flags.or(file), args.interface.as_deref(), Duration::from_secs(args.wait))?;
    let wanted: BTreeSet<LabPart> = match &args.only[..] {
        [] => LabPart::value_variants().iter().copied().collect(),
        only => only.iter().copied().collect(),
    };
    let reports = examine(&lab, &wanted);
    let is_fine = reports.iter().all(|report| report.findings.is_empty());
    if args.json {
        let value = json!({ "testboxctl": env!("CARGO_PKG_VERSION"), "fine": is_fine, "areas": reports });
        out.json(&value, false)?;
    } else {
        out.text(&table(&reports, columns()))?;
    }
    Ok(is_fine)
}

/// Looks at some parts.
type PartWork = fn(&DoctorLab) -> Vec<AreaReport>;

/// Asks for all parts beside each other, and waits for none longer than its time.
fn examine(lab: &DoctorLab, wanted: &BTreeSet<LabPart>) -> Vec<AreaReport> {
    let (sender, answers) = mpsc::channel::<(Vec<LabPart>, Vec<AreaReport>)>();
    let mut missing: BTreeSet<LabPart> = BTreeSet::new();
    let parts: [(&[LabPart], PartWork); 6] = [
        (&[LabPart::Settings], settings),
        (&[LabPart::Dhcp], dhcp_part),
        (&[LabPart::Tftp, LabPart::Boot], tftp_part),
        (&[LabPart::Nfs], nfs_part),
        (&[LabPart::Store], store_part),
        (&[LabPart::Folders, LabPart::Machines], folders_part),
    ];
    for (areas, work) in parts {
        if !areas.iter().any(|area| wanted.contains(area)) {
            continue;
        }
        let (lab, sender) = (lab.clone(), sender.clone());
        let work = move || drop(sender.send((areas.to_vec(), work(&lab))));
        if std::thread::Builder::new().name("doctor".into()).spawn(work).is_ok() {
            missing.extend(areas.iter().filter(|area| wanted.contains(area)));
        }
    }
    drop(sender);
    let by = Instant::now() + lab.wait * PATIENCE;
    let mut reports = Vec::new();
    while !missing.is_empty() {
        match answers.recv_timeout(by.saturating_duration_since(Instant::now())) {
            Ok((areas, found)) => {
                missing.retain(|area| !areas.contains(area));
                reports.extend(found.into_iter().map(AreaReport::merged));
            }
            Err(_) => break,
        }
    }
    for area in &missing {
        let mut report = AreaReport::new(name(*area));
        report.unknown("it took too long: a share that hangs, or a very slow network");
        reports.push(report);
    }
    let names: Vec<&str> = wanted.iter().map(|area| name(*area)).collect();
    reports.retain(|report| names.contains(&report.area));
    reports.sort_by_key(|report| names.iter().position(|name| *name == report.area));
    reports
}

fn name(area: LabPart) -> &'static str {
    match area {
        LabPart::Settings => "settings",
        LabPart::Dhcp => "dhcp",
        LabPart::Tftp => "tftp",
        LabPart::Boot => "boot",
        LabPart::Nfs => "nfs",
        LabPart::Store => "store",
        LabPart::Folders => "folders",
        LabPart::Machines => "machines",
    }
}

fn settings(lab: &DoctorLab) -> Vec<AreaReport> {
    let mut report = AreaReport::new("settings");
    let asked = "/etc/testbox.toml, or the file of --config";
    for problem in &lab.unresolved {
        report.error(
            "settings-host",
            asked,
            problem.clone(),
            "server = \"IP\": machines may have no DNS while they boot",
        );
    }
    for problem in lab.settings.problems() {
        report.error("settings-value", asked, problem, "the keys are explained by: testboxctl help setup");
    }
    let has_store = lab.settings.options().store.is_some();
    if lab.settings.server.is_none() && lab.settings.boot_server.is_none() {
        report.warning(
            "settings-no-server",
            asked,
            "no server is named: TFTP, NFS and whom DHCP must name cannot be looked at",
            "server = \"IP\" of the lab's server, as machines reach it",
        );
    } else {
        let boot = lab.boot.map_or_else(String::new, |boot| format!("boot server {boot}"));
        let store = if has_store { ", with a store" } else { "" };
        report.fine(format!("{boot}{store}, {} machines known", lab.machines.len()));
    }
    vec![report]
}

fn dhcp_part(lab: &DoctorLab) -> Vec<AreaReport> {
    let mut report = AreaReport::new("dhcp");
    if lab.settings.gateway.is_some() {
        report.fine("Linux has fixed addresses (gateway, netmask); loaders still ask DHCP");
    }
    match &lab.wire {
        Err(why) => report.unknown(why.clone()),
        Ok((device, own)) => match dhcp_ask::ask(lab, device, *own) {
            Ok(seen) => return vec![dhcp::judge(lab, &seen)],
            Err(e) => report.unknown(format!("DHCP on {device}: {e}; as root it can be asked")),
        },
    }
    vec![report]
}

fn tftp_part(lab: &DoctorLab) -> Vec<AreaReport> {
    let Some(server) = lab.boot else {
        let mut report = AreaReport::new("tftp");
        report.unknown("no TFTP server is named (server or boot-server in the settings)");
        return vec![report];
    };
    let seen = tftp_ask::ask(lab, server);
    vec![tftp::judge(lab, &seen), tftp::judge_files(lab, &seen)]
}

fn nfs_part(lab: &DoctorLab) -> Vec<AreaReport> {
    vec![nfs::judge(&nfs::ask(lab))]
}

fn store_part(lab: &DoctorLab) -> Vec<AreaReport> {
    store::ask(lab).iter().map(store::judge).collect()
}

fn folders_part(lab: &DoctorLab) -> Vec<AreaReport> {
    let contacts = contact::ask(lab);
    let folders = folders::ask(lab, contacts.largest_set());
    vec![folders::judge(&folders), contact::judge(lab, &contacts, Timestamp::now())]
}

/// What a message on the screen of a machine means.
fn explain(text: &str, is_json: bool, out: &mut Out) -> Answer {
    let found = codes::find(text);
    if is_json {
        let one = |message: &&codes::BootMessage| json!({ "codes": message.words, "by": message.by, "means": message.means, "cure": message.cure });
        out.json(&found.iter().map(one).collect(), false)?;
        return Ok(!found.is_empty());
    }
    for message in &found {
        let by = format!("{}: {}\n", message.by, message.words.join(", "));
        out.text(&hang("", by.trim_end(), columns()))?;
        out.text(&hang("  means: ", message.means, columns()))?;
        out.text(&hang("  cure:  ", message.cure, columns()))?;
    }
    if found.is_empty() {
        return Err(Error::failed(format!(
            "'{text}' is not among the messages that are known here; 'testboxctl doctor' looks at the lab itself"
        )));
    }
    Ok(true)
}
