//! The file that armed this machine, on the TFTP share: found, and removed when the job is done.

use super::Journal;
use super::network::{AgentNetwork, BootServer};
use crate::agent::world::{Share, World};
use crate::failure::{Failure, Kind};
use crate::job::pxe::{Candidate, candidates};
use crate::job::{FoundJob, JobSource, Order, Origin};
use crate::net::tftp::TftpError;
use crate::share::Files;
use crate::store::protocol::DisarmResult;
use crate::types::TftpPath;
use std::io;

/// Largest file that arms a machine, in bytes.
const LIMIT: usize = 64 << 10;
/// Folders of the share in which a PXE folder is looked for.
const FOLDERS_MAX: usize = 256;

fn read(files: &dyn Files, path: &str) -> io::Result<Option<Vec<u8>>> {
    match files.read_limited(path, LIMIT) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Neither the file is there, nor perhaps the folder that it was in.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The file that the job names by `testbox.armed-file=`, where its name is one of this machine's.
pub fn named_by_job(network: &AgentNetwork, order_file: Option<&TftpPath>) -> Option<FoundJob> {
    let path = order_file?;
    let own = candidates(&network.ids).into_iter().filter(Candidate::names_one_machine);
    let candidate = own.into_iter().find(|candidate| candidate.name == path.file_name())?;
    let folder = path.as_str().rsplit('/').nth(1).unwrap_or_default();
    let source =
        if folder == JobSource::TestboxCfg.folder() { JobSource::TestboxCfg } else { JobSource::PxelinuxCfg };
    Some(FoundJob { source, candidate, path: path.as_str().to_owned(), bytes: Vec::new() })
}

/// A look for the file that holds this job. What is seen on the way is for the message.
struct ArmingSearch<'a> {
    share: &'a Share,
    order: &'a Order,
    looked: Vec<String>,
    /// Files of this machine's that hold another job, or cannot be read.
    others: Vec<String>,
}

impl ArmingSearch<'_> {
    /// The file, if it is there and holds this job. Whatever else is there is not this machine's business.
    fn look(&mut self, mut armed: FoundJob) -> Option<FoundJob> {
        // The root of the share is the root of the TFTP server.
        armed.path = armed.path.trim_start_matches('/').to_owned();
        if self.looked.contains(&armed.path) {
            return None;
        }
        self.looked.push(armed.path.clone());
        match read(&*self.share.files, &armed.path) {
            Ok(None) => return None,
            Ok(Some(bytes)) => armed.bytes = bytes,
            Err(e) => {
                self.others.push(format!("cannot read {} on {}: {e}", armed.path, self.share.name));
                return None;
            }
        }
        let words = armed.cmdline();
        if words.job == self.order.words.job && words.action == self.order.words.action {
            return Some(armed);
        }
        let (path, share) = (&armed.path, &self.share.name);
        self.others.push(format!("{path} on {share} does not hold the job that this machine has booted"));
        None
    }

    fn failure(self, network: &AgentNetwork) -> Failure {
        let looked = self.looked.join(", ");
        let name = &self.share.name;
        if !self.others.is_empty() {
            return Failure::new(
                Kind::NotArmed,
                format!("{} (looked at {looked})", self.others.join("; ")),
                "it was armed or disarmed meanwhile, or another file was loaded; the next boot does what the file \
                 says. Nothing was written.",
            );
        }
        let strange = self
            .order
            .options
            .armed_file
            .as_ref()
            .filter(|_| named_by_job(network, self.order.options.armed_file.as_ref()).is_none());
        let strange = strange.map_or_else(String::new, |path| {
            format!("; the job says that it lies at {}, which names another machine", path.as_str())
        });
        Failure::new(
            Kind::NotArmed,
            format!(
                "{name} holds no PXE config of this machine, address {} (looked at {looked}){strange}",
                network.address
            ),
            "the machine has a wrong address (check DHCP and ip=), or testbox.tftp= is not the folder that the TFTP server \
             serves. Nothing was written.",
        )
    }
}

/// Finds the file that armed this machine on the TFTP share: it carries one of this machine's own names, and holds the
/// job that this boot is about. First where the job says, then where DHCP's boot file name suggests, then in the root
/// and in every folder of the root.
///
/// Without such a file the machine has somebody else's address, or the share is not the TFTP server's: the action
/// would hit the wrong folder, and could never be disarmed.
///
/// # Errors
/// [`Kind::NotArmed`], with every path that was looked at.
pub fn find(share: &Share, network: &AgentNetwork, order: &Order) -> Result<FoundJob, Failure> {
    let mut search = ArmingSearch { share, order, looked: Vec::new(), others: Vec::new() };
    if let Origin::Tftp(found) = &order.origin {
        return search.look(found.clone()).ok_or_else(|| search.failure(network));
    }
    let named = named_by_job(network, order.options.armed_file.as_ref());
    if let Some(found) = named.and_then(|named| search.look(named)) {
        return Ok(found);
    }
    if let Some(found) = look_in(&mut search, network, &network.folders) {
        return Ok(found);
    }
    // What is no folder holds no file either.
    let mut folders = share.files.list("").unwrap_or_default();
    folders.sort();
    folders.truncate(FOLDERS_MAX);
    let folders: Vec<String> =
        folders.into_iter().filter(|name| !is_ours(name)).map(|name| name + "/").collect();
    look_in(&mut search, network, &folders).ok_or_else(|| search.failure(network))
}

