//! The Debian packages, in a clean Debian: from there to the first backup by the README, and out again.

use crate::first_backup::CleanServer;
use crate::lab::{Lab, debian_root, run};
use std::path::{Path, PathBuf};
use std::process::Command;

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
    let put = |packages: &[PathBuf]| {
        for package in packages {
            std::fs::copy(package, root.join("srv").join(package.file_name().unwrap())).unwrap();
        }
    };
    let install = |packages: &[PathBuf]| {
        put(packages);
        within("dpkg --install /srv/*.deb && rm /srv/*.deb")
    };
    let has_agent =
        || within("lsinitramfs /boot/initrd.img-* | grep -c sbin/testbox-agent || true").trim() == "1";

    let [ctl, agent, boot] = packages(&lab, "0.0.1");
    put(&[ctl, boot]);
    let server = CleanServer::begin(&lab, &root);
    within("rm /srv/*.deb");
    install(&[agent]);
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
    drop(server);
    within("echo own >/etc/testbox/machines.toml && touch /export/testbox-backup/kept");
    let told = install(&packages(&lab, "0.0.2"));
    assert!(told.contains("testboxctl (0.0.2) over (0.0.1)"), "{told}");
    within("dpkg --remove testboxctl testbox-agent testbox-boot && ! command -v testboxctl");
    assert!(!has_agent(), "the agent is gone from the initramfs");
    within("test -e /etc/testbox/machines.toml -a -e /export/testbox-backup/kept && getent passwd testbox");
    within("dpkg --purge testboxctl testbox-agent testbox-boot && test -e /export/testbox-backup/kept");
}
