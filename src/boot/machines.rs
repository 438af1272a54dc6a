//! `machines.toml`: a table for each machine of the lab.

use crate::types::MacAddr;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Where the file is, where nobody says otherwise.
pub const MACHINES_FILE: &str = "/etc/testbox/machines.toml";
/// Largest file in bytes: some ten thousand machines.
pub const MACHINES_LIMIT: usize = 1 << 20;

/// The table of groups, which is no machine's: what all of one have in common.
pub const GROUPS: &str = "groups";

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownMachine {
    /// What people call it.
    pub name: String,
    /// Its address, which names its folder.
    pub address: Ipv4Addr,
    /// The cards that it may ask with.
    pub macs: Vec<String>,
    /// The groups that it is one of.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// All machines of the lab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownMachines {
    machines: Vec<KnownMachine>,
    by_mac: BTreeMap<[u8; 6], usize>,
    by_address: BTreeMap<Ipv4Addr, usize>,
}

/// Why a file of machines is not taken: nothing of it counts.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachinesError {
    /// It is not TOML, or has a key that is not known.
    #[error("{0}")]
    Text(String),
    /// A value of a machine is not one.
    #[error("[{0}]: {1}")]
    Value(String, String),
    /// Two machines are told apart by nothing.
    #[error("[{0}] and [{1}] have the same {2}")]
    Twice(String, String, String),
}

/// A table of the file. What other parts of testbox read of it is let through here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MachineTable {
    address: Ipv4Addr,
    #[serde(default)]
    mac: Option<OneOrMore>,
    #[serde(default)]
    groups: Option<OneOrMore>,
    #[serde(default, rename = "power")]
    _power: Option<toml::Value>,
    #[serde(default, rename = "note")]
    _note: Option<toml::Value>,
}

/// A group's table, the same way.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupTable {
    #[serde(default, rename = "power")]
    _power: Option<toml::Value>,
    #[serde(default, rename = "note")]
    _note: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    Several(Vec<String>),
}

impl OneOrMore {
    fn list(words: Option<OneOrMore>) -> Vec<String> {
        match words {
            None => Vec::new(),
            Some(OneOrMore::One(word)) => vec![word],
            Some(OneOrMore::Several(words)) => words,
        }
    }
}

/// A name that needs no quotes in a command.
fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 64 && name.chars().all(is_plain)
}

/// True for an address that a machine can have, as far as one can tell without its network.
fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    !(matches!(first, 0 | 127) || first >= 224)
}

impl KnownMachines {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it, with the name of each machine that it is about.
    pub fn parse(text: &str) -> Result<KnownMachines, MachinesError> {
        if text.len() > MACHINES_LIMIT {
            return Err(MachinesError::Text(format!("it is larger than {MACHINES_LIMIT} bytes")));
        }
        let wrong = |e: toml::de::Error| MachinesError::Text(e.to_string().trim_end().to_owned());
        let mut all: toml::Table = toml::from_str(text).map_err(wrong)?;
        let tables: BTreeMap<String, MachineTable> = match all.remove(GROUPS) {
            // With the lines of what is wrong.
            None => toml::from_str(text).map_err(wrong)?,
            Some(groups) => {
                let _: BTreeMap<String, GroupTable> = groups.try_into().map_err(wrong)?;
                all.try_into().map_err(wrong)?
            }
        };
        let machine = |(name, table): (String, MachineTable)| KnownMachine {
            name,
            address: table.address,
            macs: OneOrMore::list(table.mac),
            groups: OneOrMore::list(table.groups),
        };
        KnownMachines::of(tables.into_iter().map(machine).collect())
    }

    /// The same from a list, as [`KnownMachines::list`] gives it.
    ///
    /// # Errors
    /// As those of [`KnownMachines::parse`].
    pub fn of(list: Vec<KnownMachine>) -> Result<KnownMachines, MachinesError> {
        let mut known = KnownMachines::default();
        let (mut names, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        for machine in list {
            let name = &machine.name;
            let wrong = |why: &str| MachinesError::Value(name.clone(), why.to_owned());
            if let Some(bad) = [name].into_iter().chain(&machine.groups).find(|name| !is_name(name)) {
                let what = if bad == name { "a name" } else { "the name of a group" };
                return Err(wrong(&format!(
                    "{what} has up to 64 letters, digits, hyphens, underscores and dots"
                )));
            }
            if !is_host(machine.address) {
                return Err(wrong(&format!("no machine can have the address {}", machine.address)));
            }
            let twice =
                |other: &String, what: String| MachinesError::Twice(other.clone(), name.clone(), what);
            // A host name has no case.
            if let Some(other) = names.insert(name.to_ascii_lowercase(), name.clone()) {
                return Err(twice(&other, "name".into()));
            }
            if let Some(other) = addresses.insert(machine.address, name.clone()) {
                return Err(twice(&other, format!("address {}", machine.address)));
            }
            for mac in &machine.macs {
                let mac: MacAddr = mac.parse().map_err(|e| wrong(&format!("{e}")))?;
                if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
                    return Err(wrong(&format!("no card can have the address {mac}")));
                }
                let other = known.by_mac.insert(mac.0, known.machines.len());
                if let Some(other) = other.map(|at| known.machines.get(at).unwrap_or(&machine)) {
                    return Err(twice(&other.name, format!("MAC {mac}")));
                }
            }
            known.by_address.insert(machine.address, known.machines.len());
            known.machines.push(machine);
        }
        // A word of a command means one machine, or one group.
        for machine in &known.machines {
            let group = machine.groups.iter().find(|group| names.contains_key(&group.to_ascii_lowercase()));
            if let Some(group) = group {
                let why = format!("its group {group} has the name of a machine");
                return Err(MachinesError::Value(machine.name.clone(), why));
            }
        }
        Ok(known)
    }

