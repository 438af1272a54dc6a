//! `init`: lays out the TFTP share and the backup share on the server.

mod advice;
mod store;
mod uefi;

use super::config::SettingsFile;
use super::network::Subnet;
use super::output::Out;
use super::ownership::{self, Class};
use super::shares::ShareFolder;
use super::{Answer, Error};
use crate::share::Files;
use crate::share::ownership::{PRIVATE_DIR, SERVED_DIR};
use crate::store::layout::{
    BACKUP_EXPORT, BACKUP_MARKER, DEFAULT_CFG, INITRD, KERNEL, MAINTENANCE_BOOT, NFS_ROOT_EXPORT,
    PXELINUX_CFG, TESTBOX_CFG, TFTP_EXPORT, TFTP_MARKER,
};
use serde_json::json;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What every machine without a configuration of its own does: boot its disk.
const LOCAL_BOOT: &str = "\
# Machines that are not armed boot their local disk.
PATH bios
DEFAULT local-boot
PROMPT 0
TIMEOUT 0
NOESCAPE 1
ALLOWOPTIONS 0
IMPLICIT 0

LABEL local-boot
  MENU LABEL Local disk
  LOCALBOOT 0
";

/// What the package testbox-boot has: kernel and initramfs, and loaders as they lie in a TFTP tree.
const PACKAGED: &str = "/usr/lib/testbox/boot";

/// Largest file that is taken into a share, in bytes.
const FILE_LIMIT: usize = 1 << 30;

const AFTER_HELP: &str = "\
Run it again at any time: what is there stays, and boot files are brought up to date. A 'default' \
that differs is left alone.

Examples:
  testboxctl init --store --interface eth1 --dhcp 10.42.1.100-10.42.1.199
        all of a lab without NFS: folders, settings, key, and what to do next
  testboxctl init --store --interface eth0 --proxy-dhcp
        the same beside the DHCP server that the network has
  testboxctl init --network 10.42.1.0/24
        the folders for a lab with NFS, and what its servers are told
  testboxctl init --tftp-dir tftp --backup-dir backup --boot-files vmlinuz initrd.img";

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Root of the TFTP share [default: /export/testbox-tftp]
    #[arg(long, value_name = "DIR")]
    tftp_dir: Option<PathBuf>,
    /// Root of the backup share [default: /export/testbox-backup]
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
    /// Kernel and initramfs for maintenance-boot/ ('scripts/make-nfsroot' puts them there too) [default: those of the package
    /// testbox-boot, where it is installed and there is no /export/testbox-nfsroot, whose kernel is the one that fits it]
    #[arg(long, num_args = 2, value_names = ["KERNEL", "INITRD"])]
    boot_files: Vec<PathBuf>,
    /// The network of the machines [default: the settings file's; with --store, that of the interface]
    #[arg(long, value_name = "IP/BITS")]
    network: Option<Subnet>,
    /// Folder with pxelinux.0 [default: that of Debian's package pxelinux, else of testbox-boot]
    #[arg(long, value_name = "DIR")]
    pxelinux_dir: Option<PathBuf>,
    /// Folder with ldlinux.c32 and the other BIOS modules [default: that of Debian's package syslinux-common, else of testbox-boot]
    #[arg(long, value_name = "DIR")]
    modules_dir: Option<PathBuf>,
    /// The loader of UEFI machines [default: that of Debian's package shim-signed, else of testbox-boot]
    #[arg(long, value_name = "FILE", requires = "grub")]
    shim: Option<PathBuf>,
    /// The one that it loads [default: that of Debian's package grub-efi-amd64-signed, else of testbox-boot]
    #[arg(long, value_name = "FILE", requires = "shim")]
    grub: Option<PathBuf>,
    #[command(flatten)]
    server: store::StoreFlags,
    /// For programs
    #[arg(long)]
    json: bool,
}

impl Args {
    /// True where the settings file is made by this command.
    pub fn makes(&self, config: Option<&Path>) -> bool {
        self.server.is_wanted() && config.is_some_and(|path| !path.exists())
    }
}

