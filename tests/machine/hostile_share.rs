//! Images and records as a broken server, a careless admin or a hostile writer leaves them: what the user sees, and
//! that no disk was touched. What concerns kinds of files runs on a real folder.

use crate::world::{IP, Machine, REBOOT, contents, disk};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::OnceLock;
use testbox::agent::world::Purpose;
use testbox::block::mem::DiskOp;
use testbox::share::Files;
use testbox::store::status::Status;

const MIB: usize = 1 << 20;

/// Two disks in set 1, both spoiled since; armed for a restore.
fn backed_up() -> Machine {
    static SHARE: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let share = SHARE.get_or_init(|| {
        let mut machine = Machine::new();
        machine.set_disks(vec![disk("sda S1 @1", contents(4, 1)), disk("sdb S2 @2", contents(4, 2))]);
        machine.arm("testbox.action=backup testbox.job=first");
        assert_eq!(machine.boot().ending, REBOOT);
        machine.backup.tree()
    });
    let mut machine = with_spoiled_disks();
    share.iter().for_each(|(path, bytes)| machine.backup.put(path, bytes.clone()));
    machine.arm("testbox.action=restore testbox.job=second");
    machine
}

fn with_spoiled_disks() -> Machine {
    let machine = Machine::new();
    spoil_disks(&machine);
    machine
}

fn spoil_disks(machine: &Machine) {
    machine.set_disks(vec![disk("sda S1 @1", vec![0x5a; 4 * MIB]), disk("sdb S2 @2", vec![0x5b; 4 * MIB])]);
}

/// The restore ends with this failure, everywhere that a user looks, and no disk is touched.
#[track_caller]
fn assert_refused(machine: &Machine, row: &str, failure: &str, text: &str) {
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{row}: {}", seen.console);
    for part in [failure, text, "What to do: "] {
        assert!(seen.console.contains(part), "{row}: no '{part}' in\n{}", seen.console);
    }
    assert!(machine.is_armed(), "{row}");
    let bytes = match &machine.folder {
        Some(folder) => fs::read(folder.path().join(IP).join("status.json")).ok(),
        None => machine.file("status.json"),
    };
    let status = Status::parse(&bytes.expect(row)).expect(row);
    let code = failure.trim_matches(['[', ']']).rsplit(' ').next().unwrap().parse().ok();
    assert_eq!(status.code, code, "{row}");
    assert_untouched(machine, row);
}

fn assert_untouched(machine: &Machine, row: &str) {
    assert!(machine.disk_bytes("sda").iter().all(|b| *b == 0x5a), "{row}: sda was written");
    assert!(machine.disk_bytes("sdb").iter().all(|b| *b == 0x5b), "{row}: sdb was written");
}

/// Where the members of an image begin, and its end: each has an extra field, which no other gzip header has here.
fn members(image: &[u8]) -> Vec<usize> {
    let starts = image.windows(4).enumerate().filter(|(_, w)| *w == [0x1f, 0x8b, 8, 4]).map(|(at, _)| at);
    let mut starts: Vec<usize> = starts.filter(|at| at % 4096 == 0).collect();
    starts.push(image.len());
    starts
}

