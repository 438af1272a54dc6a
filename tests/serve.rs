//! The store, asked as an agent asks it, and as a hostile one does.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "serve/clock.rs"]
mod clock;
#[path = "serve/hostile.rs"]
mod hostile;
#[path = "serve/late.rs"]
mod late;
#[path = "serve/line.rs"]
mod line;
#[path = "serve/reads.rs"]
mod reads;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testbox::block::mem::MemDisk;
use testbox::image::{BackupOptions, DiskAbout, Image, backup};
use testbox::inventory::Identity;
use testbox::progress::Progress;
use testbox::serve::jobs::{self, StoreJob};
use testbox::serve::old_sets::OldSets;
use testbox::serve::retention::Keep;
use testbox::serve::verified::{VerifiedSet, VerifiedSets};
use testbox::serve::{Caller, Reply, Store, StoreRules};
use testbox::share::{Files, MemFiles};
use testbox::store::Folder;
use testbox::store::lease::{Holder, Tell};
use testbox::store::protocol::{Code, Opened, ProofState, PublishedSet, Refusal, StoreCall};
use testbox::store::record::{ImageRecord, Machine, Record, SetState};
use testbox::sys::{Call, Recording};
use testbox::types::SetHash;

const IP: &str = "10.0.0.5";
const PART: &str = "10.0.0.5/sda.raw.gz.part";

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Tell for Lines {
    fn info(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn warn(&self, text: &str) {
        self.0.lock().unwrap().push(format!("warning: {text}"));
    }
}

struct Lab {
    files: MemFiles,
    boot: MemFiles,
    clock: Arc<Recording>,
    lines: Arc<Lines>,
    rules: StoreRules,
    store: Store,
}

impl Lab {
    fn new() -> Lab {
        Lab::with(StoreRules {
            keep: Keep { sets: 1, age: 0, ..Keep::default() },
            quota: 1 << 30,
            reserve: 0,
            at_work: 8,
        })
    }

    fn with(rules: StoreRules) -> Lab {
        let (files, boot) = (MemFiles::new(), MemFiles::new());
        boot.make_dir("pxelinux.cfg").unwrap();
        let (clock, lines) = (Arc::new(Recording::new()), Arc::new(Lines::default()));
        let store = store(&files, &boot, &clock, &lines, rules);
        Lab { files, boot, clock, lines, rules, store }
    }

    /// The server is killed, and started again.
    fn restart(&mut self) {
        self.store = store(&self.files, &self.boot, &self.clock, &self.lines, self.rules);
    }

    fn arm(&self, token: &str, job: &str, action: &str) {
        let text =
            format!("DEFAULT t\nLABEL t\nKERNEL k\nAPPEND testbox.action={action} testbox.job={job}\n");
        self.boot.put("pxelinux.cfg/0A000005", text);
        let job = StoreJob {
            ip: IP.into(),
            job: job.into(),
            action: action.into(),
            armed_file: "pxelinux.cfg/0A000005".into(),
            by: "tests".into(),
            armed: jiff::Timestamp::UNIX_EPOCH,
            expires: None,
        };
        jobs::write(&self.files, token, &job).unwrap();
    }

    fn agent(&self, token: &str, session: u8) -> Agent<'_> {
        Agent {
            lab: self,
            caller: Caller {
                token: token.into(),
                session: format!("{session:032x}"),
                peer: IpAddr::from([10, 0, 0, 5]),
            },
        }
    }

    /// The agent of the machine 10.0.0.`n`, which is armed with this, and has asked nothing yet.
    fn machine(&self, n: u8, action: &str) -> Agent<'_> {
        let (ip, job) = (format!("10.0.0.{n}"), format!("job-{n}"));
        let armed_file = format!("pxelinux.cfg/0A0000{n:02X}");
        let text =
            format!("DEFAULT t\nLABEL t\nKERNEL k\nAPPEND testbox.action={action} testbox.job={job}\n");
        self.boot.put(&armed_file, text);
        let token = jobs::hashed(&job);
        let (action, by, armed) = (action.into(), "tests".into(), jiff::Timestamp::UNIX_EPOCH);
        jobs::write(&self.files, &token, &StoreJob { ip, job, action, armed_file, by, armed, expires: None })
            .unwrap();
        let mut agent = self.agent(&token, n);
        agent.caller.peer = IpAddr::from([10, 0, 0, n]);
        agent
    }

    /// An agent that is armed with this, and has asked nothing yet.
    fn armed(&self, job: &str, action: &str) -> Agent<'_> {
        let token = jobs::hashed(job);
        self.arm(&token, job, action);
        self.agent(&token, 2)
    }

    /// The same in its session.
    fn at_work(&self, job: &str, action: &str) -> Agent<'_> {
        let agent = self.armed(job, action);
        agent.open().unwrap();
        agent
    }

    fn told(&self, text: &str) -> bool {
        self.lines.0.lock().unwrap().iter().any(|line| line.contains(text))
    }

    /// A first set, and the bytes of its image and record.
    fn first_set(&self) -> (Vec<u8>, Vec<u8>) {
        let token = "a".repeat(64);
        self.arm(&token, "one", "backup");
        let agent = self.agent(&token, 1);
        let image = image(1);
        agent.open().unwrap();
        agent.back_up(&image).unwrap();
        agent.ask(&StoreCall::Disarm, b"").unwrap();
        agent.ask(&StoreCall::Close, b"").unwrap();
        (image, self.files.get("10.0.0.5/backup.json").unwrap())
    }
}

