//! A writable root on top of a read-only one.
//!
//! The NFS root is shared by all testboxes and mounted read-only. A tmpfs over it takes what this machine writes,
//! by overlayfs (kernel document `filesystems/overlayfs.rst`) or, where the kernel has it and it is asked for, by
//! aufs. Afterwards the two layers are visible as `/ro` and `/rw` of the new root.
#![forbid(unsafe_code)]

use crate::job::UnionKind;
use crate::sys::{MountFlags, System, UnmountFlags, errno_words};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The root could not be made writable.
#[derive(Debug, thiserror::Error)]
#[error("cannot make {} writable: {step}: {}{}", root.display(), errno_words(source), LeftMount(left))]
pub struct OverlayFailed {
    /// The root.
    pub root: PathBuf,
    /// The step that failed.
    pub step: String,
    /// Why.
    pub source: io::Error,
    /// Steps that could not be taken back, and why. Empty: everything is mounted as it was before.
    pub left: Vec<String>,
}

struct LeftMount<'a>(&'a [String]);

impl fmt::Display for LeftMount<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("; the root is mounted read-only as before"),
            left => write!(f, "; and it could not be put back: {}", left.join("; ")),
        }
    }
}

/// One step of the way there.
enum OverlayStep {
    MakeDir(PathBuf),
    /// A file system on a folder.
    Mount {
        fstype: &'static str,
        target: PathBuf,
        flags: MountFlags,
        data: String,
    },
    Move {
        from: PathBuf,
        to: PathBuf,
    },
}

impl fmt::Display for OverlayStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OverlayStep::MakeDir(path) => write!(f, "make the folder {}", path.display()),
            OverlayStep::Mount { fstype, target, .. } => write!(f, "mount {fstype} on {}", target.display()),
            OverlayStep::Move { from, to } => {
                write!(f, "move the mount {} to {}", from.display(), to.display())
            }
        }
    }
}

impl OverlayStep {
    fn run(&self, system: &dyn System) -> io::Result<()> {
        match self {
            OverlayStep::MakeDir(path) => system.make_dir(path),
            OverlayStep::Mount { fstype, target, flags, data } => {
                system.mount(fstype, target, fstype, *flags, data)
            }
            OverlayStep::Move { from, to } => system.move_mount(from, to),
        }
    }

    /// Takes the step back. Folders stay: they are empty and in the initramfs, or gone with their tmpfs.
    fn undo(&self, system: &dyn System) -> io::Result<()> {
        match self {
            OverlayStep::MakeDir(_) => Ok(()),
            // Lazily: nothing can be lost, and a busy union must not keep the root from its place.
            OverlayStep::Mount { target, .. } => system.unmount(target, UnmountFlags::DETACH),
            OverlayStep::Move { from, to } => system.move_mount(to, from),
        }
    }
}

/// The steps in order. `area` holds the layers until the union is there.
fn steps(root: &Path, area: &Path, union: UnionKind) -> Vec<OverlayStep> {
    let (lower, upper) = (area.join("ro"), area.join("rw"));
    let mut steps = vec![
        OverlayStep::MakeDir(lower.clone()),
        OverlayStep::MakeDir(upper.clone()),
        OverlayStep::Mount {
            fstype: "tmpfs",
            target: upper.clone(),
            flags: MountFlags::NOATIME,
            // It is /rw later, and the root folder itself by aufs: tmpfs' own default, 1777, lets anybody write there.
            data: "mode=0755".into(),
        },
    ];
    let (data, flags) = match union {
        // Upper and work must be on one file system, and neither inside the other.
        UnionKind::Overlay => {
            steps.extend([
                OverlayStep::MakeDir(upper.join("upper")),
                OverlayStep::MakeDir(upper.join("work")),
            ]);
            let (lower, upper) = (lower.display(), upper.display());
            (format!("lowerdir={lower},upperdir={upper}/upper,workdir={upper}/work"), MountFlags::empty())
        }
        UnionKind::Aufs => {
            (format!("dirs={}=rw:{}=ro", upper.display(), lower.display()), MountFlags::NOATIME)
        }
    };
    steps.extend([
        OverlayStep::Move { from: root.to_owned(), to: lower.clone() },
        OverlayStep::Mount { fstype: union.as_str(), target: root.to_owned(), flags, data },
        // Both unions hold on to their layers by themselves; where the mounts are moved does not matter to them.
        OverlayStep::MakeDir(root.join("ro")),
        OverlayStep::MakeDir(root.join("rw")),
        OverlayStep::Move { from: lower, to: root.join("ro") },
        OverlayStep::Move { from: upper, to: root.join("rw") },
    ]);
    steps
}

