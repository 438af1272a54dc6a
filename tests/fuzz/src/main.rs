//! One program for all fuzz targets: `TESTBOX_FUZZ=<target>` chooses. Without it, it lists them and ends.
//!
//! Besides "no panic, no hang, bounded memory" each target has an oracle: what is printed parses to the same, what is
//! accepted keeps its own rules, what zlib makes of the same bytes.
#![no_main]

mod boot;
mod dhcp;
mod disk;
mod efi;
mod health;
mod images;
mod relocate;
mod store;
mod used;
mod words;

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

/// A target looks at the bytes, and panics where a rule is broken.
type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("cmdline", words::cmdline),
    ("netconf", words::netconf),
    ("values", words::values),
    ("nfs-options", words::nfs_options),
    ("pxe", words::pxe),
    ("disks-list", words::disks_list),
    ("settings", words::settings),
    ("record", words::record),
    ("status", words::status),
    ("signature", words::signature),
    ("lease", words::lease),
    ("store-call", words::store_call),
    ("store-answer", store::answer),
    ("store-body", store::body),
    ("tftp", words::tftp),
    ("dns", words::dns),
    ("dhcp", dhcp::dhcp),
    ("dhcp-server", boot::dhcp_server),
    ("tftp-server", boot::tftp_server),
    ("machines", boot::machines),
    ("quota", words::quota),
    ("image", images::image),
    ("part", images::part),
    ("foreign-gzip", images::foreign),
    ("health", health::health),
    ("efi", efi::efi),
    ("relocate", relocate::relocate),
    ("partitions", used::partitions),
    ("map", used::map),
    ("btrfs", used::btrfs),
    ("exfat", used::exfat),
    ("ext4", used::ext4),
    ("fat", used::fat),
    ("ntfs", used::ntfs),
    ("swap", used::swap),
    ("xfs", used::xfs),
];

fn chosen() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("TESTBOX_FUZZ").unwrap_or_default();
        let found = TARGETS.iter().find(|(target, _)| *target == name);
        found.map(|(_, target)| *target).unwrap_or_else(|| {
            TARGETS.iter().for_each(|(target, _)| println!("{target}"));
            std::process::exit(0);
        })
    })
}

fuzz_target!(|bytes: &[u8]| chosen()(bytes));
