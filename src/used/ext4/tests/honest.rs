//! Consistent file systems: free is what e2fsprogs calls free, for every combination of features.

use super::*;

/// Options of mke2fs, then sizes.
const ROWS: &[(&str, &[&str])] = &[
    ("-t ext2", &["200K", "8M", "300M"]),
    ("-t ext2 -r 0", &["8M"]),
    ("-t ext3", &["8M", "300M"]),
    ("-t ext4", &["8M", "300M", "70G"]),
    ("-t ext4 -b 1024", &["2M", "8193K", "8200K", "300M", "1G"]),
    ("-t ext4 -b 2048", &["300M"]),
    ("-t ext4 -b 8192", &["300M"]),
    ("-t ext4 -b 16384", &["2G"]),
    ("-t ext4 -b 65536", &["1G", "70G"]),
    ("-t ext2 -b 65536", &["40G"]),
    ("-O none -b 1024 -g 256", &["8M"]),
    ("-O none,sparse_super -b 1024 -g 1024", &["64M"]),
    ("-t ext4 -b 1024 -g 512 -N 8192", &["64M"]),
    ("-t ext4 -O ^64bit", &["70G"]),
    ("-t ext4 -O ^flex_bg", &["300M", "10G"]),
    ("-t ext4 -O ^flex_bg,^metadata_csum,uninit_bg", &["300M", "10G"]),
    ("-t ext4 -O ^metadata_csum,uninit_bg", &["300M", "70G"]),
    ("-t ext4 -O ^metadata_csum,uninit_bg,^64bit -b 1024", &["300M"]),
    ("-t ext4 -O ^metadata_csum,^uninit_bg", &["300M", "10G"]),
    ("-t ext4 -O metadata_csum_seed,orphan_file,fast_commit,stable_inodes", &["300M"]),
    ("-t ext4 -O ^has_journal", &["300M"]),
    ("-t ext4 -O ^extent,^64bit", &["300M"]),
    ("-t ext4 -O ^resize_inode", &["300M", "10G"]),
    ("-t ext4 -O meta_bg,^resize_inode", &["300M", "70G"]),
    ("-t ext4 -O meta_bg,^resize_inode -b 1024", &["300M", "3G"]),
    ("-t ext4 -O meta_bg,^resize_inode,^flex_bg -b 1024 -g 512", &["64M"]),
    ("-t ext4 -O meta_bg,^resize_inode,^sparse_super -b 1024", &["300M"]),
    ("-t ext2 -O meta_bg,^resize_inode -b 1024", &["300M"]),
    ("-t ext4 -O ^sparse_super,^resize_inode", &["3G"]),
    ("-t ext4 -O sparse_super2,^resize_inode", &["300M", "10G"]),
    ("-t ext4 -O sparse_super2,^resize_inode -E num_backup_sb=0", &["10G"]),
    ("-t ext4 -O sparse_super2,^resize_inode -E num_backup_sb=1", &["10G"]),
    ("-t ext4 -O bigalloc", &["300M", "70G"]),
    ("-t ext4 -O bigalloc -C 8192", &["300M"]),
    ("-t ext4 -O bigalloc -b 1024", &["300M", "1G"]),
    ("-t ext4 -O bigalloc -b 1024 -C 2048", &["300M"]),
    ("-t ext4 -O bigalloc -C 1048576", &["3G"]),
    ("-t ext4 -O bigalloc,meta_bg,^resize_inode -b 1024", &["300M"]),
    ("-t ext4 -O bigalloc,^metadata_csum,uninit_bg", &["70G"]),
    ("-t ext4 -O bigalloc,^flex_bg", &["10G"]),
    ("-t ext4 -O mmp,quota,project,encrypt,verity,casefold,inline_data,ea_inode,large_dir", &["300M"]),
    ("-t ext4 -O mmp -b 1024", &["300M"]),
    ("-t ext4 -E packed_meta_blocks=1", &["10G"]),
    ("-t ext4 -G 128", &["70G"]),
    ("-t ext4 -G 4096 -b 1024", &["3G"]),
    ("-t ext4 -G 1", &["10G"]),
    ("-t ext4 -I 128", &["300M"]),
    ("-t ext4 -I 1024 -i 4096", &["3G"]),
    ("-t ext4 -E desc_size=128", &["3G"]),
    ("-t ext4 -J size=8", &["300M"]),
    ("-t ext4 -E resize=100G", &["1G"]),
    ("-t ext4 -E stride=16,stripe_width=64", &["3G"]),
];

