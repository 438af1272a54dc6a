//! What grows on a disk that is larger than the imaged one, where that is asked for: decided before the first write.

use super::{Plan, PlanStep, SetSource};
use crate::failure::{Failure, Kind};
use crate::inventory::Disk;
use crate::used::{FileSystem, Growable, Growth};
use std::collections::BTreeMap;
use std::fmt;

/// A last partition that grows, and the file system in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grown {
    /// From where to where.
    pub growth: Growth,
    /// What is in it.
    pub file_system: FileSystem,
}

impl fmt::Display for Grown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Growth { number, start, old_end, end } = self.growth;
        let tools = GrowTools::of(self.file_system);
        write!(
            f,
            "partition {number} and its {} grow from {} to {} bytes, by {}",
            self.file_system,
            old_end.saturating_sub(start),
            end.saturating_sub(start),
            tools.grows
        )
    }
}

/// The programs of the NFS root that grow one kind of file system.
struct GrowTools {
    /// The one that grows it, for people.
    grows: &'static str,
    /// All that are needed beside losetup.
    programs: &'static [&'static str],
    /// The Debian package that has them.
    package: &'static str,
}

/// What makes a part of a disk a device of its own.
const LOSETUP: &str = "losetup";

impl GrowTools {
    const fn of(file_system: FileSystem) -> GrowTools {
        let (grows, programs, package): (_, &[&str], _) = match file_system {
            FileSystem::Ext4 => ("resize2fs", &["e2fsck", "resize2fs"], "e2fsprogs"),
            FileSystem::Xfs => ("xfs_growfs", &["xfs_growfs", "xfs_repair"], "xfsprogs"),
            FileSystem::Btrfs => ("btrfs filesystem resize", &["btrfs"], "btrfs-progs"),
            FileSystem::Ntfs => ("ntfsresize", &["ntfsresize"], "ntfs-3g"),
        };
        GrowTools { grows, programs, package }
    }
}

impl SetSource {
    fn is_larger(&self, disk: &Disk) -> bool {
        self.record.as_ref().is_none_or(|image| disk.size > image.disk_size)
    }
}

impl Plan {
    /// The paths of the images that go to larger disks, or say nothing of the size of theirs.
    pub fn larger(&self) -> Vec<String> {
        let steps = self.steps.iter();
        let larger = steps.filter_map(|step| match step {
            PlanStep::RestoreDisk { source, disk, .. } if source.is_larger(disk) => Some(source.path.clone()),
            _ => None,
        });
        larger.collect()
    }
}

/// Puts what grows into the steps of a restore; what does not, and why, becomes a finding. `images` says of each path of
/// [`Plan::larger`] what can; `has` whether the NFS root has a program, and `has_root` whether there is one.
///
/// # Errors
/// Something would grow, and what does it is not here.
pub fn plan_growth(
    plan: &mut Plan,
    images: &BTreeMap<String, Result<Growable, String>>,
    has_root: bool,
    has: &dyn Fn(&str) -> bool,
) -> Result<(), Failure> {
    for step in &mut plan.steps {
        let PlanStep::RestoreDisk { source, disk, grown } = step else { continue };
        match growth(images.get(&source.path), disk) {
            Ok(None) => {
                let same = format!("{} is not larger than the imaged disk: nothing grows on it", disk.name);
                plan.notes.push(same);
            }
            Ok(Some(found)) => {
                needs_tools(&found, disk, has_root, has)?;
                *grown = Some(found);
            }
            Err(why) => plan.findings.push(format!("NOT GROWN: {}: {why}", disk.name)),
        }
    }
    Ok(())
}

fn growth(image: Option<&Result<Growable, String>>, disk: &Disk) -> Result<Option<Grown>, String> {
    let Some(image) = image else { return Ok(None) };
    let Growable { partition, file_system, disk_size } = image.as_ref().map_err(String::clone)?;
    if disk.size <= *disk_size {
        return Ok(None);
    }
    let growth = partition.on(disk.size)?;
    Ok(Some(Grown { growth, file_system: *file_system }))
}

