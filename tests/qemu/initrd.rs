//! What the machines load, looked at without a machine.

use crate::lab::Lab;
use std::process::Command;

/// The agent in the initrd is the one that was built, and static: there is no library beside it. Prints its size. What udev and
/// modprobe are told is there, too: without it a boot is only slower, and no other test notices.
#[test]
fn the_agent_in_the_initrd_is_static() {
    let lab = Lab::new("initrd");
    // initramfs-tools of the NFS root take it apart, on a tmpfs that nobody else sees.
    let unpack = "mount -t tmpfs tmpfs $0/tmp && cp $1 $0/tmp/initrd && chroot $0 unmkinitramfs /tmp/initrd /tmp/files &&
        for file in lib/udev/rules.d/90-testbox-link.rules etc/modprobe.d/testbox.conf; do
            find -L $0/tmp/files -path \"*/$file\" | grep -q . || { echo \"no $file\" >&2; exit 1; }
        done &&
        cat $(find $0/tmp/files -name testbox-agent -type f)";
    let found = Command::new("unshare")
        .args(["--mount", "sh", "-ec", unpack])
        .arg(lab.nfsroot())
        .arg(lab.tftp().join("maintenance-boot/initrd.img"))
        .output()
        .unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let agent = lab.file("testbox-agent");
    std::fs::write(&agent, &found.stdout).unwrap();
    let headers = Command::new("readelf").args(["-dlW"]).arg(&agent).output().expect("readelf of binutils");
    let headers = String::from_utf8_lossy(&headers.stdout);
    assert!(headers.contains("LOAD"), "no program: {headers}");
    for dynamic in ["INTERP", "(NEEDED)"] {
        assert!(!headers.contains(dynamic), "the agent is not static: {headers}");
    }
    println!("testbox-agent in the initrd: static, {} bytes", found.stdout.len());
}
