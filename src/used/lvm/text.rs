//! The text of LVM2's metadata: sections of `key = value` (lvm.conf(5), "SYNTAX").
#![forbid(unsafe_code)]

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{is_not, take_while1};
use nom::character::complete::{char, i64, multispace1, none_of};
use nom::combinator::{map, recognize, value};
use nom::multi::{many0_count, separated_list0};
use nom::sequence::{delimited, pair, preceded, separated_pair, terminated};
use nom::{IResult, error::Error};
use std::collections::BTreeMap;

/// Sections inside each other; LVM writes four.
const MAX_DEPTH: usize = 8;
/// Values and sections of a text: with it the memory is bounded, at some tens of MiB.
const MAX_ITEMS: usize = 300_000;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LvmValue<'a> {
    Number(i64),
    /// As it stands between the quotes.
    Text(&'a str),
    List(Vec<LvmValue<'a>>),
}

/// A section: what stands between braces, or the whole text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section<'a> {
    pub(super) values: BTreeMap<&'a str, LvmValue<'a>>,
    pub(super) sections: BTreeMap<&'a str, Section<'a>>,
}

impl<'a> Section<'a> {
    /// A number that is not negative.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            LvmValue::Number(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        match self.values.get(key)? {
            LvmValue::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn list(&self, key: &str) -> Option<&[LvmValue<'a>]> {
        match self.values.get(key)? {
            LvmValue::List(list) => Some(list),
            _ => None,
        }
    }

    /// Whether the list `key` holds nothing but these words. An absent list holds nothing.
    pub(super) fn only(&self, key: &str, words: &[&str]) -> bool {
        let known = |value: &LvmValue<'_>| matches!(value, LvmValue::Text(text) if words.contains(text));
        self.values
            .get(key)
            .is_none_or(|value| matches!(value, LvmValue::List(list) if list.iter().all(known)))
    }

    /// Whether there are no values but these.
    pub(super) fn only_keys(&self, keys: &[&str]) -> bool {
        self.values.keys().all(|key| keys.contains(key))
    }

    /// Every text in it, at any depth.
    pub(super) fn texts(&self) -> Vec<&'a str> {
        let mut texts = Vec::new();
        let mut sections = vec![self];
        while let Some(section) = sections.pop() {
            sections.extend(section.sections.values());
            for value in section.values.values() {
                match value {
                    LvmValue::Text(text) => texts.push(*text),
                    LvmValue::List(list) => texts.extend(list.iter().filter_map(|item| match item {
                        LvmValue::Text(text) => Some(*text),
                        _ => None,
                    })),
                    LvmValue::Number(_) => {}
                }
            }
        }
        texts
    }
}

/// What a text is made of.
enum Statement<'a> {
    Open(&'a str),
    Close,
    Set(&'a str, LvmValue<'a>),
}

/// Space and comments.
fn space(input: &str) -> IResult<&str, ()> {
    let comment = preceded(char('#'), many0_count(none_of("\n")));
    value((), many0_count(alt((value((), multispace1), value((), comment))))).parse(input)
}

fn word(input: &str) -> IResult<&str, &str> {
    take_while1(|c: char| c.is_ascii_alphanumeric() || "_-+.@/".contains(c)).parse(input)
}

fn quoted(input: &str) -> IResult<&str, &str> {
    let piece = alt((value((), is_not("\"\\")), value((), pair(char('\\'), none_of("\n")))));
    delimited(char('"'), recognize(many0_count(piece)), char('"')).parse(input)
}

fn scalar(input: &str) -> IResult<&str, LvmValue<'_>> {
    alt((map(quoted, LvmValue::Text), map(i64, LvmValue::Number))).parse(input)
}

fn any_value(input: &str) -> IResult<&str, LvmValue<'_>> {
    let comma = (space, char(','), space);
    let list = delimited((char('['), space), separated_list0(comma, scalar), (space, char(']')));
    alt((scalar, map(list, LvmValue::List))).parse(input)
}

fn statement(input: &str) -> IResult<&str, Statement<'_>> {
    let set = separated_pair(word, (space, char('='), space), any_value);
    alt((
        map(char('}'), |_| Statement::Close),
        map(set, |(key, value)| Statement::Set(key, value)),
        map(terminated(word, (space, char('{'))), Statement::Open),
    ))
    .parse(input)
}

/// Reads a text. Errors say where it is not one.
pub(super) fn parse(text: &str) -> Result<Section<'_>, String> {
    let wrong = |rest: &str, why: &str| {
        let line = text.len().saturating_sub(rest.len());
        format!("line {} of its metadata: {why}", text.get(..line).unwrap_or_default().lines().count().max(1))
    };
    let mut open: Vec<(&str, Section<'_>)> = vec![("", Section::default())];
    let mut items = 0;
    let mut rest = skip(text);
    while !rest.is_empty() {
        let (after, found) = statement(rest).map_err(|_: nom::Err<Error<&str>>| wrong(rest, "unreadable"))?;
        let fresh = match found {
            Statement::Open(name) => {
                items += 1;
                open.push((name, Section::default()));
                open.len() <= MAX_DEPTH
            }
            Statement::Close => {
                let (name, section) = open.pop().unwrap_or_default();
                let parent = open.last_mut().ok_or_else(|| wrong(rest, "a bracket too many"))?;
                parent.1.sections.insert(name, section).is_none()
            }
            Statement::Set(key, value) => {
                items += if let LvmValue::List(list) = &value { list.len() + 1 } else { 1 };
                open.last_mut().is_some_and(|section| section.1.values.insert(key, value).is_none())
            }
        };
        if !fresh || items > MAX_ITEMS {
            return Err(wrong(rest, "the same name twice, or too much of it"));
        }
        rest = skip(after);
    }
    match (open.pop(), open.pop()) {
        (Some((_, section)), None) => Ok(section),
        _ => Err(wrong(rest, "cut short")),
    }
}

fn skip(text: &str) -> &str {
    space(text).map_or(text, |(rest, ())| rest)
}
