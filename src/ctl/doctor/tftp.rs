//! What the files that a TFTP server gives mean for the machines: pure.

use super::boot_files::{EfiProgram, InitrdContent, refused_by};
use super::finding::AreaReport;
use super::lab::DoctorLab;
use crate::job::pxe::{GRUB_HEAD, PxeFile};
use crate::store::layout::GRUB_CFG;
use crate::text::human_bytes;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A file that machines boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum BootFile {
    #[default]
    Loader,
    Module,
    Default,
    Kernel,
    Initrd,
    Shim,
    Grub,
    GrubCfg,
    ShimArm64,
}

/// One of them, as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReadFile {
    pub file: BootFile,
    pub path: String,
    /// Whether the folder of this computer has it; `None` where that is elsewhere.
    pub is_local: Option<bool>,
    /// The server gives something else than that.
    pub differs: bool,
    /// Its bytes, where it was read.
    pub size: Option<usize>,
    pub error: Option<String>,
    /// The server's words where it may be there and may not be read.
    pub refusal: Option<String>,
    /// It ended before its end.
    pub is_cut: bool,
    pub release: Option<String>,
    pub initrd: Option<InitrdContent>,
    pub efi: Option<EfiProgram>,
    pub text: Option<String>,
}

/// The file that arms a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArmedCheck {
    pub ip: Ipv4Addr,
    pub path: PathBuf,
    /// Why the machine would not get it.
    pub problem: Option<String>,
}

/// All that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TftpSeen {
    pub server: Ipv4Addr,
    pub is_silent: bool,
    pub files: Vec<ReadFile>,
    pub armed: Vec<ArmedCheck>,
}

impl Default for TftpSeen {
    fn default() -> Self {
        TftpSeen { server: Ipv4Addr::UNSPECIFIED, is_silent: false, files: Vec::new(), armed: Vec::new() }
    }
}

impl TftpSeen {
    fn of(&self, file: BootFile) -> Option<&ReadFile> {
        self.files.iter().find(|read| read.file == file)
    }
}

const MAKE: &str = "scripts/make-nfsroot, or: testboxctl init --boot-files KERNEL INITRD";

/// How each of them comes there.
fn made_by(file: BootFile) -> &'static str {
    match file {
        BootFile::Loader | BootFile::Module => {
            "apt-get install pxelinux syslinux-common, then: testboxctl init"
        }
        BootFile::Default | BootFile::GrubCfg => "testboxctl init",
        BootFile::Kernel | BootFile::Initrd => MAKE,
        _ => "apt-get install shim-signed grub-efi-amd64-signed, then: testboxctl init",
    }
}

/// Judges it.
pub(super) fn judge(lab: &DoctorLab, seen: &TftpSeen) -> AreaReport {
    let mut report = AreaReport::new("tftp");
    let server = seen.server;
    if seen.is_silent {
        let here = if lab.is_own(server) { "; who has the port: ss -ulnp sport = :69" } else { "" };
        report.error(
            "tftp-silent",
            format!("{server} by TFTP"),
            "no answer (PXE-E32, PXE-E11 or PXE-E18 at the machine)",
            format!(
                "start its TFTP server and open UDP port 69: systemctl start tftpd-hpa, enable-tftp in dnsmasq.conf, or \
                 testboxctl serve --tftp{here}"
            ),
        );
        return report;
    }
    let is_given = |file| seen.of(file).is_some_and(|read| read.size.is_some());
    let has_uefi = [BootFile::Shim, BootFile::Grub].into_iter().any(is_given)
        || lab.tftp_dir.is_some()
            && seen.files.iter().any(|read| {
                matches!(read.file, BootFile::Shim | BootFile::Grub) && read.is_local == Some(true)
            });
    let mut read = Vec::new();
    for file in &seen.files {
        let is_uefi = matches!(file.file, BootFile::Shim | BootFile::Grub | BootFile::GrubCfg);
        let is_needed =
            file.file != BootFile::ShimArm64 && (has_uefi || !is_uefi) || file.is_local == Some(true);
        if file.size.is_some() {
            read.push(file);
        } else if is_needed {
            absent(lab, seen, file, &mut report);
        }
    }
    tree(lab, seen, &mut report);
    let sum = read.iter().filter_map(|file| file.size).sum::<usize>();
    report.fine(format!("{server} gives {} boot files, {}", read.len(), human_bytes(sum as u64)));
    if !has_uefi {
        report.fine("no shim and no GRUB there: machines with UEFI cannot boot by network");
    }
    armed(seen, &mut report);
    report
}

