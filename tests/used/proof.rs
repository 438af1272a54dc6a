//! What is proved of each file system, and the rows that say which.

use crate::mount::{Mounted, try_shell};
use crate::random::{Random, seed};
use crate::ranges::{complement, intersection, total, union, whole_blocks};
use crate::scratch::scratch;
use crate::tree::Tree;
use crate::work::{Op, PLAIN, Workload};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use testbox::block::RealDisk;
use testbox::image::{BackupOptions, DiskAbout, Image, RestoreOptions, backup, restore};
use testbox::inventory::Identity;
use testbox::progress::Progress;
use testbox::types::FreeSpace;
use testbox::used::{Map, Used, survey};

/// One way of making a file system. `$IMG` in commands is the image, a sparse file of `mib` MiB.
#[derive(Clone, Copy)]
pub struct Row {
    /// What the map must call it.
    pub kind: &'static str,
    /// MiB.
    pub mib: u64,
    /// Makes the file system.
    pub make: &'static str,
    /// Words for mount(8).
    pub mount: &'static str,
    /// What the work load may do.
    pub ops: &'static [&'static [Op]],
    /// Run on the unmounted file system after each work load; may be empty.
    pub after: &'static str,
    /// Bytes that the format's own tool counts as used.
    pub used: fn(&Path) -> Vec<Range<u64>>,
    /// Fails unless the file system is clean; changes nothing.
    pub fsck: &'static str,
    /// What the backup is told to leave out.
    pub leave_out: Used,
    /// Steps of the work load in each epoch.
    pub steps: u32,
    /// File systems of this row, ten times as many with `TESTBOX_LONG=1`.
    pub rounds: u64,
    /// MiB that the map keeps although the tool calls them free.
    pub keeps: u64,
    /// Does an epoch of work on the file system: `Row::mounted`, where it can be mounted.
    pub work: Work,
    /// What a file system holds.
    pub read: fn(&Row, &Path, &Path) -> Result<Tree, String>,
}

/// Row, image, folder for a mount.
pub type Work = fn(&Row, &Path, &Path, &mut Random) -> Result<(), String>;

/// Epochs of work on one file system, with a proof after each.
const EPOCHS: u32 = 2;
/// What no file system writes, in all the free space of what comes back.
pub const POISON: u8 = 0xa5;
/// Bytes at either end of a volume that are imaged in any case.
pub const ENDS: u64 = 1 << 20;

/// Proves a row: rounds of file systems, epochs of work on each.
pub fn prove(name: &str, row: &Row) {
    let (seed, factor) = (seed(), if std::env::var_os("TESTBOX_LONG").is_some() { 10 } else { 1 });
    let (dir, start) = (scratch(), Instant::now());
    let (count, mut skipped) = (row.rounds * factor, 0);
    for round in 0..count {
        let mut random = Random::new(seed.wrapping_mul(1000).wrapping_add(round));
        let evidence = Evidence { name: name.replace("::", "-"), image: dir.path().join("image") };
        let image = &evidence.image;
        make(row, image).expect("a file system");
        for epoch in 0..EPOCHS {
            // That it can be worked on is tried once.
            let goes_on = epoch + 1 == EPOCHS;
            match prove_epoch(row, dir.path(), image, &mut random, goes_on) {
                Ok(bytes) => skipped += bytes,
                Err(why) => panic!("TESTBOX_SEED={seed}, round {round}, epoch {epoch}: {why}"),
            }
        }
    }
    println!(
        "{name}: TESTBOX_SEED={seed}, {count} made, {} MiB skipped, {:.1?}",
        skipped >> 20,
        start.elapsed()
    );
    assert!(skipped > 0, "nothing was skipped in any round");
}

/// Keeps the file system of a test that fails.
struct Evidence {
    name: String,
    image: PathBuf,
}

impl Drop for Evidence {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.img", self.name));
            let done = try_shell(&format!("cp --sparse=always \"$IMG\" '{}'", kept.display()), &self.image);
            println!("The file system that failed is kept in {}: {done:?}", kept.display());
        }
    }
}

/// Makes an empty file system.
pub fn make(row: &Row, image: &Path) -> Result<(), String> {
    let file = File::create(image).map_err(|e| e.to_string())?;
    file.set_len(row.mib << 20).map_err(|e| e.to_string())?;
    // mkfs.btrfs looks at every loop device for one that has this file, and fails where one goes meanwhile.
    let is_race =
        |made: &Result<(), String>| made.as_ref().is_err_and(|why| why.contains("cannot check mount status"));
    let mut made = try_shell(row.make, image).map(drop);
    for _ in 0..4 {
        if is_race(&made) {
            made = try_shell(row.make, image).map(drop);
        }
    }
    made
}

