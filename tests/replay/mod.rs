//! What a power cut may leave of a disk: the log of all its writes and flushes, and the states that follow from it.
//!
//! The log is that of Linux' dm-log-writes (`Documentation/admin-guide/device-mapper/log-writes.rst` of the kernel), as
//! QEMU's driver `blklogwrites` writes it. All figures little endian; everything in whole sectors of the log:
//!
//! | Bytes | Superblock, the first sector | Entry, one sector, its data behind it |
//! |---|---|---|
//! | 0..8 | magic 0x6a736677736872 | first sector of the disk |
//! | 8..16 | version 1 | sectors |
//! | 16..24 | number of entries | flags: 1 flush, 2 FUA, 4 discard (no data), 8 mark (data for people) |
//! | 24..32 | sector size (4 bytes) | length of the data of a mark |
#![allow(dead_code)] // each test binary uses its own part of it

pub mod recorder;

use std::ops::Range;
use testbox::sys::Chance;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// One operation on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Everything before it is durable.
    is_flush: bool,
    /// It is durable by itself.
    is_fua: bool,
    /// Where on the disk, in bytes.
    offset: usize,
    /// Where its bytes stand in the log.
    data: Range<usize>,
}

/// A log, parsed.
pub struct WriteLog {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// One state: everything before `durable` is on the disk, and of what follows, up to `end`, what chance has left.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Entries that a flush has made durable.
    pub durable: usize,
    /// The next flush, which did not come any more; behind the last entry where there was none.
    pub end: usize,
    /// `None`: nothing of what was not flushed is there.
    pub chance: Option<Chance>,
    /// What the disk writes whole or not at all, in bytes.
    pub atom: usize,
}