fn needs_tools(
    grown: &Grown,
    disk: &Disk,
    has_root: bool,
    has: &dyn Fn(&str) -> bool,
) -> Result<(), Failure> {
    let GrowTools { programs, package, .. } = GrowTools::of(grown.file_system);
    let refuse = |why: String, how: String| {
        let what = format!("testbox.grow=last: {}: the {} cannot grow: {why}", disk.name, grown.file_system);
        let advice = format!("nothing was written. {how}; or restore without testbox.grow.");
        Err(Failure::new(Kind::NoTools, what, advice))
    };
    if !has_root {
        return refuse(
            "its tools are in the NFS root, and this boot has none (boot=testbox)".into(),
            "Arm the machine with the NFS root".into(),
        );
    }
    let missing = [LOSETUP].iter().chain(programs).find(|name| !has(name));
    match missing {
        None => Ok(()),
        Some(name) => {
            let package = if *name == LOSETUP { "mount" } else { package };
            let how = format!("Install {package} in it (chroot ROOT apt-get install {package})");
            refuse(format!("the NFS root has no {name}"), how)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit;
    use super::*;
    use crate::used::growable;

    /// A plan that restores sda onto a disk of so many MiB, by what an image says.
    fn planned(
        image: Option<Result<Growable, String>>,
        mib: u64,
        has: &dyn Fn(&str) -> bool,
    ) -> (Plan, Result<(), Failure>) {
        let mut disk = testkit::disk("sda S1 1G@1");
        disk.size = mib << 20;
        let record = Some(testkit::image("sda S1 1G@1", 1));
        let source = SetSource { path: "sda.raw.gz".into(), name: "sda".into(), record, is_mapped: false };
        let steps = vec![PlanStep::RestoreDisk { source, disk, grown: None }];
        let mut plan = Plan {
            action: crate::job::Action::Restore,
            notes: Vec::new(),
            findings: Vec::new(),
            steps,
            firmware: None,
        };
        let images = plan.larger().into_iter().zip(image).collect();
        let result = plan_growth(&mut plan, &images, true, has);
        (plan, result)
    }

    fn ext4() -> Growable {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 30).unwrap();
        let path = file.path().to_str().unwrap();
        for words in [
            &["sgdisk", "-n1:2048:+8M", path][..],
            &["mke2fs", "-q", "-F", "-E", "offset=1048576", path, "8M"],
        ] {
            let out = std::process::Command::new(words[0])
                .args(&words[1..])
                .output()
                .expect("scripts/packages test");
            assert!(out.status.success(), "{words:?}: {out:?}");
        }
        growable(file.as_file(), 512).unwrap()
    }

    #[test]
    fn what_grows_is_said_in_the_plan_and_what_does_not_too() {
        let all = |_: &str| true;
        let (plan, result) = planned(Some(Ok(ext4())), 2048, &all);
        result.unwrap();
        let text = plan.to_string();
        assert!(
            text.contains("; then partition 1 and its ext4 grow from ") && text.contains("by resize2fs"),
            "{text}"
        );
        let (plan, result) = planned(None, 1024, &all);
        assert!(result.is_ok() && plan.to_string().contains("sda is not larger than the imaged disk"));
        let (plan, result) = planned(Some(Err("swap".into())), 2048, &all);
        assert!(result.is_ok() && plan.findings == ["NOT GROWN: sda: swap"]);
    }

    #[test]
    fn without_its_tools_nothing_is_written() {
        for (missing, package) in [("losetup", "mount"), ("e2fsck", "e2fsprogs"), ("resize2fs", "e2fsprogs")]
        {
            let (_, result) = planned(Some(Ok(ext4())), 2048, &|name| name != missing);
            let failure = result.unwrap_err();
            assert_eq!(failure.kind, Kind::NoTools);
            let text = failure.to_string();
            assert!(
                text.contains(missing) && text.contains(package) && text.contains("nothing was written"),
                "{text}"
            );
        }
        let none = |_: &str| false;
        assert!(planned(Some(Err("swap".into())), 2048, &none).1.is_ok(), "nothing would grow");
        assert!(planned(None, 1024, &none).1.is_ok(), "it is not larger");
    }
}
