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
//!                               steps  (agent: image, share, block, sys)
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
//! # Words
//!
//! - **Generation**: the number of a set, one higher than that of the set before. **Set**: the images of one backup, with
//!   the record that makes them one. **Record**: `backup.json`, the commit record of a set.
//! - **Published**: under its final name, with a record. **Part**: a file that is being made, `*.part`.
//! - **Image**: one plain gzip file of a disk. **Run**: a range of the disk that an index entry describes. **Member**: a
//!   gzip member, the bytes of one run. **Gap**: an unallocated part within a data run. **Root hash**: the hash that the
//!   footer holds and a record names; it binds all of an image. **Base**: the image that an incremental backup takes over.
//! - **Unallocated**: what a consistent file system says that it does not use. **Carried**: an image of the set before
//!   that a new set keeps.
//! - **Foreign**: a gzip file that testbox did not make. **Degraded**: with zeros for what the disk did not give.
//! - **Boot areas**: the first and last MiB of a disk, written last. **Batch**: what is written before it is flushed and
//!   read back.
//! - **Job**: what a machine was armed with, by its id. **Action**: what a job does. **Armed**: a PXE file of the machine's
//!   own is there. **Order**: a job as it was read, not yet checked.
//! - **Identity**: serial, WWN and model of a disk. **Location**: where it is plugged in. **Twins**: disks of one identity.
//! - **Lease**: who may write into a machine's folder. (A lease of DHCP is called so.)
//!
//! # Where `unsafe` lives
//!
//! Only in [`sys`] and [`block`]; everything else forbids it.
//!
//! # Rooms
//!
//! Each above what it uses: `bin` -> [`ctl`] and [`agent`], siblings -> [`serve`] and [`boot`], siblings -> [`plan`] -> [`store`] -> [`image`] -> [`share`] and
//! [`job`] -> [`signature`], [`net`] -> [`types`] -> [`inventory`], [`efi`] -> [`used`] -> [`block`] -> [`sys`], [`io`], [`text`],
//! [`bytes`], [`guid`], [`progress`], [`failure`], [`watch`].

pub mod agent;
pub mod block;
pub mod boot;
pub mod bytes;
pub mod ctl;
pub mod efi;
pub mod failure;
pub mod guid;
pub mod image;
pub mod inventory;
pub mod io;
pub mod job;
pub mod manual;
pub mod net;
pub mod plan;
pub mod progress;
pub mod serve;
pub mod share;
pub mod signature;
pub mod store;
pub mod sys;
pub mod text;
pub mod types;
pub mod used;
pub mod watch;
