//! The testbox options beside action and job: one table, from which come their parser, defaults, spelling, the flags of
//! `testboxctl arm`, the keys of the settings file, what is signed, and the table in the manual.

use crate::text::quoted;
use crate::types::{
    Delta, DiskSelector, Expiry, FreeSpace, HostName, KeyPin, MapEntry, NfsSource, ParameterError, ReadTwice,
    SetHash, StoreUrl, TftpPath, Token,
};
use crate::used::Used;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::choices::*;

/// Who gives an option, and under which heading `testboxctl arm --help` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// A flag of `arm`, under "Network"; all flags are keys of the settings file too.
    Network,
    /// The same under "Boot".
    Boot,
    /// The same under "Disks".
    Disks,
    /// The same under "End and errors".
    End,
    /// Of one job only: an argument of its own.
    Job,
    /// `arm` itself knows it.
    Arm,
}

impl OptionAbout {
    /// What it does, without the full stop of its sentence.
    pub fn summary(&self) -> &'static str {
        let help = self.help.trim();
        help.strip_suffix('.').filter(|rest| !rest.ends_with('.')).unwrap_or(help)
    }
}

/// How an option is written in a settings file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// A list of strings.
    List,
}

/// What is known of an option beside its type.
#[derive(Clone, Copy, Debug)]
pub struct OptionAbout {
    /// Its name behind `testbox.`, and behind `--`.
    pub name: &'static str,
    /// What stands for its value in help: `SECONDS`.
    pub value: &'static str,
    /// What it does, in Markdown.
    pub help: &'static str,
    /// What holds without it.
    pub default: &'static str,
    /// Who gives it.
    pub given: Given,
    /// How it is written in a settings file.
    pub form: Form,
}

/// A value of an option: how it is written, and how a settings file has it.
trait OptionValue {
    const FORM: Form = Form::Text;
    fn show(&self) -> String;
}

/// An item of a list; a list may contradict itself.
trait Item: OptionValue + Sized {
    fn check(_: &[Self]) -> Result<(), ParameterError> {
        Ok(())
    }
}

macro_rules! shown {
    ($($t:ty)+) => { $(impl OptionValue for $t { fn show(&self) -> String { self.to_string() } })+ };
}
shown! { SetHash NfsSource DiskSelector MapEntry HostName Ipv4Addr Delta ReadTwice Used FreeSpace BadSectors DegradedSet FailingDisk Grow
UnionKind RebootMode OnError NoJob TftpPath StoreUrl Token KeyPin StorePlain Expiry }

impl OptionValue for u32 {
    const FORM: Form = Form::Number;
    fn show(&self) -> String {
        self.to_string()
    }
}

impl OptionValue for Duration {
    const FORM: Form = Form::Number;
    fn show(&self) -> String {
        self.as_secs().to_string()
    }
}

impl Item for DiskSelector {}
impl Item for Ipv4Addr {}

impl Item for MapEntry {
    /// One image cannot go to two disks, nor two images to one.
    fn check(map: &[Self]) -> Result<(), ParameterError> {
        for (at, entry) in map.iter().enumerate() {
            for before in map.iter().take(at) {
                if before.image == entry.image || before.disk == entry.disk {
                    return Err(ParameterError::new(format!("{before} and {entry} contradict each other")));
                }
            }
        }
        Ok(())
    }
}

/// The type of an option as it was given: `None` or empty where it was not.
macro_rules! given {
    (list $t:ty) => { Vec<$t> };
    ($kind:ident $t:ty) => { Option<$t> };
}

/// The type of an option that is resolved.
macro_rules! settled {
    (value $t:ty) => { $t };
    ($kind:ident $t:ty) => { given!($kind $t) };
}

macro_rules! set_one {
    (list $slot:expr, $text:expr, $parse:expr) => {
        set_list(&mut $slot, $text, $parse)
    };
    ($kind:ident $slot:expr, $text:expr, $parse:expr) => {
        set(&mut $slot, ($parse)($text))
    };
}

