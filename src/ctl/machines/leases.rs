//! The leases that DHCP servers write down: those of `serve`, dnsmasq, the ISC's dhcpd and Kea. All come from hosts that say what
//! they like of themselves.

use std::net::Ipv4Addr;

/// A machine that somebody has seen. Nothing of it is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenMachine {
    pub address: Ipv4Addr,
    pub macs: Vec<String>,
    pub name: String,
}

impl SeenMachine {
    pub fn new(address: Ipv4Addr, mac: &str, name: &str) -> SeenMachine {
        let macs = if mac.is_empty() { Vec::new() } else { vec![mac.to_owned()] };
        SeenMachine { address, macs, name: name.to_owned() }
    }
}

/// The machines of a file, whichever server has written it. A line that is none of a lease is left out.
pub(super) fn parse(text: &str) -> Vec<SeenMachine> {
    let mut seen: Vec<SeenMachine> = Vec::new();
    let mut isc: Option<SeenMachine> = None;
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let found = match words[..] {
            ["lease", address, "{"] => {
                isc = address.parse().ok().map(|address| SeenMachine::new(address, "", ""));
                None
            }
            ["}"] => isc.take().filter(|machine| !machine.macs.is_empty()),
            ["hardware", "ethernet", mac] => {
                isc.iter_mut().for_each(|machine| machine.macs = vec![mac.trim_end_matches(';').to_owned()]);
                None
            }
            ["client-hostname", name] => {
                let name = name.trim_end_matches(';').trim_matches('"');
                isc.iter_mut().for_each(|machine| name.clone_into(&mut machine.name));
                None
            }
            // dnsmasq: until, MAC, address, name or *, client id or *.
            [until, mac, address, name, ..] if until.bytes().all(|b| b.is_ascii_digit()) => {
                machine(address, mac, if name == "*" { "" } else { name })
            }
            // serve: address, MAC, until.
            [address, mac, until] if until.bytes().all(|b| b.is_ascii_digit()) => machine(address, mac, ""),
            _ => {
                // Kea: address, MAC, client id, lifetime, expire, subnet, two flags, name, ...
                let fields: Vec<&str> = line.split(',').collect();
                match fields[..] {
                    [address, mac, _, _, _, _, _, _, name, ..] => machine(address, mac, name),
                    _ => None,
                }
            }
        };
        // Of several lines for one address the last is the newest.
        if let Some(found) = found {
            seen.retain(|other| other.address != found.address);
            seen.push(found);
        }
    }
    seen
}

fn machine(address: &str, mac: &str, name: &str) -> Option<SeenMachine> {
    let address: Ipv4Addr = address.parse().ok()?;
    Some(SeenMachine::new(address, mac, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_leases_of_four_servers_are_read() {
        let one = |text: &str| {
            let seen = parse(text);
            assert_eq!(seen.len(), 1, "{text}");
            (seen[0].address.to_string(), seen[0].macs.join(" "), seen[0].name.clone())
        };
        let expected = |name: &str| ("10.0.0.5".to_owned(), "52:54:00:00:00:05".to_owned(), name.to_owned());
        assert_eq!(
            one("1700000000 52:54:00:00:00:05 10.0.0.5 tb5 01:52:54:00:00:00:05\nduid 00:01"),
            expected("tb5")
        );
        assert_eq!(one("1700000000 52:54:00:00:00:05 10.0.0.5 * *"), expected(""));
        assert_eq!(one("10.0.0.5 52:54:00:00:00:05 1700000000\n"), expected(""));
        assert_eq!(
            one(
                "# ISC\nlease 10.0.0.5 {\n  starts 4 2026/01/01 00:00:00;\n  binding state active;\n  hardware ethernet \
                 52:54:00:00:00:05;\n  client-hostname \"tb5\";\n}\nlease 10.0.0.6 {\n  binding state free;\n}\n"
            ),
            expected("tb5")
        );
        assert_eq!(
            one(
                "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n\
                 10.0.0.5,52:54:00:00:00:05,01:52,3600,1700000000,1,0,0,tb5,0,\n"
            ),
            expected("tb5")
        );
        // The newest counts.
        assert_eq!(
            one("1 52:54:00:00:00:09 10.0.0.5 a *\n2 52:54:00:00:00:05 10.0.0.5 tb5 *"),
            expected("tb5")
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), near in "(lease 10.0.0.1 \\{\n|hardware ethernet x;\n|client-hostname \";\n|\\}\n|1 m 10.0.0.1 \\*\n){0,9}") {
            let _ = (parse(&text), parse(&near));
        }
    }
}
