//! Files below the root of a share, seen through a trait so that tests can fail any operation.

use crate::io::{ReadAt, SyncWrite};
use std::io;
use std::sync::Arc;

/// The operations that testbox needs on a share. Paths are relative to its root, with `/` between names.
///
/// Implementations never follow a symbolic link and never leave the root.
pub trait Files: Send + Sync {
    /// Opens a regular file for reading. Anything else (link, FIFO, device, folder) is `InvalidInput`.
    fn open(&self, path: &str) -> io::Result<Arc<dyn ReadAt>>;
    /// Creates a file for writing; it must not exist.
    fn create(&self, path: &str) -> io::Result<Box<dyn SyncWrite>>;
    /// Appends to a file, which is made where it is missing, and makes that durable.
    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Renames a file over whatever is there.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name; `to` must not exist.
    fn hard_link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file or an empty folder.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes a folder; one that is there already is fine.
    fn make_dir(&self, path: &str) -> io::Result<()>;
    /// The names in a folder, sorted.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Bytes that an unprivileged writer may still use.
    fn free_bytes(&self) -> io::Result<u64>;
}
