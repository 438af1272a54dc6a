//! The sharer on a model of a file system: contents, and the block that each 4096 bytes of a file are.

use super::super::table::Table;
use super::*;
use crate::sys::EXTENTS;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

const BLOCK: u64 = 4096;

/// A member: what it holds and how many blocks it has. Equal contents are equal members.
type Made = (u8, u64);

struct Model {
    /// Members of each image in order, as the index says.
    images: Vec<Vec<Made>>,
    /// What each block of each file holds.
    content: Vec<Vec<(u8, u64)>>,
    /// Which block of the disk it is.
    place: RefCell<Vec<Vec<u64>>>,
    /// Most blocks that a call shares.
    most: u64,
    calls: Cell<u64>,
    /// The process ends before this call.
    ends_at: u64,
    gone: Option<usize>,
    /// As many blocks are an extent, which is free as a whole only; 0: each block is.
    extent: u64,
    /// Blocks that were given out.
    next: Cell<u64>,
}

fn hash((content, blocks): Made) -> [u8; 32] {
    *blake3::hash(&[[content; 8], blocks.to_le_bytes()].concat()).as_bytes()
}

impl Model {
    fn new(images: Vec<Vec<Made>>) -> Model {
        let content: Vec<Vec<(u8, u64)>> = images
            .iter()
            .map(|image| image.iter().flat_map(|made| (0..made.1).map(|n| (made.0, n))).collect())
            .collect();
        let mut next = 0;
        let place = content.iter().map(|file| {
            // A gap behind each file.
            let start = next / 64 * 64 + 64;
            next = start + file.len() as u64;
            (start..next).collect()
        });
        let place = RefCell::new(place.collect());
        Model {
            images,
            content,
            place,
            most: 4096,
            calls: Cell::new(0),
            ends_at: u64::MAX,
            gone: None,
            extent: 0,
            next: Cell::new(1 << 20),
        }
    }

    /// Positions and lengths in blocks.
    fn listed(&self, image: usize) -> Vec<(Made, u64)> {
        let mut at = 0;
        self.images[image]
            .iter()
            .map(|made| {
                at += made.1;
                (*made, at - made.1)
            })
            .collect()
    }

    /// The whole copies of each member, those that have no block in common.
    fn copies(&self) -> BTreeMap<Made, usize> {
        let mut all: BTreeMap<Made, Vec<BTreeSet<u64>>> = BTreeMap::new();
        for image in 0..self.images.len() {
            for (made, at) in self.listed(image) {
                let blocks: BTreeSet<u64> =
                    (at..at + made.1).map(|b| self.place.borrow()[image][b as usize]).collect();
                let copies = all.entry(made).or_default();
                if copies.iter().all(|copy| copy.is_disjoint(&blocks)) {
                    copies.push(blocks);
                }
            }
        }
        all.into_iter().map(|(made, copies)| (made, copies.len())).collect()
    }

    fn run(&self, table: Table, copies: u64) -> (Totals, Vec<Spot>) {
        let progress = Progress::new();
        let mut sharer = Sharer::new(self, table, copies, false, &progress);
        let mut sum = Totals::default();
        for image in 0..self.images.len() {
            let (totals, walked) = sharer.share_image(image);
            walked.unwrap();
            (sum.before, sum.now) = (sum.before + totals.before, sum.now + totals.now);
        }
        (sum, sharer.damaged)
    }

    fn blocks_used(&self) -> usize {
        self.place.borrow().iter().flatten().collect::<BTreeSet<_>>().len()
    }

    /// Extents of which a block is needed; what was written anew is one for each range.
    fn extents_used(&self) -> usize {
        let extent = |block: &u64| if *block < 1 << 20 { block / self.extent } else { *block };
        self.place.borrow().iter().flatten().map(extent).collect::<BTreeSet<_>>().len()
    }
}

impl Images for Model {
    fn members(&self, image: usize, from: u64) -> Result<Vec<SeenMember>, String> {
        let all = self.listed(image).into_iter().map(|(made, at)| SeenMember {
            hash: hash(made),
            position: at * BLOCK,
            length: made.1 * BLOCK,
        });
        Ok(all.filter(|member| member.position >= from).take(5).collect())
    }

