//! Brings a share here by NFS, with mount(2) and nothing else.
//!
//! The option words are those of nfs(5); what the kernel takes is in its `fs/nfs/fs_context.c`.
//!
//! # Which version
//!
//! [`NfsOptions::versions`] in turn, 4.2 and then 3 unless `vers=` names others: only 4.2 has CLONE (RFC 7862 section 15.13),
//! by which images share what did not change. The kernel pings the server's RPC program before anything else
//! (`rpc_ping` in `net/sunrpc/clnt.c`, soft and with a connection that may fail), so a server without this version says
//! so within one round trip. Two kinds of failure:
//!
//! - **An answer**: `EPROTONOSUPPORT` (no version 4, or no minor version 2), `ENOENT` (a path of NFSv4 begins at the server's
//!   pseudo root, RFC 8881 section 7.3, and may be another one than NFSv3's), `EACCES`, `EPERM`, `ECONNREFUSED`, ... The next
//!   version is tried at once.
//! - **Silence**: packets are lost, the host is off, or it takes the connection and says nothing. All versions go to that host
//!   and most to one port, so the next one would wait as long again: it begins the next round instead.

use super::Files;
use super::nfs_options::{NfsOptions, Version};
use crate::sys::{MountFlags, System, UnmountFlags, errno_words, with_deadline};
use crate::types::NfsSource;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use sys_mount::{Unmount, UnmountDrop};

/// One mount(2) that takes longer than this is left behind, and the next attempt begins.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(180);
/// How long an unmount may take before it is left behind.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(20);
/// Waits between attempts: the last one repeats.
const PAUSES: [u64; 4] = [2, 5, 10, 15];

/// What to mount, and where.
#[derive(Clone, Debug)]
pub struct MountRequest<'a> {
    /// Server and path, as the admin wrote them.
    pub source: &'a NfsSource,
    /// The server's address: resolving is the caller's.
    pub server: Ipv4Addr,
    /// This machine's address, which NFSv4.0 tells the server for callbacks.
    pub client: Option<Ipv4Addr>,
    /// Where to mount it; made where missing.
    pub target: &'a Path,
    /// What was asked for after the path: [`NfsOptions::parse`] of the source's options.
    pub options: &'a NfsOptions,
    /// Mount it so that nothing can be written through this mount; the option `ro` does the same.
    pub read_only: bool,
}

/// A mounted share. Dropping the [`MountGuard`] around it unmounts it lazily and never blocks for long.
pub struct MountedShare {
    system: Arc<dyn System>,
    target: PathBuf,
    is_mounted: AtomicBool,
}

/// Unmounts when dropped.
pub type MountGuard = UnmountDrop<MountedShare>;

impl MountedShare {
    /// Takes charge of what is mounted at `target`.
    pub fn guard(system: Arc<dyn System>, target: &Path) -> MountGuard {
        let mounted = MountedShare { system, target: target.to_owned(), is_mounted: AtomicBool::new(true) };
        // Lazily: a file that is still open, or an engine thread that hangs on it, must not keep the guard.
        mounted.into_unmount_drop(UnmountFlags::DETACH)
    }

    /// The mount point.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Writes back what is dirty, then unmounts it. A folder or file of it that is still open does not matter, as
    /// the last of them lets go of the server. After `limit` it is given up with `TimedOut`; dropping the guard then
    /// still tries without writing back.
    ///
    /// # Errors
    /// `TimedOut`, and what could not be written back or unmounted.
    pub fn close(&self, limit: Duration) -> io::Result<()> {
        self.system.sync_fs(&self.target, limit)?;
        self.unmount_within(UnmountFlags::DETACH, limit)
    }

    fn unmount_within(&self, flags: UnmountFlags, limit: Duration) -> io::Result<()> {
        if !self.is_mounted.load(Ordering::SeqCst) {
            return Ok(());
        }
        let (system, target) = (self.system.clone(), self.target.clone());
        // Even a lazy unmount writes back dirty pages where nobody else holds the mount: it can block too.
        with_deadline(limit, move || system.unmount(&target, flags))?;
        self.is_mounted.store(false, Ordering::SeqCst);
        Ok(())
    }
}

