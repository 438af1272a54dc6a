//! A store that is asked over a wire: its files as one more share, and whoever keeps them.
//!
//! ```text
//! RemoteFiles, RemoteKeeper -> RemoteStore (what an answer means) -> Transport (one request, one answer)
//! ```
#![forbid(unsafe_code)]

mod client;
mod file;
mod files;
mod http;
mod keeper;
mod patient;
#[cfg(test)]
mod tests;
pub mod tls;
mod transport;

pub use client::RemoteStore;
pub use files::RemoteFiles;
pub use http::HttpTransport;
#[cfg(feature = "testing")]
pub use http::head_of;
pub use keeper::RemoteKeeper;
pub use patient::PatientTransport;
pub use transport::{StoreAnswer, Transport, WatchedTransport};
