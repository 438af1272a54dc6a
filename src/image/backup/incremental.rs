//! Taking members over from the image before, and verifying what was made that way.
//!
//! Members of what did not change are appended by [`crate::io::SyncWrite::append_from`], a stretch of them in one call:
//! the file server copies them, or shares their blocks. This computer neither reads nor hashes them, so a backup of an
//! unchanged disk takes no longer than reading and hashing the disk. Their proof is the verification of the new image,
//! which every backup goes through before it is published, and which reads all of the new file: its index has the
//! member hashes of the old index, which the old root hash binds, and a member that was bad, or was copied badly, does
//! not have that hash.
//!
//! That verification cannot mend: another member for the same chunk may have another length. Whoever runs the backup
//! makes it again with [`super::Earlier::prove_base`], which is the way of a share that cannot copy, too: each old
//! member is read and proven first, and a bad one is compressed from the disk again. It costs a second pass over the
//! disk, and is as rare as a file server that loses bytes.
#![forbid(unsafe_code)]

use crate::image::error::ImageError;
use crate::image::format::codec::Codec;
use crate::image::format::member::MemberKind;
use crate::image::format::run::{Run, data_member};
use crate::image::reader::Image;
use std::collections::BTreeSet;
use std::ops::Range;

/// Between the names of codecs in a header.
const AND: &str = " + ";

/// The header's name for what compressed the members: this codec, and that of the base where it is another one (or
/// the same on another CPU). Their names in order, so that equal sources make equal headers.
pub(super) fn joint_codec(codec: Codec, base: Option<&Image>) -> String {
    let own = codec.name();
    let mut names = BTreeSet::from([own.as_str()]);
    if let Some(base) = base {
        names.extend(base.header().codec.split(AND).filter(|name| !name.is_empty()));
    }
    names.into_iter().collect::<Vec<_>>().join(AND)
}

/// Runs of an earlier image, asked for piece by piece in the order of the disk. Holds one run.
pub(in crate::image) struct Aligned<I> {
    runs: I,
    ahead: Option<Run>,
}

impl<I: Iterator<Item = Result<Run, ImageError>>> Aligned<I> {
    pub fn new(runs: I) -> Self {
        Aligned { runs, ahead: None }
    }

    /// The data run that is exactly this piece of disk. Pieces must rise. After an error nothing is found any more.
    pub fn find(&mut self, piece: &Range<u64>) -> Result<Option<Run>, ImageError> {
        while self.ahead.is_none_or(|run| run.offset < piece.start) {
            self.ahead = self.runs.next().transpose()?;
            if self.ahead.is_none() {
                return Ok(None);
            }
        }
        Ok(self.ahead.filter(|run| run.kind == MemberKind::Data && run.range() == *piece))
    }
}

/// Reads the member of a data run of the base behind the others in `members`, and proves it. Its place there.
pub(super) fn old_member(base: &Image, run: &Run, members: &mut Vec<u8>) -> Result<Range<usize>, ImageError> {
    let at = members.len();
    members.resize(at + run.member_length as usize, 0);
    let proven = prove_member(base, run, &mut members[at..]);
    if proven.is_err() {
        members.truncate(at);
    }
    proven.map(|()| at..members.len())
}

fn prove_member(base: &Image, run: &Run, bytes: &mut [u8]) -> Result<(), ImageError> {
    let damaged =
        |what: &str| ImageError::damaged(run.position, format!("{what} (disk byte {})", run.offset));
    base.read(bytes, run.position)?;
    // Its bytes are those that were inflated, and found to be the run's, when the base was verified.
    if blake3::hash(bytes) != run.member_hash {
        return Err(damaged("a member's hash is wrong"));
    }
    data_member(bytes, run).map_err(damaged)?;
    Ok(())
}
