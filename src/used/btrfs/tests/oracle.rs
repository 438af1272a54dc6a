//! What `btrfs inspect-internal dump-tree` says, made into a map; and whether the free bytes are of no use.

use super::{map, shell};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

const BLOCK: u64 = 4096;

/// Words of one item: those of its key, then all that follow up to the next item.
fn items(dump: &str) -> Vec<(Vec<&str>, Vec<&str>)> {
    let mut items = Vec::new();
    for part in dump.split("\titem ").skip(1) {
        let (key, rest) = part.split_once('(').unwrap().1.split_once(')').unwrap();
        items.push((key.split_whitespace().collect(), rest.split_whitespace().collect()));
    }
    items
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is not a number"))
}

/// The number behind the n-th occurrence of a word.
fn after(words: &[&str], name: &str, n: usize) -> u64 {
    let at = words.iter().enumerate().filter(|(_, word)| **word == name).nth(n).unwrap().0;
    number(words[at + 1])
}

/// Free ranges of the device, by the tool.
pub fn free(image: &Path) -> Vec<Range<u64>> {
    let dump = |tree: &str| shell(&format!("btrfs inspect-internal dump-tree -t {tree} \"$IMG\""), image);
    let (chunks, devices, extents) = (dump("chunk"), dump("dev"), dump("extent"));
    let superblock = shell("btrfs inspect-internal dump-super \"$IMG\"", image);
    let words: Vec<&str> = superblock.split_whitespace().collect();
    let node = after(&words, "nodesize", 0);
    let blocks = after(&words, "dev_item.total_bytes", 0) / BLOCK;

    let mut free = vec![true; blocks as usize];
    let mut mark = |range: Range<u64>, is_free: bool| {
        assert!(range.start.is_multiple_of(BLOCK) && range.end.is_multiple_of(BLOCK), "{range:?}");
        for block in range.start / BLOCK..(range.end / BLOCK).min(blocks) {
            free[block as usize] = is_free;
        }
    };
    for (key, rest) in items(&devices).iter().filter(|(key, _)| key[1] == "DEV_EXTENT") {
        mark(number(key[2])..number(key[2]) + after(rest, "length", 0), false);
    }
    // Logical start, length, places on the device.
    let mut all = Vec::new();
    for (key, rest) in items(&chunks).iter().filter(|(key, _)| key[1] == "CHUNK_ITEM") {
        let len = after(rest, "length", 0);
        let copies: Vec<u64> =
            (0..after(rest, "num_stripes", 0)).map(|n| after(rest, "offset", n as usize)).collect();
        let flags = rest[rest.iter().position(|word| *word == "type").unwrap() + 1];
        if !flags.starts_with("SYSTEM") {
            copies.iter().for_each(|copy| mark(*copy..copy + len, true));
        }
        all.push((number(key[2]), len, copies));
    }
    let mut found = 0;
    for (key, _) in items(&extents) {
        let len = match key[1] {
            "EXTENT_ITEM" => number(key[2]),
            "METADATA_ITEM" => node,
            _ => continue,
        };
        let at = number(key[0]);
        found += len;
        let (start, _, copies) =
            all.iter().find(|(start, len, _)| (*start..start + len).contains(&at)).unwrap();
        copies.iter().for_each(|copy| mark(copy + at - start..copy + at - start + len, false));
    }
    assert_eq!(found, after(&words, "bytes_used", 0));
    for start in [0, 64 << 20, 256 << 30] {
        mark(start..start + if start == 0 { 1 << 20 } else { 64 << 10 }, false);
    }
    ranges(&free)
}

fn ranges(free: &[bool]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for (block, _) in free.iter().enumerate().filter(|(_, free)| **free) {
        let start = block as u64 * BLOCK;
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end += BLOCK,
            _ => ranges.push(start..start + BLOCK),
        }
    }
    ranges
}

/// The map of an image, which is the tool's to the byte.
pub fn agrees(image: &Path, what: &str) -> Vec<Range<u64>> {
    let (about, ours) = map(&File::open(image).unwrap()).unwrap_or_else(|doubt| panic!("{what}: {doubt}"));
    assert_eq!(about.expect(what).kind, "btrfs");
    let theirs = free(image);
    if ours != theirs {
        let odd = ours.iter().zip(&theirs).find(|(a, b)| a != b);
        panic!("{what}: {} free ranges, the tool has {}, first other one: {odd:?}", ours.len(), theirs.len());
    }
    ours
}

/// As [`agrees`]; and then overwrites all that is free and lets the format's own check read every node and file.
pub fn free_is_of_no_use(image: &Path, what: &str) {
    let free = agrees(image, what);
    let total: u64 = free.iter().map(|range| range.end - range.start).sum();
    assert!(total > fs::metadata(image).unwrap().len() / 4, "{what}: only {total} bytes are free");
    spoil(image, &free);
    shell("btrfs check --readonly --check-data-csum \"$IMG\"", image);
}

/// Overwrites ranges with 0xa5.
pub fn spoil(image: &Path, ranges: &[Range<u64>]) {
    let file = fs::OpenOptions::new().write(true).open(image).unwrap();
    let junk = vec![0xa5; 1 << 20];
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(junk.len() as u64);
            file.write_all_at(&junk[..len as usize], at).unwrap();
            at += len;
        }
    }
}
