//! OpenSSH's formats of Ed25519 public keys (`ssh-ed25519 BASE64 COMMENT`) and of signatures over files (PROTOCOL.sshsig
//! in OpenSSH's sources). Parsing is total: no file can make it panic or take much memory.

use base64ct::{Base64, Base64Unpadded, Encoding};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256, Sha512};
use std::fmt;

pub(super) const KEY_TYPE: &str = "ssh-ed25519";
const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
/// The hash that ssh-keygen takes unless it is told otherwise.
const HASH: &str = "sha512";
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// Characters of base64 in a line of an armored file.
const LINE: usize = 70;
/// Keys that are read from one file, and characters of a comment that are kept.
const MOST: usize = 64;

/// Why a key or signature cannot be read, as the end of a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub &'static str);

/// An Ed25519 public key and what its owner calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    comment: String,
}

impl PublicKey {
    pub(super) fn new(bytes: &[u8; 32], comment: &str) -> Result<Self, FormatError> {
        let key =
            VerifyingKey::from_bytes(bytes).map_err(|_| FormatError("it is not a point of the curve"))?;
        // A key of small order would take one signature for many messages.
        if key.is_weak() {
            return Err(FormatError("it is a weak key"));
        }
        let comment = comment.trim().chars().filter(|c| matches!(c, ' '..='~')).take(MOST);
        let comment: String = comment.collect();
        Ok(PublicKey { key, comment: comment.trim().to_owned() })
    }

    /// Reads a line of a `.pub` file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &str) -> Result<Self, FormatError> {
        let mut words = line.trim().splitn(3, [' ', '\t']);
        if words.next() != Some(KEY_TYPE) {
            return Err(FormatError("it is not 'ssh-ed25519 BASE64 COMMENT', the only kind that is taken"));
        }
        let blob = Base64::decode_vec(words.next().unwrap_or_default())
            .map_err(|_| FormatError("its second word is not base64"))?;
        Self::from_blob(&blob, words.next().unwrap_or_default())
    }

    fn from_blob(blob: &[u8], comment: &str) -> Result<Self, FormatError> {
        let mut reader = Reader(blob);
        if reader.string()? != KEY_TYPE.as_bytes() {
            return Err(FormatError("it is no Ed25519 key"));
        }
        let bytes = reader.string()?.try_into().map_err(|_| FormatError("it is not a key of 32 bytes"))?;
        reader.end()?;
        Self::new(bytes, comment)
    }

    /// The key itself, 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    pub(super) fn comment(&self) -> &str {
        &self.comment
    }

    pub(super) fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        put(&mut blob, KEY_TYPE.as_bytes());
        put(&mut blob, self.bytes());
        blob
    }

    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    pub fn id(&self) -> String {
        format!("SHA256:{}", Base64Unpadded::encode_string(&Sha256::digest(self.blob())))
    }

    /// The line of a `.pub` file, without its newline.
    pub fn line(&self) -> String {
        let line = format!("{KEY_TYPE} {} {}", Base64::encode_string(&self.blob()), self.comment);
        line.trim_end().to_owned()
    }

    /// True where this key made the signature, over this message, for this purpose. Strict as in RFC 8032, and without
    /// the points of small order that it leaves open.
    pub fn verifies(&self, namespace: &str, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(&signed_data(namespace, message), &Signature::from_bytes(signature)).is_ok()
    }
}

/// The key id, and the comment where there is one.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.comment.as_str() {
            "" => f.write_str(&self.id()),
            comment => write!(f, "{} ({comment})", self.id()),
        }
    }
}

