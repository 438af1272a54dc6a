//! The chain of states: what each gives the next, and what is let go of when those behind it have ended.

use super::booted::Booted;
use super::connected::Connected;
use super::image_failure::caught;
use super::located::Located;
use super::named::Named;
use super::shares::Shares;
use super::working::Working;
use super::{CLOSE_LIMIT, Ending, Journal, Mode, policy};
use crate::agent::world::World;
use crate::job::Settings;
use crate::store::lease::LeaseHolder;
use std::sync::Arc;

/// What the panic of a state is told as.
const AGENT: &str = "testbox-agent";

/// Performs the action of this boot. Never panics on anything from outside; always says on the console what happened.
pub fn run(world: &dyn World, journal: &Journal, mode: &Mode) -> Ending {
    match caught(&AGENT, || Ok(Booted::read(world, journal, mode))) {
        Ok(state) => booted(state),
        Err(failure) => policy::fail(journal, &*world.system(), &Settings::default(), &failure, None, None),
    }
}

fn booted(state: Booted<'_>) -> Ending {
    match caught(&AGENT, || state.locate()) {
        Ok(network) => located(&Located { booted: state, network }),
        Err(failure) => state.fail(&failure),
    }
}

fn located(state: &Located<'_>) -> Ending {
    match caught(&AGENT, || state.name()) {
        Ok(Ok(next)) => named(next),
        Ok(Err(ending)) => ending,
        Err(failure) => state.fail(&failure),
    }
}

fn named(state: Named<'_>) -> Ending {
    let mut shares = Shares::new(&state.context);
    let ending = if state.is_rescue() {
        let rescued = caught(&AGENT, || Ok(state.rescue(&mut shares)));
        rescued.unwrap_or_else(|failure| state.fail(&shares, &failure, None, None))
    } else {
        match caught(&AGENT, || state.begin(&mut shares)) {
            Ok((address, proven, disks)) => {
                connected(&Connected { named: state, address, proven, disks }, &mut shares)
            }
            Err(failure) => state.fail(&shares, &failure, None, None),
        }
    };
    shares.close();
    ending
}

fn connected(state: &Connected<'_>, shares: &mut Shares<'_>) -> Ending {
    match caught(&AGENT, || state.acquire_lease()) {
        Ok(lease) => {
            let lease = Arc::new(lease);
            let ending = state.named.logged(&state.proven.folder, || leased(state, lease.clone(), shares));
            // Behind the last line of the log: what follows is somebody else's.
            if let Err(e) = lease.release(CLOSE_LIMIT) {
                let what =
                    format!("the lease of the folder is not released, the next agent has to wait: {e}");
                state.named.context.journal.warn(&what);
            }
            ending
        }
        Err(failure) => {
            state.tell_all_machines(shares, &failure);
            state.named.fail(shares, &failure, None, None)
        }
    }
}

fn leased(state: &Connected<'_>, lease: Arc<LeaseHolder>, shares: &mut Shares<'_>) -> Ending {
    match caught(&AGENT, || state.count_attempt()) {
        Ok(status) => working(Working { connected: state, lease, status }, shares),
        Err(failure) => state.named.fail(shares, &failure, None, None),
    }
}

fn working(mut state: Working<'_, '_>, shares: &mut Shares<'_>) -> Ending {
    let performed = caught(&AGENT, || state.perform(shares));
    performed.unwrap_or_else(|failure| state.fail(shares, &failure))
}
