//! Where members stand that were seen: a table of bounded size.

use std::collections::HashMap;

/// Entries of a full table: 7/8 of 2^23 slots of 17 bytes, 143 MB, and half as much again for a moment while it grows.
const LIMIT: usize = 7 << 20;
/// Most copies of a member: see [`key`].
pub(super) const MAX_COPIES: u64 = 16;

/// A place in an image of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    /// Which image.
    pub image: usize,
    /// Byte of its file, a multiple of 4096.
    pub position: u64,
}

/// A data member, as its image's index has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeenMember {
    /// Hash of the member: equal members are equal bytes.
    pub hash: [u8; 32],
    /// Its first byte in the file.
    pub position: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// The copies of each member that are kept as they are. 16 bytes for each: eight of the hash, which the kernel's comparison
/// makes enough, and eight for the place.
///
/// When it is full, it forgets every second hash, and takes only such as it would have kept: about half of the members then are
/// found by the place behind the one before them only ([`super::sharer`]). A miss costs space, nothing else.
pub(super) struct Table {
    spots: HashMap<u64, u64>,
    limit: usize,
    /// So many low bits of a hash that is kept are zero.
    sampled: u32,
}

impl Table {
    pub fn new() -> Self {
        Table::of(LIMIT)
    }

    pub fn of(limit: usize) -> Self {
        Table { spots: HashMap::new(), limit, sampled: 0 }
    }

    /// True where members are in it by chance only.
    pub fn is_sampled(&self) -> bool {
        self.sampled > 0
    }

    /// The copies of a member, in the order in which they were added.
    pub fn copies(&self, hash: &[u8; 32]) -> Vec<Spot> {
        (0..MAX_COPIES)
            .map_while(|copy| self.spots.get(&key(hash, copy)))
            .map(|packed| unpack(*packed))
            .collect()
    }

    /// Notes the place of a copy, by its number.
    pub fn set(&mut self, hash: &[u8; 32], copy: u64, spot: Spot) {
        let Some(packed) = pack(spot) else { return };
        if !is_kept(key(hash, copy), self.sampled) {
            return;
        }
        self.spots.insert(key(hash, copy), packed);
        while self.spots.len() > self.limit {
            self.sampled += 1;
            self.spots.retain(|key, _| is_kept(*key, self.sampled));
        }
    }
}

/// The low bits are those of the hash for every copy, so that all copies of a member are kept or none.
fn key(hash: &[u8; 32], copy: u64) -> u64 {
    let first = hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    first ^ copy << 60
}

fn is_kept(key: u64, sampled: u32) -> bool {
    key.trailing_zeros() >= sampled
}

/// 24 bits for the image, 40 for the block of 4096 bytes; none where that is not enough.
fn pack(spot: Spot) -> Option<u64> {
    let (image, block) = (spot.image as u64, spot.position >> 12);
    (image < 1 << 24 && block < 1 << 40).then_some(image << 40 | block)
}

fn unpack(packed: u64) -> Spot {
    Spot { image: (packed >> 40) as usize, position: (packed & ((1 << 40) - 1)) << 12 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> [u8; 32] {
        *blake3::hash(&n.to_le_bytes()).as_bytes()
    }

    #[test]
    fn a_full_table_keeps_some_members_with_all_their_copies() {
        let mut table = Table::of(1000);
        for n in 0..4000 {
            for copy in 0..2 {
                table.set(&hash(n), copy, Spot { image: n as usize, position: copy << 12 });
                assert!(
                    table.spots.len() <= 1000
                        && (!(490..=510).contains(&n) || table.is_sampled() == (n >= 500))
                );
            }
        }
        let kept: Vec<_> =
            (0..4000).map(|n| (n, table.copies(&hash(n)))).filter(|(_, all)| !all.is_empty()).collect();
        assert!((250..=500).contains(&kept.len()), "{}", kept.len());
        for (n, copies) in kept {
            let spot = |position| Spot { image: n as usize, position };
            assert_eq!(copies, [spot(0), spot(4096)]);
        }
    }

    #[test]
    fn places_that_do_not_fit_are_not_noted() {
        for (image, position, fits) in
            [(0, 0, true), ((1 << 24) - 1, (1 << 52) - 4096, true), (1 << 24, 0, false), (0, 1 << 52, false)]
        {
            let (mut table, spot) = (Table::new(), Spot { image, position });
            table.set(&hash(1), 0, spot);
            assert_eq!(table.copies(&hash(1)), if fits { vec![spot] } else { vec![] });
        }
    }
}
