//! Standard output and standard error of a program that must not panic when nobody reads them.

use super::Error;
use crate::store::lease::Tell;
use crate::text::{is_plain, plain};
use jiff::Timestamp;
use rustix::termios::{Winsize, tcgetwinsize};
use serde_json::Value;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Where the answer of a command goes.
pub(super) struct Out {
    to: Box<dyn Write>,
}

impl Out {
    /// The process's standard output, unbuffered.
    pub fn stdout() -> Self {
        // The standard library's own handle looks for newlines in all that passes; an image has no lines.
        match io::stdout().as_fd().try_clone_to_owned() {
            Ok(fd) => Out { to: Box::new(std::fs::File::from(fd)) },
            Err(_) => Out { to: Box::new(io::stdout()) },
        }
    }

    /// Writes text as it is: only what this program wrote itself.
    pub fn text(&mut self, text: &str) -> Result<(), Error> {
        self.to.write_all(text.as_bytes()).map_err(|e| closed_or(&e))
    }

    /// Writes one line, and nothing that a terminal acts on, wherever the text came from.
    pub fn line(&mut self, text: impl AsRef<str>) -> Result<(), Error> {
        self.text(&format!("{}\n", plain(text.as_ref())))
    }

    /// Writes JSON: in one line, or laid out for people.
    pub fn json(&mut self, value: &Value, in_one_line: bool) -> Result<(), Error> {
        let text = if in_one_line { value.to_string() } else { format!("{value:#}") };
        self.text(&format!("{}\n", printable(&text)))
    }

    /// Writes what a command has come to: for programs, or in lines.
    pub fn result(&mut self, is_json: bool, value: &Value, lines: &[String]) -> Result<(), Error> {
        match is_json {
            true => self.json(value, false),
            false => lines.iter().try_for_each(|line| self.line(line)),
        }
    }

    /// For what writes bytes itself; its errors go through [`closed_or`].
    pub fn bytes(&mut self) -> &mut dyn Write {
        &mut *self.to
    }
}

/// What an error of standard output means.
pub(super) fn closed_or(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Error::Closed,
        _ => Error::failed(format!("cannot write to standard output: {error}")),
    }
}

/// JSON with all that is not plain escaped: serde_json leaves DEL and U+0080 to U+009F as they are, and terminals act
/// on them. Outside strings JSON has none but the newlines of its layout.
pub(super) fn printable(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || is_plain(c) {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

/// Lines on standard error, of plain text as in [`Out::line`]. That they cannot be written stops nothing.
pub(super) fn say(text: &str) {
    let lines: Vec<String> = text.split('\n').map(plain).collect();
    let _ = writeln!(io::stderr(), "{}", lines.join("\n"));
}

/// A warning on standard error.
pub(super) fn warn(text: &str) {
    say(&format!("warning: {text}"));
}

/// The server's log: standard error, which systemd keeps.
pub(super) struct Stderr;

impl Tell for Stderr {
    fn info(&self, text: &str) {
        say(&format!("{} info: {text}", Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ")));
    }

    fn warn(&self, text: &str) {
        say(&format!("{} warning: {text}", Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ")));
    }
}

static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Nothing of how far work is goes to standard error from now on.
pub(super) fn be_quiet() {
    IS_QUIET.store(true, Relaxed);
}

/// Somebody has asked for that.
pub(super) fn is_quiet() -> bool {
    IS_QUIET.load(Relaxed)
}

/// Columns of the terminal: of standard error, or else of standard output; 80 where neither is one.
pub(super) fn columns() -> usize {
    let of =
        |size: rustix::io::Result<Winsize>| size.ok().map(|size| usize::from(size.ws_col)).filter(|n| *n > 0);
    of(tcgetwinsize(io::stderr())).or_else(|| of(tcgetwinsize(io::stdout()))).unwrap_or(80)
}

/// Initialises the log of `testboxctl`: warnings on standard error, everything with `verbose`.
pub fn init_for_cli(verbose: bool) {
    let level = if verbose { log::LevelFilter::Debug } else { log::LevelFilter::Warn };
    let logger = simple_logger::SimpleLogger::new().with_level(level);
    // It warns of each call of the kernel that a read-only folder has no answer to.
    let logger = if verbose { logger } else { logger.with_module_level("fuser", log::LevelFilter::Error) };
    let logger = if verbose { logger.with_utc_timestamps() } else { logger.without_timestamps() };
    // It fails only where a logger is there already: that one stays.
    let _ = logger.init();
}
