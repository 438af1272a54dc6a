//! The image commands on regular files.

use super::Lab;
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// A disk of zeros, text and noise.
fn disk() -> Vec<u8> {
    let mut bytes = vec![0; 3 << 20];
    bytes.extend(b"the quick brown fox ".iter().cycle().take(2 << 20));
    let mut state = 1u64;
    bytes.extend(
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        })
        .take(2 << 20),
    );
    bytes.extend(vec![0; 1536]);
    bytes
}

fn gzip(lab: &Lab, words: &[&str]) -> Vec<u8> {
    let output = Command::new("gzip").current_dir(lab.dir.path()).args(words).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn an_image_goes_round() {
    let lab = Lab::empty();
    let bytes = disk();
    lab.write("disk", &bytes);
    lab.run(&["image", "create", "--threads", "2", "disk", "disk.raw.gz"])
        .expect(0, &["root hash", "verified", "ratio"]);
    assert!(!lab.path("disk.raw.gz.part").exists());
    assert!(gzip(&lab, &["-dc", "disk.raw.gz"]) == bytes, "zcat gives the disk");
    lab.run(&["image", "verify", "disk.raw.gz", "--against", "disk"]).expect(0, &["whole", "equal"]);
    lab.run(&["image", "info", "disk.raw.gz"]).expect(0, &["complete", "7.3 MB (7341568 bytes)"]);
    let info = lab.run(&["image", "info", "--json", "disk.raw.gz"]).expect(0, &[]);
    let info: Value = serde_json::from_str(&info.out).unwrap();
    assert_eq!(
        (&info["disk_bytes"], &info["name"], &info["degraded"]),
        (&json!(bytes.len()), &json!("disk"), &json!(false))
    );

    lab.run(&["image", "restore", "disk.raw.gz", "new"]).expect(0, &["written and read back"]);
    assert!(lab.read("new") == bytes);
    // The same for programs.
    let said = |line: &str, code| -> Value {
        let words: Vec<&str> = line.split(' ').collect();
        serde_json::from_str(&lab.run(&words).expect(code, &[]).out).unwrap()
    };
    let made = said("image create --json --no-verify disk again.gz", 0);
    let again = said("image info --json again.gz", 0);
    assert_eq!((&made["root_hash"], &made["verified"]), (&again["root_hash"], &json!(false)));
    assert_eq!(made["image_bytes"], std::fs::metadata(lab.path("again.gz")).unwrap().len());
    let verified = said("image verify --json again.gz --against disk", 0);
    assert_eq!((&verified["whole"], &verified["equal"]), (&json!(true), &json!(true)));
    assert_eq!(verified["root_hash"], again["root_hash"]);
    let restored = said("image restore --json again.gz restored", 0);
    let bytes_of = |key: &str| restored[key].as_u64().unwrap();
    assert_eq!(bytes_of("disk_bytes"), bytes.len() as u64);
    assert_eq!(bytes_of("written_bytes") + bytes_of("kept_bytes"), bytes.len() as u64, "{restored}");
    lab.write("changed", &[&[1], &bytes[1..]].concat());
    assert_eq!(said("image verify --json again.gz --against changed", 1)["equal"], false);
    let mut longer = vec![0xa5; bytes.len() + 4096];
    lab.write("longer", &longer);
    lab.run(&["image", "restore", "--overwrite", "disk.raw.gz", "longer"]).expect(0, &[]);
    longer[..bytes.len()].copy_from_slice(&bytes);
    assert!(lab.read("longer")[..bytes.len()] == bytes);
    lab.write("shorter", &bytes[..1 << 20]);
    lab.run(&["image", "restore", "--overwrite", "disk.raw.gz", "shorter"])
        .expect(1, &["nothing was written"]);
    assert!(lab.read("shorter") == bytes[..1 << 20]);

    let cat = |words: &[&str]| {
        lab.command(&[&["image", "cat", "disk.raw.gz"], words].concat()).output().unwrap().stdout
    };
    assert!(cat(&[]) == bytes);
    let at = (3 << 20) - 5;
    assert!(cat(&["--offset", &at.to_string(), "--length", "1000000"]) == bytes[at..at + 1_000_000]);
    assert!(cat(&["--offset", &at.to_string()]) == bytes[at..]);
    lab.run(&["image", "cat", "disk.raw.gz", "--offset", "99999999"]).expect(2, &["not in it"]);

    let mut other = bytes.clone();
    other[4 << 20] ^= 1;
    lab.write("disk", &other);
    lab.run(&["image", "verify", "disk.raw.gz", "--against", "disk"]).expect(1, &["differs"]);
}

/// `cat | head` is no error of anybody.
#[test]
fn cat_into_a_closed_pipe_is_quiet() {
    let lab = Lab::empty();
    lab.write("disk", &disk());
    lab.run(&["image", "create", "disk", "i.gz"]).expect(0, &[]);
    let mut child =
        lab.command(&["image", "cat", "i.gz"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn create_replaces_nothing_that_it_was_not_told_to() {
    let lab = Lab::empty();
    lab.write("disk", &vec![7; 1 << 20]);
    lab.write("i.gz", b"precious");
    lab.run(&["image", "create", "disk", "i.gz"]).expect(1, &["it exists", "--force"]);
    lab.run(&["image", "create", "--force", "disk", "disk"]).expect(1, &["disk itself"]);
    lab.run(&["image", "create", "--force", "missing", "i.gz"]).expect(1, &["missing"]);
    assert_eq!(lab.read("i.gz"), b"precious");
    // What an interrupted create has left is taken over.
    lab.write("i.gz.part", &vec![1; 9 << 20]);
    lab.run(&["image", "create", "--force", "--no-verify", "disk", "i.gz"]).expect(0, &[]);
    assert!(!lab.path("i.gz.part").exists());
    lab.run(&["image", "verify", "i.gz"]).expect(0, &[]);
    // A disk that is no whole number of blocks leaves nothing behind.
    lab.write("odd", &vec![7; 1000]);
    lab.run(&["image", "create", "odd", "odd.gz"]).expect(1, &["whole number"]);
    assert!(!lab.path("odd.gz").exists() && !lab.path("odd.gz.part").exists());
}

#[test]
fn gzip_files_of_others_are_restored_too() {
    let lab = Lab::empty();
    let bytes = disk();
    lab.write("sda", &bytes);
    gzip(&lab, &["-1", "-k", "sda"]);
    lab.run(&["image", "restore", "sda.gz", "new"]).expect(0, &[]);
    assert!(lab.read("new") == bytes);
    lab.run(&["image", "verify", "sda.gz", "--against", "new"]).expect(0, &["not of testbox", "equal"]);
    lab.run(&["image", "info", "sda.gz"]).expect(0, &["not of testbox"]);
    lab.run(&["image", "cat", "sda.gz"]).expect(1, &["zcat"]);
    let gz = lab.read("sda.gz");
    lab.write("cut.gz", &gz[..gz.len() - 100]);
    lab.run(&["image", "restore", "cut.gz", "cut"]).expect(1, &["nothing was written"]);
    assert!(!lab.path("cut").exists());
    lab.write("new", &vec![0x5a; bytes.len()]);
    lab.run(&["image", "restore", "--overwrite", "cut.gz", "new"]).expect(1, &["nothing was written"]);
    assert!(lab.read("new") == vec![0x5a; bytes.len()]);
    lab.write("text", b"hello");
    lab.run(&["image", "restore", "text", "x"]).expect(1, &["neither"]);
}

/// gzip would not notice any of these: they must be refused, and never be read as somebody else's gzip.
#[test]
fn a_damaged_image_is_refused_before_the_first_write() {
    let lab = Lab::empty();
    lab.write("disk", &disk());
    lab.run(&["image", "create", "disk", "i.gz"]).expect(0, &[]);
    let good = lab.read("i.gz");
    let middle = good.len() / 2 / 4096 * 4096 + 2000;
    let flipped = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        bad
    };
    let rows = [
        ("cut", good[..good.len() - 4096].to_vec()),
        ("longer", [&good[..], &[0; 4096]].concat()),
        ("middle", flipped(middle)),
        ("footer", flipped(good.len() - 4000)),
        ("id of the first member", flipped(12)),
        ("a number in the header", flipped(60)),
    ];
    let target = vec![0x5a; disk().len()];
    for (what, bad) in rows {
        lab.write("bad.gz", &bad);
        lab.write("target", &target);
        for words in [
            &["verify", "bad.gz"][..],
            &["verify", "--scrub", "bad.gz"],
            &["restore", "--overwrite", "bad.gz", "target"],
            &["restore", "bad.gz", "fresh"],
        ] {
            let run = lab.run(&[&["image"], words].concat());
            assert_eq!(run.code, 1, "{what} {words:?}: {}{}", run.out, run.err);
            assert!(run.err.contains("bad.gz"), "{what}: {}", run.err);
        }
        assert!(lab.read("target") == target, "{what}: nothing was written");
        assert!(!lab.path("fresh").exists(), "{what}");
    }
}

/// A disk with an MBR and two partitions, of 1 and 2 MiB, the first at 1 MiB.
fn partitioned() -> Vec<u8> {
    let mut bytes = disk();
    bytes.truncate(6 << 20);
    for (i, first, blocks) in [(0, 2048u32, 2048u32), (1, 4096, 4096)] {
        let at = 446 + 16 * i;
        bytes[at + 4] = 0x83;
        bytes[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&blocks.to_le_bytes());
    }
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

#[test]
fn diff_tells_ranges_and_partitions() {
    let lab = Lab::empty();
    let mut bytes = partitioned();
    lab.write("a", &bytes);
    bytes[(3 << 20) + 5000] ^= 1;
    bytes[(5 << 20) + 1] ^= 1;
    lab.write("b", &bytes);
    for name in ["a", "b"] {
        lab.run(&["image", "create", name, &format!("{name}.gz")]).expect(0, &[]);
    }
    lab.run(&["image", "diff", "a.gz", "a.gz"]).expect(0, &["hold the same disk"]);
    let run = lab.run(&["image", "diff", "--json", "a.gz", "b.gz"]).expect(1, &[]);
    let all: Value = serde_json::from_str(&run.out).unwrap();
    // The runs that hold these bytes differ, each as a whole.
    let ranges: Vec<(u64, u64)> = all["ranges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|range| (range["offset"].as_u64().unwrap(), range["length"].as_u64().unwrap()))
        .collect();
    for ((start, length), byte) in ranges.iter().zip([(3 << 20) + 5000, (5 << 20) + 1]) {
        assert!((*start..start + length).contains(&byte) && *length <= 256 << 10, "{start} {length}");
    }
    let [first, second] = ranges[..] else { panic!("{ranges:?}") };
    assert_eq!((&all["equal"], &all["differing_bytes"]), (&json!(false), &json!(first.1 + second.1)));
    assert_eq!(all["ranges"][0]["partitions"], json!([2]));
    assert_eq!(all["partitions"][1]["differing_bytes"], json!(first.1));
    let last = |(start, length): (u64, u64)| start + length - 1;
    lab.run(&["image", "diff", "a.gz", "b.gz"]).expect(
        1,
        &[
            &format!("({} bytes) of 6.2 MB (6291456 bytes) differ, in 2 ranges", first.1 + second.1),
            "partition 2   ",
            &format!("({} bytes): Linux (type 83)", first.1),
            &format!("({} bytes): partition tables", second.1),
            "outside  ",
            &format!("bytes {} to {} (2)", first.0, last(first)),
            &format!("bytes {} to {} (-)", second.0, last(second)),
        ],
    );
    lab.write("foreign.gz", &gzip(&lab, &["-c", "a"]));
    lab.run(&["image", "diff", "a.gz", "foreign.gz"]).expect(1, &["foreign.gz", "no index"]);
}

#[test]
fn a_restore_says_what_was_there_already() {
    let lab = Lab::empty();
    let bytes = partitioned();
    lab.write("a", &bytes);
    lab.run(&["image", "create", "a", "a.gz"]).expect(0, &[]);
    lab.run(&["image", "verify", "--scrub", "a.gz"]).expect(0, &["whole"]);
    let mut changed = bytes.clone();
    changed[(3 << 20) + 5000] ^= 1;
    lab.write("target", &changed);
    let words = ["image", "restore", "--overwrite", "--delta", "always", "a.gz", "target"];
    // The first and the last MiB, and one block.
    lab.run(&words)
        .expect(0, &["(2101248 bytes) written and read back", "(4190208 bytes) was right already"]);
    assert!(lab.read("target") == bytes);
    lab.run(&["image", "restore", "--delta", "sometimes", "a.gz", "target"])
        .expect(2, &["auto, always, never"]);
}

/// The second image of a disk takes from the first what did not change, and is a whole image without it.
#[test]
fn an_image_can_be_based_on_the_one_before() {
    let lab = Lab::empty();
    let mut bytes = partitioned();
    lab.write("a", &bytes);
    lab.run(&["image", "create", "a", "first.gz"]).expect(0, &[]);
    bytes[(3 << 20) + 5000] ^= 1;
    lab.write("a", &bytes);
    lab.run(&["image", "create", "--base", "first.gz", "a", "second.gz"])
        .expect(0, &["taken over from first.gz", "verified"]);
    lab.run(&["image", "verify", "--base", "first.gz", "second.gz", "--against", "a"])
        .expect(0, &["whole", "equal"]);
    std::fs::remove_file(lab.path("first.gz")).unwrap();
    lab.run(&["image", "verify", "second.gz"]).expect(0, &["whole"]);
    assert!(gzip(&lab, &["-dc", "second.gz"]) == bytes);
    // A base that is damaged in the middle of what did not change.
    let mut damaged = lab.read("second.gz");
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    lab.write("damaged.gz", &damaged);
    lab.run(&["image", "create", "--base", "damaged.gz", "a", "mended.gz"])
        .expect(0, &["made again", "damaged.gz: ", "do not use it", "verified"]);
    lab.run(&["image", "verify", "mended.gz", "--against", "a"]).expect(0, &["whole", "equal"]);
    lab.run(&["image", "create", "--base", "damaged.gz", "--no-verify", "a", "unknown.gz"])
        .expect(0, &["verify the image before you rely on it"]);
    lab.run(&["image", "verify", "unknown.gz"]).expect(1, &["damaged"]);
    lab.write("foreign.gz", &gzip(&lab, &["-c", "a"]));
    lab.run(&["image", "create", "--base", "foreign.gz", "a", "third.gz"]).expect(1, &["not of testbox"]);
    assert!(!lab.path("third.gz").exists() && !lab.path("third.gz.part").exists());
}

/// An ext4 of 8 MiB with stale data where it is free.
fn ext4(lab: &Lab, name: &str) -> Vec<u8> {
    lab.write(name, &vec![0x77; 8 << 20]);
    let args = ["-q", "-F", "-t", "ext4", "-b", "1024", "-L", "root", "-O", "^has_journal"];
    let made =
        Command::new("mke2fs").args(args).args(["-E", "nodiscard"]).arg(lab.path(name)).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    lab.read(name)
}

#[test]
fn what_nobody_uses_is_left_out_and_told() {
    let lab = Lab::empty();
    let bytes = ext4(&lab, "disk");
    lab.run(&["image", "create", "disk", "i.gz"]).expect(
        0,
        &["disk ext4 'root': ", "of 8.3 MB used, the rest is not imaged", "unallocated and not imaged"],
    );
    let info = lab.run(&["image", "info", "--json", "i.gz"]).expect(0, &[]);
    let info: Value = serde_json::from_str(&info.out).unwrap();
    let skipped = info["unallocated_bytes"].as_u64().unwrap();
    assert!(skipped > 4 << 20, "{skipped}");
    let found = &info["partitions"][0];
    assert_eq!((&found["kind"], &found["label"]), (&json!("ext4"), &json!("root")));
    assert_eq!((&found["skipped_bytes"], &found["length"]), (&json!(skipped), &json!(8 << 20)));
    assert_eq!(found["used_bytes"], json!((8 << 20) - skipped));
    lab.run(&["image", "info", "i.gz"])
        .expect(0, &["partition    whole disk: ext4 'root', 8.3 MB", " skipped"]);

    // Zeros for zcat and cat; whatever is there for a restore.
    let zcat = gzip(&lab, &["-dc", "i.gz"]);
    let differing = zcat.iter().zip(&bytes).filter(|(a, b)| a != b).count() as u64;
    assert_eq!(differing, skipped);
    assert!(lab.command(&["image", "cat", "i.gz"]).output().unwrap().stdout == zcat);
    lab.run(&["image", "verify", "i.gz", "--against", "disk"])
        .expect(0, &["equal", "of unallocated space was not compared"]);
    for (free, byte, told) in [("leave", 0xa5, true), ("discard", 0, true), ("zero", 0, false)] {
        lab.write("target", &vec![0xa5; 8 << 20]);
        let run = lab
            .run(&["image", "restore", "--overwrite", "--free", free, "i.gz", "target"])
            .expect(0, &["restored"]);
        assert_eq!(run.out.contains("unallocated, left as it was"), told, "{}", run.out);
        let now = lab.read("target");
        let is_right = |i: usize| now[i] == bytes[i] || (zcat[i] == 0 && now[i] == byte);
        assert!((0..now.len()).all(is_right), "{free}");
        assert_eq!(now == zcat, free != "leave");
    }
    lab.run(&["image", "create", "--used", "off", "disk", "all.gz"])
        .expect(0, &["disk: all of it is imaged"]);
    assert!(gzip(&lab, &["-dc", "all.gz"]) == bytes);
    // What was left out is zeros in one image and stale data in the other.
    lab.run(&["image", "diff", "i.gz", "all.gz"]).expect(1, &["differ"]);
    lab.run(&["image", "create", "--used", "maybe", "disk", "x.gz"]).expect(2, &["auto, no-swap, off"]);
    lab.run(&["image", "restore", "--free", "trim", "i.gz", "x"]).expect(2, &["leave, discard, zero"]);
}

/// Partition names, labels and file names are whatever somebody wrote there: a terminal must not act on them, and a
/// newline must not begin a line of its own.
#[test]
fn hostile_names_reach_no_terminal() {
    let lab = Lab::empty();
    lab.write("a", &vec![0; 8 << 20]);
    let name = "1:\u{1b}[2J\u{202e}evil\u{9b}1m\u{7f}";
    let label = ["-q", "-F", "-L", "\u{1b}[2J\u{202e}evil", "-E", "offset=1048576"];
    for made in [
        Command::new("sgdisk").args(["-n", "1:2048:+4M", "-c", name]).arg(lab.path("a")).output(),
        Command::new("mke2fs").args(label).arg(lab.path("a")).arg("4M").output(),
    ] {
        let made = made.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let mut bytes = lab.read("a");
    bytes[(1 << 20) + 3] ^= 1;
    lab.write("b", &bytes);
    let mut said = String::new();
    let mut run = |words: &[&str]| {
        let run = lab.run(words);
        said += &format!("{}{}", run.out, run.err);
        run
    };
    for name in ["a", "b"] {
        run(&["image", "create", name, &format!("{name}.gz")]).expect(0, &[]);
    }
    run(&["image", "info", "a.gz"]).expect(0, &["ext2 '[2J\\u{202e}evil'"]);
    run(&["image", "info", "--json", "a.gz"]).expect(0, &["\\u202e"]);
    run(&["image", "diff", "a.gz", "b.gz"]).expect(1, &["evil"]);
    let json = run(&["image", "diff", "--json", "a.gz", "b.gz"]).expect(1, &[]);
    assert!(serde_json::from_str::<Value>(&json.out).is_ok(), "{}", json.out);
    run(&["image", "info", "no\u{1b}]0;such\u{7}"]).expect(1, &["no\\u{1b}]0;such"]);
    let raw: Vec<char> = said.chars().filter(|c| *c != '\n' && !testbox::text::is_plain(*c)).collect();
    assert!(raw.is_empty(), "{raw:?} in {said:?}");
}

/// The first Ctrl-C ends it in order, and says what is left: nothing.
#[test]
fn an_interrupted_create_says_what_is_left() {
    let lab = Lab::empty();
    // At the slowest level: several seconds of work.
    let mut seed = 1u32;
    let byte = |_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"abcdefgh"[(seed >> 29) as usize]
    };
    lab.write("disk", &(0..128 << 20).map(byte).collect::<Vec<u8>>());
    let create = lab.command(&["image", "create", "--level", "9", "disk", "image"]);
    let mut create = { create }.stderr(std::process::Stdio::piped()).spawn().unwrap();
    while !lab.path("image.part").exists() {
        assert!(create.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let pid = rustix::process::Pid::from_child(&create);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = create.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("image.part: interrupted; it was removed, and no image was made"), "{said}");
    assert!(!lab.path("image.part").exists() && !lab.path("image").exists());
}
