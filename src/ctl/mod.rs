//! What only the admin's program `testboxctl` needs: its arguments, its settings file, and one module per command.
//!
//! Each command takes parsed arguments and answers yes, no or an error; only [`main`] knows about exit codes.
#![forbid(unsafe_code)]

mod arm;
mod armed;
mod behalf;
mod boot;
mod complete;
mod config;
mod dedup;
mod disarm;
mod doctor;
mod flags;
mod help;
mod history;
mod hooks;
mod image;
mod images;
mod init;
mod keep;
mod keys;
mod leased;
mod log;
mod machine;
mod machines;
mod man;
mod many;
mod network;
mod news;
mod output;
mod ownership;
mod page;
mod power;
mod prune;
mod published;
mod room;
mod run;
mod serve;
mod serve_table;
mod sets;
mod shares;
mod sign;
mod status;
mod table;
mod target;
mod verify;
mod via;
mod wait;
mod watch;
mod web;

use crate::failure::Kind;
use crate::image::ImageError;
use clap::{CommandFactory, Parser, Subcommand};
use output::Out;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Examples:
  testboxctl init --store --interface eth1 --dhcp 10.42.1.100-10.42.1.199
        make this computer the lab's server, once: folders, settings, key
  testboxctl arm --server 10.42.1.1 10.42.1.20 backup
        image all disks of 10.42.1.20 at its next reboot
  testboxctl arm -c /mnt/testbox-tftp/pxelinux.cfg tb1.lab tb2.lab restore
        put both machines back to their images
  testboxctl watch
        what every machine is doing
  testboxctl power cycle tb1 rack3
        off and on again, by Redfish, IPMI or a command of yours
  testboxctl doctor
        what is wrong with the lab, and the cure; 'testboxctl doctor PXE-E32' explains a code
  testboxctl run --until ssh 10.42.1.20 restore -- ssh tester@10.42.1.20 make check
        put it back, wait until it answers, and run the tests
  testboxctl sign --sign-key ~/testbox-lab 10.42.1.20
        vouch for its images, where machines restore only what is signed
  testboxctl image verify /export/testbox-backup/10.42.1.20/sda.raw.gz
        prove an image whole
  testboxctl --via /run/testbox/admin.sock arm 10.42.1.20 restore
        have the server do it: without root, or with https://HOST from another computer

Settings: every long option of 'arm' is also a key of the settings file, as in
  server = \"10.42.1.1\"
  console = [\"tty0\", \"ttyS0,115200\"]
those of 'serve' in its table [serve].

Exit codes: 0 done or yes, 1 failed or no, 2 wrong usage, 70 internal error. The manual: testboxctl help";

/// Version and commit, where the build knows that.
const VERSION: &str = match option_env!("TESTBOX_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Arms and watches test machines that image themselves over the network, and works on their images.
#[derive(Debug, Parser)]
#[command(name = "testboxctl", version = VERSION, after_help = AFTER_HELP, disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    /// Settings file [default: /etc/testbox.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    via: via::ViaFlags,
    /// Verbose output on standard error
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Say nothing of how far long work is
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Debug, Subcommand)]
enum CtlCommand {
    /// Write the PXE configuration that makes machines perform an action at their next reboot
    Arm(Box<arm::Args>),
    /// Remove the PXE configuration of machines, so that they boot their disks
    Disarm(disarm::Args),
    /// Show what machines are doing, and their last backup
    Status(status::Args),
    /// Follow what machines do: a table on a terminal, elsewhere a line for each change
    Watch(watch::Args),
    /// Show the jobs of machines over time: what came out, why, how long it took, and who wanted it
    History(history::Args),
    /// Show the log of machines, and follow it
    Log(log::Args),
    /// Show the sets of machines: size, cost, age, and what is special about them
    Images(images::Args),
    /// Read published sets again, those first that were proven longest ago
    Verify(verify::Args),
    /// Remove old sets by rules; without --yes only say which, and what that would free
    Prune(prune::Args),
    /// Wait until jobs have ended, and say how, for programs too
    Wait(wait::Args),
    /// Arm a machine, wait for it, and run a command: a step of a test
    Run(run::Args),
    /// Make, check and write back disk images
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Let the file system of the backup share have equal parts of images once
    Dedup(dedup::Args),
    /// Keep the backups for machines that need no NFS: the lab's server
    Serve(Box<serve::Args>),
    /// A command that an admin has sent to the server
    #[command(hide = true)]
    Behalf(behalf::Args),
    /// The process of the boot services, which 'serve' starts
    #[command(hide = true)]
    BootServices,
    /// Show and fill the file of machines, and tell it to DHCP servers
    #[command(subcommand)]
    Machines(machines::MachinesCommand),
    /// Switch machines on and off
    Power(power::Args),
    /// Look for what is wrong with the lab, and say the cure; or explain a message on a machine's screen
    Doctor(doctor::Args),
    /// Lay out the TFTP share and the backup share
    Init(init::Args),
    /// Make a key that signs sets and jobs
    Keygen(keys::KeygenArgs),
    /// Sign sets of images, for machines that restore only what is signed
    Sign(sign::Args),
    /// Show a chapter of the manual, or the help of a command
    Help(help::Args),
    /// Print a script by which a shell completes the words of this program
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual as pages for man(1)
    #[command(hide = true)]
    Man(man::Args),
}

