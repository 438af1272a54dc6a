//! Whom a file of the TFTP tree may be given to.
//!
//! The file that arms a machine holds its token and its words: only that machine reads it. TFTP has no more than addresses
//! to tell machines by; whoever takes a machine's address on the wire is given its files.

use crate::job::pxe::HexIp;
use crate::store::layout::OWN_LOADER;
use crate::types::MacAddr;
use std::net::Ipv4Addr;

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOwner {
    /// Whoever asks.
    Everybody,
    /// The machine at this address.
    Address(Ipv4Addr),
    /// The machine with this card, at the address that is known of it.
    Card(MacAddr),
    /// Nobody: what is being written, and what an admin hides.
    Nobody,
}

/// Whom the file at this path is for, whatever folder it is in: the folders of configurations may have any place in the tree.
///
/// A name of fewer digits and `default` are for many machines. A file named after a UUID is given to everybody: testbox
/// writes none, and nothing tells which address has it.
pub fn owner(path: &str) -> FileOwner {
    if path.split('/').any(|name| name.starts_with('.')) {
        return FileOwner::Nobody;
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let bare = name.strip_suffix(OWN_LOADER).unwrap_or(name);
    if let Ok(HexIp(address)) = bare.to_ascii_uppercase().parse() {
        return FileOwner::Address(address);
    }
    // With the hardware type of Ethernet before it, as PXELINUX has it.
    match bare.parse() {
        Ok(mac) if bare.len() == 20 => FileOwner::Card(mac),
        _ => FileOwner::Everybody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::pxe::{Candidate, MachineIds, candidates};
    use crate::store::layout::{KERNEL, PXELINUX_CFG, TESTBOX_CFG, own_loader_file};

    const IP: Ipv4Addr = Ipv4Addr::new(10, 42, 1, 20);
    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    /// By what `arm` and PXELINUX call them: a name that is changed there is changed here.
    #[test]
    fn what_names_a_machine_is_for_it_alone() {
        let ids = MachineIds { uuid: None, mac: Some(MAC), ip: IP };
        for folder in [PXELINUX_CFG, TESTBOX_CFG, "bios/pxelinux.cfg", "elsewhere", ""] {
            for Candidate { name, .. } in candidates(&ids) {
                let expected = match name.len() {
                    20 => FileOwner::Card(MAC),
                    8 => FileOwner::Address(IP),
                    _ => FileOwner::Everybody,
                };
                assert_eq!(owner(&format!("{folder}/{name}")), expected, "{folder}/{name}");
            }
        }
        assert_eq!(owner(&own_loader_file(HexIp(IP))), FileOwner::Address(IP));
        assert_eq!(owner("pxelinux.cfg/0a2a0114"), FileOwner::Address(IP), "on a share without case");
    }

    #[test]
    fn loaders_are_for_everybody_and_hidden_files_for_nobody() {
        for path in
            [KERNEL, "pxelinux.0", "grub/grub.cfg", "pxelinux.cfg/b8945908-d6a6-41a9-611d-74a6ab80b83d"]
        {
            assert_eq!(owner(path), FileOwner::Everybody, "{path}");
        }
        for path in ["pxelinux.cfg/.0A2A0114.job.tmp", ".git/config", "a/.b/c", ".."] {
            assert_eq!(owner(path), FileOwner::Nobody, "{path}");
        }
    }
}
