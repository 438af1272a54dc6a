//! Whoever wants to know is told what a job has come to, and why.

use super::Lab;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

/// `serve` with these options, killed in the end.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(lab: &Lab, options: &[&str]) -> Serving {
    let words =
        ["serve", "--backup-dir", "b", "--tftp-dir", "t", "--key", "key.pem", "--listen", "127.0.0.1:0"];
    let mut command = lab.command(&[&words, options].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(" serves ") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the server ended");
    }
    // Whoever does not read a log ends its writer.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::stderr()));
    Serving(child)
}

fn fails(lab: &Lab, ip: &str) {
    let text = format!(
        r#"{{"state":"failed","action":"restore","job":"j7","ip":"{ip}","hostname":"tb1","step":"","bytes_done":0,"bytes_total":0,
           "rate":0,"attempt":1,"error":"sda: the image is damaged at byte 4096","code":50,"started":"2026-01-01T00:00:00Z",
           "updated":"2026-01-01T00:00:00Z","version":"0.1.0"}}"#
    );
    lab.write(&format!("b/{ip}/status.json"), text.as_bytes());
}

/// A request with its body; it is answered with this status.
fn answered(listener: &TcpListener, status: &str) -> String {
    let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).unwrap() > 2 {
        head += &line;
        line.clear();
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap()];
    reader.read_exact(&mut body).unwrap();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    head + &String::from_utf8(body).unwrap()
}

/// The one who fails is told with its reason, once, to both; one that cannot take it is asked again.
#[test]
fn a_machine_that_fails_is_told_with_its_reason() {
    let lab = Lab::new();
    lab.write("t/pxelinux.0", b"loader");
    fails(&lab, "10.42.1.19");
    lab.write("hook", b"#!/bin/sh\ncat >>hooked\necho $TESTBOX_IP >>hooked\n");
    std::fs::set_permissions(lab.path("hook"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/secret?x=1", listener.local_addr().unwrap().port());
    let serving = serve(&lab, &["--hook", "./hook", "--webhook", &url]);
    while !lab.path("b/.store/told").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    fails(&lab, "10.42.1.20");
    let first = answered(&listener, "503 Busy");
    let again = answered(&listener, "204 No Content");
    for told in [first, again] {
        assert!(told.starts_with("POST /secret?x=1 HTTP/1.1"), "{told}");
        assert!(told.contains(r#""event":"failed","ip":"10.42.1.20""#), "{told}");
        assert!(told.contains(r#""error":"sda: the image is damaged at byte 4096","code":50"#), "{told}");
    }
    let hooked = String::from_utf8(lab.read("hooked")).unwrap();
    assert_eq!(hooked.lines().count(), 2, "once, and nothing of what was before the server: {hooked}");
    assert!(hooked.contains(r#""job":"j7""#) && hooked.ends_with("10.42.1.20\n"), "{hooked}");
    drop(serving);
}

/// The server ends between two attempts to tell: the event is not counted as told.
#[test]
fn an_event_that_the_servers_end_cuts_is_told_again() {
    let lab = Lab::new();
    lab.write("t/pxelinux.0", b"loader");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let mut serving = serve(&lab, &["--webhook", &url]);
    while !lab.path("b/.store/told").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    fails(&lab, "10.42.1.20");
    let first = answered(&listener, "503 Busy");
    let id = rustix::process::Pid::from_child(&serving.0);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(serving.0.wait().unwrap().success());
    let _serving = serve(&lab, &["--webhook", &url]);
    let again = answered(&listener, "204 No Content");
    let body = |told: &str| told.split_once('{').unwrap().1.to_owned();
    assert_eq!(body(&again), body(&first));
}
