//! The bytes of what loaders ask by DHCP, and of what they are told (RFC 2131, PXE 2.1 chapter 2).

use crate::boot::ask::DhcpTold;
use crate::boot::loaders::ClientKind;
use crate::net::dhcp::format::{BOOT_REPLY, COOKIE, OPTIONS, code, field, kind, option};
use std::net::Ipv4Addr;

/// Codes of options that only this end wants.
const BOOT_FILE: u8 = 67;
const INTERFACE: u8 = 94;
/// What loaders ask for.
const WANTED: [u8; 10] = [1, 3, 6, 12, 43, 54, 60, 66, BOOT_FILE, 210];

/// A loader that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BootAsker {
    /// The ROM, or the firmware.
    Firmware(ClientKind),
    /// iPXE on a BIOS machine, once it runs.
    Ipxe,
}

impl BootAsker {
    pub const ALL: [BootAsker; 5] = [
        BootAsker::Firmware(ClientKind::Bios),
        BootAsker::Ipxe,
        BootAsker::Firmware(ClientKind::Uefi),
        BootAsker::Firmware(ClientKind::UefiArm64),
        BootAsker::Firmware(ClientKind::Http),
    ];

    pub fn name(self) -> &'static str {
        match self {
            BootAsker::Firmware(ClientKind::Bios) => "BIOS",
            BootAsker::Ipxe => "iPXE",
            BootAsker::Firmware(ClientKind::Uefi) => "UEFI",
            BootAsker::Firmware(ClientKind::UefiArm64) => "UEFI on arm64",
            BootAsker::Firmware(ClientKind::Http) => "UEFI's HTTP boot",
        }
    }

    fn kind(self) -> ClientKind {
        match self {
            BootAsker::Firmware(kind) => kind,
            BootAsker::Ipxe => ClientKind::Bios,
        }
    }

    /// Its options, beside the type of the message.
    fn options(self, mac: [u8; 6]) -> Vec<(u8, Vec<u8>)> {
        let number = self.kind().types().first().copied().unwrap_or_default();
        let class = if self.kind() == ClientKind::Http { "HTTPClient" } else { "PXEClient" };
        let mut uuid = vec![0; 17];
        uuid.splice(11.., mac);
        let mut options = vec![
            (code::WANTED, WANTED.to_vec()),
            (code::VENDOR_CLASS, format!("{class}:Arch:{number:05}:UNDI:003016").into_bytes()),
            (code::CLIENT_TYPE, number.to_be_bytes().to_vec()),
            (INTERFACE, vec![1, 3, 16]),
            (code::CLIENT_UUID, uuid),
        ];
        if self == BootAsker::Ipxe {
            options.push((code::USER_CLASS, b"iPXE".to_vec()));
        }
        options
    }

    /// The first question: who gives an address, and what to boot.
    pub fn discover(self, xid: [u8; 4], mac: [u8; 6]) -> Vec<u8> {
        let none = Ipv4Addr::UNSPECIFIED;
        let told = DhcpTold {
            kind: kind::DISCOVER,
            yours: none,
            server: none,
            file: None,
            options: self.options(mac),
        };
        told.to_request(xid, mac)
    }

    /// The question to a proxy at its own port, from this address, for an entry of its menu or none.
    pub fn of_proxy(self, xid: [u8; 4], mac: [u8; 6], own: Ipv4Addr, item: Option<[u8; 2]>) -> Vec<u8> {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut options = self.options(mac);
        if let Some([a, b]) = item {
            // PXE_BOOT_ITEM, layer 0.
            options.push((code::VENDOR, vec![71, 4, a, b, 0, 0, 255]));
        }
        let told = DhcpTold { kind: kind::REQUEST, yours: none, server: none, file: None, options };
        let mut bytes = told.to_request(xid, mac);
        // Not by broadcast: it has an address.
        bytes.splice(10..16, [[0, 0].as_slice(), &own.octets()].concat());
        bytes
    }
}

/// What one server has told one asker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BootOffer {
    /// Option 54, or who has sent it.
    pub server: Ipv4Addr,
    /// The address; none of a proxy.
    pub yours: Option<Ipv4Addr>,
    /// `siaddr`: whom TFTP is asked of.
    pub next_server: Option<Ipv4Addr>,
    pub file: String,
    /// It says that it knows of PXE.
    pub is_pxe: bool,
    /// The first entry of its menu: type, and boot server.
    pub menu: Option<([u8; 2], Ipv4Addr)>,
}

impl BootOffer {
    /// It gives no address, only what to boot.
    pub fn is_proxy(&self) -> bool {
        self.yours.is_none() && self.is_pxe
    }