    fn extents(&self, image: usize, from: u64) -> io::Result<Vec<FileExtent>> {
        let mut all: Vec<FileExtent> = Vec::new();
        for (n, block) in self.place.borrow()[image].iter().enumerate() {
            let (logical, physical) = (n as u64 * BLOCK, block * BLOCK);
            let is_next = |last: &&mut FileExtent| {
                last.physical.map(|begin| begin + last.length) == Some(physical)
                    && (self.extent == 0 || block % self.extent != 0)
            };
            match all.last_mut().filter(is_next) {
                Some(last) => last.length += BLOCK,
                None => all.push(FileExtent { logical, physical: Some(physical), length: BLOCK }),
            }
        }
        Ok(all.into_iter().filter(|extent| extent.logical + extent.length > from).take(EXTENTS).collect())
    }

    fn dedupe(&self, from: Spot, to: Spot, length: u64) -> io::Result<Deduped> {
        if self.gone == Some(from.image) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.calls.set(self.calls.get() + 1);
        let (a, b) = ((from.position / BLOCK) as usize, (to.position / BLOCK) as usize);
        let count = (length / BLOCK) as usize;
        assert!(from.image != to.image || a + count <= b || b + count <= a, "no range is shared with itself");
        if self.content[from.image][a..a + count] != self.content[to.image][b..b + count] {
            return Ok(Deduped::Differs);
        }
        let count = count.min(self.most as usize);
        // A call that is cut has done a part.
        let done = if self.calls.get() >= self.ends_at { count / 2 } else { count };
        let source: Vec<u64> = self.place.borrow()[from.image][a..a + done].to_vec();
        self.place.borrow_mut()[to.image][b..b + done].copy_from_slice(&source);
        if self.calls.get() >= self.ends_at {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        Ok(Deduped::Shared(count as u64 * BLOCK))
    }

    fn frees_whole_extents(&self) -> bool {
        self.extent > 0
    }

    fn rewrite(&self, image: usize, ranges: &[Range<u64>]) -> io::Result<()> {
        for range in ranges {
            for block in range.start / BLOCK..range.end / BLOCK {
                self.place.borrow_mut()[image][block as usize] = self.next.get();
                self.next.set(self.next.get() + 1);
            }
        }
        Ok(())
    }

    fn is_whole(&self, image: usize, member: &SeenMember) -> io::Result<bool> {
        let at = (member.position / BLOCK) as usize;
        let (content, _) = self.content[image][at];
        let found = &self.content[image][at..at + (member.length / BLOCK) as usize];
        let is_one = found.iter().enumerate().all(|(n, block)| *block == (content, n as u64));
        Ok(is_one && hash((content, member.length / BLOCK)) == member.hash)
    }
}

fn images() -> impl Strategy<Value = Vec<Vec<Made>>> {
    // Few contents, so that many members are equal; one length for each.
    let made = (0u8..12).prop_map(|content| (content, 1 + u64::from(content) % 4));
    proptest::collection::vec(proptest::collection::vec(made, 0..30), 1..6)
}

proptest! {
    /// Every member is there once, or as often as it was where more copies are to stay; a second run has nothing to do.
    #[test]
    fn copies_that_are_asked_for_stay_and_no_more(
        images in images(),
        copies in 1u64..4,
        most in 1u64..9,
        extent in prop_oneof![Just(0), Just(16)],
    ) {
        let model = Model { most, extent, ..Model::new(images) };
        let before = model.copies();
        let used = model.blocks_used();
        let (first, damaged) = model.run(Table::new(), copies);
        prop_assert!(damaged.is_empty());
        prop_assert_eq!(used - model.blocks_used(), (first.now / BLOCK) as usize);
        for (made, had) in before {
            prop_assert_eq!(model.copies()[&made], had.min(copies as usize), "{:?}", made);
        }
        let calls = model.calls.get();
        let (again, _) = model.run(Table::new(), copies);
        prop_assert_eq!((again.before, again.now, model.calls.get()), (first.before + first.now, 0, calls));
    }

    /// Shared with one copy, cut at any call, and then two are to stay: none is lost that was still there.
    #[test]
    fn a_cut_run_and_another_rule_lose_no_copy(
        images in images(),
        ends_at in 1u64..30,
        copies in 1u64..4,
        extent in prop_oneof![Just(0), Just(16)],
    ) {
        let mut model = Model { ends_at, extent, ..Model::new(images) };
        model.run(Table::new(), 1);
        model.ends_at = u64::MAX;
        let before = model.copies();
        model.run(Table::new(), copies);
        for (made, had) in before {
            prop_assert!(model.copies()[&made] >= had.min(copies as usize), "{:?}", made);
        }
    }

    /// A table that is too small costs space only; what stands behind a member that was found is found by that.
    #[test]
    fn a_small_table_shares_less_and_never_wrongly(images in images(), limit in 1usize..12) {
        let model = Model::new(images);
        let used = model.blocks_used();
        let (totals, damaged) = model.run(Table::of(limit), 1);
        prop_assert!(damaged.is_empty());
        prop_assert_eq!(used - model.blocks_used(), (totals.now / BLOCK) as usize);
    }
}

#[test]
fn a_sampled_table_finds_what_follows_by_what_it_knows() {
    let disk: Vec<Made> = (0..200).map(|n| (n, 2)).collect();
    let model = Model::new(vec![disk.clone(), disk]);
    let (totals, _) = model.run(Table::of(60), 1);
    // Of 200 members it knows at most 60, and finds nearly all.
    assert!(totals.now > 190 * 2 * BLOCK, "{totals:?}");
    let (again, _) = model.run(Table::of(60), 1);
    assert_eq!((again.before, again.now), (totals.now, 0));
}

/// One bad member of a stretch keeps no other from being shared; a damaged copy is replaced by a whole one.
#[test]
fn a_member_that_is_not_what_its_index_says_is_named() {
    let disk: Vec<Made> = (0..5).map(|n| (n, 2)).collect();
    for bad in [0, 1, 2] {
        let mut model = Model::new(vec![disk.clone(); 3]);
        model.content[bad][5] = (77, 77);
        let (totals, damaged) = model.run(Table::new(), 1);
        assert_eq!(damaged, [Spot { image: bad, position: 4 * BLOCK }], "{bad}");
        assert_eq!(totals.now, 9 * 2 * BLOCK, "{bad}");
    }
}

#[test]
fn a_set_that_is_removed_meanwhile_stops_nothing() {
    let disk: Vec<Made> = (0..5).map(|n| (n, 2)).collect();
    let model = Model { gone: Some(0), ..Model::new(vec![disk; 3]) };
    let (totals, damaged) = model.run(Table::new(), 1);
    assert_eq!((totals.now, damaged.len()), (10 * BLOCK, 0));
}

/// btrfs: an extent that is needed in part takes all of its room.
#[test]
fn the_rest_of_an_extent_is_written_anew_where_that_frees_more() {
    let first: Vec<Made> = (0..32).map(|n| (n, 2)).collect();
    // Of each extent of 8 members one is other, then all but one.
    for (other, left) in [(1, 4 * 2), (7, 4)] {
        let second =
            first.iter().enumerate().map(|(n, made)| if n % 8 < other { (100 + n as u8, 2) } else { *made });
        let model = Model { extent: 16, ..Model::new(vec![first.clone(), second.collect()]) };
        assert_eq!(model.extents_used(), 8);
        let (totals, _) = model.run(Table::new(), 1);
        assert_eq!(
            (totals.now, model.extents_used()),
            ((32 - 4 * other as u64) * 2 * BLOCK, 4 + left),
            "{other}"
        );
        let (again, _) = model.run(Table::new(), 1);
        assert_eq!((again.before, again.now, model.extents_used()), (totals.now, 0, 4 + left), "{other}");
    }
}
