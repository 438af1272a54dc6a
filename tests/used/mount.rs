//! A file system in a file, mounted over a loop device. Unmounted again, also on panic.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs a line of shell with `$IMG` set; its standard output.
///
/// # Panics
/// With what it said, where it fails.
pub fn shell(line: &str, image: &Path) -> String {
    try_shell(line, image).unwrap_or_else(|said| panic!("{said}"))
}

/// As [`shell`]; all that it said, where it fails.
pub fn try_shell(line: &str, image: &Path) -> Result<String, String> {
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", line])
        .env("IMG", image)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("bash: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{line}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))),
    }
}

pub struct Mounted {
    image: PathBuf,
    path: PathBuf,
    is_mounted: bool,
}

impl Mounted {
    /// Mounts `image` with these words of mount(8), such as `-t ext4`, on the folder `at`, which is made.
    pub fn new(words: &str, image: &Path, at: &Path) -> Result<Mounted, String> {
        fs::create_dir_all(at).map_err(|e| e.to_string())?;
        try_shell(&format!("mount {words} -o loop,noatime \"$IMG\" '{}'", at.display()), image)?;
        Ok(Mounted { image: image.to_owned(), path: at.to_owned(), is_mounted: true })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Unmounts it; afterwards all that was written is in the image.
    pub fn unmount(mut self) -> Result<(), String> {
        let line = format!("umount '{}'", self.path.display());
        let mut done = try_shell(&line, &self.image);
        // Between its fork and its exec, a program that another test starts has all our files open.
        for _ in 0..100 {
            if !done.as_ref().is_err_and(|said| said.contains("busy")) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            done = try_shell(&line, &self.image);
        }
        self.is_mounted = done.is_err();
        done?;
        // A program in user space may live a moment longer than its mount, and the loop device with it.
        while is_looped(&self.image) {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted {
            // Best effort: this is the way out of a test that has failed already.
            let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
        }
    }
}

/// Whether a loop device still stands over this file.
fn is_looped(image: &Path) -> bool {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut files = devices.filter_map(|d| fs::read_to_string(d.path().join("loop/backing_file")).ok());
    files.any(|file| Path::new(file.trim_end()) == image)
}
