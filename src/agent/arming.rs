//! The file that armed this machine: asked for by TFTP, found on the share, and removed when the job is done.

use super::network::Network;
use crate::agent::world::{Share, World};
use crate::failure::{Failure, Kind};
use crate::job::Cmdline;
use crate::job::pxe::candidates;
use crate::job::{Found, Source, find_job_file};
use crate::job::{Order, Origin};
use crate::net::tftp::TftpError;
use crate::share::{Files, read_limited};
use std::io;

/// Largest file that arms a machine, in bytes.
const LIMIT: usize = 64 << 10;

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
/// of ids. `None` where no file is there, or where PXELINUX's file names no action: local boot, for one.
pub fn ask_boot_server(
    world: &dyn World,
    network: &Network,
    kernel: &Cmdline,
) -> Result<Option<Order>, Failure> {
    let Some(server) = network.boot_server else { return Ok(None) };
    let found = find_job_file(&network.tftp_prefix, &candidates(&network.ids), |path| {
        match world.fetch(server, path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(TftpError::NotFound) => Ok(None),
            Err(e) => Err(Failure::new(
                Kind::NoAction,
                format!("cannot ask {server} by TFTP for {path}: {e}"),
                "check the TFTP server, or give the action on the kernel command line.",
            )),
        }
    })?;
    let Some(found) = found else { return Ok(None) };
    let is_job_file = found.source == Source::TestboxCfg;
    let order = Order::from_tftp(found, kernel);
    let is_order = is_job_file || order.words.action.is_some() || !order.words.problems.is_empty();
    Ok(is_order.then_some(order))
}

fn read(files: &dyn Files, path: &str) -> io::Result<Option<Vec<u8>>> {
    match read_limited(files, path, LIMIT) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Neither the file is there, nor perhaps the folder that it was in.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Finds the file that armed this machine on the TFTP share, and checks that it says what this boot is about.
///
/// Without such a file the machine has somebody else's address, or the share is not the TFTP server's: the action
/// would hit the wrong folder, and could never be disarmed.
pub fn find(share: &Share, network: &Network, order: &Order) -> Result<Found, Failure> {
    let wanted: Vec<Found> = match &order.origin {
        Origin::Tftp(found) => vec![found.clone()],
        Origin::KernelCommandLine => {
            let own = candidates(&network.ids).into_iter().filter(|c| c.names_one_machine());
            let source = Source::PxelinuxCfg;
            own.map(|candidate| Found {
                source,
                path: format!("{}{}/{}", network.tftp_prefix, source.folder(), candidate.name),
                candidate,
                bytes: Vec::new(),
            })
            .collect()
        }
    };
    let names: Vec<String> = wanted.iter().map(|w| w.path.clone()).collect();
    for mut armed in wanted {
        // The root of the share is the root of the TFTP server.
        armed.path = armed.path.trim_start_matches('/').to_owned();
        let found = read(&*share.files, &armed.path).map_err(|e| {
            let what = format!("cannot read {} on {}: {e}", armed.path, share.name);
            Failure::new(Kind::NotArmed, what, "check the TFTP share. Nothing was written.")
        })?;
        let Some(bytes) = found else { continue };
        armed.bytes = bytes;
        let words = armed.cmdline();
        if words.job != order.words.job || words.action != order.words.action {
            return Err(Failure::new(
                Kind::NotArmed,
                format!(
                    "{} on {} does not hold the job that this machine has booted",
                    armed.path, share.name
                ),
                "it was armed or disarmed meanwhile, or another file was loaded; the next boot does what the file \
                 says. Nothing was written.",
            ));
        }
        return Ok(armed);
    }
    Err(Failure::new(
        Kind::NotArmed,
        format!(
            "{} holds no PXE config of this machine, address {} ({})",
            share.name,
            network.address,
            names.join(", ")
        ),
        "the machine probably has a wrong address: check DHCP and ip=. Nothing was written.",
    ))
}

/// Removes the file that armed this machine, and only that one: a file that holds another job by now stays.
///
/// The boot server is asked too, as the next boot will ask it: a file server may show for a minute what is not there
/// any more when the file was replaced on its own disk (nfs-ganesha keeps names that long).
///
/// # Errors
/// [`Kind::Disarm`]: the file is still there. The machine must not reboot then, it would do the job again.
pub fn disarm(
    world: &dyn World,
    network: &Network,
    share: &Share,
    armed: &Found,
) -> Result<Disarmed, Failure> {
    let failed = |what: &str, e: &io::Error| {
        Failure::new(
            Kind::Disarm,
            format!("the action is done, but {} on {} cannot be {what}: {e}", armed.path, share.name),
            "remove the file by hand (testboxctl disarm), then switch the machine off and on.",
        )
    };
    let is_ours = |bytes: &[u8]| match armed.cmdline().job {
        Some(id) => Found { bytes: bytes.to_vec(), ..armed.clone() }.cmdline().job == Some(id),
        None => bytes == armed.bytes,
    };
    let still_served = || served(world, network, armed);
    let Some(bytes) = read(&*share.files, &armed.path).map_err(|e| failed("read", &e))? else {
        return Ok(Disarmed::WasGone);
    };
    if !is_ours(&bytes) || still_served().is_some_and(|bytes| !is_ours(&bytes)) {
        return Ok(Disarmed::ArmedAgain);
    }
    // Gone, by whomever: by the admin meanwhile, or by this very request, whose reply was lost and which was sent again.
    let done = match share.files.remove(&armed.path) {
        Ok(()) => Disarmed::Removed,
        Err(e) if is_gone(&e) => Disarmed::WasGone,
        Err(e) => return Err(failed("removed", &e)),
    };
    let dir = armed.path.rsplit_once('/').map_or("", |(dir, _)| dir);
    match share.files.sync_dir(dir) {
        Err(e) if !is_gone(&e) => return Err(failed("removed for good", &e)),
        _ => {}
    }
    match read(&*share.files, &armed.path) {
        Ok(None) if still_served().is_some_and(|bytes| is_ours(&bytes)) => Err(failed(
            "taken from the boot server",
            &io::Error::other("TFTP still gives it: is the share the folder that TFTP serves?"),
        )),
        Ok(None) => Ok(done),
        Ok(Some(bytes)) if !is_ours(&bytes) => Ok(Disarmed::ArmedAgain),
        Ok(Some(_)) => {
            let back = io::Error::other("it is there again, or the share does not do what it says");
            Err(failed("removed", &back))
        }
        Err(e) => Err(failed("looked for", &e)),
    }
}

/// What the boot server gives for the file; `None` where it has none, does not answer, or is unknown.
fn served(world: &dyn World, network: &Network, armed: &Found) -> Option<Vec<u8>> {
    world.fetch(network.boot_server?, &armed.path).ok()
}
