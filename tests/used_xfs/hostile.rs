//! Damage and malice: a doubt, or free space that was free before; never a panic, and no more reading than before.

use crate::options::with_gaps;
use crate::patched::{Layout, Patched, Structure};
use crate::scratch::scratch;
use crate::tools::{Random, is_within, made, parse, rounds};
use std::io;
use std::sync::atomic::Ordering;
use testbox::io::ReadAt;

/// One thing of many changed in these bytes.
fn damage(random: &mut Random, bytes: &mut [u8]) {
    // Most of a structure's meaning is in its first bytes.
    let span = if random.below(3) > 0 { bytes.len().min(300) } else { bytes.len() };
    let at = random.below(span as u64 / 4) as usize * 4;
    let word = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let new = match random.below(9) {
        0 => word ^ 1 << random.below(32),
        1 => word.wrapping_add(1),
        2 => word.wrapping_sub(1),
        3 => 0,
        4 => u32::MAX,
        5 => 1 << 31,
        6 => random.next() as u32,
        7 => word ^ 0xff00_0000 >> (8 * random.below(4)),
        _ => u32::from_be_bytes(bytes[..4].try_into().unwrap()),
    };
    bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
}

#[test]
fn damage_is_a_doubt_or_changes_nothing() {
    let (mut random, _) = Random::of_this_run();
    let dir = scratch();
    for (options, mib, files) in [
        ("-m rmapbt=1 -b size=1024 -d agcount=2", 64, 3000),
        ("-m crc=0 -b size=512 -d agcount=2 -l size=10m", 64, 3000),
        ("-d agcount=1", 64, 0),
        ("-m crc=0 -d agcount=1 -s size=4096", 64, 0),
        ("-m reflink=0 -d agcount=3 -l su=256k", 300, 0),
    ] {
        let image =
            if files > 0 { with_gaps(dir.path(), options, files) } else { made(dir.path(), mib, options) };
        let layout = Layout::of(&image);
        let mut disk = Patched::new(&image);
        let (_, intact) = parse(&disk).unwrap();
        let most = 2 * disk.read.swap(0, Ordering::Relaxed);
        let (mut doubts, mut harmless) = (0, 0);
        for _ in 0..rounds(300) {
            let structure = match random.below(10) {
                // The unmount record of mkfs is the first thing in the log.
                0 => {
                    let block = [0, 1, random.below((layout.log.end - layout.log.start) / 512)];
                    Structure { at: layout.log.start + random.pick(&block) * 512, len: 512, sum: None }
                }
                _ => random.pick(&layout.structures),
            };
            let mut bytes = disk.bytes(structure.at, structure.len);
            match random.below(12) {
                0 => bytes.fill(0),
                1 => {
                    let other = random.pick(&layout.structures);
                    let other = disk.bytes(other.at, other.len);
                    let len = bytes.len().min(other.len());
                    bytes[..len].copy_from_slice(&other[..len]);
                }
                _ => (0..=random.below(2)).for_each(|_| damage(&mut random, &mut bytes)),
            }
            if random.below(4) > 0 {
                structure.fix(&mut bytes);
            }
            disk.patches = vec![(structure.at, bytes)];
            match parse(&disk) {
                Err(_) => doubts += 1,
                Ok((None, free)) => assert_eq!(free, []),
                Ok((Some(_), free)) => {
                    assert!(is_within(&free, &intact), "{options}: {structure:?}");
                    harmless += 1;
                }
            }
            let read = disk.read.swap(0, Ordering::Relaxed);
            assert!(read <= most, "{options}: {structure:?}: {read} bytes read");
        }
        println!("{options}: {doubts} doubts, {harmless} harmless");
        assert!(doubts * 4 > harmless, "{options}: {doubts} doubts, {harmless} harmless");
    }
}

