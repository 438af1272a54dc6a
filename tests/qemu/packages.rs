//! The Debian packages, in a clean Debian.

use crate::lab::{Lab, debian_root, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Both packages with this version.
fn packages(version: &str) -> [PathBuf; 2] {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    run(Command::new(top.join("scripts/package")).env("TESTBOX_PACKAGE_VERSION", version));
    ["testboxctl", "testbox-agent"].map(|name| top.join(format!("target/debian/{name}_{version}_amd64.deb")))
}

/// Installed, upgraded and removed: programs, pages, unit, account and initramfs are what they should be after each, and what an
/// admin has made stays.
#[test]
fn packages_go_into_a_clean_debian_and_out_again() {
    let lab = Lab::without_nfs("packages");
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

    let told = install(&packages("0.0.1"));
    assert!(told.contains("Setting up testboxctl (0.0.1)"), "{told}");
    assert!(has_agent(), "the initramfs has the agent");
    for line in [
        "testboxctl --version | grep -E '^testboxctl [0-9.]+( \\([0-9a-f]+\\))?$'",
        "getent passwd testbox | grep /usr/sbin/nologin && getent group testbox",
        "test \"$(stat -c '%U %a' /etc/testbox)\" = 'testbox 750'",
        "grep -q complete /usr/share/bash-completion/completions/testboxctl",
        "zcat /usr/share/man/man1/testboxctl-arm.1.gz | grep -q 'testboxctl arm'",
        "systemd-analyze verify --man=no /usr/lib/systemd/system/testbox-store.service /usr/lib/systemd/system/testbox-verify.timer",
        "dpkg --verify testboxctl testbox-agent",
    ] {
        within(line);
    }
    within(
        "mkdir -p /export/testbox-backup && echo own >/etc/testbox/machines.toml && touch /export/testbox-backup/kept",
    );
    let told = install(&packages("0.0.2"));
    assert!(told.contains("testboxctl (0.0.2) over (0.0.1)"), "{told}");
    within("dpkg --remove testboxctl testbox-agent && ! command -v testboxctl");
    assert!(!has_agent(), "the agent is gone from the initramfs");
    within("test -e /etc/testbox/machines.toml -a -e /export/testbox-backup/kept && getent passwd testbox");
    within("dpkg --purge testboxctl testbox-agent && test -e /export/testbox-backup/kept");
}
