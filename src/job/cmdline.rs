//! The kernel command line, and everything else that is written in its grammar: the APPEND line of a PXELINUX
//! file and the file `testbox.cfg/<id>`.
//!
//! Parsing is total: whatever is wrong with a testbox word is a sentence in [`Cmdline::problems`]. A command
//! line with problems must not be acted on.
#![forbid(unsafe_code)]

use super::choices::UnionKind;
use super::options::{OPTIONS, Options, set};

use crate::job::Action;
use crate::text::quoted;
use crate::types::{
    JobId, JobSignature, MacAddr, ParameterError, Word, code_point, hidden_break, lines, looks_like_ours,
    odd_character, redacted, split,
};

/// A parsed command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cmdline {
    /// `testbox.action=<action>` or `testbox-action-<action>`; `None` also where several contradict.
    pub action: Option<Action>,
    /// `testbox.job=`.
    pub job: Option<JobId>,
    /// `testbox.signature=`: the signature over the job; it counts for the words beside it.
    pub signature: Option<JobSignature>,
    /// The other testbox words.
    pub options: Options,
    /// `boot=`: the boot mode of initramfs-tools, `nfs` or `testbox`.
    pub boot: Option<String>,
    /// `ip=`; see [`crate::net::netconf::IpWord`].
    pub ip: Option<String>,
    /// `nfsroot=`.
    pub nfsroot: Option<String>,
    /// `BOOTIF=`: the NIC that PXE used.
    pub bootif: Option<MacAddr>,
    /// `panic=` seconds.
    pub panic: Option<i64>,
    /// What is wrong with the testbox words, one sentence each.
    pub problems: Vec<String>,
}

/// Every option, as the message about an unknown one lists them.
fn known() -> String {
    let names = OPTIONS.iter().map(|o| o.name);
    ["action", "job", "signature"].into_iter().chain(names).collect::<Vec<_>>().join(", ")
}

impl Cmdline {
    /// Parses `/proc/cmdline` or an APPEND line: words as the kernel splits them.
    pub fn parse(line: &str) -> Cmdline {
        let mut parser = WordParser::default();
        parser.line(line);
        parser.finish()
    }

    /// Parses the lines of a `testbox.cfg/<id>` file: testbox words and no others, and comments from a `#` that begins
    /// a word to the end of its line.
    pub fn parse_file(text: &str) -> Cmdline {
        let mut parser = WordParser { only_ours: true, ..WordParser::default() };
        for (at, line) in lines(text).enumerate() {
            if let Some(c) = hidden_break(line) {
                parser.problem(format!(
                    "line {}: the character {} ends no line; write a line feed",
                    at + 1,
                    code_point(c)
                ));
            }
            parser.line(without_comment(line));
        }
        parser.finish()
    }

    /// The words on an APPEND line, with what is wrong in the rest of its file.
    pub(crate) fn parse_append(line: &str, wrong: &[String]) -> Cmdline {
        let mut parser = WordParser::default();
        wrong.iter().for_each(|sentence| parser.problem(sentence.clone()));
        parser.line(line);
        parser.finish()
    }
}

/// A word for a message, which goes into logs: its secrets stay out of them.
fn shown(word: &str) -> String {
    quoted(&redacted(word))
}

/// The part of `line` before a `#` at its beginning or after a space.
pub(crate) fn without_comment(line: &str) -> &str {
    let mut at_start = true;
    for (at, c) in line.char_indices() {
        if c == '#' && at_start {
            return line.get(..at).unwrap_or(line);
        }
        at_start = c.is_ascii_whitespace();
    }
    line
}

#[derive(Default)]
struct WordParser {
    out: Cmdline,
    action_words: Vec<String>,
    aufs_word: bool,
    after_dashes: bool,
    /// Words of the kernel and of other programs have no place here.
    only_ours: bool,
}

impl WordParser {
    fn line(&mut self, line: &str) {
        self.after_dashes = false;
        for word in split(line) {
            self.word(word);
        }
    }

