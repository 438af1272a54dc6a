//! What the tests of the parsers share: images made by the formats' own tools, and broken ones made of them.

use super::{Doubt, Free, Parser, Volume, VolumeAbout};
use crate::io::ReadAt;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a program that must succeed, and gives what it says.
pub(super) fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program)
        .args(args)
        .env("PATH", format!("/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap_or_default()))
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program} ({e}): scripts/packages test"));
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{program} {args:?}: {}\n{text}", out.status);
    text
}

/// A file of `bytes` bytes full of 0xa5 (so that nothing is zero by chance), after `make` has worked on it.
pub(super) fn made(bytes: u64, make: impl FnOnce(&str) -> String) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::io::copy(&mut std::io::repeat(0xa5).take(bytes), &mut file.as_file()).unwrap();
    make(file.path().to_str().unwrap());
    std::fs::read(file.path()).unwrap()
}

/// An image as a file, for tools to look at.
pub(super) fn as_file<T>(image: &[u8], look: impl FnOnce(&Path) -> T) -> T {
    // sfdisk calls the first partition of a file that ends with a digit p1, and of another 1.
    let file = tempfile::Builder::new().suffix(".img").tempfile().unwrap();
    std::fs::write(file.path(), image).unwrap();
    look(file.path())
}

/// An image on a loop device that a FUSE program mounts (root only). Unmounting such a device waits for the program.
pub(super) fn mounted(image: &[u8], program: &str, work: impl FnOnce(&Path)) -> Vec<u8> {
    let (file, folder) = (tempfile::NamedTempFile::new().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(file.path(), image).unwrap();
    let device = run("losetup", &["--find", "--show", file.path().to_str().unwrap()]).trim().to_owned();
    let mount = folder.path().to_str().unwrap();
    let started = std::panic::catch_unwind(|| run(program, &[&device, mount]));
    // The kernel detaches it when the mount ends.
    run("losetup", &["--detach", &device]);
    started.unwrap();
    let mount = Mount(folder.path());
    work(folder.path());
    mount.end();
    std::fs::read(file.path()).unwrap()
}

/// Unmounts at the end, in a panic too.
struct Mount<'a>(&'a Path);

impl Mount<'_> {
    /// Again and again: a program that another test is just starting may still have our files open.
    fn end(self) {
        let ended = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            self.unmount()
        });
        std::mem::forget(self);
        assert!(ended, "cannot unmount");
    }

    fn unmount(&self) -> bool {
        Command::new("umount").arg(self.0).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// Creates, lengthens, cuts and deletes files in a folder, and gives what is there afterwards.
pub(super) fn age(folder: &Path, seed: u64, rounds: u64, longest: u64) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut random = TestRandom(seed);
    let mut files: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    for round in 0..rounds {
        let name = files.keys().nth(random.below(files.len() as u64) as usize).cloned();
        match (random.below(8), name) {
            (0 | 1, Some(name)) => {
                std::fs::remove_file(folder.join(&name)).unwrap();
                files.remove(&name);
            }
            (2, Some(name)) => {
                let content = files.get_mut(&name).unwrap();
                content.truncate(random.below(content.len() as u64) as usize);
                let file = std::fs::OpenOptions::new().write(true).open(folder.join(&name)).unwrap();
                file.set_len(content.len() as u64).unwrap();
            }
            (3 | 4, Some(name)) => {
                let more: Vec<u8> = (0..random.below(longest)).map(|_| random.next() as u8).collect();
                let mut file = std::fs::OpenOptions::new().append(true).open(folder.join(&name)).unwrap();
                file.write_all(&more).unwrap();
                files.get_mut(&name).unwrap().extend(more);
            }
            _ => {
                let name = PathBuf::from(format!("folder {}", round % 3)).join(format!("file {round}"));
                let content: Vec<u8> = (0..random.below(longest)).map(|_| random.next() as u8).collect();
                std::fs::create_dir_all(folder.join(&name).parent().unwrap()).unwrap();
                std::fs::write(folder.join(&name), &content).unwrap();
                files.insert(name, content);
            }
        }
    }
    files
}

