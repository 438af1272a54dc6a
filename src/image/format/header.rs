//! The header member: which disk this is.
#![forbid(unsafe_code)]

use crate::block::BlockDevice;
use crate::bytes::{array, le};
use crate::image::format::found::FoundTexts;
use crate::image::format::member::{self, MAX_TEXT, MemberKind, Reason};
use crate::image::format::zeros::{FIRST_MAX_ZERO_RUN, LONG_ZEROS};
use crate::inventory::Identity;
use crate::text::without_controls;

/// Largest chunk size in bytes.
pub const MAX_CHUNK: u32 = 4 << 20;
/// Texts with this tag and higher ones may occur several times.
const FIRST_REPEATED: u8 = 7;
/// The first tag that a reader must understand: what the image may have beside what version 1 had from the beginning.
const FEATURE: u8 = 128;

/// What the caller knows about the disk that is imaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskAbout {
    /// Kernel name, such as `sda`.
    pub name: String,
    /// Who it is.
    pub identity: Identity,
    /// Size in bytes.
    pub size: u64,
    /// Logical block size in bytes.
    pub logical_block_size: u32,
    /// Physical block size in bytes.
    pub physical_block_size: u32,
}

impl DiskAbout {
    /// Sizes from the open disk, the rest as given.
    pub fn new(name: &str, identity: Identity, disk: &dyn BlockDevice) -> Self {
        DiskAbout {
            name: name.to_owned(),
            identity,
            size: disk.size(),
            logical_block_size: disk.logical_block_size(),
            physical_block_size: disk.physical_block_size(),
        }
    }
}

/// The fields of the header member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The disk.
    pub disk: DiskAbout,
    /// Longest data run in bytes.
    pub chunk_size: u32,
    /// Random; tells one backup from the next.
    pub image_id: [u8; 16],
    /// Codec, and CPU level where its output depends on it.
    pub codec: String,
    /// Program and version that wrote the image.
    pub writer: String,
    /// What was found on the disk.
    pub found: FoundTexts,
}

/// `text` without control characters and not longer than the format allows.
fn clean(text: &str) -> String {
    let mut clean = without_controls(text);
    while clean.len() > MAX_TEXT {
        clean.pop();
    }
    clean
}

/// A name that `gzip -N` may create: no folders, nothing unprintable, not hidden.
fn file_name(disk: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '_' };
    let last = disk.rsplit('/').next().unwrap_or_default();
    let name: String = last.chars().map(safe).take(200).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "disk.raw".to_owned(),
        name => format!("{name}.raw"),
    }
}

impl Header {
    /// Checks the numbers; what it accepts can be written and read back.
    ///
    /// # Errors
    /// Which number it is.
    pub fn check(&self) -> Result<(), Reason> {
        let (chunk, block) = (self.chunk_size, self.disk.logical_block_size);
        if !chunk.is_power_of_two() || !(4096..=MAX_CHUNK).contains(&chunk) {
            return Err("chunk size must be a power of two from 4 KiB to 4 MiB");
        }
        if !block.is_power_of_two() || !(512..=chunk.min(65_536)).contains(&block) {
            return Err(
                "logical block size must be a power of two from 512 bytes to 64 KiB, and at most the chunk size",
            );
        }
        if self.disk.size == 0
            || !self.disk.size.is_multiple_of(u64::from(block))
            || self.disk.size > i64::MAX as u64
        {
            return Err("disk size must be a whole number of logical blocks, and not 0");
        }
        Ok(())
    }

