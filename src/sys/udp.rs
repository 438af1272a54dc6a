//! Sockets that std cannot make.

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn, bind, recvmsg, setsockopt,
    socket, sockopt,
};
use std::ffi::OsString;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

/// A UDP socket on this port of one NIC, for all its addresses, that may broadcast and shares the port with others
/// (socket(7): SO_BINDTODEVICE, SO_REUSEADDR, SO_BROADCAST). Wants root.
///
/// # Errors
/// ENODEV: no such NIC; EADDRINUSE: somebody has the port and does not share it; EPERM.
pub fn udp_on_device(device: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = on_device(device)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bound(socket, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))
}

/// The same for a server: it has the port for itself, and is told to which address each datagram was sent
/// ([`receive_asked`]).
///
/// # Errors
/// As [`udp_on_device`]; EACCES: the port is a privileged one (`CAP_NET_BIND_SERVICE`).
pub fn udp_server(device: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = on_device(device)?;
    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    bound(socket, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))
}

/// A UDP socket on a free port of this address, whose datagrams go by this NIC.
///
/// # Errors
/// No such NIC or address; no port is free.
pub fn udp_from(device: &str, address: Ipv4Addr) -> io::Result<UdpSocket> {
    bound(on_device(device)?, SocketAddrV4::new(address, 0))
}

fn on_device(device: &str) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::Broadcast, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(device))?;
    Ok(socket)
}

fn bound(socket: OwnedFd, address: SocketAddrV4) -> io::Result<UdpSocket> {
    bind(socket.as_raw_fd(), &SockaddrIn::from(address))?;
    Ok(UdpSocket::from(socket))
}

/// Where a datagram came from and went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedAt {
    /// Its length.
    pub len: usize,
    /// Who has sent it.
    pub from: SocketAddrV4,
    /// The address of this computer that it was sent to; `None` where that was everybody's.
    pub to: Option<Ipv4Addr>,
}

/// The next datagram of a socket of [`udp_server`].
///
/// # Errors
/// Those of recvmsg(2); `InvalidData` where the kernel does not tell who sent it.
pub fn receive_asked(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<AskedAt> {
    let mut space = nix::cmsg_space!(libc::in_pktinfo);
    let mut slices = [IoSliceMut::new(buffer)];
    let got = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())?;
    let from = got.address.ok_or(io::ErrorKind::InvalidData)?;
    let told = got.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(info),
        _ => None,
    });
    let ip = |address: libc::in_addr| Ipv4Addr::from(address.s_addr.to_ne_bytes());
    // ip(7): where both are the same, it was sent to an address of this computer.
    let to =
        told.filter(|info| info.ipi_addr.s_addr == info.ipi_spec_dst.s_addr).map(|info| ip(info.ipi_addr));
    Ok(AskedAt { len: got.bytes, from: SocketAddrV4::new(from.ip(), from.port()), to })
}
