use super::*;
use crate::efi::{LoadOption, MemVariables, Platform};
use crate::inventory::fixture::SysfsTree;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

fn me() -> MachineIdentity {
    MachineIdentity { ip: Ipv4Addr::new(10, 40, 41, 42), hexip: "0A28292A".into(), hostname: "tb42".into() }
}

/// A machine below `tree`, whose disks hold zeros.
fn sources(tree: &SysfsTree) -> InfoSources {
    InfoSources {
        proc: tree.root().join("proc"),
        sys: tree.sys(),
        dev: "/dev".into(),
        kernel_log: Box::new(|| Ok("[    0.000000] Linux version\n".into())),
        open_disk: Box::new(|_| Ok(Box::new(vec![0u8; 4096]))),
        firmware: None,
    }
}

fn machine() -> SysfsTree {
    let tree = SysfsTree::new();
    let proc = tree.root().join("proc");
    fs::create_dir_all(&proc).unwrap();
    for (name, text) in
        [("cpuinfo", "processor\t: 0\n"), ("version", "Linux 6.1\n"), ("cmdline", "boot=testbox\n")]
    {
        fs::write(proc.join(name), text).unwrap();
    }
    let nic = "devices/pci0000:00/0000:00:02.0";
    for (attr, value) in [
        ("class", "0x020000"),
        ("vendor", "0x8086"),
        ("device", "0x10d3"),
        ("subsystem_vendor", "0x8086"),
        ("subsystem_device", "0x0001"),
        ("revision", "0x03"),
        ("resource", "0x00000000febc0000 0x00000000febdffff 0x0000000000040200\n"),
    ] {
        tree.file(&format!("{nic}/{attr}"), value);
    }
    tree.file(&format!("{nic}/config"), [[0x86, 0x80].repeat(8), vec![0; 240]].concat());
    tree.file("bus/pci/drivers/e1000e/x", "").link(&format!("{nic}/driver"), "bus/pci/drivers/e1000e");
    tree.link("bus/pci/devices/0000:00:02.0", nic);
    tree.file(&format!("{nic}/net/enp0s2/address"), "52:54:00:12:34:56\n");
    tree.link(&format!("{nic}/net/enp0s2/device"), nic)
        .link("class/net/enp0s2", &format!("{nic}/net/enp0s2"));
    tree.disk("pci0000:00/0000:00:05.0/virtio0/block/vda", "../..");
    tree.file("firmware/acpi/tables/DSDT", b"DSDT");
    tree.file("firmware/acpi/tables/data/raw_event_log", b"never read");
    tree.file("firmware/dmi/tables/DMI", b"\x7f\x04\0\0\0\0");
    tree.file("firmware/dmi/tables/smbios_entry_point", b"_SM3_\0\0\x03\x02\0");
    tree
}

#[test]
fn boot_entries_of_the_firmware_are_shown() {
    let tree = machine();
    let option = LoadOption { attributes: 1, name: "a\u{1b}b".into(), ..LoadOption::default() };
    let values = [("Boot000A".into(), option.to_bytes().unwrap()), ("BootOrder".into(), vec![10, 0])];
    let shown = |variables| {
        let firmware = Some(Platform { bits: Some(64), variables });
        collect(&InfoSources { firmware, ..sources(&tree) }, &me()).text
    };
    let text = shown(Ok(Arc::new(MemVariables::new(values))));
    assert!(text.contains("Boot entries:\n\tSecure Boot: unknown\n\tBootOrder: 000A\n"), "{text}");
    assert!(text.contains("\tBoot000A 'a\\u{1b}b': other ()"), "{text}");
    assert!(shown(Err("EPERM".into())).contains("\tboot entries: EPERM"));
}

