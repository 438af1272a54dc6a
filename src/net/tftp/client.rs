//! The UDP side of a transfer.

use super::packet::{ErrorCode, Packet};
use super::transfer::{Limits, TftpError, TftpReply, Transfer, error_packet};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The port that TFTP servers listen on (RFC 1350).
pub const PORT: u16 = 69;

/// So often a request with options may stay without an answer before one without is sent.
const OPTION_SILENCES: u32 = 3;

/// Asks TFTP servers, and remembers which of them want no options.
#[derive(Debug, Default)]
pub struct TftpClient {
    limits: Limits,
    plain: Mutex<BTreeSet<Ipv4Addr>>,
}

impl TftpClient {
    /// A client with these limits for each file.
    pub fn new(limits: Limits) -> TftpClient {
        TftpClient { limits, plain: Mutex::default() }
    }

    /// Reads one file, whole, in octet mode. After any trouble before the first block one plain request (RFC 1350)
    /// follows: an option that was not asked for, a value that was raised, an OACK that is cut, a refusal by whatever
    /// error, no answer.
    ///
    /// `server` is its address and [`PORT`]; the answers come from a port that it chooses, and from another of its
    /// addresses where it has several.
    ///
    /// # Errors
    /// [`TftpError::NotFound`] for a file that is not there or may not be read: tftpd-hpa says 0 or 1, dnsmasq 1 or 2.
    pub fn fetch(&self, server: SocketAddrV4, path: &str) -> Result<Vec<u8>, TftpError> {
        let ip = *server.ip();
        let deadline = Instant::now() + self.limits.deadline;
        let is_plain = || self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_plain().contains(&ip) {
            let mut transfer = Transfer::new(path, self.limits, true)?;
            match run(server, &mut transfer, deadline, OPTION_SILENCES) {
                Err(e @ (TftpError::NotFound { .. } | TftpError::Io(_))) => return Err(e),
                Err(_) if !transfer.has_begun() => {}
                Err(e) => return Err(e),
                Ok(()) => return Ok(transfer.into_data()),
            }
        }
        let mut transfer = Transfer::new(path, self.limits, false)?;
        let result = run(server, &mut transfer, deadline, u32::MAX);
        if !matches!(result, Err(TftpError::Timeout | TftpError::Io(_))) {
            is_plain().insert(ip);
        }
        match result {
            Err(TftpError::Refused { code: code @ (0 | 2), message: said }) if !transfer.has_begun() => {
                Err(TftpError::NotFound { code, said })
            }
            other => other.map(|()| transfer.into_data()),
        }
    }
}

/// Runs a transfer until its end, its deadline, or so many silences before the first block.
fn run(
    server: SocketAddrV4,
    transfer: &mut Transfer,
    deadline: Instant,
    mut silences: u32,
) -> Result<(), TftpError> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // The server that answers, once one has: its address and the port of this transfer (its TID).
    let mut peer = None;
    let mut buffer = vec![0; 65_536];
    send(&socket, transfer.request(), server.into())?;
    let mut sent = Instant::now();
    loop {
        if Instant::now() >= deadline {
            return Err(TftpError::Timeout);
        }
        let wait = transfer.timeout().saturating_sub(sent.elapsed());
        let reply = if wait.is_zero() {
            silences = silences.saturating_sub(1);
            if silences == 0 && !transfer.has_begun() {
                return Err(TftpError::Timeout);
            }
            sent = Instant::now();
            transfer.on_timeout()
        } else {
            socket.set_read_timeout(Some(wait))?;
            match socket.recv_from(&mut buffer) {
                Ok((len, from)) => {
                    let bytes = buffer.get(..len).unwrap_or_default();
                    if *peer.get_or_insert(from) != from {
                        refuse_stranger(&socket, from, bytes);
                        continue;
                    }
                    transfer.on_datagram(bytes)
                }
                // ECONNREFUSED and its like: the server may come back before the retries are used up.
                Err(e) if is_passing(e.kind()) => continue,
                Err(e) => return Err(e.into()),
            }
        };
        let to = peer.unwrap_or(server.into());
        match reply {
            Ok(TftpReply::Wait) => {}
            Ok(TftpReply::Send(datagram)) => {
                send(&socket, &datagram, to)?;
                sent = Instant::now();
            }
            Ok(TftpReply::Done(datagram)) => {
                // The file is whole here; the server finds out itself if this one is lost.
                let _ = socket.send_to(&datagram, to);
                return Ok(());
            }
            Err(error) => {
                if let Some(datagram) = error_packet(&error) {
                    let _ = socket.send_to(&datagram, to);
                }
                return Err(error);
            }
        }
    }
}

