//! Who a disk is: serial number, world wide name and model, from sysfs attributes.
//!
//! Serials that the emulator made up (`QM00001` of QEMU's ATA disks) are the same on every machine and follow the
//! order of the disks. They cannot be told from real ones and are taken as such: a lab of virtual testboxes should
//! give its disks serials of their own.
#![forbid(unsafe_code)]

use super::attr::{self, Attr};
use super::who::{Identity, is_programmed};
use std::path::Path;

/// Longest serial or name that is believed, in bytes. The longest that a standard allows is an iSCSI name (223,
/// RFC 3720 section 3.2.6.1) with the kernel's prefix; what is longer is rubbish, and a cut one could collide.
const MAX_TEXT: usize = 255;

/// Reads the identity of the disk whose sysfs folder is `dir`. What the kernel does not offer is `None`; what it
/// offers and cannot read is `None` too, and said in the log.
pub(super) fn read(name: &str, dir: &Path) -> Identity {
    let text = |path: &str| match attr::bytes(&dir.join(path)) {
        Attr::Value(raw) => clean(&raw),
        Attr::Absent => None,
        Attr::Failed(e) => {
            log::warn!("{name}: cannot read {path}: {e}");
            None
        }
    };
    let page = |path: &str, parse: fn(&[u8]) -> Option<String>| match attr::bytes(&dir.join(path)) {
        Attr::Value(raw) => parse(&raw),
        _ => None,
    };
    if name.starts_with("nvme") {
        // Documentation/ABI/stable/sysfs-block and drivers/nvme/host/sysfs.c: the namespace's name is on the block
        // device, serial and model are the controller's (or the subsystem's).
        let wwn = text("wwid").and_then(known).or_else(|| {
            let dotted = |path, kind| {
                text(path)
                    .map(|t| format!("{kind}.{}", t.replace([' ', '-'], "").to_lowercase()))
                    .and_then(known)
            };
            dotted("nguid", "eui").or_else(|| dotted("eui", "eui"))
        });
        return Identity { serial: text("device/serial").and_then(known), wwn, model: text("device/model") };
    }
    if name.starts_with("mmcblk") {
        let cid = text("device/cid").and_then(known).map(|cid| format!("mmc.{cid}"));
        return Identity {
            serial: text("device/serial").and_then(known),
            wwn: cid,
            model: text("device/name"),
        };
    }
    if name.starts_with("vd") {
        return Identity { serial: text("serial").and_then(known), ..Identity::default() };
    }
    // sd: SCSI pages; hd: the old IDE driver's plain text; xvd has neither.
    let serial = page("device/vpd_pg80", serial_page).or_else(|| text("device/serial").and_then(known));
    let wwn = text("device/wwid").and_then(known).or_else(|| page("device/vpd_pg83", device_id_page));
    let model = match (text("device/vendor"), text("device/model")) {
        // libata's vendor is the constant "ATA": it tells nothing.
        (Some(vendor), Some(model)) if vendor != "ATA" => Some(format!("{vendor} {model}")),
        (_, model) => model,
    };
    Identity { serial, wwn, model }
}

/// Printable ASCII, trimmed: NUL counts as padding, any other byte outside becomes `?`. Empty or too long is `None`.
pub(super) fn clean(raw: &[u8]) -> Option<String> {
    let text: String = raw
        .iter()
        .map(|&b| match b {
            0 | b'\n' | b'\t' => ' ',
            0x20..=0x7e => char::from(b),
            _ => '?',
        })
        .collect();
    let text = text.trim();
    (!text.is_empty() && text.len() <= MAX_TEXT).then(|| text.to_owned())
}

/// `None` for what firmware leaves where a number was never programmed.
fn known(text: String) -> Option<String> {
    is_programmed(&text).then_some(text)
}

/// Unit serial number page (SPC-4, 7.8.15): 0x80 in byte 1, big-endian length in bytes 2 and 3, then the text.
fn serial_page(page: &[u8]) -> Option<String> {
    clean(page_body(page, 0x80)?).and_then(known)
}

/// A designator of the device identification page.
pub(super) struct Designator<'a> {
    /// 0 for the logical unit, 1 for the target port, 2 for the whole target.
    pub(super) association: u8,
    pub(super) kind: u8,
    pub(super) is_binary: bool,
    pub(super) value: &'a [u8],
}

