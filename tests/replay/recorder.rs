//! A block device on this computer whose writes and flushes are recorded: a file, exported with `blklogwrites` between by
//! qemu-storage-daemon over FUSE, under a loop device.

use super::WriteLog;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The device. Dropping it takes it away.
pub struct Recorder {
    /// The loop device.
    pub path: String,
    log: PathBuf,
    daemon: Child,
}

impl Recorder {
    /// Records what is written to the file from now on; `dir` is for the log.
    pub fn new(dir: &Path, file: &Path) -> Recorder {
        let name = file.file_name().unwrap().to_str().unwrap();
        let (log, export) = (dir.join(format!("{name}.log")), dir.join(format!("{name}.export")));
        File::create(&log).unwrap();
        File::create(&export).unwrap();
        let size = fs::metadata(file).unwrap().len();
        let mut daemon = Command::new("qemu-storage-daemon");
        daemon
            .arg("--blockdev")
            .arg(format!("driver=file,node-name=disk,filename={}", file.display()))
            .arg("--blockdev")
            .arg(format!("driver=file,node-name=log,filename={}", log.display()))
            .args([
                "--blockdev",
                "driver=blklogwrites,node-name=recorded,file=disk,log=log,log-super-update-interval=1",
            ])
            .arg("--export")
            .arg(format!(
                "type=fuse,id=export,node-name=recorded,writable=on,mountpoint={}",
                export.display()
            ));
        let mut daemon =
            daemon.stdin(Stdio::null()).spawn().expect("qemu-storage-daemon of qemu-system-common");
        let end = Instant::now() + Duration::from_secs(60);
        while fs::metadata(&export).unwrap().len() != size {
            assert!(
                daemon.try_wait().unwrap().is_none() && Instant::now() < end,
                "qemu-storage-daemon: no export"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let found = run("losetup", &["--find", "--show", export.to_str().unwrap()]);
        let path = String::from_utf8(found.stdout).unwrap().trim().to_owned();
        Recorder { path, log, daemon }
    }

    /// Where the log is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Bytes of log so far.
    pub fn log_len(&self) -> u64 {
        fs::metadata(&self.log).unwrap().len()
    }

    /// Ends the recording.
    pub fn end(self) -> WriteLog {
        let log = self.log.clone();
        drop(self);
        WriteLog::parse(fs::read(log).unwrap()).unwrap()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.path]).status();
        // SIGTERM: it writes what is left of the log and takes its mount away.
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
    }
}

/// A mounted file system, unmounted when dropped.
pub struct Mounted(pub PathBuf);

impl Mounted {
    /// Mounts a device, or a file by a loop device of its own.
    pub fn new(what: &str, at: &Path, options: &str) -> Mounted {
        let _ = fs::create_dir(at);
        run("mount", &["-t", "ext4", "-o", options, what, at.to_str().unwrap()]);
        Mounted(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
