//! Whether the backup share has room for an image, asked before anything of it is written.

use crate::agent::journal::Journal;
use crate::agent::report::RESERVE;
use crate::agent::world::World;
use crate::failure::{Failure, Kind};
use crate::inventory::Disk;
use crate::net::quota::{Export, Quota, QuotaSubject};
use crate::store::Folder;
use crate::store::layout::{STATUS, part_file};
use crate::store::record::ImageRecord;

/// What Linux's NFS client shows as owner where it cannot make a number of the name that an NFSv4 server tells
/// (`nfs_fhget` in `fs/nfs/inode.c`): nobody's quota.
const UNMAPPED: u32 = u32::MAX - 1;

/// The backup share, as far as its room is concerned.
pub struct ShareSpace<'a> {
    /// Asks for quotas.
    pub world: &'a dyn World,
    /// Says what cannot be told.
    pub journal: &'a Journal,
    /// The machine's folder.
    pub folder: &'a Folder,
    /// Where the share is mounted from. A store says itself what it leaves the machine, quota included.
    pub export: Option<&'a Export>,
}

impl ShareSpace<'_> {
    /// Room for an image as large as the one before, or, for a first one, for what a disk of zeros compresses to:
    /// deflate does no better than 1032:1. While the image is written the reporter goes on looking.
    ///
    /// # Errors
    /// There is too little, on the share or in a quota. What cannot be told is said, and is no error.
    pub fn check(&self, disk: &Disk, name: &str, before: Option<&ImageRecord>) -> Result<(), Failure> {
        // What a cut attempt has written is gone on with, or written over.
        let part = self.folder.path(&part_file(name));
        let there = self.folder.files.open(&part).and_then(|file| file.size()).unwrap_or(0);
        let wanted = before.map_or(disk.size / 1032, |image| image.image_size);
        let wanted = wanted.saturating_sub(there).saturating_add(RESERVE);
        let too_little = |whose: &str, left: u64, advice: &str| {
            Failure::new(
                Kind::NoSpace,
                format!("{whose} has {left} bytes left, the image of {name} wants about {wanted}"),
                format!("{advice} The set before is untouched."),
            )
        };
        match self.folder.files.free_bytes(&self.folder.path("")) {
            Ok(left) if left < wanted => {
                return Err(too_little("the backup share", left, "make room on the share."));
            }
            Ok(_) => {}
            Err(e) => self.journal.warn(&format!("cannot tell how much room the backup share has: {e}")),
        }
        for quota in self.quotas() {
            if let Some(left) = quota.room().filter(|left| *left < wanted) {
                let whose = format!("the quota of {} on the backup share", quota.of);
                return Err(too_little(&whose, left, "raise that quota on the server, or make room."));
            }
        }
        Ok(())
    }

    /// What the server says of the owner of our files. Root has no limits (quotactl(2): `CAP_SYS_RESOURCE`, which an NFS
    /// server leaves to root that is not squashed).
    fn quotas(&self) -> Vec<Quota> {
        let Some(export) = self.export else { return Vec::new() };
        // This agent has written it, whoever the server takes it for.
        let mine = self.folder.path(STATUS);
        let whose = match self.folder.files.owner(&mine) {
            Ok(owner) if owner.user == 0 => return Vec::new(),
            Ok(owner) => [QuotaSubject::User(owner.user), QuotaSubject::Group(owner.group)],
            Err(e) => {
                self.unknown("whoever writes there", &format!("{mine}: {e}"));
                return Vec::new();
            }
        };
        let ask = |of: QuotaSubject| {
            if matches!(of, QuotaSubject::User(UNMAPPED) | QuotaSubject::Group(UNMAPPED)) {
                self.unknown(&of.to_string(), "an NFSv4 server that tells names, not numbers");
                return None;
            }
            let answer = self.world.quota(export, of);
            answer.unwrap_or_else(|e| {
                self.unknown(&of.to_string(), &e.to_string());
                None
            })
        };
        whose.into_iter().filter_map(ask).collect()
    }

    fn unknown(&self, whose: &str, why: &str) {
        self.journal.info(&format!(
            "the backup share's quota of {whose} cannot be told ({why}); where it is full, a write will fail"
        ));
    }
}