/// Sends a datagram. One that has no way just now is a lost one: a port that does not forward yet gives EHOSTUNREACH.
fn send(socket: &UdpSocket, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
    match socket.send_to(datagram, to) {
        Err(e) if !is_passing(e.kind()) => Err(e),
        _ => Ok(()),
    }
}

fn is_passing(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::Interrupted
            | ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}

/// RFC 1350 section 4: a packet from another port is answered with an error and does not disturb the transfer. An
/// error is not answered, lest two programs talk to each other for ever.
fn refuse_stranger(socket: &UdpSocket, from: SocketAddr, bytes: &[u8]) {
    if !matches!(Packet::parse(bytes), Ok(Packet::Error { .. })) {
        let error = Packet::Error { code: ErrorCode::UNKNOWN_TID, message: "unknown transfer ID".to_owned() };
        let _ = socket.send_to(&error.encode(), from);
    }
}

#[cfg(test)]
mod tests {
    use super::super::transfer::tests::Sender;
    use super::*;
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    fn fetch(server: SocketAddrV4, path: &str, limits: Limits) -> Result<Vec<u8>, TftpError> {
        TftpClient::new(limits).fetch(server, path)
    }

    fn limits() -> Limits {
        // Short, because tests lose datagrams on purpose; enough retries for a busy machine.
        Limits { timeout: Duration::from_millis(30), retries: 100, ..Limits::default() }
    }

