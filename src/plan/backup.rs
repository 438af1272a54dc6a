//! The plan of `backup` and `backup-again`: which disks, under which names, beside which images kept.

use super::identify::{find, listing, selector, twins};
use super::memory::{Memory, known};
use super::{OnBad, Plan, PlanRequest, PlanStep, Publish};
use crate::failure::{Failure, Kind};
use crate::inventory::{Disk, Exclusion, Inventory};
use crate::job::Action;
use crate::job::{BadSectors, DegradedSet};
use crate::store::layout::{DISK_LIST, GENERATION_MAX, generation};
use crate::store::record::{ImageRecord, OtherDisk, Record, SetState};
use crate::store::{HistorySet, ShareState};
use crate::types::DiskSelector;
use std::collections::BTreeSet;

pub(super) fn plan(
    request: &PlanRequest,
    inventory: &Inventory,
    share: &ShareState,
) -> Result<Plan, Failure> {
    let record = share.record.as_ref();
    let memory = Memory::new(inventory, share);
    let (chosen, mut others) = select(request, &memory, share)?;
    let mut findings = twins(inventory);
    findings.extend(names_by_chance(request, inventory, share, &others));
    let named = assign_names(request, &memory, record, &chosen)?;
    if request.action == Action::Backup {
        refuse_existing(&named, share)?;
    }
    let taken: BTreeSet<&str> = named.iter().map(|(_, name)| name.as_str()).collect();
    let old = record.map_or(&[][..], |r| &r.images);
    let carry = |image: &ImageRecord| ImageRecord { carried: true, ..image.clone() };
    let carried: Vec<ImageRecord> =
        old.iter().filter(|i| !taken.contains(i.name.as_str())).map(carry).collect();
    if request.action == Action::BackupAgain {
        refuse_missing(request, &memory, share, &carried)?;
    }
    // A disk whose image is carried over belongs to the set: it is not left out of it.
    let is_carried = |other: &OtherDisk| {
        let mut seats = carried.iter().filter_map(|image| seat(&memory, record?, image));
        seats.any(|disk| disk.name == other.name)
    };
    others.retain(|other| !is_carried(other));

    let generation = next_generation(share)?;
    let mut notes: Vec<String> =
        others.iter().map(|o| format!("{} ({}) is left out: {}", o.name, o.identity, o.why)).collect();
    notes.extend(carried.iter().map(|i| format!("{} stays as it is: its disk is not selected", i.file())));
    let mut steps = vec![PlanStep::CollectInfo];
    let step = |(disk, name): (&Disk, String)| {
        let on_bad = on_bad(request, share, &name);
        PlanStep::BackupDisk { disk: disk.clone(), name, used: request.used, on_bad }
    };
    steps.extend(named.into_iter().map(step));
    steps.push(PlanStep::Publish(Publish { generation, carried, others }));
    Ok(Plan { action: request.action, notes, findings, steps, firmware: None })
}

/// Above every set that may still be somewhere, even where a record got lost. One number between is left where the set
/// before, which becomes the newest of the history, cannot have its own there: it has no record, or another set has that
/// number or a higher one.
fn next_generation(share: &ShareState) -> Result<u64, Failure> {
    let number = |set: &HistorySet| set.folder.rsplit('/').next().and_then(generation);
    let newest = share.history.iter().filter_map(|set| Some((number(set)?, set))).max_by_key(|(n, _)| *n);
    let top = newest.map_or(0, |(n, _)| n);
    let own = share.record.as_ref().map_or(0, |record| record.generation);
    let is_kept = || {
        newest.is_some_and(|(n, set)| n == own && set.record.is_some() && set.digest.set == share.digest.set)
    };
    let needs_another = match &share.record {
        Some(_) => own <= top && !is_kept(),
        None => !share.images.is_empty(),
    };
    let next = own.max(top) + 1 + u64::from(needs_another);
    if next > GENERATION_MAX {
        return Err(Failure::new(
            Kind::BadRecord,
            format!("history/{top} leaves no number for a new set: {GENERATION_MAX} is the highest"),
            "no testbox counts that far: look who made that folder, and move it away. Nothing was written.",
        ));
    }
    Ok(next)
}

