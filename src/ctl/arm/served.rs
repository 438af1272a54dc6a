//! What the TFTP server has: where the folder of configurations is below its root, and whether it may read a file.

use super::super::Error;
use super::super::config::SettingsFile;
use super::super::network::own_addresses;
use super::super::shares::ShareFolder;
use crate::net::tftp::{Limits, PORT, TftpClient, TftpError};
use crate::store::layout::{DEFAULT_CFG, MAINTENANCE_BOOT, TFTP_EXPORT, TFTP_MARKER};
use crate::types::TftpPath;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The loaders that PXELINUX's folder may hold.
const LOADERS: [&str; 2] = [TFTP_MARKER, "lpxelinux.0"];

/// The tree that TFTP serves, and the folder of configurations in it.
#[derive(Debug)]
pub(in crate::ctl) struct Served {
    pub root: PathBuf,
    /// Path of the folder below the root: `pxelinux.cfg`, or `menu-bios/pxelinux.cfg`.
    below: PathBuf,
}

impl Served {
    /// The root is the TFTP share that the settings name, where the folder is in it; else the nearest folder above that
    /// holds `maintenance-boot`; else the one above.
    pub fn find(cfg: &ShareFolder, settings: &SettingsFile) -> Served {
        let named = settings.tftp_dir.clone().unwrap_or_else(|| TFTP_EXPORT.into()).canonicalize().ok();
        let above = || cfg.path.ancestors().skip(1).find(|dir| dir.join(MAINTENANCE_BOOT).is_dir());
        let root = named
            .filter(|root| cfg.path.starts_with(root) && *root != cfg.path)
            .or_else(|| above().map(Path::to_owned))
            .or_else(|| cfg.path.parent().map(Path::to_owned))
            .unwrap_or_else(|| cfg.path.clone());
        let below = cfg.path.strip_prefix(&root).unwrap_or(Path::new("")).to_owned();
        Served { root, below }
    }

    /// A file of the folder of configurations, as TFTP names it.
    pub fn path_of(&self, file: &str) -> Result<TftpPath, Error> {
        let path = self.below.join(file);
        path.to_string_lossy().replace('%', "%25").parse().map_err(|e| Error::usage(format!("{e}")))
    }

    /// Where a loader looks for a file that the configuration names: PXELINUX below the folder that it came from itself.
    fn boot_file(&self, file: &str) -> PathBuf {
        let folder = self.root.join(self.below.parent().unwrap_or(Path::new("")));
        let has_loader = LOADERS.iter().any(|loader| folder.join(loader).is_file());
        let from = if has_loader { &folder } else { &self.root };
        from.join(file.trim_start_matches('/'))
    }

    /// Why a machine could not boot this kernel or initramfs.
    pub fn boot_problem(&self, file: &str) -> Option<String> {
        let path = self.boot_file(file);
        let why = match fs::metadata(&path) {
            Err(e) => Some(format!("{e}")),
            Ok(there) if !there.is_file() => Some("not a file".into()),
            Ok(there) if there.len() == 0 => Some("it is empty".into()),
            Ok(_) => None,
        };
        match why {
            Some(why) => Some(format!("{}: {why}; the machine cannot boot without it", path.display())),
            None => self.mode_problem(&path),
        }
    }

