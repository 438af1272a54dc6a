//! The process of the boot services: it opens its sockets, gives up all rights that it needs no more, and serves until
//! `serve`, which has started it, is gone.
//!
//! On standard input comes a line of JSON with the configuration, then one with the machines, and again one whenever they
//! change: so it reads no file of the admin's, which lie beside keys. The end of that input is its end: no signal could be
//! missed, and it lives no longer than who started it. On standard output it says when it is ready; standard error is the log.

use super::MachinesNow;
use super::confine::{self, Cage};
use super::machines::{KnownMachine, KnownMachines};
use super::tftp::TftpServer;
use super::tree::TftpTree;
use crate::net::tftp::PORT;
use crate::store::lease::Tell;
use crate::sys::{ignore_ending_signals, udp_server};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What it says once it serves.
pub const READY: &str = "READY";
/// The interface of this computer alone. TFTP answers there too: `arm` looks whether what it has written is served.
const LOOPBACK: &str = "lo";

/// What it is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootConfig {
    /// The only interfaces that it answers on.
    pub interfaces: Vec<String>,
    /// Whether it serves TFTP.
    pub tftp: bool,
    /// The tree that TFTP serves.
    pub tftp_dir: PathBuf,
    /// The backups, which it must not reach.
    pub backup_dir: PathBuf,
    /// Who to become, where it is started as root.
    pub user: Option<String>,
}

/// A line of standard input: all machines.
pub type MachinesLine = Vec<KnownMachine>;

/// Serves until standard input ends.
///
/// # Errors
/// Why it cannot begin: what failed, where, and what to do.
pub fn run(tell: Arc<dyn Tell>) -> Result<(), String> {
    ignore_ending_signals();
    let mut lines = io::stdin().lock().lines();
    let mut line = || lines.next().and_then(Result::ok);
    let config = line().and_then(|line| serde_json::from_str::<BootConfig>(&line).ok());
    let config = config.ok_or("'testboxctl serve' starts this, nobody else")?;
    let machines = MachinesNow::default();
    machines.set(line().and_then(|line| taken(&line)).ok_or("no machines came from 'testboxctl serve'")?);

    let sockets = if config.tftp { sockets(&config.interfaces, PORT)? } else { Vec::new() };
    let unreadable = |e: io::Error| format!("{}: cannot open the TFTP tree: {e}", config.tftp_dir.display());
    let tree = TftpTree::open(&config.tftp_dir).map_err(unreadable)?;
    let read: &[&Path] = if config.tftp { &[&config.tftp_dir] } else { &[] };
    let cage = Cage { read, write: &[], user: config.user.as_deref(), secret: &config.backup_dir };
    let how = confine::confine(&cage)?;
    // What nobody of this user could read is told now, not to the first machine.
    tree.get(crate::store::layout::TFTP_MARKER).map_err(|e| {
        format!("{}: cannot be read as the boot services run: {e}", config.tftp_dir.display())
    })?;

    let server = Arc::new(TftpServer::new(tree, machines.clone(), tell.clone()));
    for (device, socket) in sockets {
        let server = server.clone();
        spawn(move || server.serve(&device, &socket))?;
    }
    tell.info(&format!(
        "boot services on {}: TFTP; {} machines are known; {how}",
        config.interfaces.join(", "),
        machines.get().list().len()
    ));
    let _ = writeln!(io::stdout(), "{READY}");
    while let Some(line) = line() {
        if let Some(known) = taken(&line) {
            tell.info(&format!("boot services: {} machines are known now", known.list().len()));
            machines.set(known);
        }
    }
    Ok(())
}

fn taken(line: &str) -> Option<KnownMachines> {
    KnownMachines::of(serde_json::from_str::<MachinesLine>(line).ok()?).ok()
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = std::thread::Builder::new().name("boot".into()).spawn(work);
    started.map(drop).map_err(|e| format!("no thread for the boot services: {e}"))
}

/// A socket on each interface, and on this computer's own.
fn sockets(interfaces: &[String], port: u16) -> Result<Vec<(String, UdpSocket)>, String> {
    let open = |device: &str| {
        udp_server(device, port).map(|socket| (device.to_owned(), socket)).map_err(|e| {
            let hint = match e.raw_os_error() {
                Some(libc::EADDRINUSE) => "another TFTP server has it: stop it, or leave out --tftp",
                Some(libc::ENODEV) => "there is no such interface: see 'ip link'",
                Some(libc::EACCES | libc::EPERM) => {
                    "the right for it is missing: run this as root, or with AmbientCapabilities=CAP_NET_BIND_SERVICE \
                     CAP_NET_RAW as systemd's unit has it"
                }
                _ => "see ip(7)",
            };
            format!("UDP port {port} on {device}: {e} ({hint})")
        })
    };
    let all = interfaces.iter().map(String::as_str).filter(|device| *device != LOOPBACK);
    all.chain([LOOPBACK]).map(open).collect()
}
