//! The parts that one session writes: each grows at a stated place and nowhere else, so that a request that comes twice
//! changes nothing.

use crate::io::{ReadAt, SyncWrite};
use crate::share::Files;
use crate::store::protocol::{BODY_LIMIT, Code, Refusal};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A piece of so many bytes is written while the next one is on its way; a thread costs more than less.
const WRITTEN_BEHIND: usize = 64 << 10;

struct OpenPart {
    sink: Box<dyn SyncWrite>,
    length: u64,
}

/// A piece that is taken and not written yet. Nothing was said of it but that it is taken: what becomes of it is said to the
/// next request of its session, and a sync comes after it.
struct Behind {
    path: String,
    length: u64,
    writing: JoinHandle<io::Result<OpenPart>>,
}

/// What is written behind the place that a request names.
pub enum PartPiece<'a> {
    /// These bytes.
    Bytes(&'a Arc<Vec<u8>>),
    /// Zeros that take no room where the file system can have holes.
    Zeros(u64),
    /// Bytes of another file.
    Copy(&'a dyn ReadAt, Range<u64>),
}

/// The open parts of a session.
pub struct Parts {
    files: Arc<dyn Files>,
    open: HashMap<String, OpenPart>,
    /// One for all parts: so its memory is bounded.
    behind: Option<Behind>,
    /// Bytes written, zeros not counted, since the room was last asked for.
    pub written: u64,
}

impl Parts {
    /// None open.
    pub fn new(files: Arc<dyn Files>) -> Parts {
        Parts { files, open: HashMap::new(), behind: None, written: 0 }
    }

    /// Makes an empty part; one that is there and empty is fine.
    ///
    /// # Errors
    /// [`Code::Exists`], and those of the folder.
    pub fn create(&mut self, path: &str) -> Result<(), Refusal> {
        self.catch_up()?;
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
        if let Some(behind) = self.behind.as_ref().filter(|behind| behind.path == path) {
            return Ok(behind.length);
        }
        if let Some(part) = self.open.get(path) {
            return Ok(part.length);
        }
        self.files.open(path).and_then(|file| file.size()).map_err(|e| Refusal::of_error(path, &e))
    }

    /// Waits until what was taken is written.
    ///
    /// # Errors
    /// It cannot be written: its part is closed, and the next request finds what there is of it.
    pub fn catch_up(&mut self) -> Result<(), Refusal> {
        let Some(Behind { path, writing, .. }) = self.behind.take() else { return Ok(()) };
        let written =
            writing.join().unwrap_or_else(|_| Err(io::Error::other("internal error: the writer panicked")));
        let part = written.map_err(|e| Refusal::of_error(&path, &e))?;
        self.open.insert(path, part);
        Ok(())
    }

    /// Cuts the part to `at` bytes, which it must have, and puts the piece behind them. The length that it has then.
    ///
    /// # Errors
    /// [`Code::OtherLength`] where it is shorter; those of the folder, also of the piece before, after which nothing counts
    /// that was not durable.
    pub fn put(&mut self, path: &str, at: u64, piece: &PartPiece<'_>) -> Result<u64, Refusal> {
        self.catch_up()?;
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
        if let PartPiece::Bytes(bytes) = piece
            && bytes.len() >= WRITTEN_BEHIND
        {
            let (bytes, put) = (Arc::clone(bytes), bytes.len() as u64);
            let length = part.length.saturating_add(put);
            let write = move || {
                part.sink.write_all(&bytes)?;
                part.length = length;
                Ok(part)
            };
            let writing = std::thread::Builder::new().name("part".into()).spawn(write);
            let writing = writing.map_err(|e| Refusal::of_error("no thread to write the part", &e))?;
            self.written = self.written.saturating_add(put);
            self.behind = Some(Behind { path: path.to_owned(), length, writing });
            return Ok(length);
        }
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
        self.catch_up()?;
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
        self.catch_up()?;
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
        self.catch_up()?;
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
        self.catch_up()?;
        let paths: Vec<String> = self.open.keys().cloned().collect();
        paths.iter().try_for_each(|path| self.settle(path))
    }

    /// Removes a part, where it is there.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn remove(&mut self, path: &str) -> Result<(), Refusal> {
        // What cannot be written is not wanted any more.
        let _ = self.catch_up();
        self.open.remove(path);
        self.files.remove_if_exists(path).map(drop).map_err(|e| Refusal::of_error(path, &e))
    }

    /// Closes all of them, durable or not.
    pub fn close(&mut self) {
        let _ = self.catch_up();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::{MemFiles, ShareFault, ShareOp};

    const PIECE: usize = 2 * WRITTEN_BEHIND;

    type Ask = fn(&mut Parts) -> Result<(), Refusal>;

    fn piece(byte: u8) -> Arc<Vec<u8>> {
        Arc::new(vec![byte; PIECE])
    }

    fn parts(files: &Arc<MemFiles>) -> Parts {
        let mut parts = Parts::new(files.clone());
        for path in ["a", "b"] {
            parts.create(path).unwrap();
        }
        parts
    }

    #[test]
    fn pieces_written_behind_are_in_order_and_a_sync_waits_for_them() {
        let files = Arc::new(MemFiles::new());
        let mut parts = parts(&files);
        for n in 0..20 {
            for path in ["a", "b"] {
                let at = (n * PIECE) as u64;
                assert_eq!(
                    parts.put(path, at, &PartPiece::Bytes(&piece(n as u8))).unwrap(),
                    at + PIECE as u64
                );
            }
        }
        // The last one comes twice, as where its answer was lost.
        parts.put("b", 19 * PIECE as u64, &PartPiece::Bytes(&piece(19))).unwrap();
        let whole: Vec<u8> = (0..20).flat_map(|n| vec![n; PIECE]).collect();
        for path in ["a", "b"] {
            parts.sync(path).unwrap();
            assert!(files.durable_tree()[path] == whole);
        }
    }

    /// A piece that was taken and cannot be written is said, whatever is asked next, and never passes for durable.
    #[test]
    fn a_piece_that_cannot_be_written_is_told_to_the_next_request() {
        let asks: [Ask; 6] = [
            |parts| parts.put("a", PIECE as u64, &PartPiece::Bytes(&piece(2))).map(drop),
            |parts| parts.put("b", 0, &PartPiece::Bytes(&piece(2))).map(drop),
            |parts| parts.put("a", PIECE as u64, &PartPiece::Zeros(5)).map(drop),
            |parts| parts.sync("a"),
            |parts| parts.settle_all(),
            |parts| parts.catch_up(),
        ];
        for (n, ask) in asks.iter().enumerate() {
            let files = Arc::new(MemFiles::new());
            let mut parts = parts(&files);
            files.fail_nth_of(ShareOp::Write, 0, ShareFault::Errno(libc::ENOSPC));
            parts.put("a", 0, &PartPiece::Bytes(&piece(1))).unwrap();
            let refusal = ask(&mut parts).unwrap_err();
            assert!(refusal.code == Code::Full && refusal.text.starts_with("a: "), "{n}: {refusal:?}");
            assert!(parts.length("a").unwrap() < PIECE as u64, "{n}");
            let refusal = parts.put("a", PIECE as u64, &PartPiece::Bytes(&piece(2))).unwrap_err();
            assert_eq!(refusal.code, Code::OtherLength, "{n}");
        }
    }
}
