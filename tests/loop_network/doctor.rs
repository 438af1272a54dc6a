//! `testboxctl doctor` on labs that are broken in one place each, with the servers that labs have: the finding that it must
//! name, and no other. What stands here beside a row's own parts is said by no other row.

use crate::advice::Advice;
use crate::lab::Lab;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const PROGRAM: &str = env!("CARGO_BIN_EXE_testboxctl");
const RELEASE: &str = "6.1.0-1-amd64";

/// Which parts a row is about, how the lab is broken, the finding, and what its cure says.
struct Row {
    broken: &'static str,
    how: String,
    finding: &'static str,
    cure: &'static str,
}

fn row(broken: &'static str, how: impl Into<String>, finding: &'static str, cure: &'static str) -> Row {
    Row { broken, how: how.into(), finding, cure }
}

fn kernel() -> Vec<u8> {
    let mut bytes = vec![0; 2000];
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x20e] = 0x50;
    bytes[0x250..0x250 + RELEASE.len()].copy_from_slice(RELEASE.as_bytes());
    bytes
}

/// A program of UEFI with these lists of SBAT: its own, and what it demands.
fn efi(sbat: &str, demands: &str) -> Vec<u8> {
    let mut levels = vec![0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0];
    levels.extend(demands.bytes());
    let sections = [(*b".sbat\0\0\0", sbat.as_bytes().to_vec()), (*b".levels\0", levels)];
    let mut bytes = vec![0; 0x200];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x40;
    bytes[0x40..0x48].copy_from_slice(b"PE\0\0\x64\x86\x02\0");
    for (n, (name, content)) in sections.iter().enumerate() {
        let (at, offset) = (0x58 + n * 40, bytes.len() as u32);
        bytes[at..at + 8].copy_from_slice(name);
        bytes[at + 16..at + 20].copy_from_slice(&(content.len() as u32).to_le_bytes());
        bytes[at + 20..at + 24].copy_from_slice(&offset.to_le_bytes());
        bytes.extend(content);
    }
    bytes
}

const INITRD: &str = "make_initrd() { rm -rf root && mkdir -p root/usr/lib/modules/$1 root/usr/sbin && \
    printf \"/run/testbox$2\" >root/usr/sbin/testbox-agent && \
    (cd root && find . | busybox cpio -o -H newc 2>/dev/null) | zstd -q; }";

/// A lab whose shares are laid out, with `m1` as a known machine; what `init` says of DHCP.
fn laid_out() -> (Lab, Advice) {
    let lab = Lab::new();
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    for file in ["pxelinux.0", "ldlinux.c32"] {
        fs::write(lab.dir().join(file), file).unwrap();
    }
    fs::write(lab.dir().join("vmlinuz"), kernel()).unwrap();
    fs::write(lab.dir().join("shim"), efi("sbat,1,x\nshim,4,x\n", "sbat,1,2025021800\nshim,4\ngrub,5\n\0"))
        .unwrap();
    fs::write(lab.dir().join("grub"), efi("sbat,1,x\ngrub,5,x\n", "")).unwrap();
    fs::write(lab.dir().join("oldgrub"), efi("sbat,1,x\ngrub,3,x\n", "")).unwrap();
    lab.run(&format!(
        "{INITRD}; make_initrd {RELEASE} 'testbox-agent {}' >initrd.img",
        env!("CARGO_PKG_VERSION")
    ));
    let said = lab.run(&format!(
        "{PROGRAM} init --tftp-dir tftp --backup-dir backup --network 10.9.0.0/24 --pxelinux-dir . --modules-dir . \
         --boot-files vmlinuz initrd.img --shim shim --grub grub"
    ));
    let machines = "[tb1]\naddress = \"10.9.0.50\"\nmac = \"52:54:00:09:00:01\"\n";
    fs::write(lab.dir().join("machines.toml"), machines).unwrap();
    settings(&lab, "boot = \"testbox\"");
    (lab, Advice(said))
}

fn settings(lab: &Lab, more: &str) {
    let dir = lab.dir().display();
    let text = format!(
        "server = \"10.9.0.1\"\nnetwork = \"10.9.0.0/24\"\nmachines = \"{dir}/machines.toml\"\ntftp-dir = \"{dir}/tftp\"\n\
         backup-dir = \"{dir}/backup\"\nbackup = \"10.9.0.1:{dir}/backup\"\ntftp = \"10.9.0.1:{dir}/tftp\"\n{more}\n"
    );
    fs::write(lab.dir().join("settings.toml"), text).unwrap();
}

