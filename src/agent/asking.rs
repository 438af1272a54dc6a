//! The action that comes by TFTP: which server is asked, for which files, and for how long.

use super::Journal;
use super::arming::{named_by_job, short};
use super::network::{AgentNetwork, BootServer};
use crate::agent::world::World;
use crate::failure::{Failure, Kind};
use crate::job::pxe::candidates;
use crate::job::{Cmdline, FoundJob, JobSource, Order, find_job_file};
use crate::net::tftp::TftpError;
use std::time::Duration;

/// How long a likelier server is waited for where another one has answered: an NFS server need not serve TFTP.
const DOUBT_WAIT: Duration = Duration::from_secs(30);

/// What the boot servers have for this machine.
pub enum JobAnswer {
    /// A file that orders something.
    Order(Box<Order>),
    /// None. What leaves a doubt: what servers said of a file that may be there, more than that it is not; who did not answer.
    Nothing(Vec<String>),
}

/// What one round of questions has given.
enum Round {
    /// A file that orders something.
    Order(Box<Order>),
    /// The likeliest server that there is has no order, and none of the others has.
    Nothing,
    /// A server answered that it has none, and a likelier one was silent.
    Doubt(String),
    /// Nobody answered.
    Silence(String),
}

/// Asks the boot servers: the file that the kernel's words name, then `testbox.cfg/<id>`, then the APPEND line of
/// `pxelinux.cfg/<id>`, each in PXELINUX's order of ids. [`JobAnswer::Nothing`] where no file is there, or where PXELINUX's
/// file names no action: local boot, for one.
///
/// A file that a server may not read is like one that is not there, because some servers say the same of both: what it
/// said is kept for the message, and is a warning where another file gives the order.
///
/// # Errors
/// [`Kind::NoAction`] where all servers are silent until `testbox.net-wait` is over.
pub fn ask_boot_servers(
    world: &dyn World,
    journal: &Journal,
    network: &AgentNetwork,
    kernel: &Cmdline,
) -> Result<JobAnswer, Failure> {
    let servers = network.boot_servers(world);
    if servers.is_empty() {
        journal.warn("no boot server is known (testbox.boot-server=, DHCP's next-server): nobody is asked for an action");
        return Ok(JobAnswer::Nothing(Vec::new()));
    }
    let doubt_until = world.system().monotonic().saturating_add(DOUBT_WAIT);
    let mut said = false;
    loop {
        let mut refused = Vec::new();
        match ask_all(world, network, kernel, &servers, &mut refused) {
            Round::Order(order) => {
                refused.iter().for_each(|said| journal.warn(&format!("{said}; taken as not there")));
                return Ok(JobAnswer::Order(order));
            }
            Round::Nothing => return Ok(JobAnswer::Nothing(refused)),
            Round::Doubt(why) if network.is_over(world) || world.system().monotonic() >= doubt_until => {
                journal
                    .warn(&format!("no server has an action, but one that may have did not answer: {why}"));
                refused.push(format!("no answer: {why}"));
                return Ok(JobAnswer::Nothing(refused));
            }
            Round::Silence(why) if network.is_over(world) => {
                return Err(Failure::new(
                    Kind::NoAction,
                    format!("cannot ask by TFTP for an action: {why}"),
                    "check the TFTP server, name it with testbox.boot-server=, or give the action on the kernel command \
                     line.",
                ));
            }
            Round::Silence(why) | Round::Doubt(why) => {
                if !std::mem::replace(&mut said, true) {
                    journal.info(&format!("{why}: asking again, for testbox.net-wait at most"));
                }
                AgentNetwork::pause(world);
            }
        }
    }
}

fn ask_all(
    world: &dyn World,
    network: &AgentNetwork,
    kernel: &Cmdline,
    servers: &[BootServer],
    refused: &mut Vec<String>,
) -> Round {
    let mut silent = Vec::new();
    let (mut is_sure, mut is_answered) = (false, false);
    for (ip, who) in servers {
        let mut of_server = Vec::new();
        let answer = ask_one(world, network, kernel, (*ip, who), &mut of_server);
        // A server that has the same word for everything would say it dozens of times.
        let more = of_server.len().saturating_sub(1);
        let more = if more == 0 { String::new() } else { format!(" (and {more} more such answers)") };
        refused.extend(of_server.first().map(|said| format!("{ip} ({who}) gives no {said}{more}")));
        match answer {
            Ok(Some(order)) => return Round::Order(Box::new(order)),
            Ok(None) => {
                is_sure |= silent.is_empty();
                is_answered = true;
            }
            Err((path, e)) => silent.push(format!("{ip} ({who}) for {path}: {e}")),
        }
    }
    match silent.join("; ") {
        _ if is_sure => Round::Nothing,
        why if is_answered => Round::Doubt(why),
        why => Round::Silence(why),
    }
}

/// The order that one server has for this machine; or the file that could not be asked for, and why.
fn ask_one(
    world: &dyn World,
    network: &AgentNetwork,
    kernel: &Cmdline,
    (server, _): BootServer,
    refused: &mut Vec<String>,
) -> Result<Option<Order>, (String, TftpError)> {
    let mut fetch = |path: &str| {
        let answer = world.fetch(server, path);
        let came = answer.as_ref().map_or_else(short, |bytes| format!("{} bytes", bytes.len()));
        network.note(&format!("{server} by TFTP"), path, &came);
        match answer {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e @ TftpError::NotFound { .. }) => {
                refused.extend(e.refusal().map(|said| format!("{path}: {said}")));
                Ok(None)
            }
            Err(e) => Err((path.to_owned(), e)),
        }
    };
    let mut found = None;
    if let Some(named) = named_by_job(network, kernel.options.armed_file.as_ref()) {
        found = fetch(&named.path)?.map(|bytes| FoundJob { bytes, ..named });
    }
    if found.is_none() {
        found = find_job_file(&network.folders, &candidates(&network.ids), fetch)?;
    }
    let Some(found) = found else { return Ok(None) };
    let is_job_file = found.source == JobSource::TestboxCfg;
    let order = Order::from_tftp(found, kernel);
    let is_order = is_job_file || order.words.action.is_some() || !order.words.problems.is_empty();
    Ok(is_order.then_some(order))
}
