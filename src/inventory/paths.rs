//! Several paths to one disk. Only the kernel's own evidence counts: the same NVMe namespace of one subsystem through
//! two controllers, the same SCSI logical unit through two target ports. A serial is none: two disks can share it.
#![forbid(unsafe_code)]

use super::attr::{self, Attr};
use super::identity::designators;
use std::path::Path;

/// Which unit a disk is, and through what it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The logical unit or namespace.
    pub unit: String,
    /// The target port or controller.
    pub port: String,
}

impl Route {
    /// True where both lead to one disk.
    pub fn is_other_path(&self, other: &Route) -> bool {
        self.unit == other.unit && self.port != other.port
    }
}

/// The route of the disk whose sysfs folder is `dir`; `None` where the kernel does not prove one.
pub(super) fn read(name: &str, dir: &Path) -> Option<Route> {
    let text = |path: &str| attr::text(&dir.join(path)).filter(|text| !text.is_empty());
    if name.starts_with("nvme") {
        // NVM Express base specification 2.0: a subsystem's NQN, a controller's id, and an id of the namespace.
        let is_zero = |text: &String| text.chars().all(|c| matches!(c, '0' | '-' | ' '));
        let id = ["uuid", "nguid", "eui"].iter().find_map(|id| text(id).filter(|text| !is_zero(text)))?;
        let unit = format!("{} {} {id}", text("device/subsysnqn")?, text("nsid")?);
        return Some(Route { unit, port: text("device/cntlid")? });
    }
    // A SATA disk has one port; what stands for its port is its controller's word.
    if text("device/vendor")? == "ATA" {
        return None;
    }
    let Attr::Value(page) = attr::bytes(&dir.join("device/vpd_pg83")) else { return None };
    route_of_page(&page)
}

/// Of the device identification page (SPC-4, 7.8.6): a NAA or EUI-64 name of the unit (association 0), and the name or
/// the relative number of the target port (association 1).
fn route_of_page(page: &[u8]) -> Option<Route> {
    let all = designators(page)?;
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let find = |association: u8, kinds: [u8; 2]| {
        let mut of_kind = all.iter().filter(|d| d.association == association && d.is_binary);
        let found = of_kind.find(|d| kinds.contains(&d.kind) && d.value.iter().any(|b| *b != 0))?;
        Some(format!("{}.{}", found.kind, hex(found.value)))
    };
    Some(Route { unit: find(0, [3, 2])?, port: find(1, [3, 4])? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        [&[0, 0x83, 0, u8::try_from(body.len()).unwrap()], &body[..]].concat()
    }

    #[test]
    fn two_target_ports_of_one_unit_are_two_paths_a_serial_is_none() {
        let unit = b"\x01\x03\0\x08\x50\x02\x53\x8e\0\0\0\x01";
        let other = b"\x01\x03\0\x08\x50\x02\x53\x8e\0\0\0\x09";
        let t10 = b"\x02\x01\0\x0cVENDOR  QM01";
        let port = |n: u8| [&b"\x61\x93\0\x08\x50\x02\x53\x8e\0\0\0"[..], &[n]].concat();
        let route = |parts: &[&[u8]]| route_of_page(&page(parts));
        let first = route(&[unit, &port(2)]).unwrap();
        assert!(first.is_other_path(&route(&[t10, unit, &port(3)]).unwrap()));
        assert!(!first.is_other_path(&route(&[unit, &port(2)]).unwrap()), "the same port: two disks");
        assert!(!first.is_other_path(&route(&[other, &port(3)]).unwrap()));
        for nothing in [&[&t10[..], &port(2)][..], &[&unit[..]], &[]] {
            assert_eq!(route(nothing), None);
        }
    }
}
