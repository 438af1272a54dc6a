//! The store over real connections: HTTPS with a pinned key, and clients that lie, wait, or are somebody else's.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use testbox::job::StoreOrder;
use testbox::serve::http::{Beside, Listen, serve};
use testbox::serve::jobs::{self, StoreJob};
use testbox::serve::retention::Keep;
use testbox::serve::{Store, StoreRules, tls};
use testbox::share::{DirFiles, Files, MemFiles, ShareFault, ShareOp};
use testbox::store::Keeper;
use testbox::store::lease::{Holder, Tell};
use testbox::store::protocol::StoreCall;
use testbox::store::remote::{
    HttpTransport, PatientTransport, RemoteFiles, RemoteKeeper, RemoteStore, Transport,
};
use testbox::sys::RealSystem;
use testbox::types::{KeyPin, StoreUrl, Token};

const IP: &str = "10.0.0.5";
const SESSION: &str = "0123456789abcdef0123456789abcdef";

struct Quiet;

impl Tell for Quiet {
    fn info(&self, _: &str) {}
    fn warn(&self, _: &str) {}
}

/// A server in a folder of its own, with one job.
struct Server {
    dir: tempfile::TempDir,
    address: SocketAddr,
    token: Token,
    key: Option<KeyPin>,
}

impl Server {
    fn start(is_tls: bool) -> Server {
        Server::start_for(is_tls, "backup")
    }

    fn start_for(is_tls: bool, action: &str) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let backup = dir.path().join("backup");
        std::fs::create_dir(&backup).unwrap();
        Server::serving(dir, Arc::new(DirFiles::open(&backup).unwrap()), is_tls, action)
    }

    /// The same over these files; the boot server's are in this folder.
    fn serving(dir: tempfile::TempDir, files: Arc<dyn Files>, is_tls: bool, action: &str) -> Server {
        std::fs::create_dir_all(dir.path().join("tftp/pxelinux.cfg")).unwrap();
        let armed = format!("DEFAULT t\nLABEL t\nKERNEL k\nAPPEND testbox.action={action} testbox.job=one\n");
        std::fs::write(dir.path().join("tftp/pxelinux.cfg/0A000005"), armed).unwrap();
        let token: Token = jobs::hashed("a token").parse().unwrap();
        let job = StoreJob {
            ip: IP.into(),
            job: "one".into(),
            action: action.into(),
            armed_file: "pxelinux.cfg/0A000005".into(),
            by: "tests".into(),
            armed: jiff::Timestamp::now(),
            expires: None,
        };
        jobs::write(&*files, token.as_str(), &job).unwrap();
        let rules = StoreRules { keep: Keep::default(), quota: 1 << 40, reserve: 0, at_work: 8 };
        let boot = DirFiles::open(&dir.path().join("tftp")).unwrap();
        let store = Store::new(files, Arc::new(boot), Arc::new(RealSystem::new()), rules, Arc::new(Quiet));
        let key_file = dir.path().join("key.pem");
        let key = is_tls.then(|| tls::pin(&key_file).unwrap().to_string().parse().unwrap());
        let (ready, at) = mpsc::channel();
        std::thread::spawn(move || {
            let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
            let listen = if is_tls { Listen::Tls(any, &key_file) } else { Listen::Plain(any) };
            serve(Arc::new(store), listen, Beside::default(), |address| ready.send(address).unwrap())
                .unwrap();
        });
        let address = at.recv_timeout(Duration::from_secs(60)).unwrap();
        Server { dir, address, token, key }
    }

    fn transport(&self, key: Option<&KeyPin>) -> HttpTransport {
        let scheme = if key.is_some() { "https" } else { "http" };
        let url: StoreUrl = format!("{scheme}://127.0.0.1:{}", self.address.port()).parse().unwrap();
        let order = StoreOrder { url: &url, token: &self.token, key };
        HttpTransport::new(&order, Ipv4Addr::LOCALHOST, SESSION)
    }

    /// A connection from 127.0.0.`n`.
    fn connect_from(&self, n: u8) -> TcpStream {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind((Ipv4Addr::new(127, 0, 0, n), 0).into()).unwrap();
            socket.connect(self.address).await.unwrap().into_std().unwrap()
        });
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn file(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.dir.path().join("backup").join(path)).ok()
    }

    /// What is answered to these bytes: its first line.
    fn raw(&self, request: &str) -> String {
        first_line(&mut self.connect_from(1), request)
    }

    fn headers(&self) -> String {
        format!("Host: x\r\nAuthorization: Bearer {}\r\nTestbox-Session: {SESSION}\r\n", self.token)
    }
}

