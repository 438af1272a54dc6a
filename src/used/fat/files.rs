//! The files of a FAT volume by their names, as firmware sees them: directories, long names, chains. Nothing is left out
//! of an image by it, so a volume that was not unmounted is read too. Rules: fatgen103, "FAT Directory Structure" and "Long
//! File Name Implementation".
#![forbid(unsafe_code)]

use super::boot::{FatBoot, FatRoot};
use super::width::Width;
use crate::bytes::le;
use crate::used::{Doubt, Volume};

/// Bytes of an entry of a directory.
const ENTRY: usize = 32;
/// Longest directory: 65536 entries.
const LONGEST: u64 = 2 << 20;
/// Most pieces of a long name.
const PIECES: usize = 20;
/// Attributes.
const LABEL: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;

/// A FAT volume whose files can be looked up.
pub struct FatFiles<'v> {
    volume: Volume<'v>,
    boot: FatBoot,
}

/// One file or folder of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its long name, or else the short one.
    pub name: String,
    /// A folder.
    pub is_dir: bool,
    /// Bytes; 0 for a folder.
    pub size: u32,
    cluster: u32,
}

/// How much [`FatFiles::ending_in`] looks at.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most files that are listed.
    pub files: usize,
    /// Most folders that are read.
    pub folders: usize,
    /// How deep below the first folder, which is 1.
    pub depth: u32,
}

/// What [`FatFiles::ending_in`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Paths from the root, such as `\EFI\BOOT\BOOTX64.EFI`, sorted.
    pub paths: Vec<String>,
    /// There may be more: a bound was reached, or a folder could not be read.
    pub is_cut: bool,
}

/// True for two names or paths that FAT takes for the same: without regard to case.
pub fn is_same_name(a: &str, b: &str) -> bool {
    a == b || a.chars().flat_map(char::to_uppercase).eq(b.chars().flat_map(char::to_uppercase))
}

impl<'v> FatFiles<'v> {
    /// The files of this volume; `None` where it is no FAT.
    ///
    /// # Errors
    /// A boot sector that contradicts itself.
    pub fn open(volume: Volume<'v>) -> Result<Option<Self>, Doubt> {
        Ok(FatBoot::read(&volume)?.map(|boot| FatFiles { volume, boot }))
    }

    /// The file at this path from the root, its parts after `\` each; `None` where there is none.
    ///
    /// # Errors
    /// A folder on the way that cannot be read.
    pub fn find(&self, path: &str) -> Result<Option<File>, Doubt> {
        let mut at: Option<File> = None;
        for part in path.strip_prefix('\\').unwrap_or(path).split('\\') {
            if at.as_ref().is_some_and(|file| !file.is_dir) {
                return Ok(None);
            }
            let found = self.folder(at.as_ref())?.into_iter().find(|file| is_same_name(&file.name, part));
            let Some(found) = found else { return Ok(None) };
            at = Some(found);
        }
        Ok(at)
    }

    /// The files below the folder `top` of the root whose names end in `end`, within bounds.
    pub fn ending_in(&self, end: &str, top: &str, bounds: Bounds) -> Listed {
        let mut listed = Listed::default();
        let Ok(Some(first)) = self.find(top) else { return listed };
        let mut todo = vec![(format!("\\{}", first.name), first, 1)];
        let mut read = 0;
        while let Some((path, folder, depth)) = todo.pop() {
            read += 1;
            if read > bounds.folders || depth > bounds.depth {
                listed.is_cut = true;
                continue;
            }
            let Ok(files) = self.folder(Some(&folder)) else {
                listed.is_cut = true;
                continue;
            };
            for file in files {
                let path = format!("{path}\\{}", file.name);
                if file.is_dir {
                    todo.push((path, file, depth + 1));
                } else if ends_in(&file.name, end) && file.size > 0 {
                    listed.paths.push(path);
                }
            }
        }
        listed.paths.sort();
        listed.is_cut |= listed.paths.len() > bounds.files;
        listed.paths.truncate(bounds.files);
        listed
    }

    /// What is in a folder; `None` is the root.
    fn folder(&self, of: Option<&File>) -> Result<Vec<File>, Doubt> {
        let bytes = match (of, &self.boot.root) {
            (Some(file), _) if !file.is_dir => return Ok(Vec::new()),
            // As `..` has it: cluster 0 is the root.
            (Some(file), _) if file.cluster != 0 => self.chain(file.cluster)?,
            (_, FatRoot::Region { at, len }) => {
                self.volume.read(self.kind(), *at, (*len).min(LONGEST) as usize)?
            }
            (_, FatRoot::Chain(first)) => self.chain(*first)?,
        };
        Ok(entries(&bytes))
    }

