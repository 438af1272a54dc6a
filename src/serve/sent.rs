//! Answers that are sent piece by piece, of a file while it is read. Their request keeps its places until the last piece is
//! taken: who does not read what he has asked for holds no more memory than that, and no longer than [`PIECE_TIME`] a piece.

use super::answers::set_header;
use super::reads;
use crate::io::ReadAt;
use axum::body::{Body, Bytes};
use axum::http::{Response, header};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// How long a piece of an answer may take to be taken.
const PIECE_TIME: Duration = Duration::from_secs(60);
/// Bytes of a file that are read at once while it is sent: few enough to be in the processor's cache still when they are.
const PIECE: usize = 256 << 10;
/// Pieces of memory that are kept for the next answers: 8 MiB.
const KEPT: usize = 32;

/// Memory for pieces, used again for the next ones: new memory costs more than what is read into it.
#[derive(Clone, Default)]
pub struct SentPieces(Arc<Mutex<Vec<Box<[u8]>>>>);

/// A piece on its way. Its memory goes back once it is sent.
struct SentPiece {
    memory: Box<[u8]>,
    length: usize,
    pieces: SentPieces,
}

impl SentPieces {
    fn take(&self, length: usize) -> SentPiece {
        let used = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = used.unwrap_or_else(|| vec![0; PIECE].into_boxed_slice());
        SentPiece { memory, length: length.min(PIECE), pieces: self.clone() }
    }

    /// This range of a file.
    pub fn of_file(
        &self,
        file: Arc<dyn ReadAt>,
        range: Range<u64>,
        places: impl Send + 'static,
    ) -> Response<Body> {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(2);
        let length = range.end.saturating_sub(range.start);
        let pieces = self.clone();
        tokio::task::spawn_blocking(move || {
            pieces.send(&*file, range, &sender);
            drop(places);
        });
        in_stream(receiver, length)
    }

    /// A read that fails ends the connection before its length: whoever reads sees that something is missing, and asks again.
    fn send(&self, file: &dyn ReadAt, range: Range<u64>, to: &mpsc::Sender<io::Result<Bytes>>) {
        let mut at = range.start;
        while at < range.end {
            let mut piece = self.take(usize::try_from(range.end - at).unwrap_or(usize::MAX));
            let length = piece.length;
            let read = reads::passing(file, &mut piece.memory[..length], at);
            let is_over = read.is_err();
            let read = read.map(|()| Bytes::from_owner(piece));
            let taken = Handle::current().block_on(timeout(PIECE_TIME, to.send(read)));
            if !matches!(taken, Ok(Ok(()))) || is_over {
                return;
            }
            at += length as u64;
        }
        // Until the last piece is taken.
        let _ = Handle::current().block_on(timeout(PIECE_TIME, to.reserve()));
    }
}

impl AsRef<[u8]> for SentPiece {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl Drop for SentPiece {
    fn drop(&mut self) {
        let mut kept = self.pieces.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.memory));
        }
    }
}

/// Bytes that were read already.
pub fn of_bytes(bytes: Vec<u8>, places: impl Send + 'static) -> Response<Body> {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(1);
    let mut rest = Bytes::from(bytes);
    let length = rest.len() as u64;
    tokio::spawn(async move {
        while !rest.is_empty() {
            let piece = rest.split_to(PIECE.min(rest.len()));
            if !matches!(timeout(PIECE_TIME, sender.send(Ok(piece))).await, Ok(Ok(()))) {
                return;
            }
        }
        // Until the last piece is taken.
        let _ = timeout(PIECE_TIME, sender.reserve()).await;
        drop(places);
    });
    in_stream(receiver, length)
}

fn in_stream(pieces: mpsc::Receiver<io::Result<Bytes>>, length: u64) -> Response<Body> {
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(pieces)));
    set_header(&mut response, header::CONTENT_LENGTH, &length.to_string());
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    /// Memory that goes round brings each answer its own bytes, a short last piece too, and there is no more of it than said.
    #[tokio::test(flavor = "multi_thread")]
    async fn memory_that_is_used_again_shows_nothing_of_before() {
        let pieces = SentPieces::default();
        for (byte, size) in [(1_u8, 3 * PIECE), (2, PIECE + 5), (3, 7), (4, 40 * PIECE)] {
            let file: Arc<dyn ReadAt> = Arc::new(vec![byte; size]);
            let response = pieces.of_file(file, 0..size as u64, ());
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            assert!(body.len() == size && body.iter().all(|b| *b == byte), "{byte}");
        }
        assert!(pieces.0.lock().unwrap().len() <= KEPT);
    }
}
