//! `init --store`: settings, key and owners for a server that is all that the lab has, and the commands that come next.

use super::super::Error;
use super::super::config::{DEFAULT_FILE, SettingsFile, parse_file};
use super::super::network::{Subnet, addresses_on};
use super::super::ownership::{self, Class};
use super::super::serve::KEY_FILE;
use super::super::serve_table::SERVE_TABLE;
use crate::boot::leases::AddressRange;
use crate::serve::tls;
use crate::share::ownership::SERVED_FILE;
use crate::store::layout::{BACKUP_EXPORT, INITRD, KERNEL, PXELINUX_CFG, TFTP_EXPORT};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The port that machines find the store at.
const PORT: u16 = 7443;

/// What `init` is told of the server.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Store")]
pub(super) struct StoreFlags {
    /// Make this computer the lab's server, without NFS: also the settings file for 'arm' and 'serve', and the server's key.
    /// A settings file that is there is left alone
    #[arg(long)]
    store: bool,
    /// The interface that the machines are on; the boot services answer there
    #[arg(long, value_name = "IF", requires = "store")]
    interface: Option<String>,
    /// 'serve' is the network's DHCP server, with these addresses for machines that nobody knows yet
    #[arg(long, value_name = "IP-IP", requires_all = ["store", "interface"], conflicts_with = "proxy_dhcp")]
    dhcp: Option<AddressRange>,
    /// 'serve' tells machines what to boot, beside the DHCP server that the network has
    #[arg(long, requires_all = ["store", "interface"])]
    proxy_dhcp: bool,
    /// The server's key [default: /etc/testbox/store-key.pem]
    #[arg(long, value_name = "FILE", requires = "store")]
    key: Option<PathBuf>,
}

impl StoreFlags {
    pub fn is_wanted(&self) -> bool {
        self.store
    }

    /// The server's address, and the network that the machines are in.
    ///
    /// # Errors
    /// This computer has no address there; the range is elsewhere.
    fn place(&self, network: Option<Subnet>, file: &SettingsFile) -> Result<(Ipv4Addr, Subnet), Error> {
        let interface = self.interface.as_deref();
        if interface.is_none() && network.is_none() {
            return Err(Error::usage(
                "where are the machines? Give --interface, as eth1, or --network, as 10.42.1.0/24",
            ));
        }
        let named = file.server.as_ref().and_then(|host| host.as_str().parse::<Ipv4Addr>().ok());
        let own = addresses_on(interface);
        let is_there = |ip: Ipv4Addr, on: Option<Subnet>| match network {
            Some(network) => network.contains(ip),
            None => on.is_some(),
        };
        let has = |network: Subnet| {
            self.dhcp.is_none_or(|range| network.contains(range.first) && network.contains(range.last))
        };
        // Of several, the one of the range, and that which the settings name.
        let rank = |ip: Ipv4Addr, on: Option<Subnet>| (network.or(on).is_some_and(has), Some(ip) == named);
        let found = own.iter().rev().filter(|(ip, on)| is_there(*ip, *on));
        let found = found.max_by_key(|(ip, on)| rank(*ip, *on));
        let (ip, network) = match found.map(|(ip, on)| (*ip, network.or(*on))) {
            Some((ip, Some(network))) => (ip, network),
            _ => {
                let on = interface.map_or_else(String::new, |name| format!(" on {name}"));
                let within = network.map_or_else(String::new, |network| format!(" in {network}"));
                return Err(Error::failed(format!(
                    "this computer has no IPv4 address{on}{within}, so machines could not reach it: give it one, or say by \
                     --interface and --network where the machines are ('ip -4 address' lists both)"
                )));
            }
        };
        match self.dhcp.filter(|_| !has(network)) {
            Some(range) => {
                Err(Error::usage(format!("--dhcp {}-{}: it is not in {network}", range.first, range.last)))
            }
            None => Ok((ip, network)),
        }
    }

    /// What is looked for before anything is written.
    pub fn plan(self, network: Option<Subnet>, file: &SettingsFile) -> Result<Option<StorePlan>, Error> {
        if !self.store {
            return Ok(None);
        }
        let (server, network) = self.place(network, file)?;
        Ok(Some(StorePlan { flags: self, server, network }))
    }
}

