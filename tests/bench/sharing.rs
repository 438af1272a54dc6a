//! What disks share with those before them: what a server needs for all of them.
//!
//!     cargo bench --bench sharing -- DISK...         cut into runs of each length
//!     cargo bench --bench sharing -- IMAGE.gz...     as they are cut
//!
//! Bytes of image are those of members that no image before has; `testboxctl dedup` has them once. "of 4 KiB" is what
//! blocks of 4 KiB would share, compressed or not: no cutting can do better. Of data, blocks of zeros do not count: they
//! cost nothing, and free space between files is zero in an image.

use anyhow::{Context, Result, bail};
use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;
use testbox::block::RealDisk;
use testbox::image::{BackupOptions, DiskAbout, Image, MemberKind, backup};
use testbox::inventory::Identity;
use testbox::progress::Progress;
use testbox::used::{Used, survey};

const ZEROS: [u8; 4096] = [0; 4096];

/// What the disks before have already, by hash.
#[derive(Default)]
struct Known {
    members: HashSet<[u8; 32]>,
    blocks: HashSet<[u8; 32]>,
}

fn main() -> Result<()> {
    let paths: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    println!(
        "{:<10} {:<24} {:>10} {:>10} {:>9} {:>9} {:>9}",
        "chunk KiB", "disk", "image MB", "new MB", "data MB", "new data", "of 4 KiB"
    );
    match paths.iter().filter(|path| path.ends_with(".gz")).count() {
        0 if !paths.is_empty() => [64u32 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20]
            .into_iter()
            .try_for_each(|chunk_size| table(&paths, |path| image_of(path, chunk_size))),
        images if images > 0 && images == paths.len() => table(&paths, |path| {
            let file = File::open(path).with_context(|| format!("cannot open {path}"))?;
            Ok(Image::open(Arc::new(file))?)
        }),
        _ => bail!("usage: sharing DISK... | IMAGE.gz..."),
    }
}

fn table(paths: &[String], open: impl Fn(&str) -> Result<Image>) -> Result<()> {
    let (mut known, mut sums) = (Known::default(), [0; 5]);
    for path in paths {
        let image = open(path)?;
        let row = known.add(&image)?;
        sums.iter_mut().zip(row).for_each(|(sum, new)| *sum += new);
        print(image.header().chunk_size, path.rsplit('/').next().unwrap_or(path), row);
        print(image.header().chunk_size, "so far", sums);
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

/// An image of what is used of a disk.
fn image_of(path: &str, chunk_size: u32) -> Result<Image> {
    let disk = RealDisk::open_read(path).with_context(|| format!("cannot open {path}"))?;
    let (map, _) = survey(&disk, Used::Auto, &Progress::new());
    let opts = BackupOptions { chunk_size, used: Arc::new(map), ..BackupOptions::default() };
    let about = DiskAbout::new("disk", Identity::default(), &disk);
    let mut file = Vec::new();
    backup(&disk, &mut file, &about, &opts, &Progress::new())?;
    Ok(Image::open(Arc::new(file))?)
}

impl Known {
    /// Bytes of the image, of members that are new, of data, of data in these members, of blocks of 4 KiB that are new.
    fn add(&mut self, image: &Image) -> Result<[u64; 5]> {
        let mut row = [image.summary().image, 0, 0, 0, 0];
        let mut data = Vec::new();
        for run in image.runs() {
            let run = run?;
            if run.kind != MemberKind::Data {
                continue;
            }
            data.clear();
            image.cat(run.range(), &mut data)?;
            let blocks = || data.chunks(4096).filter(|block| **block != ZEROS[..block.len()]);
            let length = blocks().map(|block| block.len() as u64).sum::<u64>();
            row[2] += length;
            if self.members.insert(*run.member_hash.as_bytes()) {
                row[1] += u64::from(run.member_length);
                row[3] += length;
            }
            for block in blocks() {
                if self.blocks.insert(*blake3::hash(block).as_bytes()) {
                    row[4] += block.len() as u64;
                }
            }
        }
        Ok(row)
    }
}