    fn bind() -> (UdpSocket, SocketAddrV4) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else { panic!("not IPv4") };
        (socket, address)
    }

    fn recv(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 2048];
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        buffer.truncate(len);
        (buffer, from)
    }

    /// Serves one transfer from a port of its own, as RFC 1350 wants; every `lose`th datagram it would send is lost.
    fn serve(mut sender: Sender, lose: usize) -> (SocketAddrV4, JoinHandle<()>) {
        let (listener, address) = bind();
        let server = thread::spawn(move || {
            let (request, client) = recv(&listener);
            let (socket, _) = bind();
            socket.connect(client).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let mut count = 0;
            let mut incoming = request;
            loop {
                for datagram in sender.answer(&incoming) {
                    count += 1;
                    if lose == 0 || count % lose != 0 {
                        let _ = socket.send(&datagram);
                    }
                }
                let mut buffer = [0; 2048];
                match socket.recv(&mut buffer) {
                    Ok(len) => incoming = buffer[..len].to_vec(),
                    Err(_) => return,
                }
                if sender.is_finished_by(&incoming) {
                    return;
                }
            }
        });
        (address, server)
    }

    impl Sender {
        fn is_finished_by(&self, bytes: &[u8]) -> bool {
            let block_size =
                self.options.iter().find(|o| o.0 == "blksize").map_or(512, |o| o.1.parse().unwrap());
            let last = (self.file.len() / block_size + 1) as u16;
            matches!(Packet::parse(bytes), Ok(Packet::Ack { block }) if block == last)
        }
    }

    #[test]
    fn reads_over_udp_with_and_without_options_and_losses() {
        let file: Vec<u8> = (0..9000u32).map(|i| i as u8).collect();
        let options = vec![("blksize", "256".to_owned()), ("windowsize", "3".to_owned())];
        for (options, lose) in [(vec![], 0), (options.clone(), 0), (options, 5)] {
            let (address, server) = serve(Sender::new(file.clone(), options), lose);
            assert_eq!(fetch(address, "f", limits()).unwrap(), file);
            server.join().unwrap();
        }
    }

    #[test]
    fn a_server_that_refuses_options_is_asked_without() {
        let (listener, address) = bind();
        let server = thread::spawn(move || {
            let (request, client) = recv(&listener);
            assert!(
                matches!(Packet::parse(&request), Ok(Packet::ReadRequest { options, .. }) if !options.is_empty())
            );
            let refusal = Packet::Error { code: ErrorCode::OPTIONS, message: "no".into() };
            listener.send_to(&refusal.encode(), client).unwrap();
            let (request, client) = recv(&listener);
            assert!(
                matches!(Packet::parse(&request), Ok(Packet::ReadRequest { options, .. }) if options.is_empty())
            );
            listener.send_to(&Packet::Data { block: 1, data: b"plain" }.encode(), client).unwrap();
        });
        // A long timeout: a repeated request would confuse the little server above.
        assert_eq!(fetch(address, "f", Limits::default()).unwrap(), b"plain");
        server.join().unwrap();
    }

    #[test]
    fn a_missing_file_is_told_from_a_dead_server() {
        let (listener, address) = bind();
        let server = thread::spawn(move || {
            let (_, client) = recv(&listener);
            let error = Packet::Error { code: ErrorCode::NOT_FOUND, message: "File not found".into() };
            listener.send_to(&error.encode(), client).unwrap();
        });
        assert!(matches!(fetch(address, "f", limits()), Err(TftpError::NotFound { .. })));
        server.join().unwrap();

        let (_keeps_the_port_silent, address) = bind();
        let limits = Limits { timeout: Duration::from_millis(1), retries: 2, ..Limits::default() };
        assert!(matches!(fetch(address, "f", limits), Err(TftpError::Timeout)));
    }

    /// RFC 1350 section 4: another port gets error 5, and the transfer goes on.
    #[test]
    fn a_stranger_is_refused_and_does_not_disturb() {
        let (listener, address) = bind();
        let server = thread::spawn(move || {
            let (_, client) = recv(&listener);
            let (first, _) = bind();
            let (stranger, _) = bind();
            let block = |block, byte| Packet::Data { block, data: &[byte; 512] }.encode();
            first.send_to(&block(1, b'a'), client).unwrap();
            recv(&first);
            stranger.send_to(&block(2, b'x'), client).unwrap();
            let (answer, _) = recv(&stranger);
            assert!(
                matches!(Packet::parse(&answer), Ok(Packet::Error { code: ErrorCode::UNKNOWN_TID, .. })),
                "{answer:?}"
            );
            first.send_to(&Packet::Data { block: 2, data: b"end" }.encode(), client).unwrap();
        });
        let data = fetch(address, "f", Limits::default()).unwrap();
        assert_eq!((data.len(), &data[510..]), (515, &b"aaend"[..]));
        server.join().unwrap();
    }

    #[test]
    fn a_protocol_violation_is_told_to_the_server() {
        let (listener, address) = bind();
        let server = thread::spawn(move || {
            let (_, client) = recv(&listener);
            listener.send_to(b"\0\x09nonsense", client).unwrap();
            let (answer, _) = recv(&listener);
            assert!(matches!(Packet::parse(&answer), Ok(Packet::Error { code: ErrorCode::ILLEGAL, .. })));
            // The plain request that follows gets the same.
            let (_, client) = recv(&listener);
            listener.send_to(b"\0\x09nonsense", client).unwrap();
        });
        assert!(matches!(fetch(address, "f", Limits::default()), Err(TftpError::Protocol(_))));
        server.join().unwrap();
    }

    /// A server that never ends must not keep the machine for ever.
    #[test]
    fn the_deadline_ends_what_makes_no_progress() {
        let (listener, address) = bind();
        let server = thread::spawn(move || {
            let (_, client) = recv(&listener);
            listener.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let block = Packet::Data { block: 1, data: &[0; 512] }.encode();
            listener.send_to(&block, client).unwrap();
            while listener.recv_from(&mut [0; 64]).is_ok() {
                listener.send_to(&block, client).unwrap();
            }
        });
        let limits = Limits { deadline: Duration::from_millis(60), ..limits() };
        assert!(matches!(fetch(address, "f", limits), Err(TftpError::Timeout)));
        server.join().unwrap();
    }
}
