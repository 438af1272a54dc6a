//! Free ranges, collected within bounded memory.
#![forbid(unsafe_code)]

use std::ops::Range;

/// Shortest free range that is kept, in bytes: one unit of the image's lists. Not every one becomes a run of its own, see
/// `image/gaps.rs`.
const LEAST: u64 = 4 << 10;
/// Most ranges that are kept: 32 MiB of memory. Where a disk has more, the shortest count as used.
const LIMIT: usize = 2 << 20;

/// Free ranges in bytes. Adding them in rising order costs nothing more; any order is right.
#[derive(Clone, Debug)]
pub struct Free {
    ranges: Vec<Range<u64>>,
    least: u64,
    limit: usize,
}

impl Default for Free {
    fn default() -> Self {
        Free::new(LEAST, LIMIT)
    }
}

impl Free {
    /// Keeps ranges of at least `least` bytes, and at most `limit` (not 0) of them.
    pub fn new(least: u64, limit: usize) -> Self {
        Free { ranges: Vec::new(), least: least.max(1), limit: limit.max(1) }
    }

    /// Adds a range; an empty or inverted one is nothing. One that begins where the last one ends makes it longer.
    pub fn add(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => {
                last.end = range.end;
                return;
            }
            // The last one is as long as it gets.
            Some(last) if last.end - last.start < self.least => *last = range,
            _ => self.ranges.push(range),
        }
        while self.ranges.len() > self.limit {
            self.least = self.least.saturating_mul(2);
            let least = self.least;
            self.ranges.retain(|range| range.end - range.start >= least);
        }
    }

    /// Everything that was added and is long enough: sorted, disjoint, none touching the next.
    pub fn finish(mut self) -> Vec<Range<u64>> {
        self.ranges.sort_unstable_by_key(|range| range.start);
        let mut joined: Vec<Range<u64>> = Vec::with_capacity(self.ranges.len());
        for range in self.ranges {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        joined.retain(|range| range.end - range.start >= self.least);
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_short_ones_dropped() {
        let mut free = Free::new(10, 100);
        for range in [0..5, 5..9, 20..30, 30..31, 50..52, 90..90, 60..70, 40..45, 200..300, 250..260, 70..75]
        {
            free.add(range);
        }
        // 40..45 and 70..75 came out of order and are too short by themselves.
        assert_eq!(free.finish(), vec![20..31, 60..75, 200..300]);
    }

    #[test]
    fn memory_is_bounded_and_the_longest_ranges_win() {
        let mut free = Free::new(1, 8);
        for i in 0..1000u64 {
            free.add(i * 1000..i * 1000 + if i % 100 == 0 { 500 } else { 1 + i % 7 });
        }
        let ranges = free.finish();
        assert!(ranges.len() <= 8);
        assert!(ranges.iter().all(|range| range.end - range.start == 500));
    }
}
