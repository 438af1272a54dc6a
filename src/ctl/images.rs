//! `images`: the sets of machines, what they cost, and what is special about them.

use super::config::SettingsFile;
use super::machine::MachineNames;
use super::output::{Out, warn};
use super::sets::{ListedSet, MachineSets, SetShare};
use super::shares::{self, BackupFlag, ShareFolder};
use super::table::{self, bytes, short, since};
use super::{Answer, Error};
use crate::share::Files;
use crate::text::{ascii, human_bytes};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::Ipv4Addr;

const AFTER_HELP: &str = "\
Of all machines a line each; of those that are named each set. DISKS is the size of their disks, FILES what the images take \
of the file system, each as if alone; COST what they take together and OWN what goes with this set alone: a file that several \
sets have is there once. What sets share since 'testboxctl dedup' is counted for each of them, as the file system counts it.

States: current; previous (the newest one before it); DAMAGED (an image was found damaged); INCOMPLETE (an image is not \
there); degraded (with zeros for what the disk did not give); signed (a signature is there: 'image info --trusted-key' tells \
whether it is good); pinned; imported ('image import').

Examples:
  testboxctl images
  testboxctl images tb1 rack3
  testboxctl images --json | jq '.[] | select(.sets == []) | .ip'";

/// Arguments of `images`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Machines [default: all that have a folder]
    #[arg(value_name = "IP|HOST")]
    machines: Vec<String>,
    /// For programs: all sets
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    backup: BackupFlag,
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let names = MachineNames::load(&file)?;
    let settings = args.backup.or(file);
    let share = shares::need_backup_dir(&settings)?;
    let machines = machines(&names, &args.machines, &share)?;
    let all = SetShare::open(&share)?.all(&machines);
    let costs = FileUsers::of(&all);
    let now = Timestamp::now();
    if args.json {
        out.json(
            &Value::Array(all.iter().map(|machine| to_json(machine, &costs, &names, now)).collect()),
            false,
        )?;
    } else {
        for line in text(&all, &costs, &names, now, !args.machines.is_empty()) {
            out.line(line)?;
        }
    }
    let problems = |machine: &MachineSets| {
        let ip = machine.ip;
        machine.problems.iter().map(move |what| format!("{ip}: {what}")).collect::<Vec<_>>()
    };
    let problems: Vec<String> = all.iter().flat_map(problems).collect();
    if !args.json {
        problems.iter().for_each(|what| warn(what));
    }
    Ok(problems.is_empty())
}

/// The machines that are named; all with a folder, where none is.
pub(super) fn machines(
    names: &MachineNames,
    words: &[String],
    share: &ShareFolder,
) -> Result<Vec<Ipv4Addr>, Error> {
    if !words.is_empty() {
        return Ok(names.resolve_all(words)?.into_iter().map(|machine| machine.ip).collect());
    }
    let folders = share.files.list("").map_err(|e| share.error("", "list it", &e))?;
    let mut machines: Vec<Ipv4Addr> = folders.iter().filter_map(|name| name.parse().ok()).collect();
    machines.sort_unstable();
    Ok(machines)
}

/// How many sets have each file.
pub(super) struct FileUsers(HashMap<crate::block::FileId, u32>);

impl FileUsers {
    pub fn of(all: &[MachineSets]) -> FileUsers {
        let mut sets = HashMap::new();
        let images = all.iter().flat_map(|machine| &machine.sets).flat_map(|set| &set.images);
        images.filter_map(|image| image.place).for_each(|(id, _)| *sets.entry(id).or_insert(0) += 1);
        FileUsers(sets)
    }

    /// Bytes that only this set has.
    pub fn own(&self, set: &ListedSet) -> u64 {
        let own = set.images.iter().filter_map(|image| image.place);
        own.filter(|(id, _)| self.0.get(id) == Some(&1)).fold(0, |sum, (_, room)| sum.saturating_add(room))
    }

    /// Bytes of these sets, each file once.
    pub fn together<'a>(sets: impl IntoIterator<Item = &'a ListedSet>) -> u64 {
        let files: HashMap<_, u64> =
            sets.into_iter().flat_map(|set| &set.images).filter_map(|image| image.place).collect();
        files.values().fold(0, |sum, room| sum.saturating_add(*room))
    }
}

fn host(machine: &MachineSets, names: &MachineNames) -> String {
    let known = names.list().iter().find(|known| known.address == machine.ip);
    let host = known.map(|known| known.name.clone()).or_else(|| machine.host.as_deref().map(ascii));
    table::cut(&host.unwrap_or_else(|| "-".into()), 16)
}

