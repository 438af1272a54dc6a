//! What a network loader asks, and what it is told (PXE 2.1, chapter 2): an address from one server; the boot file from
//! the same one, or from a proxy: in its offer, at its port 4011, or from the first boot server of its menu.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};
use testbox::sys::udp_on_device;

const MAC: [u8; 6] = [0x52, 0x54, 0, 9, 0, 1];
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const OPTIONS: usize = 240;
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const BROADCAST: Ipv4Addr = Ipv4Addr::BROADCAST;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// The ROM of a network card, BIOS.
    Rom,
    /// iPXE, started by it or in its place: the same, of the user class `iPXE`.
    Ipxe,
    /// UEFI, as most of today call themselves (type 7 of RFC 4578 and its errata).
    Uefi,
    /// UEFI, as the RFC itself has it (9).
    UefiByRfc,
    /// UEFI on arm64 (11).
    UefiArm64,
    /// UEFI that boots by HTTP (16).
    Http,
    /// The same on arm64 (19).
    HttpArm64,
}

/// What it boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its own address.
    pub address: Ipv4Addr,
    /// Where the boot file is.
    pub server: Ipv4Addr,
    /// The boot file.
    pub file: String,
}

#[derive(Clone, Debug)]
struct Reply {
    kind: u8,
    yours: Ipv4Addr,
    next_server: Ipv4Addr,
    file: String,
    id: Ipv4Addr,
    is_pxe: bool,
    /// The first entry of its menu: type, and boot server.
    menu: Option<([u8; 2], Ipv4Addr)>,
}

/// The value of an option; those of option 43 are written the same way.
fn option(code: u8, mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        match rest {
            [0, more @ ..] => rest = more,
            [found, len, more @ ..] if *found != 255 => {
                let value = more.get(..usize::from(*len))?;
                if *found == code {
                    return Some(value);
                }
                rest = &more[value.len()..];
            }
            _ => return None,
        }
    }
}

impl Reply {
    fn parse(bytes: &[u8]) -> Option<Reply> {
        let ip = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
        let options = bytes.get(OPTIONS..)?;
        let option = |code: u8| option(code, options);
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
        };
        let field = text(bytes.get(108..236)?);
        Some(Reply {
            kind: *option(53)?.first()?,
            yours: ip(16)?,
            next_server: ip(20)?,
            file: if field.is_empty() { option(67).map(text).unwrap_or_default() } else { field },
            id: Ipv4Addr::from(<[u8; 4]>::try_from(option(54)?).ok()?),
            is_pxe: option(60).is_some_and(|class| class.starts_with(b"PXEClient")),
            menu: option(43).and_then(|of_vendor| match self::option(8, of_vendor)? {
                [a, b, n, ip @ ..] if *n > 0 => {
                    Some(([*a, *b], <[u8; 4]>::try_from(ip.get(..4)?).ok()?.into()))
                }
                _ => None,
            }),
        })
    }
}

impl Loader {
    /// Asks on `eth0` of this network, which has no address yet, and gets the address of the first offer that has one.
    /// `configure` gives it to the NIC.
    ///
    /// # Panics
    /// Where a server that must answer does not, within a minute.
    pub fn ask(self, is_with_proxy: bool, configure: impl FnOnce(Ipv4Addr)) -> Told {
        let wire = udp_on_device("eth0", 68).unwrap();
        let mut heard: Vec<Reply> = Vec::new();
        let address_of = |heard: &[Reply]| {
            heard.iter().find(|offer| offer.kind == OFFER && !offer.yours.is_unspecified()).cloned()
        };
        let proxy_of = |heard: &[Reply]| {
            heard.iter().find(|offer| offer.is_pxe && offer.yours.is_unspecified()).cloned()
        };
        self.until(&wire, BROADCAST, 67, &self.message(DISCOVER, None, None, None), |reply| {
            heard.push(reply);
            address_of(&heard).is_some() && (!is_with_proxy || proxy_of(&heard).is_some())
        });
        let offer = address_of(&heard).unwrap();
        let request = self.message(REQUEST, Some(&offer), None, None);
        let mut main = offer.clone();
        self.until(&wire, BROADCAST, 67, &request, |reply| {
            main = reply;
            main.kind == ACK && main.id == offer.id
        });
        configure(main.yours);
        let Some(proxy) = proxy_of(&heard) else {
            return Told { address: main.yours, server: main.next_server, file: main.file };
        };
        let mut boot = proxy.clone();
        let mut ask = |whom: Ipv4Addr, item: Option<[u8; 2]>| {
            self.until(&wire, whom, 4011, &self.message(REQUEST, None, Some(main.yours), item), |reply| {
                boot = reply;
                boot.kind == ACK
            });
            boot.clone()
        };
        let mut last = proxy.clone();
        if last.file.is_empty() && last.menu.is_none() {
            last = ask(proxy.id, None);
        }
        if let (true, Some((item, server))) = (last.file.is_empty(), last.menu) {
            last = ask(server, Some(item));
        }
        Told { address: main.yours, server: last.next_server, file: last.file }
    }

