//! sysfs trees for tests: folders, attributes and links as the kernel lays them out.

use super::Disk;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A temporary `sys` tree.
pub(crate) struct SysfsTree(tempfile::TempDir);

impl SysfsTree {
    pub(crate) fn new() -> SysfsTree {
        let tree = SysfsTree(tempfile::tempdir().unwrap());
        fs::create_dir_all(tree.sys().join("block")).unwrap();
        tree
    }

    /// The folder that holds `sys`.
    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn sys(&self) -> PathBuf {
        self.0.path().join("sys")
    }

    /// Writes an attribute, with the folders above it.
    pub(crate) fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &SysfsTree {
        let path = self.sys().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Makes `path` a relative link to `target`, both from the root of sysfs.
    pub(crate) fn link(&self, path: &str, target: &str) -> &SysfsTree {
        let link = self.sys().join(path);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let up = "../".repeat(path.matches('/').count());
        symlink(format!("{up}{target}"), link).unwrap();
        self
    }

    /// A block device whose folder is `devices/<dir>`, with `device` linking to `devices/<dir>/<device>`, 1 GiB big.
    pub(crate) fn disk(&self, dir: &str, device: &str) -> &SysfsTree {
        let name = dir.rsplit('/').next().unwrap();
        for (attr, value) in [
            ("size", "2097152\n"),
            ("ro", "0\n"),
            ("removable", "0\n"),
            ("hidden", "0\n"),
            ("queue/logical_block_size", "512\n"),
            ("queue/physical_block_size", "4096\n"),
        ] {
            self.file(&format!("devices/{dir}/{attr}"), value);
        }
        symlink(device, self.sys().join(format!("devices/{dir}/device"))).unwrap();
        self.link(&format!("block/{name}"), &format!("devices/{dir}"))
    }
}

/// A plain disk of 1 MB.
pub(crate) fn disk(name: &str) -> Disk {
    Disk {
        name: name.to_owned(),
        path: Path::new("/dev").join(name),
        size: 1_000_000,
        logical_block_size: 512,
        physical_block_size: 512,
        ..Disk::default()
    }
}
