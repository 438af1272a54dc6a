//! `testboxctl help`: a chapter of the manual, or the help of a command.

use super::output::Out;
use super::{Answer, Error};
use crate::manual::{CHAPTERS, chapter};
use crate::text::quoted;
use clap::Command;
use std::io::{self, IsTerminal, Write};
use std::process::{self, Stdio};

/// What to show.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// A chapter of the manual, or a command; without one, the list of both
    #[arg(value_name = "TOPIC")]
    topic: Vec<String>,
}

/// Shows a chapter, a command's help, or what there is.
///
/// # Errors
/// A topic that is neither is a usage error that lists the chapters.
pub(super) fn run(args: &Args, mut program: Command, out: &mut Out) -> Answer {
    let text = match args.topic.as_slice() {
        [] => format!("{}\n{}", program.render_long_help(), contents()),
        names @ [name] => match chapter(name) {
            Some(chapter) => chapter.text(),
            None => of_command(program, names)?,
        },
        names => of_command(program, names)?,
    };
    page(&text, out)?;
    Ok(true)
}

fn contents() -> String {
    let lines = CHAPTERS.iter().map(|c| format!("  {:<16} {}\n", c.name, c.title()));
    format!("Chapters of the manual, for 'testboxctl help CHAPTER':\n{}", lines.collect::<String>())
}

fn of_command(mut program: Command, names: &[String]) -> Result<String, Error> {
    program.build();
    let mut command = &mut program;
    for name in names {
        command = command.find_subcommand_mut(name).ok_or_else(|| {
            Error::usage(format!("{} is neither a command nor a chapter.\n{}", quoted(name), contents()))
        })?;
    }
    Ok(command.render_long_help().to_string())
}

/// Through a pager where a person reads, else as it is.
fn page(text: &str, out: &mut Out) -> Result<(), Error> {
    if !io::stdout().is_terminal() {
        return out.text(text);
    }
    let pager =
        std::env::var("PAGER").ok().filter(|p| !p.trim().is_empty()).unwrap_or_else(|| "less -FRX".into());
    let mut words = pager.split_whitespace();
    let command =
        process::Command::new(words.next().unwrap_or("less")).args(words).stdin(Stdio::piped()).spawn();
    let Ok(mut child) = command else { return out.text(text) };
    if let Some(mut input) = child.stdin.take() {
        // Whoever leaves the pager early has read enough.
        let _ = input.write_all(text.as_bytes());
    }
    let _ = child.wait();
    Ok(())
}
