//! `arm` and `disarm`.

use super::{FILE, Lab};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

#[test]
fn arm_writes_the_file_that_pxelinux_loads_for_this_machine() {
    let lab = Lab::new();
    lab.arm(&["--job", "j1", "10.42.1.20", "backup"]).expect(0, &["10.42.1.20: armed with backup, job j1"]);
    let expected = format!(
        "# testboxctl {}: backup, job j1\nPATH bios\nDEFAULT maintenance\nPROMPT 0\nTIMEOUT 0\n\
        NOESCAPE 1\nALLOWOPTIONS 0\nIMPLICIT 0\n\n\
         LABEL maintenance\n  MENU LABEL Maintenance\n  KERNEL maintenance-boot/vmlinuz\n  \
         APPEND initrd=maintenance-boot/initrd.img testbox.action=backup testbox.job=j1 ro boot=nfs root=/dev/nfs \
         nfsroot=10.42.1.1:/export/testbox-nfsroot,ro,tcp,vers=3 ip=dhcp \
         testbox.backup=10.42.1.1:/export/testbox-backup testbox.tftp=10.42.1.1:/export/testbox-tftp \
         testbox.armed-file=pxelinux.cfg/0A2A0114 testbox.boot-server=10.42.1.1 panic=300\n  \
         SYSAPPEND 2\n\nLABEL local-boot\n  MENU LABEL Local disk\n  LOCALBOOT 0\n",
        env!("CARGO_PKG_VERSION")
    );
    let text = String::from_utf8(lab.read(FILE)).unwrap();
    let (head, rest) = text.split_once("\nPATH").unwrap();
    let by = head.lines().nth(1).unwrap();
    assert!(by.starts_with("# by ") && by.contains("uid ") && by.contains(" at 2"), "{by}");
    assert_eq!(format!("{}\nPATH{rest}", head.lines().next().unwrap()), expected);
    let mode = fs::metadata(lab.path(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "TFTP servers read as nobody");
    let names = fs::read_dir(lab.path("t/pxelinux.cfg")).unwrap().count();
    assert_eq!(names, 2, "no temporary file is left");
    lab.arm(&["10.42.1.20", "rescue"]).expect(0, &["instead of backup, job j1"]);
}

#[test]
fn every_flag_reaches_the_file() {
    let lab = Lab::new();
    lab.write("b/10.42.1.20/sda.raw.gz", b"");
    let flags = "--gateway 10.42.1.254 --netmask 255.255.255.0 --boot testbox --backup nas:/b,vers=4.2 --tftp nas:/t \
                 --dns 10.0.0.1,10.0.0.2 --name tb1 --kernel maintenance-boot/vmlinuz --console tty0 \
                 --console ttyS0,115200 --extra quiet --extra -x --disks sda,serial=A%20B --map sda:serial=X --keep 2 --delta never --used off --free discard \
                 --boot-server 10.42.1.3 --settle 1 --union aufs --reboot hold --on-error shell --error-wait 5 --attempts 3 --mount-wait 9 \
                 --share-wait 10 --net-wait 8";
    let words: Vec<&str> = flags.split_whitespace().chain(["10.42.1.20", "restore"]).collect();
    lab.arm(&words).expect(0, &[]);
    let file = String::from_utf8(lab.read(FILE)).unwrap();
    let append = file.lines().find(|l| l.contains("APPEND")).unwrap();
    for word in [
        "testbox.action=restore",
        "boot=testbox",
        "ip=10.42.1.20:10.42.1.1:10.42.1.254:255.255.255.0:maintenance:",
        "testbox.backup=nas:/b,vers=4.2",
        "testbox.tftp=nas:/t",
        "testbox.dns=10.0.0.1,10.0.0.2",
        "testbox.name=tb1",
        "console=tty0",
        "console=ttyS0,115200",
        "quiet",
        "-x",
        "testbox.disks=sda,serial=A%20B",
        "testbox.map=sda:serial=X",
        "testbox.keep=2",
        "testbox.delta=never",
        "testbox.used=off",
        "testbox.free=discard",
        "testbox.settle=1",
        "testbox.union=aufs",
        "testbox.reboot=hold",
        "testbox.on-error=shell",
        "testbox.error-wait=5",
        "testbox.attempts=3",
        "testbox.mount-wait=9",
        "testbox.share-wait=10",
        "testbox.net-wait=8",
        "testbox.boot-server=10.42.1.3",
        "panic=300",
    ] {
        assert!(append.split(' ').any(|w| w == word), "{word} is not in {append}");
    }
}

#[test]
fn a_dry_run_shows_the_file_and_writes_nothing() {
    let lab = Lab::new();
    let before = lab.snapshot();
    let run = lab.arm(&["--dry-run", "--job", "j1", "10.42.1.20", "backup"]).expect(0, &["nothing was"]);
    assert!(run.out.starts_with("# testboxctl "), "standard output is the file alone: {}", run.out);
    assert_eq!(lab.snapshot(), before);
    lab.arm(&["--job", "j1", "10.42.1.20", "backup"]).expect(0, &[]);
    assert_eq!(String::from_utf8(lab.read(FILE)).unwrap(), run.out);
}

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The store knows each job before its machine does, by the hash of a token that only the armed file has.
#[test]
fn for_a_store_each_machine_gets_a_token_of_its_own() {
    let lab = Lab::new();
    let store = ["--store", "https://10.42.1.1", "--store-key", KEY];
    let words = [&store[..], &["10.42.1.20", "10.42.1.21", "backup"]].concat();
    lab.arm(&words).expect(0, &["2 of 2 machines armed"]);
    let token_of = |file: &str| {
        let text = String::from_utf8(lab.read(file)).unwrap();
        assert!(text.contains("testbox.store=https://10.42.1.1:7443") && text.contains(KEY), "{text}");
        assert!(!text.contains("testbox.backup="), "the server's share is not used: {text}");
        let (_, rest) = text.split_once("testbox.token=").unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    };
    let tokens = [token_of(FILE), token_of("t/pxelinux.cfg/0A2A0115")];
    assert_ne!(tokens[0], tokens[1]);
    let jobs: Vec<String> = fs::read_dir(lab.path("b/.store/jobs"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().any(|job| job.contains("\"10.42.1.20\"") && job.contains("pxelinux.cfg/0A2A0114")));
    assert!(jobs.iter().all(|job| tokens.iter().all(|token| !job.contains(token.as_str()))), "hashed only");
}

#[test]
fn backups_of_a_machine_are_in_one_place() {
    let lab = Lab::new();
    let words = [
        "--store",
        "https://10.42.1.1",
        "--store-key",
        KEY,
        "--backup",
        "10.42.1.1:/b",
        "10.42.1.20",
        "backup",
    ];
    lab.arm(&words).expect(2, &["the backups of a machine are in one place"]);
    assert!(!lab.path(FILE).exists());
}

#[test]
fn for_a_store_nothing_is_left_of_what_is_not_armed() {
    let lab = Lab::new();
    let before = lab.snapshot();
    let store = ["--store", "https://10.42.1.1", "--store-key", KEY, "10.42.1.20", "backup"];
    let run = lab.arm(&[&["--dry-run"][..], &store].concat()).expect(0, &["nothing was"]);
    assert!(run.out.contains("testbox.token=[redacted]"), "{}", run.out);
    assert_eq!(lab.snapshot(), before);
    lab.arm(&["--store", "https://10.42.1.1", "10.42.1.20", "backup"])
        .expect(2, &["without testbox.store-key="]);
    lab.arm(&["--store", "http://10.42.1.1", "10.42.1.20", "backup"])
        .expect(2, &["testbox.store-plain=allow"]);
    assert_eq!(lab.snapshot(), before);
    // The job is written down first; then something stands where the file that arms the machine is made.
    fs::create_dir(lab.path("t/pxelinux.cfg/.0A2A0114.j1.tmp")).unwrap();
    lab.arm(&[&["--job", "j1"][..], &store].concat()).expect(1, &["NOT armed"]);
    let jobs = fs::read_dir(lab.path("b/.store/jobs")).map_or(0, Iterator::count);
    assert_eq!(jobs, 0, "a job that no machine has is not kept");
}

/// Wrong words are 2, as in the original; nothing is written then.
#[test]
fn wrong_usage_is_2_and_a_wrong_folder_is_1() {
    let lab = Lab::new();
    lab.write("nodefault/x", b"");
    let before = lab.snapshot();
    for (words, code, part) in [
        (&["10.42.1.300", "backup"][..], 2, "not a valid host name"),
        (&["127.0.0.1", "backup"], 2, "not the address of a machine"),
        (&["no-such-host.invalid", "backup"], 2, "no-such-host.invalid"),
        (&["10.42.1.20", "bakup"], 2, "unknown action 'bakup'"),
        (&["10.42.1.20"], 2, "unknown action '10.42.1.20'"),
        (&["backup"], 2, "before the action"),
        (&["10.42.1.20", "backup", "restore"], 2, "two actions"),
        (&["10.42.1.20", "10.42.1.20", "backup"], 2, "same machine"),
        (&["10.42.1.20", "10.42.1.21", "--name", "tb1", "backup"], 2, "--name and --set are for one machine"),
        (&["--keep", "1000", "10.42.1.20", "backup"], 2, "testbox.keep=1000"),
        (&["--extra", "panic=0", "10.42.1.20", "backup"], 2, "panic=0"),
        (&["--kernel", "../x", "10.42.1.20", "backup"], 2, "../x"),
        (&["--netmask", "255.0.0.0", "10.42.1.20", "backup"], 2, "--gateway"),
        (&["--no-such-flag", "10.42.1.20", "backup"], 2, "--no-such-flag"),
        (&["-c", "nowhere", "10.42.1.20", "backup"], 1, "nowhere: it is not a folder"),
        (&["-c", "nodefault", "10.42.1.20", "backup"], 1, "no file 'default'"),
        (&["-c", "t/pxelinux.cfg/default", "10.42.1.20", "backup"], 1, "not a folder"),
        (&["-c", "t/pxelinux.cfg", "--backup-dir", "t", "10.42.1.20", "backup"], 1, "marker file"),
    ] {
        let given = words.contains(&"-c");
        let first = if given {
            &["arm", "--server", "10.0.0.1"][..]
        } else {
            &["arm", "--server", "10.0.0.1", "-c", "t/pxelinux.cfg"]
        };
        let run = lab.run(&[first, words].concat());
        run.expect(code, &[part]);
        assert_eq!(lab.snapshot(), before, "{words:?}");
    }
    lab.run(&["arm", "-c", "t/pxelinux.cfg", "10.42.1.20", "backup"]).expect(2, &["--nfsroot"]);
    lab.run(&["arm", "-c", "t/pxelinux.cfg", "--boot", "testbox", "10.42.1.20", "backup"]).expect(0, &[]);
    lab.run(&[]).expect(2, &["Usage"]);
    lab.run(&["--help"]).expect(0, &["Examples:"]);
    lab.run(&["--version"]).expect(0, &[env!("CARGO_PKG_VERSION")]);
}

#[test]
fn restore_is_refused_where_there_is_no_image() {
    let lab = Lab::new();
    let before = lab.snapshot();
    lab.arm(&["10.42.1.20", "restore"]).expect(1, &["no image to restore", "--force"]);
    assert_eq!(lab.snapshot(), before);
    lab.arm(&["--force", "10.42.1.20", "restore"]).expect(0, &[]);
    for image in ["sda.raw.gz", "sda.gz", "history/3/nvme0n1.raw.gz"] {
        let lab = Lab::new();
        for no_image in ["sda.raw.gz.part", "testbox-info.zip", "history/3.part/sda.raw.gz", "x.gz"] {
            lab.write(&format!("b/10.42.1.20/{no_image}"), b"");
        }
        lab.arm(&["10.42.1.20", "restore"]).expect(1, &[]);
        lab.write(&format!("b/10.42.1.20/{image}"), b"");
        lab.arm(&["10.42.1.20", "restore"]).expect(0, &[]);
    }
}

#[test]
fn several_machines_are_all_checked_before_the_first_is_armed() {
    let lab = Lab::new();
    lab.write("b/10.42.1.20/sda.raw.gz", b"");
    let before = lab.snapshot();
    lab.arm(&["10.42.1.20", "10.42.1.21", "restore"])
        .expect(1, &["10.42.1.21: there is no image", "no machine was armed"]);
    lab.arm(&["10.42.1.20", "10.42.1.999", "restore"]).expect(2, &["10.42.1.999"]);
    assert_eq!(lab.snapshot(), before);
    lab.arm(&["10.42.1.20", "10.42.1.21", "backup-again"])
        .expect(0, &["2 of 2 machines armed with backup-again"]);
    let (a, b) = (lab.read(FILE), lab.read("t/pxelinux.cfg/0A2A0115"));
    assert_ne!(a, b, "each machine has a job of its own");
}

/// One machine that cannot be armed does not keep the others from it, and the exit code tells.
#[test]
fn one_failure_among_several_is_1() {
    let lab = Lab::new();
    fs::create_dir(lab.path(FILE)).unwrap();
    lab.arm(&["10.42.1.20", "10.42.1.21", "backup"]).expect(1, &["0A2A0114"]);
}

#[test]
fn files_that_pxelinux_would_load_first_are_named() {
    let lab = Lab::new();
    let uuid = "b8945908-d6a6-41a9-611d-74a6ab80b83d";
    for name in [uuid, "01-88-99-aa-bb-cc-dd", "0A2A01", "notes.txt"] {
        lab.write(&format!("t/pxelinux.cfg/{name}"), b"");
    }
    let run = lab.arm(&["10.42.1.20", "backup"]).expect(0, &[uuid, "01-88-99-aa-bb-cc-dd shadows 0A2A0114"]);
    assert!(!run.err.contains("notes.txt"), "{}", run.err);
    // Known to be another machine's: no warning. Linux prints the fields in the other byte order.
    lab.write("b/10.42.1.30/testbox-info.txt", b"  UUID: 085994B8-A6D6-A941-611D-74A6AB80B83D\n");
    let run = lab.arm(&["10.42.1.20", "backup"]).expect(0, &["01-88-99"]);
    assert!(!run.err.contains(uuid), "{}", run.err);
    lab.arm(&["10.42.1.30", "backup"]).expect(0, &[uuid]);
}

/// The agent looks there first: what DHCP says of loader and server may be wrong.
#[test]
fn the_job_says_where_its_file_is_below_the_tftp_root() {
    for (tree, words, below) in [
        ("t", "--tftp-dir t", "pxelinux.cfg"),
        ("t", "-c t/pxelinux.cfg", "pxelinux.cfg"),
        ("t/menu-bios", "--tftp-dir t -c t/menu-bios/pxelinux.cfg", "menu-bios/pxelinux.cfg"),
        ("t/menu-bios", "-c t/menu-bios/pxelinux.cfg", "menu-bios/pxelinux.cfg"),
        ("t/a%b/c", "--tftp-dir t -c t/a%b/c/pxelinux.cfg", "a%25b/c/pxelinux.cfg"),
        // Another tree than the settings name.
        ("u", "--tftp-dir t -c u/pxelinux.cfg", "pxelinux.cfg"),
    ] {
        let lab = Lab::new();
        lab.write(&format!("{tree}/pxelinux.cfg/default"), &lab.read("t/pxelinux.cfg/default"));
        if tree == "u" {
            fs::create_dir(lab.path("u/maintenance-boot")).unwrap();
            lab.write("u/maintenance-boot/vmlinuz", b"kernel");
            lab.write("u/maintenance-boot/initrd.img", b"initrd");
        }
        let words: Vec<&str> = ["arm", "--server", "10.42.1.1"]
            .into_iter()
            .chain(words.split(' '))
            .chain(["10.42.1.20", "rescue"])
            .collect();
        let run = lab.run(&words).expect(0, &["armed with rescue"]);
        assert_eq!(run.err, "", "{words:?}");
        let file = String::from_utf8(lab.read(&format!("{tree}/pxelinux.cfg/0A2A0114"))).unwrap();
        let word = format!(" testbox.armed-file={below}/0A2A0114 testbox.boot-server=10.42.1.1 ");
        assert!(file.contains(&word), "{words:?}: {file}");
    }
}

#[test]
fn an_address_that_no_machine_can_have_is_not_armed() {
    let lab = Lab::new();
    let before = lab.snapshot();
    let fixed = "--gateway 10.42.1.254 --netmask 255.255.255.0";
    for (words, part) in [
        (format!("{fixed} 10.42.1.1"), "10.42.1.1: it is the address of the server"),
        ("10.42.1.1".into(), "address of the server"),
        ("--boot-server 10.42.1.20 10.42.1.20".into(), "address of the server"),
        (format!("{fixed} 10.42.1.254"), "address of the gateway"),
        (format!("{fixed} 10.42.1.0"), "network 10.42.1.0/24 itself"),
        (format!("{fixed} 10.42.1.20 10.42.1.255"), "10.42.1.255: it is the broadcast address"),
        ("--gateway 10.99.1.254 --netmask 255.255.255.0 10.42.1.20".into(), "gateway 10.99.1.254 is not in"),
        ("--gateway 10.42.1.254 --netmask 255.0.255.0 10.42.1.20".into(), "255.0.255.0 is not a netmask"),
        ("--network 10.42.1.0/24 10.42.2.20".into(), "not in the lab's network 10.42.1.0/24"),
        ("--network 10.42.1.0/24 10.42.1.255".into(), "broadcast"),
    ] {
        for force in ["", "--force "] {
            let words = format!("{force}{words} rescue");
            lab.arm(&words.split(' ').collect::<Vec<_>>()).expect(2, &[part, "no machine was armed"]);
            assert_eq!(lab.snapshot(), before, "{words}");
        }
    }
    let point_to_point = "--gateway 10.99.0.1 --netmask 255.255.255.255 10.42.1.20 rescue";
    lab.arm(&point_to_point.split(' ').collect::<Vec<_>>()).expect(0, &[]);
}

#[test]
fn a_kernel_that_cannot_be_booted_is_not_armed() {
    let mode = |lab: &Lab, name: &str, mode: u32| {
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    type Spoil<'a> = (&'a str, &'a dyn Fn(&Lab));
    let rows: [Spoil; 7] = [
        ("vmlinuz: No such file", &|lab| fs::remove_file(lab.path("t/maintenance-boot/vmlinuz")).unwrap()),
        ("vmlinuz: it is empty", &|lab| lab.write("t/maintenance-boot/vmlinuz", b"")),
        ("initrd.img: it is empty", &|lab| lab.write("t/maintenance-boot/initrd.img", b"")),
        ("initrd.img: the TFTP server cannot read it (mode 640)", &|lab| {
            mode(lab, "t/maintenance-boot/initrd.img", 0o640);
        }),
        ("maintenance-boot: the TFTP server cannot enter", &|lab| mode(lab, "t/maintenance-boot", 0o750)),
        ("t: the TFTP server cannot enter", &|lab| mode(lab, "t", 0o700)),
        // PXELINUX looks below the folder that it came from.
        ("t/sub/maintenance-boot/vmlinuz: No such file", &|lab| {
            lab.write("t/sub/pxelinux.0", b"loader");
            lab.write("t/sub/pxelinux.cfg/default", b"");
        }),
    ];
    for (part, spoil) in rows {
        let lab = Lab::new();
        spoil(&lab);
        let dir = if part.contains("sub") { "t/sub/pxelinux.cfg" } else { "t/pxelinux.cfg" };
        let before = lab.snapshot();
        let words = ["arm", "--tftp-dir", "t", "-c", dir, "--server", "10.42.1.1", "10.42.1.20", "rescue"];
        lab.run(&words).expect(1, &[part, "no machine was armed"]);
        assert_eq!(lab.snapshot(), before, "{part}");
        if !part.starts_with("t:") {
            lab.run(&[&words[..], &["--force"]].concat()).expect(0, &["warning", part]);
        }
    }
}

#[test]
fn what_the_tftp_server_cannot_read_is_not_armed() {
    let lab = Lab::new();
    fs::set_permissions(lab.path("t/pxelinux.cfg"), fs::Permissions::from_mode(0o700)).unwrap();
    let before = lab.snapshot();
    lab.arm(&["10.42.1.20", "rescue"])
        .expect(1, &["NOT armed", "pxelinux.cfg: the TFTP server cannot enter"]);
    assert_eq!(lab.snapshot(), before);
    // A default ACL counts instead of the umask.
    fs::set_permissions(lab.path("t/pxelinux.cfg"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut setfacl = Command::new("setfacl");
    setfacl.args(["-d", "-m", "u::rwx,g::rwx,o::---"]).arg(lab.path("t/pxelinux.cfg"));
    assert!(setfacl.status().expect("setfacl of acl").success());
    lab.arm(&["10.42.1.20", "rescue"]).expect(0, &[]);
    let mode = fs::metadata(lab.path(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

/// A link in the place of one machine's file keeps no other machine from being armed.
#[test]
fn a_link_is_not_followed_and_blocks_its_own_machine_only() {
    let lab = Lab::new();
    let default = lab.read("t/pxelinux.cfg/default");
    symlink("default", lab.path(FILE)).unwrap();
    fs::create_dir(lab.path("t/pxelinux.cfg/0A2A0115")).unwrap();
    lab.arm(&["10.42.1.20", "10.42.1.21", "10.42.1.22", "rescue"]).expect(
        1,
        &[
            "0A2A0114: a symbolic link to 'default'",
            "--force",
            "0A2A0115: what lies there is not a file",
            "1 of 3 machines",
        ],
    );
    assert!(lab.path(FILE).is_symlink() && lab.path("t/pxelinux.cfg/0A2A0116").is_file());
    let disarm = ["disarm", "-c", "t/pxelinux.cfg", "10.42.1.20", "10.42.1.22"];
    lab.run(&disarm).expect(1, &["left alone", "10.42.1.22: disarmed"]);
    assert!(lab.path(FILE).is_symlink());
    lab.arm(&["--force", "10.42.1.20", "rescue"]).expect(0, &["instead of a link to 'default'"]);
    assert!(lab.path(FILE).is_file() && !lab.path(FILE).is_symlink());
    fs::remove_file(lab.path(FILE)).unwrap();
    symlink("default", lab.path(FILE)).unwrap();
    let json = lab.run(&[&disarm[..], &["--json"]].concat()).expect(1, &["left alone"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["disarmed"], &json[1]["error"]), (&false.into(), &serde_json::Value::Null));
    assert!(json[0]["error"].as_str().unwrap().contains("left alone"), "{json}");
    lab.run(&["disarm", "--force", "-c", "t/pxelinux.cfg", "10.42.1.20"]).expect(0, &["removed a link"]);
    assert!(!lab.path(FILE).is_symlink());
    assert_eq!(lab.read("t/pxelinux.cfg/default"), default, "where it led is as it was");
}

/// dnsmasq as the TFTP server of this computer, in namespaces of its own: what it gives counts.
#[test]
fn loop_the_tftp_server_of_this_computer_is_asked() {
    let lab = Lab::new();
    for dir in ["t", "other"] {
        fs::create_dir_all(lab.path(dir)).unwrap();
    }
    fs::set_permissions(lab.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let arm = |root: &str, options: &str| {
        let script = format!(
            "ip link set lo up; dnsmasq --conf-file=/dev/null --port=0 --enable-tftp --tftp-root={} {options} \
             --pid-file= --user=nobody; exec \"$0\" --config settings.toml arm --tftp-dir t --server 10.42.1.1 \
             10.42.1.20 rescue",
            lab.path(root).display()
        );
        let output = Command::new("unshare")
            .args([
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                &script,
                env!("CARGO_BIN_EXE_testboxctl"),
            ])
            .current_dir(lab.dir.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(arm("t", ""), (Some(0), String::new()));
    let (code, err) = arm("other", "");
    assert!(code == Some(0) && err.contains("was asked for pxelinux.cfg/0A2A0114"), "{err}");
    // A mode that no bit of the folders shows: the server takes its own files only.
    fs::remove_file(lab.path(FILE)).unwrap();
    rustix::fs::chown(lab.path("t/pxelinux.cfg/default"), Some(rustix::fs::Uid::from_raw(65534)), None)
        .unwrap();
    let (code, err) = arm("t", "--tftp-secure");
    assert!(code == Some(1) && err.contains("NOT armed: the TFTP server at 127.0.0.1"), "{code:?} {err}");
    assert!(!lab.path(FILE).exists());
}

/// What somebody has written by hand is not testbox's to replace or to remove.
#[test]
fn a_hand_made_configuration_is_left_alone() {
    let lab = Lab::new();
    lab.write(FILE, b"DEFAULT x\nLABEL x\nKERNEL memtest\n");
    let before = lab.snapshot();
    lab.arm(&["10.42.1.20", "backup"]).expect(1, &["not a testbox job", "--force"]);
    lab.run(&["disarm", "-c", "t/pxelinux.cfg", "10.42.1.20"]).expect(1, &["left alone"]);
    assert_eq!(lab.snapshot(), before);
    lab.arm(&["--force", "10.42.1.20", "backup"]).expect(0, &["hand-made"]);
}

#[test]
fn disarm_removes_both_files_and_says_what_was_there() {
    let lab = Lab::new();
    lab.arm(&["--job", "j1", "10.42.1.20", "backup"]).expect(0, &[]);
    lab.arm(&["10.42.1.21", "backup"]).expect(0, &[]);
    lab.write("t/testbox.cfg/0A2A0114", b"testbox.action=verify\n");
    let disarm = ["disarm", "-c", "t/pxelinux.cfg", "10.42.1.20"];
    lab.run(&disarm).expect(0, &["was armed with backup, job j1", "was armed with verify"]);
    assert!(!lab.path(FILE).exists() && !lab.path("t/testbox.cfg/0A2A0114").exists());
    assert!(lab.path("t/pxelinux.cfg/0A2A0115").exists(), "other machines stay armed");
    lab.run(&disarm).expect(1, &["10.42.1.20: it was not armed"]);
    lab.run(&["disarm", "-c", "t", "10.42.1.20"]).expect(1, &["default"]);
    lab.run(&["disarm"]).expect(2, &[]);
}
