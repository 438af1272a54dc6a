//! Random damage under checksums that hold: a doubt or the same map, within the bounds that the parser promises.

use super::super::superblock::PRIMARY;
use super::disk::Disk;
use super::{folder, map, mkfs};
use crate::io::ReadAt;
use std::sync::atomic::Ordering::Relaxed;

/// Random numbers that a seed repeats (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// Where the superblock and the nodes are that are read, and their lengths.
fn targets(disk: &Disk) -> Vec<(u64, usize)> {
    let fsid = disk.bytes(PRIMARY + 0x20, 16);
    let is_read = |at: &u64| {
        disk.bytes(at + 32, 16) == fsid && {
            let mut damaged = disk.clone();
            damaged.write(*at, &[0; 32]);
            map(&damaged).is_err()
        }
    };
    let nodes = disk.blocks().into_iter().filter(|at| *at != PRIMARY).filter(is_read);
    let mut targets: Vec<_> = nodes.map(|at| (at, disk.node_size())).collect();
    // One in four.
    targets.splice(0..0, vec![(PRIMARY, 4096); targets.len().div_ceil(3)]);
    targets
}

/// Damages a few bytes of a superblock or node; mostly where the fields are.
fn damage(disk: &mut Disk, targets: &[(u64, usize)], random: &mut Random) {
    let (at, len) = targets[random.below(targets.len() as u64) as usize];
    let fields = if at == PRIMARY { 0x32b + 300 } else { 500 };
    for _ in 0..=random.below(3) {
        let end = if random.below(3) == 0 { len as u64 } else { fields };
        let to = at + 32 + random.below(end - 32 - 8);
        let bytes = match random.below(6) {
            0 => vec![disk.bytes(to, 1)[0] ^ 1 << random.below(8)],
            1 => vec![0xff; 8],
            2 => vec![0; 1 + random.below(8) as usize],
            3 => vec![random.below(256) as u8],
            // What stands elsewhere in it: keys, addresses, lengths.
            4 => disk.bytes(at + 32 + random.below(fields - 32 - 8), 8),
            _ => disk.bytes(to, 1).iter().map(|byte| byte.wrapping_add(random.below(5) as u8)).collect(),
        };
        disk.write(to, &bytes);
    }
    if random.below(8) != 0 {
        disk.seal(at, len);
    }
}

/// Twenty times the rounds with `TESTBOX_LONG=1`.
fn survives(options: &str, rounds: u64) {
    let rounds = if std::env::var_os("TESTBOX_LONG").is_some() { rounds * 20 } else { rounds };
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::load(&mkfs(dir.path(), 320, options));
    let targets = targets(&disk);
    let good = map(&disk).unwrap();
    let most = disk.size().unwrap() + 8192;
    let (mut doubts, mut same) = (0, 0);
    for seed in 0..rounds {
        let mut random = Random(seed);
        let mut damaged = disk.clone();
        for _ in 0..=random.below(3) {
            damage(&mut damaged, &targets, &mut random);
        }
        damaged.read.store(0, Relaxed);
        damaged.longest.store(0, Relaxed);
        match map(&damaged) {
            Ok((None, free)) => assert!(free.is_empty(), "seed {seed}"),
            Ok((_, free)) => {
                assert!(free == good.1, "seed {seed}: another map and no doubt");
                same += 1;
            }
            Err(_) => doubts += 1,
        }
        assert!(damaged.read.load(Relaxed) <= most, "seed {seed}");
        assert!(damaged.longest.load(Relaxed) <= 65536, "seed {seed}");
    }
    // Neither everything nor nothing is noticed.
    assert!(doubts > rounds / 4 && same > rounds / 20, "{doubts} doubts, {same} times the same");
}

#[test]
fn random_damage_is_a_doubt_or_changes_nothing() {
    survives("", 2000);
}

#[test]
fn random_damage_of_high_trees_is_a_doubt_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    survives(&format!("-n 4096 --mixed --csum xxhash --rootdir {}", folder(dir.path()).display()), 1000);
}
