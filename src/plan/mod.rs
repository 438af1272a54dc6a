//! (job, inventory, share) -> a plan, or a refusal that says what to do. Pure: nothing is read or written here.
//!
//! A plan is data. Its `Display` is the dry run that the console and the log show before the first step.

mod backup;
mod grow;
mod health;
mod identify;
mod memory;
mod restore;

pub use grow::{Grown, plan_growth};
pub(crate) use restore::refuse_degraded;

use crate::efi::{FirmwareKind, FirmwareRecord};
use crate::failure::Failure;
use crate::inventory::{Disk, Inventory};
use crate::job::Action;
use crate::job::{BadSectors, DegradedSet, FailingDisk};
use crate::store::ShareState;
use crate::store::record::{BadRange, ImageRecord, OtherDisk};
use crate::types::{DiskSelector, MapEntry, SetHash};
use crate::used::Used;
use std::fmt;
use std::net::Ipv4Addr;

/// What was asked for, as far as the plan is concerned.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// What to do.
    pub action: Action,
    /// `testbox.disks=`: only these; empty for all.
    pub disks: Vec<DiskSelector>,
    /// `testbox.map=`: which image goes to which disk, where the admin decides it.
    pub map: Vec<MapEntry>,
    /// `testbox.used=`: whether a backup leaves out what no file system uses.
    pub used: Used,
    /// `testbox.bad-sectors=`: what a backup does with sectors that cannot be read.
    pub bad_sectors: BadSectors,
    /// `testbox.degraded=`: what a degraded set may do.
    pub degraded: DegradedSet,
    /// `testbox.set=`: the one set that counts.
    pub set: Option<SetHash>,
    /// Only a signed set of the machine with this address is restored: what the initramfs demands.
    pub signed_for: Option<Ipv4Addr>,
    /// `testbox.failing-disk=`: whether a restore writes onto a disk that says that it fails.
    pub failing_disk: FailingDisk,
}

/// What will be done, in order. Disarming and the reboot follow every plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The action that it performs.
    pub action: Action,
    /// What the admin should know beforehand: what is skipped, and why.
    pub notes: Vec<String>,
    /// What belongs to the result too, and is a warning of its own in the log: that an older set is used, that a disk
    /// fails.
    pub findings: Vec<String>,
    /// The steps.
    pub steps: Vec<PlanStep>,
    /// What the set that is restored or verified says of boot entries: a restore puts them back behind the last step.
    pub firmware: Option<FirmwareRecord>,
}

/// One step of a plan.
#[derive(Clone, Debug)]
pub enum PlanStep {
    /// Rewrite `testbox-info.txt` and `testbox-info.zip`.
    CollectInfo,
    /// Image a disk into `<name>.raw.gz.part`, and verify what the share then holds.
    BackupDisk {
        /// The disk to read.
        disk: Disk,
        /// Its name in the set.
        name: String,
        /// Whether what no file system uses is left out.
        used: Used,
        /// What happens where a sector cannot be read.
        on_bad: OnBad,
    },
    /// Make the images of this plan, and those carried over, the machine's set.
    Publish(Publish),
    /// Prove an image whole without touching any disk.
    CheckImage(SetSource),
    /// Write an image onto a disk.
    RestoreDisk {
        /// What to write.
        source: SetSource,
        /// Where to.
        disk: Disk,
        /// What grows on it.
        grown: Option<Grown>,
    },
    /// Compare a disk with its image.
    CompareDisk {
        /// The image.
        source: SetSource,
        /// The disk.
        disk: Disk,
    },
}

/// What a backup does at a sector that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBad {
    /// It fails.
    Fail,
    /// It fails, because a complete set would be replaced by a degraded one, although degraded ones are allowed.
    KeepComplete,
    /// Zeros stand in for it, and the image is degraded.
    Zeros,
}

/// What the new record will say beside the new images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Counter of the new set.
    pub generation: u64,
    /// Images of the set before that stay as they are.
    pub carried: Vec<ImageRecord>,
    /// Disks seen and not imaged.
    pub others: Vec<OtherDisk>,
}

/// An image that a step reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSource {
    /// Its path in the machine's folder.
    pub path: String,
    /// The disk name in it.
    pub name: String,
    /// What its record says; absent for a foreign gzip.
    pub record: Option<ImageRecord>,
    /// `testbox.map` names the disk that it goes to.
    pub is_mapped: bool,
}

impl SetSource {
    /// What a restore says of a disk that has another size than the imaged one.
    fn resized(&self, disk: &Disk) -> String {
        let Some(image) = self.record.as_ref().filter(|image| image.disk_size != disk.size) else {
            return String::new();
        };
        let how = if disk.size > image.disk_size { "larger" } else { "smaller" };
        let bytes = disk.size.abs_diff(image.disk_size);
        let table = match image.content.gpt {
            Some(_) => "; its GPT, where it is right, moves to the end of the disk",
            None => "",
        };
        format!(", which is {bytes} bytes {how} than the imaged disk{table}")
    }

