//! Power: whose is switched and whose is not, by a command, by emulated BMCs (Redfish, IPMI) and by Wake-on-LAN; and no password
//! that shows itself.

use super::{Lab, Run};
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use serde_json::Value;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use testbox::types::SetHash;

/// A program that writes its words down, and fails for `tb3`.
const PDU: &str = "#!/bin/sh\nprintf '%s|' \"$@\" \"$TESTBOX_MACHINE\" >>said; echo >>said; echo 'Outlet is On'; \
                   [ \"$2\" != tb3 ] || { echo 'no such outlet' >&2; exit 7; }\n";

const MACHINES: &str = "[tb1]\naddress = \"10.42.1.20\"\ngroups = [\"rack\"]\n[tb2]\naddress = \"10.42.1.21\"\ngroups = [\"rack\"]\n\
     [tb3]\naddress = \"10.42.1.22\"\ngroups = [\"rack\"]\n[bare]\naddress = \"10.42.1.23\"\n\
     [groups.rack]\npower = [\"./pdu\", \"{action}\", \"{name}\", \"a b;{address}\"]\n";

fn lab(machines: &str) -> Lab {
    let lab = Lab::new();
    lab.write("pdu", PDU.as_bytes());
    fs::set_permissions(lab.path("pdu"), fs::Permissions::from_mode(0o755)).unwrap();
    lab.write("machines.toml", machines.as_bytes());
    lab.write("settings.toml", b"machines = \"machines.toml\"\nbackup-dir = \"b\"\ntftp-dir = \"t\"\n");
    lab
}

fn power(lab: &Lab, words: &[&str]) -> Run {
    lab.run(&[&["power"], words].concat())
}

fn said(lab: &Lab) -> Vec<String> {
    let text = fs::read_to_string(lab.path("said")).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn nothing_is_switched_that_nobody_has_named() {
    let lab = lab(MACHINES);
    for (words, says) in [
        (&["cycle"][..], "no machine is named"),
        (&["off", "nowhere.invalid"], "nowhere.invalid"),
        (&["off", "tb1", "10.9.9.9"], "10.9.9.9: it is not in"),
        (&["cycle", "tb1", "bare"], "nothing says how its power is switched"),
        // Some of all have no way.
        (&["on", "--all"], "bare"),
        (&["on", "--all", "tb1"], "cannot be used with"),
        (&["on", "tb[3-1]"], "ends before it begins"),
    ] {
        power(&lab, words).expect(2, &[says]);
    }
    lab.write("machines.toml", b"");
    power(&lab, &["cycle", "--all"]).expect(2, &["has no machine"]);
    power(&lab, &["cycle", "rack"]).expect(2, &["rack"]);
    assert_eq!(said(&lab), [""; 0]);
}

#[test]
fn a_command_gets_its_words_and_each_machine_has_its_own_result() {
    let lab = lab(MACHINES);
    power(&lab, &["status", "tb1"]).expect(0, &["10.42.1.20 (tb1): on"]);
    assert_eq!(said(&lab), ["status|tb1|a b;10.42.1.20|tb1|"]);
    fs::remove_file(lab.path("said")).unwrap();
    let run = power(&lab, &["cycle", "rack"]);
    let run = run.expect(
        1,
        &[
            "10.42.1.20 (tb1): cycled",
            "10.42.1.21 (tb2): cycled",
            "(tb3): power cycle has FAILED",
            "no such outlet",
        ],
    );
    assert!(!run.out.contains("tb3"), "{}", run.out);
    assert_eq!(said(&lab).len(), 3);
    let json: Value =
        serde_json::from_str(&power(&lab, &["on", "--json", "tb1", "tb3"]).expect(1, &[]).out).unwrap();
    assert_eq!((&json[0]["result"], &json[0]["problem"]), (&Value::from("on"), &Value::Null));
    assert_eq!(json[1]["result"], Value::Null);
    // One that never ends is ended.
    lab.write("pdu", b"#!/bin/sh\nsleep 1000\n");
    power(&lab, &["on", "tb1", "--timeout", "1"]).expect(1, &["took too long, and was ended"]);
}

/// Neither by its status nor by its lease.
#[test]
fn a_machine_at_work_is_not_cut_off_unless_forced() {
    let lab = lab(MACHINES);
    let now = jiff::Timestamp::now();
    let running = format!(
        r#"{{"state":"running","action":"restore","job":"j1","ip":"10.42.1.20","hostname":"tb1","step":"sda","bytes_done":0,
        "bytes_total":0,"rate":0,"attempt":1,"started":"{now}","updated":"{now}","version":"0.1.0"}}"#
    );
    lab.write("b/10.42.1.20/status.json", running.as_bytes());
    for action in ["off", "cycle"] {
        power(&lab, &[action, "tb1", "tb2"])
            .expect(1, &["(tb1): it is at work: restore (sda)", "nothing was switched"]);
    }
    assert_eq!(said(&lab), [""; 0]);
    power(&lab, &["on", "tb1"]).expect(0, &[]);
    power(&lab, &["off", "--force", "tb1"]).expect(0, &["(tb1): off"]);
    lab.write("b/10.42.1.20/status.json", running.replace("running", "done").as_bytes());
    power(&lab, &["off", "tb1"]).expect(0, &[]);
    let holder = "{\"session\":\"0123456789abcdef0123456789abcdef\",\"macs\":[],\"hostname\":\"tb1\",\"action\":\"backup\"}\n...";
    lab.write("b/10.42.1.20/lease/1", holder.as_bytes());
    power(&lab, &["off", "tb1"]).expect(1, &["its folder is held by"]);
    lab.write("settings.toml", b"machines = \"machines.toml\"\nbackup-dir = \"elsewhere\"\n");
    power(&lab, &["off", "tb2"]).expect(1, &["whether machines are at work cannot be seen", "--force"]);
}

