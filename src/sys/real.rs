//! The real machine.

use super::{MountFlags, Program, Ran, Reboot, System, UnmountFlags, program, with_deadline};
use nix::sys::reboot::RebootMode;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The running machine. Everything but the clock needs root.
#[derive(Clone, Debug)]
pub struct RealSystem {
    start: Instant,
}

impl RealSystem {
    /// The running machine; [`System::monotonic`] counts from here.
    pub fn new() -> Self {
        RealSystem { start: Instant::now() }
    }
}

impl Default for RealSystem {
    fn default() -> Self {
        Self::new()
    }
}

impl System for RealSystem {
    fn mount(
        &self,
        source: &str,
        target: &Path,
        fstype: &str,
        flags: MountFlags,
        data: &str,
    ) -> io::Result<()> {
        // `Mount` does not unmount when dropped; who wants that wraps the target in a guard.
        sys_mount::Mount::builder().fstype(fstype).flags(flags).data(data).mount(source, target).map(drop)
    }

    fn move_mount(&self, from: &Path, to: &Path) -> io::Result<()> {
        // mount(2) with MS_MOVE, not move_mount(2): the latter came with Linux 5.2 only.
        Ok(rustix::mount::mount_move(from, to)?)
    }

    fn unmount(&self, target: &Path, flags: UnmountFlags) -> io::Result<()> {
        sys_mount::unmount(target, flags)
    }

    fn mountinfo(&self) -> io::Result<String> {
        // A mount point may have any bytes in its name.
        Ok(String::from_utf8_lossy(&std::fs::read("/proc/self/mountinfo")?).into_owned())
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
    }

    fn sync_fs(&self, path: &Path, limit: Duration) -> io::Result<()> {
        let path = path.to_owned();
        with_deadline(limit, move || {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&path, flags, Mode::empty())?;
            Ok(rustix::fs::syncfs(fd)?)
        })
    }

    fn reboot(&self, how: Reboot) -> io::Result<()> {
        let mode = match how {
            Reboot::Restart => RebootMode::RB_AUTOBOOT,
            Reboot::PowerOff => RebootMode::RB_POWER_OFF,
            Reboot::Halt => RebootMode::RB_HALT_SYSTEM,
        };
        match nix::sys::reboot::reboot(mode) {
            Ok(never) => match never {},
            Err(errno) => Err(errno.into()),
        }
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn available_memory(&self) -> u64 {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let words = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = words.and_then(|words| words.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0).saturating_mul(1024)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn since_boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::try_from(time).unwrap_or_default()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn set_host_name(&self, name: &str) -> io::Result<()> {
        Ok(rustix::system::sethostname(name.as_bytes())?)
    }

    fn has_program(&self, root: &Path, name: &str) -> bool {
        program::find(root, name).is_some()
    }

    fn run(&self, program: &Program<'_>) -> io::Result<Ran> {
        program::run(program)
    }

    fn set_sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        std::fs::write(Path::new("/proc/sys").join(name), value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn make_dir_makes_parents_and_accepts_what_is_there() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        let system = RealSystem::new();
        system.make_dir(&path).unwrap();
        system.make_dir(&path).unwrap();
        assert!(path.is_dir());
    }

    #[test]
    fn sync_fs_works_on_a_folder_and_names_a_missing_one() {
        let temp = tempfile::tempdir().unwrap();
        let system = RealSystem::new();
        system.sync_fs(temp.path(), Duration::from_secs(60)).unwrap();
        let missing = system.sync_fs(&temp.path().join("none"), Duration::from_secs(60));
        assert_eq!(missing.unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn a_mount_that_cannot_work_gives_its_errno() {
        let temp = tempfile::tempdir().unwrap();
        let error = RealSystem::new()
            .mount("none", temp.path(), "no-such-fs", MountFlags::empty(), "")
            .unwrap_err()
            .raw_os_error();
        assert!(matches!(error, Some(libc::ENODEV | libc::EPERM)), "{error:?}");
    }
}
