//! `image import`: disks of virtual machines as a set of a machine, published as a backup's is.

use super::super::config::SettingsFile;
use super::super::leased::leased;
use super::super::machine::MachineNames;
use super::super::output::{Out, warn};
use super::super::ownership::{self, Class};
use super::super::shares::{self, BackupFlag, ShareFolder};
use super::super::{Answer, Error, arm};
use super::foreign::{ForeignDisk, ForeignOpener};
use super::{image_error, show};
use crate::block::{BlockDevice, RealDisk};
use crate::failure::Failure;
use crate::image::{
    BackupFile, BackupOptions, DiskAbout, Image, ImageError, Part, Pass, ReadBack, Summary, Written,
    backup_verified,
};
use crate::inventory::Identity;
use crate::io::{ReadAt, SyncWrite};
use crate::job::pxe::HexIp;
use crate::progress::Progress;
use crate::share::{DirFiles, Files};
use crate::store::layout::{HISTORY, RECORD, image_file, is_disk_name, part_file};
use crate::store::lease::LeaseHolder;
use crate::store::record::{ImageRecord, Machine, Record, SetState};
use crate::store::{self, Folder, publish};
use crate::sys::note_ending_signals;
use crate::text::with_sources;
use crate::types::HostName;
use crate::used::{self, Beyond, Used};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

pub(super) const HELP: &str = "\
FILE is a raw disk, or a qcow2 without a backing file, which qemu-img unpacks into $TMPDIR first. It becomes an image, read back \
and proven, and the machine's current set, as by a backup: the set before goes to history/, and of a machine with several disks \
the images of the others stay. The listing calls the set imported; backup.json says by whom, and from which file.

Which disk it goes back to is decided as for every image, by serial number or WWN: those that are given, or those of the image \
of this name in the set before. Without either, a restore refuses it until 'arm --map' names the disk.

Examples:
  testboxctl image import --machine tb1 --disk sda changed.qcow2
  testboxctl image import --machine tb9 --disk vda --serial S3Z8NB0K new.raw";

/// Arguments of `image import`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// Raw disks or qcow2 files, one for each disk
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Machine whose set they become
    #[arg(long, value_name = "IP|HOST")]
    machine: String,
    /// What the disk is called in the set, such as sda; once for each file, in their order
    #[arg(long, required = true, value_name = "NAME")]
    disk: Vec<String>,
    /// Serial number of the disk that it goes to; for one file
    #[arg(long, value_name = "SERIAL")]
    serial: Option<String>,
    /// World wide name of the disk that it goes to, as /sys/block/sda/device/wwid has it; for one file
    #[arg(long, value_name = "WWN")]
    wwn: Option<String>,
    /// Leave out what no file system uses, where that is certain: auto, no-swap or off
    #[arg(long, value_name = "HOW", default_value = "auto")]
    used: Used,
    /// Threads that compress [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    backup: BackupFlag,
}

/// One disk that is imported.
struct ImportedDisk {
    name: String,
    disk: ForeignDisk,
}

pub(in super::super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    // From here on, so that no part is left by whoever ends this.
    note_ending_signals();
    check(&args)?;
    let names = MachineNames::load(&file)?.resolve_all(std::slice::from_ref(&args.machine))?;
    let [machine] = &names[..] else {
        return Err(Error::usage(format!("{}: name one machine", args.machine)));
    };
    let share = shares::need_backup_dir(&args.backup.clone().or(file))?;
    shares::refuse_newer(&share, &machine.ip.to_string())?;
    // A qcow2 is unpacked before anybody has to wait for the folder.
    let opener = ForeignOpener::default();
    let open =
        |(path, name): (&PathBuf, &String)| Ok(ImportedDisk { name: name.clone(), disk: opener.open(path)? });
    let disks = args.files.iter().zip(&args.disk).map(open).collect::<Result<Vec<_>, Error>>()?;
    let files: Arc<dyn Files> =
        Arc::new(DirFiles::open(&share.path).map_err(|e| share.error("", "open it", &e))?);
    let folder = Folder::new(files, machine.ip.to_string());
    let host = machine.word.parse::<HostName>().ok().filter(|host| host.ipv4().is_none());
    let host = host.map_or_else(|| "unknown".to_owned(), |host| host.as_str().to_owned());
    make_folder(&share, &folder, machine.ip, &host)?;
    let import = Import { args: &args, share: &share, folder: &folder, ip: machine.ip, host };
    let made = leased(&share, &folder, "image import", |held| import.run(held, &disks));
    let (value, lines) = made.map_err(|why| Error::failed(format!("{}: {why}", machine.ip)))?;
    out.result(args.json, &value, &lines).map(|()| true)
}