fn first_line(stream: &mut TcpStream, request: &str) -> String {
    // It may be refused, and closed, before it is sent.
    let _ = stream.write_all(request.as_bytes());
    let mut bytes = vec![0; 4096];
    let n = stream.read(&mut bytes).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..n]).lines().next().unwrap_or_default().to_owned()
}

fn open(keeper: &RemoteKeeper) {
    let me = Holder {
        session: SESSION.into(),
        uuid: None,
        macs: vec!["52:54:00:00:00:05".into()],
        hostname: "tb5".into(),
        action: "backup".into(),
        job: None,
    };
    while !keeper.open(&me).unwrap().is_open {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_part_goes_over_https_and_comes_back() {
    let server = Server::start(true);
    let store = RemoteStore::new(Arc::new(server.transport(server.key.as_ref())));
    let (files, keeper) =
        (RemoteFiles::new(store.clone()), RemoteKeeper::new(store, Arc::new(RealSystem::new())));
    open(&keeper);
    let part = "10.0.0.5/sda.raw.gz.part";
    let bytes: Vec<u8> = (0..9_000_000u32).flat_map(|n| (n as u16).to_le_bytes()).collect();
    let mut sink = files.create(part).unwrap();
    sink.write_all(&bytes).unwrap();
    sink.append_zeros(1 << 20).unwrap();
    sink.sync().unwrap();
    let there = server.file(part).unwrap();
    assert!(there[..bytes.len()] == bytes[..] && there.len() == bytes.len() + (1 << 20));
    files.write_atomic("10.0.0.5/status.json", b"{}").unwrap();
    assert_eq!(files.read_limited("10.0.0.5/status.json", 100).unwrap(), b"{}");
    assert!(files.list(IP).unwrap().contains(&"status.json".to_owned()));
    assert_eq!(files.open("10.0.0.5/none").err().unwrap().kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(
        files.read_limited("10.0.0.5/backup.json", 100).unwrap_err().kind(),
        std::io::ErrorKind::NotFound
    );
    assert!(keeper.disarm().is_ok());
    keeper.close().unwrap();
    assert!(!server.dir.path().join("tftp/pxelinux.cfg/0A000005").exists());
}

/// Longer than an answer, and not a multiple of anything; several at once, as a restore reads.
#[test]
fn an_image_comes_whole_over_https() {
    let server = Server::start_for(true, "restore");
    let bytes: Vec<u8> = (0..10_000_001u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
    std::fs::create_dir(server.dir.path().join("backup/10.0.0.5")).unwrap();
    std::fs::write(server.dir.path().join("backup/10.0.0.5/sda.raw.gz"), &bytes).unwrap();
    let store = RemoteStore::new(Arc::new(server.transport(server.key.as_ref())));
    let (files, keeper) =
        (RemoteFiles::new(store.clone()), RemoteKeeper::new(store, Arc::new(RealSystem::new())));
    open(&keeper);
    let file = files.open("10.0.0.5/sda.raw.gz").unwrap();
    assert_eq!(file.size().unwrap(), bytes.len() as u64);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (file, bytes) = (&file, &bytes);
            scope.spawn(move || {
                let mut there = vec![0; bytes.len() - n * 1_000_003];
                file.read_exact_at(&mut there, n as u64 * 1_000_003).unwrap();
                assert!(there == bytes[n * 1_000_003..]);
            });
        }
    });
    keeper.close().unwrap();
}

/// The server's disk fails once while it sends: the connection ends there, and the same range is asked for again.
#[test]
fn an_answer_that_breaks_off_is_asked_for_again() {
    let files = MemFiles::new();
    let bytes: Vec<u8> = (0..1_500_000u32).flat_map(u32::to_le_bytes).collect();
    files.put("10.0.0.5/sda.raw.gz", bytes.clone());
    let server = Server::serving(tempfile::tempdir().unwrap(), Arc::new(files.clone()), true, "restore");
    let patient = PatientTransport::new(server.transport(server.key.as_ref()), Arc::new(RealSystem::new()));
    let store = RemoteStore::new(Arc::new(patient));
    let (remote, keeper) =
        (RemoteFiles::new(store.clone()), RemoteKeeper::new(store, Arc::new(RealSystem::new())));
    open(&keeper);
    let file = remote.open("10.0.0.5/sda.raw.gz").unwrap();
    // Two or three reads are of the job; the image is read in two dozen pieces.
    let broken = files.count(ShareOp::Read) + 12;
    files.fail_nth_of(ShareOp::Read, broken, ShareFault::Errno(libc::EIO));
    let mut there = vec![0; bytes.len()];
    file.read_exact_at(&mut there, 0).unwrap();
    assert!(there == bytes);
    assert!(files.count(ShareOp::Read) > broken, "nothing has failed");
    keeper.close().unwrap();
}

#[test]
fn a_range_is_answered_as_one_however_long_it_is() {
    let server = Server::start_for(false, "restore");
    std::fs::create_dir(server.dir.path().join("backup/10.0.0.5")).unwrap();
    std::fs::write(server.dir.path().join("backup/10.0.0.5/sda.raw.gz"), vec![7; 2 << 20]).unwrap();
    let store = RemoteStore::new(Arc::new(server.transport(None)));
    open(&RemoteKeeper::new(store, Arc::new(RealSystem::new())));
    let status = |range: &str| {
        let headers = server.headers();
        server.raw(&format!("GET /v1/files/10.0.0.5/sda.raw.gz HTTP/1.1\r\n{headers}{range}\r\n"))
    };
    assert!(status("").contains(" 200 "));
    for last in [99, (2 << 20) - 2, (2 << 20) - 1] {
        assert!(status(&format!("Range: bytes=0-{last}\r\n")).contains(" 206 "), "{last}");
    }
}

#[test]
fn another_key_is_no_server_for_this_machine() {
    let server = Server::start(true);
    let other: KeyPin = "ab".repeat(32).parse().unwrap();
    let error = server.transport(Some(&other)).send(&StoreCall::Job, b"").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("not the server whose key"), "{error}");
    // And what speaks no TLS at all.
    let plain = Server::start(false);
    let error = plain.transport(Some(&other)).send(&StoreCall::Job, b"").unwrap_err();
    assert!(error.to_string().contains("no TLS"), "{error}");
    assert!(plain.transport(None).send(&StoreCall::Job, b"").is_ok());
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let server = Server::start(false);
    let headers = server.headers();
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "200"),
        (format!("GET /v1/job HTTP/1.1\r\n{headers}\r\n"), "200"),
        ("GET /v1/job HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "401"),
        (format!("GET /v1/job HTTP/1.1\r\n{headers}Authorization: Bearer x\r\n\r\n"), "400"),
        (format!("GET /v1/job HTTP/1.1\r\n{headers}Range: bytes=0-1\r\n\r\n"), "400"),
        (format!("GET /v2/job HTTP/1.1\r\n{headers}\r\n"), "400"),
        (format!("GET /v1/files/10.0.0.5/%62ackup.json HTTP/1.1\r\n{headers}\r\n"), "400"),
        (format!("GET /v1/files/../etc/passwd HTTP/1.1\r\n{headers}\r\n"), "400"),
        (format!("PUT /v1/session HTTP/1.1\r\n{headers}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "400"),
        (
            format!(
                "PUT /v1/session HTTP/1.1\r\n{headers}Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"
            ),
            "400",
        ),
        (
            format!("PUT /v1/session HTTP/1.1\r\n{headers}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
            "400",
        ),
        (format!("PUT /v1/session HTTP/1.1\r\n{headers}Content-Length: 99999999\r\n\r\n"), "413"),
        (format!("BREW /v1/job HTTP/1.1\r\n{headers}\r\n"), "400"),
        (format!("POST /v1/room HTTP/1.1\r\n{headers}Content-Length: 0\r\n\r\n"), "400"),
    ] {
        let line = server.raw(&request);
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{line}");
    }
}

/// Connections that send nothing, half a head, or half a body hold up nobody else, from however many addresses.
#[test]
fn slow_and_half_open_clients_hold_up_nobody() {
    let server = Server::start(false);
    let headers = server.headers();
    let part = "/v1/files/10.0.0.5/sda.raw.gz.part?at=0";
    let held: Vec<TcpStream> = (0..240)
        .map(|n| {
            // As many as one address may have at once, and fewer than the machine's own has.
            let mut stream = server.connect_from(if n < 30 { 1 } else { 2 + (n % 6) as u8 });
            let text = match n % 4 {
                0 => String::new(),
                1 => "GET /v1/jo".into(),
                2 if n < 30 => String::new(),
                2 => format!("PUT /v1/session HTTP/1.1\r\n{headers}Content-Length: 5\r\n\r\nab"),
                _ if n < 30 => "P".into(),
                _ => format!("PUT {part} HTTP/1.1\r\n{headers}Content-Length: 8388608\r\n\r\nab"),
            };
            stream.write_all(text.as_bytes()).unwrap();
            stream
        })
        .collect();
    let line = server.raw(&format!("GET /v1/job HTTP/1.1\r\n{headers}\r\n"));
    assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
    // Nor who begins a session, and works.
    let store = RemoteStore::new(Arc::new(server.transport(None)));
    open(&RemoteKeeper::new(store.clone(), Arc::new(RealSystem::new())));
    let mut part = RemoteFiles::new(store).create("10.0.0.5/sda.raw.gz.part").unwrap();
    part.write_all(&vec![7; 9 << 20]).unwrap();
    part.sync().unwrap();
    assert_eq!(server.file("10.0.0.5/sda.raw.gz.part").unwrap().len(), 9 << 20);
    drop(held);
}

#[test]
fn without_a_token_no_body_is_received() {
    let server = Server::start(false);
    let headers = server.headers().replace(&server.token.to_string(), &jobs::hashed("another"));
    let part = "/v1/files/10.0.0.5/sda.raw.gz.part?at=0";
    let line = server.raw(&format!("PUT {part} HTTP/1.1\r\n{headers}Content-Length: 8388608\r\n\r\n"));
    assert!(line.starts_with("HTTP/1.1 401 "), "{line}");
}

/// One connection too many is refused at once; who has a session still gets in.
#[test]
fn too_many_connections_are_refused_at_once() {
    let server = Server::start(false);
    let store = RemoteStore::new(Arc::new(server.transport(None)));
    open(&RemoteKeeper::new(store, Arc::new(RealSystem::new())));
    let request = format!("GET /v1/job HTTP/1.1\r\n{}\r\n", server.headers());
    // What is opened and closed counts a moment later.
    let ends_as = |n: u8, is_served: bool| {
        let began = std::time::Instant::now();
        while first_line(&mut server.connect_from(n), &request).starts_with("HTTP/1.1 200 ") != is_served {
            assert!(began.elapsed() < Duration::from_secs(60), "{n} is served: {}", !is_served);
        }
    };
    // One address has 64, and those without a session have 256.
    let of_one: Vec<TcpStream> = (0..80).map(|_| server.connect_from(2)).collect();
    ends_as(2, false);
    ends_as(3, true);
    let others: Vec<TcpStream> = (0..4 * 80).map(|n| server.connect_from(3 + (n / 80) as u8)).collect();
    ends_as(9, false);
    ends_as(1, true);
    drop((of_one, others));
    ends_as(9, true);
}

/// Who hangs up while the server works frees no place: what one address has at work stays bounded.
#[test]
fn who_hangs_up_gets_no_more_work_done() {
    let server = Server::start(false);
    let store = RemoteStore::new(Arc::new(server.transport(None)));
    open(&RemoteKeeper::new(store, Arc::new(RealSystem::new())));
    let image = server.dir.path().join("backup/10.0.0.5/sda.raw.gz");
    std::fs::write(&image, vec![7; 64 << 20]).unwrap();
    std::fs::write(server.dir.path().join("backup/10.0.0.5/sda.raw.gz.part"), b"").unwrap();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let headers = server.headers();
    let copy = format!(
        "PUT /v1/files/10.0.0.5/sda.raw.gz.part?at=0&from=10.0.0.5/sda.raw.gz&start=0&end={} HTTP/1.1\r\n{headers}\r\n",
        64 << 20
    );
    for _ in 0..60 {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(copy.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    // The runtime's threads for work that blocks: no more than one address may have at once, and a few that others left.
    assert!(threads() < before + 45, "{} threads where {before} were", threads());
}

fn curl(server: &Server, args: &[&str], path: &str) -> Vec<u8> {
    let url = format!("http://127.0.0.1:{}{path}", server.address.port());
    let token = format!("Authorization: Bearer {}", server.token);
    let session = format!("Testbox-Session: {SESSION}");
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "-H", &token, "-H", &session])
        .args(args)
        .arg(url)
        .output()
        .expect("curl: scripts/packages test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn curl_is_enough_to_ask_a_store() {
    let server = Server::start(false);
    assert!(String::from_utf8(curl(&server, &[], "/")).unwrap().contains("testbox store"));
    let store = RemoteStore::new(Arc::new(server.transport(None)));
    open(&RemoteKeeper::new(store, Arc::new(RealSystem::new())));
    std::fs::write(server.dir.path().join("backup/10.0.0.5/disk-devices.lst"), "# only\nsda\n").unwrap();
    let names = String::from_utf8(curl(&server, &[], "/v1/files/10.0.0.5/")).unwrap();
    assert!(names.contains("\"disk-devices.lst\""), "{names}");
    assert_eq!(curl(&server, &[], "/v1/files/10.0.0.5/disk-devices.lst"), b"# only\nsda\n");
    assert_eq!(curl(&server, &["-r", "2-5"], "/v1/files/10.0.0.5/disk-devices.lst"), b"only");
    assert!(Path::new(&server.dir.path().join("backup/10.0.0.5/lease")).exists());
}
