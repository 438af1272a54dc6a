//! What mkfs.xfs makes: every combination of options gives exactly the free space that xfs_db finds.

use crate::scratch::scratch;
use crate::tools::{Random, free_of, made, mkfs, numbers, parse, rounds, shell, told_by_xfs_db, total};
use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A proto file for `mkfs.xfs -p` with this many files of up to `most` bytes.
fn proto(dir: &Path, random: &mut Random, files: u64, most: u64) -> String {
    let source = dir.join("source");
    fs::write(&source, vec![b'x'; most as usize]).unwrap();
    let mut text = String::from("dummy\n0 0\nd--755 0 0\n");
    for i in 0..files {
        let small = dir.join(format!("source-{}", random.below(8)));
        if !small.exists() {
            fs::write(&small, vec![b'y'; 1 + random.below(most) as usize]).unwrap();
        }
        writeln!(text, "file{i} ---644 0 0 {}", small.display()).unwrap();
    }
    text.push_str("$\n$\n");
    let path = dir.join("proto");
    fs::write(&path, text).unwrap();
    format!("-p {}", path.display())
}

/// Options that mkfs.xfs may refuse together.
fn options(random: &mut Random) -> (u64, String) {
    let mut words: Vec<String> = Vec::new();
    let old = random.below(3) == 0;
    let bit = |random: &mut Random| random.below(2);
    if old {
        let version = random.pick(&["", "-l version=1", "-l lazy-count=0", "-n version=ci", "-i attr=1"]);
        words.push(format!("-m crc=0 {version}"));
    } else {
        let (finobt, rmapbt, reflink) = (random.below(4) > 0, bit(random), bit(random));
        let inobtcount = if finobt { bit(random) } else { 0 };
        words.push(format!("-m finobt={},rmapbt={rmapbt},reflink={reflink}", u8::from(finobt)));
        words.push(format!("-m bigtime={},inobtcount={inobtcount}", bit(random)));
        words.push(format!("-i sparse={},nrext64={}", bit(random), bit(random)));
    }
    let block =
        random.pick(&if old { vec![512, 1024, 4096, 65536] } else { vec![1024, 2048, 4096, 8192, 65536] });
    words.push(format!("-b size={block}"));
    words.push(random.pick(&["", "", "-s size=4096", "-s size=1024"]).into());
    words.push(random.pick(&["", "-i size=1024", "-i size=2048"]).into());
    words.push(
        random.pick(&["", "", "-d agcount=1", "-d agcount=2", "-d agcount=7", "-d su=64k,sw=3"]).into(),
    );
    words.push(random.pick(&["", "-l size=12m", "-l agnum=0", "-l size=70m"]).into());
    words.push(random.pick(&["", "-l su=32k", "-l su=256k", "-l su=4k"]).into());
    words.push(random.pick(&["", "-L label"]).into());
    let mib = random.pick(&[20, 40, 64, 300, 301, 1000, 5000, 70_000]);
    (mib, words.join(" "))
}

#[test]
fn any_options_give_the_free_space_of_xfs_db() {
    let (mut random, _) = Random::of_this_run();
    let dir = scratch();
    let (tried, mut done, mut skipped) = (rounds(120), 0, 0);
    for _ in 0..tried {
        let (mib, mut words) = options(&mut random);
        if random.below(3) == 0 {
            words += &format!(" {}", proto(dir.path(), &mut random, 40, 100_000));
        }
        let Some(image) = mkfs(dir.path(), mib, &words) else { continue };
        println!("{mib} MiB, {words}");
        // Where the log leaves next to nothing of its group, mkfs.xfs 6.1 makes what xfs_repair calls damaged.
        if let Err(doubt) = parse(&File::open(&image).unwrap()) {
            assert!(shell("xfs_repair -n -o force_geometry \"$IMG\"", &image).is_err(), "{doubt}");
            println!("{doubt}");
            continue;
        }
        let free = free_of(&image);
        assert_eq!(free, told_by_xfs_db(&image), "{mib} MiB, {words}");
        skipped += total(&free);
        done += 1;
    }
    assert!(done > tried / 8 && skipped > 0, "mkfs.xfs refused all but {done} of {tried}");
}

