//! Disks to measure on.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, ScopedJoinHandle};
use testbox::block::{AlignedBuf, BlockDevice, RealDisk};
use testbox::image::{Image, MemberKind, Run};

/// Fills the target with data that no disk has, so that nothing on it is right by chance.
pub fn fill(target: &Path, size: u64) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(target)?;
    let pattern: Vec<u8> = (0..4u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 | 1).collect();
    for _ in 0..size / pattern.len() as u64 {
        file.write_all(&pattern)?;
    }
    Ok(file.sync_all()?)
}

/// Makes the target the disk, but for so many thousandths of it: pieces of 256 KiB, anywhere (the same ones each time).
pub fn change(disk: &Path, target: &Path, thousandths: u64) -> Result<()> {
    fs::copy(disk, target)?;
    let file = OpenOptions::new().write(true).open(target)?;
    for (at, state) in pieces(file.metadata()?.len(), thousandths) {
        let piece: Vec<u8> =
            (0..PIECE as u32).map(|i| (i.wrapping_mul(40_503) >> 8) as u8 ^ state as u8).collect();
        file.write_all_at(&piece, at)?;
    }
    Ok(file.sync_all()?)
}

const PIECE: u64 = 256 << 10;

/// Where so many thousandths of a disk of `size` bytes are changed.
pub fn changed(size: u64, thousandths: u64) -> Vec<Range<u64>> {
    pieces(size, thousandths).map(|(at, _)| at..at + PIECE).collect()
}

fn pieces(size: u64, thousandths: u64) -> impl Iterator<Item = (u64, u64)> {
    let next = |state: &u64| {
        Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    let states = std::iter::successors(next(&1), next).take((size * thousandths / 1000 / PIECE) as usize);
    states.map(move |state| ((state >> 16) % ((size - PIECE) / 4096) * 4096, state))
}

/// Reads a whole disk past the page cache and hashes it in chunks of 1 MiB, several at a time.
pub fn hash(disk: &str) -> Result<()> {
    const CHUNK: u64 = 1 << 20;
    let disk = RealDisk::open_read(disk)?;
    let next = Mutex::new(0);
    let work = || -> Result<()> {
        let mut buf = AlignedBuf::new(CHUNK as usize);
        loop {
            let at = {
                let mut next = next.lock().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
                let at = *next;
                *next += CHUNK;
                at
            };
            if at >= disk.size() {
                return Ok(());
            }
            let len = CHUNK.min(disk.size() - at) as usize;
            disk.read_at(&mut buf[..len], at)?;
            std::hint::black_box(blake3::hash(&buf[..len]));
        }
    };
    thread::scope(|scope| join((0..5).map(|_| scope.spawn(work)).collect()))
}

fn join(threads: Vec<ScopedJoinHandle<'_, Result<()>>>) -> Result<()> {
    threads.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
}

/// Moves what a restore moves that reads back: every data member out of the image, as many bytes as it stands for onto
/// the disk, and those back again, 256 MiB behind. Nothing is computed: about what the disk alone allows.
pub fn move_bytes(image: &str, disk: &str) -> Result<()> {
    const BEHIND: usize = 256;
    let file = RealDisk::open_read(image)?;
    let image = Image::open(Arc::new(File::open(image)?))?;
    let disk = RealDisk::open_write(disk)?;
    let data = |run: &Result<Run, _>| run.as_ref().map_or(true, |run: &Run| run.kind == MemberKind::Data);
    let runs = image.runs().filter(data).collect::<Result<Vec<_>, _>>()?;
    let [writing, reading, written] = [const { AtomicUsize::new(0) }; 3];
    let failed = AtomicBool::new(false);
    let write_all = || -> Result<()> {
        let mut buf = AlignedBuf::new(2 << 20);
        while let Some(run) = runs.get(writing.fetch_add(1, SeqCst)) {
            file.read_at(&mut buf[..run.member_length as usize], run.position)?;
            disk.write_at(&buf[..run.length as usize], run.offset)?;
            written.fetch_add(1, SeqCst);
        }
        Ok(())
    };
    let write = || write_all().inspect_err(|_| failed.store(true, SeqCst));
    let read = || -> Result<()> {
        let mut buf = AlignedBuf::new(2 << 20);
        loop {
            let next = reading.fetch_add(1, SeqCst);
            let Some(run) = runs.get(next) else { return Ok(()) };
            // A writer that failed adds nothing any more.
            while written.load(SeqCst) < (next + BEHIND).min(runs.len()) && !failed.load(SeqCst) {
                thread::sleep(std::time::Duration::from_millis(1));
            }
            disk.read_at(&mut buf[..run.length as usize], run.offset)?;
        }
    };
    thread::scope(|scope| {
        let writers = (0..3).map(|_| scope.spawn(write)).collect::<Vec<_>>();
        join((0..3).map(|_| scope.spawn(read)).chain(writers).collect())
    })?;
    Ok(disk.flush()?)
}

/// Compares two disks, byte by byte.
pub fn same(a: &Path, b: &Path) -> Result<()> {
    let size = fs::metadata(a)?.len();
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for at in (0..size).step_by(left.len()) {
        a.read_exact(&mut left)?;
        b.read_exact(&mut right)?;
        ensure!(left == right, "restored disk differs within 1 MiB from byte {at}");
    }
    Ok(())
}

/// A loop device over a partition of a disk, detached when dropped.
pub struct Loop {
    pub device: String,
}

impl Loop {
    /// Over what lies between byte `start` and the last `tail` bytes of a disk of `size` bytes.
    pub fn new(disk: &Path, size: u64, read_only: bool, start: u64, tail: u64) -> Result<Loop> {
        let length = size.checked_sub(start + tail).context("the disk is too small")?;
        let mut command = Command::new("losetup");
        command.args([
            "--find",
            "--show",
            "--offset",
            &start.to_string(),
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
