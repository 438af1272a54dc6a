//! A disk whose every operation is noted while it is under way, so that somebody can name the one that hangs.

use super::BlockDevice;
use crate::watch::{InFlightOps, OpPlace};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A disk that is watched. All it does is what the disk below does.
pub struct WatchedDisk {
    disk: Arc<dyn BlockDevice>,
    name: Arc<str>,
    ops: Arc<InFlightOps>,
}

impl WatchedDisk {
    /// Notes the operations of `disk` among these.
    pub fn new(disk: Arc<dyn BlockDevice>, ops: Arc<InFlightOps>) -> Self {
        WatchedDisk { name: disk.name().into(), disk, ops }
    }

    fn watch<T>(
        &self,
        op: &'static str,
        work: impl FnOnce(&dyn BlockDevice) -> io::Result<T>,
    ) -> io::Result<T> {
        self.ops.watch(&self.name, op, OpPlace::Whole, || work(&*self.disk))
    }

    fn watch_at<T>(
        &self,
        op: &'static str,
        (offset, len): (u64, u64),
        work: impl FnOnce(&dyn BlockDevice) -> io::Result<T>,
    ) -> io::Result<T> {
        let block = u64::from(self.disk.logical_block_size().max(1));
        self.ops.watch(&self.name, op, OpPlace::Blocks(offset / block, len), || work(&*self.disk))
    }
}

impl BlockDevice for WatchedDisk {
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
        self.watch_at("read", (offset, buf.len() as u64), |disk| disk.read_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.watch_at("write", (offset, buf.len() as u64), |disk| disk.write_at(buf, offset))
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        self.watch_at("zeroing", (offset, len), |disk| disk.write_zeroes(offset, len))
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.watch_at("discard", (offset, len), |disk| disk.discard(offset, len))
    }

    fn flush(&self) -> io::Result<()> {
        self.watch("flush", |disk| disk.flush())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.watch("dropping of the cache", |disk| disk.drop_cache())
    }

    fn reread_partition_table(&self) -> io::Result<()> {
        self.watch("rereading of the partition table", |disk| disk.reread_partition_table())
    }

    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.disk.next_data(from)
    }
}
