//! Scenarios on a real chain, from the PXE ROM to the restored system: see `tests/README.md`.

// Every failure here is the end of a scenario.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../lab/mod.rs"]
mod lab;
#[path = "../replay/mod.rs"]
mod replay;
#[path = "../world/disk.rs"]
mod target;

mod actions;
mod again;
mod closed;
mod disks;
mod file_systems;
mod first_backup;
mod initrd;
mod main_job;
mod network;
mod own_server;
mod packages;
mod policy;
mod power;
mod rescue;
mod share;
mod signed;
mod stored;
mod uefi;
mod uefi_machines;
