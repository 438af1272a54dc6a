//! Who a disk is, and when two are the same.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use std::fmt;

/// Who a disk is, whatever the kernel calls it today. Every text is trimmed and printable ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Serial number as the disk reports it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub serial: Option<String>,
    /// World wide name: `naa.…`, `eui.…`, `uuid.…`, `t10.…` or `nvme.…`, as the kernel's `wwid` spells it (those of
    /// ATA disks hold runs of spaces); `mmc.<CID>` for eMMC and SD.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wwn: Option<String>,
    /// Model name; describes, never identifies.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
}

impl Identity {
    /// True where a disk has a serial or a WWN that its maker has given it. That another disk has the same one is
    /// nothing that it can tell.
    pub fn is_unique(&self) -> bool {
        number(&self.serial).is_some() || number(&self.wwn).is_some()
    }

    /// True where both name the same physical disk. Model and serial must not contradict; a WWN decides over a
    /// missing serial. Case and runs of spaces differ between kernels and controllers, and do not count.
    ///
    /// One exception: kernels differ in whether an ATA disk with a real WWN shows that or the `t10.ATA` text made of
    /// model and serial, so those two spellings do not contradict, and the serial decides.
    pub fn is_same_disk(&self, other: &Identity) -> bool {
        let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        let model = |id: &Identity| id.model.as_deref().map(plain);
        let (serial, others) = (number(&self.serial), number(&other.serial));
        if differ(&model(self), &model(other)) || differ(&serial, &others) {
            return false;
        }
        match (number(&self.wwn), number(&other.wwn)) {
            (Some(a), Some(b)) if a == b || !is_ata_respelling(&a, &b) => a == b,
            _ => serial.is_some() && serial == others,
        }
    }
}

/// A serial or WWN in the spelling that is compared; `None` where it was never programmed.
fn number(text: &Option<String>) -> Option<String> {
    text.as_deref().filter(|text| is_programmed(text)).map(plain)
}

fn is_ata_respelling(a: &str, b: &str) -> bool {
    let pair = |a: &str, b: &str| a.starts_with("t10.ata_") && b.starts_with("naa.");
    pair(a, b) || pair(b, a)
}

/// What makers and bridges leave where nobody has written a number.
const PLACEHOLDERS: &[&str] = &[
    "none",
    "n/a",
    "na",
    "null",
    "nil",
    "unknown",
    "default",
    "empty",
    "invalid",
    "serial",
    "serialnumber",
    "sn",
    "notavailable",
    "notapplicable",
    "notspecified",
    "tobefilledbyo.e.m.",
    "defaultstring",
    "systemserialnumber",
];

/// False for what stands where a number was never programmed: all zeros, all ones, nothing readable, one character
/// again and again, the digits in their order, a word such as "None".
pub(super) fn is_programmed(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    let body = text.split_once('.').map_or(text.as_str(), |(_, body)| body);
    let body = body.strip_prefix("0x").unwrap_or(body);
    let digits: String = body.chars().filter(|c| !" -:.?_".contains(*c)).collect();
    let only = |c: char| digits.chars().all(|d| d == c);
    let again = digits.len() >= 8 && digits.chars().next().is_some_and(only);
    let rising = ["0123456789abcdef", "01234567890123456789", "12345678901234567890", "123456789abcdef"];
    let in_order = digits.len() >= 8 && rising.iter().any(|row| row.starts_with(&digits));
    let word: String = text.split([' ', '_', '-']).collect();
    !(digits.is_empty() || only('0') || again || in_order || PLACEHOLDERS.contains(&word.as_str()))
}

/// Lower case, and one `_` for each run of spaces.
fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split([' ', '_']).filter(|part| !part.is_empty()).collect();
    words.join("_").to_ascii_lowercase()
}

/// True where a person's `word` means this serial or WWN: case does not matter, and `_` stands for a run of spaces,
/// which neither a kernel command line nor a list of words can carry.
pub fn is_named_by(text: &str, word: &str) -> bool {
    !word.is_empty() && plain(text) == plain(word)
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model.as_deref().unwrap_or("unknown model"))?;
        match (&self.serial, &self.wwn) {
            (Some(serial), _) => write!(f, ", serial {serial}"),
            (None, Some(wwn)) => write!(f, ", wwn {wwn}"),
            (None, None) => f.write_str(", no serial"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serial(text: &str) -> Identity {
        Identity { serial: Some(text.into()), ..Identity::default() }
    }

    #[test]
    fn numbers_that_were_never_programmed_are_no_identity() {
        for text in [
            "",
            " ",
            "0",
            "0000",
            "0000000",
            "0x00000000",
            "eui.0000000000000000",
            "eui.ffffffffffffffff",
            "???",
            "None",
            " none ",
            "N/A",
            "To Be Filled By O.E.M.",
            "Not Available",
            "0123456789ABCDEF",
            "1234567890",
            "XXXXXXXX",
            "naa.0000000000000000",
        ] {
            assert!(!is_programmed(text), "{text}");
            let disk = serial(text);
            assert!(!disk.is_unique() && !disk.is_same_disk(&disk), "{text}");
            assert!(!Identity { wwn: disk.serial, ..Identity::default() }.is_unique(), "{text}");
        }
        for text in ["QM00001", "naa.5000000000000001", "F", "0x1234", "1111", "S3Z9NB0K", "T"] {
            assert!(is_programmed(text) && serial(text).is_same_disk(&serial(text)), "{text}");
        }
    }

    #[test]
    fn case_and_runs_of_spaces_tell_no_disks_apart() {
        for (a, b) in [("wd-1", "WD-1"), ("WD  A 1", "wd a 1"), (" WD", "WD ")] {
            assert!(serial(a).is_same_disk(&serial(b)), "{a:?} {b:?}");
        }
        assert!(!serial("WD-1").is_same_disk(&serial("WD-")));
        // A placeholder says nothing beside a name that does.
        let named = |wwn: &str, text: &str| Identity { wwn: Some(wwn.into()), ..serial(text) };
        assert!(named("naa.5001", "0000").is_same_disk(&named("naa.5001", "S1")));
        assert!(!named("naa.5001", "0000").is_same_disk(&named("naa.5002", "0000")));
    }
}
