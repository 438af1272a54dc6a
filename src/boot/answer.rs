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
mod tests {
    use super::super::ask::tests::{MAC, request};
    use super::*;
    use crate::store::layout::{SHIM, SHIM_ARM64, TFTP_MARKER};
    use proptest::prelude::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
    const TB1: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
    const NETWORKS: [OwnNetwork; 1] = [OwnNetwork { address: OWN, netmask: Ipv4Addr::new(255, 255, 255, 0) }];
    const BIOS: [(u8, &[u8]); 2] = [(60, b"PXEClient:Arch:00000"), (93, &[0, 0])];

    fn machines() -> KnownMachines {
        KnownMachines::parse(&format!("[tb1]\naddress = \"{TB1}\"\nmac = \"{MAC}\"\n")).unwrap()
    }

    struct Bench {
        rules: DhcpRules,
        leases: Leases,
        machines: KnownMachines,
        files: Vec<&'static str>,
        is_proxy_port: bool,
        now: u64,
    }

    impl Bench {
        fn new(is_proxy: bool) -> Bench {
            let range: AddressRange = "10.9.0.100-10.9.0.102".parse().unwrap();
            Bench {
                rules: DhcpRules {
                    range: (!is_proxy).then_some(range),
                    is_unknown_allowed: false,
                    router: None,
                    dns: Vec::new(),
                },
                leases: Leases::new(range),
                machines: machines(),
                files: vec![TFTP_MARKER, SHIM, SHIM_ARM64],
                is_proxy_port: false,
                now: 0,
            }
        }

        fn unknown() -> Bench {
            let mut bench = Bench::new(false);
            bench.rules.is_unknown_allowed = true;
            bench.machines = KnownMachines::parse("[tb9]\naddress = \"10.9.0.101\"\n").unwrap();
            bench
        }

        fn decide(&mut self, datagram: &[u8]) -> Decision {
            let facts = DhcpFacts {
                networks: &NETWORKS,
                is_proxy_port: self.is_proxy_port,
                machines: &self.machines,
                now: self.now,
                has_file: &|file| self.files.contains(&file),
            };
            answer(&DhcpAsk::parse(datagram).unwrap(), &self.rules, &mut self.leases, &facts).0
        }

        fn told(&mut self, kind: u8, options: &[(u8, &[u8])]) -> DhcpTold {
            match self.decide(&request(kind, options)) {
                Decision::Tell(told, _) => told,
                other => panic!("{other:?}"),
            }
        }

