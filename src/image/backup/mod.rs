//! Backup: disk in, image out.
//!
//! Two files may save work, whatever they are and whatever is wrong with them: the image before of the same disk, whose
//! members are taken over where the disk did not change ([`Earlier::base`], module `incremental`), and what a cut
//! backup left, which is gone on with where it is ([`Earlier::part`], module `resume`). The disk is read and hashed all
//! the same, and the image that comes out is the one that would be made without them.
//!
//! What nobody uses ([`BackupOptions::used`]) is not read. Nothing rests on what an earlier file says about that: a
//! piece that it calls unallocated and that is used now is read as any other.
#![forbid(unsafe_code)]

pub(crate) mod incremental;
pub(crate) mod output;
pub(crate) mod pipeline;
pub(crate) mod resume;
pub(crate) mod writer;

use crate::block::BlockDevice;
use crate::image::backup::incremental::joint_codec;
use crate::image::backup::pipeline::{Earlier as Sources, free_bytes, pipeline};
use crate::image::backup::resume::{Part, Unfinished};
use crate::image::backup::writer::Writer;
use crate::image::bad_sectors::Patience;
use crate::image::error::ImageError;
use crate::image::format::codec::Codec;
use crate::image::format::found::FoundTexts;
use crate::image::format::header::{DiskAbout, Header};
use crate::image::reader::Image;
use crate::io::SyncWrite;
use crate::progress::Progress;
use crate::used::Map;
use blake3::Hash;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Default chunk size in bytes. Measured on the disk of `scripts/bench` (4 GiB, 3 GiB of it not zero), 2 cores, by
/// `cargo bench --bench chunks -- --disk target/bench/reference-*.img`; the last column is what the next image does not
/// share with this one after 1000 blocks of 4 KiB, spread evenly, have changed:
///
/// | Chunk | Image | Backup, CPU | Verify, CPU | Index | New for 1000 changes |
/// |---|---|---|---|---|---|
/// | 256 KiB | 1310.0 MB | 7.4 s | 4.0 s | 1.02 MB | 108 MB |
/// | 512 KiB | 1294.9 MB | 7.3 s | 3.9 s | 0.52 MB | 211 MB |
/// | 1 MiB | 1287.8 MB | 7.0 s | 4.0 s | 0.27 MB | 416 MB |
/// | 2 MiB | 1285.7 MB | 7.0 s | 4.2 s | 0.14 MB | 834 MB |
/// | 4 MiB | 1284.7 MB | 7.2 s | 4.2 s | 0.08 MB | 1284 MB |
///
/// Above 1 MiB nothing is won, and small changes cost twice as much each time; below, every image is larger and slower.
/// A delta restore does not depend on it: it writes blocks of 4 KiB.
pub const DEFAULT_CHUNK: u32 = 1 << 20;

/// Default of [`BackupOptions::split`]. The used blocks of the disk of `scripts/bench` took 750.6 MB of image with 64 KiB,
/// 746.7 with 128, 746.3 with 256 and 746.0 with 1024, all in the same time: most free ranges above are long.
const SPLIT: u64 = 128 << 10;

/// How to back up.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// Threads that compress; 0 is one per core.
    pub threads: usize,
    /// Longest data run in bytes: a power of two from 4 KiB to 4 MiB.
    pub chunk_size: u32,
    /// Who compresses.
    pub codec: Codec,
    /// Sectors that cannot be read become zeros in a degraded image; without it they end the backup.
    pub allow_bad_sectors: bool,
    /// With them: how long bad places are looked at closely.
    pub patience: Patience,
    /// What need not be imaged, and what was found on the disk. By default nothing: all of the disk is imaged.
    pub used: Arc<Map>,
    /// Shortest free range that becomes a run of its own, in bytes. Shorter ones are gaps of data runs: read along, and
    /// zero in the image.
    pub split: u64,
    /// The image id; random unless a test wants equal images.
    pub image_id: Option<[u8; 16]>,
}

impl Default for BackupOptions {
    fn default() -> Self {
        BackupOptions {
            threads: 0,
            chunk_size: DEFAULT_CHUNK,
            codec: Codec::default(),
            allow_bad_sectors: false,
            patience: Patience::default(),
            used: Arc::default(),
            split: SPLIT,
            image_id: None,
        }
    }
}

