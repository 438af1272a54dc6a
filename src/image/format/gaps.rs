//! What is unallocated inside a data run: short pieces that are not worth a run of their own.
//!
//! Read along, they would carry old data into the image; as runs, each would cost two members. So they are zeros in the
//! data run, which listing them makes as good as unallocated: a disk may hold anything there.
#![forbid(unsafe_code)]

use crate::bytes::le;
use crate::image::format::member::{Reason, UNIT};
use blake3::Hash;
use std::ops::Range;

/// Most gaps of a run: every other block of the longest chunk.
const MOST: usize = crate::image::format::header::MAX_CHUNK as usize / UNIT / 2;
/// Bytes that the list counts in: the smallest logical block, because a bad sector may cut a run anywhere.
pub const SECTOR: u64 = 512;
/// Bytes of the longest list.
pub const MAX_LIST: usize = 2 + 4 * MOST;

/// The gaps of one data run, in bytes from its beginning: rising, apart from each other, multiples of 512. Most runs
/// have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps(Vec<Range<u64>>);

impl Gaps {
    /// Adds the whole units of a range that lies behind all others: bytes from the run's beginning, `unit` a multiple of
    /// 512. Less than one unit, or more than the list can hold, is not a gap.
    pub fn push(&mut self, range: Range<u64>, unit: u64) {
        let (start, end) = (range.start.next_multiple_of(unit), range.end / unit * unit);
        let is_apart = self.0.last().is_none_or(|last| last.end < start);
        if start < end
            && is_apart
            && self.0.len() < MOST
            && end <= crate::image::format::header::MAX_CHUNK.into()
        {
            self.0.push(start..end);
        }
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes in all gaps.
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|gap| gap.end - gap.start).sum()
    }

    /// In order.
    pub fn ranges(&self) -> impl Iterator<Item = &Range<u64>> {
        self.0.iter()
    }

    /// The parts of a run's bytes that are gaps.
    fn parts<'a>(&'a self, raw: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter_map(|gap| raw.get(gap.start as usize..gap.end as usize))
    }

    /// Makes them zeros in bytes of which the first is the run's byte `from`.
    pub fn clear_in(&self, bytes: &mut [u8], from: u64) {
        let len = bytes.len() as u64;
        let inside = |at: u64| at.saturating_sub(from).min(len) as usize;
        for gap in &self.0 {
            bytes[inside(gap.start)..inside(gap.end)].fill(0);
        }
    }

    /// True where they are zeros.
    pub fn are_zero_in(&self, raw: &[u8]) -> bool {
        self.parts(raw).all(crate::io::is_zero)
    }

    /// The hash of a run: of its bytes, and of the list where there is one, so that nobody can call a gap what is none.
    pub fn hash(&self, raw: &[u8]) -> Hash {
        if self.0.is_empty() {
            return blake3::hash(raw);
        }
        blake3::Hasher::new().update(raw).update(&self.encode()).finalize()
    }

    /// The list as it stands in a member; empty without gaps.
    pub fn encode(&self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let numbers = self.0.iter().flat_map(|gap| [gap.start / SECTOR, (gap.end - gap.start) / SECTOR]);
        let numbers = std::iter::once(self.0.len() as u64).chain(numbers);
        numbers.flat_map(|number| (number as u16).to_le_bytes()).collect()
    }

    /// Reads the list from what follows a data member's fixed fields, list and padding, of a run of `length` bytes.
    /// The bytes that it takes up are returned with it.
    pub fn decode(bytes: &[u8], length: u64) -> Result<(Self, usize), Reason> {
        let number = |i: usize| le::u16(bytes, 2 * i).map(u64::from);
        let count = number(0).unwrap_or(0) as usize;
        if count > MOST {
            return Err("a data member lists more gaps than there can be");
        }
        let mut gaps = Vec::with_capacity(count);
        let mut before = None;
        for i in 0..count {
            let (start, sectors) =
                number(1 + 2 * i).zip(number(2 + 2 * i)).ok_or("a list of gaps is cut short")?;
            let gap = start * SECTOR..(start + sectors) * SECTOR;
            if gap.is_empty() || gap.end > length || before.is_some_and(|end| gap.start <= end) {
                return Err("a list of gaps is out of order");
            }
            before = Some(gap.end);
            gaps.push(gap);
        }
        Ok((Gaps(gaps), if count == 0 { 0 } else { 2 + 4 * count }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(ranges: &[Range<u64>]) -> Gaps {
        let mut gaps = Gaps::default();
        ranges.iter().for_each(|range| gaps.push(range.clone(), 4096));
        gaps
    }

    #[test]
    fn only_whole_units_are_gaps_and_the_list_reads_back() {
        for (ranges, unit, wanted) in [
            (&[][..], 4096, &[][..]),
            (&[0..4095, 5000..9000], 4096, &[]),
            (&[1..8192, 8193..20_000], 4096, &[4096..8192, 12_288..16_384]),
            (&[0..70_000, 70_000..140_000], 65_536, &[0..65_536]),
            // Touching ones are one gap for whoever has them in order.
            (&[0..4096, 4096..8192], 4096, &[0..4096]),
            (&[4 << 20..5 << 20], 4096, &[]),
        ] {
            let mut gaps = Gaps::default();
            ranges.iter().for_each(|range| gaps.push(range.clone(), unit));
            assert_eq!(gaps.0, wanted, "{ranges:?}");
            let mut list = gaps.encode();
            let len = list.len();
            list.extend([0; 7]);
            assert_eq!(Gaps::decode(&list, 4 << 20), Ok((gaps, len)));
        }
        let most: Vec<_> = (0..2000).map(|i| i * 8192..i * 8192 + 4096).collect();
        assert_eq!(gaps(&most).encode().len(), MAX_LIST);
        assert_eq!(gaps(&most).bytes(), 2 << 20);
    }

    #[test]
    fn a_wrong_list_is_refused() {
        let list = |numbers: &[u16]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
        for numbers in [
            &[1][..],
            &[1, 3],
            &[1, 3, 0],
            &[1, 3, 2],
            &[1, 0xffff, 0xffff],
            &[2, 0, 1, 1, 1],
            &[2, 2, 1, 0, 1],
            &[513, 0, 1],
            &[0xffff],
        ] {
            assert!(Gaps::decode(&list(numbers), 4 * 512).is_err(), "{numbers:?}");
        }
        for bytes in [&[][..], &[0], &[0, 0]] {
            assert_eq!(Gaps::decode(bytes, 4096), Ok((Gaps::default(), 0)));
        }
    }

    #[test]
    fn the_hash_binds_bytes_and_list() {
        let mut raw = vec![7; 4 * 4096];
        let one = gaps(&[4096..8192]);
        assert!(!one.are_zero_in(&raw));
        one.clear_in(&mut raw, 0);
        assert!(one.are_zero_in(&raw));
        assert_eq!(raw.iter().filter(|b| **b == 0).count(), 4096);
        for (from, zeros) in [(0, 4096..8192), (5000, 0..3192), (8192, 0..0), (9000, 0..0)] {
            let mut part = vec![7; 2 * 4096];
            one.clear_in(&mut part, from);
            let found: Vec<_> = (0..part.len()).filter(|at| part[*at] == 0).collect();
            assert_eq!(found, zeros.collect::<Vec<usize>>(), "{from}");
        }
        let zeros = vec![0; raw.len()];
        let hashes = [&Gaps::default(), &one, &gaps(&[0..4096])].map(|gaps| gaps.hash(&zeros));
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
        assert_eq!(hashes[0], blake3::hash(&zeros));
        assert_ne!(one.hash(&raw), one.hash(&zeros));
    }
}