/// What can be refused before anything is read.
fn check(args: &Args) -> Result<(), Error> {
    if args.files.len() != args.disk.len() {
        let (files, names) = (args.files.len(), args.disk.len());
        return Err(Error::usage(format!("{files} files and {names} names: give --disk once for each file")));
    }
    if args.files.len() > 1 && (args.serial.is_some() || args.wwn.is_some()) {
        return Err(Error::usage("--serial and --wwn are for one file: import the others by themselves"));
    }
    if let Some(bad) = args.disk.iter().find(|name| !is_disk_name(name)) {
        return Err(Error::usage(format!("--disk {bad}: not the name of a disk, as sda, vda or nvme0n1")));
    }
    if args.disk.iter().collect::<BTreeSet<_>>().len() < args.disk.len() {
        return Err(Error::usage("--disk: each name once"));
    }
    let identity = Identity { serial: args.serial.clone(), wwn: args.wwn.clone(), model: None };
    if (args.serial.is_some() || args.wwn.is_some()) && !identity.is_unique() {
        return Err(Error::usage(
            "--serial, --wwn: a placeholder that many disks share, such as all zeros; it does not identify a disk",
        ));
    }
    Ok(())
}

/// Makes the machine's folder, where it has none yet.
fn make_folder(share: &ShareFolder, folder: &Folder, ip: Ipv4Addr, host: &str) -> Result<(), Error> {
    let name = ip.to_string();
    match folder.files.list(&name) {
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(share.error(&name, "list it", &e)),
    }
    folder.make(host, &HexIp(ip).to_string()).map_err(|e| share.error(&name, "make it", &e))?;
    ownership::own(&share.path.join(&name), Class::BackupFolder)
}

/// One import into a machine's folder.
struct Import<'a> {
    args: &'a Args,
    share: &'a ShareFolder,
    folder: &'a Folder,
    ip: Ipv4Addr,
    host: String,
}

