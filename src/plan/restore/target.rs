//! Which disk each image goes to.

use crate::failure::{Failure, Kind};
use crate::inventory::{Disk, Inventory};
use crate::plan::Request;
use crate::plan::identify::{Known, bearers, find, known, listing};
use crate::store::record::{ImageRecord, Record};

/// One disk for each image, in their order, or a refusal.
pub fn assign<'a>(
    request: &Request,
    inventory: &'a Inventory,
    record: &Record,
    images: &[ImageRecord],
    notes: &mut Vec<String>,
) -> Result<Vec<&'a Disk>, Failure> {
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
                format!("testbox.map: '{}' is none of the images to restore", entry.image),
                "correct testbox.map.",
            ));
        };
        // A kernel name on the right of a map word is today's: the admin has just read it off a refusal's list.
        let disk = find(&entry.disk, inventory, None, "testbox.map")?;
        targets[n] = Some(disk);
    }
    for (image, target) in images.iter().zip(&mut targets) {
        if target.is_some() {
            continue;
        }
        match bearers(&image.identity, inventory)[..] {
            [disk] => *target = Some(disk),
            [] => {}
            ref twins => {
                return Err(Failure::new(
                    Kind::Ambiguous,
                    format!(
                        "several disks could be that of {} ({}):{}",
                        image.file(),
                        image.identity,
                        listing(twins.iter().copied())
                    ),
                    format!("nothing was written. Say which: testbox.map={}:<kernel name>.", image.name),
                ));
            }
        }
    }
    let taken: Vec<&Disk> = targets.iter().flatten().copied().collect();
    let homeless: Vec<usize> = (0..images.len()).filter(|n| targets[*n].is_none()).collect();
    if let [n] = homeless[..] {
        let disk = replacement(&images[n], record, inventory, &taken)?;
        let how = if images[n].identity.is_unique() { "a replacement" } else { "the only disk that fits" };
        notes.push(format!(
            "{} was taken from another disk ({}); {how}: {disk}",
            images[n].file(),
            images[n].identity
        ));
        targets[n] = Some(disk);
    } else if !homeless.is_empty() {
        let files: Vec<_> = homeless.iter().map(|n| images[*n].file()).collect();
        return Err(Failure::new(
            Kind::Ambiguous,
            format!(
                "the disks of {} are not here; there are:{}",
                files.join(" and "),
                listing(&inventory.disks)
            ),
            format!(
                "nothing was written. Say which goes where: testbox.map={}:serial=<serial>,...",
                images[homeless[0]].name
            ),
        ));
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
        fits(image, disk).map_err(|why| {
            let what = format!("{} does not fit {disk}: {why}", image.file());
            Failure::new(Kind::Unfit, what, "nothing was written. Use another disk, or testbox.map.")
        })?;
    }
    Ok(targets)
}

/// Size, block size and write protection; what else may hold a disk shows when it is opened.
fn fits(image: &ImageRecord, disk: &Disk) -> Result<(), String> {
    if disk.size < image.disk_size {
        let hidden = match disk.health.hidden {
            0 => String::new(),
            bytes => format!(
                "; it hides {bytes} more behind its end, which 'hdparm -N' in a rescue shows and gives back"
            ),
        };
        return Err(format!("it has {} bytes, the image needs {}{hidden}", disk.size, image.disk_size));
    }
    if disk.logical_block_size != image.logical_block_size {
        return Err(format!(
            "its logical blocks have {} bytes, those of the imaged disk {}",
            disk.logical_block_size, image.logical_block_size
        ));
    }
    if disk.read_only { Err("it is read-only".into()) } else { Ok(()) }
}

/// The one disk that can have replaced the disk of `image`.
fn replacement<'a>(
    image: &ImageRecord,
    record: &Record,
    inventory: &'a Inventory,
    taken: &[&Disk],
) -> Result<&'a Disk, Failure> {
    let mut candidates = Vec::new();
    let mut reasons = Vec::new();
    for disk in &inventory.disks {
        let role = known(record).find(|k| k.name != image.name && k.identity.is_same_disk(&disk.identity));
        // Without a serial on either side nobody can tell whether it is the same disk: take it that it is.
        let nameless = |k: &Known| {
            k.name != image.name
                && !k.identity.is_unique()
                && !disk.identity.is_unique()
                && k.size == disk.size
        };
        let was_here = known(record).find(|k| !k.imaged && k.location == disk.location);
        let why_not = if taken.iter().any(|t| t.name == disk.name) {
            Some("another image goes there".to_owned())
        } else if let Some(role) = role {
            Some(format!("set {} knows it as '{}'", record.generation, role.name))
        } else if let Some(role) = known(record).find(nameless) {
            Some(format!("it has no serial and could be '{}' of set {}", role.name, record.generation))
        } else if let Some(role) = was_here {
            Some(format!("it is where '{}' was, which is not part of set {}", role.name, record.generation))
        } else if disk.excluded.is_some() {
            Some("it is a USB or removable disk".to_owned())
        } else {
            fits(image, disk).err()
        };
        match why_not {
            None => candidates.push(disk),
            Some(why) => reasons.push(format!("\n    {disk}: no, {why}")),
        }
    }
    match candidates[..] {
        [disk] if disk.location == image.location => return Ok(disk),
        [_] => reasons.push(format!("\n    (that disk was at {}, not there)", image.location)),
        _ => {}
    }
    let maybe =
        if candidates.is_empty() { String::new() } else { format!(" candidates:{}", listing(candidates)) };
    Err(Failure::new(
        Kind::Ambiguous,
        format!(
            "the disk of {} ({}) is not here, and what replaced it cannot be told;{maybe}{}",
            image.file(),
            image.identity,
            reasons.concat()
        ),
        format!("nothing was written. Say which disk: testbox.map={}:serial=<serial>.", image.name),
    ))
}
