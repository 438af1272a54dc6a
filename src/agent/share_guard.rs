//! Shares that do not answer. Mounts are hard, so an operation waits for its server for as long as it takes; that is
//! what a backup wants while a server restarts. Somebody else has to say so meanwhile, and to end the machine where
//! the server is gone for good: whoever waits in the kernel can do neither, and cannot be stopped.

use super::{Ending, Journal, policy};
use crate::failure::{Failure, Kind};
use crate::job::{OnError, RebootMode, Settings};
use crate::share::{Files, Flights, InFlight, WatchedFiles};
use crate::sys::{Reboot, System};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// After this the console says that the share does not answer, and again each time that as much has passed.
const SLOW: Duration = Duration::from_secs(60);

/// Watches the shares of one run, from a thread that never touches them.
pub struct ShareGuard {
    flights: Arc<Flights>,
    /// How the run was ended. Locked while that goes on.
    given_up: Arc<Mutex<Option<Ending>>>,
    _watching: mpsc::Sender<()>,
}

impl ShareGuard {
    /// Starts to watch, with a look every `tick`; until it is dropped.
    pub fn start(system: Arc<dyn System>, journal: &Journal, settings: &Settings, tick: Duration) -> Self {
        let clock = system.clone();
        let flights = Arc::new(Flights::new(move || clock.monotonic()));
        let given_up = Arc::new(Mutex::default());
        let (watching, stop) = mpsc::channel();
        let thread = Thread {
            flights: flights.clone(),
            given_up: given_up.clone(),
            system,
            journal: journal.clone(),
            settings: settings.clone(),
        };
        let spawned =
            std::thread::Builder::new().name("share-guard".into()).spawn(move || thread.run(tick, &stop));
        if let Err(e) = spawned {
            journal
                .warn(&format!("no thread to watch the shares, a server that is gone will not be told: {e}"));
        }
        ShareGuard { flights, given_up, _watching: watching }
    }

    /// The share `name`, watched from now on.
    pub fn watch(&self, name: &str, files: Arc<dyn Files>) -> Arc<dyn Files> {
        Arc::new(WatchedFiles::new(files, name, self.flights.clone()))
    }

    /// How the run was ended where a share hung; waits for that end while it goes on.
    pub fn given_up(&self) -> Option<Ending> {
        *self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Thread {
    flights: Arc<Flights>,
    given_up: Arc<Mutex<Option<Ending>>>,
    system: Arc<dyn System>,
    journal: Journal,
    settings: Settings,
}

impl Thread {
    fn run(&self, tick: Duration, stop: &mpsc::Receiver<()>) {
        let mut watch = Watch { limit: self.settings.share_wait, said: None };
        while stop.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
            match watch.look(self.flights.oldest(), self.system.monotonic()) {
                Some(Finding::Slow(text) | Finding::Back(text)) => self.journal.warn(&text),
                Some(Finding::Hung(failure)) => return self.give_up(&failure),
                None => {}
            }
        }
    }

    /// Ends the machine as after any other failure, but on the console only. No shell: its agent could not even end.
    fn give_up(&self, failure: &Failure) {
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        self.flights.give_up();
        let mut settings = self.settings.clone();
        if settings.on_error == OnError::Shell {
            settings.on_error = OnError::Hold;
        }
        let ending = policy::fail(&self.journal, &*self.system, &settings, failure, None, None);
        *given_up = Some(ending);
        if ending == Ending::Machine(RebootMode::Reboot)
            && let Err(e) = self.system.reboot(Reboot::Restart)
        {
            self.journal.warn(&format!("the kernel refuses to end the machine: {e}; holding"));
        }
    }
}

/// What a look has found.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Slow(String),
    Back(String),
    Hung(Failure),
}

/// Decides from one look after the other.
struct Watch {
    /// How long a share may be silent.
    limit: Duration,
    /// What was called slow, and at which age.
    said: Option<(InFlight, Duration)>,
}

impl Watch {
    fn look(&mut self, oldest: Option<InFlight>, now: Duration) -> Option<Finding> {
        let slow = SLOW.min(self.limit / 2);
        let age = |op: &InFlight| now.saturating_sub(op.since);
        let Some(oldest) = oldest.filter(|op| age(op) >= slow) else {
            let (op, _) = self.said.take()?;
            return Some(Finding::Back(format!(
                "{} answers again, after {} s",
                op.share,
                age(&op).as_secs()
            )));
        };
        let (age, limit) = (age(&oldest), self.limit.as_secs());
        let text = format!("{oldest} has not come back for {} s", age.as_secs());
        match &self.said {
            // Never at the first look: nobody may be told only that it is over.
            Some(_) if age >= self.limit => {
                let what = format!("{text}: the server is gone");
                let advice = "look at the server, its exports, the network and the cable. What is published is as it was. \
                              How long to wait is testbox.share-wait=.";
                return Some(Finding::Hung(Failure::new(Kind::ShareHung, what, advice)));
            }
            Some((_, at)) if age < *at + SLOW => return None,
            _ => {}
        }
        self.said = Some((oldest, age));
        Some(Finding::Slow(format!("{text}: waiting for the server, for {limit} s at most")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(number: u64, since: u64) -> Option<InFlight> {
        let (share, path) = ("srv:/b".into(), "10.0.0.1/sda.raw.gz.part".into());
        Some(InFlight { number, share, op: "write", path, since: Duration::from_secs(since) })
    }

    #[test]
    fn a_share_that_hangs_is_said_every_minute_and_given_up_and_one_that_comes_back_is_said_too() {
        let mut watch = Watch { limit: Duration::from_secs(900), said: None };
        let mut look = |oldest, now| watch.look(oldest, Duration::from_secs(now));
        let slow = |age: u64| {
            let text = format!("srv:/b: write of '10.0.0.1/sda.raw.gz.part' has not come back for {age} s");
            Some(Finding::Slow(format!("{text}: waiting for the server, for 900 s at most")))
        };
        assert_eq!(look(None, 5), None);
        assert_eq!(look(op(1, 10), 69), None);
        assert_eq!(look(op(1, 10), 70), slow(60));
        assert_eq!(look(op(1, 10), 73), None);
        assert_eq!(look(op(1, 10), 130), slow(120));
        assert_eq!(look(op(2, 139), 140), Some(Finding::Back("srv:/b answers again, after 130 s".into())));
        assert_eq!(look(None, 141), None);
        assert_eq!(look(op(3, 200), 5000), slow(4800), "said before it is given up, whatever the clock does");
        let Some(Finding::Hung(failure)) = look(op(3, 200), 5003) else { panic!("not given up") };
        assert!(failure.kind == Kind::ShareHung && failure.what.contains("for 4803 s"), "{failure}");
    }

    #[test]
    fn a_short_limit_is_said_before_it_is_over() {
        let mut watch = Watch { limit: Duration::from_secs(20), said: None };
        assert!(matches!(watch.look(op(1, 0), Duration::from_secs(10)), Some(Finding::Slow(_))));
        assert!(matches!(watch.look(op(1, 0), Duration::from_secs(20)), Some(Finding::Hung(_))));
    }
}