/// Whether the image `name` of this set may be degraded. A set that is complete is never replaced by a degraded one
/// unless that is asked for, and there is no use in wearing a dying disk for an image that nobody may have.
fn on_bad(request: &PlanRequest, share: &ShareState, name: &str) -> OnBad {
    if request.bad_sectors == BadSectors::Fail {
        return OnBad::Fail;
    }
    let is_complete = |image: &ImageRecord| image.state == SetState::Complete;
    let would_replace_complete = match &share.record {
        Some(record) => match record.image(name) {
            Some(image) => is_complete(image),
            None => !record.images.is_empty() && record.is_complete(),
        },
        // Nobody knows of images without a record that they are not whole.
        None => !share.images.is_empty(),
    };
    match would_replace_complete && request.degraded != DegradedSet::Replace {
        true => OnBad::KeepComplete,
        false => OnBad::Zeros,
    }
}

/// The disks to image, and all others with the reason.
fn select<'a>(
    request: &PlanRequest,
    memory: &Memory<'a>,
    share: &ShareState,
) -> Result<(Vec<&'a Disk>, Vec<OtherDisk>), Failure> {
    let inventory = memory.inventory;
    if inventory.disks.is_empty() {
        return Err(Failure::new(
            Kind::NoDisk,
            "this machine has no disk",
            "check cables, controller and BIOS settings.",
        ));
    }
    let resolve = |selectors: &[DiskSelector], from: &str| -> Result<BTreeSet<&'a str>, Failure> {
        // What testbox.map says of a name goes before what the record knows of it: the disk was replaced.
        let meant = |s: &DiskSelector| match s {
            DiskSelector::Name(n) => {
                request.map.iter().find(|e| e.image == *n).map_or(s.clone(), |e| e.disk.clone())
            }
            _ => s.clone(),
        };
        selectors
            .iter()
            .map(|s| Ok(find(&meant(s), memory, share.record.as_ref(), from)?.name.as_str()))
            .collect()
    };
    let listed = match &share.disk_list {
        Some(list) => Some(resolve(list, DISK_LIST)?),
        None => None,
    };
    let asked = match request.disks.is_empty() {
        true => None,
        false => Some(resolve(&request.disks, "testbox.disks")?),
    };
    let (mut chosen, mut others) = (Vec::new(), Vec::new());
    for disk in &inventory.disks {
        let name = disk.name.as_str();
        let in_list = listed.as_ref().map(|l| l.contains(name));
        let in_asked = asked.as_ref().map(|a| a.contains(name));
        if in_asked == Some(true) && in_list == Some(false) {
            return Err(Failure::new(
                Kind::DiskList,
                format!("testbox.disks asks for {disk}, which disk-devices.lst leaves out"),
                "add it to disk-devices.lst, or do not ask for it.",
            ));
        }
        // A USB or removable disk can be in either set only by its serial: `find` sees to that.
        match (in_list, in_asked, disk.excluded) {
            (Some(false), _, _) => others.push(OtherDisk::new(disk, "not in disk-devices.lst")),
            (_, Some(false), _) => others.push(OtherDisk::new(disk, "not in testbox.disks")),
            (None, None, Some(Exclusion::Usb)) => others.push(OtherDisk::new(disk, "USB disk")),
            (None, None, Some(Exclusion::Removable)) => others.push(OtherDisk::new(disk, "removable disk")),
            _ => chosen.push(disk),
        }
    }
    if chosen.is_empty() {
        return Err(Failure::new(
            Kind::NoDisk,
            format!("no disk is selected; there are:{}", listing(&inventory.disks)),
            "name the disks in disk-devices.lst or testbox.disks.",
        ));
    }
    Ok((chosen, others))
}

