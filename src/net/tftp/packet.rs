//! TFTP packets (RFC 1350, options as in RFC 2347): bytes in, packets out, and back.

use nom::bytes::complete::{tag, take_while};
use nom::combinator::{all_consuming, map_opt, rest};
use nom::multi::many0;
use nom::number::complete::be_u16;
use nom::sequence::terminated;
use nom::{IResult, Parser};

/// Error codes of RFC 1350 and RFC 2347 as the wire has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub u16);

impl ErrorCode {
    /// File not found.
    pub const NOT_FOUND: ErrorCode = ErrorCode(1);
    /// Access violation: what nobody may do here.
    pub const DENIED: ErrorCode = ErrorCode(2);
    /// Disk full or allocation exceeded: we do not want that much.
    pub const FULL: ErrorCode = ErrorCode(3);
    /// Illegal TFTP operation.
    pub const ILLEGAL: ErrorCode = ErrorCode(4);
    /// Unknown transfer ID: a packet from the wrong port.
    pub const UNKNOWN_TID: ErrorCode = ErrorCode(5);
    /// Option negotiation refused (RFC 2347).
    pub const OPTIONS: ErrorCode = ErrorCode(8);
}

/// One packet. Options are pairs of name and value in the order of the wire; names are compared without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Read request.
    ReadRequest {
        /// File on the server.
        file: String,
        /// Transfer mode, `octet` for us.
        mode: String,
        /// Options asked for.
        options: Vec<(String, String)>,
    },
    /// A block of the file.
    Data {
        /// Block number, from 1, wrapping at 65536.
        block: u16,
        /// A whole block, or less at the end of the file.
        data: &'a [u8],
    },
    /// Everything up to this block has arrived.
    Ack {
        /// Block number; 0 acknowledges options.
        block: u16,
    },
    /// The end of a transfer.
    Error {
        /// Why.
        code: ErrorCode,
        /// Text for humans.
        message: String,
    },
    /// The options that the server accepts.
    OptionAck {
        /// The accepted ones.
        options: Vec<(String, String)>,
    },
}

/// Bytes that are no TFTP packet a client can get or send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a TFTP packet ({0} bytes)")]
pub struct PacketError(pub usize);

/// Printable ASCII up to a NUL.
fn text(input: &[u8]) -> IResult<&[u8], String> {
    let bytes = terminated(take_while(|b| b != 0), tag(&b"\0"[..]));
    map_opt(bytes, |b: &[u8]| {
        let printable = b.iter().all(|b| matches!(b, b' '..=b'~'));
        printable.then(|| b.iter().copied().map(char::from).collect())
    })
    .parse(input)
}

fn options(input: &[u8]) -> IResult<&[u8], Vec<(String, String)>> {
    all_consuming(many0((text, text))).parse(input)
}

fn body(opcode: u16, input: &[u8]) -> IResult<&[u8], Packet<'_>> {
    match opcode {
        1 => {
            let (input, (file, mode, options)) = (text, text, options).parse(input)?;
            Ok((input, Packet::ReadRequest { file, mode, options }))
        }
        3 => (be_u16, rest).map(|(block, data)| Packet::Data { block, data }).parse(input),
        4 => all_consuming(be_u16).map(|block| Packet::Ack { block }).parse(input),
        5 => {
            // Servers leave out the final NUL and write in any encoding; the code is what counts.
            let (input, (code, message)) = (be_u16, rest).parse(input)?;
            let line = message.split(|b| *b == 0).next().unwrap_or_default();
            let message = String::from_utf8_lossy(line).into_owned();
            Ok((input, Packet::Error { code: ErrorCode(code), message }))
        }
        6 => options.map(|options| Packet::OptionAck { options }).parse(input),
        _ => Err(nom::Err::Error(nom::error::Error::new(input, nom::error::ErrorKind::Switch))),
    }
}