impl Unmount for MountedShare {
    fn unmount(&self, flags: UnmountFlags) -> io::Result<()> {
        // The guard's drop swallows errors; here they are said.
        self.unmount_within(flags, UNMOUNT_LIMIT)
            .inspect_err(|e| log::warn!("cannot unmount {}: {}", self.target.display(), errno_words(e)))
    }
}

/// A share could not be mounted. The text names server and path, and for each version tried the errno in words and
/// what to check.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {share}: {}", Attempts(attempts))]
pub struct MountFailed {
    /// Server and path.
    pub share: String,
    /// The versions that were tried, in that order, and how each failed the last time.
    pub attempts: Vec<(Version, io::Error)>,
}

impl MountFailed {
    fn note(&mut self, version: Version, error: io::Error) {
        self.attempts.retain(|(tried, _)| *tried != version);
        self.attempts.push((version, error));
    }

    /// For the line that says what is mounted: why none of these versions is.
    fn why_not(&self, versions: &[Version]) -> String {
        let preferred = self.attempts.iter().filter(|(tried, _)| versions.contains(tried));
        preferred.map(|(tried, error)| format!("; {}", Attempt(*tried, error))).collect()
    }
}

/// How one version failed, in words.
struct Attempt<'a>(Version, &'a io::Error);

impl fmt::Display for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attempt(version, error) = self;
        write!(f, "{version}: {}", errno_words(error))?;
        hint(error).map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

struct Attempts<'a>(&'a [(Version, io::Error)]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (version, error)) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{}", Attempt(*version, error))?;
        }
        Ok(())
    }
}

/// What the admin should look at, by errno.
fn hint(error: &io::Error) -> Option<&'static str> {
    if error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none() {
        return Some("the server began to answer and then went silent");
    }
    Some(match error.raw_os_error()? {
        libc::ENOENT => "the server has no such export: check the path, and 'exportfs -v' there",
        libc::EACCES => {
            "the server does not export it to this machine: check its /etc/exports for this address"
        }
        libc::EPERM => "not allowed: behind a NAT the export needs 'insecure'; mounting needs root",
        libc::ECONNREFUSED => "nothing listens there: does the NFS server run, and rpcbind for NFSv3?",
        libc::ETIMEDOUT => {
            "no answer: is the server up, does its firewall pass TCP 2049, for NFSv3 also 111 and mountd?"
        }
        libc::EHOSTUNREACH | libc::ENETUNREACH => {
            "no way there: check this machine's address, netmask and gateway, and the cable"
        }
        libc::ESTALE => "the server has lost the export: 'exportfs -ra' there, or restart its NFS server",
        libc::EPROTONOSUPPORT | libc::EOPNOTSUPP => {
            "the server does not speak this version: name one that it does, such as ',vers=4' for all of 4"
        }
        libc::ENODEV => "this kernel has no NFS client: the initramfs lacks the module nfs",
        libc::EINVAL => "the kernel does not take these options",
        libc::EBUSY => "something is mounted there already",
        _ => return None,
    })
}

/// Nobody has answered: neither that the version is spoken, nor that it is not.
fn is_silence(error: &io::Error) -> bool {
    match error.raw_os_error() {
        Some(errno) => {
            matches!(errno, libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN)
        }
        None => error.kind() == io::ErrorKind::TimedOut,
    }
}

/// No waiting mends these.
fn is_permanent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL))
        || error.kind() == io::ErrorKind::InvalidData
}

/// Fails unless the kernel says that what is mounted at `target` is `hard`: what was asked for is not always what it
/// does (mounts of one export can share the options of the first), and soft mounts lose data silently.
fn check_hard(system: &dyn System, target: &Path) -> io::Result<()> {
    let mountinfo = system.mountinfo()?;
    let options = nfs_options_at(&mountinfo, target);
    if options.is_some_and(|options| options.split(',').any(|option| option == "hard")) {
        return Ok(());
    }
    let what = options.map_or_else(
        || "the kernel does not show it as mounted by NFS".to_owned(),
        |options| {
            format!("the kernel has not mounted it hard, but with '{options}': data could be lost silently")
        },
    );
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// The options of the NFS mount at `target`: the last field of its line, see proc(5). The last line counts, which is
/// the mount on top.
fn nfs_options_at<'a>(mountinfo: &'a str, target: &Path) -> Option<&'a str> {
    let of_line = |line: &'a str| {
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        let is_nfs = matches!(tail.next()?, "nfs" | "nfs4");
        let is_there = Path::new(head.split(' ').nth(4)?) == target;
        (is_nfs && is_there).then(|| tail.nth(1)).flatten()
    };
    mountinfo.lines().rev().find_map(of_line)
}

