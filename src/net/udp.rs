//! One question in a datagram, and its answer.
#![forbid(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

/// Longest datagram in bytes that is looked at: neither DNS without EDNS nor the quota service sends half as much.
pub const DATAGRAM_MAX: usize = 4096;

/// Sends a datagram from a fresh port and waits for the first one from that server that `parse` takes for its answer.
///
/// # Errors
/// `TimedOut` where none comes in time; `ConnectionRefused` where nobody listens there; what the network says else.
pub fn exchange<T>(
    server: SocketAddrV4,
    datagram: &[u8],
    timeout: Duration,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<T> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // Connected: the kernel passes on only what comes from this address and port.
    socket.connect(server)?;
    socket.send(datagram)?;
    let started = Instant::now();
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let left = timeout.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let len = match socket.recv(&mut buffer) {
            // What a socket says whose time is up.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            received => received?,
        };
        if let Some(answer) = parse(buffer.get(..len).unwrap_or_default()) {
            return Ok(answer);
        }
    }
}
