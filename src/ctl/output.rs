//! Standard output and standard error of a program that must not panic when nobody reads them.

use super::Error;
use std::io::{self, Write};
use std::os::fd::AsFd;

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

    /// Writes text as it is.
    pub fn text(&mut self, text: &str) -> Result<(), Error> {
        self.to.write_all(text.as_bytes()).map_err(|e| closed_or(&e))
    }

    /// Writes one line.
    pub fn line(&mut self, text: impl AsRef<str>) -> Result<(), Error> {
        self.text(&format!("{}\n", text.as_ref()))
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

/// One line on standard error. That it cannot be written stops nothing.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A warning on standard error.
pub(super) fn warn(text: &str) {
    say(&format!("warning: {text}"));
}
