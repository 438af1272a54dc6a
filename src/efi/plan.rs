//! Which boot entries are put back: (what the record says, what the firmware has, what was just restored) -> changes. Pure.
//!
//! An entry is put back where the firmware would try it, its partition was just restored, and its file is on it. It is made
//! anew: in the short form, active, without options. What the firmware has already is used; nothing is deleted or
//! overwritten, and the network stays in front.

use super::load_option::{HardDrive, LoadOption};
use super::loaders::Esp;
use super::number::BootNumber;
use super::order::order;
use super::record::{BootEntry, EntryOptions, FirmwareRecord};
use super::state::BootState;
use crate::text::{is_plain, quoted};
use crate::used::fat::files::is_same_name;
use std::collections::BTreeSet;
use std::fmt;

/// Most entries that are put back, and the longest value of one, in bytes: the firmware's memory is small.
pub const MOST: usize = 16;
const LONGEST: usize = 1024;
/// Characters of a name that are written.
const NAME: usize = 60;

/// One variable to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new entry.
    Entry(BootNumber, LoadOption),
    /// The boot order.
    Order(Vec<BootNumber>),
}

/// An entry of the record that is not put back, or not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftEntry {
    /// Its number.
    pub number: BootNumber,
    /// Its name for people.
    pub name: String,
    /// Why.
    pub why: String,
}

/// What is to be done, in this order, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryPlan {
    /// At most [`MOST`] entries, and then the order.
    pub changes: Vec<Change>,
    /// The entries that start what was restored, as they will be, in the order of the record.
    pub restored: Vec<BootNumber>,
    /// What the admin should know.
    pub left: Vec<LeftEntry>,
    /// How many entries of the record have a partition that was restored.
    pub wanted: usize,
    /// Where false, entries could not be put behind the network: nothing is changed.
    pub has_network: bool,
}

/// Makes the plan. `esps` are the EFI system partitions of the disks that were just restored.
pub fn plan(recorded: &FirmwareRecord, now: &BootState, esps: &[Esp]) -> EntryPlan {
    let mut plan = EntryPlan { has_network: true, ..EntryPlan::default() };
    let mut entries = Vec::new();
    for entry in recorded.boot_order.iter().filter_map(|number| recorded.entry(*number)) {
        let Some((esps, path)) = wanted(entry, esps) else { continue };
        plan.wanted += 1;
        match plan.put_back(entry, &esps, path, now) {
            Ok(number) if plan.restored.contains(&number) => {}
            Ok(number) => {
                plan.restored.push(number);
                entries.push(entry);
            }
            Err(why) => plan.leave(entry, why),
        }
    }
    match order(now, &plan.restored) {
        Some(order) if order != now.order => plan.changes.push(Change::Order(order)),
        Some(_) => {}
        // An entry in front of a network that the firmware tries without one would take the machine away from the lab.
        None => {
            plan.has_network = false;
            plan.restored.clear();
            plan.changes.clear();
            for entry in entries {
                plan.leave(
                    entry,
                    "the firmware has no boot order with a network entry to stand behind".into(),
                );
            }
        }
    }
    plan
}

/// The restored partitions that are the entry's, and its path, where the firmware would try it.
fn wanted<'a>(entry: &'a BootEntry, esps: &'a [Esp]) -> Option<(Vec<&'a Esp>, &'a str)> {
    let (partition, path) = (entry.partition.as_ref()?, entry.path.as_deref()?);
    let esps: Vec<&Esp> = esps.iter().filter(|esp| is_same_partition(&esp.partition, partition)).collect();
    (entry.active && !esps.is_empty()).then_some((esps, path))
}

/// The number that a table gives to a partition can change without it.
fn is_same_partition(a: &HardDrive, b: &HardDrive) -> bool {
    (a.guid, a.start, a.blocks) == (b.guid, b.start, b.blocks)
}

impl EntryPlan {
    /// The number under which an entry comes back; the change, where the firmware does not have it.
    fn put_back(
        &mut self,
        entry: &BootEntry,
        esps: &[&Esp],
        path: &str,
        now: &BootState,
    ) -> Result<BootNumber, String> {
        let [esp] = esps else {
            return Err("two of the restored disks have its partition: the firmware cannot tell which".into());
        };
        let Some(file) = esp.file(path) else {
            let why = esp.problem.as_ref().map_or(String::new(), |why| format!(" ({why})"));
            return Err(format!("there is no {} on its partition{why}", quoted(path)));
        };
        let there = |options: &Option<EntryOptions>| {
            let starts =
                |n: &BootNumber| now.entries.get(n).is_some_and(|option| starts(option, esp, file, options));
            // Under its own number before others.
            std::iter::once(entry.number).chain(now.entries.keys().copied()).find(starts)
        };
        if let Some(number) = there(&entry.options) {
            return Ok(number);
        }
        if let Some(options) = &entry.options {
            self.leave(entry, format!("it comes without its {} bytes of options", options.bytes));
        }
        there(&None).or_else(|| self.new_one(esp, file)).map_or_else(|| self.make(entry, esp, file, now), Ok)
    }

    /// The number of an entry of this plan that starts this file.
    fn new_one(&self, esp: &Esp, file: &str) -> Option<BootNumber> {
        self.changes.iter().find_map(|change| match change {
            Change::Entry(number, option) if starts(option, esp, file, &None) => Some(*number),
            _ => None,
        })
    }

    fn make(
        &mut self,
        entry: &BootEntry,
        esp: &Esp,
        file: &str,
        now: &BootState,
    ) -> Result<BootNumber, String> {
        let option = LoadOption::new(&name(entry), esp.partition, file);
        if option.to_bytes().is_none_or(|bytes| bytes.len() > LONGEST) {
            return Err(format!("it would be longer than {LONGEST} bytes"));
        }
        if self.changes.len() >= MOST {
            return Err(format!("only {MOST} entries are put back"));
        }
        let allotted: BTreeSet<BootNumber> = self.restored.iter().copied().collect();
        let number = now.free(entry.number, &allotted).ok_or("the firmware has no number left for it")?;
        self.changes.push(Change::Entry(number, option));
        Ok(number)
    }

    fn leave(&mut self, entry: &BootEntry, why: String) {
        self.left.push(LeftEntry { number: entry.number, name: entry.name.clone(), why });
    }
}

/// True for an entry of the firmware that starts this file with these options.
fn starts(option: &LoadOption, esp: &Esp, file: &str, options: &Option<EntryOptions>) -> bool {
    let is_found = option.is_short_form() || !esp.is_moved;
    let is_same = |(partition, path): (HardDrive, String)| {
        is_same_partition(&partition, &esp.partition) && is_same_name(&path, file)
    };
    option.is_tried()
        && is_found
        && option.loader().is_some_and(is_same)
        && EntryOptions::of(&option.options) == *options
}

/// A name that any firmware can show.
fn name(entry: &BootEntry) -> String {
    let name: String = entry.name.chars().filter(|c| is_plain(*c)).take(NAME).collect();
    if name.trim().is_empty() { "restored".into() } else { name }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Entry(number, option) => {
                let file = option.loader().map_or(String::new(), |(_, file)| file);
                write!(f, "Boot{number} {} for {}", quoted(&option.name), quoted(&file))
            }
            Change::Order(order) => {
                let order: Vec<String> = order.iter().map(ToString::to_string).collect();
                write!(f, "BootOrder {}", order.join(","))
            }
        }
    }
}

impl fmt::Display for LeftEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Boot{} {}: {}", self.number, quoted(&self.name), self.why)
    }
}
