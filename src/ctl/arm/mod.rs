//! `arm`: writes the PXE configuration that makes machines perform an action at their next reboot.

mod expires;
mod order;
pub(in crate::ctl) mod served;
mod shadow;

use super::armed::{self, Armed};
use super::config::SettingsFile;
use super::history;
use super::machine::{MachineName, MachineNames};
use super::network::{Surroundings, own_addresses};
use super::news::{self, Newsroom};
use super::output::{Out, say, warn};
use super::ownership::{self, Class};
use super::power::{self, PowerAfter};
use super::shares::{self, ShareFolder};
use super::target::ImageTarget;
use super::wait::{self, WaitFlags};
use super::{Answer, Error, keys};
use crate::job::{Action, Options};
use crate::serve::jobs;
use crate::share::Files;
use crate::share::ownership::SERVED_FILE;
use crate::signature::SecretKey;
use crate::store::layout::{STORE, STORE_JOBS};
use crate::store::status::JobState;
use crate::types::{Expiry, JobId, REDACTED, SetHash, Token};
use expires::ExpiresWhen;
use order::{ArmedFile, Servers, initrd, kernel, orders};
pub(super) use order::{fresh_job, who};
use serde_json::{Value, json};
use served::{Served, ServedCheck};
use std::net::Ipv4Addr;
use std::str::FromStr;

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
  testboxctl arm --server 10.42.1.1 --expires 12h 10.42.1.20 backup-again
  testboxctl arm --server 10.42.1.1 --sign-key ~/testbox-lab 10.42.1.20 restore

Reboot the machine to begin, or give --power cycle. It disarms itself when the action is done.";

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
    /// Refuse and disarm a machine that comes later: how long from now, as 12h or 2d, or a time, as 2026-12-01T06:00 (UTC).
    /// The clock of the server that keeps the backups counts
    #[arg(long, value_name = "DURATION|TIME")]
    expires: Option<ExpiresWhen>,
    /// Arm although there is no image to restore, or over a PXE configuration that somebody made by hand
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    settings: SettingsFile,
    /// For programs: machine, job and file of each, on standard output
    #[arg(long)]
    json: bool,
    /// Wait until the jobs have ended: see 'testboxctl wait --help' for the exit codes
    #[arg(long, conflicts_with_all = ["dry_run", "json"])]
    wait: bool,
    #[command(flatten)]
    waiting: WaitFlags,
    /// Switch the power of the machines that were armed: see 'testboxctl power --help'
    #[arg(long, value_name = "ACTION", conflicts_with = "dry_run")]
    power: Option<PowerAfter>,
    /// The job id, where it must be known beforehand
    #[arg(long, hide = true)]
    job: Option<JobId>,
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let (action, machines) = words(&args.words)?;
    let settings = args.settings.or(file);
    settings.check()?;
    settings.check_fixed_address()?;
    let machines = MachineNames::load(&settings)?.resolve_all(machines)?;
    if machines.len() > 1 && (settings.flags.0.name.is_some() || args.job.is_some() || args.set.is_some()) {
        return Err(Error::usage("--name and --set are for one machine: arm the machines one by one"));
    }
    if args.set.is_some() && !matches!(action, Action::Restore | Action::Verify) {
        return Err(Error::usage("--set is for restore and verify"));
    }
    if args.expires.is_some() && action == Action::Rescue {
        return Err(Error::usage(
            "--expires is not for rescue, which waits for no server that could tell it the time: disarm the machine when it is done",
        ));
    }
    // Whose power cannot be switched is told before a machine is armed.
    let power =
        args.power.map(|after| power::before_arming(&settings, &machines).map(|targets| (after, targets)));
    let power = power.transpose()?;
    let servers = Servers::resolve(&settings)?;
    check_addresses(&machines, &servers, &settings)?;
    let key = settings.sign_key.as_deref().map(keys::load_secret).transpose()?;
    let cfg = shares::open_cfg_dir(&settings)?;
    let served = Served::find(&cfg, &settings);
    let backup = shares::open_backup_dir(&settings)?;
    // A server tells its time by a file that is made there.
    let clocks: Vec<&ShareFolder> = backup.iter().chain([&cfg]).filter(|_| !args.dry_run).collect();
    let expires = args.expires.map(|when| when.resolve(&clocks)).transpose()?;
    let what = What { action, job: args.job, set: args.set, expires, key, backup };
    let orders = orders(&cfg, &settings, &what, machines, &servers, &served)?;
    let boot_problems = [kernel(&settings), initrd(&settings)].map(|file| served.boot_problem(file));
    let boot_problems: Vec<String> = boot_problems.into_iter().flatten().collect();
    refusals(&orders, &what, args.force, &boot_problems)?;
    warnings(&cfg, &orders, &what, &boot_problems)?;
    let store = check_store(&settings, what.backup.as_ref())?;
    let lab = ArmLab { store, cfg: &cfg, served: &served, server: servers.boot, force: args.force };
    if args.dry_run {
        return show(&lab, &orders, out);
    }
    // Whoever cannot wait is told before a machine is armed.
    let room = if args.wait { Some(Newsroom::open(&settings)?) } else { None };
    let written = write_all(&lab, &orders);
    if let Some(share) = &what.backup {
        for (order, _) in written.iter().filter(|(_, problem)| problem.is_none()) {
            history::note_armed(share, order.machine.ip, &action.to_string(), order.job.as_str(), &who());
        }
    }
    report(&lab, &written, &what, args.json, out)?;
    let mut is_done = written.iter().all(|(_, problem)| problem.is_none());
    if let Some((after, targets)) = power {
        let armed = written.iter().filter(|(_, problem)| problem.is_none());
        let armed: Vec<Ipv4Addr> = armed.map(|(order, _)| order.machine.ip).collect();
        is_done &= power::after_arming(&settings, targets, &armed, after, args.json, out)?;
    }
    let Some(room) = room else { return Ok(is_done) };
    let armed = written.iter().filter(|(_, problem)| problem.is_none());
    let jobs: Vec<_> = armed.map(|(order, _)| (order.job.clone(), order.machine.ip)).collect();
    let ended = wait::wait(&room, &jobs, &args.waiting, false, out)?;
    Ok(is_done && ended)
}

