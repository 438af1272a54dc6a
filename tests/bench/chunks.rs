//! What the chunk size costs and saves: image size, work, and what a small change costs in the next image.
//!
//!     cargo bench --bench chunks -- --disk target/bench/reference-*.img
//!
//! `scripts/bench` makes that disk. Work is CPU time, which other work on the same computer changes little.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use testbox::block::{BlockDevice, RealDisk};
use testbox::image::{BackupOptions, DiskAbout, Earlier, Image, MemberKind, backup_again, verify};
use testbox::inventory::Identity;
use testbox::progress::Progress;

/// Blocks of 4096 bytes that change between two images, anywhere in data.
const CHANGES: usize = 1000;
const BLOCK: u64 = 4096;

/// A disk of which some blocks hold something else than it says.
struct Changed<'a> {
    disk: &'a RealDisk,
    blocks: BTreeSet<u64>,
}

impl BlockDevice for Changed<'_> {
    fn name(&self) -> &str {
        self.disk.name()
    }

    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn logical_block_size(&self) -> u32 {
        self.disk.logical_block_size()
    }

    fn physical_block_size(&self) -> u32 {
        self.disk.physical_block_size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.read_at(buf, offset)?;
        let end = offset + buf.len() as u64;
        for block in self.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)) {
            let at = (block * BLOCK).max(offset);
            let changed = &mut buf[(at - offset) as usize..(end.min((block + 1) * BLOCK) - offset) as usize];
            changed.iter_mut().for_each(|byte| *byte ^= 0x5a);
        }
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn write_zeroes(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.disk.drop_cache()
    }

    fn reread_partition_table(&self) -> io::Result<()> {
        Ok(())
    }

    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.disk.next_data(from)
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (Some("--disk"), Some(path)) = (args.next().as_deref(), args.next()) else {
        bail!("usage: chunks --disk DISK")
    };
    let disk = RealDisk::open_read(&path).with_context(|| format!("cannot open {path}"))?;
    println!(
        "{:<10} {:>9} {:>12} {:>12} {:>8} {:>22}",
        "chunk KiB", "image MB", "backup CPU s", "verify CPU s", "index MB", "MB for 1000 x 4 KiB"
    );
    for chunk_size in [256u32 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20] {
        let opts = BackupOptions { chunk_size, ..BackupOptions::default() };
        let (image, backup_cpu) = image_of(&disk, &opts, &Earlier::default())?;
        let before = cpu()?;
        verify(&image, 0, &Progress::new())?;
        let verify_cpu = cpu()? - before;
        let image = Arc::new(image);
        let (mut data, mut members) = (Vec::new(), 0);
        for run in image.runs() {
            let run = run?;
            members += u64::from(run.member_length);
            if run.kind == MemberKind::Data {
                data.push(run.range());
            }
        }
        let changed = Changed { disk: &disk, blocks: blocks(&data) };
        let earlier = Earlier { base: Some(image.clone()), ..Earlier::default() };
        let (again, _) = image_of(&changed, &opts, &earlier)?;
        println!(
            "{:<10} {:>9.1} {:>12.2} {:>12.2} {:>8.2} {:>22.1}",
            chunk_size >> 10,
            image.summary().image as f64 / 1e6,
            backup_cpu,
            verify_cpu,
            (image.summary().image - members) as f64 / 1e6,
            made_anew(&image, &again)? as f64 / 1e6,
        );
    }
    Ok(())
}

fn image_of(disk: &dyn BlockDevice, opts: &BackupOptions, earlier: &Earlier) -> Result<(Image, f64)> {
    let about = DiskAbout::new("disk", Identity::default(), disk);
    let mut bytes = Vec::with_capacity(disk.size() as usize);
    let before = cpu()?;
    backup_again(disk, &mut bytes, &about, opts, earlier, &Progress::new())?;
    let used = cpu()? - before;
    Ok((Image::open(Arc::new(bytes))?, used))
}

/// Blocks evenly spread over the data, the same ones for every chunk size but for what lies in zeros.
fn blocks(data: &[Range<u64>]) -> BTreeSet<u64> {
    let total: u64 = data.iter().map(|range| range.end - range.start).sum();
    let step = total / CHANGES as u64;
    let (mut blocks, mut next, mut seen) = (BTreeSet::new(), step / 2, 0);
    for range in data {
        while next < seen + (range.end - range.start) {
            blocks.insert((range.start + next - seen) / BLOCK);
            next += step;
        }
        seen += range.end - range.start;
    }
    blocks
}

/// Bytes of the new image that are not members of the old one.
fn made_anew(old: &Image, new: &Image) -> Result<u64> {
    let known: BTreeSet<[u8; 32]> =
        old.runs().map(|run| Ok(*run?.member_hash.as_bytes())).collect::<Result<_>>()?;
    new.runs().try_fold(0, |sum, run| {
        let run = run?;
        let is_new = !known.contains(run.member_hash.as_bytes());
        Ok(sum + if is_new { u64::from(run.member_length) } else { 0 })
    })
}

/// CPU seconds of this process so far (proc(5): utime and stime, in hundredths).
fn cpu() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    Ok((ticks(11).zip(ticks(12)).map(|(user, system)| user + system).context("no CPU time")?) / 100.0)
}
