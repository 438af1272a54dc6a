//! Secret keys, for `testboxctl`: OpenSSH's file `openssh-key-v1` (PROTOCOL.key in its sources), without a passphrase.

use super::ssh::{FormatError, KEY_TYPE, PublicKey, Reader, SshSignature, armor, dearmor, put, signed_data};
use ed25519_dalek::{Signer, SigningKey};

const MAGIC: &[u8] = b"openssh-key-v1\0";
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
/// Cipher and key derivation of a file without a passphrase.
const NONE: &[u8] = b"none";
/// Block size of the cipher `none`: the secret part is padded to it.
const BLOCK: usize = 8;

/// An Ed25519 key pair. The secret is wiped from memory when it is dropped.
pub struct SecretKey {
    key: SigningKey,
    public: PublicKey,
}

impl SecretKey {
    /// The key of these 32 random bytes.
    ///
    /// # Errors
    /// The comment cannot stand in a key file.
    pub fn new(seed: &[u8; 32], comment: &str) -> Result<Self, FormatError> {
        let key = SigningKey::from_bytes(seed);
        let public = PublicKey::new(key.verifying_key().as_bytes(), comment)?;
        Ok(SecretKey { key, public })
    }

    /// Reads a key file of `ssh-keygen -t ed25519` or of `testboxctl keygen`.
    ///
    /// # Errors
    /// What is wrong with the file; a passphrase is named.
    pub fn parse(file: &[u8]) -> Result<Self, FormatError> {
        Self::from_blob(&dearmor(BEGIN, file, END)?)
    }

    /// Reads what a key file holds in base64.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_blob(blob: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader(blob);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(FormatError("it is no OpenSSH private key of version 1"));
        }
        let (cipher, kdf, _) = (reader.string()?, reader.string()?, reader.string()?);
        if (cipher, kdf) != (NONE, NONE) {
            return Err(FormatError("it has a passphrase: only ssh-keygen -Y sign can use it"));
        }
        if reader.u32()? != 1 {
            return Err(FormatError("it holds more than one key"));
        }
        reader.string()?;
        let mut secret = Reader(reader.string()?);
        reader.end()?;
        if secret.u32()? != secret.u32()? {
            return Err(FormatError("it is damaged"));
        }
        if secret.string()? != KEY_TYPE.as_bytes() {
            return Err(FormatError("it is no Ed25519 key"));
        }
        let public = secret.string()?;
        // Seed and public key in one.
        let pair = secret.string()?;
        let seed = pair.first_chunk::<32>().filter(|_| pair.len() == 64);
        let comment = secret.string()?;
        let key = SecretKey::new(
            seed.ok_or(FormatError("it is not a key of 64 bytes"))?,
            &String::from_utf8_lossy(comment),
        )?;
        if key.public.bytes() != public || pair.get(32..) != Some(public) {
            return Err(FormatError("its public half is not that of its secret half"));
        }
        Ok(key)
    }

    /// The content of a key file; `check` are random bytes by which OpenSSH knows that it has decrypted a file.
    pub fn to_file(&self, check: [u8; 4]) -> String {
        let mut secret = [check, check].concat();
        put(&mut secret, KEY_TYPE.as_bytes());
        put(&mut secret, self.public.bytes());
        put(&mut secret, &[*self.key.as_bytes(), *self.public.bytes()].concat());
        put(&mut secret, self.public.comment().as_bytes());
        let padding = (1..).take(secret.len().next_multiple_of(BLOCK) - secret.len());
        secret.extend(padding);
        let mut blob = MAGIC.to_vec();
        put(&mut blob, NONE);
        put(&mut blob, NONE);
        put(&mut blob, b"");
        blob.extend_from_slice(&1u32.to_be_bytes());
        put(&mut blob, &self.public.blob());
        put(&mut blob, &secret);
        armor(BEGIN, &blob, END)
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message, for one purpose.
    pub fn sign(&self, namespace: &str, message: &[u8]) -> SshSignature {
        let signature = self.key.sign(&signed_data(namespace, message)).to_bytes();
        SshSignature { key: self.public.clone(), namespace: namespace.to_owned(), signature }
    }
}
