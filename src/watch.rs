//! Operations that do not return. Who waits in the kernel for a dead disk or server can neither say so nor be stopped, so
//! operations are noted while they are under way, and somebody else looks at them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where an operation acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpPlace {
    /// The whole disk.
    Whole,
    /// First logical block, and length in bytes.
    Blocks(u64, u64),
    /// A file or folder of a share.
    Path(Arc<str>),
}

/// An operation that has not returned yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Tells it from all others of the same [`InFlightOps`].
    pub number: u64,
    /// The disk's name, or server and path of the share.
    pub device: Arc<str>,
    /// `read`, `write`, `fsync`, ...
    pub op: &'static str,
    /// Where on it.
    pub place: OpPlace,
    /// When it began, by the clock of the [`InFlightOps`].
    pub since: Duration,
}

impl fmt::Display for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.device, self.op)?;
        match &self.place {
            OpPlace::Whole => Ok(()),
            OpPlace::Blocks(lba, len) => write!(f, " of {len} bytes at LBA {lba}"),
            OpPlace::Path(path) => write!(f, " of '{path}'"),
        }
    }
}

/// Time since some fixed point.
type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// The operations that are under way on some disks, or on some shares.
pub struct InFlightOps {
    clock: Clock,
    /// How many began, and those that have not ended, in the order in which they began.
    flying: Mutex<(u64, BTreeMap<u64, InFlight>)>,
    is_given_up: AtomicBool,
}

impl InFlightOps {
    /// None yet; times are those of this clock.
    pub fn new(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        InFlightOps { clock: Box::new(clock), flying: Mutex::default(), is_given_up: AtomicBool::new(false) }
    }

    /// The operation that has been under way for longest.
    pub fn oldest(&self) -> Option<InFlight> {
        let flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
        flying.1.values().next().cloned()
    }

    /// From now on every operation fails, also one that comes back after all: everybody was told that it is over.
    pub fn give_up(&self) {
        self.is_given_up.store(true, SeqCst);
    }

    fn check(&self, device: &str) -> io::Result<()> {
        if self.is_given_up.load(SeqCst) {
            let what = format!("{device} did not answer and was given up");
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        Ok(())
    }

    /// Does `work`, noted meanwhile.
    ///
    /// # Errors
    /// Those of `work`; `TimedOut` from [`InFlightOps::give_up`] on.
    pub fn watch<T>(
        &self,
        device: &Arc<str>,
        op: &'static str,
        place: OpPlace,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        self.check(device)?;
        let number = {
            let since = (self.clock)();
            let mut flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
            flying.0 += 1;
            let number = flying.0;
            flying.1.insert(number, InFlight { number, device: device.clone(), op, place, since });
            number
        };
        let result = work();
        self.flying.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&number);
        self.check(device).and(result)
    }
}

/// What a look has found.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// An operation takes long.
    Slow(String),
    /// It has come back after all.
    Back(String),
    /// It does not come back.
    Hung(String),
}

/// After this an operation is worth a line, and again each time that as much has passed. Linux gives a disk 30 seconds for
/// a command by default.
const SLOW: Duration = Duration::from_secs(60);

/// Decides from one look after the other.
pub struct Watch {
    /// How long an operation may take.
    limit: Duration,
    /// Who is waited for.
    whom: &'static str,
    /// What was called slow, and at which age.
    said: Option<(InFlight, Duration)>,
}

impl Watch {
    /// Gives up what takes `limit` or longer; `whom` is waited for meanwhile: `the server`.
    pub fn new(limit: Duration, whom: &'static str) -> Watch {
        Watch { limit, whom, said: None }
    }

