//! Images made by mkfs.xfs, and what xfs_db and the parser say of them.

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use testbox::io::ReadAt;
use testbox::used::{Doubt, Free, Volume, VolumeAbout, xfs};

/// Runs a line of shell with `$IMG` set to the image. What it said on both channels, as an error where it fails.
pub fn shell(line: &str, image: &Path) -> Result<String, String> {
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", line])
        .env("IMG", image)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("bash: {e}"))?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(127) {
        panic!("{line}: {said}: apt-get install xfsprogs");
    }
    if output.status.success() { Ok(said) } else { Err(format!("{line}: {}: {said}", output.status)) }
}

/// A sparse file of `mib` MiB with what `mkfs.xfs OPTIONS` makes of it; `None` where it refuses the options.
pub fn mkfs(dir: &Path, mib: u64, options: &str) -> Option<PathBuf> {
    let image = dir.join("image");
    // A new file each time: what was there before is a hole again.
    let _ = fs::remove_file(&image);
    File::create(&image).unwrap().set_len(mib << 20).unwrap();
    shell(&format!("mkfs.xfs -q -f --unsupported {options} \"$IMG\""), &image).ok()?;
    Some(image)
}

/// As [`mkfs`], where the options are known to be good.
pub fn made(dir: &Path, mib: u64, options: &str) -> PathBuf {
    mkfs(dir, mib, options).unwrap_or_else(|| panic!("mkfs.xfs {options}"))
}

/// What the parser says: what it found, and the free ranges in bytes, none too short to name.
pub fn parse(disk: &dyn ReadAt) -> Result<(Option<VolumeAbout>, Vec<Range<u64>>), Doubt> {
    let mut free = Free::new(1, 1 << 20);
    let volume = Volume::new(disk, 0, disk.size().unwrap(), 512);
    let about = xfs::parse(&volume, &mut free)?;
    Ok((about, free.finish()))
}

/// Free ranges of a file system about which there is no doubt.
pub fn free_of(image: &Path) -> Vec<Range<u64>> {
    let (about, free) =
        parse(&File::open(image).unwrap()).unwrap_or_else(|doubt| panic!("{}: {doubt}", image.display()));
    assert_eq!(about.expect("an XFS").kind, "xfs");
    free
}

/// The doubt about a file system.
pub fn doubt_of(image: &Path) -> String {
    match parse(&File::open(image).unwrap()) {
        Err(doubt) => doubt.to_string(),
        Ok(found) => panic!("{}: no doubt: {found:?}", image.display()),
    }
}

/// Numbers in the superblock or in another structure, as xfs_db prints them.
pub fn numbers(image: &Path, structure: &str, fields: &str) -> Vec<u64> {
    let said = shell(&format!("xfs_db -r -c '{structure}' -c 'p {fields}' \"$IMG\""), image).unwrap();
    let values: Vec<u64> =
        said.lines().filter_map(|line| line.split(" = ").nth(1)?.trim().parse().ok()).collect();
    assert_eq!(values.len(), fields.split_whitespace().count(), "{said}");
    values
}

/// Free ranges as xfs_db reads them from the btrees: without the blocks of the free lists, which it counts as free.
pub fn told_by_xfs_db(image: &Path) -> Vec<Range<u64>> {
    let [block, group_blocks, groups] = numbers(image, "sb 0", "blocksize agblocks agcount")[..] else {
        unreachable!()
    };
    let said = shell("xfs_db -r -c 'freesp -d' \"$IMG\"", image).unwrap();
    let mut free = Vec::new();
    for line in said.lines().skip_while(|line| !line.contains("agbno")).skip(1) {
        let words: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        // A histogram follows, in other columns.
        let [group, start, length] = words[..] else { break };
        let first = group * group_blocks + start;
        free.push((first, first + length));
    }
    for group in 0..groups {
        let listed = numbers(image, &format!("agf {group}"), "flfirst flcount");
        let said = shell(&format!("xfs_db -r -c 'agfl {group}' -c 'p bno' \"$IMG\""), image).unwrap();
        let list: Vec<&str> = said.split_whitespace().filter_map(|word| word.split(':').nth(1)).collect();
        for i in 0..listed[1] {
            let entry = list[(listed[0] + i) as usize % list.len()];
            let first = group * group_blocks + entry.parse::<u64>().unwrap();
            let at = free.iter().position(|range| *range == (first, first + 1)).expect("a listed block");
            free.swap_remove(at);
        }
    }
    let mut all = Free::new(1, 1 << 20);
    free.sort_unstable();
    free.iter().for_each(|(start, end)| all.add(start * block..end * block));
    all.finish()
}

/// Bytes in all of them.
pub fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// Whether all of `inner` is in `outer`; both sorted and disjoint.
pub fn is_within(inner: &[Range<u64>], outer: &[Range<u64>]) -> bool {
    inner.iter().all(|range| {
        let next = outer.partition_point(|o| o.end < range.end);
        outer.get(next).is_some_and(|o| o.start <= range.start && range.end <= o.end)
    })
}

/// Random numbers that a seed repeats (splitmix64).
pub struct Random(pub u64);

impl Random {
    /// The generator of this run, and its seed: `TESTBOX_SEED`; without it, a new one each time of a long run.
    pub fn of_this_run() -> (Self, u64) {
        let seed =
            std::env::var("TESTBOX_SEED").ok().map(|text| text.parse().expect("TESTBOX_SEED is a number"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let is_long = std::env::var_os("TESTBOX_LONG").is_some();
        let seed = seed.unwrap_or(if is_long { now.as_secs() } else { 1_795_392_314 });
        println!("TESTBOX_SEED={seed}");
        (Random(seed.wrapping_mul(0x9e37_79b9)), seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize].clone()
    }
}

/// How often something random is done: ten times as often with `TESTBOX_LONG=1`.
pub fn rounds(count: u64) -> u64 {
    if std::env::var_os("TESTBOX_LONG").is_some() { count * 10 } else { count }
}
