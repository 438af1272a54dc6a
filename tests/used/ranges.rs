//! Sets of bytes: sorted, disjoint ranges.

use std::ops::Range;

/// The set of all these ranges, whatever their order.
pub fn union(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_by_key(|range| range.start);
    let mut all: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => all.push(range),
        }
    }
    all
}

/// What of `0..size` is not in the set.
pub fn complement(ranges: &[Range<u64>], size: u64) -> Vec<Range<u64>> {
    let mut rest = Vec::new();
    let mut at = 0;
    for range in ranges {
        rest.push(at..range.start.min(size));
        at = range.end;
    }
    rest.push(at..size);
    union(rest)
}

/// What is in both.
pub fn intersection(a: &[Range<u64>], b: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut both = Vec::new();
    let mut rest = b;
    for range in a {
        while let Some((first, others)) = rest.split_first() {
            both.push(range.start.max(first.start)..range.end.min(first.end));
            if first.end > range.end {
                break;
            }
            rest = others;
        }
    }
    union(both)
}

/// The whole blocks of 4096 bytes in ranges: what a map can be expected to name.
pub fn whole_blocks(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let whole = ranges.iter().map(|r| r.start.next_multiple_of(4096)..r.end / 4096 * 4096);
    whole.filter(|r| r.start < r.end).collect()
}

/// Bytes in all of them.
pub fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[test]
fn sets_of_bytes() {
    let set = union(vec![5..9, 1..3, 3..4, 8..12, 20..20]);
    assert_eq!(set, [1..4, 5..12]);
    assert_eq!(complement(&set, 20), [0..1, 4..5, 12..20]);
    assert_eq!(complement(&set, 8), [0..1, 4..5]);
    assert_eq!(intersection(&set, &[0..2, 3..6, 7..8, 11..30]), [1..2, 3..4, 5..6, 7..8, 11..12]);
    assert_eq!(intersection(&[0..2, 4..6], &[1..5]), [1..2, 4..5]);
    assert_eq!(whole_blocks(&[100..9_000, 70_001..200_000]), [4096..8192, 73_728..196_608]);
    assert_eq!(total(&set), 10);
}
