use super::fixture::{SysfsTree, disk};
use super::*;

/// A machine with every kind of disk; `n` is added to every number that the kernel hands out while it discovers.
fn machine(n: u32) -> SysfsTree {
    let t = SysfsTree::new();
    let at = |text: &str| text.replace("{n}", &n.to_string()).replace("{n1}", &(n + 1).to_string());
    let disk = |dir: &str, device: &str| {
        t.disk(&at(dir), &at(device));
    };
    let file = |path: &str, content: &[u8]| {
        t.file(&format!("devices/{}", at(path)), content);
    };
    // Two ports of one AHCI controller; the second without port_no, as before Linux 3.7.
    let ahci = "pci0000:00/0000:00:1f.2";
    file(&format!("{ahci}/ata{{n}}/ata_port/ata{{n}}/port_no"), b"1\n");
    disk(&format!("{ahci}/ata{{n}}/host{{n}}/target{{n}}:0:0/{{n}}:0:0:0/block/sda"), "../../../{n}:0:0:0");
    file(&format!("{ahci}/ata{{n}}/host{{n}}/target{{n}}:0:0/{{n}}:0:0:0/vpd_pg80"), b"\0\x80\0\x08 QM00001");
    file(
        &format!("{ahci}/ata{{n}}/host{{n}}/target{{n}}:0:0/{{n}}:0:0:0/wwid"),
        b"t10.ATA     QEMU HARDDISK                           QM00001             \n",
    );
    file(&format!("{ahci}/ata{{n}}/host{{n}}/target{{n}}:0:0/{{n}}:0:0:0/vendor"), b"ATA     \n");
    file(&format!("{ahci}/ata{{n}}/host{{n}}/target{{n}}:0:0/{{n}}:0:0:0/model"), b"QEMU HARDDISK   \n");
    disk(
        &format!("{ahci}/ata{{n1}}/host{{n1}}/target{{n1}}:0:1/{{n1}}:0:1:0/block/sdb"),
        "../../../{n1}:0:1:0",
    );
    // virtio-scsi, and a SAS controller with a disk on its fourth phy.
    let virtio = "pci0000:00/0000:00:04.0/virtio{n}/host{n}/target{n}:0:3/{n}:0:3:2";
    disk(&format!("{virtio}/block/sdc"), "../../../{n}:0:3:2");
    file(&format!("{virtio}/vendor"), b"QEMU    \n");
    file(&format!("{virtio}/model"), b"QEMU HARDDISK\n");
    let sas = "pci0000:00/0000:00:03.0/0000:02:00.0/host{n}/port-{n}:0";
    file(&format!("{sas}/phy-{{n}}:3/x"), b"");
    disk(&format!("{sas}/end_device-{{n}}:0/target{{n}}:0:0/{{n}}:0:0:0/block/sdd"), "../../../{n}:0:0:0");
    // A USB stick and its card reader's empty slot.
    let usb = "pci0000:00/0000:00:14.0/usb1/1-4/1-4:1.0/host{n}/target{n}:0:0/{n}:0:0:0/block/sde";
    disk(usb, "../../../{n}:0:0:0");
    file(&format!("{usb}/removable"), b"1\n");
    let slot = "pci0000:00/0000:00:14.0/usb1/1-5/1-5:1.0/host{n}/target{n}:0:0/{n}:0:0:0/block/sdf";
    disk(slot, "../../../{n}:0:0:0");
    file(&format!("{slot}/size"), b"0\n");
    // virtio, Xen.
    disk("pci0000:00/0000:00:05.0/virtio{n1}/block/vda", "../..");
    file("pci0000:00/0000:00:05.0/virtio{n1}/block/vda/serial", b"WD-0001");
    disk("vbd-51712/block/xvda", "../..");
    // NVMe: one plain, one behind multipath with its hidden path.
    let nvme = "pci0000:00/0000:00:06.0/nvme/nvme{n}";
    disk(&format!("{nvme}/nvme0n1"), "../../nvme{n}");
    file(&format!("{nvme}/serial"), b"S5GX            \n");
    file(&format!("{nvme}/model"), b"Samsung SSD 980\n");
    file(&format!("{nvme}/nvme0n1/wwid"), b"eui.0000000000000000\n");
    file(&format!("{nvme}/nvme0n1/nguid"), b"00253852-1140-4cd2-0025-385211404cd2\n");
    let shared = "pci0000:00/0000:00:07.0/nvme/nvme{n1}";
    disk(&format!("{shared}/nvme1c1n1"), "../../nvme{n1}");
    disk("virtual/nvme-subsystem/nvme-subsys{n1}/nvme1n1", "../../nvme-subsys{n1}");
    file("virtual/nvme-subsystem/nvme-subsys{n1}/nvme1n1/nsid", b"2\n");
    file("virtual/nvme-subsystem/nvme-subsys{n1}/serial", b"shared\n");
    t.link(&at("devices/virtual/nvme-subsystem/nvme-subsys{n1}/nvme{n1}"), &at(&format!("devices/{shared}")));
    // eMMC with its areas, an SD card.
    let emmc = "platform/soc/fe340000.mmc/mmc_host/mmc{n}/mmc{n}:0001";
    disk(&format!("{emmc}/block/mmcblk0"), "../../../mmc{n}:0001");
    for area in ["mmcblk0boot0", "mmcblk0boot1", "mmcblk0rpmb", "mmcblk0gp0"] {
        disk(&format!("{emmc}/block/mmcblk0/{area}"), "../../mmcblk0");
    }
    for (attr, value) in
        [("type", "MMC\n"), ("name", "DG4064\n"), ("serial", "0x00000000\n"), ("cid", "4501\n")]
    {
        file(&format!("{emmc}/{attr}"), value.as_bytes());
    }
    let sd = "pci0000:00/0000:00:08.0/mmc_host/mmc{n1}/mmc{n1}:aaaa";
    disk(&format!("{sd}/block/mmcblk1"), "../../../mmc{n1}:aaaa");
    file(&format!("{sd}/type"), b"SD\n");
    // What is no disk.
    for name in ["loop0", "ram0", "zram0", "dm-0", "md0", "sr0", "fd0", "nbd0", "sda1", "scd0", "nvme0n1p1"] {
        disk(&format!("virtual/block/{name}"), "..");
    }
    t
}

