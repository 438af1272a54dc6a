//! `power`: switches machines on and off, by what the file of machines says of each.

mod child;
mod redfish;
mod setting;

use super::config::SettingsFile;
use super::machine::{self, MachineName, MachineNames};
use super::network::own_addresses;
use super::news::Newsroom;
use super::output::{Out, say};
use super::{Answer, Error};
use crate::boot::machines::{KnownMachine, MACHINES_FILE};
use crate::store::layout::LEASE;
use crate::store::status::JobState;
use crate::types::MacAddr;
use clap::ValueEnum;
use jiff::Timestamp;
use redfish::Redfish;
use serde_json::{Value, json};
use setting::{BmcLogins, PowerWay, PowerWays, filled};
use std::fmt;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Machines that are switched at once, where nobody says otherwise.
const AT_ONCE: usize = 16;
/// How long each may take, in seconds.
const TIMEOUT: u64 = 60;
/// A lease whose holder has shown itself so lately is alive, in seconds.
const LEASE_ALIVE: i64 = 120;
/// The file of passwords, beside that of machines.
const LOGINS_FILE: &str = "bmc.toml";

const AFTER_HELP: &str = "\
How a machine's power is switched stands in /etc/testbox/machines.toml, for itself or for a group:

  [tb1]
  address = \"10.42.1.20\"
  power = { redfish = \"https://10.42.9.20\" }     # or { ipmi = \"10.42.9.20\" }, or { wake = true }

  [groups.rack3]
  power = [\"rack-pdu\", \"--outlet\", \"{name}\", \"{action}\"]

Users and passwords of BMCs stand in bmc.toml beside it, mode 0600, in a table for a machine, a group, or [default].

A machine that is at work is neither switched off nor cycled without --force. Exit code 1: one has failed.

Examples:
  testboxctl power status --all
  testboxctl power cycle tb1 rack3
  testboxctl arm --power cycle --wait tb1 restore";

/// What is done with the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PowerAction {
    /// Switch it on
    On,
    /// Switch it off, hard
    Off,
    /// Off and on again; on where it is off
    Cycle,
    /// Tell whether it is on
    Status,
}

impl fmt::Display for PowerAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PowerAction::On => "on",
            PowerAction::Off => "off",
            PowerAction::Cycle => "cycle",
            PowerAction::Status => "status",
        })
    }
}

/// Arguments of `power`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// What to do
    #[arg(value_enum)]
    action: PowerAction,
    /// Machines of the file of machines, by name, group, range or address
    #[arg(value_name = "IP|HOST", conflicts_with = "all")]
    machines: Vec<String>,
    /// All machines of that file
    #[arg(long)]
    all: bool,
    /// Off or cycle although a machine is at work, or nobody can see whether it is
    #[arg(long)]
    force: bool,
    /// Seconds that each machine may take
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Machines that are switched at once
    #[arg(long, value_name = "N", default_value_t = AT_ONCE as u64, value_parser = clap::value_parser!(u64).range(1..=256))]
    at_once: u64,
    /// For programs
    #[arg(long)]
    json: bool,
    /// Root of the backup share, where it is seen who is at work [default: /export/testbox-backup]
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
}

/// A machine whose power can be switched.
pub(super) struct PowerTarget {
    label: String,
    machine: KnownMachine,
    way: PowerWay,
    login: Option<setting::BmcLogin>,
}

/// What has become of one.
pub(super) struct PowerResult {
    label: String,
    name: String,
    ip: Ipv4Addr,
    /// `on`, `off`, `cycled`, or why not.
    pub result: Result<String, String>,
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let flags = SettingsFile { backup_dir: args.backup_dir, ..SettingsFile::default() };
    let settings = flags.or(file);
    let names = MachineNames::load(&settings)?;
    let machines = match (&args.machines[..], args.all) {
        ([], false) => {
            return Err(Error::usage(
                "no machine is named; nothing was done. All of the file of machines: --all",
            ));
        }
        ([], true) => {
            let one =
                |machine: &KnownMachine| MachineName { ip: machine.address, word: machine.name.clone() };
            names.list().iter().map(one).collect()
        }
        (words, _) => names.resolve_all(words)?,
    };
    let targets = targets(&settings, &names, &machines)?;
    if !args.force {
        refuse_at_work(&settings, &targets, args.action)?;
    }
    let results = switch(&targets, args.action, Duration::from_secs(args.timeout), args.at_once as usize);
    report(&results, args.action, args.json, out)?;
    Ok(results.iter().all(|one| one.result.is_ok()))
}

