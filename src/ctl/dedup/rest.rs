//! What of an image must be written anew so that its file system gives back what has been shared.
//!
//! XFS frees single blocks. btrfs frees an extent, up to 128 MiB, only when no part of it is needed any more: of an image that
//! shares half of each extent nothing would be free. So what is left of such extents is copied, the copy shared with the image
//! as equal members are, and nothing needs the old extent any more.

use std::ops::Range;

/// The parts of a file that are to be written anew: all in `extents` (before anything was shared) that is neither in `shared` now
/// nor was in `before`, which is a part of other extents. All of an extent's rest or nothing: else it would stay and take
/// more room. Only where at most four bytes must be written to free one. All lists rise and do not overlap.
pub(super) fn rest(extents: &[Range<u64>], shared: &[Range<u64>], before: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut all = Vec::new();
    for extent in extents {
        let inside = |ranges: &[Range<u64>]| -> Vec<Range<u64>> {
            let first = ranges.partition_point(|range| range.end <= extent.start);
            let behind =
                ranges.get(first..).unwrap_or_default().iter().take_while(|range| range.start < extent.end);
            behind.map(|range| range.start.max(extent.start)..range.end.min(extent.end)).collect()
        };
        let shared = inside(shared);
        let mut taken = [shared.clone(), inside(before)].concat();
        taken.sort_unstable_by_key(|range| range.start);
        let mut rest = Vec::new();
        let mut at = extent.start;
        for range in taken.into_iter().chain([extent.end..extent.end]) {
            if range.start > at {
                rest.push(at..range.start);
            }
            at = at.max(range.end);
        }
        if length(&shared) > 0 && length(&rest) <= length(&shared).saturating_mul(4) {
            all.extend(rest);
        }
    }
    all
}

/// Adds a range behind the others, to the last one where it follows that.
pub(super) fn append(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut().filter(|last| last.end == range.start) {
        Some(last) => last.end = range.end,
        None => ranges.push(range),
    }
}

fn length(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_an_extents_rest_is_written_or_nothing() {
        let extents = [0..100, 100..200, 300..400];
        type Ranges<'a> = &'a [Range<u64>];
        let rows: [(Ranges<'_>, Ranges<'_>, Ranges<'_>); 8] = [
            (&[], &[], &[]),
            (&[], &[0..50], &[]),
            (&[0..50], &[], &[50..100]),
            (&[0..50], &[60..70], &[50..60, 70..100]),
            (&[40..120], &[], &[0..40, 120..200]),
            // Nothing of it is left, or too much.
            (&[0..100], &[], &[]),
            (&[300..319], &[], &[]),
            (&[300..319, 320..321], &[], &[319..320, 321..400]),
        ];
        for (shared, before, wanted) in rows {
            assert_eq!(rest(&extents, shared, before), wanted, "{shared:?} {before:?}");
        }
    }
}
