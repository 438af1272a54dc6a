//! What a client of DHCP is told: pure, so that every case is a row of a table.

use super::ask::{DhcpAsk, DhcpTold};
use super::leases::{AddressRange, LEASE, Leases};
use super::loaders::ClientKind;
use super::machines::KnownMachines;
use crate::net::dhcp::format::{code, kind};
use std::net::Ipv4Addr;

/// An address of this computer on the interface, with its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnNetwork {
    /// The address.
    pub address: Ipv4Addr,
    /// The netmask.
    pub netmask: Ipv4Addr,
}

impl OwnNetwork {
    fn has(&self, ip: Ipv4Addr) -> bool {
        let mask = u32::from(self.netmask);
        u32::from(ip) & mask == u32::from(self.address) & mask
    }

    /// Whether a machine can have this address there.
    fn is_for_a_machine(&self, ip: Ipv4Addr) -> bool {
        let host = u32::from(ip) & !u32::from(self.netmask);
        let is_host =
            u32::from(self.netmask).count_ones() > 30 || (host != 0 && host != !u32::from(self.netmask));
        self.has(ip) && is_host && ip != self.address
    }
}

/// What this server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpRules {
    /// The addresses for unknown machines, of the network's only DHCP server; `None`: a proxy, which gives no addresses.
    pub range: Option<AddressRange>,
    /// Whether machines are answered that are not in the file of machines.
    pub is_unknown_allowed: bool,
    /// The router that machines are told.
    pub router: Option<Ipv4Addr>,
    /// The DNS servers.
    pub dns: Vec<Ipv4Addr>,
}

/// What the answer depends on, beside rules and leases.
pub struct DhcpFacts<'a> {
    /// The networks of the interface that was asked on.
    pub networks: &'a [OwnNetwork],
    /// Whether it was asked at the port for proxies alone, 4011.
    pub is_proxy_port: bool,
    /// The lab's machines.
    pub machines: &'a KnownMachines,
    /// Seconds of the wall clock.
    pub now: u64,
    /// Whether the TFTP tree has this file.
    pub has_file: &'a dyn Fn(&str) -> bool,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Tell it this; the log, that.
    Tell(DhcpTold, String),
    /// Nothing; why, where an admin may want to know.
    Silence(Option<String>),
    /// Nothing: it has asked another server, which thus is on this network.
    OtherServer(Ipv4Addr),
}

/// A request that is not answered, with the reason.
fn silence(why: String) -> Result<Decision, String> {
    Ok(Decision::Silence(Some(why)))
}

/// Decides. True beside it where the leases have changed so that their file should.
pub fn answer(
    ask: &DhcpAsk,
    rules: &DhcpRules,
    leases: &mut Leases,
    facts: &DhcpFacts<'_>,
) -> (Decision, bool) {
    let machine = facts.machines.by_mac(ask.mac);
    let name =
        machine.map_or_else(|| ask.mac.to_string(), |machine| format!("{} ({})", machine.name, ask.mac));
    if !ask.relay.is_unspecified() {
        let why = format!("{name} asks by the relay {}: relays are not served", ask.relay);
        return (Decision::Silence(Some(why)), false);
    }
    // Whoever it is: that server is one that this one must not be beside.
    let is_own = |server: &Ipv4Addr| facts.networks.iter().any(|network| network.address == *server);
    let other =
        ask.server.filter(|server| !is_own(server) && ask.kind == kind::REQUEST && !facts.is_proxy_port);
    if let (Some(other), Some(_)) = (other, rules.range) {
        return (Decision::OtherServer(other), false);
    }
    if machine.is_none() && !rules.is_unknown_allowed {
        // A proxy hears everybody's request for an address, and they are no business of its.
        let is_news = rules.range.is_some() || ask.is_pxe;
        let why = format!("{name} is not in the file of machines, and gets no answer");
        return (Decision::Silence(is_news.then_some(why)), false);
    }
    match rules.range {
        None => (of_proxy(ask, &name, facts), false),
        Some(range) => {
            let reserved = machine.map(|machine| machine.address);
            let mut server =
                Full { ask, rules, range, name: &name, reserved, leases, facts, is_changed: false };
            let decision = server.decide();
            (decision, server.is_changed)
        }
    }
}

/// The loader for this client, if the tree has it; else why not.
fn loader(candidates: &[&'static str], facts: &DhcpFacts<'_>) -> Result<&'static str, String> {
    let found = candidates.iter().find(|file| (facts.has_file)(file));
    found.copied().ok_or_else(|| format!("the TFTP tree has no {}", candidates.join(" and no ")))
}

fn of_proxy(ask: &DhcpAsk, name: &str, facts: &DhcpFacts<'_>) -> Decision {
    let kind = match (ask.kind, facts.is_proxy_port) {
        (kind::DISCOVER, false) => kind::OFFER,
        (kind::REQUEST, true) => kind::ACK,
        _ => return Decision::Silence(None),
    };
    let (true, Some(client), Some(network)) = (ask.is_pxe, ask.client, facts.networks.first()) else {
        return Decision::Silence(None);
    };
    if client == ClientKind::Http {
        return Decision::Silence(None);
    }
    let file = match loader(&client.of_proxy(), facts) {
        Ok(file) => file,
        Err(why) => return Decision::Silence(Some(format!("{name} gets no answer: {why}"))),
    };
    let mut options = vec![(code::VENDOR_CLASS, b"PXEClient".to_vec())];
    if client == ClientKind::Bios {
        // PXE_DISCOVERY_CONTROL: no menu and no discovery, the file is named here. UEFI takes an answer without that for what
        // it is, and would look for a boot server of this type with it.
        options.push((code::VENDOR, vec![6, 1, 8, 255]));
    }
    options.extend(ask.uuid.clone().map(|uuid| (code::CLIENT_UUID, uuid)));
    let told =
        DhcpTold { kind, yours: Ipv4Addr::UNSPECIFIED, server: network.address, file: Some(file), options };
    Decision::Tell(told, format!("{name} is told to boot {file} (its address is another server's)"))
}

