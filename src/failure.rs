//! What can go wrong with an action, one kind for each outcome that an admin must tell apart.

use std::fmt;

/// The kinds of failure. Each has its own code (in `status.json` and the logs) and its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The overlay over the NFS root could not be mounted.
    OverlayRoot,
    /// No IPv4 address, or the network configuration could not be read.
    Network,
    /// Neither the kernel command line nor the boot server names an action.
    NoAction,
    /// The action, or a `testbox.*` word, is unknown or malformed.
    BadWords,
    /// A share could not be mounted in time.
    ShareUnreachable,
    /// A share was mounted, but its marker file is not there.
    NotTheShare,
    /// The TFTP share holds no PXE config of this machine for this job: probably a wrong IP address.
    NotArmed,
    /// A file on the share could not be read.
    ShareRead,
    /// A file on the share could not be written.
    ShareWrite,
    /// The share is full, or would be.
    NoSpace,
    /// Another agent has the machine's folder.
    Lease,
    /// A share does not answer.
    ShareHung,
    /// There is no disk to work on.
    NoDisk,
    /// The disk list did not settle, or sysfs could not be read.
    Inventory,
    /// `disk-devices.lst`, `testbox.disks` or `testbox.map` names something that is not there, or is malformed.
    DiskList,
    /// `backup` where an image exists.
    ImageExists,
    /// `restore` or `verify` where no image can be trusted.
    NoImage,
    /// `backup.json` is malformed.
    BadRecord,
    /// A disk that the record knows is missing.
    DiskMissing,
    /// Which disk an image belongs to cannot be told.
    Ambiguous,
    /// The target disk does not fit: too small, other block size, read-only, in use.
    Unfit,
    /// A degraded set would replace a complete one, or be restored, and nobody asked for that.
    Degraded,
    /// Reading a disk failed.
    DiskRead,
    /// Writing a disk failed, or what was read back differs.
    DiskWrite,
    /// An image is damaged, or does not have the hash that its record names.
    BadImage,
    /// The new set could not be published.
    Publish,
    /// A disk vanished while it was used.
    DiskGone,
    /// A disk has another size than before.
    DiskChanged,
    /// A disk does not answer.
    DiskHung,
    /// The target disk says of itself that it fails, and nobody asked for writing onto it all the same.
    DiskFailing,
    /// A disk is locked by its ATA password.
    DiskLocked,
    /// The disk that was opened is not the one that was listed under that name.
    OtherDisk,
    /// The action is done, but the machine cannot be disarmed.
    Disarm,
    /// The job was tried too often.
    TooManyAttempts,
    /// The initramfs demands a signed set, and this one is not signed by a key that it trusts.
    Signature,
    /// The initramfs demands a signed job for this action, and this one is not signed by a key that it trusts.
    JobSignature,
    /// A set on the share was made by a newer testbox, in a format that this one does not know.
    NewerFormat,
    /// A mistake in testbox itself.
    Internal,
}

impl Kind {
    /// Code of the failure in status and logs: stable and unique; never 0, 1, 2, 10 or 11, which are exit codes.
    pub fn code(self) -> u8 {
        match self {
            Kind::OverlayRoot => 20,
            Kind::Network => 21,
            Kind::NoAction => 22,
            Kind::BadWords => 23,
            Kind::ShareUnreachable => 30,
            Kind::NotTheShare => 31,
            Kind::NotArmed => 32,
            Kind::ShareRead => 33,
            Kind::ShareWrite => 34,
            Kind::NoSpace => 35,
            Kind::Lease => 36,
            Kind::ShareHung => 37,
            Kind::NoDisk => 40,
            Kind::Inventory => 41,
            Kind::DiskList => 42,
            Kind::ImageExists => 43,
            Kind::NoImage => 44,
            Kind::BadRecord => 45,
            Kind::DiskMissing => 46,
            Kind::Ambiguous => 47,
            Kind::Unfit => 48,
            Kind::Degraded => 49,
            Kind::DiskRead => 50,
            Kind::DiskWrite => 51,
            Kind::BadImage => 52,
            Kind::Publish => 53,
            Kind::DiskGone => 54,
            Kind::DiskChanged => 55,
            Kind::DiskHung => 56,
            Kind::DiskFailing => 57,
            Kind::DiskLocked => 58,
            Kind::OtherDisk => 59,
            Kind::Disarm => 60,
            Kind::TooManyAttempts => 61,
            Kind::Signature => 62,
            Kind::JobSignature => 63,
            Kind::NewerFormat => 64,
            Kind::Internal => 70,
        }
    }

    /// True where interface, link, address and servers are what a person must see first.
    pub fn is_of_network(self) -> bool {
        matches!(
            self,
            Kind::Network | Kind::NoAction | Kind::ShareUnreachable | Kind::NotTheShare | Kind::NotArmed
        )
    }

    /// The word that names the kind in `status.json`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::OverlayRoot => "overlay-root",
            Kind::Network => "network",
            Kind::NoAction => "no-action",
            Kind::BadWords => "bad-words",
            Kind::ShareUnreachable => "share-unreachable",
            Kind::NotTheShare => "not-the-share",
            Kind::NotArmed => "not-armed",
            Kind::ShareRead => "share-read",
            Kind::ShareWrite => "share-write",
            Kind::NoSpace => "no-space",
            Kind::Lease => "lease",
            Kind::ShareHung => "share-hung",
            Kind::NoDisk => "no-disk",
            Kind::Inventory => "inventory",
            Kind::DiskList => "disk-list",
            Kind::ImageExists => "image-exists",
            Kind::NoImage => "no-image",
            Kind::BadRecord => "bad-record",
            Kind::DiskMissing => "disk-missing",
            Kind::Ambiguous => "ambiguous",
            Kind::Unfit => "unfit",
            Kind::Degraded => "degraded",
            Kind::DiskRead => "disk-read",
            Kind::DiskWrite => "disk-write",
            Kind::BadImage => "bad-image",
            Kind::Publish => "publish",
            Kind::DiskGone => "disk-gone",
            Kind::DiskChanged => "disk-changed",
            Kind::DiskHung => "disk-hung",
            Kind::DiskFailing => "disk-failing",
            Kind::DiskLocked => "disk-locked",
            Kind::OtherDisk => "other-disk",
            Kind::Disarm => "disarm",
            Kind::TooManyAttempts => "too-many-attempts",
            Kind::Signature => "signature",
            Kind::JobSignature => "job-signature",
            Kind::NewerFormat => "newer-format",
            Kind::Internal => "internal",
        }
    }
}

/// One failure: its kind, what happened to which thing, and what the admin can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which outcome it is.
    pub kind: Kind,
    /// What failed, on which disk or file, at which offset.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

impl Failure {
    /// A failure of `kind`.
    pub fn new(kind: Kind, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Failure { kind, what: what.into(), advice: advice.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{} {}]", self.what, self.kind.word(), self.kind.code())?;
        if !self.advice.is_empty() {
            write!(f, " What to do: {}", self.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