#[test]
fn each_thing_in_doubt_is_named() {
    let dir = scratch();
    let image = made(dir.path(), 64, "-d agcount=2");
    let layout = Layout::of(&image);
    let (first, second) = (layout.header(0, 0), layout.header(1, 0));
    let (space, inodes, list) = (layout.header(0, 1), layout.header(0, 2), layout.header(0, 3));
    let tree = layout.tree_block(0, 1);
    let mut disk = Patched::new(&image);
    let be = |disk: &Patched, at: u64| u32::from_be_bytes(disk.bytes(at, 4).try_into().unwrap());
    // The block behind the first free one.
    let free = be(&disk, tree.at + 56) + 1;
    let free_count = be(&disk, first.at + 148);
    let word = |number: u32| number.to_be_bytes().to_vec();
    let cases: [(&Structure, usize, Vec<u8>, &str); 27] = [
        (&first, 4, word(4097), "not possible"),
        (&first, 100, vec![0xb4, 0xa3], "its version 3 is not known"),
        (&first, 100, vec![0xb6, 0xa5], "its version flags"),
        (&first, 200, word(0x1018a), "its second version flags"),
        (&first, 126, vec![1], "mkfs did not finish"),
        (&first, 216, word(0x1b), "needing `xfs_repair`"),
        (&first, 216, word(0x10b), "its incompatible features 0x10b are not known"),
        (&first, 212, word(0x1f), "its read-only compatible features 0x1f are not known"),
        (&first, 220, word(1), "it was not unmounted cleanly"),
        (&first, 20, word(1000), "a realtime part"),
        (&first, 48, vec![0; 8], "its log is on another disk"),
        (&first, 12, word(1 << 30), "do not make"),
        (&first, 84, word(8193), "do not make"),
        (&first, 96, word(u32::MAX), "its log is not inside a group"),
        (&first, 240, word(9), "the superblock is newer than its log"),
        (&first, 148, word(free_count + 1), "free blocks"),
        (&second, 0, word(0), "a copy of its superblock is damaged"),
        (&second, 96, word(100), "a copy of its superblock says something else"),
        (&space, 12, word(8191), "another version or length"),
        (&space, 28, word(10), "an impossible root"),
        (&space, 40, word(500), "the list of free blocks has another length"),
        (&space, 52, word(1), "do not agree with their header"),
        (&space, 208, word(9), "is newer than its log"),
        (&inodes, 20, word(free), "free space is in use"),
        (&list, 36 + 4, word(free), "free space is in use"),
        (&tree, 8, word(7), "not joined"),
        (&tree, 56 + 4, word(1 << 31), "points outside"),
    ];
    for (structure, field, bytes, why) in cases {
        disk.patches.clear();
        disk.add(structure, &[(field, &bytes)]);
        let said = disk.why();
        assert!(said.contains(why), "{field} of {structure:?}: {said}, not {why}");
        // The same without a new checksum.
        let at = structure.at + field as u64;
        disk.patches = vec![(at, bytes)];
        let said = disk.why();
        assert!(said.starts_with("xfs: "), "{said}");
    }
}

#[test]
fn trees_that_agree_on_overlapping_ranges_are_a_doubt() {
    let dir = scratch();
    for (options, sums) in [("-d agcount=2", true), ("-m crc=0 -d agcount=2", false)] {
        let image = made(dir.path(), 64, options);
        let layout = Layout::of(&image);
        let mut disk = Patched::new(&image);
        let (_, intact) = parse(&disk).unwrap();
        let record = if sums { 56 } else { 16 };
        let by_block = layout.tree_block(1, 1);
        let word = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
        let (start, length) = {
            let bytes = disk.bytes(by_block.at + record, 8);
            (word(&bytes), word(&bytes[4..]))
        };
        // Two ranges in the place of one, as long as it was together.
        let mut with = |second: u32| {
            let (long, short) = ([start, length - 10], [second, 10]);
            disk.patches.clear();
            for (block, ranges) in [(1, [long, short]), (2, [short, long])] {
                let words: Vec<u8> =
                    ranges.as_flattened().iter().flat_map(|word| word.to_be_bytes()).collect();
                disk.add(&layout.tree_block(1, block), &[(6, &[0, 2]), (record as usize, &words)]);
            }
            disk.add(&layout.header(1, 1), &[(56, &(length - 10).to_be_bytes())]);
            parse(&disk)
        };
        assert_eq!(with(start + length - 10).unwrap().1, intact);
        for second in [start + length - 11, start + 5, start] {
            let why = with(second).unwrap_err().to_string();
            assert!(why.contains("out of order"), "{why}");
        }
    }
}

/// Sizes of 2^63 bytes cost nothing.
struct Endless(Vec<u8>);

impl ReadAt for Endless {
    fn size(&self) -> io::Result<u64> {
        Ok(i64::MAX as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        buf.fill(0);
        if let Some(rest) = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)) {
            rest.iter().zip(buf.iter_mut()).for_each(|(from, to)| *to = *from);
        }
        Ok(buf.len())
    }
}

#[test]
fn endless_claims_end_at_once() {
    let (mut random, _) = Random::of_this_run();
    let dir = scratch();
    for options in ["", "-m crc=0"] {
        let image = made(dir.path(), 300, options);
        let layout = Layout::of(&image);
        let first = layout.header(0, 0);
        for _ in 0..rounds(200) {
            let mut bytes = Patched::new(&image).bytes(0, layout.sector);
            // Blocks, group size, number of groups, log: all large.
            for field in [8, 12, 84, 88, 96, 52] {
                let any = random.next() as u32;
                let word = random.pick(&[u32::MAX, 1 << 31, 1 << 30, any]);
                if random.below(3) > 0 {
                    bytes[field..field + 4].copy_from_slice(&word.to_be_bytes());
                }
            }
            bytes[124] = random.below(34) as u8;
            first.fix(&mut bytes);
            assert!(parse(&Endless(bytes)).is_err());
        }
    }
}
