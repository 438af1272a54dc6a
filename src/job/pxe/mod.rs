//! PXELINUX: which configuration files a machine asks for, and the file that arms it; and GRUB, which reads that one too.
//!
//! Facts of PXELINUX are from the Syslinux 6.03 sources (core/fs/pxe/pxe.c, com32/elflink/ldlinux/readconfig.c).
#![forbid(unsafe_code)]

mod grub;
mod note;
mod parse;
mod render;

pub use grub::{GRUB_HEAD, GRUB_SPECIAL, grub_config, own_loader_script};
pub use note::ArmedBy;
pub use parse::PxeFile;
pub use render::{BootMode, KERNEL_LINE_MAX, PxeError, PxeJob, render};

use crate::text::quoted;
use crate::types::{MacAddr, ParameterError, Uuid};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 address as PXELINUX spells it in a file name: `0A28292A` for 10.40.41.42.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HexIp(pub Ipv4Addr);

impl fmt::Display for HexIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}", u32::from(self.0))
    }
}

impl FromStr for HexIp {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let upper_hex = |b: u8| b.is_ascii_digit() || matches!(b, b'A'..=b'F');
        match u32::from_str_radix(text, 16) {
            Ok(bits) if text.len() == 8 && text.bytes().all(upper_hex) => Ok(HexIp(bits.into())),
            _ => Err(ParameterError::new(format!(
                "{} is not an address of 8 upper-case hex digits",
                quoted(text)
            ))),
        }
    }
}

/// What PXELINUX knows a machine by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineIds {
    /// System UUID as Linux prints it (`/sys/class/dmi/id/product_uuid`).
    pub uuid: Option<Uuid>,
    /// MAC of the NIC that booted.
    pub mac: Option<MacAddr>,
    /// Own address.
    pub ip: Ipv4Addr,
}

/// Which name of a machine a file carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateKind {
    /// Its UUID.
    Uuid,
    /// Its MAC.
    Mac,
    /// All 8 digits of its address.
    HexIp,
    /// Fewer digits: every machine of a network.
    HexIpPrefix,
    /// `default`: every machine.
    Default,
}

/// One file name of PXELINUX's search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// File name, without folder.
    pub name: String,
    /// What it names.
    pub kind: CandidateKind,
}

impl Candidate {
    /// True where the name belongs to one machine: only such a file may order an action that writes.
    pub fn names_one_machine(&self) -> bool {
        matches!(self.kind, CandidateKind::Uuid | CandidateKind::Mac | CandidateKind::HexIp)
    }
}

/// The file names that PXELINUX tries, in its order: UUID, MAC with the hardware type before it, hexadecimal address
/// and its prefixes, `default`.
///
/// The UUID comes in both byte orders, the one of PXELINUX first; see [`Uuid::swapped`].
pub fn candidates(ids: &MachineIds) -> Vec<Candidate> {
    let mut list = Vec::new();
    let mut add = |name: String, kind| list.push(Candidate { name, kind });
    if let Some(uuid) = ids.uuid.filter(|u| u.is_set()) {
        add(uuid.swapped().to_string(), CandidateKind::Uuid);
        if uuid.swapped() != uuid {
            add(uuid.to_string(), CandidateKind::Uuid);
        }
    }
    if let Some(mac) = ids.mac {
        add(format!("01-{}", mac.to_string().replace(':', "-")), CandidateKind::Mac);
    }
    let mut hex = HexIp(ids.ip).to_string();
    add(hex.clone(), CandidateKind::HexIp);
    while hex.pop().is_some() && !hex.is_empty() {
        add(hex.clone(), CandidateKind::HexIpPrefix);
    }
    add("default".to_owned(), CandidateKind::Default);
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_search_order_of_pxelinux() {
        let ids = MachineIds {
            uuid: "b8945908-d6a6-41a9-611d-74a6ab80b83d".parse().ok(),
            mac: "88:99:AA:BB:CC:DD".parse().ok(),
            ip: Ipv4Addr::new(192, 0, 2, 91),
        };
        let found: Vec<(String, bool)> =
            candidates(&ids).into_iter().map(|c| (c.name.clone(), c.names_one_machine())).collect();
        let expected = [
            ("085994b8-a6d6-a941-611d-74a6ab80b83d", true),
            ("b8945908-d6a6-41a9-611d-74a6ab80b83d", true),
            ("01-88-99-aa-bb-cc-dd", true),
            ("C000025B", true),
            ("C000025", false),
            ("C00002", false),
            ("C0000", false),
            ("C000", false),
            ("C00", false),
            ("C0", false),
            ("C", false),
            ("default", false),
        ];
        assert_eq!(found, expected.map(|(name, one)| (name.to_owned(), one)));
    }

    #[test]
    fn a_uuid_that_nobody_set_names_nobody() {
        let ids = MachineIds { uuid: Some(Uuid([0xff; 16])), mac: None, ip: Ipv4Addr::LOCALHOST };
        assert_eq!(candidates(&ids)[0].name, "7F000001");
    }

    #[test]
    fn hex_addresses() {
        assert_eq!(HexIp(Ipv4Addr::new(10, 40, 41, 42)).to_string(), "0A28292A");
        for bad in ["", "0a28292a", "A28292A", "+A28292A", "0A28292A0"] {
            assert!(bad.parse::<HexIp>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn hex_addresses_parse_back(bits in any::<u32>(), text in any::<String>()) {
            prop_assert_eq!(HexIp(bits.into()).to_string().parse(), Ok(HexIp(bits.into())));
            let _ = text.parse::<HexIp>();
        }
    }
}
