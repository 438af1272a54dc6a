//! The blocks that the file system keeps for itself, wherever they are.
#![forbid(unsafe_code)]

use std::ops::Range;

/// Most ranges that are kept: 16 MiB of memory. 16 TiB in blocks of 4096 bytes need 131,072 at most.
const LIMIT: usize = 1 << 20;

/// Collects ranges of blocks that come as a few rising sequences, such as all block bitmaps and all inode tables.
#[derive(Debug, Default)]
pub(super) struct Collect {
    lists: [Vec<Range<u64>>; 4],
}

impl Collect {
    /// Adds a range of sequence `list` (0 to 3). False: there are too many.
    #[must_use]
    pub(super) fn add(&mut self, list: usize, range: Range<u64>) -> bool {
        let goes_on = self.lists.iter_mut().filter_map(|list| list.last_mut());
        for last in goes_on {
            if last.end == range.start {
                last.end = range.end;
                return true;
            }
        }
        self.lists[list % 4].push(range);
        self.lists.iter().map(Vec::len).sum::<usize>() <= LIMIT
    }

    /// All of them, rising. The error is a block that two of them share.
    pub(super) fn finish(self) -> Result<Vec<Range<u64>>, u64> {
        let mut all = Vec::with_capacity(self.lists.iter().map(Vec::len).sum());
        all.extend(self.lists.into_iter().flatten());
        all.sort_unstable_by_key(|range| range.start);
        match all.windows(2).find(|pair| pair[1].start < pair[0].end) {
            Some(pair) => Err(pair[1].start),
            None => Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_joined_and_sorted() {
        let mut own = Collect::default();
        for group in 0..16 {
            assert!(own.add(0, 100 + group..101 + group));
            assert!(own.add(1, 116 + group..117 + group));
            assert!(own.add(2, 200 + group * 10..210 + group * 10));
        }
        assert!(own.add(3, 7..8));
        assert_eq!(own.finish(), Ok(vec![7..8, 100..116, 116..132, 200..360]));
    }

    #[test]
    fn a_shared_block_is_found_and_memory_is_bounded() {
        let mut own = Collect::default();
        assert!(own.add(0, 10..20) && own.add(1, 30..31) && own.add(2, 19..25));
        assert_eq!(own.finish(), Err(19));
        let mut own = Collect::default();
        let added = (0..2 * LIMIT as u64).take_while(|i| own.add(0, i * 2..i * 2 + 1)).count();
        assert_eq!(added, LIMIT);
    }
}
