//! Who this machine is on the network, and where its shares are.

use crate::agent::info::Who;
use crate::agent::world::{Facts, Purpose, World};
use crate::failure::{Failure, Kind};
use crate::job::Order;
use crate::job::pxe::{HexIp, MachineIds};
use crate::job::{Cmdline, Options};
use crate::net::netconf::{IpWord, NetConf};
use crate::types::{HostName, NfsSource};
use std::net::Ipv4Addr;

/// The exports that the original system uses, where nothing else is said.
const BACKUP_EXPORT: &str = "/export/testbox-backup";
const TFTP_EXPORT: &str = "/export/testbox-tftp";

/// The machine's place in the network.
pub struct Network {
    /// Own address.
    pub address: Ipv4Addr,
    /// What PXELINUX knows the machine by.
    pub ids: MachineIds,
    /// The server that it booted from, where known.
    pub boot_server: Option<Ipv4Addr>,
    /// Folder of PXELINUX below the TFTP root, with its final `/`, or nothing.
    pub tftp_prefix: String,
    dns: Vec<Ipv4Addr>,
    nfs_server: Option<HostName>,
}

impl Network {
    /// Puts together what ipconfig has left and what the `ip=` word says.
    pub fn read(facts: &Facts, kernel: &Cmdline) -> Result<Network, Failure> {
        let word = kernel.ip.as_deref().and_then(|ip| ip.parse::<IpWord>().ok()).map(|ip| ip.netconf());
        let mut confs = facts.net_conf.iter().map(|text| NetConf::parse(text));
        let conf = confs.find(|c| c.address.is_some()).unwrap_or_default().or(word.unwrap_or_default());
        let Some(address) = conf.address else {
            return Err(Failure::new(
                Kind::Network,
                "this machine has no IPv4 address",
                "check cable, switch and DHCP server, and the ip= word.",
            ));
        };
        let of_device = |name: &String| facts.macs.iter().find(|(nic, _)| nic == name).map(|(_, mac)| *mac);
        let mac = kernel.bootif.or_else(|| conf.device.as_ref().and_then(of_device));
        let nfs_server =
            kernel.nfsroot.as_deref().and_then(|r| r.split_once(':')).and_then(|(h, _)| h.parse().ok());
        Ok(Network {
            address,
            ids: MachineIds { uuid: facts.uuid, mac, ip: address },
            boot_server: conf.boot_server,
            tftp_prefix: conf.tftp_prefix().to_owned(),
            dns: if kernel.options.dns.is_empty() { conf.dns } else { kernel.options.dns.clone() },
            nfs_server,
        })
    }

    /// Takes over what the order says of the network, which may come from a file on the boot server.
    pub fn obey(&mut self, order: &Order) {
        if !order.options.dns.is_empty() {
            self.dns.clone_from(&order.options.dns);
        }
    }

    /// The names of this machine: the host name is what the admin says, else what reverse DNS says.
    pub fn who(&self, world: &dyn World, options: &Options) -> Who {
        let name = options.name.clone().or_else(|| world.reverse(&self.dns, self.address));
        Who {
            ip: self.address,
            hexip: HexIp(self.address).to_string(),
            hostname: name.map_or_else(|| "unknown".into(), |n| n.to_string()),
        }
    }

    /// Where a share is: as the order says, else the original's export on the server that the machine booted from.
    pub fn source(&self, order: &Order, purpose: Purpose) -> Result<NfsSource, Failure> {
        let (said, path, word) = match purpose {
            Purpose::Backup | Purpose::Images => (&order.options.backup, BACKUP_EXPORT, "backup"),
            Purpose::Tftp => (&order.options.tftp, TFTP_EXPORT, "tftp"),
        };
        if let Some(source) = said {
            return Ok(source.clone());
        }
        // Only one of the two is said: the other is most likely on the same server.
        let other = order.options.backup.as_ref().or(order.options.tftp.as_ref()).map(|s| s.host.clone());
        let booted_from = self.boot_server.and_then(|s| s.to_string().parse().ok());
        match other.or_else(|| self.nfs_server.clone()).or(booted_from) {
            Some(host) => Ok(NfsSource { host, path: path.into(), options: Vec::new() }),
            None => Err(Failure::new(
                Kind::ShareUnreachable,
                format!("nothing says where the {word} share is, and the boot server is unknown"),
                format!("give testbox.{word}=SERVER:/path."),
            )),
        }
    }

    /// The address of a server.
    pub fn resolve(&self, world: &dyn World, host: &HostName) -> Result<Ipv4Addr, Failure> {
        host.ipv4().or_else(|| world.resolve(&self.dns, host)).ok_or_else(|| {
            let servers: Vec<_> = self.dns.iter().map(ToString::to_string).collect();
            Failure::new(
                Kind::Network,
                format!("cannot resolve the host name {host} (DNS servers: {})", servers.join(", ")),
                "write its address instead, or give testbox.dns=.",
            )
        })
    }
}
