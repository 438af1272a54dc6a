//! What a client of DHCP says, and the bytes of what it is told.

use super::loaders::ClientKind;
use crate::net::dhcp::format::{
    BOOT_REPLY, BOOT_REQUEST, COOKIE, ETHERNET, MAC_LEN, OPTIONS, SHORTEST, code, field, kind, option,
};
use crate::types::MacAddr;
use std::net::Ipv4Addr;

/// Longest UUID in option 97, with its type before it.
const UUID_LEN: usize = 17;

/// A request, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpAsk {
    /// Option 53.
    pub kind: u8,
    /// Transaction: the answer has the same one.
    pub xid: [u8; 4],
    /// Seconds and flags, which go back as they came.
    pub flags: [u8; 2],
    /// The address that it has.
    pub has: Ipv4Addr,
    /// The relay that it came by.
    pub relay: Ipv4Addr,
    /// Its card.
    pub mac: MacAddr,
    /// The address that it wants.
    pub wanted: Option<Ipv4Addr>,
    /// The server that it means.
    pub server: Option<Ipv4Addr>,
    /// Whether it is a loader that speaks PXE.
    pub is_pxe: bool,
    /// What it is, where it says so; `None` for what has no loader here, and what boots nothing.
    pub client: Option<ClientKind>,
    /// Option 97, which goes back as it came.
    pub uuid: Option<Vec<u8>>,
}

impl DhcpAsk {
    /// The request that a datagram holds. Total: any bytes may come. What is wrong with an option that does not matter here
    /// does not spoil the rest: firmware sends such.
    pub fn parse(datagram: &[u8]) -> Option<DhcpAsk> {
        let (header, options) = datagram.split_at_checked(OPTIONS)?;
        if !header.starts_with(&[BOOT_REQUEST, ETHERNET, MAC_LEN]) || field(header, OPTIONS - 4)? != COOKIE {
            return None;
        }
        let mac: [u8; 6] = header.get(28..34)?.try_into().ok()?;
        // The addresses of no card: nobody's, everybody's and those of groups.
        if mac == [0; 6] || mac[0] & 1 == 1 {
            return None;
        }
        let address = |number| Some(Ipv4Addr::from(<[u8; 4]>::try_from(option(options, number)?).ok()?));
        let &[message] = option(options, code::MESSAGE_TYPE)? else { return None };
        let class = option(options, code::VENDOR_CLASS).unwrap_or_default();
        let is_pxe = class.starts_with(b"PXEClient");
        let client = match option(options, code::CLIENT_TYPE) {
            _ if class.starts_with(b"HTTPClient") => Some(ClientKind::Http),
            // A list; the first is what it is now.
            Some([a, b, ..]) => ClientKind::of(u16::from_be_bytes([*a, *b])),
            // Older than the option: there was BIOS alone.
            _ if is_pxe => Some(ClientKind::Bios),
            _ => None,
        };
        Some(DhcpAsk {
            kind: message,
            xid: field(header, 4)?,
            flags: header.get(10..12)?.try_into().ok()?,
            has: field(header, 12)?.into(),
            relay: field(header, 24)?.into(),
            mac: MacAddr(mac),
            wanted: address(code::WANTED_ADDRESS),
            server: address(code::SERVER_ID),
            is_pxe,
            client,
            uuid: option(options, code::CLIENT_UUID)
                .filter(|uuid| uuid.len() <= UUID_LEN)
                .map(<[u8]>::to_vec),
        })
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpTold {
    /// Option 53.
    pub kind: u8,
    /// The client's address; 0.0.0.0 where another server gives it.
    pub yours: Ipv4Addr,
    /// This server, which is the boot server, too.
    pub server: Ipv4Addr,
    /// The loader.
    pub file: Option<&'static str>,
    /// Options beside type and server, in this order.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl DhcpTold {
    /// The datagram that answers this request.
    pub fn to_bytes(&self, ask: &DhcpAsk) -> Vec<u8> {
        let is_refusal = self.kind == kind::NAK;
        let unless_refused = |address| if is_refusal { Ipv4Addr::UNSPECIFIED } else { address };
        let addresses = [unless_refused(ask.has), self.yours, unless_refused(self.server), ask.relay];
        self.message(BOOT_REPLY, ask.xid, ask.flags, addresses, ask.mac.0)
    }

    /// The same as what a client without an address says, to be answered by broadcast.
    pub fn to_request(&self, xid: [u8; 4], mac: [u8; 6]) -> Vec<u8> {
        self.message(BOOT_REQUEST, xid, [0x80, 0], [Ipv4Addr::UNSPECIFIED; 4], mac)
    }

    fn message(
        &self,
        op: u8,
        xid: [u8; 4],
        flags: [u8; 2],
        addresses: [Ipv4Addr; 4],
        mac: [u8; 6],
    ) -> Vec<u8> {
        let mut bytes = vec![op, ETHERNET, MAC_LEN, 0];
        bytes.extend(xid);
        bytes.extend([0, 0]);
        bytes.extend(flags);
        bytes.extend(addresses.iter().flat_map(Ipv4Addr::octets));
        bytes.extend(mac);
        // The rest of chaddr; sname.
        bytes.resize(108, 0);
        // With a zero behind it: 128 bytes.
        bytes.extend(self.file.unwrap_or_default().bytes().take(127));
        bytes.resize(OPTIONS - COOKIE.len(), 0);
        bytes.extend(COOKIE);
        let mut put = |code: u8, value: &[u8]| {
            let value = value.get(..255).unwrap_or(value);
            bytes.extend([code, value.len() as u8]);
            bytes.extend(value);
        };
        put(code::MESSAGE_TYPE, &[self.kind]);
        if !self.server.is_unspecified() {
            put(code::SERVER_ID, &self.server.octets());
        }
        self.options.iter().for_each(|(code, value)| put(*code, value));
        bytes.push(code::END);
        bytes.resize(SHORTEST.max(bytes.len()), code::PAD);
        bytes
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 9, 0, 1]);

    /// A request of a PXE ROM, with these options beside its type.
    pub fn request(kind: u8, options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; OPTIONS];
        bytes[..8].copy_from_slice(&[1, 1, 6, 0, 1, 2, 3, 4]);
        bytes[28..34].copy_from_slice(&MAC.0);
        bytes[OPTIONS - 4..].copy_from_slice(&COOKIE);
        for (code, value) in [(code::MESSAGE_TYPE, &[kind][..])].iter().chain(options) {
            bytes.extend([*code, value.len() as u8]);
            bytes.extend(*value);
        }
        bytes.push(code::END);
        bytes
    }