/// What the doctor finds, as it tells programs.
fn findings(lab: &Lab, words: &str) -> (Vec<Value>, String) {
    let said =
        lab.run(&format!("{PROGRAM} --config settings.toml doctor --wait 2 --json {words} || [ $? = 1 ]"));
    let value: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    let areas = value["areas"].as_array().unwrap();
    (areas.iter().flat_map(|area| area["findings"].as_array().unwrap().clone()).collect(), said)
}

/// Breaks the lab as each row says, and heals it afterwards.
fn check(lab: &Lab, words: &str, heal: &str, rows: &[Row]) {
    for Row { broken, how, finding, cure } in rows {
        lab.run(how);
        let (found, said) = findings(lab, words);
        let ids: Vec<&str> = found.iter().filter_map(|finding| finding["id"].as_str()).collect();
        assert_eq!(ids, finding.split(' ').collect::<Vec<_>>(), "{broken}: {said}");
        let told = found[0]["cure"].as_str().unwrap();
        assert!(told.contains(cure), "{broken}: {told}");
        lab.run(heal);
    }
    let (found, said) = findings(lab, words);
    assert!(found.is_empty(), "healed: {said}");
}

const STOP: &str = "for pid in $(cat /run/dhcp.pid /run/other.pid 2>/dev/null); do kill -9 $pid 2>/dev/null || true; done; \
                    rm -f /run/dhcp.pid /run/other.pid; \
                    timeout 10 bash -c 'while ss -Huln sport = :67 | grep -q .; do sleep 0.1; done'; ";

/// dnsmasq with the lines of `init` and the reservations of `machines reservations`.
fn dnsmasq(lab: &Lab, advice: &Advice) -> String {
    let told = lab.run(&format!("{PROGRAM} --config settings.toml machines reservations dnsmasq"));
    let common = format!(
        "port=0\ninterface=lab\nbind-dynamic\nno-ping\ndhcp-authoritative\nuser=root\npid-file=/run/dhcp.pid\n\
         dhcp-leasefile=/run/leases\nenable-tftp\ntftp-root={}\n",
        lab.dir().join("tftp").display()
    );
    let boot = advice.words("dnsmasq");
    let range = "dhcp-range=10.9.0.100,10.9.0.120,600\n";
    let write = |name: &str, text: String| fs::write(lab.dir().join(name), text).unwrap();
    write("good.conf", format!("{common}{range}{told}{boot}\n"));
    write("no-file.conf", format!("{common}{range}{told}"));
    write("same-file.conf", format!("{common}{range}{told}dhcp-boot=pxelinux.0,,10.9.0.1\n"));
    write("no-reservation.conf", format!("{common}{range}{boot}\n"));
    write(
        "http.conf",
        format!("{common}{range}{told}{boot}\ndhcp-boot=tag:http,http://10.9.0.1/shimx64.efi\n"),
    );
    let chain = boot.replace("pxelinux.0,", "undionly.kpxe,");
    fs::write(lab.dir().join("tftp/undionly.kpxe"), "x").unwrap();
    write("ipxe.conf", format!("{common}{range}{told}{chain}\n"));
    write("proxy.conf", "port=0\ninterface=eth0\nbind-dynamic\nuser=root\npid-file=/run/other.pid\ndhcp-range=10.9.0.0,proxy\n\
         pxe-service=x86PC,\"testbox\",pxelinux\npxe-service=X86-64_EFI,\"testbox\",shimx64.efi\n".into());
    write("isc.conf", "authoritative; ping-check false;\nsubnet 10.9.0.0 netmask 255.255.255.0 { range 10.9.0.130 10.9.0.140; }\n".into());
    let words = advice.words("ISC dhcpd").replace("next-server 10.9.0.1", "next-server 10.9.0.77");
    let isc = format!(
        "authoritative; ping-check false;\nsubnet 10.9.0.0 netmask 255.255.255.0 {{ range 10.9.0.100 10.9.0.120;\nhost tb1 {{ \
         hardware ethernet 52:54:00:09:00:01; fixed-address 10.9.0.50; }}\n{words} }}\n"
    );
    write("next.conf", isc);
    write("class.conf", "authoritative; ping-check false;\nsubnet 10.9.0.0 netmask 255.255.255.0 { range 10.9.0.100 10.9.0.120;\nhost \
         tb1 { hardware ethernet 52:54:00:09:00:01; fixed-address 10.9.0.50; }\noption vendor-class-identifier \"PXEClient\"; }\n".into());
    let kea = r#"{ "Dhcp4": { "interfaces-config": { "interfaces": [ "lab" ], "dhcp-socket-type": "raw" },
        "lease-database": { "type": "memfile", "persist": false }, "next-server": "10.9.0.1",
        "client-classes": [ { "name": "a", "test": "option[93].hex == 0x0000", "boot-file-name": "/srv/tftp/pxelinux.0" },
        { "name": "b", "test": "option[93].hex == 0x0007", "boot-file-name": "shimx64.efi" } ],
        "subnet4": [ { "id": 1, "subnet": "10.9.0.0/24", "pools": [ { "pool": "10.9.0.100 - 10.9.0.120" } ],
        "reservations": [ { "hw-address": "52:54:00:09:00:01", "ip-address": "10.9.0.50" } ] } ],
        "loggers": [ { "name": "kea-dhcp4", "severity": "INFO", "output_options": [ { "output": "stdout" } ] } ] } }"#;
    write("kea.conf", kea.into());
    format!("{STOP} rm -f /run/leases; dnsmasq --conf-file=good.conf")
}

