//! What a store answers: JSON, but for the bytes of files.

use crate::failure::{Failure, Kind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io;

/// `GET /`: what this server is. For people, and for an agent that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// `testbox store`.
    pub server: String,
    /// Its version.
    pub version: String,
    /// The versions of the protocol that it speaks.
    pub protocols: Vec<u32>,
}

/// What a token is for, and the file that armed the machine with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFound {
    /// The machine's address, which is the name of its folder.
    pub ip: String,
    /// Id of the job.
    pub job: String,
    /// The action.
    pub action: String,
    /// The file on the boot server, below its root.
    pub armed_file: String,
    /// What is in that file.
    pub armed_text: String,
    /// Version of the server.
    pub version: String,
    /// The server's time; one of before `testbox.expires=` does not say it.
    #[serde(default)]
    pub clock: Option<Timestamp>,
}

/// A session has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// False while others are at work, or somebody else's lease is watched: ask again in a second.
    pub is_open: bool,
    /// What is waited for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// It waits for others to be done, which may take hours; else for a lease, which does not.
    #[serde(default)]
    pub is_in_line: bool,
    /// The lease was taken over from another machine.
    #[serde(default)]
    pub is_from_another: bool,
    /// What became of a set whose publishing was cut.
    #[serde(default)]
    pub recovery: Recovery,
}

/// What became of a set whose publishing was cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recovery {
    /// There was none.
    #[default]
    Nothing,
    /// It is published now, under this number.
    Completed(u64),
    /// The set before is as it was. Why.
    RolledBack(String),
}

/// How far the proof of an image is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofState {
    /// The server reads it: bytes of disk so far, and in all.
    Running {
        /// So far.
        done: u64,
        /// In all; 0 while unknown.
        total: u64,
    },
    /// Every hash is right.
    Proven {
        /// The root hash, 64 hex digits.
        root_hash: String,
        /// Length of the image.
        size: u64,
        /// Seconds ago.
        age: u64,
    },
    /// It is damaged. What was found.
    Damaged(String),
    /// It could not be read. The error.
    Unreadable(String),
}

/// A set was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedSet {
    /// Its number.
    pub generation: u64,
    /// Folders of the history that the admin's rules have removed.
    pub pruned: Vec<String>,
}

/// Room for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Bytes that it may still write.
    pub left: u64,
}

/// What became of the file that armed the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DisarmResult {
    /// It was removed.
    Removed,
    /// Somebody else has removed it.
    WasGone,
    /// It holds another job by now, and was left alone.
    ArmedAgain,
}

/// Declares the codes once: name, status of HTTP, kind of `io::Error`.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal $kind:ident;)+) => {
        /// Why a request was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Code { $($(#[$doc])* $name,)+ }

        impl Code {
            /// The status of HTTP that it comes with.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)+ }
            }

            /// What it is as an error of a share.
            pub fn kind(self) -> io::ErrorKind {
                match self { $(Code::$name => io::ErrorKind::$kind,)+ }
            }
        }
    };
}

codes! {
    /// The request is none of the protocol.
    Malformed = 400 InvalidInput;
    /// There is no token, or none that this server knows: the job is over, or was armed anew.
    UnknownToken = 401 PermissionDenied;
    /// The token does not allow it.
    Forbidden = 403 PermissionDenied;
    /// No such file.
    NotFound = 404 NotFound;
    /// A file of another kind, or with a second name.
    Unusable = 409 InvalidInput;
    /// It is there already.
    Exists = 409 AlreadyExists;
    /// The part has another length than the request counts on: see `length`.
    OtherLength = 409 InvalidData;
    /// Another session uses the token.
    Bound = 409 ResourceBusy;
    /// The session is none, or over: its lease was taken over.
    NoSession = 409 ConnectionAborted;
    /// Too long.
    TooLarge = 413 FileTooLarge;
    /// No room left on the server beyond its reserve.
    Full = 507 StorageFull;
    /// The machine's quota is used up.
    Quota = 507 QuotaExceeded;
    /// Ask again in a second.
    Busy = 503 WouldBlock;
    /// A step has failed: `kind`, `text` and `advice` are those of the failure.
    Failed = 500 Other;
}

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub code: Code,
    /// The same in words.
    pub text: String,
    /// The kind of failure of a step, as in `status.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The length that a part has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
}

impl Refusal {
    /// A refusal that is told by its text alone.
    pub fn new(code: Code, text: impl Into<String>) -> Refusal {
        Refusal { code, text: text.into(), kind: None, advice: None, length: None }
    }

    /// What an error of the server's own folder is to the agent.
    pub fn of_error(what: &str, error: &io::Error) -> Refusal {
        use io::ErrorKind as K;
        let code = match error.kind() {
            K::NotFound | K::NotADirectory => Code::NotFound,
            K::AlreadyExists => Code::Exists,
            K::InvalidInput => Code::Unusable,
            K::FileTooLarge => Code::TooLarge,
            K::StorageFull => Code::Full,
            K::QuotaExceeded => Code::Quota,
            _ => Code::Failed,
        };
        Refusal::new(code, format!("{what}: {error}"))
    }

    /// What a failed step is to the agent.
    pub fn of_failure(failure: &Failure) -> Refusal {
        Refusal {
            kind: Some(failure.kind.as_str().to_owned()),
            advice: Some(failure.advice.clone()),
            ..Refusal::new(Code::Failed, failure.what.clone())
        }
    }

    /// The step's failure, where it is one that this version knows.
    pub fn failure(&self) -> Option<Failure> {
        let kind = self.kind.as_deref()?;
        let kind = Kind::ALL.iter().find(|known| known.as_str() == kind)?;
        Some(Failure::new(*kind, self.text.clone(), self.advice.clone().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_the_server_is_the_same_to_the_agent() {
        let failure = Failure::new(Kind::Publish, "cannot keep the old set", "look at the disk.");
        let bytes = serde_json::to_vec(&Refusal::of_failure(&failure)).unwrap();
        let back: Refusal = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(back.failure().unwrap().to_string(), failure.to_string());
    }
}
