//! The binding of ISA-L's deflate and inflate.
//!
//! ISA-L (`igzip_lib.h`) takes plain pointers with lengths. Each call here lends it slices for the call's duration
//! only, and looks at nothing but the lengths it leaves.

use isal_sys::igzip_lib as sys;
use std::mem::MaybeUninit;

/// Level 1 with room for 32 Ki tokens (ISAL_DEF_LVL1_MEDIUM): a block with codes of its own for each so many. On the
/// benchmark's disk that makes images 0.8 % smaller than 128 Ki at the same speed; 16 Ki is 20 % slower for 0.4 % more.
const LEVEL: u32 = 1;
const LEVEL_BUF: usize = 4096 + 2 * 8192 + 4 * (32 << 10);

/// Bytes that are stored as they are, see [`Deflater`]. ISA-L hashes from 4 bytes on.
const FIRST: usize = 8;

/// What the output of ISA-L depends on: it has a portable compressor, and one for SSE4.2 and above, whose variants
/// (AVX, AVX2, AVX-512) were seen to give the same bytes. arm64 has one of its own, which was seen to give others.
pub fn cpu_level() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("sse4.2") {
        return "sse4.2";
    }
    if cfg!(target_arch = "aarch64") { "aarch64" } else { "base" }
}

/// Compresses with ISA-L level 1. What it makes depends on nothing but its input and on [`cpu_level`].
///
/// ISA-L 2.31 gives other bytes from other memory where a stream begins in its fast path: that
/// (`igzip_icf_body_h1_gr_bt.asm`, `.write_first_byte`) takes the hash of the third byte from a register that holds the
/// address of the stream, and so overwrites a chance slot of the hash table. After a dictionary it does not come there. So
/// the first bytes are a stored block, which is made here, and the dictionary of all that follows: what a dictionary does
/// in the window of a deflate stream, bytes before do just so. Nothing else that was not written before is read: neither
/// level buffer nor stream need be cleared.
pub struct Deflater {
    stream: Box<sys::isal_zstream>,
    level_buf: Vec<u8>,
}

// SAFETY: the pointers in the stream are set afresh in each call and not used between calls.
unsafe impl Send for Deflater {}

impl Deflater {
    /// A compressor with its own memory (about 230 KiB).
    pub fn new() -> Self {
        // SAFETY: a C struct of numbers, arrays and pointers, for which all zeros is a value.
        let stream = Box::new(unsafe { MaybeUninit::<sys::isal_zstream>::zeroed().assume_init() });
        Deflater { stream, level_buf: vec![0; LEVEL_BUF] }
    }

    /// Writes the deflate stream of `raw` to `out` and returns its length; `None` where it does not fit.
    pub fn deflate(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        let (first, rest) = raw.split_at(raw.len().min(FIRST));
        let front = stored_front(first, out)?;
        let out = out.get_mut(front..)?;
        let avail_out = u32::try_from(out.len()).ok()?;
        let stream = &mut *self.stream;
        // SAFETY: the stream is a valid isal_zstream; init only writes its fields.
        unsafe { sys::isal_deflate_init(stream) };
        // SAFETY: as above; copies the bytes of a live slice into the stream.
        let rc = unsafe {
            sys::isal_deflate_set_dict(stream, first.as_ptr().cast_mut(), u32::try_from(first.len()).ok()?)
        };
        stream.next_in = rest.as_ptr().cast_mut();
        stream.avail_in = u32::try_from(rest.len()).ok()?;
        stream.next_out = out.as_mut_ptr();
        stream.avail_out = avail_out;
        stream.level = LEVEL;
        stream.level_buf = self.level_buf.as_mut_ptr();
        stream.level_buf_size = LEVEL_BUF as u32;
        stream.flush = sys::NO_FLUSH as u16;
        stream.end_of_stream = 1;
        if rc != sys::COMP_OK as i32 {
            return None;
        }
        // SAFETY: input, output and level buffer are live slices of the given lengths, disjoint by their borrows; ISA-L
        // reads avail_in bytes, and writes at most avail_out and level_buf_size bytes.
        let rc = unsafe { sys::isal_deflate(stream) };
        let ended = stream.internal_state.state == sys::isal_zstate_state_ZSTATE_END;
        if rc != sys::COMP_OK as i32 || stream.avail_in != 0 || !ended {
            return None;
        }
        Some(front + avail_out.checked_sub(stream.avail_out)? as usize)
    }
}

