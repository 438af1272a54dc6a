//! Which images are meant: one by its file, or those of a machine's set.

use super::super::Error;
use super::super::config::SettingsFile;
use super::super::machine::MachineNames;
use super::super::output::warn;
use super::super::sets::{ListedImage, ListedSet, SetShare};
use super::super::shares::{self, BackupFlag};
use super::open_image;
use super::parts::file_stem;
use crate::image::{Image, ImageFile};
use std::path::{Path, PathBuf};

/// An image that is open, and what its disk is called here.
pub(super) struct SourceImage {
    /// A disk name, or `disk`.
    pub stem: String,
    /// Where it is.
    pub path: PathBuf,
    /// The image.
    pub image: Box<Image>,
}

/// Which images, as the arguments of several commands.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SourceArgs {
    /// Image of testbox, or a machine: its current set, or set 3 by tb1:3, or the one before by tb1:previous
    #[arg(value_name = "IMAGE|MACHINE[:SET]")]
    source: String,
    /// Only this disk of a machine's set, such as sda
    #[arg(long, value_name = "NAME")]
    disk: Option<String>,
    #[command(flatten)]
    backup: BackupFlag,
}

impl SourceArgs {
    /// What the admin has typed.
    pub fn word(&self) -> &str {
        &self.source
    }

    /// Opens what is meant. A file of this name is meant before a machine.
    pub fn open(&self, file: SettingsFile) -> Result<Vec<SourceImage>, Error> {
        let path = Path::new(&self.source);
        let mut images = if path.exists() || self.source.contains('/') {
            let image = open(path)?;
            vec![SourceImage { stem: file_stem(&image.header().disk.name), path: path.to_owned(), image }]
        } else {
            self.of_machine(file)?
        };
        if let Some(disk) = &self.disk {
            let all: Vec<String> = images.iter().map(|image| image.stem.clone()).collect();
            images.retain(|image| image.stem == *disk);
            if images.is_empty() {
                let (word, all) = (&self.source, all.join(", "));
                return Err(Error::usage(format!("{word}: no disk '{disk}' in it, but {all}")));
            }
        }
        Ok(images)
    }

    fn of_machine(&self, file: SettingsFile) -> Result<Vec<SourceImage>, Error> {
        let (machine, set) = match self.source.split_once(':') {
            Some((machine, set)) => (machine, Some(set)),
            None => (self.source.as_str(), None),
        };
        let names = MachineNames::load(&file)?;
        let machines = names.resolve_all(&[machine.to_owned()]).map_err(|e| match e {
            Error::Usage(why) => Error::usage(format!("{}: there is no such file, and {why}", self.source)),
            e => e,
        })?;
        let [machine] = &machines[..] else {
            return Err(Error::usage(format!("{}: name one machine", self.source)));
        };
        let share = shares::need_backup_dir(&self.backup.clone().or(file))?;
        let sets = SetShare::open(&share)?.of(machine.ip);
        let is_meant = |found: &&ListedSet| match set {
            None => found.is_current(),
            Some("previous") => sets.is_previous(found),
            Some(number) => number.parse() == Ok(found.generation),
        };
        let Some(found) = sets.sets.iter().find(is_meant) else {
            let all: Vec<String> = sets.sets.iter().map(|set| set.generation.to_string()).collect();
            let there = if all.is_empty() { "no set".into() } else { format!("sets {}", all.join(", ")) };
            let problems = sets.problems.iter().map(|what| format!("; {what}")).collect::<String>();
            let folder = share.path.join(machine.ip.to_string());
            return Err(Error::failed(format!(
                "{}: there is no such set in {}, but {there}{problems}; images that no set names are opened by their path",
                self.source,
                folder.display()
            )));
        };
        let folder = share.path.join(machine.ip.to_string()).join(&found.dir);
        let open = |listed: &ListedImage| {
            let path = folder.join(&listed.file);
            if listed.is_damaged {
                warn(&format!("{}: it is recorded as damaged", path.display()));
            }
            let image = open(&path)?;
            if image.summary().root_hash != listed.root_hash {
                return Err(Error::failed(format!(
                    "{}: not the image that its set names; 'testboxctl verify' tells more",
                    path.display()
                )));
            }
            Ok(SourceImage { stem: file_stem(&listed.name), path, image })
        };
        found.images.iter().map(open).collect()
    }
}

/// Opens an image that has an index.
fn open(path: &Path) -> Result<Box<Image>, Error> {
    match open_image(path)? {
        ImageFile::Own(image) => Ok(image),
        ImageFile::Foreign(_) => Err(Error::failed(format!(
            "{path}: a gzip file, not of testbox: it has no index by which a part of it could be found. Make an image of it: \
             zcat {path} >disk.raw && testboxctl image create disk.raw disk.raw.gz",
            path = path.display()
        ))),
    }
}
