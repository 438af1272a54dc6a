//! What a person sees while the engine works, and afterwards.

use super::super::output::{columns, is_quiet, say};
use crate::progress::{Meter, Progress};
use crate::sys::{is_ending, note_ending_signals};
use crate::text::{cut, human_bytes, progress_line};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Time between two lines where standard error is no terminal.
const LINES: Duration = Duration::from_secs(10);
/// Time between two looks at signals, and on a terminal between two lines.
const LOOK: Duration = Duration::from_millis(250);

/// Runs `work` and says how long it took. Meanwhile standard error shows how far it is: a terminal in one line, everything
/// else in a line every ten seconds, and nothing with `--quiet`. A signal that is to end the program ends the work in order.
pub fn timed<T>(label: &str, progress: &Progress, work: impl FnOnce() -> T) -> (T, Duration) {
    timed_until(label, progress, None, work)
}

/// The same, and ends the work at a time.
pub fn timed_until<T>(
    label: &str,
    progress: &Progress,
    end: Option<Instant>,
    work: impl FnOnce() -> T,
) -> (T, Duration) {
    let start = Instant::now();
    let mut shown = ShownProgress::new(label, progress, io::stderr().is_terminal(), is_quiet());
    note_ending_signals();
    let (stop, stopped) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if is_ending() || end.is_some_and(|end| Instant::now() >= end) {
                    progress.cancel();
                }
                match (shown.at(start.elapsed()), shown.how) {
                    (Some(line), ShowHow::Terminal) => {
                        let _ = write!(io::stderr(), "\r\x1b[K{}", within(&line, columns()));
                    }
                    (Some(line), _) => say(&line),
                    (None, _) => {}
                }
            }
            if shown.how == ShowHow::Terminal {
                let _ = write!(io::stderr(), "\r\x1b[K");
            }
        });
        let done = work();
        drop(stop);
        (done, start.elapsed())
    })
}

/// Where progress goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShowHow {
    Terminal,
    Lines,
    Nowhere,
}

/// How far work is, looked at again and again.
struct ShownProgress<'a> {
    label: &'a str,
    progress: &'a Progress,
    how: ShowHow,
    meter: Meter,
    /// When a line was said, since the beginning.
    said: Duration,
}

impl<'a> ShownProgress<'a> {
    fn new(label: &'a str, progress: &'a Progress, is_terminal: bool, is_quiet: bool) -> ShownProgress<'a> {
        let how = match (is_quiet, is_terminal) {
            (true, _) => ShowHow::Nowhere,
            (false, true) => ShowHow::Terminal,
            (false, false) => ShowHow::Lines,
        };
        ShownProgress { label, progress, how, meter: Meter::new(), said: Duration::ZERO }
    }

    /// The line that is due so long after the beginning, if one is.
    fn at(&mut self, now: Duration) -> Option<String> {
        self.meter.update(now, self.progress);
        let is_due = match self.how {
            ShowHow::Terminal => true,
            ShowHow::Lines => now.saturating_sub(self.said) >= LINES,
            ShowHow::Nowhere => false,
        };
        is_due.then(|| {
            self.said = now;
            let (done, total) = (self.progress.done.load(Relaxed), self.progress.total.load(Relaxed));
            progress_line(self.label, done, total, self.meter.rate(), self.meter.eta(total))
        })
    }
}

/// A line of progress for a terminal of so many columns: figures that have no room are left out, the one of which there is
/// least to say first. The last column stays free: some terminals wrap after it.
fn within(line: &str, columns: usize) -> String {
    let mut parts: Vec<&str> = line.split("  ").filter(|part| !part.is_empty()).collect();
    let length = |parts: &[&str]| parts.iter().map(|part| part.len() + 2).sum::<usize>().saturating_sub(2);
    while length(&parts) >= columns && parts.len() > 2 {
        // Bytes, then the rate; the percentage and the time that is left stay longest.
        let least = parts.iter().position(|part| part.contains(" of ")).unwrap_or(parts.len() - 2);
        parts.remove(least.max(1));
    }
    cut(&parts.join("  "), columns.saturating_sub(1)).to_owned()
}

/// `512.3 MB/s, 21.0 s` for so many bytes of disk, without zeros and what is not imaged.
pub fn speed(bytes: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64().max(0.001);
    format!("{:.1} MB/s, {:.1} s", bytes as f64 / 1e6 / seconds, seconds)
}

/// How large the image is beside the data that it holds, all of the disk but zeros and what is unallocated.
pub fn ratio(disk: u64, empty: u64, image: u64) -> String {
    match disk.saturating_sub(empty) {
        0 => "no data in it".to_owned(),
        data => {
            format!("{} of data in it, ratio {:.2}", human_bytes(data), data as f64 / image.max(1) as f64)
        }
    }
}

/// Bytes that a file takes of its file system: less than its size where it has holes.
pub fn room_bytes(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|about| about.blocks().saturating_mul(512))
}

/// `7.2 MB of it holes`, which take no room where the file system can have them.
pub fn holes(bytes: u64) -> String {
    format!("{} of it holes", human_bytes(bytes))
}

/// `66.1 MB on its file system`.
pub fn room(path: &Path) -> String {
    let bytes = room_bytes(path).map_or_else(|| "unknown".to_owned(), human_bytes);
    format!("{bytes} on its file system")
}

/// `10.7 GB (10737418240 bytes)`.
pub fn size(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", human_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks four times a second: for a terminal a line each time, in a pipe one every ten seconds, and none with --quiet.
    #[test]
    fn progress_is_shown_as_often_as_its_reader_can_use_it() {
        let progress = Progress::new();
        progress.start(1 << 30);
        let lines = |is_terminal, is_quiet| {
            let mut shown = ShownProgress::new("verify sda", &progress, is_terminal, is_quiet);
            let looks = (1..=100).map(|n| LOOK * n);
            let lines: Vec<(Duration, String)> =
                looks.filter_map(|now| Some((now, shown.at(now)?))).collect();
            assert!(lines.iter().all(|(_, line)| line.starts_with("verify sda")), "{lines:?}");
            lines.into_iter().map(|(now, _)| now.as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(lines(true, false).len(), 100);
        assert_eq!(lines(false, false), [10_000, 20_000]);
        assert_eq!((lines(false, true).len(), lines(true, true).len()), (0, 0));
    }

    #[test]
    fn a_line_of_progress_fits_the_terminal() {
        let line = "create nvme0n1   41%  210.0 GB of 500.1 GB  512.3 MB/s  ETA 9:26";
        for (columns, expected) in [
            (80, "create nvme0n1   41%  210.0 GB of 500.1 GB  512.3 MB/s  ETA 9:26"),
            (64, "create nvme0n1   41%  512.3 MB/s  ETA 9:26"),
            (40, "create nvme0n1   41%  ETA 9:26"),
            (20, "create nvme0n1  ETA"),
            (1, ""),
        ] {
            let shown = within(line, columns);
            assert!(shown.len() < columns, "{columns}: {shown}");
            assert_eq!(shown.replace("   ", "  "), expected.replace("   ", "  "), "{columns}");
        }
    }
}
