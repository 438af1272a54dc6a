//! Machines as an admin names them: by address or by host name.

use super::Error;
use crate::text::quoted;
use crate::types::HostName;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// A machine, by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MachineName {
    /// Its address.
    pub ip: Ipv4Addr,
    /// What the admin has called it.
    pub word: String,
}

impl MachineName {
    /// The address, and the name where that is another text.
    pub fn label(&self) -> String {
        if self.word == self.ip.to_string() {
            self.word.clone()
        } else {
            format!("{} ({})", self.ip, self.word)
        }
    }
}

/// Finds the IPv4 address of every word, before anything is done to the first.
pub(super) fn resolve_all(words: &[String]) -> Result<Vec<MachineName>, Error> {
    let mut machines: Vec<MachineName> = Vec::new();
    let mut problems = Vec::new();
    for word in words {
        match resolve(word) {
            Ok(ip) => match machines.iter().find(|m| m.ip == ip) {
                Some(other) => {
                    problems.push(format!("{} and {} are the same machine", other.label(), quoted(word)))
                }
                None => machines.push(MachineName { ip, word: word.clone() }),
            },
            Err(Error::Usage(problem)) => problems.push(problem),
            Err(e) => return Err(e),
        }
    }
    if problems.is_empty() { Ok(machines) } else { Err(Error::usage(problems.join("\n"))) }
}

/// The one IPv4 address of a host that can be a machine of a network.
pub(super) fn resolve(word: &str) -> Result<Ipv4Addr, Error> {
    let host: HostName = word.parse().map_err(|e| Error::usage(format!("{e}")))?;
    let found: Vec<Ipv4Addr> = match host.ipv4() {
        Some(ip) => vec![ip],
        None => (host.as_str(), 0u16)
            .to_socket_addrs()
            .map_err(|e| Error::usage(format!("cannot find the address of {}: {e}", quoted(word))))?
            .filter_map(|address| match address {
                SocketAddr::V4(v4) => Some(*v4.ip()),
                SocketAddr::V6(_) => None,
            })
            .collect(),
    };
    log::debug!("{} is {found:?}", quoted(word));
    one_of(word, found)
}

fn one_of(word: &str, mut found: Vec<Ipv4Addr>) -> Result<Ipv4Addr, Error> {
    found.sort();
    found.dedup();
    let ip = match found[..] {
        [ip] => ip,
        [] => return Err(Error::usage(format!("{} has no IPv4 address", quoted(word)))),
        _ => {
            let all: Vec<_> = found.iter().map(ToString::to_string).collect();
            return Err(Error::usage(format!(
                "{} has several addresses, {}: give the one that is meant",
                quoted(word),
                all.join(" and ")
            )));
        }
    };
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() {
        return Err(Error::usage(format!("{} is {ip}, which is not the address of a machine", quoted(word))));
    }
    Ok(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_single_machines_are_taken() {
        for (word, good) in [
            ("10.40.41.42", true),
            ("10.40.41.300", false),
            ("10.40.41", false),
            ("a_b", false),
            ("", false),
            ("-c", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
        ] {
            assert_eq!(resolve(word).is_ok(), good, "{word}");
        }
    }

    /// A name that could mean two machines must not arm either.
    #[test]
    fn a_name_with_several_addresses_is_refused_with_the_candidates() {
        let [a, b] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        assert_eq!(one_of("tb", vec![a, a]).unwrap(), a);
        let error = one_of("tb", vec![b, a]).unwrap_err().to_string();
        assert!(error.contains("10.0.0.1 and 10.0.0.2"), "{error}");
        assert!(one_of("tb", vec![]).is_err());
    }

    #[test]
    fn a_machine_named_twice_is_refused() {
        let words = ["10.0.0.1", "10.0.0.2", "10.0.0.1"].map(str::to_owned);
        assert!(resolve_all(&words).unwrap_err().to_string().contains("same machine"));
        assert_eq!(resolve_all(&words[..2]).unwrap().len(), 2);
    }
}
