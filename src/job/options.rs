//! The testbox words beside action and job: their types, defaults and spelling.

use crate::types::{
    Delta, DiskSelector, FreeSpace, HostName, MapEntry, NfsSource, SetHash, TftpPath, choice,
};
use crate::used::Used;
use std::fmt::Display;
use std::net::Ipv4Addr;
use std::time::Duration;

choice! {
    /// What ends a run that needs nobody: `testbox.reboot=`.
    RebootMode {
        /// Reboot into the next boot of the boot order.
        Reboot = "reboot",
        /// Stop the system, power stays on.
        Halt = "halt",
        /// Switch off.
        PowerOff = "poweroff",
        /// Stay up and wait for a human.
        Hold = "hold",
    }
}

choice! {
    /// What follows an error once it is logged and `testbox.error-wait` is over: `testbox.on-error=`.
    OnError {
        /// Reboot, the action stays armed.
        Reboot = "reboot",
        /// Stay up and wait for a human.
        Hold = "hold",
        /// Give the console a shell.
        Shell = "shell",
    }
}

choice! {
    /// The union filesystem over the read-only NFS root: `testbox.union=`, or `aufs=tmpfs`.
    UnionKind {
        /// overlayfs, in every kernel.
        Overlay = "overlay",
        /// aufs, where the kernel has it.
        Aufs = "aufs",
    }
}

choice! {
    /// What a backup does with sectors that cannot be read: `testbox.bad-sectors=`.
    #[derive(Default)]
    BadSectors {
        /// The first one ends it.
        #[default]
        Fail = "fail",
        /// They become zeros in a degraded image.
        Degraded = "degraded",
    }
}

choice! {
    /// What a degraded set may do: `testbox.degraded=`.
    #[derive(Default)]
    DegradedSet {
        /// Neither replace a complete set, nor be restored.
        #[default]
        Refuse = "refuse",
        /// Become the current set in place of a complete one, which goes into `history/`.
        Replace = "replace",
        /// Be restored, with zeros in place of what could not be read.
        Restore = "restore",
    }
}

choice! {
    /// Whether a restore writes onto a disk that says of itself that it fails: `testbox.failing-disk=`.
    #[derive(Default)]
    FailingDisk {
        /// It is refused.
        #[default]
        Refuse = "refuse",
        /// It is written, with a warning.
        Write = "write",
    }
}

/// The testbox words beside action and job, each `None` or empty where it is not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `testbox.set=`: the one set that counts, by the SHA-256 of its `backup.json`.
    pub set: Option<SetHash>,
    /// `testbox.backup=`: the backup share.
    pub backup: Option<NfsSource>,
    /// `testbox.tftp=`: the TFTP share, for disarming.
    pub tftp: Option<NfsSource>,
    /// `testbox.disks=`: only these disks.
    pub disks: Vec<DiskSelector>,
    /// `testbox.map=`: which image belongs on which disk; each image once.
    pub map: Vec<MapEntry>,
    /// `testbox.name=`: host name, in place of what reverse DNS says.
    pub name: Option<HostName>,
    /// `testbox.dns=`: DNS servers.
    pub dns: Vec<Ipv4Addr>,
    /// `testbox.keep=`: sets kept in `history/`.
    pub keep: Option<u32>,
    /// `testbox.delta=`: whether a restore reads what the disk holds first.
    pub delta: Option<Delta>,
    /// `testbox.used=`: whether a backup leaves out what no file system uses.
    pub used: Option<Used>,
    /// `testbox.free=`: what a restore does where the image holds nothing because nobody used it.
    pub free: Option<FreeSpace>,
    /// `testbox.bad-sectors=`: what a backup does with sectors that cannot be read.
    pub bad_sectors: Option<BadSectors>,
    /// `testbox.degraded=`: what a degraded set may do.
    pub degraded: Option<DegradedSet>,
    /// `testbox.failing-disk=`: whether a restore writes onto a disk that says that it fails.
    pub failing_disk: Option<FailingDisk>,
    /// `testbox.union=`, or `aufs=tmpfs`.
    pub union: Option<UnionKind>,
    /// `testbox.reboot=`.
    pub reboot: Option<RebootMode>,
    /// `testbox.on-error=`.
    pub on_error: Option<OnError>,
    /// `testbox.error-wait=` seconds.
    pub error_wait: Option<Duration>,
    /// `testbox.attempts=`: failed attempts after which the machine holds.
    pub attempts: Option<u32>,
    /// `testbox.settle=` seconds that the disk list must not change.
    pub settle: Option<Duration>,
    /// `testbox.mount-wait=` seconds for which an unreachable share is retried.
    pub mount_wait: Option<Duration>,
    /// `testbox.share-wait=` seconds for which an operation on a mounted share is waited for.
    pub share_wait: Option<Duration>,
    /// `testbox.net-wait=` seconds for which the boot scripts wait for an address, before the agent runs, and then the
    /// agent for answers.
    pub net_wait: Option<Duration>,
    /// `testbox.armed-file=`: the file that arms this machine, as whoever wrote it knows.
    pub armed_file: Option<TftpPath>,
    /// `testbox.boot-server=`: the TFTP server.
    pub boot_server: Option<Ipv4Addr>,
}

