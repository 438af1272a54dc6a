//! The codecs: raw chunk in, deflate stream with gzip trailer out, and back.
#![forbid(unsafe_code)]

use crate::image::format::gaps::{Gaps, MAX_LIST};
use crate::image::format::member::{FRAME, RUN_PAYLOAD, TRAILER, UNIT};
use crate::image::format::run::{data_front, write_data_front};
use crate::sys::isal;
use crate::types::Compression;
use blake3::Hash;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use libdeflater::{CompressionLvl, Compressor, crc32};
use std::ops::Range;

/// Which library compresses. Every one reads what the other wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ISA-L level 1: the fastest by far (x86-64; dispatches to the CPU's instructions).
    #[default]
    Isal,
    /// libdeflate level 3. (ISA-L's level 3 gives other bytes with SSE4.2, with AVX2 and with AVX-512; libdeflate the same on
    /// each of them, and without.)
    Libdeflate3,
    /// libdeflate level 6.
    Libdeflate6,
    /// libdeflate level 9.
    Libdeflate9,
    /// zlib-rs level 1 by flate2: portable, and the cross-check.
    Zlib,
}

/// A stream is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

/// Compresses chunk after chunk; each thread has its own.
pub trait Deflate: Send {
    /// Writes the deflate stream of `raw` and its gzip trailer (CRC32, ISIZE) to `out` and returns their length;
    /// `None` where the stream would not fit into `out`.
    fn deflate(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize>;
}

/// Inflates chunk after chunk; each thread has its own.
pub trait Inflate: Send {
    /// Inflates a stream with its gzip trailer; it must fill `out` exactly, use up `stream` exactly, and have the
    /// right CRC32 and ISIZE.
    fn inflate(&mut self, stream: &[u8], out: &mut [u8]) -> Result<(), CodecError>;
}

impl Codec {
    /// All of them.
    pub const ALL: [Codec; 5] =
        [Codec::Isal, Codec::Libdeflate3, Codec::Libdeflate6, Codec::Libdeflate9, Codec::Zlib];

    /// Name for the header: equal names make equal members of equal data.
    pub fn name(self) -> String {
        match self {
            // b: the first bytes of a member are a stored block; without it they were one of their own codes.
            Codec::Isal => format!("isal-1b {}", isal::cpu_level()),
            Codec::Libdeflate3 => "libdeflate-3".to_owned(),
            Codec::Libdeflate6 => "libdeflate-6".to_owned(),
            Codec::Libdeflate9 => "libdeflate-9".to_owned(),
            Codec::Zlib => "zlib-rs-1".to_owned(),
        }
    }

    /// A compressor.
    pub fn deflater(self) -> Box<dyn Deflate> {
        match self {
            Codec::Isal => Box::new(isal::Deflater::new()),
            Codec::Libdeflate3 => Box::new(libdeflate(3)),
            Codec::Libdeflate6 => Box::new(libdeflate(6)),
            Codec::Libdeflate9 => Box::new(libdeflate(9)),
            Codec::Zlib => Box::new(ZlibDeflater(fresh())),
        }
    }

