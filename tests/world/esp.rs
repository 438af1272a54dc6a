//! A disk with a GPT and an EFI system partition, made by sgdisk, mkfs.fat and mtools, and firmware that boots it.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use testbox::efi::{BootNumber, HardDrive, LoadOption, MemVariables, PathNode};

pub const SHIM: &str = "\\EFI\\debian\\shimx64.efi";
pub const FALLBACK: &str = "\\EFI\\BOOT\\BOOTX64.EFI";
const GUID: &str = "11111111-2222-3333-4444-555555555555";

/// 3 MiB with a partition that has these files, one path after the other; each holds its path.
pub fn esp_disk(files: &[&str]) -> Vec<u8> {
    static MADE: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(files.concat()).or_insert_with(|| make(files)).clone()
}

fn make(files: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let mut script = format!(
        "cd '{}'; truncate -s 3M disk; sgdisk -n 1:2048:3071 -t 1:ef00 -u 1:{GUID} -U {GUID} disk; truncate -s 512K esp; \
         mkfs.fat -F 12 -i 12345678 esp; mmd -i esp ::/EFI ::/EFI/debian ::/EFI/BOOT; ",
        folder.path().display()
    );
    for file in files {
        let path = file.replace('\\', "/");
        script += &format!("printf %s '{path}' >file; mcopy -i esp file '::{path}'; ");
    }
    script += "dd if=esp of=disk bs=1M seek=1 conv=notrunc";
    let path = format!("/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap_or_default());
    let out = Command::new("sh").args(["-ec", &script]).env("PATH", path).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    std::fs::read(folder.path().join("disk")).unwrap()
}

/// The partition of [`esp_disk`].
pub fn partition() -> HardDrive {
    HardDrive { number: 1, start: 2048, blocks: 1024, guid: GUID.parse().unwrap() }
}

pub fn entry(name: &str, file: &str) -> LoadOption {
    LoadOption::new(name, partition(), file)
}

pub fn network() -> LoadOption {
    let path = vec![PathNode::Other(3, 0x0b, vec![0x52; 33]), PathNode::Other(3, 0x0c, vec![0; 23])];
    LoadOption { attributes: 1, name: "PXE".into(), path, ..LoadOption::default() }
}

/// Firmware with these entries from number 0 on, in this order, that has booted from the first of it.
pub fn firmware(entries: &[LoadOption], order: &[u16]) -> MemVariables {
    let bytes = |numbers: &[u16]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let mut values: Vec<(String, Vec<u8>)> = vec![("SecureBoot".into(), vec![1])];
    for (number, option) in (0..).zip(entries) {
        values.push((BootNumber(number).variable(), option.to_bytes().unwrap()));
    }
    values.extend([("BootOrder".into(), bytes(order)), ("BootCurrent".into(), bytes(&order[..1]))]);
    MemVariables::new(values)
}
