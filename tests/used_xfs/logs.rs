//! Logs made by hand: their last record at every place, and all that makes it no record of an unmount.

use crate::patched::{Layout, Patched};
use crate::scratch::scratch;
use crate::tools::{made, parse};

/// A log that was written round and ends with the record of an unmount.
struct Log {
    blocks: u32,
    /// Where the record begins.
    at: u32,
    /// Blocks of headers and of data.
    headers: u32,
    data: u32,
    /// Cycle of the first block.
    cycle: u32,
    uuid: Vec<u8>,
}

impl Log {
    fn bytes(&self, with_sum: bool, change: impl Fn(&mut [u8], &mut [u8])) -> Vec<u8> {
        let mut bytes = vec![0; self.blocks as usize * 512];
        let head = (self.at + self.headers + self.data) % self.blocks;
        let cycle = |block: u32| if head == 0 || block < head { self.cycle } else { self.cycle - 1 };
        for (i, block) in (0..).zip(bytes.chunks_exact_mut(512)) {
            block[..4].copy_from_slice(&cycle(i).to_be_bytes());
        }
        let block = |i: u32| (self.at + i) % self.blocks;
        let mut header = vec![0; 512];
        let mut put = |at: usize, word: u32| header[at..at + 4].copy_from_slice(&word.to_be_bytes());
        put(0, 0xfeed_babe);
        put(4, cycle(self.at));
        put(8, 2);
        put(12, self.data * 512);
        put(16, cycle(self.at));
        put(20, self.at);
        put(40, 1);
        put(300, 1);
        put(320, self.headers * (32 << 10));
        header[304..320].copy_from_slice(&self.uuid);
        let mut body = vec![0; 512];
        body[..4].copy_from_slice(&cycle(block(self.headers)).to_be_bytes());
        body[8..14].copy_from_slice(&[0xaa, 0x20, 0, 0, 0x6e, 0x55]);
        change(&mut header, &mut body);
        let mut place = |i: u32, from: &[u8]| bytes[block(i) as usize * 512..][..512].copy_from_slice(from);
        place(self.headers, &body);
        if with_sum {
            let mut sum = crc32c::crc32c(&header[..328]);
            for i in 1..self.headers {
                sum = crc32c::crc32c_append(sum, &bytes[block(i) as usize * 512..][..260]);
            }
            for i in self.headers..self.headers + self.data {
                sum = crc32c::crc32c_append(sum, &bytes[block(i) as usize * 512..][..512]);
            }
            header[32..36].copy_from_slice(&sum.to_le_bytes());
        }
        bytes[self.at as usize * 512..][..512].copy_from_slice(&header);
        bytes
    }
}

#[test]
fn an_unmount_record_is_believed_only_at_the_end_of_the_log() {
    let dir = scratch();
    let image = made(dir.path(), 64, "-d agcount=1");
    let layout = Layout::of(&image);
    let mut disk = Patched::new(&image);
    let (_, intact) = parse(&disk).unwrap();
    let blocks = ((layout.log.end - layout.log.start) / 512) as u32;
    let uuid = disk.bytes(32, 16);
    let log = |at: u32, headers, data| Log { blocks, at, headers, data, cycle: 7, uuid: uuid.clone() };
    let mut say = |bytes: Vec<u8>| {
        disk.patches = vec![(layout.log.start, bytes)];
        match parse(&disk) {
            Ok((Some(_), free)) if free == intact => "clean".to_owned(),
            Ok(other) => panic!("{other:?}"),
            Err(doubt) => doubt.to_string(),
        }
    };
    for (headers, data) in [(1, 1), (1, 64), (2, 127), (8, 504)] {
        let length = headers + data;
        for at in
            [0, 1, 999, blocks - length - 1, blocks - length, blocks - length + 1, blocks - 2, blocks - 1]
        {
            let log = log(at, headers, data);
            assert_eq!(say(log.bytes(false, |_, _| ())), "clean", "{length} blocks at {at}");
            assert_eq!(say(log.bytes(true, |_, _| ())), "clean", "{length} blocks at {at}, checksum");
            // A transaction instead of the unmount.
            let said = say(log.bytes(true, |_, body| body[9] = 0));
            assert!(said.contains("needs recovery"), "{said}");
            let said = say(log.bytes(true, |header, _| header[43] = 2));
            assert!(said.contains("needs recovery"), "{said}");
            // One block of another cycle, anywhere but in the record.
            let mut bytes = log.bytes(true, |_, _| ());
            for block in [log.at + blocks - 1, log.at + length, log.at + blocks / 2] {
                let at = (block % blocks) as usize * 512;
                bytes[at + 3] ^= 1;
                let said = say(bytes.clone());
                assert!(said.contains("hole") || said.contains("not written to its end"), "{block}: {said}");
                bytes[at + 3] ^= 1;
            }
        }
    }
    type Change = fn(&mut [u8], &mut [u8]);
    let wrong: [(&str, Change); 8] = [
        ("impossible size", |header, _| header[8..12].copy_from_slice(&[0, 0, 0, 3])),
        ("impossible size", |header, _| header[12..16].fill(0xff)),
        ("not written to its end", |header, _| header[13] = 1),
        ("does not belong there", |header, _| header[23] ^= 1),
        ("another system", |header, _| header[303] = 3),
        ("another system", |header, _| header[304] ^= 1),
        ("needs recovery", |_, body| body[8] = 0x69),
        ("needs recovery", |_, body| body[12] = 0),
    ];
    for (why, change) in wrong {
        let said = say(log(1000, 1, 64).bytes(true, change));
        assert!(said.contains(why), "{said}, not {why}");
    }
    let mut torn = log(1000, 1, 64).bytes(true, |_, _| ());
    torn[1030 * 512 + 100] = 1;
    assert!(say(torn).contains("wrong checksum"));
    assert!(say(vec![0; blocks as usize * 512]).contains("never written"));
    let no_record = log(1000, 1, 64).bytes(true, |header, _| header[..4].copy_from_slice(&[0, 0, 0, 7]));
    assert!(say(no_record).contains("no record"));
}
