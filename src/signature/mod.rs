//! Signatures over sets of images and over jobs, and the keys that the initramfs trusts.
//!
//! Keys and signatures are OpenSSH's (Ed25519, PROTOCOL.sshsig), so that `ssh-keygen -Y` makes and checks them too. A
//! set is signed over the bytes of its `backup.json`, which has the root hash of every image; a job over `job_text`.
//! The agent only verifies: no secret key is ever on a testbox.
#![forbid(unsafe_code)]

mod secret;
mod ssh;

pub use secret::SecretKey;
pub use ssh::{FormatError, PublicKey, SshSignature, parse_keys};

use crate::types::JobSignature;

/// Largest signature file that is read, in bytes. Ours have about 300.
pub const SIGNATURE_LIMIT: usize = 4 << 10;
/// What a signature of a set is for (`ssh-keygen -n`): one of a job, or of somebody's mail, is not one of a set.
pub const SET_NAMESPACE: &str = "testbox-set";
/// The same for jobs.
pub const JOB_NAMESPACE: &str = "testbox-job";

/// What is known of a signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// There is none.
    #[default]
    Unsigned,
    /// A trusted key made it, over exactly these bytes: key id and comment.
    By(String),
    /// There is one, and it proves nothing: why.
    Not(String),
}

impl Verdict {
    /// Why it is no proof; `None` where it is one.
    pub fn why_not(&self) -> Option<String> {
        match self {
            Verdict::Unsigned => Some("is not signed".into()),
            Verdict::By(_) => None,
            Verdict::Not(why) => Some(format!("has a signature that proves nothing: {why}")),
        }
    }
}

/// What the initramfs says about signatures. It is built in there: no kernel word and no file on a share changes it.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    keys: Vec<PublicKey>,
    /// Without a trusted signature no disk is written.
    pub required: bool,
    /// What is wrong with the key files, one sentence each.
    pub problems: Vec<String>,
}

impl Trust {
    /// The keys in these files (name and content each).
    pub fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>, required: bool) -> Self {
        let mut trust = Trust { required, ..Trust::default() };
        for (name, bytes) in files {
            for key in parse_keys(&String::from_utf8_lossy(bytes)) {
                match key {
                    Ok(key) => trust.keys.push(key),
                    Err(why) => trust.problems.push(format!("trusted key file {name}: {why}")),
                }
            }
        }
        trust
    }

    /// True where nobody has asked for signatures: there is nothing to look at.
    pub fn is_idle(&self) -> bool {
        self.keys.is_empty() && !self.required
    }

    /// Who signed these bytes of a `backup.json`, by the content of the signature file beside it.
    pub fn of_set(&self, record: &[u8], signature: Option<&[u8]>) -> Verdict {
        let Some(signature) = signature else { return Verdict::Unsigned };
        let signature = match SshSignature::parse(signature) {
            Ok(signature) => signature,
            Err(e) => return Verdict::Not(e.to_string()),
        };
        if signature.namespace != SET_NAMESPACE {
            return Verdict::Not(format!(
                "it is one for '{}', not for '{SET_NAMESPACE}'",
                signature.namespace
            ));
        }
        match self.keys.iter().find(|key| key.bytes() == signature.key.bytes()) {
            None => Verdict::Not(format!("key {} is not trusted here{}", signature.key.id(), self.no_keys())),
            Some(key) if key.verifies(SET_NAMESPACE, record, &signature.signature) => {
                Verdict::By(key.to_string())
            }
            Some(key) => Verdict::Not(format!("it is of {key}, but of other bytes than these")),
        }
    }

    /// Who signed a job; `text` is its [`job_text`](crate::job::job_text).
    pub fn of_job(&self, text: &str, signature: Option<&JobSignature>) -> Verdict {
        let Some(signature) = signature else { return Verdict::Unsigned };
        let signer = self.keys.iter().find(|key| key.verifies(JOB_NAMESPACE, text.as_bytes(), &signature.0));
        match signer {
            Some(key) => Verdict::By(key.to_string()),
            None => Verdict::Not(format!(
                "it is of other words than these, of another machine, or of a key that is not trusted here{}",
                self.no_keys()
            )),
        }
    }

    fn no_keys(&self) -> String {
        if !self.keys.is_empty() {
            return String::new();
        }
        let problems: String = self.problems.iter().map(|problem| format!("; {problem}")).collect();
        format!(" (the initramfs holds no usable key{problems})")
    }
}

#[cfg(test)]
mod tests;
