//! What passes an interface, for who wants to hear the DHCP server of this very computer: its answers go out by a raw socket
//! as often as not, and no UDP socket here would see them.

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// Instructions of the filter (bpf(4)): UDP over IPv4 whose source port is 67 or 4011, the ports that answers of DHCP come from.
/// What else a busy server sends would fill the socket's buffer.
const FILTER: [libc::sock_filter; 8] = [
    // The protocol is UDP, or no.
    filter(0x30, 0, 0, 9),
    filter(0x15, 0, 5, 17),
    // X is the length of the header.
    filter(0xb1, 0, 0, 0),
    // The source port.
    filter(0x48, 0, 0, 0),
    filter(0x15, 1, 0, 67),
    filter(0x15, 0, 1, 4011),
    filter(0x06, 0, 0, 0xffff),
    filter(0x06, 0, 0, 0),
];

const fn filter(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Hears the answers of DHCP servers that come in by one interface, and those that go out.
#[derive(Debug)]
pub struct DhcpTap(OwnedFd);

impl DhcpTap {
    /// Opens it. Wants `CAP_NET_RAW`.
    ///
    /// # Errors
    /// There is no such interface; the right is missing.
    pub fn open(device: &str) -> io::Result<DhcpTap> {
        let index = nix::net::if_::if_nametoindex(device)?;
        // Nothing is heard before it is bound.
        let tap = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        let program = libc::sock_fprog { len: FILTER.len() as u16, filter: FILTER.as_ptr().cast_mut() };
        // SAFETY: the kernel copies the program, whose pointer and length are those of a constant, and writes nothing to it.
        let filtered = unsafe {
            libc::setsockopt(
                tap.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        if filtered != 0 {
            return Err(io::Error::last_os_error());
        }
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            // All, what goes out too, in network order.
            sll_protocol: SockProtocol::EthAll as i32 as u16,
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the address is whole and of the length that is said; the kernel only reads it.
        let bound = unsafe {
            let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            libc::bind(tap.as_raw_fd(), (&raw const address).cast(), length)
        };
        if bound == 0 { Ok(DhcpTap(tap)) } else { Err(io::Error::last_os_error()) }
    }

    /// The next datagram, from its IPv4 header on; `None` where there is none for this long.
    ///
    /// # Errors
    /// Those of recv(2).
    pub fn receive(&self, wait: Duration) -> io::Result<Option<Vec<u8>>> {
        let wait = TimeVal::new(wait.as_secs() as i64, i64::from(wait.subsec_micros().max(1)));
        setsockopt(&self.0, sockopt::ReceiveTimeout, &wait)?;
        let mut buffer = vec![0; 2048];
        match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(len) => {
                buffer.truncate(len);
                Ok(Some(buffer))
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}
