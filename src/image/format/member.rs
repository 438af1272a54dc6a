//! The frame that all members share: a gzip member with one extra subfield `TB`. See `FORMAT.md`.
#![forbid(unsafe_code)]

use crate::bytes::{array, le};

/// Members are multiples of this many bytes.
pub const UNIT: usize = 4096;
/// Format version.
pub const VERSION: u8 = 1;
/// Bytes before the payload.
pub const FRAME: usize = 16;
/// CRC32 and ISIZE.
pub const TRAILER: usize = 8;
/// Longest payload: FEXTRA with its subfield header stays below 16,000 bytes.
pub const MAX_PAYLOAD: usize = 15_990;
/// Bytes of a run's payload without the list of gaps and padding.
pub const RUN_PAYLOAD: usize = 48;
/// Bytes at the beginning of a run's member that tell all but what is in it: frame, payload, the length of the list of gaps.
pub const RUN_HEAD: usize = FRAME + RUN_PAYLOAD + 2;
/// Longest text of the header in bytes.
pub const MAX_TEXT: usize = 1024;
/// A deflate stream of nothing: one final block with fixed codes, only its end.
const EMPTY: [u8; 2] = [3, 0];

/// What a member stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MemberKind {
    /// The first member: who the disk is.
    Header = 1,
    /// Bytes of the disk, compressed.
    Data = 2,
    /// Zeros.
    Zero = 3,
    /// Not used by any file system; zeros for gzip readers.
    Unallocated = 4,
    /// The disk did not give these bytes; zeros stand in.
    Unreadable = 5,
    /// A node of the index.
    Index = 6,
    /// The last member: root hash and totals.
    Footer = 7,
}

impl MemberKind {
    /// The kind of a stored number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        use MemberKind::*;
        [Header, Data, Zero, Unallocated, Unreadable, Index, Footer].into_iter().find(|k| *k as u8 == byte)
    }

    /// True for the four kinds that stand for a piece of disk.
    pub fn is_run(self) -> bool {
        matches!(self, MemberKind::Data | MemberKind::Zero | MemberKind::Unallocated | MemberKind::Unreadable)
    }

    /// Its bit in the mask of an inner index entry.
    pub fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Why bytes are not the member that they should be.
pub type Reason = &'static str;

/// The next multiple of [`UNIT`].
pub fn round_up(len: usize) -> usize {
    len.div_ceil(UNIT) * UNIT
}

/// Writes frame and payload into `to`, whose length says how long both (with padding) shall be. The payload's
/// version, kind and member length are filled in.
pub fn write_frame(to: &mut [u8], kind: MemberKind, member_len: usize, payload: &[u8], named: bool) {
    let payload_len = to.len() - FRAME;
    debug_assert!(payload.len() <= payload_len && payload_len <= MAX_PAYLOAD);
    to.fill(0);
    let flags = if named { 0x0c } else { 0x04 };
    to[..10].copy_from_slice(&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255]);
    to[10..12].copy_from_slice(&((payload_len + 4) as u16).to_le_bytes());
    to[12..14].copy_from_slice(b"TB");
    to[14..16].copy_from_slice(&(payload_len as u16).to_le_bytes());
    to[FRAME..FRAME + payload.len()].copy_from_slice(payload);
    to[FRAME] = VERSION;
    to[FRAME + 1] = kind as u8;
    to[FRAME + 4..FRAME + 8].copy_from_slice(&(member_len as u32).to_le_bytes());
}

/// A whole member with empty content. The first 8 bytes of `payload` are filled in here.
pub fn empty_member(kind: MemberKind, payload: &[u8], name: Option<&str>) -> Vec<u8> {
    let name_len = name.map_or(0, |n| n.len() + 1);
    let tail = name_len + EMPTY.len() + TRAILER;
    let len = round_up(FRAME + payload.len() + tail);
    let mut member = vec![0; len];
    write_frame(&mut member[..len - tail], kind, len, payload, name.is_some());
    if let Some(name) = name {
        member[len - tail..][..name.len()].copy_from_slice(name.as_bytes());
    }
    member[len - TRAILER - EMPTY.len()..][..EMPTY.len()].copy_from_slice(&EMPTY);
    member
}

