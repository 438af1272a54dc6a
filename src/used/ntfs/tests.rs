//! Against mkntfs, ntfsinfo and ntfs-3g.

use super::super::testing::*;
use super::files::split;
use super::log::making::page;
use super::memory::HIBERNATION;
use super::*;
use std::ops::Range;

/// An NTFS by mkntfs that fills `bytes` bytes.
fn formatted(args: &[&str], bytes: u64) -> Vec<u8> {
    made(bytes, |file| {
        run("mkntfs", &[&["-F", "-Q", "-q", "-p", "0", "-H", "16", "-S", "63"], args, &[file]].concat())
    })
}

/// Copies a file into the root directory.
fn put(image: &[u8], name: &str, content: &[u8]) -> Vec<u8> {
    as_file(image, |path| {
        as_file(content, |from| {
            run("ntfscp", &["-q", "-f", path.to_str().unwrap(), from.to_str().unwrap(), name]);
        });
        std::fs::read(path).unwrap()
    })
}

/// Free bytes by ntfsinfo; it and ntfsfix must have nothing to complain about.
fn tools(image: &[u8]) -> u64 {
    as_file(image, |path| {
        let path = path.to_str().unwrap();
        run("ntfsfix", &["-n", path]);
        let text = run("ntfsinfo", &["-m", path]);
        let number = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        number("Free Clusters:") * number("Cluster Size:")
    })
}

#[test]
fn every_cluster_and_sector_size_of_mkntfs() {
    for (args, mib) in [
        (&["-c", "512"][..], 9),
        (&["-c", "1024", "-s", "1024"], 9),
        (&["-c", "4096"], 16),
        (&["-c", "4096", "-s", "4096"], 30),
        (&["-c", "8192", "-s", "2048"], 30),
        (&["-c", "65536"], 50),
        (&["-c", "131072"], 50),
        (&["-c", "2097152"], 64),
    ] {
        let image = formatted(&[args, &["-L", "Laufwerk Ä"]].concat(), (mib << 20) + 7 * 512);
        let content: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
        let image = put(&image, "content", &content);
        let (about, free) = parsed(parse, &image);
        assert_eq!(about, VolumeAbout { kind: "ntfs", label: Some("Laufwerk Ä".into()) }, "{args:?}");
        assert_eq!(total(&free), tools(&image), "{args:?}");
        let boot = NtfsBoot::read(&Volume::new(&image, 0, image.len() as u64, 512)).unwrap().unwrap();
        let backup = image.len() as u64 / boot.sector * boot.sector - boot.sector;
        assert_eq!(&image[backup as usize + 3..][..4], b"NTFS", "{args:?}");
        assert!(free.iter().all(|range| range.end <= backup), "{args:?}");
        let image = scribbled(&image, &free);
        assert_eq!(total(&free), tools(&image), "{args:?}");
        as_file(&image, |path| {
            let to = tempfile::NamedTempFile::new().unwrap();
            let command = format!("ntfscat '{}' /content > '{}'", path.display(), to.path().display());
            run("sh", &["-c", &command]);
            assert!(std::fs::read(to.path()).unwrap() == content, "{args:?}");
        });
    }
}

#[test]
fn the_last_sector_stays_even_where_the_file_system_counts_it() {
    let mut image = formatted(&["-c", "512"], 9 << 20);
    let counted = image.len() as u64 - 512;
    assert_eq!(parsed(parse, &image).1.last().unwrap().end, counted);
    let boot = image[..512].to_vec();
    image.truncate(counted as usize);
    assert!(whole(parse, &image).contains("the copy of its boot sector"), "it was cut off");
    image[counted as usize - 512..].copy_from_slice(&boot);
    assert_eq!(parsed(parse, &image).1.last().unwrap().end, counted - 512);
    image.truncate(counted as usize - 1);
    assert!(whole(parse, &image).contains("its partition"));
}

#[test]
fn a_bitmap_of_many_pieces() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(100 << 30).unwrap();
    run("mkntfs", &["-F", "-Q", "-q", "-c", "4096", file.path().to_str().unwrap()]);
    let (_, free) = try_parse(parse, file.as_file()).unwrap().unwrap();
    let text = run("ntfsinfo", &["-m", file.path().to_str().unwrap()]);
    assert!(text.contains(&format!("Free Clusters: {} ", total(&free) / 4096)), "{text}");
    assert!(free.len() < 8, "{free:?}");
}

