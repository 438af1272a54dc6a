//! Lines that whoever sends datagrams could have written without end.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same is not said again.
const PAUSE: Duration = Duration::from_secs(600);
/// Different ones that are remembered; more of them in that time are not said at all.
const REMEMBERED: usize = 256;

/// What was said lately.
#[derive(Debug, Default)]
pub struct Quiet {
    said: Mutex<BTreeMap<String, Instant>>,
}

impl Quiet {
    /// True where this is to be said now: not the same within ten minutes, and in them no more than a few hundred.
    pub fn is_new(&self, text: &str) -> bool {
        self.is_new_at(Instant::now(), text)
    }

    fn is_new_at(&self, now: Instant, text: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, at| now.saturating_duration_since(*at) < PAUSE);
        if said.contains_key(text) || said.len() >= REMEMBERED {
            return false;
        }
        said.insert(text.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_and_a_flood_is_bounded() {
        let (quiet, start) = (Quiet::default(), Instant::now());
        assert!(quiet.is_new_at(start, "a") && !quiet.is_new_at(start, "a"));
        let others = (0..5000).filter(|n| quiet.is_new_at(start, &n.to_string())).count();
        assert_eq!(others, REMEMBERED - 1);
        assert!(quiet.is_new_at(start + PAUSE, "a"));
    }
}
