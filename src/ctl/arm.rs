//! `arm`: writes the PXE configuration that makes machines perform an action at their next reboot.

use super::config::{Boot, Settings};
use super::machine::{self, Machine};
use super::output::{Out, say, warn};
use super::shares::{self, Armed, Folder};
use super::{Answer, Error, keys};
use crate::job::Action;
use crate::job::Options;
use crate::job::job_text;
use crate::job::pxe::{BootMode, HexIp, PxeFile, PxeJob, render};
use crate::net::netconf::IpWord;
use crate::share::Files;
use crate::signature::{JOB_NAMESPACE, SIGNATURE, SIGNATURE_LIMIT, SecretKey, Trust};
use crate::store::record::{RECORD, RECORD_LIMIT};
use crate::types::{HostName, JobId, JobSignature, MacAddr, SetHash, Uuid};
use rustix::fs::Mode;
use std::io;
use std::net::Ipv4Addr;

/// Largest `testbox-info.txt` that is searched, in bytes.
const INFO_LIMIT: usize = 64 << 20;

const AFTER_HELP: &str = "\
Actions:
  backup        image the disks; refused where an image exists
  backup-again  image the disks again; the set before goes into history/
  restore       write the images back
  refresh-info  collect the machine's hardware facts again
  rescue        leave the machine to you: a shell, or the full Debian of the NFS root
  verify        check the images against their hashes and against the disks

Examples:
  testboxctl arm --server 10.42.1.1 10.42.1.20 backup
  testboxctl arm --server 10.42.1.1 --console tty0 --console ttyS0,115200 tb1.lab tb2.lab restore
  testboxctl arm --boot testbox --backup 10.42.1.5:/srv/backup --dry-run 10.42.1.20 verify
  testboxctl arm --server 10.42.1.1 --map sda:serial=S3Z9NB0K 10.42.1.20 restore
  testboxctl arm --server 10.42.1.1 --sign-key ~/testbox-lab 10.42.1.20 restore

Reboot the machine to begin. It disarms itself when the action is done.";

/// Arguments of `arm`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP, override_usage = "testboxctl arm [OPTIONS] <IP|HOST>... <ACTION>")]
pub(super) struct Args {
    /// One or more machines, and what they are to do
    #[arg(required = true, value_name = "IP|HOST... ACTION")]
    words: Vec<String>,
    /// Show what would be written, and write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Restore or verify exactly this set, current or in history/: SHA-256 of its backup.json. With --sign-key a restore
    /// always names one, by itself the current one
    #[arg(long, value_name = "SHA256")]
    set: Option<SetHash>,
    /// Arm although there is no image to restore, or over a PXE configuration that somebody made by hand
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    settings: Settings,
    /// The job id, where it must be known beforehand
    #[arg(long, hide = true)]
    job: Option<JobId>,
}

/// What will be written for one machine.
struct Order {
    machine: Machine,
    file: String,
    job: JobId,
    text: String,
    before: Armed,
}

pub(super) fn run(args: Args, file: Settings, out: &mut Out) -> Answer {
    let (action, machines) = words(&args.words)?;
    let settings = args.settings.or(file);
    settings.check()?;
    settings.check_fixed_address()?;
    let machines = machine::resolve_all(machines)?;
    if machines.len() > 1 && (settings.name.is_some() || args.job.is_some() || args.set.is_some()) {
        return Err(Error::usage("--name and --set are for one machine: arm the machines one by one"));
    }
    if args.set.is_some() && !matches!(action, Action::Restore | Action::Verify) {
        return Err(Error::usage("--set is for restore and verify"));
    }
    let key = settings.sign_key.as_deref().map(keys::load_secret).transpose()?;
    let cfg = shares::open_cfg_dir(&settings)?;
    let backup = shares::open_backup_dir(&settings)?;
    let what = What { action, job: args.job, set: args.set, key };
    let orders = orders(&cfg, &settings, &what, machines, backup.as_ref())?;
    refusals(&orders, action, backup.as_ref(), args.force)?;
    warnings(&cfg, &settings, &orders, action, backup.as_ref())?;
    if args.dry_run { show(&cfg, &orders, out) } else { write_all(&cfg, &orders, action, out) }
}

