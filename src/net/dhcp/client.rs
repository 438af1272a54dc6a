//! Decides when to ask whom, and what an answer means (RFC 2131 section 4.4.5). All times are since the boot.

use super::message::{DhcpAnswer, DhcpReply, DhcpRequest};
use super::{DhcpLease, Term};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// What a lease of unknown length is taken for: the shortest default among the servers that labs use (ISC dhcpd).
pub const ASSUMED: Duration = Duration::from_secs(600);
/// Least time between two requests, but for leases so short that it would leave them one (RFC 2131 section 4.4.5).
const LEAST: Duration = Duration::from_secs(60);
/// How long the server that gave the lease may take to contradict a refusal by another one: whoever is asked by
/// broadcast may say no.
const DOUBT: Duration = Duration::from_secs(5);

/// Keeps one address. Without effects: the caller sends, waits and tells the time.
#[derive(Debug)]
pub struct DhcpClient {
    lease: DhcpLease,
    /// Who gave it, once that is known: klibc's ipconfig does not keep it.
    server: Option<Ipv4Addr>,
    /// When to ask that server.
    t1: Duration,
    /// When to ask everybody.
    t2: Duration,
    /// When the address is lost; `None` where nobody has said.
    end: Option<Duration>,
    asked: Option<DhcpAsked>,
    /// A refusal that may still be contradicted, and until when.
    doubt: Option<(Lost, Duration)>,
    /// Silence was said.
    is_silent: bool,
    is_lost: bool,
}

/// A transaction.
#[derive(Clone, Copy, Debug)]
struct DhcpAsked {
    request: DhcpRequest,
    first: Duration,
    last: Duration,
    again: Duration,
}

/// What became known: one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhcpNews {
    /// The first answer to this machine.
    Known {
        /// Who gave it.
        server: Option<Ipv4Addr>,
        /// For how long.
        term: Term,
    },
    /// Renewed as often before.
    Renewed,
    /// No answer so far; the address is good for this long still.
    Silent(Option<Duration>),
    /// An answer again.
    Back(Option<Ipv4Addr>),
    /// It is over.
    Lost(Lost),
}

/// Why an address is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// DHCPNAK, with the server's text.
    Refused(Option<Ipv4Addr>, Option<String>),
    /// A server gives another address.
    Other(Option<Ipv4Addr>, Ipv4Addr),
    /// Nobody has renewed it in time.
    Expired,
}

impl DhcpClient {
    /// A client that asks at once: neither the server's identifier nor T1 and T2 are left by the boot, and what a
    /// server refuses is better known before the work than in the middle of it.
    pub fn new(lease: DhcpLease, now: Duration) -> DhcpClient {
        let since = lease.since.min(now);
        let (term, end) = match lease.term {
            Term::For(term) => (term, Some(since.saturating_add(term))),
            Term::Forever => (Duration::MAX, None),
            Term::Unknown => (ASSUMED, None),
        };
        let t1 = if lease.term == Term::Forever { Duration::MAX } else { now };
        let t2 = since.saturating_add(seven_eighths(term));
        let (asked, doubt) = (None, None);
        DhcpClient { lease, server: None, t1, t2, end, asked, doubt, is_silent: false, is_lost: false }
    }

    /// Until when the address is this machine's, as far as is known.
    pub fn end(&self) -> Option<Duration> {
        self.end
    }

    /// When [`DhcpClient::due`] has something to do.
    pub fn wake(&self) -> Duration {
        let ask = self.asked.map_or(self.t1, |asked| asked.again);
        let doubt = self.doubt.as_ref().map(|(_, until)| *until);
        [Some(ask), self.end, doubt].into_iter().flatten().min().unwrap_or(ask)
    }

    /// What is due: whom to send what, and what that says. `xid` is a random number for a new transaction.
    pub fn due(&mut self, now: Duration, xid: u32) -> (Option<(Ipv4Addr, Vec<u8>)>, Option<DhcpNews>) {
        if self.is_lost {
            return (None, None);
        }
        let is_over = self.end.is_some_and(|end| now >= end);
        if let Some((lost, _)) = self.doubt.take_if(|(_, until)| is_over || now >= *until) {
            return (None, Some(self.lose(lost)));
        }
        if is_over {
            return (None, Some(self.lose(Lost::Expired)));
        }
        if now < self.asked.map_or(self.t1, |asked| asked.again) {
            return (None, None);
        }
        let news = (self.asked.is_some() && !self.is_silent).then(|| {
            self.is_silent = true;
            DhcpNews::Silent(self.end.map(|end| end.saturating_sub(now)))
        });
        (Some(self.ask(now, xid)), news)
    }

    fn ask(&mut self, now: Duration, xid: u32) -> (Ipv4Addr, Vec<u8>) {
        let DhcpLease { mac, address, .. } = self.lease;
        let first = self.asked.map_or(now, |asked| asked.first);
        let xid = self.asked.map_or(xid, |asked| asked.request.xid);
        let secs = u16::try_from(now.saturating_sub(first).as_secs()).unwrap_or(u16::MAX);
        let request = DhcpRequest { xid, secs, mac, address };
        self.asked = Some(DhcpAsked { request, first, last: now, again: self.again(now) });
        let to = self.server.filter(|_| now < self.t2).unwrap_or(Ipv4Addr::BROADCAST);
        (to, request.to_bytes())
    }

