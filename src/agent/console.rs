//! What a person sees on the machine's screen and serial port.
//!
//! Plain ASCII, 79 columns. A console never stops the agent: writes do not block, and a terminal that takes nothing
//! (flow control, a pulled cable) is passed over until it takes something again.
#![forbid(unsafe_code)]

use crate::share::safe_name;
use crate::text::{COLUMNS, ascii, cut, wrap};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A terminal that takes nothing for this long is stalled.
const STALL: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(2) };
/// One text is cut off after this long, however slowly it moves.
const TEXT_LIMIT: Duration = Duration::from_secs(10);

struct Terminal {
    name: String,
    file: File,
    /// The last text did not go out whole.
    stalled: bool,
}

impl Terminal {
    /// Writes as much as the terminal takes. Errors and time-outs only mark it.
    fn write(&mut self, bytes: &[u8]) {
        let start = Instant::now();
        let mut moved = start;
        // A line that was cut off must not run into this one.
        let mut left: Vec<u8> = if self.stalled { b"\n".to_vec() } else { Vec::new() };
        left.extend_from_slice(bytes);
        let mut left = left.as_slice();
        while !left.is_empty() {
            match self.file.write(left) {
                Ok(0) => break,
                Ok(n) => {
                    left = left.get(n..).unwrap_or_default();
                    moved = Instant::now();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && !self.stalled => {
                    if moved.elapsed() > STALL || start.elapsed() > TEXT_LIMIT {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                // Stalled before, hung up, or gone: the next text tries again, once.
                Err(_) => break,
            }
        }
        self.stalled = !left.is_empty();
    }
}

struct ConsoleState {
    terminals: Vec<Terminal>,
    /// A progress line is on the screen, without its newline.
    in_progress: bool,
}

/// All active consoles of the machine.
pub struct Console {
    state: Mutex<ConsoleState>,
}

impl Console {
    /// Opens the consoles that the kernel names in `<sys>/class/tty/console/active` (such as `tty0 ttyS0`) below
    /// `dev`; `<dev>/console` where that gives none; nothing where that fails too.
    pub fn open(sys: &Path, dev: &Path) -> Self {
        let mut names = String::new();
        // A sysfs file of one page at most; without it there is the fallback.
        if let Ok(file) = File::open(sys.join("class/tty/console/active")) {
            let _ = file.take(4096).read_to_string(&mut names);
        }
        let open = |name: &str| {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let name = safe_name(name).ok()?;
            let fd = rustix::fs::open(dev.join(name), flags, Mode::empty()).ok()?;
            Some((name.to_owned(), File::from(fd)))
        };
        let mut found: Vec<_> = names.split_ascii_whitespace().filter_map(open).collect();
        if found.is_empty() {
            found.extend(open("console"));
        }
        Self::new(found)
    }

    /// Writes to these files, named for [`Console::names`]. They should be non-blocking.
    pub fn new(files: Vec<(String, File)>) -> Self {
        let terminals =
            files.into_iter().map(|(name, file)| Terminal { name, file, stalled: false }).collect();
        Console { state: Mutex::new(ConsoleState { terminals, in_progress: false }) }
    }

    /// Writes nowhere.
    pub fn silent() -> Self {
        Self::new(Vec::new())
    }

    fn state(&self) -> MutexGuard<'_, ConsoleState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of the terminals that are written to.
    pub fn names(&self) -> Vec<String> {
        self.state().terminals.iter().map(|t| t.name.clone()).collect()
    }

    /// Writes a line of its own.
    pub fn line(&self, text: &str) {
        self.lines(&[text.to_owned()]);
    }

    /// Writes lines that stay together, such as [`banner`] and [`verdict`] make them.
    pub fn lines(&self, lines: &[String]) {
        let mut state = self.state();
        let mut text = String::new();
        if std::mem::take(&mut state.in_progress) {
            text.push('\n');
        }
        for line in lines {
            text.push_str(&ascii(line));
            text.push('\n');
        }
        state.terminals.iter_mut().for_each(|t| t.write(text.as_bytes()));
    }

    /// Shows a progress line in place of the last one.
    pub fn progress(&self, text: &str) {
        let mut state = self.state();
        state.in_progress = true;
        let text = format!("\r{:<COLUMNS$}", cut(&ascii(text), COLUMNS));
        state.terminals.iter_mut().for_each(|t| t.write(text.as_bytes()));
    }
}

/// A frame around texts; long ones are wrapped.
fn framed(corner: char, edge: char, side: &str, texts: &[String]) -> Vec<String> {
    let inner = COLUMNS - 2 * side.len();
    let rule = format!("{corner}{}{corner}", edge.to_string().repeat(COLUMNS - 2));
    let body = texts.iter().flat_map(|text| wrap(text, inner - 2));
    let body = body.map(|line| format!("{side} {line:<width$} {side}", width = inner - 2));
    [rule.clone()].into_iter().chain(body).chain([rule]).collect()
}

/// The frame that says who the machine is and what it is about to do.
pub fn banner(texts: &[String]) -> Vec<String> {
    framed('+', '-', "|", texts)
}

/// The frame with the end result: a large `DONE` or `FAILED`, and what to know about it.
pub fn verdict(is_done: bool, texts: &[String]) -> Vec<String> {
    let (word, sign) = if is_done { ("D O N E", '#') } else { ("F A I L E D", '!') };
    // The plain word too: people and scripts search logs for it.
    let plain = if is_done { "DONE" } else { "FAILED" };
    let mut all = vec![String::new(), word.to_owned(), String::new()];
    let first = texts.first().map_or(plain.to_owned(), |text| format!("{plain}: {text}"));
    all.push(first);
    all.extend(texts.iter().skip(1).cloned());
    framed(sign, sign, &sign.to_string().repeat(2), &all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::progress_line;
    use proptest::prelude::*;
    use std::io::Seek;

    /// A console on a file, and the file to read it from.
    fn on_file() -> (Console, File) {
        let file = tempfile::tempfile().unwrap();
        (Console::new(vec![("file".into(), file.try_clone().unwrap())]), file)
    }

    fn text(mut file: File) -> String {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn consoles_are_those_that_the_kernel_names() {
        let temp = tempfile::tempdir().unwrap();
        let (sys, dev) = (temp.path().join("sys"), temp.path().join("dev"));
        std::fs::create_dir_all(sys.join("class/tty/console")).unwrap();
        std::fs::create_dir(&dev).unwrap();
        for name in ["tty0", "ttyS0", "console", "x"] {
            std::fs::write(dev.join(name), "").unwrap();
        }
        let active = sys.join("class/tty/console/active");
        for (contents, expected) in [
            ("tty0 ttyS0\n", vec!["tty0", "ttyS0"]),
            ("tty0 ttyS9\n", vec!["tty0"]),
            ("ttyS9\n", vec!["console"]),
            ("../x\n", vec!["console"]),
            ("", vec!["console"]),
        ] {
            std::fs::write(&active, contents).unwrap();
            assert_eq!(Console::open(&sys, &dev).names(), expected, "{contents:?}");
        }
        std::fs::remove_file(&active).unwrap();
        assert_eq!(Console::open(&sys, &dev).names(), ["console"]);
        let silent = Console::open(&sys, &temp.path().join("none"));
        assert!(silent.names().is_empty());
        silent.line("to nobody");
    }

    #[test]
    fn a_terminal_that_takes_nothing_stops_neither_others_nor_agent() {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        let full = File::options().write(true).open("/dev/full").unwrap();
        let file = tempfile::tempfile().unwrap();
        let console = Console::new(vec![
            ("full".into(), full),
            ("socket".into(), writer),
            ("file".into(), file.try_clone().unwrap()),
        ]);
        let long = "x".repeat(1_000_000);
        console.line(&long);
        console.line("next");
        assert_eq!(text(file), format!("{long}\nnext\n"));
        assert!(console.state().terminals[1].stalled);
        drop(reader);
        console.line("the other end is gone");
    }

    #[test]
    fn a_line_after_a_progress_line_begins_on_a_new_one() {
        let (console, file) = on_file();
        console.progress("50%");
        console.progress("60%");
        console.line("done\x1b[2J\u{e4}");
        console.line("more");
        let pad = " ".repeat(COLUMNS - 3);
        assert_eq!(text(file), format!("\r50%{pad}\r60%{pad}\ndone\\u{{1b}}[2J\\u{{e4}}\nmore\n"));
    }

    #[test]
    fn frames_say_the_result_in_a_word_and_wrap() {
        let done = verdict(true, &["backup of 10.1.2.3, 2 disks".into(), "it restarts now".into()]);
        assert!(done.iter().any(|l| l.contains("D O N E")));
        assert!(done.iter().any(|l| l.contains("DONE: backup of 10.1.2.3, 2 disks")));
        let failed = verdict(false, &[format!("cannot mount {}", "/very/long".repeat(20))]);
        assert!(failed.iter().any(|l| l.contains("FAILED: cannot mount")));
        assert!(failed[0].starts_with("!!!"));
        assert_eq!(banner(&["a".into()])[1], format!("| a{} |", " ".repeat(74)));
    }

    proptest! {
        /// Whatever comes in, nothing is wider than the terminal, and all of it is printable ASCII.
        #[test]
        fn everything_fits_and_is_plain(label in "\\PC{0,120}", done: u64, total: u64, rate: u64, eta: Option<u32>) {
            let eta = eta.map(|s| Duration::from_secs(s.into()));
            let mut lines = vec![progress_line(&label, done, total, rate, eta)];
            lines.extend(banner(std::slice::from_ref(&label)));
            lines.extend(verdict(true, std::slice::from_ref(&label)));
            lines.extend(verdict(false, &[label.clone(), label]));
            for line in lines {
                prop_assert!(line.len() <= COLUMNS, "{}", line);
                prop_assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{}", line);
            }
        }
    }
}
