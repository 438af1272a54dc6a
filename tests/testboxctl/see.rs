//! What an admin sees of the sets, jobs and logs of machines.

use super::Lab;
use rustix::fs::inotify;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::Stdio;

const ME: &str = "10.42.1.20";

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

impl Lab {
    /// A set of one disk, in the folder of a machine or below its history, with an image of so many bytes.
    pub(super) fn set(&self, folder: &str, generation: u64, days: i64, bytes: usize, state: &str) {
        let finished = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days + 1);
        let record = serde_json::json!({
            "format": 1, "generation": generation, "job": format!("j{generation}"), "version": "0.1.0",
            "machine": {"ip": ME, "hexip": "0A2A0114", "hostname": "tb1"}, "finished": finished,
            "images": [{"name": "sda", "identity": {}, "location": "", "disk_size": 1 << 30, "logical_block_size": 512,
                "physical_block_size": 512, "image_size": bytes, "root_hash": "ab".repeat(32), "state": state}],
        });
        self.write(&format!("b/{folder}/backup.json"), record.to_string().as_bytes());
        self.write(&format!("b/{folder}/sda.raw.gz"), &vec![7; bytes]);
    }

    fn json(&self, line: &str) -> Value {
        let run = self.run(&words(line));
        serde_json::from_str(&run.out).unwrap_or_else(|e| panic!("{e}: {}{}", run.out, run.err))
    }
}

/// What is there twice by its names is there once on the disk; each special thing about a set is said.
#[test]
fn images_shows_each_set_with_what_it_costs() {
    let lab = Lab::new();
    lab.set(ME, 7, 0, 64 << 10, "complete");
    lab.set(&format!("{ME}/history/5"), 5, 3, 32 << 10, "degraded");
    lab.set(&format!("{ME}/history/3"), 3, 40, 1, "complete");
    // Carried over from set 3 into set 5.
    let file = |set: &str| lab.path(&format!("b/{ME}/{set}sda.raw.gz"));
    fs::remove_file(file("history/3/")).unwrap();
    fs::hard_link(file("history/5/"), file("history/3/")).unwrap();
    lab.write(&format!("b/{ME}/history/3/pinned"), b"");
    lab.write(&format!("b/{ME}/history/5/backup.json.sig"), b"x");
    lab.write(&format!("b/{ME}/sda.raw.gz.damaged"), format!("{} bad\n", "ab".repeat(32)).as_bytes());
    lab.write("b/10.42.1.3/status.json", b"{}");
    let all = lab.json("images --backup-dir b --json");
    let machine = &all[1];
    assert_eq!((&all[0]["ip"], machine["ip"].as_str()), (&Value::from("10.42.1.3"), Some(ME)));
    let sets = machine["sets"].as_array().unwrap();
    let of = |n: usize, key: &str| sets[n][key].clone();
    assert_eq!([0, 1, 2].map(|n| of(n, "generation").as_u64().unwrap()), [7, 5, 3]);
    assert_eq!([0, 1, 2].map(|n| of(n, "own_bytes").as_u64().unwrap()), [64 << 10, 0, 0]);
    assert_eq!([0, 1, 2].map(|n| of(n, "room_bytes").as_u64().unwrap()), [64 << 10, 32 << 10, 32 << 10]);
    assert_eq!(machine["cost_bytes"], 96 << 10);
    let run = lab
        .run(&["images", "--backup-dir", "b", ME])
        .expect(0, &["10.42.1.20 (tb1): 3 sets, 98.3 kB on the disk"]);
    let row = |set: &str| run.out.lines().find(|line| line.trim_start().starts_with(set)).unwrap().to_owned();
    assert!(row("7 ").ends_with("current, DAMAGED"), "{}", run.out);
    assert!(row("5 ").ends_with("previous, degraded, signed"), "{}", run.out);
    assert!(row("3 ").contains("40d") && row("3 ").ends_with(" pinned"), "{}", run.out);
    lab.run(&["images", "--backup-dir", "b"]).expect(0, &["2 machines, 3 sets: 98.3 kB on the disk"]);
    // The note is of another image.
    lab.write(&format!("b/{ME}/sda.raw.gz.damaged"), format!("{} bad\n", "cd".repeat(32)).as_bytes());
    fs::remove_file(file("history/5/")).unwrap();
    let run = lab.run(&["images", "--backup-dir", "b", ME]).expect(0, &["INCOMPLETE"]);
    assert!(!run.out.contains("DAMAGED"), "{}", run.out);
    lab.write(&format!("b/{ME}/history/5/backup.json"), b"{");
    lab.run(&["images", "--backup-dir", "b", ME])
        .expect(1, &["2 sets", "history/5/backup.json cannot be used"]);
}