#[test]
fn a_damaged_image_is_refused_before_any_write() {
    let machine = backed_up();
    let path = format!("{IP}/sda.raw.gz");
    let (a, b) = (machine.file("sda.raw.gz").unwrap(), machine.file("sdb.raw.gz").unwrap());
    let at = members(&a);
    assert!(at.len() > 6, "{at:?}");
    let member = |n: usize| &a[at[n]..at[n + 1]];
    let (no_image, bad_image) = ("[no-image 44]", "[bad-image 52]");
    let mut rows: Vec<(String, Vec<u8>, &str)> = Vec::new();
    for cut in at.iter().copied().filter(|cut| *cut < a.len()).chain([1, a.len() / 2, a.len() - 1]) {
        rows.push((format!("cut at {cut} of {}", a.len()), a[..cut].to_vec(), no_image));
    }
    let swapped = [&a[..at[1]], member(2), member(1), &a[at[3]..]].concat();
    rows.push(("two members swapped".into(), swapped, bad_image));
    let repeated = [&a[..at[2]], member(1), &a[at[2]..]].concat();
    rows.push(("a member twice".into(), repeated, no_image));
    let missing = [&a[..at[1]], &a[at[2]..]].concat();
    rows.push(("a member missing".into(), missing, no_image));
    rows.push(("the image twice".into(), [&a[..], &a[..]].concat(), no_image));
    rows.push(("the image of the other disk".into(), b.clone(), no_image));
    rows.push(("something appended".into(), [&a[..], b"x"].concat(), no_image));
    rows.push(("empty".into(), Vec::new(), no_image));
    rows.push(("zeros".into(), vec![0; a.len()], no_image));
    for place in [at[1] + 40, (at[1] + at[2]) / 2] {
        let mut flipped = a.clone();
        flipped[place] ^= 0x10;
        rows.push((format!("a flipped bit at {place}"), flipped, bad_image));
    }
    let mut flipped = a.clone();
    flipped[a.len() - 20] ^= 1;
    rows.push(("a flipped bit in the footer".into(), flipped, no_image));
    for (n, (row, bytes, failure)) in rows.iter().enumerate() {
        let mut machine = Machine { backup: machine.backup.clone(), ..with_spoiled_disks() };
        machine.backup.put(&path, bytes.clone());
        machine.arm(&format!("testbox.action=restore testbox.job=r{n}"));
        assert_refused(&machine, row, failure, "sda.raw.gz");
    }
    machine.backup.put(&path, a);
    let mut machine = Machine { backup: machine.backup.clone(), ..with_spoiled_disks() };
    machine.arm("testbox.action=restore testbox.job=last");
    assert_eq!(machine.boot().ending, REBOOT);
    assert_eq!(machine.disk_bytes("sda"), contents(4, 1), "the undamaged image is restored");
}

/// All that any disk lacks is proven before the first of them is touched.
#[test]
fn damage_of_the_second_image_touches_no_disk() {
    let machine = backed_up();
    for memory in [0, 1 << 30] {
        let mut machine = Machine { backup: machine.backup.copy(), ..with_spoiled_disks() };
        machine.system.set_memory(memory);
        let mut image = machine.file("sdb.raw.gz").unwrap();
        let at = members(&image);
        image[(at[at.len() - 4] + at[at.len() - 3]) / 2] ^= 1;
        machine.backup.put(&format!("{IP}/sdb.raw.gz"), image);
        machine.arm("testbox.action=restore testbox.job=second");
        assert_refused(&machine, &format!("memory {memory}"), "[bad-image 52]", "sdb.raw.gz");
        assert!(machine.file("sdb.raw.gz.damaged").is_some());
    }
}

#[test]
fn disks_that_hold_their_images_are_not_written() {
    let mut machine = backed_up();
    machine.set_disks(vec![disk("sda S1 @1", contents(4, 1)), disk("sdb S2 @2", contents(4, 2))]);
    // One member of each is damaged that nobody needs.
    for name in ["sda.raw.gz", "sdb.raw.gz"] {
        let mut image = machine.file(name).unwrap();
        let inside = members(&image).into_iter().rfind(|at| *at < image.len() * 2 / 5).unwrap();
        image[inside + 100] ^= 1;
        machine.backup.put(&format!("{IP}/{name}"), image);
    }
    machine.arm("testbox.action=restore testbox.job=second");
    let seen = machine.boot();
    assert!(seen.ending == REBOOT && !machine.is_armed(), "{}", seen.console);
    for (nth, name) in ["sda", "sdb"].into_iter().enumerate() {
        let disks = machine.disks.lock().unwrap();
        let changes = [DiskOp::Write, DiskOp::Zero, DiskOp::Discard].map(|op| disks[nth].bytes.count(op));
        assert_eq!(changes, [0, 0, 0], "{name}");
        drop(disks);
        let note = format!("{name} held all of {name}.raw.gz already: nothing was written to it");
        assert!(machine.status().notes.contains(&note) && seen.console.contains(&note), "{}", seen.console);
    }
}

