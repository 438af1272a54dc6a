//! The text under way: bounded by section, free of control characters.

use crate::text::is_plain;
use crate::types::Redactor;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Longest section, in bytes; many times what a big server needs.
const SECTION_LIMIT: usize = 4 << 20;
/// Longest file that is taken into the text, in bytes.
const FILE_LIMIT: u64 = 2 << 20;

#[derive(Default)]
pub(super) struct InfoPage {
    text: String,
    section: usize,
    cut: bool,
    redactor: Redactor,
}

impl InfoPage {
    /// An empty page that shows none of these secrets.
    pub(super) fn new(redactor: Redactor) -> InfoPage {
        InfoPage { redactor, ..InfoPage::default() }
    }

    pub(super) fn section(&mut self, title: &str) {
        self.section = self.text.len();
        self.cut = false;
        self.line("");
        self.line(format!("======== {title} ========"));
    }

    /// Adds one line; what is not plain in it becomes visible escapes.
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        let line = self.redactor.line(line.as_ref());
        if self.cut {
            return;
        }
        if self.text.len() - self.section + line.len() > SECTION_LIMIT {
            self.cut = true;
            self.text.push_str("(the rest of this section is left out: it is too long)\n");
            return;
        }
        for c in line.trim_end().chars() {
            if is_plain(c) || c == '\t' {
                self.text.push(c);
            } else {
                self.text.extend(c.escape_default());
            }
        }
        self.text.push('\n');
    }

    /// Adds every line of `text`, each after `indent`.
    pub(super) fn block(&mut self, indent: &str, text: &str) {
        for line in text.lines() {
            self.line(format!("{indent}{line}"));
        }
    }

    /// Says what cannot be read, and why.
    pub(super) fn missing(&mut self, what: impl Display, e: &io::Error) {
        self.line(format!("(cannot read {what}: {e})"));
    }

    /// Adds a text file.
    pub(super) fn file(&mut self, path: &Path) {
        match read(path, FILE_LIMIT) {
            Ok(raw) => {
                self.block("", &String::from_utf8_lossy(&raw));
                if raw.len() as u64 == FILE_LIMIT {
                    self.line(format!("({} is cut here: it is too long)", path.display()));
                }
            }
            Err(e) => self.missing(path.display(), &e),
        }
    }

    /// Adds `name: value` for each of the attributes of `dir` that is there.
    pub(super) fn attributes(&mut self, indent: &str, dir: &Path, names: &[&str]) {
        for name in names {
            match read(&dir.join(name), FILE_LIMIT) {
                Ok(raw) => self.value(indent, name, &String::from_utf8_lossy(&raw)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => self.line(format!("{indent}{name}: (cannot be read: {e})")),
            }
        }
    }

    /// Adds `name: value`; a value of several lines goes below its name.
    pub(super) fn value(&mut self, indent: &str, name: &str, value: &str) {
        let value = value.trim_matches(['\0', '\n', ' ']);
        if value.contains('\n') {
            self.line(format!("{indent}{name}:"));
            self.block(&format!("{indent}  "), value);
        } else {
            self.line(format!("{indent}{name}: {value}"));
        }
    }

    /// Adds a hex dump in the style of `lspci -x`, which `lspci -F` reads; lines of zeros are left out.
    pub(super) fn hex(&mut self, indent: &str, bytes: &[u8]) {
        for (i, row) in bytes.chunks(16).enumerate() {
            if row.iter().any(|b| *b != 0) {
                let row: String = row.iter().map(|b| format!(" {b:02x}")).collect();
                self.line(format!("{indent}{:02x}:{row}", i * 16));
            }
        }
    }

    /// The names in `dir`, sorted; says so where it cannot be listed.
    pub(super) fn list(&mut self, dir: &Path) -> Vec<PathBuf> {
        let listed = fs::read_dir(dir).and_then(|entries| {
            let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
            paths.sort();
            Ok(paths)
        });
        listed.unwrap_or_else(|e| {
            self.missing(dir.display(), &e);
            Vec::new()
        })
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// Reads a virtual file, whose stated size means nothing, until its end or `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut raw)?;
    Ok(raw)
}

/// Last part of a path, for people.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name that a link such as `driver` points to.
pub(super) fn link_name(path: &Path) -> Option<String> {
    Some(name(&fs::read_link(path).ok()?))
}
