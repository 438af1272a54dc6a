//! The request for more time, and what servers answer.

use super::format::{
    BOOT_REPLY, BOOT_REQUEST, COOKIE, ETHERNET, MAC_LEN, OPTIONS, SHORTEST, field, is_host, option,
};
use super::format::{code, kind};
use crate::text::quoted;
use crate::types::MacAddr;
use std::net::Ipv4Addr;

/// What klibc's ipconfig calls itself. A server that chooses pools by class must see the same machine again.
const IPCONFIG: &[u8] = b"Linux ipconfig";

/// A request to keep an address (RFC 2131 section 4.3.2, RENEWING and REBINDING: the address is in `ciaddr`, and there
/// is neither a requested address nor a server identifier).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DhcpRequest {
    /// Transaction: the answer has the same one.
    pub xid: u32,
    /// Seconds since the first request of the transaction.
    pub secs: u16,
    /// This machine's hardware address.
    pub mac: MacAddr,
    /// The address to keep.
    pub address: Ipv4Addr,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpReply {
    /// The server's identifier, where it gives one.
    pub server: Option<Ipv4Addr>,
    /// Its answer.
    pub answer: DhcpAnswer,
}

/// The answers that matter to a client that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhcpAnswer {
    /// DHCPACK. Times in seconds, where given.
    Ack {
        /// The address that the server means.
        address: Ipv4Addr,
        /// Lease time.
        lease: Option<u32>,
        /// When to renew.
        t1: Option<u32>,
        /// When to ask every server.
        t2: Option<u32>,
    },
    /// DHCPNAK, with the server's reason, quoted.
    Nak(Option<String>),
}

impl DhcpRequest {
    /// The datagram.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![BOOT_REQUEST, ETHERNET, MAC_LEN, 0];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(self.secs.to_be_bytes());
        // Flags: the answer need not be a broadcast, the address is in use.
        bytes.extend([0, 0]);
        bytes.extend(self.address.octets());
        // yiaddr, siaddr, giaddr.
        bytes.extend([0; 12]);
        bytes.extend(self.mac.0);
        // The rest of chaddr, sname, file.
        bytes.resize(OPTIONS - COOKIE.len(), 0);
        bytes.extend(COOKIE);
        bytes.extend([code::MESSAGE_TYPE, 1, kind::REQUEST]);
        bytes.extend([code::VENDOR_CLASS, IPCONFIG.len() as u8]);
        bytes.extend(IPCONFIG);
        // What a server may leave out unless it is asked.
        bytes.extend([code::WANTED, 4, code::LEASE_TIME, code::SERVER_ID, code::T1, code::T2]);
        bytes.push(code::END);
        bytes.resize(SHORTEST.max(bytes.len()), code::PAD);
        bytes
    }

    /// The answer to this request that a datagram holds; `None` for anything else. Total: any bytes may come. What is
    /// wrong with an option that does not matter here does not spoil the rest.
    pub fn answer(&self, datagram: &[u8]) -> Option<DhcpReply> {
        let header = datagram.get(..OPTIONS)?;
        let options = datagram.get(OPTIONS..)?;
        let is_ours = header.starts_with(&[BOOT_REPLY, ETHERNET, MAC_LEN])
            && field(header, 4)? == self.xid.to_be_bytes()
            && header.get(28..34)? == self.mac.0
            && field(header, 236)? == COOKIE;
        if !is_ours {
            return None;
        }
        let number = |code| Some(u32::from_be_bytes(option(options, code)?.try_into().ok()?));
        let answer = match option(options, code::MESSAGE_TYPE)? {
            [kind::ACK] => DhcpAnswer::Ack {
                address: field(header, 16)?.into(),
                lease: number(code::LEASE_TIME),
                t1: number(code::T1),
                t2: number(code::T2),
            },
            [kind::NAK] => DhcpAnswer::Nak(option(options, code::MESSAGE).map(shown)),
            _ => return None,
        };
        let server = number(code::SERVER_ID).map(Ipv4Addr::from).filter(|server| is_host(*server));
        Some(DhcpReply { server, answer })
    }
}