/// True where these are the first bytes of a gzip member that carries our subfield. Only that: the rest may be damaged.
pub fn is_own(bytes: &[u8]) -> bool {
    // FLG.FEXTRA: without it the same bytes may be a file name or data.
    matches!(bytes, [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, _, _, b'T', b'B', ..] if flags & 4 != 0)
}

/// A member taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// What it stands for.
    pub kind: MemberKind,
    /// Its length in bytes, as it says itself.
    pub len: usize,
    /// The payload with its padding.
    pub payload: &'a [u8],
    /// What follows the payload: name, deflate stream, trailer.
    pub rest: &'a [u8],
}

/// Kind and length of the member that begins like this, where it looks like one; nothing else of it is checked.
pub fn peek(head: &[u8]) -> Option<(MemberKind, usize)> {
    let frame: [u8; FRAME + 8] = array(head, 0)?;
    let is_ours = frame[..3] == [0x1f, 0x8b, 8] && frame[12..14] == *b"TB" && frame[FRAME] == VERSION;
    let kind = MemberKind::from_byte(frame[FRAME + 1])?;
    let len = le::u32(&frame, FRAME + 4)? as usize;
    (is_ours && len > 0 && len.is_multiple_of(UNIT)).then_some((kind, len))
}

/// Takes a member apart; `bytes` may hold only its beginning, or more than it.
pub fn parse(bytes: &[u8]) -> Result<Member<'_>, Reason> {
    let frame: [u8; FRAME] = array(bytes, 0).ok_or("a member's frame is cut short")?;
    if frame[..3] != [0x1f, 0x8b, 8] || frame[12..14] != *b"TB" {
        return Err("no testbox member begins here");
    }
    let payload_len = usize::from(u16::from_le_bytes([frame[14], frame[15]]));
    let extra_len = usize::from(u16::from_le_bytes([frame[10], frame[11]]));
    let payload = bytes.get(FRAME..FRAME + payload_len).ok_or("a member's extra field is cut short")?;
    let head: [u8; 8] = array(payload, 0).ok_or("a member's payload is too short")?;
    if head[0] != VERSION {
        return Err("format version is unknown: a newer testbox wrote it");
    }
    let kind = MemberKind::from_byte(head[1]).ok_or("member kind is unknown: a newer testbox wrote it")?;
    let flags = if kind == MemberKind::Header { 0x0c } else { 0x04 };
    if frame[3..10] != [flags, 0, 0, 0, 0, 0, 255] || extra_len != payload_len + 4 || head[2..4] != [0, 0] {
        return Err("a member's frame has wrong fields");
    }
    let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if len == 0 || !len.is_multiple_of(UNIT) || len < FRAME + payload_len {
        return Err("a member has an impossible length");
    }
    let rest = &bytes[FRAME + payload_len..len.min(bytes.len())];
    Ok(Member { kind, len, payload, rest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn empty_members_are_gzip_of_nothing_in_whole_units() {
        for (payload, name) in [(8, None), (8, Some("sda.raw")), (4068, None), (4070, None), (12_262, None)] {
            let member = empty_member(
                if name.is_some() { MemberKind::Header } else { MemberKind::Index },
                &vec![0; payload],
                name,
            );
            assert_eq!(member.len() % UNIT, 0);
            assert!(member.len() - (FRAME + payload) < UNIT + 32, "padding is minimal");
            let mut out = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(&member[..]);
            decoder.read_to_end(&mut out).unwrap();
            assert!(out.is_empty());
            assert_eq!(decoder.header().unwrap().filename(), name.map(str::as_bytes));
            let parsed = parse(&member).unwrap();
            assert_eq!(parsed.len, member.len());
        }
    }

    #[test]
    fn any_wrong_frame_byte_is_refused() {
        let member = empty_member(MemberKind::Index, &[0; 8], None);
        assert!(parse(&member).is_ok());
        for at in (0..FRAME).chain(FRAME..FRAME + 8) {
            for bit in 0..8 {
                let mut bad = member.clone();
                bad[at] ^= 1 << bit;
                // A flipped kind may be another run kind, a flipped length another length: hashes catch those.
                let same = parse(&bad).is_ok_and(|m| m.kind == MemberKind::Index && m.len == member.len());
                assert!(!same, "byte {at} bit {bit}");
            }
        }
        for len in 0..FRAME + 8 {
            assert!(parse(&member[..len]).is_err());
        }
    }
}
