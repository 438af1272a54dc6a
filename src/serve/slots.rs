//! How much is done at once, and whose memory it takes. A machine that is slow, or means ill, holds its own places and nobody
//! else's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout};

/// Requests that are answered at once, of all machines; the others wait.
const AT_ONCE: usize = 32;
/// Requests of one address under way, from their heads to the ends of their answers.
const OF_ONE: usize = 6;
/// The same of all that are not at work: they ask where they stand, or send what they know of themselves.
const OF_OTHERS: usize = 16;
/// Large requests that are on the link at once, each way; more would leave it to their connections who gets how much.
const TURNS: usize = 4;
/// How long one of them keeps its turn: who is slow holds up nobody.
const TURN: Duration = Duration::from_secs(1);
/// While restores read, the backups have one turn between them, and this many times as long as it took nobody has it: so they
/// use a quarter of what one machine could.
const PAUSES: u32 = 3;
/// How long after its last request a restore reads still.
const READS_STILL: Duration = Duration::from_secs(3);

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

/// The places of a server. So its memory is bounded: each request under way holds a body or an answer of at most
/// [`BODY_LIMIT`](crate::store::protocol::BODY_LIMIT) bytes.
pub struct RequestSlots {
    at_once: Arc<Semaphore>,
    at_work: Arc<Semaphore>,
    others: Arc<Semaphore>,
    peers: Mutex<HashMap<IpAddr, PeerSlots>>,
    /// Of backups, while no restore reads.
    inward: Arc<Semaphore>,
    /// Of backups, while one does.
    yielding: Arc<Semaphore>,
    /// Of all others.
    outward: Arc<Semaphore>,
    /// When a restore read last.
    read: Mutex<Option<Instant>>,
}

/// The share of one address.
#[derive(Clone)]
struct PeerSlots {
    requests: Arc<Semaphore>,
    /// Its backups take turns one by one, however many requests it has under way.
    turn: Arc<Semaphore>,
}

impl PeerSlots {
    fn new() -> PeerSlots {
        PeerSlots { requests: Arc::new(Semaphore::new(OF_ONE)), turn: Arc::new(Semaphore::new(1)) }
    }

    fn is_used(&self) -> bool {
        [&self.requests, &self.turn].iter().any(|semaphore| Arc::strong_count(semaphore) > 1)
    }
}

/// A place, until it is dropped.
pub type Held = Option<OwnedSemaphorePermit>;

/// A turn, until it is dropped, or [`TURN`] is over.
#[derive(Debug)]
pub struct Turn(#[allow(dead_code)] Option<oneshot::Sender<()>>);

async fn place(of: &Arc<Semaphore>) -> Held {
    // No semaphore here is ever closed.
    of.clone().acquire_owned().await.ok()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whoever has waited longest is next. What it holds besides is let go of with the place.
async fn turn(of: &Arc<Semaphore>, pauses: u32, own: Held) -> Turn {
    let place = place(of).await;
    let (turn, is_over) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let began = Instant::now();
        let _ = timeout(TURN, is_over).await;
        sleep(began.elapsed().saturating_mul(pauses)).await;
        drop((place, own));
    });
    Turn(Some(turn))
}

impl RequestSlots {
    /// For so many machines at work: each has its share.
    pub fn new(at_work: usize) -> RequestSlots {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        RequestSlots {
            at_once: semaphore(AT_ONCE),
            at_work: semaphore(at_work.saturating_mul(OF_ONE)),
            others: semaphore(OF_OTHERS),
            peers: Mutex::default(),
            inward: semaphore(TURNS),
            yielding: semaphore(1),
            outward: semaphore(TURNS),
            read: Mutex::default(),
        }
    }

    /// A place of one address. Shares that nobody uses go.
    pub async fn of(&self, peer: IpAddr) -> Held {
        let share = self.share(peer);
        place(&share.requests).await
    }

    fn share(&self, peer: IpAddr) -> PeerSlots {
        let mut peers = locked(&self.peers);
        peers.retain(|_, share| share.is_used());
        peers.entry(peer).or_insert_with(PeerSlots::new).clone()
    }

    /// A place for what a request holds in memory.
    pub async fn hold(&self, asker: Asker) -> Held {
        match asker {
            Asker::Backup | Asker::AtWork => place(&self.at_work).await,
            Asker::Other => place(&self.others).await,
        }
    }

    /// A turn of a machine whose request keeps link or disk busy. So all backups get the same, and little while a restore
    /// reads: somebody waits for that, and a backup can be made at any hour.
    pub async fn turn(&self, asker: Asker, peer: IpAddr) -> Turn {
        match asker {
            Asker::Other => Turn(None),
            Asker::AtWork => {
                *locked(&self.read) = Some(Instant::now());
                turn(&self.outward, 0, None).await
            }
            Asker::Backup => {
                let share = self.share(peer);
                let own = place(&share.turn).await;
                let read = *locked(&self.read);
                match read.is_some_and(|read| read.elapsed() < READS_STILL) {
                    true => turn(&self.yielding, PAUSES, own).await,
                    false => turn(&self.inward, 0, own).await,
                }
            }
        }
    }