fn shown(text: &[u8]) -> String {
    quoted(String::from_utf8_lossy(text).trim_end_matches('\0'))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    pub const MINE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
    const REQUEST: super::DhcpRequest =
        super::DhcpRequest { xid: 0x0102_0304, secs: 0, mac: MAC, address: MINE };

    /// An answer as a server writes it: type, `yiaddr`, options as they are.
    pub fn reply(xid: u32, kind: u8, address: Ipv4Addr, options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![2, 1, 6, 0];
        bytes.extend(xid.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend(address.octets());
        bytes.extend([0; 8]);
        bytes.extend(MAC.0);
        bytes.resize(236, 0);
        bytes.extend([99, 130, 83, 99, 53, 1, kind]);
        bytes.extend(options);
        bytes.push(255);
        bytes
    }

    /// The options of a usual acknowledgement by 10.9.0.1.
    pub fn terms(lease: u32, t1: u32, t2: u32) -> Vec<u8> {
        let mut options = vec![54, 4, 10, 9, 0, 1];
        for (code, seconds) in [(51, lease), (58, t1), (59, t2)] {
            options.extend([code, 4]);
            options.extend(seconds.to_be_bytes());
        }
        options
    }

    fn ack() -> Vec<u8> {
        reply(REQUEST.xid, kind::ACK, MINE, &terms(120, 60, 105))
    }

    fn plain(server: Option<Ipv4Addr>) -> Option<DhcpReply> {
        Some(DhcpReply { server, answer: DhcpAnswer::Ack { address: MINE, lease: None, t1: None, t2: None } })
    }

    #[test]
    fn a_request_has_the_address_in_ciaddr_and_no_server() {
        let bytes = REQUEST.to_bytes();
        assert_eq!((bytes.len(), &bytes[..8]), (300, &[1, 1, 6, 0, 1, 2, 3, 4][..]));
        assert_eq!((&bytes[12..16], &bytes[28..34]), (&[10, 9, 0, 100][..], &MAC.0[..]));
        assert_eq!(option(&bytes[240..], 53), Some(&[3][..]));
        assert_eq!(option(&bytes[240..], 60), Some(&b"Linux ipconfig"[..]));
        for absent in [50, 54, 61] {
            assert_eq!(option(&bytes[240..], absent), None, "option {absent}");
        }
    }

    #[test]
    fn an_answer_with_all_that_servers_say() {
        let server = Some(Ipv4Addr::new(10, 9, 0, 1));
        let full = DhcpAnswer::Ack { address: MINE, lease: Some(120), t1: Some(60), t2: Some(105) };
        assert_eq!(REQUEST.answer(&ack()), Some(DhcpReply { server, answer: full }));
        let nak = reply(
            REQUEST.xid,
            kind::NAK,
            Ipv4Addr::UNSPECIFIED,
            b"\x36\x04\x0a\x09\x00\x01\x38\x07no \x1b[2J",
        );
        let text = Some("'no \\u{1b}[2J'".to_owned());
        assert_eq!(REQUEST.answer(&nak), Some(DhcpReply { server, answer: DhcpAnswer::Nak(text) }));
    }

    #[test]
    fn what_is_not_an_answer_to_this_request_is_nothing() {
        for (at, byte) in [(0, 1), (1, 6), (2, 16), (4, 9), (7, 5), (28, 0), (33, 0x57), (236, 0), (242, 2)] {
            let mut bytes = ack();
            bytes[at] = byte;
            assert_eq!(REQUEST.answer(&bytes), None, "byte {at}");
        }
        for len in 0..ack().len() {
            // Cut anywhere it is nothing, or it says less; never anything else.
            let cut = REQUEST.answer(&ack()[..len]);
            let address = cut.map(|reply| match reply.answer {
                DhcpAnswer::Ack { address, .. } => address,
                DhcpAnswer::Nak(_) => panic!("cut at {len}: a refusal"),
            });
            assert_eq!(address, (len >= 243).then_some(MINE), "cut at {len}");
        }
    }

    #[test]
    fn a_fault_in_one_option_does_not_spoil_the_others() {
        for (what, options) in [
            ("padding", &b"\0\0\0\x36\x04\x0a\x09\0\x01"[..]),
            ("host name that is not UTF-8", b"\x0c\x02\xff\xfe\x36\x04\x0a\x09\0\x01"),
            ("empty option", b"\x0c\0\x36\x04\x0a\x09\0\x01"),
            ("search list that is cut", b"\x77\x01\x3f\x36\x04\x0a\x09\0\x01"),
            ("lease time of another length", b"\x33\x02\0\x01\x36\x04\x0a\x09\0\x01"),
            ("overlong option at the end", b"\x36\x04\x0a\x09\0\x01\x3a\xff\0"),
        ] {
            let bytes = reply(REQUEST.xid, kind::ACK, MINE, options);
            assert_eq!(REQUEST.answer(&bytes), plain(Some(Ipv4Addr::new(10, 9, 0, 1))), "{what}");
        }
        for nobody in [[0, 0, 0, 0], [255; 4], [224, 0, 0, 1], [127, 0, 0, 1]] {
            let mut options = vec![54, 4];
            options.extend(nobody);
            assert_eq!(
                REQUEST.answer(&reply(REQUEST.xid, kind::ACK, MINE, &options)),
                plain(None),
                "{nobody:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..400), head in any::<bool>()) {
            if head && bytes.len() > 240 {
                bytes[..240].copy_from_slice(&ack()[..240]);
            }
            let _ = REQUEST.answer(&bytes);
        }
    }
}
