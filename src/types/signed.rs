//! The words by which a job names a set, and carries its signature.

use super::ParameterError;
use crate::text::quoted;
use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// The signature of a job, of its text: `testbox.signature=`, 86 characters of base64url (RFC 4648).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSignature(pub [u8; 64]);

impl fmt::Display for JobSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Base64UrlUnpadded::encode_string(&self.0))
    }
}

impl FromStr for JobSignature {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let mut bytes = [0; 64];
        match Base64UrlUnpadded::decode(text, &mut bytes) {
            Ok(decoded) if decoded.len() == 64 => Ok(JobSignature(bytes)),
            _ => Err(ParameterError::new(format!(
                "{} is not a signature of 86 characters of base64url",
                quoted(text)
            ))),
        }
    }
}

/// The name of one set of images: SHA-256 of its `backup.json`, as `sha256sum` shows it. `testbox.set=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetHash([u8; 32]);

impl SetHash {
    /// The name of the set with this `backup.json`.
    pub fn of(record: &[u8]) -> Self {
        SetHash(Sha256::digest(record).into())
    }
}

impl fmt::Display for SetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for SetHash {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let wrong =
            || ParameterError::new(format!("{} is no SHA-256 of 64 hex digits in lower case", quoted(text)));
        let is_hex = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
        if text.len() != 64 || !text.bytes().all(is_hex) {
            return Err(wrong());
        }
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(SetHash(hash))
    }
}
