//! The boot path against real DHCP servers, in network namespaces: the scripts of the initramfs with klibc's ipconfig,
//! and the agent beside them. Root only.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../lab/advice.rs"]
mod advice;
#[path = "../lab/alone.rs"]
mod alone;
mod boot_path;
mod boot_servers;
mod doctor;
mod lab;
mod lease;
mod loader;
mod serve_dhcp;
mod serve_floods;
mod serve_tftp;
mod servers;
mod tftp;
mod wake;
#[path = "../world/mod.rs"]
mod world;
