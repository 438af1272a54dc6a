//! Images without any record: plain gzip files, made by the original system or by hand, and images of testbox whose
//! record is lost. The latter say in their own header whose they are.

use super::target::{Needs, unfit};
use crate::failure::{Failure, Kind};
use crate::image::DiskAbout;
use crate::inventory::{Disk, Inventory};
use crate::job::Action;
use crate::plan::identify::{find, listing, say_which};
use crate::plan::memory::Memory;
use crate::plan::{Plan, PlanRequest, PlanStep, SetSource};
use crate::store::{SeenImage, ShareState};
use crate::types::{DiskSelector, MapEntry};
use std::collections::BTreeSet;

/// Images without any record: made by the original system or by hand. They name no disk, so they are taken by
/// themselves only where nothing can be mistaken.
pub fn plan(
    request: &PlanRequest,
    inventory: &Inventory,
    share: &ShareState,
    plan: &mut Plan,
) -> Result<(), Failure> {
    let by_name = |selectors: &[DiskSelector], image: &SeenImage| {
        let identity = image.about.as_ref().map(|about| about.identity.clone()).unwrap_or_default();
        selectors.is_empty() || selectors.iter().any(|s| s.names(&image.name, &identity, ""))
    };
    // A list by serial or WWN cannot choose among images without identity; it narrows the disks below.
    let names_only = |l: &Vec<DiskSelector>| l.iter().any(|s| matches!(s, DiskSelector::Name(_)));
    let list = share.disk_list.as_ref().filter(|l| names_only(l)).map_or(&[][..], |l| l);
    let images: Vec<&SeenImage> =
        share.images.iter().filter(|i| by_name(list, i) && by_name(&request.disks, i)).collect();
    if images.is_empty() {
        return Err(Failure::new(
            Kind::NoImage,
            "there is no image of this machine",
            "make one first: backup.",
        ));
    }
    plan.notes.push("there is no backup.json: only the images themselves can say whose they are".into());
    let is_mapped = |i: &SeenImage| request.map.iter().any(|m| m.image.as_str() == i.name);
    let source = |i: &SeenImage| SetSource {
        path: i.file.clone(),
        name: i.name.clone(),
        record: None,
        is_mapped: is_mapped(i),
    };
    plan.steps.extend(images.iter().map(|i| PlanStep::CheckImage(source(i))));
    if request.action == Action::Verify {
        return Ok(());
    }
    let memory = Memory::new(inventory, share);
    let mut taken = BTreeSet::new();
    for image in &images {
        let disk = match request.map.iter().find(|m| m.image.as_str() == image.name) {
            Some(entry) => mapped(image, entry, &memory, &mut plan.findings)?,
            None => match image.about.as_ref().filter(|about| about.identity.is_unique()) {
                Some(about) => own(image, about, &images, &memory)?,
                None => only_candidate(image, images.len(), inventory, share)?,
            },
        };
        if !taken.insert(&disk.name) || disk.read_only {
            return Err(Failure::new(
                Kind::Ambiguous,
                format!("{} cannot go to {disk}: it is read-only, or another image goes there", image.file),
                "nothing was written. Say which goes where with testbox.map.",
            ));
        }
        if let Some(about) = &image.about {
            let (size, least) = (about.size, image.needed.as_ref());
            let needs = Needs { size, logical_block_size: about.logical_block_size, least };
            needs.fits(disk).map_err(|why| unfit(&image.file, disk, &why))?;
        }
        plan.steps.push(PlanStep::RestoreDisk { source: source(image), disk: disk.clone(), grown: None });
    }
    Ok(())
}

/// The disk that `testbox.map` names. Where the image says that it is another's, only a word that means the same disk
/// at every boot is believed.
fn mapped<'a>(
    image: &SeenImage,
    entry: &MapEntry,
    memory: &Memory<'a>,
    findings: &mut Vec<String>,
) -> Result<&'a Disk, Failure> {
    let disk = find(&entry.disk, memory, None, "testbox.map")?;
    let of = image.about.as_ref().map(|about| &about.identity).filter(|identity| identity.is_unique());
    let Some(of) = of.filter(|identity| !identity.is_same_disk(&disk.identity)) else { return Ok(disk) };
    if matches!(entry.disk, DiskSelector::Name(_)) {
        let what = format!("testbox.map={entry}: {} is the image of {of}, not of {disk}", image.file);
        return Err(Failure::new(Kind::Ambiguous, what, say_which(&image.name, [disk], memory.inventory)));
    }
    findings.push(format!(
        "testbox.map={entry} overrides the header of {}, the image of {of}: {disk}",
        image.file
    ));
    Ok(disk)
}

/// The disk that the image itself names.
fn own<'a>(
    image: &SeenImage,
    about: &DiskAbout,
    images: &[&SeenImage],
    memory: &Memory<'a>,
) -> Result<&'a Disk, Failure> {
    let of = &about.identity;
    let is_also = |i: &&&SeenImage| i.about.as_ref().is_some_and(|a| a.identity.is_same_disk(of));
    let found: Vec<&Disk> = memory.matching_disks(of).collect();
    let images_of_it = images.iter().filter(is_also).count();
    if let ([disk], 1) = (&found[..], images_of_it) {
        return Ok(disk);
    }
    let (why, disks) = match found.is_empty() {
        true => ("which is not here; there are", memory.inventory.disks.iter().collect()),
        false => ("and so could be other images or disks", found),
    };
    let what = format!("{} is the image of {of}, {why}:{}", image.file, listing(disks.iter().copied()));
    Err(Failure::new(Kind::Ambiguous, what, say_which(&image.name, disks, memory.inventory)))
}

fn only_candidate<'a>(
    image: &SeenImage,
    images: usize,
    inventory: &'a Inventory,
    share: &ShareState,
) -> Result<&'a Disk, Failure> {
    let list = share.disk_list.as_deref().unwrap_or_default();
    let listed = |d: &Disk| {
        let identities: Vec<_> = list.iter().filter(|s| !matches!(s, DiskSelector::Name(_))).collect();
        identities.is_empty() || identities.iter().any(|s| s.matches(d))
    };
    let candidates: Vec<&Disk> =
        inventory.disks.iter().filter(|d| d.excluded.is_none() && listed(d)).collect();
    match candidates[..] {
        // The step sees to it that the sizes are the same.
        [disk] if images == 1 && image.about.as_ref().is_none_or(|about| about.size == disk.size) => Ok(disk),
        [] => Err(Failure::new(
            Kind::NoDisk,
            "this machine has no disk to restore to",
            "check cables and disk-devices.lst.",
        )),
        _ => Err(Failure::new(
            Kind::Ambiguous,
            format!(
                "{} does not say which disk it belongs to, and the names of today prove nothing; there are:{}",
                image.file,
                listing(candidates.iter().copied())
            ),
            say_which(&image.name, candidates, inventory),
        )),
    }
}