#[test]
fn empty_file_systems_of_every_kind() {
    for (options, sizes) in ROWS {
        for size in *sizes {
            let image = Image::make(options, size);
            let what = format!("mke2fs {options} {size}");
            let free = image.check(&what);
            assert!(free * 2 > image.bytes_len() || image.bytes_len() < 10 << 20, "{what}: {free} free");
        }
    }
}

impl Image {
    fn bytes_len(&self) -> u64 {
        self.0.as_file().metadata().unwrap().len()
    }

    /// Deletes, writes and punches files.
    fn age(&self, random: &mut TestRandom, files: u64) {
        let source = NamedTempFile::new().unwrap();
        std::fs::write(source.path(), vec![0xa7; 10_000 + random.below(200_000) as usize]).unwrap();
        let mut script = String::new();
        for i in 0..files {
            match random.below(4) {
                0 => script += &format!("rm /d{}/f{i}\n", i % 7),
                1 => script += &format!("write {} new{i}\n", source.path().display()),
                2 => script += &format!("punch /d{}/f{i} 1 {}\n", i % 7, 1 + random.below(20)),
                _ => {}
            }
        }
        self.debugfs_quietly(&script);
    }

    /// As [`Image::debugfs`], where a full file system or a small file may refuse some of it.
    fn debugfs_quietly(&self, commands: &str) {
        let script = NamedTempFile::new().unwrap();
        std::fs::write(script.path(), commands).unwrap();
        tool("debugfs", &["-w", "-f", script.path().to_str().unwrap(), self.path()]);
    }

    /// e2fsprogs 1.47 leaves counts wrong here and there: quota with `mke2fs -d`, bigalloc with debugfs and resize2fs.
    fn fixed(&self) -> &Self {
        let fixed = tool("e2fsck", &["-f", "-y", self.path()]);
        // 1 is "corrected".
        assert!(fixed.status.code() <= Some(1), "{}", String::from_utf8_lossy(&fixed.stdout));
        self
    }
}

#[test]
fn filled_and_aged_ones() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), 200, 150_000);
    let mut random = TestRandom(1);
    for (options, _) in ROWS.iter().filter(|(options, _)| !options.contains("-r 0")) {
        let options = format!("{options} -d {}", folder.path().display());
        let image = Image::make(&options, "300M");
        image.fixed().check(&format!("mke2fs {options}"));
        image.age(&mut random, 200);
        image.fixed().check(&format!("mke2fs {options}, aged"));
    }
}

#[test]
fn changed_by_resize2fs_and_tune2fs() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), 100, 100_000);
    let steps: &[(&str, &[&str])] = &[
        ("resize2fs", &["400M"]),
        ("resize2fs", &["80M"]),
        ("resize2fs", &["2G"]),
        ("resize2fs", &["-M"]),
        ("resize2fs", &["1G"]),
    ];
    for options in [
        "-t ext2 -b 1024",
        "-t ext3",
        "-t ext4",
        "-t ext4 -b 1024",
        "-t ext4 -O ^resize_inode",
        "-t ext4 -O meta_bg,^resize_inode -b 1024",
        "-t ext4 -O sparse_super2,^resize_inode",
        "-t ext4 -O ^metadata_csum,uninit_bg",
        "-t ext4 -O bigalloc",
    ] {
        let image = Image::make(&format!("{options} -d {}", folder.path().display()), "200M");
        for (name, args) in steps {
            let what = format!("{options}: {name} {args:?}");
            let (flags, size): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| arg.starts_with('-'));
            let args: Vec<&str> = [&["-f"][..], &flags, &[image.path()], &size].concat();
            run(name, &args);
            // Shrinking cuts the file: behind the end stands something else from now on.
            image.0.as_file().set_len(image.bytes_len() + 1_000_000).unwrap();
            image.fixed().check(&what);
        }
    }
    let image =
        Image::make(&format!("-t ext4 -O ^64bit,^metadata_csum -d {}", folder.path().display()), "3G");
    for (name, args) in [
        ("resize2fs", &["-b"][..]),
        ("tune2fs", &["-O", "metadata_csum"]),
        ("tune2fs", &["-U", "6a1e7d1c-6a41-4d6b-8a43-0d6fd0d1a5a1"]),
        ("tune2fs", &["-O", "metadata_csum_seed"]),
        ("tune2fs", &["-U", "7a1e7d1c-6a41-4d6b-8a43-0d6fd0d1a5a1"]),
        ("tune2fs", &["-O", "^has_journal"]),
        ("tune2fs", &["-j", "-J", "size=16"]),
        ("tune2fs", &["-O", "quota,mmp,project"]),
        ("tune2fs", &["-O", "^metadata_csum,^metadata_csum_seed,uninit_bg"]),
        ("resize2fs", &["-s"]),
        ("tune2fs", &["-O", "^uninit_bg,^mmp"]),
    ] {
        run(name, &[&["-f"], args, &[image.path()]].concat());
        image.fixed().check(&format!("{name} {args:?}"));
    }
}