impl Import<'_> {
    /// Makes the set; gives what it is, for programs and for people.
    fn run(&self, held: &LeaseHolder, disks: &[ImportedDisk]) -> Result<(Value, Vec<String>), String> {
        let words = |failure: Failure| failure.to_string();
        let before = self.folder.record(RECORD).map_err(words)?;
        let mut record = self.record(before.as_ref());
        let mut lines = Vec::new();
        for imported in disks {
            held.check().map_err(words)?;
            let made = self.image(imported, before.as_ref());
            let (image, told) = made.inspect_err(|_| self.remove_parts(disks))?;
            record.images.push(image);
            lines.extend(told);
        }
        record.images.sort_by(|a, b| a.name.cmp(&b.name));
        // Old sets go by 'prune' and by the next backup.
        let published = publish::publish(self.folder, &record, u32::MAX, &|| held.check()).map_err(words)?;
        self.own(disks);
        let gone =
            before.map_or_else(String::new, |set| format!("; set {} is in {HISTORY}/", set.generation));
        let ip = self.ip;
        lines.push(format!("{ip}: set {published} is the current one, imported{gone}"));
        let image = |image: &ImageRecord| {
            json!({
                "name": image.name,
                "disk_bytes": image.disk_size,
                "image_bytes": image.image_size,
                "root_hash": image.root_hash.to_string(),
                "imported": !image.carried,
            })
        };
        let images: Vec<Value> = record.images.iter().map(image).collect();
        Ok((json!({ "ip": ip, "generation": published, "images": images }), lines))
    }

    /// The record of the new set, with what stays of the one before.
    fn record(&self, before: Option<&Record>) -> Record {
        let ip = self.ip;
        let machine =
            Machine { ip: ip.to_string(), hexip: HexIp(ip).to_string(), hostname: self.host.clone() };
        let machine = before.map_or(machine, |set| set.machine.clone());
        let generation = before.map_or(1, |set| set.generation.saturating_add(1));
        let mut record = Record::new(generation, None, machine, Timestamp::now());
        let files: Vec<String> = self.args.files.iter().map(|file| file.display().to_string()).collect();
        record.imported = Some(format!("by {} from {}", arm::who(), files.join(", ")));
        let Some(before) = before else { return record };
        let stays = |image: &&ImageRecord| !self.args.disk.contains(&image.name);
        record.images = before.images.iter().filter(stays).cloned().collect();
        record.images.iter_mut().for_each(|image| image.carried = true);
        record.others = before.others.clone();
        record.firmware = before.firmware.clone().map(|mut firmware| {
            firmware.loaders.retain(|loaders| !self.args.disk.contains(&loaders.image));
            firmware
        });
        record
    }

    /// Who the disk is.
    fn identity(&self, before: Option<&ImageRecord>) -> Identity {
        let Args { serial, wwn, .. } = self.args;
        match before {
            Some(image) if serial.is_none() && wwn.is_none() => image.identity.clone(),
            _ => Identity { serial: serial.clone(), wwn: wwn.clone(), model: None },
        }
    }

    /// Images one disk into its unfinished file.
    fn image(
        &self,
        imported: &ImportedDisk,
        before: Option<&Record>,
    ) -> Result<(ImageRecord, Vec<String>), String> {
        let ImportedDisk { name, disk: ForeignDisk { disk, path } } = imported;
        let before = before.and_then(|record| record.image(name));
        let identity = self.identity(before);
        let location = before.filter(|image| image.identity == identity).map(|image| image.location.clone());
        if !identity.is_unique() {
            warn(&format!(
                "{name}: nothing says which disk it goes to: a restore will want 'arm --map {name}:serial=...', or import it with \
                 --serial or --wwn"
            ));
        }
        let about = DiskAbout::new(name, identity.clone(), disk);
        let progress = Progress::new();
        let look = || used::survey_beside(disk, self.args.used, &self.beyond(disk, &progress), &progress);
        let ((map, told), _) = show::timed("look for what is used", &progress, look);
        let level = store::compression(&*self.folder.files).unwrap_or_else(|what| {
            warn(&what);
            Default::default()
        });
        let options = BackupOptions {
            threads: self.args.threads,
            codec: level.into(),
            used: Arc::new(map),
            ..BackupOptions::default()
        };
        let base = before.and_then(|image| self.base(image, disk, &options));
        let file = ImportFile { folder: self.folder, name };
        let made = backup_verified(disk, &about, &options, base, ReadBack::Inflate, &file);
        let (written, image) = made.map_err(|e| image_error(path, &e).to_string())?;
        let Summary { root_hash, image: image_size, disk: disk_size, .. } = image.summary();
        let mut lines = told;
        let to = if identity.is_unique() { format!(", for the disk {identity}") } else { String::new() };
        lines.push(format!(
            "{}: {} of disk from {}, {} of it left out as unallocated, image {}, root hash {root_hash}, read back{to}",
            image_file(name),
            show::size(disk_size),
            path.display(),
            show::size(written.unallocated_bytes),
            show::size(image_size),
        ));
        let record = ImageRecord {
            name: name.clone(),
            identity,
            location: location.unwrap_or_default(),
            disk_size,
            logical_block_size: about.logical_block_size,
            physical_block_size: about.physical_block_size,
            image_size,
            root_hash,
            state: SetState::Complete,
            bad_ranges: Vec::new(),
            unreadable_bytes: 0,
            hidden_bytes: 0,
            partitions: image.header().found.list.clone(),
            content: Default::default(),
            twin: before.is_some_and(|image| image.twin),
            carried: false,
        };
        Ok((record, lines))
    }

    fn beyond(&self, disk: &RealDisk, progress: &Progress) -> Beyond {
        let mut beyond = Beyond::default();
        if self.args.used != Used::Off {
            beyond.look(&crate::block::View::new(disk, progress), disk.name(), disk.logical_block_size());
        }
        beyond
    }

    /// The image before of the same disk: what both have is taken over.
    fn base(&self, image: &ImageRecord, disk: &RealDisk, options: &BackupOptions) -> Option<Arc<Image>> {
        let file = self.folder.files.open(&self.folder.path(&image.file())).ok()?;
        let base = Image::open(file).ok().filter(|base| base.summary().root_hash == image.root_hash)?;
        let is_alike = base.header().disk.logical_block_size == disk.logical_block_size();
        (is_alike && options.check_base(&base).is_ok()).then(|| Arc::new(base))
    }

    /// Best effort: the error that ends it is what counts.
    fn remove_parts(&self, disks: &[ImportedDisk]) {
        for imported in disks {
            let _ = self.folder.files.remove_if_exists(&self.folder.path(&part_file(&imported.name)));
        }
    }

    /// What root has made is the agents' to read and to replace.
    fn own(&self, disks: &[ImportedDisk]) {
        let files = disks.iter().map(|imported| image_file(&imported.name)).chain([RECORD.to_owned()]);
        let files = files.map(|file| (self.folder.path(&file), Class::BackupFile));
        let history = self.folder.path(HISTORY);
        let sets = self.folder.files.list(&history).unwrap_or_default();
        let folders = sets.first().map(|_| history.clone());
        let folders = folders.into_iter().chain(sets.iter().map(|set| format!("{history}/{set}")));
        for (path, class) in files.chain(folders.map(|path| (path, Class::BackupFolder))) {
            if let Err(e) = ownership::own(&self.share.path.join(path), class) {
                warn(&format!("{e}; 'testboxctl init' prints how to mend it"));
            }
        }
    }
}

