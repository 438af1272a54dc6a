//! Both ends of a store: what an agent makes of any answer, and the server of any body and any file of its own.

use std::io;
use std::sync::{Arc, OnceLock};
use testbox::progress::Progress;
use testbox::serve::jobs::{self, StoreJob};
use testbox::serve::retention::Keep;
use testbox::serve::{Caller, Reply, Store, StoreRules};
use testbox::share::{Files, MemFiles};
use testbox::store::Keeper;
use testbox::store::lease::{Holder, Tell};
use testbox::store::protocol::{JobFound, StoreCall};
use testbox::store::remote::{RemoteFiles, RemoteKeeper, RemoteStore, StoreAnswer, Transport, head_of};
use testbox::sys::Recording;

/// Answers the same to everything.
struct Same(StoreAnswer);

impl Transport for Same {
    fn send(&self, _: &StoreCall, _: &[u8]) -> io::Result<StoreAnswer> {
        Ok(self.0.clone())
    }
}

/// Two bytes of status, then the body, which is taken for a head too.
pub fn answer(bytes: &[u8]) {
    if let Ok(Some((status, length, size))) = head_of(bytes) {
        assert!(size <= bytes.len());
        assert!(matches!(head_of(&bytes[..size]), Ok(Some(again)) if again == (status, length, size)));
        assert!(!matches!(head_of(&bytes[..size - 1]), Ok(Some(_))));
    }
    let Some((status, body)) = bytes.split_first_chunk::<2>() else { return };
    let status = 100 + u16::from_le_bytes(*status) % 500;
    let length = Some(body.len() as u64);
    let store = RemoteStore::new(Arc::new(Same(StoreAnswer { status, body: body.to_vec(), length })));
    let keeper = RemoteKeeper::new(store.clone(), Arc::new(Recording::new()));
    let _ = keeper.open(&holder());
    let _ = keeper.beat();
    let _ = keeper.room();
    let _ = keeper.disarm();
    let _ = keeper.sweep(&["sda".to_owned()]);
    // A server that says that it is at work is asked for as long as it says so.
    let progress = Progress::new();
    progress.cancel();
    let _ = keeper.prove("10.0.0.5/sda.raw.gz", &progress);
    let _ = store.ask::<JobFound>(&StoreCall::Job, &Arc::default());
    let files = RemoteFiles::new(store);
    if let Ok(names) = files.list("10.0.0.5") {
        assert!(names.iter().all(|name| !name.contains('/') && name != ".." && !name.is_empty()));
    }
    assert!(files.read_limited("10.0.0.5/status.json", 100).is_ok_and(|bytes| bytes.len() > 100) == false);
}

fn holder() -> Holder {
    let (session, macs, hostname) = ("1".into(), vec!["52:54:00:00:00:05".into()], "tb5".into());
    Holder { session, uuid: None, macs, hostname, action: "backup".into(), job: None }
}

struct Quiet;

impl Tell for Quiet {
    fn info(&self, _: &str) {}
    fn warn(&self, _: &str) {}
}

const IP: &str = "10.0.0.5";

/// A store with a machine at work.
struct AtWork {
    files: MemFiles,
    store: Store,
    caller: Caller,
}

fn at_work() -> &'static AtWork {
    static AT_WORK: OnceLock<AtWork> = OnceLock::new();
    AT_WORK.get_or_init(|| {
        let (files, boot) = (MemFiles::new(), MemFiles::new());
        boot.put("pxelinux.cfg/0A000005", "DEFAULT t\nLABEL t\nKERNEL k\nAPPEND testbox.action=backup testbox.job=one\n");
        let token = jobs::hashed("token");
        let (job, action, by) = ("one".into(), "backup".into(), "fuzz".into());
        let (armed_file, armed) = ("pxelinux.cfg/0A000005".into(), "2026-01-01T00:00:00Z".parse().unwrap());
        let job = StoreJob { ip: IP.into(), job, action, armed_file, by, armed, expires: None };
        jobs::write(&files, &token, &job).unwrap();
        let rules = StoreRules { keep: Keep::default(), quota: 1 << 30, reserve: 0, at_work: 8 };
        let system = Arc::new(Recording::new());
        let store = Store::new(Arc::new(files.clone()), Arc::new(boot), system, rules, Arc::new(Quiet));
        let caller = Caller { token, session: "1".repeat(32), peer: [10, 0, 0, 5].into() };
        let body = Arc::new(holder().to_bytes().to_vec());
        let is_open = || match store.answer(&caller, &StoreCall::Open, &body) {
            Reply::Json(text) => text.starts_with(b"{\"is_open\":true"),
            Reply::Refused(refusal) => panic!("{}", refusal.text),
            _ => false,
        };
        while !is_open() {}
        AtWork { files, store, caller }
    })
}

/// One byte chooses what the rest is: a holder, a record, a log line, a loader, the file of a job.
pub fn body(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    let AtWork { files, store, caller } = at_work();
    let path = || format!("{IP}/status.json").parse().unwrap();
    let call = match kind % 6 {
        0 => StoreCall::Open,
        1 => StoreCall::Publish,
        2 => StoreCall::Append("maintenance.log".parse().unwrap(), u64::MAX),
        3 => StoreCall::Loader,
        4 => StoreCall::Replace(path()),
        _ => {
            let other = jobs::hashed("other");
            files.put(&jobs::path(&other), body.to_vec());
            let caller = Caller { token: other, ..caller.clone() };
            let _ = store.answer(&caller, &StoreCall::Job, &Arc::default());
            return;
        }
    };
    let caller = match kind % 6 {
        0 => Caller { session: "2".repeat(32), ..caller.clone() },
        _ => caller.clone(),
    };
    let _ = store.answer(&caller, &call, &Arc::new(body.to_vec()));
    let tree = files.tree();
    assert!(
        tree.keys()
            .all(|path| path.starts_with(IP) || path.starts_with(".store/") || path == "maintenance.log")
    );
    assert!(!tree.contains_key(&format!("{IP}/backup.json")), "nothing was proven");
}
