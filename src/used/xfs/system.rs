//! What the checks of metadata go by: the file system, and the allocation group.
#![forbid(unsafe_code)]

use super::bytes::doubt;
use super::superblock::XfsSuperblock;
use crate::used::{Doubt, Volume};

/// What all checks of metadata need.
pub struct XfsSystem<'a> {
    pub volume: &'a Volume<'a>,
    pub fs: &'a XfsSuperblock,
    /// Log sequence number at which the next log record would be written.
    pub head: u64,
}

impl XfsSystem<'_> {
    /// Nothing on the disk can be newer than the log: every change goes there first. Only version 5 records it.
    pub fn check_written(&self, lsn: u64, what: &str) -> Result<(), Doubt> {
        // All ones: never logged.
        if self.fs.checksums && lsn != u64::MAX && lsn > self.head {
            return Err(doubt(format!("{what} is newer than its log")));
        }
        Ok(())
    }
}

/// What the checks of a group's blocks need.
pub struct AllocationGroup<'a> {
    pub system: &'a XfsSystem<'a>,
    pub number: u32,
    /// Blocks of the group.
    pub blocks: u32,
    /// Blocks of it that hold its headers.
    pub headers: u32,
}

impl AllocationGroup<'_> {
    pub fn doubt(&self, why: &str) -> Doubt {
        doubt(format!("{why} in allocation group {}", self.number))
    }

    /// Whether `block` may hold anything but the headers.
    pub fn has(&self, block: u32) -> bool {
        (self.headers..self.blocks).contains(&block)
    }
}
