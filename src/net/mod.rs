//! What the agent asks of the network beside the shares, and what it was told of it: small clients, each of its protocol.

pub mod dhcp;
pub mod dns;
pub mod links;
pub mod netconf;
pub mod quota;
pub mod tftp;
mod udp;