pub(super) fn run(args: Args, config: Option<&Path>, file: SettingsFile, out: &mut Out) -> Answer {
    let network = args.network.or(file.network);
    let server = args.server.plan(network, &file)?;
    let tftp = args.tftp_dir.or(file.tftp_dir).unwrap_or(TFTP_EXPORT.into());
    let backup = args.backup_dir.or(file.backup_dir).unwrap_or(BACKUP_EXPORT.into());
    let boot_files = if args.boot_files.is_empty() { packaged() } else { args.boot_files };
    let loader = args.pxelinux_dir.unwrap_or_else(|| first_of(["/usr/lib/PXELINUX", PACKAGED], TFTP_MARKER));
    let bios = format!("{PACKAGED}/bios");
    let modules = ["/usr/lib/syslinux/modules/bios", bios.as_str()];
    let modules = args.modules_dir.unwrap_or_else(|| first_of(modules, "ldlinux.c32"));
    let mut sources = boot_sources(&loader, &modules, &boot_files)?;
    let uefi = args.shim.zip(args.grub).unwrap_or_else(|| uefi::installed(Path::new(PACKAGED)));
    sources.extend(uefi::sources(&uefi.0, &uefi.1)?);

    let mut said = Vec::new();
    let root = make_root(&tftp, SERVED_DIR)?;
    let root = ShareFolder { files: root.files.served(), ..root };
    for dir in ["bios", "grub", PXELINUX_CFG, MAINTENANCE_BOOT, TESTBOX_CFG] {
        let is_new = !tftp.join(dir).exists();
        root.files.make_dir(dir).map_err(|e| root.error(dir, "make this folder", &e))?;
        if is_new && matches!(dir, PXELINUX_CFG | TESTBOX_CFG) {
            ownership::own(&tftp.join(dir), Class::ArmedFolder)?;
        }
    }
    let mut copied = 0;
    for (from, to) in &sources {
        copied += usize::from(copy(from, &root, to)?);
    }
    said.push(format!(
        "{}: {copied} boot files written, {} were up to date",
        tftp.display(),
        sources.len() - copied
    ));
    let is_ours = default(&root, &mut said)? & uefi::config(&root, &mut said)?;
    let is_new = !backup.exists();
    let root = make_root(&backup, PRIVATE_DIR)?;
    if is_new {
        ownership::own(&backup, Class::BackupFolder)?;
    }
    match root.files.create_new(BACKUP_MARKER, b"This file marks the root of the backup share of testbox.\n")
    {
        Ok(()) => {
            ownership::own(&backup.join(BACKUP_MARKER), Class::BackupFile)?;
            said.push(format!("{}: the backup share, with its marker file", backup.display()));
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            said.push(format!("{}: it is a backup share already", backup.display()));
        }
        Err(e) => return Err(root.error(BACKUP_MARKER, "create it", &e)),
    }
    let (tftp, backup) = (real(&tftp), real(&backup));
    let mut is_settled = true;
    if let Some(server) = &server {
        is_settled = server.apply(config, &tftp, &backup, &mut said)?;
    }
    let host = file.boot_server.or(file.server).map(|host| host.to_string());
    let lab = advice::InitLab { tftp, backup, network, server: host };
    let text = match &server {
        Some(server) => server.next(&lab.tftp, &lab.backup, &lab.ownership(), &lab.boot()),
        None => lab.text(),
    };
    if args.json {
        let folders = [&lab.tftp, &lab.backup].map(|path| path.display().to_string());
        let value = json!({ "tftp_dir": folders[0], "backup_dir": folders[1], "done": said, "next": text });
        out.json(&value, false)?;
    } else {
        said.iter().flat_map(|text| text.trim_end().split('\n')).try_for_each(|line| out.line(line))?;
        out.text(&text)?;
    }
    Ok(is_ours && is_settled)
}

/// The first of these folders that has the file; else the first of all.
fn first_of(folders: [&str; 2], file: &str) -> PathBuf {
    let there = folders.into_iter().find(|folder| Path::new(folder).join(file).is_file());
    there.unwrap_or(folders[0]).into()
}

