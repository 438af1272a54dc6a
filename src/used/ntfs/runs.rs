//! Where the clusters of a file are.
#![forbid(unsafe_code)]

use super::record::{Extent, Wrong};

/// `len` clusters of a file from its cluster `vcn` on, at cluster `lcn` of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NtfsRun {
    pub(super) vcn: u64,
    pub(super) lcn: u64,
    pub(super) len: u64,
}

/// The runs of one extent, which must begin with cluster `vcn` of the file, have no holes, and lie on a volume of
/// `clusters` clusters.
pub(super) fn decode(extent: &Extent<'_>, vcn: u64, clusters: u64) -> Result<Vec<NtfsRun>, Wrong> {
    if extent.lowest != vcn {
        return Err("a part of it is missing");
    }
    let mut runs = Vec::new();
    each(extent, clusters, |vcn, lcn, len| {
        runs.push(NtfsRun { vcn, lcn: lcn.ok_or("it has holes")?, len });
        Ok(())
    })?;
    Ok(runs)
}

/// Gives the runs of one extent: cluster of the file, cluster of the volume or `None` for a hole, number of clusters.
///
/// "Mapping pairs": one byte with the lengths of two numbers; a number of clusters; how far from the beginning of the
/// run before, signed, and missing for a hole. 0 ends them.
pub(super) fn each(
    extent: &Extent<'_>,
    clusters: u64,
    mut found: impl FnMut(u64, Option<u64>, u64) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    let (mut pairs, mut vcn, mut lcn) = (extent.pairs, extent.lowest, 0i64);
    loop {
        let (&head, rest) = pairs.split_first().ok_or("its runs have no end")?;
        if head == 0 {
            break;
        }
        let (len, rest) = number(rest, usize::from(head & 15)).ok_or("its runs are cut")?;
        let len = u64::try_from(len).ok().filter(|len| *len != 0).ok_or("it lies outside")?;
        pairs = rest;
        let mut start = None;
        if head >> 4 != 0 {
            let (step, rest) = number(rest, usize::from(head >> 4)).ok_or("its runs are cut")?;
            pairs = rest;
            lcn = lcn.checked_add(step).ok_or("it lies outside")?;
            let first = u64::try_from(lcn).ok().filter(|first| *first < clusters && len <= clusters - first);
            start = Some(first.ok_or("it lies outside")?);
        }
        found(vcn, start, len)?;
        vcn = vcn.checked_add(len).ok_or("it lies outside")?;
    }
    // Without a cluster the last one is -1 in a file, or one below the first.
    if vcn.wrapping_sub(1) != extent.highest {
        return Err("its runs are shorter or longer than it");
    }
    Ok(())
}

/// A little-endian signed number of `len` bytes, 1 to 8, and what is behind it.
fn number(bytes: &[u8], len: usize) -> Option<(i64, &[u8])> {
    if !(1..=8).contains(&len) || bytes.len() < len {
        return None;
    }
    let (digits, rest) = bytes.split_at(len);
    let negative = digits[len - 1] & 0x80 != 0;
    let mut array = [if negative { 0xff } else { 0 }; 8];
    array[..len].copy_from_slice(digits);
    Some((i64::from_le_bytes(array), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(pairs: &[u8], lowest: u64, highest: u64) -> Result<Vec<NtfsRun>, Wrong> {
        decode(&Extent { lowest, highest, pairs, size: 0, initialized: 0 }, lowest, 1000)
    }

    #[test]
    fn steps_go_forward_and_back() {
        let got = runs(&[0x11, 3, 100, 0x21, 2, 0x20, 0x03, 0x11, 1, 0x9c, 0, 0xff], 10, 15).unwrap();
        let want =
            [(10, 100, 3), (13, 900, 2), (15, 800, 1)].map(|(vcn, lcn, len)| NtfsRun { vcn, lcn, len });
        assert_eq!(got, want);
        assert_eq!(runs(&[0], 0, u64::MAX), Ok(vec![]));
        let wide = [0x88, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(runs(&wide, 0, 0), Ok(vec![NtfsRun { vcn: 0, lcn: 7, len: 1 }]));
    }

    #[test]
    fn what_is_wrong_is_an_error() {
        for pairs in [
            &[][..],
            &[0x11],
            &[0x11, 1],
            &[0x11, 1, 1],
            &[0x01, 1, 0],
            &[0x10, 1, 0],
            &[0x19, 1, 0],
            &[0x91, 1, 0],
            &[0x11, 0, 1, 0],
            &[0x11, 1, 1, 0x11, 0, 1, 0],
            &[0x11, 0xff, 1, 0],
            &[0x11, 1, 0xff, 0],
            &[0x21, 1, 0xe8, 3, 0],
            &[0x12, 0xe8, 3, 1, 0],
            &[0x11, 2, 1, 0],
            &[0],
            &[0x81, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x11, 1, 1, 0],
        ] {
            assert!(runs(pairs, 0, 0).is_err(), "{pairs:x?}");
        }
        let pairs = [0x11, 1, 1, 0];
        assert!(
            decode(&Extent { lowest: 1, highest: 1, pairs: &pairs, size: 0, initialized: 0 }, 0, 9).is_err()
        );
        assert!(runs(&pairs, u64::MAX, 0).is_err());
    }
}
