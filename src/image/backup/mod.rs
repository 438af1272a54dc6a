//! Backup: disk in, image out.
//!
//! Two files may save work, whatever they are and whatever is wrong with them: the image before of the same disk, whose
//! members are taken over where the disk did not change ([`Earlier::base`], module `incremental`), and what a cut
//! backup left, which is resumed where it is ([`Earlier::part`], module `resume`). The disk is read and hashed all
//! the same, and the image that comes out is the one that would be made without them.
//!
//! What is unallocated ([`BackupOptions::used`]) is not read. Nothing rests on what an earlier file says about that: a
//! piece that it calls unallocated and that is used now is read as any other.
#![forbid(unsafe_code)]

mod carve;
mod cheaper;
mod cut;
pub(crate) mod incremental;
mod moved;
pub(crate) mod options;
pub(crate) mod output;
mod pack;
pub(crate) mod pipeline;
pub(crate) mod resume;
mod slot;
mod source;
mod sources;
pub(crate) mod verified;
pub(crate) mod writer;

use crate::block::BlockDevice;
use crate::image::backup::incremental::joint_codec;
use crate::image::backup::options::{BackupOptions, Earlier, Written};
use crate::image::backup::pipeline::pipeline;
use crate::image::backup::resume::Unfinished;
use crate::image::backup::source::free_bytes;
use crate::image::backup::sources::MemberSources;
use crate::image::backup::writer::Writer;
use crate::image::error::{ImageError, ImageOp};
use crate::image::format::found::FoundTexts;
use crate::image::format::header::{DiskAbout, Header};
use crate::io::SyncWrite;
use crate::progress::Progress;
use std::io;
use std::sync::atomic::AtomicBool;

/// Images a whole disk: reads, compresses and writes at the same time, then syncs the sink.
///
/// The sink gets the image front to back; it is an image only once this returns. A medium error is an error that
/// names the LBA, unless [`BackupOptions::allow_bad_sectors`]. Progress counts bytes of disk, without those that are
/// not read.
///
/// # Errors
/// A disk that cannot be read, a sink that cannot be written, cancelled, or internal. What is in the sink is no image
/// then.
pub fn backup(
    disk: &dyn BlockDevice,
    sink: &mut dyn SyncWrite,
    about: &DiskAbout,
    opts: &BackupOptions,
    progress: &Progress,
) -> Result<Written, ImageError> {
    backup_again(disk, sink, about, opts, &Earlier::default(), progress)
}

/// [`backup`] with what was done before.
///
/// # Errors
/// As [`backup`]; a base that cannot be used is not an error, and told in [`Written::bad_base`].
pub fn backup_again(
    disk: &dyn BlockDevice,
    sink: &mut dyn SyncWrite,
    about: &DiskAbout,
    opts: &BackupOptions,
    earlier: &Earlier,
    progress: &Progress,
) -> Result<Written, ImageError> {
    let base = earlier.base.as_deref().filter(|base| opts.check_base(base).is_ok());
    let mut header = Header {
        disk: about.clone(),
        chunk_size: opts.chunk_size,
        image_id: [0; 16],
        codec: joint_codec(opts.codec, base),
        writer: concat!("testbox ", env!("CARGO_PKG_VERSION")).to_owned(),
        found: FoundTexts::new(&opts.used.found),
    };
    header.check().map_err(|what| ImageError::refused(disk, what))?;
    if about.size != disk.size() || about.logical_block_size != disk.logical_block_size() {
        let what = "the sizes of the disk are not those that the image is to record";
        return Err(ImageError::internal(format!("{}: {what}", disk.name())));
    }
    let skipped = free_bytes(disk, opts)?;
    let part = earlier.part.as_ref().map(Unfinished::new);
    header.image_id = match (opts.image_id, part.as_ref().and_then(|part| part.image_id(&header))) {
        (Some(id), _) | (None, Some(id)) => id,
        (None, None) => {
            let mut id = [0; 16];
            let resource = |e| ImageError::resource(ImageOp::GetRandom, io::Error::other(e));
            getrandom::fill(&mut id).map_err(resource)?;
            id
        }
    };
    progress.start(about.size.saturating_sub(skipped));
    let unread = AtomicBool::new(!earlier.prove_base);
    let kept = part.as_ref().map(|part| part.runs(&header));
    let sources = MemberSources { base, unread: &unread, kept };
    let mut writer = Writer::new(sink, &header, opts, &sources, part, progress)?;
    ImageError::catch(|| pipeline(disk, opts, sources, progress, |slot| writer.take(disk, slot)))?;
    writer.finish()
}