macro_rules! shown_one {
    (list $slot:expr) => {
        (!$slot.is_empty()).then(|| $slot.iter().map(OptionValue::show).collect::<Vec<_>>().join(","))
    };
    ($kind:ident $slot:expr) => {
        $slot.as_ref().map(OptionValue::show)
    };
}

/// Lists are taken whole, never mixed.
macro_rules! first_of {
    (list $ours:expr, $theirs:expr) => {
        if $ours.is_empty() { $theirs.clone() } else { $ours }
    };
    ($kind:ident $ours:expr, $theirs:expr) => {
        $ours.or_else(|| $theirs.clone())
    };
}

macro_rules! resolved {
    (value $slot:expr, $default:expr) => {
        $slot.unwrap_or($default)
    };
    ($kind:ident $slot:expr, ) => {
        $slot
    };
}

macro_rules! form {
    (list $t:ty) => {
        Form::List
    };
    ($kind:ident $t:ty) => {
        <$t as OptionValue>::FORM
    };
}

/// Declares every option once: its name as a field, `maybe`, `list` or `value` (which has a default), type, default,
/// parser, name and value as they are written, who gives it, and the default in words. Its doc comment is its help.
macro_rules! options {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident $t:ty $(= $default:expr)?, $parse:expr,
        $name:literal $value:literal $given:ident, $without:literal;)+) => {
        /// The testbox options beside action and job, each `None` or empty where it is not given.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Options { $($(#[doc = $help])+ pub $field: given!($kind $t),)+ }

        /// The same with the defaults.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings { $($(#[doc = $help])+ pub $field: settled!($kind $t),)+ }

        /// Every option, in the order in which a signed job has them.
        pub const OPTIONS: &[OptionAbout] = &[$(OptionAbout {
            name: $name,
            value: $value,
            help: concat!($($help),+),
            default: $without,
            given: Given::$given,
            form: form!($kind $t),
        }),+];

        impl Options {
            /// Sets the option `name`; `None` where there is no such option.
            ///
            /// # Errors
            /// What is wrong with the value, or that it contradicts what is set already. Nothing is kept of it then.
            pub fn set(&mut self, name: &str, text: &str) -> Option<Result<(), ParameterError>> {
                match name {
                    $($name => Some(set_one!($kind self.$field, text, $parse)),)+
                    _ => None,
                }
            }

            /// These options, with `other` for whatever is not given here. Lists are taken whole, never mixed.
            pub fn or(self, other: &Options) -> Options {
                Options { $($field: first_of!($kind self.$field, other.$field),)+ }
            }

            /// What is given here, and the defaults for the rest.
            pub fn settings(&self) -> Settings {
                let given = self.clone();
                Settings { $($field: resolved!($kind given.$field, $($default)?),)+ }
            }

            /// The kernel parameters that say these options: what [`super::Cmdline::parse`] reads back.
            pub fn words(&self) -> Vec<String> {
                let pairs = [$(($name, shown_one!($kind self.$field)),)+];
                pairs.into_iter().filter_map(|(name, value)| Some(format!("testbox.{name}={}", value?))).collect()
            }
        }
    };
}