/// Mounts a share: the versions of `request.options` in turn (see [above](self)), `hard`, without locks,
/// `nosuid,nodev,noexec`; again and again until `limit` has passed (`Duration::ZERO` tries one round, `Duration::MAX`
/// never ends). Each failed round is one line to `say`, and so are the options' notes and the success, with why an earlier
/// version is not taken.
///
/// An error that no waiting mends (no NFS client, options that the kernel does not take) ends it at once.
///
/// # Errors
/// What each version said the last time that it was tried.
pub fn mount_nfs(
    system: &Arc<dyn System>,
    request: &MountRequest<'_>,
    limit: Duration,
    say: &mut dyn FnMut(&str),
) -> Result<MountGuard, MountFailed> {
    let share = format!("{}:{}", request.source.host, request.source.path);
    let share_text = if request.source.host.ipv4() == Some(request.server) {
        share.clone()
    } else {
        format!("{share} ({})", request.server)
    };
    request.options.notes.iter().for_each(|note| say(&format!("{share}: {note}")));

    let versions = &*request.options.versions;
    let start = system.monotonic();
    let mut pauses = PAUSES.into_iter();
    let mut pause = Duration::ZERO;
    let mut failed = MountFailed { share: share_text, attempts: Vec::new() };
    // Index of the version that begins the round.
    let mut first = 0;
    loop {
        for (index, &version) in versions.iter().enumerate().skip(std::mem::take(&mut first)) {
            let Err(error) = attempt(system, request, version, &share) else {
                let how = if request.read_only || request.options.read_only { ", read-only" } else { "" };
                let why_not = failed.why_not(&versions[..index]);
                say(&format!("{} is mounted by {version}{how}{why_not}", failed.share));
                return Ok(MountedShare::guard(system.clone(), request.target));
            };
            let is_silent = is_silence(&error);
            failed.note(version, error);
            if is_silent {
                first = (index + 1) % versions.len();
                break;
            }
        }
        let left = limit.saturating_sub(system.monotonic().saturating_sub(start));
        if left.is_zero() || failed.attempts.iter().all(|(_, e)| is_permanent(e)) {
            return Err(failed);
        }
        pause = pauses.next().map_or(pause, Duration::from_secs).min(left);
        say(&format!("{failed}; next try in {} s", pause.as_secs().max(1)));
        system.sleep(pause);
    }
}

/// One mount(2), with a limit: the kernel's own timeouts end most attempts, but the requests that follow a mount on
/// a server that dies just then are as hard as all others.
fn attempt(
    system: &Arc<dyn System>,
    request: &MountRequest<'_>,
    version: Version,
    share: &str,
) -> io::Result<()> {
    /// Who decides first: the attempt that ends, or the caller that gives up on it.
    #[derive(PartialEq)]
    enum MountOutcome {
        Open,
        Mounted,
        Abandoned,
    }
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if request.read_only || request.options.read_only {
        flags |= MountFlags::RDONLY;
    }
    let data = request.options.data(version, request.server, request.client);
    let fstype = if version == Version::V3 { "nfs" } else { "nfs4" };
    let outcome = Arc::new(Mutex::new(MountOutcome::Open));

    let (system, target, share) = (system.clone(), request.target.to_owned(), share.to_owned());
    let inside = outcome.clone();
    let result = with_deadline(ATTEMPT_LIMIT, move || {
        system.make_dir(&target)?;
        system.mount(&share, &target, fstype, flags, &data)?;
        let mut outcome = inside.lock().unwrap_or_else(PoisonError::into_inner);
        if *outcome == MountOutcome::Abandoned {
            // Too late: another attempt may own the mount point by now, and this mount would hide it.
            return system.unmount(&target, UnmountFlags::DETACH);
        }
        if let Err(e) = check_hard(&*system, &target) {
            // Nothing was written there: it may go.
            let _ = system.unmount(&target, UnmountFlags::DETACH);
            return Err(e);
        }
        *outcome = MountOutcome::Mounted;
        Ok(())
    });
    let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
    match &result {
        Err(e) if e.kind() == io::ErrorKind::TimedOut && e.raw_os_error().is_none() => {
            if *outcome == MountOutcome::Mounted {
                return Ok(());
            }
            *outcome = MountOutcome::Abandoned;
            result
        }
        _ => result,
    }
}

