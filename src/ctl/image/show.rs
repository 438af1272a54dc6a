//! What a person sees while the engine works, and afterwards.

use crate::progress::{Meter, Progress};
use crate::text::{COLUMNS, human_bytes, progress_line};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Runs `work` and says how long it took; meanwhile there is a progress line on standard error, where that is a
/// terminal.
pub fn timed<T>(label: &str, progress: &Progress, work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    if !io::stderr().is_terminal() {
        let done = work();
        return (done, start.elapsed());
    }
    let (stop, stopped) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut meter = Meter::new();
            while stopped.recv_timeout(Duration::from_millis(500)) == Err(RecvTimeoutError::Timeout) {
                let (done, total) = (progress.done.load(Relaxed), progress.total.load(Relaxed));
                meter.update(start.elapsed(), progress);
                let line = progress_line(label, done, total, meter.rate(), meter.eta(total));
                let _ = write!(io::stderr(), "\r{line:<COLUMNS$}");
            }
            let _ = write!(io::stderr(), "\r{:<COLUMNS$}\r", "");
        });
        let done = work();
        drop(stop);
        (done, start.elapsed())
    })
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
