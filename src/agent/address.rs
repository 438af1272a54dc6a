//! Keeps the machine's address for as long as the action takes, and says when it is lost. The rules: [`crate::net::dhcp`].
//!
//! The address names the machine's folder. Where it is lost the job stops before its next step, and a step that copies
//! ends early: nothing is published any more, no disk becomes bootable, and the machine stays armed. Logs and status
//! are still written while the folder's own lease ([`crate::store::lease`]) is held: that one fences, not the address.

use super::Journal;
use crate::agent::world::{OpenWire, World};
use crate::failure::{Failure, Kind};
use crate::net::dhcp::{DhcpClient, DhcpLease, DhcpNews, Lost, Term, Wire};
use crate::sys::{System, random_id};
use std::io;
use std::net::Ipv4Addr;
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest wait for a datagram: so late the thread sees that it is to end.
const POLL: Duration = Duration::from_secs(1);

/// The address of a machine that has it from DHCP. It is renewed until this is dropped.
pub struct Address {
    held: Arc<HeldAddress>,
    _renewing: mpsc::Sender<()>,
}

struct HeldAddress {
    address: Ipv4Addr,
    system: Arc<dyn System>,
    state: Mutex<AddressState>,
}

/// What the thread has found out.
#[derive(Default)]
struct AddressState {
    /// Until when the address is this machine's, since the boot.
    end: Option<Duration>,
    /// Why it is lost, once it is.
    lost: Option<String>,
}

impl Address {
    /// Begins to renew the lease; `None` where there is nothing to renew.
    pub fn keep(world: &dyn World, journal: &Journal, lease: Option<&DhcpLease>) -> Option<Address> {
        let lease = lease.filter(|lease| lease.term != Term::Forever)?.clone();
        let system = world.system();
        let held = HeldAddress { address: lease.address, system: system.clone(), state: Mutex::default() };
        let (renewing, stop) = mpsc::channel();
        let client = DhcpClient::new(lease.clone(), system.since_boot());
        let held = Arc::new(held);
        held.note(client.end(), None);
        let open = world.dhcp(&lease.device);
        let thread = RenewalThread {
            client,
            open,
            wire: None,
            held: held.clone(),
            journal: journal.clone(),
            is_mute: false,
        };
        // Not joined by anybody: it may hang in the network, and the end of the lease is seen without it.
        let spawned = std::thread::Builder::new().name("dhcp".into()).spawn(move || thread.run(&stop));
        if let Err(e) = spawned {
            journal.warn(&format!("no thread to renew the address, it is lost when its lease ends: {e}"));
        }
        Some(Address { held, _renewing: renewing })
    }

    /// Fails where the address is lost. Looks at the clock itself: a thread that hangs keeps no address.
    ///
    /// # Errors
    /// [`Kind::AddressLost`].
    pub fn check(&self) -> Result<(), Failure> {
        self.held.check()
    }
}

impl HeldAddress {
    fn note(&self, end: Option<Duration>, lost: Option<String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.end = end;
        state.lost = state.lost.take().or(lost);
    }

    fn check(&self) -> Result<(), Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.end.is_some_and(|end| self.system.since_boot() >= end) {
            // It stays lost: another machine may have it by now, whatever is renewed later.
            state.lost.get_or_insert_with(|| Lost::Expired.to_string());
        }
        let Some(why) = &state.lost else { return Ok(()) };
        Err(Failure::new(
            Kind::AddressLost,
            format!("this machine has lost its address {}: {why}", self.address),
            "give this machine a reservation in the DHCP server, or leases that are longer than its jobs, and see that \
             the server answers. The job has stopped: nothing of it is published, and a disk that it was writing does not \
             boot. The machine stays armed under the address that it had.",
        ))
    }
}

struct RenewalThread {
    client: DhcpClient,
    open: OpenWire,
    wire: Option<Box<dyn Wire>>,
    held: Arc<HeldAddress>,
    journal: Journal,
    /// An error was said.
    is_mute: bool,
}

impl RenewalThread {
    fn run(mut self, stop: &mpsc::Receiver<()>) {
        while stop.try_recv() == Err(TryRecvError::Empty) {
            let news = self.due();
            let is_over = matches!(news, Some(DhcpNews::Lost(_)));
            self.tell(news);
            if is_over {
                return;
            }
            let news = self.listen();
            self.tell(news);
        }
    }

    fn due(&mut self) -> Option<DhcpNews> {
        let Ok(xid) = random_id() else { return None };
        let (datagram, news) = self.client.due(self.held.system.since_boot(), xid as u32);
        if let Some((to, bytes)) = datagram {
            let sent = self.wire().and_then(|wire| wire.send(to, &bytes));
            self.complain(sent.err());
        }
        news
    }

    /// Waits for a datagram, until something is due or for a moment.
    fn listen(&mut self) -> Option<DhcpNews> {
        let wait = self.client.wake().saturating_sub(self.held.system.since_boot()).min(POLL);
        let received = match &mut self.wire {
            Some(wire) => wire.receive(wait),
            None => {
                std::thread::sleep(wait.min(POLL));
                Ok(None)
            }
        };
        match received {
            Ok(datagram) => self.client.received(self.held.system.since_boot(), &datagram?),
            Err(e) => {
                self.complain(Some(e));
                None
            }
        }
    }

    fn wire(&mut self) -> io::Result<&mut Box<dyn Wire>> {
        match &mut self.wire {
            Some(wire) => Ok(wire),
            none => Ok(none.insert((self.open)()?)),
        }
    }

    /// Once, until something works again: the next request tries it anew.
    fn complain(&mut self, error: Option<io::Error>) {
        let Some(e) = error else { return };
        self.wire = None;
        if !std::mem::replace(&mut self.is_mute, true) {
            self.journal.warn(&format!("cannot ask the DHCP server to renew the address: {e}"));
        }
    }

    /// First what others look at, then the log, which may take its time.
    fn tell(&mut self, news: Option<DhcpNews>) {
        let Some(news) = news else { return };
        let lost = if let DhcpNews::Lost(lost) = &news { Some(lost.to_string()) } else { None };
        self.held.note(self.client.end(), lost);
        match &news {
            DhcpNews::Renewed => self.journal.detail(&news.to_string()),
            DhcpNews::Known { .. } | DhcpNews::Back(_) => self.journal.info(&news.to_string()),
            DhcpNews::Silent(_) => self.journal.warn(&news.to_string()),
            DhcpNews::Lost(lost) => self.journal.warn(&format!("the address is lost: {lost}; the job stops")),
        }
    }
}
