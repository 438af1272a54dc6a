//! The table `[serve]` of the settings file: the options of `serve`, which go behind those of the command line.

use super::Error;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use std::ffi::OsString;
use toml::Value;

/// Its name, which is that of the command.
pub(super) const SERVE_TABLE: &str = "serve";

/// The options as the file has them: name, and what follows it; nothing follows a flag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServeTable(Vec<(String, Option<String>)>);

impl ServeTable {
    /// Reads the table.
    ///
    /// # Errors
    /// What is not a table of strings, whole numbers, `true` and lists of strings. Which options there are, `serve` knows.
    pub fn of(value: Value) -> Result<ServeTable, String> {
        let Value::Table(table) = value else { return Err(format!("{SERVE_TABLE} is not a table")) };
        let mut options = Vec::new();
        for (key, value) in table {
            let one = |value| match value {
                Value::String(text) => Ok(text),
                Value::Integer(number) => Ok(number.to_string()),
                _ => Err(format!(
                    "[{SERVE_TABLE}] {key}: not a string, a whole number, true, or a list of strings"
                )),
            };
            match value {
                Value::Boolean(false) => {}
                Value::Boolean(true) => options.push((key, None)),
                Value::Array(values) => {
                    for value in values {
                        options.push((key.clone(), Some(one(value)?)));
                    }
                }
                value => options.push((key.clone(), Some(one(value)?))),
            }
        }
        Ok(ServeTable(options))
    }

    /// The command line `words` of `serve`, with what the file says of options that it does not give. An option that is given takes
    /// the place of those that exclude it.
    ///
    /// # Errors
    /// A key that is not an option of `serve`.
    pub fn behind(&self, words: &[OsString], program: &mut Command) -> Result<Vec<OsString>, Error> {
        program.build();
        let matches = program
            .try_get_matches_from_mut(words)
            .map_err(|e| Error::usage(e.render().to_string().trim_end()))?;
        let (Some(serve), Some(given)) =
            (program.find_subcommand(SERVE_TABLE), matches.subcommand_matches(SERVE_TABLE))
        else {
            return Ok(words.to_vec());
        };
        let mut all = words.to_vec();
        for (key, value) in &self.0 {
            let option = serve.get_arguments().find(|option| option.get_long() == Some(key));
            let option = option.ok_or_else(|| {
                Error::usage(format!("the settings file: [{SERVE_TABLE}] has the key {key:?}, which is not an option of 'serve'"))
            })?;
            let excludes = |one: &Arg, other: &Arg| serve.get_arg_conflicts_with(one).contains(&other);
            let is_given = |other: &&Arg| {
                is_of_command_line(given, other)
                    && (other.get_id() == option.get_id()
                        || excludes(other, option)
                        || excludes(option, other))
            };
            if serve.get_arguments().any(|other| is_given(&other)) {
                continue;
            }
            let value = value.as_ref().map_or_else(String::new, |value| format!("={value}"));
            all.push(format!("--{key}{value}").into());
        }
        Ok(all)
    }
}

fn is_of_command_line(matches: &ArgMatches, option: &Arg) -> bool {
    matches.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine)
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use clap::CommandFactory;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn behind(text: &str, line: &str) -> Result<String, String> {
        let table = ServeTable::of(Value::Table(toml::from_str(text).unwrap()))?;
        let all = table.behind(&words(line), &mut Cli::command()).map_err(|e| e.to_string())?;
        let all: Vec<&str> = all.iter().map(|word| word.to_str().unwrap()).collect();
        Ok(all.join(" "))
    }

    #[test]
    fn the_command_line_goes_before_the_file() {
        let text = "interface = [\"eth1\", \"eth2\"]\ntftp = true\ndhcp = \"10.0.0.1-10.0.0.9\"\nat-work = 4\nplain = false\n";
        let file = "--at-work=4 --dhcp=10.0.0.1-10.0.0.9 --interface=eth1 --interface=eth2 --tftp";
        for (line, added) in [
            ("testboxctl serve", file),
            ("testboxctl --quiet serve --interface eth9 --at-work 2", "--dhcp=10.0.0.1-10.0.0.9 --tftp"),
            ("testboxctl serve --proxy-dhcp --interface eth9 --at-work 2", "--tftp"),
        ] {
            assert_eq!(behind(text, line), Ok(format!("{line} {added}")));
        }
    }

    #[test]
    fn what_is_not_an_option_is_named() {
        assert!(behind("tftpp = true\n", "testboxctl serve").unwrap_err().contains("\"tftpp\""));
        for text in ["a = 1.5\n", "a = [true]\n", "a = { b = 1 }\n"] {
            assert!(ServeTable::of(Value::Table(toml::from_str(text).unwrap())).is_err(), "{text}");
        }
        assert!(ServeTable::of(Value::Integer(1)).is_err());
    }
}
