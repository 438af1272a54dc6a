//! `testboxctl serve` in place of an NFS server, beside the lab's boot server or in its place, too.

use super::pxe::Station;
use super::{Lab, assets, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The server while it runs.
pub struct StoreServer {
    child: Child,
    /// Where its machine is.
    at: Station,
    /// What `arm` is told of it, from the lines that it has printed.
    words: String,
}

impl Lab {
    /// Starts it for machines behind NAT; its key is made the first time.
    pub fn store(&self) -> StoreServer {
        self.serve(Station::Nat, "", &[])
    }

    /// The same, which tells this listener what jobs come to.
    pub fn store_that_tells(&self, listener: &TcpListener) -> StoreServer {
        let url = format!("http://{}/told", listener.local_addr().unwrap());
        self.serve(Station::Nat, "", &["--webhook", &url])
    }

    /// A port of the server's own.
    pub fn listener(&self) -> TcpListener {
        let network = File::open(format!("/proc/{}/ns/net", self.init)).unwrap();
        // In a thread of its own, which never leaves that network.
        let listen = std::thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            TcpListener::bind("127.0.0.1:0").unwrap()
        });
        listen.join().unwrap()
    }

    /// Starts it for a machine at the bridge, for which it is the only server: address, loader, kernel and store.
    pub fn only_server(&self, at: Station) -> StoreServer {
        self.serve(at, "--tftp --dhcp 10.9.0.100-10.9.0.200", &[])
    }

    /// The same beside a DHCP server that knows nothing of booting.
    pub fn proxy_server(&self, at: Station) -> StoreServer {
        self.serve(at, "--tftp --proxy-dhcp", &[])
    }

    fn serve(&self, at: Station, boot: &str, more: &[&str]) -> StoreServer {
        let log = File::options().create(true).append(true).open(self.logs.join("store.log")).unwrap();
        // What is started beside the servers would outlive the command that starts it.
        let mut serve: Command = self.inside("setpriv");
        serve.args(["--pdeathsig", "KILL"]).arg(assets::program("testboxctl"));
        serve.args(["serve", "--backup-dir", "/export/testbox-backup", "--tftp-dir", "/export/testbox-tftp"]);
        // Machines behind NAT reach the lab's own loopback.
        let host = if at == Station::Nat { "127.0.0.1" } else { at.server() };
        serve.args(["--listen", &format!("{host}:7443"), "--key"]).arg(self.file("store-key.pem"));
        serve.args(more);
        if !boot.is_empty() {
            let machines = format!("[{}]\naddress = \"{}\"\nmac = \"{}\"\n", "box-1", at.ip(), at.mac());
            std::fs::write(self.file("machines.toml"), machines).unwrap();
            serve.args(["--interface", "lab", "--machines"]).arg(self.file("machines.toml"));
            serve.args(boot.split(' ')).arg("--state-dir").arg(self.file("boot-state"));
        }
        let mut child = serve.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut value = || lines.next().unwrap().unwrap().split('"').nth(1).unwrap().to_owned();
        let key = value();
        let store = value().replace("127.0.0.1", at.server());
        let words = format!("--store {store} --store-key {key} --backup-dir /export/testbox-backup");
        let is_up = poll(Duration::from_secs(60), || {
            std::fs::read_to_string(self.logs.join("store.log")).ok().filter(|log| log.contains(" serves "))
        });
        assert!(is_up.is_some(), "the store did not start: {}", self.logs.join("store.log").display());
        StoreServer { child, at, words }
    }

    /// Arms the server's machine for it, as an admin does.
    pub fn arm_stored(&self, store: &StoreServer, action: &str) {
        let at = store.at;
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

/// The next event that a webhook brings; the scenario ends where none comes.
pub fn next_event(listener: &TcpListener) -> Value {
    listener.set_nonblocking(true).unwrap();
    let (mut stream, _) = poll(Duration::from_secs(120), || listener.accept().ok()).expect("nothing is told");
    stream.set_nonblocking(false).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
    serde_json::from_slice(&body).unwrap()
}
