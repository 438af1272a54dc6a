//! The plan of `restore` and `verify`: which set is trusted, and which disk each image goes to.
//!
//! An image goes to the disk whose identity it records. A replaced disk, the main case of a restore, is accepted
//! only when nothing else can be meant: the recorded disk is gone, exactly one disk is left that fits, it is plugged
//! in where the recorded disk was, and the record does not know it in another role. A disk somewhere else may be one
//! that was added since, with data on it: that wants the admin's word (`testbox.map`).

use super::identify::{bearers, find, known, listing};
use super::{Plan, Request, Seal, SeenImage, SeenKind, ShareState, Source, Step};
use crate::action::Action;
use crate::cmdline::DegradedSet;
use crate::failure::{Failure, Kind};
use crate::inventory::{Disk, Inventory};
use crate::record::{ImageRecord, Record, SetState};
use crate::signature::Verdict;
use crate::words::DiskSelector;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

pub(super) fn plan(request: &Request, inventory: &Inventory, share: &ShareState) -> Result<Plan, Failure> {
    let mut plan =
        Plan { action: request.action, notes: Vec::new(), findings: Vec::new(), steps: Vec::new() };
    if share.record.is_none() && share.history.iter().all(|h| h.record.is_none()) {
        refuse_without_record(request)?;
        foreign(request, inventory, share, &mut plan)?;
        return Ok(plan);
    }
    let set = trusted_set(request, inventory, share, &mut plan.findings)?;
    let degraded: Vec<_> =
        set.images.iter().filter(|i| i.state == SetState::Degraded).map(|i| i.file()).collect();
    if !degraded.is_empty() {
        let what = format!(
            "DEGRADED: set {}: parts of the disk could not be read and are zeros in {}",
            set.record.generation,
            degraded.join(", ")
        );
        if request.action == Action::Restore && request.degraded != DegradedSet::Restore {
            return Err(refuse_degraded(what));
        }
        plan.findings.push(what);
    }
    let source = |image: &ImageRecord| Source {
        path: format!("{}{}", set.folder, image.file()),
        name: image.name.clone(),
        record: Some(image.clone()),
        is_mapped: false,
    };
    if request.action == Action::Verify {
        for image in &set.images {
            plan.steps.push(Step::CheckImage(source(image)));
        }
        for image in &set.images {
            match bearers(&image.identity, inventory)[..] {
                [disk] => plan.steps.push(Step::CompareDisk { source: source(image), disk: disk.clone() }),
                _ => plan.notes.push(format!(
                    "{} is not compared: its disk ({}) is not here",
                    image.file(),
                    image.identity
                )),
            }
        }
        return Ok(plan);
    }
    let targets = assign(request, inventory, set.record, &set.images, &mut plan.notes)?;
    for disk in &inventory.disks {
        if !targets.iter().any(|t| t.name == disk.name) {
            plan.notes.push(format!("not written: {disk}"));
        }
    }
    plan.steps.extend(set.images.iter().map(|i| Step::CheckImage(source(i))));
    for (image, disk) in set.images.iter().zip(targets) {
        plan.steps.push(Step::RestoreDisk { source: source(image), disk: disk.clone() });
    }
    Ok(plan)
}

/// A plain gzip has no record: nothing of it is signed, and it is none of the sets that a job can name.
fn refuse_without_record(request: &Request) -> Result<(), Failure> {
    let kind = match (request.action, request.signed_for, request.set) {
        (Action::Restore, Some(_), _) => Kind::Signature,
        (_, _, Some(_)) => Kind::NoImage,
        _ => return Ok(()),
    };
    let advice = "nothing was written. Restore it where no signature is demanded, make a set with backup, and sign that.";
    Err(Failure::new(
        kind,
        "there is no backup.json: no set that could be signed, or that testbox.set names",
        advice,
    ))
}

/// Why a set must not be written onto the disks of the machine `ip`, whose initramfs demands signatures.
///
/// A signature is for one machine: else whoever writes to the share could give it the set of another one.
fn not_vouched(record: &Record, seal: &Seal, ip: Ipv4Addr) -> Option<String> {
    let of = &record.machine.ip;
    let is_own = of.parse() == Ok(ip);
    seal.signed
        .why_not()
        .or_else(|| (!is_own).then(|| format!("is signed as a set of {}", of.escape_default())))
}