/// One request to the network's only DHCP server.
struct Full<'a> {
    ask: &'a DhcpAsk,
    rules: &'a DhcpRules,
    range: AddressRange,
    name: &'a str,
    /// The address of a known machine.
    reserved: Option<Ipv4Addr>,
    leases: &'a mut Leases,
    facts: &'a DhcpFacts<'a>,
    is_changed: bool,
}

impl Full<'_> {
    fn decide(&mut self) -> Decision {
        if self.facts.is_proxy_port {
            return Decision::Silence(None);
        }
        self.try_decide().unwrap_or_else(|why| Decision::Silence(Some(why)))
    }

    fn try_decide(&mut self) -> Result<Decision, String> {
        let (ask, name, now) = (self.ask, self.name, self.facts.now);
        let network = self.network()?;
        match ask.kind {
            kind::DISCOVER => {
                let address = match self.reserved {
                    Some(address) => address,
                    None => {
                        let is_free = is_free(self.facts, network);
                        let offered = self.leases.offer(ask.mac, now, is_free);
                        offered
                            .ok_or_else(|| format!("{name} gets no address: all of the range are taken"))?
                    }
                };
                Ok(self.tell(kind::OFFER, address, network, "is offered"))
            }
            kind::REQUEST => {
                let wanted = ask.wanted.unwrap_or(ask.has);
                if wanted.is_unspecified() {
                    return silence(format!("{name} asks for no address"));
                }
                let is_its_own = match self.reserved {
                    Some(address) => address == wanted,
                    None => {
                        let leased = self.leases.lease(ask.mac, wanted, now, is_free(self.facts, network));
                        self.is_changed = leased == Some(true);
                        leased.is_some()
                    }
                };
                Ok(match is_its_own {
                    true => self.tell(kind::ACK, wanted, network, "has"),
                    false => self.refuse(wanted, network),
                })
            }
            kind::INFORM => {
                Ok(self.tell(kind::ACK, Ipv4Addr::UNSPECIFIED, network, "is told, with its address"))
            }
            kind::RELEASE => {
                self.leases.release(ask.mac, ask.has);
                self.is_changed = true;
                Ok(Decision::Silence(None))
            }
            kind::DECLINE => {
                let address = ask.wanted.unwrap_or(ask.has);
                self.leases.decline(ask.mac, address, now);
                silence(format!("{name} says that somebody else has {address}: who is it?"))
            }
            _ => Ok(Decision::Silence(None)),
        }
    }

    /// The network that the machine's address is in.
    fn network(&self) -> Result<OwnNetwork, String> {
        let wanted = self.reserved.unwrap_or(self.range.first);
        let found = self.facts.networks.iter().find(|network| network.has(wanted)).copied();
        let network = found.ok_or_else(|| {
            format!(
                "{} gets no answer: {wanted} is in no network of the interface that it asks on",
                self.name
            )
        })?;
        match self.reserved {
            Some(address) if !network.is_for_a_machine(address) => {
                Err(format!("{} gets no answer: no machine there can have {address}", self.name))
            }
            _ => Ok(network),
        }
    }

    fn tell(&self, kind: u8, yours: Ipv4Addr, network: OwnNetwork, verb: &str) -> Decision {
        let mut options = Vec::new();
        if self.ask.kind != kind::INFORM {
            options.push((code::LEASE_TIME, (LEASE as u32).to_be_bytes().to_vec()));
        }
        options.push((code::NETMASK, network.netmask.octets().to_vec()));
        options.extend(self.rules.router.map(|router| (code::ROUTER, router.octets().to_vec())));
        if !self.rules.dns.is_empty() {
            options.push((code::DNS, self.rules.dns.iter().flat_map(Ipv4Addr::octets).collect()));
        }
        options.extend(self.ask.uuid.clone().map(|uuid| (code::CLIENT_UUID, uuid)));
        let file = self.ask.client.and_then(ClientKind::loader).map(|file| loader(&[file], self.facts));
        let boots = match &file {
            None => String::new(),
            Some(Ok(file)) => format!(", and boots {file}"),
            Some(Err(why)) => format!(", and cannot boot: {why}"),
        };
        let file = file.and_then(Result::ok);
        let told = DhcpTold { kind, yours, server: network.address, file, options };
        Decision::Tell(told, format!("{} {verb} {yours}{boots}", self.name))
    }

    fn refuse(&self, wanted: Ipv4Addr, network: OwnNetwork) -> Decision {
        let text = b"not your address".to_vec();
        let told = DhcpTold {
            kind: kind::NAK,
            yours: Ipv4Addr::UNSPECIFIED,
            server: network.address,
            file: None,
            options: vec![(code::MESSAGE, text)],
        };
        Decision::Tell(told, format!("{} wants {wanted}, which is not its address: refused", self.name))
    }
}

/// Whether an address of the range may be leased: no known machine's, and one that a machine can have.
fn is_free<'a>(facts: &'a DhcpFacts<'_>, network: OwnNetwork) -> impl Fn(Ipv4Addr) -> bool + 'a {
    move |address| {
        let is_own = facts.networks.iter().any(|own| own.address == address);
        network.is_for_a_machine(address) && !is_own && facts.machines.by_address(address).is_none()
    }
}

#[cfg(test)]
mod tests;
