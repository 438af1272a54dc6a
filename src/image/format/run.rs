//! Runs: consecutive pieces of the disk, each in a member of its own.
#![forbid(unsafe_code)]

use crate::bytes::{array, le};
use crate::image::format::gaps::{Gaps, MAX_LIST};
use crate::image::format::member::{self, FRAME, MemberKind, RUN_PAYLOAD, Reason, TRAILER};
use crate::image::format::zeros::{self, MAX_ZERO_RUN};
use blake3::Hash;
use std::ops::Range;

/// The hash field of runs that hold no data.
pub const NO_HASH: Hash = Hash::from_bytes([0; 32]);

/// One run, as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Data, Zero, Unallocated or Unreadable.
    pub kind: MemberKind,
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes of disk.
    pub length: u64,
    /// First byte of its member in the file.
    pub position: u64,
    /// Bytes of its member.
    pub member_length: u32,
    /// BLAKE3 of the raw bytes, and of the list of gaps where there is one; zero for runs without data.
    pub hash: Hash,
    /// Its member lists gaps.
    pub has_gaps: bool,
    /// BLAKE3 of the whole member.
    pub member_hash: Hash,
}

impl Run {
    /// Its bytes of disk.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.length)
    }

    /// Its member's bytes of the file.
    pub fn place(&self) -> Range<u64> {
        self.position..self.position.saturating_add(self.member_length.into())
    }
}

/// Longest member that `raw` bytes of data can take: stored blocks, frame, list of gaps, padding.
pub fn longest_data_member(raw: u64) -> u64 {
    (raw + 5 * raw.div_ceil(65_535) + (FRAME + RUN_PAYLOAD + MAX_LIST + TRAILER) as u64 + 5)
        .next_multiple_of(member::UNIT as u64)
}

/// Checks the numbers of an index entry against each other.
pub fn check_entry(
    kind: MemberKind,
    length: u64,
    member_length: u32,
    hash: Hash,
    has_gaps: bool,
    chunk: u32,
) -> Result<(), Reason> {
    let member = u64::from(member_length);
    let whole = member > 0 && member % member::UNIT as u64 == 0;
    let fits = match kind {
        MemberKind::Data => length <= u64::from(chunk) && member <= longest_data_member(length),
        MemberKind::Zero | MemberKind::Unallocated | MemberKind::Unreadable => {
            length <= MAX_ZERO_RUN && length > 0 && member == zeros::member_len(length) && hash == NO_HASH
        }
        _ => return Err("an index leaf lists what is not a run"),
    };
    if length == 0 || !whole || !fits || has_gaps && kind != MemberKind::Data {
        return Err("an index entry has impossible lengths");
    }
    Ok(())
}

/// Bytes that stand before the deflate stream of a data member whose stream and trailer take `tail` bytes, and its list
/// of gaps `list`.
pub fn data_front(tail: usize, list: usize) -> usize {
    let least = FRAME + RUN_PAYLOAD + list;
    member::round_up(least + tail) - tail
}

/// Writes everything that stands before the deflate stream; `front` is as long as [`data_front`] said.
pub fn write_data_front(front: &mut [u8], tail: usize, length: u64, hash: Hash, list: &[u8]) {
    let mut payload = vec![0; RUN_PAYLOAD];
    payload[8..16].copy_from_slice(&length.to_le_bytes());
    payload[16..48].copy_from_slice(hash.as_bytes());
    payload.extend(list);
    let member_len = front.len() + tail;
    member::write_frame(front, MemberKind::Data, member_len, &payload, false);
}

/// The gaps of a data member that must be exactly the one of `run`, and its deflate stream with its trailer; `bytes` may
/// be only its beginning.
pub fn data_member<'a>(bytes: &'a [u8], run: &Run) -> Result<(Gaps, &'a [u8]), Reason> {
    let member = member::parse(bytes)?;
    let length = le::u64(member.payload, 8).ok_or("a data member's payload is too short")?;
    let hash: [u8; 32] = array(member.payload, 16).ok_or("a data member's payload is too short")?;
    let rest = member.payload.get(RUN_PAYLOAD..).ok_or("a data member's payload is too short")?;
    let (gaps, list) = Gaps::decode(rest, length)?;
    let padding = rest.get(list..).unwrap_or_default();
    if padding.len() >= member::UNIT || padding.iter().any(|b| *b != 0) {
        return Err("a data member's padding is wrong");
    }
    let same = member.kind == run.kind && member.len == run.member_length as usize && length == run.length;
    if !same || hash != *run.hash.as_bytes() || gaps.is_empty() == run.has_gaps {
        return Err("this is another data member than the index says");
    }
    Ok((gaps, member.rest))
}

/// The gaps of the data member of `run`, from its beginning: [`gaps_end`] bytes are enough. Its padding and what follows are
/// not looked at.
pub fn member_gaps(head: &[u8], run: &Run) -> Result<Gaps, Reason> {
    let wrong = "this is another data member than the index says";
    let (kind, len) = member::peek(head).ok_or("no testbox member begins here")?;
    let payload = le::u16(head, FRAME - 2).map_or(0, usize::from);
    let payload = head.get(FRAME..head.len().min(FRAME + payload)).ok_or(wrong)?;
    let hash: [u8; 32] = array(payload, 16).ok_or(wrong)?;
    let same =
        (kind, len) == (run.kind, run.member_length as usize) && le::u64(payload, 8) == Some(run.length);
    let (gaps, _) = Gaps::decode(payload.get(RUN_PAYLOAD..).ok_or(wrong)?, run.length)?;
    if same && hash == *run.hash.as_bytes() && gaps.is_empty() != run.has_gaps {
        Ok(gaps)
    } else {
        Err(wrong)
    }
}

/// Bytes of a data member that hold its list of gaps and all before it, in whole units, for runs of at most `chunk` bytes.
pub fn gaps_end(chunk: u32) -> usize {
    // A gap and what lies before it take two units at least; where a bad sector cut them, one more.
    let list = (2 + 4 * (chunk as usize / member::UNIT / 2 + 1)).min(MAX_LIST);
    member::round_up(FRAME + RUN_PAYLOAD + list)
}
