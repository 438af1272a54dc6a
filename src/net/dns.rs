//! Host names by DNS: the name of an address and the address of a name, asked over UDP (RFC 1035).
//!
//! There is no resolver library in the initramfs that a static program could use. Whatever comes back is checked:
//! sender, id, question, record owner, and the name itself (RFC 1123), which becomes a file name on the share.
#![forbid(unsafe_code)]

use crate::net::udp::{DATAGRAM_MAX, exchange};
use crate::sys::random_id;
use crate::types::HostName;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// The port of DNS servers.
const PORT: u16 = 53;
/// Records of one answer that are looked at.
const RECORDS_MAX: u16 = 64;
/// Aliases (CNAME) that are followed within one answer; RFC 2317 uses one.
const ALIASES_MAX: usize = 8;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The host name of an address (PTR).
    NameOf(Ipv4Addr),
    /// An address of a host name (A).
    AddressOf(HostName),
}

impl Query {
    fn owner(&self) -> String {
        match self {
            Query::NameOf(ip) => {
                let [a, b, c, d] = ip.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            Query::AddressOf(name) => name.as_str().to_owned(),
        }
    }

    fn kind(&self) -> TYPE {
        match self {
            Query::NameOf(_) => TYPE::PTR,
            Query::AddressOf(_) => TYPE::A,
        }
    }

    /// The datagram that asks, with recursion desired.
    ///
    /// # Errors
    /// The name cannot stand in a question.
    pub fn encode(&self, id: u16) -> Result<Vec<u8>, DnsError> {
        let owner = self.owner();
        let name = Name::new(&owner).map_err(|_| DnsError::Question(owner.clone()))?;
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(name, QTYPE::TYPE(self.kind()), QCLASS::CLASS(CLASS::IN), false));
        packet.build_bytes_vec().map_err(|_| DnsError::Question(owner.clone()))
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Query::NameOf(ip) => write!(f, "the name of {ip}"),
            Query::AddressOf(name) => write!(f, "the address of {name}"),
        }
    }
}

/// What a datagram says about a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsAnswer {
    /// It is no answer to this query: go on waiting.
    NotOurs,
    /// The server cannot or will not say.
    Failed,
    /// There is no such record, or none that is a proper host name.
    None,
    /// The host name.
    Name(HostName),
    /// The address.
    Address(Ipv4Addr),
}

/// Why DNS gave no answer. That a name does not exist is an answer.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// No server is known.
    #[error("no DNS server is known (give one with testbox.dns=)")]
    NoServer,
    /// The question cannot be written.
    #[error("{0} cannot be asked for")]
    Question(String),
    /// Every server is silent, or refuses.
    #[error("no DNS server has an answer for {query} (asked {servers})")]
    NoAnswer {
        /// What was asked.
        query: String,
        /// Who was asked.
        servers: String,
    },
    /// No random number for the id of a query.
    #[error("no random number: {0}")]
    Random(io::Error),
}

/// Reads a datagram as the answer to `query` with this `id`. Total.
pub fn parse_answer(bytes: &[u8], id: u16, query: &Query) -> DnsAnswer {
    // The counts are looked at first: the parser reserves memory by them.
    let count = |at: usize| match bytes.get(at..at + 2) {
        Some([high, low]) => u16::from_be_bytes([*high, *low]),
        _ => u16::MAX,
    };
    if bytes.len() > DATAGRAM_MAX || count(4) != 1 || [6, 8, 10].iter().any(|at| count(*at) > RECORDS_MAX) {
        return DnsAnswer::NotOurs;
    }
    let Ok(packet) = Packet::parse(bytes) else { return DnsAnswer::NotOurs };
    let owner = query.owner();
    let (Ok(owner), Some(question)) = (Name::new(&owner), packet.questions.first()) else {
        return DnsAnswer::NotOurs;
    };
    let is_ours = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && same_name(&question.qname, &owner)
        && question.qtype == QTYPE::TYPE(query.kind())
        && question.qclass == QCLASS::CLASS(CLASS::IN);
    if !is_ours {
        return DnsAnswer::NotOurs;
    }
    match packet.rcode() {
        RCODE::NoError => find(&packet, &owner, query),
        RCODE::NameError => DnsAnswer::None,
        _ => DnsAnswer::Failed,
    }
}

