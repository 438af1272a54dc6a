//! Reading files for a token: all of them, or only what an image holds by hashes.

use super::access::Reading;
use crate::image::{FANOUT, FRAME, Hash, MAX_NODE, MemberKind, RUN_HEAD, peek_member};
use crate::io::ReadAt;
use crate::store::protocol::{BODY_LIMIT, Code, Refusal};
use crate::sys::drop_cached;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

/// Members begin at multiples of this.
const UNIT: u64 = 4096;

/// Whether this range of a file may be read by who may read so much.
///
/// # Errors
/// [`Code::Forbidden`]: the range holds bytes of the disk.
pub fn permit_range(file: &dyn ReadAt, range: &Range<u64>, reading: Reading) -> Result<(), Refusal> {
    let is_allowed = match reading {
        Reading::All => true,
        Reading::Index => is_of_index(file, range),
    };
    match is_allowed {
        true => Ok(()),
        false => Err(Refusal::new(
            Code::Forbidden,
            "a backup reads header, index and footer of an image, and no bodies",
        )),
    }
}

/// True for what stands where an image has header, index or footer: a whole or the beginning of such a member, or the few
/// bytes at the ends of the file that tell what kind of file it is.
fn is_of_index(file: &dyn ReadAt, range: &Range<u64>) -> bool {
    let length = range.end.saturating_sub(range.start);
    let Ok(size) = file.size() else { return false };
    if !range.start.is_multiple_of(UNIT) {
        return false;
    }
    if length <= FRAME as u64
        && (range.start <= 4 * UNIT || range.start.saturating_add(UNIT) >= size / UNIT * UNIT)
    {
        return true;
    }
    let mut head = [0; FRAME + 8];
    if file.read_exact_at(&mut head, range.start).is_err() {
        return false;
    }
    peek_member(&head).is_some_and(|(kind, member)| !kind.is_run() && length <= member as u64)
}

/// The files that a session reads range by range, kept open from one to the next: so the kernel reads ahead of it. A set that
/// takes their place meanwhile is not mixed with them.
#[derive(Default)]
pub struct RangeReader {
    /// The last ones, the newest first.
    files: VecDeque<OpenRange>,
}

struct OpenRange {
    path: String,
    file: Arc<dyn ReadAt>,
    /// What was asked for last.
    asked: VecDeque<Range<u64>>,
}

/// Bytes that leave the memory together.
const PASSED: u64 = 4 << 20;
/// Files that a [`RangeReader`] keeps open: a machine reads the images of its disks beside each other.
const OPEN: usize = 8;
/// Ranges of each that it remembers: more than one machine has under way.
const ASKED: usize = 16;

impl RangeReader {
    /// The file at this path.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn file(
        &mut self,
        path: &str,
        open: impl FnOnce() -> Result<Arc<dyn ReadAt>, Refusal>,
    ) -> Result<Arc<dyn ReadAt>, Refusal> {
        if let Some(known) = self.files.iter().find(|known| known.path == path) {
            return Ok(known.file.clone());
        }
        let file = open()?;
        self.files.truncate(OPEN - 1);
        self.files.push_front(OpenRange {
            path: path.to_owned(),
            file: file.clone(),
            asked: VecDeque::new(),
        });
        Ok(file)
    }

    /// The next range of this path is of what stands there then.
    pub fn forget(&mut self, path: &str) {
        self.files.retain(|known| known.path != path);
    }

    /// Whether the same was asked for a moment ago: the answer has broken off, or not arrived.
    pub fn is_asked_again(&mut self, path: &str, range: &Range<u64>) -> bool {
        let Some(known) = self.files.iter_mut().find(|known| known.path == path) else { return false };
        let is_again = known.asked.contains(range);
        if !is_again {
            known.asked.truncate(ASKED - 1);
            known.asked.push_front(range.clone());
        }
        is_again
    }
}

/// Reads bytes that are sent and not needed again: an image does not take the place of what others read from memory. They come
/// through the page cache all the same, however the memory is aligned: so the kernel reads ahead of them.
///
/// # Errors
/// Those of reading.
pub fn passing(file: &dyn ReadAt, bytes: &mut [u8], at: u64) -> io::Result<()> {
    let Some(cached) = file.as_any().and_then(|file| file.downcast_ref::<File>()) else {
        return file.read_exact_at(bytes, at);
    };
    ReadAt::read_exact_at(cached, bytes, at)?;
    let end = at.saturating_add(bytes.len() as u64);
    // Not for each piece, which would cost as much as reading it.
    if let Some(passed) = end.checked_sub(PASSED).filter(|_| at / PASSED != end / PASSED) {
        // Advice only.
        let _ = drop_cached(cached, passed / PASSED * PASSED, NonZeroU64::new(PASSED));
    }
    Ok(())
}

/// The heads of the members from `at` on, and the leaf of the index that follows them.
///
/// # Errors
/// Those of the folder.
pub fn heads(file: &dyn ReadAt, at: u64) -> Result<Vec<u8>, Refusal> {
    let failed = |e: std::io::Error| Refusal::of_error("the part", &e);
    let size = file.size().map_err(failed)?;
    let (mut position, mut answer) = (at, Vec::new());
    for _ in 0..=FANOUT {
        let mut head = [0; RUN_HEAD];
        if position.saturating_add(RUN_HEAD as u64) > size || !position.is_multiple_of(UNIT) {
            break;
        }
        file.read_exact_at(&mut head, position).map_err(failed)?;
        let Some((kind, length)) = peek_member(&head) else { break };
        let mut bytes = head.to_vec();
        let is_leaf = kind == MemberKind::Index;
        if is_leaf {
            if length > MAX_NODE as usize || position.saturating_add(length as u64) > size {
                break;
            }
            bytes.resize(length, 0);
            file.read_exact_at(&mut bytes, position).map_err(failed)?;
        }
        answer.extend(position.to_le_bytes());
        answer.extend((bytes.len() as u32).to_le_bytes());
        answer.extend(bytes);
        if is_leaf {
            break;
        }
        position = position.saturating_add(length as u64);
    }
    Ok(answer)
}

/// The BLAKE3 hash of a range: it tells nothing of bytes that nobody knows.
///
/// # Errors
/// The range is too long, or not in the file; those of the folder.
pub fn digest(file: &dyn ReadAt, range: &Range<u64>) -> Result<Hash, Refusal> {
    bytes(file, range).map(|bytes| blake3::hash(&bytes))
}

/// The bytes of a range, as far as the file has them.
///
/// # Errors
/// The range is too long; those of the folder.
pub fn bytes(file: &dyn ReadAt, range: &Range<u64>) -> Result<Vec<u8>, Refusal> {
    let failed = |e: std::io::Error| Refusal::of_error("the file", &e);
    let end = range.end.min(file.size().map_err(failed)?);
    let length = usize::try_from(end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    if length > BODY_LIMIT {
        return Err(Refusal::new(Code::TooLarge, format!("at most {BODY_LIMIT} bytes in one answer")));
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, range.start).map_err(failed)?;
    Ok(bytes)
}
