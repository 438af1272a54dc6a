//! What carries a request to a store, and its answer back.

use crate::store::protocol::StoreCall;
use crate::watch::{InFlightOps, OpPlace};
use std::io;
use std::sync::Arc;

/// What a store has answered, whatever it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreAnswer {
    /// The status of HTTP (RFC 9110 section 15).
    pub status: u16,
    /// The body; empty for `HEAD`.
    pub body: Vec<u8>,
    /// What `Content-Length` says, in bytes; for `HEAD` the length of the file.
    pub length: Option<u64>,
}

/// One request, one answer. Safe to be asked from several threads.
pub trait Transport: Send + Sync {
    /// Sends a request and waits for the answer. After an error nobody knows whether the server has done it: each request may
    /// be sent again.
    ///
    /// # Errors
    /// There was no answer, or none of HTTP.
    fn send(&self, call: &StoreCall, body: &[u8]) -> io::Result<StoreAnswer>;
}

impl<T: Transport + ?Sized> Transport for Arc<T> {
    fn send(&self, call: &StoreCall, body: &[u8]) -> io::Result<StoreAnswer> {
        (**self).send(call, body)
    }
}

/// A transport whose every request is noted while it is under way, as operations on a mounted share are.
pub struct WatchedTransport {
    transport: Arc<dyn Transport>,
    store: Arc<str>,
    ops: Arc<InFlightOps>,
}

impl WatchedTransport {
    /// Watches the store called `store`.
    pub fn new(transport: Arc<dyn Transport>, store: &str, ops: Arc<InFlightOps>) -> Self {
        WatchedTransport { transport, store: store.into(), ops }
    }
}

impl Transport for WatchedTransport {
    fn send(&self, call: &StoreCall, body: &[u8]) -> io::Result<StoreAnswer> {
        let (method, target) = call.target();
        let path = target.split('?').next().unwrap_or_default();
        self.ops.watch(&self.store, method.as_str(), OpPlace::Path(path.into()), || {
            self.transport.send(call, body)
        })
    }
}