#[test]
fn loop_doctor_names_what_is_wrong_with_dhcp() {
    let (lab, advice) = laid_out();
    let good = dnsmasq(&lab, &advice);
    lab.run(&good);
    let with = |conf: &str| format!("{STOP} rm -f /run/leases; dnsmasq --conf-file={conf}");
    // TFTP stays with dnsmasq where another server gives addresses.
    let tftp = "dnsmasq --conf-file=/dev/null --port=0 --interface=lab --bind-dynamic --user=root --enable-tftp \
                --tftp-root=$PWD/tftp --pid-file=/run/other.pid";
    let isc = |conf: &str| {
        let dhcpd = format!("dhcpd -q -f -4 -cf {conf} -lf leases --no-pid lab >isc.log 2>&1");
        format!("{STOP} {tftp}; : >leases; ({dhcpd} & echo $! >/run/dhcp.pid); sleep 0.5")
    };
    let kea = format!(
        "{STOP} {tftp}; mkdir -p /run/kea; rm -f /run/kea/*; (KEA_PIDFILE_DIR=/run/kea KEA_LOCKFILE_DIR=/run/kea kea-dhcp4 -c \
         kea.conf >kea.log 2>&1 & echo $! >/run/dhcp.pid); timeout 20 bash -c 'until grep -q DHCP4_STARTED kea.log; do sleep 0.1; done'"
    );
    let elsewhere = format!("{}; ip netns exec s2 dnsmasq --conf-file=proxy.conf", with("no-file.conf"));
    let second = "(: >other.leases; ip netns exec s2 dhcpd -q -f -4 -cf isc.conf -lf other.leases --no-pid eth0 >isc.log 2>&1 & \
                  echo $! >/run/other.pid); sleep 0.5";
    check(
        &lab,
        "--only dhcp",
        &good,
        &[
            row("nobody answers", STOP, "dhcp-none", "start the network's DHCP server"),
            row("two servers", second, "dhcp-two-servers", "stop all but one"),
            row("no boot file", with("no-file.conf"), "dhcp-no-file", "testboxctl init"),
            row(
                "the BIOS's file for all",
                with("same-file.conf"),
                "dhcp-wrong-loader",
                "shimx64.efi to types 7 and 9",
            ),
            row("another next-server", isc("next.conf"), "dhcp-next-server", "next-server 10.9.0.1"),
            row(
                "a class that only proxies have",
                isc("class.conf"),
                "dhcp-proxy-silent",
                "vendor-class-identifier",
            ),
            row("a proxy of elsewhere", elsewhere, "dhcp-next-server", "next-server 10.9.0.1"),
            row(
                "a path of the server's disk",
                kea,
                "dhcp-file-not-served",
                "below the root of the TFTP server: pxelinux.0",
            ),
            row("no reservation", with("no-reservation.conf"), "dhcp-address", "machines reservations"),
            row("HTTP boot is answered", with("http.conf"), "dhcp-http-boot", "types 16 and 19 with no file"),
            row("iPXE loads itself", with("ipxe.conf"), "dhcp-ipxe-loop", "user class iPXE"),
        ],
    );
}

