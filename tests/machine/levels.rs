//! How small a share wants its images.

use crate::world::{Machine, REBOOT, disk};
use std::sync::Arc;
use testbox::image::Image;

/// A disk of text of all kinds.
fn text() -> Vec<u8> {
    (0..).flat_map(|n: u64| format!("{} {:x}\n", n * n, n * 77).into_bytes()).take(2 << 20).collect()
}

#[test]
fn the_level_in_the_root_of_the_share_is_that_of_its_images() {
    let mut sizes = Vec::new();
    for (said, codec) in [
        (None, "isal-1"),
        (Some("3\n"), "libdeflate-3"),
        (Some("6"), "libdeflate-6"),
        (Some("9"), "libdeflate-9"),
    ] {
        let mut machine = Machine::new();
        machine.set_disks(vec![disk("sda S1 @1", text())]);
        if let Some(said) = said {
            machine.backup.put("testbox-compression", said);
        }
        machine.arm("testbox.action=backup testbox.job=j1");
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{}", seen.console);
        let image = Image::open(Arc::new(machine.file("sda.raw.gz").unwrap())).unwrap();
        assert!(image.header().codec.starts_with(codec), "{}", image.header().codec);
        assert_eq!(machine.good_sets()[&1]["sda"], text());
        assert_eq!(machine.status().notes, Vec::<String>::new());
        sizes.push(image.summary().image);
    }
    assert!(sizes.windows(2).all(|pair| pair[0] >= pair[1]) && sizes[0] > sizes[3], "{sizes:?}");
}

/// It costs room, and no backup.
#[test]
fn a_level_that_there_is_not_is_a_note_and_level_1() {
    let mut machine = Machine::new();
    machine.backup.put("testbox-compression", "99\n");
    machine.arm("testbox.action=backup testbox.job=j1");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    let note = &machine.status().notes[0];
    assert!(
        note.contains("testbox-compression") && note.contains("1, 3, 6, 9") && note.contains("level 1"),
        "{note}"
    );
    let image = Image::open(Arc::new(machine.file("sda.raw.gz").unwrap())).unwrap();
    assert!(image.header().codec.starts_with("isal-1"));
}
