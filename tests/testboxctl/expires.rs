//! `arm --expires`: what is written, and what is shown of a job whose time is over.

use super::{FILE, Lab};
use jiff::Timestamp;
use std::fs;
use std::time::{Duration, SystemTime};

const ME: &str = "10.42.1.20";

impl Lab {
    fn armed_text(&self) -> String {
        String::from_utf8(self.read(FILE)).unwrap()
    }

    /// When the job in the machine's file expires.
    fn expires(&self) -> Timestamp {
        let text = self.armed_text();
        let word = text.split_whitespace().find_map(|word| word.strip_prefix("testbox.expires="));
        word.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    }
}

#[test]
fn how_long_is_counted_from_now_on_and_a_time_is_taken_as_it_is() {
    let lab = Lab::new();
    let before = Timestamp::try_from(SystemTime::now() - Duration::from_secs(2)).unwrap();
    lab.arm(&["--expires", "12h", ME, "backup"]).expect(0, &["armed with backup", ", expires 2"]);
    let after = Timestamp::try_from(SystemTime::now() + Duration::from_secs(2)).unwrap();
    let left = lab.expires() - jiff::SignedDuration::from_hours(12);
    assert!(before <= left && left <= after, "{before} {left} {after}");
    lab.arm(&["--expires", "2999-12-01T06:00", ME, "backup"])
        .expect(0, &[", expires 2999-12-01 06:00 UTC, instead of backup"]);
    assert_eq!(lab.expires().to_string(), "2999-12-01T06:00:00Z");
    let json = lab.arm(&["--expires", "2999-12-01T06:00+02:00", "--json", ME, "backup"]).expect(0, &[]).out;
    assert!(json.contains(r#""expires": "2999-12-01T04:00:00Z""#), "{json}");
    for folder in ["b", "t/pxelinux.cfg"] {
        let names = fs::read_dir(lab.path(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(!names.into_iter().any(|name| name.to_string_lossy().contains("clock")), "{folder}");
    }
}

#[test]
fn a_time_that_makes_no_sense_arms_nobody() {
    let lab = Lab::new();
    let before = lab.snapshot();
    for (words, why) in [
        (["--expires", "2001-01-01T00:00", ME, "backup"], "that is over"),
        (["--expires", "soon", ME, "backup"], "2026-12-01T06:00"),
        (["--expires", "1h", ME, "rescue"], "not for rescue"),
    ] {
        lab.arm(&words).expect(2, &[why]);
        assert_eq!(lab.snapshot(), before, "{why}");
    }
    let shown = lab.arm(&["-n", "--expires", "1h", ME, "backup"]).expect(0, &["nothing was"]).out;
    assert!(shown.contains("testbox.expires=2"), "{shown}");
    assert_eq!(lab.snapshot(), before, "not for a look at the clock either");
}

/// The server refuses by what is written down beside it; the machine by its own words, which are signed.
#[test]
fn the_store_is_told_too_and_the_signature_binds_it() {
    let lab = Lab::new();
    let key = "a".repeat(64);
    let store =
        ["--store", "https://10.42.1.1", "--store-key", &key, "--expires", "2999-12-01T06:00", ME, "backup"];
    lab.arm(&store).expect(0, &[]);
    let entry = fs::read_dir(lab.path("b/.store/jobs")).unwrap().next().unwrap().unwrap();
    let job = fs::read_to_string(entry.path()).unwrap();
    assert!(job.contains(r#""expires": "2999-12-01T06:00:00Z""#), "{job}");
    lab.run(&["keygen", "key"]).expect(0, &[]);
    let signature = |expires: &str| {
        let sign = ["--job", "j", "--sign-key", "key", "--expires", expires, ME, "backup"];
        lab.arm(&sign).expect(0, &[]);
        let text = lab.armed_text();
        text.split_whitespace().find(|word| word.starts_with("testbox.signature=")).unwrap().to_owned()
    };
    let [one, other] = ["2999-12-01T06:00", "2999-12-01T06:01"].map(signature);
    assert_ne!(one, other);
    assert_eq!(one, signature("2999-12-01T06:00Z"), "one spelling of one time");
}

#[test]
fn a_machine_that_never_came_is_told_as_such() {
    let lab = Lab::new();
    let shares = ["--backup-dir", "b", "--tftp-dir", "t"];
    let status = |more: &[&str]| lab.run(&[&["status"][..], &shares, more].concat());
    lab.arm(&["--job", "j", "--expires", "2999-12-01T06:00", ME, "backup"]).expect(0, &[]);
    status(&[]).expect(0, &["armed", "expires 2999-12-01 06:00 UTC; it has not come yet"]);
    let late = lab.armed_text().replace("2999-12-01", "2001-12-01");
    lab.write(FILE, late.as_bytes());
    status(&[]).expect(1, &["expired", "expires 2001-12-01 06:00 UTC: it never came, and will be refused"]);
    let json = status(&["--json"]).expect(1, &[]).out;
    assert!(json.contains(r#""expired": true"#) && json.contains(r#""expires": "2001-12-01"#), "{json}");
    let wait = lab.run(&[&["wait", "--job", "j"][..], &shares].concat());
    wait.expect(5, &["never-came", "it expired at 2001-12-01 06:00 UTC, and the machine never came"]);
}
