//! `verify`: reads published sets again, those first that were proven longest ago.

use super::config::SettingsFile;
use super::image::show;
use super::images;
use super::machine::MachineNames;
use super::many;
use super::output::{Out, is_quiet, warn};
use super::ownership::{self, Class};
use super::sets::{ListedImage, ListedSet, SetShare};
use super::shares::{self, BackupFlag};
use super::table::{minute, short, since};
use super::{Answer, Error};
use crate::block::FileId;
use crate::image::{ErrorKind, Image, scrub, verify};
use crate::progress::Progress;
use crate::serve::verified::{VerifiedSet, VerifiedSets};
use crate::share::{DirFiles, Files};
use crate::store::layout::{RECORD, STORE, STORE_PROVEN, STORE_VERIFIED};
use crate::store::record::RECORD_LIMIT;
use crate::store::{Folder, publish};
use crate::sys::is_ending;
use crate::text::{human_bytes, with_sources};
use crate::types::SetHash;
use jiff::Timestamp;
use rustix::fs::FlockOperation;
use serde_json::json;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often what was found is written down.
const SAVE: Duration = Duration::from_secs(10);
/// Longest note of a store's proof in bytes.
const PROVEN_LIMIT: usize = 4096;

const AFTER_HELP: &str = "\
Each byte of an image is read from the disk and compared with its hash: what was whole when it was made is whole then. \
--inflate also inflates it, which takes several times as long. Images that several sets have are read once. What is damaged is \
noted beside the image, counts as no good set any more, is shown by 'status' and 'images', and makes the exit code 1; a note about \
an image that turns out whole is taken back. No lease is taken: backups and restores go on.

The units testbox-verify.service and .timer do this every night: systemctl enable --now testbox-verify.timer

Examples:
  testboxctl verify tb1
  testboxctl verify --all --older-than 30d --at-most 8h";

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Machines
    #[arg(value_name = "IP|HOST", conflicts_with = "all")]
    machines: Vec<String>,
    /// All machines
    #[arg(long)]
    all: bool,
    /// Only sets that were proven longer ago, as 30d
    #[arg(long, value_name = "TIME", value_parser = time)]
    older_than: Option<Duration>,
    /// Stop after this time, as 8h; the next run goes on with what was proven longest ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    at_most: Option<Duration>,
    /// Inflate all of it, too
    #[arg(long)]
    inflate: bool,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    backup: BackupFlag,
}

/// `90s`, `20m`, `8h`, `30d`.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a time such as 90s, 20m, 8h or 30d");
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|n| is_number && *n < 1 << 32).ok_or_else(wrong)?;
    Ok(Duration::from_secs(number.saturating_mul(unit)))
}

/// What is to be read.
struct DueSet {
    ip: Ipv4Addr,
    set: ListedSet,
    /// When somebody has proven it last; none where that is not known.
    proven: Option<Timestamp>,
}

