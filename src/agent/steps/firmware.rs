//! What the firmware of this machine says about booting: for the record of a set, and for what a restore puts back.

use super::context::StepContext;
use crate::agent::firmware::LIMIT;
use crate::agent::world::World;
use crate::block::{BlockDevice, View};
use crate::efi::{Change, Esp, FirmwareRecord, Loaders, Platform, apply, esps};
use crate::inventory::Disk;
use crate::plan::SetSource;
use crate::progress::Progress;
use crate::sys::with_deadline;

/// The firmware's part of a new record, without the loaders of the disks.
pub fn read(cx: &StepContext<'_>, notes: &mut Vec<String>) -> FirmwareRecord {
    let platform = cx.world.efi();
    let asked = platform.clone();
    let read = with_deadline(LIMIT, move || Ok(FirmwareRecord::of(asked.as_ref())));
    let firmware = read.unwrap_or_else(|e| {
        let variables = Err(e.to_string());
        FirmwareRecord::of(Some(&Platform { bits: platform.and_then(|p| p.bits), variables }))
    });
    firmware.lines().iter().for_each(|line| cx.journal.info(line));
    notes.extend(
        firmware.problem.as_ref().map(|why| format!("the boot entries are not all in the record: {why}")),
    );
    firmware
}

/// The EFI system partitions of a disk, where UEFI has started this machine.
fn partitions(world: &dyn World, device: &dyn BlockDevice, recorded: Option<&FirmwareRecord>) -> Vec<Esp> {
    if world.efi().is_none() {
        return Vec::new();
    }
    let (progress, asked) = (Progress::new(), recorded.into_iter().flat_map(FirmwareRecord::paths));
    esps(&View::new(device, &progress), device.logical_block_size(), asked)
}

/// The same of a disk that has, or should have, what an image holds; whether it is where the imaged one was.
pub fn partitions_of(
    world: &dyn World,
    (source, disk, device): (&SetSource, &Disk, &dyn BlockDevice),
    recorded: Option<&FirmwareRecord>,
) -> Vec<Esp> {
    let is_moved = source.record.as_ref().is_none_or(|image| image.location != disk.location);
    let mut esps = partitions(world, device, recorded);
    esps.iter_mut().for_each(|esp| esp.is_moved = is_moved);
    esps
}

/// Adds the loaders of a disk that was imaged under this name.
pub fn add_loaders(cx: &StepContext<'_>, firmware: &mut FirmwareRecord, image: &str, disk: &dyn BlockDevice) {
    let found = partitions(cx.world, disk, Some(firmware));
    firmware.loaders.extend(found.into_iter().map(|esp| Loaders::of(image, esp)));
}

/// Writes changes.
///
/// # Errors
/// What the firmware did not take, and why.
pub fn write(platform: &Platform, changes: &[Change]) -> Result<(), String> {
    let (variables, changes) = (platform.variables.clone()?, changes.to_vec());
    let done = with_deadline(LIMIT, move || Ok(apply(&*variables, &changes).map_err(|e| e.to_string())));
    done.unwrap_or_else(|e| Err(e.to_string()))
}
