//! The file that armed this machine: asked for by TFTP, found on the share, and removed when the job is done.

use super::network::Network;
use crate::cmdline::Cmdline;
use crate::failure::{Failure, Kind};
use crate::job::{Order, Origin};
use crate::pxe::{PxeFile, candidates};
use crate::share::{Files, read_limited};
use crate::tftp::TftpError;
use crate::world::{Share, World};
use std::io;

/// Folder of the job files that only the agent reads.
const JOBS: &str = "testbox.cfg";
/// Folder of PXELINUX's configuration.
const PXE: &str = "pxelinux.cfg";
/// Largest file that arms a machine, in bytes.
const LIMIT: usize = 64 << 10;

/// The file that armed this machine.
#[derive(Clone, Debug)]
pub struct Armed {
    /// Its path on the TFTP share.
    pub path: String,
    words: Cmdline,
    bytes: Vec<u8>,
}

/// What [`disarm`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disarmed {
    /// The file was removed, and is gone.
    Removed,
    /// Somebody else has removed it.
    WasGone,
    /// It holds another job by now, and was left alone.
    ArmedAgain,
}

/// Asks the boot server: `testbox.cfg/<id>`, then the APPEND line of `pxelinux.cfg/<id>`, each in PXELINUX's order
/// of ids. `None` where no file is there, or none names an action.
pub fn ask_boot_server(world: &dyn World, network: &Network, kernel: &Cmdline) -> Result<Option<Order>, Failure> {
    let Some(server) = network.boot_server else { return Ok(None) };
    let names = candidates(&network.ids);
    for folder in [JOBS, PXE] {
        for candidate in &names {
            let path = format!("{}{folder}/{}", network.tftp_prefix, candidate.name);
            let bytes = match world.fetch(server, &path) {
                Ok(bytes) => bytes,
                Err(TftpError::NotFound) => continue,
                Err(e) => {
                    return Err(Failure::new(
                        Kind::NoAction,
                        format!("cannot ask {server} by TFTP for {path}: {e}"),
                        "check the TFTP server, or give the action on the kernel command line.",
                    ));
                }
            };
            let words = parse(folder, &bytes);
            // PXELINUX takes the first file that is there, whatever it says; so do we.
            let is_order = words.action.is_some() || !words.problems.is_empty();
            if is_order || folder == PXE {
                return Ok(is_order.then(|| Order::from_tftp(path, candidate.clone(), words, kernel)));
            }
        }
    }
    Ok(None)
}

fn parse(folder: &str, bytes: &[u8]) -> Cmdline {
    let text = String::from_utf8_lossy(bytes);
    if folder == JOBS { Cmdline::parse_file(&text) } else { PxeFile::parse(&text).cmdline() }
}

fn read(files: &dyn Files, path: &str) -> io::Result<Option<Vec<u8>>> {
    match read_limited(files, path, LIMIT) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Finds the file that armed this machine on the TFTP share, and checks that it says what this boot is about.
///
/// Without such a file the machine has somebody else's address, or the share is not the TFTP server's: the action
/// would hit the wrong folder, and could never be disarmed.
pub fn find(share: &Share, network: &Network, order: &Order) -> Result<Armed, Failure> {
    let paths: Vec<(&str, String)> = match &order.origin {
        Origin::Tftp { path, .. } => {
            vec![(if path.contains(&format!("{JOBS}/")) { JOBS } else { PXE }, path.trim_start_matches('/').to_owned())]
        }
        Origin::KernelCommandLine => {
            let own = candidates(&network.ids).into_iter().filter(|c| c.names_one_machine());
            own.map(|c| (PXE, format!("{}{PXE}/{}", network.tftp_prefix.trim_start_matches('/'), c.name))).collect()
        }
    };
    for (folder, path) in &paths {
        let found = read(&*share.files, path).map_err(|e| {
            let what = format!("cannot read {path} on {}: {e}", share.name);
            Failure::new(Kind::NotArmed, what, "check the TFTP share. Nothing was written.")
        })?;
        let Some(bytes) = found else { continue };
        let words = parse(folder, &bytes);
        if words.job != order.words.job || words.action != order.words.action {
            return Err(Failure::new(
                Kind::NotArmed,
                format!("{path} on {} does not hold the job that this machine has booted", share.name),
                "it was armed or disarmed meanwhile, or another file was loaded; the next boot does what the file \
                 says. Nothing was written.",
            ));
        }
        return Ok(Armed { path: path.clone(), words, bytes });
    }
    let names: Vec<_> = paths.iter().map(|(_, path)| path.as_str()).collect();
    Err(Failure::new(
        Kind::NotArmed,
        format!("{} holds no PXE config of this machine, address {} ({})", share.name, network.address, names.join(", ")),
        "the machine probably has a wrong address: check DHCP and ip=. Nothing was written.",
    ))
}

/// Removes the file that armed this machine, and only that one: a file that holds another job by now stays.
///
/// # Errors
/// [`Kind::Disarm`]: the file is still there. The machine must not reboot then, it would do the job again.
pub fn disarm(share: &Share, armed: &Armed) -> Result<Disarmed, Failure> {
    let failed = |what: &str, e: &io::Error| {
        Failure::new(
            Kind::Disarm,
            format!("the action is done, but {} on {} cannot be {what}: {e}", armed.path, share.name),
            "remove the file by hand (testboxctl disarm), then switch the machine off and on.",
        )
    };
    let Some(bytes) = read(&*share.files, &armed.path).map_err(|e| failed("read", &e))? else {
        return Ok(Disarmed::WasGone);
    };
    let folder = if armed.path.contains(&format!("{JOBS}/")) { JOBS } else { PXE };
    let is_ours = match &armed.words.job {
        Some(id) => parse(folder, &bytes).job.as_ref() == Some(id),
        None => bytes == armed.bytes,
    };
    if !is_ours {
        return Ok(Disarmed::ArmedAgain);
    }
    share.files.remove(&armed.path).map_err(|e| failed("removed", &e))?;
    let dir = armed.path.rsplit_once('/').map_or("", |(dir, _)| dir);
    share.files.sync_dir(dir).map_err(|e| failed("removed for good", &e))?;
    match read(&*share.files, &armed.path) {
        Ok(None) => Ok(Disarmed::Removed),
        Ok(Some(_)) => {
            Err(failed("removed", &io::Error::other("it is there again, or the share does not do what it says")))
        }
        Err(e) => Err(failed("looked for", &e)),
    }
}