/// The same tree by each of two TFTP servers.
#[test]
fn loop_doctor_names_what_is_wrong_with_boot_files() {
    let (lab, _) = laid_out();
    let start =
        "in.tftpd --listen --user nobody --address 10.9.0.1:69 --pidfile /run/tftp.pid --secure $PWD/tftp";
    let gone = "timeout 10 bash -c 'while ss -Huln sport = :69 | grep -q .; do sleep 0.1; done'";
    let stop = format!("pkill -x in.tftpd; {gone}; ");
    lab.run(&format!("cp -a tftp good; {start}; mkdir -p other && echo x >other/pxelinux.0"));
    // Whatever a row has done.
    let heal = format!(
        "pkill -x in.tftpd || true; pkill -x dnsmasq || true; {gone}; \
         rm -rf tftp && cp -a good tftp; {start}"
    );
    let initrd = |words: &str| format!("{INITRD}; make_initrd {words} >tftp/maintenance-boot/initrd.img");
    let version = env!("CARGO_PKG_VERSION");
    let boot = "tftp/maintenance-boot";
    check(
        &lab,
        "--only tftp --only boot",
        &heal,
        &[
            row("no TFTP server", stop.clone(), "tftp-silent", "systemctl start tftpd-hpa"),
            row(
                "another root",
                format!(
                    "{stop} dnsmasq --conf-file=/dev/null --port=0 --interface=lab --bind-dynamic --user=nobody --enable-tftp \
                     --tftp-root=$PWD/empty --pid-file=/run/x.pid & mkdir -p empty; sleep 0.3"
                ),
                "tftp-root",
                "tftp-root=",
            ),
            row(
                "a file is missing",
                "rm tftp/ldlinux.c32",
                "tftp-missing",
                "apt-get install pxelinux syslinux-common",
            ),
            row("a file is closed", format!("chmod 600 {boot}/vmlinuz"), "tftp-not-readable", "chmod o+r"),
            row(
                "modules of another kernel",
                initrd(&format!("5.10.0-9-amd64 'testbox-agent {version}'")),
                "boot-kernel-initrd",
                "make-nfsroot",
            ),
            row(
                "no agent",
                initrd(&format!(
                    "{RELEASE} x; rm root/usr/sbin/testbox-agent; (cd root && find . | busybox cpio -o -H newc 2>/dev/null) | zstd -q"
                )),
                "boot-no-agent",
                "make-nfsroot",
            ),
            row(
                "an older agent",
                initrd(&format!("{RELEASE} 'testbox-agent 0.0.9'")),
                "boot-agent-version",
                "scripts/build",
            ),
            row(
                "an initramfs that is cut",
                format!("truncate -s -60 {boot}/initrd.img"),
                "boot-initrd-damaged",
                "make-nfsroot",
            ),
            row("an empty kernel", format!(": >{boot}/vmlinuz"), "boot-empty", "make-nfsroot"),
            row(
                "an older GRUB beside shim",
                "cp oldgrub tftp/grubx64.efi",
                "boot-uefi-pair",
                "shim-signed grub-efi-amd64-signed",
            ),
            row("shim without GRUB", "rm tftp/grubx64.efi", "tftp-missing", "grub-efi-amd64-signed"),
            row(
                "somebody's own grub.cfg",
                "echo 'set timeout=5' >tftp/grub/grub.cfg",
                "boot-grub-cfg",
                "testboxctl init",
            ),
            row(
                "unarmed machines boot a kernel",
                "printf 'DEFAULT x\\nLABEL x\\nKERNEL k\\nAPPEND a=b\\n' >tftp/pxelinux.cfg/default",
                "boot-default",
                "testboxctl init",
            ),
            row(
                "an armed file that nobody may read",
                format!(
                    "{PROGRAM} --config settings.toml arm 10.9.0.50 backup && chmod 600 tftp/pxelinux.cfg/0A090032"
                ),
                "tftp-armed-file",
                "chmod 644",
            ),
        ],
    );
}

