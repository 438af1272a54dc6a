//! Whether a member that the base has is read from the share, or made once more: whichever takes less time.
//!
//! Only where the share cannot copy by itself. Over a fast link to a slow computer, or with a high level, reading is
//! quicker; else it costs what the other machines of the link lack. The image is as good either way. A bad member of the base is
//! noticed only where it is read: the action `verify` looks at all of them.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bytes of disk for which each way is tried before they are compared.
const FIRST: u64 = 16 << 20;
/// Older figures count half once so many bytes came in: links and disks are not the same all the time.
const MEMORY: u64 = 64 << 20;
/// One piece in so many goes the way that seems slower, to see whether that has changed.
const PROBE: u32 = 64;

/// What one way took lately.
#[derive(Debug, Default)]
struct Cost {
    bytes: u64,
    time: Duration,
}

impl Cost {
    fn note(&mut self, bytes: u64, time: Duration) {
        self.bytes += bytes;
        self.time += time;
        if self.bytes > MEMORY {
            self.bytes /= 2;
            self.time /= 2;
        }
    }

    /// Seconds for each byte of disk; none before it was tried.
    fn rate(&self) -> Option<f64> {
        (self.bytes >= FIRST).then(|| self.time.as_secs_f64() / self.bytes as f64)
    }
}

/// What both ways took; all threads share it.
#[derive(Debug, Default)]
pub(super) struct CheaperWay {
    reading: Mutex<Cost>,
    making: Mutex<Cost>,
    pieces: AtomicU32,
}

impl CheaperWay {
    /// True where the next member is to be read.
    pub fn is_reading(&self) -> bool {
        let rate = |cost: &Mutex<Cost>| cost.lock().unwrap_or_else(PoisonError::into_inner).rate();
        match (rate(&self.reading), rate(&self.making)) {
            (None, _) => true,
            (_, None) => false,
            (Some(reading), Some(making)) => {
                let is_probe = self.pieces.fetch_add(1, Relaxed).is_multiple_of(PROBE);
                (reading < making) != is_probe
            }
        }
    }

    /// A member of so many bytes of disk was read and proven.
    pub fn read(&self, bytes: u64, time: Duration) {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).note(bytes, time);
    }

    /// A member of so many bytes of disk was made.
    pub fn made(&self, bytes: u64, time: Duration) {
        self.making.lock().unwrap_or_else(PoisonError::into_inner).note(bytes, time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `pieces` of 1 MiB are read, at so many microseconds for reading and for making one.
    fn count(way: &CheaperWay, pieces: u32, reading: u64, making: u64) -> u32 {
        let one = |_: &u32| {
            let is_reading = way.is_reading();
            match is_reading {
                true => way.read(1 << 20, Duration::from_micros(reading)),
                false => way.made(1 << 20, Duration::from_micros(making)),
            }
            is_reading
        };
        (0..pieces).filter(one).count() as u32
    }

    #[test]
    fn members_go_the_quicker_way_and_a_change_is_noticed() {
        let way = CheaperWay::default();
        assert_eq!(count(&way, 32, 900, 300), 16, "each way is tried");
        assert_eq!(count(&way, 640, 900, 300), 10, "making is quicker: only probes are read");
        count(&way, 64 * 64 * 2, 100, 300);
        assert!(count(&way, 640, 100, 300) > 600, "the link has got quicker");
    }
}
