//! What a disk's own firmware says of its state: that it fails, is locked, or hides a part of itself.
//!
//! Pure: what the disk answers comes through [`DiskFirmware`], which is the kernel's ioctls or recorded replies. Only commands that read are ever asked for. What a disk does not answer, or answers with
//! rubbish, is not known, and not known is taken as good: most disks of emulators and RAID controllers say nothing.

mod ata;
mod nvme;
#[cfg(test)]
mod tests;

use super::{Disk, Exclusion, attr};
use crate::block::passthrough::DiskFirmware;
use std::path::Path;
use std::{fmt, io};

/// What a disk says of its own state; [`Health::default`] where nothing speaks against it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// It fails, or soon will: its own reason.
    pub failing: Option<String>,
    /// ATA security: it reads and writes nothing until its password is given.
    pub locked: bool,
    /// ATA security: it takes no security command until the next power cycle, which firmware of PCs sees to. Testbox
    /// needs none.
    pub frozen: bool,
    /// Too hot or too cold (NVMe), which passes.
    pub temperature: bool,
    /// Bytes at its end that it does not show: a host protected area, or a lowered maximum address.
    pub hidden: u64,
}

/// What a disk's firmware is asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// ATA commands (ACS-3), carried by SCSI ones (SAT-3).
    Ata,
    /// NVM Express admin commands.
    Nvme,
}

impl Language {
    /// The language of a disk below `sysfs`; `None` where it is better asked nothing.
    ///
    /// ATA disks are those with the vendor `ATA`, which SAT-3 section 8.2.2 wants and RAID volumes do not have. USB
    /// disks are left alone: some of their bridges hang over a command that they do not know.
    pub fn of(sysfs: &Path, disk: &Disk) -> Option<Language> {
        if disk.name.starts_with("nvme") {
            return Some(Language::Nvme);
        }
        let vendor = || attr::text(&sysfs.join("block").join(&disk.name).join("device/vendor"));
        let is_ata = disk.name.starts_with("sd") && disk.excluded != Some(Exclusion::Usb);
        (is_ata && vendor().as_deref() == Some("ATA")).then_some(Language::Ata)
    }
}

impl Health {
    /// Asks a disk of `size` bytes.
    ///
    /// # Errors
    /// Where it does not answer at all. A single question that it does not know is no error.
    pub fn ask(firmware: &dyn DiskFirmware, language: Language, size: u64) -> io::Result<Health> {
        match language {
            Language::Ata => ata::ask(firmware, size),
            Language::Nvme => nvme::ask(firmware),
        }
    }
}

/// What there is to say, for the line of the disk: `FAILING (...), LOCKED`; nothing where all is well.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failing = self.failing.as_ref().map(|why| format!("FAILING ({why})"));
        let flag = |set: bool, word: &str| set.then(|| word.to_owned());
        let all = [
            failing,
            flag(self.locked, "LOCKED by its ATA password"),
            flag(self.frozen, "ATA security frozen"),
            flag(self.temperature, "too hot or too cold"),
            (self.hidden > 0).then(|| format!("{} more bytes hidden", self.hidden)),
        ];
        f.write_str(&all.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}
