//! Percent-encoding of characters that cannot stand in a kernel word.

use super::ParameterError;
use crate::text::quoted;
use nom::branch::alt;
use nom::bytes::complete::{take_while_m_n, take_while1};
use nom::character::complete::char;
use nom::combinator::{all_consuming, map, map_opt};
use nom::multi::fold_many0;
use nom::sequence::preceded;
use nom::{IResult, Parser};

/// Characters that mean nothing to the kernel, to PXELINUX, to the shell of the initramfs (which expands
/// `$(cat /proc/cmdline)` with globbing) or to the lists of the testbox words.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._:/@+=".contains(c)
}

/// Encodes every byte that is not an ASCII letter, a digit or one of `-._:/@+=` as `%XX`.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(char::from(byte)) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn escaped(input: &str) -> IResult<&str, u8> {
    let hex2 = take_while_m_n(2, 2, |c: char| c.is_ascii_hexdigit());
    map_opt(preceded(char('%'), hex2), |hex: &str| u8::from_str_radix(hex, 16).ok()).parse(input)
}

/// Decodes `%XX`. A `%` that no two hex digits follow, or bytes that are not UTF-8, are errors.
///
/// # Errors
/// The place of the first mistake.
pub fn decode(text: &str) -> Result<String, ParameterError> {
    let plain = map(take_while1(|c| c != '%'), |s: &str| s.as_bytes().to_vec());
    let piece = alt((plain, map(escaped, |b| vec![b])));
    let parsed: IResult<&str, Vec<u8>> = all_consuming(fold_many0(piece, Vec::new, |mut out, bytes| {
        out.extend_from_slice(&bytes);
        out
    }))
    .parse(text);
    parsed.ok().and_then(|(_, bytes)| String::from_utf8(bytes).ok()).ok_or_else(|| {
        ParameterError::new(format!(
            "{} is not percent-encoded (a space is %20, a percent sign %25)",
            quoted(text)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_codes() {
        assert_eq!(encode("WD 1,2%\"*"), "WD%201%2C2%25%22%2A");
        assert_eq!(decode("WD%201%2c2"), Ok("WD 1,2".into()));
        for bad in ["%", "%2", "%zz", "a%", "%ff", "%+1"] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn decode_undoes_encode_and_nothing_special_is_left(text in any::<String>()) {
            let encoded = encode(&text);
            prop_assert!(encoded.chars().all(|c| is_plain(c) || c == '%'));
            prop_assert_eq!(decode(&encoded), Ok(text));
        }

        #[test]
        fn decode_never_panics(text in any::<String>()) {
            let _ = decode(&text);
        }
    }
}
