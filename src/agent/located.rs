//! The machine has its address: it can ask for its job and its name.

use super::asking::{self, JobAnswer};
use super::booted::Booted;
use super::context::Context;
use super::named::Named;
use super::network::AgentNetwork;
use super::{Ending, Mode, own_boot};
use crate::failure::{Failure, Kind};
use crate::job::{NoJob, Order, Origin, RebootMode};

/// The address is known.
pub struct Located<'a> {
    pub booted: Booted<'a>,
    pub network: AgentNetwork,
}

impl<'a> Located<'a> {
    /// Asks what to do, and who the machine is; how the boot ends where nothing is to be done.
    ///
    /// # Errors
    /// [`Kind::NoAction`], [`Kind::JobSignature`], and those of asking.
    pub fn name(&self) -> Result<Result<Named<'a>, Ending>, Failure> {
        let Booted { context, facts, .. } = &self.booted;
        let Context { world, journal, .. } = *context;
        let mut network = self.network.clone();
        network.wait_for_neighbours(world, journal);
        let order = match self.order(&network)? {
            JobAnswer::Order(order) => *order,
            JobAnswer::Nothing(refused) => return self.no_action(&refused).map(Err),
        };
        let signed = order.signed(network.address, &context.trust);
        let context = context.with_options(&order.options, &signed);
        network.apply_options(&order.options);
        let own = &order.words.options;
        if matches!(order.origin, Origin::Tftp(_)) && (own.union.is_some() || own.net_wait.is_some()) {
            journal.warn(
                "testbox.union and testbox.net-wait come too late in a file that is fetched by TFTP: ignored",
            );
        }
        let who = network.who(world, journal);
        let unsigned = context.trust.required.then(|| order.unsigned(&signed)).flatten();
        let named = Named { context, facts: facts.clone(), network, order, who, unsigned };
        named.introduce(&signed);
        Ok(Ok(named))
    }

    /// Ends the run with this failure.
    pub fn fail(&self, failure: &Failure) -> Ending {
        let context = &self.booted.context;
        context.fail(failure, || self.network.report(context.world), None, None)
    }

    /// The words of this boot: the kernel's, else those of a file on the boot server.
    fn order(&self, network: &AgentNetwork) -> Result<JobAnswer, Failure> {
        let Booted { context, kernel, .. } = &self.booted;
        if let Some(order) = Order::from_kernel(kernel) {
            return Ok(JobAnswer::Order(Box::new(order)));
        }
        asking::ask_boot_servers(context.world, context.journal, network, kernel)
    }

    /// Nothing is asked of this boot. `refused` is what boot servers said of files that may be there.
    fn no_action(&self, refused: &[String]) -> Result<Ending, Failure> {
        let Context { world, journal, mode, ref trust, ref settings, .. } = self.booted.context;
        let refused: String = refused.iter().map(|said| format!("; {said}")).collect();
        match mode {
            // It would hand the machine to whatever the network has for a root.
            Mode::NfsRoot(_) if trust.required => Err(Failure::new(
                Kind::JobSignature,
                format!(
                    "no action is given, and this initramfs goes on into the full system only for a signed rescue{refused}"
                ),
                "arm the machine with testboxctl arm --sign-key, or let it boot from its disk.",
            )),
            Mode::NfsRoot(_) => {
                journal.info(&format!("no action is given{refused}: going on into the full system"));
                Ok(Ending::Continue)
            }
            // A server that refuses a file may have one.
            Mode::AgentOnly if settings.no_job == NoJob::BootDisk && refused.is_empty() => {
                let system = own_boot::start_own_system(world).map_err(|why| {
                    Failure::new(
                        Kind::NoAction,
                        format!("the boot server has no job, and the machine's own system cannot be started: {why}"),
                        "put its disk into the boot order of the firmware's set-up, or arm the machine.",
                    )
                })?;
                journal.info(&format!("no job for this machine: on to its own system, {system}"));
                Ok(Ending::Machine(RebootMode::Reboot))
            }
            Mode::AgentOnly => Err(Failure::new(
                Kind::NoAction,
                format!(
                    "no action is given, neither on the kernel command line nor by the boot server{refused}"
                ),
                "arm the machine with testboxctl arm, or let it boot from its disk.",
            )),
        }
    }
}
