//! The files and the keeper of a store in memory, every answer of which may have been lost once.

use super::*;
use crate::failure::{Failure, Kind};
use crate::progress::Progress;
use crate::share::Files;
use crate::store::keeper::{Keeper, KeptImage, NotProven};
use crate::store::lease::Holder;
use crate::store::protocol::{
    BODY_LIMIT, Code, Opened, ProofState, PublishedSet, Recovery, Refusal, Room, StoreCall, StorePath,
    Welcome,
};
use crate::store::record::{Machine, Record};
use crate::store::{cannot_read, cannot_write};
use crate::sys::Recording;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct FakeState {
    files: BTreeMap<String, Vec<u8>>,
    appended: u64,
    asked: Vec<StoreCall>,
    proofs: Vec<ProofState>,
}

/// Does what a store does with plain bytes.
#[derive(Default)]
struct FakeStore {
    state: Mutex<FakeState>,
    /// Every request arrives twice: the first answer was lost.
    loses_answers: bool,
    /// What is answered in place of what was asked for.
    lie: Mutex<Option<StoreAnswer>>,
    is_full: AtomicBool,
}

fn refuse(code: Code, text: &str) -> StoreAnswer {
    let body = serde_json::to_vec(&Refusal::new(code, text)).unwrap();
    StoreAnswer { status: code.status(), body, length: None }
}

fn json(value: &impl Serialize) -> StoreAnswer {
    bytes(serde_json::to_vec(value).unwrap())
}

fn bytes(body: Vec<u8>) -> StoreAnswer {
    StoreAnswer { status: 200, length: Some(body.len() as u64), body }
}

fn done() -> StoreAnswer {
    StoreAnswer { status: 204, body: Vec::new(), length: None }
}

impl FakeState {
    fn extend(&mut self, path: &StorePath, at: u64, more: &[u8]) -> StoreAnswer {
        let Some(file) = self.files.get_mut(path.as_str()) else { return refuse(Code::NotFound, "no part") };
        if (file.len() as u64) < at {
            return refuse(Code::OtherLength, "it is shorter");
        }
        file.truncate(at as usize);
        file.extend_from_slice(more);
        done()
    }

    fn answer(&mut self, call: &StoreCall, body: &[u8]) -> StoreAnswer {
        match call {
            StoreCall::Room => json(&Room { left: 1 << 40 }),
            StoreCall::List(_) => json(&["b", "../x", "a", ".."]),
            StoreCall::Read(path, range) => {
                let Some(file) = self.files.get(path.as_str()) else { return refuse(Code::NotFound, "none") };
                let range = range.clone().unwrap_or(0..u64::MAX);
                let end = range.end.min(file.len() as u64) as usize;
                bytes(file.get(range.start as usize..end).unwrap_or_default().to_vec())
            }
            StoreCall::Length(path) => match self.files.get(path.as_str()) {
                Some(file) => StoreAnswer { status: 200, body: Vec::new(), length: Some(file.len() as u64) },
                None => StoreAnswer { status: 404, body: Vec::new(), length: None },
            },
            StoreCall::Replace(path) => {
                self.files.insert(path.to_string(), body.to_vec());
                done()
            }
            StoreCall::Append(path, number) => {
                if *number > self.appended {
                    self.appended = *number;
                    self.files.entry(path.to_string()).or_default().extend_from_slice(body);
                }
                done()
            }
            StoreCall::Create(path) => {
                self.files.insert(path.to_string(), Vec::new());
                done()
            }
            StoreCall::Write(path, at) => self.extend(path, *at, body),
            StoreCall::Zeros(path, at, length) => self.extend(path, *at, &vec![0; *length as usize]),
            StoreCall::Copy(path, at, from, range) => match self.files.get(from.as_str()).cloned() {
                Some(from) => self.extend(path, *at, &from[range.start as usize..range.end as usize]),
                None => refuse(Code::NotFound, "no such file to copy from"),
            },
            StoreCall::Remove(path) => match self.files.remove(path.as_str()) {
                Some(_) => done(),
                None => refuse(Code::NotFound, "it is not there"),
            },
            StoreCall::Prove(_) => json(&self.proofs.pop().unwrap()),
            StoreCall::Publish => json(&PublishedSet { generation: 7, pruned: vec!["history/1".into()] }),
            _ => done(),
        }
    }
}