    /// Sends a message again each second until an answer to it is the one.
    fn until(
        self,
        wire: &UdpSocket,
        to: Ipv4Addr,
        port: u16,
        message: &[u8],
        mut is_it: impl FnMut(Reply) -> bool,
    ) {
        let started = Instant::now();
        let mut buffer = [0; 2048];
        while started.elapsed() < Duration::from_secs(60) {
            wire.send_to(message, (to, port)).unwrap();
            wire.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            while let Ok(len) = wire.recv(&mut buffer) {
                let is_answer = buffer[4..8] == message[4..8];
                if let Some(reply) = Reply::parse(&buffer[..len]).filter(|_| is_answer)
                    && is_it(reply)
                {
                    return;
                }
            }
        }
        panic!("{self:?}: no answer from {to}:{port}");
    }

    fn message(
        self,
        kind: u8,
        offer: Option<&Reply>,
        own: Option<Ipv4Addr>,
        item: Option<[u8; 2]>,
    ) -> Vec<u8> {
        let mut bytes = vec![0; OPTIONS];
        // Request, Ethernet; answers by broadcast while there is no address.
        bytes[..3].copy_from_slice(&[1, 1, 6]);
        bytes[4..8].copy_from_slice(&[7, own.is_some().into(), kind, item.is_some().into()]);
        bytes[10] = if own.is_none() { 0x80 } else { 0 };
        bytes[12..16].copy_from_slice(&own.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        bytes[28..34].copy_from_slice(&MAC);
        bytes[OPTIONS - 4..].copy_from_slice(&COOKIE);
        let mut option = |code: u8, value: &[u8]| {
            bytes.extend([code, value.len() as u8]);
            bytes.extend(value);
        };
        option(53, &[kind]);
        if let Some(offer) = offer {
            option(50, &offer.yours.octets());
            option(54, &offer.id.octets());
        }
        if let Some([a, b]) = item {
            // PXE_BOOT_ITEM, layer 0.
            option(43, &[71, 4, a, b, 0, 0, 255]);
        }
        option(55, &[1, 3, 6, 12, 15, 17, 43, 54, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135, 210]);
        option(57, &1472u16.to_be_bytes());
        let (class, architecture) = match self {
            Loader::Rom | Loader::Ipxe => ("PXEClient", 0),
            Loader::Uefi => ("PXEClient", 7),
            Loader::UefiByRfc => ("PXEClient", 9),
            Loader::UefiArm64 => ("PXEClient", 11),
            Loader::Http => ("HTTPClient", 16),
            Loader::HttpArm64 => ("HTTPClient", 19),
        };
        option(60, format!("{class}:Arch:{architecture:05}:UNDI:002001").as_bytes());
        option(93, &[0, architecture]);
        option(94, &[1, 2, 1]);
        option(97, &[[0].as_slice(), &[0xab; 16]].concat());
        if self == Loader::Ipxe {
            option(77, b"iPXE");
        }
        bytes.push(255);
        bytes
    }
}
