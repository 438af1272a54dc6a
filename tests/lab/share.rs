//! What a scenario looks at on the shares.

use super::{Lab, Station, disk};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// One machine's folder on the backup share.
pub struct ShareOf {
    /// `<backup>/<ip>`.
    pub dir: PathBuf,
}

impl Lab {
    /// The machine's folder on the backup share.
    pub fn share_of(&self, at: Station) -> ShareOf {
        ShareOf { dir: self.backup().join(at.ip()) }
    }

    /// The log of all machines; empty while there is none.
    pub fn global_log(&self) -> String {
        fs::read_to_string(self.backup().join("maintenance.log")).unwrap_or_default()
    }
}

impl ShareOf {
    /// Full path of one of its files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Text of one of its files; a missing one ends the scenario.
    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A JSON file.
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Every one of these files is there.
    pub fn assert_has(&self, names: &[&str]) {
        for name in names {
            assert!(self.path(name).exists(), "{} is missing", self.path(name).display());
        }
    }

    /// None of these files is there.
    pub fn assert_lacks(&self, names: &[&str]) {
        for name in names {
            assert!(!self.path(name).exists(), "{} is there", self.path(name).display());
        }
    }

    /// The machine's log has a line of this level that contains the text.
    pub fn assert_logged(&self, level: &str, text: &str) {
        let log = self.read("maintenance.log");
        let level = format!(": {level}: ");
        let found = log
            .lines()
            .any(|line| line.contains(&level) && line.to_lowercase().contains(&text.to_lowercase()));
        assert!(found, "no line '{level}…{text}' in maintenance.log:\n{log}");
    }

    /// The image is an exact copy, read by plain `zcat`, of what had this hash.
    pub fn assert_image_is(&self, image: &str, hash: blake3::Hash) {
        assert_eq!(disk::hash_of_zcat(&self.path(image)), hash, "{image} is not the disk");
    }
}

/// Names, kinds, sizes, modes and contents of everything below a folder, in one hash.
pub fn manifest(root: &Path) -> blake3::Hash {
    fn add(hasher: &mut blake3::Hasher, path: &Path) {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::symlink_metadata(path).unwrap();
        let time = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        hasher.update(
            format!("{path:?} {:o} {}:{} {} {time:?}\n", meta.mode(), meta.uid(), meta.gid(), meta.size())
                .as_bytes(),
        );
        if meta.is_dir() {
            let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
            entries.sort();
            entries.iter().for_each(|entry| add(hasher, entry));
        } else if meta.is_file() {
            hasher.update_reader(fs::File::open(path).unwrap()).unwrap();
        }
    }
    let mut hasher = blake3::Hasher::new();
    add(&mut hasher, root);
    hasher.finalize()
}
