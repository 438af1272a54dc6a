//! What lies on the backup share: a machine's folder, its sets and their record, publishing, lease and status.

mod compression;
pub mod disk_list;
mod folder;
mod keeper;
pub mod layout;
pub mod lease;
pub mod log;
pub mod protocol;
pub mod publish;
pub mod record;
pub mod remote;
mod share_failure;
mod state;
pub mod status;

pub use compression::compression;
pub use folder::Folder;
pub use keeper::{Keeper, KeptImage, NotProven};
pub(crate) use share_failure::{advice, cannot_read, cannot_write};
pub use state::{HistorySet, SeenImage, SeenKind, SetDigest, ShareState};
