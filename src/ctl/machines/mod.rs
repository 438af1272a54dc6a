//! `machines`: the file of machines, shown, filled, and told to DHCP servers.

mod learn;
mod leases;

use super::Answer;
use super::Error;
use super::config::SettingsFile;
use super::machine::MachineNames;
use super::output::Out;
use crate::boot::machines::KnownMachine;
use clap::ValueEnum;
use serde_json::{Value, json};

const AFTER_HELP: &str = "\
/etc/testbox/machines.toml has a table for each machine:

  [tb1]
  address = \"10.42.1.20\"
  mac = \"52:54:00:12:34:56\"        # or a list
  groups = [\"rack3\"]
  note = \"left rack\"

Names, groups and ranges such as tb[1-20] then stand for machines in every command.

Examples:
  testboxctl machines learn --leases /var/lib/misc/dnsmasq.leases
  testboxctl machines reservations kea";

/// What to do with the file.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = AFTER_HELP)]
pub(super) enum MachinesCommand {
    /// Show the machines of the file
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Add machines that have made a backup, or are in the leases of a DHCP server, and change nothing that is there
    Learn(learn::Args),
    /// Print the reservations of the machines, as a DHCP server wants them
    Reservations {
        /// Whose
        server: ReservationsOf,
    },
}

/// A DHCP server that has reservations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ReservationsOf {
    /// Lines for dnsmasq.conf
    Dnsmasq,
    /// Declarations for dhcpd.conf of the ISC's server
    Isc,
    /// The list "reservations" of Kea's subnet
    Kea,
}

pub(super) fn run(command: MachinesCommand, file: &SettingsFile, out: &mut Out) -> Answer {
    let known = MachineNames::load(file)?;
    match command {
        MachinesCommand::List { json: true } => out.json(&to_json(known.list()), false)?,
        MachinesCommand::List { json: false } => list(known.list(), out)?,
        MachinesCommand::Learn(args) => return learn::run(args, &known, file, out),
        MachinesCommand::Reservations { server } => out.text(&reservations(server, known.list()))?,
    }
    Ok(true)
}

fn to_json(machines: &[KnownMachine]) -> Value {
    let one = |machine: &KnownMachine| {
        json!({
            "name": machine.name,
            "address": machine.address,
            "macs": machine.macs,
            "groups": machine.groups,
        })
    };
    Value::Array(machines.iter().map(one).collect())
}

fn list(machines: &[KnownMachine], out: &mut Out) -> Result<(), Error> {
    if machines.is_empty() {
        return out.line("no machine is in the file of machines: 'testboxctl machines learn' fills it");
    }
    let width = machines.iter().map(|machine| machine.name.len()).max().unwrap_or(0);
    for machine in machines {
        let groups = machine.groups.join(" ");
        let line = format!(
            "{:<width$} {:<15} {:<17} {groups}",
            machine.name,
            machine.address,
            machine.macs.join(" ")
        );
        out.line(line.trim_end())?;
    }
    Ok(())
}

/// A machine without a card is told to nobody.
fn reservations(server: ReservationsOf, machines: &[KnownMachine]) -> String {
    let with_card = machines.iter().filter(|machine| !machine.macs.is_empty());
    match server {
        ReservationsOf::Dnsmasq => with_card
            .map(|machine| format!("dhcp-host={},{},{}\n", machine.macs.join(","), machine.address, machine.name))
            .collect(),
        // One declaration has one card.
        ReservationsOf::Isc => with_card
            .flat_map(|machine| {
                machine.macs.iter().enumerate().map(move |(at, mac)| {
                    let name = if at == 0 { machine.name.clone() } else { format!("{}-{at}", machine.name) };
                    format!(
                        "host {name} {{ hardware ethernet {}; fixed-address {}; option host-name \"{}\"; }}\n",
                        colons(mac),
                        machine.address,
                        machine.name
                    )
                })
            })
            .collect(),
        ReservationsOf::Kea => {
            let one = |machine: &KnownMachine| {
                let entry = |mac: &String| {
                    json!({
                        "hw-address": colons(mac),
                        "ip-address": machine.address,
                        "hostname": machine.name,
                    })
                };
                machine.macs.iter().map(entry).collect::<Vec<_>>()
            };
            format!("{:#}\n", Value::Array(with_card.flat_map(one).collect()))
        }
    }
}

/// With colons, whichever way it stands in the file.
fn colons(mac: &str) -> String {
    mac.replace('-', ":").to_ascii_lowercase()
}
