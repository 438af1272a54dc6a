//! Recorded replies, and made ones in their shape, beside what is taken from them.

use super::ata::PAGE;
use super::*;
use crate::inventory::fixture::{SysfsTree, disk};
use proptest::prelude::*;
use std::cell::RefCell;

const IDENTIFY: u8 = 0xec;
const SMART: u8 = 0xb0;
const NATIVE_28: u8 = 0xf8;
const NATIVE_48: u8 = 0x27;
const AMAX: u8 = 0x78;
const OVERLAY: u8 = 0xb1;

/// Sense data of libata (Linux 6.1) after SMART RETURN STATUS, all well.
const PASSED: &str = "72 01 00 1d 00 00 00 0e  09 0c 00 00 00 00 00 00 00 4f 00 c2 00 50";
const EXCEEDED: &str = "72 01 00 1d 00 00 00 0e  09 0c 00 00 00 00 00 00 00 f4 00 2c 00 50";
/// The same in the fixed format, as translators of SAS controllers give it.
const PASSED_FIXED: &str = "f0 00 01 00 50 00 00 0a 00 00 4f c2 00 1d 00 00 00 00";
const EXCEEDED_FIXED: &str = "f0 00 01 00 50 00 00 0a 00 00 f4 2c 00 1d 00 00 00 00";
/// ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE: who does not know ATA PASS-THROUGH.
const UNKNOWN: &str = "70 00 05 00 00 00 00 0a 00 00 00 00 20 00 00 00 00 00";
/// ABORTED COMMAND with the registers: status ERR, error ABRT.
const ABORTED: &str = "72 0b 00 00 00 00 00 0e  09 0c 00 04 00 00 00 00 00 4f 00 c2 00 51";

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|b| u8::from_str_radix(b, 16).unwrap()).collect()
}

/// Sense data of a 48-bit command that leaves this address.
fn address(lba: u64) -> Vec<u8> {
    let b = lba.to_le_bytes();
    [
        bytes("72 01 00 1d 00 00 00 0e  09 0c 01 00 00 00"),
        vec![b[3], b[0], b[4], b[1], b[5], b[2], 0x40, 0x50],
    ]
    .concat()
}

/// Identify data with these words, and the checksum that belongs to them.
fn page(words: &[(usize, u16)]) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    for (word, value) in words {
        page[2 * word..2 * word + 2].copy_from_slice(&value.to_le_bytes());
    }
    page[510] = 0xa5;
    page[511] = page.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b));
    page
}

/// Sectors that the disks below show, 465 GiB.
const SHOWN: u64 = 976_773_168;
const SIZE: u64 = SHOWN * 512;

/// A SATA disk with SMART, security, host protected area, overlay and 48 bits, as a 2.5 inch disk of 2012 says it; more
/// words go over it.
fn identify(more: &[(usize, u16)]) -> Vec<u8> {
    let shown = [SHOWN as u16, (SHOWN >> 16) as u16, (SHOWN >> 32) as u16, 0];
    let words = [
        (0, 0x045a),
        (60, 0xffff),
        (61, 0x0fff),
        (82, 0x746b),
        (83, 0x7d09),
        (84, 0x6163),
        (85, 0x7469),
        (86, 0xbc09),
        (87, 0x6163),
        (100, shown[0]),
        (101, shown[1]),
        (102, shown[2]),
        (106, 0x6003),
        (119, 0x401c),
        (128, 0x0021),
    ];
    page(&[&words[..], more].concat())
}

/// A disk that answers as recorded, by the command; anything else is an illegal request. It notes what it was asked.
struct Recorded {
    replies: Vec<(u8, Vec<u8>)>,
    asked: RefCell<Vec<u8>>,
}

fn recorded(replies: Vec<(u8, Vec<u8>)>) -> Recorded {
    Recorded { replies, asked: RefCell::default() }
}

impl DiskFirmware for Recorded {
    fn ata(&self, command: &[u8; 16], data: &mut [u8]) -> io::Result<Vec<u8>> {
        assert_eq!(command[0], 0x85);
        let (is_read, asks_for_registers) = (command[2] & 0x08 != 0, command[2] & 0x20 != 0);
        assert!(is_read != asks_for_registers && is_read != data.is_empty());
        let opcode = command[14];
        self.asked.borrow_mut().push(opcode);
        match self.replies.iter().find(|(of, _)| *of == opcode) {
            Some((_, page)) if is_read => {
                data.copy_from_slice(page);
                Ok(Vec::new())
            }
            Some((_, sense)) => Ok(sense.clone()),
            None => Ok(bytes(UNKNOWN)),
        }
    }

    fn nvme_log(&self, page: u8, data: &mut [u8]) -> io::Result<()> {
        let (of, log) = &self.replies[0];
        assert_eq!((page, data.len()), (*of, 512));
        data.copy_from_slice(log);
        Ok(())
    }
}

fn ata(replies: Vec<(u8, Vec<u8>)>) -> Health {
    Health::ask(&recorded(replies), Language::Ata, SIZE).unwrap()
}

