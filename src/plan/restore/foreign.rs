//! Images without any record, made by the original system or by hand: plain gzip files.

use crate::failure::{Failure, Kind};
use crate::inventory::{Disk, Inventory};
use crate::job::Action;
use crate::plan::identify::{find, listing};
use crate::plan::{Plan, Request, SeenImage, ShareState, Source, Step};
use crate::types::DiskSelector;
use std::collections::BTreeSet;

/// Images without any record: made by the original system or by hand. They name no disk, so they are taken by
/// themselves only where nothing can be mistaken.
pub fn plan(
    request: &Request,
    inventory: &Inventory,
    share: &ShareState,
    plan: &mut Plan,
) -> Result<(), Failure> {
    let by_name = |selectors: &[DiskSelector], image: &SeenImage| {
        selectors.is_empty()
            || selectors.iter().any(|s| matches!(s, DiskSelector::Name(n) if n.as_str() == image.name))
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
    plan.notes
        .push("there is no backup.json: the images are taken as plain gzip files, proved whole first".into());
    let is_mapped = |i: &SeenImage| request.map.iter().any(|m| m.image.as_str() == i.name);
    let source = |i: &SeenImage| Source {
        path: i.file.clone(),
        name: i.name.clone(),
        record: None,
        is_mapped: is_mapped(i),
    };
    plan.steps.extend(images.iter().map(|i| Step::CheckImage(source(i))));
    if request.action == Action::Verify {
        return Ok(());
    }
    let mut taken = BTreeSet::new();
    for image in &images {
        let disk = match request.map.iter().find(|m| m.image.as_str() == image.name) {
            Some(entry) => find(&entry.disk, inventory, None, "testbox.map")?,
            None => only_candidate(image, images.len(), inventory, share)?,
        };
        if !taken.insert(&disk.name) || disk.read_only {
            return Err(Failure::new(
                Kind::Ambiguous,
                format!("{} cannot go to {disk}: it is read-only, or another image goes there", image.file),
                "nothing was written. Say which goes where with testbox.map.",
            ));
        }
        plan.steps.push(Step::RestoreDisk { source: source(image), disk: disk.clone() });
    }
    Ok(())
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
        [disk] if images == 1 => Ok(disk),
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
            format!("nothing was written. Say which: testbox.map={}:serial=<serial>.", image.name),
        )),
    }
}
