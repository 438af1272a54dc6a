//! The part file of an image on the share, while the image is made.

use super::damage;
use crate::agent::journal::Journal;
use crate::agent::report::Reporter;
use crate::image::{BackupFile, Hash, ImageError, Part, Pass, Written};
use crate::inventory::Disk;
use crate::io::{ReadAt, SyncWrite};
use crate::progress::Progress;
use crate::share::Files;
use crate::store::layout::{image_file, part_file};
use crate::store::record::ImageRecord;
use crate::store::{Folder, KeptImage, NotProven};
use crate::text::with_sources;
use std::io;
use std::sync::Arc;

/// The part file of one disk's image.
pub struct PartFile<'a> {
    /// Who is told how far it is.
    pub reporter: &'a Reporter<'a>,
    /// The machine's folder, writable.
    pub folder: &'a Folder,
    /// Where lines go.
    pub journal: &'a Journal,
    /// The disk.
    pub disk: &'a Disk,
    /// Name of the disk's image.
    pub name: &'a str,
    /// The image before of the disk.
    pub before: Option<&'a ImageRecord>,
}

impl PartFile<'_> {
    fn path(&self) -> String {
        self.folder.path(&part_file(self.name))
    }
}

impl BackupFile for PartFile<'_> {
    fn during<T>(&self, pass: Pass, work: impl FnOnce(&Progress) -> T) -> T {
        let progress = Progress::new();
        let (step, writes) = match pass {
            Pass::Write => {
                progress.start(self.disk.size);
                (format!("imaging {} as {}", self.disk.name, image_file(self.name)), true)
            }
            Pass::ReadBack => (format!("verifying {}", part_file(self.name)), false),
        };
        self.reporter.during(&step, Some(self.name), &progress, writes, || work(&progress))
    }

    fn begin(&self) -> io::Result<(Box<dyn SyncWrite>, Option<Part>)> {
        let files = &*self.folder.files;
        let begun = begin(files, &self.path())?;
        // From here on a power cut leaves something to resume.
        files.sync_dir(&self.folder.path(""))?;
        Ok(begun)
    }

    fn written(&self, written: &Written) {
        self.journal.info(&figures(&part_file(self.name), written));
        if let (Some(why), Some(before)) = (&written.bad_base, self.before) {
            let image = (&*before.file(), &before.root_hash);
            damage::note(self.reporter, self.journal, self.folder, image, why);
        }
    }

    fn reopen(&self) -> io::Result<Arc<dyn ReadAt>> {
        self.folder.files.open(&self.path())
    }

    fn prove_there(&self, progress: &Progress) -> Option<Result<(Hash, u64), ImageError>> {
        let keeper = self.folder.keeper()?;
        Some(match keeper.prove(&self.path(), progress) {
            Ok(KeptImage { root_hash, size }) => Ok((root_hash, size)),
            Err(NotProven::Damaged(why)) => Err(ImageError::damaged(0, why)),
            Err(NotProven::Unknown(e)) => Err(ImageError::read(0, e)),
        })
    }

    fn hides_base(&self) -> bool {
        self.folder.keeper().is_some()
    }

    fn discard(&self, why: &ImageError) -> io::Result<()> {
        let (part, why) = (part_file(self.name), with_sources(why));
        self.journal.warn(&format!("{part}: {why}. It is made again, and nothing taken over unread"));
        // What was copied from the image before may be why: it is read again, and noted where it is damaged.
        if let (Some(keeper), Some(before)) = (self.folder.keeper(), self.before) {
            let path = self.folder.path(&before.file());
            let looked = keeper.suspect(&path).map_err(NotProven::from);
            match looked.and_then(|()| keeper.prove(&path, &Progress::default())) {
                Ok(_) => {}
                Err(e) => self.journal.global(&format!("{path}, the image before: {e}. Do not rely on it")),
            }
        }
        // Who has the folder by now may have a file of this name.
        self.reporter.check_lease().map_err(io::Error::other)?;
        self.folder.files.remove(&self.path())
    }
}

/// What an image is made of, as a line of the log.
fn figures(part: &str, written: &Written) -> String {
    let Written { disk_bytes, image_bytes, zero_bytes, stored_bytes, taken_bytes, kept_bytes, .. } = written;
    let unused = written.unallocated_bytes;
    let compressed = disk_bytes
        .saturating_sub(unused)
        .saturating_sub(*zero_bytes)
        .saturating_sub(written.unreadable_bytes)
        .saturating_sub(*taken_bytes)
        .saturating_sub(*kept_bytes)
        .saturating_sub(*stored_bytes);
    format!(
        "{part}: {disk_bytes} bytes of disk in {image_bytes} bytes of image: {unused} unallocated and not read, \
         {zero_bytes} zero, {compressed} compressed, {stored_bytes} stored, {taken_bytes} taken over from the image before, {kept_bytes} kept \
         from a cut attempt; {} bytes of the image are holes",
        written.hole_bytes
    )
}

/// The file that an image is written to, and what a cut attempt has left in it.
fn begin(files: &dyn Files, path: &str) -> io::Result<(Box<dyn SyncWrite>, Option<Part>)> {
    match files.reopen(path) {
        Ok(file) => {
            let there = files.open(path)?;
            return Ok((file, Some(Part::new(there))));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        // Not a file to resume: a link, a file with a second name.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            files.remove(path)?;
        }
        Err(e) => return Err(e),
    }
    Ok((files.create(path)?, None))
}