/// What the result says of names that chose between disks by nothing but the order in which the kernel found them. Linux
/// probes SCSI, SATA and NVMe disks side by side, so that `sda` may be another one at each boot; once a set knows the
/// disk, its name there is the set's.
fn names_by_chance(
    request: &PlanRequest,
    inventory: &Inventory,
    share: &ShareState,
    left_out: &[OtherDisk],
) -> Vec<String> {
    let listed = share.disk_list.iter().flatten().map(|s| (s, DISK_LIST));
    let asked = request.disks.iter().map(|s| (s, "testbox.disks"));
    let is_known = |name: &str| share.record.iter().flat_map(known).any(|entry| entry.name == name);
    let is_mapped = |name: &str| request.map.iter().any(|entry| entry.image.as_str() == name);
    let kind = |name: &str| name.chars().take(2).collect::<String>();
    let mut findings = Vec::new();
    for (word, from) in listed.chain(asked) {
        let DiskSelector::Name(name) = word else { continue };
        let name = name.as_str();
        let Some(disk) = inventory.disks.iter().find(|d| d.name == name) else { continue };
        let is_rival = |d: &&Disk| {
            d.name != name && kind(&d.name) == kind(name) && left_out.iter().any(|other| other.name == d.name)
        };
        let Some(rival) = inventory.disks.iter().find(is_rival) else { continue };
        if is_known(name) || is_mapped(name) {
            continue;
        }
        findings.push(format!(
            "NAME: '{name}' in {from} is what the kernel called this disk at this boot: {disk}. At another boot the name may \
             be that of {rival}: if that is the disk that was meant, say '{}', and back up again",
            selector(rival, inventory)
        ));
    }
    findings
}

/// Gives every disk its name in the set: the name that the record has for it, else its kernel name, else that with
/// a suffix where the name stands for another disk's image.
fn assign_names<'a>(
    request: &PlanRequest,
    memory: &Memory<'_>,
    record: Option<&Record>,
    chosen: &[&'a Disk],
) -> Result<Vec<(&'a Disk, String)>, Failure> {
    let mut mapped = Vec::new();
    for entry in &request.map {
        let disk = find(&entry.disk, memory, record, "testbox.map")?;
        if !chosen.iter().any(|d| d.name == disk.name) {
            return Err(Failure::new(
                Kind::DiskList,
                format!("testbox.map names {disk}, which is not selected"),
                "select it in testbox.disks and disk-devices.lst, or leave it out of testbox.map.",
            ));
        }
        mapped.push((disk.name.as_str(), entry.image.as_str()));
    }
    let images = record.map_or(&[][..], |r| &r.images);
    let mut taken: BTreeSet<String> = images.iter().map(|i| i.name.clone()).collect();
    taken.extend(mapped.iter().map(|(_, image)| (*image).to_owned()));
    let mut named: Vec<(&Disk, String)> = Vec::new();
    for disk in chosen {
        let from_map = mapped.iter().find(|(name, _)| *name == disk.name).map(|(_, image)| *image);
        let name = match from_map {
            Some(image) => image.to_owned(),
            None => match recorded(memory, record, disk)? {
                Some(image) => image.to_owned(),
                None => (1..=999)
                    .map(|n| if n == 1 { disk.name.clone() } else { format!("{}-{n}", disk.name) })
                    .find(|name| !taken.contains(name))
                    .unwrap_or_default(),
            },
        };
        if let Some((twin, _)) = named.iter().find(|(_, n)| *n == name) {
            return Err(Failure::new(
                Kind::Ambiguous,
                format!("two disks could be the one that the set calls '{name}':{}", listing([*twin, *disk])),
                format!(
                    "say which: testbox.map={name}:{} or testbox.map={name}:{}.",
                    selector(twin, memory.inventory),
                    selector(disk, memory.inventory)
                ),
            ));
        }
        taken.insert(name.clone());
        named.push((disk, name));
    }
    Ok(named)
}

/// The disk of an image, as far as a reader needs to know.
fn seat<'a>(memory: &Memory<'a>, record: &Record, image: &ImageRecord) -> Option<&'a Disk> {
    let entry = known(record).find(|entry| entry.is_image(&image.name))?;
    memory.seat(record, &entry)
}

/// The name that the record has for this disk; `None` for a new one. A twin that the record does not know at this
/// place, or whose content it knows of another disk, is not imaged under a name that may be wrong.
fn recorded<'r>(
    memory: &Memory<'_>,
    record: Option<&'r Record>,
    disk: &Disk,
) -> Result<Option<&'r str>, Failure> {
    let Some(record) = record else { return Ok(None) };
    let is_it = |image: &&ImageRecord| seat(memory, record, image).is_some_and(|d| d.name == disk.name);
    if let Some(image) = record.images.iter().find(is_it) {
        return Ok(Some(&image.name));
    }
    let is_left_out = known(record)
        .any(|entry| !entry.imaged && memory.seat(record, &entry).is_some_and(|d| d.name == disk.name));
    let alike = |entry: &super::memory::Known<'_>| {
        !memory.is(entry, disk) && disk.identity.is_same_disk(entry.identity)
    };
    match known(record).find(alike).filter(|_| !is_left_out) {
        None => Ok(None),
        Some(entry) => Err(Failure::new(
            Kind::Ambiguous,
            format!(
                "this disk could be {} of set {}, or another one with the same serial: {disk}",
                entry.role(),
                record.generation
            ),
            format!(
                "say which it is: testbox.map={}:{}; or leave it out: disk-devices.lst, testbox.disks.",
                entry.name,
                selector(disk, memory.inventory)
            ),
        )),
    }
}

