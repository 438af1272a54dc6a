//! What `dedup` says.

use super::super::shares::{BTRFS, ShareFolder};
use super::sharer::Totals;
use crate::sys::errno_words;
use crate::text::human_bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;

/// What was found and done.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Nothing was to be done.
    pub is_dry: bool,
    /// How long it took.
    pub seconds: f64,
    /// Why the file system shares nothing, and what would help.
    pub refused: Option<String>,
    /// Members that are not what their index says.
    pub damaged: Vec<String>,
    /// What could not be looked at or shared.
    pub problems: Vec<String>,
    machines: BTreeMap<Ipv4Addr, MachineTotals>,
}

/// The figures of some images.
#[derive(Clone, Debug, Default)]
pub(super) struct MachineTotals {
    /// How many, of all sets.
    pub images: u64,
    /// Bytes that they take, shared ones as if each had its own.
    pub room: u64,
    /// Bytes that are shared, or could be.
    pub shared: Totals,
}

impl MachineTotals {
    fn add(&mut self, other: &MachineTotals) {
        let (to, from) = (&mut self.shared, &other.shared);
        let pairs = [
            (&mut self.images, other.images),
            (&mut self.room, other.room),
            (&mut to.before, from.before),
            (&mut to.now, from.now),
            (&mut to.could, from.could),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }

    fn words(&self) -> String {
        let Totals { before, now, could } = self.shared;
        let images = if self.images == 1 { "image" } else { "images" };
        let could =
            if could > 0 { format!(", {} could be shared", human_bytes(could)) } else { String::new() };
        format!(
            "{} {images}, {}: {} shared before, {} newly shared{could}",
            self.images,
            human_bytes(self.room),
            human_bytes(before),
            human_bytes(now)
        )
    }

    fn to_json(&self) -> Value {
        json!({
            "images": self.images,
            "image_bytes": self.room,
            "shared_before_bytes": self.shared.before,
            "newly_shared_bytes": self.shared.now,
            "not_shared_bytes": self.shared.could,
        })
    }
}

impl Report {
    /// An empty one.
    pub fn new(is_dry: bool) -> Report {
        Report { is_dry, ..Report::default() }
    }

    /// Adds the figures of an image.
    pub fn add(&mut self, machine: Ipv4Addr, totals: &MachineTotals) {
        self.machines.entry(machine).or_default().add(totals);
    }

    fn total(&self) -> MachineTotals {
        let mut total = MachineTotals::default();
        self.machines.values().for_each(|machine| total.add(machine));
        total
    }

    /// A line for each machine, and one for all.
    pub fn lines(&self) -> Vec<String> {
        let machines = self.machines.iter().map(|(ip, totals)| format!("{ip}: {}", totals.words()));
        let total = self.total();
        let Totals { before, now, .. } = total.shared;
        let takes = total.room.saturating_sub(before).saturating_sub(now);
        let all =
            format!("all: {}; {} on the disk, {:.1} s", total.words(), human_bytes(takes), self.seconds);
        machines.chain([all]).collect()
    }

    /// The same for programs.
    pub fn to_json(&self) -> Value {
        let machines: Vec<Value> = self
            .machines
            .iter()
            .map(|(ip, totals)| {
                let mut value = totals.to_json();
                value["ip"] = json!(ip);
                value
            })
            .collect();
        json!({
            "dry_run": self.is_dry,
            "machines": machines,
            "total": self.total().to_json(),
            "seconds": self.seconds,
            "refused": self.refused,
            "damaged": self.damaged,
            "problems": self.problems,
        })
    }
}

/// Why nothing is shared, in words, and what would help.
pub(super) fn refused(error: &io::Error, share: &ShareFolder) -> String {
    let name = file_system(share);
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            format!("images may only be shared by their owner or root ({}): run it as one of them", errno_words(error))
        }
        Some(libc::EROFS) => "its file system is mounted read-only: nothing can be shared on it".into(),
        _ if name == "nfs" => "it is mounted by NFS, which cannot do this: run it on the storage server".into(),
        _ if name == "xfs" => {
            "its XFS was made without reflink, and shares no blocks: one made with 'mkfs.xfs -m reflink=1' (the default \
             of newer xfsprogs) or a btrfs would; see what could be shared above"
                .into()
        }
        _ => format!(
            "its file system ({name}) shares no blocks between files ({}): an XFS made with reflink=1 or a btrfs would; \
             see what could be shared above",
            errno_words(error)
        ),
    }
}

/// Name of a share's file system by the numbers of `linux/magic.h`.
fn file_system(share: &ShareFolder) -> String {
    let Ok(magic) = share.magic() else { return "unknown".into() };
    let name = match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        BTRFS => "btrfs",
        0x6969 => "nfs",
        0x0102_1994 => "tmpfs",
        0x2fc1_2fc1 => "zfs",
        other => return format!("of type {other:#x}"),
    };
    name.into()
}
