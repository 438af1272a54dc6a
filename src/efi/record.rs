//! What a record keeps of the firmware: the field `firmware` of `backup.json`.

use super::load_option::{HardDrive, LoadOption};
use super::loaders::Esp;
use super::number::BootNumber;
use super::state::BootState;
use super::variables::{Platform, Variables};
use crate::text::{plain, quoted};
use serde::{Deserialize, Serialize};

/// Most entries, most numbers in the boot order, most partitions with loaders, and most loaders of one, that a record has.
const ENTRIES: usize = 256;
const ORDER: usize = 512;
const PARTITIONS: usize = 256;
const FILES: usize = 512;
/// Longest text, in characters: names, paths.
const TEXT: usize = 512;

/// The firmware of a machine when its set was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareRecord {
    /// What has started the machine.
    pub kind: FirmwareKind,
    /// 32 or 64, of UEFI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u8>,
    /// Whether the firmware checks loaders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// The entry that the backup's boot came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_current: Option<BootNumber>,
    /// Numbers of the entries in the order in which they are tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_order: Vec<BootNumber>,
    /// The entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<BootEntry>,
    /// The EFI system partitions of the imaged disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loaders: Vec<Loaders>,
    /// Why entries are missing here: the variables could not be read, or there are too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Kinds of firmware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareKind {
    /// A BIOS, or anything else that is not UEFI.
    #[default]
    Bios,
    /// UEFI.
    Uefi,
}

/// A boot entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootEntry {
    /// Its number.
    pub number: BootNumber,
    /// Its name for people.
    pub name: String,
    /// Whether the firmware tries it: active, not hidden, and no application.
    pub active: bool,
    /// The partition of its loader; absent for entries of other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<HardDrive>,
    /// The path of its loader on that partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What its loader is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<EntryOptions>,
    /// What another kind of entry boots, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// The options of an entry: enough to know them again, not to make them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryOptions {
    /// How many bytes.
    pub bytes: u64,
    /// The first 16 hex digits of their BLAKE3 hash.
    pub hash: String,
}

/// The loaders of an EFI system partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaders {
    /// Name of the image of its disk.
    pub image: String,
    /// Which partition.
    pub partition: HardDrive,
    /// Paths of the loaders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// There are more than these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The file that firmware without entries starts is there.
    pub fallback: bool,
    /// Why its files could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl EntryOptions {
    /// Those of an entry; `None` where it has none.
    pub fn of(options: &[u8]) -> Option<Self> {
        let hash = || blake3::hash(options).to_hex().chars().take(16).collect();
        (!options.is_empty()).then(|| EntryOptions { bytes: options.len() as u64, hash: hash() })
    }
}

impl Loaders {
    /// What a record keeps of a partition of the disk with this image.
    pub fn of(image: &str, esp: Esp) -> Self {
        Loaders {
            image: image.into(),
            fallback: esp.has_fallback(),
            partition: esp.partition,
            files: esp.files.iter().map(|file| cut(file)).collect(),
            more: esp.is_cut,
            problem: esp.problem.as_deref().map(cut),
        }
    }
}

impl FirmwareRecord {
    /// What this machine has, without the loaders of its disks. `None` is a machine that UEFI has not started.
    pub fn of(platform: Option<&Platform>) -> Self {
        let Some(platform) = platform else { return FirmwareRecord::default() };
        let firmware =
            FirmwareRecord { kind: FirmwareKind::Uefi, bits: platform.bits, ..FirmwareRecord::default() };
        let read = |variables: &dyn Variables| BootState::read(variables).map_err(|e| e.to_string());
        match platform.variables.as_ref().map_err(Clone::clone).and_then(|variables| read(&**variables)) {
            Ok(state) => firmware.with(&state),
            Err(why) => FirmwareRecord { problem: Some(cut(&why)), ..firmware },
        }
    }

    fn with(mut self, state: &BootState) -> Self {
        self.secure_boot = state.secure_boot;
        self.boot_current = state.current;
        self.boot_order = state.order.iter().take(ORDER).copied().collect();
        // Those that are tried first, where there are too many.
        let first = self.boot_order.iter().filter_map(|number| state.entries.get_key_value(number));
        let mut entries: Vec<_> = first.collect();
        entries.extend(state.entries.iter().filter(|(number, _)| !self.boot_order.contains(number)));
        entries.sort_by_key(|(number, _)| self.boot_order.iter().position(|n| n == *number).unwrap_or(ORDER));
        entries.dedup_by_key(|(number, _)| **number);
        if entries.len() > ENTRIES {
            self.problem = Some(format!("{} boot entries, the first {ENTRIES} are here", entries.len()));
        }
        self.entries =
            entries.into_iter().take(ENTRIES).map(|(n, option)| BootEntry::of(*n, option)).collect();
        self.entries.sort_by_key(|entry| entry.number);
        self
    }

