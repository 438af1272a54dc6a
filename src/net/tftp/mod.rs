//! Reading small files by TFTP: packet codec, transfer without I/O, UDP client.
#![forbid(unsafe_code)]

mod client;
mod packet;
mod transfer;

pub use client::{PORT, fetch};
pub use packet::{ErrorCode, Packet, PacketError};
pub use transfer::{Limits, Reply, TftpError, Transfer};