/// A file that was not given.
fn absent(lab: &DoctorLab, seen: &TftpSeen, file: &ReadFile, report: &mut AreaReport) {
    let (server, path) = (seen.server, &file.path);
    let asked = format!("{server} by TFTP for {path}");
    let found = file.error.clone().unwrap_or_default();
    if file.is_cut {
        let cure = "a firewall or a small MTU drops what is large, or the server ends: look into its log";
        return report.error("tftp-cut", asked, found, cure);
    }
    match (file.is_local, &file.refusal) {
        (Some(true), Some(_)) => report.error(
            "tftp-not-readable",
            asked,
            format!("{found}; the file is there"),
            format!("chmod o+r {} and o+x for the folders above it", lab.tftp_path(path)),
        ),
        (Some(true), None) => report.error(
            "tftp-root",
            asked,
            format!("{found}; {} is there: its root is another folder", lab.tftp_path(path)),
            format!(
                "tftp-root={root} in dnsmasq.conf, or TFTP_DIRECTORY=\"{root}\" in /etc/default/tftpd-hpa",
                root = lab.tftp_path("").trim_end_matches('/')
            ),
        ),
        _ => report.error(
            "tftp-missing",
            asked,
            format!("{found} (PXE-T01, PXE-E23 or PXE-E3B at the machine)"),
            made_by(file.file),
        ),
    }
}

/// The server gives other bytes than the folder has.
fn tree(lab: &DoctorLab, seen: &TftpSeen, report: &mut AreaReport) {
    if let Some(file) = seen.files.iter().find(|file| file.differs) {
        report.error(
            "tftp-other-tree",
            format!("{} by TFTP for {}", seen.server, file.path),
            format!("other bytes than {} has: it serves another folder", lab.tftp_path(&file.path)),
            format!(
                "tftp-dir = \"DIR\" in /etc/testbox.toml, or the root of the TFTP server: both must be {}",
                lab.tftp_path("")
            ),
        );
    }
}

fn armed(seen: &TftpSeen, report: &mut AreaReport) {
    for armed in &seen.armed {
        if let Some(problem) = &armed.problem {
            report.error(
                "tftp-armed-file",
                format!("whether {} gets the file that arms it", armed.ip),
                format!("{problem}; it boots its disk"),
                format!("chmod 644 {}, or: testboxctl arm it again", armed.path.display()),
            );
        }
    }
    if !seen.armed.is_empty() {
        report.fine(format!("{} armed machines: their files were looked at", seen.armed.len()));
    }
}

/// What the files hold, and whether they fit each other.
pub(super) fn judge_files(lab: &DoctorLab, seen: &TftpSeen) -> AreaReport {
    let mut report = AreaReport::new("boot");
    for read in seen.files.iter().filter(|read| read.size == Some(0)) {
        report.error("boot-empty", format!("what is in {}", read.path), "it is empty", made_by(read.file));
    }
    linux(lab, seen, &mut report);
    uefi(lab, seen, &mut report);
    if let Some(text) = seen.of(BootFile::Default).and_then(|read| read.text.as_ref()) {
        let default = PxeFile::parse(text);
        if default.append.is_some() {
            report.error(
                "boot-default",
                "what machines do that are not armed, by pxelinux.cfg/default",
                "they boot something from the network, and not their disk",
                format!("move {} away, then: testboxctl init", lab.tftp_path("pxelinux.cfg/default")),
            );
        }
    }
    if let Some(text) = seen.of(BootFile::GrubCfg).and_then(|read| read.text.as_ref())
        && !text.starts_with(GRUB_HEAD)
    {
        report.error(
            "boot-grub-cfg",
            "what UEFI machines do, by grub/grub.cfg",
            "it is not testbox's: they do not do what 'arm' says",
            format!("move {} away, then: testboxctl init", lab.tftp_path(GRUB_CFG)),
        );
    }
    report
}

