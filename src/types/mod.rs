//! The small typed values that kernel words, configuration files and host names are made of.
//!
//! Each type is valid by construction: it is made by `parse::<T>()`, which takes nothing that could leave a
//! folder, a line or a kernel word.
#![forbid(unsafe_code)]

mod choice;
mod expiry;
mod host;
mod machine;
mod odd;
mod percent;
mod secret;
mod signed;
mod split;
mod store;
mod tftp_path;
mod value;
mod via;

pub use crate::text::ParameterError;
pub use choice::{Compression, Delta, FreeSpace, ReadTwice};
pub use expiry::Expiry;
pub use host::HostName;
pub use machine::{MacAddr, Uuid};
pub use odd::{code_point, hidden_break, lines, looks_like_ours, odd_character, without_bom};
pub use percent::{decode as percent_decode, encode as percent_encode};
pub use secret::{REDACTED, Redactor, redacted};
pub use signed::{JobSignature, SetHash};
pub use split::{Word, split};
pub use store::{KeyPin, StoreUrl, Token};
pub use tftp_path::TftpPath;
pub use value::{DiskName, DiskSelector, JobId, MapEntry, NfsSource};
pub use via::Via;
