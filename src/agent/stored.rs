//! A machine whose backups are kept by a store: it is asked whose the token is, and that must be this machine and this job.

use super::context::Context;
use super::network::AgentNetwork;
use super::proven::{BootFiles, ProvenJob};
use super::shares::Shares;
use crate::agent::world::Share;
use crate::failure::{Failure, Kind};
use crate::job::{Action, FoundJob, Order, StoreOrder};
use crate::store::protocol::{JobFound, StoreCall};
use crate::store::remote::{PatientTransport, RemoteFiles, RemoteKeeper, RemoteStore, Transport};
use crate::store::{Folder, Keeper};
use crate::sys::random_id;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// Between two attempts to reach the store for the first time.
const PAUSE: Duration = Duration::from_secs(2);

/// Reaches the store, retrying for as long as `wait` says, and proves the job this machine's.
///
/// # Errors
/// [`Kind::ShareUnreachable`], [`Kind::Network`], [`Kind::NotArmed`].
pub fn connect(
    context: &Context<'_>,
    network: &AgentNetwork,
    job: &Order,
    shares: &Shares<'_>,
    order: &StoreOrder<'_>,
    wait: Duration,
) -> Result<ProvenJob, Failure> {
    let (world, name) = (context.world, order.url.to_string());
    let server = network.resolve(world, &order.url.host)?;
    let unreachable = |e: &io::Error| {
        network.note(&format!("{server} by HTTP"), &name, &e.to_string());
        let advice = "look at the server ('testboxctl serve') and the network. The machine stays armed, and tries again after a \
                      reboot.";
        Failure::new(Kind::ShareUnreachable, format!("cannot reach the store {name}: {e}"), advice)
    };
    let session = session().map_err(|e| unreachable(&e))?;
    let once = world.store(order, server, &session);
    reach(context, &*once, wait).map_err(|e| unreachable(&e))?;
    let patient = Arc::new(PatientTransport::new(once, world.system()));
    let store = RemoteStore::new(shares.watch_store(&name, patient));
    let found: JobFound = store.ask(&StoreCall::Job, b"").map_err(|e| not_armed(format!("{name}: {e}")))?;
    let armed = check(network.address, job, &name, &found)?;
    let keeper: Arc<dyn Keeper> = Arc::new(RemoteKeeper::new(store.clone(), world.system()));
    let backup = Share { name, export: None, files: Arc::new(RemoteFiles::new(store)) };
    let folder = Folder::new(backup.files.clone(), network.address.to_string()).kept_by(keeper.clone());
    Ok(ProvenJob { boot: BootFiles::Kept(keeper), backup, armed, folder })
}

/// 32 hex digits that nobody else has.
fn session() -> io::Result<String> {
    Ok(format!("{:016x}{:016x}", random_id()?, random_id()?))
}

/// Whether it answers at all.
fn reach(context: &Context<'_>, store: &dyn Transport, wait: Duration) -> io::Result<()> {
    let system = context.world.system();
    let began = system.monotonic();
    let mut is_said = false;
    loop {
        match store.send(&StoreCall::Job, b"") {
            Ok(_) => return Ok(()),
            // It answers, and is another one.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(e),
            Err(e) if system.monotonic().saturating_sub(began) >= wait => return Err(e),
            Err(e) => {
                if !std::mem::replace(&mut is_said, true) {
                    context.journal.info(&format!("the store does not answer yet: {e}"));
                }
                system.sleep(PAUSE);
            }
        }
    }
}

/// The file that armed this machine, which the store says holds this job.
fn check(address: Ipv4Addr, order: &Order, store: &str, found: &JobFound) -> Result<FoundJob, Failure> {
    let own = address.to_string();
    if found.ip != own {
        let what = format!("{store}: the token is for {}, and this machine has the address {own}", found.ip);
        return Err(not_armed(what));
    }
    let job = order.words.job.as_ref().map(|id| id.as_str());
    let action = order.words.action.map_or("unknown", Action::as_str);
    if job != Some(&*found.job) || action != found.action {
        let what = format!(
            "{store}: the token is for job {} ({}), and this machine has booted job {} ({action})",
            found.job,
            found.action,
            job.unwrap_or("without an id")
        );
        return Err(not_armed(what));
    }
    let path = found.armed_file.parse().map_err(|e| not_armed(format!("{store}: {e}")))?;
    Ok(FoundJob::of_machine(&path, found.armed_text.clone().into_bytes()))
}

fn not_armed(what: String) -> Failure {
    Failure::new(
        Kind::NotArmed,
        what,
        "it was armed or disarmed meanwhile, or has a wrong address (DHCP, ip=); the next boot does what is said then. Nothing was \
         written.",
    )
}
