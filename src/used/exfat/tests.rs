//! Against exfatprogs, and against exfat-fuse, which writes files without the kernel's help.

use super::super::testing::*;
use super::boot::fixing::seal;
use super::*;

fn formatted(args: &[&str], bytes: u64) -> Vec<u8> {
    made(bytes, |file| run("mkfs.exfat", &[args, &[file]].concat()))
}

/// A number that dump.exfat shows.
fn dumped(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(['\t', ' ']).next().unwrap().parse().unwrap()
}

/// Free bytes by dump.exfat, and fsck.exfat must have nothing to complain about.
fn tools(image: &[u8]) -> u64 {
    as_file(image, |path| {
        let path = path.to_str().unwrap();
        let said = run("fsck.exfat", &["-n", path]);
        assert!(said.contains("clean"), "{said}");
        let text = run("dump.exfat", &[path]);
        dumped(&text, "Free Clusters") * dumped(&text, "Cluster size")
    })
}

#[test]
fn every_layout_of_mkfs() {
    let cases: &[(&[&str], u64)] = &[
        (&["-c", "512", "-b", "4K"], 5 << 20),
        (&["-c", "4K"], 16 << 20),
        (&["-c", "4K", "--pack-bitmap"], 17 << 20),
        (&["-c", "32K", "-b", "512K"], 33 << 20),
        (&["-c", "256K"], 40 << 20),
        (&["-c", "1M", "-b", "2M"], 61 << 20),
        (&[], 7 << 20),
    ];
    for (args, bytes) in cases {
        let mut image = formatted(&[*args, &["-L", "Größe"]].concat(), *bytes);
        image.extend([0xa5; 5000]);
        let (about, free) = parsed(parse, &image);
        assert_eq!(about, VolumeAbout { kind: "exfat", label: Some("Größe".into()) });
        assert_eq!(total(&free), tools(&image), "{args:?}");
        let image = scribbled(&image, &free);
        assert_eq!(total(&free), tools(&image), "{args:?}");
        assert_eq!(parsed(parse, &image).1, free);
    }
}

fn sealed(image: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    image[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut image);
    image
}

fn boot(image: &Vec<u8>) -> ExfatBoot {
    ExfatBoot::read(&Volume::new(image, 0, image.len() as u64, 512)).unwrap().unwrap()
}

/// Where a cluster is in the image.
fn cluster(image: &Vec<u8>, number: u32) -> usize {
    let boot = boot(image);
    (boot.heap + u64::from(number - 2) * boot.cluster) as usize
}

#[test]
fn what_is_not_clean_is_kept() {
    let image = formatted(&["-c", "4K"], 8 << 20);
    let b = boot(&image);
    let root = cluster(&image, b.root);
    let entry = |n: u32| b.fat as usize + 4 * n as usize;
    // By mkfs.exfat: label, bitmap, up-case table.
    let (label, bitmap, upcase) = (root, root + 32, root + 64);
    assert_eq!([image[label], image[bitmap], image[upcase]], [0x83, 0x81, 0x82]);
    let cases: &[(usize, &[u8], &str)] = &[
        (106, &[2], "not unmounted"),
        (106, &[4], "medium had errors"),
        (106, &[1], "volume flags 0x1"),
        (106, &[8], "volume flags 0x8"),
        (110, &[2], "2 FATs"),
        (104, &[1], "revision"),
        (108, &[13], "sectors of"),
        (109, &[20], "clusters of"),
        (0, &[0], "not as it must be"),
        (20, &[1], "not as it must be"),
        (72, &[1, 0x40], "its partition"),
        (75, &[1], "its partition"),
        (80, &[23, 0], "do not fit"),
        (84, &[1, 0], "do not fit"),
        (88, &[25, 0], "do not fit"),
        (92, &[0xff; 4], "do not fit"),
        (92, &[0; 4], "do not fit"),
        (90, &[1], "do not fit"),
        (96, &[1], "do not fit"),
        (entry(0), &[0], "begin as it must"),
        (entry(1), &[0], "begin as it must"),
        (entry(b.root), &b.root.to_le_bytes(), "circle"),
        (entry(b.root), &[0; 4], "leads to 0x0"),
        (entry(b.root), &[0xf7], "leads to 0xfffffff7"),
        (entry(b.root), &2u32.to_le_bytes(), "same cluster"),
        (entry(2), &9u32.to_le_bytes(), "not in one piece"),
        (bitmap, &[1], "no allocation bitmap"),
        (bitmap + 1, &[1], "no allocation bitmap"),
        (bitmap + 20, &[0], "not in one piece"),
        (bitmap + 24, &[1, 0], "a bitmap of 1 bytes"),
        (bitmap + 31, &[1], "a bitmap of"),
        (label, &[0x81], "more than one"),
        (label, &[0], "no allocation bitmap"),
        (upcase, &[2], "no allocation bitmap or no up-case"),
        (upcase + 20, &2u32.to_le_bytes(), "same cluster"),
        (upcase + 24, &[0, 0], "up-case table of 0"),
        // Bit 0 of the bitmap is the cluster of the bitmap.
        (cluster(&image, 2), &[0xfe], "calls clusters free"),
    ];
    for (at, bytes, why) in cases {
        let doubt = whole(parse, &sealed(&image, *at, bytes));
        assert!(doubt.contains(why), "{at} {why}: {doubt}");
    }
    for (at, why) in
        [(200, "its boot region is wrong"), (12 * 512 + 200, "the backup of its boot region is wrong")]
    {
        let mut image = image.clone();
        image[at] ^= 1;
        assert!(whole(parse, &image).contains(why));
    }
    // A backup of another volume: right by itself.
    let mut other = sealed(&image, 100, &[1, 2, 3, 4]);
    other[..12 * 512].copy_from_slice(&image[..12 * 512]);
    assert!(whole(parse, &other).contains("not the same"));
    // Flags and percentage of the backup may be old.
    let mut old = image.clone();
    old[12 * 512 + 106] = 2;
    old[12 * 512 + 112] = 50;
    assert_eq!(parsed(parse, &old), parsed(parse, &image));
}