/// A server that is to be set up.
pub(super) struct StorePlan {
    flags: StoreFlags,
    server: Ipv4Addr,
    network: Subnet,
}

impl StorePlan {
    /// Makes key and settings, and says so. False where the settings file says something else.
    pub fn apply(
        &self,
        config: Option<&Path>,
        tftp: &Path,
        backup: &Path,
        said: &mut Vec<String>,
    ) -> Result<bool, Error> {
        let key = self.flags.key.as_deref().unwrap_or(Path::new(KEY_FILE));
        let pin = make_key(key, said)?;
        let config = config.unwrap_or(Path::new(DEFAULT_FILE));
        let wanted = self.settings(tftp, backup, key, &pin);
        parse_file(&wanted)
            .map_err(|e| Error::failed(format!("a name cannot be written into the settings: {e}")))?;
        let is_ours = write_settings(config, &wanted, said)?;
        if ![KERNEL, INITRD].iter().all(|name| tftp.join(name).is_file()) {
            said.push(format!(
                "{}: no kernel and initrd there: install the package testbox-boot and run this again, or run scripts/make-nfsroot",
                tftp.display()
            ));
        }
        Ok(is_ours)
    }

    fn settings(&self, tftp: &Path, backup: &Path, key: &Path, pin: &str) -> String {
        let StorePlan { server, network, flags } = self;
        let mut text = format!(
            "# From 'testboxctl init --store'. Keys are long options of 'testboxctl arm', in [{SERVE_TABLE}] those of 'testboxctl serve'.\n\
             server = \"{server}\"\nnetwork = \"{network}\"\nboot = \"testbox\"\nstore = \"https://{server}:{PORT}\"\nstore-key = \"{pin}\"\n"
        );
        for (name, dir, usual) in [("tftp-dir", tftp, TFTP_EXPORT), ("backup-dir", backup, BACKUP_EXPORT)] {
            if dir != Path::new(usual) {
                let _ = writeln!(text, "{name} = {dir:?}");
            }
        }
        let mut serve = String::new();
        if key != Path::new(KEY_FILE) {
            let _ = writeln!(serve, "key = {:?}", super::real(key));
        }
        if let Some(interface) = &flags.interface {
            let _ = writeln!(serve, "interface = {interface:?}\ntftp = true");
        }
        if let Some(range) = flags.dhcp {
            let _ = writeln!(serve, "dhcp = \"{}-{}\"", range.first, range.last);
        }
        if flags.proxy_dhcp {
            serve += "proxy-dhcp = true\n";
        }
        if flags.dhcp.is_some() || flags.proxy_dhcp {
            serve += "# So that 'machines learn' sees them. Once all machines are known, remove this line.\nunknown-machines = \"allow\"\n";
        }
        if !serve.is_empty() {
            let _ = write!(text, "\n[{SERVE_TABLE}]\n{serve}");
        }
        text
    }

    /// What else there is to do; without commands for NFS, which nobody needs here.
    pub fn next(&self, tftp: &Path, backup: &Path, ownership: &str, boot: &str) -> String {
        let mut text = String::new();
        if !ownership::is_the_accounts(backup, &tftp.join(PXELINUX_CFG)) {
            text += ownership;
        }
        if self.flags.dhcp.is_none() && !self.flags.proxy_dhcp {
            text += boot;
        }
        text + "\nNext:\n  systemctl enable --now testbox-store testbox-verify.timer\n  testboxctl machines learn             # \
                once the machines have been switched on, the network first in their boot order\n  testboxctl arm --wait tb1 \
                backup       # and reboot tb1\n"
    }
}

/// The hash of the server's key, which is made where it is missing.
fn make_key(path: &Path, said: &mut Vec<String>) -> Result<String, Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let is_new = [!path.exists(), folder.is_some_and(|folder| !folder.exists())];
    let failed = |e: io::Error| {
        let hint = if e.kind() == io::ErrorKind::PermissionDenied { " (run this as root)" } else { "" };
        Error::failed(format!("cannot make the server's key: {e}{hint}"))
    };
    let pin = tls::pin(path).map_err(failed)?;
    if let ([_, true], Some(folder)) = (is_new, folder) {
        ownership::own(folder, Class::ServerFolder)?;
    }
    if is_new[0] {
        ownership::own(path, Class::ServerKey)?;
        said.push(format!("{}: the server's key, made now", path.display()));
    }
    Ok(pin.to_string())
}

