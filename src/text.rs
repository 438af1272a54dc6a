//! Texts for a person: what may stand in a line of a log or a terminal, sizes, times, progress.
#![forbid(unsafe_code)]

use std::error::Error;
use std::time::Duration;

/// Width of everything that is formatted here: 80 columns less one, because some terminals wrap after the 80th.
pub const COLUMNS: usize = 79;

/// Everything but printable ASCII escaped, as Rust does it: `\n`, `\t`, `\u{e4}`.
pub fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            c => out.extend(c.escape_default()),
        }
    }
    out
}

/// What an error says, and all that are behind it: `sda: cannot flush: Input/output error (os error 5)`.
pub fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// The first `width` characters of an ASCII text.
pub(crate) fn cut(text: &str, width: usize) -> &str {
    text.get(..width).unwrap_or(text)
}

/// Bytes in the decimal units of disk makers: `500.1 GB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) / 100;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    while tenths >= 10_000 {
        tenths /= 1000;
        unit = units.next().unwrap_or(unit);
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// A time as `25:13` or `3:07:25`.
pub fn human_time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// One line on how far a step is, in at most 79 columns:
/// `backup sda   42%  210.0 GB of 500.1 GB  512.3 MB/s  ETA 9:26`.
///
/// `done` and `total` are bytes (`total` 0: unknown), `rate` is bytes per second.
pub fn progress_line(label: &str, done: u64, total: u64, rate: u64, eta: Option<Duration>) -> String {
    let mut figures = String::new();
    if total > 0 {
        // Rounded down: 100% is shown only when it is all.
        let percent = (u128::from(done) * 100 / u128::from(total)).min(100);
        figures += &format!("  {percent:>3}%  {} of {}", human_bytes(done), human_bytes(total));
    } else {
        figures += &format!("  {}", human_bytes(done));
    }
    figures += &format!("  {}.{} MB/s", rate / 1_000_000, rate / 100_000 % 10);
    if let Some(eta) = eta {
        // More than 99 hours says nothing but "stuck".
        figures += &format!("  ETA {}", human_time(eta.min(Duration::from_secs(99 * 3600))));
    }
    let label = ascii(label);
    let line = format!("{}{figures}", cut(&label, COLUMNS.saturating_sub(figures.len())));
    cut(&line, COLUMNS).to_owned()
}

/// Breaks a text into lines of at most `width` columns, at spaces where there are any.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in ascii(text).split(' ') {
        let mut word = word;
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        }
        while word.len() > width {
            let (head, tail) = word.split_at(width);
            lines.push(head.to_owned());
            word = tail;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// Text from outside made fit for one line of a message: escaped, quoted, and cut after 80 characters.
pub fn quoted(text: &str) -> String {
    quoted_within(80, text)
}

/// The same, cut after another number of characters.
pub fn quoted_within(limit: usize, text: &str) -> String {
    let mut shown = plain(&text.chars().take(limit).collect::<String>());
    if text.chars().nth(limit).is_some() {
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

/// The text with a `?` for each control character: for files of one line, which a program reads back.
pub(crate) fn without_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A label without control characters and without the blanks around it, or `None` where nothing is left of it.
pub(crate) fn label(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The [label] that stands in little-endian UTF-16.
pub(crate) fn utf16_label(bytes: &[u8]) -> Option<String> {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    label(&char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>())
}

/// True for a character that is printable ASCII, the space included.
pub(crate) fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// Why a value is refused: what is wrong and what is allowed, as the end of a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParameterError(pub String);

impl ParameterError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        ParameterError(text.into())
    }
}

/// An enum whose variants are the words of a testbox option.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every variant.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word on the kernel command line.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::text::ParameterError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|v| v.as_str() == text).ok_or_else(|| {
                    let allowed = [$($word,)+].join(", ");
                    let text = $crate::text::quoted(text);
                    $crate::text::ParameterError::new(format!("{text} is not one of {allowed}"))
                })
            }
        }
    };
}

pub(crate) use choice;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines() {
        let eta = |s| Some(Duration::from_secs(s));
        for (done, total, rate, eta, expected) in [
            (0, 1000, 0, None, "backup sda    0%  0 B of 1.0 kB  0.0 MB/s"),
            (
                210_000_000_000,
                500_107_862_016,
                512_345_678,
                eta(566),
                "backup sda   41%  210.0 GB of 500.1 GB  512.3 MB/s  ETA 9:26",
            ),
            (999, 1000, 1_000_000, eta(11_245), "backup sda   99%  999 B of 1.0 kB  1.0 MB/s  ETA 3:07:25"),
            (1000, 1000, 99_999, eta(0), "backup sda  100%  1.0 kB of 1.0 kB  0.0 MB/s  ETA 0:00"),
            (5_000_000, 0, 2_000_000, None, "backup sda  5.0 MB  2.0 MB/s"),
        ] {
            assert_eq!(progress_line("backup sda", done, total, rate, eta), expected);
        }
    }

    #[test]
    fn human_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_999, "999.9 kB"),
            (1_000_000, "1.0 MB"),
            (2_000_398_934_016, "2.0 TB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }

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

    #[test]
    fn labels() {
        assert_eq!(utf16_label(b"A\0\n\0\xe4\0 \0").as_deref(), Some("Aä"));
        assert_eq!(utf16_label(b"\0\xd8").as_deref(), Some("\u{fffd}"));
        assert_eq!(utf16_label(b""), None);
        assert_eq!(label(" \0 "), None);
    }
}
