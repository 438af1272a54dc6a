//! A server that is a machine too, set up by the manual's own lines: Linux's NFS server on XFS, rpcbind, mountd, dnsmasq,
//! `testboxctl`. Not run there: the installation of packages and `scripts/make-nfsroot`, which take an hour on an
//! emulated machine; both are done here, with the manual's packages and by that script.

use super::machine::{self, Machine};
use super::{Lab, assets, manual, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the server's end of the cable is, beside the lab's servers.
pub(super) const CABLE: &str = "127.0.0.1:4242";

/// What the first lines of the manual presume: an address of its own, and a folder for the shares; at the end a shell
/// that the scenario types into.
const BEFORE: &str = "set -e\nstty -echo\nip address add 10.42.1.1/24 dev eth0\nip link set eth0 up\n\
                      mount /dev/vdb /export\ncd /srv/testbox\n";
const AFTER: &str = "set +e\necho SERVER-READY\nwhile read -r line; do\necho COMMAND-STARTS\n\
                     sh -c \"$line\" </dev/null 2>&1\necho \"COMMAND-ENDED $?.\"\ndone\n";

/// The server while it runs. Its client is a machine at [`super::Station::Wire`].
pub struct Server {
    machine: Machine,
    export: PathBuf,
}

impl Lab {
    /// Starts it, and waits until all lines have been run.
    pub fn manual_server(&self) -> Server {
        let export = self.file("export.xfs");
        self.make_export(&export);
        let files = self.file("server.tar");
        self.make_files(&files);
        let disk = assets::server_disk();
        let append = "root=/dev/vda rw net.ifnames=0 console=ttyS0,115200 quiet no_timer_check \
                      systemd.default_timeout_start_sec=900";
        let words = format!(
            "-nodefaults -no-user-config -M q35,graphics=off -accel tcg,thread=multi -vga none -display none -m 1024 \
             -serial stdio -qmp unix:@qmp,server=on,wait=off -kernel {disk}/vmlinuz -initrd {disk}/initrd.img -append @append \
             -drive if=virtio,format=raw,snapshot=on,file={disk}/root -drive if=virtio,format=raw,file={} \
             -drive if=virtio,format=raw,readonly=on,file={} -netdev socket,id=net,listen={CABLE} \
             -device virtio-net-pci,netdev=net,mac=52:54:00:00:00:01",
            export.display(),
            files.display(),
            disk = disk.display()
        );
        let arguments = |qmp: &str| {
            let words = words.split_whitespace();
            words.map(|word| word.replace("@append", append).replace("@qmp", qmp)).collect()
        };
        // One for its client.
        let permits = machine::Permit::take::<2>().into();
        let mut machine = Machine::start(self, "qemu-system-x86_64", "server", arguments, permits);
        machine.wait_for("SERVER-READY", 1200);
        Server { machine, export }
    }

    /// The file system for the shares, with what `scripts/make-nfsroot` has made.
    fn make_export(&self, export: &Path) {
        let assets = assets::boot_files();
        let make = r#"truncate -s 4G "$0" && mkfs.xfs -q "$0" && mkdir "$0.d" && mount -o loop "$0" "$0.d"
            cp -a "$1" "$0.d/testbox-nfsroot" && cp -a "$2" "$0.d/testbox-tftp"; umount "$0.d""#;
        run(self.inside("sh").args(["-ec", make]).arg(export).args([&assets.nfsroot, &assets.tftp]));
    }

    /// What is unpacked on the server: the program where `scripts/build` leaves it, and the manual's lines as a script.
    fn make_files(&self, tar: &Path) {
        let root = self.file("server.d");
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let built = "srv/testbox/target/x86_64-unknown-linux-musl/release/testboxctl";
        put(built, "");
        fs::copy(assets::program("testboxctl"), root.join(built)).unwrap();
        put("srv/dnsmasq", &manual::block(&["dhcp-host=", "tftp-root="]));
        put(
            "etc/systemd/system/testbox-store.service",
            include_str!("../../scripts/debian/testbox-store.service"),
        );
        // What a busy emulated machine needs beside the manual's settings.
        let settings = manual::block(&["server  =", "console ="]);
        put("srv/settings", &format!("{settings}extra = [\"no_timer_check\"]\nsettle = 2\n"));
        let lines = [
            manual::line("install -m 755"),
            manual::line("sudo testboxctl init --network") + " | tee /srv/said",
            // It prints commands for owners and exports, to be pasted into a root shell, then three ways to do DHCP.
            "sed -n '/^# 1\\./,/^# 3\\./p' /srv/said | sh -e".to_owned(),
            "cp /srv/dnsmasq /etc/dnsmasq.d/testbox.conf".to_owned(),
            "systemctl restart dnsmasq".to_owned(),
            "cp /srv/settings /etc/testbox.toml".to_owned(),
        ];
        put("srv/setup", &format!("{BEFORE}{}\n{AFTER}", lines.join("\n")));
        run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(tar).args([
            "--owner=root",
            "srv",
            "etc",
        ]));
    }
}

impl Server {
    /// Runs a line on the server, and gives what it says; its failure ends the scenario.
    pub fn run(&mut self, line: &str) -> String {
        self.machine.type_line(line);
        self.machine.wait_for("COMMAND-STARTS", 60);
        self.machine.wait_for("COMMAND-ENDED", 300);
        let said = self.machine.said();
        let (text, status) = said
            .rsplit_once("COMMAND-STARTS")
            .and_then(|(_, told)| told.rsplit_once("COMMAND-ENDED "))
            .unwrap();
        if !status.starts_with("0.") {
            self.machine.fail(&format!("'{line}' failed on the server"));
        }
        text.trim().to_owned()
    }

    /// Pulls its plug, and gives the bytes of a file of the shares as they are on its disk.
    pub fn cut_power_and_read(&mut self, lab: &Lab, path: &str) -> PathBuf {
        self.machine.cut_power();
        let to = lab.file("from-server");
        let read = r#"mount -o loop "$0" "$0.d" && cp "$0.d/$1" "$2"; umount "$0.d""#;
        run(lab.inside("sh").args(["-ec", read]).arg(&self.export).arg(path).arg(&to));
        to
    }
}
