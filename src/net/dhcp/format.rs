//! How a message of DHCP is laid out (RFC 2131 section 2, options of RFC 2132): for the client and for the server.
//!
//! Written here because the kept crates cost more than they save: dhcproto 0.15 brings 45 crates for host names and
//! drops a message for a fault in an option that nobody needs, as firmware sends them; edge-dhcp 0.8 takes padding for an
//! option, smoltcp 0.14 is a whole network stack.

use std::net::Ipv4Addr;

/// `op` of what a client sends.
pub const BOOT_REQUEST: u8 = 1;
/// `op` of what a server sends.
pub const BOOT_REPLY: u8 = 2;
/// `htype` and `hlen`.
pub const ETHERNET: u8 = 1;
/// Bytes of an Ethernet address.
pub const MAC_LEN: u8 = 6;
/// What stands before the options.
pub const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Where the options begin.
pub const OPTIONS: usize = 240;
/// Shortest message: some relays and old clients drop what is shorter than BOOTP's.
pub const SHORTEST: usize = 300;

/// Codes of options.
pub mod code {
    #![allow(missing_docs)]
    pub const PAD: u8 = 0;
    pub const NETMASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const VENDOR: u8 = 43;
    pub const WANTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const WANTED: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const T1: u8 = 58;
    pub const T2: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const USER_CLASS: u8 = 77;
    pub const CLIENT_TYPE: u8 = 93;
    pub const CLIENT_UUID: u8 = 97;
    pub const END: u8 = 255;
}

/// Values of the option [`code::MESSAGE_TYPE`].
pub mod kind {
    #![allow(missing_docs)]
    pub const DISCOVER: u8 = 1;
    pub const OFFER: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const DECLINE: u8 = 4;
    pub const ACK: u8 = 5;
    pub const NAK: u8 = 6;
    pub const RELEASE: u8 = 7;
    pub const INFORM: u8 = 8;
}

/// Four bytes of the header.
pub fn field(header: &[u8], at: usize) -> Option<[u8; 4]> {
    header.get(at..at.checked_add(4)?)?.try_into().ok()
}

/// The value of the first option of this code. What is cut short is not there, nor is anything after it.
pub fn option(mut options: &[u8], code: u8) -> Option<&[u8]> {
    loop {
        match *options {
            [code::PAD, ref rest @ ..] => options = rest,
            [] | [code::END, ..] | [_] => return None,
            [found, len, ref rest @ ..] => {
                let (value, rest) = rest.split_at_checked(len.into())?;
                if found == code {
                    return Some(value);
                }
                options = rest;
            }
        }
    }
}

/// An address to send a datagram to, as far as one can tell without a netmask.
pub fn is_host(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast() && !address.is_loopback()
}