fn refuse_existing(named: &[(&Disk, String)], share: &ShareState) -> Result<(), Failure> {
    for (disk, name) in named {
        if let Some(image) = share.images.iter().find(|i| i.name == *name) {
            return Err(Failure::new(
                Kind::ImageExists,
                format!("there is an image of {disk} already: {}", image.file),
                "use backup-again, which keeps it in history/, or move it away.",
            ));
        }
        if share.record.as_ref().is_some_and(|r| r.image(name).is_some()) {
            return Err(Failure::new(
                Kind::ImageExists,
                format!("backup.json names an image of {disk}, but the file {name}.raw.gz is not there"),
                "use backup-again, or move backup.json away.",
            ));
        }
    }
    Ok(())
}

/// A disk of the record that is gone is a fault to be noticed, not a set to be quietly made smaller. What the admin
/// has left out on purpose is carried over instead.
fn refuse_missing(
    request: &PlanRequest,
    memory: &Memory<'_>,
    share: &ShareState,
    carried: &[ImageRecord],
) -> Result<(), Failure> {
    let on_purpose = !request.disks.is_empty() || share.disk_list.is_some();
    for image in carried {
        let gone = share.record.as_ref().is_some_and(|record| seat(memory, record, image).is_none());
        if gone && !on_purpose {
            return Err(Failure::new(
                Kind::DiskMissing,
                format!(
                    "the disk of {} ({}) is not here:{}",
                    image.file(),
                    image.identity,
                    listing(&memory.inventory.disks)
                ),
                format!(
                    "plug it in; if it was replaced: testbox.map={}:serial=<new serial>; to leave it out: testbox.disks.",
                    image.name
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::store::SetDigest;
    use crate::types::{MapEntry, SetHash};

    fn again(disks: &[&str], share: &ShareState) -> Result<Vec<String>, Kind> {
        super::plan(&request(Action::BackupAgain), &inventory(disks), share)
            .map(|p| short(&p))
            .map_err(|f| f.kind)
    }

    fn first(disks: &[&str], share: &ShareState) -> Result<Vec<String>, Kind> {
        super::plan(&request(Action::Backup), &inventory(disks), share).map(|p| short(&p)).map_err(|f| f.kind)
    }

    #[test]
    fn a_first_backup_takes_every_fixed_disk_and_records_the_others() {
        let steps =
            first(&["sda S1 4G@1", "usb:sdb S2 8G@2", "nvme0n1 N 4G@3"], &ShareState::default()).unwrap();
        assert_eq!(
            steps,
            ["info", "image sda=sda", "image nvme0n1=nvme0n1", "publish 1 carried [] others [sdb]"]
        );
        assert_eq!(first(&[], &ShareState::default()), Err(Kind::NoDisk));
        assert_eq!(first(&["usb:sdb S2 8G@2"], &ShareState::default()), Err(Kind::NoDisk));
    }

    #[test]
    fn the_list_narrows_and_an_entry_without_a_match_is_an_error() {
        let listed = |words| ShareState { disk_list: Some(selectors(words)), ..ShareState::default() };
        let disks = ["sda S1 4G@1", "sdb S2 8G@2", "usb:sdc S3 1G@3"];
        assert_eq!(
            first(&disks, &listed("sdb")).unwrap()[1..],
            ["image sdb=sdb", "publish 1 carried [] others [sda sdc]"]
        );
        let steps = first(&disks, &listed("serial=S3 sda")).unwrap();
        assert_eq!(steps[1..], ["image sda=sda", "image sdc=sdc", "publish 1 carried [] others [sdb]"]);
        assert_eq!(first(&disks, &listed("sda sdx")), Err(Kind::DiskList));
        assert_eq!(first(&disks, &listed("sdc")), Err(Kind::DiskList));
        let mut request = request(Action::Backup);
        request.disks = selectors("sda");
        let refusal = super::plan(&request, &inventory(&disks), &listed("sdb")).unwrap_err();
        assert_eq!(refusal.kind, Kind::DiskList);
    }

    /// Linux finds disks side by side: once, on a first backup in the lab, `sda` was the data disk.
    #[test]
    fn a_kernel_name_that_chose_by_chance_is_told() {
        let disks = ["sda S1 4G@1", "sdb S2 8G@2", "nvme0n1 N 4G@3"];
        let findings = |list: &str, map: &str, record: Option<Record>| {
            let mut request = request(Action::BackupAgain);
            request.map = selectors(map)
                .into_iter()
                .map(|disk| MapEntry { image: "sda".parse().unwrap(), disk })
                .collect();
            let share = match record {
                Some(record) => share(record),
                None => ShareState::default(),
            };
            let share = ShareState { disk_list: Some(selectors(list)), ..share };
            super::plan(&request, &inventory(&disks), &share).unwrap().findings
        };
        let told = findings("sda nvme0n1", "", None);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("NAME: 'sda' in disk-devices.lst"), "{told:?}");
        assert!(told[0].contains("sdb") && told[0].contains("'serial=S2'"), "{told:?}");
        // All of them, by identity, by the map, or by what a set says: nothing was left to chance.
        assert_eq!(findings("sda sdb", "", None), [""; 0]);
        assert_eq!(findings("serial=S1 nvme0n1", "", None), [""; 0]);
        assert_eq!(findings("sda", "serial=S1", None), [""; 0]);
        assert_eq!(findings("sda", "", Some(record(1, &["sda S1 4G@1"], &[]))), [""; 0]);
    }

    #[test]
    fn backup_refuses_an_existing_image_the_originals_too() {
        for file in ["sda.raw.gz", "sda.gz"] {
            let share = ShareState { images: vec![foreign_gzip(file)], ..ShareState::default() };
            assert_eq!(first(&["sda S1 4G@1"], &share), Err(Kind::ImageExists));
            assert!(again(&["sda S1 4G@1"], &share).is_ok());
        }
        let mut share = share(record(4, &["sda S1 4G@1"], &[]));
        assert_eq!(first(&["sda S1 4G@1"], &share), Err(Kind::ImageExists));
        share.images.clear();
        assert_eq!(first(&["sda S1 4G@1"], &share), Err(Kind::ImageExists), "the record alone is enough");
    }

    #[test]
    fn image_names_follow_the_disk_not_its_kernel_name() {
        let share = share(record(4, &["sda S1 4G@1", "sdb S2 8G@2"], &[]));
        let steps = again(&["sda S2 8G@2", "sdb S1 4G@1"], &share).unwrap();
        assert_eq!(steps[1..], ["image sda=sdb", "image sdb=sda", "publish 5 carried [] others []"]);
        // A new disk that is called like an old one's image gets a name of its own.
        let steps = again(&["sda NEW 1G@9", "sdb S1 4G@1", "sdc S2 8G@2"], &share).unwrap();
        assert_eq!(steps[1..4], ["image sda=sda-2", "image sdb=sda", "image sdc=sdb"]);
    }

    #[test]
    fn backup_again_refuses_a_missing_disk_and_carries_left_out() {
        let share = share(record(4, &["sda S1 4G@1", "sdb S2 8G@2"], &[]));
        assert_eq!(again(&["sda S1 4G@1"], &share), Err(Kind::DiskMissing));
        let mut request = request(Action::BackupAgain);
        request.disks = selectors("sda");
        let plan = super::plan(&request, &inventory(&["sda S1 4G@1"]), &share).unwrap();
        assert_eq!(short(&plan)[1..], ["image sda=sda", "publish 5 carried [sdb] others []"]);
        // Replaced, and said so.
        request.disks.clear();
        request.map =
            vec![MapEntry { image: "sdb".parse().unwrap(), disk: selectors("serial=NEW").remove(0) }];
        let plan = super::plan(&request, &inventory(&["sda S1 4G@1", "sdb NEW 9G@2"]), &share).unwrap();
        assert_eq!(short(&plan)[1..3], ["image sda=sda", "image sdb=sdb"]);
    }

    #[test]
    fn a_degraded_set_replaces_a_complete_one_only_when_asked() {
        let complete = share(record(4, &["sda S1 4G@1"], &[]));
        let mut degraded = complete.clone();
        degraded.record.as_mut().unwrap().images[0].state = SetState::Degraded;
        let legacy = ShareState { images: vec![foreign_gzip("sda.gz")], ..ShareState::default() };
        let (none, new_disk) = (ShareState::default(), ["sda S1 4G@1", "sdb S2 4G@2"]);
        let on_bad = |share: &ShareState, disks: &[&str], bad_sectors, degraded| {
            let request = PlanRequest { bad_sectors, degraded, ..request(Action::BackupAgain) };
            let plan = super::plan(&request, &inventory(disks), share).unwrap();
            let last = plan.steps.into_iter().rev().find_map(|step| match step {
                PlanStep::BackupDisk { on_bad, .. } => Some(on_bad),
                _ => None,
            });
            last.unwrap()
        };
        let (allow, refuse, replace) = (BadSectors::Degraded, DegradedSet::Refuse, DegradedSet::Replace);
        for share in [&none, &complete, &degraded, &legacy] {
            assert_eq!(on_bad(share, &new_disk, BadSectors::Fail, replace), OnBad::Fail);
            assert_eq!(on_bad(share, &new_disk[..1], allow, replace), OnBad::Zeros);
        }
        assert_eq!(on_bad(&none, &new_disk, allow, refuse), OnBad::Zeros);
        assert_eq!(on_bad(&degraded, &new_disk, allow, refuse), OnBad::Zeros);
        assert_eq!(on_bad(&complete, &new_disk[..1], allow, refuse), OnBad::KeepComplete);
        assert_eq!(on_bad(&complete, &new_disk, allow, refuse), OnBad::KeepComplete, "the set was complete");
        assert_eq!(on_bad(&legacy, &new_disk[..1], allow, DegradedSet::Restore), OnBad::KeepComplete);
    }

    #[test]
    fn twins_of_a_recorded_disk_are_refused() {
        let share = share(record(4, &["sda T 4G@1"], &[]));
        assert_eq!(again(&["sda T 4G@1", "sdb T 4G@2"], &share), Err(Kind::Ambiguous));
    }

    #[test]
    fn a_generation_is_above_every_set_that_is_left() {
        let mut share = ShareState::default();
        share.history.push(history("history/7", None, ""));
        assert_eq!(
            first(&["sda S1 4G@1"], &share).unwrap().last().unwrap(),
            "publish 8 carried [] others []"
        );
    }

    fn history(folder: &str, record: Option<Record>, bytes: &str) -> HistorySet {
        let digest = SetDigest { set: SetHash::of(bytes.as_bytes()), ..SetDigest::default() };
        HistorySet { folder: folder.into(), record, digest, images: Vec::new() }
    }

    #[test]
    fn a_number_between_is_left_where_the_set_before_needs_one() {
        let old = || record(4, &["sda S1 4G@1"], &[]);
        let next = |sets: Vec<HistorySet>| {
            let digest = SetDigest { set: SetHash::of(b"current"), ..SetDigest::default() };
            next_generation(&ShareState { digest, history: sets, ..share(old()) }).map_err(|f| f.kind)
        };
        let rows = [
            (vec![], Ok(5)),
            (vec![history("history/3", Some(old()), "other")], Ok(5)),
            (vec![history("history/4", Some(old()), "current")], Ok(5)),
            (vec![history("history/4", Some(old()), "other")], Ok(6)),
            // The same set under another number is not the place where it is kept.
            (vec![history("history/9", Some(old()), "current")], Ok(11)),
            (vec![history("history/4", None, "")], Ok(6)),
            (vec![history("history/9", None, ""), history("history/4", Some(old()), "current")], Ok(11)),
            (vec![history("history/09", None, ""), history("history/+9", None, "")], Ok(5)),
            (vec![history("history/18446744073709551615", None, "")], Ok(5)),
            (vec![history("history/999999999999998", None, "")], Err(Kind::BadRecord)),
            (vec![history("history/999999999999999", None, "")], Err(Kind::BadRecord)),
        ];
        for (sets, expected) in rows {
            let names: Vec<_> = sets.iter().map(|set| set.folder.clone()).collect();
            assert_eq!(next(sets), expected, "{names:?}");
        }
    }
}
