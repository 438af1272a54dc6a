//! Backup and restore of one reference disk by the original's commands, by the usual tools, and by this project, all
//! in one run and taking turns. `scripts/bench` makes the disk and starts this.
//!
//! Every command starts with a cold page cache and ends when its result is durable.

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the ext4 of the reference disk starts, in bytes; see `make-disk`.
const PARTITION: u64 = 4096 * 512;
/// Blocks of 512 bytes at the end of the disk that belong to the backup GPT.
const BACKUP_GPT: u64 = 33 * 512;
/// Goals: at least this much faster than the original, within this memory.
const BACKUP_GOAL: f64 = 8.0;
const RESTORE_GOAL: f64 = 3.0;
const MEMORY_GOAL_KIB: u64 = 256 * 1024;

/// One row of a table. In commands `$DISK`, `$TARGET` are whole disks, `$PART`, `$PART_TARGET` loop devices of their
/// ext4, `$IMAGE` is the row's image and `$CTL` this project's program.
struct Row {
    name: &'static str,
    /// Rows of the same image share this name.
    image: &'static str,
    command: &'static str,
    /// How the result is checked, once.
    check: Check,
}

#[derive(Clone, Copy, PartialEq)]
enum Check {
    /// Nothing to check.
    None,
    /// The whole target equals the disk.
    SameDisk,
    /// The target's ext4 is sound; blocks that it does not use may differ.
    SoundExt4,
}

const ORIGINAL: &str = "dd bs=256K | gzip -c (original)";
const OURS: &str = "testboxctl image create (and verify)";
const ORIGINAL_BACK: &str = "gunzip -c | dd (original)";
const OURS_BACK: &str = "testboxctl image restore (and read back)";

const BACKUP: &[Row] = &[
    row("(only reading the disk)", "", "dd if=$DISK of=/dev/null bs=1M iflag=direct"),
    row(ORIGINAL, "original", "dd if=$DISK bs=256K | gzip -c >$IMAGE && sync $IMAGE"),
    row("pigz -1", "pigz", "pigz -1 -c <$DISK >$IMAGE && sync $IMAGE"),
    row("igzip -1", "igzip", "igzip -1 -c <$DISK >$IMAGE && sync $IMAGE"),
    row(
        "partclone | zstd -1 -T2 (ext4 only)",
        "partclone",
        "partclone.ext4 -c -L $IMAGE.log -s $PART -o - | zstd -q -1 -T2 -c >$IMAGE && sync $IMAGE",
    ),
    row(OURS, "testbox", "$CTL image create $DISK $IMAGE"),
];

const RESTORE: &[Row] = &[
    row(
        "(only writing a disk)",
        "",
        "dd if=/dev/zero of=$TARGET bs=1M count=4096 oflag=direct conv=notrunc,fsync",
    ),
    Row {
        check: Check::SameDisk,
        ..row(ORIGINAL_BACK, "original", "gunzip -c <$IMAGE | dd of=$TARGET bs=256K conv=notrunc,fsync")
    },
    Row {
        check: Check::SameDisk,
        ..row("pigz -dc | dd", "pigz", "pigz -dc <$IMAGE | dd of=$TARGET bs=256K conv=notrunc,fsync")
    },
    Row {
        check: Check::SoundExt4,
        ..row(
            "zstd -dc | partclone (ext4 only)",
            "partclone",
            "zstd -q -dc <$IMAGE | partclone.ext4 -r -L $IMAGE.log -s - -o $PART_TARGET && sync $PART_TARGET && sync $TARGET",
        )
    },
    Row { check: Check::SameDisk, ..row(OURS_BACK, "testbox", "$CTL image restore $IMAGE $TARGET") },
];

const fn row(name: &'static str, image: &'static str, command: &'static str) -> Row {
    Row { name, image, command, check: Check::None }
}

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
    part_target: Loop,
    size: u64,
}