    /// The answer to the question with this number, that a datagram holds from its IPv4 header on; `None` for anything else.
    /// Total: any bytes may come.
    pub fn parse(datagram: &[u8], xid: [u8; 4], mac: [u8; 6]) -> Option<BootOffer> {
        let (sender, message) = udp(datagram)?;
        BootOffer::of_message(sender, message, xid, mac)
    }

    /// The same of a message alone.
    pub fn of_message(sender: Ipv4Addr, message: &[u8], xid: [u8; 4], mac: [u8; 6]) -> Option<BootOffer> {
        let (header, options) = message.split_at_checked(OPTIONS)?;
        let is_ours = header.first() == Some(&BOOT_REPLY)
            && field(header, 4)? == xid
            && header.get(28..34)? == mac
            && field(header, OPTIONS - 4)? == COOKIE;
        let is_offer =
            option(options, code::MESSAGE_TYPE).is_none_or(|of| matches!(of, [kind::OFFER | kind::ACK]));
        if !is_ours || !is_offer {
            return None;
        }
        let address = |bytes: [u8; 4]| Some(Ipv4Addr::from(bytes)).filter(|ip| !ip.is_unspecified());
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
        };
        let server = option(options, code::SERVER_ID).and_then(|id| address(id.try_into().ok()?));
        let named = text(header.get(108..236)?);
        let of_option = || option(options, BOOT_FILE).map(text).unwrap_or_default();
        Some(BootOffer {
            server: server.unwrap_or(sender),
            yours: address(field(header, 16)?),
            next_server: address(field(header, 20)?),
            file: if named.is_empty() { of_option() } else { named },
            is_pxe: option(options, code::VENDOR_CLASS).is_some_and(|class| class.starts_with(b"PXEClient")),
            menu: option(options, code::VENDOR).and_then(|of_vendor| match option(of_vendor, 8)? {
                [a, b, n, ip @ ..] if *n > 0 => Some(([*a, *b], address(field(ip, 0)?)?)),
                _ => None,
            }),
        })
    }
}

/// Sender and content of a datagram of UDP, which is whole.
fn udp(datagram: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let first = *datagram.first()?;
    let fragment = u16::from_be_bytes([*datagram.get(6)?, *datagram.get(7)?]);
    if first >> 4 != 4 || datagram.get(9) != Some(&17) || fragment & 0x3fff != 0 {
        return None;
    }
    let content = datagram.get(usize::from(first & 15) * 4..)?;
    Some((Ipv4Addr::from(field(datagram, 12)?), content.get(8..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::ask::DhcpAsk;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [2, 1, 2, 3, 4, 5];
    const XID: [u8; 4] = [1, 2, 3, 4];
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn in_ipv4(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 7, 255, 255, 255, 255];
        bytes.extend([0, 67, 0, 68, 0, 0, 0, 0]);
        bytes.extend(message);
        bytes
    }

    #[test]
    fn servers_know_who_asks_and_their_offers_are_read() {
        for asker in BootAsker::ALL {
            let ask = DhcpAsk::parse(&asker.discover(XID, MAC)).unwrap();
            assert_eq!(
                (ask.client, ask.kind, ask.flags),
                (Some(asker.kind()), kind::DISCOVER, [0x80, 0]),
                "{asker:?}"
            );
            let told = DhcpTold {
                kind: kind::OFFER,
                yours: Ipv4Addr::new(10, 0, 0, 9),
                server: SERVER,
                file: Some("pxelinux.0"),
                options: vec![(60, b"PXEClient".to_vec())],
            };
            let datagram = in_ipv4(&told.to_bytes(&ask));
            let offer = BootOffer::parse(&datagram, XID, MAC).unwrap();
            assert_eq!(
                (offer.server, offer.next_server, offer.file.as_str()),
                (SERVER, Some(SERVER), "pxelinux.0")
            );
            assert_eq!((offer.yours, offer.is_pxe, offer.is_proxy()), (Some(told.yours), true, false));
            assert_eq!(BootOffer::parse(&datagram, [0; 4], MAC), None);
            assert_eq!(BootOffer::parse(&datagram, XID, [2; 6]), None);
            for len in 0..datagram.len() {
                let _ = BootOffer::parse(&datagram[..len], XID, MAC);
            }
        }
        let request = BootAsker::Ipxe.of_proxy(XID, MAC, SERVER, Some([1, 2]));
        let ask = DhcpAsk::parse(&request).unwrap();
        assert_eq!((ask.has, ask.kind, ask.flags), (SERVER, kind::REQUEST, [0, 0]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), head in any::<bool>()) {
            let mut all = if head { in_ipv4(&BootAsker::Ipxe.discover(XID, MAC)[..OPTIONS]) } else { Vec::new() };
            if head {
                all[28] = BOOT_REPLY;
            }
            all.extend(bytes);
            let _ = BootOffer::parse(&all, XID, MAC);
        }
    }
}