    /// A decompressor.
    pub fn inflater(self) -> Box<dyn Inflate> {
        match self {
            Codec::Zlib => Box::new(ZlibInflater(Decompress::new(false))),
            _ => Box::new(isal::Inflater::new()),
        }
    }
}

impl From<Compression> for Codec {
    fn from(level: Compression) -> Self {
        match level {
            Compression::Fast => Codec::Isal,
            Compression::Medium => Codec::Libdeflate3,
            Compression::Small => Codec::Libdeflate6,
            Compression::Smallest => Codec::Libdeflate9,
        }
    }
}

/// A compressor of libdeflate. Levels from 1 to 12 there are.
fn libdeflate(level: i32) -> Compressor {
    Compressor::new(CompressionLvl::new(level).unwrap_or_default())
}

impl Deflate for Compressor {
    fn deflate(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        with_trailer(raw, out, |room| self.deflate_compress(raw, room).ok())
    }
}

impl Deflate for isal::Deflater {
    fn deflate(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        with_trailer(raw, out, |room| isal::Deflater::deflate(self, raw, room))
    }
}

impl Inflate for isal::Inflater {
    fn inflate(&mut self, stream: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        isal::Inflater::inflate(self, stream, out).map_err(CodecError)
    }
}

struct ZlibDeflater(Compress);

fn fresh() -> Compress {
    Compress::new(flate2::Compression::fast(), false)
}

impl Deflate for ZlibDeflater {
    fn deflate(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        with_trailer(raw, out, |room| {
            self.0.reset();
            if !matches!(self.0.compress(raw, room, FlushCompress::Finish), Ok(Status::StreamEnd)) {
                // zlib-rs 0.6 keeps bits of an unfinished stream over a reset: the next stream would be wrong.
                self.0 = fresh();
                return None;
            }
            Some(self.0.total_out() as usize)
        })
    }
}

struct ZlibInflater(Decompress);

impl Inflate for ZlibInflater {
    fn inflate(&mut self, stream: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let wrong = |what: &str| CodecError(what.to_owned());
        self.0.reset(false);
        let (body, end) =
            stream.split_at_checked(stream.len().wrapping_sub(TRAILER)).ok_or(wrong("stream too short"))?;
        let status = self.0.decompress(body, out, FlushDecompress::Finish);
        let status = status.map_err(|e| CodecError(format!("bad deflate stream: {e}")))?;
        let used = (self.0.total_in() as usize, self.0.total_out() as usize);
        if status != Status::StreamEnd || used != (body.len(), out.len()) {
            return Err(wrong("the deflate stream has another length than its member says"));
        }
        if end != trailer(out) {
            return Err(wrong("CRC32 or ISIZE is wrong"));
        }
        Ok(())
    }
}

/// Lets `stream` write the deflate stream of `raw` into what a trailer leaves of `out`, and puts the trailer behind it.
fn with_trailer(
    raw: &[u8],
    out: &mut [u8],
    stream: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Option<usize> {
    let room = out.len().checked_sub(TRAILER)?;
    let len = stream(out.get_mut(..room)?)?;
    out.get_mut(len..len + TRAILER)?.copy_from_slice(&trailer(raw));
    Some(len + TRAILER)
}

/// CRC32 and ISIZE of `raw`.
fn trailer(raw: &[u8]) -> [u8; TRAILER] {
    let mut trailer = [0; TRAILER];
    trailer[..4].copy_from_slice(&crc32(raw).to_le_bytes());
    trailer[4..].copy_from_slice(&(raw.len() as u32).to_le_bytes());
    trailer
}

/// Longest stored block.
const STORED_BLOCK: usize = 65_535;

/// Length of the stream of [`store`] with its trailer.
fn stored_len(raw: usize) -> usize {
    raw + 5 * raw.div_ceil(STORED_BLOCK).max(1) + TRAILER
}

/// The deflate stream that copies `raw` uncompressed (RFC 1951 3.2.4), with its trailer.
fn store(raw: &[u8], out: &mut [u8]) -> usize {
    let mut at = 0;
    let blocks = raw.len().div_ceil(STORED_BLOCK);
    for (i, block) in raw.chunks(STORED_BLOCK).enumerate() {
        let len = block.len() as u16;
        out[at] = u8::from(i + 1 == blocks);
        out[at + 1..at + 3].copy_from_slice(&len.to_le_bytes());
        out[at + 3..at + 5].copy_from_slice(&(!len).to_le_bytes());
        out[at + 5..at + 5 + block.len()].copy_from_slice(block);
        at += 5 + block.len();
    }
    out[at..at + TRAILER].copy_from_slice(&trailer(raw));
    at + TRAILER
}

/// Bytes before the stream in a buffer for [`data_member_hashed`]: frame, payload with the longest list, most padding.
const FRONT: usize = FRAME + RUN_PAYLOAD + MAX_LIST + UNIT;

/// Bytes of buffer that [`data_member_hashed`] needs for a chunk of `raw` bytes.
pub fn member_buffer(raw: usize) -> usize {
    FRONT + stored_len(raw)
}

/// A data member in its buffer.
#[derive(Debug)]
pub struct DataMember {
    /// Where in the buffer it stands.
    pub range: Range<usize>,
    /// BLAKE3 of the raw bytes, and of the list of gaps where there is one.
    pub hash: Hash,
    /// It has that list.
    pub has_gaps: bool,
    /// BLAKE3 of the member.
    pub member_hash: Hash,
    /// It did not compress and was stored.
    pub stored: bool,
}

/// [`data_member_hashed`] for whoever does not know the hash.
#[cfg(test)]
pub fn data_member(deflater: &mut dyn Deflate, raw: &[u8], gaps: &Gaps, out: &mut [u8]) -> DataMember {
    data_member_hashed(deflater, raw, gaps, gaps.hash(raw), out)
}

/// Makes the data member of `raw`, which is not empty, in `out` ([`member_buffer`] bytes or more). What it makes depends
/// on nothing but `raw`, its gaps, which are zeros in it, and the codec. `hash` is [`Gaps::hash`] of it.
pub fn data_member_hashed(
    deflater: &mut dyn Deflate,
    raw: &[u8],
    gaps: &Gaps,
    hash: Hash,
    out: &mut [u8],
) -> DataMember {
    debug_assert!(gaps.are_zero_in(raw));
    let list = gaps.encode();
    let stored = stored_len(raw.len());
    let room = &mut out[FRONT..FRONT + stored];
    // Only what is shorter than stored blocks is worth inflating.
    let tail = match incompressible(deflater, raw, room) {
        false => deflater.deflate(raw, &mut room[..stored - 1]),
        true => None,
    };
    let is_stored = tail.is_none();
    let tail = tail.unwrap_or_else(|| store(raw, room));
    let front = data_front(tail, list.len());
    let range = FRONT - front..FRONT + tail;
    write_data_front(&mut out[range.start..FRONT], tail, raw.len() as u64, hash, &list);
    let member_hash = blake3::hash(&out[range.clone()]);
    DataMember { range, hash, has_gaps: !gaps.is_empty(), member_hash, stored: is_stored }
}

/// True where compressing is lost time: evenly spread bytes in samples, and a trial that saves less than 3 %.
fn incompressible(deflater: &mut dyn Deflate, raw: &[u8], scratch: &mut [u8]) -> bool {
    const SAMPLE: usize = 256;
    // Shorter ones are compressed before their samples are counted.
    if raw.len() < 32 << 10 {
        return false;
    }
    let trial_len = (raw.len() / 8).min(32 << 10);
    let mut counts = [0u32; 256];
    let step = raw.len() / 16;
    for sample in raw.chunks(step).filter_map(|c| c.get(..SAMPLE)) {
        for byte in sample {
            counts[usize::from(*byte)] += 1;
        }
    }
    let total = f64::from(counts.iter().sum::<u32>());
    let entropy: f64 =
        counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / total).map(|p| -p * p.log2()).sum();
    // 4 KiB of random bytes give 7.95 bits; compressible data of this evenness is rare, hence the trial.
    entropy > 7.9
        && [raw.len() / 4, raw.len() / 4 * 3 - trial_len].iter().all(|at| {
            let trial = &raw[*at..*at + trial_len];
            deflater.deflate(trial, scratch).is_none_or(|len| len > trial_len / 100 * 97)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::format::member;
    use proptest::prelude::*;
    use std::io::Read;

    /// Bytes that no codec shortens.
    fn noise(len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut out);
        out
    }

    fn both_ways(raw: &[u8]) {
        for codec in Codec::ALL {
            let mut out = vec![0xee; member_buffer(raw.len())];
            let made = data_member(&mut *codec.deflater(), raw, &Gaps::default(), &mut out);
            let bytes = &out[made.range.clone()];
            assert_eq!(bytes.len() % UNIT, 0);
            let mut back = Vec::new();
            flate2::bufread::GzDecoder::new(bytes).read_to_end(&mut back).unwrap();
            assert!(back == raw);
            let stream = member::parse(bytes).unwrap().rest;
            for reader in [Codec::Isal, Codec::Zlib] {
                let mut back = vec![1; raw.len()];
                reader.inflater().inflate(stream, &mut back).unwrap();
                assert!(back == raw);
                assert!(reader.inflater().inflate(stream, &mut vec![1; raw.len() + 1]).is_err());
                assert!(reader.inflater().inflate(stream, &mut vec![1; raw.len() - 1]).is_err());
                assert!(reader.inflater().inflate(&stream[..stream.len() - 1], &mut back).is_err());
                for at in [stream.len() - 1, stream.len() - 8] {
                    let mut bad = stream.to_vec();
                    bad[at] ^= 1;
                    assert!(reader.inflater().inflate(&bad, &mut back).is_err(), "trailer byte {at}");
                }
            }
        }
    }

    #[test]
    fn each_codec_reads_what_the_other_wrote() {
        for len in [512, 4096, 65_536, 131_072, 1 << 20] {
            both_ways(&noise(len));
            both_ways(&vec![7; len]);
            both_ways(&noise(64).repeat(len / 64));
            let mut mixed = noise(len);
            mixed[..len / 2].fill(1);
            both_ways(&mixed);
        }
    }

    #[test]
    fn noise_is_stored_and_text_is_not() {
        let mut out = vec![0; member_buffer(1 << 20)];
        for codec in Codec::ALL {
            assert!(data_member(&mut *codec.deflater(), &noise(1 << 20), &Gaps::default(), &mut out).stored);
            let text = b"It was the best of times, it was the worst of times. ".repeat(20_000);
            assert!(
                !data_member(&mut *codec.deflater(), &text[..1 << 20], &Gaps::default(), &mut out).stored
            );
            // Evenly spread bytes that do compress: noise that repeats.
            assert!(
                !data_member(&mut *codec.deflater(), &noise(8192).repeat(128), &Gaps::default(), &mut out)
                    .stored
            );
        }
    }

    #[test]
    fn a_used_deflater_makes_the_same_member_as_a_fresh_one() {
        let chunks = [
            noise(1 << 16),
            noise(1 << 18),
            b"abcdefgh".repeat(1 << 15),
            noise(1000).repeat(200),
            vec![0; 1 << 18],
        ];
        for codec in Codec::ALL {
            let mut used = codec.deflater();
            for raw in chunks.iter().chain(chunks.iter().rev()) {
                let mut a = vec![0; member_buffer(raw.len())];
                let mut b = vec![0xff; member_buffer(raw.len())];
                let a_member = data_member(&mut *used, raw, &Gaps::default(), &mut a);
                let b_member = data_member(&mut *codec.deflater(), raw, &Gaps::default(), &mut b);
                assert!(a[a_member.range] == b[b_member.range]);
            }
        }
    }

    #[test]
    fn a_higher_level_makes_smaller_members() {
        let words: Vec<u8> =
            noise(1 << 16).iter().flat_map(|byte| format!("{} ", byte % 40).into_bytes()).collect();
        let lens: Vec<usize> = Compression::ALL
            .iter()
            .map(|level| Codec::from(*level).deflater().deflate(&words, &mut vec![0; words.len()]).unwrap())
            .collect();
        assert!(lens.windows(2).all(|pair| pair[0] > pair[1]), "{lens:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_round_trip(raw in proptest::collection::vec(any::<u8>(), 1..5000), repeat in 1usize..20) {
            both_ways(&raw.repeat(repeat));
        }

        #[test]
        fn inflating_any_bytes_is_an_error_and_no_crash(stream in proptest::collection::vec(any::<u8>(), 0..600)) {
            for codec in [Codec::Isal, Codec::Zlib] {
                let _ = codec.inflater().inflate(&stream, &mut [0; 4096]);
            }
        }
    }

    /// What lies around the input in memory, and how it is aligned, must not show in the output.
    #[test]
    fn the_output_depends_on_nothing_but_the_input() {
        let text = |seed: u64, len: usize| -> Vec<u8> {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut next = move || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            let words: Vec<Vec<u8>> =
                (0..40).map(|_| next().to_le_bytes()[..3 + (next() % 5) as usize].to_vec()).collect();
            let mut out = Vec::new();
            while out.len() < len {
                out.extend_from_slice(&words[(next() % 40) as usize]);
            }
            out.truncate(len);
            out
        };
        let mut used = Codec::ALL.map(Codec::deflater);
        for (seed, codec) in
            (1..400u64).flat_map(|seed| (0..Codec::ALL.len()).map(move |codec| (seed, codec)))
        {
            let used = &mut used[codec];
            let raw = text(seed % 7, 4096 << (seed % 4));
            let mut made = Vec::new();
            for (before, after) in [(0, 0u8), (1, 0xff), (7, raw[0]), (64, raw[1])] {
                let around = [vec![after; before], raw.clone(), vec![after; 64]].concat();
                let mut out = vec![after; raw.len() * 2];
                let len = used.deflate(&around[before..before + raw.len()], &mut out).unwrap();
                out.truncate(len);
                made.push(out);
            }
            assert!(made.iter().all(|m| *m == made[0]), "seed {seed}, {:?}", Codec::ALL[codec]);
        }
    }
}
