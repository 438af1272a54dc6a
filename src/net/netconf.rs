//! This machine's network configuration as the boot left it: `/run/net-<nic>.conf` of klibc's ipconfig, and the
//! `ip=` word of the kernel command line (kernel document admin-guide/nfs/nfsroot.rst).
//!
//! Host name, domain and boot file come from whoever answered the DHCP request, so all of it is hostile until
//! allow-listed: what does not fit is left out.
#![forbid(unsafe_code)]

use crate::net::dhcp::{DhcpLease, Term};
use crate::text::quoted;
use crate::types::{HostName, MacAddr, ParameterError};
use nom::branch::alt;
use nom::bytes::complete::{tag, take, take_while, take_while1};
use nom::character::complete::{char, none_of};
use nom::combinator::{map, recognize, value};
use nom::multi::{fold_many0, fold_many1};
use nom::sequence::{delimited, preceded, separated_pair};
use nom::{IResult, Parser};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

/// DNS servers that are asked at most: an answer of DHCP holds up to 63.
const DNS_MAX: usize = 8;

/// What is known of the network. Unset addresses (0.0.0.0) are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetConf {
    /// NIC, such as `enp0s2`.
    pub device: Option<String>,
    /// Own address.
    pub address: Option<Ipv4Addr>,
    /// Netmask.
    pub netmask: Option<Ipv4Addr>,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// DNS servers.
    pub dns: Vec<Ipv4Addr>,
    /// The boot server (DHCP's next server, siaddr): where TFTP is. dhcpcd's hook writes the router here.
    pub boot_server: Option<Ipv4Addr>,
    /// Host name that DHCP or the `ip=` word gave.
    pub hostname: Option<HostName>,
    /// DNS domain.
    pub domain: Option<HostName>,
    /// Boot file name of DHCP, such as `bios/pxelinux.0`; printable, at most 128 characters.
    pub filename: Option<String>,
    /// When DHCP gave the address (since the boot), and for how long; `None` where it did not.
    pub leased: Option<(Duration, Term)>,
}

impl NetConf {
    /// Parses the shell variables of `/run/net-<nic>.conf`. Of a variable set twice the last counts; reading stops
    /// where the text is not an assignment any more.
    ///
    /// klibc's ipconfig writes one address for each variable, dhcpcd's hook of initramfs-tools (70-net-conf) all that
    /// DHCP gave, with spaces between. Of gateways and boot servers the first counts. The classless routes that
    /// ipconfig writes (`IPV4ROUTE0SUBNET` and its kin) it has set itself, and DHCP's MTU too.
    pub fn parse(text: &str) -> NetConf {
        let mut conf = NetConf::default();
        let (mut dns0, mut dns1) = (Vec::new(), None);
        let mut default_route = None;
        let (mut is_dhcp, mut since, mut time) = (false, None, None);
        let mut rest = text;
        while let Ok((after, (name, value))) = assignment(rest) {
            rest = after;
            let value = value.as_str();
            match name {
                "DEVICE" => conf.device = device_name(value),
                "IPV4ADDR" => conf.address = set_address(value),
                "IPV4NETMASK" => conf.netmask = set_address(value),
                "IPV4GATEWAY" => conf.gateway = set_addresses(value).next(),
                "IPV4DNS0" => dns0 = set_addresses(value).collect(),
                "IPV4DNS1" => dns1 = set_address(value),
                "ROOTSERVER" => conf.boot_server = set_addresses(value).next(),
                // DHCP's classless routes (RFC 3442) take the place of its gateway, the default route among them.
                _ if route(name, "SUBNET").is_some() && value == "0.0.0.0/0" => {
                    default_route = route(name, "SUBNET")
                }
                _ if route(name, "GATEWAY").is_some_and(|n| Some(n) == default_route) => {
                    conf.gateway = conf.gateway.or(set_address(value));
                }
                "HOSTNAME" => conf.hostname = value.parse().ok(),
                "DNSDOMAIN" => conf.domain = value.parse().ok(),
                "PROTO" => is_dhcp = value == "dhcp",
                // As sysinfo(2) says it, which rounds up (kernel/sys.c, do_sysinfo): a lease must not seem to end later.
                "UPTIME" => {
                    since = value.parse().ok().map(|up: u64| Duration::from_secs(up.saturating_sub(1)))
                }
                "DHCPLEASETIME" => time = lease_time(value),
                "filename" => conf.filename = boot_file(value),
                _ => {}
            }
        }
        conf.dns = dns0;
        conf.dns.extend(dns1);
        conf.dns.truncate(DNS_MAX);
        // Only ipconfig says when. Without its lease time nobody knows when it ends; dhcpcd has a client identifier that
        // is not left, so that nobody else can renew what it got.
        conf.leased = since.filter(|_| is_dhcp).map(|since| (since, time.unwrap_or(Term::Unknown)));
        conf
    }

