//! The parts that one session writes: each grows at a stated place and nowhere else, so that a request that comes twice
//! changes nothing.

use crate::io::{ReadAt, SyncWrite};
use crate::share::Files;
use crate::store::protocol::{BODY_LIMIT, Code, Refusal};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

struct OpenPart {
    sink: Box<dyn SyncWrite>,
    length: u64,
}

/// What is written behind the place that a request names.
pub enum PartPiece<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// Zeros that take no room where the file system can have holes.
    Zeros(u64),
    /// Bytes of another file.
    Copy(&'a dyn ReadAt, Range<u64>),
}

/// The open parts of a session.
pub struct Parts {
    files: Arc<dyn Files>,
    open: HashMap<String, OpenPart>,
    /// Bytes written, zeros not counted, since the room was last asked for.
    pub written: u64,
}

impl Parts {
    /// None open.
    pub fn new(files: Arc<dyn Files>) -> Parts {
        Parts { files, open: HashMap::new(), written: 0 }
    }

    /// Makes an empty part; one that is there and empty is fine.
    ///
    /// # Errors
    /// [`Code::Exists`], and those of the folder.
    pub fn create(&mut self, path: &str) -> Result<(), Refusal> {
        let failed = |e: io::Error| Refusal::of_error(path, &e);
        match self.files.create(path) {
            Ok(sink) => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                // From here on a power cut leaves something to resume.
                self.files.sync_dir(folder).map_err(failed)?;
                self.open.insert(path.to_owned(), OpenPart { sink, length: 0 });
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && self.length(path)? == 0 => Ok(()),
            Err(e) => Err(failed(e)),
        }
    }

    /// The length of a part.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn length(&self, path: &str) -> Result<u64, Refusal> {
        if let Some(part) = self.open.get(path) {
            return Ok(part.length);
        }
        self.files.open(path).and_then(|file| file.size()).map_err(|e| Refusal::of_error(path, &e))
    }

    /// Cuts the part to `at` bytes, which it must have, and puts the piece behind them. The length that it has then.
    ///
    /// # Errors
    /// [`Code::OtherLength`] where it is shorter; those of the folder, after which nothing counts that was not durable.
    pub fn put(&mut self, path: &str, at: u64, piece: &PartPiece<'_>) -> Result<u64, Refusal> {
        let there = self.length(path)?;
        if at > there {
            let text =
                format!("{path} has {there} bytes, the request counts on {at}: what was not durable is lost");
            return Err(Refusal { length: Some(there), ..Refusal::new(Code::OtherLength, text) });
        }
        let mut part = match self.open.remove(path) {
            Some(part) if part.length == at => part,
            before => self.reopen(path, at, before)?,
        };
        // An error leaves it closed: the next request finds what there is.
        let put = put(&mut part, piece).map_err(|e| Refusal::of_error(path, &e))?;
        if !matches!(piece, PartPiece::Zeros(_)) {
            self.written = self.written.saturating_add(put);
        }
        let length = part.length;
        self.open.insert(path.to_owned(), part);
        Ok(length)
    }

    /// Cuts the part to `at` bytes, which it must have.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn cut(&mut self, path: &str, at: u64) -> Result<(), Refusal> {
        let before = self.open.remove(path);
        let part = self.reopen(path, at, before)?;
        self.open.insert(path.to_owned(), part);
        Ok(())
    }

    fn reopen(&self, path: &str, at: u64, before: Option<OpenPart>) -> Result<OpenPart, Refusal> {
        let failed = |e: io::Error| Refusal::of_error(path, &e);
        if let Some(mut before) = before {
            // What it has under way must not arrive behind the cut.
            before.sink.sync().map_err(failed)?;
        }
        let mut sink = self.files.reopen(path).map_err(failed)?;
        sink.resume_at(at).map_err(failed)?;
        Ok(OpenPart { sink, length: at })
    }

    /// Makes a part durable.
    ///
    /// # Errors
    /// Those of the folder. A part whose sync has failed once is not to be relied on: it is removed.
    pub fn sync(&mut self, path: &str) -> Result<(), Refusal> {
        let length = self.length(path)?;
        let mut part = match self.open.remove(path) {
            Some(part) => part,
            None => self.reopen(path, length, None)?,
        };
        match part.sink.sync() {
            Ok(()) => {
                self.open.insert(path.to_owned(), part);
                Ok(())
            }
            Err(e) => {
                drop(part);
                // Linux tells of a lost write once: a second sync would say that all is well.
                let removed = self.files.remove(path);
                let mut refusal = Refusal::of_error(&format!("cannot make {path} durable"), &e);
                if let Err(e) = removed {
                    refusal.text = format!("{}; and it cannot be removed: {e}", refusal.text);
                }
                Err(refusal)
            }
        }
    }

    /// Makes a part durable and closes it, where it is open: from then on nothing of it is on its way, and what is read is
    /// what there is.
    ///
    /// # Errors
    /// As [`Parts::sync`].
    pub fn settle(&mut self, path: &str) -> Result<(), Refusal> {
        if self.open.contains_key(path) {
            self.sync(path)?;
            self.open.remove(path);
        }
        Ok(())
    }

    /// The same with all of them.
    ///
    /// # Errors
    /// As [`Parts::sync`].
    pub fn settle_all(&mut self) -> Result<(), Refusal> {
        let paths: Vec<String> = self.open.keys().cloned().collect();
        paths.iter().try_for_each(|path| self.settle(path))
    }

    /// Removes a part, where it is there.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn remove(&mut self, path: &str) -> Result<(), Refusal> {
        self.open.remove(path);
        self.files.remove_if_exists(path).map(drop).map_err(|e| Refusal::of_error(path, &e))
    }

    /// Closes all of them, durable or not.
    pub fn close(&mut self) {
        self.open.clear();
    }
}

/// The number of bytes that were put.
fn put(part: &mut OpenPart, piece: &PartPiece<'_>) -> io::Result<u64> {
    let put = match piece {
        PartPiece::Bytes(bytes) => {
            part.sink.write_all(bytes)?;
            bytes.len() as u64
        }
        PartPiece::Zeros(length) => {
            part.sink.append_zeros(*length)?;
            *length
        }
        PartPiece::Copy(from, range) => copy(&mut *part.sink, *from, range)?,
    };
    part.length = part.length.saturating_add(put);
    Ok(put)
}

/// By the file system where it can, which may let both files share the blocks; else byte by byte.
fn copy(sink: &mut dyn SyncWrite, from: &dyn ReadAt, range: &Range<u64>) -> io::Result<u64> {
    let copied = sink.append_from(from, range.clone())?;
    let mut at = range.start.saturating_add(copied);
    let mut buffer = vec![0; BODY_LIMIT.min(1 << 20)];
    while at < range.end {
        let want = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(buffer.len());
        from.read_exact_at(&mut buffer[..want], at)?;
        sink.write_all(&buffer[..want])?;
        at += want as u64;
    }
    Ok(range.end - range.start)
}
