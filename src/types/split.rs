//! A line split into words the way the kernel does it (`next_arg()` in the kernel's lib/cmdline.c).

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::char;
use nom::combinator::{eof, recognize};
use nom::multi::many1_count;
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

/// One word of a command line: `key`, or `key=value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// The word as it stands in the line, quotes included.
    pub text: &'a str,
    /// What is before the first `=`.
    pub key: &'a str,
    /// What is after it, without the quotes around it.
    pub value: Option<&'a str>,
    /// A quote was opened and never closed: the word reaches to the end of the line.
    pub unclosed: bool,
}

fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

/// A word: runs of anything but spaces and quotes, and quoted runs, in which spaces do not count.
fn raw_word(input: &str) -> IResult<&str, &str> {
    let bare = take_while1(|c| !is_space(c) && c != '"');
    let quoted = recognize(delimited(char('"'), take_while(|c| c != '"'), alt((tag("\""), eof))));
    preceded(take_while(is_space), recognize(many1_count(alt((bare, quoted))))).parse(input)
}

impl<'a> Word<'a> {
    fn new(text: &'a str) -> Self {
        let whole_is_quoted = text.starts_with('"');
        let mut word = text.strip_prefix('"').unwrap_or(text);
        if whole_is_quoted {
            word = word.strip_suffix('"').unwrap_or(word);
        }
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        let value = value.map(|v| match v.strip_prefix('"') {
            Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
            None => v,
        });
        let unclosed = text.matches('"').count() % 2 == 1;
        Word { text, key, value, unclosed }
    }
}

/// The words of one line, in order.
pub fn split(line: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Ok((after, text)) = raw_word(rest) {
        words.push(Word::new(text));
        rest = after;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn splits_as_next_arg_of_the_kernel() {
        let pairs = |line| split(line).iter().map(|w| (w.key, w.value)).collect::<Vec<_>>();
        assert_eq!(pairs(""), []);
        assert_eq!(pairs(" \t\n"), []);
        assert_eq!(pairs("ro quiet\n"), [("ro", None), ("quiet", None)]);
        assert_eq!(pairs("a=b=c d="), [("a", Some("b=c")), ("d", Some(""))]);
        assert_eq!(pairs("a=\"b c\" d"), [("a", Some("b c")), ("d", None)]);
        assert_eq!(pairs("\"a=b c\" d"), [("a", Some("b c")), ("d", None)]);
        assert_eq!(pairs("a=b\"c d\"e f"), [("a", Some("b\"c d\"e")), ("f", None)]);
        assert_eq!(pairs("a=\"b c d"), [("a", Some("b c d"))]);
        assert_eq!(pairs("-- x"), [("--", None), ("x", None)]);
        assert!(split("a=\"b c d")[0].unclosed);
        assert!(!split("a=\"b c\"")[0].unclosed);
    }

    proptest! {
        #[test]
        fn never_panics_and_loses_nothing_but_spaces(line in any::<String>()) {
            let strip = |s: &str| s.chars().filter(|c| !is_space(*c)).collect::<String>();
            let joined: String = split(&line).iter().map(|w| w.text).collect();
            prop_assert_eq!(strip(&joined), strip(&line));
        }
    }
}
