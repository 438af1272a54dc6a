//! The network of a machine with a lease: what it asks, and what is answered.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use testbox::net::dhcp::Wire;

type Server = Box<dyn FnMut(Ipv4Addr, &[u8]) -> Vec<Vec<u8>> + Send>;

/// A wire with a server that a test puts there.
#[derive(Clone)]
pub struct TestWire(Arc<Inner>);

struct Inner {
    server: Mutex<Server>,
    answers: Mutex<Vec<Vec<u8>>>,
    arrived: Condvar,
    /// How often there was nothing to hear: all that came before was dealt with.
    idle: AtomicUsize,
}

impl TestWire {
    /// `server` gets each request, and to whom it goes; what it gives back arrives at once.
    pub fn new(server: impl FnMut(Ipv4Addr, &[u8]) -> Vec<Vec<u8>> + Send + 'static) -> TestWire {
        let (answers, arrived, idle) = (Mutex::default(), Condvar::new(), AtomicUsize::new(0));
        TestWire(Arc::new(Inner { server: Mutex::new(Box::new(server)), answers, arrived, idle }))
    }

    /// Waits until the client has dealt with the time that it is, and with every answer; or has ended.
    pub fn settle(&self) {
        let (before, started) = (self.0.idle.load(SeqCst), Instant::now());
        let held = Arc::strong_count(&self.0);
        // One wait may have begun before; after the second all is sent, after the third all is heard.
        while self.0.idle.load(SeqCst) < before + 4 && Arc::strong_count(&self.0) >= held {
            assert!(started.elapsed() < Duration::from_secs(60), "nobody listens for answers");
            std::thread::yield_now();
        }
    }
}

impl Wire for TestWire {
    fn send(&mut self, to: Ipv4Addr, datagram: &[u8]) -> io::Result<()> {
        let answers = (self.0.server.lock().unwrap())(to, datagram);
        self.0.answers.lock().unwrap().extend(answers);
        self.0.arrived.notify_all();
        Ok(())
    }

    fn receive(&mut self, _: Duration) -> io::Result<Option<Vec<u8>>> {
        // The machine's clock stands still unless a test moves it, so that nothing here may wait for it.
        let answers = self.0.answers.lock().unwrap();
        let (mut answers, _) = self.0.arrived.wait_timeout(answers, Duration::from_millis(1)).unwrap();
        if answers.is_empty() {
            self.0.idle.fetch_add(1, SeqCst);
        }
        Ok((!answers.is_empty()).then(|| answers.remove(0)))
    }
}

/// The answer of 10.0.0.1 to a request: DHCPACK (5) or DHCPNAK (6), the address, the lease time in seconds.
pub fn answer(request: &[u8], kind: u8, address: Ipv4Addr, seconds: u32) -> Vec<u8> {
    let mut bytes = vec![2, 1, 6, 0];
    bytes.extend(&request[4..8]);
    bytes.extend([0; 8]);
    bytes.extend(address.octets());
    bytes.extend([0; 8]);
    bytes.extend(&request[28..34]);
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99, 53, 1, kind, 54, 4, 10, 0, 0, 1, 51, 4]);
    bytes.extend(seconds.to_be_bytes());
    bytes.push(255);
    bytes
}