    #[test]
    fn clients_are_known_by_their_type() {
        let pxe =
            |number: u8| DhcpAsk::parse(&request(1, &[(60, b"PXEClient:Arch"), (93, &[0, number])])).unwrap();
        for (number, client) in [
            (0, Some(ClientKind::Bios)),
            (7, Some(ClientKind::Uefi)),
            (9, Some(ClientKind::Uefi)),
            (11, Some(ClientKind::UefiArm64)),
            (16, Some(ClientKind::Http)),
            (19, Some(ClientKind::Http)),
            // 32-bit UEFI and its kin.
            (6, None),
            (27, None),
        ] {
            let ask = pxe(number);
            assert_eq!((ask.client, ask.is_pxe), (client, true), "{number}");
        }
        let of = |options: &[(u8, &[u8])]| DhcpAsk::parse(&request(1, options)).unwrap().client;
        assert_eq!(of(&[(60, b"PXEClient")]), Some(ClientKind::Bios), "older than the option");
        assert_eq!(of(&[(60, b"HTTPClient:Arch:00007"), (93, &[0, 7])]), Some(ClientKind::Http));
        assert_eq!(of(&[(60, b"Linux ipconfig")]), None);
        assert_eq!(of(&[(93, &[0, 7, 0, 0]), (12, b"\xff\xfe"), (0, b"")]), Some(ClientKind::Uefi));
    }

    #[test]
    fn what_is_no_request_of_a_card_is_nothing() {
        let good = request(1, &[]);
        assert!(DhcpAsk::parse(&good).is_some());
        for (at, byte) in [(0, 2), (1, 6), (2, 16), (28, 1), (236, 0), (241, 2)] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            assert_eq!(DhcpAsk::parse(&bytes), None, "byte {at}");
        }
        let mut nobody = good;
        nobody[28..34].fill(0);
        assert_eq!(DhcpAsk::parse(&nobody), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), head in any::<bool>()) {
            let mut all = if head { request(1, &[]) } else { Vec::new() };
            all.truncate(OPTIONS);
            all.extend(bytes);
            if let Some(ask) = DhcpAsk::parse(&all) {
                let told = DhcpTold { kind: 2, yours: ask.has, server: ask.has, file: Some("x"), options: Vec::new() };
                prop_assert!(told.to_bytes(&ask).len() == SHORTEST);
            }
        }
    }
}