options! {
    /// The one set that counts, by the SHA-256 of its `backup.json`; for `restore` and `verify`.
    set: maybe SetHash, str::parse, "set" "SHA256" Job, "the newest whole set";
    /// The backup share, as the machine mounts it.
    backup: maybe NfsSource, str::parse, "backup" "HOST:PATH[,OPTION...]" Boot,
        "`/export/testbox-backup` on the server of the other share, of `nfsroot=`, or the boot server";
    /// The TFTP share, as the machine mounts it to disarm itself.
    tftp: maybe NfsSource, str::parse, "tftp" "HOST:PATH[,OPTION...]" Boot, "`/export/testbox-tftp`, likewise";
    /// The store that keeps the backups, in place of both shares.
    store: maybe StoreUrl, str::parse, "store" "https://HOST[:PORT]" Boot, "none: the shares";
    /// What the store knows this job by; `arm` makes one for each machine and job.
    token: maybe Token, str::parse, "token" "64HEX" Arm, "none";
    /// The key of the store: SHA-256 of its SubjectPublicKeyInfo, as `testboxctl serve` prints it.
    store_key: maybe KeyPin, str::parse, "store-key" "SHA256" Boot, "none: needed for https";
    /// Whether the store may be reached without TLS, by http://: `refuse` or `allow`. Whoever is on the network then reads
    /// and changes everything.
    store_plain: value StorePlain = StorePlain::Refuse, str::parse, "store-plain" "HOW" Boot, "refuse";
    /// Only these disks: names, serial=..., wwn=..., at=...
    disks: list DiskSelector, str::parse, "disks" "DISK,..." Disks, "all but USB and removable";
    /// Which image belongs on which disk, as sda:serial=ABC.
    map: list MapEntry, str::parse, "map" "IMAGE:DISK,..." Disks, "by identity";
    /// Host name of the machine, in place of what reverse DNS says; for one machine only.
    name: maybe HostName, str::parse, "name" "HOST" Network, "reverse DNS, else DHCP's";
    /// DNS servers, where DHCP gives none.
    dns: list Ipv4Addr, address, "dns" "IP,..." Network, "those of DHCP";
    /// Sets before the newest that are kept in `history/`, 0 to 100.
    keep: value u32 = 1, |text| number(text, 0..=100), "keep" "N" Disks, "1";
    /// Whether a restore reads what the disk holds and writes only what differs: `always`, `never`, or `auto`, as long as
    /// that is faster.
    delta: value Delta = Delta::Auto, str::parse, "delta" "WHEN" Disks, "auto";
    /// Whether a restore reads what it needs of an image, and has no memory for, twice: `yes`, the first time to prove it before
    /// anything is written; or `no`, once: damage that shows when it is written leaves the disk unbootable.
    read_twice: value ReadTwice = ReadTwice::Yes, str::parse, "read-twice" "HOW" Disks, "yes";
    /// What a backup leaves out: `auto`, what is unallocated in a consistent file system; `no-swap`, what is in swap areas
    /// and in page and hibernation files of Windows too; `off`, nothing.
    used: value Used = Used::Auto, str::parse, "used" "HOW" Disks, "auto";
    /// What a restore does where the image holds nothing because it was unallocated: `leave` it as it is, `discard`, or
    /// `zero`.
    free: value FreeSpace = FreeSpace::Leave, str::parse, "free" "HOW" Disks, "leave";
    /// What a backup does with sectors that cannot be read: `fail`, or `degraded`: zeros stand in for them.
    bad_sectors: value BadSectors = BadSectors::Fail, str::parse, "bad-sectors" "HOW" Disks, "fail";
    /// What a degraded set may do: `refuse` (nothing), `replace` a complete set, or `restore`.
    degraded: value DegradedSet = DegradedSet::Refuse, str::parse, "degraded" "WHAT" Disks, "refuse";
    /// Whether a restore writes onto a disk that says of itself that it fails: `refuse` or `write`.
    failing_disk: value FailingDisk = FailingDisk::Refuse, str::parse, "failing-disk" "HOW" Disks, "refuse";
    /// What a restore onto a larger disk makes of the room: `no`, it stays free; or `last`: the last partition and its file
    /// system (ext4, XFS, btrfs, NTFS) grow up to the end of the disk, by the tools of the NFS root.
    grow: value Grow = Grow::No, str::parse, "grow" "WHAT" Disks, "no";
    /// The union file system over the NFS root: `overlay`, or `aufs` where the kernel has it; on the kernel command line
    /// only.
    union: value UnionKind = UnionKind::Overlay, str::parse, "union" "KIND" Boot, "overlay";
    /// What ends a good run: `reboot`, `halt`, `poweroff` or `hold`.
    reboot: value RebootMode = RebootMode::Reboot, str::parse, "reboot" "HOW" End, "reboot";
    /// What follows an error: `reboot`, `hold` or `shell`.
    on_error: value OnError = OnError::Reboot, str::parse, "on-error" "HOW" End, "reboot";
    /// Seconds before that.
    error_wait: value Duration = Duration::from_secs(300), seconds, "error-wait" "SECONDS" End, "300";
    /// Failed attempts after which the machine holds, 1 to 1000.
    attempts: value u32 = 5, |text| number(text, 1..=1000), "attempts" "N" End, "5";
    /// Seconds that the list of disks must not change before it is believed.
    settle: value Duration = Duration::from_secs(10), seconds, "settle" "SECONDS" Disks, "10";
    /// Seconds for which an unreachable share is retried.
    mount_wait: value Duration = Duration::from_secs(300), seconds, "mount-wait" "SECONDS" End, "300";
    /// Seconds, 10 to 86400, for which a mounted share that does not answer is waited for.
    // A server that restarts within 5 minutes, its grace period of 90 s, and the pauses of up to 5 minutes between a
    // Linux client's attempts to connect.
    share_wait: value Duration = Duration::from_secs(900), share_wait, "share-wait" "SECONDS" End, "900";
    /// Seconds for which the boot waits for an address, and the agent for names and the boot server; on the kernel command line
    /// only.
    net_wait: value Duration = Duration::from_secs(300), seconds, "net-wait" "SECONDS" End, "300";
    /// What follows where the boot servers have no job for the machine: `fail`, or `boot-disk`: the firmware (UEFI) starts its
    /// own system next; on the kernel command line only.
    no_job: value NoJob = NoJob::Fail, str::parse, "no-job" "HOW" Arm, "fail";
    /// When the job expires: an attempt that has not begun before is refused and the machine disarmed, by the clock of the
    /// server that keeps the backups.
    expires: maybe Expiry, str::parse, "expires" "TIME" Job, "never";
    /// The file that arms the machine, below the TFTP root.
    armed_file: maybe TftpPath, str::parse, "armed-file" "PATH" Arm, "looked for";
    /// The TFTP server.
    boot_server: maybe Ipv4Addr, server_address, "boot-server" "IP" Arm, "looked for";
}

