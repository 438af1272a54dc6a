//! `--expires`: until when the machines must have begun, as an admin says it.

use super::super::Error;
use super::super::shares::ShareFolder;
use crate::share::Files;
use crate::text::quoted;
use crate::types::Expiry;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::str::FromStr;

/// A time, or how long from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpiresWhen {
    After(SignedDuration),
    At(Expiry),
}

impl FromStr for ExpiresWhen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of_unit = |number: &str, seconds: i64| {
            let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            let seconds = number.parse::<i64>().ok()?.checked_mul(seconds)?;
            (is_number && seconds > 0).then(|| ExpiresWhen::After(SignedDuration::from_secs(seconds)))
        };
        let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
        let after = units.iter().find_map(|(unit, seconds)| of_unit(text.strip_suffix(unit)?, *seconds));
        let utc = || TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok();
        let at = || text.parse::<Timestamp>().ok().or_else(utc).map(|at| ExpiresWhen::At(Expiry::new(at)));
        after.or_else(at).ok_or_else(|| {
            format!(
                "{} is neither how long, as 90m, 12h or 2d, nor a time, as 2026-12-01T06:00 (UTC) or 2026-12-01T06:00+01:00",
                quoted(text)
            )
        })
    }
}

impl ExpiresWhen {
    /// The time, counted by the clock of the first of these folders' servers that tells it; by that of this computer where
    /// none is given.
    pub fn resolve(self, places: &[&ShareFolder]) -> Result<Expiry, Error> {
        let mut problem = None;
        for place in places {
            match place.files.clock("") {
                Ok(now) => return self.counted(now),
                Err(e) => problem = Some(place.error("", "have its server tell the time", &e)),
            }
        }
        problem.map_or_else(|| self.counted(Timestamp::now()), Err)
    }

    fn counted(self, now: Timestamp) -> Result<Expiry, Error> {
        let expires = match self {
            ExpiresWhen::At(at) => at,
            ExpiresWhen::After(time) => {
                let at = now.checked_add(time);
                Expiry::new(at.map_err(|_| Error::usage("--expires: that is longer than there are dates"))?)
            }
        };
        if expires.is_over(now) {
            return Err(Error::usage(format!(
                "--expires {expires}: that is over, the clock of the share's server says {now:.0}; nothing was armed"
            )));
        }
        Ok(expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_and_until_when_are_understood() {
        let now: Timestamp = "2026-11-30T18:00:00.7Z".parse().unwrap();
        for (text, expected) in [
            ("12h", "2026-12-01T06:00:00Z"),
            ("90s", "2026-11-30T18:01:30Z"),
            ("30m", "2026-11-30T18:30:00Z"),
            ("2d", "2026-12-02T18:00:00Z"),
            ("1w", "2026-12-07T18:00:00Z"),
            ("2026-12-01T06:00", "2026-12-01T06:00:00Z"),
            ("2026-12-01 06:00", "2026-12-01T06:00:00Z"),
            ("2026-12-01T06:00+02:00", "2026-12-01T04:00:00Z"),
            ("2026-12-01T06:00:00Z", "2026-12-01T06:00:00Z"),
            ("2026-12-01", "2026-12-01T00:00:00Z"),
        ] {
            let when: ExpiresWhen = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(when.counted(now).unwrap().to_string(), expected, "{text}");
        }
        for wrong in
            ["", "h", "12", "-1h", "+1h", "0h", "1.5h", "12 h", "99999999999999999999h", "06:00", "never"]
        {
            assert!(wrong.parse::<ExpiresWhen>().is_err(), "{wrong}");
        }
        for over in ["2026-11-30T17:00", "2026-11-30T18:00:00Z", "9000000000000000000s"] {
            assert!(over.parse::<ExpiresWhen>().unwrap().counted(now).is_err(), "{over}");
        }
    }
}
