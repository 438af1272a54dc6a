//! Clusters that must not be free.
#![forbid(unsafe_code)]

use std::ops::Range;

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
}
