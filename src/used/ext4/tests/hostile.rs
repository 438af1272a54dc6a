//! Superblocks, descriptors and bitmaps that lie: no panic, no hang, and never a free byte that the intact file system
//! does not have.

use super::super::bits;
use super::super::checksum::{Ext4Checksum, crc32c};
use super::*;

const OPTIONS: &[&str] = &[
    "-t ext2 -b 1024 -g 1024 -N 64",
    "-t ext4 -b 1024 -g 1024 -N 64 -O mmp",
    "-t ext4 -b 1024 -g 1024 -N 64 -O ^metadata_csum,uninit_bg",
    "-t ext4 -b 2048 -g 512 -N 64 -O ^flex_bg,^64bit,^has_journal",
    "-t ext4 -b 1024 -g 4096 -N 64 -O bigalloc -C 4096",
    "-t ext4 -b 1024 -g 1024 -N 64 -O meta_bg,^resize_inode,sparse_super2,^has_journal",
];

/// An intact file system, and what may be free of it.
struct Disk {
    options: &'static str,
    bytes: Vec<u8>,
    fs: Super,
    free: Vec<Range<u64>>,
}

fn disks() -> Vec<Disk> {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), 30, 60_000);
    let make = |options: &&'static str| {
        let image = Image::make(&format!("{options} -d {}", folder.path().display()), "8M");
        let (bytes, free) = (image.bytes(), image.parse().unwrap());
        let mut disk = Disk { options, fs: superblock_of(&bytes), bytes, free };
        disk.unwritten_may_move();
        disk
    };
    OPTIONS.iter().map(make).collect()
}

impl Disk {
    fn desc(&self, group: u64) -> Range<usize> {
        let (block, place) = (group / self.fs.descs_per_block(), group % self.fs.descs_per_block());
        let at = (self.fs.desc_block(block) * self.fs.block) as usize + place as usize * self.fs.desc_size;
        at..at + self.fs.desc_size
    }

    fn bitmap(&self, group: u64) -> Range<usize> {
        let desc = &self.bytes[self.desc(group)];
        let at = (le(desc, 0) * self.fs.block) as usize;
        at..at + self.fs.block as usize
    }

    fn is_uninit(&self, group: u64) -> bool {
        self.bytes[self.desc(group).start + 0x12] & 2 != 0
    }

    /// Some groups have a bitmap although nothing is in them.
    fn is_empty(&self, group: u64) -> bool {
        let volume = Volume::new(&self.bytes, 0, self.bytes.len() as u64, 512);
        let descs = self.fs.descs(&volume, group / self.fs.descs_per_block()).unwrap();
        let desc = &descs[(group % self.fs.descs_per_block()) as usize];
        let empty = super::super::never_written(&self.fs, group, desc);
        let blocks = self.fs.group(group);
        let len = ((blocks.end - blocks.start) / self.fs.cluster) as usize;
        bits::zeros(&empty, len).eq(bits::zeros(&self.bytes[self.bitmap(group)], len))
    }

    /// A group whose bitmap was never written holds nothing: its descriptor may put its structures elsewhere in it.
    fn unwritten_may_move(&mut self) {
        let mut free = Free::new(1, usize::MAX);
        self.free.drain(..).for_each(|range| free.add(range));
        for group in (0..self.fs.groups).filter(|group| self.is_uninit(*group)) {
            let desc = &self.bytes[self.desc(group)];
            for (at, len) in [(0, 1), (4, 1), (8, self.fs.table)] {
                let start = le(desc, at) * self.fs.block;
                free.add(start..start + len * self.fs.block);
            }
        }
        self.free = free.finish();
    }

    /// Superblock and descriptors.
    fn fields(&self) -> Vec<usize> {
        (1024..2048).chain((0..self.fs.groups).flat_map(|group| self.desc(group))).collect()
    }

    /// Makes the checksums right of what stands in the superblock and in the descriptors.
    fn seal(&mut self) {
        for group in 0..self.fs.groups {
            let at = self.desc(group);
            if let Some(sum) = self.fs.checksum.descriptor(group, &self.bytes[at.clone()]) {
                self.bytes[at.start + 0x1e..][..2].copy_from_slice(&sum.to_le_bytes());
            }
        }
        if let Ext4Checksum::Crc32c(_) = self.fs.checksum {
            let sum = crc32c(!0, &self.bytes[1024..2044]);
            self.bytes[2044..2048].copy_from_slice(&sum.to_le_bytes());
        }
    }