/// Writes the settings where there are none. False where there are others, which stay: says what they lack.
fn write_settings(path: &Path, wanted: &str, said: &mut Vec<String>) -> Result<bool, Error> {
    let failed = |e: io::Error| Error::failed(format!("{}: cannot write the settings: {e}", path.display()));
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => {
            let written = file.write_all(wanted.as_bytes()).and_then(|()| file.sync_all());
            written
                .and_then(|()| fs::set_permissions(path, Permissions::from_mode(SERVED_FILE)))
                .map_err(failed)?;
            said.push(format!("{}: the settings of 'arm' and 'serve', written now", path.display()));
            return Ok(true);
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(failed(e)),
    }
    let there = fs::read_to_string(path)
        .map_err(|e| Error::failed(format!("{}: cannot read it: {e}", path.display())))?;
    let lacks = lacks(&there, wanted);
    if lacks.is_empty() {
        said.push(format!("{}: as it should be", path.display()));
        return Ok(true);
    }
    said.push(format!(
        "{}: it is there and was left alone. It differs from what the store needs in:\n{lacks}",
        path.display()
    ));
    Ok(false)
}

/// The lines of the wanted settings that those that are there do not say.
fn lacks(there: &str, wanted: &str) -> String {
    let read = |text: &str| toml::from_str::<toml::Table>(text).unwrap_or_default();
    let there = read(there);
    let mut table = None;
    let (mut text, mut serve) = (String::new(), String::new());
    for line in wanted.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            table =
                there.get(SERVE_TABLE).and_then(toml::Value::as_table).cloned().or(Some(toml::Table::new()));
            continue;
        }
        let is_said =
            |(key, value): (String, toml::Value)| table.as_ref().unwrap_or(&there).get(&key) == Some(&value);
        if !read(line).into_iter().all(is_said) {
            let to = if table.is_some() { &mut serve } else { &mut text };
            let _ = writeln!(to, "{line}");
        }
    }
    if serve.is_empty() { text } else { format!("{text}[{SERVE_TABLE}]\n{serve}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(flags: StoreFlags) -> StorePlan {
        StorePlan { flags, server: [10, 42, 1, 1].into(), network: "10.42.1.0/24".parse().unwrap() }
    }

    fn flags() -> StoreFlags {
        StoreFlags { store: true, interface: Some("eth1".into()), dhcp: None, proxy_dhcp: false, key: None }
    }

    fn settings(flags: StoreFlags) -> String {
        let usual = [TFTP_EXPORT, BACKUP_EXPORT, KEY_FILE].map(Path::new);
        plan(flags).settings(usual[0], usual[1], usual[2], &"ab".repeat(32))
    }

    #[test]
    fn what_is_written_is_read() {
        let range = "10.42.1.100-10.42.1.199".parse().ok();
        for (flags, part) in [
            (StoreFlags { dhcp: range, ..flags() }, "dhcp = \"10.42.1.100-10.42.1.199\"\n"),
            (StoreFlags { proxy_dhcp: true, ..flags() }, "proxy-dhcp = true\n"),
            (StoreFlags { interface: None, ..flags() }, "boot = \"testbox\"\n"),
        ] {
            let text = settings(flags);
            assert!(text.contains(part), "{text}");
            parse_file(&text).unwrap();
        }
    }

    #[test]
    fn what_differs_is_shown() {
        let wanted = settings(flags());
        assert_eq!(lacks(&wanted, &wanted), "");
        let own = wanted.replace("eth1", "eth0").replace("boot = \"testbox\"\n", "console = [\"tty0\"]\n");
        assert_eq!(lacks(&own, &wanted), "boot = \"testbox\"\n[serve]\ninterface = \"eth1\"\n");
        assert!(lacks("", &wanted).contains("server = \"10.42.1.1\"\n"));
    }
}
