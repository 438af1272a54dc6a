//! The values of testbox words.

use super::{HostName, ParameterError, percent_decode, percent_encode};
use crate::inventory::{Disk, Identity, is_named_by};
use crate::text::{is_printable, quoted};
use std::fmt;
use std::str::FromStr;

/// The random name of one armed job: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobId(String);

impl JobId {
    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for JobId {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(JobId(text.to_owned()))
        } else {
            Err(ParameterError::new(format!(
                "{} is not a valid job id (1 to 64 of A-Z a-z 0-9 . _ -)",
                quoted(text)
            )))
        }
    }
}

/// The kernel's name of a disk, such as `sda` or `nvme0n1`. Images carry the same names, with a suffix (`sda-2`) where
/// two disks of a machine would have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DiskName(String);

impl DiskName {
    /// The name, without `/dev/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DiskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DiskName {
    type Err = ParameterError;

    /// Takes the name with or without `/dev/` before it.
    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let name = text.strip_prefix("/dev/").unwrap_or(text);
        let good = (2..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && name.starts_with(|c: char| c.is_ascii_lowercase());
        if good {
            Ok(DiskName(name.to_owned()))
        } else {
            Err(ParameterError::new(format!(
                "{} is not a valid disk name, such as sda, /dev/sda or nvme0n1",
                quoted(text)
            )))
        }
    }
}

/// How an admin names one disk: `sda`, `serial=S3Z9NB0K`, `wwn=naa.5002538d405d0e46`, `at=pci-0000:00:1f.2-ata-1`.
/// Special characters of a value are percent-encoded. All but a kernel name mean the same disk at the next boot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DiskSelector {
    /// Whatever disk the kernel calls so today.
    Name(DiskName),
    /// The disk with this serial number.
    Serial(String),
    /// The disk with this world wide name, as sysfs `wwid` or as udev (`0x…`) spells it.
    Wwn(String),
    /// The disk that is plugged in here, as `location` in `backup.json` and the agent's list of disks spell it.
    At(String),
}

impl DiskSelector {
    /// True where this selector names the disk that is, or was, called `name`, and has this identity and location. For
    /// serials and WWNs see [`is_named_by`]; a WWN may also be written as udev spells it (`0x…` for `naa.…`).
    pub fn names(&self, name: &str, identity: &Identity, location: &str) -> bool {
        match self {
            DiskSelector::Name(own) => own.as_str() == name,
            DiskSelector::Serial(serial) => {
                identity.serial.as_deref().is_some_and(|s| is_named_by(s, serial))
            }
            DiskSelector::Wwn(wwn) => {
                identity.wwn.as_deref().is_some_and(|of_disk| match wwn.strip_prefix("0x") {
                    Some(hex) => is_named_by(of_disk, &format!("naa.{hex}")),
                    None => is_named_by(of_disk, wwn),
                })
            }
            DiskSelector::At(place) => place.eq_ignore_ascii_case(location),
        }
    }

    /// True where it names `disk` as it is called now.
    pub fn matches(&self, disk: &Disk) -> bool {
        self.names(&disk.name, &disk.identity, &disk.location)
    }
}

impl fmt::Display for DiskSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskSelector::Name(name) => write!(f, "{name}"),
            DiskSelector::Serial(serial) => write!(f, "serial={}", percent_encode(serial)),
            DiskSelector::Wwn(wwn) => write!(f, "wwn={}", percent_encode(wwn)),
            DiskSelector::At(place) => write!(f, "at={}", percent_encode(place)),
        }
    }
}

fn identity_text(encoded: &str) -> Result<String, ParameterError> {
    let text = percent_decode(encoded)?;
    if !text.is_empty() && text.len() <= 256 && text.trim() == text && text.chars().all(is_printable) {
        Ok(text)
    } else {
        let what = "is not a valid serial, WWN or location (1 to 256 printable characters)";
        Err(ParameterError::new(format!("{} {what}", quoted(&text))))
    }
}

impl FromStr for DiskSelector {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        match text.split_once('=') {
            Some(("serial", value)) => Ok(DiskSelector::Serial(identity_text(value)?)),
            Some(("wwn", value)) => Ok(DiskSelector::Wwn(identity_text(value)?)),
            Some(("at", value)) => Ok(DiskSelector::At(identity_text(value)?)),
            Some(_) => Err(ParameterError::new(format!(
                "{} is not a valid disk selector (a kernel name, serial=ID, wwn=ID or at=LOCATION)",
                quoted(text)
            ))),
            None => Ok(DiskSelector::Name(text.parse()?)),
        }
    }
}

/// One `IMAGE:SELECTOR` of `testbox.map`: the image of this name belongs on that disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MapEntry {
    /// Name of the image without its suffix: the disk's kernel name when it was made.
    pub image: DiskName,
    /// The disk of today.
    pub disk: DiskSelector,
}

impl fmt::Display for MapEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.image, self.disk)
    }
}

impl FromStr for MapEntry {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let (image, disk) = text.split_once(':').ok_or_else(|| {
            ParameterError::new(format!("{} is not IMAGE:DISK, as sda:serial=ABC", quoted(text)))
        })?;
        Ok(MapEntry { image: image.parse()?, disk: disk.parse()? })
    }
}