/// Who armed it, what came out, and why: from the words of `arm` and of the machine.
#[test]
fn history_tells_what_became_of_each_job() {
    let lab = Lab::new();
    lab.write("settings.toml", b"tftp-dir = \"t\"\nbackup-dir = \"b\"\nserver = \"10.42.1.1\"\n");
    let says = |level: &str, text: &str| {
        let mut log = fs::File::options().append(true).open(lab.path("b/maintenance.log")).unwrap();
        let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S+00:00");
        writeln!(log, "{at}: {ME}: {level}: {text}").unwrap();
    };
    lab.run(&["arm", "--job", "j1", ME, "backup"]).expect(0, &[]);
    lab.run(&["disarm", ME]).expect(0, &[]);
    lab.run(&["arm", "--job", "j2", ME, "backup"]).expect(0, &[]);
    says("info", "started: tb1 (0A2A0114), action backup");
    says("error", "sda: 3 sectors cannot be read [disk-read 50]");
    let jobs = lab.json("history --json")[0]["jobs"].clone();
    let of = |n: usize, key: &str| jobs[n][key].as_str().unwrap_or_default().to_owned();
    assert_eq!([of(0, "job"), of(0, "result")], ["j1", "disarmed"]);
    assert_eq!([of(1, "job"), of(1, "result")], ["j2", "failed"]);
    assert_eq!(of(1, "reason"), "sda: 3 sectors cannot be read [disk-read 50]");
    assert!(of(1, "by").contains("uid "), "{jobs}");
    let run = lab.run(&["history", "--last", "1", ME]).expect(0, &["failed", "3 sectors cannot be read"]);
    assert!(!run.out.contains("disarmed"), "{}", run.out);
    lab.run(&["history", "10.42.1.9"]).expect(0, &["10.42.1.9: the log of all machines has no job of it"]);
    // It has begun again, and never said how that ended.
    says("info", "started: tb1 (0A2A0114), action backup");
    assert_eq!(lab.json("history --json")[0]["jobs"][1]["result"], "cut");
}

#[test]
fn log_shows_the_end_of_a_log_and_follows_it() {
    let lab = Lab::new();
    let line = |n: u32| format!("2026-01-01T00:00:0{n}+00:00: {ME}: info: line {n}\n");
    lab.run(&["log", "--backup-dir", "b", ME]).expect(1, &["there is no such log yet"]);
    lab.write(&format!("b/{ME}/maintenance.log"), [line(1), line(2), line(3)].concat().as_bytes());
    let run = lab.run(&["log", "--backup-dir", "b", "-n", "2", ME]).expect(0, &["line 2", "line 3"]);
    assert!(!run.out.contains("line 1"), "{}", run.out);
    let json = lab.json(&format!("log --backup-dir b --json -n 1 {ME}"));
    assert_eq!((&json["level"], &json["text"]), (&Value::from("info"), &Value::from("line 3")));
    let mut follow = lab
        .command(&["log", "--backup-dir", "b", "-f", "-n", "0", ME])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    // It may not have looked yet: what it has not seen before is new.
    let adding = std::thread::spawn({
        let path = lab.path(&format!("b/{ME}/maintenance.log"));
        move || {
            for n in 0..600 {
                std::thread::sleep(std::time::Duration::from_millis(100));
                let mut log = fs::File::options().append(true).open(&path).unwrap();
                if writeln!(log, "new \u{1b}[2J {n}").is_err() || n == 599 {
                    panic!("nobody has read it");
                }
                if path.with_extension("seen").exists() {
                    return;
                }
            }
        }
    });
    let seen = lines.next().unwrap().unwrap();
    assert!(seen.starts_with("new \\u{1b}[2J"), "{seen}");
    lab.write(&format!("b/{ME}/maintenance.seen"), b"");
    adding.join().unwrap();
    follow.kill().unwrap();
    follow.wait().unwrap();
}

/// A share with real images: the root hash of the one that every set has.
fn with_image(lab: &Lab) -> String {
    lab.write("disk", &[1; 1 << 20]);
    lab.run(&["image", "create", "disk", "image"]).expect(0, &[]);
    lab.json("image info --json image")["root_hash"].as_str().unwrap().to_owned()
}

