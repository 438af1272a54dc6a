//! `disarm`: removes the configurations that arm machines.

use super::arm;
use super::armed::Armed;
use super::config::SettingsFile;
use super::history;
use super::machine::{MachineName, MachineNames};
use super::output::{Out, say};
use super::shares::{self, ShareFolder};
use super::{Answer, Error};
use crate::job::Cmdline;
use crate::job::pxe::HexIp;
use crate::share::Files;
use crate::store::layout::TESTBOX_CFG;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Largest `testbox.cfg` file that is read, in bytes.
const LIMIT: usize = 64 << 10;

const AFTER_HELP: &str = "\
Removes pxelinux.cfg/<HEXIP> and testbox.cfg/<HEXIP>, where <HEXIP> is the machine's address in hexadecimal. \
An action that has begun already is not stopped by this.

Example:
  testboxctl disarm 10.42.1.20";

/// Arguments of `disarm`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// One or more machines
    #[arg(required = true, value_name = "IP|HOST")]
    machines: Vec<String>,
    /// PXELINUX's configuration folder [default: pxelinux.cfg in the TFTP root]
    #[arg(short, long, value_name = "DIR")]
    cfg_dir: Option<PathBuf>,
    /// Root of the TFTP share [default: /export/testbox-tftp]
    #[arg(long, value_name = "DIR")]
    tftp_dir: Option<PathBuf>,
    /// Remove a PXE configuration that somebody made by hand too
    #[arg(long)]
    force: bool,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let machines = MachineNames::load(&file)?.resolve_all(&args.machines)?;
    let flags = SettingsFile { cfg_dir: args.cfg_dir, tftp_dir: args.tftp_dir, ..SettingsFile::default() };
    let settings = flags.or(file);
    let cfg = shares::open_cfg_dir(&settings)?;
    // For the history only.
    let backup = shares::open_backup_dir(&settings).unwrap_or_default();
    let (mut lines, mut all) = (Vec::new(), Vec::new());
    let mut is_done = true;
    for machine in &machines {
        let mut one = json!({ "ip": machine.ip, "disarmed": false, "removed": [], "error": null });
        match disarm(&cfg, machine, args.force) {
            Ok(found) if found.is_empty() => {
                is_done = false;
                lines.push(format!("{}: it was not armed", machine.label()));
            }
            Ok(found) => {
                backup.iter().for_each(|share| history::note_disarmed(share, machine.ip, &arm::who()));
                lines.extend(found.iter().map(|what| format!("{}: {what}", machine.label())));
                one["disarmed"] = true.into();
                one["removed"] = found.into();
            }
            Err(e) => {
                is_done = false;
                say(&format!("{}: {e}", machine.label()));
                one["error"] = e.to_string().into();
            }
        }
        all.push(one);
    }
    out.result(args.json, &Value::Array(all), &lines)?;
    Ok(is_done)
}

/// Removes what arms one machine, and says what that was.
fn disarm(cfg: &ShareFolder, machine: &MachineName, force: bool) -> Result<Vec<String>, Error> {
    let hex = HexIp(machine.ip).to_string();
    let mut found = Vec::new();
    match Armed::read(cfg, &hex)? {
        Armed::No => {}
        Armed::NotAFile => {
            return Err(Error::failed(format!(
                "{}: it is not a file, so it arms no machine: look at it, and remove it by hand",
                cfg.path.join(&hex).display()
            )));
        }
        Armed::ByHand | Armed::Link(_) if !force => {
            return Err(Error::failed(format!(
                "{}: it is not a testbox job and was left alone; look at it, then use --force to remove it",
                cfg.path.join(&hex).display()
            )));
        }
        Armed::ByHand => {
            remove(cfg, &hex)?;
            found.push(format!("removed a hand-made configuration: {}", cfg.path.join(&hex).display()));
        }
        Armed::Link(to) => {
            remove(cfg, &hex)?;
            found.push(format!("removed a link to {to}: {}", cfg.path.join(&hex).display()));
        }
        Armed::With(what) => {
            remove(cfg, &hex)?;
            found.push(format!("disarmed, was armed with {what}: {}", cfg.path.join(&hex).display()));
        }
    }
    // The agent asks for this one where its kernel command line names no action.
    let root = cfg.path.parent().unwrap_or(&cfg.path);
    if !root.join(TESTBOX_CFG).is_dir() {
        return Ok(found);
    }
    let jobs = ShareFolder::open(&root.join(TESTBOX_CFG))?;
    if let Some(bytes) = jobs.read(&hex, LIMIT)? {
        let words = Cmdline::parse_file(&String::from_utf8_lossy(&bytes));
        let what = words.action.map_or("no action".to_owned(), |action| action.to_string());
        remove(&jobs, &hex)?;
        found.push(format!("disarmed, was armed with {what}: {}", jobs.path.join(&hex).display()));
    }
    Ok(found)
}

fn remove(folder: &ShareFolder, file: &str) -> Result<(), Error> {
    // Gone where the machine has just disarmed itself.
    folder.files.remove_if_exists(file).map_err(|e| folder.error(file, "remove it", &e))?;
    folder.files.sync_dir("").map_err(|e| folder.error(file, "remove it for good", &e))
}
