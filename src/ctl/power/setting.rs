//! How the power of a machine is switched, as the file of machines says it, for itself or for a group; and by which password.
//! Pure, but for the two files.

use super::super::Error;
use super::super::web::{self, WebTrust};
use crate::boot::machines::KnownMachine;
use crate::text::quoted;
use hyper::Uri;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Largest file of passwords in bytes.
const SECRETS_LIMIT: u64 = 1 << 20;
/// What a word of a command may hold in braces.
const PLACES: [&str; 4] = ["action", "name", "address", "mac"];

/// The port of BMCs, where none is said.
const IPMI_PORT: &str = "623";

/// The way to a machine's power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PowerWay {
    /// A program and its arguments; each machine's values stand for words in braces. No shell reads them.
    Command(Vec<String>),
    /// The BMC by Redfish: its address, and which of its systems, where it has several.
    Redfish { url: Uri, system: Option<String>, trust: WebTrust },
    /// The BMC by ipmitool: host, and UDP port.
    Ipmi(String, u16),
    /// Wake-on-LAN, which only switches on.
    Wake,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PowerTable {
    redfish: Option<String>,
    system: Option<String>,
    key: Option<String>,
    ipmi: Option<String>,
    wake: Option<bool>,
}

impl PowerWay {
    /// Reads the value of a key `power`.
    pub fn parse(value: &toml::Value) -> Result<PowerWay, String> {
        match value {
            toml::Value::Array(words) => {
                let words: Option<Vec<String>> = words.iter().map(|word| word.as_str().map(str::to_owned)).collect();
                command(words.ok_or("a command is a list of words in quotes")?)
            }
            toml::Value::Table(table) => PowerWay::of_table(table.clone()),
            _ => Err("wanted a list (a program and its arguments), { redfish = \"https://BMC\" }, { ipmi = \"BMC\" } or \
                      { wake = true }"
                .into()),
        }
    }

    fn of_table(table: toml::Table) -> Result<PowerWay, String> {
        let table: PowerTable =
            table.try_into().map_err(|e: toml::de::Error| e.to_string().trim_end().to_owned())?;
        match (table.redfish, table.ipmi, table.wake) {
            (Some(text), None, None) => {
                let url = web::url(&text)?;
                let is_bare = url.path() == "/" && url.query().is_none() && !text.contains('@');
                if url.scheme_str() != Some("https") || !is_bare {
                    return Err(format!("{} is not https://BMC[:PORT]", quoted(&text)));
                }
                let key = table.key.map(|key| key.parse().map_err(|e| format!("key: {e}"))).transpose()?;
                let is_id = |id: &String| {
                    !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                };
                if let Some(wrong) = table.system.as_ref().filter(|id| !is_id(id)) {
                    return Err(format!("{} is not a valid Redfish system ID", quoted(wrong)));
                }
                Ok(PowerWay::Redfish {
                    url,
                    system: table.system,
                    trust: key.map_or(WebTrust::System, WebTrust::Key),
                })
            }
            (None, Some(host), None) if table.system.is_none() && table.key.is_none() => {
                let (name, port) = host.split_once(':').unwrap_or((&host, IPMI_PORT));
                let port = port.parse().ok().filter(|port| *port != 0);
                let name = name.parse::<crate::types::HostName>().ok().map(|name| name.to_string());
                let both = name.zip(port).map(|(name, port)| PowerWay::Ipmi(name, port));
                both.ok_or_else(|| format!("{} is not a host name or address", quoted(&host)))
            }
            (None, None, Some(true)) if table.system.is_none() && table.key.is_none() => Ok(PowerWay::Wake),
            _ => Err("wanted one of redfish, ipmi and wake; system and key belong to redfish".into()),
        }
    }
}

/// A command must differ by what it is to do, and know all that it names.
fn command(words: Vec<String>) -> Result<PowerWay, String> {
    let program = words.first().filter(|program| !program.is_empty() && !program.contains('{'));
    program.ok_or("the first word of a command is a program")?;
    if !words.iter().any(|word| word.contains("{action}")) {
        return Err("no word of the command has {action}, which stands for on, off, cycle or status".into());
    }
    for word in &words {
        let mut rest = word.as_str();
        while let Some((_, behind)) = rest.split_once('{') {
            let place = behind.split_once('}').map(|(place, _)| place);
            if place.is_none_or(|place| !PLACES.contains(&place)) {
                return Err(format!("{}: in braces stand {}", quoted(word), PLACES.join(", ")));
            }
            rest = behind;
        }
    }
    Ok(PowerWay::Command(words))
}

