//! Which loader a client of DHCP is told: the one place for it, for this server and for what `init` prints for others.

use crate::store::layout::{SHIM, SHIM_ARM64, TFTP_MARKER};

/// The GRUB that is made for a lab with proxy DHCP, because the signed one does not know of such.
pub const PROXY_GRUB: &str = "testbox-grub.efi";

/// What asks, by its type (option 93, RFC 4578 and IANA's list).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// BIOS: the ROM of a network card, or iPXE.
    Bios,
    /// UEFI on x86-64.
    Uefi,
    /// UEFI on arm64.
    UefiArm64,
    /// UEFI that boots by HTTP. It is told no file: machines that are not armed would take it.
    Http,
}

impl ClientKind {
    /// All that are told apart.
    pub const ALL: [ClientKind; 4] =
        [ClientKind::Bios, ClientKind::Uefi, ClientKind::UefiArm64, ClientKind::Http];

    /// Its types.
    pub const fn types(self) -> &'static [u16] {
        match self {
            ClientKind::Bios => &[0],
            // Most call themselves 7; 9 is what the RFC had meant.
            ClientKind::Uefi => &[7, 9],
            ClientKind::UefiArm64 => &[11],
            ClientKind::Http => &[16, 19],
        }
    }

    /// What a client of this type is; `None` for one that nobody has a loader for.
    pub fn of(number: u16) -> Option<ClientKind> {
        ClientKind::ALL.into_iter().find(|kind| kind.types().contains(&number))
    }

    /// The loader that a DHCP server names, in the root of the TFTP tree.
    pub const fn loader(self) -> Option<&'static str> {
        match self {
            ClientKind::Bios => Some(TFTP_MARKER),
            ClientKind::Uefi => Some(SHIM),
            ClientKind::UefiArm64 => Some(SHIM_ARM64),
            ClientKind::Http => None,
        }
    }

    /// Those that a proxy names, the best first. Debian's signed GRUB asks the network's own DHCP server for its files: with
    /// it that server must name this one. A GRUB of the lab's own knows where to ask.
    pub fn of_proxy(self) -> Vec<&'static str> {
        let own = (self == ClientKind::Uefi).then_some(PROXY_GRUB);
        own.into_iter().chain(self.loader()).collect()
    }
}
