//! Disks with their identity, queue and partition tables.

use super::InfoSources;
use super::page::InfoPage;
use crate::inventory::Inventory;
use crate::io::ReadAt;
use crate::used::partitions;
use std::io;

pub(super) fn write(page: &mut InfoPage, sources: &InfoSources) {
    let inventory = match Inventory::scan(&sources.sys, &sources.dev) {
        Ok(inventory) => inventory,
        Err(e) => return page.line(format!("({e})")),
    };
    if inventory.disks.is_empty() {
        page.line("(no disk found)");
    }
    for disk in &inventory.disks {
        page.line("");
        page.line(disk.to_string());
        let dir = sources.sys.join("block").join(&disk.name);
        page.attributes(
            "\t",
            &dir.join("device"),
            &[
                "vendor",
                "model",
                "rev",
                "firmware_rev",
                "type",
                "state",
                "queue_depth",
                "queue_type",
                "timeout",
                "manfid",
                "oemid",
                "name",
                "date",
                "fwrev",
                "hwrev",
                "cid",
                "csd",
            ],
        );
        page.attributes(
            "\t",
            &dir,
            &[
                "dev",
                "alignment_offset",
                "queue/rotational",
                "queue/scheduler",
                "queue/nr_requests",
                "queue/max_sectors_kb",
                "queue/max_hw_sectors_kb",
                "queue/discard_granularity",
                "queue/discard_max_bytes",
                "queue/write_zeroes_max_bytes",
                "queue/write_cache",
                "queue/fua",
                "queue/zoned",
                "stat",
            ],
        );
        let table = (sources.open_disk)(disk)
            .and_then(|file| partitions::read(&Bounded(file, disk.size), disk.logical_block_size));
        match table {
            Ok(table) => page.block("\t", &table.to_string()),
            Err(e) => page.missing(format!("the partition table of {}", disk.name), &e),
        }
    }
}

/// A disk with its size: metadata says 0 for a block device.
struct Bounded(Box<dyn ReadAt>, u64);

impl ReadAt for Bounded {
    fn size(&self) -> io::Result<u64> {
        Ok(self.1)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
}