/// The designators of the device identification page (SPC-4, 7.8.6), only where all of it is there.
pub(super) fn designators(page: &[u8]) -> Option<Vec<Designator<'_>>> {
    let mut rest = page_body(page, 0x83)?;
    let mut all = Vec::new();
    while let [set, kind, _, len, tail @ ..] = rest {
        let (value, tail) = tail.split_at_checked(usize::from(*len))?;
        rest = tail;
        all.push(Designator {
            association: kind >> 4 & 3,
            kind: kind & 0x0f,
            is_binary: set & 0x0f == 1,
            value,
        });
    }
    Some(all)
}

/// Of the designators of the logical unit the best is taken, spelt as the kernel's `wwid` would: NAA, then EUI-64, then
/// T10 vendor.
fn device_id_page(page: &[u8]) -> Option<String> {
    let mut best: Option<(u8, String)> = None;
    for Designator { kind, is_binary, value, .. } in
        designators(page)?.into_iter().filter(|d| d.association == 0)
    {
        let found = match kind {
            3 if is_binary && matches!(value.len(), 8 | 16) => Some((3, format!("naa.{}", hex(value)))),
            2 if is_binary && matches!(value.len(), 8 | 12 | 16) => Some((2, format!("eui.{}", hex(value)))),
            1 => clean(value).map(|text| (1, format!("t10.{text}"))),
            _ => None,
        };
        if let Some((rank, name)) = found.and_then(|(rank, name)| Some((rank, known(name)?)))
            && best.as_ref().is_none_or(|(held, _)| rank > *held)
        {
            best = Some((rank, name));
        }
    }
    best.map(|(_, name)| name)
}

/// The body of a vital product data page, only where its code is `code` and its length is right.
fn page_body(page: &[u8], code: u8) -> Option<&[u8]> {
    let [_, found, high, low, body @ ..] = page else { return None };
    if *found != code {
        return None;
    }
    body.get(..usize::from(u16::from_be_bytes([*high, *low])))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn serial_page_is_taken_only_with_its_code_and_its_whole_length() {
        let cases: [(&[u8], Option<&str>); 8] = [
            (b"\0\x80\0\x08  AB12  ", Some("AB12")),
            (b"\0\x80\0\x04AB12trailing", Some("AB12")),
            (b"\0\x80\0\x05AB12", None),
            (b"\0\x83\0\x04AB12", None),
            (b"\0\x80\0\x00", None),
            (b"\0\x80\0", None),
            (b"\0\x80\0\x0400000000", None),
            (b"\0\x80\0\x06\0\0AB\xff1", Some("AB?1")),
        ];
        for (page, want) in cases {
            assert_eq!(serial_page(page).as_deref(), want, "{page:?}");
        }
    }

    #[test]
    fn best_designator_of_the_unit_is_taken_and_the_ports_is_not() {
        let t10 = b"\x02\x01\0\x0cATA     QM01";
        let naa = b"\x01\x03\0\x08\x50\x02\x53\x8e\0\0\0\x01";
        let port = b"\x61\x93\0\x08\x50\x02\x53\x8e\0\0\0\x02";
        let zero = b"\x01\x03\0\x08\0\0\0\0\0\0\0\0";
        let page = |parts: &[&[u8]]| {
            let body = parts.concat();
            [&[0, 0x83, 0, u8::try_from(body.len()).unwrap()], &body[..]].concat()
        };
        for (parts, want) in [
            (vec![&t10[..], naa, port], Some("naa.5002538e00000001")),
            (vec![&t10[..]], Some("t10.ATA     QM01")),
            (vec![&t10[..], zero], Some("t10.ATA     QM01")),
            (vec![&port[..]], None),
        ] {
            assert_eq!(device_id_page(&page(&parts)).as_deref(), want);
        }
        let mut cut = page(&[naa]);
        cut.pop();
        assert_eq!(device_id_page(&cut), None);
    }

    #[test]
    fn numbers_that_were_never_programmed_are_no_identity() {
        assert_eq!(known("00000000".into()), None);
        assert_eq!(known("QM00001".into()).as_deref(), Some("QM00001"));
        assert_eq!(clean(&[b'A'; 256]), None);
    }

    proptest! {
        #[test]
        fn pages_of_any_bytes_give_printable_text_or_nothing(page in proptest::collection::vec(any::<u8>(), 0..300)) {
            for mut page in [page.clone(), [&[0, 0x80], &page[..]].concat(), [&[0, 0x83], &page[..]].concat()] {
                for text in [serial_page(&page), device_id_page(&page)].into_iter().flatten() {
                    prop_assert!(!text.is_empty() && text.bytes().all(|b| (0x20..0x7f).contains(&b)));
                }
                page.truncate(4);
                prop_assert_eq!(device_id_page(&page), None);
            }
        }
    }
}
