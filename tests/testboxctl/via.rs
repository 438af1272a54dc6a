//! Commands that a server does for admins: over its socket, and by HTTPS with a token.

use super::{Lab, Run};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

pub(super) const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

pub(super) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// A server in a lab, on a port of its own.
pub(super) struct Served {
    pub lab: Lab,
    child: Child,
    pub url: String,
    log: BufReader<std::process::ChildStderr>,
}

impl Served {
    pub fn new() -> Served {
        Served::with("")
    }

    /// With more options.
    pub fn with(more: &str) -> Served {
        let lab = Lab::new();
        lab.write("t/pxelinux.0", b"loader");
        lab.write("tokens", format!("alice {TOKEN}\n").as_bytes());
        fs::set_permissions(lab.path("tokens"), fs::Permissions::from_mode(0o600)).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut serve = lab.command(&words(&format!(
            "serve --backup-dir b --tftp-dir t --key key.pem --listen 127.0.0.1:{port} --admin-socket s/admin.sock \
             --admin-tokens tokens {more}"
        )));
        let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut value = || lines.next().unwrap().unwrap().split('"').nth(1).unwrap().to_owned();
        let (key, url) = (value(), value());
        lab.write(
            "settings.toml",
            format!("store-key = \"{key}\"\nboot = \"testbox\"\nstore = \"{url}\"\n").as_bytes(),
        );
        let mut served = Served { log: BufReader::new(child.stderr.take().unwrap()), lab, child, url };
        served.log_until(" serves ");
        served
    }

    pub fn log_until(&mut self, part: &str) -> String {
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "the server ended before it said {part:?}");
        }
        line
    }

    pub fn by_socket(&self, line: &str) -> Run {
        self.lab.run(&words(&format!("--via {} {line}", self.lab.path("s/admin.sock").display())))
    }

    pub fn by_https(&self, line: &str) -> Run {
        self.lab.run(&words(&format!("--via {} --via-token tokens {line}", self.url)))
    }

    /// What the socket answers to these bytes.
    fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.lab.path("s/admin.sock")).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same words give the same files, texts and exit codes as where the folders are.
#[test]
fn a_command_is_done_alike_here_by_socket_and_by_https() {
    let mut served = Served::new();
    for via in [Served::by_socket, Served::by_https] {
        via(&served, "arm 10.42.1.20 refresh-info").expect(0, &["10.42.1.20: armed with refresh-info"]);
        assert!(served.lab.path("t/pxelinux.cfg/0A2A0114").exists());
        via(&served, "disarm 10.42.1.20").expect(0, &["disarmed, was armed with refresh-info"]);
        via(&served, "disarm 10.42.1.20").expect(1, &["it was not armed"]);
        via(&served, "arm 10.42.1.20 jump").expect(2, &["testboxctl: unknown action 'jump'"]);
        via(&served, "status --json").expect(0, &["[]"]);
    }
    let line = served.log_until("disarm");
    assert!(line.contains("(uid ") && line.contains("arm 10.42.1.20") && line.contains("exit 0"), "{line}");
    let line = served.log_until("alice");
    assert!(line.contains("alice (token, from 127.0.0.1): arm 10.42.1.20 refresh-info: exit 0"), "{line}");
}

/// Who has armed a machine stands in its job, whoever the server runs as.
#[test]
fn a_job_says_which_admin_wanted_it() {
    let served = Served::new();
    served.by_https("arm 10.42.1.20 backup").expect(0, &[]);
    let jobs = fs::read_dir(served.lab.path("b/.store/jobs")).unwrap();
    let job = fs::read_to_string(jobs.map(|entry| entry.unwrap().path()).next().unwrap()).unwrap();
    assert!(job.contains("\"by\": \"alice (token, from 127.0.0.1)\""), "{job}");
}

