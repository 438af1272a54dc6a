//! What every step has.

use super::listed::check_listed;
use crate::agent::journal::Journal;
use crate::agent::report::Reporter;
use crate::agent::world::World;
use crate::block::BlockDevice;
use crate::failure::Failure;
use crate::inventory::Disk;
use crate::plan::{Grown, SetSource};
use crate::store::Folder;
use std::sync::Arc;

/// The surroundings of a step.
pub struct StepContext<'a> {
    /// Disks and the machine's facts.
    pub world: &'a dyn World,
    /// Where lines go.
    pub journal: &'a Journal,
    /// The machine's folder, writable.
    pub folder: &'a Folder,
    /// Tells how it goes, and watches the disks.
    pub reporter: Reporter<'a>,
}

/// A disk that will be overwritten, open and held exclusively, and what with.
pub struct RestoreTarget {
    /// The image.
    pub source: SetSource,
    /// Who the disk is.
    pub disk: Disk,
    /// The disk.
    pub device: Arc<dyn BlockDevice>,
    /// What grows on it.
    pub grown: Option<Grown>,
}

impl StepContext<'_> {
    /// Opens a disk for reading; it is the one that was listed.
    ///
    /// # Errors
    /// As [`World::open_source`] and [`check_listed`].
    pub fn open_source(&self, disk: &Disk) -> Result<Arc<dyn BlockDevice>, Failure> {
        Ok(self.reporter.watch(check_listed(disk, self.world.open_source(disk)?)?))
    }
}