/// Puts a tmpfs over the read-only root that is mounted at `root` (the `$rootmnt` of initramfs-tools), joined by
/// `asked`, or by overlayfs where that is aufs and this kernel has none, not even as a module: the union that it became
/// is returned. `area` is a folder of the initramfs, outside `root`, that is made for this; its
/// path must hold none of `:`, `,` and `\`, which have meanings in mount options.
///
/// When a step fails all those before are taken back, so that `root` is what it was; what cannot be taken back is in
/// the error.
///
/// # Errors
/// The step that failed. The mounts that were made before it are undone, and what cannot be undone is named.
pub fn mount_root(
    system: &dyn System,
    root: &Path,
    area: &Path,
    asked: UnionKind,
) -> Result<UnionKind, OverlayFailed> {
    match mount_by(system, root, area, asked) {
        // mount(2) asks for the module by itself, so only its answer tells whether the kernel has aufs.
        Err(e)
            if asked == UnionKind::Aufs
                && e.left.is_empty()
                && e.source.raw_os_error() == Some(libc::ENODEV) =>
        {
            mount_by(system, root, area, UnionKind::Overlay).map(|()| UnionKind::Overlay)
        }
        result => result.map(|()| asked),
    }
}

fn mount_by(system: &dyn System, root: &Path, area: &Path, union: UnionKind) -> Result<(), OverlayFailed> {
    let fail = |step: String, source, left| OverlayFailed { root: root.to_owned(), step, source, left };
    if area.to_string_lossy().contains([':', ',', '\\']) || area.starts_with(root) {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "not a folder for this");
        return Err(fail(format!("use {}", area.display()), source, Vec::new()));
    }
    let steps = steps(root, area, union);
    for (done, step) in steps.iter().enumerate() {
        if let Err(source) = step.run(system) {
            let left = steps.iter().take(done).rev().filter_map(|earlier| {
                earlier.undo(system).err().map(|e| format!("undo '{earlier}': {}", errno_words(&e)))
            });
            return Err(fail(step.to_string(), source, left.collect()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{RealSystem, Recording};

    fn run(recording: &Recording, union: UnionKind) -> Result<UnionKind, OverlayFailed> {
        mount_root(recording, Path::new("/root"), Path::new("/union"), union)
    }

    #[test]
    fn overlay_mounts_in_this_order() {
        let recording = Recording::new();
        run(&recording, UnionKind::Overlay).unwrap();
        assert_eq!(
            recording.lines(),
            [
                "mkdir /union/ro",
                "mkdir /union/rw",
                "mount tmpfs /union/rw tmpfs noatime mode=0755",
                "mkdir /union/rw/upper",
                "mkdir /union/rw/work",
                "move /root /union/ro",
                "mount overlay /root overlay lowerdir=/union/ro,upperdir=/union/rw/upper,workdir=/union/rw/work",
                "mkdir /root/ro",
                "mkdir /root/rw",
                "move /union/ro /root/ro",
                "move /union/rw /root/rw",
            ]
        );
    }

    #[test]
    fn aufs_mounts_in_this_order() {
        let recording = Recording::new();
        run(&recording, UnionKind::Aufs).unwrap();
        assert_eq!(
            recording.lines(),
            [
                "mkdir /union/ro",
                "mkdir /union/rw",
                "mount tmpfs /union/rw tmpfs noatime mode=0755",
                "move /root /union/ro",
                "mount aufs /root aufs noatime dirs=/union/rw=rw:/union/ro=ro",
                "mkdir /root/ro",
                "mkdir /root/rw",
                "move /union/ro /root/ro",
                "move /union/rw /root/rw",
            ]
        );
    }

    /// What a sequence of recorded mounts leaves mounted, as (what, where), in no order.
    fn mounted(lines: &[String]) -> Vec<(String, String)> {
        let mut table = vec![("nfs".to_owned(), "/root".to_owned())];
        for line in lines {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["mount", what, at, ..] => table.push((what.into(), at.into())),
                ["unmount", at, ..] => {
                    let top = table.iter().rposition(|(_, p)| p == at).expect("mounted");
                    table.remove(top);
                }
                ["move", from, to] => {
                    let top = table.iter().rposition(|(_, p)| p == from).expect("mounted");
                    table[top].1 = to.to_owned();
                }
                _ => {}
            }
        }
        table
    }

    #[test]
    fn a_failure_at_any_step_puts_everything_back() {
        for union in [UnionKind::Overlay, UnionKind::Aufs] {
            let whole = Recording::new();
            run(&whole, union).unwrap();
            assert_eq!(mounted(&whole.lines()).len(), 3);
            for nth in 0..whole.lines().len() {
                let recording = Recording::new();
                recording.fail_nth(nth, libc::EIO);
                let error = run(&recording, union).unwrap_err();
                assert!(error.left.is_empty(), "{error}");
                assert!(error.to_string().contains("EIO"), "{error}");
                assert!(error.to_string().contains("as before"), "{error}");
                let mut lines = recording.lines();
                lines.remove(nth);
                assert_eq!(
                    mounted(&lines),
                    [("nfs".into(), "/root".into())],
                    "{union} step {nth}: {lines:?}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_put_back_is_said() {
        let recording = Recording::new();
        // The union cannot be mounted, and the root cannot be moved back.
        recording.fail_nth(6, libc::ENODEV);
        recording.fail_nth(7, libc::EBUSY);
        let error = run(&recording, UnionKind::Overlay).unwrap_err();
        assert_eq!(error.left.len(), 1);
        let text = error.to_string();
        for part in ["mount overlay on /root", "ENODEV", "could not be put back", "/union/ro", "EBUSY"] {
            assert!(text.contains(part), "{text}");
        }
        // The undo goes on to the tmpfs.
        assert_eq!(recording.lines().last().unwrap(), "unmount /union/rw detach");
    }

    #[test]
    fn aufs_is_taken_where_the_kernel_has_it_and_overlayfs_else() {
        assert_eq!(run(&Recording::new(), UnionKind::Aufs).unwrap(), UnionKind::Aufs);
        let recording = Recording::new();
        recording.fail_when(|call| call.to_string().contains(" aufs").then_some(libc::ENODEV));
        assert_eq!(run(&recording, UnionKind::Aufs).unwrap(), UnionKind::Overlay);
        assert!(
            recording.lines().iter().any(|l| l.starts_with("mount overlay /root")),
            "{:?}",
            recording.lines()
        );
        // Any other error is one.
        let recording = Recording::new();
        recording.fail_when(|call| call.to_string().contains(" aufs").then_some(libc::EINVAL));
        assert!(run(&recording, UnionKind::Aufs).is_err());
    }

    #[test]
    fn an_area_that_would_be_misread_is_refused_before_any_mount() {
        for area in ["/a:b", "/a,b", "/a\\b", "/root/x"] {
            let recording = Recording::new();
            let result = mount_root(&recording, Path::new("/root"), Path::new(area), UnionKind::Overlay);
            assert!(result.is_err());
            assert!(recording.lines().is_empty());
        }
    }

    /// For real, in a mount namespace of its own. Without root or the right to unshare there is nothing to test, and
    /// the test says so.
    #[test]
    fn root_overlay_takes_the_writes_and_leaves_the_lower_as_it_was() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: not root");
            return;
        }
        // A thread of its own: unshare(2) concerns the calling thread only, and ends with it.
        std::thread::spawn(in_own_namespace).join().unwrap();
    }

    fn in_own_namespace() {
        use std::fs;
        use std::os::unix::fs::PermissionsExt;
        if let Err(e) = crate::sys::unshare_mounts() {
            eprintln!("skipped: no mount namespace of our own: {e}");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let (export, root, area) =
            (temp.path().join("export"), temp.path().join("root"), temp.path().join("area"));
        fs::create_dir_all(export.join("etc")).unwrap();
        fs::create_dir_all(&root).unwrap();
        fs::write(export.join("etc/changed"), "from the export").unwrap();
        fs::write(export.join("etc/removed"), "still here").unwrap();
        let snapshot = || {
            let mut files: Vec<_> = fs::read_dir(export.join("etc"))
                .unwrap()
                .map(|e| e.unwrap().path())
                .map(|p| (fs::read(&p).unwrap(), fs::metadata(&p).unwrap().modified().unwrap(), p))
                .collect();
            files.sort();
            (files, fs::read_dir(&export).unwrap().count())
        };
        let before = snapshot();

        let system = RealSystem::new();
        system.mount(export.to_str().unwrap(), &root, "", MountFlags::BIND, "").unwrap();
        system.mount("", &root, "", MountFlags::BIND | MountFlags::REMOUNT | MountFlags::RDONLY, "").unwrap();
        assert!(fs::write(root.join("x"), "").is_err(), "the root is read-only at first");
        mount_root(&system, &root, &area, UnionKind::Overlay).unwrap();

        fs::write(root.join("etc/changed"), "by this machine").unwrap();
        fs::remove_file(root.join("etc/removed")).unwrap();
        fs::write(root.join("new"), "new").unwrap();
        assert_eq!(fs::read(root.join("etc/changed")).unwrap(), b"by this machine");
        assert_eq!(fs::read(root.join("ro/etc/changed")).unwrap(), b"from the export");
        assert_eq!(fs::read(root.join("rw/upper/etc/changed")).unwrap(), b"by this machine");
        assert_eq!(fs::read(root.join("rw/upper/new")).unwrap(), b"new");
        assert!(fs::write(root.join("ro/x"), "").is_err(), "the lower stays read-only");
        for path in [root.clone(), root.join("rw")] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o755);
        }
        assert_eq!(snapshot(), before, "the export is byte-identical");

        for target in [root.join("ro"), root.join("rw"), root.clone()] {
            system.unmount(&target, UnmountFlags::DETACH).unwrap();
        }
    }
}