/// Gaps between files, as many as there are files: trees of several levels. Without a mount: the inodes of every other
/// file are broken, and xfs_repair takes the files away.
pub fn with_gaps(dir: &Path, options: &str, files: u64) -> PathBuf {
    let words = format!("{options} {}", proto(dir, &mut Random(1), files, 1500));
    let image = made(dir, 64, &words);
    let listed = shell("xfs_db -r -c 'ls /' \"$IMG\"", &image).unwrap();
    let mut commands = String::new();
    for line in listed.lines().filter(|line| line.contains("file")).step_by(2) {
        let inode = line.split_whitespace().nth(1).unwrap();
        writeln!(commands, "inode {inode}\nwrite -c core.mode 0").unwrap();
    }
    let script = dir.join("script");
    fs::write(&script, commands).unwrap();
    shell(&format!("xfs_db -x \"$IMG\" <{}", script.display()), &image).unwrap();
    shell("xfs_repair -o force_geometry \"$IMG\"", &image).unwrap();
    image
}

#[test]
fn trees_of_several_levels_are_walked_to_their_end() {
    let dir = scratch();
    for (options, levels) in [
        ("-m crc=0 -b size=512 -d agcount=1 -l size=10m", 3),
        ("-m crc=0 -b size=512 -d agcount=1 -l lazy-count=0", 3),
        ("-m rmapbt=1 -b size=1024 -d agcount=1 -l size=10m", 2),
        ("-m reflink=1 -b size=1024 -d agcount=2", 2),
    ] {
        let image = with_gaps(dir.path(), options, 5000);
        assert_eq!(numbers(&image, "agf 0", "bnolevel cntlevel"), [levels, levels], "{options}");
        let free = free_of(&image);
        assert!(free.len() > 2000, "{}: {options}", free.len());
        assert_eq!(free, told_by_xfs_db(&image), "{options}");
    }
}

#[test]
fn labels_are_told_and_what_is_no_xfs_is_left_to_others() {
    let dir = scratch();
    let label = |image: &Path| parse(&File::open(image).unwrap()).unwrap().0.unwrap().label;
    assert_eq!(label(&made(dir.path(), 40, "-L twelve-bytes")).as_deref(), Some("twelve-bytes"));
    assert_eq!(label(&made(dir.path(), 40, "")), None);
    for bytes in [vec![], vec![0; 100], vec![0; 1 << 20], b"XFSB".to_vec()] {
        assert_eq!(parse(&bytes).unwrap(), (None, vec![]));
    }
}

#[test]
fn a_partition_may_be_larger_but_not_smaller() {
    let dir = scratch();
    let image = made(dir.path(), 40, "");
    let free = free_of(&image);
    let file = File::options().write(true).open(&image).unwrap();
    file.set_len(50 << 20).unwrap();
    assert_eq!(free_of(&image), free, "what lies behind the file system is used");
    file.set_len((40 << 20) - 512).unwrap();
    assert_eq!(crate::tools::doubt_of(&image), "xfs: it is larger than its partition");
}

/// Logs that mkfs.xfs does not make: cycles beyond the first, filled all around.
#[test]
fn a_log_that_was_made_anew_is_clean() {
    let dir = scratch();
    for options in ["", "-m crc=0", "-m crc=0 -l version=1", "-l su=256k"] {
        let image = made(dir.path(), 300, options);
        let free = free_of(&image);
        for cycle in [1, 2, 7, 1_000_000] {
            shell(&format!("xfs_db -x -c 'logformat -c {cycle}' \"$IMG\""), &image).unwrap();
            assert_eq!(free_of(&image), free, "cycle {cycle}, {options}");
        }
    }
}
