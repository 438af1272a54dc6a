//! Where a file is on the TFTP server.

use super::{ParameterError, percent_decode, percent_encode};
use crate::text::{is_printable, quoted};
use std::fmt;
use std::str::FromStr;

/// Longest path in bytes: with `octet` and four options it fits the request of 512 bytes that every server takes.
const LENGTH_MAX: usize = 255;

/// The path of a file below the root of the TFTP server, which is the root of the TFTP share: names of printable ASCII
/// between single slashes, none of them `.` or `..`, 255 bytes at most. As a word it is percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TftpPath(String);

impl TftpPath {
    /// The path, decoded, without a slash before it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path without its folders.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for TftpPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&percent_encode(&self.0))
    }
}

impl FromStr for TftpPath {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let path = percent_decode(text)?;
        let is_name = |name: &str| !matches!(name, "" | "." | "..");
        let is_plain = path.chars().all(|c| is_printable(c) && c != '\\');
        if path.len() <= LENGTH_MAX && is_plain && path.split('/').all(is_name) {
            return Ok(TftpPath(path));
        }
        Err(ParameterError::new(format!(
            "{} is not a path below the TFTP root such as pxelinux.cfg/0A28292A (printable, at most {LENGTH_MAX} bytes, \
             no '/' before it, no '.' or '..' in it)",
            quoted(text)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tftp_path_stays_below_the_root() {
        for (text, path, name) in [
            ("pxelinux.cfg/0A28292A", "pxelinux.cfg/0A28292A", "0A28292A"),
            (
                "menu%20bios/pxelinux.cfg/01-52-54-00-12-34-56",
                "menu bios/pxelinux.cfg/01-52-54-00-12-34-56",
                "01-52-54-00-12-34-56",
            ),
            ("x", "x", "x"),
        ] {
            let parsed: TftpPath = text.parse().unwrap();
            assert_eq!(
                (parsed.as_str(), parsed.file_name(), parsed.to_string().as_str()),
                (path, name, text)
            );
        }
        let long = "x".repeat(256);
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "a/.", "../a", "a/../b", "a\\b", "a%5Cb", "%2e%2e/a", "a%00",
            "a%0A", "ü", "%zz", &long,
        ] {
            assert!(bad.parse::<TftpPath>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_parses_back(text in any::<String>(), near in "[./%a-f0-9\\\\ ]{0,12}") {
            for text in [text, near] {
                if let Ok(path) = text.parse::<TftpPath>() {
                    prop_assert!(path.as_str().split('/').all(|name| !name.is_empty() && name != ".."));
                    prop_assert_eq!(path.to_string().parse(), Ok(path));
                }
            }
        }
    }
}
