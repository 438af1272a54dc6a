//! A disk whose every operation is noted while it is under way, so that a watchdog can name the one that hangs.

use super::BlockDevice;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Time since some fixed point.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// An operation that has not returned yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Name of the disk.
    pub disk: String,
    /// `read`, `write`, `flush`, ...
    pub op: &'static str,
    /// First logical block and length in bytes, for an operation that has a place.
    pub place: Option<(u64, u64)>,
    /// When it began, by the clock of the [`Watched`].
    pub since: Duration,
}

impl fmt::Display for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.disk, self.op)?;
        match self.place {
            Some((lba, len)) => write!(f, " of {len} bytes at LBA {lba}"),
            None => Ok(()),
        }
    }
}

/// A disk that is watched. All it does is what the disk below does.
pub struct Watched {
    disk: Arc<dyn BlockDevice>,
    clock: Clock,
    /// Numbered as they began.
    flying: Mutex<(u64, BTreeMap<u64, InFlight>)>,
}

impl Watched {
    /// Watches `disk` by this clock.
    pub fn new(disk: Arc<dyn BlockDevice>, clock: Clock) -> Self {
        Watched { disk, clock, flying: Mutex::default() }
    }

    /// The operation that has been under way for longest.
    pub fn oldest(&self) -> Option<InFlight> {
        let flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
        flying.1.values().min_by_key(|op| op.since).cloned()
    }

    fn watch<T>(
        &self,
        op: &'static str,
        place: Option<(u64, u64)>,
        work: impl FnOnce(&dyn BlockDevice) -> T,
    ) -> T {
        let block = u64::from(self.disk.logical_block_size().max(1));
        let place = place.map(|(offset, len)| (offset / block, len));
        let noted = InFlight { disk: self.disk.name().to_owned(), op, place, since: (self.clock)() };
        let number = {
            let mut flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
            flying.0 += 1;
            let number = flying.0;
            flying.1.insert(number, noted);
            number
        };
        let result = work(&*self.disk);
        self.flying.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&number);
        result
    }
}

impl BlockDevice for Watched {
    fn name(&self) -> &str {
        self.disk.name()
    }

    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn size_now(&self) -> io::Result<u64> {
        self.disk.size_now()
    }

    fn logical_block_size(&self) -> u32 {
        self.disk.logical_block_size()
    }

    fn physical_block_size(&self) -> u32 {
        self.disk.physical_block_size()
    }

    fn is_regular_file(&self) -> bool {
        self.disk.is_regular_file()
    }

    fn is_rotational(&self) -> bool {
        self.disk.is_rotational()
    }

    fn is_exclusive(&self) -> bool {
        self.disk.is_exclusive()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.watch("read", Some((offset, buf.len() as u64)), |disk| disk.read_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.watch("write", Some((offset, buf.len() as u64)), |disk| disk.write_at(buf, offset))
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        self.watch("zeroing", Some((offset, len)), |disk| disk.write_zeroes(offset, len))
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.watch("discard", Some((offset, len)), |disk| disk.discard(offset, len))
    }

    fn flush(&self) -> io::Result<()> {
        self.watch("flush", None, |disk| disk.flush())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.watch("dropping of the cache", None, |disk| disk.drop_cache())
    }

    fn reread_partition_table(&self) -> io::Result<()> {
        self.watch("rereading of the partition table", None, |disk| disk.reread_partition_table())
    }

    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.disk.next_data(from)
    }
}
