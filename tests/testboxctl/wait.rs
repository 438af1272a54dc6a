//! What a scheduler of tests sees: exit codes, the machine's own reason, and programs after a job.

use super::{FILE, Lab, Run};
use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;

const ME: &str = "10.42.1.20";

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

impl Lab {
    /// A machine that is armed with job `j`.
    fn armed() -> Lab {
        let lab = Lab::new();
        lab.arm_for("j", &[]).expect(0, &["armed with restore, job j"]);
        lab
    }

    /// `arm` of the machine.
    fn arm_for(&self, job: &str, more: &[&str]) -> Run {
        self.run(&[&words(&format!("{} --force --job {job}", self.arm_words())), more].concat())
    }

    fn arm_words(&self) -> &'static str {
        "arm -c t/pxelinux.cfg --backup-dir b --boot testbox --backup 10.0.0.1:/b 10.42.1.20 restore"
    }

    fn says(&self, state: &str, job: &str) {
        self.says_of(ME, state, job);
    }

    fn says_of(&self, ip: &str, state: &str, job: &str) {
        let error =
            if state == "done" { "" } else { r#""error":"sda: 3 sectors cannot be read [disk-read 20]","# };
        let status = format!(
            r#"{{"state":"{state}","action":"restore","job":"{job}","ip":"{ip}","hostname":"tb1","step":"imaging sda",{error}
               "bytes_done":1,"bytes_total":2,"rate":3,"attempt":2,"started":"2026-01-01T00:00:00Z",
               "updated":"2026-01-01T00:00:00Z","version":"0.1.0"}}"#
        );
        self.write(&format!("b/{ip}/status.json"), status.as_bytes());
    }

    fn disarms(&self) {
        std::fs::remove_file(self.path(FILE)).unwrap();
    }

    fn wait(&self, more: &str) -> Run {
        self.run(&words(&format!("wait --backup-dir b --tftp-dir t --job j {more}")))
    }
}

#[test]
fn each_end_of_a_job_has_a_code_and_the_machines_reason() {
    let lab = Lab::armed();
    lab.wait("--timeout 0").expect(5, &["never-came, job j", "was it rebooted?"]);
    lab.says("running", "j");
    lab.wait("--timeout 0").expect(4, &["timed-out, job j", "still at work: imaging sda"]);
    lab.says("failed", "j");
    lab.wait("--timeout 0").expect(4, &["it is still at work"]);
    lab.says("holding", "j");
    let held = lab.wait("").expect(3, &["holding, job j"]);
    assert!(held.err.contains("10.42.1.20: sda: 3 sectors cannot be read"), "{}", held.err);
    lab.disarms();
    lab.says("failed", "j");
    lab.wait("").expect(1, &["failed, job j", "3 sectors cannot be read"]);
    lab.says("done", "j");
    lab.wait("").expect(0, &["done, job j"]);
    let json = lab.wait("--json").expect(0, &[]).out;
    assert!(json.contains(r#""result": "done""#) && json.contains(r#""code": 0"#), "{json}");
}

#[test]
fn a_job_that_nobody_has_is_no_job_to_wait_for() {
    let lab = Lab::armed();
    let run = lab.run(&words("wait --backup-dir b --tftp-dir t --job other"));
    run.expect(2, &["no machine is armed with job other"]);
}

/// Done, and then what the admin calls back: both within the one time limit.
#[test]
fn a_machine_is_back_when_it_answers() {
    let lab = Lab::new();
    // This computer, which answers as a machine would.
    lab.says_of("127.0.0.1", "done", "j");
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    lab.wait(&format!("--timeout 60 --until tcp:{port}")).expect(0, &["done, job j"]);
    drop(listener);
    lab.wait(&format!("--timeout 0 --until tcp:{port}")).expect(4, &["the machine is not back"]);
}

#[test]
fn arm_tells_programs_which_job_it_has_made() {
    let lab = Lab::new();
    let told = lab.arm_for("k1", &["--json"]).expect(0, &[]);
    let all: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(all[0]["ip"], ME);
    assert_eq!((all[0]["job"].as_str(), all[0]["armed"].as_bool()), (Some("k1"), Some(true)));
    // Armed again while it is at work.
    lab.says("running", "k1");
    let now = std::process::Command::new("date").arg("-u").arg("+%Y-%m-%dT%H:%M:%SZ").output().unwrap();
    let now = String::from_utf8(now.stdout).unwrap();
    let status = String::from_utf8(lab.read(&format!("b/{ME}/status.json"))).unwrap();
    let status =
        status.replace("\"updated\":\"2026-01-01T00:00:00Z\"", &format!("\"updated\":\"{}\"", now.trim()));
    lab.write(&format!("b/{ME}/status.json"), status.as_bytes());
    lab.arm_for("k2", &[])
        .expect(0, &["it is at work: restore (imaging sda)", "instead of restore, job k1, by "]);
}

/// The whole step of a test: armed, waited for, and only then the tests themselves, whose code is the step's.
#[test]
fn run_starts_the_command_only_behind_a_good_job() {
    let lab = Lab::new();
    lab.write(
        "settings.toml",
        b"boot = \"testbox\"\nbackup = \"10.0.0.1:/b\"\ntftp-dir = \"t\"\nbackup-dir = \"b\"\n",
    );
    let go = |machine: &dyn Fn(&str)| {
        let mut run = lab
            .command(&words("run --force 10.42.1.20 restore -- sh -c"))
            .arg("echo ran $TESTBOX_MACHINE; exit 7")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while !lab.path(FILE).exists() {
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(run.try_wait().unwrap().is_none(), "it ended before the machine was armed");
        }
        let text = String::from_utf8(lab.read(FILE)).unwrap();
        let job = text.split("testbox.job=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        machine(&job);
        let output = run.wait_with_output().unwrap();
        let _ = std::io::stderr().write_all(&output.stderr);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, out) = go(&|job| {
        lab.says("done", job);
        lab.disarms();
    });
    assert_eq!(code, Some(7), "{out}");
    assert!(out.contains("ran 10.42.1.20"), "{out}");
    let (code, out) = go(&|job| lab.says("holding", job));
    assert_eq!(code, Some(3), "{out}");
    assert!(!out.contains("ran"), "{out}");
}

/// Whoever cannot see what becomes of the job is told so before there is one.
#[test]
fn a_wait_that_cannot_see_the_jobs_arms_nobody() {
    let lab = Lab::new();
    let arm = "arm -c t/pxelinux.cfg --boot testbox --backup 10.0.0.1:/b --wait --timeout 0 10.42.1.20 refresh-info";
    lab.run(&words(arm)).expect(1, &["there is no backup share", "--backup-dir"]);
    assert!(!lab.path(FILE).exists());
}
