//! The machine's options as flags of `arm` and keys of the settings file: both are made from the one table of options,
//! and read by the parser of the kernel command line.

use crate::job::{Form, Given, OPTIONS, OptionAbout, Options};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

/// What of the machine's options the admin gave.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags(pub Options);

/// The options that are flags, with the heading under which help lists them.
fn flags() -> impl Iterator<Item = (&'static OptionAbout, &'static str)> {
    OPTIONS.iter().filter_map(|about| {
        let heading = match about.given {
            Given::Network => "Network",
            Given::Boot => "Boot",
            Given::Disks => "Disks",
            Given::End => "End and errors",
            Given::Job | Given::Arm => return None,
        };
        Some((about, heading))
    })
}

/// What is wrong with the value of one option.
fn problem(about: &OptionAbout, text: &str) -> Result<(), String> {
    let set = Options::default().set(about.name, text).unwrap_or(Ok(()));
    set.map_err(|e| format!("testbox.{}={text}: {e}", about.name))
}

impl Flags {
    /// The names of the flags, which are the keys of the settings file.
    pub fn names() -> impl Iterator<Item = &'static str> {
        flags().map(|(about, _)| about.name)
    }

    /// Takes the options out of a settings file.
    ///
    /// # Errors
    /// A value of another form, or one that the machine would refuse, with its key.
    pub fn take(table: &mut Table) -> Result<Flags, String> {
        let mut options = Options::default();
        for (about, _) in flags() {
            let Some(value) = table.remove(about.name) else { continue };
            let text = text_of(about, &value)?;
            if about.form == Form::List && text.is_empty() {
                continue;
            }
            problem(about, &text)?;
            let _ = options.set(about.name, &text);
        }
        Ok(Flags(options))
    }
}

/// A value of a settings file as it stands on a kernel command line.
fn text_of(about: &OptionAbout, value: &Value) -> Result<String, String> {
    let wrong = |wanted: &str| Err(format!("{}: expected {wanted}, found {}", about.name, value.type_str()));
    match (about.form, value) {
        (Form::Text, Value::String(text)) => Ok(text.clone()),
        (Form::Text, _) => wrong("a string"),
        (Form::Number, Value::Integer(number)) => Ok(number.to_string()),
        (Form::Number, _) => wrong("a whole number"),
        (Form::List, Value::Array(items)) => {
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            texts.map_or_else(|| wrong("a list of strings"), |texts| Ok(texts.join(",")))
        }
        (Form::List, _) => wrong("a list of strings"),
    }
}

/// Markdown's marks are for the manual.
fn help(about: &OptionAbout) -> String {
    format!("{} [default: {}]", about.summary(), about.default).replace('`', "")
}

impl clap::Args for Flags {
    fn augment_args(mut command: Command) -> Command {
        for (about, heading) in flags() {
            let check = move |text: &str| problem(about, text).map(|()| text.to_owned());
            let action = if about.form == Form::List { ArgAction::Append } else { ArgAction::Set };
            command = command.arg(
                Arg::new(about.name)
                    .long(about.name)
                    .value_name(about.value)
                    .help(help(about))
                    .help_heading(heading)
                    .action(action)
                    .value_parser(check),
            );
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut options = Options::default();
        for (about, _) in flags() {
            let Some(given) = matches.get_many::<String>(about.name) else { continue };
            let text = given.cloned().collect::<Vec<_>>().join(",");
            if let Some(Err(e)) = options.set(about.name, &text) {
                return Err(clap::Error::raw(
                    ErrorKind::ValueValidation,
                    format!("--{} {text}: {e}\n", about.name),
                ));
            }
        }
        Ok(Flags(options))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