    fn kind(&self) -> &'static str {
        self.boot.width.kind()
    }

    /// The bytes of a chain of clusters, as many as a directory can have.
    fn chain(&self, mut cluster: u32) -> Result<Vec<u8>, Doubt> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < LONGEST {
            let Some(index) = cluster.checked_sub(2).filter(|index| *index < self.boot.count) else {
                return Err(Doubt::new(self.kind(), format!("a folder leads to cluster {cluster}")));
            };
            let at = self.boot.data + u64::from(index) * self.boot.cluster;
            let piece = self.volume.read(self.kind(), at, self.boot.cluster as usize)?;
            let is_last = piece.chunks_exact(ENTRY).any(|entry| entry[0] == 0);
            bytes.extend(piece);
            if is_last {
                break;
            }
            cluster = self.next(cluster)?;
            if cluster > self.boot.width.bad() {
                break;
            }
        }
        Ok(bytes)
    }

    /// The entry of a cluster in the first FAT.
    fn next(&self, cluster: u32) -> Result<u32, Doubt> {
        // A pair of entries begins with a whole byte in every width.
        let pair = u64::from(cluster & !1);
        let len = match self.boot.width {
            Width::Fat12 => 3,
            Width::Fat16 => 4,
            Width::Fat32 => 8,
        };
        let bytes = self.volume.read(self.kind(), self.boot.fat + self.boot.width.bytes_for(pair), len)?;
        let entry = self.boot.width.entry(&bytes, (cluster & 1) as usize);
        entry.ok_or_else(|| Doubt::new(self.kind(), "its FAT is cut"))
    }
}

fn ends_in(name: &str, end: &str) -> bool {
    let at = name.len().checked_sub(end.len());
    at.and_then(|at| name.get(at..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

/// The entries of a directory, but for the labels, and for the links to itself and to the one above.
fn entries(bytes: &[u8]) -> Vec<File> {
    let mut files = Vec::new();
    let mut long = LongName::default();
    for entry in bytes.chunks_exact(ENTRY).take_while(|entry| entry[0] != 0) {
        if entry[0] == 0xe5 {
            long = LongName::default();
        } else if entry[11] & 0x3f == LONG_NAME {
            long.take(entry);
        } else {
            let name = std::mem::take(&mut long).name(entry).unwrap_or_else(|| short_name(entry));
            let is_dir = entry[11] & DIRECTORY != 0;
            let cluster = u32::from(le::u16(entry, 20).unwrap_or_default()) << 16
                | u32::from(le::u16(entry, 26).unwrap_or_default());
            let size = if is_dir { 0 } else { le::u32(entry, 28).unwrap_or_default() };
            let is_named = !name.is_empty() && !name.contains(['\\', '/']) && name != "." && name != "..";
            if entry[11] & LABEL == 0 && is_named {
                files.push(File { name, is_dir, size, cluster });
            }
        }
    }
    files
}

/// The pieces of a long name, which stand in front of their entry, the last one first.
#[derive(Default)]
struct LongName {
    pieces: Vec<[u16; 13]>,
    /// The number that the next piece must have; 0 where all are there.
    left: u8,
    sum: u8,
}

impl LongName {
    fn take(&mut self, entry: &[u8]) {
        let number = entry[0] & 0x3f;
        let is_first = entry[0] & 0x40 != 0 && (1..=PIECES).contains(&usize::from(number));
        let is_next = self.left == number && number != 0 && self.sum == entry[13] && entry[0] & 0x40 == 0;
        if !is_first && !is_next {
            *self = LongName::default();
            return;
        }
        if is_first {
            *self = LongName { pieces: Vec::new(), left: number, sum: entry[13] };
        }
        let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
        let mut piece = [0; 13];
        for (unit, at) in piece.iter_mut().zip(places) {
            *unit = le::u16(entry, at).unwrap_or_default();
        }
        self.pieces.push(piece);
        self.left -= 1;
    }

    /// The name, where it is whole and belongs to this entry.
    fn name(self, entry: &[u8]) -> Option<String> {
        let is_whole = self.left == 0 && !self.pieces.is_empty() && self.sum == checksum(entry);
        let units: Vec<u16> = self.pieces.into_iter().rev().flatten().take_while(|unit| *unit != 0).collect();
        is_whole.then(|| String::from_utf16_lossy(&units))
    }
}

/// What a long name has of the short one that it belongs to.
fn checksum(entry: &[u8]) -> u8 {
    entry.iter().take(11).fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// The name of 8 and 3 characters; Windows has two bits for those that are all lower case.
fn short_name(entry: &[u8]) -> String {
    let part = |range: std::ops::Range<usize>, is_lower: bool| {
        let bytes = entry.get(range).unwrap_or_default();
        let text: String = bytes
            .iter()
            .map(|byte| if byte.is_ascii() { char::from(*byte) } else { char::REPLACEMENT_CHARACTER })
            .collect();
        let text = text.trim_end().to_owned();
        if is_lower { text.to_ascii_lowercase() } else { text }
    };
    let case = entry.get(12).copied().unwrap_or_default();
    let (name, end) = (part(0..8, case & 0x08 != 0), part(8..11, case & 0x10 != 0));
    if end.is_empty() { name } else { format!("{name}.{end}") }
}

#[cfg(test)]
mod tests;