/// What is mounted there is not the share that it should be.
#[derive(Debug, thiserror::Error)]
pub enum NotTheShare {
    /// The marker is missing.
    #[error(
        "{share} has no file '{marker}' in its root: it is another folder than the one that was meant, or an empty mount point"
    )]
    NoMarker {
        /// Server and path, or folder.
        share: String,
        /// Name of the missing file.
        marker: &'static str,
    },
    /// The share did not answer.
    #[error("cannot look for the file '{marker}' in the root of {share}: {}", errno_words(source))]
    Unreadable {
        /// Server and path, or folder.
        share: String,
        /// Name of the file.
        marker: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Checks that the share is the one that was meant and no empty mount point: a regular file named `marker` is in its
/// root. `share` is its name in the error.
///
/// # Errors
/// The marker is missing or not a regular file, or the root cannot be read.
pub fn check_marker(files: &dyn Files, share: &str, marker: &'static str) -> Result<(), NotTheShare> {
    match files.exists(marker) {
        Ok(true) => Ok(()),
        Ok(false) => Err(NotTheShare::NoMarker { share: share.to_owned(), marker }),
        Err(source) => Err(NotTheShare::Unreadable { share: share.to_owned(), marker, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::MemFiles;
    use crate::sys::{Call, Recording};

    fn request<'a>(source: &'a NfsSource, options: &'a NfsOptions) -> MountRequest<'a> {
        MountRequest {
            source,
            server: Ipv4Addr::new(10, 0, 2, 2),
            client: Some(Ipv4Addr::new(10, 0, 2, 15)),
            target: Path::new("/run/backup"),
            options,
            read_only: true,
        }
    }

    /// Mounts on a recording machine; the result as text, the lines said, the machine.
    fn run(
        recording: Recording,
        options: &str,
        limit: u64,
    ) -> (Result<(), String>, Vec<String>, Arc<Recording>) {
        let recording = Arc::new(recording);
        let system: Arc<dyn System> = recording.clone();
        let source: NfsSource = "server.lab:/export/testbox-backup".parse().unwrap();
        let options = NfsOptions::parse(options.split(',')).unwrap();
        let mut said = Vec::new();
        let result =
            mount_nfs(&system, &request(&source, &options), Duration::from_secs(limit), &mut |line| {
                said.push(line.to_owned());
            });
        (result.map(drop).map_err(|e| e.to_string()), said, recording)
    }

    #[test]
    fn version_4_2_is_tried_before_3_and_the_guard_unmounts_lazily() {
        let recording = Recording::new();
        recording.fail_nth(1, libc::EPROTONOSUPPORT);
        let (result, said, recording) = run(recording, "", 0);
        result.unwrap();
        assert_eq!(
            recording.lines(),
            [
                "mkdir /run/backup",
                "mount server.lab:/export/testbox-backup /run/backup nfs4 nodev,noexec,nosuid,rdonly \
                 addr=10.0.2.2,vers=4.2,proto=tcp,clientaddr=10.0.2.15,hard,nosharecache",
                "mkdir /run/backup",
                "mount server.lab:/export/testbox-backup /run/backup nfs nodev,noexec,nosuid,rdonly \
                 addr=10.0.2.2,vers=3,proto=tcp,mountproto=tcp,mountaddr=10.0.2.2,hard,nosharecache,nolock",
                "unmount /run/backup detach",
            ]
        );
        let [line] = &said[..] else { panic!("one line, not {said:?}") };
        let mounted =
            "server.lab:/export/testbox-backup (10.0.2.2) is mounted by NFSv3, read-only; NFSv4.2: ";
        assert!(line.starts_with(mounted) && line.contains("EPROTONOSUPPORT"), "{line}");
    }

    #[test]
    fn a_version_that_is_mounted_at_once_is_said_alone() {
        let (result, said, _) = run(Recording::new(), "", 0);
        result.unwrap();
        assert_eq!(said, ["server.lab:/export/testbox-backup (10.0.2.2) is mounted by NFSv4.2, read-only"]);
    }

    /// The versions whose mounts were asked for, in order, and the seconds waited in between.
    fn versions_tried(recording: &Recording) -> Vec<&'static str> {
        let version = |line: &String| {
            ["4.2", "4.1", "4.0", "3"].into_iter().find(|v| line.contains(&format!(",vers={v},")))
        };
        recording.lines().iter().filter_map(version).collect()
    }

    #[test]
    fn an_answer_tries_the_next_version_at_once() {
        let answers = [
            libc::EPROTONOSUPPORT,
            libc::EOPNOTSUPP,
            libc::EPFNOSUPPORT,
            libc::ENOENT,
            libc::EACCES,
            libc::EPERM,
            libc::ECONNREFUSED,
            libc::ECONNRESET,
            libc::EINVAL,
            libc::ENODEV,
            libc::EIO,
            libc::ENOTDIR,
            libc::ESTALE,
        ];
        for errno in answers {
            let recording = Recording::new();
            recording.fail_nth(1, errno);
            let (result, said, recording) = run(recording, "", 60);
            result.unwrap();
            assert_eq!(versions_tried(&recording), ["4.2", "3"], "{errno}");
            assert_eq!(
                (recording.monotonic(), said.len()),
                (Duration::ZERO, 1),
                "{errno}: no wait, one line"
            );
            assert!(said[0].contains("mounted by NFSv3, read-only; NFSv4.2: "), "{}", said[0]);
        }
    }

    #[test]
    fn silence_ends_a_round_and_the_versions_take_turns() {
        for errno in [libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::EHOSTDOWN] {
            let recording = Recording::new();
            recording.fail_when(move |call| matches!(call, Call::Mount { .. }).then_some(errno));
            let (result, said, recording) = run(recording, "", 20);
            let error = result.unwrap_err();
            // Rounds begin at 0, 2, 7, 17 and 20 s.
            assert_eq!(versions_tried(&recording), ["4.2", "3", "4.2", "3", "4.2"], "{errno}");
            assert!(error.contains("NFSv3: ") && error.contains("NFSv4.2: "), "{error}");
            assert!(!said[0].contains("NFSv3: ") && said.len() == 4, "{said:?}");
            // Three versions, of which two answer: the silent one costs a round, and no more.
            let recording = Recording::new();
            recording.fail_when(move |call| match call {
                Call::Mount { data, .. } if data.contains("vers=4.2") => Some(libc::EPROTONOSUPPORT),
                Call::Mount { data, .. } if data.contains("vers=4.1") => Some(errno),
                _ => None,
            });
            let (result, said, recording) = run(recording, "vers=4", 20);
            result.unwrap();
            assert_eq!(versions_tried(&recording), ["4.2", "4.1", "4.0"], "{errno}");
            assert!(
                said[1].contains("NFSv4.0, read-only; NFSv4.2: ") && said[1].contains("; NFSv4.1: "),
                "{said:?}"
            );
        }
    }

    #[test]
    fn one_version_that_is_silent_is_tried_again_alone() {
        let recording = Recording::new();
        recording.fail_when(|call| matches!(call, Call::Mount { .. }).then_some(libc::ETIMEDOUT));
        let (result, _, recording) = run(recording, "vers=4.2", 7);
        assert!(result.is_err());
        assert_eq!(versions_tried(&recording), ["4.2"; 3]);
    }

    #[test]
    fn a_failing_mount_is_repeated_until_the_deadline() {
        let recording = Recording::new();
        recording.fail_when(|call| matches!(call, Call::Mount { .. }).then_some(libc::EACCES));
        let (result, said, recording) = run(recording, "vers=3", 60);
        let error = result.unwrap_err();
        for part in [
            "server.lab:/export/testbox-backup",
            "10.0.2.2",
            "NFSv3",
            "EACCES",
            "Permission denied",
            "exports",
        ] {
            assert!(error.contains(part), "{error}");
        }
        // 2 + 5 + 10 + 15 + 15 + 13 = 60: the last wait is cut to the limit.
        assert_eq!(recording.monotonic(), Duration::from_secs(60));
        assert_eq!(said.len(), 6);
        assert!(said[5].ends_with("next try in 13 s"), "{}", said[5]);
    }

    #[test]
    fn a_mount_that_the_kernel_made_soft_is_refused_and_undone() {
        for soft in ["soft", "softerr", "hardly"] {
            let recording = Recording::new();
            recording.replace_option("hard", soft);
            let (result, _, recording) = run(recording, "vers=3", 60);
            let error = result.unwrap_err();
            assert!(error.contains("not mounted it hard") && error.contains(soft), "{error}");
            assert_eq!(recording.lines().last().unwrap(), "unmount /run/backup detach");
            assert_eq!(recording.monotonic(), Duration::ZERO, "no waiting mends it");
        }
    }

    #[test]
    fn options_are_those_of_the_mount_on_top_of_that_very_place() {
        let mountinfo = "22 1 0:21 / /proc rw - proc proc rw\n\
            40 25 0:40 / /run/backup rw,nosuid - nfs srv:/b rw,vers=3,soft,nolock\n\
            41 25 0:41 / /run/backup2 rw - nfs srv:/b rw,vers=3,soft\n\
            42 40 0:42 / /run/backup rw,nosuid shared:7 - nfs4 srv:/b rw,vers=4.2,hard\n\
            43 25 0:43 / /run/tmp rw - tmpfs hard hard\nnonsense\n";
        let at = |path| nfs_options_at(mountinfo, Path::new(path));
        assert_eq!(at("/run/backup"), Some("rw,vers=4.2,hard"));
        assert_eq!(at("/run/backup2"), Some("rw,vers=3,soft"));
        assert_eq!((at("/run/tmp"), at("/run"), at("/proc")), (None, None, None));
    }

    #[test]
    fn what_no_waiting_mends_ends_at_once() {
        for errno in [libc::ENODEV, libc::EINVAL] {
            let recording = Recording::new();
            recording.fail_when(move |call| matches!(call, Call::Mount { .. }).then_some(errno));
            let (result, said, recording) = run(recording, "vers=3", 60);
            assert!(result.is_err());
            assert!(said.is_empty());
            assert_eq!(recording.monotonic(), Duration::ZERO);
        }
    }

    #[test]
    fn a_server_that_comes_back_is_mounted() {
        let recording = Recording::new();
        let mut refusals = 3;
        recording.fail_when(move |call| match call {
            Call::Mount { .. } if refusals > 0 => {
                refusals -= 1;
                Some(libc::ECONNREFUSED)
            }
            _ => None,
        });
        let (result, said, _) = run(recording, "vers=4.2", 600);
        result.unwrap();
        assert_eq!(said.len(), 4);
    }

    #[test]
    fn notes_about_changed_options_are_said() {
        let (_, said, _) = run(Recording::new(), "soft,vers=3", 0);
        assert!(said[0].contains("soft"), "{said:?}");
    }

    #[test]
    fn a_share_is_written_back_and_unmounted_once() {
        let recording = Arc::new(Recording::new());
        let guard = MountedShare::guard(recording.clone(), Path::new("/m"));
        guard.close(Duration::from_secs(60)).unwrap();
        drop(guard);
        assert_eq!(recording.lines(), ["syncfs /m", "unmount /m detach"]);

        let recording = Arc::new(Recording::new());
        recording.fail_nth(0, libc::EIO);
        let guard = MountedShare::guard(recording.clone(), Path::new("/m"));
        assert!(guard.close(Duration::from_secs(60)).is_err(), "what could not be written back is an error");
        drop(guard);
        assert_eq!(recording.lines(), ["syncfs /m", "unmount /m detach"]);
    }

    #[test]
    fn every_listed_errno_has_a_hint() {
        for errno in [
            libc::ENOENT,
            libc::EACCES,
            libc::ECONNREFUSED,
            libc::ETIMEDOUT,
            libc::EHOSTUNREACH,
            libc::ESTALE,
            libc::EPROTONOSUPPORT,
        ] {
            assert!(hint(&io::Error::from_raw_os_error(errno)).is_some(), "{errno}");
        }
    }

    #[test]
    fn a_share_without_its_marker_is_not_the_share() {
        let files = MemFiles::new();
        let missing = check_marker(&files, "server:/export/x", "testbox-backup").unwrap_err().to_string();
        assert!(missing.contains("server:/export/x") && missing.contains("'testbox-backup'"), "{missing}");
        files.put_special("pxelinux.0");
        let special = check_marker(&files, "server:/export/x", "pxelinux.0").unwrap_err();
        assert!(matches!(special, NotTheShare::Unreadable { .. }));
        files.put("testbox-backup", "");
        check_marker(&files, "server:/export/x", "testbox-backup").unwrap();
    }
}