    /// This configuration, with `other` for whatever is not known here.
    pub fn or(self, other: NetConf) -> NetConf {
        NetConf {
            device: self.device.or(other.device),
            address: self.address.or(other.address),
            netmask: self.netmask.or(other.netmask),
            gateway: self.gateway.or(other.gateway),
            dns: if self.dns.is_empty() { other.dns } else { self.dns },
            boot_server: self.boot_server.or(other.boot_server),
            hostname: self.hostname.or(other.hostname),
            domain: self.domain.or(other.domain),
            filename: self.filename.or(other.filename),
            leased: self.leased.or(other.leased),
        }
    }

    /// True for an address that is reached without a gateway.
    pub fn is_on_link(&self, ip: Ipv4Addr) -> bool {
        let (Some(own), Some(mask)) = (self.address, self.netmask) else { return false };
        u32::from(own) & u32::from(mask) == u32::from(ip) & u32::from(mask)
    }

    /// The lease of the address, where DHCP gave it; `mac` is the NIC's.
    pub fn lease(&self, mac: Option<MacAddr>) -> Option<DhcpLease> {
        let ((since, term), address) = (self.leased?, self.address?);
        Some(DhcpLease { device: self.device.clone()?, mac: mac?, address, since, term })
    }
}

/// What an `ip=` word asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpWord {
    /// `ip=dhcp` and its relatives without fields: ask on every NIC.
    Dhcp,
    /// `ip=off`, `none`, `static`.
    Off,
    /// The form with colons.
    Fields(IpFields),
}

/// The fields of `ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1`, each may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpFields {
    /// Own address.
    pub client: Option<Ipv4Addr>,
    /// Boot server.
    pub server: Option<Ipv4Addr>,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Netmask.
    pub netmask: Option<Ipv4Addr>,
    /// Host name.
    pub hostname: Option<HostName>,
    /// NIC. A name here beats BOOTIF, and a wrong one ends the boot.
    pub device: Option<String>,
    /// DNS servers.
    pub dns: Vec<Ipv4Addr>,
}

impl IpWord {
    /// The word for a machine that `arm` boots: six fields where all is known, else DHCP. The NIC stays empty,
    /// because nobody knows its name beforehand.
    pub fn for_machine(
        client: Ipv4Addr,
        server: Option<Ipv4Addr>,
        gateway: Option<Ipv4Addr>,
        netmask: Option<Ipv4Addr>,
        hostname: HostName,
    ) -> IpWord {
        if server.is_none() || gateway.is_none() || netmask.is_none() {
            return IpWord::Dhcp;
        }
        let hostname = Some(hostname);
        IpWord::Fields(IpFields {
            client: Some(client),
            server,
            gateway,
            netmask,
            hostname,
            ..IpFields::default()
        })
    }

    /// The configuration that the word states; nothing where it leaves all to DHCP.
    pub fn netconf(&self) -> NetConf {
        match self {
            IpWord::Dhcp | IpWord::Off => NetConf::default(),
            IpWord::Fields(f) => NetConf {
                device: f.device.clone(),
                address: f.client,
                netmask: f.netmask,
                gateway: f.gateway,
                dns: f.dns.clone(),
                boot_server: f.server,
                hostname: f.hostname.clone(),
                ..NetConf::default()
            },
        }
    }
}

impl fmt::Display for IpWord {
    /// Writes six fields and never more: klibc's ipconfig fails where DNS fields follow.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = match self {
            IpWord::Dhcp => return f.write_str("dhcp"),
            IpWord::Off => return f.write_str("off"),
            IpWord::Fields(fields) => fields,
        };
        for address in [fields.client, fields.server, fields.gateway, fields.netmask] {
            match address {
                Some(a) => write!(f, "{a}:")?,
                None => f.write_str(":")?,
            }
        }
        let hostname = fields.hostname.as_ref().map(HostName::as_str).unwrap_or_default();
        write!(f, "{hostname}:{}", fields.device.as_deref().unwrap_or_default())
    }
}

