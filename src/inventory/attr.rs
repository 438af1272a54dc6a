//! Reading one sysfs attribute, bounded.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Attributes are one page; binary pages (VPD) may be longer, but never much.
const MAX_BYTES: u64 = 16 * 1024;

/// What came of reading an attribute.
pub(super) enum Attr {
    /// Its raw bytes.
    Value(Vec<u8>),
    /// The kernel has no such attribute, or the device has no value for it.
    Absent,
    /// It is there and cannot be read.
    Failed(io::Error),
}

/// Reads an attribute as raw bytes.
pub(super) fn bytes(path: &Path) -> Attr {
    let mut raw = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut raw)) {
        Ok(_) => Attr::Value(raw),
        Err(e) => match e.raw_os_error() {
            // ENXIO, EINVAL, ENODATA and EOPNOTSUPP are the drivers' ways to say "this device has none".
            Some(
                libc::ENOENT | libc::ENOTDIR | libc::ENXIO | libc::EINVAL | libc::ENODATA | libc::EOPNOTSUPP,
            ) => Attr::Absent,
            _ => Attr::Failed(e),
        },
    }
}

/// Reads an attribute as trimmed text; `None` where it is absent or unreadable.
pub(super) fn text(path: &Path) -> Option<String> {
    match bytes(path) {
        Attr::Value(raw) => Some(String::from_utf8_lossy(&raw).trim().to_owned()),
        Attr::Absent | Attr::Failed(_) => None,
    }
}