#[test]
fn images_of_another_place_or_set_are_not_taken_for_the_set() {
    let machine = backed_up();
    let (a, b) = (machine.file("sda.raw.gz").unwrap(), machine.file("sdb.raw.gz").unwrap());
    machine.backup.put(&format!("{IP}/sda.raw.gz"), b);
    machine.backup.put(&format!("{IP}/sdb.raw.gz"), a);
    assert_refused(
        &machine,
        "swapped",
        "[no-image 44]",
        "sda.raw.gz says that it is of unknown model, serial S2",
    );

    // A record put back from an older set, the images being newer; and the other way round.
    let mut machine = backed_up();
    let (record, image) = (machine.file("backup.json").unwrap(), machine.file("sda.raw.gz").unwrap());
    machine.set_disks(vec![disk("sda S1 @1", contents(4, 7)), disk("sdb S2 @2", contents(4, 8))]);
    machine.arm("testbox.action=backup-again testbox.job=again testbox.keep=0");
    assert_eq!(machine.boot().ending, REBOOT);
    spoil_disks(&machine);
    let newer = machine.file("backup.json").unwrap();
    machine.arm("testbox.action=restore testbox.job=third");
    machine.backup.put(&format!("{IP}/backup.json"), record);
    assert_refused(&machine, "stale record", "[no-image 44]", "not the image that its record names");
    machine.backup.put(&format!("{IP}/backup.json"), newer);
    machine.backup.put(&format!("{IP}/sda.raw.gz"), image);
    assert_refused(&machine, "stale image", "[no-image 44]", "sda.raw.gz is whole, but not the image");
}

/// Without a record an image's own header says which disk it is of, and it goes to that one or nowhere.
#[test]
fn without_a_record_images_go_where_their_headers_say() {
    let machine = backed_up();
    let (a, b) = (machine.file("sda.raw.gz").unwrap(), machine.file("sdb.raw.gz").unwrap());
    machine.backup.remove(&format!("{IP}/backup.json")).unwrap();
    // Under each other's names, which say nothing.
    machine.backup.put(&format!("{IP}/sda.raw.gz"), b);
    machine.backup.put(&format!("{IP}/sdb.raw.gz"), a);
    assert_eq!(machine.boot().ending, REBOOT);
    assert_eq!(machine.disk_bytes("sda"), contents(4, 1));
    assert_eq!(machine.disk_bytes("sdb"), contents(4, 2));

    let machine = backed_up();
    machine.backup.remove(&format!("{IP}/backup.json")).unwrap();
    machine.set_disks(vec![disk("sda S9 @1", vec![0x5a; 4 * MIB]), disk("sdb S2 @2", vec![0x5b; 4 * MIB])]);
    assert_refused(&machine, "no record", "[ambiguous 47]", "testbox.map=sda:serial=");
}

#[test]
fn a_record_that_cannot_be_relied_on_stops_everything() {
    let machine = backed_up();
    let good = machine.text("backup.json");
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} in {good}");
        good.replacen(from, to, 1).into_bytes()
    };
    let rows: [(&str, Vec<u8>, &str, &str); 11] = [
        ("empty", Vec::new(), "[bad-record 45]", "not a record"),
        ("cut", good.as_bytes()[..good.len() / 2].to_vec(), "[bad-record 45]", "not a record"),
        ("of a newer version", with("\"format\": 2", "\"format\": 9"), "[newer-format 64]", "format 9"),
        ("a way out", with("\"name\": \"sda\"", "\"name\": \"../../sda\""), "[bad-record 45]", "../../sda"),
        (
            "an absolute way",
            with("\"name\": \"sda\"", "\"name\": \"/dev/sda\""),
            "[bad-record 45]",
            "not a disk name",
        ),
        (
            "control characters",
            with("\"name\": \"sda\"", "\"name\": \"sda\\u001b[2J\""),
            "[bad-record 45]",
            "not a disk name",
        ),
        (
            "the same name twice",
            with("\"name\": \"sdb\"", "\"name\": \"sda\""),
            "[bad-record 45]",
            "named twice",
        ),
        (
            "a size that overflows",
            with(&format!("\"disk_size\": {}", 4 * MIB), "\"disk_size\": 99999999999999999999"),
            "[bad-record 45]",
            "not a record",
        ),
        ("another hash", with("\"root_hash\": \"", "\"root_hash\": \"00"), "[bad-record 45]", "root hash"),
        ("nested without end", "[".repeat(100_000).into_bytes(), "[bad-record 45]", "not a record"),
        ("longer than any", vec![b' '; 5 << 20], "[share-read 33]", "longer than"),
    ];
    for (n, (row, bytes, failure, text)) in rows.into_iter().enumerate() {
        let mut machine = Machine { backup: machine.backup.clone(), ..with_spoiled_disks() };
        machine.backup.put(&format!("{IP}/backup.json"), bytes);
        for action in ["restore", "verify", "backup-again"] {
            machine.arm(&format!("testbox.action={action} testbox.job=r{n}"));
            assert_refused(&machine, &format!("{row}, {action}"), failure, text);
        }
    }
}