impl Default for Settings {
    fn default() -> Self {
        Options::default().settings()
    }
}

/// How the store is reached that keeps the backups.
#[derive(Clone, Copy, Debug)]
pub struct StoreOrder<'a> {
    /// Where it is.
    pub url: &'a StoreUrl,
    /// What it knows the job by.
    pub token: &'a Token,
    /// Its key, for HTTPS.
    pub key: Option<&'a KeyPin>,
}

impl Settings {
    /// The store, where one keeps the backups; or what is missing to reach it.
    pub fn store(&self) -> Option<Result<StoreOrder<'_>, String>> {
        let Some(url) = &self.store else {
            let lonely =
                self.token.is_some() || self.store_key.is_some() || self.store_plain == StorePlain::Allow;
            let why = "testbox.token=, testbox.store-key= or testbox.store-plain= without testbox.store=: nothing says which store";
            return lonely.then(|| Err(why.into()));
        };
        let Some(token) = &self.token else {
            return Some(Err(format!(
                "testbox.store={url} without testbox.token=: nobody could say whose job this is"
            )));
        };
        let key = self.store_key.as_ref();
        Some(match (url.is_tls, key, self.store_plain) {
            (true, None, _) => {
                Err(format!("testbox.store={url} without testbox.store-key=, the hash of its key"))
            }
            (false, Some(_), _) => Err(format!(
                "testbox.store={url} is not https, so testbox.store-key= would prove nothing: say one of the two"
            )),
            (false, _, StorePlain::Refuse) => Err(format!(
                "testbox.store={url} is not https, and whoever is on the network could read and change everything: where that is \
                 meant, say testbox.store-plain=allow"
            )),
            _ => Ok(StoreOrder { url, token, key }),
        })
    }
}

