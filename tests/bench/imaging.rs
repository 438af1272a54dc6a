//! Backup and restore of one reference disk by the original's commands, by the usual tools, and by this project, all
//! in one run and taking turns. `scripts/bench` makes the disk and starts this.
//!
//! Every command starts with a cold page cache and ends when its result is durable.

mod disks;
mod reads;
mod rows;

use anyhow::{Context, Result, bail, ensure};
use disks::{Loop, change, changed, fill, hash, move_bytes, same};
use rows::{Check, Goal, Row, TABLES, Table, Target};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

/// Where the ext4 of the reference disk starts, in bytes; see `make-disk`.
const PARTITION: u64 = 4096 * 512;
/// Bytes at the end of the disk that belong to the backup GPT.
const BACKUP_GPT: u64 = 33 * 512;
/// Thousandths of the disk that changed since the base image.
const CHANGED: u64 = 10;

/// What one command took.
#[derive(Clone, Copy)]
struct Sample {
    seconds: f64,
    cpu: f64,
    rss_kib: u64,
}

struct Bench {
    disk: PathBuf,
    target: PathBuf,
    work: PathBuf,
    ctl: PathBuf,
    part: Loop,
    size: u64,
}

fn main() -> Result<()> {
    let [mut runs, mut only, mut disk, mut work, mut ctl] = [const { None }; 5];
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let place = match arg.as_str() {
            "--runs" => &mut runs,
            "--only" => &mut only,
            "--disk" => &mut disk,
            "--work" => &mut work,
            "--testboxctl" => &mut ctl,
            // Some of the rows are this program.
            "--move" => {
                let mut path = || args.next().context("--move wants an image and a disk");
                return move_bytes(&path()?, &path()?);
            }
            "--hash" => return hash(&args.next().context("--hash wants a disk")?),
            // Given by cargo.
            "--bench" => continue,
            other => bail!("unknown argument {other}"),
        };
        *place = Some(args.next().with_context(|| format!("{arg} wants a value"))?);
    }
    let runs: usize = runs.as_deref().unwrap_or("3").parse().context("--runs")?;
    ensure!(runs > 0, "--runs must be at least 1");
    let path = |value: Option<String>, name: &str| {
        let value = value.with_context(|| format!("{name} is missing: start this by scripts/bench"))?;
        fs::canonicalize(&value).with_context(|| value)
    };
    let (disk, work, ctl) = (path(disk, "--disk")?, path(work, "--work")?, path(ctl, "--testboxctl")?);
    let size = fs::metadata(&disk)?.len();
    let target = work.join("target.img");
    File::create(&target)?.set_len(size)?;
    let part = Loop::new(&disk, size, true, PARTITION, BACKUP_GPT)?;
    let bench = Bench { disk, target, work, ctl, part, size };

    println!("Disk of {:.2} GB, {runs} run(s), cold page cache, results made durable.", size as f64 / 1e9);
    let mut missed = 0;
    for table in TABLES {
        let is_wanted =
            only.as_deref().is_none_or(|word| table.title.to_lowercase().contains(&word.to_lowercase()));
        let wants = |file: &str| is_wanted && table.rows.iter().any(|row| row.command.contains(file));
        if wants("$BASE") {
            bench.make_base()?;
        }
        if wants("$USED") {
            bench.make_used()?;
        }
        // Other tables use the images of the first one.
        if is_wanted || table.title == "Backup" && !bench.has_images() {
            let results = bench.table(table, runs)?;
            missed += results.iter().filter(|(_, result)| result.is_none()).count();
            table.goals.iter().for_each(|goal| print_goal(goal, &results));
        }
    }
    println!("\nCPU: user and system of all processes. Memory: the largest process of a pipe.");
    let rows = TABLES.iter().flat_map(|table| table.rows).map(|row| bench.image(row));
    if only.is_none() {
        let others = ["target.img", "time.txt", "base.image", "used.raw", "used.raw.log"]
            .map(|name| bench.work.join(name));
        rows.chain(others).for_each(|file| drop(fs::remove_file(file)));
    }
    ensure!(missed == 0, "{missed} rows failed");
    Ok(())
}