    /// The member.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = vec![0; 48];
        payload[8..12].copy_from_slice(&self.chunk_size.to_le_bytes());
        payload[12..16].copy_from_slice(&self.disk.logical_block_size.to_le_bytes());
        payload[16..20].copy_from_slice(&self.disk.physical_block_size.to_le_bytes());
        payload[24..32].copy_from_slice(&self.disk.size.to_le_bytes());
        payload[32..48].copy_from_slice(&self.image_id);
        let identity = &self.disk.identity;
        let texts = [
            (1, Some(&self.disk.name)),
            (2, identity.serial.as_ref()),
            (3, identity.wwn.as_ref()),
            (4, identity.model.as_ref()),
            (5, Some(&self.codec)),
            (6, Some(&self.writer)),
        ];
        let texts = texts.into_iter().filter_map(|(tag, text)| Some((tag, clean(text?))));
        // Only where there may be one: the image of a smaller disk is one for every reader.
        let feature = (self.disk.size > FIRST_MAX_ZERO_RUN).then(|| (FEATURE, LONG_ZEROS.to_owned()));
        for (tag, text) in texts.chain(self.found.tagged()).chain(feature) {
            payload.extend_from_slice(&[tag, 0]);
            payload.extend_from_slice(&(text.len() as u16).to_le_bytes());
            payload.extend_from_slice(text.as_bytes());
        }
        member::empty_member(MemberKind::Header, &payload, Some(&file_name(&self.disk.name)))
    }

    /// Reads the member; `bytes` is all of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Reason> {
        const SHORT: Reason = "the header member is too short";
        let member = member::parse(bytes)?;
        if member.kind != MemberKind::Header || member.len != bytes.len() {
            return Err("the file does not begin with a header member");
        }
        let payload = member.payload;
        let mut header = Header {
            disk: DiskAbout {
                logical_block_size: le::u32(payload, 12).ok_or(SHORT)?,
                physical_block_size: le::u32(payload, 16).ok_or(SHORT)?,
                size: le::u64(payload, 24).ok_or(SHORT)?,
                ..DiskAbout::default()
            },
            chunk_size: le::u32(payload, 8).ok_or(SHORT)?,
            image_id: array(payload, 32).ok_or(SHORT)?,
            codec: String::new(),
            writer: String::new(),
            found: FoundTexts::default(),
        };
        let mut rest = payload.get(48..).ok_or(SHORT)?;
        let mut before = 0;
        while let Some([tag, 0, low, high]) = array::<4>(rest, 0).filter(|head| head[0] != 0) {
            let text = rest.get(4..4 + usize::from(u16::from_le_bytes([low, high])));
            let text = text.ok_or("a text of the header is cut short")?;
            rest = rest.get(4 + text.len()..).unwrap_or_default();
            let text = std::str::from_utf8(text).map_err(|_| "a text of the header is not UTF-8")?;
            let is_late = tag < before || (tag == before && tag < FIRST_REPEATED);
            if is_late || text.len() > MAX_TEXT || text.contains(char::is_control) {
                return Err("a text of the header is wrong");
            }
            before = tag;
            let identity = &mut header.disk.identity;
            match tag {
                1 => header.disk.name = text.to_owned(),
                2 => identity.serial = Some(text.to_owned()),
                3 => identity.wwn = Some(text.to_owned()),
                4 => identity.model = Some(text.to_owned()),
                5 => header.codec = text.to_owned(),
                6 => header.writer = text.to_owned(),
                7..FEATURE => header.found.read(tag, text),
                // Whatever the image has of it, its index says.
                FEATURE if text == LONG_ZEROS => {}
                _ => return Err("the header has a field that must be understood: a newer testbox wrote it"),
            }
        }
        if rest.iter().any(|b| *b != 0) {
            return Err("the header's padding is wrong");
        }
        header.check()?;
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::used::FoundVolume;

    fn header() -> Header {
        Header {
            disk: DiskAbout {
                name: "nvme0n1".into(),
                identity: Identity { serial: Some("S4EW".into()), wwn: Some("eui.0025".into()), model: None },
                size: 1 << 40,
                logical_block_size: 512,
                physical_block_size: 4096,
            },
            chunk_size: 1 << 20,
            image_id: *b"0123456789abcdef",
            codec: "isal-1".into(),
            writer: "testbox 0.1.0".into(),
            found: FoundTexts::default(),
        }
    }

    #[test]
    fn headers_read_back_as_written() {
        let mut header = header();
        assert_eq!(Header::decode(&header.encode()), Ok(header.clone()));
        header.disk.name = "x".repeat(3000);
        header.disk.identity.model = Some("a\nb".into());
        let back = Header::decode(&header.encode()).unwrap();
        assert_eq!((back.disk.name.len(), back.disk.identity.model.as_deref()), (MAX_TEXT, Some("a?b")));
    }

    #[test]
    fn names_for_gzip_stay_in_the_folder() {
        for (disk, name) in [
            ("sda", "sda.raw"),
            ("/tmp/a b", "a_b.raw"),
            ("../..", "disk.raw"),
            ("", "disk.raw"),
            ("-x", "x.raw"),
        ] {
            assert_eq!(file_name(disk), name);
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for change in [
            |h: &mut Header| h.chunk_size = 8 << 20,
            |h: &mut Header| h.chunk_size = 3 << 16,
            |h: &mut Header| h.disk.logical_block_size = 520,
            |h: &mut Header| h.disk.size = 0,
            |h: &mut Header| h.disk.size = 513,
            |h: &mut Header| h.disk.size = u64::MAX - 511,
        ] {
            let mut header = header();
            change(&mut header);
            assert!(Header::decode(&header.encode()).is_err(), "{header:?}");
        }
    }

    #[test]
    fn unknown_texts_below_128_are_ignored_and_others_refused() {
        let texts = |tags: &[u8]| {
            let mut payload = vec![0; 48];
            payload[8..12].copy_from_slice(&4096u32.to_le_bytes());
            payload[12..16].copy_from_slice(&512u32.to_le_bytes());
            payload[24..32].copy_from_slice(&512u64.to_le_bytes());
            for tag in tags {
                payload.extend_from_slice(&[*tag, 0, 1, 0, b'x']);
            }
            Header::decode(&member::empty_member(MemberKind::Header, &payload, Some("x.raw")))
        };
        for good in [&[1, 2, 6, 7, 7, 8, 9, 9, 9, 127][..], &[7], &[127, 127], &[]] {
            assert!(texts(good).is_ok(), "{good:?}");
        }
        for bad in [&[128][..], &[1, 1], &[6, 6], &[2, 1], &[7, 7, 6], &[9, 8]] {
            assert!(texts(bad).is_err(), "{bad:?}");
        }
    }

    /// busybox takes no extra field above 16 KiB.
    #[test]
    fn the_longest_header_has_an_extra_field_below_16_000_bytes() {
        let long = |n: usize| "\"\u{7f}\u{1f4be}".repeat(n);
        let mut header = header();
        header.disk.name = "n".repeat(2000);
        header.disk.identity =
            Identity { serial: Some(long(900)), wwn: Some(long(900)), model: Some(long(900)) };
        (header.codec, header.writer) = (long(900), long(900));
        let found = |number| FoundVolume {
            number,
            start: u64::MAX,
            size: u64::MAX,
            kind: long(number as usize % 7 * 50),
            label: Some(long(number as usize % 5 * 300)),
            skipped: u64::MAX,
            behind: u64::MAX,
            why_all: Some(long(number as usize % 3 * 700)),
            partition_type: Some(long(number as usize % 2 * 700)),
            name: Some(long(number as usize % 11 * 100)),
            logical_volume: Some(long(number as usize % 13 * 100)),
        };
        for count in [0, 1, 3, 10, 100, 5000] {
            header.found = FoundTexts::new(&(0..count).map(found).collect::<Vec<_>>());
            let member = header.encode();
            assert!(le::u32(&member, 10).unwrap() as u16 <= 16_000 && member.len() <= 4 * member::UNIT);
            let back = Header::decode(&member).unwrap();
            assert_eq!(back.found, header.found);
            assert_eq!((back.found.list.len() + back.found.more as usize), count as usize);
            assert!(back.found.list.len() >= 4.min(count as usize));
        }
    }
}
