//! What comes to the ports of the boot services, and the files that they read.

use std::net::Ipv4Addr;
use testbox::boot::answer::{Decision, DhcpFacts, DhcpRules, OwnNetwork, answer};
use testbox::boot::ask::DhcpAsk;
use testbox::boot::leases::{AddressRange, Leases};
use testbox::boot::machines::KnownMachines;
use testbox::boot::request::{TftpAsk, asked};
use testbox::boot::sending::{SendStep, Sending};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const MACHINES: &str = "[tb1]\naddress = \"10.9.0.100\"\nmac = \"52:54:00:09:00:01\"\n[tb2]\naddress = \"10.9.0.101\"\n";
const RANGE: AddressRange =
    AddressRange { first: Ipv4Addr::new(10, 9, 0, 98), last: Ipv4Addr::new(10, 9, 0, 103) };

/// The first byte chooses what the server is; then come requests, each behind its length, which is doubled.
pub fn dhcp_server(bytes: &[u8]) {
    let Some((choice, mut rest)) = bytes.split_first() else { return };
    let machines = KnownMachines::parse(MACHINES).unwrap();
    let mut leases = Leases::new(RANGE);
    let rules = DhcpRules {
        range: (choice & 1 == 0).then_some(RANGE),
        is_unknown_allowed: choice & 2 != 0,
        router: (choice & 4 != 0).then_some(OWN),
        dns: vec![OWN; usize::from(choice >> 6)],
    };
    let networks = [OwnNetwork { address: OWN, netmask: Ipv4Addr::new(255, 255, 255, 0) }];
    let mut now = 0;
    while let Some((len, after)) = rest.split_first() {
        let (datagram, after) = after.split_at((usize::from(*len) * 2).min(after.len()));
        rest = after;
        now += u64::from(*len) * 16;
        let Some(ask) = DhcpAsk::parse(datagram) else { continue };
        let has_file = |file: &str| choice & 8 != 0 || file == "pxelinux.0";
        let is_proxy_port = choice & 16 != 0;
        let facts = DhcpFacts { networks: &networks, is_proxy_port, machines: &machines, now, has_file: &has_file };
        let (decision, _) = answer(&ask, &rules, &mut leases, &facts);
        if let Decision::Tell(told, text) = decision {
            let answer = told.to_bytes(&ask);
            assert!((300..576).contains(&answer.len()), "{} bytes", answer.len());
            assert_eq!((answer[0], &answer[4..8], &answer[28..34]), (2, &ask.xid[..], &ask.mac.0[..]));
            assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
            let machine = machines.by_mac(ask.mac);
            assert!(told.yours.is_unspecified() || rules.range.is_some(), "a proxy gives no address");
            if !told.yours.is_unspecified() {
                assert_ne!(told.yours, OWN);
                match machine {
                    Some(machine) => assert_eq!(told.yours, machine.address),
                    None => assert!(rules.is_unknown_allowed && machines.by_address(told.yours).is_none()),
                }
            }
        }
        assert!(leases.text().lines().count() <= RANGE.addresses().count());
    }
    assert_eq!(Leases::parse(RANGE, &leases.text(), now).text(), leases.text());
}

/// A request, behind its length, and what follows it from the client.
pub fn tftp_server(bytes: &[u8]) {
    let Some((len, rest)) = bytes.split_first() else { return };
    let (request, mut rest) = rest.split_at((usize::from(*len) * 2).min(rest.len()));
    let TftpAsk::File { path, options } = asked(request) else { return };
    assert!(path.split('/').all(|name| !matches!(name, "" | "." | "..")) && path.len() <= 512, "{path:?}");
    let file = vec![7; 20_000];
    let mut sending = Sending::new(file, 20_000, &options);
    let sent = |datagrams: &[Vec<u8>]| datagrams.iter().map(Vec::len).sum::<usize>() <= 64 * 1472;
    assert!(sent(&sending.first().unwrap()));
    while let Some((len, after)) = rest.split_first() {
        let (datagram, after) = after.split_at(usize::from(*len).min(after.len()));
        rest = after;
        let step = if datagram.is_empty() { sending.on_timeout() } else { sending.on_datagram(datagram) };
        match step.unwrap() {
            SendStep::Send(more) => assert!(sent(&more)),
            SendStep::Wait => {}
            SendStep::Done | SendStep::Failed(_) => return,
        }
        assert!(sending.wait().as_secs() <= 255);
    }
}

pub fn machines(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = Leases::parse(RANGE, &text, 1000).text();
    if let Ok(known) = KnownMachines::parse(&text) {
        assert_eq!(KnownMachines::of(known.list().to_vec()), Ok(known));
    }
}
