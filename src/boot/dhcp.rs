//! The DHCP server, or proxy: sockets, the file of leases, and the look-out for another server.

use super::MachinesNow;
use super::answer::{Decision, DhcpFacts, DhcpRules, OwnNetwork, answer};
use super::ask::{DhcpAsk, DhcpTold};
use super::leases::Leases;
use super::quiet::Quiet;
use super::tree::TftpTree;
use crate::net::dhcp::CLIENT_PORT;
use crate::net::dhcp::format::{BOOT_REPLY, OPTIONS, code, field, kind, option};
use crate::share::{DirFiles, Files};
use crate::store::lease::Tell;
use crate::sys::{AskedAt, receive_asked};
use nix::ifaddrs::getifaddrs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest datagram that is looked at.
const DATAGRAM: usize = 1500;
/// After an error of a socket.
const PAUSE: Duration = Duration::from_secs(1);
/// How often changed leases are written down.
const WRITE: Duration = Duration::from_secs(1);
/// How long another server has for its answer: some look by ping for three seconds whether an address is free.
const LISTEN: Duration = Duration::from_secs(5);
/// How often it is looked for another server, and while there is one.
const LOOK: Duration = Duration::from_secs(180);
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The file of leases, in the folder of the boot services.
pub const LEASES_FILE: &str = "leases";
/// Largest file of leases that is read.
const LEASES_LIMIT: usize = 1 << 20;

/// What all sockets share.
pub struct DhcpServer {
    rules: DhcpRules,
    machines: MachinesNow,
    tree: Arc<TftpTree>,
    leases: Mutex<Leases>,
    /// Where the leases are kept; `None` for a proxy.
    state: Option<DirFiles>,
    /// The leases have changed since they were written down.
    is_unwritten: AtomicBool,
    /// The card that looks for other servers: who answers it is one.
    scout: [u8; 6],
    /// Another server answers on this network.
    is_silent: AtomicBool,
    /// A machine has taken the offer of another server.
    is_suspected: Mutex<bool>,
    suspicion: Condvar,
    tell: Arc<dyn Tell>,
    quiet: Quiet,
    /// Of its own: no flood of other lines may hide that there is another server.
    alarms: Quiet,
}

