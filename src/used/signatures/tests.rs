use super::super::fixture::entry;
use super::super::testing::{TestRandom, made, run};
use super::*;
use crate::io::ReadAt;
use std::sync::OnceLock;

const SIZE: usize = 6 << 20;

/// Noise from a disk that was in use: none of it is a signature.
fn noise() -> Vec<u8> {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    let make = || {
        let mut random = TestRandom(7);
        (0..SIZE / 8).flat_map(|_| random.next().to_le_bytes()).collect()
    };
    NOISE.get_or_init(make).clone()
}

fn of(image: &dyn ReadAt, partitions: &[Range<u64>]) -> Vec<&'static str> {
    claims(&Volume::new(image, 0, image.size().unwrap(), 512), partitions).unwrap()
}

fn with(pieces: &[(usize, &[u8])]) -> Vec<u8> {
    let mut image = noise();
    for (at, bytes) in pieces {
        image[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    image
}

#[test]
fn every_signature_is_seen_at_its_place() {
    assert_eq!(of(&noise(), &[]), [""; 0]);
    for (kind, at, magic) in SIGNATURES {
        let at = match at {
            Start(at) => *at as usize,
            End(before) | End4K(before) => SIZE - *before as usize,
        };
        assert!(of(&with(&[(at, magic)]), &[]).contains(kind), "{kind} at {at}");
    }
    // A volume that does not end with 4096 bytes.
    let mut odd = with(&[(SIZE - 4096 + 60, b"\x83\x74\x02\x6b")]);
    odd.extend([1; 512]);
    assert_eq!(of(&odd, &[]), ["DRBD"]);
}

#[test]
fn formats_with_more_than_bytes_at_a_place_are_seen() {
    let md = 0xa92b_4efc_u32;
    let entry_in = |first, blocks| {
        let mut block = [0; 512];
        entry(&mut block, 0, 0x83, first, blocks);
        block
    };
    let mut sun = [7; 512];
    sun[508..512].copy_from_slice(b"\xda\xbe\xda\xbe");
    let mut hfs = [0; 162];
    hfs[..2].copy_from_slice(b"BD");
    hfs[15] = 3;
    hfs[22] = 16;
    let mut jmicron = [0; 512];
    jmicron[..6].copy_from_slice(b"JM\x01\x01\xb5\xb1");
    let mut silicon = [0; 512];
    silicon[0x63] = 0x2f;
    silicon[0x13f] = 0xd1;
    let mut via = [0; 512];
    via[..3].copy_from_slice(&[0x55, 0xaa, 1]);
    via[50] = 0;
    let cases: &[(&str, usize, &[u8])] = &[
        ("Linux RAID", SIZE - 65536, &md.to_le_bytes()),
        ("Linux RAID", SIZE - 65536, &md.to_be_bytes()),
        ("Linux RAID", SIZE - 8192, &md.to_le_bytes()),
        ("Linux RAID", 0, &md.to_le_bytes()),
        ("Linux RAID", 4096, &md.to_le_bytes()),
        ("ZFS", (128 << 10) + 4 * 1024, &0x00ba_b10c_u64.to_le_bytes()),
        ("ZFS", (384 << 10) + 127 * 1024, &0x00ba_b10c_u64.to_be_bytes()),
        ("ZFS", SIZE - (384 << 10), &0x00ba_b10c_u64.to_le_bytes()),
        ("ZFS", SIZE - 1024, &0x00ba_b10c_u64.to_le_bytes()),
        ("UFS", 8192 + 1372, &0x0001_1954_u32.to_le_bytes()),
        ("UFS", 65536 + 1372, &0x1954_0119_u32.to_be_bytes()),
        ("HFS", 1024, &hfs),
        ("a Sun label", 0, &sun),
        ("an Amiga table", 15 * 512, b"RDSK"),
        ("an MBR", 0, &entry_in(1, SIZE as u64 / 512 - 1)),
        ("firmware RAID", SIZE - 512, &jmicron),
        ("firmware RAID", SIZE - 512, &silicon),
        ("firmware RAID", SIZE - 512, &via),
    ];
    for (kind, at, bytes) in cases {
        assert_eq!(of(&with(&[(*at, bytes)]), &[]), [*kind], "at {at}");
    }
    let cases: &[(usize, &[u8])] = &[
        (0, &entry_in(1, SIZE as u64 / 512)),
        (0, &entry_in(0, 1)),
        (0, &[&sun[..511], &[0]].concat()),
        (SIZE - 512, &[&jmicron[..4], &[9, 9]].concat()),
    ];
    for (at, bytes) in cases {
        assert_eq!(of(&with(&[(*at, bytes)]), &[]), [""; 0], "at {at}");
    }
}

#[test]
fn of_a_disk_with_a_table_only_what_lies_outside_counts() {
    let partition = [1 << 20..SIZE as u64];
    let disk = |at: usize, bytes: &[u8]| of(&with(&[(at, bytes)]), &partition);
    let md = 0xa92b_4efc_u32.to_le_bytes();
    // Of the partition.
    assert_eq!(disk(1 << 20, b"\x0d\xd0\x01\xc0"), [""; 0]);
    assert_eq!(disk(512, b"EFI PART"), [""; 0]);
    assert_eq!(disk(SIZE - 8192, &md), [""; 0]);
    assert_eq!(disk(SIZE - 1024, &0x00ba_b10c_u64.to_le_bytes()), [""; 0]);
    // Of the disk.
    assert_eq!(disk(0, b"LUKS\xba\xbe"), ["LUKS"]);
    assert_eq!(disk(SIZE - 1024, b"Intel Raid ISM Cfg Sig. "), ["Intel RAID"]);
    assert_eq!(disk(SIZE - 65536, &md), ["Linux RAID"]);
    let place = (SIZE as u64 - 8192) / 512;
    let own = with(&[(SIZE - 8192, &md), (SIZE - 8192 + 144, &place.to_le_bytes())]);
    assert_eq!(of(&own, &partition), ["Linux RAID"]);
}

#[test]
fn volumes_of_our_own_formats_look_like_nothing_else() {
    for (program, args) in [
        ("mkfs.ext4", &["-q", "-F"][..]),
        ("mkfs.ext2", &["-q", "-F"]),
        ("mkfs.xfs", &["-q", "-f"]),
        ("mkfs.btrfs", &["-q", "-f"]),
        ("mkfs.vfat", &[]),
        ("mkfs.exfat", &[]),
        ("mkfs.ntfs", &["-q", "-F", "-Q"]),
        ("mkswap", &[]),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(320 << 20).unwrap();
        run(program, &[args, &[file.path().to_str().unwrap()]].concat());
        assert_eq!(of(file.as_file(), &[]), [""; 0], "{program}");
    }
}

#[test]
fn encrypted_volumes_are_seen_and_so_is_the_second_header() {
    for version in ["luks1", "luks2"] {
        let mut image = made(SIZE as u64 * 4, |file| {
            std::fs::write(format!("{file}.key"), "key").unwrap();
            let key = format!("--key-file={file}.key");
            let said = run(
                "cryptsetup",
                &[
                    "luksFormat",
                    "-q",
                    "--type",
                    version,
                    "--pbkdf",
                    "pbkdf2",
                    "--pbkdf-force-iterations",
                    "1000",
                    &key,
                    file,
                ],
            );
            std::fs::remove_file(format!("{file}.key")).unwrap();
            said
        });
        assert_eq!(of(&image, &[]), ["LUKS"], "{version}");
        image[..512].fill(0);
        assert_eq!(of(&image, &[]).len(), usize::from(version == "luks2"));
    }
}
