//! How many connections there are, and whose: one too many is refused at once, before it costs more than being refused.

use axum_server::accept::Accept;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Connections at once, where the system lets the server open so many files.
const ALL: usize = 2048;
/// Of one address: its machine needs ten, and behind one address there may be several.
const OF_ONE: usize = 64;
/// Of all addresses without a session. So whoever has one is served, whoever else comes.
const OF_STRANGERS: usize = 256;
/// Files that the server opens beside its connections.
const FILES: usize = 256;

/// Tells whether an address has a session.
type Knows = dyn Fn(IpAddr) -> bool + Send + Sync;

/// The connections of a server.
pub struct Connections {
    all: usize,
    knows: Box<Knows>,
    open: Mutex<OpenConnections>,
}

#[derive(Default)]
struct OpenConnections {
    of: HashMap<IpAddr, usize>,
    all: usize,
    strangers: usize,
}

impl Connections {
    /// None yet. Lets the process open as many files as it may.
    pub fn new(knows: Box<Knows>) -> Arc<Connections> {
        let limit = getrlimit(Resource::Nofile);
        // Where it is refused the old limit is looked at again below.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
        let files = getrlimit(Resource::Nofile)
            .current
            .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        Arc::new(Connections { all: ALL.min(files.saturating_sub(FILES)), knows, open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, where there is room.
    fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Entered> {
        let is_stranger = !(self.knows)(peer);
        let mut open = self.lock();
        let of_peer = open.of.get(&peer).copied().unwrap_or(0);
        if open.all >= self.all || of_peer >= OF_ONE || (is_stranger && open.strangers >= OF_STRANGERS) {
            return None;
        }
        open.of.insert(peer, of_peer + 1);
        open.all += 1;
        open.strangers += usize::from(is_stranger);
        Some(Entered { connections: self.clone(), peer, is_stranger })
    }
}

/// A connection that counts, until this is dropped.
struct Entered {
    connections: Arc<Connections>,
    peer: IpAddr,
    is_stranger: bool,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.all = open.all.saturating_sub(1);
        open.strangers = open.strangers.saturating_sub(usize::from(self.is_stranger));
        match open.of.get_mut(&self.peer) {
            Some(of_peer) if *of_peer > 1 => *of_peer -= 1,
            _ => drop(open.of.remove(&self.peer)),
        }
    }
}

/// Counts what another one accepts.
#[derive(Clone)]
pub struct Counting<A> {
    /// The other one.
    pub inner: A,
    /// Where it is counted.
    pub connections: Arc<Connections>,
}

impl<A, S> Accept<TcpStream, S> for Counting<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
    A::Stream: 'static,
    A::Service: 'static,
{
    type Stream = Counted<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let peer = stream.peer_addr().map(|peer| peer.ip().to_canonical());
        let entered = peer.and_then(|peer| {
            let full = || io::Error::new(io::ErrorKind::QuotaExceeded, "too many connections");
            self.connections.enter(peer).ok_or_else(full)
        });
        match entered {
            Ok(entered) => {
                let accepted = self.inner.accept(stream, service);
                Box::pin(async move {
                    let (stream, service) = accepted.await?;
                    Ok((Counted { stream, _entered: entered }, service))
                })
            }
            // Dropped, and so closed.
            Err(e) => Box::pin(async move { Err(e) }),
        }
    }
}

/// A connection that counts.
pub struct Counted<S> {
    stream: S,
    _entered: Entered,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_leave_room_for_machines_with_a_session() {
        let known = IpAddr::from([10, 0, 0, 1]);
        let connections = Connections::new(Box::new(move |peer| peer == known));
        let stranger = |n: usize| IpAddr::from([10, 9, (n / OF_ONE) as u8, 0]);
        let mut held: Vec<_> = (0..OF_STRANGERS).map(|n| connections.enter(stranger(n)).unwrap()).collect();
        assert!(connections.enter(IpAddr::from([10, 8, 0, 0])).is_none());
        let of_known: Vec<_> = (0..OF_ONE).map(|_| connections.enter(known).unwrap()).collect();
        assert!(connections.enter(known).is_none(), "nor has one address all of them");
        held.pop();
        assert!(connections.enter(IpAddr::from([10, 8, 0, 0])).is_some());
        drop((held, of_known));
        let open = connections.lock();
        assert!((open.all, open.strangers, open.of.len()) == (0, 0, 0));
    }
}