/// What the machines are to do, beside the settings, and the share where their images are.
struct What {
    action: Action,
    job: Option<JobId>,
    set: Option<SetHash>,
    expires: Option<Expiry>,
    key: Option<SecretKey>,
    backup: Option<ShareFolder>,
}

/// Where the files go.
struct ArmLab<'a> {
    /// The folder of the store, where one keeps the backups.
    store: Option<&'a ShareFolder>,
    cfg: &'a ShareFolder,
    served: &'a Served,
    server: Option<Ipv4Addr>,
    force: bool,
}

/// A store must know each job before its machine boots.
fn check_store<'a>(
    settings: &SettingsFile,
    backup: Option<&'a ShareFolder>,
) -> Result<Option<&'a ShareFolder>, Error> {
    let options = settings.options();
    let Some(url) = &options.store else { return Ok(None) };
    if let Some(share) = &options.backup {
        return Err(Error::usage(format!(
            "--store {url} and --backup {share}: the backups of a machine are in one place; give one of the two"
        )));
    }
    // A token is made for each machine.
    let token = Token::from_str(&"0".repeat(64)).ok();
    let settled = Options { token, ..options.clone() }.settings();
    if let Some(Err(why)) = settled.store() {
        return Err(Error::usage(format!("{why}; 'testboxctl serve' prints what it is")));
    }
    let Some(backup) = backup else {
        return Err(Error::usage(format!(
            "--store {url} needs --backup-dir, the folder that it serves: each job is written down there"
        )));
    };
    Ok(Some(backup))
}