    /// The ranges that the image does not hold.
    pub fn bad_ranges(&self) -> &[BadRange] {
        self.record.as_ref().map_or(&[], |r| &r.bad_ranges)
    }
}

/// Makes the plan, or says why there is none.
///
/// # Errors
/// Why nothing may be done, and what the admin can say about it.
pub fn plan(request: &PlanRequest, inventory: &Inventory, share: &ShareState) -> Result<Plan, Failure> {
    let (inventory, paths) = &identify::sorted_out(inventory);
    let mut plan = match request.action {
        Action::Backup | Action::BackupAgain => backup::plan(request, inventory, share)?,
        Action::Restore | Action::Verify => {
            let mut plan = restore::plan(request, inventory, share)?;
            if !share.has_info {
                plan.steps.insert(0, PlanStep::CollectInfo);
            }
            plan
        }
        Action::RefreshInfo | Action::Rescue => {
            let steps =
                if request.action == Action::RefreshInfo { vec![PlanStep::CollectInfo] } else { Vec::new() };
            Plan { action: request.action, notes: Vec::new(), findings: Vec::new(), steps, firmware: None }
        }
    };
    plan.notes.extend(paths.iter().cloned());
    name_members(&mut plan);
    name_emmc(&mut plan);
    health::judge(request, &mut plan)?;
    Ok(plan)
}

/// A disk of an array is one of several that belong together: who images or overwrites it alone should know.
fn name_members(plan: &mut Plan) {
    for step in &plan.steps {
        let (PlanStep::BackupDisk { disk, .. } | PlanStep::RestoreDisk { disk, .. }) = step else { continue };
        if disk.raid.is_empty() {
            continue;
        }
        let arrays = format!("{} is a member of an array: {}", disk.name, disk.raid.join(", "));
        if matches!(step, PlanStep::RestoreDisk { .. }) {
            let what = "it is overwritten, and the array takes damage unless all of its members are restored from one set";
            plan.findings.push(format!("{arrays}; {what}"));
        } else {
            plan.notes.push(format!("{arrays}; it is imaged as a disk of its own"));
        }
    }
}

/// An eMMC has areas beside its disk, some of which can be written only once: they stay what they are.
fn name_emmc(plan: &mut Plan) {
    let disks = plan.steps.iter().filter_map(|step| match step {
        PlanStep::BackupDisk { disk, .. } | PlanStep::RestoreDisk { disk, .. } => Some(disk),
        _ => None,
    });
    let notes = disks.filter(|disk| disk.is_emmc()).map(|disk| {
        format!(
            "{} is an eMMC: its boot partitions, RPMB and general purpose areas are left alone",
            disk.name
        )
    });
    plan.notes.extend(notes.collect::<Vec<_>>());
}

impl fmt::Display for PlanStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanStep::CollectInfo => f.write_str("collect testbox-info.txt and testbox-info.zip"),
            PlanStep::BackupDisk { disk, name, used, on_bad } => {
                let what = match used {
                    Used::Auto => "what is used of",
                    Used::NoSwap => "what is used, without swap and page files, of",
                    Used::Off => "all of",
                };
                write!(f, "image {what} {} ({}) as {name}.raw.gz and verify it", disk.name, disk.identity)?;
                match on_bad {
                    OnBad::Zeros => f.write_str("; bad sectors become zeros, and the set DEGRADED"),
                    OnBad::Fail | OnBad::KeepComplete => Ok(()),
                }
            }
            PlanStep::Publish(publish) => {
                write!(f, "publish set {}", publish.generation)?;
                for image in &publish.carried {
                    write!(f, ", keeping {}", image.file())?;
                }
                Ok(())
            }
            PlanStep::CheckImage(source) => write!(f, "prove {} whole", source.path),
            PlanStep::RestoreDisk { source, disk, grown } => {
                write!(f, "OVERWRITE {} ({}) with {}", disk.name, disk.identity, source.path)?;
                f.write_str(&source.resized(disk))?;
                grown.as_ref().map_or(Ok(()), |grown| write!(f, "; then {grown}"))
            }
            PlanStep::CompareDisk { source, disk } => {
                write!(f, "compare {} ({}) with {}", disk.name, disk.identity, source.path)
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan for {}:", self.action)?;
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        for (n, step) in self.steps.iter().enumerate() {
            match step {
                // Of a gzip file that is all.
                PlanStep::CheckImage(source) if self.action == Action::Restore => {
                    writeln!(f, "  {}. prove of {} what its disk lacks", n + 1, source.path)?;
                }
                _ => writeln!(f, "  {}. {step}", n + 1)?,
            }
        }
        let is_uefi = self.firmware.as_ref().is_some_and(|firmware| firmware.kind == FirmwareKind::Uefi);
        if is_uefi && self.action == Action::Restore {
            writeln!(f, "  then put the boot entries back")?;
        }
        write!(f, "  then disarm and reboot")
    }
}