fn text(
    all: &[MachineSets],
    costs: &FileUsers,
    names: &MachineNames,
    now: Timestamp,
    is_each: bool,
) -> Vec<String> {
    if all.is_empty() {
        return vec!["no machine has a folder on the backup share yet".into()];
    }
    let mut lines = match is_each {
        true => all.iter().flat_map(|machine| each_set(machine, costs, names, now)).collect(),
        false => overview(all, names, now),
    };
    if all.len() > 1 {
        let sets = all.iter().map(|machine| machine.sets.len()).sum::<usize>();
        let cost = FileUsers::together(all.iter().flat_map(|machine| &machine.sets));
        lines.push(format!("{} machines, {sets} sets: {} on the disk", all.len(), human_bytes(cost)));
    }
    lines
}

fn overview(all: &[MachineSets], names: &MachineNames, now: Timestamp) -> Vec<String> {
    let head = ["ADDRESS", "HOST", "SETS", "DISKS", "FILES", "COST", "NEWEST", "OLDEST", "STATE"];
    let row = |machine: &MachineSets| {
        let (first, last) = (machine.sets.first(), machine.sets.last());
        let age = |set: Option<&ListedSet>| set.map_or("-".into(), |set| short(since(set.finished, now)));
        let words = words(machine);
        vec![
            machine.ip.to_string(),
            host(machine, names),
            machine.sets.len().to_string(),
            first.map_or("-".into(), |set| bytes(set.disk_bytes())),
            first.map_or("-".into(), |set| bytes(set.room())),
            bytes(FileUsers::together(&machine.sets)),
            age(first),
            age(last),
            words.join(", "),
        ]
    };
    table::lines(&head, &all.iter().map(row).collect::<Vec<_>>(), &[2, 3, 4, 5, 6, 7])
}

/// What is special about the sets of a machine.
pub(super) fn words(machine: &MachineSets) -> Vec<&'static str> {
    let mut words: Vec<&str> = Vec::new();
    for set in &machine.sets {
        for word in set.words(false).into_iter().filter(|word| *word != "current") {
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }
    if machine.sets.first().is_some_and(|set| !set.is_current()) {
        words.push("no current set");
    }
    if !machine.problems.is_empty() {
        words.push("UNREADABLE");
    }
    words
}

fn each_set(machine: &MachineSets, costs: &FileUsers, names: &MachineNames, now: Timestamp) -> Vec<String> {
    let cost = FileUsers::together(&machine.sets);
    let sets = if machine.sets.len() == 1 { "set" } else { "sets" };
    let mut lines = vec![format!(
        "{} ({}): {} {sets}, {} on the disk",
        machine.ip,
        host(machine, names),
        machine.sets.len(),
        human_bytes(cost)
    )];
    let row = |set: &ListedSet| {
        vec![
            format!("  {}", set.generation),
            short(since(set.finished, now)),
            set.images.iter().map(|image| ascii(&image.name)).collect::<Vec<_>>().join(" "),
            bytes(set.disk_bytes()),
            bytes(set.room()),
            bytes(costs.own(set)),
            set.words(machine.is_previous(set)).join(", "),
        ]
    };
    if !machine.sets.is_empty() {
        let head = ["  SET", "AGE", "IMAGES", "DISKS", "FILES", "OWN", "STATE"];
        let rows: Vec<Vec<String>> = machine.sets.iter().map(row).collect();
        lines.extend(table::lines(&head, &rows, &[1, 3, 4, 5]));
    }
    lines
}

/// What `--json` prints of a machine.
pub(super) fn to_json(
    machine: &MachineSets,
    costs: &FileUsers,
    names: &MachineNames,
    now: Timestamp,
) -> Value {
    let known = names.list().iter().find(|known| known.address == machine.ip);
    let image = |image: &super::sets::ListedImage| {
        json!({
            "name": image.name,
            "file": image.file,
            "disk_bytes": image.disk_bytes,
            "image_bytes": image.image_bytes,
            "room_bytes": image.place.map(|(_, room)| room),
            "degraded": image.is_degraded,
            "damaged": image.is_damaged,
        })
    };
    let set = |set: &ListedSet| {
        json!({
            "generation": set.generation,
            "folder": match set.dir.as_str() {
                "" => machine.ip.to_string(),
                dir => format!("{}/{dir}", machine.ip),
            },
            "current": set.is_current(),
            "previous": machine.is_previous(set),
            "set": set.set.to_string(),
            "job": set.job,
            "finished": set.finished,
            "age_seconds": since(set.finished, now).as_secs(),
            "room_bytes": set.room(),
            "own_bytes": costs.own(set),
            "signed": set.is_signed,
            "pinned": set.is_pinned,
            "imported": set.is_imported,
            "degraded": set.images.iter().any(|image| image.is_degraded),
            "damaged": set.images.iter().any(|image| image.is_damaged),
            "complete": set.images.iter().all(|image| image.place.is_some()),
            "images": set.images.iter().map(image).collect::<Vec<_>>(),
        })
    };
    json!({
        "ip": machine.ip,
        "name": known.map(|known| &known.name),
        "hostname": machine.host,
        "cost_bytes": FileUsers::together(&machine.sets),
        "sets": machine.sets.iter().map(set).collect::<Vec<_>>(),
        "problems": machine.problems,
    })
}