fn store(
    files: &MemFiles,
    boot: &MemFiles,
    clock: &Arc<Recording>,
    lines: &Arc<Lines>,
    rules: StoreRules,
) -> Store {
    Store::new(Arc::new(files.clone()), Arc::new(boot.clone()), clock.clone(), rules, lines.clone())
}

fn disk(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; 256 << 10];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes[..200 << 10]);
    bytes
}

fn image(seed: u64) -> Vec<u8> {
    let disk = MemDisk::new("sda", disk(seed), 512);
    let mut image = Vec::new();
    let about = DiskAbout::new("sda", Identity::default(), &disk);
    backup(&disk, &mut image, &about, &BackupOptions::default(), &Progress::default()).unwrap();
    image
}

fn record(image: &[u8], job: &str) -> Record {
    let summary = Image::open(Arc::new(image.to_vec())).unwrap().summary();
    let machine = Machine { ip: "10.0.0.99".into(), hexip: "x".into(), hostname: "tb5".into() };
    let mut record = Record::new(1, Some(job.into()), machine, jiff::Timestamp::UNIX_EPOCH);
    record.images.push(ImageRecord {
        name: "sda".into(),
        identity: Identity::default(),
        location: "pci-1".into(),
        disk_size: summary.disk,
        logical_block_size: 512,
        physical_block_size: 512,
        image_size: summary.image,
        root_hash: summary.root_hash,
        state: SetState::Complete,
        bad_ranges: Vec::new(),
        unreadable_bytes: 0,
        hidden_bytes: 0,
        partitions: Vec::new(),
        content: Default::default(),
        twin: false,
        carried: false,
    });
    record
}

struct Agent<'a> {
    lab: &'a Lab,
    caller: Caller,
}

