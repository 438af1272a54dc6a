//! The small typed values that kernel words, configuration files and host names are made of.
//!
//! Each type is valid by construction: it is made by `parse::<T>()`, which takes nothing that could leave a
//! folder, a line or a kernel word.
#![forbid(unsafe_code)]

mod host;
mod machine;
mod percent;
mod signed;
mod split;
mod tftp_path;
mod value;

pub use host::HostName;
pub use machine::{MacAddr, Uuid};
pub use percent::{decode as percent_decode, encode as percent_encode};
pub use signed::{JobSignature, SetHash};
pub use split::{Word, split};
pub use tftp_path::TftpPath;
pub use value::{DiskName, DiskSelector, JobId, MapEntry, NfsSource};

/// Why a value is refused: what is wrong and what is allowed, as the end of a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WordError(pub String);

impl WordError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        WordError(text.into())
    }
}

/// Text from outside made fit for one line of a message: escaped, quoted, and cut after 80 characters.
pub fn quoted(text: &str) -> String {
    let mut shown = plain(&text.chars().take(80).collect::<String>());
    if text.chars().nth(80).is_some() {
        shown.push_str("...");
    }
    format!("'{shown}'")
}

/// True for what may stand in a log line and on a terminal: printable ASCII, and the letters and digits of any script.
/// Neither control characters (a terminal acts on them, a newline begins a forged line) nor line separators, marks
/// that turn the order of the text around, and what cannot be seen.
pub fn is_plain(c: char) -> bool {
    is_printable(c) || c.is_alphanumeric()
}

/// Text from outside as one line of [plain](is_plain) characters, the others as Rust's escapes: `\n`, `\u{1b}`.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) { out.push(c) } else { out.extend(c.escape_default()) }
    }
    out
}

/// True for a character that is printable ASCII, the space included.
pub(crate) fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_cannot_break_a_log_line() {
        assert_eq!(quoted("a\nb\u{1b}[2J"), "'a\\nb\\u{1b}[2J'");
        assert_eq!(quoted("\u{fffd}\u{202e}"), "'\\u{fffd}\\u{202e}'");
        assert_eq!(quoted(&"x".repeat(500)).chars().count(), 85);
    }

    /// A volume label, a serial number or a server's message is whatever somebody wrote there.
    #[test]
    fn plain_text_is_one_line_that_no_terminal_acts_on() {
        for (text, shown) in [
            ("Büro 2", "Büro 2"),
            ("ディスク", "ディスク"),
            ("a\nb\r\t", "a\\nb\\r\\t"),
            ("\u{1b}[2J\u{9b}1m\u{7f}\0", "\\u{1b}[2J\\u{9b}1m\\u{7f}\\u{0}"),
            ("\u{202e}\u{2066}\u{200b}\u{feff}", "\\u{202e}\\u{2066}\\u{200b}\\u{feff}"),
            ("\u{2028}\u{2029}\u{85}\u{a0}", "\\u{2028}\\u{2029}\\u{85}\\u{a0}"),
        ] {
            assert_eq!(plain(text), shown);
        }
    }
}