/// Why the text of a settings file would be refused.
///
/// # Errors
/// The reason, with the key or line.
pub fn check_settings(text: &str) -> Result<(), String> {
    config::parse_file(text).map(drop)
}

/// Why a command did not do its work. The texts say which file, and what to do.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The command line or the settings file is wrong; nothing was done.
    #[error("{0}")]
    Usage(String),
    /// It did not work.
    #[error("{0}")]
    Failed(String),
    /// An error of this program, or a machine without memory for a thread.
    #[error("{0}")]
    Internal(String),
    /// It ends with this code, and why has been said.
    #[error("exit code {0}")]
    Said(u8),
    /// Nobody reads standard output any more: no error at all.
    #[error("standard output was closed")]
    Closed,
}

impl Error {
    fn usage(text: impl Into<String>) -> Self {
        Error::Usage(text.into())
    }

    fn failed(text: impl Into<String>) -> Self {
        Error::Failed(text.into())
    }

    /// The same with more words behind it.
    fn and(self, words: &str) -> Self {
        match self {
            Error::Failed(text) => Error::Failed(text + words),
            Error::Internal(text) => Error::Internal(text + words),
            other => other,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Error::Closed => 0,
            Error::Failed(_) => 1,
            Error::Usage(_) => 2,
            Error::Internal(_) => Kind::Internal.code(),
            Error::Said(code) => *code,
        }
    }
}

/// What a command answers: true for done and for yes.
type Answer = Result<bool, Error>;

/// The whole program: parses, does, and gives the exit code.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    if let Some(code) = complete::answer::<Cli>(&words) {
        return code;
    }
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version come this way too, with their own exit code 0.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    output::init_for_cli(cli.verbose);
    let answer = catch_unwind(AssertUnwindSafe(|| dispatch(cli, &words)));
    match answer.unwrap_or_else(|panic| Err(Error::Internal(ImageError::of_panic(&*panic).to_string()))) {
        Ok(true) | Err(Error::Closed) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Error::Said(code)) => ExitCode::from(code),
        Err(e) => {
            output::say(&format!("testboxctl: {e}"));
            ExitCode::from(e.exit_code())
        }
    }
}

/// Does the command of a command line that this program has put together.
fn perform(words: &[OsString]) -> Answer {
    let cli = Cli::try_parse_from(words).map_err(|e| Error::usage(e.render().to_string()))?;
    dispatch(cli, words)
}

fn dispatch(cli: Cli, words: &[OsString]) -> Answer {
    if cli.quiet {
        output::be_quiet();
    }
    let out = &mut Out::stdout();
    // The manual must be there for whoever mends a settings file.
    let file = match &cli.command {
        CtlCommand::Help(_) | CtlCommand::Man(_) | CtlCommand::BootServices => {
            config::SettingsFile::default()
        }
        CtlCommand::Init(args) if args.makes(cli.config.as_deref()) => config::SettingsFile::default(),
        _ => config::load(cli.config.as_deref())?,
    };
    let cli = match cli.command {
        CtlCommand::Serve(_) => {
            let words = file.serve.behind(words, &mut Cli::command())?;
            Cli::try_parse_from(words).map_err(|e| Error::usage(e.render().to_string().trim_end()))?
        }
        _ => cli,
    };
    let via = cli.via.or(&file);
    if via.place().is_some() && behalf::is_sent(&cli.command) {
        return via::run(&via, &file, words, out);
    }
    dispatch_on(cli.command, CtlPlace { config: cli.config.as_deref(), via: Some(&via) }, file, out)
}