impl Agent<'_> {
    fn ask(&self, call: &StoreCall, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        match self.lab.store.answer(&self.caller, call, &Arc::new(body.to_vec())) {
            Reply::Refused(refusal) => Err(refusal),
            Reply::Json(bytes) | Reply::Bytes(bytes, _) => Ok(bytes),
            Reply::Length(length) => Ok(length.to_string().into_bytes()),
            Reply::File(file, range, _) => {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                file.read_exact_at(&mut bytes, range.start).unwrap();
                Ok(bytes)
            }
            Reply::Done => Ok(Vec::new()),
        }
    }

    /// Asks twice, as where the first answer was lost.
    fn ask_twice(&self, call: &StoreCall, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.ask(call, body)?;
        self.ask(call, body)
    }

    fn until<T>(&self, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(done) = done() {
                return done;
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{what} does not end: {:?}",
                self.lab.lines.0.lock().unwrap()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Asks once for its session.
    fn ask_for_session(&self) -> Result<Opened, Refusal> {
        let me = Holder {
            session: self.caller.session.clone(),
            uuid: None,
            macs: vec!["52:54:00:00:00:05".into()],
            hostname: "tb5".into(),
            action: "backup".into(),
            job: None,
        };
        let bytes = self.ask(&StoreCall::Open, &serde_json::to_vec(&me).unwrap())?;
        Ok(serde_json::from_slice(&bytes).unwrap())
    }

    fn open(&self) -> Result<Opened, Refusal> {
        self.until("opening", || match self.ask_for_session() {
            Ok(opened) => Some(opened).filter(|opened| opened.is_open).map(Ok),
            Err(refusal) => Some(Err(refusal)),
        })
    }

    fn write(&self, image: &[u8]) -> Result<(), Refusal> {
        let part = || PART.parse().unwrap();
        self.ask_twice(&StoreCall::Create(part()), b"")?;
        for (n, piece) in image.chunks(60_000).enumerate() {
            self.ask_twice(&StoreCall::Write(part(), n as u64 * 60_000), piece)?;
        }
        self.ask_twice(&StoreCall::Sync(part()), b"").map(drop)
    }

    fn prove(&self, path: &str) -> Result<ProofState, Refusal> {
        self.until("the proof", || match self.ask(&StoreCall::Prove(path.parse().unwrap()), b"") {
            Ok(bytes) => match serde_json::from_slice(&bytes).unwrap() {
                ProofState::Running { .. } => None,
                state => Some(Ok(state)),
            },
            Err(refusal) => Some(Err(refusal)),
        })
    }

    fn publish(&self, image: &[u8]) -> Result<PublishedSet, Refusal> {
        let body = record(image, "whatever").to_bytes();
        self.until("publishing", || match self.ask(&StoreCall::Publish, &body) {
            Err(refusal) if refusal.code == Code::Busy => None,
            answer => Some(answer.map(|bytes| serde_json::from_slice(&bytes).unwrap())),
        })
    }

    fn back_up(&self, image: &[u8]) -> Result<PublishedSet, Refusal> {
        self.write(image)?;
        self.prove(PART)?;
        let set = self.publish(image)?;
        assert_eq!(self.publish(image)?, PublishedSet { pruned: Vec::new(), ..set.clone() }, "asked again");
        Ok(set)
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> Code {
    answer.unwrap_err().code
}

#[test]
fn a_set_is_what_the_store_has_proven_whatever_is_asked_twice() {
    let lab = Lab::new();
    let (image, record) = lab.first_set();
    assert_eq!(lab.files.get("10.0.0.5/sda.raw.gz").unwrap(), image);
    let record = Record::parse(&record).unwrap();
    assert_eq!(record.machine.ip, IP, "the store says whose it is, and not the agent");
    assert_eq!(record.job.as_deref(), Some("one"));
    assert_eq!(lab.boot.get("pxelinux.cfg/0A000005"), None, "disarmed");
    assert_eq!(lab.files.get(PART), None);
}

#[test]
fn a_part_that_is_damaged_on_the_servers_disk_becomes_no_set() {
    let lab = Lab::new();
    let agent = lab.at_work("one", "backup");
    let image = image(1);
    agent.write(&image).unwrap();
    let mut bad = image.clone();
    bad[70_000] ^= 1;
    lab.files.put(PART, bad);
    assert!(matches!(agent.prove(PART), Ok(ProofState::Damaged(_))));
    assert!(agent.until(
        "publishing",
        || match agent.ask(&StoreCall::Publish, &record(&image, "x").to_bytes()) {
            // It is proven once more, and again.
            Err(refusal) if refusal.code == Code::Busy => Some(true),
            _ => Some(false),
        }
    ));
    assert_eq!(lab.files.get("10.0.0.5/backup.json"), None);
}

#[test]
fn a_record_says_no_more_than_what_was_proven() {
    let lab = Lab::new();
    let (first, first_record) = lab.first_set();
    let agent = lab.at_work("two", "backup-again");
    let (image, other) = (image(2), image(3));
    agent.write(&image).unwrap();
    agent.prove(PART).unwrap();
    let publish = |record: &Record| code(agent.ask(&StoreCall::Publish, &record.to_bytes()));
    assert_eq!(publish(&record(&other, "two")), Code::Forbidden, "another image than the proven one");
    let mut carried = record(&image, "two");
    carried.images[0].carried = true;
    assert_eq!(publish(&carried), Code::Forbidden, "carried over, and not of the set before");
    let mut renamed = record(&image, "two");
    renamed.images[0].name = "sdb".into();
    assert_eq!(publish(&renamed), Code::NotFound, "no part of that name");
    let mut fewer = record(&image, "two");
    fewer.images.clear();
    assert_eq!(publish(&fewer), Code::Forbidden, "no image at all");
    assert_eq!(lab.files.get("10.0.0.5/backup.json").unwrap(), first_record);
    assert_eq!(lab.files.get("10.0.0.5/sda.raw.gz").unwrap(), first);
    // What it says beside is the store's own.
    let mut told = record(&image, "two");
    (told.images[0].disk_size, told.images[0].state) = (512, SetState::Degraded);
    agent.ask(&StoreCall::Publish, &told.to_bytes()).unwrap();
    let published = Record::parse(&lab.files.get("10.0.0.5/backup.json").unwrap()).unwrap();
    assert_eq!((published.images[0].disk_size, published.images[0].state), (256 << 10, SetState::Complete));
    assert_eq!(lab.files.get("10.0.0.5/history/1/sda.raw.gz").unwrap(), first);
}

#[test]
fn what_is_written_behind_a_proof_is_not_proven() {
    let lab = Lab::new();
    let agent = lab.at_work("one", "backup");
    let image = image(1);
    agent.write(&image).unwrap();
    assert!(matches!(agent.prove(PART), Ok(ProofState::Proven { .. })));
    agent
        .ask(
            &StoreCall::Write(PART.parse().unwrap(), image.len() as u64 - 4096),
            &image[image.len() - 4096..],
        )
        .unwrap();
    let answer = agent.ask(&StoreCall::Publish, &record(&image, "x").to_bytes());
    assert_eq!(code(answer), Code::Busy, "it is proven anew first");
    agent.publish(&image).unwrap();
}

#[test]
fn a_second_claimant_is_refused_and_told() {
    let lab = Lab::new();
    let token = "c".repeat(64);
    lab.arm(&token, "one", "backup");
    let agent = lab.agent(&token, 1);
    agent.open().unwrap();
    // Whoever has read the file that TFTP serves.
    let mut thief = lab.agent(&token, 2);
    thief.caller.peer = IpAddr::from([10, 0, 0, 66]);
    assert_eq!(code(thief.open()), Code::Bound);
    assert!(lab.told("SECOND CLAIM: 10.0.0.66"));
    assert_eq!(code(thief.ask(&StoreCall::Create(PART.parse().unwrap()), b"")), Code::Bound);
    // Not from the machine's own address either, as long as its agent lives; afterwards that is its next boot.
    let next = lab.agent(&token, 3);
    assert_eq!(code(next.open()), Code::Bound);
    lab.clock.advance(Duration::from_secs(31));
    next.open().unwrap();
    assert!(lab.told("begins again"));
    assert_eq!(code(agent.ask(&StoreCall::Room, b"")), Code::Bound);
    lab.clock.advance(Duration::from_secs(31));
    assert_eq!(code(thief.open()), Code::Bound, "another address never");
}

#[test]
fn a_server_that_restarts_takes_its_agents_up_again() {
    let mut lab = Lab::new();
    let token = "d".repeat(64);
    lab.arm(&token, "one", "backup");
    let image = image(1);
    lab.agent(&token, 1).open().unwrap();
    lab.agent(&token, 1).write(&image).unwrap();
    lab.restart();
    let agent = lab.agent(&token, 1);
    let set =
        agent.until("publishing", || match agent.ask(&StoreCall::Publish, &record(&image, "x").to_bytes()) {
            Err(refusal) if refusal.code == Code::Busy => None,
            answer => Some(answer),
        });
    set.unwrap();
    assert_eq!(lab.files.get("10.0.0.5/sda.raw.gz").unwrap(), image);
}

/// Of those that come at the same moment one is first, wherever they come from.
#[test]
fn of_claimants_at_once_one_binds_the_token() {
    for _ in 0..20 {
        let lab = Lab::new();
        let token = "c".repeat(64);
        lab.arm(&token, "one", "backup");
        lab.clock.advance(Duration::from_secs(3600));
        let bound = std::thread::scope(|scope| {
            let (lab, token) = (&lab, &token);
            let claims: Vec<_> =
                (1..=6).map(|n| scope.spawn(move || lab.agent(token, n).open().is_ok())).collect();
            claims.into_iter().map(|claim| claim.join().unwrap()).filter(|is_bound| *is_bound).count()
        });
        assert_eq!(bound, 1);
    }
}

/// An agent on a mounted share and one on the store in one folder: whose lease lives has it.
#[test]
fn one_lease_counts_for_nfs_and_for_the_store() {
    let lab = Lab::new();
    let token = "c".repeat(64);
    lab.arm(&token, "one", "backup");
    let other = Holder {
        session: "f".repeat(16),
        uuid: None,
        macs: vec!["52:54:00:00:00:99".into()],
        hostname: "by-nfs".into(),
        action: "backup".into(),
        job: None,
    };
    lab.files.put("10.0.0.5/lease/7", other.to_bytes());
    // It beats as often as anybody waits.
    let files = lab.files.clone();
    lab.clock.fail_when(move |call| {
        if matches!(call, Call::Sleep { .. }) {
            files.append("10.0.0.5/lease/7", b".").unwrap();
        }
        None
    });
    let refused = lab.agent(&token, 1).open();
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind.as_deref(), Some("lease"), "{refused:?}");
    assert!(refused.text.contains("by-nfs"), "{refused:?}");
}

/// A proof counts for a day, and not against who has found damage.
#[test]
fn a_fresh_proof_counts_no_more_where_damage_was_found() {
    let lab = Lab::new();
    let (image, _) = lab.first_set();
    let agent = lab.at_work("two", "restore");
    let path = "10.0.0.5/sda.raw.gz";
    assert!(matches!(agent.prove(path), Ok(ProofState::Proven { .. })));
    let mut bad = image.clone();
    bad[100_000] ^= 1;
    lab.files.put(path, bad);
    agent.ask(&StoreCall::Suspect(path.parse().unwrap()), b"").unwrap();
    assert!(matches!(agent.prove(path), Ok(ProofState::Damaged(_))));
    assert!(lab.files.get("10.0.0.5/sda.raw.gz.damaged").is_some(), "it is noted");
    lab.files.put(path, image);
    assert!(matches!(agent.prove(path), Ok(ProofState::Proven { .. })));
    assert!(lab.files.get("10.0.0.5/sda.raw.gz.damaged").is_none(), "the note is taken back");
}

/// A part that is bad after a restart of the server ends the agent's waiting.
#[test]
fn a_part_that_is_bad_after_a_restart_fails_the_step() {
    let mut lab = Lab::new();
    let token = "d".repeat(64);
    lab.arm(&token, "one", "backup");
    let image = image(1);
    lab.agent(&token, 1).open().unwrap();
    lab.agent(&token, 1).write(&image).unwrap();
    lab.restart();
    let mut bad = image.clone();
    bad[100_000] ^= 1;
    lab.files.put(PART, bad);
    let refused = lab.agent(&token, 1).publish(&image).unwrap_err();
    assert_eq!((refused.code, refused.kind.as_deref()), (Code::Failed, Some("publish")), "{refused:?}");
    assert_eq!(lab.files.get("10.0.0.5/backup.json"), None);
}

#[test]
fn a_disarmed_job_opens_and_publishes_nothing() {
    let lab = Lab::new();
    let agent = lab.at_work("one", "backup");
    let image = image(1);
    agent.write(&image).unwrap();
    agent.prove(PART).unwrap();
    lab.boot.remove("pxelinux.cfg/0A000005").unwrap();
    assert_eq!(code(agent.publish(&image)), Code::UnknownToken);
    assert_eq!(code(lab.agent(&"f".repeat(64), 1).open()), Code::UnknownToken);
    assert_eq!(lab.files.get("10.0.0.5/backup.json"), None);
}

#[test]
fn quota_and_reserve_end_a_part_and_nothing_else() {
    for (rules, expected) in [
        (StoreRules { keep: Keep::default(), quota: 50_000, reserve: 0, at_work: 8 }, Code::Quota),
        (StoreRules { keep: Keep::default(), quota: 1 << 40, reserve: u64::MAX / 2, at_work: 8 }, Code::Full),
    ] {
        let lab = Lab::with(rules);
        let agent = lab.at_work("one", "backup");
        assert_eq!(code(agent.write(&image(1))), expected);
        agent.ask(&StoreCall::Append("10.0.0.5/maintenance.log".parse().unwrap(), 1), b"a line\n").unwrap();
        agent.ask(&StoreCall::Replace("10.0.0.5/status.json".parse().unwrap()), b"{}").unwrap();
    }
}

#[test]
fn an_append_that_comes_twice_is_one_line() {
    let lab = Lab::new();
    let agent = lab.at_work("one", "restore");
    for number in [1, 2, 2, 1, 3] {
        let call = StoreCall::Append("maintenance.log".parse().unwrap(), number);
        agent.ask(&call, format!("now: {IP}: info: {number}\n").as_bytes()).unwrap();
    }
    let log = lab.files.get("maintenance.log").unwrap();
    let expected: String = (1..=3).map(|number| format!("now: {IP}: info: {number}\n")).collect();
    assert_eq!(String::from_utf8(log).unwrap(), expected);
    // In the log of all machines it speaks for itself only.
    for (n, line) in
        ["now: 10.0.0.6: info: x\n", "x\n", "", "now: 10.0.0.5: info: \u{1b}[2J\n"].iter().enumerate()
    {
        let call = StoreCall::Append("maintenance.log".parse().unwrap(), 10 + n as u64);
        assert_eq!(code(agent.ask(&call, line.as_bytes())), Code::Malformed, "{line:?}");
    }
    let long = format!("now: {IP}: info: {}\n", "x".repeat(30_000));
    let told = (20..30).filter(|n| {
        let call = StoreCall::Append("maintenance.log".parse().unwrap(), *n);
        agent.ask(&call, long.as_bytes()).is_ok()
    });
    assert!(told.count() < 4);
}

/// On a real disk writes are on their way for a while: what is proven is what there is in the end.
#[test]
fn what_is_on_its_way_is_not_proven_as_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let files: Arc<dyn Files> = Arc::new(testbox::share::DirFiles::open(dir.path()).unwrap());
    let lab = Lab::new();
    let token = "b".repeat(64);
    lab.arm(&token, "one", "backup");
    let store = Store::new(
        files.clone(),
        Arc::new(lab.boot.clone()),
        lab.clock.clone(),
        lab.rules,
        lab.lines.clone(),
    );
    let job = jobs::find(&lab.files, &token).unwrap().unwrap();
    jobs::write(&*files, &token, &job).unwrap();
    let lab = Lab { store, ..lab };
    let agent = lab.agent(&token, 1);
    agent.open().unwrap();
    let good = image(1);
    let mut bad = good.clone();
    bad[100_000] ^= 1;
    for _ in 0..20 {
        let _ = agent.ask(&StoreCall::Remove(PART.parse().unwrap()), b"");
        agent.write(&good).unwrap();
        // The proof may begin while this is under way, and the end of the file is the same.
        agent.ask(&StoreCall::Write(PART.parse().unwrap(), 60_000), &bad[60_000..]).unwrap();
        assert!(matches!(agent.prove(PART), Ok(ProofState::Damaged(_))));
    }
}

#[test]
fn two_requests_after_a_restart_open_one_session() {
    for _ in 0..20 {
        let mut lab = Lab::new();
        let token = "d".repeat(64);
        lab.arm(&token, "one", "backup");
        lab.agent(&token, 1).open().unwrap();
        lab.restart();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let agent = lab.agent(&token, 1);
                    agent
                        .until("the session", || match agent.ask(&StoreCall::Room, b"") {
                            Err(refusal) if refusal.code == Code::Busy => None,
                            answer => Some(answer),
                        })
                        .unwrap();
                });
            }
        });
    }
}