fn scan(tree: &SysfsTree) -> Inventory {
    Inventory::scan(&tree.sys(), Path::new("/dev")).unwrap()
}

#[test]
fn whole_disks_are_listed_and_nothing_else() {
    let found = scan(&machine(0));
    let names: Vec<&str> = found.disks.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(
        names,
        ["mmcblk0", "mmcblk1", "nvme0n1", "nvme1n1", "sda", "sdb", "sdc", "sdd", "sde", "vda", "xvda"]
    );
    for disk in &found.disks {
        let want = match disk.name.as_str() {
            "sde" => Some(Exclusion::Usb),
            "mmcblk1" => Some(Exclusion::Removable),
            _ => None,
        };
        assert_eq!(disk.excluded, want, "{disk}");
        assert_eq!((disk.size, disk.logical_block_size, disk.physical_block_size), (1 << 30, 512, 4096));
    }
}

#[test]
fn namespaces_of_a_controller_are_disks_of_their_own() {
    let t = SysfsTree::new();
    let nvme = "pci0000:00/0000:00:06.0/nvme/nvme0";
    t.file(&format!("devices/{nvme}/serial"), "S5GX            \n");
    t.file(&format!("devices/{nvme}/model"), "Samsung SSD 980\n");
    t.file(&format!("devices/{nvme}/subsysnqn"), "nqn.2014.08.org.nvmexpress:144d\n");
    t.file(&format!("devices/{nvme}/cntlid"), "5\n");
    for nsid in [1, 2] {
        t.disk(&format!("{nvme}/nvme0n{nsid}"), "../../nvme0");
        t.file(&format!("devices/{nvme}/nvme0n{nsid}/nsid"), format!("{nsid}\n"));
        t.file(&format!("devices/{nvme}/nvme0n{nsid}/wwid"), format!("eui.002538521140cd0{nsid}\n"));
        t.file(&format!("devices/{nvme}/nvme0n{nsid}/eui"), format!("00 25 38 52 11 40 cd 0{nsid}\n"));
    }
    let found = scan(&t).disks;
    let [one, two] = &found[..] else { panic!("{found:?}") };
    assert_eq!((one.name.as_str(), two.name.as_str()), ("nvme0n1", "nvme0n2"));
    assert!(!one.identity.is_same_disk(&two.identity) && one.location != two.location);
    let routes = one.route.as_ref().zip(two.route.as_ref()).unwrap();
    assert!(!routes.0.is_other_path(routes.1), "two units, not two paths to one");
}

#[test]
fn an_emmc_is_told_from_a_card() {
    let found = scan(&machine(0)).disks;
    let emmc: Vec<&str> = found.iter().filter(|disk| disk.is_emmc()).map(|disk| disk.name.as_str()).collect();
    assert_eq!(emmc, ["mmcblk0"]);
}

#[test]
fn identity_comes_from_each_drivers_own_attributes() {
    let found = scan(&machine(0));
    let of = |name: &str| {
        let id = &found.disks.iter().find(|d| d.name == name).unwrap().identity;
        [&id.serial, &id.wwn, &id.model].map(|text| text.as_deref().unwrap_or("-").to_owned())
    };
    let ata = "t10.ATA     QEMU HARDDISK                           QM00001";
    assert_eq!(of("sda"), ["QM00001", ata, "QEMU HARDDISK"]);
    assert_eq!(of("sdc"), ["-", "-", "QEMU QEMU HARDDISK"]);
    assert_eq!(of("vda"), ["WD-0001", "-", "-"]);
    assert_eq!(of("nvme0n1"), ["S5GX", "eui.0025385211404cd20025385211404cd2", "Samsung SSD 980"]);
    assert_eq!(of("nvme1n1"), ["shared", "-", "-"]);
    assert_eq!(of("mmcblk0"), ["-", "mmc.4501", "DG4064"]);
    assert_eq!(of("xvda"), ["-", "-", "-"]);
}

