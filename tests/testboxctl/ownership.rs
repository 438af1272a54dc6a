//! Who owns what on the shares: what `init` makes and prints, done and looked at.

use super::Lab;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

const INIT: &str = "init --tftp-dir t --backup-dir b --pxelinux-dir px --modules-dir mod --boot-files k i \
                    --network 10.42.1.0/24";

/// A folder with what `init` takes boot files from, which other accounts may enter.
fn lab() -> Lab {
    let lab = Lab::empty();
    for (name, bytes) in
        [("px/pxelinux.0", "loader"), ("mod/ldlinux.c32", "core"), ("k", "kernel"), ("i", "initrd")]
    {
        lab.write(name, bytes.as_bytes());
    }
    fs::set_permissions(lab.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    lab
}

fn init(lab: &Lab) -> String {
    lab.run(&INIT.split_whitespace().collect::<Vec<_>>()).expect(0, &[]).out
}

/// The lines between two headings of what `init` prints: commands for a root shell.
fn commands(text: &str) -> &str {
    let from = text.find("# 1. ").unwrap();
    &text[from..text.find("# 3. ").unwrap()]
}

/// Runs a script as root where /etc is a copy and no NFS server is told anything; gives its standard output.
fn on_a_server(lab: &Lab, script: &str) -> String {
    lab.write("bin/exportfs", b"#!/bin/sh\n");
    fs::set_permissions(lab.path("bin/exportfs"), fs::Permissions::from_mode(0o755)).unwrap();
    let script = format!(
        "set -eu; PATH=$PWD/bin:$PATH; mkdir -p etc; cp -a /etc/. etc; rm -rf etc/exports etc/exports.d; mount --bind etc /etc\n\
         ctl() {{ \"$CTL\" --config settings.toml \"$@\"; }}\nas() {{ setpriv --reuid \"$1\" --regid \"$1\" --clear-groups -- \
         sh -c \"$2\"; }}\n{script}"
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation=private", "sh", "-c", &script])
        .env("CTL", env!("CARGO_BIN_EXE_testboxctl"))
        .current_dir(lab.dir.path())
        .output()
        .unwrap();
    let _ = fs::remove_dir_all(lab.path("etc"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn init_prints_nothing_that_must_be_unescaped() {
    let lab = lab();
    lab.write("t/pxelinux.cfg/default", b"DEFAULT menu\n");
    let run = lab.run(&INIT.split_whitespace().collect::<Vec<_>>());
    assert_eq!(run.code, 1);
    assert!(!run.out.contains("\\n") && run.out.contains("\n  LOCALBOOT 0\n"), "{}", run.out);
    for part in ["dhcp-range=10.42.1.0,proxy", "next-server", "PXELINUX", "iPXE", "--boot-server"] {
        assert!(run.out.contains(part), "{part}");
    }
    let status = Command::new("sh").args(["-n", "-c", commands(&run.out)]).status().unwrap();
    assert!(status.success(), "the commands are a script");
}

/// The umask of the shell does not decide who reads the shares.
#[test]
fn init_makes_shares_with_their_modes_under_any_umask() {
    for umask in ["000", "022", "077"] {
        let lab = lab();
        let script = format!("umask {umask}; exec \"$0\" --config settings.toml {INIT} >/dev/null");
        let status = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_testboxctl")])
            .current_dir(lab.dir.path())
            .status();
        assert!(status.unwrap().success());
        for name in
            ["t/pxelinux.0", "t/bios/ldlinux.c32", "t/maintenance-boot/vmlinuz", "t/pxelinux.cfg/default"]
        {
            assert_eq!(fs::metadata(lab.path(name)).unwrap().mode() & 0o777, 0o644, "{umask} {name}");
        }
        for name in ["t", "t/bios", "t/maintenance-boot"] {
            assert_eq!(fs::metadata(lab.path(name)).unwrap().mode() & 0o777, 0o755, "{umask} {name}");
        }
        for name in ["b", "b/testbox-backup"] {
            assert_eq!(fs::metadata(lab.path(name)).unwrap().mode() & 0o027, 0, "{umask} {name}");
        }
    }
}

/// A share of an earlier version, where everything is nobody's and open, and what becomes of it by the printed commands.
#[test]
fn loop_the_printed_commands_leave_kernel_and_default_to_root() {
    let lab = lab();
    init(&lab);
    for name in ["b/10.42.1.20/sda.raw.gz", "b/10.42.1.20/history/3/sda.raw.gz", "t/pxelinux.cfg/0A2A0115"] {
        lab.write(name, b"x");
    }
    let open = "chown -R nobody t b; chmod -R a+rwX t b; chmod 0777 t/pxelinux.cfg t/testbox.cfg";
    let text = init(&lab);
    let seen = on_a_server(
        &lab,
        &format!(
            "{open}\n{}\n{}\nctl arm --tftp-dir t --backup-dir b --server 10.42.1.1 10.42.1.20 backup >/dev/null\n\
             for f in t t/bios t/maintenance-boot t/maintenance-boot/vmlinuz t/pxelinux.0 t/pxelinux.cfg t/pxelinux.cfg/default \
             t/testbox.cfg t/pxelinux.cfg/0A2A0114 t/pxelinux.cfg/0A2A0115 b b/10.42.1.20 b/10.42.1.20/history/3 \
             b/10.42.1.20/sda.raw.gz b/testbox-backup\ndo stat -c '%n %U:%G %a' $f; done\n\
             T=$(id -u testbox)\n\
             for f in t/maintenance-boot/vmlinuz t/pxelinux.0 t/bios/ldlinux.c32 t/pxelinux.cfg/default; do\n\
             as $T \"echo x >>$f\" 2>/dev/null && echo WRITES $f; as $T \"rm -f $f\" 2>/dev/null && echo REMOVES $f\n\
             as $T \"mv $f $f.old\" 2>/dev/null && echo RENAMES $f; done\n\
             as 65534 'cat t/pxelinux.cfg/0A2A0114 t/maintenance-boot/vmlinuz' >/dev/null\n\
             as 65534 'cat b/10.42.1.20/sda.raw.gz' 2>/dev/null && echo READS image\n\
             as $T 'rm t/pxelinux.cfg/0A2A0114 t/pxelinux.cfg/0A2A0115; umask 022; mkdir -m 750 b/10.42.1.21; \
             echo >b/10.42.1.21/log'\n\
             stat -c '%n %U:%G %a' b/10.42.1.21\n\
             sed \"s/=$T\\b/=UID/; s/=$(id -g testbox)\\b/=GID/\" /etc/exports.d/testbox.exports\n",
            commands(&text),
            // Once more changes nothing.
            commands(&text),
        ),
    );
    let here = lab.dir.path().canonicalize().unwrap();
    let squashed = "10.42.1.0/24(rw,sync,no_subtree_check,all_squash,anonuid=UID,anongid=GID)";
    let expected = format!(
        "t root:root 755\nt/bios root:root 755\nt/maintenance-boot root:root 755\nt/maintenance-boot/vmlinuz root:root 644\n\
         t/pxelinux.0 root:root 644\nt/pxelinux.cfg root:testbox 3775\nt/pxelinux.cfg/default root:root 644\n\
         t/testbox.cfg root:testbox 3775\nt/pxelinux.cfg/0A2A0114 testbox:testbox 644\n\
         t/pxelinux.cfg/0A2A0115 testbox:testbox 644\nb testbox:testbox 2750\nb/10.42.1.20 testbox:testbox 2750\n\
         b/10.42.1.20/history/3 testbox:testbox 2750\nb/10.42.1.20/sda.raw.gz testbox:testbox 640\n\
         b/testbox-backup testbox:testbox 640\nb/10.42.1.21 testbox:testbox 2750\n\
         {0}/b\t{squashed}\n{0}/t\t{squashed}\n\
         /export/testbox-nfsroot\t10.42.1.0/24(ro,sync,no_subtree_check,no_root_squash)\n",
        here.display()
    );
    assert_eq!(seen, expected);
}

/// Where the account is there, `init` makes new shares with their owners, and arms so that the machine can disarm.
#[test]
fn loop_new_shares_are_the_accounts_from_the_beginning() {
    let lab = lab();
    let seen = on_a_server(
        &lab,
        &format!(
            "groupadd --system testbox; useradd --system --gid testbox testbox; umask 077; ctl {INIT} >/dev/null\n\
             ctl arm --tftp-dir t --server 10.42.1.1 10.42.1.20 backup 2>&1 >/dev/null\n\
             stat -c '%n %U:%G %a' b b/testbox-backup t/pxelinux.cfg t/testbox.cfg t/pxelinux.cfg/default t/pxelinux.cfg/0A2A0114\n\
             chmod 755 t/pxelinux.cfg; ctl arm --tftp-dir t --server 10.42.1.1 10.42.1.20 backup 2>&1 >/dev/null | cut -c 1-8"
        ),
    );
    assert_eq!(
        seen,
        "b testbox:testbox 2750\nb/testbox-backup testbox:testbox 640\nt/pxelinux.cfg root:testbox 3775\n\
         t/testbox.cfg root:testbox 3775\nt/pxelinux.cfg/default root:testbox 644\n\
         t/pxelinux.cfg/0A2A0114 testbox:testbox 644\nwarning:\n"
    );
}