impl Lab {
    fn whole_set(&self, folder: &str, generation: u64, days: i64, root_hash: &str) {
        self.set(folder, generation, days, 1, "complete");
        let record = String::from_utf8(self.read(&format!("b/{folder}/backup.json"))).unwrap();
        self.write(
            &format!("b/{folder}/backup.json"),
            record.replace(&"ab".repeat(32), root_hash).as_bytes(),
        );
        fs::copy(self.path("image"), self.path(&format!("b/{folder}/sda.raw.gz"))).unwrap();
    }

    fn sets_of(&self, ip: &str) -> Vec<u64> {
        let all = self.json(&format!("images --backup-dir b --json {ip}"));
        all[0]["sets"].as_array().unwrap().iter().map(|set| set["generation"].as_u64().unwrap()).collect()
    }
}

/// What is said to go goes, and frees what was said; what is pinned, signed, young or the last good one never does.
#[test]
fn prune_says_first_and_removes_no_more_than_that() {
    let lab = Lab::new();
    let hash = with_image(&lab);
    lab.whole_set(ME, 9, 0, &hash);
    for (generation, days) in [(8, 3), (7, 10), (6, 20), (5, 30), (4, 40), (3, 50)] {
        lab.whole_set(&format!("{ME}/history/{generation}"), generation, days, &hash);
    }
    lab.write(&format!("b/{ME}/history/3/pinned"), b"");
    lab.write(&format!("b/{ME}/history/4/backup.json.sig"), b"x");
    // Its image stays: the current set has it too.
    let file = |set: &str| lab.path(&format!("b/{ME}/{set}sda.raw.gz"));
    fs::remove_file(file("history/5/")).unwrap();
    fs::hard_link(file(""), file("history/5/")).unwrap();
    // A machine whose only whole set is an old one.
    lab.whole_set("10.42.1.21", 2, 1, &"cd".repeat(32));
    lab.whole_set("10.42.1.21/history/1", 1, 400, &hash);
    let before = lab.snapshot();
    let prune = |more: &str| lab.json(&format!("prune --backup-dir b --keep-sets 0 --json {more}"));
    let numbers = |said: &Value| {
        let sets = said["machines"][0]["sets"].as_array().unwrap();
        sets.iter().map(|set| set["generation"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let said = prune("");
    assert_eq!(numbers(&said), [7, 6, 5]);
    assert_eq!((said["removed"].as_bool(), said["machines"].as_array().unwrap().len()), (Some(false), 1));
    let room = |set: &str| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(file(set)).unwrap()) * 512;
    assert_eq!(said["freed_bytes"], room("history/7/") + room("history/6/"), "{said}");
    assert_eq!(
        numbers(&prune("--keep-monthly 2")),
        [7, 6, 5].into_iter().filter(|n| !monthly(&lab, 2).contains(n)).collect::<Vec<_>>()
    );
    lab.run(&words("prune --backup-dir b --keep-last 1"))
        .expect(0, &["would remove set 6 of ", "nothing was removed, --yes does it"]);
    assert!(lab.snapshot() == before, "a dry run changes nothing");
    assert_eq!(numbers(&prune("--yes")), [7, 6, 5]);
    assert_eq!(lab.sets_of(ME), [9, 8, 4, 3]);
    assert_eq!(lab.sets_of("10.42.1.21"), [2, 1]);
    lab.run(&words("prune --backup-dir b --keep-sets 0 --yes")).expect(0, &["nothing to remove"]);
}

/// Good sets that are the last of their month, for the newest so many months.
fn monthly(lab: &Lab, count: usize) -> Vec<u64> {
    let all = lab.json(&format!("images --backup-dir b --json {ME}"));
    let (mut months, mut kept) = (Vec::new(), Vec::new());
    for set in all[0]["sets"].as_array().unwrap().iter().filter(|set| set["current"] == false) {
        let month = set["finished"].as_str().unwrap()[..7].to_owned();
        if !months.contains(&month) && months.len() < count {
            months.push(month);
            kept.push(set["generation"].as_u64().unwrap());
        }
    }
    kept
}

/// A machine that restores holds its folder: nothing of it goes, whatever set it reads.
#[test]
fn prune_leaves_a_folder_alone_that_an_agent_holds() {
    let lab = Lab::new();
    let hash = with_image(&lab);
    lab.whole_set(ME, 9, 0, &hash);
    for (generation, days) in [(8, 30), (7, 60)] {
        lab.whole_set(&format!("{ME}/history/{generation}"), generation, days, &hash);
    }
    let holder = br#"{"session":"s","macs":["52:54:00:12:34:56"],"hostname":"tb1","action":"restore"}"#;
    lab.write(&format!("b/{ME}/lease/5"), &[&holder[..], b"\n"].concat());
    let line = "prune --backup-dir b --keep-sets 0 --yes";
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let beating = std::thread::spawn({
        let path = lab.path(&format!("b/{ME}/lease/5"));
        move || {
            while stopped.recv_timeout(std::time::Duration::from_millis(100)).is_err() {
                fs::File::options().append(true).open(&path).unwrap().write_all(b".").unwrap();
            }
        }
    });
    let run = lab.run(&words(line));
    let run = run.expect(1, &["10.42.1.20: left alone: ", "10.42.1.20 is in use"]);
    assert!(run.out.contains("tb1 (52:54:00:12:34:56), restore"), "{}", run.out);
    assert_eq!(lab.sets_of(ME), [9, 8, 7]);
    lab.run(&words("prune --backup-dir b --keep-sets 0"))
        .expect(1, &["left alone: its folder is held by tb1"]);
    stop.send(()).unwrap();
    beating.join().unwrap();
    let mut lease = fs::File::options().append(true).open(lab.path(&format!("b/{ME}/lease/5"))).unwrap();
    lease.write_all(b"\nreleased\n").unwrap();
    lab.write(&format!("b/{ME}/backup.json.part"), b"{}");
    lab.run(&words(line)).expect(1, &["left alone: a set is being published"]);
    fs::remove_file(lab.path(&format!("b/{ME}/backup.json.part"))).unwrap();
    lab.run(&words(line)).expect(0, &["2 sets of 1 machines removed"]);
    let lease = String::from_utf8(lab.read(&format!("b/{ME}/lease/7"))).unwrap();
    assert!(lease.contains("\"prune\"") && lease.ends_with("released\n"), "{lease}");
}

/// Rot of the disk is found, shown by every command, and no reason to lose the note when it is looked at again.
#[test]
fn verify_finds_what_has_rotted_and_status_shows_it() {
    let lab = Lab::new();
    let hash = with_image(&lab);
    lab.whole_set(ME, 9, 0, &hash);
    lab.whole_set(&format!("{ME}/history/8"), 8, 3, &hash);
    lab.says_done();
    lab.run(&words("verify --backup-dir b")).expect(2, &["--all"]);
    let verify = |more: &str| lab.run(&words(&format!("verify --backup-dir b {more}")));
    verify("--all")
        .expect(0, &["10.42.1.20 set 8: whole", "10.42.1.20 set 9: whole", "2 sets whole, 0 damaged"]);
    verify("--all --older-than 1d").expect(0, &["0 sets whole, 0 damaged"]);
    verify("--all --at-most 0s")
        .expect(0, &["0 sets whole, 0 damaged; 2 are left for the next time, the oldest proof of 20"]);
    lab.run(&words("status --backup-dir b")).expect(0, &[]);
    let whole = lab.read(&format!("b/{ME}/history/8/sda.raw.gz"));
    let mut rotten = whole.clone();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 1;
    for folder in [ME.to_owned(), format!("{ME}/history/8")] {
        lab.write(&format!("b/{folder}/sda.raw.gz"), &rotten);
        let run = verify(ME).expect(1, &["1 sets whole, 1 damaged"]);
        assert!(run.err.contains("sda.raw.gz: "), "{}", run.err);
        assert!(lab.path(&format!("b/{folder}/sda.raw.gz.damaged")).exists());
        lab.run(&words("status --backup-dir b")).expect(1, &["DAMAGED: "]);
        let json: Value = serde_json::from_str(&lab.run(&words("status --backup-dir b --json")).out).unwrap();
        assert_eq!(json[0]["damaged"].as_array().unwrap().len(), 1, "{json}");
        lab.run(&words("images --backup-dir b")).expect(0, &["DAMAGED"]);
        // Somebody has put a good copy there.
        lab.write(&format!("b/{folder}/sda.raw.gz"), &whole);
        verify(ME).expect(0, &["2 sets whole, 0 damaged"]);
        assert!(!lab.path(&format!("b/{folder}/sda.raw.gz.damaged")).exists());
        lab.run(&words("status --backup-dir b")).expect(0, &[]);
    }
    // A set that is gone is nobody's trouble.
    lab.write(&format!("b/{ME}/history/8/sda.raw.gz"), &rotten);
    verify(ME).expect(1, &[]);
    fs::remove_dir_all(lab.path(&format!("b/{ME}/history/8"))).unwrap();
    lab.run(&words("status --backup-dir b")).expect(0, &[]);
}

impl Lab {
    fn says_done(&self) {
        let status = format!(
            r#"{{"state":"done","action":"backup","job":"j9","ip":"{ME}","hostname":"tb1","step":"done","bytes_done":1,
               "bytes_total":1,"rate":0,"attempt":1,"started":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z",
               "version":"0.1.0"}}"#
        );
        self.write(&format!("b/{ME}/status.json"), status.as_bytes());
    }
}

