//! Characters that make a text say something else than what a person sees: a restriction must not get lost in them.

/// The byte order mark that editors of other systems put before UTF-8 text.
const BOM: char = '\u{feff}';

/// `text` without one byte order mark before it.
pub fn without_bom(text: &str) -> &str {
    text.strip_prefix(BOM).unwrap_or(text)
}

/// The first character of a line, comments included, that a person may take for the end of the line and a parser does
/// not: a carriage return that no line feed follows, other control characters but the tab, Unicode's own separators.
pub fn hidden_break(line: &str) -> Option<char> {
    line.chars().find(|c| (c.is_control() && *c != '\t') || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// The first character of a word that has no place there: not printable ASCII, and not a letter or digit of any script.
/// A non-breaking space is one, and whatever has no width.
pub fn odd_character(word: &str) -> Option<char> {
    word.chars().find(|c| !crate::text::is_plain(*c))
}

/// A character as people look it up: `U+00A0`.
pub fn code_point(c: char) -> String {
    format!("U+{:04X}", u32::from(c))
}

/// The lines of a file: after a byte order mark, ended by line feeds, with or without a carriage return before them.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    without_bom(text).lines()
}

/// True where somebody may have meant a word of testbox: `testbox.disks`, `Testbox_Disks`, `test-box.disks`,
/// `testboxdisks`.
pub fn looks_like_ours(key: &str) -> bool {
    let letters: String = key.chars().filter(char::is_ascii_alphanumeric).take("testbox".len()).collect();
    letters.eq_ignore_ascii_case("testbox")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_order_mark_is_dropped_and_no_second() {
        assert_eq!(without_bom("\u{feff}a"), "a");
        assert_eq!(without_bom("\u{feff}\u{feff}a"), "\u{feff}a");
        assert_eq!(without_bom("a\u{feff}"), "a\u{feff}");
        assert_eq!(lines("\u{feff}a\r\nb\n").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn spellings_of_testbox_are_known() {
        for ours in [
            "testbox",
            "testbox.disks",
            "testbox_disks",
            "Testbox.Disks",
            "TESTBOXDISKS",
            "test-box.disks",
            "-testbox.x",
            "testbox-info",
        ] {
            assert!(looks_like_ours(ours), "{ours}");
        }
        for other in ["", "quiet", "mytestbox.action", "test", "testbo", "tbox.disks", "console"] {
            assert!(!looks_like_ours(other), "{other}");
        }
    }

    #[test]
    fn what_hides_in_a_line_is_found() {
        for (line, found) in [
            ("a b\t# Büro – 2", None),
            ("a\rb", Some('\r')),
            ("# a\u{b}b", Some('\u{b}')),
            ("a\0", Some('\0')),
            ("# a\u{2028}b", Some('\u{2028}')),
            ("# a\u{85}b", Some('\u{85}')),
        ] {
            assert_eq!(hidden_break(line), found, "{line:?}");
        }
        for odd in
            ['\u{a0}', '\u{200b}', '\u{feff}', '\u{ad}', '\u{202e}', '\u{fffd}', '\u{3000}', '\u{2011}', '\r']
        {
            assert_eq!(odd_character(&format!("a{odd}b")), Some(odd), "{odd:?}");
        }
        assert_eq!(odd_character("Büro2"), None);
    }
}