    fn finish(mut self) -> Cmdline {
        if self.action_words.len() > 1 {
            let words = self.action_words.join(" and ");
            self.problem(format!("more than one action: {words}; exactly one must be given"));
            self.out.action = None;
        }
        if self.aufs_word {
            self.out.options.union.get_or_insert(UnionKind::Aufs);
        }
        self.out
    }

    fn problem(&mut self, sentence: String) {
        // A hostile line must not fill the memory with messages about itself.
        if self.out.problems.len() < 32 {
            self.out.problems.push(sentence);
        }
    }

    fn word(&mut self, word: Word<'_>) {
        let key = word.key;
        let is_ours = looks_like_ours(key);
        if let Some(c) = odd_character(word.text).or_else(|| key.chars().find(|c| !c.is_ascii())) {
            return self.problem(format!(
                "{}: the character {} has no place in it; write it again, in ASCII",
                shown(word.text),
                code_point(c)
            ));
        }
        if word.unclosed && word.text.contains("testbox") {
            return self.problem(format!("the quote in {} is never closed", shown(word.text)));
        }
        if is_ours && self.after_dashes {
            return self.problem(format!(
                "{} stands after '--', where the kernel hands words to init; it must stand before",
                shown(word.text)
            ));
        }
        if let Some(name) = key.strip_prefix("testbox-action-") {
            self.action(&word, name, word.value.is_none());
        } else if let Some(option) = key.strip_prefix("testbox.") {
            match word.value {
                Some(value) => self.option(&word, option, value),
                None => self.problem(format!(
                    "{} has no value; testbox words are testbox.NAME=VALUE with NAME one of {}",
                    shown(word.text),
                    known()
                )),
            }
        } else if is_ours {
            self.problem(format!(
                "{}: unknown; testbox words are testbox.NAME=VALUE with NAME one of {}",
                shown(word.text),
                known()
            ));
        } else if self.only_ours {
            self.problem(format!(
                "{} is not a testbox word, and only those may stand here",
                shown(word.text)
            ));
        } else if !self.after_dashes {
            self.kernel_word(key, word.value);
        }
    }

    /// The words that the kernel and initramfs-tools know; of several, the last counts, as in its init.
    fn kernel_word(&mut self, key: &str, value: Option<&str>) {
        match (key, value) {
            ("--", None) => self.after_dashes = true,
            ("boot", Some(v)) => self.out.boot = Some(v.to_owned()),
            ("ip", Some(v)) => self.out.ip = Some(v.to_owned()),
            ("nfsroot", Some(v)) => self.out.nfsroot = Some(v.to_owned()),
            (key, Some(v)) if key.eq_ignore_ascii_case("BOOTIF") => self.out.bootif = v.parse().ok(),
            ("panic", Some(v)) => self.out.panic = v.parse().ok(),
            ("aufs", Some(v)) => self.aufs_word = v == "tmpfs",
            _ => {}
        }
    }

    fn action(&mut self, word: &Word<'_>, name: &str, well_formed: bool) {
        self.action_words.push(shown(word.text));
        match name.parse::<Action>() {
            Ok(action) if well_formed => self.out.action = Some(action),
            Ok(_) => self.problem(format!("{} must stand without a value", shown(word.text))),
            Err(_) => {
                let known = Action::ALL.map(Action::as_str).join(", ");
                self.problem(format!("{}: unknown action; it must be one of {known}", shown(word.text)));
            }
        }
    }

    fn option(&mut self, word: &Word<'_>, option: &str, value: &str) {
        let result = match option {
            "action" => {
                self.action(word, value, true);
                Ok(())
            }
            "job" => set(&mut self.out.job, value.parse()),
            "signature" => set(&mut self.out.signature, value.parse()),
            _ => self.out.options.set(option, value).unwrap_or_else(|| {
                Err(ParameterError::new(format!(
                    "unknown; testbox words are testbox.NAME= with NAME one of {}",
                    known()
                )))
            }),
        };
        if let Err(e) = result {
            self.problem(format!("{}: {e}", shown(word.text)));
        }
    }
}

#[cfg(test)]
mod tests;
