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
mod value;

pub use host::HostName;
pub use machine::{MacAddr, Uuid};
pub use percent::{decode as percent_decode, encode as percent_encode};
pub use signed::{JobSignature, SetHash};
pub use split::{Word, split};
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
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    format!("'{shown}'")
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
        assert_eq!(quoted(&"x".repeat(500)).chars().count(), 83);
    }
}
