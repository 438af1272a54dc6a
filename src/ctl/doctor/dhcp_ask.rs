//! DHCP, asked by DHCP: a question of each kind of loader, for nobody's card and for known machines, and all that is answered.
//! No address is taken: an offer that nobody accepts is forgotten.

use super::dhcp::{DhcpSeen, HeardOffer, LoaderTold, WhoAsks};
use super::lab::DoctorLab;
use super::offers::{BootAsker, BootOffer};
use crate::net::dhcp::{CLIENT_PORT, SERVER_PORT};
use crate::net::tftp::{Limits, PORT, TftpClient, TftpError};
use crate::sys::{DhcpTap, udp_from, udp_on_device};
use crate::types::MacAddr;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

/// Nobody's card (IEEE 802: locally administered), the same each time, so that no server keeps several offers for it.
const SCOUT: MacAddr = MacAddr([2, b't', b'e', b's', b't', b'b']);
/// The port of proxies.
const PROXY_PORT: u16 = 4011;
/// Machines whose own address is asked for.
const MACHINES_MAX: usize = 64;
/// Files that a server is asked for: whether they are there, and no more of what is large.
const FILE_LIMIT: usize = 16 << 20;

struct Question {
    who: WhoAsks,
    xid: [u8; 4],
    bytes: Vec<u8>,
}

/// Asks on one interface, and listens for all of the time: there may be two servers.
///
/// # Errors
/// The right to ask is missing; there is no such interface.
pub(super) fn ask(lab: &DoctorLab, device: &str, own: Ipv4Addr) -> io::Result<DhcpSeen> {
    let tap = DhcpTap::open(device)?;
    // Some servers answer to that port alone; who has it already hears the same answers as this.
    let wire = udp_on_device(device, CLIENT_PORT).or_else(|_| udp_from(device, own))?;
    let mut offers = Vec::new();
    let questions = questions(lab)?;
    let (began, mut sent) = (Instant::now(), 0);
    loop {
        let passed = began.elapsed();
        if passed >= lab.wait {
            break;
        }
        // Twice: one may be lost.
        if sent == 0 || sent == 1 && passed > lab.wait / 3 {
            for question in &questions {
                let is_answered = offers.iter().any(|heard: &HeardOffer| heard.who == question.who);
                if !is_answered {
                    wire.send_to(&question.bytes, (Ipv4Addr::BROADCAST, SERVER_PORT))?;
                }
            }
            sent += 1;
        }
        let Some(datagram) = tap.receive((lab.wait - passed).min(lab.wait / 6))? else { continue };
        for question in &questions {
            if let Some(offer) = BootOffer::parse(&datagram, question.xid, question.who.mac.0) {
                let heard = HeardOffer { who: question.who.clone(), offer };
                if !offers.contains(&heard) {
                    offers.push(heard);
                }
            }
        }
    }
    let mut seen = DhcpSeen { device: device.to_owned(), offers, told: Vec::new() };
    seen.told = told(lab, &seen, own);
    Ok(seen)
}

/// All loaders for nobody's card and for the first machine, and the BIOS alone for the others: their addresses.
fn questions(lab: &DoctorLab) -> io::Result<Vec<Question>> {
    let mut all = Vec::new();
    for asker in BootAsker::ALL {
        all.push(WhoAsks { asker, mac: SCOUT, machine: None });
    }
    for (at, machine) in
        lab.machines.iter().filter(|machine| !machine.macs.is_empty()).take(MACHINES_MAX).enumerate()
    {
        let Some(mac) = machine.macs.first().and_then(|mac| mac.parse().ok()) else { continue };
        for asker in BootAsker::ALL.into_iter().take(if at == 0 { BootAsker::ALL.len() } else { 1 }) {
            all.push(WhoAsks { asker, mac, machine: Some(machine.clone()) });
        }
    }
    let one = |who: WhoAsks| {
        let mut xid = [0; 4];
        getrandom::fill(&mut xid).map_err(io::Error::other)?;
        let bytes = who.asker.discover(xid, who.mac.0);
        Ok(Question { who, xid, bytes })
    };
    all.into_iter().map(one).collect()
}

/// What each loader comes to boot, by the offers and, where they do not say it, by the port of the proxy; and whether that file
/// is there. Beside each other: a server that is not there takes its time.
fn told(lab: &DoctorLab, seen: &DhcpSeen, own: Ipv4Addr) -> Vec<LoaderTold> {
    std::thread::scope(|scope| {
        let started = BootAsker::ALL.map(|asker| scope.spawn(move || told_to(lab, seen, own, asker)));
        started.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    })
}

fn told_to(lab: &DoctorLab, seen: &DhcpSeen, own: Ipv4Addr, asker: BootAsker) -> Option<LoaderTold> {
    let (who, offers) = seen.best_of(asker)?;
    let main = offers.iter().find(|offer| !offer.is_proxy());
    // One that gives addresses and says PXEClient without a file is taken for a proxy, too.
    let is_like_proxy = |offer: &&&BootOffer| offer.is_proxy() || offer.is_pxe && offer.file.is_empty();
    let proxy = offers.iter().find(is_like_proxy);
    let mut is_silent = false;
    let chosen = match proxy {
        None => (*main?).clone(),
        Some(proxy) if !proxy.file.is_empty() => (*proxy).clone(),
        Some(proxy) => {
            let (whom, item) = proxy.menu.map_or((proxy.server, None), |(item, server)| (server, Some(item)));
            let answer = ask_proxy(who, whom, own, item, lab.wait);
            is_silent = answer.is_none();
            answer.unwrap_or_else(|| (*proxy).clone())
        }
    };
    let server = chosen.next_server.unwrap_or(chosen.server);
    let is_path = !chosen.file.is_empty() && !chosen.file.contains("://");
    Some(LoaderTold {
        asker,
        by: chosen.server,
        next_server: chosen.next_server,
        served: is_path.then(|| has_file(server, &chosen.file, lab.wait)),
        file: chosen.file,
        proxy: proxy.map(|proxy| proxy.server),
        is_proxy_silent: is_silent,
    })
}

fn ask_proxy(
    who: &WhoAsks,
    proxy: Ipv4Addr,
    own: Ipv4Addr,
    item: Option<[u8; 2]>,
    wait: Duration,
) -> Option<BootOffer> {
    let mut xid = [0; 4];
    getrandom::fill(&mut xid).ok()?;
    let socket = UdpSocket::bind((own, 0)).ok()?;
    let bytes = who.asker.of_proxy(xid, who.mac.0, own, item);
    let began = Instant::now();
    let mut buffer = [0; 1500];
    while began.elapsed() < wait {
        socket.send_to(&bytes, (proxy, PROXY_PORT)).ok()?;
        socket.set_read_timeout(Some((wait / 3).max(Duration::from_millis(1)))).ok()?;
        while let Ok((len, std::net::SocketAddr::V4(from))) = socket.recv_from(&mut buffer) {
            let message = buffer.get(..len).unwrap_or_default();
            if let Some(offer) = BootOffer::of_message(*from.ip(), message, xid, who.mac.0) {
                return Some(offer);
            }
        }
    }
    None
}

fn has_file(server: Ipv4Addr, file: &str, wait: Duration) -> Result<(), String> {
    let limits = Limits { max_bytes: FILE_LIMIT, deadline: wait * 2, ..Limits::default() };
    match TftpClient::new(limits).fetch(SocketAddrV4::new(server, PORT), file) {
        Ok(_) | Err(TftpError::TooLarge(_)) => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}
