//! What a disk lacks of its image, as the comparison has found it.
#![forbid(unsafe_code)]

use crate::image::format::run::Run;
use crate::image::restore::restored::Restored;
use crate::text::human_bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// Ranges that could not be read are remembered up to this number: writing such a range is what makes a disk remap it.
const MOST_UNREAD: usize = 1024;

/// A run that the disk does not hold.
struct LackingRun {
    run: Run,
    /// Its member, proven; none for zeros, and where memory was short.
    member: Option<Box<[u8]>>,
}

/// What a disk lacks: the runs before [`Lack::rest`] that are listed here, and whatever shows from there on.
#[derive(Default)]
pub struct Lack {
    runs: BTreeMap<u64, LackingRun>,
    /// The first byte of the disk that is compared again when it is written; none where all that is lacking is listed.
    pub(super) rest: Option<u64>,
    /// What of the disk could not be read.
    unread: Vec<Range<u64>>,
    /// A read of the disk has failed.
    pub(super) has_failed: bool,
    /// The disk holds all of the image, its ends included.
    pub(super) is_nothing: bool,
    /// Bytes of disk in runs that differ, or were not compared.
    pub(super) bytes: u64,
    /// What there is to say of a disk that stays as it is.
    pub(super) restored: Restored,
}

/// `12.3 MB differ, for which 4.1 MB of the image's 9.9 GB were read from the share and proven`.
impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Restored { read_bytes, image_bytes, .. } = self.restored;
        let [read, image, differ] = [read_bytes, image_bytes, self.bytes].map(human_bytes);
        match (self.is_nothing, image_bytes) {
            (true, _) => {
                write!(f, "it holds all of the image; {read} of the image's {image} were read from the share")
            }
            // A gzip file: all of it was read and proven before.
            (false, 0) => f.write_str("all of it will be written"),
            _ => write!(
                f,
                "{differ} of it differ; {read} of the image's {image} were read from the share and proven"
            ),
        }?;
        match self.rest {
            Some(_) if image_bytes > 0 => {
                f.write_str(", more than memory holds: the rest is read when it is written")
            }
            _ => Ok(()),
        }
    }
}

impl Lack {
    /// All of it: nothing was compared.
    pub fn all() -> Self {
        Lack { rest: Some(0), ..Lack::default() }
    }

    /// Notes a run that differs, with its proven member; without room in memory, the disk is compared again from it on.
    pub(super) fn add(&mut self, run: &Run, has_room: bool, member: Option<&[u8]>) {
        self.bytes += run.length;
        if has_room {
            self.runs.insert(run.offset, LackingRun { run: *run, member: member.map(Into::into) });
        } else {
            self.rest = Some(self.rest.map_or(run.offset, |rest| rest.min(run.offset)));
        }
    }

    /// True where no run differs, and all of the disk could be read.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.rest.is_none() && !self.has_failed
    }

    /// A read of the disk has failed; these ranges could not be read at all.
    pub(super) fn note_failure(&mut self, unread: &[Range<u64>]) {
        self.has_failed = true;
        let room = MOST_UNREAD.saturating_sub(self.unread.len());
        self.unread.extend(unread.iter().take(room).cloned());
    }

    /// True where something of this range could not be read.
    pub(super) fn is_unread(&self, range: &Range<u64>) -> bool {
        self.unread.iter().any(|unread| unread.start < range.end && range.start < unread.end)
    }

    /// What is listed and not compared again, in the order of the disk.
    pub(super) fn listed(&self) -> impl Iterator<Item = Run> {
        self.runs.range(..self.rest.unwrap_or(u64::MAX)).map(|(_, lacking)| lacking.run)
    }

    /// The member of a run that is held.
    pub(super) fn member(&self, run: &Run) -> Option<&[u8]> {
        self.runs.get(&run.offset)?.member.as_deref()
    }
}
