//! Who the boot server is: what the loader is told by the lines that `testboxctl init` prints, and where the agent looks.

use crate::advice::Advice;
use crate::lab::{Booted, Lab};
use crate::lease::{FIRST, HEX};
use crate::loader::{Loader, Told};
use crate::servers::{Pool, Server};
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use testbox::net::tftp::{Limits, PORT, TftpClient, TftpError};

pub const MACHINE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
/// Where `init` and `arm` run; DHCP and the router are 10.9.0.1.
pub const BOOT_SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub const SERVERS: [Server; 3] = [Server::Dnsmasq, Server::Isc, Server::Kea];

/// What every DHCP server tells them, ours too.
pub const TOLD: [(Loader, &str); 7] = [
    (Loader::Rom, "pxelinux.0"),
    (Loader::Ipxe, "pxelinux.0"),
    (Loader::Uefi, "shimx64.efi"),
    (Loader::UefiByRfc, "shimx64.efi"),
    (Loader::UefiArm64, "shimaa64.efi"),
    // A machine that is not armed would take what it is given by HTTP before its disk.
    (Loader::Http, ""),
    (Loader::HttpArm64, ""),
];
/// And every proxy, where there is a GRUB that knows whom to ask.
pub const TOLD_BY_PROXY: [(Loader, &str); 3] =
    [(Loader::Rom, "pxelinux.0"), (Loader::Ipxe, "pxelinux.0"), (Loader::Uefi, "testbox-grub.efi")];

/// The shares of the boot server, as `init` lays them out; what it says.
pub fn init(lab: &Lab) -> Advice {
    // TFTP servers read as another account.
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    for file in ["pxelinux.0", "ldlinux.c32", "vmlinuz", "initrd.img", "shim", "grub"] {
        fs::write(lab.dir().join(file), file).unwrap();
    }
    let advice = Advice(ctl(
        lab,
        "init --tftp-dir tftp --backup-dir backup --network 10.9.0.0/24 --pxelinux-dir . --modules-dir . \
         --boot-files vmlinuz initrd.img --shim shim --grub grub",
    ));
    fs::write(lab.dir().join("tftp/testbox-grub.efi"), "testbox-grub.efi").unwrap();
    advice
}

pub fn ctl(lab: &Lab, words: &str) -> String {
    lab.run(&format!("ip netns exec s2 {} {words}", env!("CARGO_BIN_EXE_testboxctl")))
}

/// Runs dnsmasq on the boot server with these lines, and nothing else that decides what it says.
fn dnsmasq(lab: &Lab, lines: &str) {
    fs::write(lab.dir().join("boot.conf"), lines).unwrap();
    lab.run(
        "ip netns exec s2 dnsmasq --conf-file=boot.conf --user=root --pid-file=/run/boot.pid \
         --dhcp-leasefile=/run/boot.leases --log-dhcp --log-facility=$PWD/boot.log",
    );
}

/// What the loader of the machine is told; its NIC is then as it was.
pub fn told(lab: &Lab, loader: Loader, is_with_proxy: bool) -> Told {
    let address = |verb: &str| lab.run(&format!("ip -n m1 address {verb} dev eth0"));
    let told =
        lab.within("m1", || loader.ask(is_with_proxy, |own| drop(address(&format!("replace {own}/24")))));
    address("flush");
    told
}

/// Gets files by TFTP as the machine's loader does, with the address that it was given.
pub fn fetch(lab: &Lab, server: Ipv4Addr, path: &str) -> Result<String, TftpError> {
    lab.run(&format!("ip -n m1 address replace {MACHINE}/24 dev eth0"));
    let client = TftpClient::new(Limits { timeout: Duration::from_secs(2), ..Limits::default() });
    let got = lab.within("m1", || client.fetch(SocketAddrV4::new(server, PORT), path));
    lab.run("ip -n m1 address flush dev eth0");
    got.map(|bytes| String::from_utf8(bytes).unwrap())
}

