//! The Debian packages, in a clean Debian.

use crate::lab::{Lab, debian_root, poll, run};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// All packages with this version.
fn packages(lab: &Lab, version: &str) -> [PathBuf; 3] {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let make = |script: &str| {
        let mut command = Command::new(top.join("scripts").join(script));
        command.env("TESTBOX_PACKAGE_VERSION", version);
        command
    };
    run(&mut make("package"));
    run(make("package-boot").arg(lab.tftp()));
    ["testboxctl", "testbox-agent", "testbox-boot"].map(|name| {
        let arch = if name == "testbox-boot" { "all" } else { "amd64" };
        top.join(format!("target/debian/{name}_{version}_{arch}.deb"))
    })
}

/// The server of a lab without an NFS root, as the unit starts it, in this root; gone with it.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `init` needs of other packages.
const LOADERS: &str = "mkdir -p /srv/loaders && touch /srv/loaders/pxelinux.0 /srv/loaders/ldlinux.c32";

/// `init`, `serve` as the account of the package, and an ordinary user of its group who arms and looks, by the server.
fn serves_an_ordinary_user(lab: &Lab, root: &Path) {
    let within = |line: &str| run(lab.inside("chroot").arg(root).args(["sh", "-ec", line]));
    within(LOADERS);
    // The server starts itself once more for each command.
    run(lab.inside("mount").args(["-t", "proc", "proc"]).arg(root.join("proc")));
    // Whose the folders are is what it prints, to be pasted.
    within(
        "testboxctl init --pxelinux-dir /srv/loaders --modules-dir /srv/loaders >/srv/said
         sed -n '/^# 1\\./,/^# 2\\./p' /srv/said | sh -e
         cmp /usr/lib/testbox/boot/vmlinuz /export/testbox-tftp/maintenance-boot/vmlinuz
         cmp /usr/lib/testbox/boot/initrd.img /export/testbox-tftp/maintenance-boot/initrd.img
         useradd -G testbox alice && install -d -o testbox -g testbox -m 755 /run/testbox",
    );
    // The unit's own command, without what only systemd can do.
    let unit = std::fs::read_to_string(root.join("usr/lib/systemd/system/testbox-store.service")).unwrap();
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let command = command.replace("$SERVE_OPTIONS", "--listen 127.0.0.1:7443");
    let mut serve = lab.inside("chroot");
    serve.arg(root).args([
        "setpriv",
        "--reuid",
        "testbox",
        "--regid",
        "testbox",
        "--clear-groups",
        "--pdeathsig",
        "KILL",
    ]);
    serve.args(["sh", "-c", &format!("umask 027; exec {command}")]);
    let mut child = serve.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let _serving = Serving(child);
    // What it prints is for the settings file.
    let settings: Vec<String> =
        lines.map_while(Result::ok).filter(|line| line.starts_with("store")).take(2).collect();
    assert_eq!(settings.len(), 2, "it does not start");
    let is_open = || root.join("run/testbox/admin.sock").exists().then_some(());
    poll(Duration::from_secs(60), is_open).expect("the socket is there");
    std::fs::write(root.join("etc/testbox.toml"), settings.join("\n") + "\n").unwrap();
    let alice = |words: &str| {
        within(&format!("runuser -u alice -- testboxctl --via /run/testbox/admin.sock {words}"))
    };
    let armed = alice("arm --boot testbox --server 10.42.1.1 --expires 12h 10.42.1.20 backup");
    assert!(armed.contains("10.42.1.20: armed with backup"), "{armed}");
    let status = alice("status");
    assert!(status.contains("10.42.1.20 -    armed"), "{status}");
    assert!(status.contains("by alice (uid ") && status.contains(", expires "), "{status}");
    within("test \"$(stat -c %U /export/testbox-tftp/pxelinux.cfg/0A2A0114)\" = testbox");
    within("! runuser -u nobody -- testboxctl --via /run/testbox/admin.sock status");
    let disarmed = alice("disarm 10.42.1.20");
    assert!(disarmed.contains("10.42.1.20"), "{disarmed}");
}

/// Installed, used, upgraded and removed: programs, pages, unit, account and initramfs are what they should be after each, and what an
/// admin has made stays.
#[test]
fn packages_go_into_a_clean_debian_and_out_again() {
    let lab = Lab::without_boot_server("packages");
    let root = lab.file("root");
    std::fs::create_dir(&root).unwrap();
    run(Command::new("tar").arg("-C").arg(&root).arg("-xf").arg(debian_root()));
    // The lab's roots leave the pages out.
    run(Command::new("sh").args(["-c", "rm -f \"$0\"/etc/dpkg/dpkg.cfg.d/*"]).arg(&root));
    let within = |line: &str| run(Command::new("chroot").arg(&root).args(["sh", "-ec", line]));
    let install = |packages: &[PathBuf]| {
        for package in packages {
            std::fs::copy(package, root.join("srv").join(package.file_name().unwrap())).unwrap();
        }
        within("dpkg --install /srv/*.deb && rm /srv/*.deb")
    };
    let has_agent =
        || within("lsinitramfs /boot/initrd.img-* | grep -c sbin/testbox-agent || true").trim() == "1";

    let told = install(&packages(&lab, "0.0.1"));
    assert!(told.contains("Setting up testboxctl (0.0.1)"), "{told}");
    assert!(has_agent(), "the initramfs has the agent");
    for line in [
        "testboxctl --version | grep -E '^testboxctl [0-9.]+( \\([0-9a-f]+\\))?$'",
        "getent passwd testbox | grep /usr/sbin/nologin && getent group testbox",
        "test \"$(stat -c '%U %a' /etc/testbox)\" = 'testbox 750'",
        "grep -q complete /usr/share/bash-completion/completions/testboxctl",
        "zcat /usr/share/man/man1/testboxctl-arm.1.gz | grep -q 'testboxctl arm'",
        "systemd-analyze verify --man=no /usr/lib/systemd/system/testbox-store.service /usr/lib/systemd/system/testbox-verify.timer",
        "grep -q testboxctl /usr/share/zsh/vendor-completions/_testboxctl /usr/share/fish/vendor_completions.d/testboxctl.fish",
        "dpkg --verify testboxctl testbox-agent testbox-boot",
    ] {
        within(line);
    }
    serves_an_ordinary_user(&lab, &root);
    within("echo own >/etc/testbox/machines.toml && touch /export/testbox-backup/kept");
    let told = install(&packages(&lab, "0.0.2"));
    assert!(told.contains("testboxctl (0.0.2) over (0.0.1)"), "{told}");
    within("dpkg --remove testboxctl testbox-agent testbox-boot && ! command -v testboxctl");
    assert!(!has_agent(), "the agent is gone from the initramfs");
    within("test -e /etc/testbox/machines.toml -a -e /export/testbox-backup/kept && getent passwd testbox");
    within("dpkg --purge testboxctl testbox-agent testbox-boot && test -e /export/testbox-backup/kept");
}
