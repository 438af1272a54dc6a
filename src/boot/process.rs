//! The process of the boot services: it opens its sockets, gives up all rights that it needs no more, and serves until
//! `serve`, which has started it, is gone.
//!
//! On standard input comes a line of JSON with the configuration, then one with the machines, and again one whenever they
//! change: so it reads no file of the admin's, which lie beside keys. The end of that input is its end: no signal could be
//! missed, and it lives no longer than who started it. On standard output it says when it is ready; standard error is the log.

use super::MachinesNow;
use super::answer::DhcpRules;
use super::confine::{self, Cage};
use super::dhcp::DhcpServer;
use super::leases::AddressRange;
use super::machines::{KnownMachine, KnownMachines};
use super::seen::SeenBoots;
use super::tftp::{LOOPBACK, TftpServer};
use super::tree::TftpTree;
use crate::net::dhcp::{CLIENT_PORT, SERVER_PORT};
use crate::net::tftp::PORT;
use crate::share::DirFiles;
use crate::store::layout::TFTP_MARKER;
use crate::store::lease::Tell;
use crate::sys::{ignore_ending_signals, udp_on_device, udp_server};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What it says once it serves.
pub const READY: &str = "READY";
/// How often machines that were seen are written down.
const WRITE: Duration = Duration::from_secs(1);
/// How often it looks whether its interfaces are the same.
const LOOK: Duration = Duration::from_secs(2);
/// Where proxies are asked (PXE 2.1).
const PROXY_PORT: u16 = 4011;

/// What it is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootConfig {
    /// The only interfaces that it answers on.
    pub interfaces: Vec<String>,
    /// Whether it serves TFTP.
    pub tftp: bool,
    /// Whether it is the network's DHCP server, or a proxy beside it.
    pub dhcp: Option<DhcpConfig>,
    /// The tree that TFTP serves.
    pub tftp_dir: PathBuf,
    /// The backups, which it must not reach.
    pub backup_dir: PathBuf,
    /// The folder for its leases, and for the machines that it has seen.
    pub state_dir: PathBuf,
    /// Who to become, where it is started as root.
    pub user: Option<String>,
}

/// How DHCP is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DhcpConfig {
    /// The range for unknown machines; without it, a proxy.
    pub range: Option<AddressRange>,
    /// Whether unknown machines are answered.
    pub is_unknown_allowed: bool,
    /// The router.
    pub router: Option<Ipv4Addr>,
    /// DNS servers.
    pub dns: Vec<Ipv4Addr>,
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

    let unreadable = |e: io::Error| {
        let hint = match e.raw_os_error() {
            Some(libc::ENOSYS) => {
                " (openat2(2): Linux 5.6 has it, and a unit's RestrictSUIDSGID= takes it away)"
            }
            _ => "",
        };
        format!("{}: cannot open the TFTP tree: {e}{hint}", config.tftp_dir.display())
    };
    let open = Open::all(&config)?;
    let indices: Vec<Option<u32>> = config.interfaces.iter().map(|device| index(device)).collect();
    let tree = Arc::new(TftpTree::open(&config.tftp_dir).map_err(unreadable)?);
    let has_state = has_state(&config, &*tell)?;
    let how = confined(&config, has_state)?;
    // What nobody of this user could read is told now, not to the first machine.
    tree.get(TFTP_MARKER).map_err(unreadable)?;
    let (does, dhcp) = begin(&config, open, (&tree, &machines), has_state, &tell)?;
    tell.info(&format!(
        "boot services on {}: {does}; {} machines are known; {how}",
        config.interfaces.join(", "),
        machines.get().list().len()
    ));
    let (devices, told) = (config.interfaces.clone(), tell.clone());
    spawn(move || {
        let gone = wait_until_gone(&devices, &indices);
        told.warn(&format!(
            "the interface {gone} is gone, or is another one now: the boot services begin anew"
        ));
        std::process::exit(1);
    })?;
    let _ = writeln!(io::stdout(), "{READY}");
    while let Some(line) = line() {
        if let Some(known) = taken(&line) {
            tell.info(&format!("boot services: {} machines are known now", known.list().len()));
            machines.set(known);
        }
    }
    dhcp.iter().for_each(|dhcp| dhcp.write_leases());
    Ok(())
}

/// The sockets, which want rights that are given up.
struct Open {
    tftp: Vec<(String, UdpSocket)>,
    dhcp: Vec<(String, UdpSocket)>,
    proxy: Vec<(String, UdpSocket)>,
    /// At the port of clients, to look for other servers.
    scouts: Vec<(String, UdpSocket)>,
}