#[cfg(test)]
pub(crate) mod testkit {
    //! Short ways to write disks, records and shares down.
    use super::*;
    use crate::image::DiskAbout;
    use crate::inventory::{Exclusion, Identity};
    use crate::store::record::{Machine, Record, SetState};
    use crate::store::{SeenImage, SeenKind};
    use blake3::Hash;
    use jiff::Timestamp;

    /// `sda S1 4G@1`: name, serial (`-` for none), size in GiB, location.
    pub fn disk(text: &str) -> Disk {
        let parts: Vec<_> = text.split([' ', '@']).collect();
        let (name, usb) = parts[0].strip_prefix("usb:").map_or((parts[0], false), |n| (n, true));
        Disk {
            name: name.into(),
            path: format!("/dev/{name}").into(),
            size: parts[2].trim_end_matches('G').parse::<u64>().unwrap() << 30,
            logical_block_size: 512,
            physical_block_size: 512,
            identity: Identity { serial: (parts[1] != "-").then(|| parts[1].into()), ..Identity::default() },
            location: parts[3].into(),
            excluded: usb.then_some(Exclusion::Usb),
            ..Disk::default()
        }
    }

    pub fn inventory(disks: &[&str]) -> Inventory {
        Inventory { disks: disks.iter().map(|d| disk(d)).collect() }
    }

    pub fn hash_of(name: &str, generation: u64) -> Hash {
        blake3::hash(format!("{name} {generation}").as_bytes())
    }

    pub fn image(text: &str, generation: u64) -> ImageRecord {
        let disk = disk(text);
        ImageRecord {
            root_hash: hash_of(&disk.name, generation),
            name: disk.name,
            identity: disk.identity,
            location: disk.location,
            disk_size: disk.size,
            logical_block_size: 512,
            physical_block_size: 512,
            image_size: 1000,
            state: SetState::Complete,
            bad_ranges: Vec::new(),
            unreadable_bytes: 0,
            hidden_bytes: 0,
            partitions: Vec::new(),
            content: disk.content,
            twin: false,
            carried: false,
        }
    }

    pub fn record(generation: u64, images: &[&str], others: &[&str]) -> Record {
        let mut record = Record::new(generation, None, Machine::default(), Timestamp::UNIX_EPOCH);
        record.images = images.iter().map(|i| image(i, generation)).collect();
        record.others = others.iter().map(|o| OtherDisk::new(&disk(o), "not listed")).collect();
        record
    }

    /// The image files that a record names, all whole.
    pub fn files_of(record: &Record) -> Vec<SeenImage> {
        let seen = |i: &ImageRecord| SeenImage {
            file: i.file(),
            name: i.name.clone(),
            kind: SeenKind::Own(i.root_hash),
            about: Some(DiskAbout {
                name: i.name.clone(),
                identity: i.identity.clone(),
                size: i.disk_size,
                logical_block_size: i.logical_block_size,
                physical_block_size: i.physical_block_size,
            }),
            needed: None,
        };
        record.images.iter().map(seen).collect()
    }

    pub fn share(record: Record) -> ShareState {
        ShareState { images: files_of(&record), record: Some(record), ..ShareState::default() }
    }

    pub fn foreign_gzip(file: &str) -> SeenImage {
        let name = file.split('.').next().unwrap().into();
        let kind = SeenKind::Foreign("no footer".into());
        SeenImage { file: file.into(), name, kind, about: None, needed: None }
    }

    /// `sda serial=X` style words.
    pub fn selectors(text: &str) -> Vec<DiskSelector> {
        text.split_whitespace().map(|word| word.parse().unwrap()).collect()
    }

    pub fn request(action: Action) -> PlanRequest {
        PlanRequest {
            action,
            disks: Vec::new(),
            map: Vec::new(),
            used: Used::Auto,
            bad_sectors: BadSectors::Fail,
            degraded: DegradedSet::Refuse,
            set: None,
            signed_for: None,
            failing_disk: FailingDisk::Refuse,
        }
    }

    /// The steps in short: `image sda=sdb`, `restore sda.raw.gz>sdb`.
    pub fn short(plan: &Plan) -> Vec<String> {
        plan.steps
            .iter()
            .map(|step| match step {
                PlanStep::CollectInfo => "info".into(),
                PlanStep::BackupDisk { disk, name, .. } => format!("image {}={name}", disk.name),
                PlanStep::Publish(p) => format!(
                    "publish {} carried [{}] others [{}]",
                    p.generation,
                    p.carried.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(" "),
                    p.others.iter().map(|o| o.name.as_str()).collect::<Vec<_>>().join(" ")
                ),
                PlanStep::CheckImage(s) => format!("check {}", s.path),
                PlanStep::RestoreDisk { source, disk, .. } => {
                    format!("restore {}>{}", source.path, disk.name)
                }
                PlanStep::CompareDisk { source, disk } => format!("compare {}~{}", source.path, disk.name),
            })
            .collect()
    }
}
