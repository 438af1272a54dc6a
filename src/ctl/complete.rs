//! What a shell completes: the words of this program, and the names of the machines, which it is asked for each time.

use super::Error;
use super::config;
use super::machine::MachineNames;
use super::output::{Out, closed_or};
use crate::job::Action;
use clap::{Command, CommandFactory};
use clap_complete::engine::{ArgValueCompleter, PathCompleter, ValueCompleter};
use clap_complete::env::{CompleteEnv, EnvCompleter};
use clap_complete::{ArgValueCandidates, CompletionCandidate, Shell};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Set where a shell asks.
const VARIABLE: &str = "TESTBOXCTL_COMPLETE";
const PROGRAM: &str = "testboxctl";

/// Answers a shell; `None` where none asks.
pub(super) fn answer<C: CommandFactory>(words: &[OsString]) -> Option<ExitCode> {
    let here = std::env::current_dir().ok();
    let asked = CompleteEnv::with_factory(|| with_names(C::command()))
        .var(VARIABLE)
        .try_complete(words, here.as_deref());
    match asked {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        // Whatever is printed would end up in somebody's command line.
        Err(_) => Some(ExitCode::from(2)),
    }
}

/// The script by which a shell asks.
pub(super) fn script(shell: Shell, out: &mut Out) -> Result<(), Error> {
    use clap_complete::env::{Bash, Elvish, Fish, Powershell, Zsh};
    let known: [(Shell, &dyn EnvCompleter); 5] = [
        (Shell::Bash, &Bash),
        (Shell::Elvish, &Elvish),
        (Shell::Fish, &Fish),
        (Shell::PowerShell, &Powershell),
        (Shell::Zsh, &Zsh),
    ];
    let (_, shell) = known
        .iter()
        .find(|(known, _)| *known == shell)
        .ok_or_else(|| Error::usage(format!("{shell}: its completion is not known")))?;
    shell.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, out.bytes()).map_err(|e| closed_or(&e))
}

/// What stands for each positional is told by its name in the help: so every command has it.
fn with_names(command: Command) -> Command {
    command.mut_subcommands(|command| {
        with_names(command).mut_args(|arg| {
            let name = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
            match name.as_deref() {
                Some("IP|HOST" | "IP|HOST|FOLDER") => arg.add(ArgValueCandidates::new(known_machines)),
                Some("IMAGE|MACHINE[:SET]") => arg.add(ArgValueCompleter::new(machines_and_files)),
                Some("IP|HOST... ACTION") => arg.add(ArgValueCandidates::new(|| {
                    known_machines().into_iter().chain(known_actions()).collect()
                })),
                Some("ACTION") => arg.add(ArgValueCandidates::new(known_actions)),
                _ => arg,
            }
        })
    })
}

/// What begins with `current`: names of machines, and files.
fn machines_and_files(current: &OsStr) -> Vec<CompletionCandidate> {
    let begins = |candidate: &CompletionCandidate| {
        candidate.get_value().as_encoded_bytes().starts_with(current.as_encoded_bytes())
    };
    let machines = known_machines().into_iter().filter(begins);
    machines.chain(PathCompleter::any().complete(current)).collect()
}

fn known_actions() -> Vec<CompletionCandidate> {
    let one = |action: Action| CompletionCandidate::new(action.as_str()).help(Some(action.about()[0].into()));
    Action::ALL.map(one).into()
}

/// Those of the file of machines, as the command that is being typed has it. Where that cannot be read, none: whoever types
/// on is told by the command itself.
fn known_machines() -> Vec<CompletionCandidate> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let settings = config::load(flag(&words, "--config").as_deref()).map(|mut settings| {
        settings.machines = flag(&words, "--machines").or(settings.machines);
        settings
    });
    let Ok(names) = settings.and_then(|settings| MachineNames::load(&settings)) else { return Vec::new() };
    let groups: BTreeSet<&String> = names.list().iter().flat_map(|machine| &machine.groups).collect();
    let machine = names.list().iter().map(|machine| {
        CompletionCandidate::new(&machine.name).help(Some(machine.address.to_string().into()))
    });
    let group = groups.into_iter().map(|group| CompletionCandidate::new(group).help(Some("a group".into())));
    machine.chain(group).collect()
}

/// What a long option says on a command line.
fn flag(words: &[OsString], name: &str) -> Option<PathBuf> {
    let behind = |at: usize| words.get(at + 1).map(PathBuf::from);
    words.iter().enumerate().find_map(|(at, word)| match word.to_str()?.strip_prefix(name)? {
        "" => behind(at),
        rest => rest.strip_prefix('=').map(|value| Path::new(value).to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_found_in_both_spellings() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (line, expected) in [
            ("arm --config a tb1", Some("a")),
            ("arm --config=b tb1", Some("b")),
            ("arm --configs c", None),
            ("arm --config", None),
            ("arm", None),
        ] {
            assert_eq!(flag(&words(line), "--config"), expected.map(PathBuf::from), "{line}");
        }
    }
}
