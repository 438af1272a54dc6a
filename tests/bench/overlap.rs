//! Backup and restore of a piece of the reference disk where the disk or the link is slow: everything else has to
//! happen meanwhile. Disk and link are memory with a rate, so that nothing else of this computer is measured.
//!
//! The time of the busiest of them alone is the bytes that went through it by its rate; the whole may take 10 % more.
//! Where both are as slow there is no goal: zeros and what does not compress lie in stretches longer than any buffer,
//! and over the one the link waits, over the other the disk.
//! `scripts/bench` starts this, or by hand:
//!
//!     cargo bench --profile dev --bench overlap -- --disk target/bench/reference-*.img

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};
use testbox::block::BlockDevice;
use testbox::image::{
    BackupOptions, DiskAbout, Image, RestoreOptions, backup, restore, verify, verify_against,
};
use testbox::inventory::Identity;
use testbox::io::{ReadAt, SyncWrite};
use testbox::progress::Progress;
use testbox::types::Delta;

/// Bytes of disk, taken in pieces of 4 MiB from all over the reference disk.
const SIZE: usize = 512 << 20;
const PIECE: usize = 4 << 20;
/// What is slow takes this many times as long as all the work that happens meanwhile, and at least so many seconds.
const TIMES: f64 = 4.0;
const SECONDS: f64 = 4.0;
/// The whole may take so much more than the busiest part of it alone.
const GOAL: f64 = 1.10;

/// Something that so many bytes can pass in a second, one after the other.
struct Rate {
    bytes_per_second: f64,
    passed: AtomicU64,
    free: Mutex<Instant>,
}

impl Rate {
    fn new(bytes_per_second: f64) -> Self {
        Rate { bytes_per_second, passed: AtomicU64::new(0), free: Mutex::new(Instant::now()) }
    }

    fn busy(&self) -> Duration {
        Duration::from_secs_f64(self.passed.load(Relaxed) as f64 / self.bytes_per_second)
    }

    fn pass(&self, bytes: usize) {
        self.passed.fetch_add(bytes as u64, Relaxed);
        let through = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            *free =
                (*free).max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
            *free
        };
        sleep(through.saturating_duration_since(Instant::now()));
    }
}

struct SlowDisk {
    bytes: Mutex<Vec<u8>>,
    rate: Rate,
}

impl SlowDisk {
    fn with<T>(&self, offset: u64, len: usize, work: impl FnOnce(&mut [u8]) -> T) -> io::Result<T> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let range = offset as usize..offset as usize + len;
        bytes.get_mut(range).map(work).ok_or(io::ErrorKind::UnexpectedEof.into())
    }
}

impl BlockDevice for SlowDisk {
    fn name(&self) -> &str {
        "slow"
    }

    fn size(&self) -> u64 {
        SIZE as u64
    }

    fn logical_block_size(&self) -> u32 {
        512
    }

