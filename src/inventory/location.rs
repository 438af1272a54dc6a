//! Where a disk is plugged in, as a stable text: bus, slot and port, like udev's `/dev/disk/by-path`.
//!
//! The numbers that the kernel hands out in order of discovery (`host3`, `ata5`, `virtio1`, `nvme0`, `mmc1`) do not
//! enter it; where a controller has several of a kind, their place among that controller's own counts instead.
//! Targets behind a network (iSCSI, Fibre Channel) have no slot: for them it is the logical unit only.
#![forbid(unsafe_code)]

use super::attr;
use std::fs;
use std::path::{Path, PathBuf};

/// Location of the disk whose resolved sysfs folder is `dir`; `sysfs` is the resolved root.
pub(super) fn of(sysfs: &Path, dir: &Path) -> String {
    let dir = through_subsystem(dir).unwrap_or_else(|| dir.to_owned());
    let inside = dir.strip_prefix(sysfs.join("devices")).unwrap_or(&dir);
    let names: Vec<&str> = inside.iter().filter_map(|name| name.to_str()).collect();
    let mut here = sysfs.join("devices");
    let mut bus: Vec<String> = Vec::new(); // the controller; the nearest one replaces those before it
    let mut port: Vec<String> = Vec::new(); // what is behind it
    let mut ata = false;
    let mut sas: Option<PathBuf> = None;
    for name in &names {
        let parent = here.clone();
        here.push(name);
        if is_pci_address(name) {
            bus = vec![format!("pci-{name}")];
            port.clear();
        } else if let Some(number) = numbered(name, "ata") {
            ata = true;
            port.push(format!("ata-{}", ata_port(&parent, &here, name, number)));
        } else if is_usb_interface(name) {
            port.push(format!("usb-0:{}", name.split_once('-').map_or(*name, |(_, rest)| rest)));
        } else if name.starts_with("expander-") {
            let address = attr::text(&here.join("sas_device").join(name).join("sas_address"));
            port.push(format!("sas-exp{}", address.unwrap_or_default()));
        } else if name.starts_with("port-") {
            sas = Some(here.clone());
        } else if let Some([_, channel, target, lun]) = scsi_address(name) {
            match (&sas, ata) {
                (_, true) => ata_device(&mut port, channel, target),
                (Some(sas), _) => port.push(format!("sas-phy{}-lun-{lun}", first_phy(sas, target))),
                _ => port.push(format!("scsi-{}:{channel}:{target}:{lun}", host_index(&names, &here))),
            }
        } else if let Some(host) = numbered(name, "mmc") {
            port.push(format!("mmc-{}", place_among(&parent, "mmc", host)));
        } else if let Some(vbd) = name.strip_prefix("vbd-") {
            bus = vec![format!("xen-vbd-{vbd}")];
        } else if is_ide_device(name) && is_ide_port(&parent) {
            port.push(format!("ide-{name}"));
        } else if let Some(id) = nvme_namespace(name) {
            let id = attr::text(&here.join("nsid")).unwrap_or_else(|| id.to_owned());
            port.push(format!("nvme-{id}"));
        } else if names.first() == Some(&"platform") && port.is_empty() && is_platform_device(name) {
            bus = vec![format!("platform-{name}")];
        } else if is_guid(name) {
            bus = vec![format!("vmbus-{name}")];
        }
    }
    bus.extend(port);
    // A bus that nothing above knows: the whole path is still better than a text that other disks share.
    if bus.is_empty() { names.join("/") } else { bus.join("-") }
}

/// A namespace that several controllers may reach hangs in the virtual `nvme-subsystem`: goes on from the
/// controller with the lowest device path.
fn through_subsystem(dir: &Path) -> Option<PathBuf> {
    let subsystem = dir.parent()?;
    if !subsystem.file_name()?.to_str()?.starts_with("nvme-subsys") {
        return None;
    }
    let controllers = fs::read_dir(subsystem).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        numbered(entry.file_name().to_str()?, "nvme")?;
        fs::canonicalize(entry.path()).ok()
    });
    let namespace = dir.file_name()?.to_str()?;
    // The folder is only walked by name; its namespace number is read from the head's own attribute.
    let id = attr::text(&dir.join("nsid")).or_else(|| nvme_namespace(namespace).map(str::to_owned))?;
    controllers.min().map(|controller| controller.join(format!("nvme0n{id}")))
}