/// The words of the machine's file, without those of its job: what the kernel of a machine gets that asks for its job.
fn words_without_job(file: &str) -> String {
    let append = file.lines().find_map(|line| line.trim().strip_prefix("APPEND ")).expect(file);
    let is_of_job =
        |word: &&str| ["initrd=", "testbox.action=", "testbox.job="].iter().any(|key| word.starts_with(key));
    let words: Vec<&str> = append.split_whitespace().filter(|word| !is_of_job(word)).collect();
    format!("{} BOOTIF=01-52-54-00-09-00-01", words.join(" "))
}

/// The machine's own file on the boot server orders this job by TFTP.
pub fn put_job(lab: &Lab, job: &str) {
    let folder = lab.dir().join("tftp/testbox.cfg");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(HEX), format!("testbox.action=backup\ntestbox.job={job}\n")).unwrap();
}

pub fn took_job(booted: &Booted, job: &str) -> bool {
    booted.console.contains(&format!("(job {job})"))
}

/// A server on the same network that gives addresses and knows nothing of booting: the ROM and iPXE are told boot server
/// and file by the lines for a proxy, Linux is told another server, and the agent asks the one that `arm` wrote down.
#[test]
fn loop_the_lines_for_a_proxy_lead_loader_and_agent_there() {
    for main in SERVERS {
        let lab = Lab::new();
        let advice = init(&lab);
        main.start_with(&lab, Pool::One(600), "");
        dnsmasq(&lab, &advice.file("# 3a."));
        for (loader, file) in TOLD_BY_PROXY {
            let told = told(&lab, loader, true);
            let expected = Told { address: MACHINE, server: BOOT_SERVER, file: file.into() };
            assert_eq!(told, expected, "{main:?}: {}", lab.run("cat boot.log"));
            assert_eq!(fetch(&lab, told.server, &told.file).unwrap(), file);
        }
        ctl(
            &lab,
            "arm --tftp-dir tftp --backup-dir backup --boot testbox --server 10.9.0.2 --net-wait 5 --error-wait 0 \
             --mount-wait 1 10.9.0.100 backup",
        );
        let file = fetch(&lab, BOOT_SERVER, &format!("pxelinux.cfg/{HEX}")).unwrap();
        let job = file.split_whitespace().find_map(|word| word.strip_prefix("testbox.job=")).expect(&file);
        let found = lab.boot_all("m1", &words_without_job(&file));
        assert_eq!(found.value("ROOTSERVER").as_deref(), Some("10.9.0.1"), "{main:?}: {}", found.console);
        assert!(took_job(&found, job), "{main:?}: {}", found.console);
        // Without what `arm` wrote nothing leads there.
        let lost = lab.boot_all("m1", FIRST.replace("net-wait=20", "net-wait=5").as_str());
        assert!(lost.console.contains("[no-action 22]"), "{main:?}: {}", lost.console);
        assert!(lost.console.contains("10.9.0.1 (DHCP)"), "{main:?}: {}", lost.console);
    }
}

/// A DHCP server that is told the boot server in the words that `init` has for it: loader and Linux are told the same.
#[test]
fn loop_the_words_for_a_dhcp_server_name_one_server_to_all() {
    for (main, name) in SERVERS.into_iter().zip(["dnsmasq", "ISC dhcpd", "Kea"]) {
        let lab = Lab::new();
        let advice = init(&lab);
        main.start_with(&lab, Pool::One(600), &advice.words(name));
        dnsmasq(&lab, &advice.file("# 3b."));
        for (loader, file) in TOLD {
            let told = told(&lab, loader, false);
            assert_eq!((told.address, told.file.as_str()), (MACHINE, file), "{main:?} {loader:?}");
            assert!(file.is_empty() || told.server == BOOT_SERVER, "{main:?} {loader:?}: {told:?}");
        }
        put_job(&lab, "by-dhcp");
        let found = lab.boot_all("m1", FIRST);
        assert_eq!(found.value("ROOTSERVER").as_deref(), Some("10.9.0.2"), "{main:?}: {}", found.console);
        assert!(took_job(&found, "by-dhcp"), "{main:?}: {}", found.console);
    }
}

