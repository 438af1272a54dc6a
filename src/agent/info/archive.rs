//! `testbox-info.zip`: `/proc/cpuinfo` and the whole of `/sys/firmware`, byte for byte.

use super::InfoSources;
use crate::types::Redactor;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Longest single file, in bytes. Firmware tables are far smaller; an emulator's configuration can hold a kernel.
const FILE_LIMIT: u64 = 16 << 20;
/// Bytes of content in all.
const TOTAL_LIMIT: u64 = 128 << 20;
/// Folders and files that are looked at, and how deep.
const ENTRY_LIMIT: u32 = 50_000;
const DEPTH_LIMIT: u32 = 16;
/// Reading this TPM log has ended in fatal I/O errors.
const SKIPPED: &str = "raw_event_log";
/// Name of the entry that lists what is missing.
const UNREADABLE: &str = "unreadable.txt";

/// The archive could not be written; what could not be read stands in the archive.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the archive of firmware data: {0}")]
pub struct ArchiveError(zip::result::ZipError);

impl From<zip::result::ZipError> for ArchiveError {
    fn from(e: zip::result::ZipError) -> Self {
        ArchiveError(e)
    }
}

impl From<io::Error> for ArchiveError {
    fn from(e: io::Error) -> Self {
        ArchiveError(zip::result::ZipError::from(e))
    }
}

/// Writes the archive to `out` and returns what is missing from it: one line per file or folder, the same as in its
/// entry `unreadable.txt`, which is always there.
///
/// Virtual files state wrong lengths, so each is read until its end, up to a limit. Links are not followed.
///
/// # Errors
/// Where `out` cannot be written.
pub fn write_zip(out: impl Write + Seek, sources: &InfoSources) -> Result<Vec<String>, ArchiveError> {
    let mut archive = Archive {
        zip: ZipWriter::new(out),
        redactor: sources.redactor(),
        missing: Vec::new(),
        bytes: 0,
        entries: 0,
    };
    archive.add(&sources.proc.join("cpuinfo"), "proc/cpuinfo", 0)?;
    archive.add(&sources.sys.join("firmware"), "sys/firmware", 0)?;
    archive.zip.start_file(UNREADABLE, SimpleFileOptions::default())?;
    archive
        .zip
        .write_all(archive.missing.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes())?;
    archive.zip.finish()?.flush()?;
    Ok(archive.missing)
}

struct Archive<W: Write + Seek> {
    zip: ZipWriter<W>,
    redactor: Redactor,
    missing: Vec<String>,
    bytes: u64,
    entries: u32,
}

impl<W: Write + Seek> Archive<W> {
    fn add(&mut self, path: &Path, name: &str, depth: u32) -> Result<(), ArchiveError> {
        self.entries += 1;
        if self.entries > ENTRY_LIMIT || depth > DEPTH_LIMIT {
            self.note(name, "left out: too many files or folders");
            return Ok(());
        }
        let kind = match fs::symlink_metadata(path) {
            Ok(data) => data.file_type(),
            Err(e) => {
                self.note(name, e);
                return Ok(());
            }
        };
        if kind.is_dir() {
            return self.add_folder(path, name, depth);
        }
        if kind.is_file() {
            return self.add_file(path, name);
        }
        self.note(name, if kind.is_symlink() { "a link, not followed" } else { "not a regular file" });
        Ok(())
    }

    fn add_folder(&mut self, path: &Path, name: &str, depth: u32) -> Result<(), ArchiveError> {
        let listed = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>());
        let mut children = match listed {
            Ok(children) => children,
            Err(e) => {
                self.note(name, e);
                return Ok(());
            }
        };
        children.sort();
        for child in children {
            let inner = format!("{name}/{}", child.to_string_lossy());
            if child == SKIPPED {
                self.note(&inner, "left out: reading it has caused fatal I/O errors");
            } else if self.entries <= ENTRY_LIMIT {
                self.add(&path.join(&child), &inner, depth + 1)?;
            }
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path, name: &str) -> Result<(), ArchiveError> {
        let limit = FILE_LIMIT.min(TOTAL_LIMIT.saturating_sub(self.bytes));
        let mut content = Vec::new();
        // One byte more than the limit tells a cut file from one that just fits.
        let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut content));
        if let Err(e) = read {
            self.note(name, format!("after {} bytes: {e}", content.len()));
            if content.is_empty() {
                return Ok(());
            }
        } else if content.len() as u64 > limit {
            content.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            self.note(name, format!("cut after {limit} bytes: it is too long"));
        }
        self.bytes += content.len() as u64;
        // Device trees, and emulators' configuration, hold the command line too.
        self.redactor.bytes(&mut content);
        self.zip.start_file(name, SimpleFileOptions::default())?;
        self.zip.write_all(&content)?;
        Ok(())
    }

    fn note(&mut self, name: &str, why: impl std::fmt::Display) {
        self.missing.push(format!("{name}: {why}"));
    }
}