#[test]
fn location_is_the_slot_whatever_the_order_of_discovery() {
    let locations = |n| -> Vec<String> { scan(&machine(n)).disks.into_iter().map(|d| d.location).collect() };
    let found = locations(0);
    assert_eq!(
        found,
        [
            "platform-fe340000.mmc-mmc-0",
            "pci-0000:00:08.0-mmc-0",
            "pci-0000:00:06.0-nvme-1",
            "pci-0000:00:07.0-nvme-2",
            "pci-0000:00:1f.2-ata-1",
            "pci-0000:00:1f.2-ata-2.1",
            "pci-0000:00:04.0-scsi-0:0:3:2",
            "pci-0000:02:00.0-sas-phy3-lun-0",
            "pci-0000:00:14.0-usb-0:4:1.0-scsi-0:0:0:0",
            "pci-0000:00:05.0",
            "xen-vbd-51712",
        ]
    );
    assert_eq!(locations(7), found);
}

#[test]
fn disk_is_shown_in_one_line() {
    let found = scan(&machine(0));
    assert_eq!(
        found.disks[9].to_string(),
        "vda: 1.0 GB (1073741824 bytes), unknown model, serial WD-0001, at pci-0000:00:05.0"
    );
    let usb = Disk { size: 123_456_789, read_only: true, excluded: Some(Exclusion::Usb), ..disk("sdz") };
    assert_eq!(
        usb.to_string(),
        "sdz: 123.4 MB (123456789 bytes), unknown model, no serial, at , read-only, excluded (USB)"
    );
}

#[test]
fn a_size_that_cannot_be_believed_is_an_error_not_a_guess() {
    for (attr, value) in [
        ("size", "many"),
        ("size", "36028797018963968"),
        ("queue/logical_block_size", "0"),
        ("queue/logical_block_size", "520"),
        ("queue/physical_block_size", "-1"),
    ] {
        let tree = SysfsTree::new();
        tree.disk("pci0000:00/0000:00:05.0/virtio0/block/vda", "../..");
        tree.file(&format!("devices/pci0000:00/0000:00:05.0/virtio0/block/vda/{attr}"), value);
        let error = Inventory::scan(&tree.sys(), Path::new("/dev")).unwrap_err();
        assert!(error.to_string().contains(attr), "{error}");
    }
    assert!(Inventory::scan(Path::new("/nonexistent"), Path::new("/dev")).is_err());
}

#[test]
fn disk_that_vanishes_while_it_is_listed_is_left_out() {
    let tree = machine(0);
    tree.link("block/sdy", "devices/gone/sdy");
    assert_eq!(scan(&tree), scan(&machine(0)));
}

#[test]
fn neither_serial_nor_wwn_may_contradict() {
    let id = |wwn: &str, serial: &str| Identity {
        serial: Some(serial.into()),
        wwn: (!wwn.is_empty()).then(|| wwn.into()),
        model: Some("M".into()),
    };
    for (a, b, same) in [
        (id("naa.1", "S"), id("naa.1", "T"), false),
        (id("naa.1", "S"), id("naa.2", "S"), false),
        (id("", "S"), id("naa.2", "S"), true),
        (id("t10.ATA     M   S", "S"), id("naa.2", "S"), true),
        (id("t10.ATA     M   S", "S"), id("naa.2", "T"), false),
        (id("eui.1", "S"), id("nvme.1", "S"), false),
        (id("naa.1", "S"), Identity { model: Some("N".into()), ..id("naa.1", "S") }, false),
    ] {
        assert_eq!(a.is_same_disk(&b), same, "{a:?} {b:?}");
        assert_eq!(b.is_same_disk(&a), same);
    }
}

#[test]
fn a_word_names_a_text_with_runs_of_spaces() {
    let wwn = "t10.ATA     QEMU HARDDISK     QM00001";
    assert!(is_named_by(wwn, "t10.ATA_QEMU_HARDDISK_QM00001"));
    assert!(is_named_by(wwn, wwn));
    assert!(is_named_by("WD-1", "wd-1"));
    assert!(!is_named_by("WD-1", "WD-"));
    assert!(!is_named_by(" ", ""));
}

#[test]
fn disk_that_the_kernel_hides_is_left_out() {
    let tree = SysfsTree::new();
    tree.disk("pci0000:00/0000:00:05.0/virtio0/block/vda", "../..");
    tree.file("devices/pci0000:00/0000:00:05.0/virtio0/block/vda/hidden", "1\n");
    assert!(scan(&tree).disks.is_empty());
}

#[test]
fn diskseq_is_the_kernels_and_optional() {
    let tree = machine(0);
    tree.file("devices/pci0000:00/0000:00:05.0/virtio1/block/vda/diskseq", "17\n");
    tree.file("devices/vbd-51712/block/xvda/diskseq", "what\n");
    let seqs: Vec<Option<u64>> = scan(&tree).disks.into_iter().rev().take(2).map(|d| d.diskseq).collect();
    assert_eq!(seqs, [None, Some(17)]);
}
