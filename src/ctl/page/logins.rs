//! Who is logged in to the page. A login is a random number in a cookie, kept here as its hash; whoever's token no longer counts
//! is logged out at once.

use crate::serve::admin::{AdminResult, KnownAdmin};
use crate::types::SetHash;
use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The cookie of a login. Browsers keep one of this prefix only from HTTPS, for this host alone.
pub(super) const COOKIE: &str = "__Host-testbox";
/// How long a login is good for.
pub(super) const LOGIN_TIME: Duration = Duration::from_secs(12 * 3600);
/// Logins at once; one more ends the oldest.
const LOGINS: usize = 256;
/// Tokens from one address that nobody has, and how long they are remembered.
const FAILURES: u32 = 10;
const FAILURES_TIME: Duration = Duration::from_secs(60);
/// Addresses whose failures are remembered.
const ADDRESSES: usize = 1024;

/// What an action of this login has come to; shown once.
#[derive(Clone, Debug)]
pub(super) struct ActionSaid {
    /// What was asked for, in words.
    pub what: String,
    pub result: AdminResult,
}

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub(super) struct PageLogin {
    pub admin: KnownAdmin,
    /// What every form of this login has in it, and nobody else's.
    pub form_key: String,
    until: Instant,
    said: Option<ActionSaid>,
}

/// All logins, by the hashes of their cookies.
#[derive(Default)]
pub(super) struct Logins(Mutex<LoginsHeld>);

#[derive(Default)]
struct LoginsHeld {
    logins: HashMap<String, PageLogin>,
    failures: HashMap<IpAddr, (u32, Instant)>,
}

fn secret() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

fn id(cookie: &str) -> String {
    SetHash::of(cookie.as_bytes()).to_string()
}

impl Logins {
    fn held(&self) -> MutexGuard<'_, LoginsHeld> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs somebody in, and gives what the cookie says.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn open(&self, admin: KnownAdmin) -> io::Result<String> {
        let (cookie, form_key) = (secret()?, secret()?);
        let now = Instant::now();
        let mut held = self.held();
        held.logins.retain(|_, login| login.until > now);
        if held.logins.len() >= LOGINS {
            let oldest = held.logins.iter().min_by_key(|(_, login)| login.until).map(|(id, _)| id.clone());
            oldest.and_then(|id| held.logins.remove(&id));
        }
        let login = PageLogin { admin, form_key, until: now + LOGIN_TIME, said: None };
        held.logins.insert(id(&cookie), login);
        Ok(cookie)
    }

    /// Whose cookie this is.
    pub fn find(&self, cookie: &str) -> Option<PageLogin> {
        let held = self.held();
        held.logins.get(&id(cookie)).filter(|login| login.until > Instant::now()).cloned()
    }

    /// Logs out.
    pub fn close(&self, cookie: &str) {
        self.held().logins.remove(&id(cookie));
    }

    /// Keeps what an action has come to for the next page of this login.
    pub fn note(&self, cookie: &str, said: ActionSaid) {
        if let Some(login) = self.held().logins.get_mut(&id(cookie)) {
            login.said = Some(said);
        }
    }

    /// What the last action has come to, once.
    pub fn take_note(&self, cookie: &str) -> Option<ActionSaid> {
        self.held().logins.get_mut(&id(cookie))?.said.take()
    }

    /// Whether this address may try another token: nobody guesses one, but each try costs a line of the log.
    pub fn may_try(&self, peer: IpAddr) -> bool {
        let held = self.held();
        let of_peer = held.failures.get(&peer);
        of_peer.is_none_or(|(count, since)| *count < FAILURES || since.elapsed() >= FAILURES_TIME)
    }

    /// It has tried one that nobody has.
    pub fn has_failed(&self, peer: IpAddr) {
        let mut held = self.held();
        held.failures.retain(|_, (_, since)| since.elapsed() < FAILURES_TIME);
        if held.failures.len() >= ADDRESSES && !held.failures.contains_key(&peer) {
            return;
        }
        held.failures.entry(peer).or_insert((0, Instant::now())).0 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> KnownAdmin {
        KnownAdmin { name: "alice".into(), token: SetHash::of(b"t") }
    }

    #[tokio::test(start_paused = true)]
    async fn logins_end_by_time_by_number_and_by_logging_out() {
        let logins = Logins::default();
        let first = logins.open(alice()).unwrap();
        assert_eq!(logins.find(&first).unwrap().admin, alice());
        assert!(logins.find("").is_none() && logins.find(&first[1..]).is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        let others: Vec<String> = (0..LOGINS).map(|_| logins.open(alice()).unwrap()).collect();
        assert!(logins.find(&first).is_none(), "the oldest has gone");
        logins.close(&others[0]);
        assert!(logins.find(&others[0]).is_none() && logins.find(&others[1]).is_some());
        tokio::time::advance(LOGIN_TIME).await;
        assert!(logins.find(&others[1]).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_tries_many_tokens_waits() {
        let (logins, peer) = (Logins::default(), IpAddr::from([10, 0, 0, 1]));
        for _ in 0..FAILURES {
            assert!(logins.may_try(peer));
            logins.has_failed(peer);
        }
        assert!(!logins.may_try(peer) && logins.may_try(IpAddr::from([10, 0, 0, 2])));
        tokio::time::advance(FAILURES_TIME).await;
        assert!(logins.may_try(peer));
    }
}