/// The record for `owner`, or for what an alias makes of it.
fn find(packet: &Packet<'_>, owner: &Name<'_>, query: &Query) -> DnsAnswer {
    let mut wanted = owner.clone();
    for _ in 0..=ALIASES_MAX {
        let mut alias = None;
        for record in packet.answers.iter().filter(|r| r.class == CLASS::IN && same_name(&r.name, &wanted)) {
            match (&record.rdata, query) {
                (RData::PTR(name), Query::NameOf(_)) => {
                    // A "name" that is an address helps nobody and would be taken for one.
                    match name.0.to_string().parse::<HostName>() {
                        Ok(host) if host.ipv4().is_none() => return DnsAnswer::Name(host),
                        _ => {}
                    }
                }
                (RData::A(a), Query::AddressOf(_)) => return DnsAnswer::Address(a.address.into()),
                (RData::CNAME(name), _) => alias = Some(name.0.clone()),
                _ => {}
            }
        }
        match alias {
            Some(name) => wanted = name,
            None => break,
        }
    }
    DnsAnswer::None
}

/// Names are equal whatever their case (RFC 1035 section 2.3.3).
fn same_name(a: &Name<'_>, b: &Name<'_>) -> bool {
    let (a, b) = (a.get_labels(), b.get_labels());
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.as_ref().eq_ignore_ascii_case(y.as_ref()))
}

/// Asks DNS servers, one after the other, several times.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// Servers in the order of asking.
    pub servers: Vec<SocketAddrV4>,
    /// How long to wait for each answer.
    pub timeout: Duration,
    /// How many times each server is asked.
    pub tries: u32,
}

impl Resolver {
    /// These servers on port 53, each asked twice, 2 s for each answer.
    pub fn new(servers: &[Ipv4Addr]) -> Resolver {
        let servers = servers.iter().map(|ip| SocketAddrV4::new(*ip, PORT)).collect();
        Resolver { servers, timeout: Duration::from_secs(2), tries: 2 }
    }

    /// The host name of an address; `None` where it has none.
    ///
    /// # Errors
    /// No server is known, or none answered.
    pub fn name_of(&self, ip: Ipv4Addr) -> Result<Option<HostName>, DnsError> {
        match self.ask(&Query::NameOf(ip))? {
            DnsAnswer::Name(name) => Ok(Some(name)),
            _ => Ok(None),
        }
    }

    /// An address of a host name; `None` where it has none. A name that is an address is its own answer.
    ///
    /// # Errors
    /// No server is known, or none answered.
    pub fn address_of(&self, name: &HostName) -> Result<Option<Ipv4Addr>, DnsError> {
        if let Some(ip) = name.ipv4() {
            return Ok(Some(ip));
        }
        match self.ask(&Query::AddressOf(name.clone()))? {
            DnsAnswer::Address(ip) => Ok(Some(ip)),
            _ => Ok(None),
        }
    }

    fn ask(&self, query: &Query) -> Result<DnsAnswer, DnsError> {
        if self.servers.is_empty() {
            return Err(DnsError::NoServer);
        }
        for _ in 0..self.tries {
            for server in &self.servers {
                let id = (random_id().map_err(DnsError::Random)? & 0xffff) as u16;
                let datagram = query.encode(id)?;
                // A server that cannot be reached is as one that does not answer: the next one is asked.
                let parse = |bytes: &[u8]| {
                    Some(parse_answer(bytes, id, query)).filter(|answer| *answer != DnsAnswer::NotOurs)
                };
                match exchange(*server, &datagram, self.timeout, parse) {
                    Ok(DnsAnswer::Failed) | Err(_) => {}
                    Ok(answer) => return Ok(answer),
                }
            }
        }
        let servers: Vec<String> = self.servers.iter().map(|s| s.ip().to_string()).collect();
        Err(DnsError::NoAnswer { query: query.to_string(), servers: servers.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, CNAME, PTR};
    use std::net::{SocketAddr, UdpSocket};
    use std::thread;

    const IP: Ipv4Addr = Ipv4Addr::new(10, 40, 41, 42);
    const REVERSE: &str = "42.41.40.10.in-addr.arpa";

    fn name_query() -> Query {
        Query::NameOf(IP)
    }

    fn address_query() -> Query {
        Query::AddressOf("nas.lab".parse().unwrap())
    }

    fn record<'a>(owner: &'a str, rdata: RData<'a>) -> ResourceRecord<'a> {
        ResourceRecord::new(Name::new_unchecked(owner), CLASS::IN, 60, rdata)
    }

    fn ptr(name: &str) -> RData<'_> {
        RData::PTR(PTR(Name::new_unchecked(name)))
    }

    fn cname(name: &str) -> RData<'_> {
        RData::CNAME(CNAME(Name::new_unchecked(name)))
    }

