//! A store in the process of the test, as the machine's agent reaches it.

use super::{HEX, IP};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use testbox::serve::jobs::{self, StoreJob};
use testbox::serve::retention::Keep;
use testbox::serve::{Caller, Reply, Store, StoreRules};
use testbox::share::MemFiles;
use testbox::store::lease::{Holder, Tell};
use testbox::store::protocol::StoreCall;
use testbox::store::remote::{StoreAnswer, Transport};
use testbox::sys::Recording;

/// A token, in a word.
pub fn token_of(job: &str) -> String {
    jobs::hashed(job)
}

/// What a store says.
#[derive(Default)]
pub struct StoreLog(pub Mutex<Vec<String>>);

impl Tell for StoreLog {
    fn info(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn warn(&self, text: &str) {
        self.0.lock().unwrap().push(format!("warning: {text}"));
    }
}

/// A store, and how requests get lost on the way to it.
pub struct TestStore {
    files: MemFiles,
    boot: MemFiles,
    /// The clock of the machine, too: it moves where either waits.
    clock: Arc<Recording>,
    pub rules: StoreRules,
    pub log: Arc<StoreLog>,
    store: Mutex<Arc<Store>>,
    /// Every request so far.
    pub calls: Mutex<Vec<StoreCall>>,
    /// Bytes of bodies and answers.
    pub sent: AtomicUsize,
    pub received: AtomicUsize,
    /// The answer to each request of these numbers is lost, and the server killed behind it.
    pub killed_at: Mutex<Vec<usize>>,
    /// It is one of before jobs could expire: it does not say its time.
    pub is_old: AtomicBool,
}

impl TestStore {
    pub fn new(files: &MemFiles, boot: &MemFiles, clock: &Arc<Recording>) -> Arc<TestStore> {
        let rules = StoreRules {
            keep: Keep { sets: 3, age: 0, ..Keep::default() },
            quota: 1 << 40,
            reserve: 0,
            at_work: 8,
        };
        let log = Arc::new(StoreLog::default());
        let store = Mutex::new(Arc::new(store(files, boot, clock, rules, &log)));
        Arc::new(TestStore {
            files: files.clone(),
            boot: boot.clone(),
            clock: clock.clone(),
            rules,
            log,
            store,
            calls: Mutex::default(),
            sent: AtomicUsize::default(),
            received: AtomicUsize::default(),
            killed_at: Mutex::default(),
            is_old: AtomicBool::default(),
        })
    }

    /// Knows the job that these words name by its token.
    pub fn know(&self, words: &str) {
        let word = |name: &str| words.split(' ').find_map(|word| word.strip_prefix(name)).map(str::to_owned);
        let (Some(action), Some(job)) = (word("testbox.action="), word("testbox.job=")) else { return };
        let token = token_of(&job);
        let armed_file = format!("pxelinux.cfg/{HEX}");
        let by = "tests".into();
        let expires = word("testbox.expires=").map(|at| at.parse().unwrap());
        let job =
            StoreJob { ip: IP.into(), job, action, armed_file, by, armed: jiff::Timestamp::now(), expires };
        jobs::write(&self.files, &token, &job).unwrap();
    }

    /// Machines at work, as many as may be, until what this gives is dropped; their agents never fall silent.
    pub fn busy(self: &Arc<Self>) -> Busy {
        let at_work = (0..self.rules.at_work).map(|n| {
            let (ip, hex) = (format!("10.9.9.{n}"), format!("0A0909{n:02X}"));
            let (job, armed_file) = (format!("busy-{n}"), format!("pxelinux.cfg/{hex}"));
            self.boot.put(
                &armed_file,
                format!("DEFAULT m\nLABEL m\nKERNEL k\nAPPEND testbox.action=verify testbox.job={job}\n"),
            );
            let (token, action, by) = (token_of(&job), "verify".to_owned(), "tests".to_owned());
            let store_job = StoreJob {
                ip: ip.clone(),
                job,
                action,
                armed_file,
                by,
                armed: jiff::Timestamp::now(),
                expires: None,
            };
            jobs::write(&self.files, &token, &store_job).unwrap();
            let caller = Caller { token, session: format!("{n:032x}"), peer: ip.parse().unwrap() };
            let transport = InProcess { store: self.clone(), caller };
            let (macs, hostname, action) = (Vec::new(), "busy".into(), "verify".into());
            let me = Holder { session: n.to_string(), uuid: None, macs, hostname, action, job: None };
            loop {
                let answer = transport.send(&StoreCall::Open, &me.to_bytes()).unwrap();
                assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
                if answer.body.starts_with(b"{\"is_open\":true") {
                    break;
                }
            }
            transport
        });
        Busy(at_work.collect())
    }