#[test]
fn a_part_that_is_made_again_counts_once() {
    let rules = StoreRules { keep: Keep::default(), quota: 400_000, reserve: 0, at_work: 8 };
    let lab = Lab::with(rules);
    let agent = lab.at_work("one", "backup");
    let image = image(1);
    for _ in 0..5 {
        agent.write(&image).unwrap();
        agent.ask(&StoreCall::Remove(PART.parse().unwrap()), b"").unwrap();
    }
    agent.write(&image).unwrap();
}

#[test]
fn a_backup_reads_no_byte_of_a_disk() {
    let lab = Lab::new();
    let (image, _) = lab.first_set();
    let agent = lab.at_work("two", "backup-again");
    let read = |range| agent.ask(&StoreCall::Read("10.0.0.5/sda.raw.gz".parse().unwrap(), Some(range)), b"");
    let size = image.len() as u64;
    assert_eq!(read(size - 4096..size).unwrap(), image[image.len() - 4096..]);
    assert!(read(0..4096).is_ok());
    let secret = disk(1);
    for at in (0..size).step_by(512) {
        for length in [16, 100, 512, 4096, 60_000] {
            let Ok(bytes) = read(at..at + length) else { continue };
            let is_told =
                secret.chunks(16).take(200 << 6).any(|part| bytes.windows(16).any(|window| window == part));
            assert!(!is_told, "{length} bytes at {at} hold 16 bytes of the disk");
        }
    }
    assert_eq!(
        code(agent.ask(&StoreCall::Read("10.0.0.5/sda.raw.gz".parse().unwrap(), None), b"")),
        Code::Forbidden
    );
}

/// What a store has proven once is no set to go back to, where reading it again has found something wrong.
#[test]
fn a_set_that_was_found_bad_is_not_good() {
    let lab = Lab::new();
    let (_, record) = lab.first_set();
    let folder = Folder::new(Arc::new(lab.files.clone()), IP);
    let now = jiff::Timestamp::now();
    let is_good = |verified: &VerifiedSets| OldSets::of(&folder, verified, now).unwrap().current.unwrap().1;
    let mut verified = VerifiedSets::default();
    assert!(is_good(&verified));
    for (damaged, expected) in
        [(vec!["sda.raw.gz: it is another image".to_owned()], false), (Vec::new(), true)]
    {
        let found =
            VerifiedSet { ip: [10, 0, 0, 5].into(), dir: String::new(), generation: 1, at: now, damaged };
        verified.note(&SetHash::of(&record), found);
        assert_eq!(is_good(&verified), expected);
    }
}
