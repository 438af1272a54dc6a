//! Disks of other programs, as disks to be imaged.

use super::super::Error;
use super::qemu::{OwnFolder, QCOW2, RAW, convert};
use super::{real_path, show};
use crate::block::{BlockDevice, RealDisk, user_of};
use crate::progress::Progress;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A disk that is open, and the file that the admin has named.
pub(super) struct ForeignDisk {
    pub disk: RealDisk,
    pub path: PathBuf,
}

/// Opens them; what it unpacks goes when it goes.
#[derive(Default)]
pub(super) struct ForeignOpener {
    folder: RefCell<Option<OwnFolder>>,
    unpacked: Cell<usize>,
}

/// What is no raw disk, by how it begins: where, with what, and what to do.
const OTHERS: [(u64, &[u8], &str); 7] = [
    (0, b"KDMV", "a VMDK: qemu-img convert -O raw makes a raw disk of it"),
    (0, b"vhdxfile", "a VHDX: qemu-img convert -O raw makes a raw disk of it"),
    (0, b"conectix", "a VHD: qemu-img convert -O raw makes a raw disk of it"),
    (0x40, &[0x7f, 0x10, 0xda, 0xbe], "a VDI: qemu-img convert -O raw makes a raw disk of it"),
    (
        0,
        &[0x1f, 0x8b],
        "a gzip file: an image of testbox is copied, or unpacked by 'image export'; else by zcat",
    ),
    (0, &[0xfd, b'7', b'z', b'X', b'Z', 0], "an xz file: unpack it by xz -d"),
    (0, &[0x28, 0xb5, 0x2f, 0xfd], "a zstd file: unpack it by zstd -d"),
];

impl ForeignOpener {
    /// Opens a raw disk, or a qcow2 that it has unpacked.
    pub fn open(&self, path: &Path) -> Result<ForeignDisk, Error> {
        let head = head(path)?;
        let named = |why: &str| Error::failed(format!("{}: {why}", path.display()));
        let begins =
            |at: u64, with: &[u8]| head.get(at as usize..).is_some_and(|head| head.starts_with(with));
        if let Some((.., what)) = OTHERS.iter().find(|(at, with, _)| begins(*at, with)) {
            return Err(named(what));
        }
        let raw = match begins(0, b"QFI\xfb") {
            false => path.to_owned(),
            true => {
                alone(&head).map_err(named)?;
                self.unpack(path)?
            }
        };
        let disk = RealDisk::open_source(real_path(&raw)).map_err(|e| Error::failed(e.to_string()))?;
        match disk.size() {
            0 => Err(named("it is empty")),
            size if !size.is_multiple_of(512) => {
                Err(named(&format!("{size} bytes: a raw disk is a whole number of blocks of 512 bytes")))
            }
            _ => Ok(ForeignDisk { disk, path: path.to_owned() }),
        }
    }

    fn unpack(&self, path: &Path) -> Result<PathBuf, Error> {
        let mut folder = self.folder.borrow_mut();
        let folder = match &*folder {
            Some(folder) => folder,
            None => folder.insert(OwnFolder::make()?),
        };
        self.unpacked.set(self.unpacked.get() + 1);
        let raw = folder.path().join(format!("{}.raw", self.unpacked.get()));
        let progress = Progress::new();
        let work = || convert((path, QCOW2), (&raw, RAW), &progress);
        show::timed("unpack", &progress, work)
            .0
            .map_err(|e| e.and("; TMPDIR=DIR names another place for it"))?;
        Ok(raw)
    }
}

/// The first bytes of a file that nobody writes meanwhile; fewer where it is shorter.
fn head(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |why: String| Error::failed(format!("{}: {why}", path.display()));
    let cannot_read = |e: io::Error| failed(format!("cannot read it: {e}"));
    // Opening a FIFO would wait.
    if !std::fs::metadata(path).map_err(cannot_read)?.is_file() {
        return Err(failed("not a file: a disk of this computer becomes an image by 'image create'".into()));
    }
    let file = File::open(path).map_err(cannot_read)?;
    if let Some(user) = user_of(&file).map_err(cannot_read)? {
        return Err(failed(format!("it is in use: {user}; end that first, it must not change meanwhile")));
    }
    let mut head = vec![0; 512];
    let len = file.read_at(&mut head, 0).map_err(cannot_read)?;
    head.truncate(len);
    Ok(head)
}

/// A qcow2 can name other files of this computer as parts of the disk: one that comes from elsewhere must not.
fn alone(head: &[u8]) -> Result<(), &'static str> {
    let be32 = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    let be64 = |at: usize| head.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
    // QEMU, docs/interop/qcow2.txt.
    let (Some(version), Some(backing)) = (be32(4), be64(8)) else { return Err("a qcow2 that is cut short") };
    let incompatible = if version < 3 { Some(0) } else { be64(72) };
    if backing != 0 {
        return Err("a qcow2 with a backing file: qemu-img convert -O qcow2 makes one without");
    }
    match incompatible {
        Some(bits) if bits & 1 << 2 == 0 => Ok(()),
        _ => Err("a qcow2 whose data are in another file: qemu-img convert -O qcow2 makes one without"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qcow2_names_no_other_file() {
        let qcow2 = |version: u32, backing: u64, bits: u64| {
            let mut head = vec![0; 512];
            head[..4].copy_from_slice(b"QFI\xfb");
            head[4..8].copy_from_slice(&version.to_be_bytes());
            head[8..16].copy_from_slice(&backing.to_be_bytes());
            head[72..80].copy_from_slice(&bits.to_be_bytes());
            head
        };
        for (head, is_good) in [
            (qcow2(3, 0, 0), true),
            (qcow2(3, 0, 1), true),
            (qcow2(2, 0, 4), true),
            (qcow2(3, 512, 0), false),
            (qcow2(2, 512, 0), false),
            (qcow2(3, 0, 4), false),
            (qcow2(3, 0, 0)[..12].to_vec(), false),
            (qcow2(3, 0, 0)[..76].to_vec(), false),
        ] {
            assert_eq!(alone(&head).is_ok(), is_good, "{:?}", &head[..head.len().min(16)]);
        }
    }
}
