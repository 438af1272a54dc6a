//! An image in memory whose superblock and nodes can be changed, with checksums that hold again.

use super::super::checksum::BtrfsChecksum;
use super::super::chunk_tree;
use super::super::node::{BtrfsRoot, Key};
use super::super::superblock::{BtrfsSuperblock, PRIMARY};
use super::super::tree::Trees;
use super::super::{NodeBytes, Roots};
use crate::io::ReadAt;
use crate::used::Volume;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const BLOCK: u64 = 4096;

/// Blocks that are not zero; a copy of it costs little. It counts what is read.
#[derive(Default)]
pub struct Disk {
    size: u64,
    blocks: HashMap<u64, Arc<Vec<u8>>>,
    /// Bytes that were asked for, and most at once.
    pub read: AtomicU64,
    pub longest: AtomicU64,
}

impl Clone for Disk {
    fn clone(&self) -> Self {
        Disk { size: self.size, blocks: self.blocks.clone(), ..Disk::default() }
    }
}

impl ReadAt for Disk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.longest.fetch_max(buf.len() as u64, Relaxed);
        let len = (buf.len() as u64).min(self.size.saturating_sub(offset)) as usize;
        let within = (offset % BLOCK) as usize;
        let len = len.min(BLOCK as usize - within);
        match self.blocks.get(&(offset / BLOCK)) {
            Some(block) => buf[..len].copy_from_slice(&block[within..within + len]),
            None => buf[..len].fill(0),
        }
        self.read.fetch_add(len as u64, Relaxed);
        Ok(len)
    }
}

impl Disk {
    pub fn load(image: &Path) -> Disk {
        let file = File::open(image).unwrap();
        let size = ReadAt::size(&file).unwrap();
        let mut disk = Disk { size, ..Disk::default() };
        for number in 0..size / BLOCK {
            let mut block = vec![0; BLOCK as usize];
            ReadAt::read_exact_at(&file, &mut block, number * BLOCK).unwrap();
            if block != [0; BLOCK as usize] {
                disk.blocks.insert(number, Arc::new(block));
            }
        }
        disk
    }

    pub fn save(&self, image: &Path) {
        let file = File::create(image).unwrap();
        file.set_len(self.size).unwrap();
        for (number, block) in &self.blocks {
            file.write_all_at(block, number * BLOCK).unwrap();
        }
    }