/// Where a command gets what it hands on to another process of this program.
#[derive(Clone, Copy, Default)]
struct CtlPlace<'a> {
    /// The settings file, where one is named.
    config: Option<&'a Path>,
    /// The server that does what a server can do.
    via: Option<&'a via::ViaFlags>,
}

/// Does a command here, with these settings.
fn dispatch_on(
    command: CtlCommand,
    place: CtlPlace<'_>,
    file: config::SettingsFile,
    out: &mut Out,
) -> Answer {
    match command {
        CtlCommand::Arm(args) => arm::run(*args, file, out),
        CtlCommand::Behalf(args) => behalf::run(args, file, out),
        CtlCommand::Disarm(args) => disarm::run(args, file, out),
        CtlCommand::Watch(args) => watch::run(args, file, out),
        CtlCommand::Status(args) if args.watch => watch::run(watch::Args::of_status(args), file, out),
        CtlCommand::Status(args) => status::run(args, file, out),
        CtlCommand::History(args) => history::run(args, file, out),
        CtlCommand::Log(args) => log::run(args, file, out),
        CtlCommand::Images(args) => images::run(args, file, out),
        CtlCommand::Verify(args) => verify::run(args, file, out),
        CtlCommand::Prune(args) => prune::run(args, file, out),
        CtlCommand::Wait(args) => wait::run(args, file, out),
        CtlCommand::Run(args) => run::run(args, place),
        CtlCommand::Image(command) => image::run(command, file, out),
        CtlCommand::Dedup(args) => dedup::run(args, file, out),
        CtlCommand::Serve(args) => serve::run(&args, place.config, &file, out),
        CtlCommand::BootServices => boot::run(),
        CtlCommand::Machines(command) => machines::run(command, &file, out),
        CtlCommand::Power(args) => power::run(args, file, out),
        CtlCommand::Doctor(args) => doctor::run(args, file, out),
        CtlCommand::Init(args) => init::run(args, place.config, file, out),
        CtlCommand::Keygen(args) => keys::keygen(&args, out),
        CtlCommand::Sign(args) => sign::run(args, file, out),
        CtlCommand::Help(args) => help::run(&args, Cli::command(), out),
        CtlCommand::Man(args) => man::run(&args, Cli::command(), out),
        CtlCommand::Completions { shell } => {
            complete::script(shell, out)?;
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Cli::command().debug_assert();
    }

    /// A program that works a lab reads answers, not texts for people. Without are: what prints bytes or a format of others, what
    /// serves or waits, what only passes on another program's answer, and what is for people alone.
    #[test]
    fn every_command_answers_programs() {
        const WITHOUT: [&str; 8] =
            ["run", "cat", "mount", "reservations", "serve", "help", "man", "completions"];
        let mut command = Cli::command();
        command.build();
        let mut todo: Vec<_> = command.get_subcommands().cloned().collect();
        while let Some(command) = todo.pop() {
            let name = command.get_name();
            let is_for_people = command.is_hide_set() || name == "help" || WITHOUT.contains(&name);
            match command.has_subcommands() {
                _ if is_for_people => {}
                true => todo.extend(command.get_subcommands().cloned()),
                false => assert!(command.get_arguments().any(|arg| arg.get_long() == Some("json")), "{name}"),
            }
        }
    }

    /// A setting that is no flag would be one that the help does not teach.
    #[test]
    fn every_setting_is_a_flag_of_arm() {
        let mut command = Cli::command();
        command.build();
        let arm = command.find_subcommand("arm").unwrap();
        let flags: Vec<_> = arm.get_arguments().filter_map(|a| a.get_long()).collect();
        for key in config::keys() {
            assert!(flags.contains(&key), "{key}");
        }
    }
}
