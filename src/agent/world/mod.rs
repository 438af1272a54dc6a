//! Everything outside the agent, as one seam: the real machine, or a test's.

mod real;

pub use real::RealWorld;

use crate::agent::hostkey::HostKey;
use crate::agent::info::MachineIdentity;
use crate::block::BlockDevice;
use crate::efi::Platform;
use crate::failure::Failure;
use crate::inventory::pci::PciDevice;
use crate::inventory::{Disk, Health, Inventory, ScanError};
use crate::job::StoreOrder;
use crate::net::dhcp::Wire;
use crate::net::dns::DnsError;
use crate::net::links::Link;
use crate::net::quota::{Export, Quota, QuotaError, QuotaSubject};
use crate::net::tftp::TftpError;
use crate::share::Files;
use crate::share::mount::MountFailed;
use crate::signature::Trust;
use crate::store::remote::Transport;
use crate::sys::System;
use crate::types::{HostName, MacAddr, NfsSource, Uuid};
use crate::used::DiskContent;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What the kernel and the initramfs have left for the agent to read.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `/proc/cmdline`.
    pub cmdline: String,
    /// The `/run/net-*.conf` files of the initramfs, in the order of their names.
    pub net_conf: Vec<String>,
    /// The system UUID.
    pub uuid: Option<Uuid>,
    /// MAC of each NIC, by its name.
    pub macs: Vec<(String, MacAddr)>,
    /// The keys that this initramfs trusts, and whether it demands signatures.
    pub trust: Trust,
    /// When the kernel started the initramfs's init, since its own start, where its log says so.
    pub init_started: Option<Duration>,
}

/// What a share is mounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The backup share: logs, status, new images.
    Backup,
    /// The backup share once more, read-only: the images that a restore reads.
    Images,
    /// The TFTP share: to disarm.
    Tftp,
}

impl Purpose {
    /// Folder name of its mount point.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Backup => "backup",
            Purpose::Images => "images",
            Purpose::Tftp => "tftp",
        }
    }
}

/// Writes back and unmounts within the time given; that is what a regular end does.
pub type Close = Box<dyn FnOnce(Duration) -> io::Result<()> + Send>;

/// A share that was mounted, and how to let go of it. Dropping both unmounts it lazily.
pub struct MountedShares {
    /// The share.
    pub share: Share,
    /// Unmounts it; nothing may have its files open then.
    pub close: Close,
}

/// A mounted share.
#[derive(Clone)]
pub struct Share {
    /// Server and path, for messages.
    pub name: String,
    /// Where it comes from: whom to ask for quotas. `None` for a store, which counts by itself.
    pub export: Option<Export>,
    /// What is on it.
    pub files: Arc<dyn Files>,
}

/// A disk that was opened by its name, and who it turned out to be.
pub struct OpenDisk {
    /// The open disk.
    pub device: Arc<dyn BlockDevice>,
    /// Who it is, from the descriptor and never by the name.
    pub found: Disk,
}

/// Opens the wire to the DHCP servers of one NIC: when it is needed, and again after an error.
pub type OpenWire = Box<dyn FnMut() -> io::Result<Box<dyn Wire>> + Send>;

/// Lists the disks, as they are now; may be called from any thread. Fails where `/sys` cannot be read, or shows a disk
/// without a size or block size.
pub type ListDisks = Arc<dyn Fn() -> Result<Inventory, ScanError> + Send + Sync>;

/// How to mount a share.
pub struct MountOrder<'a> {
    /// Which export.
    pub source: &'a NfsSource,
    /// The server's address.
    pub server: Ipv4Addr,
    /// This machine's address.
    pub client: Ipv4Addr,
    /// What for.
    pub purpose: Purpose,
    /// How long an unreachable server is retried.
    pub limit: Duration,
}

/// The world that the agent acts on.
pub trait World: Send + Sync {
    /// Mounts, clock, reboot.
    fn system(&self) -> Arc<dyn System>;