fn linux(lab: &DoctorLab, seen: &TftpSeen, report: &mut AreaReport) {
    let given = |file| seen.of(file).filter(|read| read.size.is_some_and(|size| size > 0));
    let (kernel, initrd) = (given(BootFile::Kernel), given(BootFile::Initrd));
    let release = kernel.and_then(|kernel| kernel.release.as_ref());
    if let (Some(kernel), None) = (kernel, release) {
        report.warning(
            "boot-kernel",
            format!("what is in {}", kernel.path),
            "it is not an x86 Linux kernel, or it carries no release string",
            MAKE,
        );
    }
    let (Some(initrd), Some(content)) = (initrd, initrd.and_then(|read| read.initrd.as_ref())) else {
        return;
    };
    let asked = format!("what is in {}", initrd.path);
    if let Some(why) = &content.unknown {
        return report.unknown(why.clone());
    }
    if let Some(damage) = &content.damage {
        return report.error("boot-initrd-damaged", asked, damage.clone(), MAKE);
    }
    if !content.has_agent {
        report.error(
            "boot-no-agent",
            asked,
            "no testbox-agent: it is the initramfs of another system",
            format!("{MAKE}; kernel and initrd in /etc/testbox.toml name the files"),
        );
        return;
    }
    let own = env!("CARGO_PKG_VERSION");
    match &content.agent_version {
        Some(version) if version != own => report.warning(
            "boot-agent-version",
            asked,
            format!("an agent of version {version}; this testboxctl is of {own}"),
            "make the initramfs anew with the agent of this version: scripts/build, then scripts/make-nfsroot; or apt-get \
             install testbox-agent in the NFS root",
        ),
        Some(version) => report.fine(format!("{} has the agent {version}", initrd.path)),
        None => report.unknown(format!("the version of the agent in {} is unknown", initrd.path)),
    }
    let Some(release) = release else { return };
    if content.modules.is_empty() {
        report.unknown(format!("whether {} fits its kernel: it has no modules", initrd.path));
    } else if content.modules.contains(release) {
        report.fine(format!("kernel and initramfs are both of {release}"));
    } else {
        report.error(
            "boot-kernel-initrd",
            format!("whether kernel and initramfs fit, in {}", lab.settings.kernel.as_deref().unwrap_or("maintenance-boot/")),
            format!(
                "the kernel is {release}, the modules in the initramfs are for {}: no driver of it can be loaded",
                content.modules.join(", ")
            ),
            MAKE,
        );
    }
}

fn uefi(lab: &DoctorLab, seen: &TftpSeen, report: &mut AreaReport) {
    let given = |file| seen.of(file).filter(|read| read.size.is_some_and(|size| size > 0));
    let (Some(shim), Some(grub)) = (given(BootFile::Shim), given(BootFile::Grub)) else { return };
    let cure = format!(
        "both from one Debian: apt-get install shim-signed grub-efi-amd64-signed, then: testboxctl init (or \
         scripts/make-nfsroot); they go to {}",
        lab.tftp_path("")
    );
    let asked = "whether shim and GRUB fit each other, by shimx64.efi and grubx64.efi";
    match (&shim.efi, &grub.efi) {
        (Some(a), Some(b)) if a.machine != b.machine => {
            report.error("boot-uefi-pair", asked, "they are for different processors", cure);
        }
        (Some(a), Some(b)) => match refused_by(a, b) {
            Some(why) => {
                report.error("boot-uefi-pair", asked, format!("{why}: Secure Boot stops there"), cure)
            }
            None => report.fine("shim and GRUB fit each other"),
        },
        (None, _) => {
            report.error("boot-uefi-pair", asked, format!("{} is not a UEFI executable", shim.path), cure)
        }
        (_, None) => {
            report.error("boot-uefi-pair", asked, format!("{} is not a UEFI executable", grub.path), cure)
        }
    }
}
