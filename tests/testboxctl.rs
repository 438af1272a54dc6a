//! `testboxctl` as a black box: words in, files, texts and exit code out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A folder with both shares as `init` lays them out, and with boot files.
struct Lab {
    dir: TempDir,
}

/// What a run has given.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    #[track_caller]
    fn expect(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        for part in parts {
            assert!(
                self.out.contains(part) || self.err.contains(part),
                "lacks {part}: {}{}",
                self.out,
                self.err
            );
        }
        self
    }
}

impl Lab {
    /// An empty folder.
    fn empty() -> Lab {
        let lab = Lab { dir: tempfile::tempdir().unwrap() };
        lab.write("settings.toml", b"");
        lab
    }

    /// Shares without the files of Debian's packages, so that the tests need none of them.
    fn new() -> Lab {
        let lab = Lab::empty();
        lab.write("t/pxelinux.cfg/default", b"DEFAULT local-boot\nLABEL local-boot\nLOCALBOOT 0\n");
        lab.write("t/maintenance-boot/vmlinuz", b"kernel");
        lab.write("t/maintenance-boot/initrd.img", b"initrd");
        lab.write("b/testbox-backup", b"");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Every file below the folder, with its bytes.
    fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(dir: &Path, all: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, all)
                } else {
                    all.push((path.clone(), fs::read(&path).unwrap()))
                }
            }
        }
        let mut all = Vec::new();
        walk(self.dir.path(), &mut all);
        all.sort();
        all
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_testboxctl"));
        command.current_dir(self.dir.path()).args(["--config", "settings.toml"]).args(words);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Run {
        let output = self.command(words).output().unwrap();
        Run {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// `arm` on the shares of this folder.
    fn arm(&self, words: &[&str]) -> Run {
        let shares = ["arm", "-c", "t/pxelinux.cfg", "--backup-dir", "b", "--server", "10.42.1.1"];
        self.run(&[&shares, words].concat())
    }
}

const FILE: &str = "t/pxelinux.cfg/0A2A0114";

#[test]
fn arm_writes_the_file_that_pxelinux_loads_for_this_machine() {
    let lab = Lab::new();
    lab.arm(&["--job", "j1", "10.42.1.20", "backup"]).expect(0, &["10.42.1.20: armed with backup, job j1"]);
    let expected = format!(
        "# testboxctl {}: backup, job j1\nPATH bios\nDEFAULT maintenance\nPROMPT 0\nTIMEOUT 0\n\n\
         LABEL maintenance\n  MENU LABEL Maintenance\n  KERNEL maintenance-boot/vmlinuz\n  \
         APPEND initrd=maintenance-boot/initrd.img testbox.action=backup testbox.job=j1 ro boot=nfs root=/dev/nfs \
         nfsroot=10.42.1.1:/export/testbox-nfsroot,ro,tcp,vers=3 ip=dhcp \
         testbox.backup=10.42.1.1:/export/testbox-backup testbox.tftp=10.42.1.1:/export/testbox-tftp panic=300\n  \
         SYSAPPEND 2\n\nLABEL local-boot\n  MENU LABEL Local disk\n  LOCALBOOT 0\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(String::from_utf8(lab.read(FILE)).unwrap(), expected);
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
                 --console ttyS0,115200 --extra quiet --extra -x --disks sda,serial=A%20B --map sda:serial=X --keep 2 \
                 --settle 1 --union aufs --reboot hold --on-error shell --error-wait 5 --attempts 3 --mount-wait 9 \
                 --net-wait 8";
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
        "testbox.settle=1",
        "testbox.union=aufs",
        "testbox.reboot=hold",
        "testbox.on-error=shell",
        "testbox.error-wait=5",
        "testbox.attempts=3",
        "testbox.mount-wait=9",
        "testbox.net-wait=8",
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

/// Wrong words are 2, as in the original; nothing is written then.
#[test]
fn wrong_usage_is_2_and_a_wrong_folder_is_1() {
    let lab = Lab::new();
    lab.write("nodefault/x", b"");
    let before = lab.snapshot();
    for (words, code, part) in [
        (&["10.42.1.300", "backup"][..], 2, "no host name"),
        (&["127.0.0.1", "backup"], 2, "no machine of a network"),
        (&["no-such-host.invalid", "backup"], 2, "no-such-host.invalid"),
        (&["10.42.1.20", "bakup"], 2, "unknown action 'bakup'"),
        (&["10.42.1.20"], 2, "unknown action '10.42.1.20'"),
        (&["backup"], 2, "before the action"),
        (&["10.42.1.20", "backup", "restore"], 2, "two actions"),
        (&["10.42.1.20", "10.42.1.20", "backup"], 2, "same machine"),
        (&["10.42.1.20", "10.42.1.21", "--name", "tb1", "backup"], 2, "--name is for one machine"),
        (&["--keep", "1000", "10.42.1.20", "backup"], 2, "testbox.keep=1000"),
        (&["--extra", "panic=0", "10.42.1.20", "backup"], 2, "panic=0"),
        (&["--kernel", "../x", "10.42.1.20", "backup"], 2, "../x"),
        (&["--netmask", "255.0.0.0", "10.42.1.20", "backup"], 2, "--gateway"),
        (&["--no-such-flag", "10.42.1.20", "backup"], 2, "--no-such-flag"),
        (&["-c", "nowhere", "10.42.1.20", "backup"], 1, "nowhere: it is no folder"),
        (&["-c", "nodefault", "10.42.1.20", "backup"], 1, "no file 'default'"),
        (&["-c", "t/pxelinux.cfg/default", "10.42.1.20", "backup"], 1, "no folder"),
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

/// What somebody has written by hand is not testbox's to replace or to remove.
#[test]
fn a_hand_made_configuration_is_left_alone() {
    let lab = Lab::new();
    lab.write(FILE, b"DEFAULT x\nLABEL x\nKERNEL memtest\n");
    let before = lab.snapshot();
    lab.arm(&["10.42.1.20", "backup"]).expect(1, &["no testbox job", "--force"]);
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

#[test]
fn settings_come_from_a_file_and_flags_go_before_it() {
    let lab = Lab::new();
    lab.write(
        "settings.toml",
        b"tftp-dir = \"t\"\nbackup-dir = \"b\"\nserver = \"10.42.1.1\"\nkeep = 3\nattempts = 4\nconsole = [\"ttyS0\"]\n",
    );
    lab.run(&["arm", "--keep", "5", "10.42.1.20", "backup"]).expect(0, &[]);
    let file = String::from_utf8(lab.read(FILE)).unwrap();
    for word in ["testbox.keep=5", "testbox.attempts=4", "console=ttyS0 "] {
        assert!(file.contains(word), "{word}: {file}");
    }
    lab.run(&["status"]).expect(0, &["no machine has a folder"]);
    lab.run(&["disarm", "10.42.1.20"]).expect(0, &[]);
    for (text, part) in
        [("sever = \"x\"\n", "sever"), ("keep = \n", "settings.toml"), ("keep = 500\n", "keep=500")]
    {
        lab.write("settings.toml", text.as_bytes());
        lab.run(&["arm", "10.42.1.20", "backup"]).expect(2, &["settings.toml", part]);
    }
    fs::remove_file(lab.path("settings.toml")).unwrap();
    lab.run(&["arm", "10.42.1.20", "backup"]).expect(2, &["settings.toml: cannot read"]);
}

#[test]
fn status_shows_every_machine() {
    let lab = Lab::new();
    let now = Timestamp::now();
    let status = |ip: &str, state: &str, error: Option<&str>, age: i64| {
        let at = (now - SignedDuration::from_secs(age)).to_string();
        let status = json!({
            "state": state, "action": "backup", "job": "j1", "ip": ip, "hostname": "tb1", "step": "image sda",
            "disk": "sda", "bytes_done": 42, "bytes_total": 100, "rate": 512_000_000, "eta": 90, "attempt": 2,
            "error": error, "started": at, "updated": at, "version": "0"
        });
        lab.write(&format!("b/{ip}/status.json"), status.to_string().as_bytes());
    };
    status("10.42.1.20", "running", None, 1);
    status("10.42.1.3", "running", None, 100);
    status("10.42.1.100", "failed", Some("disk \u{1b}[2J gone"), 4000);
    fs::create_dir_all(lab.path("b/10.42.1.7")).unwrap();
    fs::create_dir_all(lab.path("b/not-a-machine")).unwrap();
    lab.write("b/10.42.1.8/status.json", b"{");
    let run =
        lab.run(&["status", "--backup-dir", "b"]).expect(0, &["error: disk \\u{1b}[2J gone", "damaged"]);
    let rows: Vec<Vec<&str>> = run.out.lines().map(|l| l.split_whitespace().collect()).collect();
    let row =
        |ip: &str| rows.iter().find(|r| r[0] == ip).unwrap_or_else(|| panic!("{ip}: {}", run.out)).clone();
    assert_eq!(row("10.42.1.20")[1..8], ["tb1", "running", "backup", "42%", "512", "1:30", "2"]);
    assert_eq!(row("10.42.1.3")[2], "stale");
    assert_eq!(row("10.42.1.100")[2..], ["failed", "backup", "-", "-", "-", "2", "66m"]);
    assert_eq!(row("10.42.1.7")[2], "-");
    assert!(!run.out.contains("not-a-machine") && !run.out.contains('\u{1b}'));
    let order: Vec<&str> = rows.iter().map(|r| r[0]).filter(|w| w.starts_with("10.")).collect();
    assert_eq!(order, ["10.42.1.3", "10.42.1.7", "10.42.1.8", "10.42.1.20", "10.42.1.100"]);

    let run = lab.run(&["status", "--backup-dir", "b", "--json", "10.42.1.20", "10.42.1.7"]).expect(0, &[]);
    let json: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&json[0]["status"]["bytes_done"], &json[0]["stale"]), (&json!(42), &json!(false)));
    assert_eq!((&json[1]["ip"], &json[1]["status"]), (&json!("10.42.1.7"), &Value::Null));
    lab.run(&["status", "--backup-dir", "b", "10.42.1.99"]).expect(1, &["no folder"]);
    lab.run(&["status", "--backup-dir", "t"]).expect(1, &["marker file"]);
}

#[test]
fn init_makes_both_shares_and_may_run_again() {
    let lab = Lab::empty();
    lab.write("px/pxelinux.0", b"loader");
    lab.write("mod/ldlinux.c32", b"core");
    lab.write("mod/menu.c32", b"menu");
    lab.write("k", b"kernel");
    lab.write("i", b"initrd");
    let init = "init --tftp-dir t --backup-dir b --pxelinux-dir px --modules-dir mod --boot-files k i --network 10.42.1.0/24";
    let init: Vec<&str> = init.split(' ').collect();
    lab.run(&init).expect(0, &["10.42.1.0/24(rw", "dhcp-range=10.42.1.0,proxy", "tftp-root="]);
    for (file, bytes) in [
        ("t/pxelinux.0", &b"loader"[..]),
        ("t/ldlinux.c32", b"core"),
        ("t/bios/ldlinux.c32", b"core"),
        ("t/bios/menu.c32", b"menu"),
        ("t/maintenance-boot/vmlinuz", b"kernel"),
        ("t/maintenance-boot/initrd.img", b"initrd"),
    ] {
        assert_eq!(lab.read(file), bytes, "{file}");
    }
    assert!(lab.path("t/testbox.cfg").is_dir() && lab.path("b/testbox-backup").is_file());
    let default = String::from_utf8(lab.read("t/pxelinux.cfg/default")).unwrap();
    assert!(default.contains("PATH bios\nDEFAULT local-boot\n") && default.contains("LOCALBOOT 0\n"));
    let before = lab.snapshot();
    lab.run(&init).expect(0, &["up to date"]);
    assert_eq!(lab.snapshot(), before);
    lab.arm(&["10.42.1.20", "backup"]).expect(0, &[]);
    // A default that somebody has changed is not overwritten.
    lab.write("t/pxelinux.cfg/default", b"DEFAULT menu\n");
    lab.run(&init).expect(1, &["left alone"]);
    assert_eq!(lab.read("t/pxelinux.cfg/default"), b"DEFAULT menu\n");
    fs::remove_file(lab.path("mod/ldlinux.c32")).unwrap();
    lab.run(&init).expect(1, &["syslinux-common"]);
    fs::remove_file(lab.path("px/pxelinux.0")).unwrap();
    lab.run(&init).expect(1, &["package pxelinux"]);
}

/// A disk of zeros, text and noise.
fn disk() -> Vec<u8> {
    let mut bytes = vec![0; 3 << 20];
    bytes.extend(b"the quick brown fox ".iter().cycle().take(2 << 20));
    let mut state = 1u64;
    bytes.extend(
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        })
        .take(2 << 20),
    );
    bytes.extend(vec![0; 1536]);
    bytes
}

fn gzip(lab: &Lab, words: &[&str]) -> Vec<u8> {
    let output = Command::new("gzip").current_dir(lab.dir.path()).args(words).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn an_image_goes_round() {
    let lab = Lab::empty();
    let bytes = disk();
    lab.write("disk", &bytes);
    lab.run(&["image", "create", "--threads", "2", "disk", "disk.raw.gz"])
        .expect(0, &["root hash", "verified", "ratio"]);
    assert!(!lab.path("disk.raw.gz.part").exists());
    assert!(gzip(&lab, &["-dc", "disk.raw.gz"]) == bytes, "zcat gives the disk");
    lab.run(&["image", "verify", "disk.raw.gz", "--against", "disk"]).expect(0, &["whole", "equal"]);
    lab.run(&["image", "info", "disk.raw.gz"]).expect(0, &["complete", "7.3 MB (7341568 bytes)"]);
    let info = lab.run(&["image", "info", "--json", "disk.raw.gz"]).expect(0, &[]);
    let info: Value = serde_json::from_str(&info.out).unwrap();
    assert_eq!(
        (&info["disk_bytes"], &info["name"], &info["degraded"]),
        (&json!(bytes.len()), &json!("disk"), &json!(false))
    );

    lab.run(&["image", "restore", "disk.raw.gz", "new"]).expect(0, &["written and read back"]);
    assert!(lab.read("new") == bytes);
    let mut longer = vec![0xa5; bytes.len() + 4096];
    lab.write("longer", &longer);
    lab.run(&["image", "restore", "disk.raw.gz", "longer"]).expect(0, &[]);
    longer[..bytes.len()].copy_from_slice(&bytes);
    assert!(lab.read("longer")[..bytes.len()] == bytes);
    lab.write("shorter", &bytes[..1 << 20]);
    lab.run(&["image", "restore", "disk.raw.gz", "shorter"]).expect(1, &["nothing was written"]);
    assert!(lab.read("shorter") == bytes[..1 << 20]);

    let cat = |words: &[&str]| {
        lab.command(&[&["image", "cat", "disk.raw.gz"], words].concat()).output().unwrap().stdout
    };
    assert!(cat(&[]) == bytes);
    let at = (3 << 20) - 5;
    assert!(cat(&["--offset", &at.to_string(), "--length", "1000000"]) == bytes[at..at + 1_000_000]);
    assert!(cat(&["--offset", &at.to_string()]) == bytes[at..]);
    lab.run(&["image", "cat", "disk.raw.gz", "--offset", "99999999"]).expect(2, &["not in it"]);

    let mut other = bytes.clone();
    other[4 << 20] ^= 1;
    lab.write("disk", &other);
    lab.run(&["image", "verify", "disk.raw.gz", "--against", "disk"]).expect(1, &["differs"]);
}

/// `cat | head` is no error of anybody.
#[test]
fn cat_into_a_closed_pipe_is_quiet() {
    let lab = Lab::empty();
    lab.write("disk", &disk());
    lab.run(&["image", "create", "disk", "i.gz"]).expect(0, &[]);
    let mut child =
        lab.command(&["image", "cat", "i.gz"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn create_replaces_nothing_that_it_was_not_told_to() {
    let lab = Lab::empty();
    lab.write("disk", &vec![7; 1 << 20]);
    lab.write("i.gz", b"precious");
    lab.run(&["image", "create", "disk", "i.gz"]).expect(1, &["it exists", "--force"]);
    lab.run(&["image", "create", "--force", "disk", "disk"]).expect(1, &["disk itself"]);
    lab.run(&["image", "create", "--force", "missing", "i.gz"]).expect(1, &["missing"]);
    assert_eq!(lab.read("i.gz"), b"precious");
    // What an interrupted create has left is taken over.
    lab.write("i.gz.part", &vec![1; 9 << 20]);
    lab.run(&["image", "create", "--force", "--no-verify", "disk", "i.gz"]).expect(0, &[]);
    assert!(!lab.path("i.gz.part").exists());
    lab.run(&["image", "verify", "i.gz"]).expect(0, &[]);
    // A disk that is no whole number of blocks leaves nothing behind.
    lab.write("odd", &vec![7; 1000]);
    lab.run(&["image", "create", "odd", "odd.gz"]).expect(1, &["whole number"]);
    assert!(!lab.path("odd.gz").exists() && !lab.path("odd.gz.part").exists());
}

#[test]
fn gzip_files_of_others_are_restored_too() {
    let lab = Lab::empty();
    let bytes = disk();
    lab.write("sda", &bytes);
    gzip(&lab, &["-1", "-k", "sda"]);
    lab.run(&["image", "restore", "sda.gz", "new"]).expect(0, &[]);
    assert!(lab.read("new") == bytes);
    lab.run(&["image", "verify", "sda.gz", "--against", "new"]).expect(0, &["not of testbox", "equal"]);
    lab.run(&["image", "info", "sda.gz"]).expect(0, &["not of testbox"]);
    lab.run(&["image", "cat", "sda.gz"]).expect(1, &["zcat"]);
    let gz = lab.read("sda.gz");
    lab.write("cut.gz", &gz[..gz.len() - 100]);
    lab.run(&["image", "restore", "cut.gz", "cut"]).expect(1, &["nothing was written"]);
    assert!(!lab.path("cut").exists());
    lab.write("new", &vec![0x5a; bytes.len()]);
    lab.run(&["image", "restore", "cut.gz", "new"]).expect(1, &["nothing was written"]);
    assert!(lab.read("new") == vec![0x5a; bytes.len()]);
    lab.write("text", b"hello");
    lab.run(&["image", "restore", "text", "x"]).expect(1, &["neither"]);
}

/// gzip would not notice any of these: they must be refused, and never be read as somebody else's gzip.
#[test]
fn a_damaged_image_is_refused_before_the_first_write() {
    let lab = Lab::empty();
    lab.write("disk", &disk());
    lab.run(&["image", "create", "disk", "i.gz"]).expect(0, &[]);
    let good = lab.read("i.gz");
    let middle = good.len() / 2 / 4096 * 4096 + 2000;
    let flipped = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        bad
    };
    let rows = [
        ("cut", good[..good.len() - 4096].to_vec()),
        ("longer", [&good[..], &[0; 4096]].concat()),
        ("middle", flipped(middle)),
        ("footer", flipped(good.len() - 4000)),
        ("id of the first member", flipped(12)),
        ("a number in the header", flipped(60)),
    ];
    let target = vec![0x5a; disk().len()];
    for (what, bad) in rows {
        lab.write("bad.gz", &bad);
        lab.write("target", &target);
        for words in
            [&["verify", "bad.gz"][..], &["restore", "bad.gz", "target"], &["restore", "bad.gz", "fresh"]]
        {
            let run = lab.run(&[&["image"], words].concat());
            assert_eq!(run.code, 1, "{what} {words:?}: {}{}", run.out, run.err);
            assert!(run.err.contains("bad.gz"), "{what}: {}", run.err);
        }
        assert!(lab.read("target") == target, "{what}: nothing was written");
        assert!(!lab.path("fresh").exists(), "{what}");
    }
}
