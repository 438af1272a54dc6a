//! Members that stand for zeros, made without compressing anything. See `FORMAT.md`, "Runs".
#![forbid(unsafe_code)]

use crate::image::format::member::{
    FRAME, MAX_PAYLOAD, MemberKind, RUN_PAYLOAD, TRAILER, UNIT, round_up, write_frame,
};
use flate2::Crc;

/// Longest run of zeros in one member, in bytes. Every common tool was tried with it; one member takes 2 MiB, of which two blocks
/// are not zero.
pub const MAX_ZERO_RUN: u64 = 2 << 30;

/// Bits packed from the lowest upwards, as deflate does.
struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    /// `count` bits of `value`, lowest first.
    fn number(&mut self, value: u32, count: usize) {
        for i in 0..count {
            if self.len.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if value >> i & 1 == 1
                && let Some(last) = self.bytes.last_mut()
            {
                *last |= 1 << (self.len % 8);
            }
            self.len += 1;
        }
    }

    /// `count` zero bits, whole bytes at a time.
    fn zeros(&mut self, count: usize) {
        self.len += count;
        self.bytes.resize(self.len.div_ceil(8), 0);
    }
}

/// The deflate stream of `n` zeros, `n` at least 1.
fn deflate(n: u64) -> Vec<u8> {
    let mut bits = Bits { bytes: Vec::new(), len: 0 };
    let literals = 1 + (n - 1) % 258;
    let matches = (n - 1) / 258;
    bits.number(1, 1);
    bits.number(2, 2);
    bits.number(29, 5); // HLIT: 286 codes
    bits.number(1, 5); // HDIST: 2 codes
    bits.number(14, 4); // HCLEN: 18 code lengths, up to symbol 1
    for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1] {
        bits.number(if symbol == 18 { 1 } else { 2 * u32::from(symbol == 1 || symbol == 2) }, 3);
    }
    // Canonical codes, highest bit first: symbol 18 is 0, symbol 1 is 10, symbol 2 is 11.
    let one = |bits: &mut Bits| bits.number(0b01, 2);
    let two = |bits: &mut Bits| bits.number(0b11, 2);
    let absent = |bits: &mut Bits, count: u32| {
        bits.number(0, 1);
        bits.number(count - 11, 7);
    };
    two(&mut bits);
    absent(&mut bits, 138);
    absent(&mut bits, 117);
    two(&mut bits);
    absent(&mut bits, 28);
    one(&mut bits);
    one(&mut bits);
    one(&mut bits);
    for _ in 0..literals {
        bits.number(0b01, 2);
    }
    bits.zeros(2 * matches as usize);
    bits.number(0b11, 2);
    bits.bytes
}

/// CRC32 of `n` zeros, by doubling.
fn crc(mut n: u64) -> u32 {
    let mut sum = Crc::new();
    let mut power = Crc::new();
    power.update(&[0]);
    while n > 0 {
        if n & 1 == 1 {
            sum.combine(&power);
        }
        let double = {
            let mut two = Crc::new();
            two.combine(&power);
            two.combine(&power);
            two
        };
        power = double;
        n >>= 1;
    }
    sum.sum()
}

/// The same in images without [`LONG_ZEROS`].
pub const FIRST_MAX_ZERO_RUN: u64 = 128 << 20;
/// What the header says of an image that may have longer runs.
pub const LONG_ZEROS: &str = "zeros of up to 2 GiB";

/// Makes members of zeros; remembers the last one, because long runs are all of the longest length.
#[derive(Debug, Default)]
pub struct ZeroMembers {
    last: Option<(MemberKind, u64, Vec<u8>, blake3::Hash)>,
}

impl ZeroMembers {
    /// The member of `n` zeros (1 to [`MAX_ZERO_RUN`]) and its hash.
    pub fn get(&mut self, kind: MemberKind, n: u64) -> (&[u8], blake3::Hash) {
        self.last.take_if(|last| (last.0, last.1) != (kind, n));
        let (_, _, member, hash) = self.last.get_or_insert_with(|| {
            let member = member(kind, n);
            let hash = blake3::hash(&member);
            (kind, n, member, hash)
        });
        (member, *hash)
    }
}

/// Length in bytes of the member of `n` zeros.
pub fn member_len(n: u64) -> u64 {
    // 3 + 14 + 54 + 27 bits of block header, 2 per symbol, with end of block.
    let symbols = 1 + (n - 1) % 258 + (n - 1) / 258 + 1;
    let deflate = (HEADER_BITS + 2 * symbols).div_ceil(8);
    (FRAME as u64 + RUN_PAYLOAD as u64 + deflate + TRAILER as u64).next_multiple_of(UNIT as u64)
}

const HEADER_BITS: u64 = 3 + 14 + 18 * 3 + 2 + 8 + 8 + 2 + 8 + 2 + 2 + 2;

fn member(kind: MemberKind, n: u64) -> Vec<u8> {
    let deflate = deflate(n);
    let len = round_up(FRAME + RUN_PAYLOAD + deflate.len() + TRAILER);
    let front = len - deflate.len() - TRAILER;
    debug_assert!(front - FRAME <= MAX_PAYLOAD);
    let mut payload = [0; RUN_PAYLOAD];
    payload[8..16].copy_from_slice(&n.to_le_bytes());
    let mut member = vec![0; len];
    write_frame(&mut member[..front], kind, len, &payload, false);
    member[front..len - TRAILER].copy_from_slice(&deflate);
    member[len - 8..len - 4].copy_from_slice(&crc(n).to_le_bytes());
    member[len - 4..].copy_from_slice(&(n as u32).to_le_bytes());
    member
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn zlib_inflates_the_fixed_stream_to_exactly_n_zeros() {
        for n in
            [1, 2, 257, 258, 259, 260, 516, 517, 512, 4096, 65_536, 1 << 20, (1 << 20) + 512, MAX_ZERO_RUN]
        {
            let member = member(MemberKind::Zero, n);
            assert_eq!(member.len() as u64, member_len(n));
            assert_eq!(member.len() % UNIT, 0);
            let mut decoder = flate2::read::GzDecoder::new(&member[..]);
            let mut buf = vec![1; 1 << 20];
            let mut total = 0;
            loop {
                let got = decoder.read(&mut buf).unwrap();
                if got == 0 {
                    break;
                }
                assert!(buf[..got].iter().all(|b| *b == 0));
                total += got as u64;
            }
            assert_eq!(total, n);
        }
    }
}
