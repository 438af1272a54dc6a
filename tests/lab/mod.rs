//! The lab: a real chain of PXE ROM, PXELINUX, DHCP, TFTP, NFS server and Debian kernel around one or two emulated
//! machines, so that a scenario is a few lines.
//!
//! Every [`Lab`] lives in network, mount and process namespaces of its own: its servers have the ports and paths that
//! real ones have, two labs do not see each other, and nothing is left running when the lab goes.

mod advice;
mod alone;
mod assets;
mod console;
mod direct;
mod disk;
mod firmware;
mod machine;
mod manual;
mod pxe;
mod server;
mod share;
mod store;

pub use advice::Advice;
pub use assets::{browser_tools, debian_root, emulators};
pub use disk::{Bus, CARD_SERIAL, Disk};
pub use firmware::Uefi;
pub use machine::{Machine, Setup};
pub use manual::{block as manual_block, first_block_of_the_readme};

pub use pxe::{Boot, Station};
pub use server::Server;
pub use share::manifest;
pub use store::next_event;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Says on the screen what the lab does next; the demo is made of these lines.
macro_rules! narrate {
    ($($arg:tt)*) => { println!("\n\x1b[1m=== {}\x1b[0m", format_args!($($arg)*)) };
}
pub(crate) use narrate;

/// Runs a command to its end, and gives its output; a failure is the end of the scenario, with all that it said.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}:\n{text}{errors}", output.status);
    text.into_owned()
}

