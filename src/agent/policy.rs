//! What follows a failure, whoever has noticed it: the run itself, or the watchdog while the run is stuck.

use super::{Ending, Journal};
use crate::failure::{Failure, Kind};
use crate::job::{OnError, RebootMode, Settings};
use crate::store::Folder;
use crate::store::layout::STATUS;
use crate::store::status::{JobState, Status};
use crate::sys::System;

/// Says the failure in both logs, the status and on the console, and waits as the settings say.
pub fn fail(
    journal: &Journal,
    system: &dyn System,
    settings: &Settings,
    failure: &Failure,
    mut status: Option<&mut Status>,
    folder: Option<&Folder>,
) -> Ending {
    journal.failure(&failure.to_string());
    let attempt = status.as_ref().map_or(0, |s| s.attempt);
    let is_disarmed = failure.kind.is_final();
    // No error of the machine, which goes back to its own system.
    let is_late = failure.kind == Kind::Expired;
    let is_last =
        attempt >= settings.attempts || matches!(failure.kind, Kind::Disarm | Kind::TooManyAttempts);
    let last = is_last && !is_disarmed;
    let hold = last || (settings.on_error == OnError::Hold && !is_late);
    let shell = settings.on_error == OnError::Shell && !is_late;
    let stays = hold || shell;
    if let Some(status) = status.as_mut() {
        // A job that is done stays done, whatever could not be cleaned up after it.
        if status.state != JobState::Done || is_disarmed {
            status.state = if stays { JobState::Holding } else { JobState::Failed };
        }
        status.error = Some(failure.to_string());
        status.code = Some(failure.kind.code());
    }
    if let (Some(status), Some(folder)) = (status, folder) {
        write_status(journal, system, status, folder);
    }
    let what = format!("{} [{} {}]", failure.what, failure.kind.as_str(), failure.kind.code());
    journal.verdict(false, &[what, format!("What to do: {}", failure.advice)]);
    if shell {
        return Ending::ErrorShell;
    }
    if hold {
        let why = match failure.kind {
            Kind::Disarm => "a reboot would find the same job again",
            _ if last => "it has failed for the last time",
            _ => "testbox.on-error=hold",
        };
        journal.banner(&[format!("HOLDING: {why}. Arm or disarm the machine, then switch it off and on.")]);
        return Ending::Machine(RebootMode::Hold);
    }
    let wait = settings.error_wait;
    if is_disarmed {
        journal.info(&format!("rebooting in {} s; the machine is disarmed", wait.as_secs()));
        system.sleep(wait);
        return Ending::Machine(if is_late { RebootMode::Reboot } else { settings.reboot });
    }
    journal.info(&format!("rebooting in {} s; the machine stays armed and will try again", wait.as_secs()));
    system.sleep(wait);
    Ending::Machine(RebootMode::Reboot)
}

/// Status is news: a failure to write it is said, and stops nothing.
pub fn write_status(journal: &Journal, system: &dyn System, status: &mut Status, folder: &Folder) {
    status.updated = system.now();
    let write = || folder.files.write_atomic(&folder.path(STATUS), &status.to_bytes());
    if let Err(e) = write().or_else(|_| write()) {
        journal.warn(&format!("cannot write {}: {e}", folder.path(STATUS)));
    }
}
