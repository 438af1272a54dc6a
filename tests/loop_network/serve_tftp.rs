//! The TFTP server of `testboxctl serve`: what machines get of it, and what it cannot reach.

use crate::lab::Lab;
use crate::lease::HEX;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use testbox::net::tftp::{Limits, PORT, TftpClient, TftpError};

/// Starts `serve` with these words in a network (`s2`, or the first server's), and waits until it serves or has failed. Its
/// log is `serve.log`.
pub fn serve(lab: &Lab, namespace: &str, words: &str) {
    let within = if namespace.is_empty() { String::new() } else { format!("ip netns exec {namespace}") };
    serve_by(lab, &within, words);
}

fn serve_by(lab: &Lab, command: &str, words: &str) {
    // Nothing is written outside of the lab.
    let state = if words.contains("--state-dir") { "" } else { "--state-dir state" };
    lab.run(&format!(
        ": >serve.log; setsid {command} {} serve --backup-dir backup --tftp-dir tftp --plain --listen 127.0.0.1:0 {words} {state} \
         >serve.out 2>>serve.log </dev/null & echo $! >/run/serve.pid; \
         timeout 60 bash -c 'until grep -qE \" serves |^testboxctl: \" serve.log; do sleep 0.1; done'",
        env!("CARGO_BIN_EXE_testboxctl")
    ));
}

pub fn log(lab: &Lab) -> String {
    fs::read_to_string(lab.dir().join("serve.log")).unwrap_or_default()
}

/// Both shares, as `init` lays them out, readable by whoever serves them.
fn shares(lab: &Lab) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    for file in ["pxelinux.0", "ldlinux.c32", "vmlinuz", "initrd.img"] {
        fs::write(lab.dir().join(file), file).unwrap();
    }
    lab.run(&format!(
        "{} init --tftp-dir tftp --backup-dir backup --pxelinux-dir . --modules-dir . --boot-files vmlinuz initrd.img",
        env!("CARGO_BIN_EXE_testboxctl")
    ));
}

/// What machine `m1` gets of a path, with this address; without the file, what the server says.
fn get(lab: &Lab, own: &str, path: &str) -> Result<Vec<u8>, String> {
    lab.run(&format!("ip -n m1 address replace {own}/24 dev eth0"));
    let client =
        TftpClient::new(Limits { timeout: Duration::from_secs(2), max_bytes: 64 << 20, ..Limits::default() });
    let server = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 1), PORT);
    let got = lab.within("m1", || client.fetch(server, path));
    lab.run("ip -n m1 address flush dev eth0");
    got.map_err(|e| match e {
        TftpError::NotFound { code, .. } => format!("not found {code}"),
        other => other.to_string(),
    })
}