/// Polls until `probe` has an answer; [`None`] after `timeout`.
pub fn poll<T>(timeout: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + timeout;
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One server with its shares, and the place where machines are plugged in.
pub struct Lab {
    /// Console logs and server logs of this scenario: `target/lab-logs/<name>/`.
    pub logs: PathBuf,
    dir: tempfile::TempDir,
    holder: Child,
    /// Closing it ends the namespaces and all that runs in them.
    holder_stdin: Option<ChildStdin>,
    /// Process id, outside, of the namespaces' first process.
    init: String,
    nfsroot: PathBuf,
}

impl Lab {
    /// A lab with all its servers up and one unarmed default: boot from the local disk.
    pub fn new(name: &str) -> Lab {
        Lab::start(name, true, "", assets::boot_files())
    }

    /// The same, whose NFS root, kernel, initrd and UEFI loaders are another release of Debian's.
    pub fn of_suite(name: &str, suite: &str) -> Lab {
        Lab::start(name, true, "", assets::boot_files_of(suite, "amd64"))
    }

    /// The same with the NFS server down.
    pub fn without_nfs(name: &str) -> Lab {
        Lab::start(name, false, "", assets::boot_files())
    }

    /// The same whose machines boot by nothing: that is for `testboxctl serve`, see [`Lab::only_server`].
    pub fn without_boot_server(name: &str) -> Lab {
        Lab::start(name, false, "none", assets::boot_files())
    }

    /// The same with a DHCP server that knows nothing of booting.
    pub fn with_addresses_alone(name: &str) -> Lab {
        Lab::start(name, false, "addresses", assets::boot_files())
    }

    fn start(name: &str, nfs: bool, boot: &str, assets: assets::BootFiles) -> Lab {
        assert!(
            rustix::process::geteuid().is_root(),
            "the lab makes namespaces, mounts and an NFS server: run it as root"
        );
        let logs = assets::target_dir().join("lab-logs").join(name);
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs).unwrap();
        let dir = tempfile::Builder::new().prefix("testbox-lab-").tempdir_in("/var/tmp").unwrap();
        for share in ["backup", "tftp"] {
            fs::create_dir(dir.path().join(share)).unwrap();
        }
        run(Command::new("cp")
            .args(["-a", "--reflink=auto"])
            .arg(assets.tftp.join("."))
            .arg(dir.path().join("tftp")));
        fs::write(dir.path().join("hosts"), Station::hosts()).unwrap();

        let mut holder = alone::alone();
        holder
            .args(["bash", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/netns.sh")])
            .args([dir.path(), &logs, &assets.nfsroot])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(logs.join("servers.log")).unwrap());
        holder.env("LAB_BOOT", boot);
        if !nfs {
            holder.env("LAB_NO_NFS", "1");
        }
        let mut holder = holder.spawn().expect("unshare of util-linux");
        let mut ready = String::new();
        let _ = BufReader::new(holder.stdout.take().unwrap()).read_line(&mut ready);
        let holder_stdin = holder.stdin.take();
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let init = fs::read_to_string(children).unwrap_or_default().trim().to_owned();
        let lab = Lab { logs, dir, holder, holder_stdin, init, nfsroot: assets.nfsroot };
        assert_eq!(ready, "READY\n", "the servers did not start, see {}", lab.logs.display());
        lab.testboxctl("init");
        lab
    }

    /// A command that runs beside the servers: same network, same paths (`/export/testbox-*`).
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--pid", "-t", &self.init, "--", program]);
        command
    }

    /// Runs `testboxctl` beside the servers, where the shares have their usual paths, and gives what it says; a refusal
    /// ends the scenario.
    pub fn testboxctl(&self, words: &str) -> String {
        run(self.inside(assets::program("testboxctl").to_str().unwrap()).args(words.split_whitespace()))
    }

    /// The same of a run that ends with this code: what it says, also on standard error.
    pub fn testboxctl_ends(&self, code: i32, words: &str) -> String {
        let program = assets::program("testboxctl");
        let output = self.inside(program.to_str().unwrap()).args(words.split_whitespace()).output().unwrap();
        let text =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert_eq!(output.status.code(), Some(code), "{words}: {text}");
        text
    }

    /// `ssh` to the machine behind NAT, with the key that may log in unless the options say otherwise. What the machine
    /// shows as its host key is kept in the file `known_hosts` of this lab.
    pub fn ssh(&self, user: &str, options: &str, command: &str) -> Output {
        let known = self.file("known_hosts");
        let mut ssh = self.inside("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new", "-o"])
            .arg(format!("UserKnownHostsFile={}", known.display()))
            .arg("-i")
            .arg(assets::rescue_key())
            .args(options.split_whitespace())
            .args(["-p", &machine::SSH_PORT.to_string(), "-l", user, "127.0.0.1", command]);
        ssh.stdin(Stdio::null()).output().expect("ssh of openssh-client")
    }

    /// The fingerprint of the host key that [`Lab::ssh`] was shown.
    pub fn shown_fingerprint(&self) -> String {
        let output = Command::new("ssh-keygen").arg("-lf").arg(self.file("known_hosts")).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().find(|word| word.starts_with("SHA256:")).expect("a fingerprint").to_owned()
    }

    /// Stops or continues the NFS server where it stands; its clients see a server that does not answer.
    pub fn freeze_nfs(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        run(self.inside("sh").args(["-c", "kill $0 $(cat /run/ganesha/pid)", signal]));
    }

    /// Kills the NFS server: its port is closed.
    pub fn stop_nfs(&self) {
        let stop = "kill -KILL $(cat /run/ganesha/pid); while rpcinfo -t 127.0.0.1 nfs 3 >/dev/null 2>&1; do sleep 0.1; done";
        run(self.inside("sh").args(["-c", stop]));
    }

    /// Starts it again, until it answers.
    pub fn start_nfs(&self) {
        run(self.inside("sh").arg("/run/ganesha/start"));
    }

    /// Puts a file system of this size behind the export of the backup share. Its root, as seen from here.
    pub fn with_small_backup_share(&self, mib: u32) -> PathBuf {
        let image = self.file("backup.ext4");
        self.stop_nfs();
        let make = format!(
            "truncate -s {mib}M $0 && mkfs.ext4 -q -m 0 $0 && mount -o loop $0 /export/testbox-backup"
        );
        run(self.inside("sh").arg("-c").arg(make).arg(image));
        self.start_nfs();
        self.testboxctl("init");
        Path::new("/proc").join(&self.init).join("root/export/testbox-backup")
    }

    /// Puts what machines with arm64 boot by beside the rest on the TFTP share.
    pub fn add_arm64_boot_files(&self) {
        let files = assets::boot_files_of("bookworm", "arm64").tftp.join(".");
        run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(files).arg(self.tftp()));
    }

    /// The TFTP share.
    pub fn tftp(&self) -> PathBuf {
        self.dir.path().join("tftp")
    }

    /// The backup share.
    pub fn backup(&self) -> PathBuf {
        self.dir.path().join("backup")
    }

    /// The NFS root that is exported read-only; shared by all labs.
    pub fn nfsroot(&self) -> &Path {
        &self.nfsroot
    }

    /// A path for a file of this lab, gone with it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What the shares hold tells why; images are too large to keep.
            let keep = self.logs.join("shares");
            let _ = fs::create_dir_all(&keep);
            let _ = Command::new("sh")
                .args(["-c", "find backup tftp/pxelinux.cfg -type f -size -2048 | cpio -pdm --quiet \"$0\""])
                .arg(keep)
                .current_dir(self.dir.path())
                .status();
            let _ = writeln!(std::io::stderr(), "logs and shares are kept in {}", self.logs.display());
        }
        drop(self.holder_stdin.take());
        let _ = self.holder.wait();
    }
}