/// rpcbind and nfs-ganesha with these exports, as the emulated machines of other tests have them; `ro` and `gone` are patterns of
/// names.
const NFS: &str = r#"
mkdir -p /run/dbus /run/rpcbind /run/ganesha/recovery
cat >conf <<EOF
NFS_CORE_PARAM { Protocols = 3,4; Enable_NLM = false; Enable_RQUOTA = false; MNT_Port = 20048; }
NFSv4 { Graceless = true; RecoveryRoot = /run/ganesha/recovery; }
NFS_KRB5 { Active_krb5 = false; }
EOF
n=0
for name in $1; do
  n=$((n + 1)); access=RW; case $2 in *$name*) access=RO ;; esac
  cat >>conf <<EOF
EXPORT { Export_Id = $n; Path = $PWD/$name; Pseudo = $PWD/$name; Access_Type = $access; Squash = No_Root_Squash; SecType = sys;
  Protocols = 3,4; Transports = TCP; PrivilegedPort = false; Attr_Expiration_Time = 0; FSAL { Name = VFS; } }
EOF
done
pgrep -x rpcbind >/dev/null || rpcbind -w
[ -e /run/dbus/system_bus_socket ] || dbus-daemon --system --fork --nopidfile
pkill -9 -x ganesha.nfsd || true
timeout 20 bash -c 'while ss -Htln sport = :2049 | grep -q .; do sleep 0.1; done'
setsid ganesha.nfsd -F -N EVENT -L $PWD/ganesha.log -f conf -p /run/ganesha/pid </dev/null >/dev/null 2>&1 &
timeout 20 bash -c 'until rpcinfo -t 127.0.0.1 nfs 3 >/dev/null 2>&1; do sleep 0.1; done' || { tail -5 ganesha.log; false; }
"#;

/// A whole lab without a finding, asked for everything; and its shares, broken.
#[test]
fn loop_doctor_names_what_is_wrong_with_shares_and_nothing_else() {
    let (lab, advice) = laid_out();
    lab.run(&dnsmasq(&lab, &advice));
    fs::write(lab.dir().join("nfs.sh"), NFS).unwrap();
    lab.run("mkdir -p root/etc && bash -eu nfs.sh 'backup tftp root' root");
    let root = lab.dir().join("root").display().to_string();
    settings(&lab, &format!("nfsroot = \"10.9.0.1:{root},ro\""));
    let (found, said) = findings(&lab, "");
    assert!(found.is_empty(), "{said}");
    for part in [
        "10.9.0.1 gives addresses on lab",
        "BIOS boots pxelinux.0",
        "UEFI boots shimx64.efi",
        "kernel and initramfs are both of",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains("backup may be read and written") && said.contains("root may be read\""), "{said}");
    // For people: nothing wider than the terminal, and the verdict in the last line.
    let shown = lab.run(&format!("{PROGRAM} --config settings.toml doctor --wait 2"));
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(shown.lines().last().unwrap().starts_with("nothing is wrong"), "{shown}");

    let status = r#"{"state":"holding","action":"restore","job":"j1","ip":"10.9.0.50","hostname":"tb1","step":"sda","bytes_done":0,
        "bytes_total":0,"rate":0,"attempt":3,"error":"the disk is gone","code":21,"started":"2026-01-01T00:00:00Z",
        "updated":"2026-01-01T00:00:00Z","version":"0.1.0"}"#;
    fs::write(lab.dir().join("status.json"), status).unwrap();
    let again = |exports: &str, ro: &str| format!("bash -eu nfs.sh '{exports}' '{ro}'");
    let good = again("backup tftp root", "root");
    let heal = format!(
        "[ -e backup/testbox-backup ] || echo x >backup/testbox-backup; umount backup full 2>/dev/null || true; rm -rf backup/10.*; {good}"
    );
    check(
        &lab,
        "--only nfs --only folders --only machines",
        &heal,
        &[
            row(
                "no NFS server",
                "pkill -9 -x ganesha.nfsd; while ss -Htln sport = :2049 | grep -q .; do sleep 0.1; done",
                "nfs-silent",
                "systemctl enable --now nfs-server",
            ),
            row(
                "one export is missing",
                again("backup root", "root"),
                "nfs-no-export",
                "/etc/exports of 10.9.0.1",
            ),
            row(
                "the backups are read-only",
                again("backup tftp root", "root backup"),
                "nfs-read-only",
                "rw,sync",
            ),
            row(
                "machines may write their root",
                again("backup tftp root", ""),
                "nfs-root-writable",
                "ro,sync",
            ),
            row(
                "the disk of the backups is full",
                format!(
                    "mkdir -p full && mount -t tmpfs -o size=8M none full && echo x >full/testbox-backup && mount --bind full backup && {good}"
                ),
                "space-none",
                "testboxctl dedup",
            ),
            row(
                "the disk of the backups is not mounted",
                format!("mkdir -p full && mount -t tmpfs none full && mount --bind full backup && {good}"),
                "nfs-no-marker folder-no-marker",
                "testboxctl init",
            ),
            row(
                "the file server's clock is ahead",
                "mkdir backup/10.9.0.50 && sed s/holding/done/ status.json >backup/10.9.0.50/status.json && touch -d '+2 hours' backup/10.9.0.50/status.json",
                "clock-share",
                "timedatectl set-ntp true",
            ),
            row(
                "a machine that waits for a human",
                "mkdir backup/10.9.0.50 && cp status.json backup/10.9.0.50/",
                "machine-holds",
                "testboxctl status 10.9.0.50",
            ),
        ],
    );
}

