//! The lab's server: a store of backups that no machine can lose ([`Store`]), and its shell that speaks HTTP ([`http`]).
//!
//! The folder is the one that an NFS server would export: the same sets under the same names, so `ls` and `zcat` work, and
//! machines on NFS and on the store may take turns. What differs is who does the steps that matter: here the server does
//! them, on its own disk, and no request can touch what is published.
//!
//! - [`admin`]: what admins ask by [`socket`] or token: commands of `testboxctl` that run here.
//! - [`access`]: what a token allows, as a pure function.
//! - [`events`]: what jobs have come to, for hooks.
//! - [`jobs`]: the tokens, hashed, and the sessions that they are bound to.
//! - [`line`]: who may be at work, and who waits; [`sessions`]: who holds which folder; one lease for agents of both kinds.
//! - [`parts`]: images in the making, which grow at a stated place.
//! - [`proofs`]: images read back from the disk.
//! - [`sets`]: a proven part becomes the machine's set; [`retention`]: which old set goes,
//!   of those that [`old_sets`] finds; [`verified`]: what was read again since.
//!
//! Memory: six requests of [`BODY_LIMIT`](crate::store::protocol::BODY_LIMIT) bytes for each machine that may be at work, and one
//! that is written; sixteen for all others, and what two proofs need, whatever the number of machines; [`slots`] and [`connections`].
#![forbid(unsafe_code)]

pub mod access;
pub mod admin;
pub mod answers;
mod connections;
pub mod events;
pub mod http;
pub mod jobs;
pub mod line;
pub mod old_sets;
mod parts;

mod proofs;
mod reads;
pub mod retention;
mod sent;
mod sessions;
mod sets;
mod slots;
pub mod socket;
mod store;
pub mod tls;
pub mod verified;

pub use sessions::Caller;
pub use store::{Reply, Store, StoreRules};