/// An NFS export and its mount options: `HOST:/path[,option…]`. Special characters of the path are
/// percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NfsSource {
    /// The server.
    pub host: HostName,
    /// Absolute path on the server, decoded.
    pub path: String,
    /// Mount options in the order given, as `vers=3`.
    pub options: Vec<String>,
}

impl fmt::Display for NfsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, percent_encode(&self.path))?;
        self.options.iter().try_for_each(|option| write!(f, ",{option}"))
    }
}

/// Mount options are plain words: what mount(2) gets must not be able to smuggle in another option.
fn is_option(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:/+-=".contains(&b);
    (1..=128).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('=')
}

impl FromStr for NfsSource {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let wrong =
            |why: &str| ParameterError::new(format!("{} is not HOST:/path[,options] ({why})", quoted(text)));
        let (host, rest) = text.split_once(':').ok_or_else(|| wrong("no colon after the host"))?;
        let mut pieces = rest.split(',');
        let path = percent_decode(pieces.next().unwrap_or_default())?;
        if !path.starts_with('/') {
            return Err(wrong("the path must begin with /"));
        }
        if path.len() > 1024 || !path.chars().all(is_printable) || path.split('/').any(|name| name == "..") {
            return Err(wrong("the path must be printable, at most 1024 characters, without .."));
        }
        let options: Vec<String> = pieces.map(str::to_owned).collect();
        if let Some(bad) = options.iter().find(|o| !is_option(o)) {
            return Err(wrong(&format!("mount option {}", quoted(bad))));
        }
        Ok(NfsSource { host: host.parse()?, path, options })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Identity;
    use proptest::prelude::*;

    fn disk(name: &str, serial: &str, wwn: &str) -> Disk {
        Disk {
            name: name.into(),
            path: format!("/dev/{name}").into(),
            size: 1 << 30,
            logical_block_size: 512,
            physical_block_size: 512,
            identity: Identity { serial: Some(serial.into()), wwn: Some(wwn.into()), model: None },
            location: "pci-0000:00:1f.2-ata-2.1".into(),
            ..Disk::default()
        }
    }

    #[test]
    fn job_ids_are_safe_words() {
        assert!("0f3a-b.C_9".parse::<JobId>().is_ok());
        for bad in ["", "a b", "a/b", "ü", "a=b", &"x".repeat(65)] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn disk_names_cannot_leave_a_folder() {
        assert_eq!("/dev/sda".parse::<DiskName>().unwrap().as_str(), "sda");
        for bad in
            ["", "s", "../sda", "/dev/../sda", "/dev//dev/sda", "sd a", "0sda", "SDA", "sda.raw", "s\0a"]
        {
            assert!(bad.parse::<DiskName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn selectors_match_by_name_serial_wwn_and_location() {
        let sda = disk("sda", "WD 1,2", "naa.5000C500A1B2C3D4");
        for (selector, hit) in [
            ("sda", true),
            ("/dev/sda", true),
            ("sdb", false),
            ("serial=WD%201%2C2", true),
            ("serial=wd%201%2C2", true),
            ("serial=WD%201", false),
            ("wwn=naa.5000c500a1b2c3d4", true),
            ("wwn=0x5000c500a1b2c3d4", true),
            ("wwn=5000c500a1b2c3d4", false),
            ("at=pci-0000:00:1f.2-ata-2.1", true),
            ("at=PCI-0000:00:1F.2-ATA-2.1", true),
            ("at=pci-0000:00:1f.2-ata-2", false),
        ] {
            assert_eq!(selector.parse::<DiskSelector>().unwrap().matches(&sda), hit, "{selector}");
        }
        for bad in
            ["", "serial=", "wwn=", "at=", "at=%0A", "model=x", "serial=%0A", "serial=%20x", "Serial=x"]
        {
            assert!(bad.parse::<DiskSelector>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nfs_sources() {
        let source: NfsSource = "nas.lab:/export/a%20b,vers=3,port=2050".parse().unwrap();
        assert_eq!((source.host.as_str(), source.path.as_str()), ("nas.lab", "/export/a b"));
        assert_eq!(source.options, ["vers=3", "port=2050"]);
        for bad in
            ["", "nas", "nas:", "nas:x", ":/x", "nas:/x,", "nas:/x,a b", "nas:/../x", "nas:/x%00", "n_s:/x"]
        {
            assert!(bad.parse::<NfsSource>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn selectors_and_maps_survive_a_kernel_word(serial in "[!-~]([ -~]{0,40}[!-~])?") {
            for disk in [DiskSelector::Serial(serial.clone()), DiskSelector::At(serial)] {
                let map = MapEntry { image: "sda".parse().unwrap(), disk };
                let word = map.to_string();
                prop_assert!(!word.contains([' ', ',', '"', '*', '$']));
                prop_assert_eq!(word.parse(), Ok(map));
            }
        }

        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = (text.parse::<JobId>(), text.parse::<DiskName>(), text.parse::<DiskSelector>());
            let _ = (text.parse::<MapEntry>(), text.parse::<NfsSource>());
        }
    }
}