#[test]
fn smart_says_that_a_disk_fails_and_nothing_else_does() {
    let smart_off = identify(&[(85, 0x7468)]);
    let no_smart = identify(&[(82, 0x746a)]);
    for (what, identify, sense, failing) in [
        ("passed", identify(&[]), PASSED, false),
        ("exceeded", identify(&[]), EXCEEDED, true),
        ("passed, fixed format", identify(&[]), PASSED_FIXED, false),
        ("exceeded, fixed format", identify(&[]), EXCEEDED_FIXED, true),
        ("switched off", smart_off, EXCEEDED, false),
        ("not supported", no_smart, EXCEEDED, false),
        ("aborted", identify(&[]), ABORTED, false),
        ("not known", identify(&[]), UNKNOWN, false),
        ("no sense data at all", identify(&[]), "", false),
        (
            "neither",
            identify(&[]),
            "72 01 00 1d 00 00 00 0e  09 0c 00 00 00 00 00 00 00 00 00 00 00 50",
            false,
        ),
        ("cut", identify(&[]), "72 01 00 1d 00 00 00 0e  09 0c 00 00 00 00 00 00 00 f4 00 2c 00", false),
        (
            "another descriptor",
            identify(&[]),
            "72 01 00 1d 00 00 00 0e  0a 0c 00 00 00 00 00 00 00 f4 00 2c 00 50",
            false,
        ),
        (
            "behind another descriptor",
            identify(&[]),
            "72 01 00 1d 00 00 00 12  01 02 00 00  09 0c 00 00 00 00 00 00 00 f4 00 2c 00 50",
            true,
        ),
        (
            "fixed format, of something else",
            identify(&[]),
            "f0 00 03 00 50 00 00 0a 00 00 f4 2c 11 00 00 00 00 00",
            false,
        ),
    ] {
        let found = ata(vec![(IDENTIFY, identify), (SMART, bytes(sense))]);
        let wanted = failing.then(|| "SMART: a threshold is exceeded".to_owned());
        assert_eq!(found, Health { failing: wanted, ..Health::default() }, "{what}");
    }
}

#[test]
fn security_is_read_from_word_128() {
    for (word, locked, frozen) in [
        (0x0000, false, false),
        (0x0021, false, false), // supported
        (0x0029, false, true),  // and frozen
        (0x0023, false, false), // enabled, and the password was given
        (0x0027, true, false),  // enabled and locked
        (0x0137, true, false),  // the same, too many attempts, highest level
        (0x000e, false, false), // not supported: the other bits mean nothing
    ] {
        let health = ata(vec![(IDENTIFY, identify(&[(128, word)]))]);
        assert_eq!((health.locked, health.frozen), (locked, frozen), "{word:#06x}");
    }
}

#[test]
fn what_a_disk_hides_is_found_by_each_of_the_three_features() {
    let more = |sectors: u64| address(SHOWN - 1 + sectors);
    let overlay =
        |lba: u64| page(&[(0, 2), (3, lba as u16), (4, (lba >> 16) as u16), (5, (lba >> 32) as u16)]);
    let amax = identify(&[(83, 0x7409), (82, 0x706b), (119, 0x411c)]);
    let plain = identify(&[(83, 0x7409), (82, 0x706b)]);
    // 28 bits: the address is in the device register too.
    let old = identify(&[(83, 0x4000), (60, 0x0000), (61, 0x0200)]);
    let old_sense = "72 01 00 1d 00 00 00 0e  09 0c 00 00 00 00 ff ff ff ff ff ff 42 50";
    let long = identify(&[(106, 0x5000), (117, 2048), (118, 0)]);
    let all = "f0 00 01 00 50 40 00 0a 20 ff ff ff 00 1d 00 00 00 00";
    for (what, replies, size, hidden) in [
        ("nothing hidden", vec![(IDENTIFY, identify(&[])), (NATIVE_48, more(0))], SIZE, 0),
        ("host protected area", vec![(IDENTIFY, identify(&[])), (NATIVE_48, more(2000))], SIZE, 2000 * 512),
        ("4096-byte sectors", vec![(IDENTIFY, long), (NATIVE_48, more(3))], SHOWN * 4096, 3 * 4096),
        ("28 bits", vec![(IDENTIFY, old), (NATIVE_28, bytes(old_sense))], 0x200_0000 * 512, 0x100_0000 * 512),
        ("maximum address of ACS-3", vec![(IDENTIFY, amax), (AMAX, more(7))], SIZE, 7 * 512),
        ("overlay", vec![(IDENTIFY, identify(&[])), (OVERLAY, overlay(SHOWN + 8))], SIZE, 9 * 512),
        (
            "overlay above the area",
            vec![(IDENTIFY, identify(&[])), (NATIVE_48, more(5)), (OVERLAY, overlay(SHOWN + 8))],
            SIZE,
            9 * 512,
        ),
        (
            "no such feature",
            vec![(IDENTIFY, plain), (NATIVE_48, more(2000)), (OVERLAY, overlay(SHOWN + 8))],
            SIZE,
            0,
        ),
        (
            "another size than the kernel's",
            vec![(IDENTIFY, identify(&[])), (NATIVE_48, more(2000))],
            SIZE - 512,
            0,
        ),
        ("aborted", vec![(IDENTIFY, identify(&[])), (NATIVE_48, bytes(ABORTED))], SIZE, 0),
        ("cut by the fixed format", vec![(IDENTIFY, identify(&[])), (NATIVE_48, bytes(all))], SIZE, 0),
        ("less than it shows", vec![(IDENTIFY, identify(&[])), (NATIVE_48, address(5))], SIZE, 0),
    ] {
        let found = Health::ask(&recorded(replies), Language::Ata, size).unwrap();
        assert_eq!(found, Health { hidden, ..Health::default() }, "{what}");
    }
}