    fn physical_block_size(&self) -> u32 {
        4096
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(offset, buf.len(), |bytes| buf.copy_from_slice(bytes))?;
        self.rate.pass(buf.len());
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.with(offset, buf.len(), |bytes| bytes.copy_from_slice(buf))?;
        self.rate.pass(buf.len());
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        self.with(offset, len as usize, |bytes| bytes.fill(0))
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn reread_partition_table(&self) -> io::Result<()> {
        Ok(())
    }
}

/// An image behind a slow link. Each write and read waits until it is through: no help by a cache.
struct SlowFile {
    bytes: Vec<u8>,
    rate: Arc<Rate>,
}

impl Write for SlowFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        self.rate.pass(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SyncWrite for SlowFile {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ReadAt for SlowFile {
    fn size(&self) -> io::Result<u64> {
        self.bytes.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.bytes.read_at(buf, offset)?;
        self.rate.pass(n);
        Ok(n)
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (Some("--disk"), Some(disk)) = (args.next().as_deref(), args.next()) else {
        bail!("usage: overlap --disk DISK")
    };
    let bytes = sample(&disk).with_context(|| format!("cannot read {disk}"))?;
    // As fast as can be: an image to tell the size by, and what the work takes.
    let start = Instant::now();
    let image = back_up("(neither disk nor link is slow)", &bytes, f64::INFINITY, f64::INFINITY)?;
    let seconds = (TIMES * start.elapsed().as_secs_f64()).max(SECONDS);
    let (disk, link, fast) = (SIZE as f64 / seconds, image.len() as f64 / seconds, f64::INFINITY);
    for (name, disk, link) in [
        ("backup of a slow disk", disk, fast),
        ("backup over a slow link", fast, link),
        ("backup, both as slow", disk, link),
    ] {
        back_up(name, &bytes, disk, link)?;
    }
    for (name, disk, link) in [
        ("restore onto a slow disk", 2.0 * disk, fast),
        ("restore over a slow link", fast, link),
        ("verify over a slow link", 0.0, link),
    ] {
        read_back(name, &image, disk, link)?;
    }
    Ok(())
}

fn sample(path: &str) -> Result<Vec<u8>> {
    let disk = File::open(path)?;
    let size = disk.metadata()?.len() as usize;
    let mut bytes = vec![0; SIZE];
    for (i, piece) in bytes.chunks_mut(PIECE).enumerate() {
        ReadAt::read_exact_at(&disk, piece, (i * (size / (SIZE / PIECE)) / 4096 * 4096) as u64)?;
    }
    Ok(bytes)
}

fn back_up(name: &str, bytes: &[u8], disk: f64, link: f64) -> Result<Vec<u8>> {
    let disk = SlowDisk { bytes: Mutex::new(bytes.to_vec()), rate: Rate::new(disk) };
    let link = Arc::new(Rate::new(link));
    let mut file = SlowFile { bytes: Vec::with_capacity(SIZE), rate: link.clone() };
    let about = DiskAbout::new("slow", Identity::default(), &disk);
    let start = Instant::now();
    backup(&disk, &mut file, &about, &BackupOptions::default(), &Progress::new())?;
    tell(name, start, &disk.rate, &link);
    Ok(file.bytes)
}

/// Restores the image, or verifies it where there is no disk.
fn read_back(name: &str, image: &[u8], disk: f64, link: f64) -> Result<()> {
    let link = Arc::new(Rate::new(link));
    let image = Image::open(Arc::new(SlowFile { bytes: image.to_vec(), rate: link.clone() }))?;
    let target = SlowDisk { bytes: Mutex::new(vec![0x55; SIZE]), rate: Rate::new(disk.max(1.0)) };
    let start = Instant::now();
    if disk == 0.0 {
        verify(&image, 0, &Progress::new())?;
        tell(name, start, &target.rate, &link);
    } else {
        let options = RestoreOptions { delta: Delta::Never, ..RestoreOptions::default() };
        restore(&image, &target, &options, &Progress::new())?;
        tell(name, start, &target.rate, &link);
        let fast = SlowDisk { bytes: target.bytes, rate: Rate::new(f64::INFINITY) };
        verify_against(&image, &fast, 0, &Progress::new())?;
    }
    Ok(())
}

fn tell(name: &str, start: Instant, disk: &Rate, link: &Rate) {
    let wall = start.elapsed();
    let busiest = disk.busy().max(link.busy());
    let verdict = match wall.as_secs_f64() / busiest.as_secs_f64() {
        times if times.is_infinite() => String::new(),
        times if disk.busy().min(link.busy()) > busiest / 2 => format!("{times:.2}x"),
        times => format!("{times:.2}x, {}", if times <= GOAL { "met" } else { "MISSED" }),
    };
    println!(
        "{name:<34} {:>6.2} s; disk alone {:>6.2} s, link alone {:>6.2} s  {verdict}",
        wall.as_secs_f64(),
        disk.busy().as_secs_f64(),
        link.busy().as_secs_f64(),
    );
}
