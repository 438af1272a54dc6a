//! Which disk each image goes to.

use super::set::Trusted;
use super::veto::{Because, objections};
use crate::failure::{Failure, Kind};
use crate::image::{Needed, SHRINK};
use crate::inventory::Disk;
use crate::plan::identify::{find, listing, say_which};
use crate::plan::memory::{Memory, known};
use crate::plan::{Plan, PlanRequest};
use crate::store::record::{ImageRecord, Record};
use crate::types::{DiskSelector, MapEntry};

/// One disk for each image, in their order, or a refusal. What the admin should know of the choice goes into `plan`.
pub fn assign<'a>(
    request: &PlanRequest,
    memory: &Memory<'a>,
    set: &Trusted<'_>,
    plan: &mut Plan,
) -> Result<Vec<&'a Disk>, Failure> {
    let (inventory, images) = (memory.inventory, &set.images);
    if inventory.disks.is_empty() {
        return Err(Failure::new(
            Kind::NoDisk,
            "this machine has no disk",
            "check cables, controller and BIOS settings.",
        ));
    }
    let mut targets: Vec<Option<&Disk>> = vec![None; images.len()];
    for entry in &request.map {
        let Some(n) = images.iter().position(|i| i.name == entry.image.as_str()) else {
            return Err(Failure::new(
                Kind::DiskList,
                format!("testbox.map: '{}' is not one of the images to restore", entry.image),
                "correct testbox.map.",
            ));
        };
        targets[n] = Some(mapped(entry, memory, set.record, &mut plan.findings)?);
    }
    for (image, target) in images.iter().zip(&mut targets).filter(|(_, target)| target.is_none()) {
        *target = own(image, memory, set.record)?;
    }
    let unassigned: Vec<&ImageRecord> =
        images.iter().zip(&targets).filter(|(_, target)| target.is_none()).map(|(image, _)| image).collect();
    match unassigned[..] {
        [] => {}
        [image] => {
            let taken: Vec<&Disk> = targets.iter().flatten().copied().collect();
            let disk = replacement(image, set, memory, &taken)?;
            let how = if image.identity.is_unique() { "a replacement" } else { "the only disk that fits" };
            let (file, from) = (image.file(), &image.identity);
            plan.notes.push(format!("{file} was taken from another disk ({from}); {how}: {disk}"));
            targets.iter_mut().filter(|target| target.is_none()).for_each(|target| *target = Some(disk));
        }
        [first, ..] => {
            let files: Vec<_> = unassigned.iter().map(|image| image.file()).collect();
            let (files, disks) = (files.join(" and "), listing(&inventory.disks));
            let what =
                format!("the disks of {files} are not here, or cannot be told apart; there are:{disks}");
            return Err(Failure::new(
                Kind::Ambiguous,
                what,
                say_which(&first.name, &inventory.disks, inventory),
            ));
        }
    }
    let targets: Vec<&Disk> = targets.into_iter().flatten().collect();
    for (n, (image, disk)) in images.iter().zip(&targets).enumerate() {
        if let Some(m) = targets[..n].iter().position(|d| d.name == disk.name) {
            return Err(Failure::new(
                Kind::Ambiguous,
                format!("{} and {} would both go to {disk}", images[m].file(), image.file()),
                "nothing was written. Say which goes where with testbox.map.",
            ));
        }
        needs(image, set).fits(disk).map_err(|why| unfit(&image.file(), disk, &why))?;
    }
    Ok(targets)
}

/// The disk that `testbox.map` names. A serial, WWN or location is the admin's last word, and the log tells what it
/// overrode. A kernel name is today's, read off a list of another boot: a disk that a record knows is not taken by it.
fn mapped<'a>(
    entry: &MapEntry,
    memory: &Memory<'a>,
    record: &Record,
    findings: &mut Vec<String>,
) -> Result<&'a Disk, Failure> {
    let disk = find(&entry.disk, memory, None, "testbox.map")?;
    let objections = objections(memory, record, entry.image.as_str(), disk, Because::Name);
    let DiskSelector::Name(name) = &entry.disk else {
        let told = |why| format!("testbox.map={entry} overrides what is recorded: {disk}: {why}");
        findings.extend(objections.into_iter().map(told));
        return Ok(disk);
    };
    let Some(why) = objections.into_iter().next() else { return Ok(disk) };
    Err(Failure::new(
        Kind::Ambiguous,
        format!("testbox.map: '{name}' is another disk at this boot: {disk}: {why}"),
        format!(
            "{} Name it so only if it is really meant.",
            say_which(entry.image.as_str(), &memory.inventory.disks, memory.inventory)
        ),
    ))
}

