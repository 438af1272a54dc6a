//! Reading small files by TFTP: packet codec, transfer without I/O, UDP client, and the search for a machine's job.
#![forbid(unsafe_code)]

mod client;
mod packet;
mod search;
mod transfer;

pub use client::{PORT, fetch};
pub use packet::{ErrorCode, Packet, PacketError};
pub use search::{Found, Source, find_job_file};
pub use transfer::{Limits, Reply, TftpError, Transfer};