    /// Half of what is left until T2, and then until the end.
    fn again(&self, now: Duration) -> Duration {
        let end = self.end.unwrap_or_else(|| now.saturating_add(ASSUMED));
        let bound = if now < self.t2 { self.t2 } else { end };
        let term = end.saturating_sub(self.lease.since);
        let least = (term / 16).clamp(Duration::from_secs(1), LEAST);
        let half = (bound.saturating_sub(now) / 2).max(least);
        now.saturating_add(half)
    }

    /// Takes a datagram that has come to the client's port; anything may be in it.
    pub fn received(&mut self, now: Duration, datagram: &[u8]) -> Option<DhcpNews> {
        let asked = self.asked.filter(|_| !self.is_lost)?;
        let DhcpReply { server, answer } = asked.request.answer(datagram)?;
        match answer {
            DhcpAnswer::Ack { address, lease, t1, t2 } if address == self.lease.address => {
                self.renew(asked, server, lease, t1, t2)
            }
            DhcpAnswer::Ack { address, .. } => self.refuse(now, server, Lost::Other(server, address)),
            DhcpAnswer::Nak(text) => self.refuse(now, server, Lost::Refused(server, text)),
        }
    }

    fn renew(
        &mut self,
        asked: DhcpAsked,
        server: Option<Ipv4Addr>,
        lease: Option<u32>,
        t1: Option<u32>,
        t2: Option<u32>,
    ) -> Option<DhcpNews> {
        // A lease of no time is none. Without a time it is the one of before.
        let term = match lease {
            Some(0) => return None,
            Some(seconds) => Term::from_seconds(seconds),
            None => self.lease.term,
        };
        // From the request on, not from the answer: by then the server counts for longer already.
        let since = asked.last;
        self.lease = DhcpLease { since, term, ..self.lease.clone() };
        (self.asked, self.doubt) = (None, None);
        let is_known = self.server.is_some();
        self.server = server.or(self.server);
        let after = |time: Duration| since.saturating_add(time);
        let (t1, t2) = match term {
            Term::For(length) => times(length, t1, t2),
            Term::Unknown => times(ASSUMED, t1, t2),
            Term::Forever => (Duration::MAX, Duration::MAX),
        };
        (self.t1, self.t2) = (after(t1), after(t2));
        self.end = match term {
            Term::For(length) => Some(after(length)),
            Term::Forever | Term::Unknown => None,
        };
        Some(match (std::mem::take(&mut self.is_silent), is_known) {
            (true, _) => DhcpNews::Back(self.server),
            (false, true) => DhcpNews::Renewed,
            (false, false) => DhcpNews::Known { server: self.server, term },
        })
    }

    fn refuse(&mut self, now: Duration, server: Option<Ipv4Addr>, lost: Lost) -> Option<DhcpNews> {
        if self.server.is_some() && self.server == server {
            return Some(self.lose(lost));
        }
        self.doubt.get_or_insert((lost, now.saturating_add(DOUBT)));
        None
    }

    fn lose(&mut self, lost: Lost) -> DhcpNews {
        self.is_lost = true;
        DhcpNews::Lost(lost)
    }
}

/// T1 and T2 of a lease: as the server says where that makes sense and is no flood, else a half and seven eighths
/// (RFC 2131 section 4.4.5).
fn times(length: Duration, t1: Option<u32>, t2: Option<u32>) -> (Duration, Duration) {
    let half = length / 2;
    let seconds = |time: u32| Duration::from_secs(time.into());
    let t1 = t1.map(seconds).filter(|t1| (half.min(LEAST)..length).contains(t1)).unwrap_or(half);
    let t2 = t2.map(seconds).filter(|t2| (t1..length).contains(t2));
    (t1, t2.unwrap_or_else(|| seven_eighths(length).max(t1)))
}

fn seven_eighths(time: Duration) -> Duration {
    time / 8 * 7
}

/// ` by 10.0.0.1`, or nothing.
fn by(server: Option<Ipv4Addr>) -> String {
    server.map_or_else(String::new, |server| format!(" by {server}"))
}

impl fmt::Display for DhcpNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DhcpNews::Known { server, term: Term::For(term) } => {
                write!(f, "the address is leased{} for {} s, and renewed", by(*server), term.as_secs())
            }
            DhcpNews::Known { server, .. } => write!(f, "the address is leased{}, for ever", by(*server)),
            DhcpNews::Renewed => f.write_str("the address is renewed"),
            DhcpNews::Silent(left) => {
                f.write_str("no DHCP server answers the request to renew the address; it is asked again")?;
                left.map_or(Ok(()), |left| write!(f, " until the lease ends in {} s", left.as_secs()))
            }
            DhcpNews::Back(server) => write!(f, "the address is renewed{}, after silence", by(*server)),
            DhcpNews::Lost(lost) => write!(f, "{lost}"),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Refused(server, text) => {
                write!(f, "the DHCP server refuses to renew it (DHCPNAK{}", by(*server))?;
                text.as_ref().map_or(Ok(()), |text| write!(f, ": {text}"))?;
                f.write_str(")")
            }
            Lost::Other(server, address) => {
                write!(f, "the DHCP server gives this machine another address{}: {address}", by(*server))
            }
            Lost::Expired => f.write_str("its lease has ended, and no DHCP server has renewed it"),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
