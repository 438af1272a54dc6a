//! `backup.json`: the commit record of a set of images. A set is what its record says, and nothing else.

use super::layout::{GENERATION_MAX, image_file, is_disk_name};
use crate::efi::FirmwareRecord;
use crate::inventory::{Disk, Identity};
use crate::used::{DiskContent, FoundVolume};
use blake3::Hash;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Largest record that is read, in bytes.
pub const RECORD_LIMIT: usize = 4 << 20;
/// Most bad ranges of one image that a record lists: it must stay one that can be read.
pub const BAD_RANGES: usize = 1000;
/// The format that this version writes, and the newest that it reads. 2: images may have long runs of zeros, which readers of
/// format 1 do not know.
const FORMAT: u32 = 2;

/// One set of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this file's format.
    pub format: u32,
    /// Counts the sets of this machine, from 1.
    pub generation: u64,
    /// Id of the job that made the set; absent where the machine was armed by hand without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Whose set it is.
    pub machine: Machine,
    /// The images of this set.
    pub images: Vec<ImageRecord>,
    /// Every disk that was seen and not imaged.
    #[serde(default)]
    pub others: Vec<OtherDisk>,
    /// How the machine boots: boot entries and loaders. Absent in sets of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareRecord>,
    /// Who has imported it, and from which files; absent where the machine has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<String>,
    /// When the set was finished.
    pub finished: Timestamp,
    /// Version of testbox that wrote it.
    pub version: String,
}

/// Names of a testbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Dotted decimal IPv4 address: the name of its folder.
    pub ip: String,
    /// The same in PXELINUX's spelling, eight upper-case hex digits.
    pub hexip: String,
    /// Host name, or `unknown`.
    pub hostname: String,
}

/// One image and the disk it was taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The disk's name in this machine's sets, such as `sda`: its kernel name when it was first imaged.
    pub name: String,
    /// Who the disk is.
    pub identity: Identity,
    /// Where it was plugged in.
    pub location: String,
    /// Size of the disk in bytes.
    pub disk_size: u64,
    /// Its logical block size in bytes.
    pub logical_block_size: u32,
    /// Its physical block size in bytes.
    pub physical_block_size: u32,
    /// Size of the image file in bytes.
    pub image_size: u64,
    /// Root hash of the image; see the image format. In the file 64 hex digits.
    #[serde(with = "hex")]
    pub root_hash: Hash,
    /// Complete, or with ranges that could not be read.
    pub state: SetState,
    /// The ranges that could not be read, the first [`BAD_RANGES`] of them. The image's index and map file have all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad_ranges: Vec<BadRange>,
    /// Bytes that could not be read, in all ranges.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable_bytes: u64,
    /// Bytes behind the end of the disk that it did not show (host protected area, lowered maximum address), and that
    /// are in no image.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hidden_bytes: u64,
    /// What was found on the disk, and what of it was left out because it is unallocated; as much of it as the image's
    /// header lists. For people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<FoundVolume>,
    /// What told the disk's content from that of others when it was imaged.
    #[serde(default, skip_serializing_if = "DiskContent::is_empty")]
    pub content: DiskContent,
    /// Another disk of the machine had the same identity.
    #[serde(default, skip_serializing_if = "is_false")]
    pub twin: bool,
    /// Taken over from the set before, because the disk was not imaged: what this record says of the other disks is of a
    /// later time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub carried: bool,
}

impl ImageRecord {
    /// Name of the image file, such as `sda.raw.gz`.
    pub fn file(&self) -> String {
        image_file(&self.name)
    }

    /// True for the entry of the set that `image`, which may have been carried over since, was made for.
    pub fn is_made_as(&self, image: &ImageRecord) -> bool {
        !self.carried && self.root_hash == image.root_hash
    }
}

/// Whether an image holds all of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetState {
    /// Every byte was read.
    Complete,
    /// Some ranges could not be read.
    Degraded,
}

/// A range of a disk that could not be read. Both figures are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRange {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// A disk that was there when the set was made, and does not belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherDisk {
    /// Its kernel name at that time.
    pub name: String,
    /// Who it is.
    pub identity: Identity,
    /// Where it was plugged in.
    pub location: String,
    /// Its size in bytes.
    pub disk_size: u64,
    /// Why it was left out.
    pub why: String,
    /// What told its content from that of others.
    #[serde(default, skip_serializing_if = "DiskContent::is_empty")]
    pub content: DiskContent,
    /// Another disk of the machine had the same identity.
    #[serde(default, skip_serializing_if = "is_false")]
    pub twin: bool,
}

