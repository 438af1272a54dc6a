//! The boot sector of FAT: where everything is.
#![forbid(unsafe_code)]

use super::width::Width;
use crate::bytes::le;
use crate::text;
use crate::used::{Doubt, Volume};
use std::ops::Range;

/// What a volume is called before its width is known.
const KIND: &str = "fat";

/// Where the parts of the file system are; all positions and lengths are bytes.
#[derive(Debug)]
pub(super) struct FatBoot {
    pub(super) width: Width,
    /// Low byte of the first FAT entry.
    pub(super) media: u8,
    /// The first FAT, the length of each, and how many there are.
    pub(super) fat: u64,
    pub(super) fat_len: u64,
    pub(super) fats: u64,
    pub(super) root: FatRoot,
    /// Where cluster 2 begins, and the length of a cluster.
    pub(super) data: u64,
    pub(super) cluster: u64,
    /// Number of clusters.
    pub(super) count: u32,
    /// The byte in which systems note that the file system is in use or had an error.
    pub(super) state: u8,
    /// The label in the boot sector, where there is one.
    pub(super) label: Option<String>,
}

/// The root directory.
#[derive(Debug)]
pub(super) enum FatRoot {
    /// Between the FATs and the clusters.
    Region { at: u64, len: u64 },
    /// A chain that begins with this cluster.
    Chain(u32),
}

/// What BitLocker To Go writes at byte 424 of the FAT32 that it shows to systems without BitLocker: the GUID
/// 4967d63b-2e29-4ad8-8399-f6a339e3d001.
const TO_GO: [u8; 16] =
    [0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01];

impl FatBoot {
    /// Reads the first sector. `None` where it is no FAT boot sector.
    pub(super) fn read(volume: &Volume<'_>) -> Result<Option<Self>, Doubt> {
        let Some(bytes) = volume.peek(0, 512) else { return Ok(None) };
        if bytes.get(424..440) == Some(&TO_GO[..]) {
            return Err(Doubt::new("BitLocker", "encrypted by BitLocker To Go"));
        }
        match Fields::of(&bytes) {
            Some(fields) if fields.plausible() => fields.layout(volume).map(Some),
            _ => Ok(None),
        }
    }
}

