//! SMBIOS structures from `/sys/firmware/dmi/tables` (DMTF DSP0134 3.6).
//!
//! The fields that tell one machine from another; every other structure is shown as bytes and strings. The whole
//! table is in the archive. It comes from the board's firmware and is believed in nothing.

use super::page::{self, InfoPage};
use crate::bytes::{array, le};
use crate::guid::Guid;
use std::path::Path;

/// Longest table that is read, in bytes; real ones have some KiB.
const MAX_TABLE: u64 = 1 << 20;
/// Structures that are shown.
const MAX_STRUCTURES: usize = 4096;

/// How a field is stored, and shown.
#[derive(Clone, Copy)]
enum FieldKind {
    /// Number of a string behind the structure.
    Text,
    /// Unsigned numbers of 1 and 2 bytes.
    U8,
    U16,
    /// 16 bytes in mixed order.
    Uuid,
    /// Type 17: MiB, or KiB where bit 15 is set; 0x7fff defers to the extended size.
    DeviceSize,
}

use FieldKind::*;

/// Offset, kind and name of a field.
type Field = (usize, FieldKind, &'static str);

/// Structure types with a layout: number, name, fields (DSP0134, section 7).
const TYPES: &[(u8, &str, &[Field])] = &[
    (0, "BIOS", &[(4, Text, "vendor"), (5, Text, "version"), (8, Text, "release date")]),
    (
        1,
        "System",
        &[
            (4, Text, "manufacturer"),
            (5, Text, "product"),
            (6, Text, "version"),
            (7, Text, "serial"),
            (8, Uuid, "UUID"),
            (0x19, Text, "SKU"),
            (0x1a, Text, "family"),
        ],
    ),
    (
        2,
        "Baseboard",
        &[
            (4, Text, "manufacturer"),
            (5, Text, "product"),
            (6, Text, "version"),
            (7, Text, "serial"),
            (8, Text, "asset tag"),
            (0x0a, Text, "location in chassis"),
        ],
    ),
    (
        3,
        "Chassis",
        &[(4, Text, "manufacturer"), (6, Text, "version"), (7, Text, "serial"), (8, Text, "asset tag")],
    ),
    (
        4,
        "Processor",
        &[
            (4, Text, "socket"),
            (7, Text, "manufacturer"),
            (0x10, Text, "version"),
            (0x14, U16, "maximum speed (MHz)"),
            (0x23, U8, "cores"),
            (0x24, U8, "cores enabled"),
            (0x25, U8, "threads"),
        ],
    ),
    (9, "Slot", &[(4, Text, "designation")]),
    (
        17,
        "Memory device",
        &[
            (0x10, Text, "locator"),
            (0x11, Text, "bank"),
            (0x0c, DeviceSize, "size"),
            (0x15, U16, "speed (MT/s)"),
            (0x20, U16, "configured speed (MT/s)"),
            (0x17, Text, "manufacturer"),
            (0x18, Text, "serial"),
            (0x1a, Text, "part number"),
        ],
    ),
    (41, "Onboard device", &[(4, Text, "designation")]),
];

/// One structure: its formatted area with the header, and its strings.
struct Structure<'a> {
    kind: u8,
    handle: u16,
    area: &'a [u8],
    strings: Vec<&'a [u8]>,
}

pub(super) fn write(page: &mut InfoPage, sys: &Path) {
    let dir = sys.join("firmware/dmi/tables");
    match page::read(&dir.join("smbios_entry_point"), 64) {
        Ok(entry) => page.line(entry_point(&entry)),
        Err(e) => page.missing(dir.join("smbios_entry_point").display(), &e),
    }
    match page::read(&dir.join("DMI"), MAX_TABLE) {
        Ok(table) => structures(page, &table),
        Err(e) => page.missing(dir.join("DMI").display(), &e),
    }
}

/// Version from the entry point (DSP0134, section 5.2).
fn entry_point(raw: &[u8]) -> String {
    let version = match raw {
        [b'_', b'S', b'M', b'3', b'_', _, _, major, minor, ..] => Some((major, minor)),
        [b'_', b'S', b'M', b'_', _, _, major, minor, ..] => Some((major, minor)),
        _ => None,
    };
    match version {
        Some((major, minor)) => format!("SMBIOS {major}.{minor}"),
        None => "(unknown SMBIOS entry point)".into(),
    }
}

fn structures(page: &mut InfoPage, table: &[u8]) {
    let mut rest = table;
    for _ in 0..MAX_STRUCTURES {
        if rest.is_empty() {
            return;
        }
        let Some((found, tail)) = split(rest) else {
            page.line(format!("(the table is damaged; its last {} bytes are left out)", rest.len()));
            return;
        };
        show(page, &found);
        // Type 127 ends the table, whatever follows.
        if found.kind == 127 {
            return;
        }
        rest = tail;
    }
    page.line("(more structures are left out)");
}