/// The regular files below `root` that are opened while `work` runs, with how often, as the kernel tells it.
fn opened(root: &Path, work: impl FnOnce()) -> BTreeMap<String, usize> {
    fn folders(dir: &Path, all: &mut Vec<std::path::PathBuf>) {
        all.push(dir.to_owned());
        for entry in
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir())
        {
            folders(&entry, all);
        }
    }
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let mut all = Vec::new();
    folders(root, &mut all);
    let folder = |path: &std::path::PathBuf| {
        (inotify::add_watch(&watch, path, inotify::WatchFlags::OPEN).unwrap(), path.clone())
    };
    let folders: BTreeMap<i32, std::path::PathBuf> = all.iter().map(folder).collect();
    work();
    let mut buffer = [MaybeUninit::uninit(); 64 << 10];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    let mut opened = BTreeMap::new();
    while let Ok(event) = events.next() {
        assert!(!event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW));
        if let (Some(name), false) = (event.file_name(), event.events().contains(inotify::ReadFlags::ISDIR)) {
            let path = folders[&event.wd()].join(name.to_str().unwrap());
            *opened.entry(path.strip_prefix(root).unwrap().display().to_string()).or_insert(0) += 1;
        }
    }
    opened
}

/// The bounds that the manual states: what a listing costs grows with machines and sets, and not with what lies in them.
#[test]
fn a_listing_opens_a_bounded_number_of_files() {
    let lab = Lab::new();
    let (machines, sets) = (3, 10);
    for n in 0..machines {
        let ip = format!("10.42.1.{}", 20 + n);
        for set in 1..=sets {
            lab.set(&format!("{ip}/history/{set}"), set, 100 - set as i64, 10, "complete");
        }
        lab.set(&ip, sets + 1, 0, 10, "complete");
        for lease in 3..6 {
            lab.write(&format!("b/{ip}/lease/{lease}"), b"{}\nreleased\n");
        }
        lab.write(&format!("b/{ip}/maintenance.log"), b"x");
        lab.write(&format!("b/{ip}/status.json"), b"{}");
    }
    lab.write(
        "b/maintenance.log",
        b"2026-01-01T00:00:00+00:00: 10.42.1.20: info: started: tb1 (0A2A0114), action backup\n",
    );
    lab.write("b/.store/verified.json", b"{\"sets\":{}}");
    let root = lab.path("b");
    let of = |line: &str| {
        let line = format!("{line} --backup-dir b");
        opened(&root, || drop(lab.run(&words(&line))))
    };
    let count = |opened: &BTreeMap<String, usize>| opened.values().sum::<usize>();
    // The marker (twice), what 'verify' has found, and of each machine status, record, the newest record before it, and the lease.
    let status = of("status");
    assert_eq!(count(&status), 3 + machines * 4, "{status:#?}");
    let images = of("images");
    assert_eq!(count(&images), 2 + machines * (sets as usize + 1), "{images:#?}");
    // The log, and the status of the machine whose last job has not ended.
    let history = of("history");
    assert_eq!(count(&history), 2 + 1 + 1, "{history:#?}");
}

/// Whoever meets an error learns what to do about it.
#[test]
fn errors_of_a_share_name_the_cure() {
    let lab = Lab::new();
    for command in ["status", "watch", "images", "history", "log", "prune", "verify --all", "dedup"] {
        lab.run(&words(&format!("{command} --backup-dir none")))
            .expect(1, &["none: cannot open", "testboxctl init"]);
        lab.run(&words(&format!("{command} --backup-dir t"))).expect(1, &["marker file", "testboxctl init"]);
    }
    lab.run(&["images", "--backup-dir", "b", "no-such.invalid"]).expect(2, &["machines.toml"]);
    let bare = std::process::Command::new(env!("CARGO_BIN_EXE_testboxctl")).output().unwrap();
    let said = String::from_utf8(bare.stderr).unwrap();
    assert_eq!(bare.status.code(), Some(2), "{said}");
    assert!(said.contains("Usage: testboxctl") && !said.contains("behalf"), "{said}");
}