impl OtherDisk {
    /// What the record keeps of a disk that is left out.
    pub fn new(disk: &Disk, why: impl Into<String>) -> Self {
        OtherDisk {
            name: disk.name.clone(),
            identity: disk.identity.clone(),
            location: disk.location.clone(),
            disk_size: disk.size,
            why: why.into(),
            content: disk.content.clone(),
            twin: disk.is_twin,
        }
    }
}

/// What every format of the record has.
#[derive(Deserialize)]
struct Format {
    format: u64,
}

/// A record that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON of this shape.
    #[error("it is not a record: {0}")]
    Malformed(serde_json::Error),
    /// A newer testbox wrote it.
    #[error(
        "a newer testbox wrote it, in format {0}; this one, {version}, reads up to format {FORMAT}",
        version = env!("CARGO_PKG_VERSION")
    )]
    TooNew(u64),
    /// A field has a value that no testbox writes.
    #[error("its {0}")]
    Invalid(String),
}

/// Not `#[from]`, which would make it the source too, and what its text says be said twice.
impl From<serde_json::Error> for RecordError {
    fn from(e: serde_json::Error) -> Self {
        RecordError::Malformed(e)
    }
}

impl Record {
    /// A record without images.
    pub fn new(generation: u64, job: Option<String>, machine: Machine, finished: Timestamp) -> Self {
        Record {
            format: FORMAT,
            generation,
            job,
            machine,
            images: Vec::new(),
            others: Vec::new(),
            firmware: None,
            imported: None,
            finished,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// Reads a record, and accepts only one that every later step can rely on: unique and safe names, root hashes
    /// of the right form, sizes that are whole blocks.
    ///
    /// # Errors
    /// What is wrong with it, or that a newer testbox has made it.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        // On its own: a newer format may have any shape beside it.
        let Format { format } = serde_json::from_slice(bytes)?;
        if format > u64::from(FORMAT) {
            return Err(RecordError::TooNew(format));
        }
        let record: Record = serde_json::from_slice(bytes)?;
        if record.format == 0 {
            return Err(RecordError::Invalid("format is 0".into()));
        }
        if !(1..=GENERATION_MAX).contains(&record.generation) {
            let what = format!("generation is {}, not from 1 to {GENERATION_MAX}", record.generation);
            return Err(RecordError::Invalid(what));
        }
        let mut names = BTreeSet::new();
        for image in &record.images {
            let name = &image.name;
            let invalid =
                |what: &str| Err(RecordError::Invalid(format!("image '{}' {what}", name.escape_default())));
            if !is_disk_name(name) {
                return invalid("has a name that is not a disk name");
            }
            if !names.insert(name) {
                return invalid("is named twice");
            }
            let block = u64::from(image.logical_block_size);
            if !matches!(block, 512..=65536) || !block.is_power_of_two() || image.disk_size % block != 0 {
                return invalid("has a disk size that is not a whole number of blocks");
            }
        }
        record.firmware.as_ref().map_or(Ok(()), FirmwareRecord::check).map_err(RecordError::Invalid)?;
        Ok(record)
    }

    /// The file's content: JSON that `cat` shows well.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// True where every image holds all of its disk.
    pub fn is_complete(&self) -> bool {
        self.images.iter().all(|image| image.state == SetState::Complete)
    }

    /// The image of this name.
    pub fn image(&self, name: &str) -> Option<&ImageRecord> {
        self.images.iter().find(|image| image.name == name)
    }
}

/// A root hash as text.
mod hex {
    use blake3::Hash;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(hash: &Hash, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(hash)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(from)?;
        Hash::from_hex(&text).map_err(|_| {
            let text: String = text.chars().take(80).collect();
            D::Error::custom(format!("root hash '{}' is not 64 hex digits", text.escape_default()))
        })
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sample() -> Record {
        let mut record = Record::new(3, Some("j1".into()), Machine::default(), Timestamp::UNIX_EPOCH);
        record.images.push(ImageRecord {
            name: "sda".into(),
            identity: Identity { serial: Some("S1".into()), ..Identity::default() },
            location: "pci-0000:00:1f.2-ata-1".into(),
            disk_size: 1 << 30,
            logical_block_size: 512,
            physical_block_size: 4096,
            image_size: 12345,
            root_hash: Hash::from_bytes([0xab; 32]),
            state: SetState::Complete,
            bad_ranges: Vec::new(),
            unreadable_bytes: 0,
            hidden_bytes: 0,
            partitions: vec![FoundVolume {
                number: 1,
                kind: "ext4".into(),
                skipped: 4096,
                ..FoundVolume::default()
            }],
            content: DiskContent {
                gpt: Some("5f2a".into()),
                volumes: vec!["ext4:07".into()],
                ..DiskContent::default()
            },
            twin: true,
            carried: true,
        });
        record.firmware = Some(FirmwareRecord { bits: Some(64), ..FirmwareRecord::default() });
        record
    }

    #[test]
    fn a_record_of_an_older_version_keeps_its_bytes() {
        let mut record = sample();
        record.firmware = None;
        let bytes = record.to_bytes();
        assert!(!String::from_utf8_lossy(&bytes).contains("firmware"));
        assert_eq!(Record::parse(&bytes).unwrap().to_bytes(), bytes);
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        assert_eq!(Record::parse(&sample().to_bytes()).unwrap(), sample());
        let text = String::from_utf8(sample().to_bytes()).unwrap();
        let hash = format!("\"root_hash\": \"{}\"", "ab".repeat(32));
        assert!(text.contains(&hash), "{text}");
        assert_eq!(
            Record::parse(text.replace(&hash, &hash.replace("ab", "AB")).as_bytes()).unwrap(),
            sample()
        );
    }

    #[test]
    fn a_record_that_later_steps_could_not_rely_on_is_refused() {
        type Spoil = fn(&mut Record);
        let rows: [(Spoil, &str); 9] = [
            (|r| r.firmware.as_mut().unwrap().problem = Some("x".repeat(600)), "firmware has a text"),
            (|r| r.format = 3, "format 3"),
            (|r| r.format = 0, "format is 0"),
            (|r| r.generation = GENERATION_MAX + 1, "generation is 1000000000000000"),
            (|r| r.generation = 0, "generation is 0"),
            (|r| r.images[0].name = "../x".into(), "not a disk name"),
            (|r| r.images.push(r.images[0].clone()), "named twice"),
            (|r| r.images[0].disk_size = 1000, "whole number of blocks"),
            (|r| r.images[0].logical_block_size = 0, "whole number of blocks"),
        ];
        for (spoil, expected) in rows {
            let mut record = sample();
            spoil(&mut record);
            let error = Record::parse(&record.to_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
        let text = String::from_utf8(sample().to_bytes()).unwrap();
        for bad in ["zz".repeat(32), "ab".repeat(31), "ab".repeat(33), String::new(), "\u{e4}".repeat(32)] {
            let error =
                Record::parse(text.replace(&"ab".repeat(32), &bad).as_bytes()).unwrap_err().to_string();
            assert!(error.contains("root hash") && error.contains("64 hex digits"), "{error}");
        }
        for bytes in [&b""[..], b"{}", b"[1]", b"\xff\xfe", &sample().to_bytes()[..40]] {
            assert!(Record::parse(bytes).is_err());
        }
    }

    #[test]
    fn records_of_every_earlier_format_are_read() {
        for format in 1..=FORMAT {
            let record = Record { format, ..sample() };
            assert_eq!(Record::parse(&record.to_bytes()).unwrap(), record);
        }
    }

    #[test]
    fn a_newer_format_is_told_whatever_else_it_has() {
        for (bytes, format) in [
            (&br#"{"format": 3}"#[..], 3),
            (br#"{"format": 3, "generation": "seven", "images": {}}"#, 3),
            (br#"{"sets": [], "format": 18446744073709551615}"#, u64::MAX),
        ] {
            let error = Record::parse(bytes).unwrap_err();
            assert!(matches!(error, RecordError::TooNew(found) if found == format), "{error}");
        }
        for bytes in
            [&br#"{"format": "2"}"#[..], br#"{"format": -2}"#, br#"{"format": 1}"#, b"{\"format\": 2"]
        {
            let error = Record::parse(bytes).unwrap_err();
            assert!(matches!(error, RecordError::Malformed(_)), "{error}");
        }
    }
}
