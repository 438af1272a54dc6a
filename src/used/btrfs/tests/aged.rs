//! File systems that the kernel has written to for a while: mounted, so root only.

use super::hostile::Random;
use super::oracle::{agrees, free_is_of_no_use};
use super::{map, mkfs, shell};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Where an image is mounted, and the image; unmounted when dropped.
struct Mounted(PathBuf, PathBuf);

impl Mounted {
    fn new(image: &Path, options: &str) -> Mounted {
        let at = image.with_extension("mounted");
        fs::create_dir_all(&at).unwrap();
        shell(&format!("mount -t btrfs -o loop,{options} \"$IMG\" {}", at.display()), image);
        Mounted(at, image.to_owned())
    }

    /// Runs a line of shell in it.
    fn shell(&self, line: &str) -> String {
        shell(&format!("cd {}; {line}", self.0.display()), &self.0)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It is busy for a moment where another test's new process has not let go yet of what this one had open.
        let unmounts = || Command::new("umount").arg(&self.0).status().is_ok_and(|status| status.success());
        let tries = (0..50).any(|_| {
            unmounts() || {
                thread::sleep(Duration::from_millis(100));
                false
            }
        });
        assert!(tries || thread::panicking());
        // The next mount of the image would take its loop device, where a mount namespace that was made meanwhile keeps
        // it, and show what the image held before.
        let is_free = || {
            let found = Command::new("losetup").arg("--associated").arg(&self.1).output();
            let is_free = found.is_ok_and(|found| found.stdout.is_empty());
            if !is_free {
                thread::sleep(Duration::from_millis(100));
            }
            is_free
        };
        assert!(
            (0..600).any(|_| is_free()) || thread::panicking(),
            "{} keeps its loop device",
            self.1.display()
        );
    }
}

/// Files of the top subvolume, and hashes of their content.
fn hashes(top: &Path) -> BTreeMap<PathBuf, blake3::Hash> {
    let mut hashes = BTreeMap::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => drop(hashes.insert(entry.path(), blake3::hash(&fs::read(entry.path()).unwrap()))),
            }
        }
    }
    hashes
}

fn content(random: &mut Random) -> Vec<u8> {
    let magnitude = 8 + random.below(13);
    let len = random.below(1 << magnitude);
    match random.below(3) {
        0 => (0..len).map(|i| (i / 100) as u8).collect(),
        _ => (0..len).map(|_| random.below(256) as u8).collect(),
    }
}

/// One random thing that users do.
fn use_it(mounted: &Mounted, n: u64, random: &mut Random) {
    let name = |n: u64| mounted.0.join(format!("{}/file {n}", n % 5));
    let some = name(random.below(n + 1));
    let (at, len) = (random.below(1 << 20), random.below(1 << 19) + 1);
    match random.below(64) {
        0..26 => {
            fs::create_dir_all(name(n).parent().unwrap()).unwrap();
            fs::write(name(n), content(random)).unwrap();
        }
        26..35 if some.exists() => fs::remove_file(&some).unwrap(),
        35..50 if some.exists() => {
            let mut file = File::options().write(true).open(&some).unwrap();
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&content(random)).unwrap();
        }
        50..54 if some.exists() => File::options().write(true).open(&some).unwrap().set_len(at).unwrap(),
        54..58 if some.exists() => {
            let how = ["--punch-hole", "--keep-size", "--zero-range"][random.below(3) as usize];
            mounted.shell(&format!("fallocate {how} --offset {at} --length {len} '{}'", some.display()));
        }
        58..61 if some.exists() => {
            drop(mounted.shell(&format!("cp --reflink=always '{}' copy{n}", some.display())))
        }
        61 => drop(mounted.shell(&format!("btrfs subvolume snapshot . snapshot{n}"))),
        62 => {
            let all: Vec<u64> = (0..n).filter(|n| mounted.0.join(format!("snapshot{n}")).exists()).collect();
            if !all.is_empty() {
                let one = all[random.below(all.len() as u64) as usize];
                mounted.shell(&format!("sync -f .; btrfs subvolume delete snapshot{one}"));
            }
        }
        63 => drop(mounted.shell("sync -f .")),
        _ => {}
    }
}

