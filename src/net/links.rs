//! The network interfaces as the kernel has them, and whether anyone answers at them.
#![forbid(unsafe_code)]

use crate::text::plain;
use crate::types::MacAddr;
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The discard service (RFC 863): whoever gets a datagram there does nothing with it.
const DISCARD: u16 = 9;
/// ARPHRD_ETHER of the kernel's if_arp.h.
const ETHERNET: &str = "1";
/// How often the neighbour table is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// One Ethernet interface (kernel document ABI/testing/sysfs-class-net).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name, such as `enp0s2`.
    pub name: String,
    /// Its address.
    pub mac: Option<MacAddr>,
    /// Whether the other end of the cable is there; `None` while the interface is not up.
    pub carrier: Option<bool>,
    /// `operstate`: RFC 2863's state of the interface, in the kernel's words.
    pub state: String,
    /// Longest packet in bytes.
    pub mtu: Option<u32>,
}

impl Link {
    /// All Ethernet interfaces below a sysfs, by name.
    pub fn scan(sys: &Path) -> Vec<Link> {
        let folder = sys.join("class/net");
        let names = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut links: Vec<Link> = names
            .filter_map(|nic| nic.file_name().into_string().ok())
            .filter_map(|name| Link::read(&folder.join(&name), name))
            .collect();
        links.sort_by(|a, b| a.name.cmp(&b.name));
        links
    }

    fn read(folder: &Path, name: String) -> Option<Link> {
        let text = |file: &str| fs::read_to_string(folder.join(file)).ok().map(|text| text.trim().to_owned());
        if text("type").as_deref() != Some(ETHERNET) {
            return None;
        }
        Some(Link {
            name,
            mac: text("address").and_then(|mac| mac.parse().ok()),
            // Of an interface that is not up it cannot be read (EINVAL).
            carrier: text("carrier").map(|carrier| carrier == "1"),
            state: text("operstate").unwrap_or_else(|| "unknown".into()),
            mtu: text("mtu").and_then(|mtu| mtu.parse().ok()),
        })
    }

    /// True where a cable with somebody at its other end is plugged in.
    pub fn has_link(&self) -> bool {
        self.carrier == Some(true)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = match self.carrier {
            Some(true) => "link",
            Some(false) => "NO LINK",
            None => "not up",
        };
        write!(f, "{} ", plain(&self.name))?;
        if let Some(mac) = self.mac {
            write!(f, "{mac} ")?;
        }
        write!(f, "{link} ({})", plain(&self.state))?;
        self.mtu.filter(|mtu| *mtu != 1500).map_or(Ok(()), |mtu| write!(f, ", MTU {mtu}"))
    }
}

/// True where the kernel's neighbour table (`/proc/net/arp`, proc(5)) has the hardware address of `ip`: it has answered.
pub fn is_neighbour(table: &str, ip: Ipv4Addr) -> bool {
    /// ATF_COM of the kernel's if_arp.h: the entry is complete.
    const COMPLETE: u32 = 2;
    table.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        let is_it = fields.next().and_then(|field| field.parse().ok()) == Some(ip);
        let flags =
            fields.nth(1).and_then(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok());
        is_it && flags.is_some_and(|flags| flags & COMPLETE != 0)
    })
}

/// True where a machine on this network answers ARP for `ip` within `limit`: a datagram to its discard port makes the
/// kernel ask. While a switch port does not forward yet nobody answers, whatever the link says.
pub fn answers(ip: Ipv4Addr, limit: Duration) -> bool {
    let started = Instant::now();
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) else { return false };
    // What is wrong with it shows in the table.
    let _ = socket.send_to(b"", (ip, DISCARD));
    loop {
        if fs::read_to_string("/proc/net/arp").is_ok_and(|table| is_neighbour(&table, ip)) {
            return true;
        }
        if started.elapsed() >= limit {
            return false;
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fixture::SysfsTree;

    #[test]
    fn only_complete_neighbours_have_answered() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
            10.0.0.1         0x1         0x2         52:54:00:12:35:02     *        enp0s2\n\
            10.0.0.2         0x1         0x0         00:00:00:00:00:00     *        enp0s2\n\
            10.0.0.3         0x1         0x6         52:54:00:12:35:03     *        enp0s2\n";
        for (last, answered) in [(1, true), (2, false), (3, true), (4, false), (10, false)] {
            assert_eq!(is_neighbour(table, Ipv4Addr::new(10, 0, 0, last)), answered, "{last}");
        }
        assert!(!is_neighbour("", Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn links_are_read_with_what_a_person_must_know() {
        let tree = SysfsTree::new();
        for (nic, kind, carrier) in [
            ("enp0s2", "1", Some("1\n")),
            ("enp0s3", "1", Some("0\n")),
            ("enp0s4", "1", None),
            ("lo", "772", Some("1")),
        ] {
            let file = |name: &str, text: &str| {
                tree.file(&format!("class/net/{nic}/{name}"), text);
            };
            file("type", &format!("{kind}\n"));
            file("address", "52:54:00:12:34:56\n");
            file("operstate", if carrier == Some("1\n") { "up\n" } else { "down\n" });
            file("mtu", if nic == "enp0s2" { "1400\n" } else { "1500\n" });
            if let Some(carrier) = carrier {
                file("carrier", carrier);
            }
        }
        let shown: Vec<String> = Link::scan(&tree.sys()).iter().map(Link::to_string).collect();
        assert_eq!(
            shown,
            [
                "enp0s2 52:54:00:12:34:56 link (up), MTU 1400",
                "enp0s3 52:54:00:12:34:56 NO LINK (down)",
                "enp0s4 52:54:00:12:34:56 not up (down)",
            ]
        );
    }
}
