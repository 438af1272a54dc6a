//! A lab in network namespaces: real DHCP servers, the real scripts of the initramfs with klibc's ipconfig, no emulator.

use crate::alone::alone;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/loop_network");

/// Server programs and initramfs-tools, unpacked where they are not there yet.
fn assets() -> &'static str {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| {
        let output = Command::new(format!("{HERE}/unpack.sh")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cannot unpack the servers: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

/// A network with a server's side, two machines, and a second server's place. All of it ends when it is dropped.
pub struct Lab {
    holder: Child,
    /// The first process in the namespaces.
    inside: u32,
    dir: tempfile::TempDir,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Lab {
    pub fn new() -> Lab {
        let assets = assets();
        let mut holder = alone()
            .args(["--uts", &format!("{HERE}/lab.sh")])
            .arg(assets)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare of util-linux");
        let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert_eq!(said.next().expect("the lab starts").unwrap(), "READY");
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let inside = fs::read_to_string(children).unwrap().trim().parse().unwrap();
        Lab { holder, inside, dir: tempfile::tempdir().unwrap() }
    }

    /// A shell command on the server's side, which goes away with the lab.
    pub fn command(&self, script: &str) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--net", "--mount", "--uts", "--pid", "--target", &self.inside.to_string()]);
        // A new mount namespace begins at its root.
        nsenter.args(["bash", "-euc", &format!("cd {}; {script}", self.dir.path().display())]);
        nsenter
    }

    /// Runs a command on the server's side, and gives what it said.
    pub fn run(&self, script: &str) -> String {
        let output = self.command(script).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{script}: {text}");
        text
    }

    /// A folder of this lab, on the server's side too.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Boots machine `m1` or `m2` with a kernel command line, as far as the network.
    pub fn boot_network(&self, name: &str, cmdline: &str) -> Booted {
        self.boot(name, "network", cmdline)
    }

    /// The same with the real agent, until the machine reboots.
    pub fn boot_all(&self, name: &str, cmdline: &str) -> Booted {
        self.boot(name, "all", cmdline)
    }

    fn boot(&self, name: &str, what: &str, cmdline: &str) -> Booted {
        let root = self.dir.path().join(format!("{name}-{}", fs::read_dir(self.dir.path()).unwrap().count()));
        fs::create_dir(&root).unwrap();
        let script = format!(
            "ip netns exec {name} unshare --mount --uts --pid --fork --kill-child {HERE}/machine.sh \
             {} {} {what} '{cmdline}'",
            root.display(),
            env!("CARGO_BIN_EXE_testbox-agent")
        );
        let output = self.command(&script).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let read = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
        Booted {
            conf: fs::read_to_string(root.join("run/net-eth0.conf")).ok(),
            console: format!("{said}{}{}", read("conf/kmsg"), read("dev/console")),
        }
    }

    /// Runs `work` in the network of a machine.
    pub fn within<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        let network = File::open(format!("/proc/{}/root/run/netns/{name}", self.inside)).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }
}

/// What a boot has left.
pub struct Booted {
    /// `/run/net-eth0.conf`, where there is one.
    pub conf: Option<String>,
    /// What was said.
    pub console: String,
}

impl Booted {
    /// The value of a variable.
    pub fn value(&self, name: &str) -> Option<String> {
        let start = format!("{name}='");
        let line = self.conf.as_ref()?.lines().find_map(|line| line.strip_prefix(&start))?;
        Some(line.trim_end_matches('\'').to_owned())
    }
}
