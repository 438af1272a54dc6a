//! Options whose value is one of a few words.

use crate::text::choice;

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

choice! {
    /// What a restore onto a larger disk makes of the room: `testbox.grow=`.
    #[derive(Default)]
    Grow {
        /// It stays free.
        #[default]
        No = "no",
        /// The last partition and its file system grow.
        Last = "last",
    }
}

choice! {
    /// What a machine does for which the boot servers have no job: `testbox.no-job=`.
    #[derive(Default)]
    NoJob {
        /// It is an error.
        #[default]
        Fail = "fail",
        /// The firmware starts the machine's own system next.
        BootDisk = "boot-disk",
    }
}

choice! {
    /// Whether a store may be reached without TLS: `testbox.store-plain=`.
    #[derive(Default)]
    StorePlain {
        /// By HTTPS only.
        #[default]
        Refuse = "refuse",
        /// By HTTP too: whoever is on the network reads and changes everything.
        Allow = "allow",
    }
}
