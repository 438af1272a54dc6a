//! What an action rests on: the folder, the files of the boot server, and the one that armed this machine.

use crate::agent::world::Share;
use crate::job::FoundJob;
use crate::store::{Folder, Keeper};
use std::sync::Arc;

/// How the file that armed this machine is reached.
pub enum BootFiles {
    /// On the TFTP share.
    Mounted(Share),
    /// By the store, which removes it itself.
    Kept(Arc<dyn Keeper>),
}

/// The shares, or the store, proven ours.
pub struct ProvenJob {
    pub boot: BootFiles,
    pub backup: Share,
    /// The file that armed this machine.
    pub armed: FoundJob,
    /// The machine's folder.
    pub folder: Folder,
}
