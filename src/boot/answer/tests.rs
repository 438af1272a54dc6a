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
        options.contains(&(3, vec![10, 9, 0, 1])) && options.contains(&(6, vec![10, 9, 0, 1, 10, 9, 0, 100]))
    );
    assert!(options.contains(&(1, vec![255, 255, 255, 0])) && options.contains(&(51, vec![0, 0, 14, 16])));
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
            told.options.contains(&(60, b"PXEClient".to_vec())) && told.options.contains(&(97, vec![0; 17]))
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