/// Whether the files are what they were.
pub(super) fn check(folder: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for (name, content) in files {
        assert!(std::fs::read(folder.join(name)).unwrap() == *content, "{}", name.display());
    }
}

/// Bytes in ranges.
pub(super) fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// An image after a restore that left its free ranges alone: they hold something else now.
pub(super) fn scribbled(image: &[u8], free: &[Range<u64>]) -> Vec<u8> {
    let mut image = image.to_vec();
    for range in free {
        image[range.start as usize..range.end as usize].fill(0x5c);
    }
    image
}

/// What a parser says of an image, with all free ranges.
pub(super) type Said = Result<Option<(VolumeAbout, Vec<Range<u64>>)>, Doubt>;

/// All free ranges of an image, however short. It lies in the middle of its disk.
pub(super) fn try_parse(parser: Parser, image: &dyn ReadAt) -> Said {
    let mut free = Free::new(1, 1 << 20);
    let about = parser(&Volume::new(&Middle(image), LEAD, image.size().unwrap(), 512), &mut free)?;
    Ok(about.map(|about| (about, free.finish())))
}

/// Of an image that must be understood.
pub(super) fn parsed(parser: Parser, image: &Vec<u8>) -> (VolumeAbout, Vec<Range<u64>>) {
    try_parse(parser, image).unwrap().unwrap()
}

/// Why an image is kept whole, which it must be.
pub(super) fn whole(parser: Parser, image: &Vec<u8>) -> String {
    match try_parse(parser, image) {
        Err(doubt) => doubt.to_string(),
        other => panic!("not in doubt: {other:?}"),
    }
}

/// Where the volume begins on its disk.
const LEAD: u64 = 12_345 * 512;

/// A disk with a volume in it. Reading outside of the volume is an error, and so is reading much at once.
struct Middle<'a>(&'a dyn ReadAt);

impl ReadAt for Middle<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        assert!(
            offset >= LEAD && offset - LEAD + buf.len() as u64 <= self.0.size()?,
            "outside of the volume"
        );
        assert!(buf.len() <= 2 << 20, "{} bytes at once", buf.len());
        self.0.read_at(buf, offset - LEAD)
    }
}

/// An image with some bytes changed.
struct Patched<'a> {
    image: &'a [u8],
    patches: Vec<(usize, u8)>,
}

impl ReadAt for Patched<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.image.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = offset as usize;
        buf.copy_from_slice(&self.image[start..start + buf.len()]);
        for (at, byte) in &self.patches {
            if let Some(there) = at.checked_sub(start).and_then(|at| buf.get_mut(at)) {
                *there = *byte;
            }
        }
        Ok(buf.len())
    }
}

/// Small, seeded, and the same everywhere.
pub(super) struct TestRandom(pub u64);

impl TestRandom {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// Breaks an image in `places`, `rounds` times, and has it parsed: it must end, and what is free must lie inside.
/// Gives how often the parser was in doubt.
pub(super) fn hostile(parser: Parser, image: &[u8], places: &[Range<usize>], rounds: u64) -> u64 {
    let mut random = TestRandom(0x9e37_79b9_7f4a_7c15);
    let mut doubts = 0;
    for _ in 0..rounds {
        let mut patches = Vec::new();
        for _ in 0..=random.below(3) {
            let place = &places[random.below(places.len() as u64) as usize];
            let at = place.start + random.below(place.len() as u64) as usize;
            let value = [0, 1, 0x7f, 0x80, 0xff, random.next() as u8][random.below(6) as usize];
            let len = [1, 1, 2, 4, 8][random.below(5) as usize];
            patches.extend((at..(at + len).min(place.end)).map(|at| (at, value)));
        }
        match try_parse(parser, &Patched { image, patches }) {
            Ok(Some((_, free))) => assert!(free.iter().all(|range| range.end <= image.len() as u64)),
            Ok(None) => {}
            Err(_) => doubts += 1,
        }
    }
    doubts
}
