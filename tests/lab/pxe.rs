//! The network places of machines, and arming them: by `testboxctl arm`, or by a PXELINUX file written here where a
//! scenario needs one that `testboxctl` would not write.

use super::{Disk, Lab};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// Where a machine is plugged in, which decides its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Station {
    /// Alone behind QEMU's own DHCP and TFTP server (and NAT).
    Nat,
    /// Port 1 or 2 of a bridge with dnsmasq.
    Bridge(u8),
    /// At the other end of the cable of [`super::server::Server`], with the address that the manual gives it.
    Wire,
}

impl Station {
    /// The machine's IPv4 address.
    pub fn ip(self) -> String {
        match self {
            Station::Nat => "10.0.2.15".to_owned(),
            Station::Bridge(port) => format!("10.9.0.{}", 10 + port),
            Station::Wire => "10.42.1.20".to_owned(),
        }
    }

    /// The server's address as this machine sees it.
    pub fn server(self) -> &'static str {
        match self {
            Station::Nat => "10.0.2.2",
            Station::Bridge(_) => "10.9.0.1",
            Station::Wire => "10.42.1.1",
        }
    }

    /// The DNS server, which knows the machine's name.
    pub(super) fn dns(self) -> &'static str {
        match self {
            Station::Nat => "10.0.2.3",
            Station::Bridge(_) => "10.9.0.1",
            Station::Wire => "10.42.1.1",
        }
    }

    /// The address as PXELINUX spells it in file names.
    pub fn hexip(self) -> String {
        self.ip().split('.').map(|octet| format!("{:02X}", octet.parse::<u8>().unwrap())).collect()
    }

    pub fn mac(self) -> String {
        match self {
            Station::Nat | Station::Wire => "52:54:00:12:34:56".to_owned(),
            Station::Bridge(port) => format!("52:54:00:09:00:{port:02x}"),
        }
    }

    /// The name that DNS has for the machine.
    pub fn name(self) -> &'static str {
        match self {
            Station::Nat => "box-a.lab",
            Station::Bridge(1) => "box-1.lab",
            Station::Bridge(_) => "box-2.lab",
            Station::Wire => "tb1",
        }
    }

    /// A hosts file of all stations.
    pub(super) fn hosts() -> String {
        let all = [Station::Nat, Station::Bridge(1), Station::Bridge(2)];
        all.map(|s| format!("{} {}\n", s.ip(), s.name())).concat()
    }
}

/// The two boot modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// `boot=nfs`: a Debian root over NFS.
    NfsRoot,
    /// `boot=testbox`: nothing but kernel and initrd.
    AgentOnly,
}

/// Short waits and both consoles. A guest on a busy host may miss the timer interrupts that the kernel counts at boot, and
/// would panic.
const TEST_WORDS: &str = "panic=1 testbox.error-wait=1 testbox.settle=2 testbox.mount-wait=20 console=tty0 \
                          console=ttyS0,115200 no_timer_check";

impl Boot {
    /// The kernel words that boot this way at this place, without an action.
    pub fn words(self, at: Station) -> String {
        let (ip, server) = (at.ip(), at.server());
        let shares = format!(
            "testbox.backup={server}:/export/testbox-backup testbox.tftp={server}:/export/testbox-tftp testbox.dns={}",
            at.dns()
        );
        let ip = format!("ip={ip}:{server}:{server}:255.255.255.0:maintenance:");
        match self {
            Boot::NfsRoot => format!(
                "ro boot=nfs root=/dev/nfs nfsroot={server}:/export/testbox-nfsroot,ro,tcp {ip} {shares} {TEST_WORDS}"
            ),
            Boot::AgentOnly => format!("boot=testbox {ip} {shares} {TEST_WORDS}"),
        }
    }
}

impl Lab {
    /// The machine's own PXELINUX file.
    pub fn pxe_file(&self, at: Station) -> PathBuf {
        self.tftp().join("pxelinux.cfg").join(at.hexip())
    }

    /// True while the machine is armed.
    pub fn is_armed(&self, at: Station) -> bool {
        self.pxe_file(at).exists()
    }

    /// Arms the machine the way an admin does.
    pub fn arm(&self, at: Station, boot: Boot, action: &str) {
        self.arm_at(at, boot, "ttyS0,115200", action);
    }

    /// The same for a machine with this serial console.
    pub fn arm_at(&self, at: Station, boot: Boot, console: &str, action: &str) {
        let (ip, server, dns) = (at.ip(), at.server(), at.dns());
        let mode = match boot {
            Boot::NfsRoot => "nfs",
            Boot::AgentOnly => "testbox",
        };
        self.testboxctl(&format!(
            "arm --server {server} --gateway {server} --netmask 255.255.255.0 --dns {dns} --boot {mode} --console tty0 \
             --console {console} --extra no_timer_check --settle 2 --error-wait 1 --mount-wait 20 {ip} {action}"
        ));
    }

    /// Arms the machine with exactly these kernel words; `overlay` is a second initrd laid over the first.
    pub fn arm_with_words(&self, at: Station, words: &str, overlay: Option<&str>) {
        self.write_pxe(&at.hexip(), words, overlay);
    }

    /// One run that must succeed: armed with these words, agent only, until the machine is disarmed and reboots.
    pub fn run_once(&self, at: Station, disks: &[&Disk], words: &str) {
        self.run_once_with(at, disks, words, None);
    }

    /// The same with a second initrd laid over the first; what the console said.
    pub fn run_once_with(&self, at: Station, disks: &[&Disk], words: &str, overlay: Option<&str>) -> String {
        self.arm_with_words(at, &format!("{} {words}", Boot::AgentOnly.words(at)), overlay);
        let machine = self.machine(at).direct();
        let mut machine = disks.iter().fold(machine, |machine, disk| machine.disk(disk)).power_on();
        machine.wait_for_reset(60);
        machine.wait_for_reset(600);
        machine.cut_power();
        if self.is_armed(at) {
            machine.fail(&format!("'{words}' did not succeed: the machine is still armed"));
        }
        machine.said()
    }

    /// A second initrd of these files (path, mode, contents), which the kernel unpacks over the first; its path for PXELINUX.
    pub fn overlay(&self, files: &[(&str, u32, &str)]) -> String {
        let work = self.file("overlay");
        for (path, mode, contents) in files {
            let path = work.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, contents).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        let cpio = Command::new("sh")
            .args(["-c", "find . -mindepth 1 | cpio --quiet -o -H newc"])
            .current_dir(&work)
            .output()
            .unwrap();
        assert!(cpio.status.success(), "{}", String::from_utf8_lossy(&cpio.stderr));
        let name = "maintenance-boot/overlay.img";
        fs::write(self.tftp().join(name), cpio.stdout).unwrap();
        name.to_owned()
    }

    /// A PXELINUX file of any name, as the original's script wrote it.
    pub fn write_pxe(&self, name: &str, words: &str, overlay: Option<&str>) {
        let initrd =
            "maintenance-boot/initrd.img".to_owned() + &overlay.map_or_else(String::new, |o| format!(",{o}"));
        let text = format!(
            "PATH bios\nDEFAULT maintenance\nLABEL maintenance\n  KERNEL maintenance-boot/vmlinuz\n  SYSAPPEND 2\n  \
             APPEND initrd={initrd} {words}\nLABEL local-boot\n  LOCALBOOT 0\n"
        );
        // A machine reads the file by TFTP: never half of it.
        let temp = self.file("pxe.new");
        fs::write(&temp, text).unwrap();
        fs::rename(&temp, self.tftp().join("pxelinux.cfg").join(name)).unwrap();
    }
}
