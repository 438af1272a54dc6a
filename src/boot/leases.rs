//! Addresses of a range, for machines that are not in the file of machines: who has which, and until when.
//!
//! Memory and file are bounded by the range. Where unknown machines are allowed, somebody with enough invented cards can take
//! all of it for a lease's time; known machines have their own addresses and do not notice.

use crate::types::MacAddr;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// How long a lease is good for, in seconds.
pub const LEASE: u64 = 3600;
/// How long an offered address is kept for who was offered it, in seconds.
const OFFER: u64 = 30;
/// How long an address is left alone that somebody else has, in seconds.
const DECLINED: u64 = 600;
/// Most addresses of a range.
pub const RANGE_MAX: u32 = 4096;

/// `10.42.1.100-10.42.1.200`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AddressRange {
    /// The lowest.
    pub first: Ipv4Addr,
    /// The highest.
    pub last: Ipv4Addr,
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{}' is not a range such as 10.42.1.100-10.42.1.200", text.escape_default());
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let range = AddressRange {
            first: first.parse().map_err(|_| wrong())?,
            last: last.parse().map_err(|_| wrong())?,
        };
        match u32::from(range.last).checked_sub(u32::from(range.first)) {
            None => Err(format!("{text}: it ends before it begins")),
            Some(more) if more >= RANGE_MAX => {
                Err(format!("{text}: a range has at most {RANGE_MAX} addresses"))
            }
            Some(_) => Ok(range),
        }
    }
}

impl AddressRange {
    /// Its addresses.
    pub fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        (u32::from(self.first)..=u32::from(self.last)).map(Ipv4Addr::from)
    }

    /// Whether it has this one.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    mac: MacAddr,
    /// Seconds of the wall clock, which goes on while the server is off.
    until: u64,
    /// Somebody has asked for it, and not only been offered it.
    is_leased: bool,
}

/// Nobody's card: an address with it is left alone.
const NOBODY: MacAddr = MacAddr([0; 6]);

/// Who has which address of the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leases {
    range: AddressRange,
    taken: BTreeMap<Ipv4Addr, Taken>,
}

impl Leases {
    /// None yet.
    pub fn new(range: AddressRange) -> Leases {
        Leases { range, taken: BTreeMap::new() }
    }

