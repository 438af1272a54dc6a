//! The settings: flags of `arm`, and the same names as keys of one TOML file.

use super::Error;
use super::flags::Flags;
use super::network::Subnet;
use super::serve_table::{SERVE_TABLE, ServeTable};
use crate::job::{Cmdline, Options};
use crate::store::layout::{BACKUP_EXPORT, NFS_ROOT_EXPORT, PXELINUX_CFG, TFTP_EXPORT};
use crate::text::quoted;
use crate::types::{HostName, NfsSource, Via, without_bom};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Deserializer};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Read where no other file is named.
pub(super) const DEFAULT_FILE: &str = "/etc/testbox.toml";
/// Largest settings file in bytes.
const LIMIT: u64 = 1 << 20;

/// How an armed machine boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BootSetting {
    /// The Debian of the NFS root: needed for a full rescue system
    Nfs,
    /// The agent alone, without an NFS root
    Testbox,
}

/// Declares [`SettingsFile`] once: the struct, the list of its keys, and how flags go before the file.
macro_rules! settings {
    ($($(#[$attribute:meta])* $name:ident ($key:literal): $kind:ty,)+) => {
        /// Every setting. `None` and empty lists are what nobody has given.
        #[derive(Args, Clone, Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub(super) struct SettingsFile {
            $($(#[$attribute])* pub $name: $kind,)+
            /// What goes to the machine as it is.
            #[command(flatten)]
            #[serde(skip)]
            pub flags: Flags,
            /// The options of `serve`.
            #[arg(skip)]
            #[serde(skip)]
            pub serve: ServeTable,
        }

        /// The keys of the file that are no options of the machine.
        const OWN_KEYS: &[&str] = &[$($key),+];

        impl SettingsFile {
            /// These settings, with `other` for whatever is not given here. Lists are taken whole, never mixed.
            pub fn or(self, other: SettingsFile) -> SettingsFile {
                let flags = Flags(self.flags.0.or(&other.flags.0));
                let serve = if self.serve == ServeTable::default() { other.serve } else { self.serve };
                SettingsFile { $($name: self.$name.or_given(other.$name),)+ flags, serve }
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

    /// The file of machines, whose names and groups stand for them [default: /etc/testbox/machines.toml, if it is there]
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    machines ("machines"): Option<PathBuf>,
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
    network ("network"): Option<Subnet>,
    /// The TFTP server, as the machine reaches it [default: --server]
    #[arg(long, value_name = "HOST", help_heading = "Network")]
    #[serde(deserialize_with = "one")]
    boot_server ("boot-server"): Option<HostName>,

    /// What the machine boots into [default: nfs]
    #[arg(long, help_heading = "Boot")]
    boot ("boot"): Option<BootSetting>,
    /// The NFS root [default: SERVER:/export/testbox-nfsroot,ro,tcp,vers=3]
    #[arg(long, value_name = "IP:PATH[,OPTION...]", help_heading = "Boot")]
    #[serde(deserialize_with = "one")]
    nfsroot ("nfsroot"): Option<NfsSource>,
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


    /// Secret key that signs the job, for machines whose initramfs demands that: see 'testboxctl sign --help'
    #[arg(long, value_name = "FILE", help_heading = "Signatures")]
    sign_key ("sign-key"): Option<PathBuf>,

    // Flags of every command: see `via`.
    #[arg(skip)]
    via ("via"): Option<Via>,
    #[arg(skip)]
    via_token ("via-token"): Option<PathBuf>,
}

fn parse<T: FromStr<Err: Display>, E: serde::de::Error>(text: &str) -> Result<T, E> {
    text.parse().map_err(E::custom)
}

/// A value that is a word on the command line and a string in the file.
fn one<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(from: D) -> Result<Option<T>, D::Error> {
    parse(&String::deserialize(from)?).map(Some)
}

/// Reads the settings file. The default one may be missing; one that is named may not.
pub(super) fn load(named: Option<&Path>) -> Result<SettingsFile, Error> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let unreadable =
        |e: io::Error| Error::usage(format!("{}: cannot read the settings: {e}", path.display()));
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && named.is_none() => {
            return Ok(SettingsFile::default());
        }
        file => file.map_err(unreadable)?,
    };
    log::debug!("settings from {}", path.display());
    let mut text = String::new();
    file.take(LIMIT + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LIMIT {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    parse_file(&text).map_err(|e| {
        Error::usage(format!("{}: {e}\nThe keys are the long options of 'testboxctl arm'; those of 'serve' in a table [{SERVE_TABLE}].", path.display()))
    })
}

/// Every key of the file, which is a flag of `arm` too.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    OWN_KEYS.iter().copied().chain(Flags::names())
}

/// The settings of a file.
///
/// # Errors
/// A sentence on what is wrong, with the key.
pub(super) fn parse_file(text: &str) -> Result<SettingsFile, String> {
    let mut table: toml::Table = toml::from_str(without_bom(text)).map_err(|e| e.to_string())?;
    let flags = Flags::take(&mut table)?;
    let serve = table.remove(SERVE_TABLE).map(ServeTable::of).transpose()?.unwrap_or_default();
    let known = keys().collect::<Vec<_>>().join(", ");
    if let Some(key) = table.keys().find(|key| !OWN_KEYS.contains(&key.as_str())) {
        return Err(format!("unknown key {}, expected one of {known}", quoted(key)));
    }
    let own: SettingsFile = table.try_into().map_err(|e: toml::de::Error| e.to_string())?;
    let settings = SettingsFile { flags, serve, ..own };
    let wrong = settings.problems();
    if wrong.is_empty() { Ok(settings) } else { Err(wrong.join("; ")) }
}

impl SettingsFile {
    /// The options that go to the machine.
    pub fn options(&self) -> Options {
        let on_server = |path: &str| {
            let host = self.server.clone()?;
            Some(NfsSource { host, path: path.to_owned(), options: Vec::new() })
        };
        // A store is the backup share of its machines.
        let backup = on_server(BACKUP_EXPORT).filter(|_| self.flags.0.store.is_none());
        let shares = Options { backup, tftp: on_server(TFTP_EXPORT), ..Options::default() };
        self.flags.0.clone().or(&shares)
    }

    /// What the machine would refuse: it parses the very words that it would get.
    pub fn problems(&self) -> Vec<String> {
        Cmdline::parse(&self.options().words().join(" ")).problems
    }

    /// [`SettingsFile::problems`] as a usage error.
    pub fn check(&self) -> Result<(), Error> {
        let problems = self.problems();
        if problems.is_empty() { Ok(()) } else { Err(Error::usage(problems.join("\n"))) }
    }

    /// PXELINUX's configuration folder.
    pub fn cfg_dir(&self) -> PathBuf {
        let root = || self.tftp_dir.clone().unwrap_or(TFTP_EXPORT.into());
        self.cfg_dir.clone().unwrap_or_else(|| root().join(PXELINUX_CFG))
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
        Ok(NfsSource { host: server.into(), path: NFS_ROOT_EXPORT.to_owned(), options })
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
    use crate::job::{Form, Given, OPTIONS};
    use crate::types::DiskSelector;
    use proptest::prelude::*;

    #[test]
    fn a_file_with_every_key_reads_and_flags_go_before_it() {
        let mut text = r#"
            cfg-dir = "/t/pxelinux.cfg"
            tftp-dir = "/t"
            backup-dir = "/b"
            machines = "/m"
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
            via = "/run/testbox/admin.sock"
            via-token = "/root/token"
            failing-disk = "write"
            settle = 5
            reboot = "hold"
            on-error = "shell"
            error-wait = 10
            attempts = 3
            mount-wait = 60
            share-wait = 120
            net-wait = 90
            store = "https://10.42.1.1:7443"
            store-key = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
            store-plain = "allow"
        "#
        .to_owned();
        // An option that is newer than this text, by its default.
        let of_table = || OPTIONS.iter().filter(|option| !matches!(option.given, Given::Job | Given::Arm));
        for option in of_table() {
            if !text.contains(&format!(" {} = ", option.name)) {
                let quote = if option.form == Form::Number { "" } else { "\"" };
                let value = format!("{quote}{}{quote}", option.default);
                let value = if option.form == Form::List { format!("[{value}]") } else { value };
                text += &format!("\n {} = {value}\n", option.name);
            }
        }
        let file = parse_file(&text).unwrap();
        assert_eq!(
            text.lines().filter(|l| l.contains('=')).count(),
            keys().count(),
            "the test knows every key"
        );
        assert_eq!(file.options().words().len(), of_table().count());
        let flags = Flags(Options { keep: Some(9), ..Options::default() });
        let flags = SettingsFile { console: vec!["tty1".into()], flags, ..SettingsFile::default() };
        let both = flags.or(file);
        assert_eq!((both.flags.0.keep, both.flags.0.attempts), (Some(9), Some(3)));
        assert_eq!(both.console, ["tty1"]);
        assert_eq!(both.flags.0.disks[1], DiskSelector::Serial("A B".into()));
        assert_eq!(both.cfg_dir(), Path::new("/t/pxelinux.cfg"));
        let with_bom = parse_file("\u{feff}disks = [\"sda\"]\r\n").unwrap();
        assert_eq!(with_bom.flags.0.disks.len(), 1, "a byte order mark before the first key hides nothing");
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        for (text, part) in [
            ("kepp = 1", "kepp"),
            ("keep = 1\nkeep = 2", "keep"),
            ("keep = 101", "testbox.keep=101"),
            ("keep = -1", "-1"),
            ("attempts = 0", "testbox.attempts=0"),
            ("reboot = \"now\"", "'now' is not one of"),
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
            SettingsFile { server, gateway: ip(gateway), netmask: ip(netmask), ..SettingsFile::default() }
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
