//! Until when a job may begin.

use super::ParameterError;
use crate::failure::{Failure, Kind};
use crate::text::quoted;
use jiff::Timestamp;
use std::fmt;
use std::str::FromStr;

/// When a job expires, to the second: what has not begun before never begins. It is judged by the clock of the server that
/// keeps the backups, because a machine's own may say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry(Timestamp);

impl Expiry {
    /// This time, without what it has of a second.
    pub fn new(at: Timestamp) -> Expiry {
        Expiry(Timestamp::from_second(at.as_second()).unwrap_or(at))
    }

    /// The time.
    pub fn at(self) -> Timestamp {
        self.0
    }

    /// True from that time on.
    pub fn is_over(self, now: Timestamp) -> bool {
        now >= self.0
    }

    /// Whether a job may begin while the clock of `server` says `now`.
    ///
    /// # Errors
    /// [`Kind::Expired`].
    pub fn check(self, now: Timestamp, server: &str) -> Result<(), Failure> {
        if !self.is_over(now) {
            return Ok(());
        }
        Err(Failure::new(
            Kind::Expired,
            format!("the job expired at {self}, and the clock of {server} says {now:.0}"),
            "no disk and no image was touched, and the machine is disarmed. Where the job is still wanted, arm the machine \
             again, with a later --expires or none.",
        ))
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Expiry {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        text.parse().map(Expiry::new).map_err(|_| {
            ParameterError::new(format!("{} is not a time such as 2026-12-01T06:00:00Z", quoted(text)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_job_expires_at_its_second_and_not_before() {
        let expires: Expiry = "2026-12-01T06:00:00Z".parse().unwrap();
        for (now, is_over) in [
            ("2026-12-01T05:59:59.999Z", false),
            ("2026-12-01T06:00:00Z", true),
            ("2026-12-01T06:59:59+01:00", false),
            ("2027-01-01T00:00:00Z", true),
        ] {
            let checked = expires.check(now.parse().unwrap(), "srv:/backup");
            assert_eq!(checked.is_err(), is_over, "{now}");
        }
        let failure = expires.check("2026-12-01T07:12:03.5Z".parse().unwrap(), "srv:/backup").unwrap_err();
        assert_eq!(
            failure.what,
            "the job expired at 2026-12-01T06:00:00Z, and the clock of srv:/backup says 2026-12-01T07:12:03Z"
        );
    }

    #[test]
    fn a_time_has_one_spelling() {
        for text in ["2026-12-01T06:00:00Z", "2026-12-01T07:00:00+01:00", "2026-12-01T06:00:00.9Z"] {
            assert_eq!(text.parse::<Expiry>().unwrap().to_string(), "2026-12-01T06:00:00Z", "{text}");
        }
        for wrong in ["", "12h", "2026-12-01", "2026-12-01T06:00", "tomorrow"] {
            assert!(wrong.parse::<Expiry>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_parses_back(text in any::<String>(), near in "[0-9TZ:+. -]{0,30}") {
            for text in [text, near] {
                if let Ok(expires) = text.parse::<Expiry>() {
                    prop_assert_eq!(expires.to_string().parse(), Ok(expires));
                }
            }
        }
    }
}
