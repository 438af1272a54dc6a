//! `status.json`: what a machine is doing right now, readable from anywhere that sees the share.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Largest status that is read, in bytes.
pub const STATUS_LIMIT: usize = 1 << 20;

/// How far a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// It is being done.
    Running,
    /// It is done; the machine disarms and reboots, or has.
    Done,
    /// This attempt failed; the machine reboots and tries again while it stays armed.
    Failed,
    /// It failed for the last time, or cannot be disarmed: the machine waits for a human.
    Holding,
}

/// How long a stage of a boot took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTime {
    /// What was done: `kernel`, `initramfs`, `network`, `shares`, `settle`, `plan`, `work`, `publish`, `disarm`.
    pub stage: String,
    /// Time that it took.
    pub milliseconds: u64,
}

/// The content of `status.json`. Written whole, atomically, every few seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// How far the job has come.
    pub state: JobState,
    /// Word of the action.
    pub action: String,
    /// Id of the job; absent where the machine was armed by hand without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Dotted decimal IPv4 address.
    pub ip: String,
    /// Host name, or `unknown`.
    pub hostname: String,
    /// What is being done, in words.
    pub step: String,
    /// Name of the disk that the step works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// Bytes of disk that the step has handled.
    pub bytes_done: u64,
    /// Bytes of disk that the step will handle; 0 while unknown.
    pub bytes_total: u64,
    /// Bytes of disk per second, over the last seconds.
    pub rate: u64,
    /// Seconds until the step ends at this rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<u64>,
    /// Which attempt at this job it is, from 1.
    pub attempt: u32,
    /// What went wrong, in the words of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Code of the failure; see the table in the manual's chapter on failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Results that are neither success nor failure, such as "disk sda differs from its image".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Where the time of this boot went, in the order of its stages; there once the attempt has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageTime>,
    /// When the attempt began.
    pub started: Timestamp,
    /// When this was written.
    pub updated: Timestamp,
    /// Version of testbox that wrote it.
    pub version: String,
}

impl Status {
    /// Reads a status; `None` where it is not one. A damaged status stops nothing: it is only news.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// True where this tells of the same job: the same id, or, armed by hand without one, the same action.
    pub fn is_of(&self, job: Option<&str>, action: &str) -> bool {
        self.job.as_deref() == job && self.action == action
    }
}