/// Writes `first`, at most 65535 bytes, as a stored block that others follow (RFC 1951 3.2.4), and returns its length.
fn stored_front(first: &[u8], out: &mut [u8]) -> Option<usize> {
    let len = u16::try_from(first.len()).ok()?;
    let [a, b] = len.to_le_bytes();
    out.get_mut(..5)?.copy_from_slice(&[0, a, b, !a, !b]);
    out.get_mut(5..5 + first.len())?.copy_from_slice(first);
    Some(5 + first.len())
}

/// Inflates with ISA-L, whole members or a stream.
pub struct Inflater {
    state: Box<sys::inflate_state>,
}

// SAFETY: the pointers in the state are set afresh in each call and not used between calls.
unsafe impl Send for Inflater {}

/// What one step of a stream did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InflateStep {
    /// Bytes of input used up.
    pub read: usize,
    /// Bytes of output made.
    pub written: usize,
    /// The gzip member ended, and its CRC32 and ISIZE were right.
    pub ended: bool,
}

impl Inflater {
    /// A decompressor with its own memory (about 100 KiB).
    pub fn new() -> Self {
        // SAFETY: a C struct of numbers, arrays and pointers, for which all zeros is a value.
        let mut state = Box::new(unsafe { MaybeUninit::<sys::inflate_state>::zeroed().assume_init() });
        // SAFETY: init only writes the fields of the state that it is given.
        unsafe { sys::isal_inflate_init(&mut *state) };
        Inflater { state }
    }

    /// Gets ready for a gzip member with its header.
    pub fn begin_gzip(&mut self) {
        // SAFETY: as in `new`.
        unsafe { sys::isal_inflate_init(&mut *self.state) };
        self.state.crc_flag = sys::ISAL_GZIP;
    }

    /// Goes on with the member: takes input, makes output, as much as there is of both.
    pub fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<InflateStep, String> {
        let state = &mut *self.state;
        let lens = (u32::try_from(input.len()), u32::try_from(out.len()));
        let (Ok(avail_in), Ok(avail_out)) = lens else {
            return Err("buffers above 4 GiB".to_owned());
        };
        state.next_in = input.as_ptr().cast_mut();
        state.avail_in = avail_in;
        state.next_out = out.as_mut_ptr();
        state.avail_out = avail_out;
        // SAFETY: both slices live for the call and are disjoint; ISA-L reads avail_in and writes avail_out bytes at
        // most, and keeps what it needs of them (history, odd bits) inside its state.
        let rc = unsafe { sys::isal_inflate(state) };
        if rc != sys::ISAL_DECOMP_OK as i32 {
            return Err(reason(rc));
        }
        let left = (avail_in.checked_sub(state.avail_in), avail_out.checked_sub(state.avail_out));
        let (Some(read), Some(written)) = left else {
            return Err("the inflater lost its place".to_owned());
        };
        let ended = state.block_state == sys::isal_block_state_ISAL_BLOCK_FINISH;
        Ok(InflateStep { read: read as usize, written: written as usize, ended })
    }

    /// Inflates a deflate stream with its gzip trailer: it must fill `out` exactly, use up `stream` exactly, and have the
    /// right CRC32 and ISIZE. The error says what is wrong.
    pub fn inflate(&mut self, stream: &[u8], out: &mut [u8]) -> Result<(), String> {
        let state = &mut *self.state;
        let lens = (u32::try_from(stream.len()), u32::try_from(out.len()));
        let (Ok(avail_in), Ok(avail_out)) = lens else {
            return Err("buffers above 4 GiB".to_owned());
        };
        state.crc_flag = sys::ISAL_GZIP_NO_HDR_VER;
        state.next_in = stream.as_ptr().cast_mut();
        state.avail_in = avail_in;
        state.next_out = out.as_mut_ptr();
        state.avail_out = avail_out;
        // SAFETY: both slices live for the call and are disjoint; ISA-L reads avail_in and writes avail_out bytes at
        // most.
        let rc = unsafe { sys::isal_inflate_stateless(state) };
        if rc != sys::ISAL_DECOMP_OK as i32 {
            return Err(reason(rc));
        }
        if state.avail_in != 0 || state.avail_out != 0 {
            return Err("the deflate stream has another length than its member says".to_owned());
        }
        Ok(())
    }
}

