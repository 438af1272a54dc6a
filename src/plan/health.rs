//! What the disks of a plan say of themselves, and what follows from it: a finding, or a refusal.

use super::{Plan, PlanRequest, PlanStep};
use crate::failure::{Failure, Kind};
use crate::inventory::Disk;
use crate::job::FailingDisk;

/// Refuses to read or write a locked disk, and to write onto a failing one without its own word; adds what an admin
/// should know of the others to the findings. A frozen disk is not one of it: testbox sends no security command.
pub(super) fn judge(request: &PlanRequest, plan: &mut Plan) -> Result<(), Failure> {
    let mut findings = Vec::new();
    for step in &plan.steps {
        match step {
            PlanStep::BackupDisk { disk, name, .. } => {
                refuse_locked(disk)?;
                findings.extend(failing(disk));
                findings.extend(hidden(disk, &format!("not in the image {name}")));
            }
            PlanStep::RestoreDisk { disk, .. } => {
                refuse_locked(disk)?;
                if let Some(what) = failing(disk) {
                    if request.failing_disk != FailingDisk::Write {
                        return Err(refuse_failing(what));
                    }
                    findings.push(what);
                }
                findings.extend(hidden(disk, "not written"));
            }
            PlanStep::CompareDisk { disk, .. } => {
                let locked = "LOCKED: not compared, because its ATA password keeps it from being read";
                findings.extend(disk.health.locked.then(|| format!("{locked}: {disk}")));
                findings.extend(failing(disk));
            }
            PlanStep::CollectInfo | PlanStep::Publish(_) | PlanStep::CheckImage(_) => {}
        }
    }
    // The images of the set are to be checked all the same.
    plan.steps.retain(|step| !matches!(step, PlanStep::CompareDisk { disk, .. } if disk.health.locked));
    plan.findings.extend(findings);
    Ok(())
}

fn failing(disk: &Disk) -> Option<String> {
    let why = disk.health.failing.as_ref()?;
    Some(format!("FAILING: {} ({}) says that it fails: {why}. Replace it", disk.name, disk.identity))
}

fn hidden(disk: &Disk, consequence: &str) -> Option<String> {
    let bytes = disk.health.hidden;
    let sectors = bytes / u64::from(disk.logical_block_size.max(1));
    (bytes > 0).then(|| {
        format!(
            "HIDDEN: {} ({}) hides {sectors} sectors ({bytes} bytes) behind its end (host protected area or lowered \
             maximum address): they are {consequence}",
            disk.name, disk.identity
        )
    })
}

fn refuse_failing(what: String) -> Failure {
    Failure::new(
        Kind::DiskFailing,
        what,
        "nothing was written. A new disk in its place is taken without further words. To write onto the failing one all \
         the same: testbox.failing-disk=write (testboxctl arm --failing-disk write).",
    )
}

/// Its errors of reading and writing would name everything but the reason.
fn refuse_locked(disk: &Disk) -> Result<(), Failure> {
    if !disk.health.locked {
        return Ok(());
    }
    Err(Failure::new(
        Kind::DiskLocked,
        format!("its ATA password keeps this disk from being read and written: {disk}"),
        "nothing was written. Take the password off, in the BIOS setup or by 'hdparm --security-disable' in a rescue; or \
         leave the disk out: disk-devices.lst, testbox.disks.",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::inventory::Health;
    use crate::job::Action;
    use crate::plan::plan;
    use crate::store::ShareState;

    fn sick(why: &str) -> Health {
        let mut health = Health::default();
        match why {
            "failing" => health.failing = Some("SMART".into()),
            "locked" => health.locked = true,
            "frozen" => health.frozen = true,
            "hot" => health.temperature = true,
            "hidden" => health.hidden = 1 << 20,
            _ => {}
        }
        health
    }

    /// The plan for the data disk of this health, beside a system disk that is well.
    fn planned(action: Action, health: &str, word: FailingDisk) -> Result<Plan, Failure> {
        let mut disks = inventory(&["sda S1 4G@1", "sdb S2 8G@2"]);
        disks.disks[1].health = sick(health);
        let set = share(record(1, &["sda S1 4G@1", "sdb S2 8G@2"], &[]));
        let share = if action == Action::Backup { ShareState::default() } else { set };
        plan(&PlanRequest { failing_disk: word, ..request(action) }, &disks, &share)
    }

    #[test]
    fn a_failing_disk_is_read_with_a_warning() {
        use FailingDisk::{Refuse, Write};
        for action in [Action::Backup, Action::BackupAgain, Action::Verify, Action::Restore] {
            for word in [Refuse, Write] {
                let found = planned(action, "failing", word);
                if (action, word) == (Action::Restore, Refuse) {
                    let refusal = found.unwrap_err();
                    assert_eq!(refusal.kind, Kind::DiskFailing);
                    assert!(refusal.what.contains("sdb (unknown model, serial S2)"), "{}", refusal.what);
                    assert!(refusal.advice.contains("--failing-disk write"), "{}", refusal.advice);
                } else {
                    let findings = found.unwrap().findings;
                    assert!(
                        findings[0].starts_with("FAILING: sdb (unknown model, serial S2)"),
                        "{findings:?}"
                    );
                    assert_eq!(findings.len(), 1);
                }
            }
        }
    }

    #[test]
    fn a_locked_disk_is_named_and_neither_read_nor_written() {
        for action in [Action::Backup, Action::BackupAgain, Action::Restore] {
            let refusal = planned(action, "locked", FailingDisk::Write).unwrap_err();
            assert_eq!(refusal.kind, Kind::DiskLocked, "{action}");
            assert!(refusal.what.contains("sdb") && refusal.advice.contains("hdparm"), "{refusal}");
        }
        let verify = planned(Action::Verify, "locked", FailingDisk::Refuse).unwrap();
        assert_eq!(short(&verify)[1..], ["check sda.raw.gz", "check sdb.raw.gz", "compare sda.raw.gz~sda"]);
        assert!(verify.findings[0].starts_with("LOCKED: "), "{:?}", verify.findings);
    }

    #[test]
    fn what_is_hidden_is_said_and_frozen_or_hot_is_no_finding() {
        for (action, part) in [(Action::Backup, "not in the image sdb"), (Action::Restore, "not written")] {
            let findings = planned(action, "hidden", FailingDisk::Refuse).unwrap().findings;
            assert!(findings[0].contains("2048 sectors") && findings[0].contains(part), "{findings:?}");
            for health in ["frozen", "hot"] {
                assert!(planned(action, health, FailingDisk::Refuse).unwrap().findings.is_empty());
            }
        }
    }

    /// The disk of the set itself, shortened since: the reason is said where the refusal is.
    #[test]
    fn a_disk_that_hides_what_the_image_needs_is_too_small() {
        let set = share(record(1, &["sda S1 4G@1"], &[]));
        let mut disks = inventory(&["sda S1 3G@1"]);
        disks.disks[0].health.hidden = 1 << 30;
        let refusal = plan(&request(Action::Restore), &disks, &set).unwrap_err();
        assert_eq!(refusal.kind, Kind::Unfit);
        assert!(refusal.what.contains("hides 1073741824 more"), "{}", refusal.what);
    }
}
