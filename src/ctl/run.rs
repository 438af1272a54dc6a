//! `run`: a whole step of a test. The machine is armed and waited for, and a command is run behind that.

use super::via::ViaFlags;
use super::wait::WaitFlags;
use super::{Answer, CtlPlace, Error, arm, perform};
use std::ffi::OsString;
use std::process::Command;

const AFTER_HELP: &str = "\
The command runs on this computer, once the job is done and the machine is back, with TESTBOX_MACHINE and TESTBOX_JOB in \
its environment; its exit code is that of 'run'. Where the job does not end well it is not run: then the exit code is \
that of 'testboxctl wait'. All else about the job stands in the settings file.

Examples:
  testboxctl run --timeout 3600 --until ssh 10.42.1.20 restore -- ssh tester@10.42.1.20 make check";

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The machine
    #[arg(value_name = "IP|HOST")]
    machine: String,
    /// What it is to do before
    action: String,
    /// Arm although there is no image to restore, or over a PXE configuration that somebody made by hand
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    waiting: WaitFlags,
    /// The command, and its words
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) fn run(args: Args, place: CtlPlace<'_>) -> Answer {
    let job = arm::fresh_job()?.to_string();
    let config = place.config.map(|config| ["--config".into(), config.into()]);
    let own: Vec<OsString> = ["testboxctl".into()].into_iter().chain(config.into_iter().flatten()).collect();
    let place = [own, place.via.map(ViaFlags::words).unwrap_or_default()].concat();
    let step = |words: &[&str]| {
        let words = words.iter().map(OsString::from);
        perform(&place.iter().cloned().chain(words).collect::<Vec<_>>())
    };
    let force: &[&str] = if args.force { &["--force"] } else { &[] };
    let armed = step(&[&["arm", "--job", &job][..], force, &[&args.machine, &args.action]].concat())?;
    let waiting = args.waiting.words();
    let waiting: Vec<&str> = waiting.iter().map(String::as_str).collect();
    if !armed || !step(&[&["wait", "--job", &job][..], &waiting].concat())? {
        return Ok(false);
    }
    let [program, words @ ..] = &args.command[..] else {
        return Err(Error::usage("give a command behind --"));
    };
    let mut command = Command::new(program);
    command.args(words).env("TESTBOX_MACHINE", &args.machine).env("TESTBOX_JOB", &job);
    let status =
        command.status().map_err(|e| Error::failed(format!("{}: cannot be run: {e}", program.display())))?;
    match status.code() {
        Some(0) => Ok(true),
        // As a shell has it for a command that a signal has ended.
        code => Err(Error::Said(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(128))),
    }
}
