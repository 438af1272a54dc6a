//! What a restore reads of its sets, range by range.

use super::Lab;
use testbox::serve::Reply;
use testbox::store::protocol::StoreCall;

const IMAGE: &str = "10.0.0.5/sda.raw.gz";
/// Long enough to be sent while it is read.
const RANGE: u64 = 2 << 20;

fn read(n: u64) -> StoreCall {
    StoreCall::Read(IMAGE.parse().unwrap(), Some(n * RANGE..(n + 1) * RANGE))
}

/// Where the disk fails while an answer is sent, that can only break off. Asked again, all is read first: so the refusal can say
/// what it is.
#[test]
fn a_range_that_is_asked_again_is_read_before_it_is_sent() {
    let lab = Lab::new();
    lab.files.put(IMAGE, vec![7; 3 * RANGE as usize]);
    let agent = lab.at_work("one", "restore");
    let answer = |n| lab.store.answer(&agent.caller, &read(n), &Default::default());
    for n in 0..3 {
        let Reply::File(_, range, size) = answer(n) else { panic!("it is read before it is sent") };
        assert_eq!((range, size), (n * RANGE..(n + 1) * RANGE, Some(3 * RANGE)));
    }
    for n in [1, 1, 0, 2] {
        let Reply::Bytes(bytes, Some((range, size))) = answer(n) else { panic!("it is not read first") };
        assert_eq!((bytes.len() as u64, range, size), (RANGE, n * RANGE..(n + 1) * RANGE, 3 * RANGE));
    }
}

/// A set is never a mixture of two, whoever moves files about on the server; also where two disks are read beside each other.
#[test]
fn what_takes_the_place_of_an_image_is_not_mixed_with_it() {
    let lab = Lab::new();
    let put = |byte| lab.files.put(IMAGE, vec![byte; 3 * RANGE as usize]);
    put(1);
    let second = "10.0.0.5/sdb.raw.gz";
    lab.files.put(second, vec![3; RANGE as usize]);
    let agent = lab.at_work("one", "restore");
    let length = StoreCall::Length(IMAGE.parse().unwrap());
    agent.ask(&length, b"").unwrap();
    assert_eq!(agent.ask(&read(0), b"").unwrap()[0], 1);
    agent.ask(&StoreCall::Length(second.parse().unwrap()), b"").unwrap();
    agent.ask(&StoreCall::Read(second.parse().unwrap(), Some(0..RANGE)), b"").unwrap();
    lab.files.remove_quietly(IMAGE);
    put(2);
    assert_eq!(agent.ask(&read(1), b"").unwrap()[0], 1);
    // Opened again.
    agent.ask(&length, b"").unwrap();
    assert_eq!(agent.ask(&read(2), b"").unwrap()[0], 2);
}