/// The addresses that an interface has now.
fn networks(device: &str) -> Vec<OwnNetwork> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    let ip = |address: Option<nix::sys::socket::SockaddrStorage>| Some(address?.as_sockaddr_in()?.ip());
    all.filter(|interface| interface.interface_name == device)
        .filter_map(|interface| {
            Some(OwnNetwork { address: ip(interface.address)?, netmask: ip(interface.netmask)? })
        })
        .collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl DhcpServer {
    /// A server by these rules, which keeps its leases in `state`.
    ///
    /// # Errors
    /// There is no randomness; the leases cannot be read.
    pub fn new(
        rules: DhcpRules,
        machines: MachinesNow,
        tree: Arc<TftpTree>,
        state: Option<DirFiles>,
        tell: Arc<dyn Tell>,
    ) -> io::Result<DhcpServer> {
        let unspecified = Ipv4Addr::UNSPECIFIED;
        let range =
            rules.range.unwrap_or(super::leases::AddressRange { first: unspecified, last: unspecified });
        let text = match state.as_ref().map(|state| state.read_limited(LEASES_FILE, LEASES_LIMIT)) {
            Some(Ok(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            Some(Err(e)) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => String::new(),
        };
        let mut scout = [0; 6];
        getrandom::fill(&mut scout).map_err(io::Error::other)?;
        // One of nobody's cards (IEEE 802: locally administered).
        scout[0] = 2;
        Ok(DhcpServer {
            leases: Mutex::new(Leases::parse(range, &text, now())),
            rules,
            machines,
            tree,
            state,
            scout,
            is_unwritten: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
            is_suspected: Mutex::default(),
            suspicion: Condvar::new(),
            tell,
            quiet: Quiet::default(),
            alarms: Quiet::default(),
        })
    }

    fn info(&self, text: &str) {
        if self.quiet.is_new(text) {
            self.tell.info(text);
        }
    }

    fn warn(&self, text: &str) {
        if self.quiet.is_new(text) {
            self.tell.warn(text);
        }
    }

    fn alarm(&self, text: &str) {
        if self.alarms.is_new(text) {
            self.tell.warn(text);
        }
    }

    /// Serves a port of one interface, for ever.
    pub fn serve(&self, device: &str, socket: &UdpSocket, is_proxy_port: bool) {
        let mut buffer = [0; DATAGRAM];
        loop {
            match receive_asked(socket, &mut buffer) {
                Ok(at) => {
                    if let Some(ask) = DhcpAsk::parse(buffer.get(..at.len).unwrap_or_default()) {
                        self.take(device, socket, is_proxy_port, at, &ask);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.warn(&format!("DHCP on {device}: {e}"));
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn take(&self, device: &str, socket: &UdpSocket, is_proxy_port: bool, at: AskedAt, ask: &DhcpAsk) {
        if ask.mac.0 == self.scout || self.is_silent.load(Relaxed) {
            return;
        }
        let networks = networks(device);
        let machines = self.machines.get();
        let facts = DhcpFacts {
            networks: &networks,
            is_proxy_port,
            machines: &machines,
            now: now(),
            has_file: &|file| self.tree.get(file).is_ok(),
        };
        let (decision, is_changed) = {
            let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
            answer(ask, &self.rules, &mut leases, &facts)
        };
        if is_changed {
            self.is_unwritten.store(true, Relaxed);
        }
        match decision {
            Decision::Tell(told, text) => {
                self.info(&format!("DHCP on {device}: {text}"));
                if let Err(e) = socket.send_to(&told.to_bytes(ask), to(ask, &told, is_proxy_port, at.from)) {
                    self.warn(&format!("DHCP on {device}: cannot answer {}: {e}", ask.mac));
                }
            }
            Decision::Silence(Some(why)) => self.warn(&format!("DHCP on {device}: {why}")),
            Decision::Silence(None) => {}
            Decision::OtherServer(server) => {
                self.alarm(&format!(
                    "DHCP on {device}: {} has taken the offer of another DHCP server, {server}: stop one of the two",
                    ask.mac
                ));
                *self.is_suspected.lock().unwrap_or_else(PoisonError::into_inner) = true;
                self.suspicion.notify_all();
            }
        }
    }

    /// Writes the leases down, if they have changed. Not at each request: whoever asks without end would have the disk flushed
    /// without end. A lease that is lost with the last second is given again, because its machine asks for it.
    pub fn write_leases(&self) {
        let Some(state) = self.state.as_ref().filter(|_| self.is_unwritten.swap(false, Relaxed)) else {
            return;
        };
        let text = self.leases.lock().unwrap_or_else(PoisonError::into_inner).text();
        if let Err(e) = state.write_atomic(LEASES_FILE, text.as_bytes()) {
            self.warn(&format!(
                "the leases cannot be written down: {e}; after a restart others may be given"
            ));
        }
    }

    /// The same every second, for ever.
    pub fn keep_leases(&self) {
        loop {
            std::thread::sleep(WRITE);
            self.write_leases();
        }
    }

    /// Looks once for another server on this interface: its address.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn look(&self, device: &str, wire: &UdpSocket) -> io::Result<Option<Ipv4Addr>> {
        let mut xid = [0; 4];
        getrandom::fill(&mut xid).map_err(io::Error::other)?;
        let end = Instant::now() + LISTEN;
        let own: Vec<Ipv4Addr> = networks(device).into_iter().map(|network| network.address).collect();
        let mut buffer = [0; DATAGRAM];
        let mut asked = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // Twice: one may be lost.
            if asked == 0 || asked == 1 && left < LISTEN * 3 / 4 {
                wire.send_to(
                    &discover(xid, self.scout),
                    (Ipv4Addr::BROADCAST, crate::net::dhcp::SERVER_PORT),
                )?;
                asked += 1;
            }
            wire.set_read_timeout(Some(left.min(LISTEN / 4)))?;
            let Ok(len) = wire.recv(&mut buffer) else { continue };
            let offered = offer_to(buffer.get(..len).unwrap_or_default(), xid, self.scout);
            if let Some(server) = offered.filter(|server| !own.contains(server)) {
                return Ok(Some(server));
            }
        }
    }

    /// Until it is time to look again, or a machine has given a reason to. Anybody can invent one: a look takes its time.
    fn wait(&self, time: Duration) {
        let suspected = self.is_suspected.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.suspicion.wait_timeout_while(suspected, time, |suspected| !*suspected);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }

    /// Looks for another server for ever, and is silent while there is one.
    pub fn watch(&self, wires: &[(String, UdpSocket)]) {
        loop {
            let is_silent = self.is_silent.load(Relaxed);
            self.wait(if is_silent { LOOK_AGAIN } else { LOOK });
            let mut other = None;
            for (device, wire) in wires {
                match self.look(device, wire) {
                    Ok(Some(server)) => other = Some((device, server)),
                    Ok(None) => {}
                    Err(e) => self.warn(&format!("cannot look for other DHCP servers on {device}: {e}")),
                }
            }
            match other {
                Some((device, server)) => self.alarm(&format!(
                    "ANOTHER DHCP SERVER answers on {device}: {server}. This one is silent until that one is gone: stop it, or \
                     start 'serve' with --proxy-dhcp in place of --dhcp"
                )),
                None if is_silent => self.tell.info("the other DHCP server is gone: machines are answered again"),
                None => {}
            }
            self.is_silent.store(other.is_some(), Relaxed);
        }
    }
}

/// Where the answer goes. To a client without an address it goes to everybody: to send it to one that does not answer ARP yet
/// wants a raw socket, and all clients hear a broadcast.
fn to(ask: &DhcpAsk, told: &DhcpTold, is_proxy_port: bool, from: SocketAddrV4) -> SocketAddrV4 {
    if is_proxy_port && !from.ip().is_unspecified() {
        return from;
    }
    let is_reachable = !ask.has.is_unspecified() && told.kind != kind::NAK;
    SocketAddrV4::new(if is_reachable { ask.has } else { Ipv4Addr::BROADCAST }, CLIENT_PORT)
}

/// What the scout asks.
fn discover(xid: [u8; 4], scout: [u8; 6]) -> Vec<u8> {
    let told = DhcpTold {
        kind: kind::DISCOVER,
        yours: Ipv4Addr::UNSPECIFIED,
        server: Ipv4Addr::UNSPECIFIED,
        file: None,
        options: vec![(code::WANTED, vec![code::NETMASK, code::ROUTER])],
    };
    told.to_request(xid, scout)
}

/// The server whose offer to the scout a datagram is.
fn offer_to(datagram: &[u8], xid: [u8; 4], scout: [u8; 6]) -> Option<Ipv4Addr> {
    let (header, options) = datagram.split_at_checked(OPTIONS)?;
    let is_ours =
        header.first() == Some(&BOOT_REPLY) && field(header, 4)? == xid && header.get(28..34)? == scout;
    if !is_ours || option(options, code::MESSAGE_TYPE)? != [kind::OFFER] {
        return None;
    }
    Some(<[u8; 4]>::try_from(option(options, code::SERVER_ID)?).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MacAddr;

    const SCOUT: [u8; 6] = [2, 1, 2, 3, 4, 5];

    #[test]
    fn the_scout_knows_an_offer_to_it() {
        let asked = discover([1, 2, 3, 4], SCOUT);
        let ask = DhcpAsk::parse(&asked).unwrap();
        assert_eq!(
            (ask.kind, ask.mac, ask.server, ask.flags),
            (kind::DISCOVER, MacAddr(SCOUT), None, [0x80, 0])
        );
        let other = Ipv4Addr::new(10, 0, 0, 7);
        let mut told =
            DhcpTold { kind: kind::OFFER, yours: other, server: other, file: None, options: Vec::new() };
        let offer = told.to_bytes(&ask);
        assert_eq!(offer_to(&offer, [1, 2, 3, 4], SCOUT), Some(other));
        assert_eq!(offer_to(&offer, [1, 2, 3, 5], SCOUT), None);
        assert_eq!(offer_to(&offer, [1, 2, 3, 4], [2; 6]), None);
        assert_eq!(offer_to(&asked, [1, 2, 3, 4], SCOUT), None);
        told.kind = kind::NAK;
        assert_eq!(offer_to(&told.to_bytes(&ask), [1, 2, 3, 4], SCOUT), None);
        for len in 0..offer.len() {
            let _ = offer_to(&offer[..len], [1, 2, 3, 4], SCOUT);
        }
    }

    #[test]
    fn answers_go_where_their_client_hears_them() {
        let mut ask = DhcpAsk::parse(&discover([0; 4], SCOUT)).unwrap();
        let (none, own) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(10, 0, 0, 9));
        let mut told =
            DhcpTold { kind: kind::ACK, yours: own, server: none, file: None, options: Vec::new() };
        let from = SocketAddrV4::new(own, 4011);
        assert_eq!(to(&ask, &told, false, from), SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
        assert_eq!(to(&ask, &told, true, from), from);
        ask.has = own;
        assert_eq!(to(&ask, &told, false, from), SocketAddrV4::new(own, 68));
        told.kind = kind::NAK;
        assert_eq!(to(&ask, &told, false, from), SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
    }
}