/// The first structure and what follows it; `None` where its length or the end of its strings is impossible.
fn split(table: &[u8]) -> Option<(Structure<'_>, &[u8])> {
    let [kind, len, low, high, ..] = *table else { return None };
    let (area, mut rest) = table.split_at_checked(usize::from(len).max(4)).filter(|_| len >= 4)?;
    let mut strings = Vec::new();
    // Each string ends with a NUL, and an empty one ends the set; a set without strings is two NULs.
    loop {
        let end = rest.iter().position(|b| *b == 0)?;
        let (text, tail) = rest.split_at_checked(end)?;
        rest = tail.get(1..)?;
        if text.is_empty() {
            break;
        }
        strings.push(text);
    }
    if strings.is_empty() {
        rest = rest.strip_prefix(&[0])?;
    }
    Some((Structure { kind, handle: u16::from_le_bytes([low, high]), area, strings }, rest))
}

fn show(page: &mut InfoPage, found: &Structure<'_>) {
    let known = TYPES.iter().find(|(kind, ..)| *kind == found.kind);
    let name = match (known, found.kind) {
        (Some((_, name, _)), _) => name,
        (None, 11) => "OEM strings",
        (None, 12) => "Configuration options",
        (None, 127) => "End of table",
        (None, _) => "Other",
    };
    page.line(format!("Handle {:#06x}, type {}: {name}", found.handle, found.kind));
    match known {
        Some((.., fields)) => {
            for (at, kind, name) in *fields {
                if let Some(value) = found.value(*at, *kind) {
                    page.value("\t", name, &value);
                }
            }
        }
        None => {
            page.hex("\t", found.area.get(4..).unwrap_or_default());
            for (i, text) in (1..).zip(&found.strings) {
                page.value("\t", &format!("string {i}"), &visible(text));
            }
        }
    }
}

impl Structure<'_> {
    /// The field's value; `None` where this structure is too short to have it, or says nothing.
    fn value(&self, at: usize, kind: FieldKind) -> Option<String> {
        Some(match kind {
            Text => match usize::from(*self.area.get(at)?) {
                0 => return None,
                n => match self.strings.get(n - 1) {
                    Some(text) => visible(text),
                    None => format!("(string {n} is missing)"),
                },
            },
            U8 => le::u8(self.area, at)?.to_string(),
            U16 => le::u16(self.area, at)?.to_string(),
            Uuid => Guid(array(self.area, at)?).to_string(),
            DeviceSize => match le::u16(self.area, at)? {
                0 => "not installed".into(),
                0xffff => "unknown".into(),
                0x7fff => format!("{} MiB", le::u32(self.area, 0x1c)? & 0x7fff_ffff),
                n if n & 0x8000 != 0 => format!("{} KiB", n & 0x7fff),
                n => format!("{n} MiB"),
            },
        })
    }
}

/// Printable ASCII; other bytes as escapes.
fn visible(raw: &[u8]) -> String {
    raw.trim_ascii_end().escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(table: &[u8]) -> String {
        let mut page = InfoPage::default();
        structures(&mut page, table);
        page.finish()
    }

    /// A structure with `area` behind its header, padded to `len`.
    fn structure(kind: u8, len: u8, area: &[u8], strings: &[&str]) -> Vec<u8> {
        let mut raw = vec![kind, len, kind, 0];
        raw.extend(area);
        raw.resize(usize::from(len), 0);
        for text in strings {
            raw.extend(text.bytes().chain([0]));
        }
        raw.extend(if strings.is_empty() { &[0, 0][..] } else { &[0] });
        raw
    }

    #[test]
    fn system_and_memory_are_decoded_by_their_fields() {
        let uuid =
            [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        let system = [&[1, 2, 0, 9][..], &uuid, &[6, 0, 0]].concat();
        let mut memory = [0; 36];
        memory[8..10].copy_from_slice(&0x7fffu16.to_le_bytes());
        memory[24..28].copy_from_slice(&65536u32.to_le_bytes());
        memory[12] = 1;
        let table = [
            structure(1, 0x1b, &system, &["QEMU", "Standard PC  "]),
            structure(17, 0x28, &memory, &["DIMM 0"]),
            structure(127, 4, &[], &[]),
            vec![0xff; 8],
        ]
        .concat();
        let text = text(&table);
        for want in [
            "Handle 0x0001, type 1: System\n\tmanufacturer: QEMU\n\tproduct: Standard PC\n\tserial: (string 9 is missing)\n",
            "\tUUID: 00112233-4455-6677-8899-aabbccddeeff\n",
            "\tlocator: DIMM 0\n\tsize: 65536 MiB\n",
            "type 127: End of table\n",
        ] {
            assert!(text.contains(want), "{text}");
        }
        assert!(text.ends_with("End of table\n"), "{text}");
    }

    #[test]
    fn unknown_structures_are_bytes_and_hostile_strings_escapes() {
        let text = text(&structure(200, 6, &[0xab, 0xcd], &["a\x1b[2J"]));
        assert_eq!(text, "Handle 0x00c8, type 200: Other\n\t00: ab cd\n\tstring 1: a\\x1b[2J\n");
    }

    #[test]
    fn damaged_table_ends_with_a_line_that_says_so() {
        for table in [&[1, 3, 0, 0, 0, 0][..], &[1, 40, 0, 0], &[1, 4, 0, 0, b'x'], &[1, 4, 0, 0, 0], &[1]] {
            assert!(text(table).starts_with("(the table is damaged"), "{table:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_shown_without_panic(
            table in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(4), Just(17)], 0..400)
        ) {
            let text = text(&table);
            prop_assert!(text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        }
    }
}
