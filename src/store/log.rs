//! A line of a machine's log, or of the log of all machines: `2017-10-17T14:26:02+00:00: 10.1.2.3: info: text`.
#![forbid(unsafe_code)]

use crate::text::plain;
use jiff::Timestamp;
use std::fmt;
use std::net::Ipv4Addr;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedLine<'a> {
    /// When, by the clock of whoever wrote it.
    pub at: Timestamp,
    /// The machine.
    pub ip: Ipv4Addr,
    /// `error`, `warning`, `info` or `debug`.
    pub level: &'a str,
    /// What is said.
    pub text: &'a str,
}

impl<'a> LoggedLine<'a> {
    /// Reads a line; `None` where it is not one, as after a collision of two machines that wrote at once.
    pub fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(4, ": ");
        let (at, ip, level) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        let is_level = matches!(level, "error" | "warning" | "info" | "debug" | "trace");
        Some(LoggedLine { at, ip, level, text: parts.next()? }).filter(|_| is_level)
    }
}

/// Without its newline.
impl fmt::Display for LoggedLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.strftime("%Y-%m-%dT%H:%M:%S+00:00");
        write!(f, "{at}: {}: {}: {}", self.ip, self.level, plain(self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_line_is_none() {
        let good = "2017-10-17T14:26:02+00:00: 10.1.2.3: info: started: tb1 (0A010203), action backup";
        let line = LoggedLine::parse(good).unwrap();
        assert_eq!((line.level, line.text), ("info", "started: tb1 (0A010203), action backup"));
        assert_eq!(line.to_string(), good);
        for bad in [
            "",
            "x",
            &good[..20],
            &good[10..],
            &good.replace("info", "note"),
            &good.replace("10.1", "10.1.1"),
        ] {
            assert_eq!(LoggedLine::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), near in "20[0-9-]{8}T[0-9:+]{8,14}: [0-9.]{0,12}: [a-z]{0,6}: .{0,20}") {
            let _ = (LoggedLine::parse(&text), LoggedLine::parse(&near));
        }
    }
}
