//! Random numbers that a seed repeats (splitmix64).

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Below about `end`, each order of magnitude as likely as the next: most files are small.
    pub fn skewed(&mut self, end: u64) -> u64 {
        let shift = self.below(u64::from(end.max(2).ilog2()));
        self.below((end >> shift).max(1))
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        (!list.is_empty()).then(|| &list[self.below(list.len() as u64) as usize])
    }

    /// Bytes that do not compress, and differ with each call.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// The seed of a short run: the same each time, so that it is green or red for a change and not by chance.
const SHORT: u64 = 1_795_392_314;

/// The seed of this run: `TESTBOX_SEED`; without it, a new one each time of a long run.
pub fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| match std::env::var("TESTBOX_SEED") {
        Ok(text) => text.parse().expect("TESTBOX_SEED is a number"),
        Err(_) if std::env::var_os("TESTBOX_LONG").is_none() => SHORT,
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs(),
    })
}