/// A command's words for one machine.
pub(super) fn filled(words: &[String], action: &str, machine: &KnownMachine) -> Result<Vec<String>, String> {
    let address = machine.address.to_string();
    let one = |word: &String| {
        if word.contains("{mac}") && machine.macs.is_empty() {
            return Err("the command needs the machine's MAC address, and machines.toml has none".to_owned());
        }
        let mac =
            machine.macs.first().map(|mac| mac.replace('-', ":").to_ascii_lowercase()).unwrap_or_default();
        let values =
            [("{action}", action), ("{name}", &machine.name), ("{address}", &address), ("{mac}", &mac)];
        let mut out = String::new();
        let mut rest = word.as_str();
        // From the left: what was put in is not looked at again.
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            out += before;
            match values.iter().find(|(place, _)| from.starts_with(place)) {
                Some((place, value)) => {
                    out += value;
                    rest = from.get(place.len()..).unwrap_or_default();
                }
                None => {
                    out.push('{');
                    rest = from.get(1..).unwrap_or_default();
                }
            }
        }
        out += rest;
        // No name becomes an option.
        if out.starts_with('-') && !word.starts_with('-') {
            return Err(format!("{} would be taken for an option", quoted(&out)));
        }
        Ok(out)
    };
    words.iter().map(one).collect()
}

#[derive(Deserialize)]
struct PowerKey {
    power: Option<toml::Value>,
}

/// All ways of a file of machines: of machines, and of groups.
#[derive(Debug, Default)]
pub(super) struct PowerWays {
    machines: BTreeMap<String, PowerWay>,
    groups: BTreeMap<String, PowerWay>,
}

impl PowerWays {
    /// Reads them from the text of the file, which is a good one.
    pub fn parse(text: &str) -> Result<PowerWays, String> {
        let mut tables: toml::Table = toml::from_str(text).map_err(|e| e.to_string())?;
        let groups = match tables.remove(crate::boot::machines::GROUPS) {
            Some(toml::Value::Table(groups)) => groups,
            _ => toml::Table::new(),
        };
        let read = |tables: toml::Table, what: &str| {
            let one = |(name, table): (String, toml::Value)| {
                let wrong = |why: String| format!("[{what}{name}]: power: {why}");
                let key: PowerKey = table.try_into().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
                let way = key.power.as_ref().map(PowerWay::parse).transpose().map_err(wrong)?;
                Ok::<_, String>(way.map(|way| (name.to_ascii_lowercase(), way)))
            };
            tables
                .into_iter()
                .filter_map(|entry| one(entry).transpose())
                .collect::<Result<BTreeMap<_, _>, _>>()
        };
        Ok(PowerWays { groups: read(groups, "groups.")?, machines: read(tables, "")? })
    }

    /// The way of a machine: its own, or that of the one of its groups that has one.
    pub fn of(&self, machine: &KnownMachine) -> Result<&PowerWay, String> {
        if let Some(own) = self.machines.get(&machine.name.to_ascii_lowercase()) {
            return Ok(own);
        }
        let of_group = |group: &str| self.groups.get(&group.to_ascii_lowercase());
        let found: Vec<_> =
            machine.groups.iter().filter_map(|group| Some((group, of_group(group)?))).collect();
        match found[..] {
            [(_, way)] => Ok(way),
            [] => Err(format!(
                "nothing says how its power is switched: power = ... in [{}] or [groups.NAME] of the file of machines",
                machine.name
            )),
            [(_, first), ..] if found.iter().all(|(_, way)| *way == first) => Ok(first),
            _ => {
                let names: Vec<&str> = found.iter().map(|(group, _)| group.as_str()).collect();
                Err(format!(
                    "its groups {} say different things: give it a power = of its own",
                    names.join(" and ")
                ))
            }
        }
    }
}

/// Who a BMC knows.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BmcLogin {
    pub user: String,
    pub password: String,
}

impl fmt::Debug for BmcLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BmcLogin(..)")
    }
}

/// The file of passwords, if it is there: tables by machine, by group, or `default`.
#[derive(Debug, Default)]
pub(super) struct BmcLogins(BTreeMap<String, BmcLogin>);

