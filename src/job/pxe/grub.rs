//! GRUB, the loader of UEFI machines: it reads the file that arms a machine for PXELINUX, as a script of its own.
//!
//! So a machine is armed, disarmed and checked by one file, whatever it boots by. What GRUB's scripts can do is in the
//! chapters "Shell-like scripting" and "Commands" of its manual; the rest was found out on GRUB 2.06 under OVMF.

use std::fmt::Write;

/// The script, with two places for what is a list.
const TEMPLATE: &str = include_str!("grub.cfg");

/// The first bytes of every version of the script, so that a newer testbox knows an older one's.
pub const GRUB_HEAD: &str = "# testbox: ";

/// What GRUB would not give to the kernel as it is (its manual: "Quoting", and wildcards), and PXELINUX would.
pub const GRUB_SPECIAL: &[u8] = b"$;&|<>{}'`\\#\"*?[]";

/// Loaders of the machine's own system below its ESP, the commonest first; the one that firmware falls back to is last.
const LOADERS: &[&str] = &[
    "debian/shimx64.efi",
    "ubuntu/shimx64.efi",
    "fedora/shimx64.efi",
    "redhat/shimx64.efi",
    "rocky/shimx64.efi",
    "almalinux/shimx64.efi",
    "centos/shimx64.efi",
    "opensuse/shim.efi",
    "sles/shim.efi",
    "Microsoft/Boot/bootmgfw.efi",
    "systemd/systemd-bootx64.efi",
    "debian/grubx64.efi",
    "ubuntu/grubx64.efi",
    "BOOT/BOOTX64.EFI",
    // Of arm64, which starts none of the above.
    "debian/shimaa64.efi",
    "ubuntu/shimaa64.efi",
    "fedora/shimaa64.efi",
    "redhat/shimaa64.efi",
    "systemd/systemd-bootaa64.efi",
    "debian/grubaa64.efi",
    "ubuntu/grubaa64.efi",
    "BOOT/BOOTAA64.EFI",
];

/// What GRUB's script is told of one machine: the path of the loader of its own system.
pub fn own_loader_script(path: &str) -> String {
    format!("{GRUB_HEAD}what this machine starts where it is not armed\nset tb_own={path}\n")
}

/// The text of `grub/grub.cfg`, the same for every machine.
pub fn grub_config() -> String {
    let octets = (0..=255).fold(String::new(), |mut text, octet| {
        let _ = write!(text, " {octet:02X}");
        text
    });
    let loaders: Vec<String> = LOADERS.iter().map(|path| format!("/EFI/{path}")).collect();
    TEMPLATE.replace("@OCTETS@", octets.trim_start()).replace("@LOADERS@", &loaders.join(" "))
}