/// Work and proof; the bytes skipped.
fn prove_epoch(
    row: &Row,
    dir: &Path,
    image: &Path,
    random: &mut Random,
    goes_on: bool,
) -> Result<u64, String> {
    let mnt = dir.join("mnt");
    work(row, image, &mnt, random)?;
    is_clean(row, image, "before its backup")?;
    // Not before it was unmounted: what could not be written any more is in memory only.
    let tree = (row.read)(row, image, &mnt)?;
    let used = (row.used)(image);
    let map = map_of(row, image)?;
    covers(&map.free, &used)?;
    let skipped = skips(row.keeps, &map.free, &used, size(image))?;
    let back = comes_back(row, dir, image, &map, &tree)?;
    if goes_on {
        work(&Row { steps: row.steps / 4, ..*row }, &back, &mnt, random)?;
        is_clean(row, &back, "after it was worked on")?;
    }
    Ok(skipped)
}

/// A work load, and what the row does after it.
fn work(row: &Row, image: &Path, mnt: &Path, random: &mut Random) -> Result<(), String> {
    (row.work)(row, image, mnt, random)?;
    if !row.after.is_empty() {
        try_shell(row.after, image)?;
    }
    Ok(())
}

fn is_clean(row: &Row, image: &Path, when: &str) -> Result<(), String> {
    try_shell(row.fsck, image).map(drop).map_err(|said| format!("it was not clean {when}: {said}"))
}

/// Bytes.
pub fn size(image: &Path) -> u64 {
    fs::metadata(image).map_or(0, |about| about.len())
}

/// The map of a file system that is good.
fn map_of(row: &Row, image: &Path) -> Result<Map, String> {
    let map = map_of_disk(image, row.leave_out)?;
    let [found] = &map.found[..] else { return Err(format!("not one volume: {:?}", map.found)) };
    match &found.why_all {
        None if found.kind == row.kind && found.skipped == total(&map.free) => Ok(map),
        _ => Err(format!("not a good {}: {found:?}", row.kind)),
    }
}

/// The map of a disk in a file.
pub fn map_of_disk(image: &Path, leave_out: Used) -> Result<Map, String> {
    let disk = RealDisk::open_source(image.to_str().expect("a plain path")).map_err(|e| e.to_string())?;
    Ok(survey(&disk, leave_out, &Progress::default()).0)
}

/// First property: what the tool counts as used is used.
pub fn covers(free: &[Range<u64>], used: &[Range<u64>]) -> Result<(), String> {
    let sound = free.iter().all(|r| r.start % 4096 == 0 && r.end % 4096 == 0 && r.start < r.end)
        && union(free.to_vec()) == free;
    match intersection(free, used).first() {
        None if sound => Ok(()),
        None => Err("the free ranges are not whole blocks in order".into()),
        Some(lost) => Err(format!("bytes {lost:?} are used, and the map calls them free")),
    }
}

/// Second property: not everything is called used. The bytes skipped.
pub fn skips(keeps: u64, free: &[Range<u64>], used: &[Range<u64>], size: u64) -> Result<u64, String> {
    let body = intersection(&complement(used, size), &[ENDS..size - ENDS]);
    let (skipped, could) = (total(free), total(&whole_blocks(&body)));
    // Two places of signatures inside are always imaged, and so is what they cut off that is not worth a run.
    let places = 2 * (4096 + 2 * (64 << 10));
    if (skipped + places + (keeps << 20)) * 100 < could * 99 {
        return Err(format!("only {skipped} of {could} free bytes are skipped"));
    }
    Ok(skipped)
}

/// Third property, the one that counts: what comes back onto a disk full of something else is clean and holds the same.
/// Where it came back.
pub fn comes_back(row: &Row, dir: &Path, image: &Path, map: &Map, tree: &Tree) -> Result<PathBuf, String> {
    let (back, mnt) = (dir.join("back"), dir.join("mnt"));
    round_trip(image, &back, map)?;
    is_clean(row, &back, "as it came back")?;
    (row.read)(row, &back, &mnt)?.same_as(tree).map_err(|e| format!("another tree came back:\n{e}"))?;
    is_clean(row, &back, "after it was mounted and read")?;
    Ok(back)
}