/// The way to each machine. Nothing is done where one has none.
pub(super) fn targets(
    settings: &SettingsFile,
    names: &MachineNames,
    machines: &[MachineName],
) -> Result<Vec<PowerTarget>, Error> {
    let path = settings.machines.as_deref().unwrap_or(Path::new(MACHINES_FILE));
    let ways =
        machine::text_of(settings)?.map_or_else(|| Ok(PowerWays::default()), |text| PowerWays::parse(&text));
    let ways = ways.map_err(|e| Error::usage(format!("{}: {e}", path.display())))?;
    let logins = BmcLogins::load(&path.with_file_name(LOGINS_FILE))?;
    let (mut targets, mut problems) = (Vec::new(), Vec::new());
    for machine in machines {
        let label = machine.label();
        let Some(known) = names.list().iter().find(|known| known.address == machine.ip) else {
            problems.push(format!("{label}: it is not in {}", path.display()));
            continue;
        };
        match ways.of(known) {
            Err(why) => problems.push(format!("{label}: {why}")),
            Ok(way) => {
                let login = logins.of(known).cloned();
                if matches!(way, PowerWay::Redfish { .. } | PowerWay::Ipmi(..)) && login.is_none() {
                    let file = path.with_file_name(LOGINS_FILE);
                    problems.push(format!(
                        "{label}: no user and password for its BMC: [{}] with user and password in {}, mode 0600",
                        known.name,
                        file.display()
                    ));
                    continue;
                }
                targets.push(PowerTarget { label, machine: known.clone(), way: way.clone(), login });
            }
        }
    }
    if problems.is_empty() && targets.is_empty() {
        problems.push(format!("{} has no machine", path.display()));
    }
    if !problems.is_empty() {
        problems.push("nothing was switched".into());
        return Err(Error::usage(problems.join("\n")));
    }
    Ok(targets)
}

/// Fails where a machine is at work that would be cut off.
fn refuse_at_work(
    settings: &SettingsFile,
    targets: &[PowerTarget],
    action: PowerAction,
) -> Result<(), Error> {
    if !matches!(action, PowerAction::Off | PowerAction::Cycle) {
        return Ok(());
    }
    let room = Newsroom::open(settings).map_err(|e| {
        Error::failed(format!("whether machines are at work cannot be seen: {e}; nothing was switched. --force switches all the same"))
    })?;
    let at_work =
        |target: &PowerTarget| Some(format!("{}: {}", target.label, at_work(&room, target.machine.address)?));
    let mut problems: Vec<String> = targets.iter().filter_map(at_work).collect();
    if problems.is_empty() {
        return Ok(());
    }
    problems.push(format!(
        "nothing was switched; wait for them, or use --force: it cuts them off (power {action})"
    ));
    Err(Error::failed(problems.join("\n")))
}

/// What a machine is doing, by its status or by its lease; nothing for one that does nothing.
fn at_work(room: &Newsroom, ip: Ipv4Addr) -> Option<String> {
    let (news, now) = (room.of(ip), Timestamp::now());
    if let Some(status) = &news.status
        && status.state == JobState::Running
        && !news.is_stale(now)
    {
        return Some(format!("it is at work: {} ({})", status.action, status.step));
    }
    let lease = news.lease.as_ref().filter(|lease| !lease.is_released())?;
    // Each heartbeat adds a byte, so the file's time is that of the last one.
    let path = room.backup.path.join(format!("{ip}/{LEASE}/{}", lease.number));
    let beat = std::fs::metadata(path).and_then(|about| about.modified()).ok()?;
    let beat = Timestamp::try_from(beat).ok()?;
    (now.duration_since(beat).as_secs() < LEASE_ALIVE)
        .then(|| format!("its folder is held by {}", lease.who()))
}

/// Switches all, so many at once.
pub(super) fn switch(
    targets: &[PowerTarget],
    action: PowerAction,
    timeout: Duration,
    at_once: usize,
) -> Vec<PowerResult> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(targets.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Relaxed);
                    let Some(target) = targets.get(at) else { return };
                    let result = one(target, action, Instant::now() + timeout);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    let result = |(target, (_, result)): (&PowerTarget, (usize, Result<String, String>))| PowerResult {
        label: target.label.clone(),
        name: target.machine.name.clone(),
        ip: target.machine.address,
        result,
    };
    targets.iter().zip(done).map(result).collect()
}

fn one(target: &PowerTarget, action: PowerAction, by: Instant) -> Result<String, String> {
    let machine = &target.machine;
    match (&target.way, &target.login) {
        (PowerWay::Command(words), _) => {
            let words = filled(words, &action.to_string(), machine)?;
            let [program, words @ ..] = &words[..] else { return Err("no command".into()) };
            let mut command = Command::new(program);
            command.args(words);
            command.env("TESTBOX_MACHINE", &machine.name).env("TESTBOX_ADDRESS", machine.address.to_string());
            let said = child::run(command, by)?;
            if action != PowerAction::Status {
                return Ok(done(action));
            }
            state_in(&said).ok_or_else(|| "its command says neither on nor off".into())
        }
        (PowerWay::Redfish { url, system, trust }, Some(login)) => {
            Redfish { url, system: system.as_deref(), trust, login, by }.perform(action)
        }
        (PowerWay::Ipmi(host, port), Some(login)) => ipmi(host, *port, login, action, by),
        (PowerWay::Wake, _) => wake(machine, action),
        (PowerWay::Redfish { .. } | PowerWay::Ipmi(..), None) => Err("no user and password".into()),
    }
}

