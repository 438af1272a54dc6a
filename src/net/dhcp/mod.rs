//! Keeping the address that DHCP gave (RFC 2131). The initramfs asks once and exits; an action takes hours, and the
//! default lease of a server is between ten minutes and a day: what nobody renews is given to the next machine.
//!
//! No request goes out for another address: the address names the machine's folder on the share, so the job stops
//! instead. [`DhcpClient`] decides, without a socket or a clock; [`Wire`] is the network.
#![forbid(unsafe_code)]

mod client;
pub mod format;
mod message;
mod wire;

pub use client::{ASSUMED, DhcpClient, DhcpNews, Lost};
pub use message::{DhcpAnswer, DhcpReply, DhcpRequest};
pub use wire::{Datagrams, Wire};

use crate::types::MacAddr;
use std::net::Ipv4Addr;
use std::time::Duration;

/// The port that servers listen on.
pub const SERVER_PORT: u16 = 67;
/// The port that clients listen on.
pub const CLIENT_PORT: u16 = 68;
/// A lease time, in seconds, that means for ever (RFC 2131 section 3.3).
pub const FOREVER: u32 = u32::MAX;

/// How long a lease is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// From the request on.
    For(Duration),
    /// There is nothing to renew.
    Forever,
    /// Nobody has kept it: [`ASSUMED`] until a server says.
    Unknown,
}

impl Term {
    /// A lease time as option 51 has it, in seconds.
    pub fn from_seconds(seconds: u32) -> Term {
        if seconds == FOREVER { Term::Forever } else { Term::For(Duration::from_secs(seconds.into())) }
    }
}

/// The lease that the boot has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpLease {
    /// NIC that has the address.
    pub device: String,
    /// Its hardware address, by which servers know the lease: klibc's ipconfig sends no client identifier.
    pub mac: MacAddr,
    /// The address.
    pub address: Ipv4Addr,
    /// When it was given: time since the boot, suspend included (CLOCK_BOOTTIME).
    pub since: Duration,
    /// For how long.
    pub term: Term,
}