/// The fields with the names of Microsoft's specification (fatgen103), short.
struct Fields<'a> {
    bytes: &'a [u8],
    sector: u64,
    cluster: u64,
    reserved: u64,
    fats: u64,
    root_entries: u64,
    total: u64,
    total16: u64,
    total32: u64,
    media: u8,
    fat16: u64,
    fat32: u64,
}

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let word = |at| le::u16(bytes, at).map(u64::from);
        let (total16, total32) = (word(19)?, u64::from(le::u32(bytes, 32)?));
        Some(Fields {
            bytes,
            sector: word(11)?,
            cluster: le::u8(bytes, 13)?.into(),
            reserved: word(14)?,
            fats: le::u8(bytes, 16)?.into(),
            root_entries: word(17)?,
            total: if total16 != 0 { total16 } else { total32 },
            total16,
            total32,
            media: le::u8(bytes, 21)?,
            fat16: word(22)?,
            fat32: le::u32(bytes, 36)?.into(),
        })
    }

    /// Whether anybody would take this for FAT.
    fn plausible(&self) -> bool {
        let bytes = self.bytes;
        let jump = bytes[0] == 0xe9 || bytes[0] == 0xeb && bytes[2] == 0x90;
        jump && bytes[510..512] == [0x55, 0xaa]
            && [512, 1024, 2048, 4096].contains(&self.sector)
            && self.cluster.is_power_of_two()
            && self.reserved != 0
            && (1..=4).contains(&self.fats)
            && self.total != 0
            && (self.media == 0xf0 || self.media >= 0xf8)
            && if self.fat16 == 0 {
                self.fat32 != 0 && self.root_entries == 0
            } else {
                self.root_entries != 0
            }
    }

    /// The positions. No sum here overflows: every number has at most 32 bits, sectors at most 12.
    fn layout(&self, volume: &Volume<'_>) -> Result<FatBoot, Doubt> {
        let doubt = |why: String| Doubt::new(KIND, why);
        if self.total16 != 0 && self.total32 != 0 && self.total16 != self.total32 {
            return Err(doubt(format!("{} sectors or {}", self.total16, self.total32)));
        }
        if self.total * self.sector > volume.size() {
            return Err(doubt(format!(
                "it has {} bytes, its partition {}",
                self.total * self.sector,
                volume.size()
            )));
        }
        let fat = if self.fat16 != 0 { self.fat16 } else { self.fat32 };
        let root = (self.root_entries * 32).div_ceil(self.sector);
        let meta = self.reserved + self.fats * fat + root;
        let count = self.total.saturating_sub(meta) / self.cluster;
        // The number of clusters alone says what it is; everything else only has to agree.
        let width = match count {
            0 => return Err(doubt("no room for clusters".into())),
            1..4085 => Width::Fat12,
            4085..65525 => Width::Fat16,
            65525..=0x0fff_fff5 => Width::Fat32,
            _ => return Err(doubt(format!("{count} clusters"))),
        };
        if (width == Width::Fat32) != (self.fat16 == 0) {
            return Err(doubt(format!("{count} clusters are not right for its layout")));
        }
        let count = u32::try_from(count).map_err(|_| doubt(format!("{count} clusters")))?;
        if fat * self.sector < width.bytes_for(u64::from(count) + 2) {
            return Err(doubt(format!("its FAT is too short for {count} clusters")));
        }
        let extended = if width == Width::Fat32 { 64 } else { 36 };
        let signed = self.bytes[extended + 2] == 0x29;
        let text = &self.bytes[extended + 18..extended + 26];
        if signed && text.starts_with(b"FAT") && text[3] != b' ' && !text.starts_with(width.name()) {
            return Err(doubt(format!(
                "{count} clusters, but it is called {}",
                String::from_utf8_lossy(text)
            )));
        }
        let root = match width {
            Width::Fat32 => {
                let root = self.root32(count)?;
                self.copies_fit(volume)?;
                root
            }
            _ => FatRoot::Region {
                at: (self.reserved + self.fats * fat) * self.sector,
                len: self.root_entries * 32,
            },
        };
        let label = &self.bytes[extended + 7..extended + 18];
        Ok(FatBoot {
            width,
            media: self.media,
            fat: self.reserved * self.sector,
            fat_len: fat * self.sector,
            fats: self.fats,
            root,
            data: meta * self.sector,
            cluster: self.cluster * self.sector,
            count,
            state: self.bytes[extended + 1],
            label: (signed && label != b"NO NAME    ")
                .then(|| text::label(&String::from_utf8_lossy(label)))
                .flatten(),
        })
    }

    /// FSInfo and the copy of the boot sector of FAT32, where the boot sector names them: a number among the reserved
    /// sectors. Boot program, label, state and size can be older in the copy.
    fn copies_fit(&self, volume: &Volume<'_>) -> Result<(), Doubt> {
        /// Sizes, number of FATs, root directory, signature.
        const SAME: [Range<usize>; 5] = [11..19, 22..24, 36..40, 44..48, 510..512];
        let doubt = |why: &str| {
            Doubt::new(
                KIND,
                format!("{why}: it may be an old one below encryption, else fsck.fat writes it again"),
            )
        };
        let sector = |at| {
            let number = u64::from(le::u16(self.bytes, at)?);
            let named = number != 0 && number < self.reserved;
            named.then(|| volume.read(KIND, number * self.sector, 512))
        };
        if let Some(info) = sector(48).transpose()? {
            let signed = info.starts_with(b"RRaA")
                && info[484..].starts_with(b"rrAa")
                && info.ends_with(&[0x55, 0xaa]);
            if !signed {
                return Err(doubt("its FSInfo sector is not one"));
            }
        }
        match sector(50).transpose()? {
            Some(copy) if SAME.iter().any(|field| copy[field.clone()] != self.bytes[field.clone()]) => {
                Err(doubt("the copy of its boot sector is not the same"))
            }
            _ => Ok(()),
        }
    }

    /// What only FAT32 has.
    fn root32(&self, count: u32) -> Result<FatRoot, Doubt> {
        let doubt = |why: String| Doubt::new(KIND, why);
        let cut = || doubt("its boot sector is cut".into());
        // With mirroring off one FAT counts, and systems do not agree on which.
        let flags = le::u16(self.bytes, 40).ok_or_else(cut)?;
        if flags & 0x80 != 0 {
            return Err(doubt("its FATs are not mirrored".into()));
        }
        let version = le::u16(self.bytes, 42).ok_or_else(cut)?;
        if version != 0 {
            return Err(doubt(format!("version {version}")));
        }
        let root = le::u32(self.bytes, 44).ok_or_else(cut)?;
        if root < 2 || root - 2 >= count {
            return Err(doubt(format!("its root directory is in cluster {root} of {count}")));
        }
        Ok(FatRoot::Chain(root))
    }
}