/// The keys in a text: one a line; empty lines and those with a `#` first are passed over.
pub fn parse_keys(text: &str) -> Vec<Result<PublicKey, String>> {
    let lines = text.lines().enumerate().map(|(n, line)| (n, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .take(MOST)
        .map(|(n, line)| PublicKey::parse(line).map_err(|e| format!("line {}: {e}", n + 1)))
        .collect()
}

/// A signature over a file, as `ssh-keygen -Y sign` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshSignature {
    /// Who says that he made it. It proves nothing before it is one of the trusted keys.
    pub key: PublicKey,
    /// What it is for.
    pub namespace: String,
    /// The signature itself.
    pub signature: [u8; 64],
}

impl SshSignature {
    /// Reads a signature file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(file: &[u8]) -> Result<Self, FormatError> {
        Self::from_blob(&dearmor(BEGIN, file, END)?)
    }

    /// Reads what a signature file holds in base64.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_blob(blob: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader(blob);
        if reader.take(MAGIC.len())? != MAGIC || reader.u32()? != VERSION {
            return Err(FormatError("it is no SSH signature of version 1"));
        }
        let key = PublicKey::from_blob(reader.string()?, "")?;
        let namespace = reader.string()?;
        let namespace = std::str::from_utf8(namespace)
            .ok()
            .filter(|n| (1..=MOST).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or(FormatError("its namespace is not a word"))?;
        if !reader.string()?.is_empty() {
            return Err(FormatError("its reserved field is not empty"));
        }
        if reader.string()? != HASH.as_bytes() {
            return Err(FormatError("it is over another hash than SHA-512"));
        }
        let mut signature = Reader(reader.string()?);
        reader.end()?;
        if signature.string()? != KEY_TYPE.as_bytes() {
            return Err(FormatError("it is no Ed25519 signature"));
        }
        let bytes = signature.string()?.try_into().map_err(|_| FormatError("it has not 64 bytes"))?;
        signature.end()?;
        Ok(SshSignature { key, namespace: namespace.to_owned(), signature: bytes })
    }

    /// The content of a signature file.
    pub fn to_file(&self) -> String {
        let mut blob = MAGIC.to_vec();
        blob.extend_from_slice(&VERSION.to_be_bytes());
        put(&mut blob, &self.key.blob());
        put(&mut blob, self.namespace.as_bytes());
        put(&mut blob, b"");
        put(&mut blob, HASH.as_bytes());
        let mut signature = Vec::new();
        put(&mut signature, KEY_TYPE.as_bytes());
        put(&mut signature, &self.signature);
        put(&mut blob, &signature);
        armor(BEGIN, &blob, END)
    }
}

/// The bytes that are signed for a message.
pub(super) fn signed_data(namespace: &str, message: &[u8]) -> Vec<u8> {
    let mut data = MAGIC.to_vec();
    put(&mut data, namespace.as_bytes());
    put(&mut data, b"");
    put(&mut data, HASH.as_bytes());
    put(&mut data, &Sha512::digest(message));
    data
}

/// Base64 in lines between two marks.
pub(super) fn armor(begin: &str, blob: &[u8], end: &str) -> String {
    let base64 = Base64::encode_string(blob);
    let mut text = format!("{begin}\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(end);
    text.push('\n');
    text
}

/// What stands between two marks, in base64.
pub(super) fn dearmor(begin: &str, file: &[u8], end: &str) -> Result<Vec<u8>, FormatError> {
    let text = std::str::from_utf8(file).map_err(|_| FormatError("it is not text"))?;
    let body = text.trim().strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
    let body = body.ok_or(FormatError("its first and last lines are not those of such a file"))?;
    let base64: String = body.split_ascii_whitespace().collect();
    Base64::decode_vec(&base64).map_err(|_| FormatError("what it holds is not base64"))
}

/// Appends a string of SSH's wire format (RFC 4251 section 5): its length in 4 bytes, and its bytes.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // Nothing here is longer than a few hundred bytes.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Reads SSH's wire format.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(FormatError("it is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(self.take(4)?.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
    }

    pub fn string(&mut self) -> Result<&'a [u8], FormatError> {
        let len = self.u32()?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    pub fn end(&self) -> Result<(), FormatError> {
        if self.0.is_empty() { Ok(()) } else { Err(FormatError("something follows its end")) }
    }
}
