//! Real file systems, made and changed by e2fsprogs. No privileges: they are plain files.

mod doubts;
mod honest;
mod hostile;

use super::super::{About, Doubt, Free, Volume};
use super::superblock::Super;
use crate::io::ReadAt;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::NamedTempFile;

/// Runs a tool of e2fsprogs; it must be there.
fn tool(name: &str, args: &[&str]) -> Output {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(name);
    command.args(args).env("PATH", path).env("LC_ALL", "C").env("E2FSPROGS_FAKE_TIME", "1700000000");
    command.output().unwrap_or_else(|e| panic!("{name} (package e2fsprogs): {e}"))
}

/// What it says where it succeeds.
fn ok(name: &str, args: &[&str]) -> String {
    let output = tool(name, args);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {} {err}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A file system in a file.
struct Image(NamedTempFile);

impl Image {
    /// `size` as mke2fs takes it; `None` where mke2fs refuses these options.
    fn try_make(options: &str, size: &str) -> Option<Self> {
        let image = Image(NamedTempFile::new().unwrap());
        let mut args = vec!["-q", "-F", "-L", "testbox"];
        args.extend(options.split_whitespace());
        args.extend([image.path(), size]);
        tool("mke2fs", &args).status.success().then_some(image)
    }

    fn make(options: &str, size: &str) -> Self {
        Image::try_make(options, size).unwrap_or_else(|| panic!("mke2fs refuses {options} {size}"))
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    /// debugfs exits with 0 whatever happens, but then it says something on stderr behind its version.
    fn debugfs(&self, commands: &str) {
        let script = NamedTempFile::new().unwrap();
        std::fs::write(script.path(), commands).unwrap();
        let output = tool("debugfs", &["-w", "-f", script.path().to_str().unwrap(), self.path()]);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && err.lines().count() <= 1, "{commands}: {err}");
    }

    fn parse(&self) -> Result<Vec<Range<u64>>, Doubt> {
        parse(self.0.as_file()).map(|found| found.expect("it is one").1)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.0.path()).unwrap()
    }

    fn superblock(&self) -> Super {
        superblock_of(&self.bytes())
    }

    /// What dumpe2fs counts as free, in bytes.
    fn dumped(&self) -> Vec<Range<u64>> {
        let text = ok("dumpe2fs", &[self.path()]);
        let number = |text: &str| text.trim().parse::<u64>().unwrap_or_else(|e| panic!("{text:?}: {e}"));
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(number);
        let block = field("Block size:").unwrap();
        // Of the last cluster of a range it prints the first block.
        let last = field("Cluster size:").unwrap_or(block) / block;
        let blocks = field("Block count:").unwrap();
        let mut free = Free::new(1, usize::MAX);
        for list in text.lines().filter_map(|line| line.strip_prefix("  Free blocks: ")) {
            for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
                let (start, end) = range.split_once('-').unwrap_or((range, range));
                free.add(number(start) * block..(number(end) + last).min(blocks) * block);
            }
        }
        free.finish()
    }

    /// The claim that counts: e2fsck finds nothing wrong, and free is exactly what dumpe2fs calls free.
    fn check(&self, what: &str) -> u64 {
        let fsck = tool("e2fsck", &["-f", "-n", self.path()]);
        assert!(fsck.status.success(), "{what}: {}", String::from_utf8_lossy(&fsck.stdout));
        let free = self.parse().unwrap_or_else(|doubt| panic!("{what}: {doubt}"));
        assert!(free == self.dumped(), "{what}: {free:?} instead of {:?}", self.dumped());
        free.iter().map(|range| range.end - range.start).sum()
    }
}

fn superblock_of(bytes: &[u8]) -> Super {
    Super::new(&bytes[1024..2048], bytes.len() as u64).unwrap().unwrap()
}

/// With every free range, however short.
fn parse(disk: &dyn ReadAt) -> Result<Option<(About, Vec<Range<u64>>)>, Doubt> {
    let mut free = Free::new(1, usize::MAX);
    let about = super::parse(&Volume::new(disk, 0, disk.size().unwrap(), 512), &mut free)?;
    Ok(about.map(|about| (about, free.finish())))
}

/// Numbers that look random and are the same in each run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % end
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u64) as usize]
    }
}

/// Fills a folder with `count` files of up to `most` bytes, for `mke2fs -d`.
fn files(folder: &Path, count: u64, most: u64) {
    let mut random = Seeded(count);
    for i in 0..count {
        let parent = folder.join(format!("d{}", i % 7));
        std::fs::create_dir_all(&parent).unwrap();
        std::fs::write(parent.join(format!("f{i}")), vec![0x5a; random.below(most) as usize]).unwrap();
    }
}
