//! Sockets that std cannot make.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

/// A UDP socket on this port of one NIC, for all its addresses, that may broadcast and shares the port with others
/// (socket(7): SO_BINDTODEVICE, SO_REUSEADDR, SO_BROADCAST). Wants root.
///
/// # Errors
/// ENODEV: no such NIC; EADDRINUSE: somebody has the port and does not share it; EPERM.
pub fn udp_on_device(device: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::Broadcast, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(device))?;
    let any = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &any)?;
    Ok(UdpSocket::from(socket))
}
