//! Reading small files by TFTP: packet codec, transfer without I/O, UDP client.
#![forbid(unsafe_code)]

mod client;
mod folders;
#[cfg(test)]
mod odd_servers;
mod packet;
mod transfer;

pub use client::{PORT, TftpClient};
pub use folders::folders;
pub use packet::{ErrorCode, Packet, PacketError};
pub use transfer::{Limits, TftpError, TftpReply, Transfer};