/// Addresses that no machine can have, or with which it would reach nobody.
fn check_addresses(
    machines: &[MachineName],
    servers: &Servers,
    settings: &SettingsFile,
) -> Result<(), Error> {
    let place = Surroundings {
        servers: [servers.shares, servers.boot].into_iter().flatten().collect(),
        gateway: settings.gateway,
        netmask: settings.netmask,
        lab: settings.network,
        own: own_addresses(),
    };
    let mut problems = Vec::new();
    for machine in machines {
        let label = machine.label();
        problems.extend(place.problems(machine.ip).into_iter().map(|what| format!("{label}: {what}")));
    }
    if problems.is_empty() {
        return Ok(());
    }
    problems.push("no machine was armed".into());
    Err(Error::usage(problems.join("\n")))
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

/// What must not be armed. All machines are looked at before the first file is written.
fn refusals(orders: &[ArmedFile], what: &What, force: bool, boot: &[String]) -> Result<(), Error> {
    if force {
        return Ok(());
    }
    let mut problems = boot.to_vec();
    for order in orders {
        let label = order.machine.label();
        if order.before == Armed::ByHand {
            problems.push(format!(
                "{label}: {} is there and is not a testbox job; look at it, then arm with --force to replace it",
                order.file
            ));
        }
        let action = what.action;
        if let Some(share) = what.backup.as_ref().filter(|_| action != Action::Rescue)
            && let Err(e) = shares::refuse_newer(share, &order.machine.ip.to_string())
        {
            problems.push(format!(
                "{label}: {e}; arm with --force where the machine's initrd is of that release"
            ));
        }
        if let (Action::Restore | Action::Verify, Some(share)) = (action, &what.backup)
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
fn warnings(cfg: &ShareFolder, orders: &[ArmedFile], what: &What, boot: &[String]) -> Result<(), Error> {
    boot.iter().for_each(|problem| warn(problem));
    ownership::removal_problem(&cfg.path).iter().for_each(|problem| warn(problem));
    if let Some(share) = &what.backup {
        for order in orders {
            at_work(share, order).iter().for_each(|problem| warn(problem));
        }
    }
    match (what.action, &what.backup) {
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
    let names = cfg.files.list("").map_err(|e| cfg.error("", "list it", &e))?;
    let machines: Vec<_> = orders.iter().map(|order| (order.machine.ip, order.file.clone())).collect();
    let files = what.backup.as_ref().map(|share| &share.files as &dyn Files);
    for warning in shadow::warnings(names, files, &machines) {
        warn(&format!("{}: {warning}", cfg.path.display()));
    }
    Ok(())
}

/// What a machine does at this moment: it goes on with that, and takes the new job when it boots again.
fn at_work(share: &ShareFolder, order: &ArmedFile) -> Option<String> {
    let news = news::read(&share.files, order.machine.ip);
    let now = jiff::Timestamp::now();
    let status = news.status.as_ref().filter(|status| status.state == JobState::Running)?;
    (!news.is_stale(now)).then(|| {
        format!(
            "{}: it is at work: {} ({}); it finishes that first, and takes this job at its next boot",
            order.machine.label(),
            status.action,
            status.step
        )
    })
}

/// Why the file of a machine cannot be written, whatever is in the others.
fn blocked(lab: &ArmLab, order: &ArmedFile) -> Result<(), String> {
    let path = lab.cfg.path.join(&order.file);
    match &order.before {
        Armed::Link(to) if !lab.force => Err(format!(
            "{}: a symbolic link to {to} lies there, which is not a testbox job: look at it, then remove it, or arm with \
             --force to replace the link",
            path.display()
        )),
        Armed::NotAFile => Err(format!(
            "{}: what lies there is not a file: look at it, remove it, and arm again",
            path.display()
        )),
        _ => Ok(()),
    }
}

fn show(lab: &ArmLab, orders: &[ArmedFile], out: &mut Out) -> Answer {
    let mut is_good = true;
    for order in orders {
        if let Err(problem) = blocked(lab, order) {
            is_good = false;
            say(&format!("{}: would NOT be armed: {problem}", order.machine.label()));
            continue;
        }
        say(&format!("{}: would be written, nothing was:", lab.cfg.path.join(&order.file).display()));
        out.text(&redacted_token(order))?;
    }
    Ok(is_good)
}

/// Whoever reads a terminal needs no token.
fn redacted_token(order: &ArmedFile) -> String {
    match &order.stored {
        Some((token, _)) => order.text.replace(token.as_str(), REDACTED),
        None => order.text.clone(),
    }
}

/// Arms all machines, one after the other; of each, why not.
fn write_all<'a>(lab: &ArmLab, orders: &'a [ArmedFile]) -> Vec<(&'a ArmedFile, Option<String>)> {
    let mut written = Vec::new();
    for order in orders {
        let problem = blocked(lab, order).and_then(|()| write(lab, order)).err();
        written.push((order, problem));
    }
    written
}

/// Says what has become of each machine.
fn report(
    lab: &ArmLab,
    written: &[(&ArmedFile, Option<String>)],
    what: &What,
    is_json: bool,
    out: &mut Out,
) -> Result<(), Error> {
    let What { action, expires, .. } = what;
    for (order, problem) in written {
        problem.iter().for_each(|problem| say(&format!("{}: NOT armed: {problem}", order.machine.label())));
    }
    let path = |order: &ArmedFile| lab.cfg.path.join(&order.file);
    if is_json {
        let one = |(order, problem): &(&ArmedFile, Option<String>)| {
            json!({
                "ip": order.machine.ip,
                "name": order.machine.word,
                "action": action.to_string(),
                "job": order.job.as_str(),
                "expires": expires.map(Expiry::at),
                "file": path(order),
                "armed": problem.is_none(),
                "problem": problem,
            })
        };
        return out.json(&Value::Array(written.iter().map(one).collect()), false);
    }
    let armed: Vec<_> = written.iter().filter(|(_, problem)| problem.is_none()).collect();
    for (order, _) in &armed {
        let before = match &order.before {
            Armed::No | Armed::NotAFile => String::new(),
            Armed::With(what) => format!(", instead of {what}"),
            Armed::ByHand => ", instead of a hand-made configuration".into(),
            Armed::Link(to) => format!(", instead of a link to {to}"),
        };
        let label = order.machine.label();
        let until = expires.map(|at| format!(", expires {}", armed::minute(at.at()))).unwrap_or_default();
        out.line(format!(
            "{label}: armed with {action}, job {}{until}{before}: {}",
            order.job,
            path(order).display()
        ))?;
    }
    if written.len() > 1 {
        out.line(format!("{} of {} machines armed with {action}", armed.len(), written.len()))?;
    }
    Ok(())
}

/// Arms one machine.
fn write(lab: &ArmLab, order: &ArmedFile) -> Result<(), String> {
    let (Some(store), Some((token, job))) = (lab.store, &order.stored) else {
        return write_armed(lab, order);
    };
    // The store must know the job before its machine can ask.
    jobs::write(&store.files, token.as_str(), job)
        .map_err(|e| format!("cannot write the job down in {}: {e}", store.path.display()))?;
    // Armed by root, it is still the server's to read.
    for (path, class) in [
        (STORE.to_owned(), Class::BackupFolder),
        (STORE_JOBS.to_owned(), Class::BackupFolder),
        (jobs::path(token.as_str()), Class::BackupFile),
    ] {
        ownership::own(&store.path.join(path), class).map_err(|e| e.to_string())?;
    }
    write_armed(lab, order).inspect_err(|_| {
        // Nobody has the token. What cannot be removed the store sweeps.
        let _ = jobs::remove(&store.files, token.as_str());
    })
}

/// Publishes one file: PXELINUX finds the old one or the new one, never a half. One that no machine would get is removed.
fn write_armed(lab: &ArmLab, order: &ArmedFile) -> Result<(), String> {
    let path = lab.cfg.path.join(&order.file);
    let temporary =
        ImageTarget::create(&lab.cfg.path.join(format!(".{}.{}.tmp", order.file, order.job)), SERVED_FILE)
            .map_err(|e| e.to_string())?;
    let written = ownership::give_armed(&temporary, &lab.cfg.path)
        .and_then(|()| temporary.fill(order.text.as_bytes()))
        .and_then(|()| temporary.replace(&path));
    if let Err(e) = written {
        // The first error is the one that counts.
        temporary.remove();
        return Err(e.to_string());
    }
    match lab.served.check(lab.server, &order.file, &order.text).map_err(|e| e.to_string())? {
        ServedCheck::Proven | ServedCheck::Plausible => Ok(()),
        ServedCheck::Unknown(what) => {
            warn(&format!("{}: {what}", order.machine.label()));
            Ok(())
        }
        ServedCheck::Failed(problem) => match lab.cfg.files.remove(&order.file) {
            Ok(()) => Err(problem),
            Err(e) => Err(format!("{problem}; {} cannot be removed again: {e}", path.display())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
