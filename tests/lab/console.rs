//! The serial console of a machine: its log file, and waiting for what it says.

use super::poll;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lines of the log that a failure shows.
const TAIL: usize = 40;

/// A console log, and how far a scenario has followed it.
pub struct Console {
    path: PathBuf,
    /// Bytes of the readable text that waits have passed.
    seen: usize,
}

impl Console {
    /// Follows the log from its beginning; shows it on the screen too where `TESTBOX_LAB_SHOW` is set.
    pub fn new(path: &Path) -> Console {
        if std::env::var_os("TESTBOX_LAB_SHOW").is_some() {
            let path = path.to_owned();
            std::thread::spawn(move || show(&path));
        }
        Console { path: path.to_owned(), seen: 0 }
    }

    /// All that was said so far, without escape sequences.
    pub fn text(&self) -> String {
        readable(&std::fs::read(&self.path).unwrap_or_default())
    }

    /// Waits for the first of the patterns after what earlier waits have passed; which one it was.
    /// `ended` says that the machine is gone.
    pub fn wait_for_any(
        &mut self,
        patterns: &[&str],
        timeout: Duration,
        mut ended: impl FnMut() -> bool,
    ) -> usize {
        let found = poll(timeout, || {
            let over = ended();
            let text = self.text();
            let rest = text.get(self.seen..).unwrap_or_default();
            let first =
                patterns.iter().enumerate().filter_map(|(n, p)| Some((rest.find(p)? + p.len(), n))).min();
            if let Some((end, _)) = first {
                self.seen += end;
            }
            first.map(|(_, n)| Ok(n)).or_else(|| over.then_some(Err("the machine ended first")))
        });
        match found.unwrap_or(Err("nothing of it came in time")) {
            Ok(n) => n,
            Err(why) => self.fail(&format!("waiting {timeout:?} for {patterns:?}: {why}")),
        }
    }

    /// Ends the scenario with the tail of the log.
    pub fn fail(&self, why: &str) -> ! {
        let text = self.text();
        let lines: Vec<_> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        panic!("{why}\nconsole log {}, its end:\n{tail}", self.path.display());
    }
}

/// Text of a terminal stream: control sequences, NULs and carriage returns dropped.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            // CSI: parameters up to a final byte; any other escape is one byte.
            0x1b if rest.next() == Some(b'[') => {
                while rest.next().is_some_and(|b| !(0x40..=0x7e).contains(&b)) {}
            }
            b'\n' | b'\t' | 0x20..=0x7e => text.push(byte as char),
            _ => {}
        }
    }
    text
}

/// Copies the growing log to the screen. The colours of firmware and kernel go, their text stays.
fn show(path: &Path) {
    let mut file = None;
    let mut bytes = Vec::new();
    let mut shown = 0;
    loop {
        if file.is_none() {
            file = std::fs::File::open(path).ok();
        }
        if file.as_mut().is_some_and(|f| f.read_to_end(&mut bytes).is_ok()) {
            let text = readable(&bytes);
            let _ = std::io::stdout().write_all(&text.as_bytes()[shown.min(text.len())..]);
            let _ = std::io::stdout().flush();
            shown = text.len();
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