impl<'a> Packet<'a> {
    /// Parses one datagram. Strict: whatever is left over makes it no packet.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &'a [u8]) -> Result<Packet<'a>, PacketError> {
        let parsed: IResult<&[u8], u16> = be_u16(bytes);
        parsed
            .and_then(|(input, opcode)| body(opcode, input))
            .map(|(_, packet)| packet)
            .map_err(|_| PacketError(bytes.len()))
    }

    /// The bytes of the packet. Texts must not hold a NUL.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let put = |out: &mut Vec<u8>, texts: &[&str]| {
            for text in texts {
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
        };
        match self {
            Packet::ReadRequest { file, mode, options } => {
                out.extend_from_slice(&[0, 1]);
                put(&mut out, &[file, mode]);
                options.iter().for_each(|(name, value)| put(&mut out, &[name, value]));
            }
            Packet::Data { block, data } => {
                out.extend_from_slice(&[0, 3]);
                out.extend_from_slice(&block.to_be_bytes());
                out.extend_from_slice(data);
            }
            Packet::Ack { block } => {
                out.extend_from_slice(&[0, 4]);
                out.extend_from_slice(&block.to_be_bytes());
            }
            Packet::Error { code, message } => {
                out.extend_from_slice(&[0, 5]);
                out.extend_from_slice(&code.0.to_be_bytes());
                put(&mut out, &[message]);
            }
            Packet::OptionAck { options } => {
                out.extend_from_slice(&[0, 6]);
                options.iter().for_each(|(name, value)| put(&mut out, &[name, value]));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_of_the_rfcs() {
        let options = vec![("blksize".to_owned(), "1408".to_owned())];
        for (packet, bytes) in [
            (
                Packet::ReadRequest { file: "a/b".into(), mode: "octet".into(), options: options.clone() },
                &b"\0\x01a/b\0octet\0blksize\x001408\0"[..],
            ),
            (Packet::Data { block: 258, data: b"xy" }, b"\0\x03\x01\x02xy"),
            (Packet::Data { block: 1, data: b"" }, b"\0\x03\0\x01"),
            (Packet::Ack { block: 0 }, b"\0\x04\0\0"),
            (Packet::Error { code: ErrorCode::NOT_FOUND, message: "no".into() }, b"\0\x05\0\x01no\0"),
            (Packet::OptionAck { options }, b"\0\x06blksize\x001408\0"),
        ] {
            assert_eq!(packet.encode(), bytes);
            assert_eq!(Packet::parse(bytes), Ok(packet));
        }
    }

    #[test]
    fn what_is_no_packet() {
        for bytes in [
            &b""[..],
            b"\0",
            b"\0\0",
            b"\0\x02a\0octet\0", // nobody writes to us
            b"\0\x07",
            b"\0\x01a",
            b"\0\x01a\0octet",
            b"\0\x01a\0octet\0blksize\0",
            b"\0\x03\0",
            b"\0\x04\0",
            b"\0\x04\0\0x",
            b"\0\x05\0",
            b"\0\x06blksize\0",
            b"\0\x06blksize\x001408",
            b"\0\x06blk\nsize\x001\0",
        ] {
            assert_eq!(Packet::parse(bytes), Err(PacketError(bytes.len())), "{bytes:?}");
        }
    }

    #[test]
    fn an_error_counts_however_its_text_is_written() {
        for bytes in [&b"\0\x05\0\x01"[..], b"\0\x05\0\x01gone", b"\0\x05\0\x01\xff\0trailing"] {
            assert!(matches!(Packet::parse(bytes), Ok(Packet::Error { code: ErrorCode::NOT_FOUND, .. })));
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in any::<Vec<u8>>(), opcode in 0u8..8) {
            let _ = Packet::parse(&bytes);
            let _ = Packet::parse(&[&[0, opcode], bytes.as_slice()].concat());
        }

        #[test]
        fn options_parse_back(options in prop::collection::vec(("[ -~]{0,9}", "[ -~]{0,9}"), 0..6)) {
            let packet = Packet::OptionAck { options };
            let bytes = packet.encode();
            prop_assert_eq!(Packet::parse(&bytes), Ok(packet));
        }
    }
}
