//! All that a user sees of a file system, to compare it with what comes back.

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A line for each name, by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, String>);

impl Tree {
    /// Reads everything below `root`.
    pub fn read(root: &Path) -> io::Result<Tree> {
        let (mut tree, mut links) = (BTreeMap::new(), HashMap::new());
        let is_btrfs = is_btrfs(root)?;
        let mut rest = vec![root.to_owned()];
        while let Some(path) = rest.pop() {
            let short = path.strip_prefix(root).unwrap_or(&path).to_owned();
            let about = fs::symlink_metadata(&path)?;
            let content = if about.is_dir() {
                let mut entries = fs::read_dir(&path)?.collect::<Result<Vec<_>, _>>()?;
                // The first name of a file stands for its group, so the order must be the same.
                entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
                rest.extend(entries.iter().map(|entry| entry.path()));
                format!("{} names", entries.len())
            } else if about.is_symlink() {
                format!("to {}", fs::read_link(&path)?.display())
            } else if about.is_file() {
                format!("{} bytes {}", about.len(), content(&path, about.len())?)
            } else {
                format!("device {:x}", about.rdev())
            };
            // Where files cannot have two names, their numbers may mean nothing.
            let group = links.entry((about.dev(), about.ino())).or_insert_with(|| short.clone());
            let first = if about.nlink() > 1 { group.as_path() } else { Path::new("itself") };
            // Times that are made up and nowhere on the disk; the root's is, where FUSE is between.
            let is_made_up = path == root || is_btrfs && is_placeholder(&about);
            let time = if is_made_up { (0, 0) } else { (about.mtime(), about.mtime_nsec()) };
            let line = format!(
                "mode {:o} owner {}:{} changed {}.{:09} {} attributes {:?} links {} first {}",
                about.mode(),
                about.uid(),
                about.gid(),
                time.0,
                time.1,
                content,
                attributes(&path)?,
                about.nlink(),
                first.display(),
            );
            tree.insert(short, line);
        }
        Ok(Tree(tree))
    }

    /// Says something else of a name than what it holds.
    pub fn replace(&mut self, path: &str, line: String) {
        self.0.insert(path.into(), line);
    }

    /// What is another in `other`; the first few.
    pub fn same_as(&self, other: &Tree) -> Result<(), String> {
        let paths = self.0.keys().chain(other.0.keys().filter(|path| !self.0.contains_key(*path)));
        let differ = paths.filter(|path| self.0.get(*path) != other.0.get(*path));
        let lines: Vec<String> = differ
            .take(5)
            .map(|path| format!("{}:\n  {:?}\n  {:?}", path.display(), self.0.get(path), other.0.get(path)))
            .collect();
        if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
    }
}

/// Whether it is a btrfs.
pub fn is_btrfs(root: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(root)?.f_type == 0x9123_683e)
}

/// Whether it is what a snapshot of btrfs shows in the place of another one: an empty folder in which nothing can be made.
pub fn is_placeholder(about: &Metadata) -> bool {
    about.is_dir() && about.ino() == 2
}

/// Hash of all bytes of a file; holes and blocks of zeros are the same.
fn content(path: &Path, len: u64) -> io::Result<String> {
    let file = File::open(path)?;
    let mut hash = blake3::Hasher::new();
    let mut block = vec![0; 64 << 10];
    let mut at = 0;
    while at < len {
        at = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(data) => data / 65536 * 65536,
            Err(Errno::NXIO) => break,
            // A file system that does not know its holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(e) => return Err(e.into()),
        };
        let mut filled = 0;
        while filled < block.len() {
            match file.read_at(&mut block[filled..], at + filled as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        let bytes = block.get(..filled).unwrap_or_default();
        if bytes.iter().any(|byte| *byte != 0) {
            hash.update(&at.to_le_bytes()).update(bytes);
        }
        at += block.len() as u64;
    }
    Ok(hash.finalize().to_hex().to_string())
}

fn attributes(path: &Path) -> io::Result<Vec<(String, blake3::Hash)>> {
    let mut names = vec![0; 64 << 10];
    let len = match rustix::fs::llistxattr(path, &mut names[..]) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        len => len?,
    };
    let mut all = Vec::new();
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut value = vec![0; 64 << 10];
        let len = rustix::fs::lgetxattr(path, &*name, &mut value[..])?;
        all.push((name, blake3::hash(&value[..len])));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}