#[test]
fn text_starts_with_who_and_has_every_section() {
    let tree = machine();
    let text = collect(&sources(&tree), &me()).text;
    assert!(text.starts_with("IP:       10.40.41.42\nHEX-IP:   0A28292A\nHostname: tb42\n"), "{text}");
    for want in [
        "processor\t: 0\n",
        "boot=testbox\n",
        "0000:00:02.0 [020000] Ethernet controller: 8086:10d3 (rev 03), subsystem 8086:0001\n\tdriver: e1000e\n",
        "\tBAR 0: memory 0xfebc0000-0xfebdffff (131072 bytes)\n00: 86 80 86",
        "enp0s2\n\taddress: 52:54:00:12:34:56\n",
        "\tdriver: e1000e\n",
        "SMBIOS 3.2\nHandle 0x0000, type 127: End of table\n",
        "vda: 1.0 GB (1073741824 bytes), unknown model, no serial, at pci-0000:00:05.0\n",
        "\tpartition table: none",
        "[    0.000000] Linux version\n",
    ] {
        assert!(text.contains(want), "{want:?} is missing in\n{text}");
    }
}

#[test]
fn a_pci_device_without_its_driver_stands_out() {
    let tree = machine();
    let text = || collect(&sources(&tree), &me()).text;
    assert!(!text().contains("driver: NONE"));
    fs::remove_file(tree.sys().join("devices/pci0000:00/0000:00:02.0/driver")).unwrap();
    let wanted = "8086:10d3 (rev 03), subsystem 8086:0001\n\tdriver: NONE";
    assert!(text().contains(wanted), "{}", text());
}

/// A command line is copied by the kernel's log, by device trees and by emulators' configuration.
#[test]
fn no_secret_of_the_command_line_is_in_text_or_archive() {
    let tree = machine();
    let line = "boot=testbox testbox.token=hush-hush iscsi_password=pw x=nfs://u:sesame1@h/";
    fs::write(tree.root().join("proc/cmdline"), format!("{line}\n")).unwrap();
    tree.file("firmware/devicetree/base/chosen/bootargs", format!("{line}\0"));
    let mut sources = sources(&tree);
    sources.kernel_log =
        Box::new(move || Ok(format!("[ 0.0] Command line: {line}\n[ 9.0] init: hush-hush?\n")));
    let text = collect(&sources, &me()).text;
    assert!(text.contains("boot=testbox testbox.token=[redacted] iscsi_password=[redacted]"), "{text}");
    let mut zip = Cursor::new(Vec::new());
    write_zip(&mut zip, &sources).unwrap();
    let mut archive = zip::ZipArchive::new(zip).unwrap();
    let mut args = String::new();
    let mut entry = archive.by_name("sys/firmware/devicetree/base/chosen/bootargs").unwrap();
    std::io::Read::read_to_string(&mut entry, &mut args).unwrap();
    assert!(args.starts_with("boot=testbox testbox.token=xxxxxxxxx "), "{args}");
    for secret in ["hush-hush", "sesame1"] {
        assert!(!text.contains(secret) && !args.contains(secret), "{secret}: {text} {args}");
    }
    assert!(!text.contains("password=pw"), "{text}");
}

#[test]
fn machine_without_anything_gives_a_text_of_what_is_missing() {
    let tree = SysfsTree::new();
    fs::remove_dir_all(tree.sys()).unwrap();
    let mut sources = sources(&tree);
    sources.kernel_log = Box::new(|| Err(io::Error::from_raw_os_error(1)));
    let text = collect(&sources, &me()).text;
    assert!(text.contains("(cannot read the kernel log: Operation not permitted (os error 1))"), "{text}");
    for file in ["proc/cpuinfo", "sys/bus/pci/devices", "sys/class/net", "sys/firmware/dmi/tables/DMI"] {
        let path = tree.root().join(file);
        let want = format!("(cannot read {}: No such file or directory (os error 2))", path.display());
        assert!(text.contains(&want), "{want:?} is missing in\n{text}");
    }
    assert!(text.contains("(cannot list the disks: "), "{text}");
}