impl Open {
    fn all(config: &BootConfig) -> Result<Open, String> {
        let on = |is_wanted: bool, port: u16, what: &str| {
            let devices = config.interfaces.iter().filter(|_| is_wanted);
            devices.map(|device| socket(device, port, what)).collect::<Result<Vec<_>, String>>()
        };
        let is_full = config.dhcp.as_ref().is_some_and(|dhcp| dhcp.range.is_some());
        let is_proxy = config.dhcp.is_some() && !is_full;
        let mut tftp = on(config.tftp, PORT, "TFTP")?;
        if config.tftp && !config.interfaces.iter().any(|device| device == LOOPBACK) {
            tftp.push(socket(LOOPBACK, PORT, "TFTP")?);
        }
        let scout = |device: &String| match udp_on_device(device, CLIENT_PORT) {
            Ok(socket) => Ok((device.clone(), socket)),
            Err(e) => {
                Err(format!("UDP port {CLIENT_PORT} on {device}: {e} (to look for other DHCP servers)"))
            }
        };
        Ok(Open {
            tftp,
            dhcp: on(config.dhcp.is_some(), SERVER_PORT, if is_proxy { "proxy" } else { "DHCP" })?,
            proxy: on(is_proxy, PROXY_PORT, "proxy")?,
            scouts: config.interfaces.iter().filter(|_| is_full).map(scout).collect::<Result<_, _>>()?,
        })
    }
}

fn socket(device: &str, port: u16, what: &str) -> Result<(String, UdpSocket), String> {
    udp_server(device, port).map(|socket| (device.to_owned(), socket)).map_err(|e| {
        let hint = match e.raw_os_error() {
            Some(libc::EADDRINUSE) if what == "proxy" => "this computer's own DHCP server, or another proxy, has it: let that \
                 one name the loaders, by the words that 'testboxctl init' prints"
                .into(),
            Some(libc::EADDRINUSE) => format!("another {what} server has it: stop it, or leave {what} to it"),
            Some(libc::ENODEV) => "there is no such interface: see 'ip link'".into(),
            Some(libc::EACCES | libc::EPERM) => {
                "the right for it is missing: start this as root, or with AmbientCapabilities=CAP_NET_BIND_SERVICE \
                 CAP_NET_RAW, as in the unit that the manual has"
                    .into()
            }
            _ => "see ip(7)".to_owned(),
        };
        format!("UDP port {port} on {device}: {e} ({hint})")
    })
}

/// The kernel's number of an interface, which no other gets.
fn index(device: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(device).ok()
}

/// Waits until a name is no longer that of the interface that the sockets are bound to: they would hear nothing more, and say
/// nothing.
fn wait_until_gone(devices: &[String], indices: &[Option<u32>]) -> String {
    loop {
        std::thread::sleep(LOOK);
        let gone = devices.iter().zip(indices).find(|(device, before)| index(device) != **before);
        if let Some((device, _)) = gone {
            return device.clone();
        }
    }
}

/// Whether there is the folder for what is kept: leases must be, and who was seen should be.
fn has_state(config: &BootConfig, tell: &dyn Tell) -> Result<bool, String> {
    let is_wanted = config.dhcp.as_ref().is_some_and(|dhcp| dhcp.range.is_some());
    if !is_wanted && !config.tftp {
        return Ok(false);
    }
    match make_state(&config.state_dir, config.user.as_deref()) {
        Err(why) if !is_wanted => {
            tell.warn(&format!("{why}. Until then 'machines learn' does not see who boots from here"));
            Ok(false)
        }
        made => made.map(|()| true),
    }
}

/// Gives up all rights that are needed no more; how.
fn confined(config: &BootConfig, has_state: bool) -> Result<String, String> {
    let state = config.state_dir.as_path();
    let write: &[&Path] = if has_state { &[state] } else { &[] };
    let user = config.user.as_deref();
    confine::confine(&Cage { read: &[&config.tftp_dir], write, user, secret: &config.backup_dir })
}

