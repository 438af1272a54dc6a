//! The settings: flags of `arm`, and the same names as keys of one TOML file.

use super::network::Network;
use super::{Error, shares};
use crate::job::{BadSectors, Cmdline, DegradedSet, FailingDisk, OnError, Options, RebootMode, UnionKind};
use crate::text::quoted;
use crate::types::{Delta, FreeSpace};
use crate::types::{DiskSelector, HostName, MapEntry, NfsSource, without_bom};
use crate::used::Used;
use clap::{Args, ValueEnum};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Read where no other file is named.
const DEFAULT_FILE: &str = "/etc/testbox.toml";
/// Largest settings file in bytes.
const LIMIT: u64 = 1 << 20;

/// How an armed machine boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Boot {
    /// The Debian of the NFS root: needed for a full rescue system
    Nfs,
    /// The agent alone, without an NFS root
    Testbox,
}

/// Declares [`Settings`] once: the struct, the list of its keys, and how flags go before the file.
macro_rules! settings {
    ($($(#[$attribute:meta])* $name:ident ($key:literal): $kind:ty,)+) => {
        /// Every setting. `None` and empty lists are what nobody has given.
        #[derive(Args, Clone, Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub(super) struct Settings {
            $($(#[$attribute])* pub $name: $kind,)+
        }

        /// The keys of the file, which are the names of the flags.
        #[cfg(test)]
        pub(super) const KEYS: &[&str] = &[$($key),+];

        impl Settings {
            /// These settings, with `other` for whatever is not given here. Lists are taken whole, never mixed.
            pub fn or(self, other: Settings) -> Settings {
                Settings { $($name: self.$name.or_given(other.$name),)+ }
            }
        }
    };
}

/// One of two values: the first, where it was given.
trait OrGiven {
    fn or_given(self, other: Self) -> Self;
}

impl<T> OrGiven for Option<T> {
    fn or_given(self, other: Self) -> Self {
        self.or(other)
    }
}

impl<T> OrGiven for Vec<T> {
    fn or_given(self, other: Self) -> Self {
        if self.is_empty() { other } else { self }
    }
}

settings! {
    /// PXELINUX's configuration folder [default: pxelinux.cfg in the TFTP root]
    #[arg(short, long, value_name = "DIR", help_heading = "Shares")]
    cfg_dir ("cfg-dir"): Option<PathBuf>,
    /// Root of the TFTP share [default: /export/testbox-tftp]
    #[arg(long, value_name = "DIR", help_heading = "Shares")]
    tftp_dir ("tftp-dir"): Option<PathBuf>,
    /// Root of the backup share, to look whether there are images [default: /export/testbox-backup, if it is there]
    #[arg(long, value_name = "DIR", help_heading = "Shares")]
    backup_dir ("backup-dir"): Option<PathBuf>,

    /// The server of all shares, as the machine reaches it: fills in --nfsroot, --backup and --tftp
    #[arg(long, value_name = "HOST", help_heading = "Network")]
    #[serde(deserialize_with = "one")]
    server ("server"): Option<HostName>,
    /// With --server and --netmask: a fixed address instead of DHCP
    #[arg(long, value_name = "IP", help_heading = "Network")]
    gateway ("gateway"): Option<Ipv4Addr>,
    /// With --server and --gateway: a fixed address instead of DHCP
    #[arg(long, value_name = "IP", help_heading = "Network")]
    netmask ("netmask"): Option<Ipv4Addr>,
    /// The network of the machines: an address outside of it is refused
    #[arg(long, value_name = "IP/BITS", help_heading = "Network")]
    network ("network"): Option<Network>,
    /// The TFTP server, as the machine reaches it [default: --server]
    #[arg(long, value_name = "HOST", help_heading = "Network")]
    #[serde(deserialize_with = "one")]
    boot_server ("boot-server"): Option<HostName>,
    /// DNS servers, where DHCP gives none
    #[arg(long, value_name = "IP,...", value_delimiter = ',', help_heading = "Network")]
    dns ("dns"): Vec<Ipv4Addr>,
    /// Host name of the machine, in place of what reverse DNS says; for one machine only
    #[arg(long, value_name = "HOST", help_heading = "Network")]
    #[serde(deserialize_with = "one")]
    name ("name"): Option<HostName>,

    /// What the machine boots into [default: nfs]
    #[arg(long, help_heading = "Boot")]
    boot ("boot"): Option<Boot>,
    /// The NFS root [default: SERVER:/export/testbox-nfsroot,ro,tcp,vers=3]
    #[arg(long, value_name = "IP:PATH[,OPTION...]", help_heading = "Boot")]
    #[serde(deserialize_with = "one")]
    nfsroot ("nfsroot"): Option<NfsSource>,
    /// The backup share, as the machine mounts it [default: SERVER:/export/testbox-backup]
    #[arg(long, value_name = "HOST:PATH[,OPTION...]", help_heading = "Boot")]
    #[serde(deserialize_with = "one")]
    backup ("backup"): Option<NfsSource>,
    /// The TFTP share, as the machine mounts it to disarm itself [default: SERVER:/export/testbox-tftp]
    #[arg(long, value_name = "HOST:PATH[,OPTION...]", help_heading = "Boot")]
    #[serde(deserialize_with = "one")]
    tftp ("tftp"): Option<NfsSource>,
    /// Kernel, relative to the TFTP root [default: maintenance-boot/vmlinuz]
    #[arg(long, value_name = "FILE", help_heading = "Boot")]
    kernel ("kernel"): Option<String>,
    /// Initramfs, relative to the TFTP root [default: maintenance-boot/initrd.img]
    #[arg(long, value_name = "FILE", help_heading = "Boot")]
    initrd ("initrd"): Option<String>,
    /// A kernel console such as tty0 or ttyS0,115200; may be repeated, all of them show the progress
    #[arg(long, value_name = "CONSOLE", help_heading = "Boot")]
    console ("console"): Vec<String>,
    /// One more kernel word, as it is; may be repeated
    #[arg(long, value_name = "WORD", help_heading = "Boot", allow_hyphen_values = true)]
    extra ("extra"): Vec<String>,
    /// The union file system over the NFS root: overlay or aufs [default: overlay]
    #[arg(long, value_name = "KIND", help_heading = "Boot")]
    #[serde(deserialize_with = "one")]
    union ("union"): Option<UnionKind>,

    /// Only these disks: names, serial=..., wwn=..., at=...
    #[arg(long, value_name = "DISK,...", value_delimiter = ',', help_heading = "Disks")]
    #[serde(deserialize_with = "many")]
    disks ("disks"): Vec<DiskSelector>,
    /// Which image belongs on which disk, as sda:serial=ABC
    #[arg(long, value_name = "IMAGE:DISK,...", value_delimiter = ',', help_heading = "Disks")]
    #[serde(deserialize_with = "many")]
    map ("map"): Vec<MapEntry>,
    /// Sets before the newest that are kept in history/ [default: 1]
    #[arg(long, value_name = "N", help_heading = "Disks")]
    keep ("keep"): Option<u32>,
    /// Whether a restore reads what the disk holds and writes only what differs: auto, always or never [default: auto]
    #[arg(long, value_name = "WHEN", help_heading = "Disks")]
    #[serde(deserialize_with = "one")]
    delta ("delta"): Option<Delta>,
    /// Whether a backup leaves out what no file system uses: auto, no-swap (also what is in swap areas
    /// and in page and hibernation files of Windows) or off
    /// [default: auto]
    #[arg(long, value_name = "HOW", help_heading = "Disks")]
    #[serde(deserialize_with = "one")]
    used ("used"): Option<Used>,
    /// What a restore does where the image holds nothing because nobody used it: leave, discard or zero [default: leave]
    #[arg(long, value_name = "HOW", help_heading = "Disks")]
    #[serde(deserialize_with = "one")]
    free ("free"): Option<FreeSpace>,
    /// What a backup does with sectors that cannot be read: fail, or degraded: zeros stand in for them [default: fail]
    #[arg(long, value_name = "HOW", help_heading = "Disks")]
    #[serde(deserialize_with = "one")]
    bad_sectors ("bad-sectors"): Option<BadSectors>,
    /// What a degraded set may do: refuse (nothing), replace a complete set, or restore [default: refuse]
    #[arg(long, value_name = "WHAT", help_heading = "Disks")]
    #[serde(deserialize_with = "one")]
    degraded ("degraded"): Option<DegradedSet>,
    /// Whether a restore writes onto a disk that says of itself that it fails: refuse or write [default: refuse]
    #[arg(long, value_name = "HOW", help_heading = "Disks")]
    #[serde(deserialize_with = "one")]
    failing_disk ("failing-disk"): Option<FailingDisk>,
    /// Seconds that the list of disks must not change before it is believed [default: 10]
    #[arg(long, value_name = "SECONDS", help_heading = "Disks")]
    settle ("settle"): Option<u64>,

    /// Secret key that signs the job, for machines whose initramfs demands that: see 'testboxctl sign --help'
    #[arg(long, value_name = "FILE", help_heading = "Signatures")]
    sign_key ("sign-key"): Option<PathBuf>,

    /// What ends a good run: reboot, halt, poweroff or hold [default: reboot]
    #[arg(long, value_name = "HOW", help_heading = "End and errors")]
    #[serde(deserialize_with = "one")]
    reboot ("reboot"): Option<RebootMode>,
    /// What follows an error: reboot, hold or shell [default: reboot]
    #[arg(long, value_name = "HOW", help_heading = "End and errors")]
    #[serde(deserialize_with = "one")]
    on_error ("on-error"): Option<OnError>,
    /// Seconds before that [default: 300]
    #[arg(long, value_name = "SECONDS", help_heading = "End and errors")]
    error_wait ("error-wait"): Option<u64>,
    /// Failed attempts after which the machine waits for a human [default: 5]
    #[arg(long, value_name = "N", help_heading = "End and errors")]
    attempts ("attempts"): Option<u32>,
    /// Seconds for which an unreachable share is retried [default: 300]
    #[arg(long, value_name = "SECONDS", help_heading = "End and errors")]
    mount_wait ("mount-wait"): Option<u64>,
    /// Seconds for which a mounted share that does not answer is waited for [default: 900]
    #[arg(long, value_name = "SECONDS", help_heading = "End and errors")]
    share_wait ("share-wait"): Option<u64>,
    /// Seconds for which the boot waits for an address, before the agent runs [default: 300]
    #[arg(long, value_name = "SECONDS", help_heading = "End and errors")]
    net_wait ("net-wait"): Option<u64>,
}

fn parse<T: FromStr<Err: Display>, E: serde::de::Error>(text: &str) -> Result<T, E> {
    text.parse().map_err(E::custom)
}

/// A value that is a word on the command line and a string in the file.
fn one<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(from: D) -> Result<Option<T>, D::Error> {
    parse(&String::deserialize(from)?).map(Some)
}

/// The same for a list.
fn many<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(from: D) -> Result<Vec<T>, D::Error> {
    Vec::<String>::deserialize(from)?.iter().map(|text| parse(text)).collect()
}

/// Reads the settings file. The default one may be missing; one that is named may not.
pub(super) fn load(named: Option<&Path>) -> Result<Settings, Error> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let unreadable =
        |e: io::Error| Error::usage(format!("{}: cannot read the settings: {e}", path.display()));
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && named.is_none() => return Ok(Settings::default()),
        file => file.map_err(unreadable)?,
    };
    log::debug!("settings from {}", path.display());
    let mut text = String::new();
    file.take(LIMIT + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LIMIT {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    parse_file(&text).map_err(|e| {
        Error::usage(format!("{}: {e}\nThe keys are the long options of 'testboxctl arm'.", path.display()))
    })
}

pub(super) fn parse_file(text: &str) -> Result<Settings, toml::de::Error> {
    let settings: Settings = toml::from_str(without_bom(text))?;
    let wrong = settings.problems();
    if wrong.is_empty() { Ok(settings) } else { Err(toml::de::Error::custom(wrong.join("; "))) }
}

impl Settings {
    /// The words that go to the machine, beside action and job.
    pub fn options(&self) -> Options {
        let seconds = |n: Option<u64>| n.map(Duration::from_secs);
        let on_server = |path: &str| {
            let host = self.server.clone()?;
            Some(NfsSource { host, path: path.to_owned(), options: Vec::new() })
        };
        Options {
            set: None,
            backup: self.backup.clone().or_else(|| on_server(shares::BACKUP)),
            tftp: self.tftp.clone().or_else(|| on_server(shares::TFTP)),
            disks: self.disks.clone(),
            map: self.map.clone(),
            name: self.name.clone(),
            dns: self.dns.clone(),
            keep: self.keep,
            delta: self.delta,
            used: self.used,
            free: self.free,
            bad_sectors: self.bad_sectors,
            degraded: self.degraded,
            failing_disk: self.failing_disk,
            union: self.union,
            reboot: self.reboot,
            on_error: self.on_error,
            error_wait: seconds(self.error_wait),
            attempts: self.attempts,
            settle: seconds(self.settle),
            mount_wait: seconds(self.mount_wait),
            share_wait: seconds(self.share_wait),
            net_wait: seconds(self.net_wait),
            // What `arm` knows of each machine.
            armed_file: None,
            boot_server: None,
        }
    }

    /// What the machine would refuse: it parses the very words that it would get.
    pub fn problems(&self) -> Vec<String> {
        Cmdline::parse(&self.options().words().join(" ")).problems
    }

    /// [`Settings::problems`] as a usage error.
    pub fn check(&self) -> Result<(), Error> {
        let problems = self.problems();
        if problems.is_empty() { Ok(()) } else { Err(Error::usage(problems.join("\n"))) }
    }

    /// PXELINUX's configuration folder.
    pub fn cfg_dir(&self) -> PathBuf {
        let root = || self.tftp_dir.clone().unwrap_or(shares::TFTP.into());
        self.cfg_dir.clone().unwrap_or_else(|| root().join("pxelinux.cfg"))
    }

    /// The NFS root of the machine.
    ///
    /// # Errors
    /// Where neither it nor the server is given.
    pub fn nfsroot(&self, server: Option<Ipv4Addr>) -> Result<NfsSource, Error> {
        if let Some(nfsroot) = &self.nfsroot {
            return Ok(nfsroot.clone());
        }
        let Some(server) = server else {
            return Err(Error::usage(
                "where the NFS root is must be said: give --server or --nfsroot, or --boot testbox to boot without one",
            ));
        };
        let options = ["ro", "tcp", "vers=3"].map(str::to_owned).to_vec();
        Ok(NfsSource { host: server.into(), path: shares::NFS_ROOT.to_owned(), options })
    }

    /// A fixed address needs all three; two would silently be none.
    pub fn check_fixed_address(&self) -> Result<(), Error> {
        let given = [self.gateway.is_some(), self.netmask.is_some()];
        if given == [false, false] || (given == [true, true] && self.server.is_some()) {
            return Ok(());
        }
        let given = [("gateway", self.gateway), ("netmask", self.netmask)];
        let given: Vec<String> =
            given.iter().filter_map(|(key, ip)| Some(format!("--{key} {}", (*ip)?))).collect();
        Err(Error::usage(format!(
            "a fixed address needs --server, --gateway and --netmask, not {} alone; without any of gateway and \
             netmask the machine asks DHCP",
            quoted(&given.join(" "))
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_with_every_key_reads_and_flags_go_before_it() {
        let text = r#"
            cfg-dir = "/t/pxelinux.cfg"
            tftp-dir = "/t"
            backup-dir = "/b"
            server = "10.42.1.1"
            gateway = "10.42.1.254"
            netmask = "255.255.255.0"
            network = "10.42.1.0/24"
            boot-server = "10.42.1.3"
            dns = ["10.42.1.2"]
            name = "tb1"
            boot = "testbox"
            nfsroot = "10.42.1.1:/r,ro"
            backup = "nas:/b,vers=4.2"
            tftp = "nas:/t"
            kernel = "k"
            initrd = "i"
            console = ["tty0", "ttyS0,115200"]
            extra = ["quiet"]
            union = "aufs"
            disks = ["sda", "serial=A B"]
            map = ["sda:serial=X"]
            keep = 2
            delta = "always"
            used = "off"
            free = "discard"
            bad-sectors = "degraded"
            degraded = "restore"
            sign-key = "/root/lab"
            failing-disk = "write"
            settle = 5
            reboot = "hold"
            on-error = "shell"
            error-wait = 10
            attempts = 3
            mount-wait = 60
            share-wait = 120
            net-wait = 90
        "#;
        let file = parse_file(text).unwrap();
        assert_eq!(text.lines().filter(|l| l.contains('=')).count(), KEYS.len(), "the test knows every key");
        assert_eq!(file.options().words().len(), 22);
        let flags = Settings { keep: Some(9), console: vec!["tty1".into()], ..Settings::default() };
        let both = flags.or(file);
        assert_eq!((both.keep, both.attempts), (Some(9), Some(3)));
        assert_eq!(both.console, ["tty1"]);
        assert_eq!(both.disks[1], DiskSelector::Serial("A B".into()));
        assert_eq!(both.cfg_dir(), Path::new("/t/pxelinux.cfg"));
        let with_bom = parse_file("\u{feff}disks = [\"sda\"]\r\n").unwrap();
        assert_eq!(with_bom.disks.len(), 1, "a byte order mark before the first key hides nothing");
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        for (text, part) in [
            ("kepp = 1", "kepp"),
            ("keep = 1\nkeep = 2", "keep"),
            ("keep = 101", "testbox.keep=101"),
            ("keep = -1", "-1"),
            ("attempts = 0", "testbox.attempts=0"),
            ("reboot = \"now\"", "'now' is none of"),
            ("disks = \"sda\"", "disks"),
            ("disks = [\"sda\", \"\"]", "disk name"),
            ("backup = \"nas\"", "HOST:/path"),
            ("boot = \"usb\"", "usb"),
            ("server = \"10.1.2.300\"", "10.1.2.300"),
            ("network = \"10.1.2.1/24\"", "10.1.2.1/24"),
            ("map = [\"sda:sdb\", \"sda:sdc\"]", "contradict"),
            ("keep", "expected"),
            ("\u{a0}disks = [\"sda\"]", ""),
            ("Disks = [\"sda\"]", "Disks"),
        ] {
            let error = parse_file(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_half_given_fixed_address_is_refused() {
        let with = |server: bool, gateway: bool, netmask: bool| {
            let ip = |given: bool| given.then_some(Ipv4Addr::LOCALHOST);
            let server = ip(server).map(HostName::from);
            Settings { server, gateway: ip(gateway), netmask: ip(netmask), ..Settings::default() }
                .check_fixed_address()
                .is_ok()
        };
        assert!(with(false, false, false) && with(true, false, false) && with(true, true, true));
        assert!(!with(true, true, false) && !with(true, false, true) && !with(false, true, true));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), near in "((keep|disks|map|boot) = [\\[\"0-9a-z:,\\]]{0,12}\n){0,4}") {
            let _ = (parse_file(&text).is_ok(), parse_file(&near).is_ok());
        }
    }
}
