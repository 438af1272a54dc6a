//! Runs of bits in a bitmap, lowest bit of each byte first.
#![forbid(unsafe_code)]

use std::ops::Range;

/// First bit of `range` that is `wanted`, or the end of the range. Bits that `bytes` does not have count as not set.
pub(super) fn find(bytes: &[u8], range: Range<usize>, wanted: bool) -> usize {
    let mut at = range.start;
    while at < range.end {
        // Eight bytes at once, the ones that are not there as zeros.
        let mut word = [0; 8];
        let from = bytes.get(at / 64 * 8..).unwrap_or_default();
        let len = from.len().min(8);
        word[..len].copy_from_slice(&from[..len]);
        let word = u64::from_le_bytes(word);
        let rest = if wanted { word } else { !word } >> (at % 64);
        if rest != 0 {
            return (at + rest.trailing_zeros() as usize).min(range.end);
        }
        at = at / 64 * 64 + 64;
    }
    range.end
}

/// Sets the bits of `range` that `bytes` has.
pub(super) fn set(bytes: &mut [u8], range: Range<usize>) {
    for bit in range {
        match bytes.get_mut(bit / 8) {
            Some(byte) => *byte |= 1 << (bit % 8),
            None => return,
        }
    }
}

/// The runs of zeros among the first `len` bits. Bits that `bytes` does not have are none.
pub(super) fn zeros(bytes: &[u8], len: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    let len = len.min(bytes.len().saturating_mul(8));
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = find(bytes, at..len, false);
        at = find(bytes, start..len, true);
        (start < at).then_some(start..at)
    })
}

/// The runs of zeros in a piece of a bitmap, which has `count` bits in all and bit `first` at the piece's beginning.
pub(super) fn zeros_from(bytes: &[u8], first: u64, count: u64) -> impl Iterator<Item = Range<u64>> + '_ {
    let len = usize::try_from(count.saturating_sub(first)).unwrap_or(usize::MAX);
    zeros(bytes, len).map(move |run| first + run.start as u64..first + run.end as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(bytes: &[u8], count: usize) -> Vec<Range<usize>> {
        zeros(bytes, count).collect()
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

    proptest! {
        #[test]
        fn runs_are_those_of_a_plain_look_at_each_bit(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..64),
            cut in 0usize..9,
        ) {
            let len = (bytes.len() * 8).saturating_sub(cut);
            let runs: Vec<_> = zeros(&bytes, len).collect();
            let plain: Vec<usize> = (0..len).filter(|bit| bytes[bit / 8] >> (bit % 8) & 1 == 0).collect();
            prop_assert_eq!(runs.iter().cloned().flatten().collect::<Vec<_>>(), plain);
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
        }

        #[test]
        fn every_bit_counts_once(bytes in prop::collection::vec(prop_oneof![Just(0), Just(255), any::<u8>()], 0..40), count in 0..400usize) {
            let mut want: Vec<usize> = Vec::new();
            for bit in 0..count.min(bytes.len() * 8) {
                if bytes[bit / 8] >> (bit % 8) & 1 == 0 {
                    want.push(bit);
                }
            }
            let got = runs(&bytes, count);
            prop_assert!(got.iter().all(|run| run.start < run.end));
            prop_assert!(got.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert_eq!(got.into_iter().flatten().collect::<Vec<_>>(), want);
        }

        #[test]
        fn what_is_set_is_found(range in (0usize..600, 0usize..600).prop_map(|(a, b)| a.min(b)..a.max(b))) {
            let mut bytes = [0; 64];
            set(&mut bytes, range.clone());
            let (start, end) = (range.start.min(512), range.end.min(512));
            prop_assert_eq!(find(&bytes, range.start..600, false), if range.is_empty() { range.start } else { end.max(range.start) });
            prop_assert_eq!(zeros(&bytes, 512).map(|run| run.len()).sum::<usize>(), 512 - (end - start));
        }
    }
}
