//! Indexes of tens of millions of runs are streamed: memory stays bounded, and nothing is lost on the way.
//!
//! The index is made here from the byte tables of FORMAT.md, by other code than the engine's. One test in a process
//! of its own: the figure is the peak of the whole process. `TESTBOX_LONG=1` takes 67 million runs (the index alone
//! has 5.5 GB) instead of 900 thousand.
#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::Arc;
use testbox::block::mem::MemDisk;
use testbox::image::{BackupOptions, DiskAbout, Image, MemberKind, backup, diff};
use testbox::inventory::Identity;
use testbox::io::ReadAt;
use testbox::progress::Progress;

const FANOUT: u64 = 150;
/// A full leaf or inner node as a member.
const NODE: u64 = 12_288;
/// Bytes of a run, and of its member.
const RUN: u64 = 4096;
/// Bytes of the header member.
const HEADER: u64 = 4096;

/// An image of full subtrees below a root with `children` of them. Its data members are never read.
struct Synthetic {
    children: u64,
    /// Level of the root.
    height: usize,
    /// Hashes of all nodes of a level, in order.
    hashes: Vec<Vec<[u8; 32]>>,
    header: Vec<u8>,
    root: Vec<u8>,
    footer: Vec<u8>,
}

fn member(kind: u8, payload: &mut [u8]) -> Vec<u8> {
    let len = (16 + payload.len() + 10).next_multiple_of(4096);
    payload[..2].copy_from_slice(&[1, kind]);
    payload[4..8].copy_from_slice(&(len as u32).to_le_bytes());
    let mut bytes = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];
    let padded = len - 16 - 10;
    bytes.extend_from_slice(&((padded + 4) as u16).to_le_bytes());
    bytes.extend_from_slice(b"TB");
    bytes.extend_from_slice(&(padded as u16).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(16 + padded, 0);
    bytes.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// Runs below a full node.
fn runs(level: usize) -> u64 {
    FANOUT.pow(level as u32 + 1)
}

/// Bytes of file below a full node, itself not counted.
fn file_bytes(level: usize) -> u64 {
    let below = if level == 0 { RUN } else { file_bytes(level - 1) + NODE };
    FANOUT * below
}

impl Synthetic {
    fn new(height: usize, children: u64) -> Self {
        let [header, root, footer] = [const { Vec::new() }; 3];
        let mut image = Synthetic { children, height, hashes: Vec::new(), header, root, footer };
        for level in 0..height {
            let count = children * FANOUT.pow((height - 1 - level) as u32);
            let hashes = (0..count).map(|i| *blake3::hash(&image.node(level, i, FANOUT)).as_bytes());
            let hashes = hashes.collect();
            image.hashes.push(hashes);
        }
        image.root = image.node(height, 0, children);
        let disk = children * runs(height - 1) * RUN;
        // The header of a real image, of a larger disk.
        let small = MemDisk::new("sda", vec![1; 4096], 512);
        let opts = BackupOptions { chunk_size: RUN as u32, ..BackupOptions::default() };
        let about = DiskAbout::new("sda", Identity::default(), &small);
        backup(&small, &mut image.header, &about, &opts, &Progress::new()).unwrap();
        image.header.truncate(HEADER as usize);
        image.header[40..48].copy_from_slice(&disk.to_le_bytes());

        let mut payload = vec![0; 168];
        payload[8..12].copy_from_slice(&(HEADER as u32).to_le_bytes());
        payload[16..24].copy_from_slice(&disk.to_le_bytes());
        payload[24..32].copy_from_slice(&image.root_position().to_le_bytes());
        payload[32..36].copy_from_slice(&(image.root.len() as u32).to_le_bytes());
        payload[40..48].copy_from_slice(&(children * runs(height - 1)).to_le_bytes());
        payload[72..104].copy_from_slice(blake3::hash(&image.header).as_bytes());
        payload[104..136].copy_from_slice(blake3::hash(&image.root).as_bytes());
        member(7, &mut payload);
        let root_hash = blake3::derive_key("testbox image root hash v1", &payload[..136]);
        payload[136..].copy_from_slice(&root_hash);
        image.footer = member(7, &mut payload);
        image
    }

    fn root_position(&self) -> u64 {
        HEADER + self.children * (file_bytes(self.height - 1) + NODE)
    }

    /// Where the subtree of node `i` of a level begins: behind whole subtrees, and the nodes above those.
    fn start(&self, level: usize, i: u64) -> u64 {
        let above = (level + 1..self.height).map(|l| i / FANOUT.pow((l - level) as u32) * NODE);
        HEADER + i * (file_bytes(level) + NODE) + above.sum::<u64>()
    }

    fn node(&self, level: usize, i: u64, count: u64) -> Vec<u8> {
        let (disk, file) = match level {
            0 => (count * RUN, count * RUN),
            _ => (count * runs(level - 1) * RUN, count * (file_bytes(level - 1) + NODE)),
        };
        let mut payload = vec![0; 48];
        payload[8] = level as u8;
        payload[12..16].copy_from_slice(&(count as u32).to_le_bytes());
        payload[16..24].copy_from_slice(&(i * runs(level) * RUN).to_le_bytes());
        payload[24..32].copy_from_slice(&self.start(level, i).to_le_bytes());
        payload[32..40].copy_from_slice(&disk.to_le_bytes());
        payload[40..48].copy_from_slice(&file.to_le_bytes());
        for n in 0..count {
            if level == 0 {
                payload.extend_from_slice(&[2, 0, 0, 0]);
                payload.extend_from_slice(&(RUN as u32).to_le_bytes());
                payload.extend_from_slice(&RUN.to_le_bytes());
                payload.extend_from_slice(&[0xab; 64]);
            } else {
                payload.extend_from_slice(&[1 << 2, 0, 0, 0]);
                payload.extend_from_slice(&(NODE as u32).to_le_bytes());
                payload.extend_from_slice(&(runs(level - 1) * RUN).to_le_bytes());
                payload.extend_from_slice(&file_bytes(level - 1).to_le_bytes());
                payload.extend_from_slice(&runs(level - 1).to_le_bytes());
                payload.extend_from_slice(&self.hashes[level - 1][(i * FANOUT + n) as usize]);
            }
        }
        member(6, &mut payload)
    }
}

impl ReadAt for Synthetic {
    fn size(&self) -> io::Result<u64> {
        Ok(self.root_position() + self.root.len() as u64 + self.footer.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut give = |bytes: &[u8], at: u64| {
            let n = buf.len().min(bytes.len() - at as usize);
            buf[..n].copy_from_slice(&bytes[at as usize..at as usize + n]);
            Ok(n)
        };
        let behind_root = self.root_position() + self.root.len() as u64;
        if offset < HEADER {
            return give(&self.header, offset);
        } else if offset >= behind_root {
            return give(&self.footer, offset - behind_root);
        } else if offset >= self.root_position() {
            return give(&self.root, offset - self.root_position());
        }
        let (mut rest, mut i) = (offset - HEADER, 0);
        for level in (0..self.height).rev() {
            let size = file_bytes(level) + NODE;
            (i, rest) = (i * FANOUT + rest / size, rest % size);
            if rest >= file_bytes(level) {
                return give(&self.node(level, i, FANOUT), rest - file_bytes(level));
            }
        }
        // A data member: only the beginning of the second member of the file is looked at, to tell what kind of file
        // this is.
        give(&[0; 16], 0)
    }
}

#[test]
fn tens_of_millions_of_runs_are_walked_in_order_under_256_mib() {
    let is_long = std::env::var_os("TESTBOX_LONG").is_some_and(|v| v == "1");
    let (height, children) = if is_long { (3, 20) } else { (2, 40) };
    let wanted = children * runs(height - 1);
    let image = Image::open(Arc::new(Synthetic::new(height, children))).unwrap();
    let (mut count, mut offset) = (0, 0);
    for run in image.runs() {
        let run = run.unwrap();
        assert_eq!((run.kind, run.offset, run.length), (MemberKind::Data, offset, RUN));
        (count, offset) = (count + 1, offset + RUN);
    }
    assert_eq!((count, offset), (wanted, image.summary().disk));
    assert!(!is_long || count > 67_000_000);
    // A place at the end is found without the rest.
    let last = image.runs_in(offset - 1..offset).map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!((last.len(), last[0].offset), (1, offset - RUN));
    diff(&image, &image, &Progress::new(), |range| panic!("{range:?}")).unwrap();

    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let peak = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024;
    assert!(peak < 256, "{peak} MiB");
}
