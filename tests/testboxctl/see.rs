//! What an admin sees of the sets, jobs and logs of machines.

use super::Lab;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

const ME: &str = "10.42.1.20";

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

impl Lab {
    /// A set of one disk, in the folder of a machine or below its history, with an image of so many bytes.
    fn set(&self, folder: &str, generation: u64, days: i64, bytes: usize, state: &str) {
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
    lab.run(&["history", "10.42.1.9"]).expect(0, &["10.42.1.9: the log of all machines tells of no job"]);
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