/// What the machines are to do, beside the settings.
struct What {
    action: Action,
    job: Option<JobId>,
    set: Option<SetHash>,
    key: Option<SecretKey>,
}

/// The last word is the action, the others are machines.
fn words(words: &[String]) -> Result<(Action, &[String]), Error> {
    let Some((last, machines)) = words.split_last() else {
        return Err(Error::usage("give one or more machines and an action"));
    };
    let action = last.parse::<Action>().map_err(|e| Error::usage(e.to_string()))?;
    match machines.iter().find(|word| word.parse::<Action>().is_ok()) {
        None if machines.is_empty() => Err(Error::usage("give one or more machines before the action")),
        None => Ok((action, machines)),
        Some(word) => Err(Error::usage(format!(
            "two actions, {word} and {action}: give one (a machine that is called {word} must be given by its address)"
        ))),
    }
}

/// Renders the files of all machines.
fn orders(
    cfg: &Folder,
    settings: &Settings,
    what: &What,
    machines: Vec<Machine>,
    backup: Option<&Folder>,
) -> Result<Vec<Order>, Error> {
    let server = settings.server.as_ref().map(|host| machine::resolve(host.as_str())).transpose()?;
    let boot = match settings.boot.unwrap_or(Boot::Nfs) {
        Boot::Nfs => BootMode::NfsRoot(settings.nfsroot(server)?),
        Boot::Testbox => BootMode::AgentOnly,
    };
    let order = |machine: Machine| {
        let job = what.job.clone().map_or_else(fresh_job, Ok)?;
        let set = match (what.set, &what.key) {
            (None, Some(key)) if what.action == Action::Restore => Some(current_set(&machine, backup, key)?),
            (set, _) => set,
        };
        let mut pxe = PxeJob {
            program: concat!("testboxctl ", env!("CARGO_PKG_VERSION")).into(),
            action: what.action,
            job: job.clone(),
            signature: None,
            kernel: kernel(settings).into(),
            initrd: initrd(settings).into(),
            boot: boot.clone(),
            ip: ip_word(machine.ip, server, settings)?,
            options: Options { set, ..settings.options() },
            consoles: settings.console.clone(),
            extra: settings.extra.clone(),
        };
        let mut text = render(&pxe).map_err(|e| Error::usage(e.to_string()))?;
        if let Some(key) = &what.key {
            // Over what the machine will read, and not over what was meant.
            let options = PxeFile::parse(&text).cmdline().options;
            let signed = job_text(machine.ip, what.action, &job, &options);
            pxe.signature = Some(JobSignature(key.sign(JOB_NAMESPACE, signed.as_bytes()).signature));
            text = render(&pxe).map_err(|e| Error::usage(e.to_string()))?;
        }
        let file = HexIp(machine.ip).to_string();
        let before = cfg.armed(&file)?;
        Ok(Order { machine, file, job, text, before })
    };
    machines.into_iter().map(order).collect()
}

/// The set that a signed restore names where the admin names none: the current one.
fn current_set(machine: &Machine, backup: Option<&Folder>, key: &SecretKey) -> Result<SetHash, Error> {
    let (label, ip) = (machine.label(), machine.ip);
    let unknown = |what: &str| {
        Error::failed(format!(
            "{label}: {what}: a signed restore names its set; give --backup-dir, or --set SHA256"
        ))
    };
    let share = backup.ok_or_else(|| unknown("the backup share is not here"))?;
    let read = |file: &str, limit| share.read(&format!("{ip}/{file}"), limit);
    let record = read(RECORD, RECORD_LIMIT)?.ok_or_else(|| unknown("there is no current set"))?;
    let own = Trust::new([("", key.public().line().as_bytes())], false);
    let signature = read(SIGNATURE, SIGNATURE_LIMIT)?;
    if let Some(why) = own.of_set(&record, signature.as_deref()).why_not() {
        warn(&format!(
            "{label}: the current set {why}; its machine restores it only if a key that it trusts has signed it"
        ));
    }
    Ok(SetHash::of(&record))
}

