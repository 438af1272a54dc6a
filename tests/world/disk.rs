//! A disk that firmware would boot from, and what a cut restore may leave of it.

#![allow(dead_code)] // each test binary uses its own part of it

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use testbox::block::ALIGN;
use testbox::sys::Chance;

/// 3 MiB, the smallest with a body between the two parts that are sealed.
pub fn bootable(seed: u64) -> Vec<u8> {
    bootable_of(3 << 20, seed)
}

/// A boot sector, a GPT at both ends, and everything else told apart by `seed`: a block that was not written shows.
pub fn bootable_of(len: usize, seed: u64) -> Vec<u8> {
    // Tests ask for the same ones again and again.
    static MADE: Mutex<BTreeMap<(usize, u64), Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry((len, seed)).or_insert_with(|| make(len, seed)).clone()
}

fn make(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    for block in 0..len as u64 / 512 {
        bytes.extend_from_slice(&Chance(seed).of(block).to_le_bytes().repeat(64));
    }
    let last = bytes.len() - 512;
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes[512..520].copy_from_slice(b"EFI PART");
    bytes[last..last + 8].copy_from_slice(b"EFI PART");
    bytes
}

/// U: no firmware finds anything to boot, or all that it boots is right; or nothing but what is sealed was touched of
/// what the disk held before, `old`.
///
/// The two GPTs stand at the two ends, and no disk writes both at once: while the last of both is written, firmware that
/// knows GPT boots by the other one, and everything but this first block must be right by then.
pub fn check_unbootable_or_right(found: &[u8], image: &[u8], old: &[u8], what: &str) {
    let body = 1 << 20..image.len() - (1 << 20);
    let boots = found[510..512] == [0x55, 0xaa] || found[512..520] == *b"EFI PART";
    let boots_from_the_end = found[found.len() - 512..].starts_with(b"EFI PART");
    let is_right = found[ALIGN..] == image[ALIGN..];
    let is_untouched = found[body.clone()] == old[body];
    assert!(
        is_right || is_untouched || !boots,
        "U: {what}: the first block is there, and the rest is not right"
    );
    assert!(
        is_right || is_untouched || !boots_from_the_end,
        "U: {what}: the backup GPT is there, and the rest is not right"
    );
}

/// Has sgdisk work on the bytes of a disk.
pub fn sgdisk(bytes: &[u8], args: &[&str]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let out = std::process::Command::new("sgdisk")
        .args(args)
        .arg(file.path())
        .output()
        .expect("sgdisk: scripts/packages test");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success() && !text.replace("No problems", "").contains("problem"),
        "sgdisk {args:?}: {text}"
    );
    std::fs::read(file.path()).unwrap()
}

/// 3 MiB with a right GPT, whose partition, full of what tells blocks apart, ends at block 4500; zeros behind it.
pub fn partitioned(seed: u64) -> Vec<u8> {
    let mut bytes = bootable(seed);
    bytes[..100 * 512].fill(0);
    bytes[4500 * 512..].fill(0);
    const GUID: &str = "5f2a0000-1111-2222-3333-444455556666";
    sgdisk(&bytes, &["-a1", "-n1:100:4499", "-u", &format!("1:{GUID}"), "-U", GUID])
}

/// What a disk with a right GPT is on a larger disk that held `old`: the backup where `sgdisk -e` puts it, none where it
/// was, and between both what was there, but for the last MiB.
pub fn on_larger(bytes: &[u8], old: &[u8]) -> Vec<u8> {
    let mut larger = [bytes, &old[bytes.len()..]].concat();
    let end = (larger.len() - (1 << 20)).max(bytes.len());
    larger[end..].fill(0);
    let mut larger = sgdisk(&larger, &["-e"]);
    let was = bytes.len() - 33 * 512..bytes.len().min(larger.len() - 33 * 512);
    larger[was].fill(0);
    larger
}
