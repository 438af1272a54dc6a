//! Machines as an admin names them: by address, by host name, or by what the file of machines calls them and their groups.

use super::Error;
use super::config::SettingsFile;
use crate::boot::machines::{KnownMachine, KnownMachines, MACHINES_FILE, MACHINES_LIMIT};
use crate::text::quoted;
use crate::types::{HostName, without_bom};
use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;

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

/// Most machines that one word may stand for.
const RANGE_LIMIT: usize = 4096;

/// What names stand for.
#[derive(Default)]
pub(super) struct MachineNames(KnownMachines);

impl MachineNames {
    /// Those of the file of machines: the settings' one, or the usual one if it is there.
    pub fn load(settings: &SettingsFile) -> Result<MachineNames, Error> {
        let Some(text) = text_of(settings)? else { return Ok(MachineNames::default()) };
        let path = settings.machines.as_deref().unwrap_or(Path::new(MACHINES_FILE));
        let known = KnownMachines::parse(&text).map(MachineNames);
        known.map_err(|e| Error::usage(format!("{}: {e}", path.display())))
    }

    /// All machines of the file.
    pub fn list(&self) -> &[KnownMachine] {
        self.0.list()
    }

    /// The machines of one word, and whether it names one alone.
    fn of(&self, word: &str) -> Result<(Vec<MachineName>, bool), Error> {
        let known = |machine: &KnownMachine| MachineName { ip: machine.address, word: machine.name.clone() };
        let of_group = self.0.of_group(word);
        if !of_group.is_empty() {
            return Ok((of_group.into_iter().map(known).collect(), false));
        }
        let names = expand(word).map_err(Error::Usage)?;
        let is_one = names.len() == 1;
        let one = |name: String| match self.0.by_name(&name) {
            Some(machine) => Ok(known(machine)),
            None => resolve(&name).map(|ip| MachineName { ip, word: name }),
        };
        names.into_iter().map(one).collect::<Result<_, _>>().map(|machines| (machines, is_one))
    }

    /// Finds the machines of every word, before anything is done to the first. A machine that is named twice by itself is
    /// a slip; one that is in two groups is meant once.
    pub fn resolve_all(&self, words: &[String]) -> Result<Vec<MachineName>, Error> {
        let mut machines: Vec<(MachineName, bool)> = Vec::new();
        let mut problems = Vec::new();
        for word in words {
            let (found, is_one) = match self.of(word) {
                Ok(found) => found,
                Err(Error::Usage(problem)) => {
                    problems.push(problem);
                    continue;
                }
                Err(e) => return Err(e),
            };
            for machine in found {
                match machines.iter().find(|(other, _)| other.ip == machine.ip) {
                    Some((other, true)) if is_one => {
                        problems.push(format!("{} and {} are the same machine", other.label(), quoted(word)));
                    }
                    Some(_) => {}
                    None => machines.push((machine, is_one)),
                }
            }
        }
        if !problems.is_empty() {
            return Err(Error::usage(problems.join("\n")));
        }
        Ok(machines.into_iter().map(|(machine, _)| machine).collect())
    }
}

/// The text of the file of machines: the settings' one, or the usual one; `None` where that is not there.
pub(super) fn text_of(settings: &SettingsFile) -> Result<Option<String>, Error> {
    let path = settings.machines.as_deref().unwrap_or(Path::new(MACHINES_FILE));
    let failed = |e: String| Error::usage(format!("{}: {e}", path.display()));
    let mut text = String::new();
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && settings.machines.is_none() => return Ok(None),
        file => file.map_err(|e| failed(format!("cannot read the file of machines: {e}")))?,
    };
    // One byte more than it may have, so that it is refused.
    let limit = u64::try_from(MACHINES_LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_string(&mut text).map_err(|e| failed(e.to_string()))?;
    Ok(Some(without_bom(&text).to_owned()))
}