impl Bench {
    /// The image of the disk before a part of it changed.
    fn make_base(&self) -> Result<()> {
        let base = self.work.join("base.image");
        if base.exists() {
            return Ok(());
        }
        change(&self.disk, &self.target, CHANGED)?;
        let status = Command::new(&self.ctl)
            .args(["image", "create", "--used", "off"])
            .arg(&self.target)
            .arg(&base)
            .output()?
            .status;
        ensure!(status.success(), "cannot make the base image");
        Ok(())
    }

    /// The bytes that the ext4 uses, one after the other, as partclone gives them.
    fn make_used(&self) -> Result<()> {
        let used = self.work.join("used.raw");
        if !used.exists() {
            let log = self.work.join("used.raw.log");
            let mut partclone = Command::new("partclone.ext4");
            partclone.args(["-c", "-s", &self.part.device, "-L"]).arg(log).arg("-o").arg(&used);
            ensure!(partclone.output()?.status.success(), "partclone failed");
            let len = fs::metadata(&used)?.len();
            File::options().write(true).open(&used)?.set_len(len.next_multiple_of(4096))?;
        }
        Ok(())
    }

    fn has_images(&self) -> bool {
        ["original", "pigz", "zstd", "testbox"]
            .iter()
            .all(|name| self.work.join(format!("{name}.image")).exists())
    }

    /// Runs every row `runs` times, taking turns so that a slow spell of the host hits all, and prints the medians.
    fn table(&self, table: &Table, runs: usize) -> Result<Vec<(&'static str, Option<Sample>)>> {
        let Table { title, rows, .. } = table;
        let mut samples: Vec<Result<Vec<Sample>>> = rows.iter().map(|_| Ok(Vec::new())).collect();
        for run in 0..runs {
            for (row, taken) in rows.iter().zip(&mut samples) {
                let Ok(list) = taken else { continue };
                eprint!("\r\x1b[K{title}, run {}: {}", run + 1, row.name);
                match self.sample(row, *title == "Backup" || row.image == "again", run == 0) {
                    Ok(sample) => list.push(sample),
                    Err(e) => *taken = Err(e),
                }
            }
        }
        eprint!("\r\x1b[K");
        let first = rows.iter().position(|row| row.image == "original").unwrap_or_default();
        let against = samples.get(first).and_then(|s| s.as_ref().ok()).map(|list| median(list).seconds);
        println!(
            "\n{title:<44} {:>7} {:>6} {:>7} {:>8} {:>9} {:>7}",
            "wall s", "MB/s", "CPU s", "RSS MiB", "image MB", "speed"
        );
        let mut results = Vec::new();
        for (row, taken) in rows.iter().zip(&samples) {
            let result = match taken {
                Ok(list) => {
                    let m = median(list);
                    let image = fs::metadata(self.image(row)).map_or(0.0, |data| data.len() as f64 / 1e6);
                    println!(
                        "{:<44} {:>7.2} {:>6.0} {:>7.1} {:>8.1} {:>9.1} {:>6.2}x",
                        row.name,
                        m.seconds,
                        self.size as f64 / 1e6 / m.seconds,
                        m.cpu,
                        m.rss_kib as f64 / 1024.0,
                        image,
                        against.map_or(f64::NAN, |o| o / m.seconds),
                    );
                    Some(m)
                }
                Err(e) => {
                    println!("{:<44} failed: {e:#}", row.name);
                    None
                }
            };
            results.push((row.name, result));
        }
        Ok(results)
    }