#[test]
fn whatever_mke2fs_agrees_to() {
    let rounds = if std::env::var_os("TESTBOX_LONG").is_some() { 2000 } else { 60 };
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), 60, 60_000);
    let mut random = TestRandom(4);
    let (mut made, mut tried) = (0, 0);
    while made < rounds {
        tried += 1;
        assert!(tried < rounds * 20, "mke2fs agrees to {made} of {tried}");
        let mut options = format!("-t {}", pick(&mut random, &["ext2", "ext3", "ext4", "ext4", "ext4"]));
        let features = [
            "64bit",
            "flex_bg",
            "meta_bg",
            "bigalloc",
            "sparse_super",
            "sparse_super2",
            "uninit_bg",
            "metadata_csum",
            "metadata_csum_seed",
            "resize_inode",
            "mmp",
            "quota",
            "project",
            "encrypt",
            "casefold",
            "verity",
            "orphan_file",
            "has_journal",
            "extent",
            "inline_data",
            "ea_inode",
            "large_dir",
            "huge_file",
            "dir_index",
            "filetype",
            "ext_attr",
            "fast_commit",
            "large_file",
        ];
        // Of several words -O the last one counts.
        let chosen: Vec<String> = features
            .iter()
            .filter_map(|feature| match random.below(5) {
                0 => Some((*feature).to_owned()),
                1 => Some(format!("^{feature}")),
                _ => None,
            })
            .collect();
        options += &format!(" -O {}", chosen.join(","));
        let block = 1024u64 << random.below(7);
        options += &format!(" -b {block}");
        if random.below(3) == 0 {
            options += &format!(" -g {}", (256 + random.below(block * 8 - 255)) / 8 * 8);
        }
        if random.below(3) == 0 {
            options += &format!(" -G {}", 1 << random.below(9));
        }
        if random.below(4) == 0 {
            options += &format!(" -I {}", 128 << random.below(4));
        }
        if random.below(4) == 0 {
            options += &format!(" -i {}", 1024 << random.below(7));
        }
        if random.below(3) == 0 {
            options += &format!(" -d {}", folder.path().display());
        }
        // From 200 KiB to 128 MiB, rarely a round number.
        let most = 1 << (3 + random.below(15));
        let size = format!("{}K", (200 + random.below(most)) / (block / 1024) * (block / 1024));
        let Some(image) = Image::try_make(&options, &size) else { continue };
        made += 1;
        if options.contains(" -d ") {
            image.fixed().check(&format!("mke2fs {options} {size}"));
            image.age(&mut random, 60);
            image.fixed();
        }
        image.check(&format!("mke2fs {options} {size}"));
    }
}

#[test]
fn what_it_says_of_itself() {
    let about = |options: &str| {
        let image = Image::make(options, "8M");
        let (about, _) = try_parse(parse, image.0.as_file()).unwrap().unwrap();
        (about.kind, about.label)
    };
    assert_eq!(about("-t ext2"), ("ext2", Some("testbox".into())));
    assert_eq!(about("-t ext3"), ("ext3", Some("testbox".into())));
    assert_eq!(about("-t ext4"), ("ext4", Some("testbox".into())));
    let image = Image::make("-t ext4", "8M");
    run("tune2fs", &["-L", "", image.path()]);
    assert_eq!(try_parse(parse, image.0.as_file()).unwrap().unwrap().0.label, None);
    run("tune2fs", &["-L", "a\u{1b}[2J\nb", image.path()]);
    assert_eq!(try_parse(parse, image.0.as_file()).unwrap().unwrap().0.label.as_deref(), Some("a[2Jb"));
}

#[test]
fn what_lies_behind_its_end_is_used() {
    let image = Image::make("-t ext4", "8M");
    let free = image.parse().unwrap();
    image.0.as_file().set_len(20 << 20).unwrap();
    assert_eq!(image.parse().unwrap(), free);
}
