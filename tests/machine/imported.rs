//! A set that `testboxctl image import` has made is restored as one of the machine's own, onto the disk that is meant.

use crate::world::{IP, Machine, NewMachine, REBOOT, disk};
use std::fs;
use std::process::Command;

crate::over_both_kinds! {
    both: {
        an_imported_set_goes_to_the_disk_that_it_names,
        an_imported_set_that_names_no_disk_goes_where_the_admin_says,
    },
    by_nfs: {},
}

const SIZE: usize = 2 << 20;

/// What was imported: a few blocks that are not zero.
fn bytes() -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    for (at, block) in bytes.chunks_mut(4096).enumerate().filter(|(at, _)| at % 7 == 3) {
        block.fill(at as u8 | 1);
    }
    bytes
}

/// The machine's folder on a new share, after the import, put onto the share of a machine with two disks of other bytes.
fn imported(new: NewMachine, words: &[&str]) -> Machine {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    fs::create_dir(dir.path().join("b")).unwrap();
    write("b/testbox-backup", b"");
    write("settings.toml", b"");
    write("vm.raw", &bytes());
    let mut command = Command::new(env!("CARGO_BIN_EXE_testboxctl"));
    command.current_dir(dir.path()).args([
        "--config",
        "settings.toml",
        "image",
        "import",
        "--backup-dir",
        "b",
    ]);
    let output = command.args(["--machine", IP, "--disk", "sda", "vm.raw"]).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let machine = new();
    for name in ["backup.json", "sda.raw.gz"] {
        let file = format!("{IP}/{name}");
        machine.backup.put(&file, fs::read(dir.path().join("b").join(&file)).unwrap());
    }
    let other = |name: &str| disk(name, vec![0xa5; SIZE]);
    machine.set_disks(vec![other("sda OTHER pci-1"), other("sdb MEANT pci-2")]);
    machine
}

fn an_imported_set_goes_to_the_disk_that_it_names(new: NewMachine) {
    let mut machine = imported(new, &["--serial", "MEANT"]);
    machine.arm("testbox.action=restore testbox.job=r");
    let seen = machine.boot();
    assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{}", seen.console);
    assert!(machine.disk_bytes("sdb") == bytes() && machine.disk_bytes("sda") == vec![0xa5; SIZE]);
    machine.arm("testbox.action=backup-again testbox.job=n testbox.disks=serial=MEANT");
    let seen = machine.boot();
    assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{}", seen.console);
    assert!(seen.console.contains(" 0 compressed"), "it is taken over: {}", seen.console);
}

fn an_imported_set_that_names_no_disk_goes_where_the_admin_says(new: NewMachine) {
    let mut machine = imported(new, &[]);
    machine.arm("testbox.action=restore testbox.job=r");
    let seen = machine.boot();
    assert!(machine.is_armed(), "{}", seen.console);
    assert!(seen.console.contains("testbox.map=sda:serial=MEANT"), "{}", seen.console);
    for name in ["sda", "sdb"] {
        assert!(machine.disk_bytes(name) == vec![0xa5; SIZE], "nothing was written");
    }
    machine.arm("testbox.action=restore testbox.job=s testbox.map=sda:serial=MEANT");
    let seen = machine.boot();
    assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{}", seen.console);
    assert!(machine.disk_bytes("sdb") == bytes() && machine.disk_bytes("sda") == vec![0xa5; SIZE]);
}
