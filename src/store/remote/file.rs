//! One file of a store: read by ranges, or, as a part, written at its end.

use super::client::{RemoteStore, strange};
use crate::io::{ReadAt, SyncWrite};
use crate::store::protocol::{BODY_LIMIT, Code, Refusal, StoreCall, StorePath};
use std::any::Any;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

/// Bytes that are sent in one request.
const SEND: usize = 4 << 20;
/// Zeros of fewer bytes are sent: a request costs more.
const ZEROS_MIN: u64 = 64 << 10;

/// A file that is read. Its length is that of the moment at which it was opened.
pub struct RemoteFile {
    pub store: Arc<RemoteStore>,
    pub path: StorePath,
    pub size: u64,
}

impl ReadAt for RemoteFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let wanted = buf.len().min(BODY_LIMIT) as u64;
        let range = offset..offset.saturating_add(wanted).min(self.size);
        if range.is_empty() {
            return Ok(0);
        }
        let call = StoreCall::Read(self.path.clone(), Some(range));
        let bytes = self.store.send(&call, b"")?.body;
        // Where the file was cut meanwhile, fewer; never more.
        let Some(place) = buf.get_mut(..bytes.len()) else {
            return Err(strange(&call, &format!("gave {} bytes", bytes.len())));
        };
        place.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// A part that is written. What the server has of it ends at `at`; what is behind that waits here.
pub struct RemotePart {
    store: Arc<RemoteStore>,
    path: StorePath,
    at: u64,
    waiting: Vec<u8>,
    /// A request has failed: what follows it would stand at the wrong place.
    is_broken: bool,
}

impl RemotePart {
    /// A part that is written from its first byte on.
    pub fn new(store: Arc<RemoteStore>, path: StorePath) -> Self {
        RemotePart { store, path, at: 0, waiting: Vec::new(), is_broken: false }
    }

    /// Sends a request that makes the part `longer` by so much.
    fn extend(&mut self, call: &StoreCall, body: &[u8], longer: u64) -> io::Result<()> {
        if self.is_broken {
            return Err(io::Error::other(format!("{}: a write before has failed", self.path)));
        }
        let sent = self.store.have_done(call, body);
        self.is_broken = sent.is_err();
        sent?;
        self.at = self.at.saturating_add(longer);
        Ok(())
    }

    fn send_waiting(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() && !self.is_broken {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.waiting);
        let call = StoreCall::Write(self.path.clone(), self.at);
        self.extend(&call, &bytes, bytes.len() as u64)?;
        self.waiting = bytes;
        self.waiting.clear();
        Ok(())
    }
}

impl Write for RemotePart {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = SEND.saturating_sub(self.waiting.len());
        let (now, _) = bytes.split_at(bytes.len().min(room));
        self.waiting.extend_from_slice(now);
        if self.waiting.len() >= SEND {
            self.send_waiting()?;
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_waiting()
    }
}

impl SyncWrite for RemotePart {
    fn sync(&mut self) -> io::Result<()> {
        self.send_waiting()?;
        self.extend(&StoreCall::Sync(self.path.clone()), b"", 0)
    }

    fn resume_at(&mut self, len: u64) -> io::Result<()> {
        let call = StoreCall::Write(self.path.clone(), len);
        self.extend(&call, b"", 0).map_err(|e| match Refusal::of(&e).map(|refusal| refusal.code) {
            Some(Code::OtherLength) => io::Error::new(io::ErrorKind::UnexpectedEof, e),
            _ => e,
        })?;
        self.at = len;
        Ok(())
    }

    fn append_zeros(&mut self, length: u64) -> io::Result<()> {
        if length < ZEROS_MIN {
            return crate::io::write_zeros(self, length);
        }
        self.send_waiting()?;
        self.extend(&StoreCall::Zeros(self.path.clone(), self.at, length), b"", length)
    }

    fn append_from(&mut self, from: &dyn ReadAt, range: Range<u64>) -> io::Result<u64> {
        let Some(from) = from.as_any().and_then(|from| from.downcast_ref::<RemoteFile>()) else {
            return Ok(0);
        };
        if range.is_empty() || !Arc::ptr_eq(&from.store, &self.store) {
            return Ok(0);
        }
        self.send_waiting()?;
        let length = range.end - range.start;
        let call = StoreCall::Copy(self.path.clone(), self.at, from.path.clone(), range);
        match self.extend(&call, b"", length) {
            Ok(()) => Ok(length),
            // Nothing was copied, and the next write shows whether the part can still be written.
            Err(e) if Refusal::of(&e).is_some() => {
                self.is_broken = false;
                Ok(0)
            }
            Err(e) => Err(e),
        }
    }
}
