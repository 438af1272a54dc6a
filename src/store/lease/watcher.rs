//! Watches somebody else's lease, until its holder lives or is taken for dead.

use super::{Holder, OTHER, OWN, PROMPT, SeenLease};
use std::time::Duration;

/// What an agent that wants the lease has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Take the lease of this number.
    Claim(u64, After),
    /// Look again a little later: the holder may be dead. For how long at most, from the first look.
    Watch(Duration),
    /// Give way: the holder lives.
    GiveWay,
}

/// Whose lease is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nobody's.
    Nobody,
    /// That of this machine before it was cut.
    Itself,
    /// That of another machine, which has fallen silent.
    Another,
}

/// Decides from one look after the other. No I/O, and no clock but the one that is handed in.
#[derive(Debug)]
pub struct Watcher {
    me: Holder,
    seen: Option<WatchedLease>,
}

/// A lease that has not changed.
#[derive(Debug)]
struct WatchedLease {
    lease: SeenLease,
    /// Since when, without a moment in which the watcher could not see.
    since: Duration,
    /// When the last look came back.
    last: Duration,
}

impl Watcher {
    /// One for the agent `me`.
    pub fn new(me: Holder) -> Self {
        Watcher { me, seen: None }
    }

    /// What follows from the lease that counts, as a look has shown it that came back at `now`, by the own monotonic
    /// clock.
    pub fn look(&mut self, lease: Option<SeenLease>, now: Duration) -> Next {
        let Some(lease) = lease else { return Next::Claim(1, After::Nobody) };
        let next = lease.number.saturating_add(1);
        if lease.is_released() {
            return Next::Claim(next, After::Nobody);
        }
        let is_own = lease.holder().is_some_and(|holder| holder.is_same_machine(&self.me));
        let (patience, after) = if is_own { (OWN, After::Itself) } else { (OTHER, After::Another) };
        let Some(watched) = &mut self.seen else {
            self.seen = Some(WatchedLease { lease, since: now, last: now });
            return Next::Watch(patience);
        };
        if watched.lease != lease {
            // A heartbeat, or somebody was quicker.
            return Next::GiveWay;
        }
        if now.saturating_sub(watched.last) > PROMPT {
            watched.since = now;
        }
        watched.last = now;
        let is_dead = now.saturating_sub(watched.since) >= patience;
        if is_dead { Next::Claim(next, after) } else { Next::Watch(patience) }
    }
}