/// Sets an option. The same again is fine while it says the same.
pub(super) fn set<T: PartialEq>(
    slot: &mut Option<T>,
    value: Result<T, ParameterError>,
) -> Result<(), ParameterError> {
    let value = value?;
    match slot {
        Some(old) if *old != value => {
            Err(ParameterError::new("given twice with different values; it must be given once"))
        }
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// Sets a comma list; an empty item is an error, and so is a second, different list.
fn set_list<T: PartialEq + Item>(
    slot: &mut Vec<T>,
    text: &str,
    parse: impl Fn(&str) -> Result<T, ParameterError>,
) -> Result<(), ParameterError> {
    // More disks than any machine has: a hostile list, compared pairwise later on.
    if text.split(',').nth(256).is_some() {
        return Err(ParameterError::new("more than 256 items"));
    }
    let mut whole = (!slot.is_empty()).then(|| std::mem::take(slot));
    let list = text.split(',').map(parse).collect();
    let result = set(&mut whole, list);
    *slot = whole.unwrap_or_default();
    // What contradicts itself is not kept: nothing may act on it.
    result.and_then(|()| T::check(slot).inspect_err(|_| slot.clear()))
}

fn address(text: &str) -> Result<Ipv4Addr, ParameterError> {
    text.parse().map_err(|_| ParameterError::new(format!("{} is not a valid IPv4 address", quoted(text))))
}

/// The address of one host, which can be asked something.
fn server_address(text: &str) -> Result<Ipv4Addr, ParameterError> {
    let ip = address(text)?;
    if ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast() {
        return Err(ParameterError::new(format!("{ip} is not the address of one server")));
    }
    Ok(ip)
}

fn number(text: &str, range: RangeInclusive<u32>) -> Result<u32, ParameterError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(n) if digits && range.contains(&n) => Ok(n),
        _ => Err(ParameterError::new(format!(
            "{} is not a whole number from {} to {}",
            quoted(text),
            range.start(),
            range.end()
        ))),
    }
}

fn seconds(text: &str) -> Result<Duration, ParameterError> {
    number(text, 0..=86_400).map(|n| Duration::from_secs(n.into()))
}

fn share_wait(text: &str) -> Result<Duration, ParameterError> {
    number(text, 10..=86_400).map(|n| Duration::from_secs(n.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word that is lost or misspelt never changes where a backup goes, or who it is trusted to.
    #[test]
    fn a_store_is_named_wholly_or_refused() {
        let (token, key) = (format!("token={}", "1".repeat(64)), format!("store-key={}", "2".repeat(64)));
        for (words, expected) in [
            ("", None),
            ("store=https://a {t} {k}", Some(true)),
            ("store=http://a {t} store-plain=allow", Some(true)),
            ("store=http://a {t}", Some(false)),
            ("store=http://a {t} {k} store-plain=allow", Some(false)),
            ("store=https://a {t}", Some(false)),
            ("store=https://a {t} store-plain=allow", Some(false)),
            ("store=https://a {k}", Some(false)),
            ("{t}", Some(false)),
            ("{k}", Some(false)),
            ("store-plain=allow", Some(false)),
        ] {
            let words = words.replace("{t}", &token).replace("{k}", &key);
            let mut options = Options::default();
            for word in words.split_whitespace() {
                let (name, value) = word.split_once('=').unwrap();
                options.set(name, value).unwrap().unwrap();
            }
            assert_eq!(options.settings().store().map(|order| order.is_ok()), expected, "{words}");
        }
    }
}