impl FromStr for IpWord {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        match text {
            "" | "on" | "any" | "dhcp" | "both" | "bootp" | "rarp" => return Ok(IpWord::Dhcp),
            "off" | "none" | "static" => return Ok(IpWord::Off),
            _ => {}
        }
        let wrong = |what: &str, part: &str| {
            ParameterError::new(format!("ip={}: {} is no {what}", quoted(text), quoted(part)))
        };
        if !text.contains(':') || text.split(':').count() > 10 {
            return Err(wrong("dhcp and no CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE", text));
        }
        let mut parts = text.split(':');
        let mut next = || parts.next().unwrap_or_default();
        let address = |part: &str| match part {
            "" => Ok(None),
            _ => part.parse().map(unset_is_none).map_err(|_| wrong("IPv4 address", part)),
        };
        let mut fields = IpFields {
            client: address(next())?,
            server: address(next())?,
            gateway: address(next())?,
            netmask: address(next())?,
            ..IpFields::default()
        };
        match next() {
            "" => {}
            host => fields.hostname = Some(host.parse()?),
        }
        match next() {
            "" => {}
            nic => fields.device = Some(device_name(nic).ok_or_else(|| wrong("NIC name", nic))?),
        }
        let _autoconf = next();
        for part in [next(), next()] {
            fields.dns.extend(address(part)?);
        }
        Ok(IpWord::Fields(fields))
    }
}

/// Seconds as klibc's ipconfig prints them: of a lease for ever in either sign, and 0 where the server said nothing.
fn lease_time(text: &str) -> Option<Term> {
    match text {
        "0" => None,
        "-1" => Some(Term::Forever),
        seconds => seconds.parse().ok().map(Term::from_seconds),
    }
}

fn unset_is_none(address: Ipv4Addr) -> Option<Ipv4Addr> {
    (!address.is_unspecified()).then_some(address)
}

fn set_address(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok().and_then(unset_is_none)
}

/// The number in `IPV4ROUTE0SUBNET`, `IPV4ROUTE0GATEWAY` and so on.
fn route<'a>(name: &'a str, end: &str) -> Option<&'a str> {
    name.strip_prefix("IPV4ROUTE")?.strip_suffix(end)
}

/// Addresses with spaces between; what is no address, and 0.0.0.0, is left out.
fn set_addresses(text: &str) -> impl Iterator<Item = Ipv4Addr> {
    text.split_ascii_whitespace().filter_map(set_address)
}

/// A NIC name becomes a path below /sys: 1 to 15 characters (IFNAMSIZ), nothing special.
fn device_name(text: &str) -> Option<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    let good = (1..=15).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('.');
    good.then(|| text.to_owned())
}

/// BOOTP's file field has 128 bytes (RFC 951).
fn boot_file(text: &str) -> Option<String> {
    let good = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    good.then(|| text.to_owned())
}

fn name(input: &str) -> IResult<&str, &str> {
    take_while1(|c: char| c.is_ascii_alphanumeric() || c == '_').parse(input)
}

/// A shell word made of pieces: 'literal', "with \" escapes", \c, and bare characters. Nothing is expanded.
fn shell_value(input: &str) -> IResult<&str, String> {
    let escaped = || preceded(char('\\'), take(1usize));
    let inner = alt((
        value("\"", tag("\\\"")),
        value("\\", tag("\\\\")),
        value("$", tag("\\$")),
        value("`", tag("\\`")),
        recognize(none_of("\"")),
    ));
    let double = delimited(
        char('"'),
        fold_many0(inner, String::new, |mut out, piece| {
            out.push_str(piece);
            out
        }),
        char('"'),
    );
    let single = delimited(char('\''), take_while(|c| c != '\''), char('\''));
    let bare = take_while1(|c: char| !c.is_ascii_whitespace() && !"'\"\\;&|<>()#".contains(c));
    let piece = alt((map(single, str::to_owned), double, map(alt((escaped(), bare)), str::to_owned)));
    let full = fold_many1(piece, String::new, |mut out, piece| {
        out.push_str(&piece);
        out
    });
    alt((full, |rest| Ok((rest, String::new())))).parse(input)
}

/// `NAME=value`, with spaces, semicolons and newlines before it.
fn assignment(input: &str) -> IResult<&str, (&str, String)> {
    let space = take_while(|c: char| c.is_ascii_whitespace() || c == ';');
    preceded(space, separated_pair(name, char('='), shell_value)).parse(input)
}

#[cfg(test)]
mod tests;
