//! The shares that a run has mounted: watched while they are used, and unmounted at its end.

use super::context::Context;
use super::share_guard::ShareGuard;
use super::{CLOSE_LIMIT, Ending, Journal};
use crate::agent::world::{Close, MountOrder, MountedShares, Share, World};
use crate::share::mount::MountFailed;
use crate::store::remote::Transport;
use std::sync::Arc;

/// All shares of one run.
pub struct Shares<'a> {
    world: &'a dyn World,
    journal: &'a Journal,
    guard: ShareGuard,
    /// In the order in which they were mounted, with their names.
    open: Vec<(String, Close)>,
}

impl<'a> Shares<'a> {
    /// None yet. Whatever is mounted is watched by the settings of this moment.
    pub fn new(context: &Context<'a>) -> Shares<'a> {
        let Context { world, journal, ref settings, .. } = *context;
        let guard = ShareGuard::start(world.system(), journal, settings, world.tick());
        Shares { world, journal, guard, open: Vec::new() }
    }

    /// Mounts one.
    ///
    /// # Errors
    /// As [`World::mount`].
    pub fn mount(&mut self, order: &MountOrder<'_>) -> Result<Share, MountFailed> {
        let MountedShares { share, close } = self.world.mount(order, &mut |line| self.journal.info(line))?;
        self.open.push((share.name.clone(), close));
        Ok(Share { files: self.guard.watch(&share.name, share.files), ..share })
    }

    /// Watches what is asked of a store, as it watches a mounted share; there is nothing to unmount.
    pub fn watch_store(&self, name: &str, transport: Arc<dyn Transport>) -> Arc<dyn Transport> {
        self.guard.watch_store(name, transport)
    }

    /// How the run was ended where a share hung; waits for that end while it goes on.
    pub fn given_up(&self) -> Option<Ending> {
        self.guard.given_up()
    }

    /// Unmounts them, the last one first; each within its deadline, because a dead hard mount blocks for ever. What was
    /// handed out must be dropped by now.
    pub fn close(self) {
        for (name, close) in self.open.into_iter().rev() {
            if let Err(e) = close(CLOSE_LIMIT) {
                self.journal.warn(&format!("cannot unmount {name}: {e}"));
            }
        }
    }
}