/// A backup that was written and synced; not yet verified. All sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Names the image and binds every byte of it.
    pub root_hash: Hash,
    /// Size of the image file.
    pub image_bytes: u64,
    /// Size of the disk.
    pub disk_bytes: u64,
    /// Disk in zero runs.
    pub zero_bytes: u64,
    /// Disk that nobody uses, and that was not read.
    pub unallocated_bytes: u64,
    /// Disk that was compressed in vain and stored.
    pub stored_bytes: u64,
    /// Disk whose members were taken over from the image before.
    pub taken_bytes: u64,
    /// Of these: copied without having been looked at. Only verification can tell that they are good.
    pub unread_bytes: u64,
    /// Disk whose members stood in the unfinished image already.
    pub kept_bytes: u64,
    /// Members of the image before that are not what they were, and were made from the disk again.
    pub retaken_bad: u64,
    /// What is wrong with the first of them, or with the index.
    pub bad_base: Option<String>,
    /// Disk that could not be read; the image is degraded where this is not 0.
    pub unreadable_bytes: u64,
    /// Where that is on the disk; the first 1000 ranges.
    pub unreadable: Vec<Range<u64>>,
}

impl Written {
    /// Some of the disk could not be read.
    pub fn is_degraded(&self) -> bool {
        self.unreadable_bytes > 0
    }
}

/// What may save a backup work. See the module's words; nothing of it is trusted without proof.
#[derive(Clone, Default)]
pub struct Earlier {
    /// An image of the same disk that was verified when it was made, and whose root hash the caller knows. Its chunk
    /// size is used. Members that are not what its index says are made from the disk again, and counted.
    pub base: Option<Arc<Image>>,
    /// Read and prove each member of the base before it is taken over. Without it the sink may
    /// [copy](SyncWrite::append_from) them, which costs no transfer and no room where the file server shares blocks;
    /// one that is bad is found by the verification of the new image, and the backup has to be made once more with
    /// this, which compresses it from the disk again.
    pub prove_base: bool,
    /// What a cut backup left in the file that the sink writes to. The sink must be able to
    /// [go on](SyncWrite::go_on_at) in it.
    pub part: Option<Part>,
}

/// Images a whole disk: reads, compresses and writes at the same time, then syncs the sink.
///
/// The sink gets the image front to back; it is an image only once this returns. A medium error is an error that
/// names the LBA, unless [`BackupOptions::allow_bad_sectors`]. Progress counts bytes of disk, without those that are
/// not read.
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
pub fn backup_again(
    disk: &dyn BlockDevice,
    sink: &mut dyn SyncWrite,
    about: &DiskAbout,
    opts: &BackupOptions,
    earlier: &Earlier,
    progress: &Progress,
) -> Result<Written, ImageError> {
    let base = earlier.base.as_deref();
    // Chunks of another size would meet none of the base's.
    let chunk_size = base.map_or(opts.chunk_size, |base| base.header().chunk_size);
    let opts = BackupOptions { chunk_size, ..opts.clone() };
    let mut header = Header {
        disk: about.clone(),
        chunk_size,
        image_id: [0; 16],
        codec: joint_codec(opts.codec, base),
        writer: concat!("testbox ", env!("CARGO_PKG_VERSION")).to_owned(),
        found: FoundTexts::new(&opts.used.found),
    };
    let refused = |what: &str| ImageError::Refused(format!("{}: {what}", disk.name()));
    header.check().map_err(refused)?;
    if about.size != disk.size() || about.logical_block_size != disk.logical_block_size() {
        let what = "the sizes of the disk are not those that the image is to record";
        return Err(ImageError::internal(format!("{}: {what}", disk.name())));
    }
    let skipped = free_bytes(disk, &opts)?;
    let part = earlier.part.as_ref().map(Unfinished::new);
    header.image_id = match (opts.image_id, part.as_ref().and_then(|part| part.image_id(&header))) {
        (Some(id), _) | (None, Some(id)) => id,
        (None, None) => {
            let mut id = [0; 16];
            let resource = |e| ImageError::Resource { op: "get random bytes", source: io::Error::other(e) };
            getrandom::fill(&mut id).map_err(resource)?;
            id
        }
    };
    progress.start(about.size.saturating_sub(skipped));
    let unread = AtomicBool::new(!earlier.prove_base);
    let kept = part.as_ref().map(|part| part.runs(&header));
    let sources = Sources { base, unread: &unread, kept };
    let mut writer = Writer::new(sink, &header, &opts, &sources, part, progress)?;
    ImageError::catch(|| pipeline(disk, &opts, sources, progress, |slot| writer.take(disk, slot)))?;
    writer.finish()
}