fn number(bytes: &[u8], at: usize, len: usize) -> Result<u64, String> {
    let bytes = bytes.get(at..at + len).ok_or_else(|| format!("the log ends at byte {at}"))?;
    Ok(bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

impl Cut {
    /// True where the cut came after entry number `nth`, or may have: what was promised by then must be there.
    pub fn is_after(&self, nth: usize) -> bool {
        self.end > nth
    }
}

impl WriteLog {
    pub fn parse(bytes: Vec<u8>) -> Result<WriteLog, String> {
        if number(&bytes, 0, 8)? != MAGIC || number(&bytes, 8, 8)? != 1 {
            return Err("not a log of dm-log-writes, version 1".into());
        }
        let (count, sector) = (number(&bytes, 16, 8)?, number(&bytes, 24, 4)? as usize);
        let (mut entries, mut at) = (Vec::new(), sector);
        for nth in 0..count {
            let [first, sectors, flags, mark] = [0, 8, 16, 24].map(|field| number(&bytes, at + field, 8));
            let (offset, len, flags) = (first? as usize * sector, sectors? as usize * sector, flags?);
            at += sector;
            let stored = match flags {
                flags if flags & DISCARD != 0 => 0,
                flags if flags & MARK != 0 => (mark? as usize).next_multiple_of(sector),
                _ => len,
            };
            if bytes.len() < at + stored {
                return Err(format!("the log ends in the data of entry {nth}"));
            }
            let data = if flags & MARK != 0 { at..at } else { at..at + stored };
            entries.push(Entry { is_flush: flags & FLUSH != 0, is_fua: flags & FUA != 0, offset, data });
            at += stored;
        }
        Ok(WriteLog { bytes, entries })
    }

    /// How many operations stand in the first `len` bytes of the log.
    pub fn entries_in(&self, len: u64) -> usize {
        self.entries.iter().take_while(|entry| entry.data.end as u64 <= len).count()
    }

    /// Operations, and flushes among them.
    pub fn counts(&self) -> (usize, usize) {
        (self.entries.len(), self.entries.iter().filter(|entry| entry.is_flush).count())
    }

    /// A cut behind each flush from entry `from` on: with nothing of what was not flushed, and with `subsets` of it, on
    /// a disk that writes `atom` bytes whole or not at all.
    pub fn cuts(&self, from: usize, subsets: u64, atom: usize) -> Vec<Cut> {
        let flushes =
            self.entries.iter().enumerate().filter(|(n, e)| *n >= from && e.is_flush).map(|(n, _)| n + 1);
        let starts: Vec<usize> = [from].into_iter().chain(flushes).collect();
        let ends = starts.iter().skip(1).copied().chain([self.entries.len() + 1]);
        let mut cuts = Vec::new();
        for (&durable, end) in starts.iter().zip(ends) {
            cuts.push(Cut { durable, end, chance: None, atom });
            let mut tail = self.entries.iter().skip(durable).take(end - durable);
            let has_tail = tail.any(|entry| !entry.data.is_empty());
            let chances = (0..if has_tail { subsets } else { 0 }).map(|n| Chance(Chance(n).of(durable)));
            cuts.extend(chances.map(|chance| Cut { durable, end, chance: Some(chance), atom }));
        }
        cuts
    }

    /// Calls `write` with each piece that the cut leaves, in the order of the log: place on the disk in bytes, and bytes.
    pub fn replay(&self, cut: &Cut, mut write: impl FnMut(usize, &[u8])) {
        for (nth, entry) in self.entries.iter().enumerate().take(cut.end) {
            let bytes = &self.bytes[entry.data.clone()];
            if nth < cut.durable || entry.is_fua {
                write(entry.offset, bytes);
                continue;
            }
            let Some(chance) = cut.chance else { continue };
            // All of it, nothing, or parts.
            let kind = chance.of(nth) % 3;
            for (n, piece) in bytes.chunks(cut.atom).enumerate() {
                if kind == 0 || (kind == 1 && chance.one_in(2, (nth, n))) {
                    write(entry.offset + n * cut.atom, piece);
                }
            }
        }
    }

    /// The disk after the cut, where it was `before` at the beginning of the log.
    pub fn disk(&self, before: &[u8], cut: &Cut) -> Vec<u8> {
        let mut disk = before.to_vec();
        self.replay(cut, |at, bytes| disk[at..at + bytes.len()].copy_from_slice(bytes));
        disk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(numbers: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes
    }

    fn log(entries: &[([u64; 4], Vec<u8>)]) -> Vec<u8> {
        let mut bytes = sector(&[MAGIC, 1, entries.len() as u64, 512]);
        for (fields, data) in entries {
            bytes.extend(sector(fields));
            bytes.extend(data);
        }
        bytes
    }

    fn example() -> Vec<u8> {
        log(&[
            ([0, 2, 0, 0], vec![1; 1024]),
            ([0, 0, FLUSH, 0], vec![]),
            ([1, 1, 0, 0], vec![2; 512]),
            ([3, 1, FUA, 0], vec![3; 512]),
            ([0, 4, DISCARD, 0], vec![]),
            ([0, 0, MARK, 5], vec![b'x'; 512]),
            ([0, 0, FLUSH, 0], vec![]),
        ])
    }

    #[test]
    fn what_was_flushed_is_there_and_of_the_rest_any_part() {
        let log = WriteLog::parse(example()).unwrap();
        assert_eq!(log.counts(), (7, 2));
        assert_eq!(log.entries_in(512 + 512 + 1024), 1);
        let cuts = log.cuts(0, 20, 512);
        let firsts = |cut: &Cut| [0, 1, 2, 3].map(|n| log.disk(&[9; 2048], cut)[n * 512]);
        let durable: Vec<_> = cuts.iter().filter(|cut| cut.chance.is_none()).map(firsts).collect();
        assert_eq!(durable, [[9, 9, 9, 9], [1, 1, 9, 3], [1, 2, 9, 3]]);
        let some = |wanted| cuts.iter().any(|cut| cut.chance.is_some() && firsts(cut) == wanted);
        assert!(some([1, 9, 9, 9]) && some([9, 1, 9, 9]) && some([1, 2, 9, 3]) && some([1, 1, 9, 3]));
        assert_eq!(cuts.len(), 1 + 20 + 1 + 20 + 1);
    }

    #[test]
    fn a_log_that_is_cut_or_none_is_an_error() {
        let whole = example();
        for len in [0, 27, 511, 600, 1200, whole.len() - 600] {
            assert!(WriteLog::parse(whole[..len].to_vec()).is_err(), "{len}");
        }
        assert!(WriteLog::parse(vec![0; 4096]).is_err());
    }
}