impl BmcLogins {
    /// Reads it. One that others may read is refused.
    pub fn load(path: &Path) -> Result<BmcLogins, Error> {
        let failed = |e: String| Error::failed(format!("{}: {e}", path.display()));
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BmcLogins::default()),
            file => file.map_err(|e| failed(format!("cannot read the passwords of BMCs: {e}")))?,
        };
        let about = file.metadata().map_err(|e| failed(e.to_string()))?;
        if about.mode() & 0o077 != 0 {
            return Err(failed(format!(
                "others may read the passwords in it (mode {:o}): chmod 600 {}, and change them",
                about.mode() & 0o7777,
                path.display()
            )));
        }
        let mut text = String::new();
        file.take(SECRETS_LIMIT).read_to_string(&mut text).map_err(|e| failed(e.to_string()))?;
        // The text of an error would show the line.
        let tables: BTreeMap<String, BmcLogin> = toml::from_str(&text).map_err(|_| {
            failed("wanted tables [MACHINE], [GROUP] or [default] with user and password".into())
        })?;
        Ok(BmcLogins(tables.into_iter().map(|(name, login)| (name.to_ascii_lowercase(), login)).collect()))
    }

    pub fn of(&self, machine: &KnownMachine) -> Option<&BmcLogin> {
        let names = [machine.name.clone()]
            .into_iter()
            .chain(machine.groups.iter().cloned())
            .chain(["default".into()]);
        names.into_iter().find_map(|name| self.0.get(&name.to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str, groups: &[&str]) -> KnownMachine {
        KnownMachine {
            name: name.into(),
            address: [10, 0, 0, 5].into(),
            macs: vec!["52-54-00-00-00-05".into()],
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        }
    }

    #[test]
    fn a_machines_own_way_goes_before_that_of_its_group() {
        let ways = PowerWays::parse(
            "[tb1]\naddress = \"10.0.0.1\"\npower = { wake = true }\n[tb2]\naddress = \"10.0.0.2\"\n\
             [groups.Rack]\npower = [\"pdu\", \"{action}\", \"{name}\"]\n[groups.other]\npower = { ipmi = \"bmc\" }\n",
        )
        .unwrap();
        assert_eq!(ways.of(&machine("TB1", &["rack"])), Ok(&PowerWay::Wake));
        assert!(matches!(ways.of(&machine("tb2", &["rack", "x"])), Ok(PowerWay::Command(_))));
        assert!(ways.of(&machine("tb2", &["rack", "other"])).unwrap_err().contains("different things"));
        assert!(ways.of(&machine("tb2", &[])).unwrap_err().contains("power = "));
    }

    #[test]
    fn a_value_of_a_machine_is_one_word_and_no_option() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let of = |list: &[&str], name: &str| filled(&words(list), "off", &machine(name, &[]));
        assert_eq!(
            of(&["pdu", "--outlet={name}", "{action}", "{mac}", "a;{address}"], "tb1"),
            Ok(words(&["pdu", "--outlet=tb1", "off", "52:54:00:00:00:05", "a;10.0.0.5"]))
        );
        assert!(of(&["pdu", "{name}", "{action}"], "-rf").unwrap_err().contains("option"));
    }

    #[test]
    fn what_is_wrong_with_a_way_is_said() {
        for (text, says) in [
            ("1", "wanted a list"),
            ("[]", "the first word"),
            ("[\"{name}\", \"{action}\"]", "the first word"),
            ("[\"pdu\", \"on\"]", "{action}"),
            ("[\"pdu\", \"{action}\", \"{password}\"]", "in braces stand"),
            ("[\"pdu\", \"{action}\", \"{\"]", "in braces stand"),
            ("{ redfish = \"http://bmc\" }", "https://BMC"),
            ("{ redfish = \"https://user:secret@bmc\" }", "https://BMC"),
            ("{ redfish = \"https://bmc/redfish\" }", "https://BMC"),
            ("{ redfish = \"https://bmc\", system = \"../x\" }", "not a valid Redfish system ID"),
            ("{ redfish = \"https://bmc\", ipmi = \"bmc\" }", "one of"),
            ("{ ipmi = \"-x\" }", "not a host name"),
            ("{ wake = false }", "one of"),
            ("{ wak = true }", "unknown field"),
        ] {
            let table: toml::Table = toml::from_str(&format!("power = {text}")).unwrap();
            let why = PowerWay::parse(&table["power"]).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
    }
}
