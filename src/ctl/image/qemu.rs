//! `qemu-img`, and a folder for what passes between it and this program.

use super::super::Error;
use crate::progress::Progress;
use crate::sys::random_id;
use crate::text::plain;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf, absolute};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Time between two looks at it.
const LOOK: Duration = Duration::from_millis(50);

/// Formats by QEMU's names for them.
pub(super) const RAW: &str = "raw";
pub(super) const QCOW2: &str = "qcow2";

/// Has qemu-img write a disk anew in another format; `progress` is only asked whether that is to end.
pub(super) fn convert(from: (&Path, &str), to: (&Path, &str), progress: &Progress) -> Result<(), Error> {
    // A relative name with a colon in it would be a protocol.
    let path = |path: &Path| absolute(path).map_err(|e| Error::failed(format!("{}: {e}", path.display())));
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", from.1, "-O", to.1]).arg(path(from.0)?).arg(path(to.0)?);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = child.map_err(|e| {
        let cure = if e.kind() == io::ErrorKind::NotFound { ": apt install qemu-utils" } else { "" };
        Error::failed(format!("cannot start qemu-img: {e}{cure}"))
    })?;
    let (is_done, said) = wait(child, progress).map_err(|e| Error::failed(format!("qemu-img: {e}")))?;
    match is_done {
        _ if progress.is_cancelled() => Err(Error::failed("interrupted")),
        true => Ok(()),
        false => Err(Error::failed(format!("qemu-img has failed: {}", plain(said.trim())))),
    }
}

/// Waits for a program; true where it has worked, and what it has said.
fn wait(mut child: Child, progress: &Progress) -> io::Result<(bool, String)> {
    while child.try_wait()?.is_none() {
        if progress.is_cancelled() {
            child.kill()?;
        }
        thread::sleep(LOOK);
    }
    let ended = child.wait_with_output()?;
    Ok((ended.status.success(), String::from_utf8_lossy(&ended.stderr).into_owned()))
}

/// A new folder of this user's own among the temporary files, removed when it is dropped.
pub(super) struct OwnFolder(PathBuf);

impl OwnFolder {
    pub fn make() -> Result<OwnFolder, Error> {
        let temp = std::env::temp_dir();
        let failed = |e: io::Error| Error::failed(format!("{}: cannot make a folder: {e}", temp.display()));
        let path = temp.join(format!("testboxctl-{:016x}", random_id().map_err(failed)?));
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        Ok(OwnFolder(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        // While something is mounted there, which was told, nothing of this works.
        let files = fs::read_dir(&self.0).into_iter().flatten().flatten();
        for file in files {
            let _ = fs::remove_file(file.path());
        }
        let _ = fs::remove_dir(&self.0);
    }
}
