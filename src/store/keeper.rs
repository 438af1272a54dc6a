//! Whoever keeps a machine's folder in the agent's place: a server that does whole steps by itself.
//!
//! Two kinds of shares end here. A share that is mounted does what it is told, operation by operation, and the agent
//! itself keeps the order that no set is lost in. A store lets no agent near what is published: it takes a part, byte by
//! byte, through [`Files`](crate::share::Files), and does the steps that matter on its own disk. So a step is asked
//! for in one call, and either is done or is not.
#![forbid(unsafe_code)]

use super::lease::Holder;
use super::protocol::{DisarmResult, Opened, PublishedSet, Room};
use super::record::Record;
use crate::failure::Failure;
use crate::image::Hash;
use crate::progress::Progress;
use std::io;

/// What an image was proven to be, by its keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptImage {
    /// Its root hash.
    pub root_hash: Hash,
    /// Its length in bytes.
    pub size: u64,
}

/// Why a keeper has not proven an image.
#[derive(Debug, thiserror::Error)]
pub enum NotProven {
    /// It is damaged: what was found.
    #[error("{0}")]
    Damaged(String),
    /// It could not be told.
    #[error(transparent)]
    Unknown(#[from] io::Error),
}

/// The steps. Every one may be asked for again.
pub trait Keeper: Send + Sync {
    /// Takes the lease of the folder for this holder, recovers a set whose publishing was cut; or says whom it waits for,
    /// and is to be asked again.
    ///
    /// # Errors
    /// [`Kind::Lease`](crate::failure::Kind::Lease): another agent has it, and lives. Those of the server.
    fn open(&self, me: &Holder) -> Result<Opened, Failure>;

    /// Says that the agent lives.
    ///
    /// # Errors
    /// [`Kind::Lease`](crate::failure::Kind::Lease): the folder is another's by now. Those of the server.
    fn beat(&self) -> Result<(), Failure>;

    /// Lets go of the folder.
    ///
    /// # Errors
    /// Those of the server.
    fn close(&self) -> io::Result<()>;

    /// Room for this machine.
    ///
    /// # Errors
    /// Those of the server.
    fn room(&self) -> io::Result<Room>;

    /// Removes the unfinished images of cut attempts, but for those of the disks in `wanted`.
    ///
    /// # Errors
    /// Those of the server.
    fn sweep(&self, wanted: &[String]) -> Result<(), Failure>;

    /// Has the image or part at `path`, below the root of the share, read from the keeper's disk and every hash proven;
    /// `progress` is told how far it is.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    fn prove(&self, path: &str, progress: &Progress) -> Result<KeptImage, NotProven>;

    /// Has the image at `path`, below the root of the share, looked at again, without waiting for that: damage is noted
    /// beside it, and such a note taken back where it is whole.
    ///
    /// # Errors
    /// Those of the server.
    fn suspect(&self, path: &str) -> io::Result<()>;

    /// Makes the parts that this record names the machine's set.
    ///
    /// # Errors
    /// The set before is as it was.
    fn publish(&self, record: &Record) -> Result<PublishedSet, Failure>;

    /// Removes the file that armed the machine, where it still holds this job.
    ///
    /// # Errors
    /// It is still there.
    fn disarm(&self) -> Result<DisarmResult, Failure>;

    /// Has the boot server start this loader where the machine is not armed: a path on its EFI system partition.
    ///
    /// # Errors
    /// Those of the server.
    fn tell_loader(&self, path: &str) -> io::Result<()>;
}