#[test]
fn what_is_armed_stays_armed_where_its_power_fails() {
    let lab = lab(MACHINES);
    let arm = |words: &[&str]| lab.arm(&[&["--boot", "testbox", "--power", "cycle"], words].concat());
    arm(&["tb1", "bare", "backup"]).expect(2, &["nothing says how its power is switched"]);
    assert!(!lab.path("t/pxelinux.cfg/0A2A0114").exists(), "nobody is armed whose power cannot be switched");
    arm(&["tb1", "backup"]).expect(0, &["armed with backup", "(tb1): cycled"]);
    assert_eq!(said(&lab), ["cycle|tb1|a b;10.42.1.20|tb1|"]);
    arm(&["tb3", "backup"]).expect(1, &["armed with backup", "has FAILED", "it stays armed"]);
    assert!(lab.path("t/pxelinux.cfg/0A2A0116").exists());
}

/// The whole step of a scheduler that has the power too: armed, switched, waited for.
#[test]
fn who_arms_with_power_can_wait_for_the_job() {
    let lab = lab(MACHINES);
    lab.write("b/testbox-backup", b"");
    let words = ["--boot", "testbox", "--power", "cycle", "--wait", "--timeout", "0"];
    lab.arm(&[&words[..], &["tb1", "backup"]].concat())
        .expect(5, &["armed with backup", "(tb1): cycled", "never-came"]);
    assert_eq!(said(&lab), ["cycle|tb1|a b;10.42.1.20|tb1|"]);
}

