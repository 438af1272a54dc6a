//! The machine's own boot after a restore: the boot entries of the set, behind the network, or what to do.

use super::context::{RestoreTarget, StepContext};
use super::firmware;
use crate::agent::firmware::state as state_of;
use crate::efi::{BootState, Change, EntryPlan, Esp, FALLBACK, FirmwareKind, FirmwareRecord, Platform, plan};
use crate::failure::{Failure, Kind};
use crate::progress::Progress;

/// Puts the boot entries of the set back, once all targets are restored and verified. What is neither success nor failure
/// goes into `notes`; the answer is the failure of a job whose data are restored.
///
/// # Errors
/// The folder is another agent's by now.
pub fn put_back(
    cx: &StepContext<'_>,
    recorded: Option<&FirmwareRecord>,
    targets: &[RestoreTarget],
    notes: &mut Vec<String>,
) -> Result<Option<Failure>, Failure> {
    let platform = cx.world.efi();
    notes.extend(other_kind(recorded, platform.as_ref()));
    let Some(platform) = platform.filter(|_| !targets.is_empty()) else { return Ok(None) };
    cx.reporter.check_lease()?;
    let work = || {
        let esps = restored(cx, recorded, targets);
        let unset = FirmwareRecord::default();
        let recorded = recorded.unwrap_or(&unset);
        let said = write(cx, &platform, recorded, &esps, notes);
        said.unwrap_or_else(|why| refused(recorded, &esps, &why, notes))
    };
    Ok(cx.reporter.during("putting the boot entries back", None, &Progress::default(), false, work))
}

/// The EFI system partitions of the targets, as they are now.
fn restored(cx: &StepContext<'_>, recorded: Option<&FirmwareRecord>, targets: &[RestoreTarget]) -> Vec<Esp> {
    let of = |target: &RestoreTarget| {
        firmware::partitions_of(cx.world, (&target.source, &target.disk, &*target.device), recorded)
    };
    targets.iter().flat_map(of).collect()
}

/// What became of it, or why the firmware could not be asked or does not take it.
fn write(
    cx: &StepContext<'_>,
    platform: &Platform,
    recorded: &FirmwareRecord,
    esps: &[Esp],
    notes: &mut Vec<String>,
) -> Result<Option<Failure>, String> {
    let state = state_of(platform)?;
    let plan = plan(recorded, &state, esps);
    notes.extend(plan.left.iter().map(|left| format!("boot entry not put back as it was: {left}")));
    notes.extend(other_secure_boot(recorded, &state));
    firmware::write(platform, &plan.changes)?;
    tell(cx, &plan, &state, notes);
    if !plan.restored.is_empty() {
        return Ok(None);
    }
    if plan.wanted > 0 && !plan.has_network {
        return Err("it has no boot order with a network entry, which must stay first".into());
    }
    notes.extend(without_entry(&state, esps));
    Ok(None)
}

fn tell(cx: &StepContext<'_>, plan: &EntryPlan, state: &BootState, notes: &mut Vec<String>) {
    for change in &plan.changes {
        notes.push(format!("boot entries: written: {change}"));
    }
    for number in plan.restored.iter().filter(|number| state.taken.contains(number)) {
        cx.journal.info(&format!("boot entries: Boot{number} is there already"));
    }
}

/// No entry of the set leads to what was restored. The firmware may have one all the same, or needs none.
fn without_entry(state: &BootState, esps: &[Esp]) -> Option<String> {
    let leads_here = |(_, option): (_, &crate::efi::LoadOption)| {
        let partition = option.loader().map(|(partition, _)| partition.guid);
        option.is_tried() && esps.iter().any(|esp| Some(esp.partition.guid) == partition)
    };
    if esps.is_empty() || state.entries.iter().any(leads_here) {
        return None;
    }
    Some(if has_fallback(esps) {
        format!("no boot entry leads to the restored disk; the firmware finds {FALLBACK} on it by itself")
    } else {
        format!(
            "MAY NOT BOOT: no boot entry leads to the restored disk, and {FALLBACK} is not on it: {ADVICE}"
        )
    })
}