/// The unfinished file of an imported disk.
struct ImportFile<'a> {
    folder: &'a Folder,
    name: &'a str,
}

impl ImportFile<'_> {
    fn path(&self) -> String {
        self.folder.path(&part_file(self.name))
    }
}

impl BackupFile for ImportFile<'_> {
    fn during<T>(&self, pass: Pass, work: impl FnOnce(&Progress) -> T) -> T {
        let progress = Progress::new();
        let label = match pass {
            Pass::Write => format!("import {}", self.name),
            Pass::ReadBack => "verify".to_owned(),
        };
        show::timed(&label, &progress, || work(&progress)).0
    }

    /// What a cut attempt of a machine has left is not of this disk.
    fn begin(&self) -> io::Result<(Box<dyn SyncWrite>, Option<Part>)> {
        self.folder.files.remove_if_exists(&self.path())?;
        Ok((self.folder.files.create(&self.path())?, None))
    }

    fn written(&self, _: &Written) {}

    fn reopen(&self) -> io::Result<Arc<dyn ReadAt>> {
        self.folder.files.open(&self.path())
    }

    fn discard(&self, why: &ImageError) -> io::Result<()> {
        warn(&format!(
            "{}: {}; it is made again, each member of the set before being read first",
            self.path(),
            with_sources(why)
        ));
        self.folder.files.remove(&self.path())
    }
}