/// What was found of an image.
#[derive(Clone)]
enum FoundImage {
    Whole,
    /// What is wrong, and whether that is damage or only an error of reading.
    Bad(String, bool),
    /// The time is over, or somebody has ended the program.
    Ended,
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    if args.machines.is_empty() && !args.all {
        return Err(Error::usage(
            "which sets? Name machines, or say --all; --at-most 8h bounds how long it reads",
        ));
    }
    let names = MachineNames::load(&file)?;
    let settings = args.backup.or(file);
    let share = shares::need_backup_dir(&settings)?;
    let machines = images::machines(&names, &args.machines, &share)?;
    let files: Arc<dyn Files> =
        Arc::new(DirFiles::open(&share.path).map_err(|e| share.error("", "open it", &e))?);
    let failed = |e: io::Error| share.error(STORE_VERIFIED, "write down there what is found", &e);
    let is_new = files.list(STORE).is_err();
    files.make_dir(STORE).map_err(failed)?;
    if is_new {
        ownership::own(&share.path.join(STORE), Class::BackupFolder)?;
    }
    let lock = File::open(share.path.join(STORE)).map_err(failed)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error::failed(format!(
            "{}: another 'testboxctl verify' reads this share: wait for it",
            share.path.display()
        ))
    })?;
    let mut verified = VerifiedSets::load(&*files).map_err(failed)?;
    let listed = SetShare::open(&share)?;
    let found = listed.all(&machines);
    if args.all {
        let there: HashSet<String> =
            found.iter().flat_map(|machine| &machine.sets).map(|set| set.set.to_string()).collect();
        verified.keep_only(|set| there.contains(set));
    }
    let problems: Vec<String> = found
        .iter()
        .flat_map(|machine| machine.problems.iter().map(move |what| format!("{}: {what}", machine.ip)))
        .collect();
    let all: Vec<(Ipv4Addr, ListedSet)> = found
        .into_iter()
        .flat_map(|machine| machine.sets.into_iter().map(move |set| (machine.ip, set)))
        .collect();
    let now = Timestamp::now();
    let due = due(&files, &verified, all, args.older_than, now);
    let run = VerifyRun {
        files: files.clone(),
        end: args.at_most.map(|limit| Instant::now() + limit),
        is_inflating: args.inflate,
        seen: RefCell::default(),
    };
    let (mut bad, mut json_sets, mut whole, mut saved) = (0, Vec::new(), 0, Instant::now());
    let mut left = due.len();
    for due in &due {
        let began = Instant::now();
        let Some(damaged) = run.set(due) else { break };
        left -= 1;
        let Some(damaged) = damaged else { continue };
        let label = format!("{} set {}", due.ip, due.set.generation);
        let (seconds, room) = (began.elapsed().as_secs_f64(), due.set.room());
        if damaged.is_empty() {
            whole += 1;
            if !args.json && !is_quiet() {
                out.line(format!(
                    "{label}: whole, {}, {}",
                    human_bytes(room),
                    show::speed(room, began.elapsed())
                ))?;
            }
        } else {
            bad += 1;
            damaged.iter().for_each(|what| warn(&format!("{label}: {what}")));
        }
        json_sets.push(json!({
            "ip": due.ip, "generation": due.set.generation, "set": due.set.set.to_string(),
            "whole": damaged.is_empty(), "damaged": damaged, "room_bytes": room, "seconds": seconds,
        }));
        let is_news = !damaged.is_empty();
        let (ip, dir, generation) = (due.ip, due.set.dir.clone(), due.set.generation);
        verified.note(&due.set.set, VerifiedSet { ip, dir, generation, at: Timestamp::now(), damaged });
        if is_news || saved.elapsed() >= SAVE {
            verified.save(&*files).map_err(failed)?;
            saved = Instant::now();
        }
    }
    verified.save(&*files).map_err(failed)?;
    ownership::own(&share.path.join(STORE_VERIFIED), Class::BackupFile)?;
    problems.iter().for_each(|what| warn(what));
    let oldest = due.get(due.len() - left).and_then(|due| due.proven);
    if args.json {
        let all = json!({ "sets": json_sets, "left": left, "oldest_proof": oldest, "problems": problems });
        out.json(&all, false)?;
    } else {
        let oldest = match (left, oldest) {
            (0, _) => String::new(),
            (_, Some(at)) => format!(
                "; {left} are left for the next time, the oldest proof of {} ({})",
                minute(at),
                short(since(at, now))
            ),
            (_, None) => format!("; {left} are left for the next time, some of them never proven"),
        };
        out.line(format!("{whole} sets whole, {bad} damaged{oldest}"))?;
    }
    if is_ending() {
        return Err(Error::failed(
            "interrupted: what was found until now is written down; the next run goes on",
        ));
    }
    Ok(bad == 0 && problems.is_empty())
}

/// What is to be read, that first which was proven longest ago.
fn due(
    files: &Arc<dyn Files>,
    verified: &VerifiedSets,
    all: Vec<(Ipv4Addr, ListedSet)>,
    older_than: Option<Duration>,
    now: Timestamp,
) -> Vec<DueSet> {
    let has_store = files.list(STORE_PROVEN).is_ok_and(|proven| !proven.is_empty());
    let proven = many::each(&all, |(_, set)| {
        let again = verified.of(&set.set).map(|found| found.at);
        // On a share without a store the machine itself has proven it when it published it.
        let published = if has_store { proven_by_store(&**files, &set.set) } else { Some(set.finished) };
        again.max(published)
    });
    let mut due: Vec<DueSet> =
        all.into_iter().zip(proven).map(|((ip, set), proven)| DueSet { ip, set, proven }).collect();
    due.retain(|due| {
        let age = due.proven.map_or(Duration::MAX, |at| since(at, now));
        older_than.is_none_or(|limit| age > limit)
    });
    due.sort_by_key(|due| (due.proven, due.ip, due.set.generation));
    due
}

/// When a store has proven a set, as its note says: an address and a time.
fn proven_by_store(files: &dyn Files, set: &SetHash) -> Option<Timestamp> {
    let note = files.read_limited(&format!("{STORE_PROVEN}/{set}"), PROVEN_LIMIT).ok()?;
    String::from_utf8_lossy(&note).split_whitespace().nth(1)?.parse().ok()
}

/// One run over the sets.
struct VerifyRun {
    files: Arc<dyn Files>,
    /// When it is over.
    end: Option<Instant>,
    is_inflating: bool,
    /// Images that were read already.
    seen: RefCell<HashMap<FileId, FoundImage>>,
}

