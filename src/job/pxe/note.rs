//! The comment that says who has armed a machine, and when: for people, and for `testboxctl`. Nothing is decided by it.

use jiff::Timestamp;
use std::fmt;

/// What the line begins with.
const START: &str = "# by ";
/// What stands between who and when.
const AT: &str = " at ";
/// Longest name in bytes.
const NAME_LIMIT: usize = 120;
/// Lines of a file that are looked at.
const LINES: usize = 4;

/// Who has armed a machine, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmedBy {
    by: String,
    /// When, by the clock of whoever did.
    pub at: Timestamp,
}

impl ArmedBy {
    /// What of a name is neither a letter, a digit, a space nor one of `().,@:_-` becomes `?`: PXELINUX and GRUB read
    /// the line too.
    pub fn new(by: &str, at: Timestamp) -> ArmedBy {
        let plain = |c: char| match c {
            c if c.is_ascii_alphanumeric() || " ().,@:_-".contains(c) => c,
            _ => '?',
        };
        ArmedBy { by: by.chars().map(plain).take(NAME_LIMIT).collect(), at }
    }

    /// The one that stands at the head of a file, if any.
    pub fn of(text: &str) -> Option<ArmedBy> {
        let line = text.lines().take(LINES).find_map(|line| line.strip_prefix(START))?;
        let (by, at) = line.rsplit_once(AT)?;
        Some(ArmedBy::new(by, at.parse().ok()?))
    }

    /// Who it was.
    pub fn who(&self) -> &str {
        &self.by
    }
}

/// The line, without its end.
impl fmt::Display for ArmedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{START}{}{AT}{}", self.by, self.at.strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever an admin is called, his name stays in its line, and comes back.
        #[test]
        fn a_name_is_one_plain_line(by in any::<String>(), seconds in 0i64..4_000_000_000) {
            let note = ArmedBy::new(&by, Timestamp::from_second(seconds).unwrap());
            let line = note.to_string();
            prop_assert!(line.len() < 256 && line.bytes().all(|b| matches!(b, b' '..=b'~')), "{line:?}");
            prop_assert_eq!(ArmedBy::of(&format!("# testboxctl\n{line}\nDEFAULT x")), Some(note));
        }

        #[test]
        fn never_panics(text in any::<String>(), line in "# by .{0,40} at .{0,30}") {
            let _ = (ArmedBy::of(&text), ArmedBy::of(&line));
        }
    }
}