/// A lab of `serve` alone: store, DHCP and TFTP; and what goes wrong with a store.
#[test]
fn loop_doctor_names_what_is_wrong_with_a_store() {
    let (lab, _) = laid_out();
    let start = format!(
        "setsid {PROGRAM} serve --backup-dir backup --tftp-dir tftp --listen 10.9.0.1:7443 --key $PWD/key.pem --tftp --dhcp \
         10.9.0.110-10.9.0.119 --interface lab --machines machines.toml --state-dir state >serve.out 2>serve.log </dev/null & \
         echo $! >/run/serve.pid; timeout 60 bash -c 'until grep -qE \" serves |^testboxctl: \" serve.log; do sleep 0.1; done'"
    );
    lab.run(&start);
    let key = fs::read_to_string(lab.dir().join("serve.out")).unwrap();
    let key = key.lines().find(|line| line.starts_with("store-key")).unwrap().to_owned();
    // The settings without shares by NFS.
    let with = |key: &str| {
        let dir = lab.dir().display();
        let text = format!(
            "server = \"10.9.0.1\"\nnetwork = \"10.9.0.0/24\"\nmachines = \"{dir}/machines.toml\"\ntftp-dir = \"{dir}/tftp\"\n\
             backup-dir = \"{dir}/backup\"\nboot = \"testbox\"\nstore = \"https://10.9.0.1:7443\"\n{key}\n"
        );
        fs::write(lab.dir().join("settings.toml"), text).unwrap();
    };
    with(&key);
    let (found, said) = findings(&lab, "");
    assert!(found.is_empty(), "{said}\n{}", lab.run("cat serve.log"));
    assert!(said.contains("https://10.9.0.1:7443 is a store of"), "{said}");
    assert!(said.contains("UEFI boots shimx64.efi"), "{said}");

    fs::write(lab.dir().join("nfs.sh"), NFS).unwrap();
    fs::write(lab.dir().join("other-key.toml"), format!("store-key = \"{}\"", "ab".repeat(32))).unwrap();
    let named =
        |key: &str| format!("cp settings.toml good.toml; sed -i 's/^store-key.*/{key}/' settings.toml");
    let heal = format!(
        "[ ! -e good.toml ] || mv good.toml settings.toml; pkill -9 -x ganesha.nfsd || true; pgrep -f ' serve ' >/dev/null && ss \
         -Htln sport = :7443 | grep -q . || {{ {start}; }}"
    );
    check(
        &lab,
        "--only store --only nfs",
        &heal,
        &[
            row(
                "another key",
                named(&format!("store-key = \"{}\"", "ab".repeat(32))),
                "store-key",
                "store-key =",
            ),
            row(
                "the store is down",
                "kill -9 $(cat /run/serve.pid); timeout 10 bash -c 'while ss -Htln sport = :7443 | grep -q .; do sleep 0.1; done'",
                "store-silent",
                "systemctl start testbox-store",
            ),
            row(
                "the same folder is writable by NFS",
                "bash -eu nfs.sh backup ''",
                "nfs-beside-store",
                "exportfs -ra",
            ),
        ],
    );
}
