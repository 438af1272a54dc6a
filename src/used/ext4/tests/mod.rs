//! Real file systems, made and changed by e2fsprogs. No privileges: they are plain files.

mod doubts;
mod honest;
mod hostile;

use super::super::testing::{TestRandom, run, total, try_parse};
use super::super::{Doubt, Free, Volume};
use super::parse;
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
        try_parse(parse, self.0.as_file()).map(|found| found.expect("it is one").1)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.0.path()).unwrap()
    }

    fn superblock(&self) -> Super {
        superblock_of(&self.bytes())
    }

    /// What dumpe2fs counts as free, in bytes.
    fn dumped(&self) -> Vec<Range<u64>> {
        let text = run("dumpe2fs", &[self.path()]);
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
        total(&free)
    }
}

fn superblock_of(bytes: &[u8]) -> Super {
    Super::new(&bytes[1024..2048], bytes.len() as u64).unwrap().unwrap()
}

/// One of a list.
fn pick<'a, T>(random: &mut TestRandom, list: &'a [T]) -> &'a T {
    &list[random.below(list.len() as u64) as usize]
}

/// Fills a folder with `count` files of up to `most` bytes, for `mke2fs -d`.
fn files(folder: &Path, count: u64, most: u64) {
    let mut random = TestRandom(count);
    for i in 0..count {
        let parent = folder.join(format!("d{}", i % 7));
        std::fs::create_dir_all(&parent).unwrap();
        std::fs::write(parent.join(format!("f{i}")), vec![0x5a; random.below(most) as usize]).unwrap();
    }
}
