//! The TFTP server: a socket on each interface, and one for each transfer.

use super::MachinesNow;
use super::owner::{FileOwner, owner};
use super::quiet::Quiet;
use super::request::{TftpAsk, asked};
use super::seen::SeenBoots;
use super::sending::{SendStep, Sending, refusal};
use super::tree::{TftpTree, TreeFile};
use crate::net::tftp::ErrorCode;
use crate::store::layout::{PXELINUX_CFG, TESTBOX_CFG};
use crate::store::lease::Tell;
use crate::sys::{AskedAt, receive_asked, udp_from};
use crate::text::{human_bytes, quoted};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Transfers at once, each with a thread and at most 100 KB.
const TRANSFERS: usize = 64;
/// Of one address.
const OF_ONE: usize = 8;
/// Longest datagram that is looked at.
const DATAGRAM: usize = 1500;
/// How long a transfer may take, however diligently its client goes on.
const TRANSFER_TIME: Duration = Duration::from_secs(3600);
/// After an error of a socket that serves an interface.
const PAUSE: Duration = Duration::from_secs(1);

/// The interface of this computer alone, for `arm`, which looks whether what it has written is served.
pub const LOOPBACK: &str = "lo";

/// What all sockets share.
pub struct TftpServer {
    tree: Arc<TftpTree>,
    machines: MachinesNow,
    /// Where machines are written down that nobody knows; nowhere, if there is no folder for it.
    seen: Option<Arc<SeenBoots>>,
    tell: Arc<dyn Tell>,
    quiet: Quiet,
    /// Of its own: no flood of other lines may hide who has asked for another one's file.
    alarms: Quiet,
    /// Who is being served: a request that comes again asks for nothing new.
    clients: Mutex<BTreeSet<SocketAddrV4>>,
}

/// The place of a client among those that are served.
struct Place<'a>(&'a TftpServer, SocketAddrV4);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl TftpServer {
    /// A server of this tree.
    pub fn new(
        tree: Arc<TftpTree>,
        machines: MachinesNow,
        seen: Option<Arc<SeenBoots>>,
        tell: Arc<dyn Tell>,
    ) -> TftpServer {
        TftpServer {
            tree,
            machines,
            seen,
            tell,
            quiet: Quiet::default(),
            alarms: Quiet::default(),
            clients: Mutex::default(),
        }
    }

