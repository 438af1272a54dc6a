//! The file system of a partition that has grown follows it: by its own tools, from the NFS root, on a loop device over the
//! disk that is held, before anything of the disk boots. A cut meanwhile leaves a disk that does not boot, and a job that is
//! done again.
//!
//! ```text
//! /dev, /proc, /sys into the root -> losetup over the partition -> check -> grow -> [failed: check again] -> detach
//! ```
//!
//! A tool that fails and leaves a file system that its checker finds right has lost nothing: the data are restored. One that
//! leaves anything else fails the restore.

use super::context::{RestoreTarget, StepContext};
use crate::agent::image_failure::internal;
use crate::block::View;
use crate::failure::{Failure, Kind};
use crate::plan::Grown;
use crate::progress::Progress;
use crate::sys::{MountFlags, Program, Ran, System, UnmountFlags, errno_words};
use crate::used::{FileSystem, file_system_end};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long one tool may take: a check reads all metadata.
const LIMIT: Duration = Duration::from_secs(3600);
/// Where a file system is mounted that only grows so, in the root.
const MOUNT: &str = "/run/testbox-grow";

/// A command: its program and arguments, and the highest exit code that is good.
struct ToolCommand {
    words: &'static [&'static str],
    good: i32,
}

/// Stands for the device in a command, or for [`MOUNT`].
const DEVICE: &str = "DEVICE";

/// How one kind of file system grows.
struct Way {
    /// Looks whether it is right, before anything; what it mends on the way is fine.
    check: Option<ToolCommand>,
    grow: ToolCommand,
    /// Grows only where it is mounted.
    is_mounted: bool,
    /// Looks whether it is right, and changes nothing.
    look: ToolCommand,
}

const fn command(words: &'static [&'static str]) -> ToolCommand {
    ToolCommand { words, good: 0 }
}

/// The commands, from each tool's manual page. e2fsck(8): 1 is "errors corrected". ntfsresize(8): without a size up to the end
/// of the device; twice -f, so that it asks nothing; the volume is then checked by Windows at its next start.
const fn way(file_system: FileSystem) -> Way {
    match file_system {
        FileSystem::Ext4 => Way {
            check: Some(ToolCommand { words: &["e2fsck", "-f", "-p", DEVICE], good: 1 }),
            grow: command(&["resize2fs", DEVICE]),
            is_mounted: false,
            look: command(&["e2fsck", "-f", "-n", DEVICE]),
        },
        FileSystem::Xfs => Way {
            check: None,
            grow: command(&["xfs_growfs", MOUNT]),
            is_mounted: true,
            look: command(&["xfs_repair", "-n", DEVICE]),
        },
        FileSystem::Btrfs => Way {
            check: None,
            grow: command(&["btrfs", "filesystem", "resize", "max", MOUNT]),
            is_mounted: true,
            look: command(&["btrfs", "check", "--readonly", DEVICE]),
        },
        FileSystem::Ntfs => Way {
            check: Some(command(&["ntfsresize", "--info", "--force", "--no-progress-bar", DEVICE])),
            grow: command(&["ntfsresize", "--force", "--force", "--no-progress-bar", DEVICE]),
            is_mounted: false,
            look: command(&["ntfsresize", "--info", "--force", "--no-progress-bar", DEVICE]),
        },
    }
}

/// Grows it; what there is to say, or the failure of a restore whose data are safe.
///
/// # Errors
/// The folder is another agent's by now; the file system is not right any more, and the disk stays unbootable.
pub fn grow(
    cx: &StepContext<'_>,
    root: &Path,
    target: &RestoreTarget,
    grown: &Grown,
) -> Result<Result<String, Failure>, Failure> {
    let tools = RootTools { cx, system: cx.world.system(), root, target, grown };
    let before = tools.end();
    let done = tools.in_root(|| tools.on_device(|device| tools.work(device)));
    cx.reporter.check()?;
    target.device.flush().and_then(|()| target.device.drop_cache()).map_err(|e| {
        let what = format!("{}: what has grown is not on the disk: {}", target.disk.name, errno_words(&e));
        Failure::new(Kind::DiskWrite, what, "look at the disk, its cable or its controller.")
    })?;
    match done {
        Ok(()) => Ok(Ok(tools.said(before, tools.end()))),
        Err(Stopped::Safe(why)) => Ok(Err(tools.not_grown(&why))),
        Err(Stopped::Lost(why)) => Err(tools.damaged(&why)),
        Err(Stopped::Failed(failure)) => Err(failure),
    }
}

