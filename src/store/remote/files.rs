//! The files of a store as a share.

use super::client::RemoteStore;
use super::file::{RemoteFile, RemotePart};
use crate::io::{ReadAt, SyncWrite};
use crate::net::quota::Owner;
use crate::share::Files;
use crate::store::protocol::{BODY_LIMIT, JobFound, Refusal, Room, StoreCall, StorePath};
use jiff::Timestamp;
use std::io;
use std::sync::Arc;

/// The files of a store. Only logs, small files and parts can be written; all else is its [`Keeper`](crate::store::Keeper)'s.
/// What it gives is what its disk has: there is no cache here.
#[derive(Clone)]
pub struct RemoteFiles {
    store: Arc<RemoteStore>,
}

impl RemoteFiles {
    /// The files of this store.
    pub fn new(store: Arc<RemoteStore>) -> Self {
        RemoteFiles { store }
    }

    fn size(&self, path: &StorePath) -> io::Result<u64> {
        let answer = self.store.send(&StoreCall::Length(path.clone()), b"")?;
        answer.length.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{path}: the store does not say how long it is"),
            )
        })
    }
}

fn path(text: &str) -> io::Result<StorePath> {
    text.parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?}: {e}")))
}

fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("a store does not take {what}"))
}

impl Files for RemoteFiles {
    fn open(&self, name: &str) -> io::Result<Arc<dyn ReadAt>> {
        let path = path(name)?;
        let size = self.size(&path)?;
        Ok(Arc::new(RemoteFile::new(self.store.clone(), path, size)))
    }

    /// Only parts can be made.
    fn create(&self, name: &str) -> io::Result<Box<dyn SyncWrite>> {
        let path = path(name)?;
        self.store.have_done(&StoreCall::Create(path.clone()), b"")?;
        Ok(Box::new(RemotePart::new(self.store.clone(), path)))
    }

    fn reopen(&self, name: &str) -> io::Result<Box<dyn SyncWrite>> {
        let path = path(name)?;
        self.size(&path)?;
        Ok(Box::new(RemotePart::new(self.store.clone(), path)))
    }

    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = path(name)?;
        bytes.chunks(BODY_LIMIT).try_for_each(|bytes| self.store.append(&path, bytes))
    }

    fn appends_whole(&self) -> bool {
        true
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(unsupported("a new name for a file"))
    }

    fn hard_link(&self, _: &str, _: &str) -> io::Result<()> {
        Err(unsupported("a second name for a file"))
    }

    /// A file that is not there is fine: the answer to its removal may have been lost, and the request sent again.
    fn remove(&self, name: &str) -> io::Result<()> {
        self.remove_if_exists(name).map(drop)
    }

    /// The server makes every folder.
    fn make_dir(&self, name: &str) -> io::Result<()> {
        path(name).map(drop)
    }

    fn list(&self, name: &str) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = self.store.ask(&StoreCall::List(path(name)?), b"")?;
        names.retain(|name| !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']));
        names.sort_unstable();
        Ok(names)
    }

    /// What the server has answered is durable.
    fn sync_dir(&self, name: &str) -> io::Result<()> {
        path(name).map(drop)
    }

    /// What the server leaves this machine, whatever the folder.
    fn free_bytes(&self, _: &str) -> io::Result<u64> {
        Ok(self.store.ask::<Room>(&StoreCall::Room, b"")?.left)
    }

    /// The store's own: it makes no file for that.
    fn clock(&self, _: &str) -> io::Result<Timestamp> {
        let found: JobFound = self.store.ask(&StoreCall::Job, b"")?;
        found.clock.ok_or_else(|| {
            let what =
                format!("its server is of version {}, which does not know testbox.expires=", found.version);
            io::Error::new(io::ErrorKind::Unsupported, what)
        })
    }

    fn owner(&self, _: &str) -> io::Result<Owner> {
        Err(unsupported("questions for an owner"))
    }

    fn read_limited(&self, name: &str, max: usize) -> io::Result<Vec<u8>> {
        let (file, too_large) = (path(name)?, || {
            io::Error::new(io::ErrorKind::FileTooLarge, format!("{name} is longer than {max} bytes"))
        });
        // In one request: such a file is replaced as a whole, and two requests could see two of them.
        let size = self.size(&file)?;
        let size =
            usize::try_from(size).ok().filter(|size| *size <= max.min(BODY_LIMIT)).ok_or_else(too_large)?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let end = max.saturating_add(1).min(BODY_LIMIT) as u64;
        let bytes = self.store.send(&StoreCall::Read(file, Some(0..end)), b"")?.body;
        if bytes.len() > max { Err(too_large()) } else { Ok(bytes) }
    }

    fn write_atomic(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = path(name)?;
        if bytes.len() > BODY_LIMIT {
            let what =
                format!("{name}: {} bytes are too many for a file that is replaced as a whole", bytes.len());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
        self.store.have_done(&StoreCall::Replace(path), bytes)
    }

    fn create_new(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(unsupported("a new file but a part"))
    }

    fn remove_if_exists(&self, name: &str) -> io::Result<bool> {
        match self.store.have_done(&StoreCall::Remove(path(name)?), b"") {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound && Refusal::of(&e).is_some() => Ok(false),
            Err(e) => Err(e),
        }
    }
}
