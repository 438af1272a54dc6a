//! Shares that do not answer. Mounts are hard, so an operation waits for its server for as long as it takes; that is
//! what a backup wants while a server restarts. Somebody else has to say so meanwhile, and to end the machine where
//! the server is gone for good: whoever waits in the kernel can do neither, and cannot be stopped.

use super::{Ending, Journal, policy};
use crate::failure::{Failure, Kind};
use crate::job::{OnError, RebootMode, Settings};
use crate::share::{Files, WatchedFiles};
use crate::store::remote::{Transport, WatchedTransport};
use crate::sys::{Reboot, System};
use crate::watch::{Finding, InFlightOps, Watch};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Watches the shares of one run, from a thread that never touches them.
pub struct ShareGuard {
    ops: Arc<InFlightOps>,
    /// How the run was ended. Locked while that goes on.
    given_up: Arc<Mutex<Option<Ending>>>,
    _watching: mpsc::Sender<()>,
}

impl ShareGuard {
    /// Starts to watch, with a look every `tick`; until it is dropped.
    pub fn start(system: Arc<dyn System>, journal: &Journal, settings: &Settings, tick: Duration) -> Self {
        let clock = system.clone();
        let ops = Arc::new(InFlightOps::new(move || clock.monotonic()));
        let given_up = Arc::new(Mutex::default());
        let (watching, stop) = mpsc::channel();
        let thread = GuardThread {
            ops: ops.clone(),
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
        ShareGuard { ops, given_up, _watching: watching }
    }

    /// The share `name`, watched from now on.
    pub fn watch(&self, name: &str, files: Arc<dyn Files>) -> Arc<dyn Files> {
        Arc::new(WatchedFiles::new(files, name, self.ops.clone()))
    }

    /// What is asked of the store `name`, watched from now on.
    pub fn watch_store(&self, name: &str, transport: Arc<dyn Transport>) -> Arc<dyn Transport> {
        Arc::new(WatchedTransport::new(transport, name, self.ops.clone()))
    }

    /// How the run was ended where a share hung; waits for that end while it goes on.
    pub fn given_up(&self) -> Option<Ending> {
        *self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct GuardThread {
    ops: Arc<InFlightOps>,
    given_up: Arc<Mutex<Option<Ending>>>,
    system: Arc<dyn System>,
    journal: Journal,
    settings: Settings,
}

impl GuardThread {
    fn run(&self, tick: Duration, stop: &mpsc::Receiver<()>) {
        let mut watch = Watch::new(self.settings.share_wait, "the server");
        while stop.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
            match watch.look(self.ops.oldest(), self.system.monotonic()) {
                Some(Finding::Slow(text) | Finding::Back(text)) => self.journal.warn(&text),
                Some(Finding::Hung(text)) => return self.give_up(&hung(&text)),
                None => {}
            }
        }
    }

    /// Ends the machine as after any other failure, but on the console only. No shell: its agent could not even end.
    fn give_up(&self, failure: &Failure) {
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        self.ops.give_up();
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

fn hung(text: &str) -> Failure {
    let advice = "look at the server, its exports, the network and the cable. What is published is as it was. How long to \
                  wait is testbox.share-wait=.";
    Failure::new(Kind::ShareHung, format!("{text}: the server is gone"), advice)
}