    /// What can be read before the first effect.
    fn facts(&self) -> Facts;

    /// Folder in which mount points may be made; it outlives neither the agent nor the boot.
    fn run_dir(&self) -> &Path;

    /// How often a running step is looked at, and its status written.
    fn tick(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// Fetches a file by TFTP.
    ///
    /// # Errors
    /// Silence, the server's own words, or an answer that is not TFTP.
    fn fetch(&self, server: Ipv4Addr, path: &str) -> Result<Vec<u8>, TftpError>;

    /// The network interfaces, as they are now.
    fn links(&self) -> Vec<Link>;

    /// Whether a machine on this network answers for an address; ends in a second or so.
    fn answers(&self, address: Ipv4Addr) -> bool;

    /// The address of a host name; that it has none is an answer.
    ///
    /// # Errors
    /// No server answered, or none can be asked.
    fn resolve(&self, servers: &[Ipv4Addr], name: &HostName) -> Result<Option<Ipv4Addr>, DnsError>;

    /// The host name of an address; that it has none is an answer.
    ///
    /// # Errors
    /// No server answered, or none can be asked.
    fn reverse(&self, servers: &[Ipv4Addr], address: Ipv4Addr) -> Result<Option<HostName>, DnsError>;

    /// The wire to the DHCP servers of a NIC.
    fn dhcp(&self, device: &str) -> OpenWire;

    /// Mounts a share, retrying for as long as the order says; each failed round is a line to `say`.
    ///
    /// # Errors
    /// No version of NFS worked until the time was over; what each said the last time.
    fn mount(&self, order: &MountOrder<'_>, say: &mut dyn FnMut(&str)) -> Result<MountedShares, MountFailed>;

    /// The way to a store at this address, in a session of this name; every request is tried once.
    fn store(&self, order: &StoreOrder<'_>, server: Ipv4Addr, session: &str) -> Arc<dyn Transport>;

    /// A quota on the file system of an export; ends in bounded time, whatever the server does.
    ///
    /// # Errors
    /// The service is not there, silent, or says what cannot be understood.
    fn quota(&self, export: &Export, of: QuotaSubject) -> Result<Option<Quota>, QuotaError>;

    /// What lists the disks, as they are whenever it is called.
    fn list_disks(&self) -> ListDisks;

    /// The PCI devices, as they are now.
    fn pci(&self) -> Vec<PciDevice>;

    /// Asks a disk's firmware for its state; ends in bounded time, whatever the disk does.
    fn health(&self, disk: &Disk) -> Health;

    /// What tells a disk's content from others: a look at its partition table and volumes, in bounded time.
    fn content(&self, disk: &Disk) -> DiskContent;

    /// Opens what has this disk's name now, for reading, exclusively where nobody uses it; `Failure` says what holds it
    /// or why it cannot be opened.
    ///
    /// # Errors
    /// What holds the disk, or why it cannot be opened.
    fn open_source(&self, disk: &Disk) -> Result<OpenDisk, Failure>;

    /// Opens what has this disk's name now, for overwriting, exclusively: nothing else may have it in use.
    ///
    /// # Errors
    /// What holds the disk, or why it cannot be opened.
    fn open_target(&self, disk: &Disk) -> Result<OpenDisk, Failure>;

    /// Makes the ssh host key of this boot for a rescue; in the root at this path, or for the initramfs's own ssh.
    ///
    /// # Errors
    /// The key cannot be made or written.
    fn host_key(&self, root: Option<&Path>) -> io::Result<HostKey>;

    /// The firmware's own interface, where UEFI has started this machine; else `None`.
    fn efi(&self) -> Option<Platform>;

    /// The contents of `testbox-info.txt` and of `testbox-info.zip`.
    fn info(&self, who: &MachineIdentity) -> (String, io::Result<Vec<u8>>);
}