    /// Those that [`Leases::text`] has written: a line for each. What is not one is left out, and so is what is not in the
    /// range any more. No lease is longer than it can be, whatever became of the clock.
    pub fn parse(range: AddressRange, text: &str, now: u64) -> Leases {
        let mut leases = Leases::new(range);
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(address), Some(mac), Some(until), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let (Ok(address), Ok(mac), Ok(until)) = (address.parse(), mac.parse(), until.parse::<u64>())
            else {
                continue;
            };
            if range.contains(address) {
                let until = until.min(now.saturating_add(LEASE));
                leases.taken.insert(address, Taken { mac, until, is_leased: true });
            }
        }
        leases
    }

    /// The leases as lines for a file; offers are left out.
    pub fn text(&self) -> String {
        let leased = self.taken.iter().filter(|(_, taken)| taken.is_leased);
        leased.fold(String::new(), |mut text, (address, taken)| {
            let _ = writeln!(text, "{address} {} {}", taken.mac, taken.until);
            text
        })
    }

    /// The address of this card: its own of before, else one that nobody has, kept for it for a moment. `None` where all are
    /// taken.
    pub fn offer(&mut self, mac: MacAddr, now: u64, is_free: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let had = self.taken.iter().find(|(address, taken)| taken.mac == mac && is_free(**address));
        if let Some(had) = had.map(|(address, _)| *address) {
            if let Some(taken) = self.taken.get_mut(&had) {
                taken.until = taken.until.max(now + OFFER);
            }
            return Some(had);
        }
        let never = |address: &Ipv4Addr| is_free(*address) && !self.taken.contains_key(address);
        // A machine that comes back finds its address, as long as there are others.
        let over = || {
            let over = self.taken.iter().filter(|(address, taken)| taken.until <= now && is_free(**address));
            over.min_by_key(|(_, taken)| taken.until).map(|(address, _)| *address)
        };
        let address = self.range.addresses().find(never).or_else(over)?;
        self.taken.insert(address, Taken { mac, until: now + OFFER, is_leased: false });
        Some(address)
    }

    /// Leases this address to this card, if it is its own or nobody's: true where the file should know. That of a machine
    /// which asks again at once is not worth a write.
    pub fn lease(
        &mut self,
        mac: MacAddr,
        address: Ipv4Addr,
        now: u64,
        is_free: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<bool> {
        if !self.range.contains(address) || !is_free(address) {
            return None;
        }
        let before = self.taken.get(&address).filter(|taken| taken.mac == mac || taken.until > now);
        if before.is_some_and(|taken| taken.mac != mac) {
            return None;
        }
        let is_new = before.is_none_or(|taken| !taken.is_leased || taken.until + LEASE / 10 < now + LEASE);
        // One card has one address.
        self.taken.retain(|_, taken| taken.mac != mac);
        self.taken.insert(address, Taken { mac, until: now + LEASE, is_leased: true });
        Some(is_new)
    }

    /// The card gives its address back.
    pub fn release(&mut self, mac: MacAddr, address: Ipv4Addr) {
        if self.taken.get(&address).is_some_and(|taken| taken.mac == mac) {
            self.taken.remove(&address);
        }
    }

    /// The card has found somebody else at the address: it is left alone for a while.
    pub fn decline(&mut self, mac: MacAddr, address: Ipv4Addr, now: u64) {
        if let Some(taken) = self.taken.get_mut(&address).filter(|taken| taken.mac == mac) {
            *taken = Taken { mac: NOBODY, until: now + DECLINED, is_leased: false };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn card(n: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, n])
    }

    fn leases() -> Leases {
        Leases::new("10.0.0.10-10.0.0.12".parse().unwrap())
    }

    #[test]
    fn ranges() {
        for bad in ["", "10.0.0.1", "10.0.0.2-10.0.0.1", "10.0.0.0-10.0.255.255", "a-b"] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
        }
        let range: AddressRange = "10.0.0.254-10.0.1.1".parse().unwrap();
        assert_eq!((range.addresses().count(), range.contains([10, 0, 1, 2].into())), (4, false));
    }

    #[test]
    fn a_card_keeps_its_address_and_a_full_range_says_so() {
        let (mut leases, all) = (leases(), |_| true);
        let first = leases.offer(card(1), 0, all).unwrap();
        assert_eq!(leases.lease(card(1), first, 1, all), Some(true));
        assert_eq!(leases.lease(card(2), first, 1, all), None, "somebody else's");
        let others = [2, 3, 4].map(|n| leases.offer(card(n), 2, all));
        assert!(others[0].is_some() && others[1].is_some() && others[2].is_none(), "{others:?}");
        // Offers that nobody took are free again; the lease is not.
        let again = [5, 6, 7].map(|n| leases.offer(card(n), 40, all));
        assert!(again[0].is_some() && again[1].is_some() && again[2].is_none(), "{again:?}");
        assert_eq!(leases.offer(card(1), 4000, all), Some(first), "its own, though it is over");
        leases.decline(card(1), first, 4000);
        assert_ne!(leases.offer(card(1), 4000, all), Some(first));
    }

    #[test]
    fn reserved_addresses_are_given_to_nobody() {
        let mut leases = leases();
        let is_free = |address: Ipv4Addr| address.octets()[3] == 11;
        assert_eq!(leases.offer(card(1), 0, is_free), Some([10, 0, 0, 11].into()));
        assert_eq!(leases.offer(card(2), 0, is_free), None);
        // It becomes a known machine's while it is leased.
        assert_eq!(leases.offer(card(1), 0, |_| false), None);
    }

    #[test]
    fn leases_survive_in_their_file() {
        let mut before = leases();
        let address = before.offer(card(1), 100, |_| true).unwrap();
        before.lease(card(1), address, 100, |_| true);
        before.offer(card(2), 100, |_| true);
        assert_eq!(before.text(), "10.0.0.10 02:00:00:00:00:01 3700\n");
        let mut after = Leases::parse(before.range, &before.text(), 100);
        assert_eq!(after.offer(card(1), 100, |_| true), Some(address));
        // The clock was wrong when it was written.
        let odd = "10.0.0.10 02:00:00:00:00:01 99999999999\n10.9.9.9 02:00:00:00:00:01 1\nx\n\n1 2 3 4\n";
        let odd = Leases::parse(before.range, odd, 100);
        assert_eq!(odd.text(), before.text());
    }

    proptest! {
        #[test]
        fn no_two_cards_have_one_address(steps in prop::collection::vec((0u8..4, 0u8..6, 10u8..14, 0u64..50), 0..200)) {
            let (mut leases, mut now) = (leases(), 0);
            let mut held: BTreeMap<Ipv4Addr, (u8, u64)> = BTreeMap::new();
            for (step, n, last, time) in steps {
                now += time;
                let address = Ipv4Addr::new(10, 0, 0, last);
                match step {
                    0 | 1 => {
                        if let Some(offered) = leases.offer(card(n), now, |_| true) {
                            prop_assert!(leases.range.contains(offered));
                            let holder = held.get(&offered).filter(|(_, until)| *until > now);
                            prop_assert!(holder.is_none_or(|(holder, _)| *holder == n), "{offered} is held");
                            if step == 1 && leases.lease(card(n), offered, now, |_| true).is_some() {
                                held.retain(|_, (holder, _)| *holder != n);
                                held.insert(offered, (n, now + LEASE));
                            }
                        }
                    }
                    2 => {
                        leases.release(card(n), address);
                        held.retain(|at, (holder, _)| *at != address || *holder != n);
                    }
                    _ => {
                        leases.decline(card(n), address, now);
                        held.retain(|at, (holder, _)| *at != address || *holder != n);
                    }
                }
                prop_assert!(leases.taken.len() <= 3);
            }
        }

        #[test]
        fn any_file_is_survived(text in any::<String>()) {
            let _ = Leases::parse("10.0.0.10-10.0.0.12".parse().unwrap(), &text, 5);
        }
    }
}