impl VerifyRun {
    /// What is wrong with the images of a set, and notes that beside them. `Some(None)`: it is gone; `None`: the time is over.
    fn set(&self, due: &DueSet) -> Option<Option<Vec<String>>> {
        let folder = Folder::new(self.files.clone(), due.ip.to_string());
        let at = |name: &str| match due.set.dir.as_str() {
            "" => name.to_owned(),
            dir => format!("{dir}/{name}"),
        };
        let is_there = || {
            let record = self.files.read_limited(&folder.path(&at(RECORD)), RECORD_LIMIT);
            record.is_ok_and(|bytes| SetHash::of(&bytes) == due.set.set)
        };
        let mut damaged = Vec::new();
        for image in &due.set.images {
            let path = at(&image.file);
            let known = image.place.and_then(|(id, _)| self.seen.borrow().get(&id).cloned());
            let found = known.unwrap_or_else(|| self.image(&folder, &path, image, due));
            if let Some((id, _)) = image.place {
                self.seen.borrow_mut().insert(id, found.clone());
            }
            match found {
                FoundImage::Ended => return None,
                // A set that moves is another folder's by now: the next run reads it there.
                _ if !is_there() => return Some(None),
                FoundImage::Whole => {
                    if image.is_damaged
                        && let Err(e) = publish::clear(&folder, &path)
                    {
                        warn(&format!("{}: cannot take back that it is damaged: {e}", folder.path(&path)));
                    }
                }
                FoundImage::Bad(why, is_damage) => {
                    let marked = if is_damage {
                        publish::mark(&folder, &path, &image.root_hash, &why)
                    } else {
                        Ok(())
                    };
                    if let Err(e) = marked {
                        warn(&format!("{}: cannot note that it is damaged: {e}", folder.path(&path)));
                    }
                    damaged.push(format!("{}: {why}", image.file));
                }
            }
        }
        Some(Some(damaged))
    }

    fn image(&self, folder: &Folder, path: &str, image: &ListedImage, due: &DueSet) -> FoundImage {
        if is_ending() || self.end.is_some_and(|end| Instant::now() >= end) {
            return FoundImage::Ended;
        }
        let opened = match self.files.open(&folder.path(path)) {
            Ok(file) => Image::open(file),
            Err(e) => return FoundImage::Bad(format!("cannot be opened: {e}"), false),
        };
        let progress = Progress::new();
        let label = format!("{} set {} {}", due.ip, due.set.generation, image.name);
        let work = || {
            let opened = opened?;
            if opened.summary().root_hash != image.root_hash {
                return Ok(false);
            }
            let read =
                if self.is_inflating { verify(&opened, 0, &progress) } else { scrub(&opened, 0, &progress) };
            read.map(|_| true)
        };
        match show::timed_until(&label, &progress, self.end, work).0 {
            Ok(true) => FoundImage::Whole,
            Ok(false) => FoundImage::Bad(format!("it is not the image that {RECORD} names"), false),
            Err(e) if e.kind == ErrorKind::Cancelled => FoundImage::Ended,
            Err(e) => FoundImage::Bad(with_sources(&e), e.kind == ErrorKind::Corrupt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::MemFiles;

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("20m", 1200), ("8h", 28_800), ("30d", 2_592_000), ("0s", 0)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "8", "h", "-1h", "1.5h", "8h ", "\u{e4}", "99999999999d"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    /// Read again, proven by a store, never proven: the longest ago comes first, and what is younger not at all.
    #[test]
    fn what_was_proven_longest_ago_comes_first() {
        let at = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let set = |n: u64, day| ListedSet {
            generation: n,
            dir: String::new(),
            finished: at(day),
            job: None,
            set: SetHash::of(&n.to_le_bytes()),
            is_signed: false,
            is_pinned: false,
            is_imported: false,
            images: Vec::new(),
        };
        let all =
            || [(1, 1), (2, 2), (3, 3), (4, 4)].map(|(n, day)| (Ipv4Addr::LOCALHOST, set(n, day))).to_vec();
        let mem = MemFiles::new();
        let mut verified = VerifiedSets::default();
        let found = VerifiedSet {
            ip: Ipv4Addr::LOCALHOST,
            dir: String::new(),
            generation: 1,
            at: at(50),
            damaged: Vec::new(),
        };
        verified.note(&SetHash::of(&1u64.to_le_bytes()), found);
        let order = |files: &MemFiles, days: u64| {
            let files: Arc<dyn Files> = Arc::new(files.clone());
            let limit = Duration::from_secs(days * 86_400);
            let due = due(&files, &verified, all(), Some(limit), at(60));
            due.iter().map(|due| due.set.generation).collect::<Vec<_>>()
        };
        assert_eq!(order(&mem, 0), [2, 3, 4, 1]);
        assert_eq!(order(&mem, 30), [2, 3, 4]);
        // Once there is a store, only its word counts.
        mem.put(
            &format!("{STORE_PROVEN}/{}", SetHash::of(&3u64.to_le_bytes())),
            format!("10.0.0.1 {}\n", at(40)),
        );
        assert_eq!(order(&mem, 0), [2, 4, 3, 1]);
    }
}
