//! Effects on the machine itself, behind a trait so that tests can record them and make them fail.
//!
//! Mounts, the clock, the host name, the reboot; and ISA-L, which is C (`isal`). Files on a share go through
//! [`crate::share::Files`], disks through the block module.

mod extents;
mod flush;
pub(crate) mod isal;
#[cfg(any(test, feature = "testing"))]
mod power;
mod program;
mod random;
mod real;
#[cfg(any(test, feature = "testing"))]
mod recording;
mod signals;
mod tap;
mod udp;

pub use extents::{Deduped, EXTENTS, FileExtent, dedupe, extents, knows_dedupe};
pub use flush::{drop_cached, flush_range, start_flush};
#[cfg(any(test, feature = "testing"))]
pub use power::{Chance, Power};
pub use program::{Program, Ran};
pub use random::random_id;
pub use real::RealSystem;
#[cfg(any(test, feature = "testing"))]
pub use recording::{Call, Recording};
pub use signals::{ignore_ending_signals, is_ending, note_ending_signals};
pub use sys_mount::{MountFlags, UnmountFlags};
pub use tap::DhcpTap;
pub use udp::{AskedAt, receive_asked, udp_from, udp_on_device, udp_server};

use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reboot {
    /// Restart: back to PXE.
    Restart,
    /// Switch the power off.
    PowerOff,
    /// Stop the processors, leave the power on.
    Halt,
}

/// What testbox does to the running machine. Errors carry the errno (`raw_os_error`).
pub trait System: Send + Sync {
    /// mount(2). An empty `data` is no data. May block for ever on a dead NFS server: see [`with_deadline`].
    ///
    /// # Errors
    /// Those of mount(2).
    fn mount(
        &self,
        source: &str,
        target: &Path,
        fstype: &str,
        flags: MountFlags,
        data: &str,
    ) -> io::Result<()>;

    /// Moves the mount at `from` to the folder `to` (`MS_MOVE`).
    ///
    /// # Errors
    /// Those of mount(2).
    fn move_mount(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// umount2(2). Without `DETACH` it may block for ever on a dead NFS server.
    ///
    /// # Errors
    /// Those of umount2(2).
    fn unmount(&self, target: &Path, flags: UnmountFlags) -> io::Result<()>;

    /// `/proc/self/mountinfo`, see proc(5).
    ///
    /// # Errors
    /// Those of reading it.
    fn mountinfo(&self) -> io::Result<String>;

    /// Makes a folder and those above it, mode 0755; one that is there already is fine.
    ///
    /// # Errors
    /// Those of mkdir(2); something else has the name.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// syncfs(2) of the file system that holds `path`. After `limit` it is given up with `TimedOut`.
    ///
    /// # Errors
    /// `TimedOut`, those of syncfs(2).
    fn sync_fs(&self, path: &Path, limit: Duration) -> io::Result<()>;

    /// reboot(2). Does not return where it works, except in tests. Nothing is synced first: that is the caller's
    /// part, because sync(2) on a dead mount never ends.
    ///
    /// # Errors
    /// The kernel refuses.
    fn reboot(&self, how: Reboot) -> io::Result<()>;

    /// The wall clock, UTC. Right only as far as the machine's clock is.
    fn now(&self) -> jiff::Timestamp;

    /// Time since some fixed point; never goes back.
    fn monotonic(&self) -> Duration;

    /// Time since the boot, suspend included (CLOCK_BOOTTIME): the clock that `/proc/uptime` shows.
    fn since_boot(&self) -> Duration;

    /// Bytes of memory that a new program could have without anything being pushed out (`MemAvailable`, proc(5)); 0 where the
    /// kernel does not say.
    fn available_memory(&self) -> u64;

    /// Waits.
    fn sleep(&self, time: Duration);

    /// sethostname(2).
    ///
    /// # Errors
    /// Those of sethostname(2).
    fn set_host_name(&self, name: &str) -> io::Result<()>;

    /// Whether the system below `root` has a program of this name where programs of the administrator are.
    fn has_program(&self, root: &Path, name: &str) -> bool;

    /// Runs a program of the system below a root to its end, with that root as its own and nothing to read. One that takes
    /// longer than its limit is killed: `TimedOut`.
    ///
    /// # Errors
    /// It cannot be started; `TimedOut`, whether it could be killed or not. That it fails is none: see [`Ran::code`].
    fn run(&self, program: &Program<'_>) -> io::Result<Ran>;

    /// Sets a kernel parameter: `name` is its path below `/proc/sys`, as in sysctl(8), such as `kernel/sysrq`.
    ///
    /// # Errors
    /// The parameter is not there, or does not take the value.
    fn set_sysctl(&self, name: &str, value: &str) -> io::Result<()>;
}

/// Runs `work` on a thread of its own and waits for it no longer than `limit`.
///
/// For operations on NFS mounts: on a hard mount whose server is gone they block in the kernel and cannot be
/// cancelled. When the limit passes the answer is `TimedOut`, and **the thread is leaked on purpose**: it stays
/// blocked until the server comes back or the machine reboots, and its late result is dropped.
///
/// # Errors
/// `TimedOut`, those of `work`; no thread can be had.
pub fn with_deadline<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("deadline".into()).spawn(move || {
        // Nobody listens any more once the limit has passed.
        let _ = sender.send(work());
    })?;
    match receiver.recv_timeout(limit) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s: given up", limit.as_secs()),
        )),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(io::Error::other("the operation panicked")),
    }
}

/// An error in words, with the errno's name where there is one: `EACCES, Permission denied`.
pub fn errno_words(error: &io::Error) -> String {
    match error.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(errno) if errno != nix::errno::Errno::UnknownErrno => format!("{errno:?}, {}", errno.desc()),
        _ => error.to_string(),
    }
}

/// Gives the calling thread a mount namespace of its own, from which nothing spreads back.
#[cfg(test)]
pub(crate) fn unshare_mounts() -> io::Result<()> {
    use rustix::mount::MountPropagationFlags;
    // SAFETY: the file descriptor table stays shared; only the view of the mounts is this thread's own.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS)? };
    Ok(rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_words_name_the_errno() {
        let error = io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(errno_words(&error), "EACCES, Permission denied");
        assert_eq!(errno_words(&io::Error::other("what happened")), "what happened");
    }

    #[test]
    fn with_deadline_hands_results_back_and_gives_up_on_what_blocks() {
        assert_eq!(with_deadline(Duration::from_secs(60), || Ok(7)).unwrap(), 7);
        let failed = with_deadline::<()>(Duration::from_secs(60), || Err(io::ErrorKind::NotFound.into()));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::NotFound);

        let (hold, held) = mpsc::channel::<()>();
        let blocked = with_deadline(Duration::from_millis(1), move || {
            let _ = held.recv();
            Ok(())
        });
        assert_eq!(blocked.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(hold);
    }

    #[test]
    fn with_deadline_reports_a_panic_as_an_error() {
        let result = with_deadline::<()>(Duration::from_secs(60), || panic!("on purpose"));
        assert!(result.unwrap_err().to_string().contains("panicked"));
    }
}
