//! How a machine with UEFI firmware boots: its boot entries, the loaders on its disks, and what of both a restore puts back.
//!
//! ```text
//!  variables of the firmware --> BootState --+                  +-- EFI system partitions of the disks
//!                                            |                  |
//!                       backup:  Firmware (a field of the record: what the machine had)
//!                       restore: Firmware, BootState, partitions --> EntryPlan (pure) --> one write a change
//! ```
//!
//! A record can be edited by whoever writes to the share. So what is put back is made here, and not copied: a path to a file
//! that is on a partition that was just restored, without options; nothing else of the record reaches the firmware.
//!
//! Rules: UEFI specification 2.10, 3.1 (boot manager) and chapter 10 (device paths); the kernel's
//! Documentation/filesystems/efivarfs.rst.
#![forbid(unsafe_code)]

mod apply;
mod load_option;
mod loaders;
#[cfg(any(test, feature = "testing"))]
mod mem;
mod number;
mod order;
mod own;
mod plan;
mod record;
mod state;
#[cfg(test)]
mod tests;
mod variables;

pub use crate::guid::Guid;
pub use apply::{Refused, apply, set_next};
pub use load_option::{HardDrive, LoadOption, Malformed, PathNode};
pub use loaders::{Esp, FALLBACK, esps};
#[cfg(any(test, feature = "testing"))]
pub use mem::{FirmwareFault, MemVariables};
pub use number::BootNumber;
pub use plan::{Change, EntryPlan, LeftEntry, plan};
pub use record::{BootEntry, EntryOptions, FirmwareKind, FirmwareRecord, Loaders};
pub use state::{BootState, numbers};
pub use variables::{EfivarFs, Platform, Variables};
