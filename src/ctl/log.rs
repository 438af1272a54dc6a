//! `log`: the last lines of logs, and those that come.

use super::config::SettingsFile;
use super::machine::MachineNames;
use super::output::Out;
use super::shares::{self, BackupFlag, ShareFolder};
use super::{Answer, Error};
use crate::share::{DirFiles, Files};
use crate::store::layout::{MAINTENANCE_LOG, OUTPUT_LOG};
use crate::store::log::LoggedLine;
use serde_json::json;
use std::io;
use std::thread;
use std::time::Duration;

/// Time between two looks of `--follow`.
const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes that are read at once, and at most of what was there before.
const STEP: u64 = 1 << 20;
/// Longest line that is waited for.
const LINE_LIMIT: usize = 64 << 10;

const AFTER_HELP: &str = "\
Without a machine the log of all machines: when each was armed, began, and what came out. 'testboxctl history' makes a table \
of that. Times are UTC.

Examples:
  testboxctl log tb1
  testboxctl log -f rack3
  testboxctl log --all -n 1000 tb1";

/// Arguments of `log`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Machines, each with its own log [default: the log of all machines]
    #[arg(value_name = "IP|HOST")]
    machines: Vec<String>,
    /// Go on with the lines that come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Begin with so many of the last lines of each log
    #[arg(short = 'n', long, value_name = "N", default_value_t = 40)]
    lines: usize,
    /// The log with everything, not only what matters
    #[arg(long, requires = "machines")]
    all: bool,
    /// For programs: an object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    backup: BackupFlag,
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let names = MachineNames::load(&file)?;
    let machines = names.resolve_all(&args.machines)?;
    let settings = args.backup.or(file);
    let mut share = shares::need_backup_dir(&settings)?;
    share.files = share.files.listed();
    let name = if args.all { OUTPUT_LOG } else { MAINTENANCE_LOG };
    let mut logs: Vec<FollowedLog> = match &machines[..] {
        [] => vec![FollowedLog::new(name.to_owned())],
        machines => {
            machines.iter().map(|machine| FollowedLog::new(format!("{}/{name}", machine.ip))).collect()
        }
    };
    let mut is_there = false;
    for log in &mut logs {
        let Some(lines) = log.last(&share, args.lines)? else { continue };
        is_there = true;
        lines.iter().try_for_each(|line| show(line, args.json, out))?;
    }
    if !args.follow {
        return match is_there {
            true => Ok(true),
            false => Err(Error::failed(format!(
                "{}: there is no such log yet; a machine writes it when it begins its first job",
                share.path.join(logs.first().map_or(name, |log| &log.path)).display()
            ))),
        };
    }
    loop {
        thread::sleep(INTERVAL);
        for log in &mut logs {
            log.new_lines(&share)?.iter().try_for_each(|line| show(line, args.json, out))?;
        }
    }
}

fn show(line: &str, is_json: bool, out: &mut Out) -> Result<(), Error> {
    if !is_json {
        return out.line(line);
    }
    let value = match LoggedLine::parse(line) {
        Some(line) => json!({ "at": line.at, "ip": line.ip, "level": line.level, "text": line.text }),
        None => json!({ "at": null, "ip": null, "level": null, "text": line }),
    };
    out.json(&value, true)
}

/// A log, and how far it was shown.
struct FollowedLog {
    path: String,
    shown: u64,
    /// What is shown as soon as its line has an end.
    rest: Vec<u8>,
}

impl FollowedLog {
    fn new(path: String) -> Self {
        FollowedLog { path, shown: 0, rest: Vec::new() }
    }

    /// Its last lines; `None` where it is not there.
    fn last(&mut self, share: &ShareFolder, lines: usize) -> Result<Option<Vec<String>>, Error> {
        let Some(bytes) = self.read(share, true)? else { return Ok(None) };
        let mut all = self.take_lines(bytes);
        all.drain(..all.len().saturating_sub(lines));
        Ok(Some(all))
    }

    /// What has come since.
    fn new_lines(&mut self, share: &ShareFolder) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        while let Some(bytes) = self.read(share, false)?.filter(|bytes| !bytes.is_empty()) {
            lines.extend(self.take_lines(bytes));
        }
        Ok(lines)
    }

    /// The bytes behind what was shown, or of its end; `None` where there is no log.
    fn read(&mut self, share: &ShareFolder, is_end: bool) -> Result<Option<Vec<u8>>, Error> {
        let read = |files: &DirFiles| -> io::Result<(Vec<u8>, u64)> {
            let file = files.open(&self.path)?;
            let size = file.size()?;
            // A shorter one is another one.
            let from = if self.shown > size { 0 } else { self.shown };
            let from = if is_end { size.saturating_sub(STEP) } else { from };
            let mut bytes = vec![0; usize::try_from((size - from).min(STEP)).unwrap_or(0)];
            file.read_exact_at(&mut bytes, from)?;
            let end = from.saturating_add(bytes.len() as u64);
            if is_end && from > 0 {
                // It begins within a line.
                let start = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1);
                bytes.drain(..start);
            }
            Ok((bytes, end))
        };
        match read(&share.files) {
            Ok((bytes, end)) => {
                if end < self.shown {
                    self.rest.clear();
                }
                self.shown = end;
                Ok(Some(bytes))
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(share.error(&self.path, "read it", &e)),
        }
    }

    /// The lines that have an end by now, without it; one that is too long is cut.
    fn take_lines(&mut self, bytes: Vec<u8>) -> Vec<String> {
        self.rest.extend_from_slice(&bytes);
        let mut lines = Vec::new();
        loop {
            let end = match self.rest.iter().take(LINE_LIMIT).position(|b| *b == b'\n') {
                Some(end) => end + 1,
                None if self.rest.len() > LINE_LIMIT => LINE_LIMIT,
                None => break,
            };
            let line: Vec<u8> = self.rest.drain(..end).collect();
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        lines.retain(|line| !line.is_empty());
        lines
    }
}

/// The end of a log as its whole lines, `limit` bytes of it at most; none where there is none.
pub(super) fn tail(share: &ShareFolder, path: &str, limit: u64) -> Result<String, Error> {
    let read = || -> io::Result<Vec<u8>> {
        let file = share.files.open(path)?;
        let size = file.size()?;
        let from = size.saturating_sub(limit);
        let mut bytes = vec![0; usize::try_from(size - from).unwrap_or(0)];
        file.read_exact_at(&mut bytes, from)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(share.error(path, "read it", &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    #[test]
    fn a_followed_log_shows_each_line_once_and_whole() {
        let temp = tempfile::tempdir().unwrap();
        let share = ShareFolder::open(temp.path()).unwrap();
        let mut log = FollowedLog::new("log".into());
        assert!(log.last(&share, 2).unwrap().is_none());
        let path = temp.path().join("log");
        let add = |text: &str| {
            let mut file = fs::File::options().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        add("a\nb\nc\nd");
        assert_eq!(log.last(&share, 2).unwrap().unwrap(), ["b", "c"]);
        assert!(log.new_lines(&share).unwrap().is_empty(), "it has no end yet");
        add("e\nf\n");
        assert_eq!(log.new_lines(&share).unwrap(), ["de", "f"]);
        // Somebody has begun it anew.
        fs::write(&path, "x\n").unwrap();
        assert_eq!(log.new_lines(&share).unwrap(), ["x"]);
        add(&"y".repeat(100_000));
        add("\nz\n");
        let lines = log.new_lines(&share).unwrap();
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (3, Some("z")));
    }
}