    /// Writes a bitmap bit, and makes all counts and checksums agree with it.
    fn set_bit_and_counts(&mut self, group: u64, bit: usize, used: bool) {
        let (bitmap, desc) = (self.bitmap(group), self.desc(group).start);
        self.bytes[bitmap.start + bit / 8] ^= 1 << (bit % 8);
        let add = |bytes: &mut [u8], step: u64| {
            let value = le(bytes, 0);
            let value = if used { value - step } else { value + step } as u32;
            bytes[..4].copy_from_slice(&value.to_le_bytes());
        };
        add(&mut self.bytes[1024 + 0xc..], self.fs.cluster);
        // The upper half of these four bytes counts inodes: no carry in tests as small as these.
        add(&mut self.bytes[desc + 0xc..], 1);
        if let Ext4Checksum::Crc32c(seed) = self.fs.checksum {
            let covered = (self.fs.per_group / self.fs.cluster / 8) as usize;
            let sum = crc32c(seed, &self.bytes[bitmap][..covered]).to_le_bytes();
            self.bytes[desc + 0x18..][..2].copy_from_slice(&sum[..2]);
            if self.fs.desc_size >= 64 {
                self.bytes[desc + 0x38..][..2].copy_from_slice(&sum[2..]);
            }
        }
        self.seal();
    }

    /// What `change` makes of it; afterwards everything is as before.
    fn with<T>(&mut self, change: impl FnOnce(&mut Self), look: impl FnOnce(&Self) -> T) -> T {
        let (free, bytes) = (self.free.clone(), self.bytes.clone());
        change(self);
        let result = look(self);
        (self.free, self.bytes) = (free, bytes);
        result
    }

    /// Nothing is free that was not. Returns whether it is still believed.
    fn is_believed(&self, what: &str) -> bool {
        let Ok(Some((_, free))) = try_parse(parse, &self.bytes) else { return false };
        for range in free {
            let inside = self.free.iter().any(|old| old.start <= range.start && range.end <= old.end);
            assert!(inside, "{}, {what}: {range:?} was not free", self.options);
        }
        true
    }
}

fn le(bytes: &[u8], at: usize) -> u64 {
    u64::from(crate::bytes::le32(bytes, at))
}

#[test]
fn every_bit_of_superblock_and_descriptors() {
    for disk in &mut disks() {
        assert!(disk.is_believed("intact"));
        for at in disk.fields() {
            let is_checked = match disk.fs.checksum {
                Ext4Checksum::None => false,
                Ext4Checksum::Crc16(_) => at >= 2048,
                Ext4Checksum::Crc32c(_) => true,
            };
            let old = disk.bytes[at];
            for mask in (0..8).map(|bit| 1 << bit).chain([0xff, old]) {
                if mask == 0 {
                    continue;
                }
                let what = format!("byte {at} with {mask:#x}");
                // Whoever loses the feature metadata_csum has no checksums.
                let is_checked = is_checked && !(at == 1024 + 0x65 && mask & 4 != 0);
                disk.bytes[at] ^= mask;
                let believed = disk.is_believed(&what);
                assert!(!(believed && is_checked), "{}: {what} is believed", disk.options);
                if is_checked {
                    let sums: Vec<_> = disk.fields().into_iter().map(|at| (at, disk.bytes[at])).collect();
                    disk.seal();
                    disk.is_believed(&format!("{what}, sealed"));
                    for (at, byte) in sums {
                        disk.bytes[at] = byte;
                    }
                }
                disk.bytes[at] = old;
            }
        }
    }
}