    /// Why a server that reads as somebody else could not read a file below the root: its mode, or that of a folder on
    /// the way.
    pub fn mode_problem(&self, path: &Path) -> Option<String> {
        let folders: Vec<&Path> =
            path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root)).collect();
        let is_closed = |path: &Path, bit: u32| {
            let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
            (mode & bit == 0).then_some(mode)
        };
        for folder in folders.into_iter().rev() {
            if let Some(mode) = is_closed(folder, 0o001) {
                return Some(format!(
                    "{}: the TFTP server cannot enter this folder (mode {mode:o}): chmod o+x",
                    folder.display()
                ));
            }
        }
        is_closed(path, 0o004).map(|mode| {
            format!("{}: the TFTP server cannot read it (mode {mode:o}): chmod o+r", path.display())
        })
    }

    /// Whether the TFTP server has this file with this text, as far as can be told from here.
    pub fn check(&self, server: Option<Ipv4Addr>, file: &str, text: &str) -> Result<ServedCheck, Error> {
        let modes = || self.mode_problem(&self.root.join(&self.below).join(file));
        let Some(address) = listener(server) else {
            return Ok(modes().map_or(ServedCheck::Plausible, ServedCheck::Failed));
        };
        let limits = Limits { retries: 2, deadline: Duration::from_secs(5), ..Limits::default() };
        let client = TftpClient::new(limits);
        let ask = |path: &TftpPath| client.fetch(SocketAddrV4::new(address, PORT), path.as_str());
        let path = self.path_of(file)?;
        let why = match ask(&path) {
            Ok(bytes) if bytes == text.as_bytes() => return Ok(ServedCheck::Proven),
            Ok(_) => "it has another file of this name".to_owned(),
            Err(e) => e.to_string(),
        };
        if let Some(problem) = modes() {
            return Ok(ServedCheck::Failed(problem));
        }
        let asked = format!("the TFTP server at {address} was asked for {}: {why}", path.as_str());
        // A server of another tree tells nothing of this one.
        let default = fs::read(self.root.join(&self.below).join(DEFAULT_CFG)).ok();
        let is_ours = match ask(&self.path_of(DEFAULT_CFG)?) {
            Ok(bytes) => Some(bytes) == default,
            Err(TftpError::TooLarge(_)) => {
                default.is_some_and(|bytes| bytes.len() > Limits::default().max_bytes)
            }
            Err(_) => false,
        };
        if is_ours {
            return Ok(ServedCheck::Failed(asked));
        }
        Ok(ServedCheck::Unknown(format!("{asked}; it may serve another folder than {}", self.root.display())))
    }
}

/// What is known of a file that was written for the TFTP server.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ctl) enum ServedCheck {
    /// The server has given exactly this text.
    Proven,
    /// There is no server here to ask; the modes are right.
    Plausible,
    /// The server that was asked does not have it, and may not be the one that machines ask.
    Unknown(String),
    /// No machine would get it.
    Failed(String),
}

/// Where a TFTP server of this computer listens.
fn listener(server: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    let read = |file: &str| fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
    let own: Vec<Ipv4Addr> = own_addresses().into_iter().map(|(ip, _)| ip).collect();
    address_to_ask(&read("udp"), &read("udp6"), server, &own)
}

/// The address to ask, from the tables of `/proc/net/udp` and `udp6`.
fn address_to_ask(udp: &str, udp6: &str, server: Option<Ipv4Addr>, own: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    let sockets = |text: &str| -> Vec<String> {
        let local = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
        text.lines()
            .skip(1)
            .filter_map(local)
            .filter_map(|a| a.strip_suffix(":0045").map(str::to_owned))
            .collect()
    };
    // The kernel prints the four bytes as one number of this machine (net/ipv4/udp.c).
    let address = |hex: &String| u32::from_str_radix(hex, 16).ok().map(|n| Ipv4Addr::from(n.to_ne_bytes()));
    let mut listeners: Vec<Ipv4Addr> = sockets(udp).iter().filter_map(address).collect();
    if sockets(udp6).iter().any(|hex| hex.bytes().all(|b| b == b'0')) {
        listeners.push(Ipv4Addr::UNSPECIFIED);
    }
    let server = server.filter(|server| own.contains(server));
    match server {
        Some(server) if listeners.contains(&server) => Some(server),
        _ if listeners.contains(&Ipv4Addr::UNSPECIFIED) => Some(server.unwrap_or(Ipv4Addr::LOCALHOST)),
        _ => listeners.first().copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tftp_server_of_this_computer_is_found() {
        let line = |address: &str| {
            format!("  sl  local_address rem_address   st\n  12: {address} 00000000:0000 07 0:0\n")
        };
        let hex = |ip: [u8; 4]| format!("{:08X}:0045", u32::from_ne_bytes(ip));
        let server = Ipv4Addr::new(10, 42, 1, 1);
        let other = Ipv4Addr::new(10, 9, 0, 1);
        let any6 = line(&format!("{}:0045", "0".repeat(32)));
        for (udp, udp6, own, expected) in [
            (line("00000000:0044"), String::new(), vec![server], None),
            (String::new(), String::new(), vec![server], None),
            (line("nonsense:0045"), String::new(), vec![server], None),
            (line(&hex([0; 4])), String::new(), vec![server], Some(server)),
            (line(&hex([0; 4])), String::new(), vec![other], Some(Ipv4Addr::LOCALHOST)),
            (line(&hex([10, 42, 1, 1])), String::new(), vec![server], Some(server)),
            (line(&hex([10, 9, 0, 1])), String::new(), vec![server, other], Some(other)),
            (String::new(), any6, vec![server], Some(server)),
        ] {
            assert_eq!(address_to_ask(&udp, &udp6, Some(server), &own), expected, "{udp}{udp6}{own:?}");
        }
    }
}
