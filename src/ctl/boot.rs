//! The boot services of `serve`, and the process that they are.

use super::config::SettingsFile;
use super::output::Stderr;
use super::{Answer, Error};
use crate::boot::leases::AddressRange;
use crate::boot::parent::{BootServices, MachinesSource};
use crate::boot::process::{self, BootConfig, DhcpConfig};
use crate::store::lease::Tell;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The hidden command that is their process.
const COMMAND: &str = "boot-services";

/// Where the boot services keep leases and the machines that they have seen, where nobody says otherwise.
pub(super) const STATE_DIR: &str = "/var/lib/testbox/boot";

/// Which machines are answered, beside those of the file of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Unknown {
    /// All
    Allow,
}

/// What `serve` is told of them.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Boot services")]
pub(super) struct BootArgs {
    /// Serve the TFTP folder by TFTP; the files of one machine to its address alone
    #[arg(long, requires = "interface")]
    tftp: bool,
    /// Be the network's DHCP server: known machines get their address, unknown ones, where allowed, one of this range. It
    /// refuses to begin beside another server
    #[arg(long, value_name = "IP-IP", requires = "interface", conflicts_with = "proxy_dhcp")]
    dhcp: Option<AddressRange>,
    /// Tell loaders what to boot, beside the DHCP server that the network has
    #[arg(long, requires = "interface")]
    proxy_dhcp: bool,
    /// An interface that the boot services answer on, and on no other; may be repeated
    #[arg(long, value_name = "IF")]
    interface: Vec<String>,
    /// The machines of the lab [default: the settings file's; /etc/testbox/machines.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    machines: Option<PathBuf>,
    /// Answer DHCP requests of machines that are not in that file, too
    #[arg(long, value_name = "allow", hide_possible_values = true)]
    unknown_machines: Option<Unknown>,
    /// The router that --dhcp tells machines [default: none]
    #[arg(long, value_name = "IP", requires = "dhcp")]
    dhcp_router: Option<Ipv4Addr>,
    /// A DNS server that --dhcp tells machines; may be repeated
    #[arg(long, value_name = "IP", requires = "dhcp")]
    dhcp_dns: Vec<Ipv4Addr>,
    /// The folder for the leases of --dhcp, and for machines that have booted and are not known
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    state_dir: PathBuf,
    /// As root: the user that the boot services run as [default: testbox-boot, or nobody]
    #[arg(long, value_name = "USER")]
    boot_user: Option<String>,
}

impl BootArgs {
    /// Starts what is wanted. It ends with what is given back.
    pub fn start(
        &self,
        tftp_dir: &Path,
        backup_dir: &Path,
        file: &SettingsFile,
    ) -> Result<Option<BootServices>, Error> {
        let is_dhcp = self.dhcp.is_some() || self.proxy_dhcp;
        if !self.tftp && !is_dhcp {
            let is_lost = !self.interface.is_empty() || self.machines.is_some() || self.boot_user.is_some();
            return match is_lost {
                true => Err(Error::usage(
                    "--interface, --machines and --boot-user go with --tftp, --dhcp or --proxy-dhcp",
                )),
                false => Ok(None),
            };
        }
        let absolute = |dir: &Path| {
            dir.canonicalize().map_err(|e| Error::failed(format!("{}: cannot find it: {e}", dir.display())))
        };
        let config = BootConfig {
            interfaces: self.interface.clone(),
            tftp: self.tftp,
            dhcp: is_dhcp.then(|| DhcpConfig {
                range: self.dhcp,
                is_unknown_allowed: self.unknown_machines.is_some(),
                router: self.dhcp_router,
                dns: self.dhcp_dns.clone(),
            }),
            tftp_dir: absolute(tftp_dir)?,
            backup_dir: absolute(backup_dir)?,
            state_dir: self.state_dir.clone(),
            user: self.boot_user.clone(),
        };
        let source = MachinesSource::new(self.machines.as_deref().or(file.machines.as_deref()));
        // This program as it is now, even where an upgrade has put another in its place.
        let command = || {
            let mut command = Command::new("/proc/self/exe");
            command.arg0("testboxctl").arg(COMMAND);
            command
        };
        BootServices::start(command, &config, source, Arc::new(Stderr)).map(Some).map_err(Error::failed)
    }
}

/// The process itself.
pub(super) fn run() -> Answer {
    let tell = Arc::new(Stderr);
    process::run(tell.clone()).map(|()| true).map_err(|e| {
        tell.warn(&format!("boot services: {e}"));
        Error::failed("the boot services did not begin")
    })
}
