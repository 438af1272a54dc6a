//! Verify: the whole image against its hashes, and the image against a disk.
//!
//! Both prove what the file and the disk give when they are read. That it is not this computer's page cache that gives
//! it is the opener's business: [`crate::share::DirFiles`] drops the cached pages of a file, [`crate::block::RealDisk`]
//! reads past them.
#![forbid(unsafe_code)]

use crate::block::BlockDevice;
use crate::image::backup::incremental::Aligned;
use crate::image::error::{ImageError, ImageOp};
use crate::image::format::member::MemberKind;
use crate::image::format::run::{Run, data_member};
use crate::image::group::{RunGroup, RunGroups};
use crate::image::parallel::{for_each, io_threads};
use crate::image::reader::{Image, Summary};
use crate::image::resized::{AsImaged, outside};
use crate::image::restore::needed::needed;
use crate::image::workspace::Workspace;
use crate::io::is_zero;
use crate::progress::Progress;
use crate::used::Growth;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// Checks every byte of an image: all index nodes, each member's hash and framing, each data run inflated and
/// hashed, CRC32 and ISIZE, the fixed bytes of zero runs, order and coverage, the totals.
///
/// `threads` that inflate; 0 is one per core. Progress counts bytes of disk, without those that are unallocated.
///
/// # Errors
/// The first thing that is wrong, with its place; the file cannot be read; cancelled.
pub fn verify(image: &Image, threads: usize, progress: &Progress) -> Result<Summary, ImageError> {
    check_all(image, None, threads, progress, |space, run, _| {
        check_hash(space, run)?;
        check_content(space, run)
    })
}

/// Checks an image without inflating it: all index nodes, and each member's bytes against its hash, so that not one
/// byte of the file is other than when it was written. An image that was verified once is proven whole by it.
///
/// `threads` that hash; 0 is one per core. Progress counts bytes of disk.
///
/// # Errors
/// As [`verify`].
pub fn scrub(image: &Image, threads: usize, progress: &Progress) -> Result<Summary, ImageError> {
    check_all(image, None, threads, progress, |space, run, _| check_hash(space, run))
}

/// [`verify`] of an image that has members of `base`: those are not inflated again.
///
/// Everything else of them is checked: that they stand where the index says, their framing, and the hash of all their
/// bytes. That is enough where the base is an image that was verified when it was made: its index, which its root hash
/// binds, then is the proof that the member with this hash inflates to the bytes with that hash, CRC32 and ISIZE
/// included. What is the same in both hashes at the same place of the disk is the same member, bit for bit, and
/// inflating it would give the same result. The caller vouches for the base by the root hash in its record, which is
/// only written after verification; by the same argument a chain of such images rests on its first one.
///
/// # Errors
/// As [`verify`].
pub fn verify_again(
    image: &Image,
    base: &Image,
    threads: usize,
    progress: &Progress,
) -> Result<Summary, ImageError> {
    check_all(image, Some(base), threads, progress, |space, run, is_proven| {
        check_hash(space, run)?;
        if is_proven && run.kind == MemberKind::Data {
            return match data_member(space.members.of(run)?, run) {
                Ok(_) => Ok(()),
                Err(what) => Err(ImageError::damaged(run.position, what)),
            };
        }
        check_content(space, run)
    })
}

/// The last argument of `check` is true where `base` proves what the member holds.
fn check_all(
    image: &Image,
    base: Option<&Image>,
    threads: usize,
    progress: &Progress,
    check: impl Fn(&mut Workspace, &Run, bool) -> Result<(), ImageError> + Sync,
) -> Result<Summary, ImageError> {
    let summary = image.summary();
    progress.start(summary.disk.saturating_sub(summary.unallocated));
    let mut base = base.map(|base| Aligned::new(base.runs()));
    let (mut runs, mut zero, mut unallocated, mut unreadable) = (0u64, 0u64, 0u64, 0u64);
    let counted = image.runs().inspect(|run| {
        if let Ok(run) = run {
            runs += 1;
            match run.kind {
                MemberKind::Zero => zero += run.length,
                MemberKind::Unallocated => unallocated += run.length,
                MemberKind::Unreadable => unreadable += run.length,
                _ => {}
            }
        }
    });
    let mut is_proven = |run: &Run| {
        // A base that cannot be read proves nothing.
        let old = base.as_mut().and_then(|base| base.find(&run.range()).unwrap_or(None));
        old.is_some_and(|old| (old.hash, old.member_hash) == (run.hash, run.member_hash))
    };
    let with_proof = RunGroups::new(counted).map(|group| {
        let group = group?;
        let proven: Vec<bool> = group.runs().iter().map(&mut is_proven).collect();
        Ok((group, proven))
    });
    let space = || Workspace::new(image);
    for_each(with_proof, io_threads(threads), progress, space, |space, (group, proven)| {
        space.read_members(image, &group)?;
        for (run, is_proven) in group.runs().iter().zip(proven) {
            check(space, run, is_proven)?;
            progress.image.fetch_add(run.member_length.into(), Relaxed);
            count(progress, run);
        }
        Ok(())
    })?;
    let footer = image.footer();
    if (runs, zero, unallocated, unreadable)
        != (footer.runs, footer.zero, footer.unallocated, footer.unreadable)
    {
        return Err(ImageError::damaged(summary.image, "the footer's totals are not those of the index"));
    }
    Ok(summary)
}

