//! Machines that have booted from here and that nobody knows yet: `testboxctl machines learn` reads them.
//!
//! PXELINUX and GRUB ask for a file that is named after their card before any other, and they ask from the machine's address:
//! so TFTP sees both, whichever DHCP server has given the address. Nothing of it is proven.

use crate::share::{DirFiles, Files};
use crate::types::MacAddr;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// The file of machines that were seen, in the folder of the boot services.
pub const SEEN_FILE: &str = "seen";
/// Most machines that are kept: those that were seen last.
const MOST: usize = 4096;
/// Largest file that is read, in bytes.
const SEEN_LIMIT: usize = 1 << 20;

/// The card at an address, and when it was seen last, in seconds of the wall clock.
type SeenAt = BTreeMap<Ipv4Addr, (MacAddr, u64)>;

/// The machines that were seen, in memory and in their file.
pub struct SeenBoots {
    seen: Mutex<SeenAt>,
    state: DirFiles,
    is_unwritten: AtomicBool,
}

impl SeenBoots {
    /// Those of the file in this folder, if it is there.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn open(state: DirFiles) -> io::Result<SeenBoots> {
        let text = match state.read_limited(SEEN_FILE, SEEN_LIMIT) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        Ok(SeenBoots { seen: Mutex::new(parse(&text)), state, is_unwritten: AtomicBool::new(false) })
    }

    /// This card asks from this address; true where that is new.
    pub fn note(&self, address: Ipv4Addr, mac: MacAddr, now: u64) -> bool {
        let is_new = note(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner), address, mac, now);
        if is_new {
            self.is_unwritten.store(true, Relaxed);
        }
        is_new
    }

    /// Writes them down, if there are new ones.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write(&self) -> io::Result<()> {
        if !self.is_unwritten.swap(false, Relaxed) {
            return Ok(());
        }
        let text = text(&self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        self.state.write_atomic(SEEN_FILE, text.as_bytes())
    }
}

fn note(seen: &mut SeenAt, address: Ipv4Addr, mac: MacAddr, now: u64) -> bool {
    if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
        return false;
    }
    let is_new = seen.get(&address).is_none_or(|(before, _)| *before != mac);
    // One card has one address.
    if is_new {
        seen.retain(|_, (other, _)| *other != mac);
    }
    seen.insert(address, (mac, now));
    if seen.len() > MOST {
        let oldest = seen.iter().min_by_key(|(_, (_, at))| *at).map(|(address, _)| *address);
        if let Some(address) = oldest {
            seen.remove(&address);
        }
    }
    is_new
}

/// A line for each: address, MAC, when.
fn text(seen: &SeenAt) -> String {
    seen.iter().fold(String::new(), |mut text, (address, (mac, at))| {
        let _ = writeln!(text, "{address} {mac} {at}");
        text
    })
}

/// What is not a line of [`text`] is left out.
fn parse(text: &str) -> SeenAt {
    let mut seen = SeenAt::new();
    for line in text.lines() {
        if let [address, mac, at] = line.split(' ').collect::<Vec<_>>()[..]
            && let (Ok(address), Ok(mac), Ok(at)) = (address.parse(), mac.parse(), at.parse())
        {
            note(&mut seen, address, mac, at);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(n: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, n])
    }

    #[test]
    fn a_card_has_one_address_and_survives_in_the_file() {
        let mut seen = SeenAt::new();
        let at = |n: u8| Ipv4Addr::new(10, 0, 0, n);
        assert!(note(&mut seen, at(1), card(1), 5) && !note(&mut seen, at(1), card(1), 6));
        assert!(note(&mut seen, at(2), card(2), 7));
        assert!(note(&mut seen, at(3), card(1), 8), "it has moved");
        assert!(!note(&mut seen, at(9), MacAddr([0; 6]), 9) && !note(&mut seen, at(9), MacAddr([1; 6]), 9));
        assert_eq!(text(&seen), "10.0.0.2 02:00:00:00:00:02 7\n10.0.0.3 02:00:00:00:00:01 8\n");
        assert_eq!(parse(&text(&seen)), seen);
        assert_eq!(parse("10.0.0.2 x 7\n\n10.0.0.2 02:00:00:00:00:02\n"), SeenAt::new());
    }

    /// Whoever invents machines pushes out those that were seen longest ago, and memory is bounded.
    #[test]
    fn the_newest_are_kept() {
        let mut seen = SeenAt::new();
        for n in 0..MOST as u32 + 3 {
            let [_, _, a, b] = n.to_be_bytes();
            note(&mut seen, Ipv4Addr::from(0x0a00_0000 + n), MacAddr([2, 0, 0, 0, a, b]), u64::from(n));
        }
        assert_eq!((seen.len(), seen.keys().next()), (MOST, Some(&Ipv4Addr::new(10, 0, 0, 3))));
    }
}