#[test]
fn who_does_not_know_the_question_has_said_nothing() {
    // Who does not know IDENTIFY is asked nothing else.
    let stranger = recorded(Vec::new());
    assert!(Health::ask(&stranger, Language::Ata, SIZE).is_err());
    assert_eq!(stranger.asked.into_inner(), [IDENTIFY]);
    let mut flipped = identify(&[(128, 7)]);
    flipped[256] ^= 8;
    for (what, page) in [("zeros", vec![0; PAGE]), ("ones", vec![0xff; PAGE]), ("wrong checksum", flipped)] {
        assert!(Health::ask(&recorded(vec![(IDENTIFY, page)]), Language::Ata, SIZE).is_err(), "{what}");
    }
    // Feature words that are not valid: QEMU 1.0 and old disks leave them 0.
    let old = recorded(vec![(IDENTIFY, identify(&[(83, 0), (87, 0)])), (SMART, bytes(EXCEEDED))]);
    assert_eq!(Health::ask(&old, Language::Ata, SIZE).unwrap(), Health::default());
    assert_eq!(old.asked.into_inner(), [IDENTIFY]);
}

#[test]
fn nvme_says_it_in_its_critical_warning() {
    for (warning, failing, temperature) in [
        (0x00, "", false),
        (0x01, "spare blocks", false),
        (0x02, "", true),
        (0x04, "reliability is degraded", false),
        (0x08, "read-only", false),
        (0x10, "volatile memory", false),
        (0x20, "", false),
        (0x0f, "spare blocks are used up; its reliability", true),
        (0xff, "", false),
    ] {
        let mut log = vec![0; 512];
        // Composite temperature, available spare and threshold of a healthy one.
        log[..6].copy_from_slice(&[warning, 0x43, 0x01, 100, 10, 0]);
        let health = Health::ask(&recorded(vec![(0x02, log)]), Language::Nvme, SIZE).unwrap();
        assert_eq!(health.temperature, temperature, "{warning:#x}");
        let text = health.failing.unwrap_or_default();
        assert!(text.is_empty() == failing.is_empty() && text.contains(failing), "{warning:#x}: {text}");
    }
}

#[test]
fn only_disks_that_speak_a_language_are_asked() {
    let tree = SysfsTree::new();
    for (name, vendor) in [("sda", "ATA     "), ("sdb", "LSI     "), ("sdc", "ATA     "), ("vda", "0x1af4")] {
        tree.file(&format!("block/{name}/device/vendor"), vendor);
    }
    let usb = Disk { excluded: Some(Exclusion::Usb), ..disk("sdc") };
    let of = |disk: &Disk| Language::of(&tree.sys(), disk);
    assert_eq!(of(&disk("sda")), Some(Language::Ata));
    assert_eq!(of(&disk("nvme0n1")), Some(Language::Nvme));
    for none in [disk("sdb"), usb, disk("sdd"), disk("vda"), disk("mmcblk0")] {
        assert_eq!(of(&none), None, "{none}");
    }
}

#[test]
fn the_line_of_a_disk_says_what_is_wrong_with_it() {
    assert_eq!(Health::default().to_string(), "");
    let health = Health { failing: Some("why".into()), locked: true, hidden: 512, ..Health::default() };
    let line = Disk { health, ..disk("sda") }.to_string();
    assert!(line.ends_with(", FAILING (why), LOCKED by its ATA password, 512 more bytes hidden"), "{line}");
}

proptest! {
    #[test]
    fn any_reply_is_taken_without_panic(page in proptest::collection::vec(any::<u8>(), PAGE), sense in proptest::collection::vec(any::<u8>(), 0..40), tail in proptest::collection::vec(any::<u8>(), 0..40)) {
        let page = [identify(&[]), page].map(|mut p| { p[510] = 0; p });
        for page in page {
            for sense in [sense.clone(), [&[0x72, 1, 0, 0x1d, 0, 0, 0], &tail[..]].concat()] {
                let replies = [SMART, NATIVE_28, NATIVE_48, AMAX].map(|of| (of, sense.clone()));
                let replies = [&[(IDENTIFY, page.clone()), (OVERLAY, page.clone())], &replies[..]].concat();
                let _ = Health::ask(&recorded(replies), Language::Ata, SIZE);
            }
        }
    }
}