/// What the result says of the signature of the set that is used.
fn about_signature(request: &Request, record: &Record, seal: &Seal) -> Result<Option<String>, Failure> {
    let set = format!("set {}", record.generation);
    let refused = request.signed_for.and_then(|ip| not_vouched(record, seal, ip));
    match (&seal.signed, refused) {
        (Verdict::Unsigned, None) => Ok(None),
        // Each new set is unsigned until its admin has seen it: verify it, then sign it.
        (Verdict::Unsigned, Some(_)) => Ok(Some(format!("NOT SIGNED: {set}; a restore will refuse it"))),
        (_, Some(why)) => Err(Failure::new(
            Kind::Signature,
            format!("{set} {why}"),
            "do not rely on this set. If it is what it should be after all: testboxctl sign.",
        )),
        (Verdict::By(who), None) => Ok(Some(format!("{set} is signed by {who}"))),
        (Verdict::Not(why), None) => Ok(Some(format!("BAD SIGNATURE: {set}: {why}"))),
    }
}

/// A restore of what is known to have holes is nothing to be done by accident.
pub(crate) fn refuse_degraded(what: String) -> Failure {
    Failure::new(
        Kind::Degraded,
        what,
        "nothing was written. The .map file beside each image has the places. A complete set may be in history/: move the \
         current one away to use it. To restore the degraded one all the same: testbox.degraded=restore.",
    )
}

/// The images of one set that are wanted and whole.
struct TrustedSet<'a> {
    folder: String,
    record: &'a Record,
    images: Vec<ImageRecord>,
}

/// The current set where every wanted image of it is whole, else the newest such set of the history.
fn trusted_set<'a>(
    request: &Request,
    inventory: &Inventory,
    share: &'a ShareState,
    findings: &mut Vec<String>,
) -> Result<TrustedSet<'a>, Failure> {
    let current = share.record.as_ref().map(|r| (String::new(), r, &share.seal, &share.images));
    let older = share
        .history
        .iter()
        .filter_map(|h| Some((format!("{}/", h.folder), h.record.as_ref()?, &h.seal, &h.images)));
    let mut reasons = Vec::new();
    let (mut is_unsigned, mut is_named) = (false, request.set.is_none());
    for (folder, record, seal, seen) in current.into_iter().chain(older) {
        if request.set.is_some_and(|set| set != seal.set) {
            reasons.push(format!("set {} is not the one that testbox.set names", record.generation));
            continue;
        }
        is_named = true;
        if request.action == Action::Restore
            && let Some(why) = request.signed_for.and_then(|ip| not_vouched(record, seal, ip))
        {
            is_unsigned = true;
            reasons.push(format!("set {} {why}", record.generation));
            continue;
        }
        let images = wanted(request, inventory, share, record)?;
        let damage: Vec<String> = images.iter().filter_map(|i| damage_of(i, seen)).collect();
        if damage.is_empty() && !images.is_empty() {
            if !reasons.is_empty() {
                findings.push(format!(
                    "USING THE OLDER SET {} of {}: {}",
                    record.generation,
                    record.finished,
                    reasons.join("; ")
                ));
            }
            findings.extend(about_signature(request, record, seal)?);
            return Ok(TrustedSet { folder, record, images });
        }
        // A verify is about one set: an older one that is whole is no answer to what was asked.
        let is_asked = folder.is_empty() || request.set.is_some();
        if request.action == Action::Verify && is_asked && !images.is_empty() {
            return Err(Failure::new(
                Kind::BadImage,
                format!("set {}, the one that was asked for: {}", record.generation, damage.join(", ")),
                "do not rely on this set. A restore takes the newest whole set of history/, if there is one; make a new \
                 one with backup-again.",
            ));
        }
        let why = if images.is_empty() { "it has no image".into() } else { damage.join(", ") };
        reasons.push(format!("set {} cannot be trusted: {why}", record.generation));
    }
    if share.record.is_none() {
        reasons.insert(0, "there is no backup.json".into());
    }
    let advice = "nothing was written. Look at the folder on the share; a set with a backup.json whose images are whole can be \
                  put back from history/ or from a copy.";
    let what = format!("no set of images can be trusted: {}", reasons.join("; "));
    if is_unsigned || (!is_named && request.signed_for.is_some()) {
        let advice = "nothing was written. This initramfs demands signed sets. Look who writes to the share; if the set is what \
                      it should be, sign it (testboxctl sign), and arm the machine again: a job names one set.";
        return Err(Failure::new(Kind::Signature, what, advice));
    }
    Err(Failure::new(Kind::NoImage, what, advice))
}

