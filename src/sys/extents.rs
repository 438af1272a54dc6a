//! Where a file's bytes lie on its file system, and letting two files share the blocks of equal bytes.

use nix::request_code_readwrite;
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;

/// Extents that one call of [`extents`] gives at most.
pub const EXTENTS: usize = 256;

/// Consecutive bytes of a file that lie behind each other on its file system. All figures are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileExtent {
    /// First byte in the file.
    pub logical: u64,
    /// First byte on the file system: equal places are the same blocks. `None` where that cannot be told (not yet written,
    /// compressed, packed beside others).
    pub physical: Option<u64>,
    /// How long it is.
    pub length: u64,
}

/// What the file system did with two ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deduped {
    /// So many bytes, from the beginning on, are the same blocks now.
    Shared(u64),
    /// The bytes are not the same; nothing was changed.
    Differs,
}

/// `struct fiemap_extent` of `linux/fiemap.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct FiemapExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved32: [u32; 3],
}

/// `struct fiemap` with room for its extents.
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    extents: [FiemapExtent; EXTENTS],
}

/// `FIEMAP_FLAG_SYNC`: what is still to be written has no place yet.
const SYNC: u32 = 1;
/// Flags of an extent whose place says nothing: `FIEMAP_EXTENT_UNKNOWN`, `DELALLOC`, `ENCODED`, `NOT_ALIGNED`,
/// `DATA_INLINE`, `DATA_TAIL`, `UNWRITTEN`.
const PLACELESS: u32 = 0x2 | 0x4 | 0x8 | 0x100 | 0x200 | 0x400 | 0x800;

/// `struct file_dedupe_range` of `linux/fs.h` with its one `struct file_dedupe_range_info`.
#[repr(C)]
#[derive(Default)]
struct DedupeRange {
    src_offset: u64,
    src_length: u64,
    dest_count: u16,
    reserved: [u16; 3],
    dest_fd: i64,
    dest_offset: u64,
    bytes_deduped: u64,
    status: i32,
    reserved32: u32,
}

/// `FILE_DEDUPE_RANGE_DIFFERS`.
const DIFFERS: i32 = 1;

/// The kernel's numbers: both encode the size of the structure without what follows it.
mod ioctl {
    use super::{DedupeRange, Fiemap, request_code_readwrite};
    nix::ioctl_readwrite_bad!(fiemap, request_code_readwrite!(b'f', 11, 32), Fiemap);
    nix::ioctl_readwrite_bad!(fidedupe_range, request_code_readwrite!(0x94, 54, 24), DedupeRange);
}
const _: () = assert!(size_of::<Fiemap>() == 32 + EXTENTS * 56 && size_of::<DedupeRange>() == 24 + 32);

/// The extents of a file from byte `start` on, in order, at most [`EXTENTS`] of them; fewer are the last ones. Between them are
/// holes. The first one may begin before `start`.
///
/// Source: Documentation/filesystems/fiemap.rst.
///
/// # Errors
/// Those of FS_IOC_FIEMAP; `EOPNOTSUPP` and `ENOTTY` where the file system cannot tell.
pub fn extents(file: &File, start: u64) -> io::Result<Vec<FileExtent>> {
    let none =
        FiemapExtent { logical: 0, physical: 0, length: 0, reserved: [0; 2], flags: 0, reserved32: [0; 3] };
    let mut map = Box::new(Fiemap {
        start,
        length: u64::MAX - start,
        flags: SYNC,
        mapped_extents: 0,
        extent_count: EXTENTS as u32,
        reserved: 0,
        extents: [none; EXTENTS],
    });
    // SAFETY: the kernel writes the head of the structure and at most `extent_count` extents behind it, which all fit.
    unsafe { ioctl::fiemap(file.as_raw_fd(), &mut *map) }?;
    let found = map.extents.iter().take(map.mapped_extents as usize);
    Ok(found
        .map(|extent| FileExtent {
            logical: extent.logical,
            physical: (extent.flags & PLACELESS == 0).then_some(extent.physical),
            length: extent.length,
        })
        .collect())
}

/// Lets `length` bytes of `to` be the blocks of equal bytes of `from`, whose blocks stay. The kernel compares all of them while
/// it keeps writers out, so that no byte of either file can change by it. It may do less than was asked for: then it says how
/// much. A file that is open for reading only is enough for its owner and for root.
///
/// Source: ioctl_fideduperange(2).
///
/// # Errors
/// Those of FIDEDUPERANGE: `EOPNOTSUPP` where the file system shares no blocks, `EINVAL` where offsets are not multiples of
/// its block size, `EPERM`, `EXDEV`, those of reading.
pub fn dedupe(from: (&File, u64), to: (&File, u64), length: u64) -> io::Result<Deduped> {
    let mut range = DedupeRange {
        src_offset: from.1,
        src_length: length,
        dest_count: 1,
        dest_fd: to.0.as_raw_fd().into(),
        dest_offset: to.1,
        ..DedupeRange::default()
    };
    // SAFETY: the kernel reads and writes the structure with its one destination; both descriptors stay open.
    unsafe { ioctl::fidedupe_range(from.0.as_raw_fd(), &mut range) }?;
    match range.status {
        DIFFERS => Ok(Deduped::Differs),
        0 => Ok(Deduped::Shared(range.bytes_deduped.min(length))),
        errno => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
    }
}

/// Asks the file system of a file whether it knows [`dedupe`] at all. Not one that does must have it enabled: an XFS that was
/// made without reflink says so only when it is to share.
///
/// # Errors
/// `EOPNOTSUPP` or `ENOTTY` where it does not.
pub fn knows_dedupe(file: &File) -> io::Result<()> {
    let mut nothing = DedupeRange::default();
    // SAFETY: as above, without a destination.
    unsafe { ioctl::fidedupe_range(file.as_raw_fd(), &mut nothing) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_extents_of_a_file_cover_what_was_written() {
        let here = std::env::current_exe().unwrap();
        let mut file = tempfile::tempfile_in(here.parent().unwrap()).unwrap();
        file.write_all(&[7; 5 << 20]).unwrap();
        let found = match extents(&file, 0) {
            // A file system without extents.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY)) => return,
            found => found.unwrap(),
        };
        assert!(found.iter().all(|extent| extent.physical.is_some()), "{found:?}");
        let end = found.iter().fold(0, |end, extent| {
            assert_eq!(extent.logical, end, "{found:?}");
            end + extent.length
        });
        assert_eq!(end, 5 << 20);
        assert_eq!(extents(&file, 6 << 20).unwrap(), []);
    }

    /// Whichever file system it is: it shares, or says that it cannot, and the bytes stay.
    #[test]
    fn a_file_system_shares_blocks_or_says_that_it_cannot() {
        let here = std::env::current_exe().unwrap();
        let files = [(); 2].map(|()| tempfile::tempfile_in(here.parent().unwrap()).unwrap());
        for mut file in &files {
            file.write_all(&[7; 1 << 20]).unwrap();
        }
        let [a, b] = &files;
        match (knows_dedupe(a), dedupe((a, 0), (b, 0), 1 << 20)) {
            (Ok(()), Ok(done)) => assert_eq!(done, Deduped::Shared(1 << 20)),
            (_, Err(e)) => assert!(e.raw_os_error().is_some()),
            (Err(e), Ok(_)) => panic!("it cannot, it says: {e}"),
        }
    }
}