fn done(action: PowerAction) -> String {
    if action == PowerAction::Cycle { "cycled".into() } else { action.to_string() }
}

/// The first word that is `on` or `off`: alone, or as ipmitool has it.
fn state_in(said: &str) -> Option<String> {
    let words = said.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_lowercase);
    words.into_iter().find(|word| word == "on" || word == "off")
}

/// By ipmitool, which takes the password from its environment.
fn ipmi(
    host: &str,
    port: u16,
    login: &setting::BmcLogin,
    action: PowerAction,
    by: Instant,
) -> Result<String, String> {
    let call = |word: &str| {
        let mut command = Command::new("ipmitool");
        command.args(["-I", "lanplus", "-H", host, "-p", &port.to_string(), "-U", &login.user, "-E"]);
        // A question is asked three times in six seconds.
        command.args(["-N", "1", "-R", "3", "chassis", "power", word]);
        command.env("IPMI_PASSWORD", &login.password);
        child::run(command, by)
    };
    let state = || state_in(&call("status")?).ok_or_else(|| "ipmitool says neither on nor off".to_owned());
    match action {
        PowerAction::Status => state(),
        // A machine that is off cannot be cycled.
        PowerAction::Cycle if state()? == "off" => call("on").map(|_| "on".into()),
        _ => call(&action.to_string()).map(|_| done(action)),
    }
}

/// Wake-on-LAN: six bytes of ones, and the card's address sixteen times, to all of its network.
fn wake(machine: &KnownMachine, action: PowerAction) -> Result<String, String> {
    if action != PowerAction::On {
        return Err(format!(
            "Wake-on-LAN can only switch on, not {action}: give it redfish, ipmi or a command"
        ));
    }
    let macs: Vec<MacAddr> = machine.macs.iter().filter_map(|mac| mac.parse().ok()).collect();
    if macs.is_empty() {
        return Err("Wake-on-LAN needs the machine's MAC address, and machines.toml has none".into());
    }
    let network =
        own_addresses().into_iter().find_map(|(_, net)| net.filter(|net| net.contains(machine.address)));
    let to = network.map_or(Ipv4Addr::BROADCAST, |network| network.broadcast());
    let sent = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.set_broadcast(true)?;
        for mac in macs {
            let packet = [[0xff; 6].as_slice(), &mac.0.repeat(16)].concat();
            socket.send_to(&packet, (to, 9))?;
        }
        Ok(())
    });
    sent.map(|()| "woken".into()).map_err(|e| format!("cannot send to {to}: {e}"))
}

/// Says what has become of each.
pub(super) fn report(
    results: &[PowerResult],
    action: PowerAction,
    is_json: bool,
    out: &mut Out,
) -> Result<(), Error> {
    for one in results {
        if let Err(why) = &one.result {
            say(&format!("{}: power {action} has FAILED: {why}", one.label));
        }
    }
    if is_json {
        return out.json(&Value::Array(results.iter().map(PowerResult::json).collect()), false);
    }
    for one in results {
        if let Ok(state) = &one.result {
            out.line(format!("{}: {state}", one.label))?;
        }
    }
    Ok(())
}

impl PowerResult {
    fn json(&self) -> Value {
        json!({
            "ip": self.ip,
            "name": self.name,
            "result": self.result.as_ref().ok(),
            "problem": self.result.as_ref().err(),
        })
    }
}

/// What `arm` does with the power of what it has armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PowerAfter {
    /// Switch it on
    On,
    /// Off and on again
    Cycle,
}

/// Whose power `arm` will switch: found out before anything is armed.
pub(super) fn before_arming(
    settings: &SettingsFile,
    machines: &[MachineName],
) -> Result<Vec<PowerTarget>, Error> {
    targets(settings, &MachineNames::load(settings)?, machines)
}

/// Switches those that are armed; false where one has failed. They stay armed.
pub(super) fn after_arming(
    settings: &SettingsFile,
    targets: Vec<PowerTarget>,
    armed: &[Ipv4Addr],
    after: PowerAfter,
    is_json: bool,
    out: &mut Out,
) -> Answer {
    let action = if after == PowerAfter::On { PowerAction::On } else { PowerAction::Cycle };
    let targets: Vec<PowerTarget> =
        targets.into_iter().filter(|target| armed.contains(&target.machine.address)).collect();
    if let Err(e) = refuse_at_work(settings, &targets, action) {
        say(&format!("{e}\nthe machines stay armed, and take the job at their next boot"));
        return Ok(false);
    }
    let results = switch(&targets, action, Duration::from_secs(TIMEOUT), AT_ONCE);
    // What programs get is one list, of what was armed.
    for one in &results {
        match &one.result {
            Err(why) => {
                say(&format!(
                    "{}: power {action} has FAILED: {why}; it stays armed, and takes the job at its next boot",
                    one.label
                ));
            }
            Ok(state) if !is_json => out.line(format!("{}: {state}", one.label))?,
            Ok(_) => {}
        }
    }
    Ok(results.iter().all(|one| one.result.is_ok()))
}
