//! `behalf`: a command that an admin has sent to the server, which the server starts this program for. It works on the
//! server's folders, and takes nothing that names another file of the server.

use super::config::SettingsFile;
use super::output::{self, Out};
use super::{Answer, Cli, CtlCommand, CtlPlace, Error, dispatch_on};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use std::any::TypeId;
use std::path::PathBuf;

/// What may be sent to a server.
const COMMANDS: [&str; 12] = [
    "arm", "disarm", "status", "watch", "history", "log", "images", "verify", "prune", "wait", "dedup",
    "power",
];

/// Arguments of `behalf`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder with the backups
    #[arg(long)]
    backup_dir: PathBuf,
    /// The folder that the TFTP server serves
    #[arg(long)]
    tftp_dir: PathBuf,
    /// The command as it was sent
    #[arg(last = true)]
    words: Vec<String>,
}

/// True where this command may be sent to a server.
pub(super) fn is_sent(command: &CtlCommand) -> bool {
    use CtlCommand as C;
    matches!(
        command,
        C::Arm(_)
            | C::Disarm(_)
            | C::Status(_)
            | C::Watch(_)
            | C::History(_)
            | C::Log(_)
            | C::Images(_)
            | C::Verify(_)
            | C::Prune(_)
            | C::Wait(_)
            | C::Dedup(_)
            | C::Power(_)
    )
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let words = ["testboxctl".to_owned()].into_iter().chain(args.words);
    let mut command = Cli::command();
    command.build();
    let matches = match command.try_get_matches_from_mut(words) {
        Ok(matches) => matches,
        Err(e) if e.use_stderr() => return Err(Error::usage(e.render().to_string().trim_end())),
        // Help and version.
        Err(e) => return out.text(&e.render().to_string()).map(|()| true),
    };
    check(&command, &matches)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|e| Error::usage(e.to_string()))?;
    if cli.quiet {
        output::be_quiet();
    }
    let own = SettingsFile {
        backup_dir: Some(args.backup_dir),
        tftp_dir: Some(args.tftp_dir),
        ..SettingsFile::default()
    };
    dispatch_on(cli.command, CtlPlace::default(), own.or(file), out)
}

/// Refuses other commands, and options by which the server's user would read or write what the admin names.
fn check(command: &Command, matches: &ArgMatches) -> Result<(), Error> {
    let (name, inner) = matches.subcommand().unwrap_or(("", matches));
    let about = command.find_subcommand(name).filter(|_| COMMANDS.contains(&name)).ok_or_else(|| {
        Error::usage(format!(
            "'{name}' is not done by a server: it takes {}; do it where its files are, without --via",
            COMMANDS.join(", ")
        ))
    })?;
    for argument in about.get_arguments().filter(|argument| !argument.is_global_set()) {
        let id = argument.get_id().as_str();
        let is_given = inner.value_source(id) == Some(ValueSource::CommandLine);
        if is_given && argument.get_value_parser().type_id() == TypeId::of::<PathBuf>() {
            return Err(Error::usage(format!(
                "--{}: a server takes no files and folders from outside: it works on its own, as its settings say",
                argument.get_long().unwrap_or(id)
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(words: &str) -> Result<(), String> {
        let mut command = Cli::command();
        command.build();
        let matches = command.try_get_matches_from_mut(format!("testboxctl {words}").split(' ')).unwrap();
        check(&command, &matches).map_err(|e| e.to_string())
    }

    /// A new command is not sent before somebody has thought about it.
    #[test]
    fn only_what_works_on_the_servers_folders_is_done_for_others() {
        for words in [
            "arm 10.0.0.1 backup",
            "disarm 10.0.0.1",
            "status --json",
            "watch",
            "history",
            "log -f",
            "images rack3",
            "verify --all",
            "prune --yes",
            "wait --job a",
            "dedup --dry-run",
            "power status --all",
        ] {
            assert_eq!(checked(words), Ok(()), "{words}");
            let cli =
                <Cli as clap::Parser>::try_parse_from(format!("testboxctl {words}").split(' ')).unwrap();
            assert!(is_sent(&cli.command), "{words}");
        }
        for words in [
            "image info x",
            "serve --tftp-dir x",
            "init",
            "keygen x",
            "sign 10.0.0.1",
            "help",
            "machines list",
            "run 10.0.0.1 restore -- true",
            "man x",
            "behalf --backup-dir x --tftp-dir x -- status",
        ] {
            assert!(checked(words).is_err(), "{words}");
        }
    }

    /// Every option that is a path, of every command: found by its type, so that a new one is refused too.
    #[test]
    fn no_option_names_a_file_of_the_server() {
        let mut command = Cli::command();
        command.build();
        let mut seen = 0;
        for name in COMMANDS {
            let is_path = |argument: &&clap::Arg| {
                argument.get_value_names().is_some_and(|names| names.iter().any(|name| name == "DIR"))
                    || argument.get_long() == Some("sign-key")
            };
            let about = command.find_subcommand(name).unwrap();
            let long = |argument: &clap::Arg| argument.get_long().map(str::to_owned);
            let paths: Vec<String> = about.get_arguments().filter(is_path).filter_map(long).collect();
            for path in paths {
                let words = match name {
                    "arm" => " 10.0.0.1 backup",
                    "disarm" => " 10.0.0.1",
                    "wait" => " --job a",
                    "verify" => " --all",
                    "power" => " status 10.0.0.1",
                    _ => "",
                };
                let line = format!("{name} --{path} /etc/x{words}");
                assert!(checked(&line).unwrap_err().contains("no files and folders"), "{line}");
                seen += 1;
            }
        }
        assert!(seen >= 7, "{seen}");
    }
}
