//! The settings file, `status` and `init`.

use super::{FILE, Lab};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::fs;

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
    lab.run(&["status"]).expect(0, &["10.42.1.20 -    armed backup", "it has not come yet"]);
    lab.run(&["disarm", "10.42.1.20"]).expect(0, &["disarmed, was armed with backup, job "]);
    lab.run(&["status"]).expect(0, &["no machine has a folder"]);
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
        lab.run(&["status", "--backup-dir", "b"]).expect(1, &["error: disk \\u{1b}[2J gone", "damaged"]);
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
    lab.run(&["status", "--backup-dir", "b", "10.42.1.3"]).expect(1, &["stale"]);
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
    let json = lab.run(&[&init[..], &["--json"]].concat()).expect(0, &[]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["done"][0].as_str().unwrap().contains("up to date"), "{json}");
    assert!(json["next"].as_str().unwrap().contains("10.42.1.0/24(rw"), "{json}");
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

/// Nothing is written before it is known where the machines are.
#[test]
fn init_of_a_store_says_what_it_lacks() {
    let lab = Lab::empty();
    fs::remove_file(lab.path("settings.toml")).unwrap();
    for (words, code, says) in [
        (&["--store"][..], 2, "--interface, as eth1, or --network"),
        (&["--store", "--interface", "nowhere0"], 1, "no IPv4 address on nowhere0"),
        (&["--store", "--network", "198.51.100.0/24"], 1, "no IPv4 address in 198.51.100.0/24"),
        (&["--interface", "eth1"], 2, "--store"),
        (&["--store", "--dhcp", "10.0.0.1-10.0.0.9"], 2, "--interface"),
    ] {
        // Without --store the settings file must be there.
        if words[0] != "--store" {
            lab.write("settings.toml", b"");
        }
        lab.run(&[&["init", "--tftp-dir", "t", "--backup-dir", "b"], words].concat()).expect(code, &[says]);
        assert!(!lab.path("t").exists() && !lab.path("b").exists(), "{words:?}");
    }
}

/// The table [serve] of the settings file.
#[test]
fn serve_takes_its_options_from_the_settings_file() {
    let lab = Lab::new();
    let table = |text: &str| lab.write("settings.toml", format!("[serve]\n{text}\n").as_bytes());
    table("backup-dri = \"b\"");
    lab.run(&["serve"]).expect(2, &["[serve]", "\"backup-dri\""]);
    table("at-work = 0");
    lab.run(&["serve"]).expect(2, &["'0' is not a number from 1 to 256"]);
    table("backup-dir = \"nowhere\"");
    lab.run(&["serve"]).expect(1, &["nowhere"]);
    lab.run(&["serve", "--backup-dir", "elsewhere"]).expect(1, &["elsewhere"]);
    // Other commands have no use for it.
    table("backup-dri = \"b\"");
    lab.run(&["status", "--backup-dir", "b"]).expect(0, &[]);
}

const INIT: &str =
    "init --tftp-dir t --backup-dir b --pxelinux-dir px --modules-dir mod --shim shim --grub grub";

/// UEFI machines boot by what `init` has laid out: its own script follows its version, another one is never overwritten.
#[test]
fn init_lays_out_loaders_and_script_of_uefi() {
    let lab = Lab::empty();
    lab.write("px/pxelinux.0", b"loader");
    lab.write("mod/ldlinux.c32", b"core");
    let init = |code, parts: &[&str]| lab.run(&INIT.split(' ').collect::<Vec<_>>()).expect(code, parts);
    init(0, &["UEFI machines cannot boot by network", "shim-signed grub-efi-amd64-signed"]);
    lab.write("grub", b"second");
    init(1, &["shim: it is not there, and grub is", "shim-signed"]);
    lab.write("shim", b"first");
    init(0, &["2 boot files written"]);
    assert_eq!(
        (lab.read("t/shimx64.efi"), lab.read("t/grubx64.efi")),
        (b"first".to_vec(), b"second".to_vec())
    );
    let script = lab.read("t/grub/grub.cfg");
    assert_eq!(script, testbox::job::pxe::grub_config().as_bytes());
    lab.write("t/grub/grub.cfg", b"# testbox: an older version\n");
    init(0, &["grub/grub.cfg"]);
    assert_eq!(lab.read("t/grub/grub.cfg"), script);
    lab.write("t/grub/grub.cfg", b"configfile elsewhere\n");
    init(1, &["left alone"]);
    assert_eq!(lab.read("t/grub/grub.cfg"), b"configfile elsewhere\n");
}

/// One parser of generations: a restore is armed where the agent finds a set, and nowhere else.
#[test]
fn arm_and_agent_agree_on_what_is_a_set_of_the_history() {
    for (set, is_one) in [
        ("3", true),
        ("999999999999999", true),
        ("03", false),
        ("+3", false),
        ("0", false),
        ("18446744073709551615", false),
    ] {
        let lab = Lab::new();
        lab.write(&format!("b/10.42.1.20/history/{set}/sda.raw.gz"), b"x");
        let run = lab.arm(&["10.42.1.20", "restore"]);
        assert_eq!(run.code == 0, is_one, "{set}: {}", run.err);
        assert_eq!(testbox::store::layout::generation(set).is_some(), is_one);
    }
}
