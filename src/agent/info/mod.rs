//! What this machine is: `testbox-info.txt` for people, `testbox-info.zip` with the raw firmware tables.
//!
//! All of it is read from procfs, sysfs, the disks and the kernel log; no program is started. Every source is
//! optional: what cannot be read is said in the text, on one line with the errno. Every reading is bounded, and the
//! bytes of firmware and disks are taken as hostile.
#![forbid(unsafe_code)]

mod archive;
mod disks;
mod firmware;
mod hardware;
mod kernel_log;
mod page;
mod pci;
mod smbios;

pub use archive::{ArchiveError, write_zip};
pub use kernel_log::read as read_kernel_log;

use crate::block::device_number;
use crate::efi::Platform;
use crate::inventory::Disk;
use crate::io::ReadAt;
use crate::types::{Redactor, redacted};
use page::{InfoPage, read};
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Reads the whole kernel log as text.
pub type ReadKernelLog = Box<dyn Fn() -> io::Result<String>>;

/// Opens a disk for reading; its length is taken from the [`Disk`].
pub type DiskOpener = Box<dyn Fn(&Disk) -> io::Result<Box<dyn ReadAt>>>;

/// Where the facts come from, so that a test can stand in for a machine.
pub struct InfoSources {
    /// Root of procfs.
    pub proc: PathBuf,
    /// Root of sysfs.
    pub sys: PathBuf,
    /// Folder of the device nodes.
    pub dev: PathBuf,
    /// The kernel log.
    pub kernel_log: ReadKernelLog,
    /// The disks, for their partition tables.
    pub open_disk: DiskOpener,
    /// The firmware's own interface, where UEFI has started the machine.
    pub firmware: Option<Platform>,
}

impl InfoSources {
    /// This machine: `/proc`, `/sys`, `/dev`, `/dev/kmsg` and the disks through the page cache.
    pub fn system() -> InfoSources {
        InfoSources {
            proc: "/proc".into(),
            sys: "/sys".into(),
            dev: "/dev".into(),
            kernel_log: Box::new(|| kernel_log::read("/dev/kmsg".as_ref())),
            open_disk: Box::new(open_disk),
            firmware: None,
        }
    }
}

/// Opens a disk of this machine. What is read there must be its own, and not another disk's that has its name by now.
fn open_disk(disk: &Disk) -> io::Result<Box<dyn ReadAt>> {
    let file = File::open(&disk.path)?;
    let found = Disk::of_number("/sys".as_ref(), "/dev".as_ref(), device_number(&file)?)?;
    match disk.difference(&found) {
        Some(what) => Err(io::Error::other(format!("{what} than the disk that was listed: {found}"))),
        None => Ok(Box::new(file)),
    }
}

/// Longest command line in bytes: kernels take 2 KiB (x86) to 64 KiB.
const CMDLINE_LIMIT: u64 = 1 << 20;

impl InfoSources {
    /// What of the kernel command line must not be copied.
    fn redactor(&self) -> Redactor {
        // Without a command line there is nothing to hide.
        let raw = read(&self.proc.join("cmdline"), CMDLINE_LIMIT).unwrap_or_default();
        Redactor::of(&String::from_utf8_lossy(&raw))
    }
}

/// Who the machine is on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineIdentity {
    /// Its address.
    pub ip: Ipv4Addr,
    /// The same as eight upper-case hexadecimal digits, as PXELINUX names its files.
    pub hexip: String,
    /// Host name by reverse look-up, or `unknown`.
    pub hostname: String,
}

/// The collected facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Content of `testbox-info.txt`: UTF-8 without control characters other than line feeds and tabs.
    pub text: String,
}

/// Collects everything that `testbox-info.txt` says.
pub fn collect(sources: &InfoSources, me: &MachineIdentity) -> Info {
    let mut page = InfoPage::new(sources.redactor());
    page.line(format!("IP:       {}", me.ip));
    page.line(format!("HEX-IP:   {}", me.hexip));
    page.line(format!("Hostname: {}", me.hostname));
    let InfoSources { proc, sys, .. } = sources;
    page.section("Kernel version");
    page.file(&proc.join("version"));
    page.section("Kernel command line");
    match read(&proc.join("cmdline"), CMDLINE_LIMIT) {
        Ok(raw) => page.block("", &redacted(&String::from_utf8_lossy(&raw))),
        Err(e) => page.missing("the kernel command line", &e),
    }
    page.section("CPU");
    page.file(&proc.join("cpuinfo"));
    page.section("Memory");
    page.file(&proc.join("meminfo"));
    for (title, file) in
        [("Physical address map", "iomem"), ("I/O ports", "ioports"), ("Interrupts", "interrupts")]
    {
        page.section(title);
        page.file(&proc.join(file));
    }
    page.section("PCI devices");
    pci::write(&mut page, sys);
    page.section("USB devices");
    hardware::usb(&mut page, sys);
    page.section("Network interfaces");
    hardware::network(&mut page, sys);
    page.section("BIOS data");
    firmware::write(&mut page, sys);
    firmware::boot_entries(&mut page, sources.firmware.as_ref());
    page.section("DMI (SMBIOS)");
    smbios::write(&mut page, sys);
    page.section("Disks and partition tables");
    disks::write(&mut page, sources);
    page.section("ATA and NVMe");
    hardware::storage(&mut page, sys);
    page.section("Kernel modules");
    page.file(&proc.join("modules"));
    page.section("Kernel log");
    match (sources.kernel_log)() {
        Ok(text) => page.block("", &text),
        Err(e) => page.missing("the kernel log", &e),
    }
    Info { text: page.finish() }
}

#[cfg(test)]
mod tests;
