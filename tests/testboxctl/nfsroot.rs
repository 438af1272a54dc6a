//! `scripts/nfsroot/user` on an overlay of this computer's own root.

use std::fs;
use std::process::Command;

/// Runs commands beside a root `r`; gives their standard output.
fn beside_a_root(script: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "set -eu; mount -t tmpfs tmpfs .; mkdir u w r; mount -t overlay -o lowerdir=/,upperdir=u,workdir=w overlay r\n\
         echo ssh-ed25519 AAAA first >a.pub; echo ssh-ed25519 AAAA second >b.pub\n\
         user() {{ \"$USER_SCRIPT\" r \"$@\" >&2; }}\n\
         can() {{ chroot r id -Gn \"$1\" 2>/dev/null | grep -cw sudo || :; }}\n\
         keys() {{ cat r/home/*/.ssh/authorized_keys r/etc/dropbear/initramfs/authorized_keys 2>/dev/null | cut -d' ' -f3 | sort -u | xargs; }}\n\
         for u in $(chroot r getent group sudo | cut -d: -f4 | tr , ' '); do chroot r gpasswd -d $u sudo >/dev/null; done\n\
         {script}"
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation=private", "sh", "-c", &script])
        .env("USER_SCRIPT", concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/nfsroot/user"))
        .current_dir(fs::canonicalize(dir.path()).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Who was let in once is not let in for ever.
#[test]
fn loop_the_earlier_rescue_user_goes_with_keys_and_sudo() {
    let seen = beside_a_root(
        "user tbone a.pub ''; echo $(can tbone) $(keys)\n\
         user tbtwo b.pub ''; echo $(can tbtwo) $(keys); ls -d r/home/tb*; chroot r id tbone >/dev/null 2>&1 || echo gone\n\
         user '' '' ''; echo $(can tbtwo) $(keys)\n\
         user tbthree '' 'x'; echo $(can tbthree) none: $(keys)\n\
         user root '' ''; chroot r id tbthree >/dev/null 2>&1 || echo gone; user tbone '' ''; chroot r id -u root\n",
    );
    assert_eq!(seen, "1 first\n1 second\nr/home/tbtwo\ngone\n1 second\n1 none:\ngone\n0\n");
}

/// A root of a version that did not record its user.
#[test]
fn loop_a_root_without_a_record_loses_other_users_of_sudo() {
    let seen = beside_a_root(
        "chroot r useradd --create-home --groups sudo tbone; mkdir r/home/tbone/.ssh; cp a.pub r/home/tbone/.ssh/authorized_keys\n\
         user '' '' ''; cat r/etc/testbox-rescue-user; keys; rm r/etc/testbox-rescue-user\n\
         user testbox b.pub ''; echo $(can testbox) $(keys); chroot r id tbone >/dev/null 2>&1 || echo gone\n",
    );
    assert_eq!(seen, "tbone\nfirst\n1 second\ngone\n");
}
