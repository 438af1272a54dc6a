//! What an agent and a store say to each other: the requests as a type, how they look on the wire, and the answers. In words:
//! `src/store/PROTOCOL.md`. Nothing here reads or writes anything.
#![forbid(unsafe_code)]

mod answer;
mod call;
mod refused;

pub use answer::{
    Code, DisarmResult, JobFound, Opened, ProofState, PublishedSet, Recovery, Refusal, Room, Welcome,
};
pub use call::{BadCall, Method, StoreCall, StorePath};

/// The version of the protocol, which is the first name of every path. A server answers what it does not know of it with
/// `404 newer-protocol`, and the agent says which of the two to upgrade.
pub const VERSION: u32 = 1;
/// The header with the session: 32 hex digits that the agent has drawn at random.
pub const SESSION_HEADER: &str = "testbox-session";
/// Longest body of a request, in bytes; longest answer to a read that names a range.
pub const BODY_LIMIT: usize = 8 << 20;
/// Longest copy of one request, in bytes: it must end before the agent takes the server for dead.
pub const COPY_LIMIT: u64 = 256 << 20;
/// Longest path of a file, and longest list of names, in bytes.
pub const PATH_LIMIT: usize = 512;