fn main() -> Result<()> {
    let [mut runs, mut disk, mut work, mut ctl] = [const { None }; 4];
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let place = match arg.as_str() {
            "--runs" => &mut runs,
            "--disk" => &mut disk,
            "--work" => &mut work,
            "--testboxctl" => &mut ctl,
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
    let (part, part_target) = (Loop::new(&disk, size, true)?, Loop::new(&target, size, false)?);
    let bench = Bench { disk, target, work, ctl, part, part_target, size };

    println!("Disk of {:.2} GB, {runs} run(s), cold page cache, results made durable.", size as f64 / 1e9);
    let backup = bench.table("Backup", BACKUP, runs)?;
    print_goal("backup", &backup, ORIGINAL, OURS, BACKUP_GOAL);
    let restore = bench.table("Restore (onto a disk full of other data)", RESTORE, runs)?;
    print_goal("restore", &restore, ORIGINAL_BACK, OURS_BACK, RESTORE_GOAL);
    println!("CPU: user and system of all processes. Memory: the largest process of a pipe.");
    let others = ["target.img", "time.txt", "partclone.image.log"].map(|name| bench.work.join(name));
    for file in BACKUP.iter().map(|row| bench.image(row)).chain(others) {
        let _ = fs::remove_file(file);
    }
    let failed = [backup, restore].iter().flatten().filter(|(_, result)| result.is_none()).count();
    ensure!(failed == 0, "{failed} rows failed");
    Ok(())
}

impl Bench {
    /// Runs every row `runs` times, taking turns so that a slow spell of the host hits all, and prints the medians.
    fn table(&self, title: &str, rows: &[Row], runs: usize) -> Result<Vec<(&'static str, Option<Sample>)>> {
        let mut samples: Vec<Result<Vec<Sample>>> = rows.iter().map(|_| Ok(Vec::new())).collect();
        for run in 0..runs {
            for (row, taken) in rows.iter().zip(&mut samples) {
                let Ok(list) = taken else { continue };
                eprint!("\r\x1b[K{title}, run {}: {}", run + 1, row.name);
                match self.sample(row, run == 0) {
                    Ok(sample) => list.push(sample),
                    Err(e) => *taken = Err(e),
                }
            }
        }
        eprint!("\r\x1b[K");
        let first = rows.iter().position(|row| row.image == "original").unwrap_or_default();
        let original = samples.get(first).and_then(|s| s.as_ref().ok()).map(|list| median(list).seconds);
        println!(
            "\n{title:<42} {:>8} {:>7} {:>8} {:>9} {:>9} {:>8}",
            "wall s", "MB/s", "CPU s", "RSS MiB", "image MB", "ratio"
        );
        let mut results = Vec::new();
        for (row, taken) in rows.iter().zip(&samples) {
            let result = match taken {
                Ok(list) => {
                    let m = median(list);
                    let image = fs::metadata(self.image(row)).map_or(0.0, |data| data.len() as f64 / 1e6);
                    println!(
                        "{:<42} {:>8.1} {:>7.0} {:>8.1} {:>9.1} {:>9.1} {:>7.1}x",
                        row.name,
                        m.seconds,
                        self.size as f64 / 1e6 / m.seconds,
                        m.cpu,
                        m.rss_kib as f64 / 1024.0,
                        image,
                        original.map_or(f64::NAN, |o| o / m.seconds),
                    );
                    Some(m)
                }
                Err(e) => {
                    println!("{:<42} failed: {e:#}", row.name);
                    None
                }
            };
            results.push((row.name, result));
        }
        Ok(results)
    }

    fn sample(&self, row: &Row, first: bool) -> Result<Sample> {
        let restores = row.command.contains("TARGET");
        if restores {
            self.dirty_target()?;
        } else if !row.image.is_empty() {
            let _ = fs::remove_file(self.image(row));
        }
        Command::new("sync").status()?;
        fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop the page cache")?;
        let sample = self.run(row)?;
        if first {
            self.check(row)?;
        }
        Ok(sample)
    }

    fn image(&self, row: &Row) -> PathBuf {
        self.work.join(format!("{}.image", row.image))
    }

    fn run(&self, row: &Row) -> Result<Sample> {
        let report = self.work.join("time.txt");
        let output = Command::new("/usr/bin/time")
            .args(["--quiet", "-f", "%e %U %S %M", "-o"])
            .arg(&report)
            .args(["bash", "-o", "pipefail", "-c", row.command])
            .env("DISK", &self.disk)
            .env("TARGET", &self.target)
            .env("PART", &self.part.device)
            .env("PART_TARGET", &self.part_target.device)
            .env("IMAGE", self.image(row))
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
        Ok(Sample { seconds, cpu: user + system, rss_kib: rss as u64 })
    }

    /// Fills the target with data that no disk has, so that nothing on it is right by chance.
    fn dirty_target(&self) -> Result<()> {
        let mut file = OpenOptions::new().write(true).open(&self.target)?;
        let pattern: Vec<u8> =
            (0..4u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 | 1).collect();
        for _ in 0..self.size / pattern.len() as u64 {
            file.write_all(&pattern)?;
        }
        Ok(file.sync_all()?)
    }

    fn check(&self, row: &Row) -> Result<()> {
        match row.check {
            Check::None => Ok(()),
            Check::SameDisk => {
                let (mut a, mut b) = (File::open(&self.disk)?, File::open(&self.target)?);
                let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
                for at in (0..self.size).step_by(left.len()) {
                    a.read_exact(&mut left)?;
                    b.read_exact(&mut right)?;
                    ensure!(left == right, "restored disk differs within 1 MiB from byte {at}");
                }
                Ok(())
            }
            Check::SoundExt4 => {
                let output = Command::new("e2fsck").args(["-fn", &self.part_target.device]).output()?;
                ensure!(output.status.success(), "restored ext4 is damaged");
                Ok(())
            }
        }
    }
}

/// A loop device over the ext4 of a disk, detached when dropped.
struct Loop {
    device: String,
}

impl Loop {
    fn new(disk: &Path, size: u64, read_only: bool) -> Result<Loop> {
        let length = size.checked_sub(PARTITION + BACKUP_GPT).context("the disk is too small")?;
        let mut command = Command::new("losetup");
        command.args([
            "--find",
            "--show",
            "--offset",
            &PARTITION.to_string(),
            "--sizelimit",
            &length.to_string(),
        ]);
        if read_only {
            command.arg("--read-only");
        }
        let output = command.arg(disk).output().context("cannot run losetup")?;
        ensure!(output.status.success(), "losetup: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Loop { device: String::from_utf8(output.stdout)?.trim().to_owned() })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(e) = Command::new("losetup").args(["--detach", &self.device]).status() {
            eprintln!("{} stays attached: {e}", self.device);
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

fn print_goal(what: &str, results: &[(&str, Option<Sample>)], original: &str, ours: &str, goal: f64) {
    let of = |name: &str| results.iter().find(|(row, _)| *row == name).and_then(|(_, sample)| *sample);
    let (Some(original), Some(ours)) = (of(original), of(ours)) else { return };
    let ratio = original.seconds / ours.seconds;
    let verdict = |met: bool| if met { "met" } else { "MISSED" };
    println!(
        "Goal: {what} {goal} times as fast as the original: {ratio:.1}, {}; memory under {} MiB: {:.1}, {}",
        verdict(ratio >= goal),
        MEMORY_GOAL_KIB / 1024,
        ours.rss_kib as f64 / 1024.0,
        verdict(ours.rss_kib < MEMORY_GOAL_KIB),
    );
}