fn kernel(settings: &Settings) -> &str {
    settings.kernel.as_deref().unwrap_or("maintenance-boot/vmlinuz")
}

fn initrd(settings: &Settings) -> &str {
    settings.initrd.as_deref().unwrap_or("maintenance-boot/initrd.img")
}

fn ip_word(ip: Ipv4Addr, server: Option<Ipv4Addr>, settings: &Settings) -> Result<IpWord, Error> {
    let name: HostName = "maintenance".parse().map_err(|e| Error::failed(format!("{e}")))?;
    Ok(IpWord::for_machine(ip, server, settings.gateway, settings.netmask, name))
}

/// A job id that sorts by time and never comes twice: `20171017T142602-0123456789abcdef`.
fn fresh_job() -> Result<JobId, Error> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|e| Error::failed(format!("no random bytes for the job id: {e}; nothing was written")))?;
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S");
    format!("{now}-{:016x}", u64::from_be_bytes(random)).parse().map_err(|e| Error::failed(format!("{e}")))
}

/// What must not be armed. All machines are looked at before the first file is written.
fn refusals(orders: &[Order], action: Action, backup: Option<&Folder>, force: bool) -> Result<(), Error> {
    if force {
        return Ok(());
    }
    let mut problems = Vec::new();
    for order in orders {
        let label = order.machine.label();
        if order.before == Armed::ByHand {
            problems.push(format!(
                "{label}: {} is there and is no testbox job; look at it, then arm with --force to replace it",
                order.file
            ));
        }
        if let Some(share) = backup.filter(|_| action != Action::Rescue)
            && let Err(e) = shares::refuse_newer(share, &order.machine.ip.to_string())
        {
            problems.push(format!(
                "{label}: {e}; arm with --force where the machine's initrd is of that release"
            ));
        }
        if let (Action::Restore | Action::Verify, Some(share)) = (action, backup)
            && shares::find_image(share, order.machine.ip)?.is_none()
        {
            problems.push(format!(
                    "{label}: there is no image to {action} in {}; make one with the action backup, or arm with --force",
                    share.path.join(order.machine.ip.to_string()).display()
                ));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    problems.push("no machine was armed".into());
    Err(Error::failed(problems.join("\n")))
}

/// What the admin should know, and may want so.
fn warnings(
    cfg: &Folder,
    settings: &Settings,
    orders: &[Order],
    action: Action,
    backup: Option<&Folder>,
) -> Result<(), Error> {
    let root = cfg.path.parent().unwrap_or(&cfg.path);
    for file in [kernel(settings), initrd(settings)] {
        if !root.join(file).is_file() {
            warn(&format!(
                "{}: it is not there; the machine cannot boot without it",
                root.join(file).display()
            ));
        }
    }
    match (action, backup) {
        (Action::Backup, Some(share)) => {
            for order in orders {
                if let Some(image) = shares::find_image(share, order.machine.ip)? {
                    let label = order.machine.label();
                    warn(&format!("{label}: it will refuse, {image} exists: use backup-again"));
                }
            }
        }
        (Action::Restore | Action::Verify, None) => {
            warn("whether there are images was not looked at: give --backup-dir for that");
        }
        _ => {}
    }
    for (name, spellings) in shadows(cfg)? {
        let owners = owners(backup, &spellings);
        for order in orders {
            if owners.is_empty() || owners.contains(&order.machine.ip) {
                warn(&format!(
                    "{}: {} shadows {} if it is of this machine: PXELINUX looks for UUID and MAC before the address",
                    order.machine.label(),
                    cfg.path.join(&name).display(),
                    order.file
                ));
            }
        }
    }
    Ok(())
}

/// The files that PXELINUX loads for some machine before the one named after its address, each with the texts that
/// name that machine elsewhere.
fn shadows(cfg: &Folder) -> Result<Vec<(String, Vec<String>)>, Error> {
    let names = cfg.files.list("").map_err(|e| cfg.error("", "list it", &e))?;
    let spellings = |name: &str| match (name.parse::<Uuid>(), name.strip_prefix("01-")) {
        (Ok(uuid), _) => Some(vec![uuid.to_string(), uuid.swapped().to_string()]),
        (_, Some(mac)) => mac.parse::<MacAddr>().ok().map(|mac| vec![mac.to_string()]),
        _ => None,
    };
    Ok(names.into_iter().filter_map(|name| spellings(&name).map(|texts| (name, texts))).collect())
}

/// The machines whose `testbox-info.txt` has one of these texts; none where nobody knows.
fn owners(backup: Option<&Folder>, spellings: &[String]) -> Vec<Ipv4Addr> {
    let Some(share) = backup else { return Vec::new() };
    let folders = share.files.list("").unwrap_or_default();
    let machines = folders.iter().filter_map(|name| name.parse::<Ipv4Addr>().ok());
    let is_owner = |ip: &Ipv4Addr| {
        // A file that cannot be read is one that does not tell.
        let info =
            share.read(&format!("{ip}/testbox-info.txt"), INFO_LIMIT).ok().flatten().unwrap_or_default();
        let info = String::from_utf8_lossy(&info).to_ascii_lowercase();
        spellings.iter().any(|text| info.contains(text))
    };
    machines.filter(is_owner).collect()
}

fn show(cfg: &Folder, orders: &[Order], out: &mut Out) -> Answer {
    for order in orders {
        say(&format!("{}: would be written, nothing was:", cfg.path.join(&order.file).display()));
        out.text(&order.text)?;
    }
    Ok(true)
}

fn write_all(cfg: &Folder, orders: &[Order], action: Action, out: &mut Out) -> Answer {
    // TFTP servers read as somebody else: the file must be 0644 whatever this shell's umask is.
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let mut lines = Vec::new();
    let mut failed = 0;
    for order in orders {
        let (label, path) = (order.machine.label(), cfg.path.join(&order.file));
        match write(cfg, order) {
            Ok(()) => {
                let before = match &order.before {
                    Armed::No => String::new(),
                    Armed::With(what) => format!(", instead of {what}"),
                    Armed::ByHand => ", instead of a hand-made configuration".into(),
                };
                lines.push(format!(
                    "{label}: armed with {action}, job {}{before}: {}",
                    order.job,
                    path.display()
                ));
            }
            Err(e) => {
                failed += 1;
                say(&format!("{label}: NOT armed: {}: cannot write it: {e}", path.display()));
            }
        }
    }
    if orders.len() > 1 {
        lines.push(format!("{} of {} machines armed with {action}", orders.len() - failed, orders.len()));
    }
    for line in lines {
        out.line(line)?;
    }
    Ok(failed == 0)
}

/// Publishes one file: PXELINUX finds the old one or the new one, never a half.
fn write(cfg: &Folder, order: &Order) -> io::Result<()> {
    let temporary = format!(".{}.{}.tmp", order.file, order.job);
    let written = (|| {
        let mut file = cfg.files.create(&temporary)?;
        file.write_all(order.text.as_bytes())?;
        file.sync()?;
        cfg.files.rename(&temporary, &order.file)
    })();
    if let Err(e) = written {
        // The first error is the one that counts.
        let _ = cfg.files.remove(&temporary);
        return Err(e);
    }
    cfg.files.sync_dir("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_are_fresh_and_sort_by_time() {
        let (a, b) = (fresh_job().unwrap(), fresh_job().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), "20171017T142602-0123456789abcdef".len());
        assert!(a.as_str()[..15] <= b.as_str()[..15]);
    }

    #[test]
    fn the_last_word_is_the_action_and_the_only_one() {
        for (text, good) in [
            ("10.0.0.1 backup", true),
            ("a b c restore", true),
            ("backup", false),
            ("10.0.0.1 bakup", false),
            ("10.0.0.1", false),
            ("backup 10.0.0.1", false),
            ("10.0.0.1 backup restore", false),
        ] {
            let split: Vec<String> = text.split(' ').map(str::to_owned).collect();
            assert_eq!(words(&split).is_ok(), good, "{text}");
        }
    }
}
