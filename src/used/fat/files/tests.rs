//! Against mtools.

use super::*;
use crate::used::testing::{made, run};
use proptest::prelude::*;
use std::fs;

const BOUNDS: Bounds = Bounds { files: 64, folders: 200, depth: 4 };

/// A FAT by mkfs.fat with a tree as an installed machine has it, and a folder of many entries.
fn image(args: &[&str], mib: u64) -> Vec<u8> {
    let tree = tempfile::tempdir().unwrap();
    let put = |path: &str, content: &str| {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    for path in [
        "EFI/BOOT/BOOTX64.EFI",
        "EFI/debian/shimx64.efi",
        "EFI/debian/grub.cfg",
        "EFI/Microsoft/Boot/bootmgfw.efi",
        "EFI/A folder with quite a long name/Some loader.Efi",
        "EFI/a/b/c/d/too deep.efi",
        "loader/not below.efi",
    ] {
        put(path, path);
    }
    put("EFI/debian/empty.efi", "");
    put("EFI/debian/gone.efi", "gone");
    for n in 0..150 {
        put(&format!("EFI/many/a file with a long name, number {n}"), "x");
    }
    put("EFI/many/the last.efi", "last");
    let blocks = (mib << 10).to_string();
    made(mib << 20, |file| {
        run("mkfs.fat", &[args, &[file, &blocks]].concat());
        for top in ["EFI", "loader"] {
            run("mcopy", &["-s", "-i", file, tree.path().join(top).to_str().unwrap(), "::/"]);
        }
        run("mdel", &["-i", file, "::/EFI/debian/gone.efi"])
    })
}

fn files(image: &Vec<u8>) -> FatFiles<'_> {
    FatFiles::open(Volume::new(image, 0, image.len() as u64, 512)).unwrap().unwrap()
}

#[test]
fn loaders_are_found_by_their_names_in_every_width() {
    for (args, mib) in [
        (&["-F", "12"][..], 4),
        (&["-F", "12", "-s", "1", "-f", "1"], 1),
        (&["-F", "16", "-s", "1"], 9),
        (&["-F", "32", "-s", "1"], 40),
        (&["-F", "32", "-s", "1", "-S", "4096"], 300),
    ] {
        let image = image(args, mib);
        let files = files(&image);
        let listed = files.ending_in(".efi", "efi", BOUNDS);
        let paths = [
            "\\EFI\\A folder with quite a long name\\Some loader.Efi",
            "\\EFI\\BOOT\\BOOTX64.EFI",
            "\\EFI\\Microsoft\\Boot\\bootmgfw.efi",
            "\\EFI\\debian\\shimx64.efi",
            "\\EFI\\many\\the last.efi",
        ];
        assert_eq!(listed.paths, paths, "{args:?}");
        assert!(listed.is_cut, "one folder is too deep");
        let size = |path| files.find(path).unwrap().map(|file| (file.size, file.is_dir));
        assert_eq!(size("\\efi\\DEBIAN\\ShimX64.efi"), Some((22, false)));
        assert_eq!(size("\\EFI\\a\\b\\c\\d\\too deep.efi"), Some((24, false)));
        assert_eq!(size("\\EFI\\debian"), Some((0, true)));
        for absent in [
            "\\EFI\\debian\\gone.efi",
            "\\EFI\\debian\\grub.cfg\\x",
            "\\",
            "",
            "\\EFI\\..",
            "\\EFI\\\\debian",
        ] {
            assert_eq!(size(absent), None, "{absent}");
        }
    }
}

#[test]
fn a_list_ends_at_its_bounds_and_says_so() {
    let image = image(&["-F", "16", "-s", "1"], 9);
    let files = files(&image);
    let list = |bounds| files.ending_in(".efi", "EFI", bounds);
    for bounds in
        [Bounds { files: 2, ..BOUNDS }, Bounds { folders: 3, ..BOUNDS }, Bounds { depth: 1, ..BOUNDS }]
    {
        let listed = list(bounds);
        assert!(listed.is_cut && listed.paths.len() < 5, "{bounds:?}: {listed:?}");
    }
    assert!(!list(Bounds { depth: 9, ..BOUNDS }).is_cut);
    assert_eq!(files.ending_in(".efi", "nothing", BOUNDS), Listed::default());
    assert_eq!(files.ending_in(".efi", "EFI\\debian\\shimx64.efi", BOUNDS), Listed::default());
}

