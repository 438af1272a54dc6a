//! How much is done at once, and whose memory it takes. A machine that is slow, or means ill, holds its own places and nobody
//! else's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that are answered at once, of all machines; the others wait.
const AT_ONCE: usize = 32;
/// Of these, what all backups together get while a restore is at work.
const YIELDING: usize = 2;
/// Requests of one address under way, from their heads to the ends of their answers.
const OF_ONE: usize = 6;
/// The same of all that are not at work: they ask where they stand, or send what they know of themselves.
const OF_OTHERS: usize = 16;

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Of a machine that backs up, at work.
    Backup,
    /// Of another machine at work.
    AtWork,
    /// Of a machine in line, or of one that does little.
    Other,
}

impl Asker {
    /// Whether it waits where a restore is at work.
    pub fn yields(self) -> bool {
        self == Asker::Backup
    }
}

/// The places of a server. So its memory is bounded: each request under way holds a body or an answer of at most
/// [`BODY_LIMIT`](crate::store::protocol::BODY_LIMIT) bytes.
pub struct RequestSlots {
    at_once: Arc<Semaphore>,
    yielding: Arc<Semaphore>,
    at_work: Arc<Semaphore>,
    others: Arc<Semaphore>,
    peers: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
pub type Held = Option<OwnedSemaphorePermit>;

async fn place(of: &Arc<Semaphore>) -> Held {
    // No semaphore here is ever closed.
    of.clone().acquire_owned().await.ok()
}

impl RequestSlots {
    /// For so many machines at work: each has its share.
    pub fn new(at_work: usize) -> RequestSlots {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        RequestSlots {
            at_once: semaphore(AT_ONCE),
            yielding: semaphore(YIELDING),
            at_work: semaphore(at_work.saturating_mul(OF_ONE)),
            others: semaphore(OF_OTHERS),
            peers: Mutex::default(),
        }
    }

    /// A place of one address. Shares that nobody uses go.
    pub async fn of(&self, peer: IpAddr) -> Held {
        let share = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            peers.retain(|_, share| Arc::strong_count(share) > 1);
            peers.entry(peer).or_insert_with(|| Arc::new(Semaphore::new(OF_ONE))).clone()
        };
        place(&share).await
    }

    /// A place for what a request holds in memory.
    pub async fn hold(&self, asker: Asker) -> Held {
        match asker {
            Asker::Backup | Asker::AtWork => place(&self.at_work).await,
            Asker::Other => place(&self.others).await,
        }
    }

    /// A place for the work.
    pub async fn work(&self, is_yielding: bool) -> (Held, Held) {
        let yielding = if is_yielding { place(&self.yielding).await } else { None };
        (yielding, place(&self.at_once).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    async fn waits<T>(place: impl Future<Output = T>) -> bool {
        timeout(Duration::from_secs(3600), place).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn backups_that_yield_leave_the_places_to_restores() {
        let places = RequestSlots::new(8);
        let mut backups = Vec::new();
        for _ in 0..YIELDING {
            backups.push(places.work(true).await);
        }
        assert!(waits(places.work(true)).await);
        let restores = all_but_yielding(&places).await;
        assert!(waits(places.work(false)).await, "no more than the processor can do");
        drop(restores);
        assert!(waits(places.work(true)).await, "and they get none of those");
        backups.pop();
        assert!(!waits(places.work(true)).await);
    }

    async fn all_but_yielding(places: &RequestSlots) -> Vec<(Held, Held)> {
        let mut held = Vec::new();
        for _ in 0..AT_ONCE - YIELDING {
            held.push(places.work(false).await);
        }
        held
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_at_work_takes_no_memory_of_those_who_are() {
        let places = RequestSlots::new(2);
        let mut others = Vec::new();
        for _ in 0..OF_OTHERS {
            others.push(places.hold(Asker::Other).await);
        }
        assert!(waits(places.hold(Asker::Other)).await);
        let mut at_work = Vec::new();
        for _ in 0..2 * OF_ONE {
            at_work.push(places.hold(Asker::Backup).await);
        }
        assert!(waits(places.hold(Asker::AtWork)).await);
        let address = IpAddr::from([10, 0, 0, 1]);
        let mut of_one = Vec::new();
        for _ in 0..OF_ONE {
            of_one.push(places.of(address).await);
        }
        assert!(waits(places.of(address)).await);
        assert!(!waits(places.of(IpAddr::from([10, 0, 0, 2]))).await);
    }
}