    /// The machine of this name; case does not matter.
    pub fn by_name(&self, name: &str) -> Option<&KnownMachine> {
        self.machines.iter().find(|machine| machine.name.eq_ignore_ascii_case(name))
    }

    /// The machines of a group, in the order of their names.
    pub fn of_group(&self, group: &str) -> Vec<&KnownMachine> {
        let is_in =
            |machine: &&KnownMachine| machine.groups.iter().any(|one| one.eq_ignore_ascii_case(group));
        self.machines.iter().filter(is_in).collect()
    }

    /// The machine that has this card.
    pub fn by_mac(&self, mac: MacAddr) -> Option<&KnownMachine> {
        self.machines.get(*self.by_mac.get(&mac.0)?)
    }

    /// The machine that has this address.
    pub fn by_address(&self, address: Ipv4Addr) -> Option<&KnownMachine> {
        self.machines.get(*self.by_address.get(&address)?)
    }

    /// All of them.
    pub fn list(&self) -> &[KnownMachine] {
        &self.machines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TWO: &str = "[tb1]\naddress = \"10.42.1.20\"\nmac = \"52:54:00:12:34:56\"\ngroups = [\"a\"]\npower = { x = 1 }\n\
                       note = \"left rack\"\n[tb2]\naddress = \"10.42.1.21\"\nmac = [\"52-54-00-12-34-57\", \
                       \"52:54:00:12:34:58\"]\n[tb3]\naddress = \"10.42.1.22\"\n";

    #[test]
    fn machines_are_found_by_each_card_and_by_address() {
        let known = KnownMachines::parse(TWO).unwrap();
        let name = |mac: &str| known.by_mac(mac.parse().unwrap()).map(|machine| machine.name.as_str());
        for (mac, expected) in [
            ("52:54:00:12:34:56", Some("tb1")),
            ("52:54:00:12:34:57", Some("tb2")),
            ("52:54:00:12:34:58", Some("tb2")),
            ("52:54:00:12:34:59", None),
        ] {
            assert_eq!(name(mac), expected, "{mac}");
        }
        assert_eq!(known.by_name("TB2").unwrap().address, Ipv4Addr::new(10, 42, 1, 21));
        assert_eq!(known.of_group("a").len(), 1);
        assert_eq!(known.by_address([10, 42, 1, 22].into()).unwrap().name, "tb3");
        assert_eq!(KnownMachines::of(known.list().to_vec()).unwrap(), known);
        assert_eq!(KnownMachines::parse("").unwrap(), KnownMachines::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_the_names() {
        for (text, says) in [
            (
                "[a]\naddress = \"10.0.0.1\"\n[b]\naddress = \"10.0.0.1\"",
                "[a] and [b] have the same address 10.0.0.1",
            ),
            (
                "[a]\naddress = \"10.0.0.1\"\nmac=\"52:54:00:00:00:01\"\n[b]\naddress = \"10.0.0.2\"\nmac=\"52-54-00-00-00-01\"",
                "[a] and [b] have the same MAC 52:54:00:00:00:01",
            ),
            (
                "[a]\naddress = \"10.0.0.1\"\nmac=[\"52:54:00:00:00:01\", \"52:54:00:00:00:01\"]",
                "[a] and [a] have the same MAC",
            ),
            ("[a]\naddress = \"10.0.0.1\"\n[A]\naddress = \"10.0.0.2\"", "[A] and [a] have the same name"),
            ("[a]\naddress = \"10.0.0.1\"\n[a]\naddress = \"10.0.0.2\"", "duplicate key"),
            ("[a]\naddress = \"10.0.0.1\"\nmacs = \"x\"", "unknown field `macs`"),
            ("[a]\naddress = \"10.0.0.256\"", "invalid IPv4"),
            ("[a]\naddress = \"255.255.255.255\"", "[a]: no machine can have the address"),
            ("[a]\naddress = \"127.0.0.1\"", "[a]: no machine can have the address"),
            ("[a]\nmac = \"52:54:00:00:00:01\"", "missing field `address`"),
            ("[a]\naddress = \"10.0.0.1\"\nmac = \"52:54\"", "[a]: '52:54' is no Ethernet address"),
            ("[a]\naddress = \"10.0.0.1\"\nmac = \"01:00:5e:00:00:01\"", "[a]: no card can have"),
            ("[a]\naddress = \"10.0.0.1\"\ngroups = \"x y\"", "[a]: the name of a group has"),
            (
                "[a]\naddress = \"10.0.0.1\"\ngroups = [\"B\"]\n[b]\naddress = \"10.0.0.2\"",
                "[a]: its group B has the name of a machine",
            ),
            ("[\"a b\"]\naddress = \"10.0.0.1\"", "[a b]: a name has"),
            ("x = 1", "expected"),
            ("[groups.a]\nx = 1", "unknown field"),
            ("[groups]\naddress = \"10.0.0.1\"", "expected"),
        ] {
            let said = KnownMachines::parse(text).unwrap_err().to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>(), near in "(\\[[a-c]\\]\n|address = \"10.0.0.[1-3]\"\n|mac = \"52:54:00:00:00:0[1-3]\"\n){0,9}") {
            let _ = KnownMachines::parse(&text);
            if let Ok(known) = KnownMachines::parse(&near) {
                prop_assert_eq!(KnownMachines::of(known.list().to_vec()), Ok(known));
            }
        }
    }
}