/// Counts a run that was handled.
pub(super) fn count(progress: &Progress, run: &Run) {
    match run.kind {
        MemberKind::Unallocated => progress.skipped.fetch_add(run.length, Relaxed),
        MemberKind::Zero => {
            progress.zero.fetch_add(run.length, Relaxed);
            progress.done.fetch_add(run.length, Relaxed)
        }
        _ => progress.done.fetch_add(run.length, Relaxed),
    };
}

/// The hash of a member that was read.
pub(super) fn check_hash(space: &Workspace, run: &Run) -> Result<(), ImageError> {
    if blake3::hash(space.members.of(run)?) != run.member_hash {
        let what = format!("a member's hash is wrong (disk byte {})", run.offset);
        return Err(ImageError::damaged(run.position, what));
    }
    Ok(())
}

/// What a member that was read holds.
fn check_content(space: &mut Workspace, run: &Run) -> Result<(), ImageError> {
    if run.kind == MemberKind::Data {
        space.inflate_member(run)?;
        return Ok(());
    }
    let Workspace { members, zeros, .. } = space;
    let (wanted, _) = zeros.get(run.kind, run.length);
    if members.of(run)? != wanted {
        return Err(ImageError::damaged(run.position, "a run of zeros is not written as it must be"));
    }
    Ok(())
}

/// Compares a disk with an image: data by hash, zeros as zeros. What the image calls unallocated (gaps, too) or
/// unreadable is not compared. A disk of another size is compared by what its table means (`image::resized`). The answer
/// is the partition that has grown since it was restored, and was not compared.
///
/// # Errors
/// As [`verify`]; and the first place where the disk differs, cannot be read, or ends too early.
pub fn verify_against(
    image: &Image,
    disk: &dyn BlockDevice,
    threads: usize,
    progress: &Progress,
) -> Result<Option<Growth>, ImageError> {
    let Summary { disk: size, unallocated, .. } = image.summary();
    if disk.size() < size {
        let needed = needed(image)?;
        if disk.size() < needed.bytes {
            return Err(ImageError::refused(disk, needed.missing_on(disk.size())));
        }
    }
    let disk = &AsImaged::of(disk, image)?;
    let hole = disk.grown.as_ref().map_or(size..size, |grown| grown.start..grown.end);
    progress.start(size.saturating_sub(unallocated));
    let (groups, space) = (RunGroups::new(image.runs()), || Workspace::new(image));
    for_each(groups, io_threads(threads), progress, space, |space, group| {
        compare(image, disk, &hole, space, &group)?;
        group.runs().iter().for_each(|run| count(progress, run));
        Ok(())
    })?;
    Ok(disk.grown.clone())
}

/// Compares a group with what the disk holds in its place, but for what lies in `hole`.
fn compare(
    image: &Image,
    disk: &dyn BlockDevice,
    hole: &Range<u64>,
    space: &mut Workspace,
    group: &RunGroup,
) -> Result<(), ImageError> {
    let range = group.range();
    let parts = outside(&range, hole);
    let [first, ..] = group.runs() else { return Ok(()) };
    match first.kind {
        _ if parts.iter().all(Range::is_empty) => {}
        MemberKind::Data => {
            read(disk, space.found((range.end - range.start) as usize), range.start)?;
            for run in
                group.runs().iter().filter(|run| !outside(&run.range(), hole).iter().all(Range::is_empty))
            {
                space.read_gaps(image, run)?;
                let gaps = std::mem::take(&mut space.gaps);
                let raw = &mut space.found((run.range().end - range.start) as usize)
                    [(run.offset - range.start) as usize..];
                gaps.clear_in(raw, 0);
                if gaps.hash(raw) != run.hash {
                    return Err(ImageError::differs(disk, &run.range(), ImageOp::Compare));
                }
            }
        }
        MemberKind::Zero => {
            for part in parts {
                expect_zeros(disk, &mut space.raw, part, ImageOp::Compare)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Reads from a disk, with the place in the error.
pub(super) fn read(disk: &dyn BlockDevice, buf: &mut [u8], offset: u64) -> Result<(), ImageError> {
    let len = buf.len() as u64;
    disk.read_at(buf, offset).map_err(|e| ImageError::transfer(disk, ImageOp::Read, offset, len, e))
}

/// Checks that a range of the disk is zero. Holes are, by definition. `op` is what the error says was done.
pub(super) fn expect_zeros(
    disk: &dyn BlockDevice,
    buf: &mut [u8],
    range: Range<u64>,
    op: ImageOp,
) -> Result<(), ImageError> {
    data_parts(disk, &range, buf.len() as u64, |part| {
        let bytes = &mut buf[..(part.end - part.start) as usize];
        read(disk, bytes, part.start)?;
        if is_zero(bytes) { Ok(()) } else { Err(ImageError::differs(disk, &part, op)) }
    })
}

/// Calls `look` for the parts of a range that may hold data, each at most `step` bytes long, in order.
pub(super) fn data_parts(
    disk: &dyn BlockDevice,
    range: &Range<u64>,
    step: u64,
    mut look: impl FnMut(Range<u64>) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let mut at = range.start;
    let mut data = at..at;
    while at < range.end {
        if at >= data.end {
            let found =
                disk.next_data(at).map_err(|e| ImageError::transfer(disk, ImageOp::SeekData, at, 0, e))?;
            data = match found {
                Some(data) if data.start < range.end => data,
                _ => return Ok(()),
            };
            // Back to whole blocks of any size.
            at = at.max(data.start / (64 << 10) * (64 << 10));
        }
        let next = range.end.min(at + step);
        look(at..next)?;
        at = next;
    }
    Ok(())
}
