use super::super::*;
use super::{loader, network, partition, set_up};
use proptest::prelude::*;

/// `Boot0007` as it was written on a machine with OVMF, and booted its Debian from.
const DEBIAN: &str = "01000000 7600 640065006200690061006e000000 \
    04012a00 01000000 0008000000000000 0000020000000000 0f8e6a1c3d2b4a5c9e7f001122334455 0202 \
    04044800 5c004500460049005c00640065006200690061006e005c007300680069006d007800360034002e006500660069000000 7fff0400";

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn a_real_entry_is_read_and_written_byte_for_byte() {
    let mut bytes = unhex(DEBIAN);
    // The lengths are of the text above, whatever it is.
    let paths = bytes.len() - 6 - 14;
    bytes[4..6].copy_from_slice(&u16::try_from(paths).unwrap().to_le_bytes());
    let file = 6 + 14 + 42;
    let len = u16::try_from(bytes.len() - file - 4).unwrap();
    bytes[file + 2..file + 4].copy_from_slice(&len.to_le_bytes());
    let option = LoadOption::parse(&bytes).unwrap();
    assert_eq!(option.name, "debian");
    assert!(option.is_tried() && option.is_short_form() && !option.is_network());
    let (hd, file) = option.loader().unwrap();
    assert_eq!((hd.number, hd.start, hd.blocks), (1, 2048, 131_072));
    assert_eq!(hd.guid.to_string(), "1c6a8e0f-2b3d-5c4a-9e7f-001122334455");
    assert_eq!(file, "\\EFI\\debian\\shimx64.efi");
    assert_eq!(option.to_bytes().unwrap(), bytes);
    assert_eq!(LoadOption::new("debian", hd, &file), option);
}

#[test]
fn only_active_shown_boot_entries_are_tried() {
    for (attributes, is_tried) in
        [(1, true), (3, true), (0, false), (9, false), (0x109, false), (0x101, false), (8, false)]
    {
        let option = LoadOption { attributes, ..loader("a", 1, "\\a.efi") };
        assert_eq!(option.is_tried(), is_tried, "{attributes:#x}");
    }
}

#[test]
fn network_entries_and_loaders_are_told_apart() {
    assert!(network("n").is_network() && network("n").loader().is_none());
    assert!(!set_up().is_network() && set_up().loader().is_none());
    let mut full = loader("a", 1, "EFI");
    full.path.insert(0, PathNode::Other(1, 1, vec![0, 2]));
    full.path.push(PathNode::File("a.efi".into()));
    assert_eq!(full.loader(), Some((partition(1), "\\EFI\\a.efi".into())));
    assert!(!full.is_short_form());
    full.path.push(PathNode::Other(5, 1, vec![]));
    assert_eq!(full.loader(), None);
    assert_eq!(full.short_text(), "01.01/04.01/04.04/04.04/05.01");
}

#[test]
fn values_that_are_cut_or_contradict_themselves_are_refused() {
    let good = loader("name", 1, "\\a.efi").to_bytes().unwrap();
    for len in 0..good.len() {
        assert!(LoadOption::parse(&good[..len]).is_err(), "{len}");
    }
    let at = 6 + 10;
    for (change, value) in [(at + 2, 3), (at + 2, 43), (at + 2, 200), (4, 41), (4, 0)] {
        let mut bad = good.clone();
        bad[change] = value;
        bad[change + 1] = 0;
        // A node of 43 bytes only moves what follows it out of place.
        assert!(LoadOption::parse(&bad).is_err(), "{change}: {value}");
    }
    assert!(LoadOption::parse(&vec![0; 1 << 20]).is_err());
}

#[test]
fn guids_and_numbers_are_read_as_they_are_shown() {
    let guid =
        Guid([0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b]);
    assert_eq!(guid.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    assert_eq!("C12A7328-F81F-11D2-BA4B-00A0C93EC93B".parse::<Guid>().unwrap(), guid);
    for bad in [
        "",
        "c12a7328f81f11d2ba4b00a0c93ec93b",
        "+12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        "\u{e4}".repeat(16).as_str(),
    ] {
        assert!(bad.parse::<Guid>().is_err(), "{bad}");
    }
    assert_eq!(BootNumber::of_variable("Boot001A"), Some(BootNumber(26)));
    for bad in ["BootOrder", "Boot12", "Boot00001", "Boot+001", "BootNext", "XBoot0001", "Boot\u{e4}\u{e4}"] {
        assert_eq!(BootNumber::of_variable(bad), None, "{bad}");
    }
}

fn node() -> impl Strategy<Value = PathNode> {
    let text = "[ -~\u{e4}\u{1f600}]{0,20}";
    prop_oneof![
        any::<u8>().prop_map(|n| PathNode::HardDrive(partition(n))),
        text.prop_map(PathNode::File),
        (0u8..0x7f, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_filter("known ones", |(kind, sub, _)| !matches!((kind, sub), (4, 1 | 4)))
            .prop_map(|(kind, sub, body)| PathNode::Other(kind, sub, body)),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_the_same(
        attributes: u32, name in "[ -~\u{e4}\u{1f600}]{0,20}", path in prop::collection::vec(node(), 0..6),
        more_paths in prop::collection::vec(any::<u8>(), 0..10), options in prop::collection::vec(any::<u8>(), 0..40)
    ) {
        let option = LoadOption { attributes, name, path, more_paths, options };
        prop_assert_eq!(LoadOption::parse(&option.to_bytes().unwrap()).unwrap(), option);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(option) = LoadOption::parse(&bytes) {
            prop_assert_eq!(option.to_bytes().unwrap().len(), bytes.len());
        }
    }
}