    /// Looks at what is under way for longest.
    pub fn look(&mut self, oldest: Option<InFlight>, now: Duration) -> Option<Finding> {
        let slow = SLOW.min(self.limit / 2);
        let age = |op: &InFlight| now.saturating_sub(op.since);
        let Some(oldest) = oldest.filter(|op| age(op) >= slow) else {
            let (op, _) = self.said.take()?;
            let text = format!("{} answers again, after {} s", op.device, age(&op).as_secs());
            return Some(Finding::Back(text));
        };
        let (age, limit) = (age(&oldest), self.limit.as_secs());
        let text = format!("{oldest} has not come back for {} s", age.as_secs());
        match &self.said {
            // Never at the first look: nobody may be told only that it is over.
            Some(_) if age >= self.limit => return Some(Finding::Hung(text)),
            Some((_, at)) if age < *at + SLOW => return None,
            _ => {}
        }
        self.said = Some((oldest, age));
        Some(Finding::Slow(format!("{text}: waiting for {}, for {limit} s at most", self.whom)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(number: u64, since: u64) -> Option<InFlight> {
        let (device, place) = ("srv:/b".into(), OpPlace::Path("10.0.0.1/sda.raw.gz.part".into()));
        Some(InFlight { number, device, op: "write", place, since: Duration::from_secs(since) })
    }

    #[test]
    fn what_hangs_is_said_every_minute_and_given_up_at_the_limit() {
        let mut watch = Watch::new(Duration::from_secs(900), "the server");
        let mut look = |oldest, now| watch.look(oldest, Duration::from_secs(now));
        let text = |age| format!("srv:/b: write of '10.0.0.1/sda.raw.gz.part' has not come back for {age} s");
        let slow = |age: u64| {
            Some(Finding::Slow(format!("{}: waiting for the server, for 900 s at most", text(age))))
        };
        assert_eq!(look(None, 5), None);
        assert_eq!(look(op(1, 10), 69), None);
        assert_eq!(look(op(1, 10), 70), slow(60));
        assert_eq!(look(op(1, 10), 73), None);
        assert_eq!(look(op(1, 10), 130), slow(120));
        assert_eq!(look(op(2, 139), 140), Some(Finding::Back("srv:/b answers again, after 130 s".into())));
        assert_eq!(look(None, 141), None);
        assert_eq!(look(op(3, 200), 5000), slow(4800), "said before it is given up, whatever the clock does");
        assert_eq!(look(op(3, 200), 5003), Some(Finding::Hung(text(4803))));
    }

    #[test]
    fn a_short_limit_is_said_before_it_is_over() {
        let mut watch = Watch::new(Duration::from_secs(20), "the disk");
        assert!(matches!(watch.look(op(1, 0), Duration::from_secs(10)), Some(Finding::Slow(_))));
        assert!(matches!(watch.look(op(1, 0), Duration::from_secs(20)), Some(Finding::Hung(_))));
    }

    #[test]
    fn the_oldest_is_seen_and_what_returns_is_forgotten() {
        let ops = InFlightOps::new(|| Duration::from_secs(7));
        let (disk, share): (Arc<str>, Arc<str>) = ("sda".into(), "srv:/b".into());
        let inner = || ops.watch(&share, "fsync", OpPlace::Path("x".into()), || Ok(ops.oldest()));
        let (seen, oldest) =
            ops.watch(&disk, "write", OpPlace::Blocks(2, 1024), || Ok((inner()?, ops.oldest()))).unwrap();
        assert_eq!(seen, oldest, "the one that began first, while the other is under way and after it");
        assert_eq!(oldest.unwrap().to_string(), "sda: write of 1024 bytes at LBA 2");
        assert_eq!(ops.oldest(), None);
    }

    #[test]
    fn what_comes_back_after_it_was_given_up_has_failed() {
        let ops = InFlightOps::new(Duration::default);
        let given_up = ops.watch(&"srv:/b".into(), "write", OpPlace::Whole, || {
            ops.give_up();
            Ok(())
        });
        assert_eq!(given_up.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(ops.watch(&"srv:/b".into(), "read", OpPlace::Whole, || Ok(())).is_err());
    }
}
