//! Which set is trusted: the newest one whose images are those that its record names.

use super::verified::{about_signature, not_vouched};
use crate::failure::{Failure, Kind};
use crate::image::Needed;
use crate::inventory::Inventory;
use crate::job::Action;
use crate::plan::PlanRequest;
use crate::plan::memory::known;
use crate::store::layout::DISK_LIST;
use crate::store::record::{ImageRecord, Record};
use crate::store::{SeenImage, SeenKind, ShareState};
use crate::types::DiskSelector;
use std::collections::{BTreeMap, BTreeSet};

/// The images of one set that are wanted and whole.
pub struct Trusted<'a> {
    /// `""`, or `history/3/`.
    pub folder: String,
    pub record: &'a Record,
    pub images: Vec<ImageRecord>,
    /// What a disk needs at least for each, where that was asked; by its name.
    pub needed: BTreeMap<String, Needed>,
}

/// The current set where every wanted image of it is whole, else the newest such set of the history.
pub fn trusted<'a>(
    request: &PlanRequest,
    inventory: &Inventory,
    share: &'a ShareState,
    findings: &mut Vec<String>,
) -> Result<Trusted<'a>, Failure> {
    let current = share.record.as_ref().map(|r| (String::new(), r, &share.digest, &share.images));
    let older = share
        .history
        .iter()
        .filter_map(|h| Some((format!("{}/", h.folder), h.record.as_ref()?, &h.digest, &h.images)));
    let mut reasons = Vec::new();
    let (mut is_unsigned, mut is_named) = (false, request.set.is_none());
    for (folder, record, digest, seen) in current.into_iter().chain(older) {
        if request.set.is_some_and(|set| set != digest.set) {
            reasons.push(format!("set {} is not the one that testbox.set names", record.generation));
            continue;
        }
        is_named = true;
        if request.action == Action::Restore
            && let Some(why) = request.signed_for.and_then(|ip| not_vouched(record, digest, ip))
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
            findings.extend(about_signature(request, record, digest)?);
            let needed = seen.iter().filter_map(|image| Some((image.name.clone(), image.needed.clone()?)));
            return Ok(Trusted { folder, record, images, needed: needed.collect() });
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
    let seen = seen.iter().find(|s| s.file == file);
    let of = seen.and_then(|s| s.about.as_ref()).map(|about| &about.identity).filter(|of| of.is_unique());
    if let Some(of) = of.filter(|of| image.identity.is_unique() && !of.is_same_disk(&image.identity)) {
        return Some(format!("{file} says that it is of {of}, its record says {}", image.identity));
    }
    match seen.map(|s| &s.kind) {
        Some(SeenKind::Own(hash)) if *hash == image.root_hash => None,
        Some(SeenKind::Own(_)) => Some(format!("{file} is whole, but not the image that its record names")),
        Some(SeenKind::Foreign(why)) => Some(format!("{file} is damaged: {why}")),
        None => Some(format!("{file} is missing")),
    }
}

/// The images of a set that `disk-devices.lst` and `testbox.disks` leave. Names are the set's own; an entry that
/// matches neither an image nor a disk of this machine is an error.
fn wanted(
    request: &PlanRequest,
    inventory: &Inventory,
    share: &ShareState,
    record: &Record,
) -> Result<Vec<ImageRecord>, Failure> {
    let pick = |selectors: &[DiskSelector], from: &str| -> Result<BTreeSet<String>, Failure> {
        let mut names = BTreeSet::new();
        for selector in selectors {
            let images = record
                .images
                .iter()
                .filter(|i| selector.names(&i.name, &i.identity, &i.location))
                .map(|i| i.name.clone());
            let before = names.len();
            names.extend(images);
            let known_here = || {
                known(record).any(|k| selector.names(k.name, k.identity, k.location))
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
    let listed = share.disk_list.as_deref().map(|l| pick(l, DISK_LIST)).transpose()?;
    let asked = (!request.disks.is_empty()).then(|| pick(&request.disks, "testbox.disks")).transpose()?;
    let ok = |set: &Option<BTreeSet<String>>, name: &str| set.as_ref().is_none_or(|s| s.contains(name));
    Ok(record.images.iter().filter(|i| ok(&listed, &i.name) && ok(&asked, &i.name)).cloned().collect())
}