const ADVICE: &str = "add a boot entry for its loader in the firmware's set-up, behind the network, or by efibootmgr from a \
                      rescue.";

fn has_fallback(esps: &[Esp]) -> bool {
    esps.iter().any(Esp::has_fallback)
}

/// The firmware cannot be read, or does not take an entry: a failure, where the disk has an entry of its own to lose and no
/// file that the firmware starts without one.
fn refused(recorded: &FirmwareRecord, esps: &[Esp], why: &str, notes: &mut Vec<String>) -> Option<Failure> {
    let wanted = plan(recorded, &BootState::default(), esps).wanted;
    if has_fallback(esps) {
        let own = format!("the firmware finds {FALLBACK} on the restored disk by itself");
        notes.push(format!("boot entries NOT PUT BACK: {why}; {own}"));
        return None;
    }
    if wanted == 0 {
        // Without such a partition there is nothing that it could start.
        notes.extend((!esps.is_empty()).then(|| format!("boot entries not looked at: {why}")));
        return None;
    }
    let what = format!(
        "the disks are restored and verified, but the boot entries are not put back: {why}; and {FALLBACK}, which the \
         firmware starts without an entry, is not on the restored disk"
    );
    let advice = format!("the machine is disarmed, its data are complete. To boot it: {ADVICE}");
    Some(Failure::new(Kind::BootEntries, what, advice))
}

/// The set was made where something else started the machine.
pub fn other_kind(recorded: Option<&FirmwareRecord>, platform: Option<&Platform>) -> Option<String> {
    let (was, is) = match (recorded?.kind, platform) {
        (FirmwareKind::Uefi, None) => ("UEFI", "a BIOS"),
        (FirmwareKind::Bios, Some(_)) => ("a BIOS", "UEFI"),
        _ => return None,
    };
    Some(format!(
        "MAY NOT BOOT: {was} had started the machine when the set was made, {is} has started it now: if its own system does \
         not boot, switch the firmware's set-up back"
    ))
}

fn other_secure_boot(recorded: &FirmwareRecord, state: &BootState) -> Option<String> {
    let (was, is) = (recorded.secure_boot?, state.secure_boot?);
    let word = |on| if on { "on" } else { "off" };
    (was != is).then(|| format!("Secure Boot is {} now, and was {} in the set", word(is), word(was)))
}

/// What differs from the boot entries of the set; nothing is changed.
pub fn compare(cx: &StepContext<'_>, recorded: &FirmwareRecord, esps: &[Esp]) -> Vec<String> {
    let platform = cx.world.efi();
    let mut notes: Vec<String> = other_kind(Some(recorded), platform.as_ref()).into_iter().collect();
    let Some(platform) = platform.filter(|_| recorded.kind == FirmwareKind::Uefi) else { return notes };
    let state = match state_of(&platform) {
        Ok(state) => state,
        Err(why) => {
            notes.push(format!("the boot entries are not compared: {why}"));
            return notes;
        }
    };
    let plan = plan(recorded, &state, esps);
    notes.extend(other_secure_boot(recorded, &state));
    notes.extend(plan.left.iter().map(|left| format!("DIFFERS: boot entry {left}")));
    notes.extend(plan.changes.iter().map(|change| match change {
        Change::Entry(..) => format!("DIFFERS: boot entries: the firmware has none like {change}"),
        Change::Order(_) => {
            let order = Change::Order(state.order.clone());
            format!("DIFFERS: boot entries: the firmware has {order}; a restore would make it {change}")
        }
    }));
    if plan.wanted > 0 && plan.changes.is_empty() && plan.left.is_empty() {
        notes.push("the boot entries are those of the set".into());
    }
    notes
}