/// The disk that the image was taken from; `None` where it is not here. An error where it is here, and is known in
/// another role since, or where it cannot be told from others.
fn own<'a>(image: &ImageRecord, memory: &Memory<'a>, record: &Record) -> Result<Option<&'a Disk>, Failure> {
    let Some(entry) = known(record).find(|entry| entry.is_image(&image.name)) else { return Ok(None) };
    let by_place = || Some((memory.in_place(record, image)?, Because::Place));
    let found = memory.disk_of(&entry).map(|disk| (disk, Because::Identity)).or_else(by_place);
    let refuse = |disks: Vec<&Disk>, why: &str| {
        let what = format!("{} ({}): {why}:{}", image.file(), image.identity, listing(disks.iter().copied()));
        Err(Failure::new(Kind::Ambiguous, what, say_which(&image.name, disks, memory.inventory)))
    };
    if let Some((disk, because)) = found {
        return match objections(memory, record, &image.name, disk, because).into_iter().next() {
            Some(why) => refuse(vec![disk], &format!("this is its disk, but {why}")),
            None => Ok(Some(disk)),
        };
    }
    // Where the twins are known each in its own place, the one of this image can be gone: then it is replaced.
    let is_another = |disk: &&Disk| {
        let others = || known(record).filter(|e| !e.is_image(&image.name));
        others().any(|e| memory.sits(&e, disk) || memory.holds(record, &e, disk))
    };
    let twins: Vec<&Disk> = memory.matching_disks(&image.identity).filter(|disk| !is_another(disk)).collect();
    match twins.is_empty() {
        true => Ok(None),
        false => refuse(twins, "several disks could be its disk"),
    }
}

/// What an image of a set asks of its disk.
fn needs<'a>(image: &ImageRecord, set: &'a Trusted<'_>) -> Needs<'a> {
    Needs {
        size: image.disk_size,
        logical_block_size: image.logical_block_size,
        least: set.needed.get(&image.name),
    }
}

/// What an image asks of a disk.
pub struct Needs<'a> {
    /// Bytes of the imaged disk.
    pub size: u64,
    /// Bytes of its logical blocks.
    pub logical_block_size: u32,
    /// What is used of it, where that is known.
    pub least: Option<&'a Needed>,
}

impl Needs<'_> {
    /// Size, block size and write protection; what else may hold a disk shows when it is opened.
    pub fn fits(&self, disk: &Disk) -> Result<(), String> {
        let all = Needed { bytes: self.size, why: "as many as the imaged disk has".into() };
        let least = self.least.unwrap_or(&all);
        if disk.size < self.size.min(least.bytes) {
            let hidden = match disk.health.hidden {
                0 => String::new(),
                bytes => format!(
                    "; it hides {bytes} more behind its end, which 'hdparm -N' in a rescue shows and gives back"
                ),
            };
            return Err(format!("{}{hidden}. To make it fit: {SHRINK}", least.missing_on(disk.size)));
        }
        let (own, imaged) = (disk.logical_block_size, self.logical_block_size);
        if own != imaged {
            return Err(format!(
                "its logical blocks have {own} bytes, those of the imaged disk {imaged}: partition tables and file systems \
                 count in them, and nothing on it could be read. Use a disk with logical blocks of {imaged} bytes (512e \
                 and 512n are the same here), or set this one to them where it can be set (nvme format, sg_format)"
            ));
        }
        if disk.read_only { Err("it is read-only".into()) } else { Ok(()) }
    }
}

/// The refusal of a disk that an image does not fit.
pub fn unfit(file: &str, disk: &Disk, why: &str) -> Failure {
    let what = format!("{file} does not fit {disk}: {why}");
    Failure::new(Kind::Unfit, what, "nothing was written. Use another disk, or testbox.map.")
}

/// The one disk that can have replaced the disk of `image`.
fn replacement<'a>(
    image: &ImageRecord,
    set: &Trusted<'_>,
    memory: &Memory<'a>,
    taken: &[&Disk],
) -> Result<&'a Disk, Failure> {
    let record = set.record;
    let mut candidates = Vec::new();
    let mut reasons = Vec::new();
    for disk in &memory.inventory.disks {
        let objection =
            || objections(memory, record, &image.name, disk, Because::Replacement).into_iter().next();
        let why_not = if taken.iter().any(|t| t.name == disk.name) {
            Some("another image goes there".to_owned())
        } else if disk.excluded.is_some() {
            Some("it is a USB or removable disk".to_owned())
        } else if let Some(why) = objection() {
            Some(why)
        } else {
            needs(image, set).fits(disk).err()
        };
        match why_not {
            None => candidates.push(disk),
            Some(why) => reasons.push(format!("\n    {disk}: no, {why}")),
        }
    }
    match candidates[..] {
        [disk] if memory.is_at(&image.location, disk) => return Ok(disk),
        [_] => reasons.push(format!("\n    (that disk was at {}, not there)", image.location)),
        _ => {}
    }
    let maybe = match candidates.is_empty() {
        true => String::new(),
        false => format!(" candidates:{}", listing(candidates.iter().copied())),
    };
    let advice = match candidates.is_empty() {
        true => say_which(&image.name, &memory.inventory.disks, memory.inventory),
        false => say_which(&image.name, candidates, memory.inventory),
    };
    Err(Failure::new(
        Kind::Ambiguous,
        format!(
            "the disk of {} ({}) is not here, and what replaced it cannot be told;{maybe}{}",
            image.file(),
            image.identity,
            reasons.concat()
        ),
        advice,
    ))
}