/// libata numbers its ports over all controllers; `port_no` (1-based) is the controller's own.
fn ata_port(parent: &Path, dir: &Path, name: &str, number: u32) -> String {
    let own = attr::text(&dir.join("ata_port").join(name).join("port_no"));
    own.filter(|text| text.parse::<u32>().is_ok())
        .unwrap_or_else(|| (place_among(parent, "ata", number) + 1).to_string())
}

/// Slave of an IDE cable, or a disk behind a port multiplier.
fn ata_device(port: &mut [String], channel: u32, target: u32) {
    let Some(last) = port.last_mut() else { return };
    match (channel, target) {
        (0, 0) => {}
        (0, target) => *last += &format!(".{target}"),
        (channel, _) => *last += &format!(".{channel}.0"),
    }
}

/// The lowest phy of a SAS port is the connector; a port number is given in order of discovery.
fn first_phy(port: &Path, target: u32) -> u32 {
    children(port, "phy-").filter_map(|name| name.rsplit(':').next()?.parse().ok()).min().unwrap_or(target)
}

/// Place of the disk's SCSI host among the hosts of the same controller.
fn host_index(names: &[&str], lun_dir: &Path) -> usize {
    let Some(host) = names.iter().find(|name| numbered(name, "host").is_some()) else { return 0 };
    let Some(dir) = lun_dir.ancestors().find(|dir| dir.ends_with(host)) else { return 0 };
    match (dir.parent(), numbered(host, "host")) {
        (Some(parent), Some(number)) => place_among(parent, "host", number),
        _ => 0,
    }
}

/// How many of the folders `prefix<N>` in `dir` have a number below `number`.
fn place_among(dir: &Path, prefix: &'static str, number: u32) -> usize {
    children(dir, prefix).filter(|name| numbered(name, prefix).is_some_and(|n| n < number)).count()
}

fn children(dir: &Path, prefix: &'static str) -> impl Iterator<Item = String> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(move |name| name.starts_with(prefix))
}

fn numbered(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// `0000:00:1f.2`; the domain may be longer (`10000:…` behind Intel VMD).
fn is_pci_address(name: &str) -> bool {
    let Some((rest, function)) = name.rsplit_once('.') else { return false };
    let parts: Vec<&str> = rest.split(':').collect();
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    matches!(parts[..], [domain, bus, slot] if domain.len() >= 4 && bus.len() == 2 && slot.len() == 2)
        && parts.iter().all(|part| hex(part))
        && function.len() == 1
        && hex(function)
}

/// `2-1.4:1.0`: bus, port path, configuration and interface.
fn is_usb_interface(name: &str) -> bool {
    let Some((bus, rest)) = name.split_once('-') else { return false };
    !bus.is_empty()
        && bus.bytes().all(|b| b.is_ascii_digit())
        && rest.contains(':')
        && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b':')
}

/// `host:channel:target:lun`.
fn scsi_address(name: &str) -> Option<[u32; 4]> {
    let numbers: Vec<u32> = name.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// `0.1`: channel and unit.
fn is_ide_device(name: &str) -> bool {
    matches!(name.split_once('.'), Some((a, b)) if a.parse::<u8>().is_ok() && b.parse::<u8>().is_ok())
}

fn is_ide_port(dir: &Path) -> bool {
    dir.file_name().and_then(|name| name.to_str()).is_some_and(|name| numbered(name, "ide").is_some())
}

/// The `1` of `nvme0n1`.
fn nvme_namespace(name: &str) -> Option<&str> {
    let (controller, id) = name.strip_prefix("nvme")?.split_once('n')?;
    (controller.parse::<u32>().is_ok() && id.parse::<u32>().is_ok()).then_some(id)
}

/// `1c0f000.mmc`: an address, or a name that the firmware or the driver chose.
fn is_platform_device(name: &str) -> bool {
    !["platform", "block", "mmc_host"].contains(&name)
        && ["host", "target", "session", "virtio", "sd", "vd", "mmcblk", "nvme"]
            .iter()
            .all(|prefix| !name.starts_with(prefix))
}

/// A Hyper-V channel.
fn is_guid(name: &str) -> bool {
    name.len() == 36
        && name.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}
