//! A share whose every operation is noted while it is under way: on a hard mount whose server is gone it does not come
//! back, and the thread that waits for it cannot say so.

use super::{Append, Files};
use crate::io::{ReadAt, SyncWrite};
use crate::net::quota::Owner;
use crate::watch::{InFlightOps, OpPlace};
use jiff::Timestamp;
use std::any::Any;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

/// A share that is watched. All it does is what the share below does.
pub struct WatchedFiles {
    files: Arc<dyn Files>,
    share: Arc<str>,
    ops: Arc<InFlightOps>,
}

impl WatchedFiles {
    /// Watches the share called `share`.
    pub fn new(files: Arc<dyn Files>, share: &str, ops: Arc<InFlightOps>) -> Self {
        WatchedFiles { files, share: share.into(), ops }
    }

    fn watch<T>(
        &self,
        op: &'static str,
        path: &str,
        work: impl FnOnce(&dyn Files) -> io::Result<T>,
    ) -> io::Result<T> {
        self.ops.watch(&self.share, op, OpPlace::Path(path.into()), || work(&*self.files))
    }

    fn file<F>(&self, path: &str, file: F) -> WatchedFile<F> {
        WatchedFile { file, share: self.share.clone(), path: path.into(), ops: self.ops.clone() }
    }

    fn writer(&self, path: &str, file: Box<dyn SyncWrite>) -> Box<dyn SyncWrite> {
        Box::new(self.file(path, file))
    }
}

impl Files for WatchedFiles {
    fn open(&self, path: &str) -> io::Result<Arc<dyn ReadAt>> {
        let file = self.watch("opening", path, |files| files.open(path))?;
        Ok(Arc::new(self.file(path, file)))
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

    fn open_append(&self, path: &str) -> io::Result<Box<dyn Append>> {
        let file = self.watch("opening", path, |files| files.open_append(path))?;
        Ok(Box::new(self.file(path, file)))
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

    fn clock(&self, folder: &str) -> io::Result<Timestamp> {
        self.watch("creation", folder, |files| files.clock(folder))
    }

    fn owner(&self, path: &str) -> io::Result<Owner> {
        self.watch("fstat", path, |files| files.owner(path))
    }
}

/// An open file of such a share.
struct WatchedFile<F> {
    file: F,
    share: Arc<str>,
    path: Arc<str>,
    ops: Arc<InFlightOps>,
}

impl<F> WatchedFile<F> {
    fn watch<T>(&mut self, op: &'static str, work: impl FnOnce(&mut F) -> io::Result<T>) -> io::Result<T> {
        let WatchedFile { file, share, path, ops } = self;
        ops.watch(share, op, OpPlace::Path(path.clone()), || work(file))
    }
}

impl ReadAt for WatchedFile<Arc<dyn ReadAt>> {
    fn size(&self) -> io::Result<u64> {
        self.ops.watch(&self.share, "fstat", OpPlace::Path(self.path.clone()), || self.file.size())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.ops
            .watch(&self.share, "read", OpPlace::Path(self.path.clone()), || self.file.read_at(buf, offset))
    }

    fn is_hole(&self, range: &Range<u64>) -> bool {
        let look = || Ok(self.file.is_hole(range));
        self.ops.watch(&self.share, "lseek", OpPlace::Path(self.path.clone()), look).unwrap_or(false)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        self.file.as_any()
    }
}

impl Append for WatchedFile<Box<dyn Append>> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.watch("append", |file| file.append(bytes))
    }
}

impl Write for WatchedFile<Box<dyn SyncWrite>> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.watch("write", |file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.watch("write", |file| file.flush())
    }
}

impl SyncWrite for WatchedFile<Box<dyn SyncWrite>> {
    fn sync(&mut self) -> io::Result<()> {
        self.watch("fsync", |file| file.sync())
    }

    fn resume_at(&mut self, len: u64) -> io::Result<()> {
        self.watch("truncation", |file| file.resume_at(len))
    }

    fn append_zeros(&mut self, length: u64) -> io::Result<()> {
        self.watch("write", |file| file.append_zeros(length))
    }

    fn append_from(&mut self, from: &dyn ReadAt, range: Range<u64>) -> io::Result<u64> {
        self.watch("copy", |file| file.append_from(from, range))
    }
}
