//! `testboxctl` as a black box: words in, files, texts and exit code out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod arm;
mod complete;
mod expires;
mod files;
mod help;
mod hooks;
mod image;
mod machines;
mod man;
mod nfsroot;
mod overwrite;
mod ownership;
mod page;
mod power;
mod see;
mod shares;
mod sign;
mod via;
mod wait;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A folder with both shares as `init` lays them out, and with boot files.
struct Lab {
    dir: TempDir,
}

/// What a run has given.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    #[track_caller]
    fn expect(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        for part in parts {
            assert!(
                self.out.contains(part) || self.err.contains(part),
                "lacks {part}: {}{}",
                self.out,
                self.err
            );
        }
        self
    }
}

impl Lab {
    /// An empty folder.
    fn empty() -> Lab {
        let lab = Lab { dir: tempfile::tempdir().unwrap() };
        lab.write("settings.toml", b"");
        lab
    }

    /// Shares without the files of Debian's packages, so that the tests need none of them.
    fn new() -> Lab {
        let lab = Lab::empty();
        lab.write("t/pxelinux.cfg/default", b"DEFAULT local-boot\nLABEL local-boot\nLOCALBOOT 0\n");
        lab.write("t/maintenance-boot/vmlinuz", b"kernel");
        lab.write("t/maintenance-boot/initrd.img", b"initrd");
        lab.write("b/testbox-backup", b"");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Every file below the folder, with its bytes; of a link, where it leads.
    fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(dir: &Path, all: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_symlink() {
                    let leads_to = fs::read_link(&path).unwrap();
                    all.push((path, leads_to.into_os_string().into_encoded_bytes()))
                } else if path.is_dir() {
                    walk(&path, all)
                } else {
                    all.push((path.clone(), fs::read(&path).unwrap()))
                }
            }
        }
        let mut all = Vec::new();
        walk(self.dir.path(), &mut all);
        all.sort();
        all
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_testboxctl"));
        command.current_dir(self.dir.path()).args(["--config", "settings.toml"]).args(words);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Run {
        let output = self.command(words).output().unwrap();
        Run {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// `arm` on the shares of this folder.
    fn arm(&self, words: &[&str]) -> Run {
        let shares = ["arm", "-c", "t/pxelinux.cfg", "--backup-dir", "b", "--server", "10.42.1.1"];
        self.run(&[&shares, words].concat())
    }
}

/// What arms 10.42.1.20.
const FILE: &str = "t/pxelinux.cfg/0A2A0114";
