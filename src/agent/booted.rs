//! The first state: what the kernel and the initramfs have left is read.

use super::context::Context;
use super::network::AgentNetwork;
use super::times::Times;
use super::{Ending, Journal, Mode, network_report, overlay};
use crate::agent::world::{Facts, World};
use crate::failure::{Failure, Kind};
use crate::job::Cmdline;
use crate::job::Settings;
use crate::signature::Verdict;
use std::path::Path;
use std::sync::Arc;

/// The kernel command line is read, and its options are in force.
pub struct Booted<'a> {
    pub context: Context<'a>,
    pub facts: Facts,
    pub kernel: Cmdline,
}

impl<'a> Booted<'a> {
    /// Reads it.
    pub fn read(world: &'a dyn World, journal: &'a Journal, mode: &'a Mode) -> Booted<'a> {
        let facts = world.facts();
        let kernel = Cmdline::parse(&facts.cmdline);
        let trust = facts.trust.clone();
        let times = Arc::new(Times::start(world.system(), facts.init_started));
        let context = Context { world, journal, mode, trust, settings: Settings::default(), times };
        let context = context.with_options(&kernel.options, &Verdict::Unsigned);
        Booted { context, facts, kernel }
    }

    /// Makes the root writable, and finds the machine's address.
    ///
    /// # Errors
    /// [`Kind::OverlayRoot`], [`Kind::Network`].
    pub fn locate(&self) -> Result<AgentNetwork, Failure> {
        let Context { world, journal, mode, .. } = self.context;
        if let Mode::NfsRoot(root) = mode {
            self.overlay_root(root)?;
        }
        let network = AgentNetwork::read(world, &self.facts, &self.kernel)?;
        journal.set_address(network.address);
        Ok(network)
    }

    fn overlay_root(&self, root: &Path) -> Result<(), Failure> {
        let Context { world, journal, ref settings, .. } = self.context;
        let asked = settings.union;
        let area = world.run_dir().join("root");
        let union = overlay::mount_root(&*world.system(), root, &area, asked).map_err(|e| {
            Failure::new(Kind::OverlayRoot, e.to_string(), "check that the initramfs has the module overlay.")
        })?;
        if union != asked {
            journal
                .warn(&format!("{asked} was asked for, but this kernel does not have it: {union} is used"));
        }
        journal.info(&format!("{} is writable: {union} over the read-only NFS root", root.display()));
        Ok(())
    }

    /// Ends the run with this failure.
    pub fn fail(&self, failure: &Failure) -> Ending {
        self.context.fail(failure, || network_report(self.context.world), None, None)
    }
}