    /// Serves one interface, for ever.
    pub fn serve(self: &Arc<Self>, device: &str, socket: &UdpSocket) {
        let mut buffer = [0; DATAGRAM];
        loop {
            match receive_asked(socket, &mut buffer) {
                Ok(at) => self.take(device, socket, at, buffer.get(..at.len).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.warn(&format!("TFTP on {device}: {e}"));
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn warn(&self, text: &str) {
        if self.quiet.is_new(text) {
            self.tell.warn(text);
        }
    }

    fn take(self: &Arc<Self>, device: &str, socket: &UdpSocket, at: AskedAt, datagram: &[u8]) {
        // What was sent to everybody is answered by nobody (RFC 1123 section 4.2.3.4); port 0 cannot be answered.
        let Some(to) = at.to.filter(|_| at.from.port() != 0) else { return };
        let (path, options) = match asked(datagram) {
            TftpAsk::File { path, options } => (path, options),
            TftpAsk::Refuse(code, message) => {
                self.warn(&format!("TFTP: {} is refused: {message}", at.from.ip()));
                // That it gets lost is the client's to find out.
                let _ = socket.send_to(&refusal(code, message), at.from);
                return;
            }
            TftpAsk::Ignore => return,
        };
        if !self.is_free(at.from) {
            return;
        }
        let (server, device) = (self.clone(), device.to_owned());
        let work = move || {
            let place = Place(&server, at.from);
            server.transfer(&device, to, place.1, &path, &options);
        };
        if let Err(e) = std::thread::Builder::new().name("tftp".into()).spawn(work) {
            drop(Place(self, at.from));
            self.warn(&format!("TFTP: no thread for {}: {e}", at.from.ip()));
        }
    }

    /// Takes a place for this client, if it has none and there is one. Otherwise it is not answered, and asks again.
    fn is_free(&self, from: SocketAddrV4) -> bool {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = clients.iter().filter(|client| client.ip() == from.ip()).count();
        if of_one >= OF_ONE || clients.len() >= TRANSFERS {
            drop(clients);
            self.warn(&format!(
                "TFTP: {} must wait: {OF_ONE} transfers of one address and {TRANSFERS} of all are under way at most",
                from.ip()
            ));
            return false;
        }
        clients.insert(from)
    }

    fn transfer(
        &self,
        device: &str,
        to: Ipv4Addr,
        from: SocketAddrV4,
        path: &str,
        options: &[(String, String)],
    ) {
        let socket = match udp_from(device, to).and_then(|socket| socket.connect(from).map(|()| socket)) {
            Ok(socket) => socket,
            Err(e) => return self.warn(&format!("TFTP: cannot answer {} from {to}: {e}", from.ip())),
        };
        let found = match self.look_for(device, *from.ip(), to, path) {
            Ok(found) => found,
            Err((code, message)) => {
                let _ = socket.send(&refusal(code, message));
                return;
            }
        };
        let started = Instant::now();
        match send(&socket, found.file, found.size, options) {
            Ok(None) => {
                let what = format!("TFTP: {} has {path}, {}", from.ip(), human_bytes(found.size));
                if self.quiet.is_new(&what) {
                    self.tell.info(&format!("{what} in {:.1} s", started.elapsed().as_secs_f64()));
                }
            }
            Ok(Some(why)) => self.warn(&format!("TFTP: {} got not all of {path}: {why}", from.ip())),
            Err(e) => self.warn(&format!("TFTP: {} got not all of {path}: {e}", from.ip())),
        }
    }

    /// The file, if it is there for whoever asks.
    fn look_for(
        &self,
        device: &str,
        from: Ipv4Addr,
        to: Ipv4Addr,
        path: &str,
    ) -> Result<TreeFile, (ErrorCode, &'static str)> {
        const ABSENT: (ErrorCode, &str) = (ErrorCode::NOT_FOUND, "file not found");
        // Who asks from this computer may read the tree itself; what comes from outside cannot have its address (and the answer
        // would not go there). The kernel shows such datagrams at the interface that has the address.
        let is_local = device == LOOPBACK || from == to;
        if !is_local {
            self.note(from, path);
        }
        let found = match self.tree.get(path) {
            Ok(found) => found,
            Err(e) => {
                // PXELINUX and GRUB look for ten names of configurations, and find one.
                let is_search = [PXELINUX_CFG, TESTBOX_CFG].iter().any(|dir| path.contains(dir));
                let is_absent = matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
                if !is_search || !is_absent {
                    self.warn(&format!("TFTP: {from} asked for {}: {e}", quoted(path)));
                }
                return Err(match e.kind() {
                    io::ErrorKind::PermissionDenied => (ErrorCode::DENIED, "permission denied"),
                    _ => ABSENT,
                });
            }
        };
        // By its real name, too: a link to a machine's file is that file.
        for name in [Some(path), found.real.as_deref()].into_iter().flatten() {
            if let Err(why) = self.is_for(is_local, from, name) {
                // Loud, and the same to the client as if there were none.
                let text =
                    format!("TFTP: {from} asked for {}, and is told that there is none: {why}", quoted(path));
                if self.alarms.is_new(&text) {
                    self.tell.warn(&text);
                }
                return Err(ABSENT);
            }
        }
        Ok(found)
    }

    /// Writes down who asks for the file of a card that nobody knows.
    fn note(&self, from: Ipv4Addr, path: &str) {
        let (FileOwner::Card(mac), Some(seen)) = (owner(path), &self.seen) else { return };
        if self.machines.get().by_mac(mac).is_some() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let text = format!(
            "TFTP: {from} ({mac}) boots from here and is not known: 'testboxctl machines learn' adds it"
        );
        if seen.note(from, mac, now) && self.quiet.is_new(&text) {
            self.tell.info(&text);
        }
    }

    /// Why a file is not for who asks from this address.
    fn is_for(&self, is_local: bool, from: Ipv4Addr, path: &str) -> Result<(), String> {
        match owner(path) {
            FileOwner::Address(_) | FileOwner::Card(_) if is_local => Ok(()),
            FileOwner::Everybody => Ok(()),
            FileOwner::Address(address) if address == from => Ok(()),
            FileOwner::Address(address) => Err(format!("it is for {address} alone")),
            FileOwner::Card(mac) => match self.machines.get().by_mac(mac) {
                Some(machine) if machine.address == from => Ok(()),
                Some(machine) => Err(format!("it is for {} alone, {}", machine.address, machine.name)),
                None => Err(format!("no machine with the MAC {mac} is in the file of machines")),
            },
            FileOwner::Nobody => Err("hidden files are served to nobody".into()),
        }
    }
}

/// Sends a file; why it could not be sent whole.
fn send(
    socket: &UdpSocket,
    file: File,
    size: u64,
    options: &[(String, String)],
) -> io::Result<Option<String>> {
    let mut sending = Sending::new(file, size, options);
    let started = Instant::now();
    let mut out = sending.first()?;
    let mut buffer = [0; DATAGRAM];
    loop {
        for datagram in &out {
            // A datagram that cannot leave is one that got lost.
            let _ = socket.send(datagram);
        }
        let end = Instant::now() + sending.wait();
        let step = loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break sending.on_timeout()?;
            }
            socket.set_read_timeout(Some(left))?;
            match socket.recv(&mut buffer) {
                Ok(len) => match sending.on_datagram(buffer.get(..len).unwrap_or_default())? {
                    SendStep::Wait => {}
                    step => break step,
                },
                // Its port is closed: firmware that has asked for the size alone says nothing more.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                    return Ok(Some("the machine has closed its port".into()));
                }
                Err(_) => {}
            }
        };
        match step {
            SendStep::Send(more) => out = more,
            SendStep::Wait => out.clear(),
            SendStep::Done => return Ok(None),
            SendStep::Failed(why) => return Ok(Some(why)),
        }
        if started.elapsed() > TRANSFER_TIME {
            return Ok(Some(format!("it took more than {} s", TRANSFER_TIME.as_secs())));
        }
    }
}
