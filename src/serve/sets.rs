//! A set becomes the machine's: only of parts that this store has proven, under a record that says no more than that.

use super::jobs::{self, StoreJob};
use super::old_sets::OldSets;
use super::proofs::Proofs;
use super::retention::{Keep, surplus};
use super::verified::VerifiedSets;
use crate::failure::{Failure, Kind};
use crate::image::Image;
use crate::job::pxe::HexIp;
use crate::store::layout::{RECORD, STORE_PROVEN, history_dir, part_file};
use crate::store::protocol::{Code, ProofState, PublishedSet, Refusal};
use crate::store::record::{ImageRecord, Machine, Record, SetState};
use crate::store::{Folder, publish};
use crate::text::with_sources;
use crate::types::{HostName, SetHash};
use jiff::Timestamp;
use std::io;
use std::net::Ipv4Addr;

/// What publishing needs of the store.
pub struct Publishing<'a> {
    /// The backup folder.
    pub folder: &'a Folder,
    /// What was proven.
    pub proofs: &'a Proofs,
    /// The job.
    pub job: &'a StoreJob,
    /// The admin's rules.
    pub keep: &'a Keep,
    /// The server's clock.
    pub now: Timestamp,
    /// The same, but no later than the time that has passed since the server began: no set is old because the clock was set.
    pub passed: Timestamp,
}

