//! `watch`: the lab on a terminal, as it changes; a line for each change where there is no terminal.

mod screen;
mod terminal;

use super::config::SettingsFile;
use super::log::tail;
use super::machine::MachineNames;
use super::news::{NewsFlags, Newsroom, StatusNews, Urgency, age};
use super::output::Out;
use super::{Answer, Error, status};
use crate::store::layout::MAINTENANCE_LOG;
use crate::sys::{is_ending, note_ending_signals};
use crate::text::{ascii, plain};
use jiff::Timestamp;
use screen::{ScreenView, WatchRow, WatchState, page, render};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;
use terminal::WatchTerminal;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long keys are waited for before it is looked for news.
const KEYS: Duration = Duration::from_millis(100);
/// Bytes of the end of a log that are shown.
const LOG: u64 = 64 << 10;

const AFTER_HELP: &str = "\
On a terminal: machines in trouble first, then those at work and those that are armed; the others are a number, until 'a' shows \
them. Keys: j, k and arrows select; d or Enter shows details, l the log; s sorts by state, address, age or progress; / filters; \
q or Ctrl-C ends it. NO_COLOR leaves colours out.

Elsewhere, also through a server: a line for each machine that is not quiet, then one for each change.

Examples:
  testboxctl watch
  testboxctl watch rack3 | tee watch.log
  testboxctl watch --once";

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Machines [default: all that have a folder]
    #[arg(value_name = "IP|HOST")]
    machines: Vec<String>,
    /// One look, as lines; exit code 1 where a machine is in trouble
    #[arg(long)]
    once: bool,
    /// For programs: an object for each change
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    folders: NewsFlags,
}

impl Args {
    /// `status --watch`.
    pub fn of_status(args: status::Args) -> Args {
        Args { machines: args.machines, once: false, json: args.json, folders: args.folders }
    }
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let names = MachineNames::load(&file)?;
    let named: Vec<Ipv4Addr> = names.resolve_all(&args.machines)?.into_iter().map(|m| m.ip).collect();
    let room = Newsroom::open(&args.folders.or(file))?;
    let known: BTreeMap<Ipv4Addr, String> =
        names.list().iter().map(|machine| (machine.address, machine.name.clone())).collect();
    if !args.once && !args.json && io::stdout().is_terminal() && io::stdin().is_terminal() {
        return on_terminal(room, named, known);
    }
    let mut changes = Changes { said: BTreeMap::new(), known, is_json: args.json };
    loop {
        let (news, now) = (room.all(&named)?, Timestamp::now());
        if changes.said.is_empty() && news.is_empty() && !args.json {
            out.line("no machine has a folder on the backup share yet")?;
        }
        changes.show(&news, now, out)?;
        if args.once {
            return Ok(!news.iter().any(|news| news.is_in_trouble(now)));
        }
        thread::sleep(INTERVAL);
    }
}

fn row(news: &StatusNews, known: &BTreeMap<Ipv4Addr, String>, now: Timestamp) -> WatchRow {
    let mut cells = status::row(news, now);
    if let Some(name) = known.get(&news.ip) {
        cells[1].clone_from(name);
    }
    let status = news.status.as_ref();
    let done = status.map_or(0, |status| status.bytes_done.saturating_mul(100) / status.bytes_total.max(1));
    WatchRow {
        ip: news.ip,
        urgency: news.urgency(now),
        cells,
        what: ascii(&news.what(now)),
        done,
        age: status.map_or(u64::MAX, |status| age(status, now).as_secs()),
        details: status::details(news, now),
    }
}

/// What was said of each machine.
struct Changes {
    said: BTreeMap<Ipv4Addr, [String; 3]>,
    known: BTreeMap<Ipv4Addr, String>,
    is_json: bool,
}

impl Changes {
    /// Says what is new: state, action, or the reason.
    fn show(&mut self, all: &[StatusNews], now: Timestamp, out: &mut Out) -> Result<(), Error> {
        let is_first = self.said.is_empty();
        for news in all {
            let row = row(news, &self.known, now);
            let words = [row.cells[2].clone(), row.cells[3].clone(), row.what.clone()];
            let before = self.said.insert(news.ip, words.clone());
            if before.as_ref() == Some(&words) || is_first && row.urgency == Urgency::Quiet {
                continue;
            }
            let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let [state, action, what] = words;
            if self.is_json {
                let name = self.known.get(&news.ip);
                let value = json!({ "at": at, "ip": news.ip, "name": name, "state": state, "action": action, "what": what });
                out.json(&value, true)?;
                continue;
            }
            let name = row.cells[1].as_str();
            let name = if name == "-" { String::new() } else { format!(" ({name})") };
            let what = if what.is_empty() { what } else { format!(": {what}") };
            out.line(format!("{at} {}{name}: {state} {action}{what}", news.ip))?;
        }
        self.said.retain(|ip, _| all.iter().any(|news| news.ip == *ip));
        Ok(())
    }
}

/// What a look has given: rows and, where one was asked for, the lines of a log.
type Look = Result<(Vec<WatchRow>, Vec<String>), String>;

/// Looks in a thread of its own: a share that does not answer must not hold up keys.
fn look(
    room: Newsroom,
    named: Vec<Ipv4Addr>,
    known: BTreeMap<Ipv4Addr, String>,
    asked: Receiver<Option<Ipv4Addr>>,
    looks: Sender<Look>,
) {
    let mut log_of = None;
    loop {
        let now = Timestamp::now();
        let look = room.all(&named).map(|news| {
            let rows = news.iter().map(|news| row(news, &known, now)).collect();
            let log = log_of.map(|ip: Ipv4Addr| tail(&room.backup, &format!("{ip}/{MAINTENANCE_LOG}"), LOG));
            let log = log.and_then(Result::ok).unwrap_or_default();
            (rows, log.lines().map(plain).collect())
        });
        if looks.send(look.map_err(|e| e.to_string())).is_err() {
            return;
        }
        match asked.recv_timeout(INTERVAL) {
            Ok(ip) => log_of = ip,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn on_terminal(room: Newsroom, named: Vec<Ipv4Addr>, known: BTreeMap<Ipv4Addr, String>) -> Answer {
    let failed =
        |e: io::Error| Error::failed(format!("cannot use this terminal: {e}; 'watch | cat' shows lines"));
    let (ask, asked) = channel();
    let (looks, looked) = channel();
    let work = move || look(room, named, known, asked, looks);
    thread::Builder::new().name("look".into()).spawn(work).map_err(failed)?;
    note_ending_signals();
    let mut terminal = WatchTerminal::open().map_err(failed)?;
    let (mut state, mut log_of) = (WatchState::new(), None);
    while !is_ending() {
        while let Ok(look) = looked.try_recv() {
            match look {
                Ok((rows, log)) => {
                    state.looked = Timestamp::now().strftime("%H:%M:%S UTC").to_string();
                    (state.rows, state.log) = (rows, log);
                }
                Err(e) => state.looked = format!("NOT READABLE: {}", plain(&e)),
            }
        }
        let size = terminal.size();
        terminal.show(&render(&state, size)).map_err(failed)?;
        if let Some(key) = terminal.key(KEYS).map_err(failed)?
            && !state.press(key, page(size))
        {
            break;
        }
        let wanted = match state.view {
            ScreenView::Log(ip) => Some(ip),
            _ => None,
        };
        if wanted != log_of {
            log_of = wanted;
            // Where the thread is gone its last look says why.
            let _ = ask.send(wanted);
        }
    }
    Ok(true)
}