fn reason(rc: i32) -> String {
    match rc {
        1 => "the deflate stream is cut short".to_owned(),
        2 => "the deflate stream is longer than its member says".to_owned(),
        -1 => "bad deflate block".to_owned(),
        -2 => "bad deflate symbol".to_owned(),
        -3 => "bad deflate distance".to_owned(),
        -4 => "no gzip header".to_owned(),
        -5 => "unknown compression method".to_owned(),
        -6 => "CRC32 or ISIZE is wrong".to_owned(),
        other => format!("ISA-L error {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of ISA-L's fast path: CRC-32C of 4 bytes without the inversions, 13 bits of it.
    fn slot(word: u32) -> u32 {
        let crc = (0..32).fold(word, |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()));
        crc & 0x1fff
    }

    /// Text that has `word` near its beginning, and again later.
    fn text(skip: usize, word: u32, len: usize) -> Vec<u8> {
        let word = word.to_le_bytes();
        let mut out = [&b"xyz"[..skip], &word, b"0123456789", &word, b"0123"].concat();
        let mut state = 1u32;
        while out.len() < len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            out.push((state >> 26) as u8);
        }
        out
    }

    fn deflate(deflater: &mut Deflater, raw: &[u8]) -> Vec<u8> {
        let mut out = vec![0x55; 2 * raw.len() + 100];
        let len = deflater.deflate(raw, &mut out).unwrap();
        out.truncate(len);
        out
    }

    /// Inputs whose first bytes have the very hash that ISA-L would take from the address of the stream: with one
    /// call for all of the input they come out otherwise from every other stream.
    #[test]
    fn the_output_does_not_depend_on_the_address_of_the_stream() {
        let mut deflaters: Vec<Deflater> = (0..4).map(|_| Deflater::new()).collect();
        let slots: Vec<u32> =
            deflaters.iter().map(|d| slot((&raw const *d.stream as usize >> 16) as u32)).collect();
        for wanted in &slots {
            let words =
                (0..1u32 << 16).map(|n| n.wrapping_mul(2_654_435_761)).filter(|w| slot(*w) == *wanted);
            for (word, skip) in words.flat_map(|word| (0..3).map(move |skip| (word, skip))) {
                let raw = text(skip, word, 4096);
                let made: Vec<Vec<u8>> = deflaters.iter_mut().map(|d| deflate(d, &raw)).collect();
                assert!(made.iter().all(|m| *m == made[0]), "word {word:x} at {skip}, slots {slots:?}");
            }
        }
    }

    #[test]
    fn the_output_does_not_depend_on_what_the_memory_held() {
        for len in [1, 7, 8, 9, 24, 25, 300, 4096, 70_000, 300_000] {
            let raw = text(0, 0x6362_6160, len)[..len].to_vec();
            let wanted = deflate(&mut Deflater::new(), &raw);
            for dirt in [0, 1, 0x5a, 0xff] {
                let mut deflater = Deflater::new();
                deflater.level_buf.fill(dirt);
                let state = &mut deflater.stream.internal_state;
                state.buffer.fill(dirt);
                state.head.fill(u16::from(dirt) << 8 | u16::from(dirt));
                state.tmp_out_buff.fill(dirt);
                (state.dist_mask, state.hash_mask, state.crc) = (dirt.into(), dirt.into(), dirt.into());
                assert!(deflate(&mut deflater, &raw) == wanted, "{len} bytes, {dirt:x}");
                // What did not fit leaves a stream half done.
                assert!(deflater.deflate(&raw, &mut vec![0; wanted.len() - 1]).is_none());
                assert!(deflate(&mut deflater, &raw) == wanted, "{len} bytes, {dirt:x} again");
            }
        }
    }
}