/// The options that have defaults, resolved. [`Settings::default`] has the documented ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Sets kept in `history/`: 1.
    pub keep: u32,
    /// auto.
    pub delta: Delta,
    /// auto.
    pub used: Used,
    /// leave.
    pub free: FreeSpace,
    /// fail.
    pub bad_sectors: BadSectors,
    /// refuse.
    pub degraded: DegradedSet,
    /// refuse.
    pub failing_disk: FailingDisk,
    /// overlay.
    pub union: UnionKind,
    /// reboot.
    pub reboot: RebootMode,
    /// reboot.
    pub on_error: OnError,
    /// 300 s.
    pub error_wait: Duration,
    /// 5.
    pub attempts: u32,
    /// 10 s.
    pub settle: Duration,
    /// 300 s.
    pub mount_wait: Duration,
    /// 900 s: a server that restarts within 5 minutes, its grace period of 90 s, and the pauses of up to 5 minutes
    /// between a Linux client's attempts to connect.
    pub share_wait: Duration,
    /// 300 s.
    pub net_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            keep: 1,
            delta: Delta::Auto,
            used: Used::Auto,
            free: FreeSpace::Leave,
            bad_sectors: BadSectors::Fail,
            degraded: DegradedSet::Refuse,
            failing_disk: FailingDisk::Refuse,
            union: UnionKind::Overlay,
            reboot: RebootMode::Reboot,
            on_error: OnError::Reboot,
            error_wait: Duration::from_secs(300),
            attempts: 5,
            settle: Duration::from_secs(10),
            mount_wait: Duration::from_secs(300),
            share_wait: Duration::from_secs(900),
            net_wait: Duration::from_secs(300),
        }
    }
}

impl Options {
    /// These options, with `other` for whatever is not given here. Lists are taken whole, never mixed.
    pub fn or(self, other: &Options) -> Options {
        fn list<T: Clone>(ours: Vec<T>, theirs: &[T]) -> Vec<T> {
            if ours.is_empty() { theirs.to_vec() } else { ours }
        }
        Options {
            set: self.set.or(other.set),
            backup: self.backup.or_else(|| other.backup.clone()),
            tftp: self.tftp.or_else(|| other.tftp.clone()),
            disks: list(self.disks, &other.disks),
            map: list(self.map, &other.map),
            name: self.name.or_else(|| other.name.clone()),
            dns: list(self.dns, &other.dns),
            keep: self.keep.or(other.keep),
            delta: self.delta.or(other.delta),
            used: self.used.or(other.used),
            free: self.free.or(other.free),
            bad_sectors: self.bad_sectors.or(other.bad_sectors),
            degraded: self.degraded.or(other.degraded),
            failing_disk: self.failing_disk.or(other.failing_disk),
            union: self.union.or(other.union),
            reboot: self.reboot.or(other.reboot),
            on_error: self.on_error.or(other.on_error),
            error_wait: self.error_wait.or(other.error_wait),
            attempts: self.attempts.or(other.attempts),
            settle: self.settle.or(other.settle),
            mount_wait: self.mount_wait.or(other.mount_wait),
            share_wait: self.share_wait.or(other.share_wait),
            net_wait: self.net_wait.or(other.net_wait),
            armed_file: self.armed_file.or_else(|| other.armed_file.clone()),
            boot_server: self.boot_server.or(other.boot_server),
        }
    }

    /// What is given here, and the defaults for the rest.
    pub fn settings(&self) -> Settings {
        let default = Settings::default();
        Settings {
            keep: self.keep.unwrap_or(default.keep),
            delta: self.delta.unwrap_or(default.delta),
            used: self.used.unwrap_or(default.used),
            free: self.free.unwrap_or(default.free),
            bad_sectors: self.bad_sectors.unwrap_or(default.bad_sectors),
            degraded: self.degraded.unwrap_or(default.degraded),
            failing_disk: self.failing_disk.unwrap_or(default.failing_disk),
            union: self.union.unwrap_or(default.union),
            reboot: self.reboot.unwrap_or(default.reboot),
            on_error: self.on_error.unwrap_or(default.on_error),
            error_wait: self.error_wait.unwrap_or(default.error_wait),
            attempts: self.attempts.unwrap_or(default.attempts),
            settle: self.settle.unwrap_or(default.settle),
            mount_wait: self.mount_wait.unwrap_or(default.mount_wait),
            share_wait: self.share_wait.unwrap_or(default.share_wait),
            net_wait: self.net_wait.unwrap_or(default.net_wait),
        }
    }

    /// The kernel words that say these options: what [`super::Cmdline::parse`] reads back.
    pub fn words(&self) -> Vec<String> {
        fn list<T: Display>(items: &[T]) -> Option<String> {
            let texts: Vec<String> = items.iter().map(T::to_string).collect();
            (!texts.is_empty()).then(|| texts.join(","))
        }
        fn text<T: Display>(item: &Option<T>) -> Option<String> {
            item.as_ref().map(T::to_string)
        }
        let seconds = |d: Option<Duration>| d.map(|d| d.as_secs().to_string());
        let pairs = [
            ("set", text(&self.set)),
            ("backup", text(&self.backup)),
            ("tftp", text(&self.tftp)),
            ("disks", list(&self.disks)),
            ("map", list(&self.map)),
            ("name", text(&self.name)),
            ("dns", list(&self.dns)),
            ("keep", text(&self.keep)),
            ("delta", text(&self.delta)),
            ("used", text(&self.used)),
            ("free", text(&self.free)),
            ("bad-sectors", text(&self.bad_sectors)),
            ("degraded", text(&self.degraded)),
            ("failing-disk", text(&self.failing_disk)),
            ("union", text(&self.union)),
            ("reboot", text(&self.reboot)),
            ("on-error", text(&self.on_error)),
            ("error-wait", seconds(self.error_wait)),
            ("attempts", text(&self.attempts)),
            ("settle", seconds(self.settle)),
            ("mount-wait", seconds(self.mount_wait)),
            ("share-wait", seconds(self.share_wait)),
            ("net-wait", seconds(self.net_wait)),
            ("armed-file", text(&self.armed_file)),
            ("boot-server", text(&self.boot_server)),
        ];
        pairs.into_iter().filter_map(|(key, value)| Some(format!("testbox.{key}={}", value?))).collect()
    }
}
