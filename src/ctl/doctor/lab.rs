//! What is known of the lab beforehand: settings, machines, and where this computer stands in it.

use super::super::Error;
use super::super::config::{BootSetting, SettingsFile};
use super::super::machine::{self, MachineNames};
use super::super::network::{Subnet, own_addresses};
use crate::boot::machines::KnownMachine;
use crate::store::layout::{BACKUP_EXPORT, BACKUP_MARKER, TFTP_EXPORT, TFTP_MARKER};
use nix::ifaddrs::getifaddrs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// The lab, as this computer's files describe it.
#[derive(Clone)]
pub(super) struct DoctorLab {
    pub settings: SettingsFile,
    /// The server of the shares.
    pub server: Option<Ipv4Addr>,
    /// The TFTP server.
    pub boot: Option<Ipv4Addr>,
    /// Names of servers that have no address.
    pub unresolved: Vec<String>,
    pub machines: Vec<KnownMachine>,
    /// Addresses of this computer.
    pub own: Vec<(Ipv4Addr, Option<Subnet>)>,
    /// The TFTP tree, where it is a folder of this computer.
    pub tftp_dir: Option<PathBuf>,
    /// The backups, where they are.
    pub backup_dir: Option<PathBuf>,
    /// How long each answer may take.
    pub wait: Duration,
    /// The interface that DHCP is asked on, and this computer's address there; else why none.
    pub wire: Result<(String, Ipv4Addr), String>,
}

impl DoctorLab {
    pub fn of(settings: SettingsFile, interface: Option<&str>, wait: Duration) -> Result<DoctorLab, Error> {
        let machines = MachineNames::load(&settings)?.list().to_vec();
        let mut unresolved = Vec::new();
        let mut address = |host: &Option<crate::types::HostName>| {
            let host = host.as_ref()?;
            machine::resolve(host.as_str()).map_err(|e| unresolved.push(e.to_string())).ok()
        };
        let (server, named_boot) = (address(&settings.server), address(&settings.boot_server));
        let boot = named_boot.or(server);
        let own = own_addresses();
        let tftp = settings.tftp_dir.clone().unwrap_or_else(|| TFTP_EXPORT.into());
        let backup = settings.backup_dir.clone().unwrap_or_else(|| BACKUP_EXPORT.into());
        // A folder that somebody has named counts, however little is in it.
        let tftp_dir = (settings.tftp_dir.is_some() || tftp.join(TFTP_MARKER).is_file()).then_some(tftp);
        let backup_dir =
            (settings.backup_dir.is_some() || backup.join(BACKUP_MARKER).is_file()).then_some(backup);
        let wire = wire(interface, boot, settings.network);
        Ok(DoctorLab { settings, server, boot, unresolved, machines, own, tftp_dir, backup_dir, wait, wire })
    }

    pub fn is_own(&self, ip: Ipv4Addr) -> bool {
        self.own.iter().any(|(own, _)| *own == ip)
    }

    /// Machines mount their root by NFS.
    pub fn has_nfs_root(&self) -> bool {
        self.settings.boot.is_none_or(|boot| boot == BootSetting::Nfs)
    }

    /// A file below the TFTP tree for a cure.
    pub fn tftp_path(&self, file: &str) -> String {
        self.tftp_dir.clone().unwrap_or_else(|| TFTP_EXPORT.into()).join(file).display().to_string()
    }
}

/// The interface in the machines' network.
fn wire(
    interface: Option<&str>,
    boot: Option<Ipv4Addr>,
    network: Option<Subnet>,
) -> Result<(String, Ipv4Addr), String> {
    let all: Vec<(String, Ipv4Addr, Ipv4Addr)> = getifaddrs()
        .map_err(|e| format!("cannot list the addresses of this computer: {e}"))?
        .filter_map(|one| {
            let ip =
                |address: Option<nix::sys::socket::SockaddrStorage>| Some(address?.as_sockaddr_in()?.ip());
            Some((one.interface_name.clone(), ip(one.address)?, ip(one.netmask)?))
        })
        .filter(|(_, ip, _)| !ip.is_loopback())
        .collect();
    let is_in = |network: Subnet| all.iter().find(move |(_, ip, _)| network.contains(*ip));
    let of_server = |server: Ipv4Addr| {
        all.iter().find(move |(_, ip, mask)| Subnet::of(*ip, *mask).is_some_and(|net| net.contains(server)))
    };
    let found = match interface {
        Some(named) => all.iter().find(|(name, _, _)| name == named),
        None => network.and_then(is_in).or_else(|| boot.and_then(of_server)),
    };
    match (found, interface) {
        (Some((name, ip, _)), _) => Ok((name.clone(), *ip)),
        (None, Some(named)) => Err(format!("there is no interface {named} with an IPv4 address")),
        (None, None) => Err(
            "this computer has no address in the machines' network, and DHCP is heard there alone: run it on the server, or \
             name an interface by --interface"
                .into(),
        ),
    }
}
