//! `testboxctl serve` beside the lab's boot server, in place of an NFS server.

use super::pxe::Station;
use super::{Lab, assets, poll};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Where machines behind NAT reach it: at the lab's own loopback.
const LISTEN: &str = "127.0.0.1:7443";

/// The server while it runs.
pub struct StoreServer {
    child: Child,
    /// What `arm` is told of it, from the lines that it has printed.
    words: String,
}

impl Lab {
    /// Starts it; its key is made the first time.
    pub fn store(&self) -> StoreServer {
        let log = File::options().create(true).append(true).open(self.logs.join("store.log")).unwrap();
        // What is started beside the servers would outlive the command that starts it.
        let mut serve: Command = self.inside("setpriv");
        serve.args(["--pdeathsig", "KILL"]).arg(assets::program("testboxctl"));
        serve.args(["serve", "--backup-dir", "/export/testbox-backup", "--tftp-dir", "/export/testbox-tftp"]);
        serve.args(["--listen", LISTEN, "--key"]).arg(self.file("store-key.pem"));
        let mut child = serve.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut value = || lines.next().unwrap().unwrap().split('"').nth(1).unwrap().to_owned();
        let key = value();
        let store = value().replace("127.0.0.1", Station::Nat.server());
        let words = format!("--store {store} --store-key {key} --backup-dir /export/testbox-backup");
        let is_up = poll(Duration::from_secs(60), || {
            std::fs::read_to_string(self.logs.join("store.log")).ok().filter(|log| log.contains(" serves "))
        });
        assert!(is_up.is_some(), "the store did not start: {}", self.logs.join("store.log").display());
        StoreServer { child, words }
    }

    /// Arms the machine for this store, as an admin does.
    pub fn arm_stored(&self, store: &StoreServer, action: &str) {
        let at = Station::Nat;
        let (ip, server, dns) = (at.ip(), at.server(), at.dns());
        self.testboxctl(&format!(
            "arm --server {server} --gateway {server} --netmask 255.255.255.0 --dns {dns} --boot testbox --console tty0 \
             --console ttyS0,115200 --extra no_timer_check --settle 2 --error-wait 1 --mount-wait 20 {} {ip} {action}",
            store.words
        ));
    }
}

impl StoreServer {
    /// Kills it, as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
