//! GUIDs as UEFI writes them (2.10, appendix A); SMBIOS 2.6 and later do so, too.
#![forbid(unsafe_code)]

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::str::FromStr;

/// A GUID, its bytes as they stand on a disk and in a variable: the first three fields little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

/// Where each pair of digits of the text stands among the bytes (RFC 4122, in the order of UEFI).
const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, at) in ORDER.into_iter().enumerate() {
            let dash = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{:02x}", self.0[at])?;
        }
        Ok(())
    }
}

/// A text that is not a GUID.
#[derive(Debug, thiserror::Error)]
#[error("not a GUID")]
pub struct NotAGuid;

impl FromStr for Guid {
    type Err = NotAGuid;

    fn from_str(text: &str) -> Result<Self, NotAGuid> {
        let mut guid = Guid::default();
        let digits: String = text.split('-').collect();
        if !digits.is_ascii() || digits.len() != 32 {
            return Err(NotAGuid);
        }
        for (i, at) in ORDER.into_iter().enumerate() {
            guid.0[at] = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|_| NotAGuid)?;
        }
        // Signs and dashes elsewhere were taken too.
        if guid.to_string() == text.to_ascii_lowercase() { Ok(guid) } else { Err(NotAGuid) }
    }
}

impl Serialize for Guid {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Guid {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
