//! A machine that tries all that the protocol allows, and more.

use super::{Lab, PART, image, record};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use testbox::image::Image;
use testbox::progress::Progress;
use testbox::share::{ShareFault, ShareOp};
use testbox::store::protocol::StoreCall;
use testbox::store::record::Record;

/// One thing that a hostile agent with a token may try.
fn attempts() -> impl Strategy<Value = (StoreCall, Vec<u8>, u64)> {
    let files = [
        "10.0.0.5/sda.raw.gz.part",
        "10.0.0.5/sdb.raw.gz.part",
        "10.0.0.5/sda.raw.gz",
        "10.0.0.5/backup.json",
        "10.0.0.5/backup.json.part",
        "10.0.0.5/history/1/sda.raw.gz",
        "10.0.0.5/history/1/backup.json",
        "10.0.0.5/history/1",
        "10.0.0.5/status.json",
        "10.0.0.5/maintenance.log",
        "10.0.0.5/lease/1",
        "10.0.0.6/backup.json",
        ".store/proven",
        "10.0.0.5",
    ];
    let path = proptest::sample::select(files.to_vec()).prop_map(|text| text.parse().unwrap());
    let path = || path.clone();
    let number = prop_oneof![Just(0u64), Just(60_000), 0..400_000u64];
    let body = prop_oneof![
        Just(image(7)),
        Just(image(8)),
        Just(record(&image(7), "evil").to_bytes()),
        Just(record(&image(8), "evil").to_bytes()),
        Just(b"x".to_vec()),
        Just(Vec::new()),
    ];
    let mut carried = record(&image(7), "evil");
    carried.images[0].carried = true;
    let call = prop_oneof![
        4 => (path(), number.clone()).prop_map(|(path, at)| StoreCall::Write(path, at)),
        2 => path().prop_map(StoreCall::Create),
        1 => (path(), number.clone(), number.clone()).prop_map(|(path, at, n)| StoreCall::Zeros(path, at, n)),
        2 => (path(), number.clone(), path(), 0..300_000u64).prop_map(|(path, at, from, n)| StoreCall::Copy(path, at, from, n..n + 5000)),
        2 => path().prop_map(StoreCall::Sync),
        2 => path().prop_map(StoreCall::Remove),
        2 => path().prop_map(StoreCall::Replace),
        1 => (path(), number).prop_map(|(path, n)| StoreCall::Append(path, n)),
        3 => path().prop_map(StoreCall::Prove),
        4 => Just(StoreCall::Publish),
        1 => Just(StoreCall::Sweep(Vec::new())),
        1 => Just(StoreCall::Disarm),
        1 => Just(StoreCall::Close),
    ];
    (call, body, prop_oneof![9 => Just(0u64), 1 => 0..200u64 * 86_400])
}

/// The first set, byte for byte, in place or in the history.
fn has_first(lab: &Lab, image: &[u8], record: &[u8]) -> bool {
    let tree = lab.files.tree();
    tree.iter().any(|(path, bytes)| {
        let folder = path.strip_suffix("backup.json").filter(|_| bytes == record);
        folder.is_some_and(|folder| {
            tree.get(&format!("{folder}sda.raw.gz")).is_some_and(|there| there == image)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever a machine asks with its tokens, however long it takes, with a disk that fails: the set before is there, and
    /// what is current was proven.
    #[test]
    fn no_machine_loses_its_set_before(
        steps in proptest::collection::vec(attempts(), 1..40),
        action in proptest::sample::select(vec!["backup", "backup-again", "restore", "verify", "refresh-info"]),
        fault in proptest::option::of(0..60usize),
        is_begun in any::<bool>(),
    ) {
        let lab = Lab::new();
        let (first, first_record) = lab.first_set();
        let token = "9".repeat(64);
        lab.arm(&token, "evil", action);
        let agent = lab.agent(&token, 9);
        agent.open().unwrap();
        if is_begun && action.starts_with("backup") {
            agent.write(&image(7)).unwrap();
            agent.prove(PART).unwrap();
        }
        if let Some(nth) = fault {
            lab.files.fail_nth_of(ShareOp::Write, nth, ShareFault::Errno(libc::ENOSPC));
        }
        for (call, body, seconds) in steps {
            let _ = agent.ask(&call, &body);
            lab.clock.advance(Duration::from_secs(seconds));
            lab.store.tend();
            prop_assert!(has_first(&lab, &first, &first_record), "after {call:?}");
        }
        lab.files.clear_faults();
        let current = lab.files.get("10.0.0.5/backup.json").unwrap();
        let record = Record::parse(&current).unwrap();
        let image = Image::open(Arc::new(lab.files.get("10.0.0.5/sda.raw.gz").unwrap())).unwrap();
        prop_assert_eq!(image.summary().root_hash, record.images[0].root_hash);
        testbox::image::verify(&image, 1, &Progress::default()).unwrap();
        prop_assert!(record.job.as_deref() == Some("one") || record.job.as_deref() == Some("evil"));
    }
}