    fn sample(&self, row: &Row, makes_image: bool, first: bool) -> Result<Sample> {
        match row.target {
            Target::Other => fill(&self.target, self.size)?,
            Target::Changed(thousandths) => change(&self.disk, &self.target, thousandths)?,
            Target::None
                if makes_image && row.command.contains(">$IMAGE") || row.command.contains("image create") =>
            {
                let _ = fs::remove_file(self.image(row));
            }
            Target::None => {}
        }
        Command::new("sync").status()?;
        fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop the page cache")?;
        let (sample, said) = self.run(row)?;
        if first {
            self.check(row, &said)?;
        }
        Ok(sample)
    }

    fn image(&self, row: &Row) -> PathBuf {
        self.work.join(format!("{}.image", row.image))
    }

    /// The ext4 of the target. Only while it is needed: testboxctl restores onto no file that a loop device is of.
    fn part_target(&self) -> Result<Loop> {
        Loop::new(&self.target, self.size, false, PARTITION, BACKUP_GPT)
    }

    fn run(&self, row: &Row) -> Result<(Sample, String)> {
        let part_target = row.command.contains("$PART_TARGET").then(|| self.part_target()).transpose()?;
        let report = self.work.join("time.txt");
        let this = std::env::current_exe()?;
        let this = this.display();
        let output = Command::new("/usr/bin/time")
            .args(["--quiet", "-f", "%e %U %S %M", "-o"])
            .arg(&report)
            .args(["bash", "-o", "pipefail", "-c", row.command])
            .env("DISK", &self.disk)
            .env("TARGET", &self.target)
            .env("PART", &self.part.device)
            .env("PART_TARGET", part_target.as_ref().map_or("", |part| &part.device))
            .env("IMAGE", self.image(row))
            .env("USED", self.work.join("used.raw"))
            .env("BASE", self.work.join("base.image"))
            .env("HASH", format!("{this} --hash"))
            .env("MOVE", format!("{this} --move"))
            .env("CTL", &self.ctl)
            .output()
            .context("cannot run /usr/bin/time")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let tail: Vec<&str> = said.lines().rev().take(3).collect();
            bail!("{}: {}", output.status, tail.into_iter().rev().collect::<Vec<_>>().join(" / "));
        }
        let text = fs::read_to_string(&report)?;
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [seconds, user, system, rss] = numbers[..] else { bail!("time said {text:?}") };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((Sample { seconds, cpu: user + system, rss_kib: rss as u64 }, said))
    }

    fn check(&self, row: &Row, said: &str) -> Result<()> {
        match row.check {
            Check::None => Ok(()),
            Check::SameDisk => {
                if let Target::Changed(thousandths) = row.target {
                    reads::tell(row.name, &self.image(row), said, &changed(self.size, thousandths))?;
                }
                same(&self.disk, &self.target)
            }
            Check::SoundExt4 => {
                let part_target = self.part_target()?;
                let output = Command::new("e2fsck").args(["-fn", &part_target.device]).output()?;
                ensure!(output.status.success(), "restored ext4 is damaged");
                Ok(())
            }
        }
    }
}

/// Median of each figure by itself; `samples` is never empty.
fn median(samples: &[Sample]) -> Sample {
    let middle = |figure: fn(&Sample) -> f64| {
        let mut figures: Vec<f64> = samples.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Sample {
        seconds: middle(|s| s.seconds),
        cpu: middle(|s| s.cpu),
        rss_kib: middle(|s| s.rss_kib as f64) as u64,
    }
}

fn print_goal(goal: &Goal, results: &[(&str, Option<Sample>)]) {
    let of = |name: &str| results.iter().find(|(row, _)| *row == name).and_then(|(_, sample)| *sample);
    let (Some(theirs), Some(ours)) = (of(goal.theirs), of(goal.ours)) else { return };
    let times = theirs.seconds / ours.seconds;
    let verdict = if times >= goal.times { "met" } else { "MISSED" };
    println!("Goal: {} {:.2} times as fast as {}: {times:.2}, {verdict}", goal.ours, goal.times, goal.theirs);
}