/// Whatever a record or a list says about disks, what is shown of it cannot act on a terminal or fake a line of a log.
#[test]
fn texts_are_shown_without_control_characters() {
    let mut machine = backed_up();
    let evil = "S1\\u001b[2J\\nrestore: done\\u009b";
    let record =
        machine.text("backup.json").replacen("\"serial\": \"S1\"", &format!("\"serial\": \"{evil}\""), 1);
    machine.backup.put(&format!("{IP}/backup.json"), record);
    let status =
        machine.text("status.json").replacen("\"step\": \"done\"", &format!("\"step\": \"{evil}\""), 1);
    assert!(status.contains(evil));
    machine.backup.put(&format!("{IP}/status.json"), status);
    machine.set_disks(vec![disk("sda S9 @9", vec![0x5a; 4 * MIB]), disk("sdb S2 @2", vec![0x5b; 4 * MIB])]);
    assert_refused(&machine, "record", "[no-image 44]", "\\u{1b}[2J");
    machine.backup.put(&format!("{IP}/disk-devices.lst"), "sda\nsd\u{1b}[2Jb\n");
    machine.arm("testbox.action=restore testbox.job=b");
    assert_refused(&machine, "list", "[disk-list 42]", "line 2");
    machine.backup.put(&format!("{IP}/disk-devices.lst"), "../../etc/passwd\n");
    assert_refused(&machine, "list with a way out", "[disk-list 42]", "line 1");
    for text in [machine.text("maintenance.log"), machine.boot().console] {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{9b}'), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("restore: done")), "{text}");
    }
}

