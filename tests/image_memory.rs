//! Memory stays bounded whatever the disk: its size, the chunk size, the number of threads, of free ranges.
//!
//! One test in a process of its own: the figure is the peak of the whole process.

use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use testbox::block::{BlockDevice, RealDisk};
use testbox::image::{self, BackupOptions, DiskAbout, MAX_CHUNK};
use testbox::inventory::Identity;
use testbox::io::SyncWrite;
use testbox::progress::Progress;
use testbox::used::Map;

/// Counts what is written.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0 += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SyncWrite for Count {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk that holds the same noise in every 4 MiB.
struct Noise(Vec<u8>);

impl BlockDevice for Noise {
    fn name(&self) -> &str {
        "noise"
    }

    fn size(&self) -> u64 {
        768 << 20
    }

    fn logical_block_size(&self) -> u32 {
        512
    }

    fn physical_block_size(&self) -> u32 {
        512
    }

    fn read_at(&self, buf: &mut [u8], _offset: u64) -> io::Result<()> {
        buf.copy_from_slice(&self.0[..buf.len()]);
        Ok(())
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn write_zeroes(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn reread_partition_table(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn huge_disks_and_many_threads_stay_under_256_mib() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let size = 15 << 40; // ext4 ends a page below 16 TiB.
    drop(RealDisk::create_file(&path, size).unwrap());
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for at in [0, 1 << 40, size - 512] {
        file.write_all_at(&[1; 512], at).unwrap();
    }
    let disk = RealDisk::open_read(&path).unwrap();
    let about = DiskAbout::new("huge", Identity::default(), &disk);
    let mut sink = Count(0);
    let written =
        image::backup(&disk, &mut sink, &about, &BackupOptions::default(), &Progress::new()).unwrap();
    assert_eq!((written.disk_bytes, written.image_bytes), (size, sink.0));
    assert_eq!(size - written.zero_bytes, 3 << 12, "the three blocks that are not zero");

    // As many free ranges as a map has at most; where there is less time, fewer of them.
    let count = if std::env::var_os("TESTBOX_LONG").is_some() { 2u64 << 20 } else { 32 << 10 };
    let free: Vec<_> = (0..count).map(|i| (i << 22) + 4096..(i << 22) + (1 << 20)).collect();
    let used = Arc::new(Map { free, ..Map::default() });
    let opts = BackupOptions { used, ..BackupOptions::default() };
    let written = image::backup(&disk, &mut Count(0), &about, &opts, &Progress::new()).unwrap();
    assert_eq!(written.unallocated_bytes, count * ((1 << 20) - 4096));
    drop(opts);

    let mut noise = vec![0; MAX_CHUNK as usize];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let disk = Noise(noise);
    let opts = BackupOptions { threads: 64, chunk_size: MAX_CHUNK, ..BackupOptions::default() };
    let about = DiskAbout::new("noise", Identity::default(), &disk);
    let written = image::backup(&disk, &mut Count(0), &about, &opts, &Progress::new()).unwrap();
    assert_eq!(written.stored_bytes, disk.size());

    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let peak = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024;
    println!("{peak} MiB");
    assert!(peak < 256, "{peak} MiB");
}
