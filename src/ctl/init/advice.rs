//! What else the server needs: text to paste, as it is.

use super::super::network::{Subnet, own_addresses};
use crate::boot::loaders::{ClientKind, PROXY_GRUB};
use crate::share::ownership::{ACCOUNT, ARMED_DIR};
use crate::store::layout::{NFS_ROOT_EXPORT, PXELINUX_CFG, SHIM, SHIM_ARM64, TESTBOX_CFG};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What is known of the lab.
pub(super) struct InitLab {
    pub tftp: PathBuf,
    pub backup: PathBuf,
    pub network: Option<Subnet>,
    /// The server, as the settings name it.
    pub server: Option<String>,
}

/// A path for a shell: as it is where it has nothing special, else in single quotes.
fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    if path.chars().all(is_plain) { path.into_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// A path for exports(5): its special characters in octal.
fn exported(path: &Path) -> String {
    let octal = |c: char| {
        if c.is_whitespace() || "\"#\\$`".contains(c) { format!("\\{:03o}", c as u32) } else { c.into() }
    };
    path.to_string_lossy().chars().map(octal).collect()
}

impl InitLab {
    pub fn text(&self) -> String {
        [self.ownership(), self.exports(), self.boot()].concat()
    }

    /// The server's address in the machines' network, where it can be told.
    fn server(&self) -> String {
        let own = || {
            let network = self.network?;
            own_addresses().into_iter().find(|(ip, _)| network.contains(*ip)).map(|(ip, _)| ip.to_string())
        };
        self.server.clone().or_else(own).unwrap_or_else(|| "SERVER".into())
    }

    /// Commands that may be repeated at any time, and bring shares of earlier versions to the same state.
    pub fn ownership(&self) -> String {
        let (tftp, backup) = (quoted(&self.tftp), quoted(&self.backup));
        let armed = [PXELINUX_CFG, TESTBOX_CFG].map(|dir| quoted(&self.tftp.join(dir))).join(" ");
        format!(
            "
# 1. Who owns what, as root on the server. All machines write as the account {ACCOUNT}; members of its group may read
#    images and logs (usermod -aG {ACCOUNT} NAME), nobody else may. Repeat it for shares that were there before, while
#    no machine is at work.
getent group {ACCOUNT} >/dev/null || groupadd --system {ACCOUNT}
getent passwd {ACCOUNT} >/dev/null || useradd --system --gid {ACCOUNT} --no-create-home --home-dir / --shell /usr/sbin/nologin {ACCOUNT}
chown -R {ACCOUNT}:{ACCOUNT} {backup}
chmod -R u=rwX,g=rX,o= {backup}
find {backup} -type d -exec chmod g+s {{}} +
chown -R root:root {tftp}
chmod -R u=rwX,go=rX {tftp}
chgrp {ACCOUNT} {armed}
chmod {ARMED_DIR:o} {armed}
find {armed} -type f ! -name default -exec chown {ACCOUNT}:{ACCOUNT} {{}} +
"
        )
    }

    fn exports(&self) -> String {
        let clients = self.network.map_or_else(|| "NETWORK/BITS".into(), |network| network.to_string());
        let line = |path: &Path, options: &str| {
            format!("{}\t{clients}({options},sync,no_subtree_check", exported(path))
        };
        let squashed = format!(",all_squash,anonuid=$(id -u {ACCOUNT}),anongid=$(id -g {ACCOUNT}))");
        format!(
            "
# 2. Exports. Remove earlier lines of these folders from /etc/exports.
mkdir -p /etc/exports.d
cat >/etc/exports.d/testbox.exports <<END
{backup}{squashed}
{tftp}{squashed}
{root},no_root_squash)
END
exportfs -ra
",
            backup = line(&self.backup, "rw"),
            tftp = line(&self.tftp, "rw"),
            root = line(Path::new(NFS_ROOT_EXPORT), "ro"),
        )
    }

    pub fn boot(&self) -> String {
        let range = self.network.map_or_else(|| "NETWORK".into(), |network| network.address().to_string());
        let (server, tftp, quoted_tftp) = (self.server(), self.tftp.display(), quoted(&self.tftp));
        let (isc, kea, dnsmasq) = (isc(), kea(), dnsmasq(&server));
        format!(
            "
# 3. TFTP and DHCP: one of four. Machines with a BIOS load pxelinux.0, those with UEFI {SHIM}, those with arm64
#   {SHIM_ARM64} ('make-nfsroot --arch arm64'); both load GRUB, and Secure Boot may be on. Do not answer UEFI's HTTP boot (types 16 and 19): machines that are not armed would take it.
# 3a. The network has a DHCP server that stays as it is: proxy DHCP. /etc/dnsmasq.conf:
port=0
dhcp-range={range},proxy
pxe-service=x86PC,\"testbox\",pxelinux
pxe-service=X86-64_EFI,\"testbox\",{PROXY_GRUB}
enable-tftp
tftp-root={tftp}
#   The PXE ROM takes its address from that DHCP server, and boot server and file from dnsmasq; PXELINUX asks the server
#   that it came from. iPXE in place of the PXE ROM does the same. Linux then asks DHCP again and is told nothing of
#   {server}: so give 'arm' --server or --boot-server.
#   UEFI: Debian's signed GRUB would ask that DHCP server for its files. One that asks {server} is made so, with the
#   package grub-efi-amd64-bin; it is not signed, so Secure Boot must be off. With Secure Boot take 3b or 3c.
#     grub-mkimage -O x86_64-efi -p '(tftp,{server})/grub' -o {quoted_tftp}/{PROXY_GRUB} tftp efinet net normal configfile \\
#       linux regexp test true search search_fs_file search_fs_uuid chain part_gpt part_msdos fat ext2 echo sleep reboot all_video
# 3b. The network has a DHCP server that can be told the boot server ('next-server'). /etc/dnsmasq.conf, TFTP alone:
port=0
enable-tftp
tftp-root={tftp}
#   and in that DHCP server:
#     ISC dhcpd:  next-server {server};
{isc}#     Kea:        \"next-server\": \"{server}\", \"client-classes\": [
{kea}{dnsmasq}#   PXE ROM, PXELINUX, GRUB, iPXE and Linux are all told the same server. Where the ROM loads iPXE first (undionly.kpxe),
#   give pxelinux.0 to the user class iPXE, or it loads itself for ever; or let it run this script, which tells PXELINUX
#   where to look:
#     #!ipxe
#     dhcp
#     set 210:string tftp://{server}/
#     chain tftp://{server}/pxelinux.0
# 3c. dnsmasq is the only DHCP server: as 3a, with a range of addresses in dhcp-range, and in place of the lines with
#   pxe-service those of 3b for dnsmasq.
# 3d. 'testboxctl serve' does it: --tftp with --dhcp or --proxy-dhcp ('testboxctl help store').
"
        )
    }
}

