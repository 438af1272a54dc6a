//! Going on with the file that a cut backup left.
//!
//! The backup runs as always, from the first byte of the disk; only its output compares with what stands in the file,
//! as long as that is the same, and writes from the first difference on. Header, zeros and index are made and compared
//! byte by byte. A data member is neither made nor read where the file's own index lists it with the hash that the
//! disk's bytes have now: its place, length and hashes go into the new index, and the verification that follows every
//! backup proves, as for any other member, that it is there and inflates to these bytes. Where no whole leaf lists it yet,
//! and near the end of the file, a member that the image before has too is read and compared by its hash.
//!
//! The index members in the file are not bound by a root hash, and need not be: a wrong one only leads to a wrong
//! image, which verification refuses.
#![forbid(unsafe_code)]

use crate::bytes::{array, le};
use crate::image::error::ImageError;
use crate::image::format::header::Header;
use crate::image::format::index::{self, Entries, ExpectedNode, FANOUT, MAX_NODE};
use crate::image::format::member::{self, FRAME, MemberKind, RUN_HEAD, RUN_PAYLOAD, UNIT};
use crate::image::format::run::{NO_HASH, Run};
use crate::io::ReadAt;
use blake3::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Bytes at the end of the file whose data members are made again and compared: what was on its way when the power
/// went may have arrived in part. Twice what the share's writer has under way.
const TAIL: u64 = 64 << 20;

/// The file that a cut backup left.
#[derive(Clone)]
pub struct Part {
    file: Arc<dyn ReadAt>,
    /// Bytes at its end whose data members are made again and compared; as the constant by default.
    pub tail: u64,
}

impl Part {
    /// Whatever stands in this file.
    pub fn new(file: Arc<dyn ReadAt>) -> Self {
        Part { file, tail: TAIL }
    }
}

/// What a cut backup left, while it is resumed.
pub(super) struct Unfinished {
    file: Arc<dyn ReadAt>,
    size: u64,
    tail: u64,
    /// The file was cut: nothing of it may be kept or read any more.
    is_cut: Arc<AtomicBool>,
}

impl Unfinished {
    /// A file whose size cannot be told is taken as empty.
    pub fn new(part: &Part) -> Self {
        let (file, size) = (part.file.clone(), part.file.size().unwrap_or(0));
        Unfinished { file, size, tail: part.tail, is_cut: Arc::default() }
    }

    /// The image id, where all else in its header is as in `header`.
    pub fn image_id(&self, header: &Header) -> Option<[u8; 16]> {
        let mut frame = [0; FRAME + 8];
        self.file.read_exact_at(&mut frame, 0).ok()?;
        let (_, len) =
            member::peek(&frame).filter(|(kind, len)| *kind == MemberKind::Header && *len <= 4 * UNIT)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let image_id = Header::decode(&bytes).ok()?.image_id;
        (Header { image_id, ..header.clone() }.encode() == bytes).then_some(image_id)
    }

    /// The runs that the file's index lists, but for those near its end.
    pub fn runs(&self, header: &Header) -> KeptRuns {
        KeptRuns {
            file: self.file.clone(),
            is_cut: self.is_cut.clone(),
            end: self.size.saturating_sub(self.tail),
            chunk: header.chunk_size,
            block: header.disk.logical_block_size,
            position: header.encode().len() as u64,
            offset: 0,
            listed: Vec::new().into_iter(),
        }
    }

    /// True where the file holds `bytes` at `position`.
    pub fn holds(&self, bytes: &[u8], position: u64) -> bool {
        self.has(position, bytes.len() as u64, || blake3::hash(bytes))
    }

    /// True where the file holds the member of a run of the base at `position`.
    pub fn holds_member(&self, run: &Run, position: u64) -> bool {
        self.has(position, u64::from(run.member_length), || run.member_hash)
    }

    /// By hash, which a store tells without sending what it has.
    fn has(&self, position: u64, length: u64, hash: impl FnOnce() -> Hash) -> bool {
        let end = position.saturating_add(length);
        end <= self.size && self.file.hash_at(&(position..end)).is_ok_and(|there| there == hash())
    }

    /// Nothing of it may be kept or read from here on: it is written over.
    pub fn end(self) {
        self.is_cut.store(true, Relaxed);
    }
}

/// Iterates over the runs of an unfinished image: walks the heads of its members up to the next leaf of the index,
/// which knows the members' hashes. Holds one leaf. Ends without an error where something is not as it must be.
pub(super) struct KeptRuns {
    file: Arc<dyn ReadAt>,
    is_cut: Arc<AtomicBool>,
    end: u64,
    chunk: u32,
    block: u32,
    position: u64,
    offset: u64,
    listed: std::vec::IntoIter<Run>,
}

impl KeptRuns {
    fn leaf(&mut self) -> Option<Vec<Run>> {
        let (start, offset) = (self.position, self.offset);
        let mut walked: Vec<Run> = Vec::new();
        while walked.len() <= FANOUT {
            let mut head = [0; RUN_HEAD];
            self.file.read_exact_at(&mut head, self.position).ok()?;
            let (kind, len) = member::peek(&head)?;
            let position = self.position;
            self.position = position.checked_add(len as u64).filter(|end| *end <= self.end)?;
            match kind {
                // Higher nodes follow their last leaf.
                MemberKind::Index if walked.is_empty() => {}
                MemberKind::Index => {
                    let mut bytes = vec![0; Some(len).filter(|len| *len <= MAX_NODE as usize)?];
                    self.file.read_exact_at(&mut bytes, position).ok()?;
                    let expected = ExpectedNode {
                        level: Some(0),
                        kinds: None,
                        offset,
                        disk: self.offset - offset,
                        start,
                        file: position - start,
                        runs: walked.len() as u64,
                        hash: blake3::hash(&bytes),
                    };
                    let Ok(Entries::Runs(runs)) = index::decode(&bytes, &expected, self.chunk, self.block)
                    else {
                        return None;
                    };
                    let same =
                        runs.iter().zip(&walked).all(|(a, b)| Run { member_hash: NO_HASH, ..*a } == *b);
                    return same.then_some(runs);
                }
                kind if kind.is_run() => {
                    let length = le::u64(&head, FRAME + 8)?;
                    walked.push(Run {
                        kind,
                        offset: self.offset,
                        length,
                        position,
                        member_length: len as u32,
                        hash: array(&head, FRAME + 16).map(Hash::from_bytes)?,
                        has_gaps: kind == MemberKind::Data && starts_list(&head),
                        member_hash: NO_HASH,
                    });
                    self.offset = self.offset.checked_add(length)?;
                }
                _ => return None,
            }
        }
        None
    }
}

/// True where the head of a data member continues with a list of gaps, or at least with its length.
fn starts_list(head: &[u8; RUN_HEAD]) -> bool {
    let payload = usize::from(u16::from_le_bytes([head[FRAME - 2], head[FRAME - 1]]));
    payload >= RUN_PAYLOAD + 2 && head[FRAME + RUN_PAYLOAD..] != [0; 2]
}

impl Iterator for KeptRuns {
    type Item = Result<Run, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_cut.load(Relaxed) {
            return None;
        }
        if self.listed.len() == 0 {
            match self.leaf() {
                Some(runs) => self.listed = runs.into_iter(),
                // Nothing behind the first thing that is wrong is looked at.
                None => self.end = 0,
            }
        }
        self.listed.next().map(Ok)
    }
}
