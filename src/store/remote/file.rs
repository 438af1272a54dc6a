//! One file of a store: read by ranges, or, as a part, written at its end.

use super::client::{RemoteStore, strange};
use crate::image::RUN_HEAD;
use crate::io::{ReadAt, SyncWrite};
use crate::store::layout::is_part_file;
use crate::store::protocol::{BODY_LIMIT, COPY_LIMIT, Code, Refusal, StoreCall, StorePath};
use blake3::Hash;
use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are sent in one request.
const SEND: usize = 4 << 20;
/// Zeros of fewer bytes are sent: a request costs more.
const ZEROS_MIN: u64 = 64 << 10;

/// A file that is read. Its length is that of the moment at which it was opened.
pub struct RemoteFile {
    pub store: Arc<RemoteStore>,
    pub path: StorePath,
    pub size: u64,
    /// The beginnings of members of a part that came together with the last one that was asked for, by their places.
    heads: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl RemoteFile {
    /// The file at this path, of so many bytes.
    pub fn new(store: Arc<RemoteStore>, path: StorePath, size: u64) -> Self {
        RemoteFile { store, path, size, heads: Mutex::default() }
    }

    /// A store shows of a part what its members begin with, many at once, and not what is in them.
    fn is_part(&self) -> bool {
        self.path.as_str().rsplit('/').next().is_some_and(is_part_file)
    }

    /// True for what the walk over a cut part reads: the head of a run, or what came with one.
    fn is_walked(&self, length: usize, offset: u64) -> bool {
        let heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        length == RUN_HEAD || heads.contains_key(&offset)
    }

    /// The beginning of the member at this place of a part, where so much of it is shown.
    fn head(&self, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if !heads.contains_key(&offset) {
            let call = StoreCall::Heads(self.path.clone(), offset);
            *heads = parse_heads(&self.store.send(&call, b"")?.body)
                .ok_or_else(|| strange(&call, "gave what are not heads of members"))?;
        }
        let Some(head) = heads.get(&offset).and_then(|head| head.get(..buf.len())) else { return Ok(false) };
        buf.copy_from_slice(head);
        Ok(true)
    }
}

/// Place, number of bytes, bytes; and so on.
fn parse_heads(mut bytes: &[u8]) -> Option<BTreeMap<u64, Vec<u8>>> {
    let mut heads = BTreeMap::new();
    while let Some((place, rest)) = bytes.split_first_chunk::<8>() {
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (head, rest) = rest.split_at_checked(length)?;
        heads.insert(u64::from_le_bytes(*place), head.to_vec());
        bytes = rest;
    }
    bytes.is_empty().then_some(heads)
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
        if self.is_part() && self.is_walked(buf.len(), offset) && self.head(buf, offset)? {
            return Ok(buf.len());
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

    fn hash_at(&self, range: &Range<u64>) -> io::Result<Hash> {
        let call = StoreCall::Digest(self.path.clone(), range.clone());
        if !self.is_part() || range.is_empty() {
            let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
            let mut bytes = vec![0; length];
            self.read_exact_at(&mut bytes, range.start)?;
            return Ok(blake3::hash(&bytes));
        }
        let bytes = self.store.send(&call, b"")?.body;
        let hash: Result<[u8; 32], _> = bytes.try_into();
        hash.map(Hash::from_bytes).map_err(|_| strange(&call, "gave what is not a hash"))
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
        let mut copied = range.start;
        while copied < range.end {
            let end = range.end.min(copied.saturating_add(COPY_LIMIT));
            let call = StoreCall::Copy(self.path.clone(), self.at, from.path.clone(), copied..end);
            match self.extend(&call, b"", end - copied) {
                Ok(()) => copied = end,
                // Nothing was copied, and the next write shows whether the part can still be written.
                Err(e) if Refusal::of(&e).is_some() => {
                    self.is_broken = false;
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(copied - range.start)
    }
}