impl Transport for FakeStore {
    fn send(&self, call: &StoreCall, body: &[u8]) -> io::Result<StoreAnswer> {
        if let Some(lie) = self.lie.lock().unwrap().clone() {
            return Ok(lie);
        }
        assert!(body.len() <= BODY_LIMIT);
        if self.is_full.load(Relaxed) && matches!(call, StoreCall::Write(..) | StoreCall::Copy(..)) {
            return Ok(refuse(Code::Full, "the disk of the store is full"));
        }
        let mut state = self.state.lock().unwrap();
        state.asked.push(call.clone());
        if self.loses_answers && !matches!(call, StoreCall::Prove(_)) {
            state.answer(call, body);
        }
        Ok(state.answer(call, body))
    }
}

fn share(fake: FakeStore) -> (Arc<FakeStore>, RemoteFiles, RemoteKeeper) {
    let fake = Arc::new(fake);
    let store = RemoteStore::new(fake.clone());
    (fake, RemoteFiles::new(store.clone()), RemoteKeeper::new(store, Arc::new(Recording::new())))
}

fn content(fake: &FakeStore, path: &str) -> Vec<u8> {
    fake.state.lock().unwrap().files[path].clone()
}

const PART: &str = "10.0.0.1/sda.raw.gz.part";

#[test]
fn what_is_written_arrives_once_however_often_it_is_sent() {
    for loses_answers in [false, true] {
        let (fake, files, _) = share(FakeStore { loses_answers, ..FakeStore::default() });
        let old: Vec<u8> = (0..9_000_000u32).map(|n| (n % 251) as u8).collect();
        fake.state.lock().unwrap().files.insert("10.0.0.1/sda.raw.gz".into(), old.clone());
        let base = files.open("10.0.0.1/sda.raw.gz").unwrap();
        let mut part = files.create(PART).unwrap();
        let mut wanted = vec![5; 10_000_001];
        part.write_all(&wanted).unwrap();
        part.append_zeros(100).unwrap();
        part.append_zeros(1 << 20).unwrap();
        wanted.extend(vec![0; 100 + (1 << 20)]);
        assert_eq!(part.append_from(&*base, 7..8_500_000).unwrap(), 8_499_993);
        wanted.extend_from_slice(&old[7..8_500_000]);
        part.write_all(b"end").unwrap();
        wanted.extend_from_slice(b"end");
        part.flush().unwrap();
        part.sync().unwrap();
        assert!(content(&fake, PART) == wanted, "lost answers: {loses_answers}");
        let mut again = files.reopen(PART).unwrap();
        again.resume_at(1_000).unwrap();
        again.write_all(b"more").unwrap();
        again.sync().unwrap();
        assert_eq!(content(&fake, PART), [&wanted[..1_000], b"more"].concat());
        for line in ["one\n", "two\n"] {
            files.append("maintenance.log", line.as_bytes()).unwrap();
        }
        assert_eq!(content(&fake, "maintenance.log"), b"one\ntwo\n");
        files.write_atomic("10.0.0.1/status.json", b"{}").unwrap();
        assert_eq!(files.read_limited("10.0.0.1/status.json", 2).unwrap(), b"{}");
        files.remove(PART).unwrap();
        assert!(!files.exists(PART).unwrap());
    }
}

