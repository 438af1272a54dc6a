//! A transport that does not give up, as a hard NFS mount does not: a server that restarts is waited for. Who has waited too
//! long is told by the watch over all requests, and ended by it.

use super::transport::{StoreAnswer, Transport};
use crate::store::protocol::{Code, StoreCall};
use crate::sys::System;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The first pause between two tries, which doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(200);
/// The longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(5);

/// Sends a request again until it is answered.
pub struct PatientTransport<T> {
    transport: T,
    system: Arc<dyn System>,
}

impl<T: Transport> PatientTransport<T> {
    /// Patience with this transport, by this clock.
    pub fn new(transport: T, system: Arc<dyn System>) -> Self {
        PatientTransport { transport, system }
    }
}

impl<T: Transport> Transport for PatientTransport<T> {
    fn send(&self, call: &StoreCall, body: &[u8]) -> io::Result<StoreAnswer> {
        let mut pause = SHORTEST;
        loop {
            match self.transport.send(call, body) {
                Ok(answer) if answer.status != Code::Busy.status() => return Ok(answer),
                // It answers, and is another server.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(e),
                Ok(_) | Err(_) => self.system.sleep(pause),
            }
            pause = (pause * 2).min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Call, Recording};
    use std::sync::Mutex;

    /// Answers with these, the last one first.
    struct Scripted(Mutex<Vec<io::Result<StoreAnswer>>>);

    impl Transport for Scripted {
        fn send(&self, _: &StoreCall, _: &[u8]) -> io::Result<StoreAnswer> {
            self.0.lock().unwrap().pop().unwrap()
        }
    }

    #[test]
    fn a_server_that_restarts_is_asked_again_until_it_answers() {
        let answer = |status| Ok(StoreAnswer { status, body: Vec::new(), length: None });
        let gone = || Err(io::Error::from(io::ErrorKind::ConnectionRefused));
        let mut script = vec![answer(404), answer(503)];
        script.extend((0..8).map(|_| gone()));
        let system = Arc::new(Recording::new());
        let transport = PatientTransport::new(Scripted(Mutex::new(script)), system.clone());
        assert_eq!(transport.send(&StoreCall::Beat, b"").unwrap().status, 404);
        let pauses: Vec<Duration> = system
            .calls()
            .into_iter()
            .filter_map(|call| if let Call::Sleep { time } = call { Some(time) } else { None })
            .collect();
        assert_eq!(pauses.len(), 9);
        assert_eq!((pauses[0], pauses[8]), (SHORTEST, LONGEST));
    }
}