/// The names that `tb[1-3,7]` or `rack[1-2]-n[01-16]` stands for, in this order; a word without brackets for itself.
fn expand(word: &str) -> Result<Vec<String>, String> {
    let wrong = |why: &str| format!("{}: {why}; a range is such as tb[1-20] or tb[01-08,11]", quoted(word));
    let Some((head, rest)) = word.split_once('[') else {
        return if word.contains(']') { Err(wrong("']' without '['")) } else { Ok(vec![word.to_owned()]) };
    };
    let (ranges, tail) = rest.split_once(']').ok_or_else(|| wrong("'[' without ']'"))?;
    let tails = expand(tail)?;
    let mut names = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<usize>().ok().filter(|_| is_number).ok_or_else(|| wrong("not a number"))
        };
        let (low, high) = (number(first)?, number(last)?);
        if high < low {
            return Err(wrong("it ends before it begins"));
        }
        // Leading zeros of the first are those of all.
        let width = if first.starts_with('0') { first.len() } else { 0 };
        for number in low..=high {
            names.extend(tails.iter().map(|tail| format!("{head}{number:0width$}{tail}")));
            if names.len() > RANGE_LIMIT {
                return Err(wrong(&format!("it stands for more than {RANGE_LIMIT} machines")));
            }
        }
    }
    Ok(names)
}

/// The one IPv4 address of a host that can be a machine of a network.
pub(super) fn resolve(word: &str) -> Result<Ipv4Addr, Error> {
    let host: HostName = word.parse().map_err(|e| Error::usage(format!("{e}")))?;
    let found: Vec<Ipv4Addr> = match host.ipv4() {
        Some(ip) => vec![ip],
        None => (host.as_str(), 0u16)
            .to_socket_addrs()
            .map_err(|e| Error::usage(format!(
                "cannot find the address of {}: {e}; give the address, or a name or group of {MACHINES_FILE}", quoted(word))))?
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
        let names = MachineNames::default();
        assert!(names.resolve_all(&words).unwrap_err().to_string().contains("same machine"));
        assert_eq!(names.resolve_all(&words[..2]).unwrap().len(), 2);
    }

    #[test]
    fn names_groups_and_ranges_of_the_file_are_machines() {
        let text = "[tb1]\naddress = \"10.0.0.1\"\ngroups = [\"rack3\", \"old\"]\n[tb2]\naddress = \"10.0.0.2\"\n\
                    groups = \"rack3\"\n[tb10]\naddress = \"10.0.0.10\"\n";
        let names = MachineNames(KnownMachines::parse(text).unwrap());
        let of = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let found = names.resolve_all(&words).map_err(|e| e.to_string())?;
            Ok::<_, String>(found.iter().map(MachineName::label).collect::<Vec<_>>().join(", "))
        };
        assert_eq!(of("tb1"), Ok("10.0.0.1 (tb1)".into()));
        assert_eq!(of("rack3"), Ok("10.0.0.1 (tb1), 10.0.0.2 (tb2)".into()));
        assert_eq!(of("old rack3 TB10"), Ok("10.0.0.1 (tb1), 10.0.0.2 (tb2), 10.0.0.10 (tb10)".into()));
        assert_eq!(of("tb[1-2,10] rack3").map(|all| all.matches("tb").count()), Ok(3));
        assert_eq!(of("10.0.0.7"), Ok("10.0.0.7".into()));
        assert!(of("tb1 10.0.0.1").unwrap_err().contains("same machine"));
    }

    #[test]
    fn a_range_stands_for_its_names_or_is_refused() {
        let all = |word: &str| expand(word).map(|names| names.join(" "));
        assert_eq!(all("tb[8-11]"), Ok("tb8 tb9 tb10 tb11".into()));
        assert_eq!(all("tb[08-10]x"), Ok("tb08x tb09x tb10x".into()));
        assert_eq!(all("r[1-2]n[3,5]"), Ok("r1n3 r1n5 r2n3 r2n5".into()));
        for wrong in [
            "tb[",
            "tb]",
            "tb[]",
            "tb[1-]",
            "tb[-1]",
            "tb[2-1]",
            "tb[a-b]",
            "tb[1-9999999]",
            "t[1-99]b[1-99]",
            "tb[1",
        ] {
            assert!(expand(wrong).is_err(), "{wrong}");
        }
    }
}
