//! The page of `serve` in a real browser, its API and its metrics: see `tests/page/`.

use super::Lab;
use super::via::{Served, TOKEN};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const EVIL: &str = "<script>document.title='taken'</script>\u{1b}[2J\u{202e}\"'><img src=x onerror=alert(1)>";

/// What a machine says of itself.
fn status(state: &str, n: u8, name: &str, more: Value) -> Vec<u8> {
    let now = jiff::Timestamp::now();
    let mut all = json!({
        "state": state, "action": "backup", "job": format!("j{n}"), "ip": format!("10.42.1.{n}"), "hostname": name,
        "step": "image", "disk": "sda", "bytes_done": 0, "bytes_total": 500_107_862_016_u64, "rate": 0, "attempt": 1,
        "started": now, "updated": now, "version": env!("CARGO_PKG_VERSION"),
    });
    more.as_object().unwrap().iter().for_each(|(key, value)| all[key] = value.clone());
    all.to_string().into_bytes()
}

/// Machines in all states: 20 to arm, 21 failed, 22 works, 23 armed, 24 never came, 25 hostile, 26 holds, 27 silent, 28 new.
fn machines(lab: &Lab) {
    let hour = jiff::SignedDuration::from_hours(1);
    lab.write("pdu", b"#!/bin/sh\necho \"$@\" >>cycled\n");
    fs::set_permissions(lab.path("pdu"), fs::Permissions::from_mode(0o755)).unwrap();
    let known = "[tb20]\naddress = \"10.42.1.20\"\npower = [\"./pdu\", \"{action}\", \"{name}\"]\n[tb28]\naddress = \"10.42.1.28\"\n";
    lab.write("machines.toml", known.as_bytes());
    lab.set("10.42.1.20", 7, 0, 64 << 10, "complete");
    lab.set("10.42.1.20/history/6", 6, 30, 32 << 10, "degraded");
    let record = String::from_utf8(lab.read("b/10.42.1.20/backup.json")).unwrap();
    let mut record: Value = serde_json::from_str(&record).unwrap();
    record["images"][0]["identity"] = json!({"serial": "S3Z9NB0K", "model": "Samsung SSD 860"});
    record["images"][0]["partitions"] = json!([
        {"number": 1, "start": 1 << 20, "size": 512 << 20, "kind": "vfat", "label": "ESP", "skipped": 500 << 20},
        {"number": 2, "start": 513 << 20, "size": 400 << 20, "kind": "ext4", "label": EVIL, "skipped": 0},
    ]);
    lab.write("b/10.42.1.20/backup.json", record.to_string().as_bytes());
    let stages = json!({"stages": [{"stage": "kernel", "milliseconds": 3_100}, {"stage": "work", "milliseconds": 754_000}]});
    lab.write("b/10.42.1.20/status.json", &status("done", 20, "tb20", stages));
    let why = json!({"error": "sda: 3 sectors cannot be read", "code": 50, "attempt": 3});
    lab.write("b/10.42.1.21/status.json", &status("failed", 21, "tb21", why));
    lab.write("b/10.42.1.22/status.json", &at_work(41));
    lab.write("later.json", &at_work(87));
    let silent = json!({"updated": jiff::Timestamp::now() - hour});
    lab.write("b/10.42.1.27/status.json", &status("running", 27, "tb27", silent));
    let evil = json!({"error": EVIL, "notes": [EVIL], "step": EVIL, "action": EVIL});
    lab.write("b/10.42.1.25/status.json", &status("failed", 25, &format!("tb25{EVIL}"), evil));
    lab.write("b/10.42.1.25/maintenance.log", format!("{EVIL}\n</pre><script>x</script>\n").as_bytes());
    lab.write(
        "b/10.42.1.26/status.json",
        &status("holding", 26, "tb26", json!({"error": "it cannot be disarmed"})),
    );
    let at = |time: jiff::Timestamp| time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
    let began = jiff::Timestamp::now() - hour;
    let log = format!(
        "{}: 10.42.1.20: info: armed: backup, job j20, by carol (uid 1000)\n\
         {}: 10.42.1.20: info: started: tb20 (0A2A0114), action backup\n{}: 10.42.1.20: info: backup: done\n",
        at(began - hour),
        at(began - hour),
        at(began)
    );
    lab.write("b/maintenance.log", log.as_bytes());
    lab.write("b/10.42.1.20/maintenance.log", log.as_bytes());
}

/// 10.42.1.22, so many percent of its work done. Its clock is ahead: it is not silent however slow this test is.
fn at_work(percent: u64) -> Vec<u8> {
    let ahead = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let more =
        json!({"updated": ahead, "bytes_done": 5_001_078_621_u64 * percent, "rate": 512_000_000, "eta": 566});
    status("running", 22, "tb22", more)
}

/// A server with machines in all states.
fn served() -> Served {
    let served = Served::new();
    let lab = &served.lab;
    machines(lab);
    let settings = [lab.read("settings.toml"), b"machines = \"machines.toml\"\n".to_vec()].concat();
    lab.write("settings.toml", &settings);
    served.by_socket("arm --expires 2d 10.42.1.23 restore --force").expect(0, &[]);
    served.by_socket("arm --expires 1h 10.42.1.24 backup").expect(0, &[]);
    let armed = String::from_utf8(lab.read("t/pxelinux.cfg/0A2A0118")).unwrap();
    let (before, rest) = armed.split_once("testbox.expires=").unwrap();
    let late = format!("{before}testbox.expires=2026-01-01T00:00:00Z{}", &rest[rest.find(' ').unwrap()..]);
    lab.write("t/pxelinux.cfg/0A2A0118", late.as_bytes());
    served
}

#[test]
fn a_browser_shows_the_lab_and_arms_a_machine() {
    let served = served();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/browser.sh");
    let tools = Command::new(script).output().unwrap();
    let said = String::from_utf8_lossy(&tools.stdout).into_owned();
    assert!(tools.status.success(), "{}", String::from_utf8_lossy(&tools.stderr));
    let (venv, chromium) = said.trim().split_once('\n').unwrap();
    let mut browser = Command::new(format!("{venv}/bin/python"));
    browser.arg("-B").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/page.py"));
    browser.args([chromium, &served.url, TOKEN]).arg(served.lab.dir.path());
    browser.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/target/page"));
    let output = browser.output().unwrap();
    let texts = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{}", texts.concat());
    std::io::stdout().write_all(texts[0].as_bytes()).unwrap();
}

/// Then the address has the store and nothing else, for browsers too.
#[test]
fn there_is_no_page_where_it_is_left_out() {
    let served = Served::with("--no-page");
    for path in ["/", "/machines", "/metrics", "/openapi.json", "/api/v1/machines", "/login"] {
        let url = format!("{}{path}", served.url);
        let answer = Command::new("curl").args(["-sk", "-H", "Accept: text/html", &url]).output().unwrap();
        let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
        let is_store =
            if path == "/" { answer["server"] == "testbox store" } else { answer["code"] == "malformed" };
        assert!(is_store, "{path}: {answer}");
    }
}