    /// A place for the work.
    pub async fn work(&self) -> Held {
        place(&self.at_once).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waits<T>(place: impl Future<Output = T>) -> bool {
        timeout(Duration::from_millis(1), place).await.is_err()
    }

    /// Bytes that each of these machines brings over a link that takes one byte a millisecond from each turn: who asks as soon as
    /// he is answered, in pieces of so many bytes.
    async fn brought(slots: &Arc<RequestSlots>, pieces: &[u64], time: Duration) -> Vec<u64> {
        let numbers = 0..pieces.len();
        brought_by(slots, &pieces.iter().copied().zip(numbers).collect::<Vec<_>>(), time).await
    }

    /// The same of connections, each with the number of its machine.
    async fn brought_by(slots: &Arc<RequestSlots>, pieces: &[(u64, usize)], time: Duration) -> Vec<u64> {
        let tasks = pieces.iter().map(|(piece, machine)| {
            let (slots, piece) = (slots.clone(), *piece);
            let peer = IpAddr::from([10, 0, 0, *machine as u8]);
            tokio::spawn(async move {
                let (began, mut bytes) = (Instant::now(), 0);
                while began.elapsed() < time {
                    let turn = slots.turn(Asker::Backup, peer).await;
                    sleep(Duration::from_millis(piece)).await;
                    bytes += piece;
                    drop(turn);
                }
                bytes
            })
        });
        let mut brought = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            brought.push(task.await.unwrap());
        }
        brought
    }

    #[tokio::test(start_paused = true)]
    async fn eight_backups_bring_the_same() {
        let slots = Arc::new(RequestSlots::new(8));
        let brought = brought(&slots, &[100; 8], Duration::from_secs(60)).await;
        let (least, most) = (brought.iter().min().unwrap(), brought.iter().max().unwrap());
        assert!(most - least <= 100, "one piece, {brought:?}");
        assert!(brought.iter().sum::<u64>() >= 4 * 59_000, "no turn is lost: {brought:?}");
    }

    /// A machine with two disks, or one that wants more than its share.
    #[tokio::test(start_paused = true)]
    async fn more_connections_bring_a_machine_no_more() {
        let slots = Arc::new(RequestSlots::new(8));
        let of_seven = (1..8).map(|machine| (100, machine));
        let all: Vec<(u64, usize)> = [(100, 0); OF_ONE].into_iter().chain(of_seven).collect();
        let brought = brought_by(&slots, &all, Duration::from_secs(60)).await;
        let (one, others) = brought.split_at(OF_ONE);
        let (one, most) = (one.iter().sum::<u64>(), others.iter().max().unwrap());
        assert!(one <= most + 100 * OF_ONE as u64, "{brought:?}");
        assert!(others.iter().all(|bytes| bytes + 1_000 >= one), "{brought:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_machine_holds_up_nobody() {
        let slots = Arc::new(RequestSlots::new(8));
        // Four take two minutes for a piece.
        let pieces = [120_000, 120_000, 120_000, 120_000, 100, 100, 100, 100];
        let brought = brought(&slots, &pieces, Duration::from_secs(60)).await;
        assert!(brought[4..].iter().all(|bytes| *bytes >= 55_000), "{brought:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn backups_have_a_quarter_while_a_restore_reads_and_all_after_it() {
        let slots = Arc::new(RequestSlots::new(8));
        let (reader, time) = (slots.clone(), Duration::from_secs(60));
        let restore = tokio::spawn(async move {
            let began = Instant::now();
            while began.elapsed() < time {
                assert!(
                    !waits(reader.turn(Asker::AtWork, IpAddr::from([10, 0, 0, 9]))).await,
                    "it waits for no backup"
                );
                sleep(Duration::from_millis(100)).await;
            }
        });
        sleep(Duration::from_millis(1)).await;
        let beside = brought(&slots, &[100; 7], time).await;
        restore.await.unwrap();
        let sum: u64 = beside.iter().sum();
        assert!((14_000..=16_000).contains(&sum), "{beside:?}");
        assert!(beside.iter().all(|bytes| *bytes >= 1_900), "none starves: {beside:?}");
        sleep(READS_STILL).await;
        let alone = brought(&slots, &[100; 7], time).await;
        assert!(alone.iter().sum::<u64>() >= 4 * 59_000, "{alone:?}");
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
        let mut at_once = Vec::new();
        for _ in 0..AT_ONCE {
            at_once.push(places.work().await);
        }
        assert!(waits(places.work()).await, "no more than the processor can do");
    }
}
