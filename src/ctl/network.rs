//! Which addresses can be machines of a network (RFC 950, RFC 3021 for /31).

use nix::ifaddrs::getifaddrs;
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network: its address and the bits of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    ip: Ipv4Addr,
    bits: u32,
}

impl Subnet {
    /// The network of an address. `None` where the netmask has zeros between its ones, or no ones at all.
    pub fn of(ip: Ipv4Addr, netmask: Ipv4Addr) -> Option<Subnet> {
        let mask = u32::from(netmask);
        let bits = mask.leading_ones();
        let is_contiguous = bits == mask.count_ones() && bits > 0;
        is_contiguous.then(|| Subnet { ip: (u32::from(ip) & mask).into(), bits })
    }

    fn host_bits(self) -> u32 {
        u32::MAX.checked_shr(self.bits).unwrap_or(0)
    }

    /// Its own address.
    pub fn address(self) -> Ipv4Addr {
        self.ip
    }

    /// The address of all of its machines.
    pub fn broadcast(self) -> Ipv4Addr {
        (u32::from(self.ip) | self.host_bits()).into()
    }

    pub fn contains(self, ip: Ipv4Addr) -> bool {
        u32::from(ip) & !self.host_bits() == u32::from(self.ip)
    }

    /// Why an address in it is not one of a machine: it is the network's own, or that of all its machines.
    fn is_not_a_host(self, ip: Ipv4Addr) -> Option<String> {
        let host = u32::from(ip) & self.host_bits();
        match host {
            _ if self.bits > 30 || !self.contains(ip) => None,
            0 => Some(format!("it is the address of the network {self} itself")),
            host if host == self.host_bits() => Some(format!("it is the broadcast address of {self}")),
            _ => None,
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{}' is not a network such as 10.42.1.0/24", text.escape_default());
        let (ip, bits) = text.split_once('/').ok_or_else(wrong)?;
        let (ip, bits) = (ip.parse().map_err(|_| wrong())?, bits.parse().map_err(|_| wrong())?);
        let network = Subnet { ip, bits };
        if bits > 32 || !network.contains(ip) {
            return Err(wrong());
        }
        Ok(network)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is known of the network that machines are in.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    pub servers: Vec<Ipv4Addr>,
    pub gateway: Option<Ipv4Addr>,
    pub netmask: Option<Ipv4Addr>,
    /// The lab's network, where somebody has said it.
    pub lab: Option<Subnet>,
    /// Addresses of this computer, each with the network that it is in.
    pub own: Vec<(Ipv4Addr, Option<Subnet>)>,
}

impl Surroundings {
    /// Why a machine cannot have this address there, or would not reach anybody with it. Nothing is known of a network
    /// that nobody has named, so what is not wrong may still not be right.
    pub fn problems(&self, ip: Ipv4Addr) -> Vec<String> {
        let mut problems = Vec::new();
        let mut is_wrong = |what: Option<String>| problems.extend(what);
        let is_class_e_or_none = ip.octets()[0] == 0 || ip.octets()[0] >= 240;
        is_wrong(
            is_class_e_or_none.then(|| "it is not an address that a machine can have (RFC 1122)".into()),
        );
        is_wrong(self.servers.contains(&ip).then(|| "it is the address of the server".into()));
        is_wrong((self.gateway == Some(ip)).then(|| "it is the address of the gateway".into()));
        let is_own = !self.servers.contains(&ip) && self.own.iter().any(|(own, _)| *own == ip);
        is_wrong(is_own.then(|| "it is an address of this computer".into()));
        if let Some(netmask) = self.netmask {
            match Subnet::of(ip, netmask) {
                None => is_wrong(Some(format!("{netmask} is not a netmask: ones, then zeros"))),
                Some(network) => {
                    is_wrong(network.is_not_a_host(ip));
                    is_wrong(self.gateway.and_then(|gateway| wrong_gateway(network, gateway)));
                }
            }
        }
        if let Some(lab) = self.lab {
            is_wrong((!lab.contains(ip)).then(|| format!("it is not in the lab's network {lab}")));
        }
        let near = self.own.iter().filter(|(own, _)| self.servers.contains(own)).filter_map(|(_, net)| *net);
        for network in self.lab.into_iter().chain(near) {
            is_wrong(network.is_not_a_host(ip));
        }
        problems.sort();
        problems.dedup();
        problems
    }
}

/// Why no packet would find its way by this gateway. Of a /32 every gateway is outside, and reached by a route of its own.
fn wrong_gateway(network: Subnet, gateway: Ipv4Addr) -> Option<String> {
    if network.bits < 32 && !network.contains(gateway) {
        return Some(format!("the gateway {gateway} is not in its network {network}"));
    }
    network.is_not_a_host(gateway).map(|why| format!("the gateway {gateway} cannot be one: {why}"))
}

/// The IPv4 addresses of this computer; none where it does not tell.
pub(super) fn own_addresses() -> Vec<(Ipv4Addr, Option<Subnet>)> {
    addresses_on(None)
}

/// The same of one interface alone, where one is named.
pub(super) fn addresses_on(interface: Option<&str>) -> Vec<(Ipv4Addr, Option<Subnet>)> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    let address = |a: Option<nix::sys::socket::SockaddrStorage>| Some(a?.as_sockaddr_in()?.ip());
    all.filter(|one| interface.is_none_or(|name| one.interface_name == name))
        .filter_map(|one| {
            let ip = address(one.address)?;
            let network = address(one.netmask).and_then(|mask| Subnet::of(ip, mask));
            (!ip.is_loopback()).then_some((ip, network))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn networks() {
        for (text, good) in [
            ("10.42.1.0/24", true),
            ("10.0.0.0/8", true),
            ("10.0.0.1/32", true),
            ("0.0.0.0/0", true),
            ("10.42.1.1/24", false),
            ("10.42.1.0", false),
            ("10.42.1.0/33", false),
            ("10.42.1/24", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<Subnet>().is_ok(), good, "{text}");
        }
    }

    /// Machine, gateway, netmask, and a part of what is wrong with them; nothing where all is right.
    #[test]
    fn a_fixed_address_fits_its_network() {
        for (machine, gateway, netmask, part) in [
            ("10.42.1.20", "10.42.1.254", "255.255.255.0", ""),
            ("10.42.1.20", "10.42.1.254", "255.255.0.0", ""),
            ("10.42.0.255", "10.42.1.254", "255.255.0.0", ""),
            ("10.42.1.20", "10.99.1.254", "255.255.255.0", "not in its network 10.42.1.0/24"),
            ("10.42.1.20", "10.42.1.254", "255.0.255.0", "not a netmask"),
            ("10.42.1.20", "10.42.1.254", "0.0.0.255", "not a netmask"),
            ("10.42.1.20", "10.42.1.254", "0.0.0.0", "not a netmask"),
            ("10.42.1.0", "10.42.1.254", "255.255.255.0", "network 10.42.1.0/24 itself"),
            ("10.42.1.255", "10.42.1.254", "255.255.255.0", "broadcast address of 10.42.1.0/24"),
            ("10.42.1.63", "10.42.1.62", "255.255.255.192", "broadcast address of 10.42.1.0/26"),
            ("10.42.1.254", "10.42.1.254", "255.255.255.0", "address of the gateway"),
            ("10.42.1.1", "10.42.1.254", "255.255.255.0", "address of the server"),
            ("10.42.1.20", "10.42.1.255", "255.255.255.0", "gateway 10.42.1.255 cannot be one"),
            ("10.42.1.20", "10.42.1.0", "255.255.255.0", "gateway 10.42.1.0 cannot be one"),
            // RFC 3021: two addresses, both of machines.
            ("10.42.1.20", "10.42.1.21", "255.255.255.254", ""),
            ("10.42.1.20", "10.42.1.22", "255.255.255.254", "not in its network 10.42.1.20/31"),
            // Point to point: the gateway is outside.
            ("10.42.1.20", "10.99.0.1", "255.255.255.255", ""),
            ("0.1.2.3", "0.1.2.4", "255.255.255.0", "RFC 1122"),
            ("241.0.0.9", "241.0.0.1", "255.255.255.0", "RFC 1122"),
        ] {
            let place = Surroundings {
                servers: vec![ip("10.42.1.1")],
                gateway: Some(ip(gateway)),
                netmask: Some(ip(netmask)),
                ..Surroundings::default()
            };
            let problems = place.problems(ip(machine)).join("; ");
            assert!(problems.contains(part), "{machine} {gateway} {netmask}: {problems}");
            assert_eq!(problems.is_empty(), part.is_empty(), "{machine} {gateway} {netmask}: {problems}");
        }
    }

    /// With DHCP, what the lab's network is comes from the settings, or from the server where that is this computer.
    #[test]
    fn an_address_of_dhcp_fits_the_network_that_is_known() {
        let lab: Subnet = "10.42.1.0/24".parse().unwrap();
        let server = ip("10.42.1.1");
        let named = Surroundings { lab: Some(lab), ..Surroundings::default() };
        let here =
            Surroundings { servers: vec![server], own: vec![(server, Some(lab))], ..Surroundings::default() };
        let away = Surroundings { servers: vec![server], ..Surroundings::default() };
        for (machine, by_name, by_own, unknown) in [
            ("10.42.1.20", true, true, true),
            ("10.42.1.255", false, false, true),
            ("10.42.1.0", false, false, true),
            // Machines behind a router are served too.
            ("10.42.2.20", false, true, true),
            ("10.42.1.1", true, false, false),
        ] {
            let good = |place: &Surroundings| place.problems(ip(machine)).is_empty();
            assert_eq!((good(&named), good(&here), good(&away)), (by_name, by_own, unknown), "{machine}");
        }
    }
}