    fn restart(&self) {
        *self.store.lock().unwrap() =
            Arc::new(store(&self.files, &self.boot, &self.clock, self.rules, &self.log));
    }

    pub fn transport(self: &Arc<Self>, token: &str, session: &str) -> Arc<dyn Transport> {
        let peer = IpAddr::from(IP.parse::<std::net::Ipv4Addr>().unwrap());
        let caller = Caller { token: token.into(), session: session.into(), peer };
        Arc::new(InProcess { store: self.clone(), caller })
    }
}

fn store(
    files: &MemFiles,
    boot: &MemFiles,
    clock: &Arc<Recording>,
    rules: StoreRules,
    log: &Arc<StoreLog>,
) -> Store {
    Store::new(Arc::new(files.clone()), Arc::new(boot.clone()), clock.clone(), rules, log.clone())
}

/// Machines at work.
pub struct Busy(Vec<InProcess>);

impl Drop for Busy {
    fn drop(&mut self) {
        for transport in &self.0 {
            transport.send(&StoreCall::Close, b"").unwrap();
        }
    }
}

struct InProcess {
    store: Arc<TestStore>,
    caller: Caller,
}

impl Transport for InProcess {
    fn send(&self, call: &StoreCall, body: &[u8]) -> io::Result<StoreAnswer> {
        let number = {
            let mut calls = self.store.calls.lock().unwrap();
            calls.push(call.clone());
            calls.len()
        };
        self.store.sent.fetch_add(body.len(), SeqCst);
        // As on the wire, where each has one spelling.
        let (method, target) = call.target();
        let call = StoreCall::parse(method, &target, call.range().as_deref()).map_err(io::Error::other)?;
        let store = self.store.store.lock().unwrap().clone();
        let mut answer = answer(store.answer(&self.caller, &call, &Arc::new(body.to_vec())));
        if self.store.is_old.load(SeqCst) && call == StoreCall::Job && answer.status == 200 {
            let mut found: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            found.as_object_mut().unwrap().remove("clock").unwrap();
            answer.body = found.to_string().into_bytes();
        }
        if self.store.killed_at.lock().unwrap().contains(&number) {
            self.store.restart();
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        // The clock moves where somebody waits: the store's threads must get their turn.
        let is_waiting = [&b"{\"running\""[..], b"{\"is_open\":false"];
        if answer.status == 503 || is_waiting.iter().any(|start| answer.body.starts_with(start)) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        self.store.received.fetch_add(answer.body.len(), SeqCst);
        Ok(answer)
    }
}

fn answer(reply: Reply) -> StoreAnswer {
    let ok = |body: Vec<u8>| StoreAnswer { status: 200, length: Some(body.len() as u64), body };
    match reply {
        Reply::Json(bytes) | Reply::Bytes(bytes, _) => ok(bytes),
        Reply::File(file, range, _) => {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut bytes, range.start).unwrap();
            ok(bytes)
        }
        Reply::Length(length) => StoreAnswer { status: 200, length: Some(length), body: Vec::new() },
        Reply::Done => StoreAnswer { status: 204, length: None, body: Vec::new() },
        Reply::Refused(refusal) => {
            StoreAnswer { status: refusal.code.status(), ..ok(serde_json::to_vec(&refusal).unwrap()) }
        }
    }
}
