//! testbox: unattended network imaging of test machines.
//!
//! One library, two programs: `testbox-agent` runs in the initramfs of a PXE-booted testbox and performs
//! one action; `testboxctl` is what the admin runs.
//!
//! # Data flow
//!
//! Each noun is made by one module and used by the next; effects sit at the two ends.
//!
//! ```text
//!  /proc/cmdline, TFTP        /sys, /proc           the share
//!         |                       |                    |
//!      Cmdline                Inventory        ShareState, Record
//!         |                       |                    |
//!        Job ---------------------+--------------------+
//!                                 |
//!                               Plan   (pure: or a refusal that says what to do)
//!                                 |
//!                               steps  (engine: image, share, block, sys)
//!                                 |
//!                       Status, logs, PXE disarm, reboot
//! ```
//!
//! # Invariants
//!
//! - **G** The last good set, images and record, stays byte-identical until its successor is published, and
//!   after that in `history/`.
//! - **P** New data goes only to `*.part`; nothing published is ever overwritten in place.
//! - **U** The targets of a machine do not boot before the bodies of all of them are verified: a cut leaves disks that boot
//!   with the old content only, or with the new one only, or not at all. A target that is not finished is unbootable, and
//!   after a failure all of them are. (The two GPTs stand at both ends of a disk: while
//!   the first block, the last to be written, is on its way, firmware may boot by the backup GPT; all else is verified by
//!   then.)
//! - **K** The PXE config stays until the action is committed; attempts are counted and bounded.
//! - **S** Where the initramfs demands signatures, a disk gets only what a signed job and the signed set that it names
//!   say.
//!
//! # Where `unsafe` lives
//!
//! Only in [`sys`] and [`block`]; everything else forbids it.

pub mod agent;
pub mod block;
pub mod ctl;
pub mod failure;
pub mod image;
pub mod inventory;
pub mod io;
pub mod job;
pub mod manual;
pub mod net;
pub mod plan;
pub mod progress;
pub mod share;
pub mod signature;
pub mod store;
pub mod sys;
pub mod text;
pub mod types;
pub mod used;