fn damage_of(image: &ImageRecord, seen: &[SeenImage]) -> Option<String> {
    let file = image.file();
    match seen.iter().find(|s| s.file == file).map(|s| &s.kind) {
        Some(SeenKind::Own(hash)) if hash.eq_ignore_ascii_case(&image.root_hash) => None,
        Some(SeenKind::Own(_)) => Some(format!("{file} is whole, but not the image that its record names")),
        Some(SeenKind::Foreign(why)) => Some(format!("{file} is damaged: {why}")),
        None => Some(format!("{file} is missing")),
    }
}

/// The images of a set that `disk-devices.lst` and `testbox.disks` leave. Names are the set's own; an entry that
/// matches neither an image nor a disk of this machine is an error.
fn wanted(
    request: &Request,
    inventory: &Inventory,
    share: &ShareState,
    record: &Record,
) -> Result<Vec<ImageRecord>, Failure> {
    let pick = |selectors: &[DiskSelector], from: &str| -> Result<BTreeSet<String>, Failure> {
        let mut names = BTreeSet::new();
        for selector in selectors {
            let images =
                record.images.iter().filter(|i| selector.names(&i.name, &i.identity)).map(|i| i.name.clone());
            let before = names.len();
            names.extend(images);
            let known_here = || {
                known(record).any(|k| selector.names(k.name, k.identity))
                    || inventory.disks.iter().any(|d| selector.matches(d))
            };
            if names.len() == before && !known_here() {
                return Err(Failure::new(
                    Kind::DiskList,
                    format!(
                        "{from}: '{selector}' matches no image of set {} and no disk of this machine",
                        record.generation
                    ),
                    "correct the entry. Images are called by the names that they have on the share.",
                ));
            }
        }
        Ok(names)
    };
    let listed = share.disk_list.as_deref().map(|l| pick(l, "disk-devices.lst")).transpose()?;
    let asked = (!request.disks.is_empty()).then(|| pick(&request.disks, "testbox.disks")).transpose()?;
    let ok = |set: &Option<BTreeSet<String>>, name: &str| set.as_ref().is_none_or(|s| s.contains(name));
    Ok(record.images.iter().filter(|i| ok(&listed, &i.name) && ok(&asked, &i.name)).cloned().collect())
}

