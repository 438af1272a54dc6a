//! Images of whole disks: the format (`FORMAT.md`), backup, verify, restore, and foreign gzip files.
//!
//! ```text
//!  disk --reads--> windows --in order: cut by content--> runs --threads: zero? known? deflate--> members --in order--> sink
//!                                                                                                 |
//!                                                                             index tree, footer with the root hash
//!
//!  image --index--> runs --threads: is it there? else read, inflate, check hash--> disk --read back--> head last
//! ```
//!
//! Memory is bounded whatever the size of the disk: about 100 MiB of buffers and 1 MiB per thread for a backup
//! ([`BackupOptions::chunk_size`] up to 4 MiB), 64 MiB for what the image before holds, and 16 bytes for each unallocated
//! range (at most 32 MiB of them, see [`crate::used::Free`]). A restore keeps what it has proven in memory that it is given
//! ([`RestoreOptions::memory`]); less for everything else.
#![forbid(unsafe_code)]

mod backup;
mod bad_sectors;
mod content;
mod diff;
mod error;
mod file;
mod format;
mod group;
mod image_disk;
mod parallel;
mod reader;
mod resized;
mod restore;
mod unpack;
mod verify;
mod workspace;

pub use backup::options::{BackupOptions, DEFAULT_CHUNK, Earlier, Written};
pub use backup::resume::Part;
pub use backup::verified::{BackupFile, Pass, ReadBack, backup_unverified, backup_verified};
pub use backup::{backup, backup_again};
pub use bad_sectors::Patience;
pub use blake3::Hash;
pub use content::ImageContent;
pub use diff::diff;
pub use error::{ErrorKind, ImageError, ImageOp, Subject, UnfinishedRestore};
pub use file::{ImageFile, Proof};
pub use format::codec::Codec;
pub use format::found::FoundTexts;
pub use format::header::{DiskAbout, Header, MAX_CHUNK};
pub use format::index::{FANOUT, MAX_NODE};
pub use format::mapfile::ddrescue_map;
pub use format::member::{FRAME, MemberKind, RUN_HEAD, peek as peek_member};
pub use format::run::Run;
pub use image_disk::{ImageDisk, RUN_CACHE, Unreadable};
pub use reader::{FileKind, Image, ImageRuns, Summary, file_kind};
pub use restore::boot_areas::TableFit;
pub use restore::foreign::Measured;
pub use restore::memory::MemberMemory;
pub use restore::needed::{Needed, SHRINK, needed};
pub use restore::options::RestoreOptions;
pub use restore::restored::Restored;
pub use restore::{ImageBody, foreign, phases, restore};
pub use unpack::unpack;
pub use verify::{scrub, verify, verify_again, verify_against};

#[cfg(test)]
mod tests;
