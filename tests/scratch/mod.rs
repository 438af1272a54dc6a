//! Where tests make, fill and compare hundreds of file systems: in memory, because on a disk they wait for it most of
//! the time. Nothing in them is about what a disk does.

use tempfile::TempDir;

/// Bytes of a tmpfs, and of memory, that must be free: two tests of 384 MiB at once, with copies, and as much again.
const ROOM: u64 = 6 << 30;
/// statfs(2).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// A folder in /dev/shm where that has room; else, and where `TMPDIR` says so, among the temporary files.
pub fn scratch() -> TempDir {
    let in_memory = std::env::var_os("TMPDIR").is_none() && has_room().is_some_and(|has| has);
    let made = if in_memory { tempfile::tempdir_in("/dev/shm") } else { tempfile::tempdir() };
    made.expect("a temporary folder")
}

fn has_room() -> Option<bool> {
    let about = rustix::fs::statfs("/dev/shm").ok()?;
    let free = about.f_bavail.saturating_mul(about.f_bsize as u64);
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10;
    Some(about.f_type as u64 == TMPFS_MAGIC && free.min(available) >= ROOM)
}