/// Every URL of the script leads to a file of the boot server. That iPXE runs it, and what PXELINUX makes of it, is shown
/// by an emulated machine.
#[test]
fn loop_the_urls_of_the_ipxe_script_are_served() {
    let lab = Lab::new();
    let advice = init(&lab);
    dnsmasq(&lab, &advice.file("# 3b."));
    let script = advice.ipxe_script();
    let urls: Vec<&str> =
        script.split_whitespace().filter_map(|word| word.strip_prefix("tftp://10.9.0.2/")).collect();
    assert_eq!(urls, ["", "pxelinux.0"], "{script}");
    for path in [urls[1].to_owned(), format!("{}pxelinux.cfg/default", urls[0])] {
        assert!(fetch(&lab, BOOT_SERVER, &path).is_ok(), "{path}");
    }
}

/// Nobody is named as the boot server: that of the TFTP share, that of the NFS root, that of DHCP are asked, in order.
#[test]
fn loop_the_server_of_a_share_or_root_is_asked_before_dhcps() {
    let lab = Lab::new();
    Server::Dnsmasq.start(&lab, Pool::One(600));
    init(&lab);
    put_job(&lab, "by-share");
    lab.run("ip netns exec s2 in.tftpd --listen --user nobody --address 10.9.0.2:69 --secure $PWD/tftp");
    for words in [
        "testbox.tftp=10.9.0.2:/export/testbox-tftp",
        "nfsroot=10.9.0.2:/export/testbox-nfsroot,ro,tcp",
        // Silent, because there is no such machine; the next candidate has the file.
        "testbox.tftp=10.9.0.77:/export/testbox-tftp nfsroot=10.9.0.2:/export/testbox-nfsroot",
    ] {
        let found = lab.boot_all("m1", &format!("{FIRST} {words}"));
        assert_eq!(found.value("ROOTSERVER").as_deref(), Some("10.9.0.1"), "{}", found.console);
        assert!(took_job(&found, "by-share"), "{words}: {}", found.console);
    }
}

/// None of several candidates serves TFTP at first: all are asked again until one does, or `testbox.net-wait` is over.
#[test]
fn loop_all_candidates_are_asked_until_net_wait_is_over() {
    let lab = Lab::new();
    Server::Dnsmasq.start(&lab, Pool::One(600));
    init(&lab);
    put_job(&lab, "at-last");
    let words = "testbox.tftp=10.9.0.77:/t nfsroot=10.9.0.2:/r";
    let lost = lab.boot_all("m1", &format!("{} {words}", FIRST.replace("net-wait=20", "net-wait=5")));
    let text = lost.console.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("[no-action 22]"), "{text}");
    let all = ["10.9.0.77 (testbox.tftp=)", "10.9.0.2 (nfsroot=)", "10.9.0.1 (DHCP)"];
    let told = text.find("cannot ask by TFTP for an action").map(|at| &text[at..]).expect(&text);
    let places: Vec<_> = all.iter().map(|server| told.find(server)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{all:?} in this order: {told}");

    // The next boot's console alone says when.
    lab.run("rm -rf m1-*");
    lab.run(
        "(timeout 120 bash -c 'until grep -qs \"asking again\" m1-*/dev/console m1-*/conf/kmsg; do sleep 0.1; done'; \
         ip netns exec s2 in.tftpd --listen --user nobody --address 10.9.0.2:69 --secure $PWD/tftp) >/dev/null 2>&1 &",
    );
    let found = lab.boot_all("m1", &format!("{} {words}", FIRST.replace("net-wait=20", "net-wait=120")));
    assert!(took_job(&found, "at-last"), "{}", found.console);
}
