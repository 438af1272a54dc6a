//! Firmware facts: BIOS or UEFI, the DMI identification strings, ACPI tables, the firmware's memory map.

use super::page::{self, InfoPage};
use crate::bytes::le;
use crate::efi::{FirmwareRecord, Platform};
use std::path::Path;

/// Signature to creator revision: ACPI 6.5, section 5.2.6.
const ACPI_HEADER: u64 = 36;

pub(super) fn write(page: &mut InfoPage, sys: &Path) {
    let efi = sys.join("firmware/efi");
    if efi.exists() {
        page.line("Started by UEFI");
        page.attributes("\t", &efi, &["fw_platform_size", "fw_vendor", "runtime", "config_table", "systab"]);
    } else {
        page.line("Started by a legacy BIOS (or by something else without UEFI)");
    }
    page.line("Identification:");
    let id = sys.join("class/dmi/id");
    if let Err(e) = id.metadata() {
        page.missing(id.display(), &e);
    }
    page.attributes(
        "\t",
        &id,
        &[
            "bios_vendor",
            "bios_version",
            "bios_date",
            "bios_release",
            "ec_firmware_release",
            "sys_vendor",
            "product_name",
            "product_version",
            "product_serial",
            "product_uuid",
            "product_sku",
            "product_family",
            "board_vendor",
            "board_name",
            "board_version",
            "board_serial",
            "board_asset_tag",
            "chassis_vendor",
            "chassis_type",
            "chassis_version",
            "chassis_serial",
            "chassis_asset_tag",
        ],
    );
    let tables = sys.join("firmware/acpi/tables");
    page.line("ACPI tables:");
    for dir in [tables.clone(), tables.join("dynamic")] {
        if dir != tables && !dir.exists() {
            continue;
        }
        for path in page.list(&dir).into_iter().filter(|path| path.is_file()) {
            match page::read(&path, ACPI_HEADER) {
                Ok(raw) => page.line(format!("\t{}: {}", page::name(&path), acpi_header(&raw))),
                Err(e) => page.missing(path.display(), &e),
            }
        }
    }
    page.line("Memory map of the firmware:");
    let mut ranges: Vec<(usize, String)> = Vec::new();
    for path in page.list(&sys.join("firmware/memmap")) {
        let attr = |name: &str| {
            let text =
                page::read(&path.join(name), 256).map(|raw| String::from_utf8_lossy(&raw).trim().to_owned());
            text.unwrap_or_else(|e| format!("({e})"))
        };
        let line = format!("\t{} - {}: {}", attr("start"), attr("end"), attr("type"));
        ranges.push((page::name(&path).parse().unwrap_or(usize::MAX), line));
    }
    ranges.sort();
    for (_, line) in ranges {
        page.line(line);
    }
}

/// How the firmware boots: its entries and their order.
pub(super) fn boot_entries(page: &mut InfoPage, platform: Option<&Platform>) {
    if platform.is_some() {
        page.line("Boot entries:");
        FirmwareRecord::of(platform).lines().iter().for_each(|line| page.line(format!("\t{line}")));
    }
}

fn acpi_header(raw: &[u8]) -> String {
    let text = |from: usize, to: usize| {
        let field = raw.get(from..to)?;
        Some(
            field
                .iter()
                .map(|&b| if (0x20..0x7f).contains(&b) { char::from(b) } else { '.' })
                .collect::<String>(),
        )
    };
    // FACS and a cut table have no such header.
    let described = || {
        Some(format!(
            "{} bytes, revision {}, OEM '{}' table '{}' revision {:#x}, creator '{}' {:#x}",
            le::u32(raw, 4)?,
            raw.get(8)?,
            text(10, 16)?,
            text(16, 24)?,
            le::u32(raw, 24)?,
            text(28, 32)?,
            le::u32(raw, 32)?,
        ))
    };
    described().unwrap_or_else(|| format!("{} bytes, no header", raw.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acpi_header_shows_hostile_bytes_as_dots() {
        let mut raw = b"DSDT\x10\x20\0\0\x02\0BOCHS BXPC\xff\n\0\0\x01\0\0\0BXPC\x01\0\0\0".to_vec();
        assert_eq!(
            acpi_header(&raw),
            "8208 bytes, revision 2, OEM 'BOCHS ' table 'BXPC....' revision 0x1, creator 'BXPC' 0x1"
        );
        raw.pop();
        assert_eq!(acpi_header(&raw), "35 bytes, no header");
    }
}