    /// Says what of it no testbox writes.
    ///
    /// # Errors
    /// What is too long, too many, or not a path.
    pub fn check(&self) -> Result<(), String> {
        for (what, count, most) in [
            ("boot entries", self.entries.len(), ENTRIES),
            ("numbers in the boot order", self.boot_order.len(), ORDER),
            ("partitions with loaders", self.loaders.len(), PARTITIONS),
            ("loaders", self.loaders.iter().map(|l| l.files.len()).max().unwrap_or_default(), FILES),
        ] {
            if count > most {
                return Err(format!("firmware has {count} {what}, more than {most}"));
            }
        }
        let options = |entry: &BootEntry| entry.options.as_ref().map(|options| options.hash.clone());
        let entries = self.entries.iter().flat_map(|entry| {
            [Some(entry.name.clone()), entry.path.clone(), entry.device.clone(), options(entry)]
        });
        let files = self.loaders.iter().flat_map(|loaders| {
            loaders.files.iter().chain([&loaders.image]).chain(&loaders.problem).cloned().map(Some)
        });
        let is_long = |text: &String| text.chars().nth(TEXT).is_some();
        if entries.chain(files).chain([self.problem.clone()]).flatten().any(|text| is_long(&text)) {
            return Err(format!("firmware has a text of more than {TEXT} characters"));
        }
        let mut paths = self.entries.iter().filter_map(|entry| entry.path.as_ref());
        if paths.any(|path| !path.starts_with('\\') || path.chars().any(char::is_control)) {
            return Err("firmware has a boot entry with a path that is none".into());
        }
        Ok(())
    }

    /// The paths of the loaders that the entries name.
    pub fn paths(&self) -> impl Iterator<Item = &str> + Clone {
        self.entries.iter().filter_map(|entry| entry.path.as_deref())
    }

    /// The entry with this number.
    pub fn entry(&self, number: BootNumber) -> Option<&BootEntry> {
        self.entries.iter().find(|entry| entry.number == number)
    }

    /// Lines for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.kind == FirmwareKind::Bios {
            return lines;
        }
        let secure = self.secure_boot.map_or("unknown", |on| if on { "on" } else { "off" });
        lines.push(format!("Secure Boot: {secure}"));
        let number = |n: &BootNumber| n.to_string();
        lines
            .push(format!("BootOrder: {}", self.boot_order.iter().map(number).collect::<Vec<_>>().join(",")));
        lines.push(format!("BootCurrent: {}", self.boot_current.as_ref().map_or("-".into(), number)));
        lines.extend(self.entries.iter().map(BootEntry::line));
        lines.extend(self.problem.iter().map(|why| format!("boot entries: {why}")));
        lines
    }
}

impl BootEntry {
    fn of(number: BootNumber, option: &LoadOption) -> Self {
        // A path that is longer than a record holds, or no path for people, is none that could be put back.
        let is_path = |path: &str| path.chars().count() <= TEXT && !path.chars().any(char::is_control);
        let loader = option.loader().filter(|(_, path)| is_path(path));
        let other = || {
            let what = if option.is_network() { "network" } else { "other" };
            format!("{what} ({})", option.short_text())
        };
        BootEntry {
            number,
            name: cut(&option.name),
            active: option.is_tried(),
            device: loader.is_none().then(other),
            partition: loader.as_ref().map(|(partition, _)| *partition),
            path: loader.map(|(_, path)| path),
            options: EntryOptions::of(&option.options),
        }
    }

    fn line(&self) -> String {
        let active = if self.active { "" } else { ", not active" };
        let options =
            self.options.as_ref().map_or(String::new(), |o| format!(", {} bytes of options", o.bytes));
        let what = match (&self.partition, &self.path, &self.device) {
            (Some(partition), Some(path), _) => {
                format!("partition {} {}, {}", partition.number, partition.guid, plain(path))
            }
            (_, _, device) => plain(device.as_deref().unwrap_or_default()),
        };
        format!("Boot{} {}: {what}{options}{active}", self.number, quoted(&self.name))
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT).collect()
}
