//! Boot services: what machines ask before they run anything of ours, TFTP, DHCP and proxy DHCP.
//!
//! They are a process of their own ([`process`]), because they take datagrams from everybody: it reads the tree that TFTP
//! serves, and reaches nothing else ([`confine`]). Whoever takes it over has no backup, no key and no token of a store.
//!
//! - [`machines`]: which machines the lab has, from one file.
//! - [`owner`]: whom a file of the TFTP tree may be given to; [`request`]: which file is asked for.
//! - [`sending`]: one transfer, without I/O. [`tftp`]: the server around it. [`seen`]: machines that it has seen and nobody knows.
//! - [`ask`]: what a client of DHCP says; [`answer`]: what it is told, as a pure function; [`leases`]: who has which address of
//!   the range. [`dhcp`]: the server around them.
//! - [`loaders`]: which loader which client is told, for this server and others.
//! - [`quiet`]: log lines that a machine could repeat without end.
#![forbid(unsafe_code)]

pub mod answer;
pub mod ask;
pub mod confine;
pub mod dhcp;
pub mod leases;
pub mod loaders;
pub mod machines;
pub mod owner;
pub mod parent;
pub mod process;
pub mod quiet;
pub mod request;
pub mod seen;
pub mod sending;
pub mod tftp;
pub mod tree;

use machines::KnownMachines;
use std::sync::{Arc, Mutex, PoisonError};

/// The machines as they are known now: the file may change while all runs.
#[derive(Clone, Debug, Default)]
pub struct MachinesNow(Arc<Mutex<Arc<KnownMachines>>>);

impl MachinesNow {
    /// What is known now.
    pub fn get(&self) -> Arc<KnownMachines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on these are.
    pub fn set(&self, machines: KnownMachines) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(machines);
    }
}
