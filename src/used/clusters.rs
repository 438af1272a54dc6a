//! Bitmaps of clusters, and clusters that must not be free.
#![forbid(unsafe_code)]

use std::ops::Range;

/// Gives each run of clear bits among the first `count` bits; bit 0 is the lowest bit of the first byte. Bits that
/// `bytes` does not have count as set.
pub(super) fn clear_runs(bytes: &[u8], count: u64, mut found: impl FnMut(Range<u64>)) {
    let mut start = None;
    for (i, chunk) in bytes.chunks(8).enumerate() {
        let base = i as u64 * 64;
        if base >= count {
            break;
        }
        let mut word = [0xff; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u64::from_le_bytes(word);
        let mut bit = 0;
        while bit < 64 {
            let rest = word >> bit;
            if rest & 1 == 0 {
                start.get_or_insert(base + u64::from(bit));
                bit += rest.trailing_zeros().min(64 - bit);
            } else {
                if let Some(start) = start.take().filter(|start| *start < count) {
                    found(start..(base + u64::from(bit)).min(count));
                }
                bit += rest.trailing_ones();
            }
        }
    }
    if let Some(start) = start.filter(|start| *start < count) {
        found(start..(bytes.len() as u64).saturating_mul(8).min(count));
    }
}

/// What a file system uses for itself: no bitmap that calls it free can be trusted.
#[derive(Debug)]
pub(super) struct Claims(Vec<Range<u64>>);

impl Claims {
    /// `None` where two of the ranges overlap.
    pub(super) fn new(mut ranges: Vec<Range<u64>>) -> Option<Self> {
        ranges.retain(|range| !range.is_empty());
        ranges.sort_unstable_by_key(|range| range.start);
        let apart = ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
        apart.then_some(Claims(ranges))
    }

    /// Whether any of them lies in `range`, if only in part.
    pub(super) fn touch(&self, range: &Range<u64>) -> bool {
        let next = self.0.partition_point(|claim| claim.end <= range.start);
        self.0.get(next).is_some_and(|claim| claim.start < range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(bytes: &[u8], count: u64) -> Vec<Range<u64>> {
        let mut runs = Vec::new();
        clear_runs(bytes, count, |run| runs.push(run));
        runs
    }

    #[test]
    fn runs_cross_words_and_end_at_the_count() {
        assert_eq!(runs(&[0xff; 20], 160), vec![]);
        assert_eq!(runs(&[0; 20], 150), vec![0..150]);
        assert_eq!(runs(&[0; 20], 1000), vec![0..160]);
        assert_eq!(runs(&[0b1100_0001, 0xff, 0], 20), vec![1..6, 16..20]);
        assert_eq!(runs(&[0; 8], 0), vec![]);
        assert_eq!(runs(&[], 10), vec![]);
    }

    #[test]
    fn claims_are_touched_at_their_edges_only_from_inside() {
        let claims = Claims::new(vec![50..60, 10..20, 20..21, 5..5]).unwrap();
        for (range, touched) in
            [(0..10, false), (0..11, true), (20..21, true), (21..50, false), (59..70, true)]
        {
            assert_eq!(claims.touch(&range), touched, "{range:?}");
        }
        assert!(Claims::new(vec![10..20, 19..30]).is_none());
    }

    proptest! {
        #[test]
        fn every_bit_counts_once(bytes in prop::collection::vec(prop_oneof![Just(0), Just(255), any::<u8>()], 0..40), count in 0..400u64) {
            let mut want: Vec<u64> = Vec::new();
            for bit in 0..count.min(bytes.len() as u64 * 8) {
                if bytes[bit as usize / 8] >> (bit % 8) & 1 == 0 {
                    want.push(bit);
                }
            }
            let got = runs(&bytes, count);
            prop_assert!(got.iter().all(|run| run.start < run.end));
            prop_assert!(got.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert_eq!(got.into_iter().flatten().collect::<Vec<_>>(), want);
        }
    }
}
