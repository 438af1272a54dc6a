//! Groups of runs: data members are small, but disk and file are read in large pieces.
#![forbid(unsafe_code)]

use crate::image::error::ImageError;
use crate::image::format::member::MemberKind;
use crate::image::format::run::Run;
use std::iter::Peekable;
use std::ops::Range;

/// Bytes of disk that a group stands for at most, unless it is one run.
pub(super) const GROUP: u64 = 1 << 20;
/// The same for bytes of the file: what a member takes more than its data is bounded by this, too.
pub(super) const GROUP_MEMBERS: u64 = 2 << 20;

/// Consecutive data runs whose members stand next to each other, or one run of any kind. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunGroup(Vec<Run>);

impl RunGroup {
    /// In the order of the disk, and of the file.
    pub fn runs(&self) -> &[Run] {
        &self.0
    }

    /// Their bytes of disk.
    pub fn range(&self) -> Range<u64> {
        self.0.first().map_or(0, |run| run.offset)..self.0.last().map_or(0, |run| run.range().end)
    }
}

impl RunGroup {
    /// Bytes of disk that it has data for.
    pub fn data_bytes(&self) -> u64 {
        self.0.iter().filter(|run| run.kind == MemberKind::Data).map(|run| run.length).sum()
    }
}

/// Joins runs, which come in the order of the disk, to groups.
pub(super) struct RunGroups<I: Iterator>(Peekable<I>);

impl<I: Iterator<Item = Result<Run, ImageError>>> RunGroups<I> {
    pub fn new(runs: I) -> Self {
        RunGroups(runs.peekable())
    }
}

impl<I: Iterator<Item = Result<Run, ImageError>>> Iterator for RunGroups<I> {
    type Item = Result<RunGroup, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = match self.0.next()? {
            Ok(run) => run,
            Err(error) => return Some(Err(error)),
        };
        let mut group = vec![first];
        let mut last = first;
        while let Some(Ok(next)) =
            self.0.next_if(|next| next.as_ref().is_ok_and(|next| fits(&first, &last, next)))
        {
            group.push(next);
            last = next;
        }
        Some(Ok(RunGroup(group)))
    }
}

/// True where `next` may follow `last` in the group that begins with `first`.
fn fits(first: &Run, last: &Run, next: &Run) -> bool {
    let is_data = [first, next].iter().all(|run| run.kind == MemberKind::Data);
    is_data
        && last.range().end == next.offset
        && last.place().end == next.position
        && next.range().end - first.offset <= GROUP
        && next.place().end - first.position <= GROUP_MEMBERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::format::run::NO_HASH;
    use proptest::prelude::*;

    fn run(kind: MemberKind, offset: u64, length: u64, position: u64, member_length: u32) -> Run {
        Run {
            kind,
            offset,
            length,
            position,
            member_length,
            hash: NO_HASH,
            has_gaps: false,
            member_hash: NO_HASH,
        }
    }

    proptest! {
        #[test]
        fn groups_are_the_runs_in_order_contiguous_and_bounded(
            steps in prop::collection::vec((0u8..5, 1u64..600, 1u32..200, any::<bool>()), 0..80),
        ) {
            let (mut offset, mut position, mut runs) = (0, 0, Vec::new());
            for (kind, kib, blocks, is_apart) in steps {
                // Index members stand between some of the runs.
                position += u64::from(is_apart) * 4096;
                let kind = if kind == 0 { MemberKind::Zero } else { MemberKind::Data };
                runs.push(run(kind, offset, kib << 10, position, blocks * 4096));
                offset += kib << 10;
                position += u64::from(blocks) * 4096;
            }
            let groups: Vec<_> = RunGroups::new(runs.iter().copied().map(Ok)).map(Result::unwrap).collect();
            let again: Vec<Run> = groups.iter().flat_map(|group| group.runs().to_vec()).collect();
            prop_assert_eq!(again, runs);
            for group in &groups {
                let list = group.runs();
                prop_assert!(!list.is_empty());
                if list.len() > 1 {
                    prop_assert!(list.iter().all(|run| run.kind == MemberKind::Data));
                    prop_assert!(group.range().end - group.range().start <= GROUP);
                    let bytes: u64 = list.iter().map(|run| u64::from(run.member_length)).sum();
                    prop_assert!(bytes <= GROUP_MEMBERS);
                }
                for pair in list.windows(2) {
                    prop_assert_eq!(pair[0].range().end, pair[1].offset);
                    prop_assert_eq!(pair[0].place().end, pair[1].position);
                }
            }
            // Nothing is left apart that would have fit.
            for pair in groups.windows(2) {
                let (list, next) = (pair[0].runs(), pair[1].runs()[0]);
                prop_assert!(!fits(&list[0], &list[list.len() - 1], &next));
            }
        }
    }

    #[test]
    fn an_error_ends_its_group_and_is_passed_on() {
        let items = vec![
            Ok(run(MemberKind::Data, 0, 4096, 0, 4096)),
            Err(ImageError::cancelled()),
            Ok(run(MemberKind::Data, 4096, 4096, 4096, 4096)),
        ];
        let groups: Vec<_> = RunGroups::new(items.into_iter()).collect();
        assert_eq!(
            groups.iter().map(|group| group.as_ref().map_or(0, |g| g.runs().len())).collect::<Vec<_>>(),
            [1, 0, 1]
        );
    }
}