#[test]
fn fields_with_extreme_and_with_random_numbers() {
    let rounds = if std::env::var_os("TESTBOX_LONG").is_some() { 200_000 } else { 10_000 };
    let mut random = TestRandom(7);
    for disk in &mut disks() {
        let intact = disk.bytes.clone();
        let fields = disk.fields();
        for round in 0..rounds {
            let count = 1 + random.below(3);
            for _ in 0..count {
                let at = *pick(&mut random, &fields) & !1;
                let extremes = [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX];
                let value = match random.below(4) {
                    0 => random.below(1 << 16),
                    1 => random.below(u64::MAX),
                    2 => le(&disk.bytes, at).wrapping_add(random.below(9)).wrapping_sub(4),
                    _ => *pick(&mut random, &extremes),
                };
                let len = *pick(&mut random, &[2, 4, 8]);
                disk.bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            }
            disk.seal();
            disk.is_believed(&format!("round {round}"));
            for at in &fields {
                disk.bytes[*at..(at + 8).min(intact.len())]
                    .copy_from_slice(&intact[*at..(at + 8).min(intact.len())]);
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_a_block_bitmap() {
    for disk in &mut disks() {
        for group in (0..disk.fs.groups).filter(|group| !disk.is_uninit(*group)).collect::<Vec<_>>() {
            let blocks = disk.fs.group(group);
            let at = disk.bitmap(group).start;
            for bit in 0..(blocks.end - blocks.start).div_ceil(disk.fs.cluster) as usize {
                disk.bytes[at + bit / 8] ^= 1 << (bit % 8);
                assert!(!disk.is_believed("bitmap"), "{}: group {group}, bit {bit}", disk.options);
                disk.bytes[at + bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

#[test]
fn bitmaps_that_call_a_structure_free() {
    for disk in &mut disks() {
        let intact = disk.bytes.clone();
        let own = super::super::structures(&disk.fs, &Volume::new(&intact, 0, 8 << 20, 512)).unwrap();
        let heads = (0..disk.fs.groups).map(|group| disk.fs.head(group));
        let all: Vec<u64> = own.into_iter().chain(heads).flatten().collect();
        let mut tried = 0;
        for block in all {
            let Some(group) = (0..disk.fs.groups).find(|group| disk.fs.group(*group).contains(&block)) else {
                panic!("{block} is in no group");
            };
            if disk.is_uninit(group) {
                continue;
            }
            let bit = ((block - disk.fs.group(group).start) / disk.fs.cluster) as usize;
            let what = format!("{}: block {block} of group {group}", disk.options);
            disk.set_bit_and_counts(group, bit, false);
            let doubt = try_parse(parse, &disk.bytes);
            disk.set_bit_and_counts(group, bit, true);
            assert!(doubt.unwrap_err().why.contains("structures of it are free"), "{what}");
            tried += 1;
        }
        assert!(tried > 20 && disk.bytes == intact, "{}: {tried}", disk.options);
        // The same hand makes a bitmap that is believed, where it takes a free block: so it is the structures that count.
        let len = (disk.fs.per_group / disk.fs.cluster) as usize;
        let first_free = |group| bits::find(&disk.bytes[disk.bitmap(group)], 0..len, false);
        let with_room = |group: &u64| !disk.is_uninit(*group) && first_free(*group) < len;
        let group = (0..disk.fs.groups).find(with_room).unwrap();
        let bit = first_free(group);
        assert!(
            disk.with(|disk| disk.set_bit_and_counts(group, bit, true), |disk| disk.is_believed("taken"))
        );
    }
}

#[test]
fn a_group_that_pretends_to_have_no_bitmap() {
    for disk in disks().iter_mut().filter(|disk| disk.fs.checksum != Ext4Checksum::None) {
        for group in (0..disk.fs.groups).filter(|group| !disk.is_uninit(*group)).collect::<Vec<_>>() {
            let (at, len) = (disk.desc(group).start, disk.fs.group(group));
            // With its own count and with the one that would be right if it were empty.
            for free in [None, Some(((len.end - len.start) / disk.fs.cluster) as u16)] {
                let pretend = |disk: &mut Disk| {
                    disk.bytes[at + 0x12] |= 2;
                    if let Some(free) = free {
                        disk.bytes[at + 0xc..][..2].copy_from_slice(&free.to_le_bytes());
                    }
                    disk.seal();
                };
                let what = format!("group {group} pretends");
                let believed = disk.with(pretend, |disk| disk.is_believed(&what));
                assert!(!believed || disk.is_empty(group), "{}: {what}", disk.options);
            }
        }
    }
}

#[test]
fn journal_and_its_inode() {
    for disk in disks().iter_mut().filter(|disk| disk.fs.journal.is_some()) {
        let inode = (le(&disk.bytes[disk.desc(0)], 8) * disk.fs.block + 7 * disk.fs.inode_size) as usize;
        let start = le(&disk.bytes, inode + 0x28 + 20) * disk.fs.block;
        for at in (inode..inode + 128).chain(start as usize..start as usize + 1024) {
            for mask in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                disk.bytes[at] ^= mask;
                disk.is_believed(&format!("byte {at}"));
                disk.bytes[at] ^= mask;
            }
        }
    }
}

/// A disk of any size, all zero but for its superblock.
struct Empty {
    size: u64,
    superblock: Vec<u8>,
}

impl ReadAt for Empty {
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        buf.fill(0);
        for (byte, at) in buf.iter_mut().zip(offset..) {
            if (1024..2048).contains(&at) {
                *byte = self.superblock[at as usize - 1024];
            }
        }
        Ok(buf.len())
    }
}

#[test]
fn sizes_beyond_everything() {
    let base = disks().remove(0).bytes[1024..2048].to_vec();
    let mut random = TestRandom(9);
    for size in [2048, 1 << 20, 1 << 44, 1 << 60, u64::MAX] {
        for _ in 0..2000 {
            let mut superblock = base.clone();
            // 64bit, so that the upper halves count.
            superblock[0x60] |= 0x80;
            superblock[0xfe] = 64;
            for at in [0x0, 0x4, 0xc, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x104, 0x150, 0x158] {
                let value =
                    *pick(&mut random, &[0u32, 1, 2, 8, 1024, 8192, 1 << 20, 1 << 31, u32::MAX, 7, 6]);
                if random.below(2) == 0 {
                    superblock[at..at + 4].copy_from_slice(&value.to_le_bytes());
                }
            }
            let result = try_parse(parse, &Empty { size, superblock });
            assert!(result.is_err(), "{result:?}");
        }
    }
}
