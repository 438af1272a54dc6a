//! How a backup is made, what may save it work, and what came of it.
#![forbid(unsafe_code)]

use crate::image::backup::resume::Part;
use crate::image::bad_sectors::Patience;
use crate::image::format::codec::Codec;
use crate::image::reader::Image;
use crate::used::Map;
use blake3::Hash;
use std::ops::Range;
use std::sync::Arc;

/// Default chunk size in bytes: data runs are about 75 KiB long. Measured by `cargo bench --bench sharing` with one tree of 2.3 GB of
/// programs and documents, many of them small, on three disks: ext4, ext4 filled in the opposite order at another
/// place, btrfs. The first column of numbers is the first image, the others are what the two that follow add:
///
/// | Chunk | First image | Second, new | Third, new | All three |
/// |---|---|---|---|---|
/// | 64 KiB | 1163.6 MB | 200.8 MB | 117.3 MB | 1398.5 MB of 3503.6 |
/// | 128 KiB | 951.8 MB | 225.2 MB | 151.9 MB | 1279.7 MB of 2884.3 |
/// | 256 KiB | 867.7 MB | 261.3 MB | 193.2 MB | 1290.9 MB of 2635.9 |
/// | 512 KiB | 830.0 MB | 308.1 MB | 237.4 MB | 1354.7 MB of 2524.2 |
///
/// Half of it would take 1 % less for all three, and a tenth more for each single image.
pub const DEFAULT_CHUNK: u32 = 256 << 10;

/// Default of [`BackupOptions::split`]. The used blocks of the disk of `scripts/bench` took 750.6 MB of image with 64 KiB,
/// 746.7 with 128, 746.3 with 256 and 746.0 with 1024, all in the same time: most free ranges above are long.
const SPLIT: u64 = 128 << 10;

/// How to back up.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// Threads that compress; 0 is one per core.
    pub threads: usize,
    /// Longest data run in bytes, a power of two from 4 KiB to 4 MiB: content ends one at a quarter of
    /// it or so, and none shorter than a sixteenth.
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

impl BackupOptions {
    /// Whether an image made with these options can share members with `base`.
    ///
    /// # Errors
    /// Why it cannot share any.
    pub fn check_base(&self, base: &Image) -> Result<(), &'static str> {
        if base.header().chunk_size == self.chunk_size {
            Ok(())
        } else {
            Err(
                "an earlier version made it, which cut data at other places: this image shares nothing with it, the next \
                 one will share with this one",
            )
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
    /// Of these: not written, but left as holes, which take no room where the share's file system can have them.
    pub hole_bytes: u64,
    /// Size of the disk.
    pub disk_bytes: u64,
    /// Disk in zero runs.
    pub zero_bytes: u64,
    /// Disk that is unallocated, and was not read.
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
    /// An image of the same disk that was verified when it was made, and whose root hash the caller knows. Not
    /// used where its chunk size is another. Members that are not what its index says are made from the disk again, and counted.
    pub base: Option<Arc<Image>>,
    /// Read and prove each member of the base before it is taken over. Without it the sink may
    /// [copy](crate::io::SyncWrite::append_from) them, which costs no transfer and no room where the file server shares blocks;
    /// one that is bad is found by the verification of the new image, and the backup has to be made once more with
    /// this, which compresses it from the disk again.
    pub prove_base: bool,
    /// What a cut backup left in the file that the sink writes to. The sink must be able to
    /// [go on](crate::io::SyncWrite::resume_at) in it.
    pub part: Option<Part>,
}