#[test]
fn a_long_root_directory_and_a_bitmap_that_is_rounded_up() {
    let image = formatted(&["-c", "512", "-b", "4K"], 4 << 20);
    let b = boot(&image);
    // Two clusters more, the second of them behind the entries that count.
    let mut long = image.clone();
    let (far, farther) = (3000u32, 2000u32);
    for (from, to) in [(b.root, far), (far, farther), (farther, u32::MAX)] {
        let at = b.fat as usize + 4 * from as usize;
        long[at..at + 4].copy_from_slice(&to.to_le_bytes());
    }
    let (first, second) = (cluster(&image, b.root), cluster(&image, far));
    long.copy_within(first..first + 512, second);
    for entry in long[first..first + 512].chunks_exact_mut(32) {
        entry[0] = 5;
    }
    let doubt = whole(parse, &long);
    assert!(doubt.contains("calls clusters free"), "{doubt}");
    let bits = cluster(&image, 2);
    for used in [far, farther] {
        long[bits + (used as usize - 2) / 8] |= 1 << ((used - 2) % 8);
    }
    let (_, free) = parsed(parse, &long);
    assert_eq!(total(&free) + 1024, total(&parsed(parse, &image).1));
    // A bitmap that is a byte longer than it need be, as some formatters make it.
    let length = second + 32 + 24;
    assert_eq!(le::u64(&long, length), Some(u64::from(b.count).div_ceil(8)));
    long[length] += 1;
    assert_eq!(parsed(parse, &long).1, free);
}

#[test]
fn the_last_cluster_and_bits_behind_it() {
    let image = formatted(&["-c", "4K"], 8 << 20);
    let b = boot(&image);
    let (_, free) = parsed(parse, &image);
    let end = b.heap + u64::from(b.count) * b.cluster;
    assert_eq!(free.last().unwrap().end, end);
    let (mut full, last) = (image.clone(), b.count as usize - 1);
    full[cluster(&image, 2) + last / 8] |= 1 << (last % 8);
    assert_eq!(parsed(parse, &full).1.last().unwrap().end, end - b.cluster);
}

#[test]
fn other_boot_sectors_are_not_exfat() {
    for image in [vec![0; 4096], vec![], formatted(&[], 4 << 20)[512..].to_vec()] {
        assert_eq!(try_parse(parse, &image), Ok(None));
    }
}

#[test]
fn hostile_tables() {
    let image = formatted(&["-c", "4K"], 8 << 20);
    let b = boot(&image);
    let root = cluster(&image, b.root);
    let fat = b.fat as usize;
    // Without the right checksum nothing else would be reached: each round breaks the boot sector and seals it.
    let mut random = TestRandom(11);
    for _ in 0..1500 {
        let mut broken = image.clone();
        for _ in 0..=random.below(2) {
            broken[64 + random.below(49) as usize] = random.next() as u8;
        }
        if broken[108] <= 12 {
            seal(&mut broken);
        }
        let _ = try_parse(parse, &broken);
    }
    let doubts = hostile(parse, &image, &[fat..fat + 48, root..root + 96, root..root + 4096], 1500);
    assert!(doubts > 500, "{doubts}");
}

#[test]
fn loop_files_survive_when_the_rest_is_lost() {
    for (seed, args) in [(3, &["-c", "512"][..]), (4, &["-c", "4K"]), (5, &["-c", "64K"])] {
        let mut files = Default::default();
        let image = mounted(&formatted(args, 48 << 20), "mount.exfat-fuse", |folder| {
            files = age(folder, seed, 300, 400 << 10);
        });
        let (_, free) = parsed(parse, &image);
        assert_eq!(total(&free), tools(&image), "{args:?}");
        assert!((10 << 20..45 << 20).contains(&total(&free)), "{args:?} {free:?}");
        let image = scribbled(&image, &free);
        assert_eq!(total(&free), tools(&image), "{args:?}");
        mounted(&image, "mount.exfat-fuse", |folder| check(folder, &files));
    }
}
