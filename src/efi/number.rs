//! The numbers of boot entries.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::str::FromStr;

/// The number of a boot entry: `0003` of the variable `Boot0003`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootNumber(pub u16);

impl BootNumber {
    /// Name of its variable.
    pub fn variable(self) -> String {
        format!("Boot{self}")
    }

    /// The number of the entry in the variable of this name; `None` for other variables.
    pub fn of_variable(name: &str) -> Option<Self> {
        name.strip_prefix("Boot")?.parse().ok()
    }
}

impl fmt::Display for BootNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}", self.0)
    }
}

/// A text that is not the number of a boot entry.
#[derive(Debug, thiserror::Error)]
#[error("not four hex digits")]
pub struct NotANumber;

impl FromStr for BootNumber {
    type Err = NotANumber;

    fn from_str(text: &str) -> Result<Self, NotANumber> {
        let is_hex = text.len() == 4 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = is_hex.then(|| u16::from_str_radix(text, 16).ok()).flatten();
        number.map(BootNumber).ok_or(NotANumber)
    }
}

impl Serialize for BootNumber {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BootNumber {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
