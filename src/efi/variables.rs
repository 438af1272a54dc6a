//! The variables of the firmware, as a mounted efivarfs shows them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// EFI_GLOBAL_VARIABLE, whose variables the specification defines; as efivarfs ends their names.
const GLOBAL: &str = "-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Non-volatile, for the boot loaders and for systems: what boot entries and their order must have.
const ATTRIBUTES: u32 = 7;
/// Longest value that is read, in bytes.
const LIMIT: u64 = 128 << 10;
/// Most variables that are looked at.
const MOST: usize = 10_000;

/// The firmware that has started this machine.
#[derive(Clone)]
pub struct Platform {
    /// 32 or 64; `None` where the kernel does not say.
    pub bits: Option<u8>,
    /// Its variables, or why they cannot be read.
    pub variables: Result<Arc<dyn Variables>, String>,
}

/// The global variables of the firmware.
pub trait Variables: Send + Sync {
    /// Their names, such as `Boot0003`.
    ///
    /// # Errors
    /// They cannot be listed.
    fn names(&self) -> io::Result<Vec<String>>;

    /// The value of one, without its attributes; `None` where it is not there.
    ///
    /// # Errors
    /// It is there and cannot be read, or is longer than 128 KiB.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Sets one, at once or not at all.
    ///
    /// # Errors
    /// The firmware refuses: no room left, write-protected, or it calls the value malformed.
    fn write(&self, name: &str, value: &[u8]) -> io::Result<()>;
}

/// A mounted efivarfs (the kernel's Documentation/filesystems/efivarfs.rst).
pub struct EfivarFs {
    dir: PathBuf,
}

impl EfivarFs {
    /// The one that is mounted here.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        EfivarFs { dir: dir.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{GLOBAL}"))
    }
}

impl Variables for EfivarFs {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for (count, file) in fs::read_dir(&self.dir)?.enumerate() {
            let file = file?;
            // What is not listed would be taken for free.
            if count >= MOST {
                return Err(io::Error::other(format!("there are more than {MOST} variables")));
            }
            let name = file.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(GLOBAL)) else { continue };
            // A write that failed leaves an empty file; the firmware has no such variable.
            if !file.metadata().is_ok_and(|data| data.len() == 0) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = File::open(self.path(name)).and_then(|file| file.take(LIMIT + 5).read_to_end(&mut bytes));
        match read {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        if bytes.len() as u64 > LIMIT + 4 {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {LIMIT} bytes")));
        }
        // The attributes stand in front.
        Ok(bytes.get(4..).map(<[u8]>::to_vec))
    }

    fn write(&self, name: &str, value: &[u8]) -> io::Result<()> {
        let mut bytes = ATTRIBUTES.to_le_bytes().to_vec();
        bytes.extend(value);
        // Not truncated before: each write(2) is a whole new value, and until then the old one counts.
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(self.path(name))?;
        match file.write(&bytes)? {
            n if n == bytes.len() => Ok(()),
            n => Err(io::Error::other(format!("only {n} of {} bytes were taken", bytes.len()))),
        }
    }
}