#[test]
fn a_volume_that_was_not_unmounted_is_read_too() {
    let mut image = image(&["-F", "32", "-s", "1"], 40);
    image[65] = 1;
    assert!(files(&image).find("\\EFI\\BOOT\\BOOTX64.EFI").unwrap().is_some());
    assert!(FatFiles::open(Volume::new(&vec![0; 4096], 0, 4096, 512)).unwrap().is_none());
}

/// Where this short name stands in the image.
fn entry(image: &[u8], name: &[u8; 11]) -> usize {
    (0..image.len()).step_by(32).find(|at| image[*at..].starts_with(name)).unwrap()
}

#[test]
fn folders_that_lead_back_or_nowhere_end() {
    let good = image(&["-F", "16", "-s", "1"], 9);
    let efi = entry(&good, b"EFI        ");
    let debian = entry(&good, b"DEBIAN     ");
    // Into itself: each round is one level deeper.
    let mut image = good.clone();
    image.copy_within(efi + 26..efi + 28, debian + 26);
    let listed = files(&image).ending_in(".efi", "EFI", BOUNDS);
    assert!(listed.is_cut && !listed.paths.is_empty());
    // Beyond the clusters.
    let mut image = good.clone();
    image[debian + 26..debian + 28].copy_from_slice(&[0xf0, 0xff]);
    let listed = files(&image).ending_in(".efi", "EFI", BOUNDS);
    assert!(listed.is_cut && listed.paths.len() == 4, "{listed:?}");
    assert!(files(&image).find("\\EFI\\debian\\shimx64.efi").is_err());
    // A chain that is a circle: `many` has several clusters.
    let mut image = good.clone();
    let many = entry(&good, b"MANY       ");
    let cluster = usize::from(image[many + 26]) + (usize::from(image[many + 27]) << 8);
    let boot = FatBoot::read(&Volume::new(&good, 0, good.len() as u64, 512)).unwrap().unwrap();
    let fat = boot.fat as usize + 2 * cluster;
    image[fat..fat + 2].copy_from_slice(&(cluster as u16).to_le_bytes());
    assert!(files(&image).find("\\EFI\\many\\the last.efi").unwrap().is_none());
}

#[test]
fn a_long_name_counts_only_where_it_is_whole() {
    let good = image(&["-F", "16", "-s", "1"], 9);
    let at = entry(&good, b"SOMELO~1EFI");
    // A sum of another piece, a number out of turn, a deleted piece; and a short name that the long one was not made for.
    for (byte, value, short) in [
        (at - 32 + 13, 0, "\\SOMELO~1.EFI"),
        (at - 32, 7, "\\SOMELO~1.EFI"),
        (at - 32, 0xe5, "\\SOMELO~1.EFI"),
        (at + 7, b'2', "\\SOMELO~2.EFI"),
    ] {
        let mut image = good.clone();
        image[byte] = value;
        let listed = files(&image).ending_in(".efi", "EFI", BOUNDS);
        assert!(listed.paths.iter().any(|path| path.ends_with(short)), "{short}: {listed:?}");
    }
}

#[test]
fn short_names_have_their_case() {
    let entry = |name: &[u8; 11], case: u8| {
        let mut entry = [0u8; 32];
        entry[..11].copy_from_slice(name);
        entry[12] = case;
        short_name(&entry)
    };
    assert_eq!(entry(b"BOOTX64 EFI", 0), "BOOTX64.EFI");
    assert_eq!(entry(b"BOOTX64 EFI", 0x18), "bootx64.efi");
    assert_eq!(entry(b"BOOTX64 EFI", 0x08), "bootx64.EFI");
    assert_eq!(entry(b"EFI        ", 0x10), "EFI");
    assert!(is_same_name("\\EFI\\\u{fc}", "\\efi\\\u{dc}") && !is_same_name("a", "b"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_of_folders_and_fats_are_read_within_bounds(
        flips in prop::collection::vec((0usize..60 << 10, any::<u8>()), 0..60)
    ) {
        static IMAGE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut image = IMAGE.get_or_init(|| image(&["-F", "12", "-s", "1", "-f", "1"], 1)).clone();
        for (at, byte) in flips {
            image[at] = byte;
        }
        let volume = Volume::new(&image, 0, image.len() as u64, 512);
        if let Ok(Some(files)) = FatFiles::open(volume) {
            let listed = files.ending_in(".efi", "EFI", BOUNDS);
            prop_assert!(listed.paths.len() <= 64);
            for path in &listed.paths {
                prop_assert!(path.starts_with('\\') && path.to_ascii_lowercase().ends_with(".efi"));
            }
        }
    }
}