#[test]
fn a_file_is_read_by_ranges_within_the_limit() {
    let (fake, files, _) = share(FakeStore::default());
    let bytes: Vec<u8> = (0..BODY_LIMIT + 1000).map(|n| (n % 253) as u8).collect();
    fake.state.lock().unwrap().files.insert("f".into(), bytes.clone());
    let file = files.open("f").unwrap();
    let mut there = vec![0; bytes.len() + 10];
    assert_eq!(file.read_at(&mut there, 0).unwrap(), BODY_LIMIT);
    assert_eq!(file.read_at(&mut there[BODY_LIMIT..], BODY_LIMIT as u64).unwrap(), 1000);
    assert!(there[..bytes.len()] == bytes);
    assert_eq!(file.read_at(&mut there, file.size().unwrap()).unwrap(), 0);
    assert_eq!(file.read_at(&mut there, u64::MAX).unwrap(), 0);
    let asked = fake.state.lock().unwrap().asked.len();
    assert_eq!(asked, 3, "its length, and two ranges: {asked}");
    assert_eq!(files.read_limited("f", 1000).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(files.list("").unwrap(), ["a", "b"], "no name leads out of the folder");
    for bad in ["/etc/passwd", "a//b", "../x", "a b"] {
        assert_eq!(files.open(bad).err().unwrap().kind(), io::ErrorKind::InvalidInput, "{bad}");
    }
}

#[test]
fn a_file_that_is_replaced_meanwhile_is_read_as_one_of_the_two() {
    struct Replacing(FakeStore);
    impl Transport for Replacing {
        fn send(&self, call: &StoreCall, body: &[u8]) -> io::Result<StoreAnswer> {
            let answer = self.0.send(call, body);
            self.0.state.lock().unwrap().files.insert("r".into(), b"the longer new record".to_vec());
            answer
        }
    }
    let fake = FakeStore::default();
    fake.state.lock().unwrap().files.insert("r".into(), b"old".to_vec());
    let files = RemoteFiles::new(RemoteStore::new(Arc::new(Replacing(fake))));
    assert_eq!(files.read_limited("r", 100).unwrap(), b"the longer new record");
    assert_eq!(files.read_limited("r", 5).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
}

#[test]
fn an_answer_that_lies_about_its_length_is_an_error() {
    let (fake, files, _) = share(FakeStore::default());
    fake.state.lock().unwrap().files.insert("f".into(), vec![1; 100]);
    let file = files.open("f").unwrap();
    *fake.lie.lock().unwrap() = Some(bytes(vec![9; 11]));
    assert_eq!(file.read_at(&mut [0; 10], 0).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(file.read_at(&mut [0; 20], 0).unwrap(), 11);
    *fake.lie.lock().unwrap() = Some(StoreAnswer { status: 200, body: Vec::new(), length: None });
    assert_eq!(files.open("f").err().unwrap().kind(), io::ErrorKind::InvalidData);
    assert_eq!(files.list("").unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn after_a_failed_write_nothing_more_of_a_part_is_written() {
    let (fake, files, _) = share(FakeStore::default());
    let mut part = files.create(PART).unwrap();
    part.write_all(b"first").unwrap();
    fake.is_full.store(true, Relaxed);
    let error = part.flush().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(cannot_write("write x", &error).kind, Kind::NoSpace);
    fake.is_full.store(false, Relaxed);
    part.write_all(b"second").unwrap();
    assert!(part.flush().is_err() && part.sync().is_err() && part.append_zeros(1 << 20).is_err());
    assert_eq!(content(&fake, PART), b"");
}

#[test]
fn a_copy_that_is_refused_leaves_the_part_to_be_written() {
    let (fake, files, _) = share(FakeStore::default());
    fake.state.lock().unwrap().files.insert("base".into(), vec![1; 100]);
    let base = files.open("base").unwrap();
    fake.state.lock().unwrap().files.remove("base");
    let mut part = files.create(PART).unwrap();
    assert_eq!(part.append_from(&*base, 0..50).unwrap(), 0);
    assert_eq!(part.append_from(&vec![1; 100], 0..100).unwrap(), 0, "a file of another kind");
    let (_, others, _) = share(FakeStore::default());
    let mut elsewhere = others.create(PART).unwrap();
    assert_eq!(elsewhere.append_from(&*base, 0..50).unwrap(), 0, "a file of another store");
    part.write_all(b"written").unwrap();
    part.sync().unwrap();
    assert_eq!(content(&fake, PART), b"written");
}

#[test]
fn a_part_that_is_shorter_than_thought_is_not_resumed() {
    let (_, files, _) = share(FakeStore::default());
    files.create(PART).unwrap().write_all(b"12345").unwrap();
    let mut part = files.reopen(PART).unwrap();
    assert_eq!(part.resume_at(9).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(files.reopen("10.0.0.1/sdb.raw.gz.part").err().unwrap().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_refusal_says_what_became_of_the_job() {
    let (fake, files, keeper) = share(FakeStore::default());
    let failed = Failure::new(Kind::Publish, "cannot keep the old set", "look at the disk.");
    for (refusal, kind) in [
        (Refusal::new(Code::NoSession, "10.0.0.1 was taken over by b (52:54:00:00:00:02)"), Kind::Lease),
        (Refusal::new(Code::UnknownToken, "the job is over"), Kind::NotArmed),
        (Refusal::new(Code::Quota, "the quota of 10.0.0.1 is used up"), Kind::NoSpace),
        (Refusal::new(Code::Full, "the disk is full"), Kind::NoSpace),
        (Refusal::new(Code::Forbidden, "this job writes nothing"), Kind::ShareWrite),
        (Refusal::of_failure(&failed), Kind::Publish),
    ] {
        let body = serde_json::to_vec(&refusal).unwrap();
        *fake.lie.lock().unwrap() = Some(StoreAnswer { status: refusal.code.status(), body, length: None });
        let said = cannot_write("write status.json", &files.write_atomic("x", b"").unwrap_err());
        assert_eq!(said.kind, kind, "{said}");
        assert!(said.what.contains(&refusal.text), "{said}");
        if matches!(kind, Kind::Lease | Kind::NotArmed) {
            assert_eq!(keeper.beat().unwrap_err().kind, kind);
            assert_eq!(cannot_read("read", &files.list("").unwrap_err()).kind, kind);
        }
    }
}

#[test]
fn another_version_of_the_protocol_says_what_to_upgrade() {
    let (fake, files, _) = share(FakeStore::default());
    for (protocols, mend) in [(vec![2, 3], "initrd"), (vec![0], "testboxctl on the server")] {
        let welcome = Welcome { server: "testbox store".into(), version: "9.1".into(), protocols };
        let body = serde_json::to_vec(&welcome).unwrap();
        *fake.lie.lock().unwrap() = Some(StoreAnswer { status: 404, body, length: None });
        let error = files.list("").unwrap_err().to_string();
        assert!(error.contains(mend) && error.contains("9.1"), "{error}");
    }
    *fake.lie.lock().unwrap() = Some(StoreAnswer { status: 404, body: b"<html>".to_vec(), length: None });
    let error = files.list("").unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("another server"), "{error}");
}

#[test]
fn a_proof_is_asked_for_until_it_is_there() {
    let (fake, _, keeper) = share(FakeStore::default());
    let hash = blake3::hash(b"image");
    let proven = |root_hash: &str| ProofState::Proven { root_hash: root_hash.into(), size: 70, age: 0 };
    let progress = Progress::default();
    let running = || ProofState::Running { done: 40, total: 70 };
    fake.state.lock().unwrap().proofs = vec![proven(&hash.to_string()), running(), running()];
    let kept = keeper.prove("10.0.0.1/sda.raw.gz", &progress).unwrap();
    assert_eq!(kept, KeptImage { root_hash: hash, size: 70 });
    assert_eq!((progress.done.load(Relaxed), progress.total.load(Relaxed)), (40, 70));
    fake.state.lock().unwrap().proofs = vec![ProofState::Damaged("a hash is wrong".into())];
    assert!(matches!(keeper.prove("a", &progress), Err(NotProven::Damaged(why)) if why == "a hash is wrong"));
    for strange in [ProofState::Unreadable("EIO".into()), proven("no hash")] {
        fake.state.lock().unwrap().proofs = vec![strange];
        assert!(matches!(keeper.prove("a", &progress), Err(NotProven::Unknown(_))));
    }
    progress.cancel();
    fake.state.lock().unwrap().proofs = vec![running()];
    assert!(matches!(keeper.prove("a", &progress), Err(NotProven::Unknown(_))), "one look, no wait");
}

#[test]
fn a_token_that_another_session_uses_is_waited_for() {
    let (fake, _, keeper) = share(FakeStore::default());
    let me = Holder {
        session: "1".into(),
        uuid: None,
        macs: Vec::new(),
        hostname: "a".into(),
        action: "backup".into(),
        job: None,
    };
    *fake.lie.lock().unwrap() = Some(refuse(Code::Bound, "session 12 lives"));
    let opened = keeper.open(&me).unwrap();
    let waits = Opened {
        is_open: false,
        waits_for: Some("session 12 lives".into()),
        is_in_line: false,
        is_from_another: false,
        recovery: Recovery::Nothing,
    };
    assert_eq!(opened, waits);
    let lease = Refusal::of_failure(&Failure::new(Kind::Lease, "it lives", "look"));
    let body = serde_json::to_vec(&lease).unwrap();
    *fake.lie.lock().unwrap() = Some(StoreAnswer { status: 500, body, length: None });
    assert_eq!(keeper.open(&me).unwrap_err().kind, Kind::Lease);
}

#[test]
fn a_published_set_says_what_was_pruned() {
    let (_, _, keeper) = share(FakeStore { loses_answers: true, ..FakeStore::default() });
    let machine = Machine { ip: "10.0.0.1".into(), hexip: "0A000001".into(), hostname: "a".into() };
    let record = Record::new(7, None, machine, jiff::Timestamp::UNIX_EPOCH);
    let published = keeper.publish(&record).unwrap();
    assert_eq!(published, PublishedSet { generation: 7, pruned: vec!["history/1".into()] });
    keeper.sweep(&["sda".into()]).unwrap();
    assert!(keeper.sweep(&["../x".into()]).is_err());
}
