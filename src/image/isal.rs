//! The binding of ISA-L's deflate and inflate, the only `unsafe` of the image code.
//!
//! ISA-L (`igzip_lib.h`) takes plain pointers with lengths. Each call here lends it slices for the call's duration
//! only, and looks at nothing but the lengths it leaves.

use super::codec::{CodecError, Deflate, Inflate};
use isal_sys::igzip_lib as sys;
use std::mem::MaybeUninit;

/// Level 1 with room for 32 Ki tokens (ISAL_DEF_LVL1_MEDIUM): a block with codes of its own for each so many. On the
/// benchmark's disk that makes images 0.8 % smaller than 128 Ki at the same speed; 16 Ki is 20 % slower for 0.4 % more.
const LEVEL: u32 = 1;
const LEVEL_BUF: usize = 4096 + 2 * 8192 + 4 * (32 << 10);

/// The instruction set that ISA-L dispatches to; its output depends on it.
pub fn cpu_level() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512vbmi2") {
            return "avx512";
        } else if std::is_x86_feature_detected!("avx2") {
            return "avx2";
        } else if std::is_x86_feature_detected!("avx") {
            return "avx";
        } else if std::is_x86_feature_detected!("sse4.2") {
            return "sse4";
        }
    }
    "base"
}

/// Compresses with ISA-L level 1.
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
}

impl Deflate for Deflater {
    fn deflate(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        let stream = &mut *self.stream;
        let (avail_in, avail_out) = (u32::try_from(raw.len()).ok()?, u32::try_from(out.len()).ok()?);
        // SAFETY: the stream is a valid isal_zstream; init only writes its fields.
        unsafe { sys::isal_deflate_stateless_init(stream) };
        stream.next_in = raw.as_ptr().cast_mut();
        stream.avail_in = avail_in;
        stream.next_out = out.as_mut_ptr();
        stream.avail_out = avail_out;
        stream.level = LEVEL;
        stream.level_buf = self.level_buf.as_mut_ptr();
        stream.level_buf_size = LEVEL_BUF as u32;
        stream.end_of_stream = 1;
        stream.gzip_flag = sys::IGZIP_GZIP_NO_HDR as u16;
        // SAFETY: input, output and level buffer are live slices of the given lengths, disjoint by their borrows;
        // ISA-L reads avail_in bytes, and writes at most avail_out and level_buf_size bytes.
        let rc = unsafe { sys::isal_deflate_stateless(stream) };
        let all_read = stream.avail_in == 0;
        let len = (avail_out.checked_sub(stream.avail_out)?) as usize;
        (rc == sys::COMP_OK as i32 && all_read).then_some(len)
    }
}

/// Inflates with ISA-L, whole members or a stream.
pub struct Inflater {
    state: Box<sys::inflate_state>,
}

// SAFETY: the pointers in the state are set afresh in each call and not used between calls.
unsafe impl Send for Inflater {}

/// What one step of a stream did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
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
    pub fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, CodecError> {
        let state = &mut *self.state;
        let lens = (u32::try_from(input.len()), u32::try_from(out.len()));
        let (Ok(avail_in), Ok(avail_out)) = lens else {
            return Err(CodecError("buffers above 4 GiB".to_owned()));
        };
        state.next_in = input.as_ptr().cast_mut();
        state.avail_in = avail_in;
        state.next_out = out.as_mut_ptr();
        state.avail_out = avail_out;
        // SAFETY: both slices live for the call and are disjoint; ISA-L reads avail_in and writes avail_out bytes at
        // most, and keeps what it needs of them (history, odd bits) inside its state.
        let rc = unsafe { sys::isal_inflate(state) };
        if rc != sys::ISAL_DECOMP_OK as i32 {
            return Err(CodecError(reason(rc)));
        }
        let left = (avail_in.checked_sub(state.avail_in), avail_out.checked_sub(state.avail_out));
        let (Some(read), Some(written)) = left else {
            return Err(CodecError("the inflater lost its place".to_owned()));
        };
        let ended = state.block_state == sys::isal_block_state_ISAL_BLOCK_FINISH;
        Ok(Step { read: read as usize, written: written as usize, ended })
    }
}

impl Inflate for Inflater {
    fn inflate(&mut self, stream: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let state = &mut *self.state;
        let lens = (u32::try_from(stream.len()), u32::try_from(out.len()));
        let (Ok(avail_in), Ok(avail_out)) = lens else {
            return Err(CodecError("buffers above 4 GiB".to_owned()));
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
            return Err(CodecError(reason(rc)));
        }
        if state.avail_in != 0 || state.avail_out != 0 {
            return Err(CodecError("the deflate stream has another length than its member says".to_owned()));
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