/// Why it did not come to its end.
enum Stopped {
    /// The file system is as it was, or right all the same.
    Safe(String),
    /// It is not.
    Lost(String),
    /// The run is to end.
    Failed(Failure),
}

struct RootTools<'a> {
    cx: &'a StepContext<'a>,
    system: Arc<dyn System>,
    root: &'a Path,
    target: &'a RestoreTarget,
    grown: &'a Grown,
}

impl RootTools<'_> {
    /// Byte of the disk behind the file system.
    fn end(&self) -> Option<u64> {
        let (device, growth, progress) = (&*self.target.device, &self.grown.growth, Progress::new());
        let view = View::new(device, &progress);
        file_system_end(&view, growth.start, growth.end, device.logical_block_size())
    }

    fn name(&self) -> String {
        let (disk, number) = (&self.target.disk.name, self.grown.growth.number);
        format!("{disk}, partition {number}: the {}", self.grown.file_system)
    }

    fn said(&self, before: Option<u64>, after: Option<u64>) -> String {
        let (name, end) = (self.name(), self.grown.growth.end);
        match (before, after) {
            (Some(before), Some(after)) if after > before => {
                format!(
                    "{name} has grown: it ended at byte {before} and ends at byte {after} now, its partition at {end}"
                )
            }
            _ => format!(
                "{name} is as large as before, its tool had nothing to do; its partition ends at byte {end} now"
            ),
        }
    }

    fn not_grown(&self, why: &str) -> Failure {
        let what = format!(
            "the disks are restored and verified, and the partition has grown, but not what is in it: {}: {why}",
            self.name()
        );
        let advice = "the machine is disarmed, its data are complete. Grow it by hand, in its own system or from a rescue.";
        Failure::new(Kind::NotGrown, what, advice)
    }

    fn damaged(&self, why: &str) -> Failure {
        let what = format!("{} was damaged while it grew: {why}; the disk is left unbootable", self.name());
        Failure::new(Kind::DiskWrite, what, "look at the disk; or restore without testbox.grow.")
    }

    /// Has the root see devices and processes meanwhile.
    fn in_root(&self, work: impl FnOnce() -> Result<(), Stopped>) -> Result<(), Stopped> {
        let mounts = [
            ("/dev", "dev", "", MountFlags::BIND),
            ("proc", "proc", "proc", MountFlags::empty()),
            ("sysfs", "sys", "sysfs", MountFlags::empty()),
        ];
        let mut mounted: Vec<PathBuf> = Vec::new();
        let mut result = Ok(());
        for (source, at, kind, flags) in mounts {
            let at = self.root.join(at);
            let made =
                self.system.make_dir(&at).and_then(|()| self.system.mount(source, &at, kind, flags, ""));
            if let Err(e) = made {
                let why = format!("cannot mount {source} on {}: {}", at.display(), errno_words(&e));
                result = Err(Stopped::Safe(why));
                break;
            }
            mounted.push(at);
        }
        let result = result.and_then(|()| work());
        for at in mounted.iter().rev() {
            if let Err(e) = self.system.unmount(at, UnmountFlags::DETACH) {
                self.cx.journal.warn(&format!("cannot unmount {}: {}", at.display(), errno_words(&e)));
            }
        }
        result
    }

    /// Makes the partition a device. The name of the disk is safe: it stays the disk's as long as that is held open.
    fn on_device(&self, work: impl FnOnce(&str) -> Result<(), Stopped>) -> Result<(), Stopped> {
        let (growth, device) = (&self.grown.growth, &self.target.device);
        let [offset, size] = [growth.start, growth.end - growth.start].map(|bytes| bytes.to_string());
        let (sector, path) =
            (device.logical_block_size().to_string(), self.target.disk.path.display().to_string());
        // In the kernel or not: mount(8) and losetup(8) would ask for it in the initramfs.
        self.load("loop")?;
        let words = [
            "losetup",
            "--find",
            "--show",
            "--offset",
            &offset,
            "--sizelimit",
            &size,
            "--sector-size",
            &sector,
            &path,
        ];
        let output = self.good(&words, 0).map_err(Stopped::Safe)?;
        let found = output.lines().map(str::trim).find(|line| line.starts_with("/dev/loop"));
        let Some(found) = found else {
            return Err(Stopped::Safe(format!("losetup names no device: {}", output.trim())));
        };
        let result = work(found);
        match self.good(&["losetup", "--detach", found], 0) {
            // Whatever holds it could write any time.
            Err(why) if result.is_ok() => Err(Stopped::Lost(why)),
            _ => result,
        }
    }

    fn load(&self, module: &str) -> Result<(), Stopped> {
        self.cx.reporter.check_lease().map_err(Stopped::Failed)?;
        if let Err(why) = self.good(&["modprobe", module], 0) {
            self.cx.journal.detail(&why);
        }
        Ok(())
    }

    fn work(&self, device: &str) -> Result<(), Stopped> {
        let way = way(self.grown.file_system);
        if let Some(check) = &way.check {
            self.command(check, device)
                .map_err(|why| Stopped::Safe(format!("its check refuses it: {why}")))?;
        }
        self.cx.reporter.check_lease().map_err(Stopped::Failed)?;
        let grown = match way.is_mounted {
            true => self.mounted(&way.grow, device)?,
            false => self.command(&way.grow, device),
        };
        let Err(why) = grown else { return Ok(()) };
        match self.command(&way.look, device) {
            Ok(()) => Err(Stopped::Safe(why)),
            Err(also) => Err(Stopped::Lost(format!("{why}; and then {also}"))),
        }
    }

    /// Mounts the device, has a command grow it there, and unmounts it.
    fn mounted(&self, grow: &ToolCommand, device: &str) -> Result<Result<(), String>, Stopped> {
        let kind = self.grown.file_system.as_str();
        self.load(kind)?;
        let at = self.root.join(MOUNT.trim_start_matches('/'));
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let mounted =
            self.system.make_dir(&at).and_then(|()| self.system.mount(device, &at, kind, flags, ""));
        if let Err(e) = mounted {
            return Err(Stopped::Safe(format!("cannot mount it: {}", errno_words(&e))));
        }
        let grown = self.command(grow, device);
        match self.system.unmount(&at, UnmountFlags::empty()) {
            Ok(()) => Ok(grown),
            Err(e) => Err(Stopped::Lost(format!("cannot unmount it: {}", errno_words(&e)))),
        }
    }

    fn command(&self, command: &ToolCommand, device: &str) -> Result<(), String> {
        let words: Vec<&str> =
            command.words.iter().map(|word| if *word == DEVICE { device } else { word }).collect();
        self.good(&words, command.good).map(drop)
    }

    /// Runs a program that must end with a code of at most `good`; what it said goes into the log, and is the answer.
    fn good(&self, words: &[&str], good: i32) -> Result<String, String> {
        let [name, args @ ..] = words else { return Err(internal("no program").what) };
        let program = Program { root: self.root, name, args, limit: LIMIT };
        let (line, disk, progress) = (words.join(" "), &self.target.disk.name, Progress::new());
        let run = || self.system.run(&program);
        let ran = self.cx.reporter.during(&format!("running {line}"), Some(disk), &progress, false, run);
        let Ran { code, output } = ran.map_err(|e| format!("{line}: {}", errno_words(&e)))?;
        output.lines().for_each(|said| self.cx.journal.info(&format!("{name}: {said}")));
        match (0..=good).contains(&code) {
            true => Ok(output),
            false => {
                let last = output.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
                Err(format!("{line} ended with {code}: {last}"))
            }
        }
    }
}