    /// The answer with id 7 to a query, with these records.
    fn reply(query: &Query, records: Vec<ResourceRecord<'_>>) -> Vec<u8> {
        let question = query.encode(7).unwrap();
        let mut packet = Packet::parse(&question).unwrap().into_reply();
        packet.answers = records;
        packet.build_bytes_vec_compressed().unwrap()
    }

    fn name(text: &str) -> DnsAnswer {
        DnsAnswer::Name(text.parse().unwrap())
    }

    #[test]
    fn the_query_is_as_rfc_1035_has_it() {
        let bytes = name_query().encode(0x1234).unwrap();
        let expected =
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x0242\x0241\x0240\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn names_and_addresses() {
        let answer = reply(&name_query(), vec![record(REVERSE, ptr("tb1.lab.example"))]);
        assert_eq!(parse_answer(&answer, 7, &name_query()), name("tb1.lab.example"));
        let a = RData::A(A { address: IP.into() });
        let answer = reply(&address_query(), vec![record("NAS.lab", a)]);
        assert_eq!(parse_answer(&answer, 7, &address_query()), DnsAnswer::Address(IP));
        assert_eq!(parse_answer(&reply(&name_query(), vec![]), 7, &name_query()), DnsAnswer::None);
    }

    /// RFC 2317: the reverse zone of a small network is an alias into another zone.
    #[test]
    fn aliases_are_followed_but_not_for_ever() {
        let other = "42.0-127.41.40.10.in-addr.arpa";
        let records = vec![record(other, ptr("tb1.lab")), record(REVERSE, cname(other))];
        assert_eq!(parse_answer(&reply(&name_query(), records), 7, &name_query()), name("tb1.lab"));
        let records = vec![record(REVERSE, cname("b")), record("b", cname(REVERSE))];
        assert_eq!(parse_answer(&reply(&name_query(), records), 7, &name_query()), DnsAnswer::None);
    }

    /// A reverse zone belongs to somebody else: its names become file names and must be host names.
    #[test]
    fn names_that_are_none_are_passed_over() {
        for bad in ["a_b.lab", "a b", "10.1.2.3", "../x", "-a"] {
            let answer = reply(&name_query(), vec![record(REVERSE, ptr(bad))]);
            assert_eq!(parse_answer(&answer, 7, &name_query()), DnsAnswer::None, "{bad}");
            let answer = reply(&name_query(), vec![record(REVERSE, ptr(bad)), record(REVERSE, ptr("good"))]);
            assert_eq!(parse_answer(&answer, 7, &name_query()), name("good"), "{bad}");
        }
    }

    #[test]
    fn answers_to_other_questions_do_not_count() {
        let good = reply(&name_query(), vec![record(REVERSE, ptr("tb1"))]);
        assert_eq!(parse_answer(&good, 8, &name_query()), DnsAnswer::NotOurs, "id");
        assert_eq!(
            parse_answer(&good, 7, &Query::NameOf(Ipv4Addr::LOCALHOST)),
            DnsAnswer::NotOurs,
            "question"
        );
        assert_eq!(parse_answer(&good, 7, &address_query()), DnsAnswer::NotOurs, "type");
        assert_eq!(
            parse_answer(&name_query().encode(7).unwrap(), 7, &name_query()),
            DnsAnswer::NotOurs,
            "a query"
        );
        let other = reply(&name_query(), vec![record("1.0.0.10.in-addr.arpa", ptr("tb1"))]);
        assert_eq!(parse_answer(&other, 7, &name_query()), DnsAnswer::None, "owner");
        for rcode in [2u8, 4, 5] {
            let mut failed = good.clone();
            failed[3] |= rcode;
            assert_eq!(parse_answer(&failed, 7, &name_query()), DnsAnswer::Failed, "{rcode}");
        }
        let mut no_such_name = good;
        no_such_name[3] |= 3;
        assert_eq!(parse_answer(&no_such_name, 7, &name_query()), DnsAnswer::None);
    }

    #[test]
    fn counts_and_pointers_that_lie_are_no_answer() {
        let mut many = reply(&name_query(), vec![]);
        many[6..8].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(parse_answer(&many, 7, &name_query()), DnsAnswer::NotOurs);
        // A compression pointer to itself.
        let mut looping = reply(&name_query(), vec![record(REVERSE, ptr("tb1"))]);
        let at = looping.len() - 4;
        looping[at..at + 2].copy_from_slice(&[0xc0, at as u8]);
        assert!(!matches!(parse_answer(&looping, 7, &name_query()), DnsAnswer::Name(_)));
    }

    /// A server that sends garbage and a wrong id before its answer, after one that says SERVFAIL.
    #[test]
    fn a_resolver_waits_for_the_right_answer_or_asks_the_next() {
        let bind = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let SocketAddr::V4(address) = socket.local_addr().unwrap() else { panic!("not IPv4") };
            (socket, address)
        };
        let ((failing, first), (good, second)) = (bind(), bind());
        let server = thread::spawn(move || {
            let mut buffer = [0; 512];
            let (len, from) = failing.recv_from(&mut buffer).unwrap();
            buffer[2..4].copy_from_slice(&[0x81, 0x82]);
            failing.send_to(&buffer[..len], from).unwrap();
            let (len, from) = good.recv_from(&mut buffer).unwrap();
            let id = u16::from_be_bytes([buffer[0], buffer[1]]);
            assert_eq!(buffer[2..len], name_query().encode(id).unwrap()[2..]);
            let mut answer = reply(&name_query(), vec![record(REVERSE, ptr("tb1.lab"))]);
            for id in [id ^ 1, id] {
                good.send_to(b"garbage", from).unwrap();
                answer[..2].copy_from_slice(&id.to_be_bytes());
                good.send_to(&answer, from).unwrap();
            }
        });
        let resolver = Resolver { servers: vec![first, second], timeout: Duration::from_secs(5), tries: 1 };
        assert_eq!(resolver.name_of(IP).unwrap().unwrap().as_str(), "tb1.lab");
        server.join().unwrap();
    }

    #[test]
    fn silence_is_an_error_and_not_a_missing_name() {
        assert!(matches!(Resolver::new(&[]).name_of(IP), Err(DnsError::NoServer)));
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(address) = silent.local_addr().unwrap() else { panic!("not IPv4") };
        let resolver = Resolver { servers: vec![address], timeout: Duration::from_millis(1), tries: 2 };
        let error = resolver.name_of(IP).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no DNS server has an answer for the name of 10.40.41.42 (asked 127.0.0.1)"
        );
        let own = "10.0.0.1".parse().unwrap();
        assert_eq!(resolver.address_of(&own).unwrap(), Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    proptest! {
        #[test]
        fn answers_never_panic(bytes in any::<Vec<u8>>(), at in 0usize..120, byte in any::<u8>()) {
            let _ = parse_answer(&bytes, 7, &name_query());
            let mut near = reply(&name_query(), vec![record(REVERSE, cname("x.y")), record("x.y", ptr("tb1.lab"))]);
            if let Some(b) = near.get_mut(at) {
                *b = byte;
            }
            let _ = parse_answer(&near, 7, &name_query());
            let _ = parse_answer(near.get(..at).unwrap_or_default(), 7, &name_query());
        }
    }
}
