//! What the answers of a store mean.

use super::transport::{StoreAnswer, Transport};
use crate::store::protocol::{Code, Refusal, StoreCall, StorePath, VERSION, Welcome};
use serde::de::DeserializeOwned;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// A store, as everything that is asked of it goes through it.
pub struct RemoteStore {
    transport: Arc<dyn Transport>,
    /// Number of the last append. Locked while one is under way: the server takes no number below one that it has seen.
    appends: Mutex<u64>,
}

impl RemoteStore {
    /// The store behind this transport, in a session that has appended nothing yet.
    pub fn new(transport: Arc<dyn Transport>) -> Arc<Self> {
        Arc::new(RemoteStore { transport, appends: Mutex::new(0) })
    }

    /// Asks, and gives the answer where it is no refusal.
    ///
    /// # Errors
    /// Those of the transport; a [`Refusal`]; an answer that is none of the protocol.
    pub fn send(&self, call: &StoreCall, body: &[u8]) -> io::Result<StoreAnswer> {
        let answer = self.transport.send(call, body)?;
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(refusal(call, &answer)) }
    }

    /// Asks for what is answered in JSON.
    ///
    /// # Errors
    /// As [`RemoteStore::send`]; the answer is another one.
    pub fn ask<T: DeserializeOwned>(&self, call: &StoreCall, body: &[u8]) -> io::Result<T> {
        let answer = self.send(call, body)?;
        serde_json::from_slice(&answer.body)
            .map_err(|e| strange(call, &format!("answered what is not understood ({e})")))
    }

    /// Has something done whose answer says nothing.
    ///
    /// # Errors
    /// As [`RemoteStore::send`].
    pub fn have_done(&self, call: &StoreCall, body: &[u8]) -> io::Result<()> {
        self.send(call, body).map(drop)
    }

    /// Appends to a log, one append after the other.
    ///
    /// # Errors
    /// As [`RemoteStore::send`].
    pub fn append(&self, path: &StorePath, bytes: &[u8]) -> io::Result<()> {
        let mut last = self.appends.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        self.have_done(&StoreCall::Append(path.clone(), *last), bytes)
    }
}

/// What a request is called in a message.
fn shown(call: &StoreCall) -> String {
    let (method, target) = call.target();
    format!("{} {target}", method.as_str())
}

/// Why there is no answer in this one.
fn refusal(call: &StoreCall, answer: &StoreAnswer) -> io::Error {
    if let Ok(refusal) = serde_json::from_slice::<Refusal>(&answer.body) {
        return refusal.into_error();
    }
    if let Ok(welcome) = serde_json::from_slice::<Welcome>(&answer.body) {
        return other_version(&welcome);
    }
    match Refusal::of_status(answer.status, &shown(call)) {
        Some(refusal) if answer.body.is_empty() || refusal.code == Code::Busy => refusal.into_error(),
        _ => strange(
            call,
            &format!("answered with status {}, and no reason that is understood", answer.status),
        ),
    }
}

/// The server does not speak the version of this agent.
fn other_version(welcome: &Welcome) -> io::Error {
    let speaks: Vec<String> = welcome.protocols.iter().map(u32::to_string).collect();
    let mend = match welcome.protocols.iter().all(|version| *version > VERSION) {
        true => "make the machine's initrd again with the newer release",
        false => "upgrade testboxctl on the server",
    };
    let what = format!(
        "the store is testbox {} and speaks version {} of the protocol, this agent {VERSION}: {mend}",
        welcome.version,
        speaks.join(", ")
    );
    io::Error::new(io::ErrorKind::Unsupported, what)
}

/// The answer is none of the protocol.
pub(super) fn strange(call: &StoreCall, what: &str) -> io::Error {
    let what = format!(
        "{}: the store {what}: it is another server, or of another version: compare 'testboxctl --version' there with the \
         version of this agent, {}",
        shown(call),
        env!("CARGO_PKG_VERSION")
    );
    io::Error::new(io::ErrorKind::InvalidData, what)
}