/// A foreign gzip may inflate to no more than its disk, and to no less; how much it is shows before the first write.
#[test]
fn a_gzip_bomb_costs_no_more_than_the_disk_and_writes_nothing() {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..256 {
        bomb.write_all(&[0; MIB]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < MIB);
    let mut machine = with_spoiled_disks();
    machine.backup.put(&format!("{IP}/sda.gz"), bomb);
    machine.arm("testbox.action=restore testbox.job=r testbox.map=sda:serial=S1");
    let seen = machine.boot();
    assert!(seen.console.contains("sda.gz") && machine.is_armed(), "{}", seen.console);
    assert!(matches!(machine.status().code, Some(48 | 52)), "{:?}", machine.status().code);
    assert_untouched(&machine, "bomb");
}

/// An image that is another one by the time that it is opened again, and one that changes under the writing.
#[test]
fn an_image_replaced_during_a_restore_is_never_mixed_with_it() {
    let machine = backed_up();
    let (backup, other) = (machine.backup.clone(), machine.file("sdb.raw.gz").unwrap());
    *machine.on_mount.lock().unwrap() = Some(Box::new(move |purpose| {
        if purpose == Purpose::Images {
            backup.put(&format!("{IP}/sda.raw.gz"), other.clone());
        }
    }));
    assert_refused(&machine, "before it is checked", "[bad-image 52]", "it was replaced meanwhile");

    // On a real folder, in place, after all that is needed was proven: without memory to keep it in, it is read on.
    let in_place = |memory| {
        let mut machine = backed_up();
        machine.system.set_memory(memory);
        let image = machine.move_to_folder().join("sda.raw.gz");
        *machine.on_first_write.lock().unwrap() = Some(Box::new(move || {
            let mut bytes = fs::read(&image).unwrap();
            let at = members(&bytes);
            for member in &at[2..at.len() - 3] {
                bytes[member + 100] ^= 1;
            }
            fs::write(&image, bytes).unwrap();
        }));
        (machine.boot(), machine)
    };
    let (seen, machine) = in_place(0);
    assert!(machine.is_armed() && seen.console.contains("[bad-image 52]"), "{}", seen.console);
    let (now, wanted) = (machine.disk_bytes("sda"), contents(4, 1));
    assert!(now[..512].iter().all(|b| *b == 0) && now != wanted, "the disk is left unbootable (U)");
    let next = machine.disk_bytes("sdb");
    assert!(next[1 << 20..next.len() - (1 << 20)].iter().all(|b| *b == 0x5b), "the next disk is not begun");
    assert!(next[..512].iter().all(|b| *b == 0), "and does not boot beside a disk that is half written (U)");
    let (seen, machine) = in_place(1 << 30);
    assert_eq!(seen.ending, REBOOT);
    assert_eq!(machine.disk_bytes("sda"), contents(4, 1), "what was proven is in memory");

    // By rename, as a server's own backup-again would do: the file that was checked is the file that is written.
    let mut machine = backed_up();
    let folder = machine.move_to_folder();
    *machine.on_first_write.lock().unwrap() = Some(Box::new(move || {
        fs::copy(folder.join("sdb.raw.gz"), folder.join("new")).unwrap();
        fs::rename(folder.join("new"), folder.join("sda.raw.gz")).unwrap();
    }));
    assert_eq!(machine.boot().ending, REBOOT);
    assert_eq!(machine.disk_bytes("sda"), contents(4, 1));
}

/// What stands in a file's place: its name, and how it is made there.
type Special = (&'static str, fn(&Path));

const SPECIALS: [Special; 5] = [
    ("FIFO", |path| mknod(path, rustix::fs::FileType::Fifo)),
    ("socket", |path| mknod(path, rustix::fs::FileType::Socket)),
    ("link to a good one outside", |path| {
        let outside = path.parent().unwrap().parent().unwrap().join("outside");
        fs::create_dir_all(&outside).unwrap();
        let kept = outside.join(path.file_name().unwrap());
        fs::rename(path.with_extension("kept"), &kept).unwrap();
        symlink(kept, path).unwrap();
    }),
    ("link to a device", |path| symlink("/dev/zero", path).unwrap()),
    ("folder", |path| fs::create_dir(path).unwrap()),
];

fn mknod(path: &Path, kind: rustix::fs::FileType) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

/// Puts a special file in the place of a regular one, which stays beside it as `<name>.kept`.
fn put(special: &Special, path: &Path) {
    fs::rename(path, path.with_extension("kept")).unwrap();
    special.1(path);
}

/// None is followed, none is waited for: a FIFO without a writer would block for ever.
#[test]
fn what_is_no_regular_file_is_no_image_no_record_and_no_list() {
    for special in &SPECIALS {
        let row = special.0;
        for (file, failure, text) in [
            ("sda.raw.gz", "[no-image 44]", "sda.raw.gz is damaged: not a regular file"),
            ("backup.json", "[share-read 33]", "backup.json"),
            ("disk-devices.lst", "[share-read 33]", "disk-devices.lst"),
        ] {
            let mut machine = backed_up();
            machine.backup.put(&format!("{IP}/disk-devices.lst"), "sda\nsdb\n");
            let folder = machine.move_to_folder();
            put(special, &folder.join(file));
            assert_refused(&machine, &format!("{row} for {file}"), failure, text);
        }
        // The originals' images, without a record.
        let mut machine = backed_up();
        machine.backup.remove(&format!("{IP}/backup.json")).unwrap();
        let folder = machine.move_to_folder();
        put(special, &folder.join("sda.raw.gz"));
        machine.arm("testbox.action=restore testbox.job=m testbox.map=sda:serial=S1,sdb:serial=S2");
        assert_refused(&machine, &format!("{row} without a record"), "[share-read 33]", "sda.raw.gz");
        // News that cannot be read stops nothing, and is replaced.
        if row != "folder" {
            let mut machine = backed_up();
            let folder = machine.move_to_folder();
            put(special, &folder.join("status.json"));
            assert_eq!(machine.boot().ending, REBOOT, "{row}");
            assert_eq!(machine.disk_bytes("sda"), contents(4, 1), "{row}");
            assert!(fs::symlink_metadata(folder.join("status.json")).unwrap().is_file(), "{row}");
        }
    }
}

/// A set of the history that is none is passed over; the whole one behind it is used.
#[test]
fn junk_in_the_history_does_not_hide_the_sets_beside_it() {
    let mut machine = backed_up();
    machine.set_disks(vec![disk("sda S1 @1", contents(4, 7)), disk("sdb S2 @2", contents(4, 8))]);
    machine.arm("testbox.action=backup-again testbox.job=again");
    assert_eq!(machine.boot().ending, REBOOT);
    spoil_disks(&machine);
    let folder = machine.move_to_folder();
    let history = folder.join("history");
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "x").unwrap();
    fs::write(history.join("7"), "a file").unwrap();
    symlink(outside.path(), history.join("8")).unwrap();
    mknod(&history.join("9"), rustix::fs::FileType::Fifo);
    for name in ["+1", "01", "1.part", "-1", "x"] {
        fs::create_dir(history.join(name)).unwrap();
    }
    fs::remove_file(folder.join("sda.raw.gz")).unwrap();
    machine.arm("testbox.action=restore testbox.job=r");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert!(seen.console.contains("USING THE OLDER SET 1"), "{}", seen.console);
    assert_eq!(machine.disk_bytes("sda"), contents(4, 1));

    // A new set is published and the old ones pruned, and nothing behind the link goes.
    machine.arm("testbox.action=backup-again testbox.job=more testbox.keep=0");
    let seen = machine.boot();
    assert!(!machine.is_armed(), "{}", seen.console);
    assert!(
        !history.join("1").exists() && history.join("7").exists(),
        "the old set is pruned, and only that"
    );
    assert!(outside.path().join("precious").exists());
}

/// New data goes into files of its own, and never through what somebody has put in their way.
#[test]
fn a_backup_writes_through_no_link_and_into_no_fifo() {
    let mut machine = backed_up();
    let folder = machine.move_to_folder();
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "x").unwrap();
    symlink(&victim, folder.join("sda.raw.gz.part")).unwrap();
    mknod(&folder.join("sdb.raw.gz.part"), rustix::fs::FileType::Fifo);
    symlink(&victim, folder.join(".backup.json.part.tmp")).unwrap();
    symlink(&victim, folder.join(".status.json.tmp")).unwrap();
    symlink(&victim, folder.join("sdz.raw.gz.part")).unwrap();
    fs::remove_file(folder.join("testbox-info.txt")).unwrap();
    symlink(&victim, folder.join("testbox-info.txt")).unwrap();
    fs::remove_file(folder.join("maintenance.log")).unwrap();
    symlink(&victim, folder.join("maintenance.log")).unwrap();
    machine.arm("testbox.action=backup-again testbox.job=again");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert_eq!(fs::read(&victim).unwrap(), b"x", "nothing was written through a link");
    // Where the action can go on it does: the log that cannot be written is said on the console.
    assert!(seen.console.contains("maintenance.log"), "{}", seen.console);
}