/// The emulators, fetched once.
fn emulators() -> &'static str {
    static DIR: OnceLock<String> = OnceLock::new();
    DIR.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testboxctl/bmc.sh");
        let output = Command::new(script).output().unwrap();
        assert!(output.status.success(), "no emulators: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

struct Emulated(Child);

impl Drop for Emulated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

const SECRET: &str = "s3cret-of-the-bmc";

/// Writes the file of passwords with this mode.
fn logins(lab: &Lab, password: &str, mode: u32) {
    lab.write("bmc.toml", format!("[default]\nuser = \"admin\"\npassword = \"{password}\"\n").as_bytes());
    fs::set_permissions(lab.path("bmc.toml"), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn redfish_switches_an_emulated_machine() {
    let lab = lab("");
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["bmc".to_owned()]).unwrap().self_signed(&key).unwrap();
    let pin = SetHash::of(&key.subject_public_key_info()).to_string();
    lab.write("cert.pem", certificate.pem().as_bytes());
    lab.write("bmc-key.pem", key.serialize_pem().as_bytes());
    let port = free_port();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testboxctl/redfish.py");
    let mut command = Command::new(format!("{}.venv/bin/python", emulators()));
    command.arg(script).arg(port.to_string()).args([lab.path("cert.pem"), lab.path("bmc-key.pem")]);
    let log = fs::File::create(lab.path("bmc.log")).unwrap();
    command.args(["admin", SECRET]).stdout(Stdio::null()).stderr(log);
    let _bmc = Emulated(command.spawn().unwrap());
    for _ in 0..600 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let machines = |more: &str| {
        format!(
            "[tb1]\naddress = \"10.42.1.20\"\npower = {{ redfish = \"https://127.0.0.1:{port}\"{more} }}\n"
        )
    };
    let node = "00000001-0000-0000-0000-000000000000";
    let good = machines(&format!(", key = \"{pin}\", system = \"{node}\""));
    lab.write("machines.toml", good.as_bytes());
    // Without a password, and with one that others may read, nobody is asked.
    power(&lab, &["status", "tb1"]).expect(2, &["no user and password for its BMC", "bmc.toml, mode 0600"]);
    logins(&lab, SECRET, 0o644);
    power(&lab, &["status", "tb1"]).expect(1, &["others may read", "chmod 600"]);
    logins(&lab, SECRET, 0o600);
    let log = || fs::read_to_string(lab.path("bmc.log")).unwrap();
    for (words, result) in [
        (&["status"][..], "off"),
        (&["cycle"], "on"),
        (&["status"], "on"),
        (&["on"], "on"),
        (&["cycle"], "cycled"),
        (&["off"], "off"),
        (&["off"], "off"),
    ] {
        let run = power(&lab, &[words, &["tb1", "--json", "--verbose"]].concat());
        assert_eq!(run.code, 0, "{words:?}: {}{}{}", run.out, run.err, log());
        let json: Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!(json[0]["result"], result, "{words:?}: {}", log());
        assert!(!format!("{}{}", run.out, run.err).contains(SECRET), "{}{}", run.out, run.err);
    }
    assert_eq!(
        log().matches("ComputerSystem.Reset HTTP").count(),
        3,
        "what is so already is not told: {}",
        log()
    );
    // Two machines behind one BMC, another key, another password.
    lab.write("machines.toml", machines(&format!(", key = \"{pin}\"")).as_bytes());
    power(&lab, &["off", "tb1"]).expect(1, &["several systems", node]);
    lab.write("machines.toml", machines(&format!(", key = \"{}\"", "ab".repeat(32))).as_bytes());
    power(&lab, &["status", "tb1"]).expect(1, &["another key"]);
    lab.write("machines.toml", machines("").as_bytes());
    power(&lab, &["status", "tb1"]).expect(1, &["key = "]);
    lab.write("machines.toml", good.as_bytes());
    logins(&lab, "wrong", 0o600);
    power(&lab, &["status", "tb1"]).expect(1, &["refuses the user or the password"]);
}

/// openipmi's emulator of a BMC, and the ipmitool of Debian.
#[test]
fn ipmitool_switches_an_emulated_machine() {
    let (dir, port) = (emulators(), free_port());
    let lab = lab(&format!("[tb1]\naddress = \"10.42.1.20\"\npower = {{ ipmi = \"127.0.0.1:{port}\" }}\n"));
    logins(&lab, "s3cret-bmc", 0o600);
    let chassis = format!(
        "#!/bin/sh\ncd {}\necho \"$@\" >>chassis.log\ncase $1 in get) echo \"power:$(cat power)\" ;; set) [ \"$2\" != power ] || echo $3 >power ;; esac\n",
        lab.dir.path().display()
    );
    lab.write("power", b"0\n");
    lab.write("chassis", chassis.as_bytes());
    fs::set_permissions(lab.path("chassis"), fs::Permissions::from_mode(0o755)).unwrap();
    let auths = ["callback", "user", "operator", "admin"]
        .map(|who| format!("allowed_auths_{who} none md2 md5 straight\n"));
    lab.write(
        "lan.conf",
        format!(
            "name \"bmc\"\nset_working_mc 0x20\nstartlan 1\naddr 127.0.0.1 {port}\npriv_limit admin\n{}guid \
             a123456789abcdefa123456789abcdef\nendlan\nchassis_control \"{}\"\nuser 1 true \"\" \"\" user 10 none md2 md5 \
             straight\nuser 2 true \"admin\" \"s3cret-bmc\" admin 10 none md2 md5 straight\n",
            auths.concat(),
            lab.path("chassis").display()
        )
        .as_bytes(),
    );
    lab.write("bmc.emu", b"mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n");
    let libraries = format!("{dir}/usr/lib/x86_64-linux-gnu");
    fs::create_dir(lab.path("state")).unwrap();
    let mut sim = Command::new(format!("{dir}/usr/bin/ipmi_sim"));
    sim.env("LD_LIBRARY_PATH", &libraries).current_dir(lab.dir.path());
    sim.args(["-c", "lan.conf", "-f", "bmc.emu", "-s", "state", "-n"]);
    let log = fs::File::create(lab.path("sim.log")).unwrap();
    let _sim =
        Emulated(sim.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let run = |words: &[&str]| {
        let mut command = lab.command(&[&["power"], words].concat());
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{dir}/usr/bin:{path}")).env("LD_LIBRARY_PATH", &libraries);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code().unwrap(), text)
    };
    let log = || {
        fs::read_to_string(lab.path("sim.log")).unwrap()
            + &fs::read_to_string(lab.path("chassis.log")).unwrap_or_default()
    };
    // This emulator leaves a question of ipmitool's unanswered, which takes its seconds each time.
    for (word, expected) in [("cycle", "on"), ("off", "off")] {
        let (code, text) = run(&[word, "tb1"]);
        assert_eq!(
            (code, text.trim()),
            (0, format!("10.42.1.20 (tb1): {expected}").as_str()),
            "{word}: {}",
            log()
        );
    }
    logins(&lab, "wrong", 0o600);
    let (code, text) = run(&["status", "tb1", "--timeout", "3"]);
    assert!(code == 1 && text.contains("ipmitool"), "{text}");
    let (_, text) = (
        lab.write("machines.toml", b"[tb1]\naddress = \"10.42.1.20\"\npower = { wake = true }\n"),
        run(&["off", "tb1"]).1,
    );
    assert!(text.contains("Wake-on-LAN can only switch on"), "{text}");
}