/// Backup and restore onto a disk full of something else, which stays where the map does not allocate it.
pub fn round_trip(from: &Path, to: &Path, map: &Map) -> Result<(), String> {
    let path = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let disk = RealDisk::open_source(path(from)).map_err(|e| e.to_string())?;
    let about = DiskAbout::new("sda", Identity::default(), &disk);
    let options = BackupOptions { used: Arc::new(map.clone()), ..BackupOptions::default() };
    let mut bytes = Vec::new();
    backup(&disk, &mut bytes, &about, &options, &Progress::default()).map_err(|e| e.to_string())?;
    let image = Image::open(Arc::new(bytes)).map_err(|e| e.to_string())?;

    let size = size(from);
    let poison = vec![POISON; 1 << 20];
    let target = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(to)
        .map_err(|e| e.to_string())?;
    for at in (0..size).step_by(poison.len()) {
        let len = (size - at).min(1 << 20) as usize;
        target.write_all_at(&poison[..len], at).map_err(|e| e.to_string())?;
    }
    let disk = RealDisk::open_write(path(to)).map_err(|e| e.to_string())?;
    let options = RestoreOptions { free: FreeSpace::Leave, ..RestoreOptions::default() };
    restore(&image, &disk, &options, &Progress::default()).map_err(|e| e.to_string())?;
    is_left_alone(&map.free, size, |block, at| target.read_exact_at(block, at))?;
    Ok(())
}

impl Row {
    /// What most rows share.
    pub const DEFAULT: Row = Row {
        kind: "",
        mib: 24,
        make: "",
        mount: "",
        ops: &[PLAIN],
        after: "",
        used: |_| Vec::new(),
        fsck: "",
        leave_out: Used::Auto,
        steps: 150,
        rounds: 6,
        keeps: 0,
        work: Row::mounted,
        read: Row::tree,
    };

    /// An epoch of work on a mounted file system.
    pub fn mounted(&self, image: &Path, mnt: &Path, random: &mut Random) -> Result<(), String> {
        let mounted = Mounted::new(self.mount, image, mnt)?;
        let mut work = Workload::new(mounted.path(), random, self.ops).map_err(|e| e.to_string())?;
        let done = work
            .age(self.steps / 2)
            .and_then(|()| work.leave_stale_data())
            .and_then(|()| work.age(self.steps / 2));
        done.map_err(|e| format!("the work load: {e}"))?;
        mounted.unmount()
    }

    /// What a file system holds that can be mounted.
    pub fn tree(&self, image: &Path, mnt: &Path) -> Result<Tree, String> {
        let mounted = Mounted::new(&format!("{} -o ro", self.mount), image, mnt)?;
        let tree = Tree::read(mounted.path()).map_err(|e| e.to_string())?;
        mounted.unmount()?;
        Ok(tree)
    }
}

/// The harness itself: it believes the truth and no lie.
/// Free ranges of a disk that was full of poison hold it still. Gaps, which are too short for runs, may be zeros too; the
/// ends of the disk, which a restore zeroes first, are not looked at.
pub fn is_left_alone(
    free: &[Range<u64>],
    size: u64,
    read: impl Fn(&mut [u8], u64) -> std::io::Result<()>,
) -> Result<(), String> {
    let (poison, zeros, mut block) = ([POISON; 4096], [0; 4096], [0; 4096]);
    for range in free {
        let is_gap = range.end - range.start < BackupOptions::default().split;
        for at in (range.start.max(ENDS)..range.end.min((size - ENDS) / 4096 * 4096)).step_by(block.len()) {
            read(&mut block, at).map_err(|e| e.to_string())?;
            if block != poison && !(is_gap && block == zeros) {
                return Err(format!("the restore wrote into free space at byte {at}"));
            }
        }
    }
    Ok(())
}

#[test]
fn loop_a_wrong_map_is_found() {
    let (row, dir) = (&crate::ext4::EXT4, scratch());
    let image = dir.path().join("image");
    make(row, &image).unwrap();
    let mnt = dir.path().join("mnt");
    row.mounted(&image, &mnt, &mut Random::new(7)).unwrap();
    let tree = row.tree(&image, &mnt).unwrap();
    let used = (row.used)(&image);
    let truth = whole_blocks(&complement(&used, size(&image)));
    let map = |free: &[Range<u64>]| Map { free: free.to_vec(), ..Map::default() };
    covers(&truth, &used).unwrap();
    assert!(skips(row.keeps, &truth, &used, size(&image)).unwrap() > 0);
    comes_back(row, dir.path(), &image, &map(&truth), &tree).unwrap();

    assert!(skips(row.keeps, &[], &used, size(&image)).is_err(), "everything is used");
    // One used block more.
    let block = whole_blocks(&used).into_iter().map(|r| r.start..r.start + 4096).take(1).collect();
    assert!(covers(&union([truth.clone(), block].concat()), &used).is_err(), "a used block is free");
    let most = union([truth, vec![4 << 20..size(&image)]].concat());
    assert!(comes_back(row, dir.path(), &image, &map(&most), &tree).is_err(), "most of it is free");
}
