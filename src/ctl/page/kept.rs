//! What was looked at a moment ago. Whoever asks meanwhile gets the same, or waits for the same look: a thousand open pages cost
//! one look every few seconds, and a share that does not answer holds up one thread for each kind of look.

use super::super::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

/// How long somebody waits for a look.
const PATIENCE: Duration = Duration::from_secs(20);

/// When it was looked, and what was seen.
type LastLook<T> = Option<(Instant, Seen<T>)>;
/// What was seen, or why nothing was.
type Seen<T> = Result<Arc<T>, String>;

/// The last look of one kind.
pub(super) struct KeptLook<T> {
    last: Arc<Mutex<LastLook<T>>>,
    /// How long it is good for.
    age: Duration,
}

impl<T: Send + Sync + 'static> KeptLook<T> {
    pub fn new(age: Duration) -> KeptLook<T> {
        KeptLook { last: Arc::default(), age }
    }

    /// True where nobody waits for it, and what it has seen is old.
    pub fn is_over(&self) -> bool {
        let last = self.last.try_lock();
        last.is_ok_and(|last| last.as_ref().is_none_or(|(at, _)| at.elapsed() >= self.age))
    }

    /// It is looked again for whoever asks next.
    pub async fn forget(&self) {
        if let Ok(mut last) = timeout(PATIENCE, self.last.lock()).await {
            *last = None;
        }
    }

    /// What was seen; or else it is looked, in one of the places that `looks` has.
    ///
    /// # Errors
    /// Those of the look, or it takes too long.
    pub async fn get(
        &self,
        looks: &Arc<Semaphore>,
        look: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<Arc<T>, Error> {
        let seen = timeout(PATIENCE, async {
            let mut last = self.last.clone().lock_owned().await;
            if let Some((at, seen)) = &*last
                && at.elapsed() < self.age
            {
                return seen.clone();
            }
            let place = looks.clone().acquire_owned().await.ok();
            // The thread owns lock and place, whoever has gone meanwhile.
            let looking = tokio::task::spawn_blocking(move || {
                let seen = look().map(Arc::new).map_err(|e| e.to_string());
                *last = Some((Instant::now(), seen.clone()));
                drop(place);
                seen
            });
            looking.await.unwrap_or_else(|_| Err("internal error: the server's log has more".into()))
        });
        let silent = || {
            Err(format!(
                "the folders of the server have not answered for {} seconds: is a disk or share hanging?",
                PATIENCE.as_secs()
            ))
        };
        seen.await.unwrap_or_else(|_| silent()).map_err(Error::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[tokio::test(start_paused = true)]
    async fn a_thousand_who_ask_cost_one_look() {
        let (kept, looks) = (Arc::new(KeptLook::new(Duration::from_secs(2))), Arc::new(Semaphore::new(1)));
        let count = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let (kept, looks, count) = (kept.clone(), looks.clone(), count.clone());
            tokio::spawn(
                async move { kept.get(&looks, move || Ok(count.fetch_add(1, SeqCst))).await.unwrap() },
            )
        };
        for asked in (0..1000).map(|_| ask()).collect::<Vec<_>>() {
            assert_eq!(*asked.await.unwrap(), 0);
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(*ask().await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_is_kept_as_long() {
        let (kept, looks) = (KeptLook::new(Duration::from_secs(2)), Arc::new(Semaphore::new(1)));
        for look in [Err(Error::failed("no")), Ok(1)] {
            assert_eq!(kept.get(&looks, || look).await.unwrap_err().to_string(), "no");
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(*kept.get(&looks, || Ok(7)).await.unwrap(), 7);
    }
}