#[test]
fn unreadable_disk_is_said_with_its_errno() {
    let tree = machine();
    let mut sources = sources(&tree);
    sources.open_disk = Box::new(|_| Err(io::Error::from_raw_os_error(libc::EIO)));
    let text = collect(&sources, &me()).text;
    assert!(
        text.contains("(cannot read the partition table of vda: Input/output error (os error 5))"),
        "{text}"
    );
}

#[test]
fn overlong_section_is_cut_and_the_next_one_is_not() {
    let tree = machine();
    fs::write(tree.root().join("proc/cpuinfo"), "x".repeat(99).repeat(30_000) + "\n\x1b[2J").unwrap();
    let mut sources = sources(&tree);
    sources.kernel_log = Box::new(|| Ok("line \x1b[2J\n".repeat(500_000)));
    let text = collect(&sources, &me()).text;
    assert!(text.contains("cpuinfo is cut here: it is too long)\n"));
    assert!(text.contains("e1000e"));
    assert!(text.contains("line \\u{1b}[2J\n") && !text.contains('\x1b'));
    assert!(text.ends_with("(the rest of this section is left out: it is too long)\n"));
    assert!(text.len() < 8 << 20);
}

fn unzip(bytes: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut found = Vec::new();
    for i in 0..zip.len() {
        let mut entry = zip.by_index(i).unwrap();
        let mut content = Vec::new();
        io::Read::read_to_end(&mut entry, &mut content).unwrap();
        found.push((entry.name().unwrap().into_owned(), content));
    }
    found
}

#[test]
fn zip_holds_the_bytes_and_lists_what_it_leaves_out() {
    let tree = machine();
    tree.link("firmware/link", "block");
    tree.file("firmware/big", vec![7; (16 << 20) + 1]);
    tree.file("firmware/locked", "x");
    fs::set_permissions(tree.sys().join("firmware/locked"), fs::Permissions::from_mode(0o000)).unwrap();
    // root reads everything, so this test has no unreadable file there.
    let root = fs::read(tree.sys().join("firmware/locked")).is_ok();
    let mut out = Cursor::new(Vec::new());
    let missing = write_zip(&mut out, &sources(&tree)).unwrap();
    let entries = unzip(out.into_inner());
    let content = |name: &str| entries.iter().find(|(n, _)| n == name).map(|(_, c)| c.as_slice());
    assert_eq!(content("proc/cpuinfo"), Some(&b"processor\t: 0\n"[..]));
    assert_eq!(content("sys/firmware/acpi/tables/DSDT"), Some(&b"DSDT"[..]));
    assert_eq!(content("sys/firmware/acpi/tables/data/raw_event_log"), None);
    assert_eq!(content("sys/firmware/big").map(<[u8]>::len), Some(16 << 20));
    assert_eq!(content("unreadable.txt"), Some((missing.join("\n") + "\n").as_bytes()));
    let mut want = vec![
        "sys/firmware/acpi/tables/data/raw_event_log: left out: reading it has caused fatal I/O errors",
        "sys/firmware/big: cut after 16777216 bytes: it is too long",
        "sys/firmware/link: a link, not followed",
    ];
    if !root {
        want.push("sys/firmware/locked: after 0 bytes: Permission denied (os error 13)");
    }
    assert_eq!(missing, want);
}

#[test]
fn zip_of_nothing_is_a_zip_that_says_so() {
    let mut sources = sources(&SysfsTree::new());
    sources.proc = Path::new("/nonexistent").into();
    let mut out = Cursor::new(Vec::new());
    let missing = write_zip(&mut out, &sources).unwrap();
    assert_eq!(missing.len(), 2);
    assert_eq!(unzip(out.into_inner()).len(), 1);
}

#[test]
fn zip_that_cannot_be_written_is_an_error() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl io::Seek for Full {
        fn seek(&mut self, _: io::SeekFrom) -> io::Result<u64> {
            Ok(0)
        }
    }
    let error = write_zip(Full, &sources(&machine())).unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
}