/// The folder for leases, which is the boot services' own.
fn make_state(dir: &Path, user: Option<&str>) -> Result<(), String> {
    let failed = |e: io::Error| {
        format!(
            "{}: cannot make the folder for leases and machines: {e}; make it for the user that this runs as, or name another by --state-dir",
            dir.display()
        )
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    if let Some((uid, gid)) = confine::user(user)? {
        std::os::unix::fs::chown(dir, Some(uid), Some(gid)).map_err(failed)?;
    }
    Ok(())
}

/// Starts all that is wanted; what that is.
fn begin(
    config: &BootConfig,
    open: Open,
    (tree, machines): (&Arc<TftpTree>, &MachinesNow),
    has_state: bool,
    tell: &Arc<dyn Tell>,
) -> Result<(String, Option<Arc<DhcpServer>>), String> {
    let (mut does, mut served) = (Vec::new(), None);
    if let Some(dhcp) = &config.dhcp {
        let server = Arc::new(dhcp_server(config, dhcp, tree, machines, tell)?);
        if machines.get().list().is_empty() && !dhcp.is_unknown_allowed {
            tell.warn(
                "no machine is known, so none gets an answer by DHCP: write them into the file of machines, or give \
                 --unknown-machines allow",
            );
        }
        for (device, wire) in &open.scouts {
            tell.info(&format!("looking for other DHCP servers on {device}"));
            let other = server.look(device, wire);
            let other = other.map_err(|e| format!("cannot look for other DHCP servers on {device}: {e}"))?;
            if let Some(other) = other {
                return Err(format!(
                    "another DHCP server answers on {device}: {other}. Two would give addresses twice: stop it, or use \
                     --proxy-dhcp, which goes beside it"
                ));
            }
        }
        for (is_proxy_port, sockets) in [(false, open.dhcp), (true, open.proxy)] {
            for (device, socket) in sockets {
                let server = server.clone();
                spawn(move || server.serve(&device, &socket, is_proxy_port))?;
            }
        }
        does.push(if dhcp.range.is_some() { "DHCP" } else { "proxy DHCP" });
        if dhcp.range.is_some() {
            let keeper = server.clone();
            spawn(move || keeper.keep_leases())?;
            let watcher = server.clone();
            spawn(move || watcher.watch(&open.scouts))?;
        }
        served = Some(server);
    }
    if config.tftp {
        does.push("TFTP");
        // Only 'machines learn' needs it: machines boot without.
        let seen = match has_state {
            true => seen(config, tell).inspect_err(|why| tell.warn(why)).ok(),
            false => None,
        };
        let server = Arc::new(TftpServer::new(tree.clone(), machines.clone(), seen, tell.clone()));
        for (device, socket) in open.tftp {
            let server = server.clone();
            spawn(move || server.serve(&device, &socket))?;
        }
    }
    Ok((does.join(", "), served))
}

/// The machines that were seen, which are written down from now on.
fn seen(config: &BootConfig, tell: &Arc<dyn Tell>) -> Result<Arc<SeenBoots>, String> {
    let opened = DirFiles::open(&config.state_dir).and_then(SeenBoots::open);
    let seen = opened.map_err(|e| {
        format!("{}: cannot read the machines that were seen: {e}", config.state_dir.display())
    })?;
    let (seen, tell) = (Arc::new(seen), tell.clone());
    let keeper = seen.clone();
    spawn(move || {
        let mut is_said = false;
        loop {
            std::thread::sleep(WRITE);
            if let Err(e) = keeper.write()
                && !std::mem::replace(&mut is_said, true)
            {
                tell.warn(&format!(
                    "the machines that were seen cannot be written down for 'machines learn': {e}"
                ));
            }
        }
    })?;
    Ok(seen)
}

fn dhcp_server(
    config: &BootConfig,
    dhcp: &DhcpConfig,
    tree: &Arc<TftpTree>,
    machines: &MachinesNow,
    tell: &Arc<dyn Tell>,
) -> Result<DhcpServer, String> {
    let state = dhcp.range.map(|_| DirFiles::open(&config.state_dir)).transpose();
    let rules = DhcpRules {
        range: dhcp.range,
        is_unknown_allowed: dhcp.is_unknown_allowed,
        router: dhcp.router,
        dns: dhcp.dns.clone(),
    };
    state
        .and_then(|state| DhcpServer::new(rules, machines.clone(), tree.clone(), state, tell.clone()))
        .map_err(|e| format!("{}: cannot read the leases: {e}", config.state_dir.display()))
}

fn taken(line: &str) -> Option<KnownMachines> {
    KnownMachines::of(serde_json::from_str::<MachinesLine>(line).ok()?).ok()
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = std::thread::Builder::new().name("boot".into()).spawn(work);
    started.map(drop).map_err(|e| format!("no thread for the boot services: {e}"))
}