/// What a client class is called in the lines below.
fn class(kind: ClientKind) -> &'static str {
    match kind {
        ClientKind::Bios => "bios",
        ClientKind::Uefi => "uefi",
        ClientKind::UefiArm64 => "arm64",
        ClientKind::Http => "http",
    }
}

/// Each kind of client that is told a loader, the BIOS last.
fn told() -> impl Iterator<Item = (ClientKind, &'static str)> {
    ClientKind::ALL.into_iter().rev().filter_map(|kind| Some((kind, kind.loader()?)))
}

/// A condition on the types of a client, in a server's words.
fn any_type(kind: ClientKind, one: impl Fn(u16) -> String) -> String {
    kind.types().iter().map(|number| one(*number)).collect::<Vec<_>>().join(" or ")
}

fn isc() -> String {
    let mut text = String::new();
    for (n, (kind, loader)) in told().enumerate() {
        let condition =
            any_type(kind, |n| format!("option pxe-system-type = {:02x}:{:02x}", n >> 8, n & 0xff));
        let word = if n == 0 { "if" } else { "elsif" };
        let _ = writeln!(text, "#     ISC dhcpd:  {word} {condition} {{ filename \"{loader}\"; }}");
    }
    text
}

fn kea() -> String {
    let classes = told().map(|(kind, loader)| {
        let condition = any_type(kind, |n| format!("option[93].hex == 0x{n:04x}"));
        format!(
            "#     Kea:          {{ \"name\": \"testbox-{}\", \"test\": \"{condition}\",\n\
             #     Kea:            \"boot-file-name\": \"{loader}\" }}",
            class(kind)
        )
    });
    classes.collect::<Vec<_>>().join(",\n") + " ]\n"
}

fn dnsmasq(server: &str) -> String {
    let others: Vec<ClientKind> =
        ClientKind::ALL.into_iter().filter(|kind| *kind != ClientKind::Bios).collect();
    let mut text = String::new();
    for kind in &others {
        for number in kind.types() {
            let _ = writeln!(
                text,
                "#     dnsmasq:    dhcp-match=set:{},option:client-arch,{number}",
                class(*kind)
            );
        }
    }
    for (kind, loader) in told() {
        let tags = match kind {
            // Whatever does not say what it is.
            ClientKind::Bios => {
                others.iter().map(|kind| format!("tag:!{}", class(*kind))).collect::<Vec<_>>().join(",")
            }
            kind => format!("tag:{}", class(kind)),
        };
        let _ = writeln!(text, "#     dnsmasq:    dhcp-boot={tags},{loader},,{server}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line that goes on in the next one keeps its end: what is pasted would lose all behind a comment sign.
    #[test]
    fn comments_begin_where_their_line_begins() {
        let (tftp, backup) = ("/t".into(), "/b".into());
        let text = InitLab { tftp, backup, network: None, server: None }.text();
        for line in text.lines() {
            let inside = line.trim_start_matches("#     ").get(1..).unwrap_or_default();
            assert!(!inside.contains("# "), "{line}");
        }
    }

    #[test]
    fn paths_are_quoted_for_their_readers() {
        for (path, shell, exports) in [
            ("/export/testbox-tftp", "/export/testbox-tftp", "/export/testbox-tftp"),
            ("/my lab/t", "'/my lab/t'", "/my\\040lab/t"),
            ("/it's", "'/it'\\''s'", "/it's"),
            ("/a$(x)", "'/a$(x)'", "/a\\044(x)"),
        ] {
            assert_eq!(
                (quoted(Path::new(path)).as_str(), exported(Path::new(path)).as_str()),
                (shell, exports)
            );
        }
    }
}
