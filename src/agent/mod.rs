//! Performs one action from beginning to end, and ends every failure as the policy says.
//!
//! ```text
//! overlay root -> who am I -> order -> shares, armed? -> lease of the folder -> done already? -> disks settle
//!     -> plan -> steps -> status done -> disarm -> lease released -> flush -> reboot
//! ```
//!
//! A run is a chain of states, each made of the one before, so that what a step needs is there by its type, and whoever
//! has got hold of something lets go of it when the states behind it have ended:
//!
//! ```text
//! Booted (command line) -> Located (address) -> Named (job, host name; shares are unmounted at its end)
//!     -> Connected (shares proven ours; the lease is released at its end) -> Working (lease, status)
//! ```
//!
//! A failure anywhere leaves the PXE config in place, is written to both logs as far as the share is proven ours,
//! waits, and reboots; after a bounded number of attempts, or where a success cannot be disarmed, the machine holds.

mod address;
mod arming;
mod asking;
mod booted;
pub mod bootnet;
mod connected;
pub mod console;
mod context;
mod disk_watch;
mod firmware;
pub mod hostkey;
mod image_failure;
pub mod info;
mod journal;
mod located;
pub mod logging;
mod named;
mod net_report;
mod network;
pub mod overlay;
mod own_boot;
mod policy;
mod proven;
mod report;
mod run;
mod share_guard;
mod shares;
mod steps;
mod stored;
mod times;
mod working;
pub mod world;

pub use journal::Journal;
pub use net_report::NetReport;
pub use network::network_report;
pub use run::run;

use crate::job::RebootMode;
use std::path::PathBuf;
use std::time::Duration;

/// How long closing one share, or releasing the lease, may take at the end. A dead server must not keep the machine from
/// rebooting.
const CLOSE_LIMIT: Duration = Duration::from_secs(60);

/// Where the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In init-bottom, over a mounted read-only NFS root at this path.
    NfsRoot(PathBuf),
    /// In the boot mode without any root.
    AgentOnly,
}

/// What the agent does when the action is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Goes on with the boot into the full userspace.
    Continue,
    /// Hands the console to a shell, because of `rescue`.
    RescueShell,
    /// Hands the console to a shell, because of `testbox.on-error=shell`.
    ErrorShell,
    /// Ends the machine's boot this way.
    Machine(RebootMode),
}