    /// Where blocks of 4096 bytes are that are not zero, in order.
    pub fn blocks(&self) -> Vec<u64> {
        let mut blocks: Vec<u64> = self.blocks.keys().map(|number| number * BLOCK).collect();
        blocks.sort_unstable();
        blocks
    }

    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let (mut number, mut from, mut rest) = (at / BLOCK, (at % BLOCK) as usize, bytes);
        while !rest.is_empty() {
            let (part, others) = rest.split_at(rest.len().min(BLOCK as usize - from));
            let block = self.blocks.entry(number).or_insert_with(|| Arc::new(vec![0; BLOCK as usize]));
            Arc::make_mut(block)[from..from + part.len()].copy_from_slice(part);
            (number, from, rest) = (number + 1, 0, others);
        }
    }

    fn checksum(&self) -> BtrfsChecksum {
        let number = self.bytes(PRIMARY + 0xc4, 2);
        BtrfsChecksum::new(u16::from_le_bytes([number[0], number[1]])).unwrap_or(BtrfsChecksum::Crc32c)
    }

    /// Makes the checksum of a superblock or node hold again.
    pub fn seal(&mut self, at: u64, len: usize) {
        let sum = self.checksum().of(&self.bytes(at + 32, len - 32));
        self.write(at, &sum);
    }

    /// Writes into the superblock.
    pub fn superblock(&mut self, offset: u64, bytes: &[u8]) {
        self.write(PRIMARY + offset, bytes);
        self.seal(PRIMARY, 4096);
    }

    pub fn number(&self, offset: u64) -> u64 {
        u64::from_le_bytes(self.bytes(PRIMARY + offset, 8).try_into().unwrap())
    }

    pub fn node_size(&self) -> usize {
        self.number(0x94) as u32 as usize
    }

    /// Where the copies of a node are on the disk, as the parser sees it.
    pub fn copies(&self, logical: u64) -> Vec<u64> {
        let volume = Volume::new(self, 0, self.size, 512);
        let superblock = BtrfsSuperblock::read(&volume).unwrap().unwrap();
        let (chunks, _) = chunk_tree::read(&superblock, &mut Trees::new(&volume, &superblock)).unwrap();
        let chunk = chunks.covering(logical, self.node_size() as u64).unwrap();
        chunk.copies().iter().map(|copy| copy + logical - chunk.start).collect()
    }

    /// Where a tree begins.
    pub fn root(&self, tree: u64) -> BtrfsRoot {
        let volume = Volume::new(self, 0, self.size, 512);
        let superblock = BtrfsSuperblock::read(&volume).unwrap().unwrap();
        let mut trees = Trees::new(&volume, &superblock);
        let (chunks, _) = chunk_tree::read(&superblock, &mut trees).unwrap();
        let roots = Roots::read(&superblock, &chunks, &mut trees).unwrap();
        match tree {
            1 => superblock.root_tree,
            2 => roots.extent,
            3 => superblock.chunk_tree,
            4 => roots.device,
            10 => roots.free_space.unwrap(),
            11 => roots.block_group.unwrap(),
            _ => panic!("tree {tree} is of no interest"),
        }
    }

    /// Changes the bytes of a node in all copies, and seals it.
    pub fn node(&mut self, logical: u64, change: impl FnOnce(&mut [u8])) {
        let copies = self.copies(logical);
        let mut bytes = self.bytes(copies[0], self.node_size());
        change(&mut bytes);
        for copy in copies {
            self.write(copy, &bytes);
            self.seal(copy, bytes.len());
        }
    }

    /// Changes the items of a leaf, and writes it anew.
    pub fn leaf(&mut self, logical: u64, change: impl FnOnce(&mut Vec<(Key, Vec<u8>)>)) {
        self.node(logical, |bytes| {
            let mut items = items(bytes);
            change(&mut items);
            set_items(bytes, &items);
        });
    }

    /// As [`Disk::leaf`] for a tree that is one leaf.
    pub fn tree(&mut self, tree: u64, change: impl FnOnce(&mut Vec<(Key, Vec<u8>)>)) {
        let root = self.root(tree);
        assert_eq!(root.level, 0);
        self.leaf(root.at, change);
    }

    /// Adds an item where its key belongs.
    pub fn put(&mut self, tree: u64, key: Key, item: Vec<u8>) {
        self.tree(tree, |items| {
            let at = items.partition_point(|(other, _)| *other < key);
            items.insert(at, (key, item));
        });
    }

    /// Takes the item of a kind away that comes at this number.
    pub fn take(&mut self, tree: u64, kind: u8, number: usize) {
        self.tree(tree, |items| {
            let of_kind = items.iter().enumerate().filter(|(_, (key, _))| key.kind == kind);
            let (at, _) = of_kind.clone().nth(number.min(of_kind.count() - 1)).unwrap();
            items.remove(at);
        });
    }

    /// Changes the item of a kind that comes at this number, or the last one, in a tree that is one leaf.
    pub fn item(&mut self, tree: u64, kind: u8, number: usize, change: impl FnOnce(&mut Key, &mut Vec<u8>)) {
        self.tree(tree, |items| {
            let mut of_kind: Vec<_> = items.iter_mut().filter(|(key, _)| key.kind == kind).collect();
            let number = number.min(of_kind.len() - 1);
            let (key, item) = &mut *of_kind[number];
            change(key, item);
        });
    }
}

/// The items of a leaf.
pub fn items(leaf: &[u8]) -> Vec<(Key, Vec<u8>)> {
    let b = NodeBytes(leaf);
    let slots = 0..b.u32(96).unwrap() as usize;
    let item = |slot| {
        let at = 101 + 25 * slot;
        let (offset, len) = (b.u32(at + 17).unwrap() as usize, b.u32(at + 21).unwrap() as usize);
        (Key::parse(&leaf[at..at + 17]).unwrap(), b.slice(101 + offset, len).unwrap().to_vec())
    };
    slots.map(item).collect()
}

/// Fills a leaf; the order of the items is the caller's.
pub fn set_items(leaf: &mut [u8], items: &[(Key, Vec<u8>)]) {
    let size = leaf.len();
    leaf[96..100].copy_from_slice(&(items.len() as u32).to_le_bytes());
    leaf[101..].fill(0);
    let mut end = size;
    for (slot, (key, item)) in items.iter().enumerate() {
        end -= item.len();
        let entry = [
            &key.object.to_le_bytes()[..],
            &[key.kind],
            &key.offset.to_le_bytes(),
            &(end as u32 - 101).to_le_bytes(),
            &(item.len() as u32).to_le_bytes(),
        ];
        let at = 101 + 25 * slot;
        leaf[at..at + 25].copy_from_slice(&entry.concat());
        leaf[end..end + item.len()].copy_from_slice(item);
    }
}