/// The machine's folder itself, and the history, lead nowhere else.
#[test]
fn a_link_in_place_of_a_folder_is_not_followed() {
    for (name, failure) in [("", "[share-write 34]"), ("history", "[share-read 33]")] {
        let mut machine = backed_up();
        let folder = machine.move_to_folder();
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("target");
        if name.is_empty() {
            fs::rename(&folder, &target).unwrap();
            symlink(&target, &folder).unwrap();
        } else {
            fs::create_dir(&target).unwrap();
            symlink(&target, folder.join(name)).unwrap();
        }
        let before: Vec<_> = fs::read_dir(&target).unwrap().map(|e| e.unwrap().file_name()).collect();
        let seen = machine.boot();
        assert!(seen.console.contains(failure) && machine.is_armed(), "{name}: {}", seen.console);
        assert_untouched(&machine, name);
        let after: Vec<_> = fs::read_dir(&target).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(before, after, "{name}: nothing is written there");
    }
}

/// What is in the place of an unfinished image and cannot be resumed is replaced, and what it names stays as it is.
#[test]
fn a_part_that_is_no_plain_file_is_replaced() {
    let part = format!("{IP}/sda.raw.gz.part");
    type Spoil = fn(&Machine, &str);
    let rows: [Spoil; 2] = [
        |m, part| m.backup.put_special(part),
        |m, part| m.backup.hard_link(&format!("{IP}/sda.raw.gz"), part).unwrap(),
    ];
    for (n, spoil) in rows.into_iter().enumerate() {
        let mut machine = Machine::new();
        machine.arm("testbox.action=backup testbox.job=a");
        machine.boot();
        let before = machine.good_sets();
        spoil(&machine, &part);
        machine.set_disks(vec![disk("sda S1 @1", contents(2, 5))]);
        machine.arm("testbox.action=backup-again testbox.job=b");
        let seen = machine.boot();
        assert!(!machine.is_armed(), "{n}: {}", seen.console);
        let after = machine.good_sets();
        assert!(after.len() == 2 && before.iter().all(|(n, set)| after.get(n) == Some(set)), "{n}");
    }
}