#[test]
fn loop_serve_gives_a_machine_its_own_files_only() {
    let lab = Lab::new();
    shares(&lab);
    let tftp = lab.dir().join("tftp");
    let machines = "[tb1]\naddress = \"10.9.0.100\"\nmac = \"52:54:00:09:00:01\"\n";
    fs::write(lab.dir().join("machines.toml"), machines).unwrap();
    let (mac, boot) = ("pxelinux.cfg/01-52-54-00-09-00-01", format!("testbox.cfg/{HEX}.boot"));
    let own =
        [format!("pxelinux.cfg/{HEX}"), format!("testbox.cfg/{HEX}"), boot, mac.to_owned(), "link".into()];
    std::os::unix::fs::symlink(format!("pxelinux.cfg/{HEX}"), tftp.join("link")).unwrap();
    own.iter().for_each(|path| fs::write(tftp.join(path), "token").unwrap());
    fs::write(tftp.join("pxelinux.cfg/.hidden"), "token").unwrap();
    std::os::unix::fs::symlink("../backup/testbox-backup", tftp.join("out")).unwrap();
    serve(&lab, "", "--tftp --interface lab --machines machines.toml");

    for path in &own {
        assert_eq!(get(&lab, "10.9.0.100", path), Ok(b"token".to_vec()), "{path}: {}", log(&lab));
        assert_eq!(get(&lab, "10.9.0.101", path), Err("not found 1".into()), "{path}");
        let told = format!(
            "10.9.0.101 asked for '{path}', and is told that there is none: it is for 10.9.0.100 alone"
        );
        assert!(log(&lab).contains(&told), "{path}: {}", log(&lab));
    }
    for (path, expected) in [
        ("pxelinux.0", Ok(b"pxelinux.0".to_vec())),
        ("/maintenance-boot//vmlinuz", Ok(b"vmlinuz".to_vec())),
        ("pxelinux.cfg/.hidden", Err("not found 1".to_owned())),
        ("out", Err("not found 1".into())),
        ("../backup/testbox-backup", Err("not found 1".into())),
        ("pxelinux.cfg/0A09", Err("not found 1".into())),
    ] {
        assert_eq!(get(&lab, "10.9.0.101", path), expected, "{path}");
    }
    assert!(!log(&lab).contains("0A09'"), "a search is no news: {}", log(&lab));

    // The machine's card is another one now: the file counts at once.
    fs::write(lab.dir().join("machines.toml"), machines.replace("10.9.0.100", "10.9.0.101")).unwrap();
    lab.run("timeout 20 bash -c 'until grep -q \"are known now\" serve.log; do sleep 0.1; done'");
    assert_eq!(get(&lab, "10.9.0.101", mac), Ok(b"token".to_vec()), "{}", log(&lab));
    // A machine that nobody knows looks for its own file, as all loaders do: it is learned.
    assert!(get(&lab, "10.9.0.102", "pxelinux.cfg/01-52-54-00-09-00-77").is_err());
    lab.run("timeout 20 bash -c 'until [ -e state/seen ]; do sleep 0.1; done'");
    fs::write(lab.dir().join("settings.toml"), "machines = \"machines.toml\"\n").unwrap();
    let learned = lab.run(&format!(
        "{} --config settings.toml machines learn --leases state/seen --dry-run",
        env!("CARGO_BIN_EXE_testboxctl")
    ));
    assert_eq!(learned, "tb2: 10.9.0.102 52:54:00:09:00:77\n", "the known one is not among them");
    assert!(log(&lab).contains("(52:54:00:09:00:77) boots from here and is not known"), "{}", log(&lab));
    // `arm` looks whether what it has written is served.
    let armed = lab.run(&format!(
        "{} arm --tftp-dir tftp --backup-dir backup --server 10.9.0.1 --boot testbox 10.9.0.120 backup",
        env!("CARGO_BIN_EXE_testboxctl")
    ));
    assert!(!armed.contains("the TFTP server"), "{armed}");
}

