//! A disk that was opened must be the one that was listed: between the two lie mounts, hangs and hours, and names change.

use crate::agent::world::OpenDisk;
use crate::block::BlockDevice;
use crate::failure::{Failure, Kind};
use crate::inventory::Disk;
use std::sync::Arc;

/// The open disk, where it is the one that was listed.
///
/// # Errors
/// [`Kind::OtherDisk`] where it is another disk, [`Kind::DiskChanged`] where it is the same with another size.
pub fn check_listed(listed: &Disk, opened: OpenDisk) -> Result<Arc<dyn BlockDevice>, Failure> {
    let OpenDisk { device, found } = opened;
    let path = listed.path.display();
    if let Some(what) = listed.difference(&found) {
        return Err(Failure::new(
            Kind::OtherDisk,
            format!(
                "{path} is another disk than the one that was listed, {what}:\n    listed: {listed}\n    opened: {found}"
            ),
            "neither disk was written. The next attempt lists the disks anew; look for a disk or controller that comes and \
             goes.",
        ));
    }
    if device.size() == listed.size && device.logical_block_size() == listed.logical_block_size {
        return Ok(device);
    }
    Err(Failure::new(
        Kind::DiskChanged,
        format!(
            "{path} is not the disk that was listed: it has {} bytes in blocks of {} now, it had {} in blocks of {}",
            device.size(),
            device.logical_block_size(),
            listed.size,
            listed.logical_block_size
        ),
        "nothing was written. Look for a disk or controller that comes and goes.",
    ))
}