/// One disk for each image, in their order, or a refusal.
fn assign<'a>(
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
        return Err(format!("it has {} bytes, the image needs {}", disk.size, image.disk_size));
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
        let nameless = |k: &super::identify::Known| {
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

/// Images without any record: made by the original system or by hand. They name no disk, so they are taken by
/// themselves only where nothing can be mistaken.
fn foreign(
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

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::super::{HistorySet, SeenKind};
    use super::*;
    use crate::words::MapEntry;

    fn restore(disks: &[&str], share: &ShareState) -> Result<Vec<String>, Kind> {
        plan(&request(Action::Restore), &inventory(disks), share).map(|p| writes(&p)).map_err(|f| f.kind)
    }

    fn mapped(map: &[(&str, &str)], disks: &[&str], share: &ShareState) -> Result<Vec<String>, Kind> {
        let mut request = request(Action::Restore);
        let entry = |(image, disk): &(&str, &str)| MapEntry {
            image: image.parse().unwrap(),
            disk: selectors(disk).remove(0),
        };
        request.map = map.iter().map(entry).collect();
        plan(&request, &inventory(disks), share).map(|p| writes(&p)).map_err(|f| f.kind)
    }

    fn writes(plan: &Plan) -> Vec<String> {
        short(plan)
            .into_iter()
            .filter(|s| s.starts_with("restore "))
            .map(|s| s["restore ".len()..].into())
            .collect()
    }

    #[test]
    fn every_image_is_checked_before_the_first_disk_is_written() {
        let share = share(record(1, &["sda S1 4G@1", "sdb S2 8G@2"], &[]));
        let plan =
            plan(&request(Action::Restore), &inventory(&["sda S1 4G@1", "sdb S2 8G@2"]), &share).unwrap();
        let steps = short(&plan);
        assert_eq!(
            steps,
            ["check sda.raw.gz", "check sdb.raw.gz", "restore sda.raw.gz>sda", "restore sdb.raw.gz>sdb"]
        );
    }

    #[test]
    fn swapped_kernel_names_move_nothing() {
        let share = share(record(1, &["sda S1 4G@1", "sdb S2 4G@2"], &[]));
        let swapped = restore(&["sda S2 4G@2", "sdb S1 4G@1"], &share);
        assert_eq!(swapped.unwrap(), ["sda.raw.gz>sdb", "sdb.raw.gz>sda"]);
    }

    #[test]
    fn a_replaced_disk_is_accepted_only_when_nothing_else_can_be_meant() {
        let set = share(record(1, &["sda S1 4G@1"], &["sdb DATA 8G@2"]));
        let rows: [(&[&str], Result<&str, Kind>); 10] = [
            // The plain case: the dead disk is gone, a new one is in its place, the data disk is still there.
            (&["sda NEW 4G@1", "sdb DATA 8G@2"], Ok("sda")),
            // A larger one.
            (&["sda DATA 8G@2", "sdb NEW 9G@1"], Ok("sdb")),
            // In another slot: it may have been added since, with data on it.
            (&["sda NEW 4G@3", "sdb DATA 8G@2"], Err(Kind::Ambiguous)),
            // The dead disk is gone and the data disk took its name: never.
            (&["sda DATA 8G@2"], Err(Kind::Ambiguous)),
            // The data disk, plugged into the dead disk's port.
            (&["sda DATA 8G@1"], Err(Kind::Ambiguous)),
            // An unknown disk where the data disk was: it may be the admin's new data disk.
            (&["sda NEW 8G@2"], Err(Kind::Ambiguous)),
            // Two that fit, one of them in the dead disk's port.
            (&["sda NEW 4G@1", "sdb NEW2 4G@3"], Err(Kind::Ambiguous)),
            // Too small.
            (&["sda NEW 3G@1"], Err(Kind::Ambiguous)),
            // USB.
            (&["usb:sda NEW 4G@1"], Err(Kind::Ambiguous)),
            (&[], Err(Kind::NoDisk)),
        ];
        for (disks, expected) in rows {
            let expected = expected.map(|disk| vec![format!("sda.raw.gz>{disk}")]);
            assert_eq!(restore(disks, &set), expected, "{disks:?}");
        }
    }

    #[test]
    fn two_replaced_disks_want_the_admins_word() {
        let set = share(record(1, &["sda S1 4G@1", "sdb S2 8G@2"], &[]));
        let disks = ["sda N1 4G@1", "sdb N2 8G@2"];
        assert_eq!(restore(&disks, &set), Err(Kind::Ambiguous));
        let both = mapped(&[("sda", "serial=N1"), ("sdb", "sdb")], &disks, &set);
        assert_eq!(both.unwrap(), ["sda.raw.gz>sda", "sdb.raw.gz>sdb"]);
        // One named leaves one: that is no guess any more.
        assert!(mapped(&[("sda", "serial=N1")], &disks, &set).is_ok());
        assert_eq!(mapped(&[("sda", "sda"), ("sdb", "sda")], &disks, &set), Err(Kind::Ambiguous));
        assert_eq!(mapped(&[("sda", "sdb"), ("sdb", "sda")], &disks, &set), Err(Kind::Unfit));
        assert_eq!(mapped(&[("sdz", "sda")], &disks, &set), Err(Kind::DiskList));
    }

    #[test]
    fn disks_without_serials_are_taken_only_where_there_is_one() {
        let set = share(record(1, &["vda - 4G@1"], &[]));
        assert_eq!(restore(&["vda - 4G@1"], &set).unwrap(), ["vda.raw.gz>vda"]);
        assert_eq!(restore(&["vda - 4G@1", "vdb - 4G@2"], &set), Err(Kind::Ambiguous));
        // A left-out disk without a serial and a candidate without one cannot be told apart.
        let set = share(record(1, &["vda S1 4G@1"], &["vdb - 8G@2"]));
        assert_eq!(restore(&["vda - 8G@1"], &set), Err(Kind::Ambiguous));
    }

    #[test]
    fn twins_are_refused() {
        let set = share(record(1, &["sda T 4G@1"], &[]));
        assert_eq!(restore(&["sda T 4G@1", "sdb T 4G@2"], &set), Err(Kind::Ambiguous));
        assert_eq!(
            mapped(&[("sda", "sdb")], &["sda T 4G@1", "sdb T 4G@2"], &set).unwrap(),
            ["sda.raw.gz>sdb"]
        );
    }

    #[test]
    fn a_disk_that_does_not_fit_is_refused_before_the_first_write() {
        let set = share(record(1, &["sda S1 4G@1"], &[]));
        assert_eq!(restore(&["sda S1 3G@1"], &set), Err(Kind::Unfit));
        for spoil in [|d: &mut Disk| d.logical_block_size = 4096, |d: &mut Disk| d.read_only = true] {
            let mut disks = inventory(&["sda S1 4G@1"]);
            spoil(&mut disks.disks[0]);
            assert_eq!(plan(&request(Action::Restore), &disks, &set).unwrap_err().kind, Kind::Unfit);
        }
    }

    #[test]
    fn only_images_that_the_record_names_are_trusted_else_the_newest_whole_set_of_the_history() {
        let old = |generation| {
            let record = record(generation, &["sda S1 4G@1"], &[]);
            let images = files_of(&record);
            HistorySet {
                folder: format!("history/{generation}"),
                record: Some(record),
                seal: Seal::default(),
                images,
            }
        };
        let disks = ["sda S1 4G@1"];
        type Spoil = fn(&mut ShareState);
        let rows: [(Spoil, Result<&str, Kind>); 6] = [
            (|_| {}, Ok("sda.raw.gz>sda")),
            (|s| s.images[0].kind = SeenKind::Own("00".repeat(32)), Ok("history/8/sda.raw.gz>sda")),
            (|s| s.images[0].kind = SeenKind::Foreign("cut".into()), Ok("history/8/sda.raw.gz>sda")),
            (|s| s.images.clear(), Ok("history/8/sda.raw.gz>sda")),
            (
                |s| {
                    s.images.clear();
                    s.history[0].images.clear();
                },
                Ok("history/7/sda.raw.gz>sda"),
            ),
            (
                |s| {
                    s.images.clear();
                    s.history.clear();
                },
                Err(Kind::NoImage),
            ),
        ];
        for (spoil, expected) in rows {
            let mut share = share(record(9, &["sda S1 4G@1"], &[]));
            share.history = vec![old(8), old(7)];
            spoil(&mut share);
            assert_eq!(restore(&disks, &share), expected.map(|e| vec![e.to_owned()]));
        }
    }

    #[test]
    fn a_subset_names_images_by_their_names_on_the_share() {
        let set = share(record(1, &["sda S1 4G@1", "sdb S2 8G@2"], &[]));
        let swapped = inventory(&["sda S2 8G@2", "sdb S1 4G@1"]);
        let mut request = request(Action::Restore);
        request.disks = selectors("sda");
        assert_eq!(writes(&plan(&request, &swapped, &set).unwrap()), ["sda.raw.gz>sdb"]);
        request.disks = selectors("sdq");
        assert_eq!(plan(&request, &swapped, &set).unwrap_err().kind, Kind::DiskList);
    }

    #[test]
    fn a_foreign_gzip_goes_only_where_one_disk_can_be_meant() {
        let share = |files: &[&str]| ShareState {
            images: files.iter().map(|f| foreign_gzip(f)).collect(),
            ..ShareState::default()
        };
        assert_eq!(restore(&["sdb S1 4G@1"], &share(&["sda.gz"])).unwrap(), ["sda.gz>sdb"]);
        assert_eq!(restore(&["sda S1 4G@1", "sdb S2 4G@2"], &share(&["sda.gz"])), Err(Kind::Ambiguous));
        assert_eq!(restore(&["sda S1 4G@1"], &share(&["sda.gz", "sdb.gz"])), Err(Kind::Ambiguous));
        assert_eq!(restore(&["sda S1 4G@1"], &share(&["sda.gz", "sda.raw.gz"])), Err(Kind::Ambiguous));
        assert_eq!(restore(&["sda S1 4G@1"], &share(&[])), Err(Kind::NoImage));
        let two = ["sda S1 4G@1", "sdb S2 4G@2"];
        assert_eq!(mapped(&[("sda", "serial=S2")], &two, &share(&["sda.gz"])).unwrap(), ["sda.gz>sdb"]);
    }

    #[test]
    fn verify_compares_only_with_the_disk_itself() {
        let set = share(record(1, &["sda S1 4G@1", "sdb S2 8G@2"], &[]));
        let plan =
            plan(&request(Action::Verify), &inventory(&["sda NEW 4G@1", "sdb S2 8G@2"]), &set).unwrap();
        assert_eq!(short(&plan), ["check sda.raw.gz", "check sdb.raw.gz", "compare sdb.raw.gz~sdb"]);
    }
}