/// Other clients, and a file of some thousand blocks, by windows and without.
#[test]
fn loop_serve_gives_large_files_to_other_clients() {
    let lab = Lab::new();
    shares(&lab);
    let bytes: Vec<u8> = (0..48u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(lab.dir().join("tftp/large"), &bytes).unwrap();
    serve(&lab, "", "--tftp --interface lab");
    lab.run("ip -n m1 address add 10.9.0.100/24 dev eth0");
    for command in [
        "curl -s --tftp-blksize 1428 -o got tftp://10.9.0.1/large",
        "busybox tftp -b 1024 -g -r large -l got 10.9.0.1",
    ] {
        lab.run(&format!("rm -f got; ip netns exec m1 {command}"));
        assert!(fs::read(lab.dir().join("got")).unwrap() == bytes, "{command}");
    }
    lab.run("ip -n m1 address flush dev eth0");
    assert!(get(&lab, "10.9.0.100", "large").as_deref() == Ok(&bytes), "the agent's client, by windows");
    assert!(log(&lab).contains("10.9.0.100 has large, "), "{}", log(&lab));
    // Another interface has no server.
    assert!(log(&lab).contains("boot services on lab:"), "{}", log(&lab));
}

/// The process that takes datagrams from everybody: its rights, by the kernel's word and by trying.
#[test]
fn loop_the_boot_services_reach_no_backup() {
    let lab = Lab::new();
    shares(&lab);
    // Open to everybody: it begins only if it has tried in vain to read and to write there (see the refusal below).
    lab.run("chmod 777 backup");
    serve(&lab, "", "--tftp --interface lab");
    let find =
        "pid=$(pgrep -f ' boot-services$'); grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs):' /proc/$pid/status";
    let status: Vec<String> =
        lab.run(find).lines().map(|l| l.split_whitespace().nth(1).unwrap().to_owned()).collect();
    assert_eq!(status.len(), 4, "{status:?}");
    assert_ne!(status[0], "0", "the user");
    assert_eq!(u64::from_str_radix(&status[1], 16), Ok(0), "effective capabilities");
    assert_eq!(u64::from_str_radix(&status[2], 16), Ok(0), "capabilities that it could get");
    assert_eq!(status[3], "1", "no new privileges");

    // An interface of the same name is another one, which nobody listens on.
    lab.run("ip link set lab name old && ip link add lab type bridge && ip link set m1 master lab");
    lab.run("ip addr flush dev old && ip addr add 10.9.0.1/24 dev lab && ip link set lab up && ip -n m1 link set eth0 up");
    lab.run(
        "timeout 20 bash -c 'until grep -q \"lab is gone, or is another\" serve.log; do sleep 0.1; done'",
    );
    lab.run("timeout 20 bash -c 'until grep -q \"serve again\" serve.log; do sleep 0.1; done'");
    assert_eq!(get(&lab, "10.9.0.100", "pxelinux.0"), Ok(b"pxelinux.0".to_vec()), "{}", log(&lab));
    lab.run("echo >serve.log");
    // Killed, it comes again; with its parent it goes.
    lab.run("kill -KILL $(pgrep -f ' boot-services$')");
    lab.run("timeout 20 bash -c 'until grep -q \"serve again\" serve.log; do sleep 0.1; done'");
    assert_eq!(get(&lab, "10.9.0.100", "pxelinux.0"), Ok(b"pxelinux.0".to_vec()));
    lab.run("kill -KILL $(cat /run/serve.pid); timeout 20 bash -c 'while pgrep -f \" boot-services$\"; do sleep 0.1; done'");
}

/// Not as root, as systemd's unit starts it: Landlock alone keeps it from the backups, which are its own user's.
#[test]
fn loop_the_boot_services_run_without_root() {
    let lab = Lab::new();
    shares(&lab);
    lab.run("chown -R 4242:4242 . && chmod 700 backup");
    serve_by(
        &lab,
        "setpriv --reuid 4242 --regid 4242 --clear-groups --inh-caps=-all,+net_bind_service,+net_raw \
         --ambient-caps=-all,+net_bind_service,+net_raw --bounding-set=-all,+net_bind_service,+net_raw",
        "--tftp --interface lab",
    );
    assert!(log(&lab).contains("as user 4242, with "), "{}", log(&lab));
    assert_eq!(get(&lab, "10.9.0.100", "pxelinux.0"), Ok(b"pxelinux.0".to_vec()), "{}", log(&lab));
}

/// What cannot be confined, or is not there, is refused with its reason.
#[test]
fn loop_serve_refuses_what_it_cannot_confine() {
    let lab = Lab::new();
    shares(&lab);
    lab.run("cp -r backup tftp/backup && chmod 755 tftp/backup");
    for (words, reason) in [
        ("--backup-dir tftp/backup --interface lab", "the boot services can still read "),
        ("--backup-dir backup --interface absent", "UDP port 69 on absent: "),
        ("--backup-dir backup --interface lab --boot-user root", "--boot-user: it must not be root"),
        ("--backup-dir backup --interface lab --machines backup/testbox-backup", "testbox-backup: "),
    ] {
        let program = env!("CARGO_BIN_EXE_testboxctl");
        let said = lab.run(&format!(
            "! timeout 20 {program} serve --tftp-dir tftp --plain --listen 127.0.0.1:0 --state-dir state --tftp {words}"
        ));
        assert!(said.contains(reason), "{words}: {said}");
    }
    // Another server has the port.
    lab.run("in.tftpd --listen --user nobody --address 10.9.0.1:69 --secure $PWD/tftp");
    serve(&lab, "", "--tftp --interface lab");
    assert!(log(&lab).contains("another TFTP server has it"), "{}", log(&lab));
}
