//! The engine on a machine in memory (`world/`), from armed to rebooted: one program, so that the machine is compiled once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../world/mod.rs"]
#[macro_use]
mod world;

mod address;
mod boot_entries;
mod boot_path;
mod carried;
mod disk_faults;
mod drivers;
mod expires;
mod faults;
mod grown;
mod hostile_share;
mod imported;
mod internal_errors;
mod lease_checks;
mod levels;
mod opened_disk;
mod power;
mod released;
mod resized;
mod resumed;
mod scenarios;
mod sets;
mod share_faults;
mod signed;
mod stored;
mod times;
mod together;
mod used_space;
mod which_disk;
