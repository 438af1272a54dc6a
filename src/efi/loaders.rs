//! The loaders on a disk: files of its EFI system partitions, read without mounting them.

use super::load_option::HardDrive;
use crate::guid::Guid;
use crate::io::ReadAt;
use crate::used::Volume;
use crate::used::fat::files::{Bounds, FatFiles, is_same_name};
use crate::used::gpt;

/// Type of an EFI system partition.
const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// Most of them on a disk that are looked at.
const MOST: usize = 8;
/// What is listed of one.
pub(super) const BOUNDS: Bounds = Bounds { files: 64, folders: 200, depth: 4 };

/// An EFI system partition and what was found on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Esp {
    /// Which partition it is, as its table says.
    pub partition: HardDrive,
    /// The disk is plugged in elsewhere than before: a path that names the controller leads nowhere.
    pub is_moved: bool,
    /// Paths of the loaders, as they are spelled there.
    pub files: Vec<String>,
    /// There are more of them.
    pub is_cut: bool,
    /// Why its files cannot be read.
    pub problem: Option<String>,
}

impl Esp {
    /// The file with this path as it is spelled there; FAT does not regard case.
    pub fn file(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| is_same_name(file, path)).map(String::as_str)
    }

    /// True where the file is there that firmware starts without any entry (UEFI 2.10, 3.5.1.1).
    pub fn has_fallback(&self) -> bool {
        self.file(FALLBACK).is_some()
    }
}

/// The file that this machine's firmware starts where it has no entry.
pub const FALLBACK: &str =
    if cfg!(target_arch = "aarch64") { "\\EFI\\BOOT\\BOOTAA64.EFI" } else { "\\EFI\\BOOT\\BOOTX64.EFI" };

/// The EFI system partitions of a disk with a GPT whose logical blocks have `sector` bytes. The files at the paths `asked`
/// are found also where the list is cut before them.
pub fn esps<'a>(disk: &dyn ReadAt, sector: u32, asked: impl Iterator<Item = &'a str> + Clone) -> Vec<Esp> {
    let Ok(size) = disk.size() else { return Vec::new() };
    let Some(last) = size.checked_div(sector.into()).and_then(|blocks| blocks.checked_sub(1)) else {
        return Vec::new();
    };
    let Ok((table, _)) = gpt::trusted(disk, sector, last) else { return Vec::new() };
    let is_esp = |entry: &&gpt::GptEntry| entry.kind == ESP && entry.blocks() > 0 && entry.last <= last;
    let look = |entry: &gpt::GptEntry| {
        let unit = u64::from(sector);
        let volume = Volume::new(disk, entry.first * unit, entry.blocks() * unit, sector);
        let partition = HardDrive {
            number: entry.number,
            start: entry.first,
            blocks: entry.blocks(),
            guid: entry.id.parse::<Guid>().ok()?,
        };
        Some(files_of(volume, partition, asked.clone()))
    };
    table.entries.iter().filter(is_esp).take(MOST).filter_map(look).collect()
}

fn files_of<'a>(volume: Volume<'_>, partition: HardDrive, asked: impl Iterator<Item = &'a str>) -> Esp {
    let mut esp = Esp { partition, is_moved: false, files: Vec::new(), is_cut: false, problem: None };
    let fat = match FatFiles::open(volume) {
        Ok(Some(fat)) => fat,
        Ok(None) => return Esp { problem: Some("it is not a FAT file system".into()), ..esp },
        Err(doubt) => return Esp { problem: Some(doubt.to_string()), ..esp },
    };
    let listed = fat.ending_in(".efi", "EFI", BOUNDS);
    (esp.files, esp.is_cut) = (listed.paths, listed.is_cut);
    for path in asked.chain([FALLBACK]) {
        let is_there = |path| matches!(fat.find(path), Ok(Some(file)) if !file.is_dir && file.size > 0);
        if esp.file(path).is_none() && is_there(path) {
            esp.files.push(path.to_owned());
        }
    }
    esp
}
