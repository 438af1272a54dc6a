//! The client's port on one NIC.

use super::{CLIENT_PORT, SERVER_PORT};
use crate::sys::udp_on_device;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// More than any server sends: RFC 2131 gives a client 576 bytes unless it asks for more.
const DATAGRAM_MAX: usize = 1500;

/// Sends to servers, and hears them.
pub trait Wire: Send {
    /// Sends a datagram to the servers' port of this address, or of everybody.
    ///
    /// # Errors
    /// Those of sendto(2).
    fn send(&mut self, to: Ipv4Addr, datagram: &[u8]) -> io::Result<()>;

    /// The next datagram to the client's port; `None` where there is none for this long.
    ///
    /// # Errors
    /// Those of recvfrom(2).
    fn receive(&mut self, wait: Duration) -> io::Result<Option<Vec<u8>>>;
}

/// UDP. The address is configured, so acknowledgements come to it, and refusals by broadcast: no raw socket is needed.
pub struct Datagrams(UdpSocket);

impl Datagrams {
    /// The client's port, on this NIC only.
    ///
    /// # Errors
    /// There is no such NIC, or something else has the port for itself.
    pub fn open(device: &str) -> io::Result<Datagrams> {
        udp_on_device(device, CLIENT_PORT).map(Datagrams)
    }
}

impl Wire for Datagrams {
    fn send(&mut self, to: Ipv4Addr, datagram: &[u8]) -> io::Result<()> {
        self.0.send_to(datagram, (to, SERVER_PORT)).map(drop)
    }

    fn receive(&mut self, wait: Duration) -> io::Result<Option<Vec<u8>>> {
        self.0.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let mut buffer = vec![0; DATAGRAM_MAX];
        match self.0.recv(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                Ok(Some(buffer))
            }
            // What a socket says whose time is up.
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(e) => Err(e),
        }
    }
}
