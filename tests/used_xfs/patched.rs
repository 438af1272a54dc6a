//! Images with some bytes changed in memory.

use crate::tools::{numbers, parse};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use testbox::io::ReadAt;

/// An image with other bytes in places; the image itself stays as it is.
pub struct Patched {
    file: File,
    pub patches: Vec<(u64, Vec<u8>)>,
    /// Bytes that were read.
    pub read: AtomicU64,
}

impl Patched {
    pub fn new(image: &Path) -> Self {
        Patched { file: File::open(image).unwrap(), patches: Vec::new(), read: AtomicU64::new(0) }
    }

    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        FileExt::read_exact_at(&self.file, &mut bytes, at).unwrap();
        bytes
    }

    /// Writes these bytes at these places of a structure.
    pub fn add(&mut self, structure: &Structure, fields: &[(usize, &[u8])]) {
        let mut all = self.bytes(structure.at, structure.len);
        for (field, bytes) in fields {
            all[*field..field + bytes.len()].copy_from_slice(bytes);
        }
        structure.fix(&mut all);
        self.patches.push((structure.at, all));
    }

    pub fn why(&self) -> String {
        match parse(self) {
            Err(doubt) => doubt.to_string(),
            Ok((about, free)) => format!("no doubt: {about:?}, {} free ranges", free.len()),
        }
    }
}

impl ReadAt for Patched {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = FileExt::read_at(&self.file, buf, offset)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        let range = offset..offset + n as u64;
        for (at, bytes) in &self.patches {
            let both = range.start.max(*at)..range.end.min(at + bytes.len() as u64);
            if both.start < both.end {
                let (to, from) = (both.start - offset, both.start - at);
                let len = (both.end - both.start) as usize;
                buf[to as usize..][..len].copy_from_slice(&bytes[from as usize..][..len]);
            }
        }
        Ok(n)
    }
}

/// A checksummed structure of an image.
#[derive(Clone, Debug)]
pub struct Structure {
    pub at: u64,
    pub len: usize,
    /// Where its checksum is; `None` without checksums.
    pub sum: Option<usize>,
}

impl Structure {
    pub fn fix(&self, bytes: &mut [u8]) {
        if let Some(sum) = self.sum {
            bytes[sum..sum + 4].fill(0);
            let crc = crc32c::crc32c(bytes);
            bytes[sum..sum + 4].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

/// What a parser reads of an image.
pub struct Layout {
    block: u64,
    group_bytes: u64,
    pub sector: usize,
    /// Version 5.
    sums: bool,
    pub log: Range<u64>,
    pub structures: Vec<Structure>,
}

impl Layout {
    pub fn of(image: &Path) -> Layout {
        let fields = "blocksize sectsize agblocks agcount logblocks agblklog";
        let [block, sector, group_blocks, groups, log_blocks, group_bits] =
            numbers(image, "sb 0", fields)[..]
        else {
            unreachable!()
        };
        let disk = Patched::new(image);
        let be = |at: u64| u32::from_be_bytes(disk.bytes(at, 4).try_into().unwrap());
        let log = u64::from(be(48)) << 32 | u64::from(be(52));
        let log = ((log >> group_bits) * group_blocks + (log & ((1 << group_bits) - 1))) * block;
        let sums = be(100) >> 16 & 0xf == 5;
        let group_bytes = group_blocks * block;
        let mut layout = Layout {
            block,
            group_bytes,
            sector: sector as usize,
            sums,
            log: log..log + log_blocks * block,
            structures: Vec::new(),
        };
        for group in 0..groups {
            let mut found: Vec<Structure> = (0..4).map(|i| layout.header(group, i)).collect();
            let space = layout.header(group, 1).at;
            for tree in [0, 4] {
                let root = be(space + 16 + tree);
                found.push(layout.tree_block(group, root));
                if be(space + 28 + tree) > 1 {
                    let header = if sums { 56 } else { 16 };
                    let entries = (block - header) / 12;
                    let at = group * group_bytes + u64::from(root) * block + header + 8 * entries;
                    found.extend((0..2).map(|i| layout.tree_block(group, be(at + 4 * i))));
                }
            }
            layout.structures.append(&mut found);
        }
        layout
    }

    /// Superblock, header of free space, of inodes, list of free blocks.
    pub fn header(&self, group: u64, i: usize) -> Structure {
        let at = group * self.group_bytes + (i * self.sector) as u64;
        Structure { at, len: self.sector, sum: self.sums.then_some([224, 216, 312, 32][i]) }
    }

    pub fn tree_block(&self, group: u64, block: u32) -> Structure {
        let at = group * self.group_bytes + u64::from(block) * self.block;
        Structure { at, len: self.block as usize, sum: self.sums.then_some(52) }
    }
}
