//! TFTP, asked by TFTP: the files that machines boot, whole; and what the folder holds, where it is one of this computer.

use super::super::arm::served::{Served, ServedCheck};
use super::super::shares;
use super::boot_files::{efi_program, initrd, kernel_release};
use super::lab::DoctorLab;
use super::tftp::{ArmedCheck, BootFile, ReadFile, TftpSeen};
use crate::job::pxe::HexIp;
use crate::net::tftp::{Limits, PORT, TftpClient, TftpError};
use crate::share::Files;
use crate::store::layout::{
    DEFAULT_CFG, GRUB, GRUB_CFG, INITRD, KERNEL, PXELINUX_CFG, SHIM, SHIM_ARM64, TFTP_MARKER,
};
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

/// Largest file that is read.
const FILE_LIMIT: usize = 1 << 30;
/// How long the initramfs may take, in answers that may be late.
const LARGE: u32 = 24;
/// Armed machines whose files are asked for.
const ARMED_MAX: usize = 64;

/// The files that are asked for.
fn wanted(lab: &DoctorLab) -> Vec<(BootFile, String)> {
    let named = |own: &Option<String>, usual: &str| own.clone().unwrap_or_else(|| usual.to_owned());
    let slash = |name: String| name.trim_start_matches('/').to_owned();
    vec![
        (BootFile::Loader, TFTP_MARKER.into()),
        (BootFile::Module, "ldlinux.c32".into()),
        (BootFile::Default, format!("{PXELINUX_CFG}/{DEFAULT_CFG}")),
        (BootFile::Kernel, slash(named(&lab.settings.kernel, KERNEL))),
        (BootFile::Initrd, slash(named(&lab.settings.initrd, INITRD))),
        (BootFile::Shim, SHIM.into()),
        (BootFile::Grub, GRUB.into()),
        (BootFile::GrubCfg, GRUB_CFG.into()),
        (BootFile::ShimArm64, SHIM_ARM64.into()),
    ]
}

/// Asks a TFTP server.
pub(super) fn ask(lab: &DoctorLab, server: Ipv4Addr) -> TftpSeen {
    let address = SocketAddrV4::new(server, PORT);
    let timeout = (lab.wait / 4).max(Duration::from_millis(100));
    let limits =
        |times: u32| Limits { max_bytes: FILE_LIMIT, timeout, retries: 3, deadline: lab.wait * times };
    let mut seen = TftpSeen { server, ..TftpSeen::default() };
    // Whether anybody is there, before many wait for nobody.
    if let Err(TftpError::Timeout | TftpError::Io(_)) = TftpClient::new(limits(1)).fetch(address, TFTP_MARKER)
    {
        seen.is_silent = true;
        return seen;
    }
    let client = TftpClient::new(limits(LARGE));
    let files = wanted(lab);
    let read = |(file, path): &(BootFile, String)| {
        let got = client.fetch(address, path);
        let local = lab.tftp_dir.as_ref().map(|dir| dir.join(path));
        let is_local = local.as_ref().map(|path| path.is_file());
        let differs = match (&got, &local) {
            (Ok(bytes), Some(path)) => is_local == Some(true) && !is_same(path, bytes),
            _ => false,
        };
        let mut read = ReadFile { file: *file, path: path.clone(), is_local, differs, ..ReadFile::default() };
        match got {
            Ok(bytes) => {
                read.size = Some(bytes.len());
                look(*file, &bytes, &mut read);
            }
            Err(e @ TftpError::NotFound { .. }) => {
                read.refusal = e.refusal();
                read.error = Some(e.to_string());
            }
            Err(e) => {
                read.is_cut = matches!(e, TftpError::Timeout);
                read.error = Some(e.to_string());
            }
        }
        read
    };
    seen.files = std::thread::scope(|scope| {
        let started: Vec<_> = files.iter().map(|file| scope.spawn(move || read(file))).collect();
        started.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    armed(lab, &mut seen);
    seen
}

/// True where a file has these bytes.
fn is_same(path: &Path, bytes: &[u8]) -> bool {
    let mut own = Vec::new();
    let limit = u64::try_from(bytes.len()).unwrap_or(u64::MAX).saturating_add(1);
    // One that cannot be read here tells nothing.
    match File::open(path).and_then(|file| file.take(limit).read_to_end(&mut own)) {
        Ok(_) => own == bytes,
        Err(_) => true,
    }
}

fn look(file: BootFile, bytes: &[u8], read: &mut ReadFile) {
    match file {
        BootFile::Kernel => read.release = kernel_release(bytes),
        BootFile::Initrd => read.initrd = Some(initrd(bytes)),
        BootFile::Shim | BootFile::Grub | BootFile::ShimArm64 => read.efi = efi_program(bytes),
        BootFile::Default | BootFile::GrubCfg => {
            read.text = Some(String::from_utf8_lossy(bytes).into_owned())
        }
        BootFile::Loader | BootFile::Module => {}
    }
}

/// The files of armed machines, where the folder is here.
fn armed(lab: &DoctorLab, seen: &mut TftpSeen) {
    let settings =
        super::super::config::SettingsFile { tftp_dir: lab.tftp_dir.clone(), ..lab.settings.clone() };
    if lab.tftp_dir.is_none() && settings.cfg_dir.is_none() {
        return;
    }
    let Ok(cfg) = shares::open_cfg_dir(&settings) else { return };
    let served = Served::find(&cfg, &settings);
    let names = cfg.files.list("").unwrap_or_default();
    let machines = names.iter().filter_map(|name| name.parse::<HexIp>().ok());
    for HexIp(ip) in machines.take(ARMED_MAX) {
        let file = HexIp(ip).to_string();
        let Ok(Some(bytes)) = cfg.read(&file, 64 << 10) else { continue };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let problem = match served.check(lab.boot, &file, &text) {
            Ok(ServedCheck::Failed(why)) => Some(why),
            _ => None,
        };
        seen.armed.push(ArmedCheck { ip, path: cfg.path.join(&file), problem });
    }
}