/// The image that most tests break: some files in the root directory, enough for nodes below its index root.
fn volume() -> Vec<u8> {
    let mut image = formatted(&["-c", "4096", "-L", "Lab"], 8 << 20);
    for i in 0..30 {
        image = put(&image, &format!("a file with a rather long name {i}"), &[i; 2000]);
    }
    image
}

fn with<T>(image: &Vec<u8>, look: impl FnOnce(&NtfsFiles<'_>) -> T) -> T {
    let volume = Volume::new(image, 0, image.len() as u64, 512);
    let boot = NtfsBoot::read(&volume).unwrap().unwrap();
    look(&NtfsFiles::open(&volume, boot).unwrap())
}

/// Where the first byte of a file is.
fn place(image: &Vec<u8>, number: u64, kind: u32, name: &[u8]) -> usize {
    with(image, |files| (files.stream(number, kind, name).unwrap().runs[0].lcn * files.boot.cluster) as usize)
}

/// Changes a file record whose update sequence is undone for it; gives where it is.
fn edit(image: &mut Vec<u8>, number: u64, change: impl FnOnce(&mut [u8])) -> usize {
    let at = place_of_record(image, number);
    let record = &mut image[at..at + 1024];
    record::fix_up(record, b"FILE").unwrap();
    change(record);
    let sequence = usize::from(le::u16(record, 4).unwrap());
    for sector in 0..2 {
        let last = sector * 512 + 510;
        record.copy_within(last..last + 2, sequence + 2 + 2 * sector);
        record.copy_within(sequence..sequence + 2, last);
    }
    at
}

fn place_of_record(image: &Vec<u8>, number: u64) -> usize {
    with(image, |files| files.boot.mft * files.boot.cluster) as usize + 1024 * number as usize
}

/// As [`place_of_record`], of a file table in pieces.
fn place_of_far_record(image: &Vec<u8>, number: u64) -> usize {
    with(image, |files| {
        let vcn = number * 1024 / files.boot.cluster;
        let run = files.mft.runs.iter().find(|run| (run.vcn..run.vcn + run.len).contains(&vcn)).unwrap();
        ((run.lcn + vcn - run.vcn) * files.boot.cluster) as usize
    })
}

/// As [`edit`], and in $MFTMirr too.
fn edit_both(image: &mut Vec<u8>, number: u64, change: impl FnOnce(&mut [u8])) {
    let mirror = place(image, MFT_MIRROR, DATA, b"") + 1024 * number as usize;
    let at = edit(image, number, change);
    image.copy_within(at..at + 1024, mirror);
}

/// Where an attribute begins in a record.
fn attribute(record: &[u8], kind: u32) -> usize {
    let mut at = usize::from(le::u16(record, 20).unwrap());
    while le::u32(record, at) != Some(kind) {
        at += le::u32(record, at + 4).unwrap() as usize;
    }
    at
}

#[test]
fn volume_flags_and_version() {
    let image = volume();
    for (flags, why) in [
        (0x0001u16, "dirty"),
        (0x4001, "dirty"),
        (0x0002, "flags 0x0002"),
        (0x0004, "flags 0x0004"),
        (0x8000, "flags 0x8000"),
        (0x0180, "flags 0x0180"),
    ] {
        let mut image = image.clone();
        edit_both(&mut image, VOLUME, |record| {
            let at = attribute(record, VOLUME_INFORMATION) + 24;
            record[at + 10..at + 12].copy_from_slice(&flags.to_le_bytes());
        });
        let doubt = whole(parse, &image);
        assert!(doubt.contains(why), "{flags:#x}: {doubt}");
    }
    let mut harmless = image.clone();
    edit_both(&mut harmless, VOLUME, |record| {
        let at = attribute(record, VOLUME_INFORMATION) + 24;
        record[at + 10] = 0x80;
    });
    assert_eq!(parsed(parse, &harmless), parsed(parse, &image));
    for (major, minor) in [(1, 2), (3, 2), (4, 0)] {
        let mut image = image.clone();
        edit_both(&mut image, VOLUME, |record| {
            let at = attribute(record, VOLUME_INFORMATION) + 24;
            record[at + 8..at + 10].copy_from_slice(&[major, minor]);
        });
        assert!(whole(parse, &image).contains("version"));
    }
}

#[test]
fn a_log_that_is_open() {
    let image = volume();
    let log = place(&image, LOG_FILE, DATA, b"");
    let mut closed = image.clone();
    for (in_use, flags, version, why) in
        [(0, 0, (1, 1), "not closed"), (0xffff, 2, (2, 0), "version 2.0"), (0xffff, 0, (1, 1), "")]
    {
        closed[log..log + 4096].copy_from_slice(&page(9, in_use, flags, version));
        closed[log + 4096..log + 8192].copy_from_slice(&page(8, 0xffff, 0, (1, 1)));
        match why {
            "" => assert_eq!(parsed(parse, &closed), parsed(parse, &image)),
            _ => assert!(whole(parse, &closed).contains(why)),
        }
    }
    // ntfs-3g agrees with the pages made here.
    as_file(&closed, |path| run("ntfsinfo", &["-m", path.to_str().unwrap()]));
}

#[test]
fn records_that_are_torn_or_not_mirrored() {
    let image = volume();
    let mut torn = image.clone();
    let at = place_of_record(&image, LOG_FILE);
    torn[at + 510] ^= 1;
    assert!(whole(parse, &torn).contains("record 2: only a part"));
    for number in 0..4 {
        let mut differs = image.clone();
        let at = place_of_record(&image, number);
        differs[at + 8] ^= 1;
        let doubt = whole(parse, &differs);
        assert!(doubt.contains(&format!("record {number} of $MFTMirr")), "{doubt}");
    }
    let mut elsewhere = image.clone();
    elsewhere[56] ^= 1;
    assert!(whole(parse, &elsewhere).contains("$MFTMirr does not begin"));
    let mut locked = image.clone();
    locked[3..11].copy_from_slice(b"-FVE-FS-");
    assert_eq!(whole(parse, &locked), "BitLocker: encrypted by BitLocker");
    let (mut copies, header) = (image, 0x1e00);
    copies[header..header + 16]
        .copy_from_slice(&0x52c7_6c6e_0404_aeb7_4e48_c176_3808_876b_u128.to_le_bytes());
    copies[header + 80] = 1;
    assert!(whole(parse, &copies).contains("shadow copies"));
}

#[test]
fn a_hibernated_windows() {
    let image = volume();
    let free = |image: &Vec<u8>| total(&parsed(parse, image).1);
    let mut header = vec![0; 9000];
    for name in ["hiberfil.sys", "HIBERFIL.SYS", "HiberFil.Sys"] {
        header[..4].copy_from_slice(b"hibr");
        assert!(whole(parse, &put(&image, name, &header)).contains("hibernated"), "{name}");
        header[..4].fill(0);
        let empty = put(&image, name, &header);
        assert_eq!(free(&empty), tools(&empty), "{name}");
    }
    for (content, why) in [(&b"short"[..], "is short"), (&[0; 4095], "is short"), (&[1; 4096], "in use")] {
        assert!(whole(parse, &put(&image, "hiberfil.sys", content)).contains(why));
    }
    // Never written to: it reads as zeros, whatever its clusters hold.
    let mut fresh = put(&image, "hiberfil.sys", &[1; 9000]);
    let number = with(&fresh, |files| split(index::in_root(files, &[HIBERNATION]).unwrap()[0].1).0);
    edit(&mut fresh, number, |record| {
        let at = attribute(record, DATA) + 56;
        record[at..at + 8].fill(0);
    });
    assert_eq!(free(&fresh), tools(&fresh));
    let other = put(&image, "hiberfil.sy", b"hibr");
    assert_eq!(free(&other), tools(&other));
}

/// What of the files for memory may be left out.
fn memory(image: &Vec<u8>) -> Result<Vec<MemoryFile>, Doubt> {
    memory_files(&Volume::new(image, 0, image.len() as u64, 512))
}

#[test]
fn files_for_memory() {
    let image = volume();
    assert_eq!(memory(&image), Ok(vec![]));
    let (page, swap) = (vec![0x50; 300_000], vec![0x53; 70_000]);
    let image =
        put(&put(&put(&image, "PageFile.sys", &page), "swapfile.sys", &swap), "other.sys", &[7; 6000]);
    let image = put(&image, "hiberfil.sys", &[0; 100_000]);
    let (_, free) = parsed(parse, &image);
    let files = memory(&image).unwrap();
    // The head of each, 16 clusters, is kept: whether Windows is hibernated or has crashed is told there.
    let blocks: Vec<_> = files.iter().map(|file| (file.name, total(&file.ranges) / 4096)).collect();
    assert_eq!(blocks, [("pagefile.sys", 74 - 16), ("swapfile.sys", 18 - 16), ("hiberfil.sys", 25 - 16)]);
    let ranges: Vec<Range<u64>> = files.into_iter().flat_map(|file| file.ranges).collect();
    let count = |byte| {
        let bytes = ranges.iter().flat_map(|range| &image[range.start as usize..range.end as usize]);
        bytes.filter(|there| **there == byte).count()
    };
    assert_eq!((count(0x50), count(0x53), count(7)), (300_000 - 65_536, 70_000 - 65_536, 0));
    assert!(
        ranges.iter().all(|range| free.iter().all(|free| free.end <= range.start || range.end <= free.start))
    );
    // One that has clusters of the file table, or of another file.
    let pagefile = with(&image, |files| split(index::in_root(files, &["pagefile.sys"]).unwrap()[0].1).0);
    let other = with(&image, |files| split(index::in_root(files, &["other.sys"]).unwrap()[0].1).0);
    for lcn in [4, place(&image, other, DATA, b"") / 4096] {
        let mut crossed = image.clone();
        edit(&mut crossed, pagefile, |record| {
            let at = attribute(record, DATA);
            let pairs = at + usize::from(le::u16(record, at + 32).unwrap());
            record[pairs..pairs + 5].copy_from_slice(&[0x21, 74, lcn as u8, (lcn >> 8) as u8, 0]);
        });
        assert!(memory(&crossed).unwrap_err().why.contains("same cluster"), "{lcn}");
    }
    let mut compressed = image.clone();
    edit(&mut compressed, pagefile, |record| {
        let at = attribute(record, DATA);
        record[at + 12] = 1;
    });
    assert!(memory(&compressed).unwrap_err().why.contains("compressed"));
}

/// Kept unless that is asked for; a doubt about such a file keeps what is in it, and leaves out the rest as ever.
#[test]
fn files_for_memory_are_left_out_where_that_is_asked_for() {
    use crate::used::{LookOptions, map, map_leaving_out};
    let image = put(&formatted(&["-c", "4096"], 24 << 20), "pagefile.sys", &vec![0x50; 4 << 20]);
    let (without, with_option) = (map(&image, 512), LookOptions { leave_out_swap: true });
    let asked = map_leaving_out(&image, 512, with_option);
    assert_eq!(asked.notes, ["4.1 MB in pagefile.sys is left out"]);
    let more = asked.found[0].skipped - without.found[0].skipped;
    assert!((3 << 20..4 << 20).contains(&more), "{more}");
    assert!(without.notes.is_empty());

    let pagefile = with(&image, |files| split(index::in_root(files, &["pagefile.sys"]).unwrap()[0].1).0);
    let mut odd = image.clone();
    edit(&mut odd, pagefile, |record| {
        let at = attribute(record, DATA);
        record[at + 12] = 1;
    });
    let kept = map_leaving_out(&odd, 512, with_option);
    assert_eq!((&kept.free, &kept.found), (&without.free, &without.found));
    assert!(kept.notes[0].contains("what is in its files for memory is kept"), "{:?}", kept.notes);
}

#[test]
fn the_bitmap_must_be_plain_whole_and_right() {
    let image = volume();
    let bits = place(&image, BITMAP, DATA, b"");
    for number in [0, MFT_MIRROR, LOG_FILE, BITMAP, BOOT] {
        let cluster = place(&image, number, DATA, b"") / 4096;
        let mut image = image.clone();
        image[bits + cluster / 8] &= !(1 << (cluster % 8));
        assert!(whole(parse, &image).contains("calls clusters free"), "{number}");
    }
    let change = |at: usize, bytes: &[u8]| {
        let mut image = image.clone();
        edit(&mut image, BITMAP, |record| {
            let start = attribute(record, DATA) + at;
            record[start..start + bytes.len()].copy_from_slice(bytes);
        });
        whole(parse, &image)
    };
    for (at, bytes, why) in [
        (12, &[1, 0][..], "compressed"),
        (12, &[0, 0x80], "compressed"),
        (48, &[8, 0], "size is wrong"),
        (56, &[8, 0], "$Bitmap has 8 bytes"),
        (24, &[5], "shorter or longer"),
        (16, &[1], "a part of it is missing"),
        (8, &[0], "not in clusters"),
        (4, &[9], "cut"),
        (32, &[0xff, 0xff], "cut"),
        (64, &[0x21, 1, 0xff, 0x7f], "outside"),
        (64, &[0x01, 1, 0], "holes"),
    ] {
        let doubt = change(at, bytes);
        assert!(doubt.contains(why), "{at} {bytes:x?}: {doubt}");
    }
    // A bitmap that shares a cluster with the log.
    let log = place(&image, LOG_FILE, DATA, b"") / 4096;
    assert!(log < 0x8000);
    assert!(change(64, &[0x21, 1, log as u8, (log >> 8) as u8, 0]).contains("same cluster"));
}

fn close(image: &mut Vec<u8>) -> usize {
    let log = place(image, LOG_FILE, DATA, b"");
    for half in 0..2 {
        image[log + 4096 * half..][..4096].copy_from_slice(&page(9, 0xffff, 0, (1, 1)));
    }
    log
}

#[test]
fn every_file_counts_where_the_log_was_emptied() {
    let image = put(&volume(), "x.y", &[1; 10_000]);
    let number = with(&image, |files| split(index::in_root(files, &["x.y"]).unwrap()[0].1).0);
    let (bits, cluster) = (place(&image, BITMAP, DATA, b""), place(&image, number, DATA, b"") / 4096 + 2);
    let mut lost = image.clone();
    lost[bits + cluster / 8] &= !(1 << (cluster % 8));
    assert!(whole(parse, &lost).contains("calls clusters free"));
    // A record that was written by half.
    let mut torn = image.clone();
    torn[place_of_record(&image, number) + 1023] ^= 1;
    assert!(whole(parse, &torn).contains("only a part"));
    // Two files with one cluster.
    let mut crossed = image.clone();
    edit(&mut crossed, number, |record| {
        let at = attribute(record, DATA);
        let pairs = at + usize::from(le::u16(record, at + 32).unwrap());
        record[pairs..pairs + 4].copy_from_slice(&[0x11, 3, 4, 0]);
    });
    assert!(whole(parse, &crossed).contains("same cluster"));
    // A log that Windows has closed vouches for all that.
    for mut image in [lost, torn, crossed] {
        close(&mut image);
        parsed(parse, &image);
    }
}

#[test]
fn hostile_volumes() {
    let open = put(&volume(), "hiberfil.sys", &[0; 5000]);
    let mut image = open.clone();
    let log = close(&mut image);
    let (records, mirror) = (place_of_record(&image, 0), place(&image, MFT_MIRROR, DATA, b""));
    let (bits, nodes) = (place(&image, BITMAP, DATA, b""), place(&image, 5, 0xa0, b"$I30"));
    parsed(parse, &image);
    let mut doubts = hostile(parse, &image, &[0..90], 1500);
    // $MFT, $LogFile, $Volume, the root directory, $Bitmap and $Boot: where their fields are.
    let fields: Vec<Range<usize>> =
        [0, 2, 3, 5, 6, 7].map(|i| records + i * 1024..records + i * 1024 + 480).into();
    doubts += hostile(parse, &image, &fields, 4000);
    doubts += hostile(parse, &image, &[log..log + 128, log + 4096..log + 4200, mirror..mirror + 1024], 1000);
    doubts += hostile(parse, &image, &[nodes..nodes + 4096, bits..bits + 256], 2000);
    doubts += hostile(parse, &open, &[records + 24 * 1024..records + 60 * 1024], 1000);
    assert!(doubts > 3000, "{doubts}");
}

#[test]
fn other_boot_sectors_are_not_ntfs() {
    for image in [vec![0; 4096], vec![], volume()[512..].to_vec()] {
        assert_eq!(try_parse(parse, &image), Ok(None));
    }
}

#[test]
fn loop_files_survive_when_the_rest_is_lost() {
    for (seed, args) in [(3, &["-c", "512"][..]), (4, &["-c", "4096"]), (5, &["-c", "65536"])] {
        let mut files = Default::default();
        let image = mounted(&formatted(args, 48 << 20), "ntfs-3g", |folder| {
            files = age(folder, seed, 300, 300 << 10);
        });
        let (_, free) = parsed(parse, &image);
        assert_eq!(total(&free), tools(&image), "{args:?}");
        let image = scribbled(&image, &free);
        mounted(&image, "ntfs-3g", |folder| check(folder, &files));
        assert_eq!(total(&free), tools(&image), "{args:?}");
    }
}

/// A volume with little room left, all of it in small holes: what grows there is in so many pieces that the file table
/// and the root directory need attribute lists.
#[test]
fn loop_a_file_table_in_many_pieces() {
    let long = |i: u32| format!("a name that takes some room in the root directory {i}");
    let mut last = 0;
    let image = mounted(&formatted(&["-c", "512"], 14 << 20), "ntfs-3g", |folder| {
        let one = folder.join("one");
        std::fs::create_dir(&one).unwrap();
        let name = |i: usize| one.join(format!("{i}"));
        let count = (0..).take_while(|i| std::fs::write(name(*i), [7; 1024]).is_ok()).count();
        // Without their clusters, but with their file records.
        for i in (0..count).step_by(2) {
            std::fs::File::create(name(i)).unwrap();
        }
        last =
            (0..3600).take_while(|i| std::fs::write(folder.join(long(*i)), b"").is_ok()).count() as u32 - 1;
    });
    with(&image, |files| {
        for number in [0, 5] {
            let record = files.record(number).unwrap();
            let list =
                record.attributes().unwrap().into_iter().any(|attribute| attribute.kind == files::LIST);
            assert!(list, "file {number} has no attribute list");
        }
        assert!(files.mft.runs.len() > 150, "{}", files.mft.runs.len());
        // Every name is found, so every node was read.
        let names: Vec<String> = (0..=last).map(long).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(index::in_root(files, &names).unwrap().len(), names.len());
    });
    let (_, free) = parsed(parse, &image);
    assert_eq!(total(&free), tools(&image));
    // A record that was used again for another file.
    let count = with(&image, |files| files.mft.size / 1024);
    let extension =
        |number: &u64| with(&image, |files| files.record(*number).is_ok_and(|r| split(r.base) == (5, 5)));
    let mut other = image.clone();
    other[place_of_far_record(&image, (0..count).find(extension).unwrap()) + 16] ^= 1;
    assert!(whole(parse, &other).contains("not the one that a file means"));
    let records = [0, 5].map(|number| place_of_record(&image, number)).map(|at| at + 56..at + 1022);
    hostile(parse, &image, &records, 300);
}

#[test]
fn a_root_directory_with_the_compress_flag_is_read() {
    let image = volume();
    let (_, free) = parsed(parse, &image);
    for (kinds, flag, read) in [
        (&[files::INDEX_ROOT][..], 1, true),
        (&[files::INDEX_ALLOCATION], 1, true),
        (&[files::INDEX_ROOT, files::INDEX_ALLOCATION], 1, true),
        (&[0xb0], 1, false),
        (&[files::INDEX_ROOT], 0x4000, false),
        (&[files::INDEX_ALLOCATION], 0x8000, false),
    ] {
        let mut image = image.clone();
        edit(&mut image, 5, |record| {
            let mut at = usize::from(le::u16(record, 20).unwrap());
            while le::u32(record, at) != Some(u32::MAX) {
                if kinds.contains(&le::u32(record, at).unwrap()) {
                    record[at + 12..at + 14].copy_from_slice(&(flag as u16).to_le_bytes());
                }
                at += le::u32(record, at + 4).unwrap() as usize;
            }
        });
        match read {
            true => assert_eq!(parsed(parse, &image).1, free, "{kinds:x?}"),
            false => assert!(
                whole(parse, &image).contains("compressed, sparse or encrypted"),
                "{kinds:x?} {flag:#x}"
            ),
        }
        assert!(!read || memory_files(&Volume::new(&image, 0, image.len() as u64, 512)).is_ok());
    }
}