impl Publishing<'_> {
    /// Publishes what an agent says of its set. The answer of a call that was answered already is the same.
    ///
    /// # Errors
    /// [`Code::Busy`] while a part is proven; [`Code::Forbidden`] where the record says what is not so; and those of
    /// [`publish::publish`].
    pub fn publish(&self, told: &[u8], ours: publish::Ours) -> Result<PublishedSet, Refusal> {
        let told =
            Record::parse(told).map_err(|e| Refusal::new(Code::Malformed, format!("the record: {e}")))?;
        let current = self.folder.record_and_bytes(RECORD).map_err(|f| Refusal::of_failure(&f))?;
        if let Some((record, _)) = &current
            && record.job.as_deref() == Some(&*self.job.job)
        {
            return Ok(PublishedSet { generation: record.generation, pruned: Vec::new() });
        }
        let record = self.record(told, current.as_ref().map(|(record, _)| record))?;
        let generation =
            publish::publish(self.folder, &record, u32::MAX, ours).map_err(|f| Refusal::of_failure(&f))?;
        for image in record.images.iter().filter(|image| !image.carried) {
            let (part, file) = (part_file(&image.name), image.file());
            self.proofs.renamed(&self.folder.path(&part), &self.folder.path(&file));
        }
        self.note_proven()
            .map_err(|e| Refusal::of_error("the set is published; its proof cannot be noted", &e))?;
        let pruned = self.prune().map_err(|f| Refusal::of_failure(&f))?;
        Ok(PublishedSet { generation, pruned })
    }

    /// The record as the store vouches for it: what the agent says of disks and firmware, and what the store knows of
    /// machine, job, time and images.
    fn record(&self, told: Record, current: Option<&Record>) -> Result<Record, Refusal> {
        let ip: Ipv4Addr =
            self.job.ip.parse().map_err(|_| Refusal::new(Code::Failed, "the job names no address"))?;
        let hostname =
            told.machine.hostname.parse::<HostName>().map_or("unknown".into(), |name| name.to_string());
        let machine = Machine { ip: ip.to_string(), hexip: HexIp(ip).to_string(), hostname };
        let mut record = Record::new(told.generation, Some(self.job.job.clone()), machine, self.now);
        for image in told.images {
            let before = current.and_then(|record| record.image(&image.name));
            record.images.push(match image.carried {
                true => self.carried(&image, before)?,
                false => self.made(image, before)?,
            });
        }
        if record.images.iter().all(|image| image.carried) {
            return Err(forbidden("the record names no new image"));
        }
        if let Some(lost) =
            current.iter().flat_map(|record| &record.images).find(|image| record.image(&image.name).is_none())
        {
            return Err(forbidden(&format!(
                "the record leaves out {}, which the set before has",
                lost.file()
            )));
        }
        (record.others, record.firmware) = (told.others, told.firmware);
        Ok(record)
    }

    fn carried(&self, told: &ImageRecord, before: Option<&ImageRecord>) -> Result<ImageRecord, Refusal> {
        let same = before.filter(|image| image.root_hash == told.root_hash);
        let same =
            same.ok_or_else(|| forbidden(&format!("{} is not the image of the set before", told.file())))?;
        Ok(ImageRecord { carried: true, ..same.clone() })
    }

    fn made(&self, told: ImageRecord, before: Option<&ImageRecord>) -> Result<ImageRecord, Refusal> {
        if before.is_some() && self.job.action.parse() == Ok(crate::job::Action::Backup) {
            let why = format!("there is an image {} already: only backup-again replaces it", told.file());
            return Err(Refusal::new(Code::Exists, why));
        }
        let part = self.folder.path(&part_file(&told.name));
        let Some(proven) = self.proofs.proven(&part) else {
            // After a restart of the server, for example.
            return Err(match self.proofs.ask(&part, &self.job.ip)? {
                ProofState::Damaged(why) | ProofState::Unreadable(why) => {
                    let what = format!("{part} cannot be proven on the server's disk: {why}");
                    let advice = "look at the server's disk and log; the machine tries again. The set before is untouched.";
                    Refusal::of_failure(&Failure::new(Kind::Publish, what, advice))
                }
                _ => Refusal::new(Code::Busy, format!("{part} is being proven")),
            });
        };
        let file = self.folder.files.open(&part).map_err(|e| Refusal::of_error(&part, &e))?;
        let image = Image::open(file).map_err(|e| Refusal::new(Code::Failed, with_sources(&e)))?;
        let summary = image.summary();
        let is_proven = summary.root_hash == proven.root_hash && summary.image == proven.size;
        if !is_proven || told.root_hash != proven.root_hash {
            return Err(forbidden(&format!("{part} is another image than the one that the record names")));
        }
        let about = &image.header().disk;
        if about.name != told.name {
            return Err(forbidden(&format!("{part} is an image of {}", about.name)));
        }
        Ok(ImageRecord {
            disk_size: about.size,
            logical_block_size: about.logical_block_size,
            physical_block_size: about.physical_block_size,
            image_size: summary.image,
            root_hash: summary.root_hash,
            state: if summary.degraded { SetState::Degraded } else { SetState::Complete },
            unreadable_bytes: summary.unreadable,
            carried: false,
            ..told
        })
    }

    /// Notes that this store has proven the current set.
    fn note_proven(&self) -> io::Result<()> {
        let files = &*self.folder.files;
        let Ok(Some((_, bytes))) = self.folder.record_and_bytes(RECORD) else { return Ok(()) };
        jobs::make_folder(files, STORE_PROVEN)?;
        let text = format!("{} {}\n", self.job.ip, self.now);
        files.write_atomic(&format!("{STORE_PROVEN}/{}", SetHash::of(&bytes)), text.as_bytes())
    }

    /// Removes what the rules leave of the history; the folders.
    fn prune(&self) -> Result<Vec<String>, Failure> {
        // One that cannot be read has proven nothing.
        let verified = VerifiedSets::load(&*self.folder.files).unwrap_or_default();
        let sets = OldSets::of(self.folder, &verified, self.now)?;
        let mut pruned = Vec::new();
        for generation in surplus(self.keep, sets.current, &sets.old, self.passed) {
            publish::remove_set(self.folder, &history_dir(generation))?;
            pruned.push(history_dir(generation));
        }
        Ok(pruned)
    }
}

fn forbidden(why: &str) -> Refusal {
    Refusal::new(Code::Forbidden, why)
}