#[test]
fn a_server_touches_no_file_that_an_admin_names() {
    let served = Served::new();
    for line in [
        "status --backup-dir /tmp",
        "arm --sign-key /etc/shadow 10.42.1.20 backup",
        "arm -c /tmp 10.42.1.20 backup",
        "disarm --tftp-dir /tmp 10.42.1.20",
    ] {
        served.by_socket(line).expect(2, &["a server takes no files and folders from outside"]);
    }
    // Past the client's own check.
    for words in [r#""image","create","/etc/passwd","x""#, r#""serve""#, r#""behalf""#] {
        let body = format!("{{\"words\":[{words}]}}");
        let answer = served.raw(&format!(
            "POST /v1/admin HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert!(answer.contains(r#"{"exit":2}"#), "{answer}");
    }
}

#[test]
fn strangers_and_what_is_no_order_are_refused() {
    let served = Served::new();
    let stranger = TOKEN.replace("00", "11");
    served.lab.write("other", stranger.as_bytes());
    let url = &served.url;
    let refused = |line: &str, part: &str| drop(served.lab.run(&words(line)).expect(1, &[part]));
    refused(&format!("--via {url} --via-token other status"), "knows no admin with this token");
    let socket = served.lab.path("s/admin.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660, "for its group only");
    for (head, body, answer) in [
        ("POST /v1/admin", "{}", "400"),
        ("POST /v1/admin", "{\"words\":[],\"more\":1}", "400"),
        ("POST /v1/job", "{\"words\":[\"status\"]}", "400"),
        ("GET /v1/admin", "", "400"),
        ("POST /v1/admin", &"x".repeat(70 << 10), "400"),
    ] {
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let given = served.raw(&request);
        assert!(given.starts_with(&format!("HTTP/1.1 {answer}")), "{head}: {given}");
    }
    // A token that others can read is none.
    fs::set_permissions(served.lab.path("tokens"), fs::Permissions::from_mode(0o640)).unwrap();
    refused(&format!("--via {url} --via-token tokens status"), "others can read it");
}

/// A client that is gone leaves no command behind.
#[test]
fn a_command_ends_with_whoever_wanted_it() {
    let mut served = Served::new();
    let via = format!("--via {} status --watch", served.lab.path("s/admin.sock").display());
    let mut watch = served.lab.command(&words(&via)).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(watch.stdout.take().unwrap()).read_line(&mut first).unwrap();
    watch.kill().unwrap();
    watch.wait().unwrap();
    let line = served.log_until("status --watch");
    assert!(line.contains("gone, the command was ended"), "{line}");
    let children = Command::new("pgrep").args(["-P", &served.child.id().to_string()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&children.stdout), "", "it runs on");
}

/// The server switches what is in its own file of machines, by its own programs; a client without that file needs neither.
#[test]
fn power_is_switched_by_the_server() {
    let served = Served::new();
    let settings = String::from_utf8(served.lab.read("settings.toml")).unwrap();
    served.lab.write("client.toml", settings.as_bytes());
    served.lab.write("settings.toml", format!("machines = \"machines.toml\"\n{settings}").as_bytes());
    served.lab.write(
        "machines.toml",
        b"[tb1]\naddress = \"10.42.1.20\"\npower = [\"./pdu\", \"{action}\", \"{name}\"]\n",
    );
    served.lab.write("pdu", b"#!/bin/sh\necho \"$@\" >>said\n");
    fs::set_permissions(served.lab.path("pdu"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut power = Command::new(env!("CARGO_BIN_EXE_testboxctl"));
    power.current_dir(served.lab.path("s")).args(["--config", "../client.toml", "--via"]);
    let output = power.arg(served.lab.path("s/admin.sock")).args(["power", "cycle", "tb1"]).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!((output.status.code(), text.trim()), (Some(0), "10.42.1.20 (tb1): cycled"), "{text}");
    assert_eq!(served.lab.read("said"), b"cycle tb1\n");
    served.by_socket("power off nobody").expect(2, &["nobody"]);
}

/// Those who only look, however many, leave room for those who act.
#[test]
fn followers_keep_nobody_from_a_command() {
    let served = Served::new();
    served.lab.write("b/10.42.1.20/maintenance.log", b"a line\n");
    let socket = served.lab.path("s/admin.sock");
    let line = format!("--via {} log -f 10.42.1.20", socket.display());
    let followers =
        (0..18).map(|_| served.lab.command(&words(&line)).stdout(Stdio::piped()).spawn().unwrap());
    let mut followers: Vec<Child> = followers.collect();
    for follower in &mut followers {
        let mut first = [0];
        follower.stdout.take().unwrap().read_exact(&mut first).unwrap();
    }
    served.by_socket("status").expect(0, &[]);
    for follower in &mut followers {
        let _ = (follower.kill(), follower.wait());
    }
}

#[test]
fn a_second_server_leaves_the_socket_of_the_first() {
    let served = Served::new();
    let line =
        "serve --backup-dir b --tftp-dir t --key key.pem --listen 127.0.0.1:0 --admin-socket s/admin.sock";
    served.lab.run(&words(line)).expect(1, &["another server listens there"]);
    served.by_socket("status").expect(0, &[]);
}