/// The folders of the files themselves hold no others.
fn is_ours(name: &str) -> bool {
    JobSource::ALL.iter().any(|source| source.folder() == name)
}

fn look_in(search: &mut ArmingSearch<'_>, network: &AgentNetwork, folders: &[String]) -> Option<FoundJob> {
    let source = JobSource::PxelinuxCfg;
    let own = candidates(&network.ids).into_iter().filter(Candidate::names_one_machine);
    for candidate in own {
        for path in source.paths(folders, &candidate) {
            let found = FoundJob { source, candidate: candidate.clone(), path, bytes: Vec::new() };
            if let Some(found) = search.look(found) {
                return Some(found);
            }
        }
    }
    None
}

/// What is wrong in the file that armed this machine, beside the words that the kernel got from it: a restriction may
/// have been meant there.
pub fn check(armed: &FoundJob) -> Result<(), Failure> {
    let problems = armed.cmdline().problems;
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::BadWords,
        format!("{}: {}", armed.path, problems.join("; ")),
        "correct the file, or arm the machine again with testboxctl arm. No disk was touched.",
    ))
}

/// Removes the file that armed this machine, and only that one: a file that holds another job by now stays.
///
/// The boot server is asked too, as the next boot will ask it: a file server may show for a minute what is not there
/// any more when the file was replaced on its own disk (nfs-ganesha keeps names that long). Where no server gives the
/// file, a warning says who was asked and what came.
///
/// # Errors
/// [`Kind::Disarm`]: the file is still there. The machine must not reboot then, it would do the job again.
pub fn disarm(
    world: &dyn World,
    journal: &Journal,
    network: &AgentNetwork,
    share: &Share,
    armed: &FoundJob,
) -> Result<DisarmResult, Failure> {
    let failed = |what: &str, e: &io::Error| {
        Failure::new(
            Kind::Disarm,
            format!("the job is over, but {} on {} cannot be {what}: {e}", armed.path, share.name),
            "remove the file by hand (testboxctl disarm), then switch the machine off and on.",
        )
    };
    let is_ours = |bytes: &[u8]| match armed.cmdline().job {
        Some(id) => FoundJob { bytes: bytes.to_vec(), ..armed.clone() }.cmdline().job == Some(id),
        None => bytes == armed.bytes,
    };
    let Some(bytes) = read(&*share.files, &armed.path).map_err(|e| failed("read", &e))? else {
        return Ok(DisarmResult::WasGone);
    };
    if !is_ours(&bytes) {
        return Ok(DisarmResult::ArmedAgain);
    }
    let served = served(world, journal, network, armed);
    if served.as_ref().is_some_and(|(_, bytes)| !is_ours(bytes)) {
        return Ok(DisarmResult::ArmedAgain);
    }
    // Gone, by whomever: by the admin meanwhile, or by this very request, whose reply was lost and which was sent again.
    let done = match share.files.remove(&armed.path) {
        Ok(()) => DisarmResult::Removed,
        Err(e) if is_gone(&e) => DisarmResult::WasGone,
        Err(e) => return Err(failed("removed", &e)),
    };
    let dir = armed.path.rsplit_once('/').map_or("", |(dir, _)| dir);
    match share.files.sync_dir(dir) {
        Err(e) if !is_gone(&e) => return Err(failed("removed for good", &e)),
        _ => {}
    }
    let is_still_served = || {
        let again = served.as_ref().map(|((server, _), _)| world.fetch(*server, &armed.path));
        again.is_some_and(|again| again.is_ok_and(|bytes| is_ours(&bytes)))
    };
    match read(&*share.files, &armed.path) {
        Ok(None) if is_still_served() => Err(failed(
            "taken from the boot server",
            &io::Error::other("TFTP still gives it: is the share the folder that TFTP serves?"),
        )),
        Ok(None) => Ok(done),
        Ok(Some(bytes)) if !is_ours(&bytes) => Ok(DisarmResult::ArmedAgain),
        Ok(Some(_)) => {
            let back = io::Error::other("it is there again, or the share does not do what it says");
            Err(failed("removed", &back))
        }
        Err(e) => Err(failed("looked for", &e)),
    }
}

/// The first server that gives the file, and what it gives. Where none does, who was asked and what came is a warning.
fn served(
    world: &dyn World,
    journal: &Journal,
    network: &AgentNetwork,
    armed: &FoundJob,
) -> Option<(BootServer, Vec<u8>)> {
    let mut answers = Vec::new();
    for server in network.boot_servers(world) {
        match world.fetch(server.0, &armed.path) {
            Ok(bytes) => return Some((server, bytes)),
            Err(e) => answers.push(format!("{} ({}): {e}", server.0, server.1)),
        }
    }
    let answers = if answers.is_empty() { "no boot server is known".into() } else { answers.join("; ") };
    journal.warn(&format!(
        "whether {} was armed again could not be asked by TFTP: {answers}; the share alone counts",
        armed.path
    ));
    None
}

/// Why a file was not read, in few words for the report.
pub fn short(error: &TftpError) -> String {
    match error {
        TftpError::NotFound { .. } => error.refusal().unwrap_or_else(|| "no such file".into()),
        TftpError::Timeout => "no answer".into(),
        e => e.to_string(),
    }
}
