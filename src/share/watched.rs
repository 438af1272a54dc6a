//! A share whose every operation is noted while it is under way: on a hard mount whose server is gone it does not come
//! back, and the thread that waits for it cannot say so.

use super::Files;
use crate::io::{ReadAt, SyncWrite};
use crate::net::quota::Owner;
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// An operation that has not returned yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Tells it from all others of the same [`Flights`].
    pub number: u64,
    /// Server and path of the share.
    pub share: Arc<str>,
    /// `read`, `write`, `fsync`, ...
    pub op: &'static str,
    /// The file or folder on the share.
    pub path: Arc<str>,
    /// When it began, by the clock of the [`Flights`].
    pub since: Duration,
}

impl fmt::Display for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of '{}'", self.share, self.op, self.path)
    }
}

/// Time since some fixed point.
type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// The operations that are under way on some shares.
pub struct Flights {
    clock: Clock,
    /// How many began, and those that have not ended, in the order in which they began.
    flying: Mutex<(u64, BTreeMap<u64, InFlight>)>,
    is_given_up: AtomicBool,
}

impl Flights {
    /// None yet; times are those of this clock.
    pub fn new(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Flights { clock: Box::new(clock), flying: Mutex::default(), is_given_up: AtomicBool::new(false) }
    }

    /// The operation that has been under way for longest.
    pub fn oldest(&self) -> Option<InFlight> {
        let flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
        flying.1.values().next().cloned()
    }

    /// From now on every operation fails, also one that comes back after all: somebody has told that it is over.
    pub fn give_up(&self) {
        self.is_given_up.store(true, SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        if self.is_given_up.load(SeqCst) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the share did not answer and was given up"));
        }
        Ok(())
    }

    fn watch<T>(&self, of: &Of, op: &'static str, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.check()?;
        let number = {
            let since = (self.clock)();
            let mut flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
            flying.0 += 1;
            let number = flying.0;
            let noted = InFlight { number, share: of.share.clone(), op, path: of.path.clone(), since };
            flying.1.insert(number, noted);
            number
        };
        let result = work();
        self.flying.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&number);
        self.check().and(result)
    }
}

/// What an operation is about.
#[derive(Clone)]
struct Of {
    share: Arc<str>,
    path: Arc<str>,
}

/// A share that is watched. All it does is what the share below does.
pub struct WatchedFiles {
    files: Arc<dyn Files>,
    share: Arc<str>,
    flights: Arc<Flights>,
}

impl WatchedFiles {
    /// Watches the share called `share`.
    pub fn new(files: Arc<dyn Files>, share: &str, flights: Arc<Flights>) -> Self {
        WatchedFiles { files, share: share.into(), flights }
    }

    fn watch<T>(
        &self,
        op: &'static str,
        path: &str,
        work: impl FnOnce(&dyn Files) -> io::Result<T>,
    ) -> io::Result<T> {
        self.flights.watch(&self.of(path), op, || work(&*self.files))
    }

    fn of(&self, path: &str) -> Of {
        Of { share: self.share.clone(), path: path.into() }
    }

    fn writer(&self, path: &str, file: Box<dyn SyncWrite>) -> Box<dyn SyncWrite> {
        Box::new(WatchedFile { file, of: self.of(path), flights: self.flights.clone() })
    }
}

impl Files for WatchedFiles {
    fn open(&self, path: &str) -> io::Result<Arc<dyn ReadAt>> {
        let file = self.watch("opening", path, |files| files.open(path))?;
        Ok(Arc::new(WatchedFile { file, of: self.of(path), flights: self.flights.clone() }))
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn SyncWrite>> {
        Ok(self.writer(path, self.watch("creation", path, |files| files.create(path))?))
    }

    fn reopen(&self, path: &str) -> io::Result<Box<dyn SyncWrite>> {
        Ok(self.writer(path, self.watch("opening", path, |files| files.reopen(path))?))
    }

    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.watch("append", path, |files| files.append(path, bytes))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.watch("rename", from, |files| files.rename(from, to))
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        self.watch("link", from, |files| files.hard_link(from, to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.watch("removal", path, |files| files.remove(path))
    }

    fn make_dir(&self, path: &str) -> io::Result<()> {
        self.watch("creation", path, |files| files.make_dir(path))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.watch("listing", path, |files| files.list(path))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.watch("fsync", path, |files| files.sync_dir(path))
    }

    fn free_bytes(&self, path: &str) -> io::Result<u64> {
        self.watch("statfs", path, |files| files.free_bytes(path))
    }

    fn is_same_file(&self, a: &str, b: &str) -> io::Result<bool> {
        self.watch("fstat", a, |files| files.is_same_file(a, b))
    }

    fn owner(&self, path: &str) -> io::Result<Owner> {
        self.watch("fstat", path, |files| files.owner(path))
    }
}

/// An open file of such a share.
struct WatchedFile<F> {
    file: F,
    of: Of,
    flights: Arc<Flights>,
}

impl ReadAt for WatchedFile<Arc<dyn ReadAt>> {
    fn size(&self) -> io::Result<u64> {
        self.flights.watch(&self.of, "fstat", || self.file.size())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.flights.watch(&self.of, "read", || self.file.read_at(buf, offset))
    }

    fn as_any(&self) -> Option<&dyn Any> {
        self.file.as_any()
    }
}

impl Write for WatchedFile<Box<dyn SyncWrite>> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flights.watch(&self.of, "write", || self.file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flights.watch(&self.of, "write", || self.file.flush())
    }
}

impl SyncWrite for WatchedFile<Box<dyn SyncWrite>> {
    fn sync(&mut self) -> io::Result<()> {
        self.flights.watch(&self.of, "fsync", || self.file.sync())
    }

    fn go_on_at(&mut self, len: u64) -> io::Result<()> {
        self.flights.watch(&self.of, "truncation", || self.file.go_on_at(len))
    }

    fn append_from(&mut self, from: &dyn ReadAt, range: Range<u64>) -> io::Result<u64> {
        self.flights.watch(&self.of, "copy", || self.file.append_from(from, range))
    }
}