fn packaged() -> Vec<PathBuf> {
    let wanted = !Path::new(NFS_ROOT_EXPORT).exists();
    let files = ["vmlinuz", "initrd.img"].map(|name| Path::new(PACKAGED).join(name));
    files.into_iter().filter(|path| wanted && path.exists()).collect()
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Makes the root of a share where it is missing; a new one has this mode, whatever the umask is.
fn make_root(path: &Path, mode: u32) -> Result<ShareFolder, Error> {
    let is_new = !path.exists();
    let made = fs::create_dir_all(path).and_then(|()| match is_new {
        true => fs::set_permissions(path, Permissions::from_mode(mode)),
        false => Ok(()),
    });
    made.map_err(|e| Error::failed(format!("{}: cannot make this folder: {e}", path.display())))?;
    ShareFolder::open(path)
}

/// The files to copy and where to. All are looked for before the first is copied.
fn boot_sources(pxelinux: &Path, modules: &Path, boot: &[PathBuf]) -> Result<Vec<(PathBuf, String)>, Error> {
    let mut files = vec![
        (pxelinux.join(TFTP_MARKER), TFTP_MARKER.to_owned()),
        (modules.join("ldlinux.c32"), "ldlinux.c32".to_owned()),
    ];
    let packages = ["pxelinux", "syslinux-common"];
    for ((path, _), package) in files.iter().zip(packages) {
        if !path.is_file() {
            return Err(Error::failed(format!(
                "{}: it is not there: install Debian's package {package} (apt-get install pxelinux syslinux-common)",
                path.display()
            )));
        }
    }
    let unreadable = |e: io::Error| Error::failed(format!("{}: cannot list it: {e}", modules.display()));
    for entry in fs::read_dir(modules).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).filter(|n| n.ends_with(".c32"));
        if let Some(name) = name {
            files.push((path.clone(), format!("bios/{name}")));
        }
    }
    for (path, to) in boot.iter().zip([KERNEL, INITRD]) {
        if !path.is_file() {
            return Err(Error::failed(format!("{}: it is not a file", path.display())));
        }
        files.push((path.clone(), to.to_owned()));
    }
    Ok(files)
}

/// Copies one file, unless it is there already; true where it was written. Machines that boot meanwhile get the old
/// file or the new one.
fn copy(from: &Path, root: &ShareFolder, to: &str) -> Result<bool, Error> {
    let failed = |e: io::Error| Error::failed(format!("{}: cannot read it: {e}", from.display()));
    let bytes = {
        let file = File::open(from).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        if size > FILE_LIMIT as u64 {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        fs::read(from).map_err(failed)?
    };
    match root.files.read_limited(to, FILE_LIMIT) {
        Ok(there) if there == bytes => return Ok(false),
        _ => {}
    }
    root.files.write_atomic(to, &bytes).map_err(|e| root.error(to, "write it", &e))?;
    Ok(true)
}

/// Writes `default` where there is none. False where there is another: it may boot machines into anything.
fn default(root: &ShareFolder, said: &mut Vec<String>) -> Result<bool, Error> {
    let path = format!("{PXELINUX_CFG}/{DEFAULT_CFG}");
    match root.files.create_new(&path, LOCAL_BOOT.as_bytes()) {
        Ok(()) => {
            said.push(format!(
                "{}: machines that are not armed boot their disk",
                root.path.join(&path).display()
            ));
            return Ok(true);
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(root.error(&path, "create it", &e)),
    }
    if root.read(&path, 1 << 20)?.as_deref() == Some(LOCAL_BOOT.as_bytes()) {
        said.push(format!("{}: as it should be", root.path.join(&path).display()));
        return Ok(true);
    }
    said.push(format!(
        "{}: it differs from what testbox needs and was left alone. Machines that are not armed must boot their local \
         disk:\n{LOCAL_BOOT}",
        root.path.join(&path).display()
    ));
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::pxe::PxeFile;

    #[test]
    fn the_default_boots_the_local_disk() {
        let file = PxeFile::parse(LOCAL_BOOT);
        assert_eq!((file.default.as_deref(), file.append), (Some("local-boot"), None));
    }
}