/// Options of mkfs.btrfs and of mount, and what is done in the end.
const ROWS: &[(&str, &str, &str)] = &[
    ("", "compress=zstd", "btrfs balance start --full-balance ."),
    ("--mixed", "compress=lzo", "btrfs balance start -dusage=70 -musage=70 ."),
    ("-n 4096 -m dup -d dup --csum xxhash", "nodatasum", "btrfs balance start -dconvert=single ."),
    ("-R ^free-space-tree -O ^no-holes", "space_cache=v1", "btrfs filesystem defragment -r ."),
    ("-R ^free-space-tree --csum sha256", "nospace_cache", "btrfs filesystem resize 500m ."),
    ("-n 65536 -m single --csum blake2", "nodatacow", "btrfs balance start -f -mconvert=dup ."),
    ("-R quota -O ^skinny-metadata", "discard", "btrfs filesystem resize -100m ."),
];

#[test]
fn loop_used_file_systems_need_nothing_of_what_is_free() {
    let mut bitmaps = 0;
    for (seed, (options, mount, last)) in ROWS.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let image = mkfs(dir.path(), 700, options);
        let what = format!("{options} | {mount}");
        let mut random = Random(seed as u64);
        let mounted = Mounted::new(&image, mount);
        for n in 0..1000 {
            use_it(&mounted, n, &mut random);
        }
        drop(mounted);
        agrees(&image, &what);
        let count =
            shell("btrfs inspect-internal dump-tree \"$IMG\" | grep -c FREE_SPACE_BITMAP || true", &image);
        bitmaps += count.trim().parse::<u64>().unwrap();

        let mounted = Mounted::new(&image, mount);
        mounted.shell(last);
        let before = hashes(&mounted.0);
        assert!(before.len() > 100);
        drop(mounted);
        free_is_of_no_use(&image, &what);
        let after = hashes(&Mounted::new(&image, "ro").0);
        assert!(before == after, "{what}");
    }
    assert!(bitmaps > 0, "no free space was so much in pieces that it took bitmaps");
}

#[test]
fn loop_a_mounted_file_system_is_what_its_last_commit_made_it() {
    let dir = tempfile::tempdir().unwrap();
    let image = mkfs(dir.path(), 500, "");
    let mounted = Mounted::new(&image, "nodiscard,commit=2");
    let mut random = Random(7);
    for n in 0..300 {
        use_it(&mounted, n, &mut random);
    }
    mounted.shell("cp /bin/bash kept; head -c 60M /dev/zero > room; sync -f .; rm room; sync -f .; btrfs subvolume sync .");
    drop(mounted);

    // Nothing but what is asked for here makes a transaction.
    let mounted = Mounted::new(&image, "nodiscard,commit=300");
    mounted.shell("sync -f .");
    // On the disk, but not a part of it yet.
    mounted.shell("dd if=/dev/urandom of=new bs=1M count=30 oflag=direct");
    let copy = dir.path().join("copy");
    shell(&format!("cp --sparse=always \"$IMG\" {}", copy.display()), &image);
    free_is_of_no_use(&copy, "without the last writes");
    let cut = Mounted::new(&copy, "ro");
    shell(&format!("cmp {}/kept /bin/bash; ! test -s {}/new", cut.0.display(), cut.0.display()), &image);
    drop(cut);

    // A transaction, then a write that stands in the log alone.
    mounted.shell("sync -f .");
    agrees(&image, "synced");
    let mut file = File::options().append(true).open(mounted.0.join("kept")).unwrap();
    file.write_all(b"more").unwrap();
    file.sync_all().unwrap();
    let doubt = map(&File::open(&image).unwrap()).unwrap_err();
    assert!(doubt.to_string().contains("log of its last fsyncs"), "{doubt}");
    drop(file);
    drop(mounted);
    free_is_of_no_use(&image, "unmounted");
}