        fn reason(&mut self, datagram: &[u8]) -> String {
            match self.decide(datagram) {
                Decision::Silence(why) => why.unwrap_or_default(),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_known_machine_gets_its_address_and_loader() {
        for (number, file) in [
            (0, Some(TFTP_MARKER)),
            (7, Some(SHIM)),
            (9, Some(SHIM)),
            (11, Some(SHIM_ARM64)),
            (16, None),
            (6, None),
        ] {
            let told = Bench::new(false).told(kind::DISCOVER, &[(60, b"PXEClient"), (93, &[0, number])]);
            assert_eq!(
                (told.kind, told.yours, told.server, told.file),
                (kind::OFFER, TB1, OWN, file),
                "{number}"
            );
        }
        // Its own system: an address, and nothing to boot.
        let told = Bench::new(false).told(kind::REQUEST, &[(50, &TB1.octets()), (54, &OWN.octets())]);
        assert_eq!((told.kind, told.yours, told.file), (kind::ACK, TB1, None));
        let mut renewed = request(kind::REQUEST, &[]);
        renewed[12..16].copy_from_slice(&TB1.octets());
        let Decision::Tell(told, _) = Bench::new(false).decide(&renewed) else { panic!() };
        assert_eq!((told.kind, told.yours), (kind::ACK, TB1));
        let told = Bench::new(false).told(kind::REQUEST, &[(50, &[10, 9, 0, 101])]);
        assert_eq!((told.kind, told.yours), (kind::NAK, Ipv4Addr::UNSPECIFIED), "another address");
    }

    #[test]
    fn machines_are_told_router_and_dns_where_there_are_such() {
        let mut bench = Bench::new(false);
        assert!(bench.told(kind::DISCOVER, &BIOS).options.iter().all(|(code, _)| ![3, 6].contains(code)));
        bench.rules.router = Some(OWN);
        bench.rules.dns = vec![OWN, TB1];
        let options = bench.told(kind::DISCOVER, &BIOS).options;
        assert!(
            options.contains(&(3, vec![10, 9, 0, 1]))
                && options.contains(&(6, vec![10, 9, 0, 1, 10, 9, 0, 100]))
        );
        assert!(
            options.contains(&(1, vec![255, 255, 255, 0])) && options.contains(&(51, vec![0, 0, 14, 16]))
        );
    }

    #[test]
    fn silence_has_its_reason() {
        let mut relayed = request(kind::DISCOVER, &BIOS);
        relayed[24..28].copy_from_slice(&[10, 8, 0, 1]);
        let mut stranger = request(kind::DISCOVER, &BIOS);
        stranger[33] = 9;
        for is_proxy in [false, true] {
            assert!(Bench::new(is_proxy).reason(&relayed).contains("by the relay 10.8.0.1"));
            assert!(Bench::new(is_proxy).reason(&stranger).contains("is not in the file of machines"));
        }
        assert_eq!(Bench::new(true).reason(&request(kind::DISCOVER, &[])), "", "no loader asks a proxy");
        let asks_other = request(kind::REQUEST, &[(50, &TB1.octets()), (54, &[10, 9, 0, 7])]);
        assert_eq!(Bench::new(false).decide(&asks_other), Decision::OtherServer([10, 9, 0, 7].into()));
        let mut elsewhere = Bench::new(false);
        elsewhere.machines =
            KnownMachines::parse(&format!("[tb1]\naddress = \"10.8.0.9\"\nmac = \"{MAC}\"\n")).unwrap();
        assert!(elsewhere.reason(&request(kind::DISCOVER, &BIOS)).contains("10.8.0.9 is in no network"));
        let mut without = Bench::new(true);
        without.files.clear();
        assert!(without.reason(&request(kind::DISCOVER, &BIOS)).contains("no pxelinux.0"));
    }

    #[test]
    fn an_unknown_machine_gets_a_lease_where_that_is_allowed() {
        let mut bench = Bench::unknown();
        let offered = bench.told(kind::DISCOVER, &BIOS);
        assert_eq!((offered.yours, offered.file), (TB1, Some(TFTP_MARKER)), "the first of the range");
        let wanted = offered.yours.octets();
        assert_eq!(bench.told(kind::REQUEST, &[(50, &wanted), (54, &OWN.octets())]).kind, kind::ACK);
        let mut other = request(kind::DISCOVER, &BIOS);
        other[33] = 2;
        let Decision::Tell(second, _) = bench.decide(&other) else { panic!() };
        assert_eq!(second.yours, Ipv4Addr::new(10, 9, 0, 102), "10.9.0.101 is a known machine's");
        other[33] = 3;
        assert!(bench.reason(&other).contains("all of the range are taken"));
        // A restart has lost the leases: who still has an address keeps it, if nobody else has it.
        let mut again = Bench::unknown();
        let renewed = again.told(kind::REQUEST, &[(50, &[10, 9, 0, 102])]);
        assert_eq!((renewed.kind, renewed.yours), (kind::ACK, Ipv4Addr::new(10, 9, 0, 102)));
        assert_eq!(again.told(kind::REQUEST, &[(50, &[10, 9, 0, 101])]).kind, kind::NAK, "a known machine's");
        assert_eq!(again.told(kind::REQUEST, &[(50, &[10, 9, 0, 9])]).kind, kind::NAK, "out of the range");
    }

    #[test]
    fn a_proxy_names_the_loader_and_no_address() {
        for (number, file) in [(0, TFTP_MARKER), (7, SHIM), (11, SHIM_ARM64)] {
            let options: [(u8, &[u8]); 3] = [(60, b"PXEClient"), (93, &[0, number]), (97, &[0; 17])];
            let told = Bench::new(true).told(kind::DISCOVER, &options);
            assert_eq!((told.kind, told.yours, told.file), (kind::OFFER, Ipv4Addr::UNSPECIFIED, Some(file)));
            assert!(
                told.options.contains(&(60, b"PXEClient".to_vec()))
                    && told.options.contains(&(97, vec![0; 17]))
            );
            assert_eq!(told.options.iter().any(|(code, _)| *code == 43), number == 0, "{number}");
            let mut at_port = Bench::new(true);
            at_port.is_proxy_port = true;
            assert_eq!(at_port.told(kind::REQUEST, &options).kind, kind::ACK);
            assert_eq!(at_port.reason(&request(kind::DISCOVER, &options)), "");
        }
        // A GRUB that knows where to ask goes before the signed one.
        let mut own = Bench::new(true);
        own.files.push(super::super::loaders::PROXY_GRUB);
        let told = own.told(kind::DISCOVER, &[(60, b"PXEClient"), (93, &[0, 7])]);
        assert_eq!(told.file, Some("testbox-grub.efi"));
        assert_eq!(own.reason(&request(kind::DISCOVER, &[(60, b"HTTPClient"), (93, &[0, 16])])), "");
        assert_eq!(own.reason(&request(kind::REQUEST, &BIOS)), "", "that is for the DHCP server");
    }

    proptest! {
        /// Whatever is asked: an address is given only to its machine, and never this computer's own.
        #[test]
        fn no_request_gets_another_machines_address(
            message in 0u8..9, mac in 0u8..4, wanted in 98u8..104, has in 0u8..104, server in any::<Option<bool>>(), unknown in any::<bool>(),
        ) {
            let mut bench = if unknown { Bench::unknown() } else { Bench::new(false) };
            let id = server.map(|own| if own { OWN.octets() } else { [10, 9, 0, 7] });
            let address = [10, 9, 0, wanted];
            let mut options: Vec<(u8, &[u8])> = vec![(50, &address)];
            options.extend(id.as_ref().map(|id| (54, &id[..])));
            let mut datagram = request(message, &options);
            datagram[33] = mac;
            datagram[15] = has;
            if let Decision::Tell(told, _) = bench.decide(&datagram) {
                prop_assert!(told.yours != OWN);
                if !told.yours.is_unspecified() {
                    let expected = bench.machines.by_mac(DhcpAsk::parse(&datagram).unwrap().mac);
                    match expected {
                        Some(machine) => prop_assert_eq!(machine.address, told.yours),
                        None => prop_assert!(unknown && bench.machines.by_address(told.yours).is_none()),
                    }
                }
            }
        }
    }
}
