//! What disks share with those before them, for each length of runs: what a server needs for all of them.
//!
//!     cargo bench --bench sharing -- DISK...
//!
//! Bytes of image are those of members that no image before has; `testboxctl dedup` has them once. "of 4 KiB" is what
//! blocks of 4 KiB would share, compressed or not: no cutting can do better.

use anyhow::{Context, Result, bail};
use std::collections::HashSet;
use std::sync::Arc;
use testbox::block::{BlockDevice, RealDisk};
use testbox::image::{BackupOptions, DiskAbout, Image, MemberKind, backup};
use testbox::inventory::Identity;
use testbox::progress::Progress;
use testbox::used::{Used, survey};

fn main() -> Result<()> {
    let disks: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if disks.is_empty() {
        bail!("usage: sharing DISK...")
    }
    println!(
        "{:<10} {:<24} {:>10} {:>10} {:>9} {:>9} {:>9}",
        "chunk KiB", "disk", "image MB", "new MB", "data MB", "new data", "of 4 KiB"
    );
    for chunk_size in [64u32 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20] {
        let (mut members, mut blocks, mut sums) = (HashSet::new(), HashSet::new(), [0; 5]);
        for path in &disks {
            let row = image_of(path, chunk_size, &mut members, &mut blocks)?;
            print(chunk_size, path, row);
            sums.iter_mut().zip(row).for_each(|(sum, new)| *sum += new);
        }
        print(chunk_size, "all", sums);
    }
    Ok(())
}

fn print(chunk_size: u32, name: &str, row: [u64; 5]) {
    let [image, new, data, new_data, bound] = row.map(|bytes| bytes as f64 / 1e6);
    println!(
        "{:<10} {name:<24} {image:>10.1} {new:>10.1} {data:>9.1} {new_data:>9.1} {bound:>9.1}",
        chunk_size >> 10
    );
}

/// Bytes of the image, of members that are new, of data, of data in these members, of blocks of 4 KiB that are new.
fn image_of(
    path: &str,
    chunk_size: u32,
    members: &mut HashSet<[u8; 32]>,
    blocks: &mut HashSet<[u8; 32]>,
) -> Result<[u64; 5]> {
    let disk = RealDisk::open_read(path).with_context(|| format!("cannot open {path}"))?;
    let (map, _) = survey(&disk, Used::Auto, &Progress::new());
    let opts = BackupOptions { chunk_size, used: Arc::new(map), ..BackupOptions::default() };
    let about = DiskAbout::new("disk", Identity::default(), &disk);
    let mut file = Vec::new();
    backup(&disk, &mut file, &about, &opts, &Progress::new())?;
    let image = Image::open(Arc::new(file))?;
    let mut row = [image.summary().image, 0, 0, 0, 0];
    let mut buf = vec![0; chunk_size as usize];
    for run in image.runs() {
        let run = run?;
        if run.kind != MemberKind::Data {
            continue;
        }
        row[2] += run.length;
        if members.insert(*run.member_hash.as_bytes()) {
            row[1] += u64::from(run.member_length);
            row[3] += run.length;
        }
        let bytes = &mut buf[..run.length as usize];
        disk.read_at(bytes, run.offset)?;
        for block in bytes.chunks(4096) {
            if blocks.insert(*blake3::hash(block).as_bytes()) {
                row[4] += block.len() as u64;
            }
        }
    }
    Ok(row)
}
