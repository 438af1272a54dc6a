//! `testboxctl man`, for whoever packages testbox: the commands as pages of section 1, the manual's chapters of section 7.

use super::output::Out;
use super::shares::ShareFolder;
use super::{Answer, Error};
use crate::manual::{CHAPTERS, man};
use crate::share::Files;
use clap::Command;
use clap_mangen::Man;
use std::io;
use std::path::PathBuf;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of man pages, such as /usr/local/share/man, to write man1/ and man7/ into; pages of an earlier version are
    /// replaced
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Writes all pages.
///
/// # Errors
/// Where the folder cannot be made or written.
pub(super) fn run(args: &Args, program: Command, out: &mut Out) -> Answer {
    let failed =
        |e: io::Error| Error::failed(format!("{}: cannot make this folder: {e}", args.dir.display()));
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    let folder = ShareFolder::open(&args.dir)?;
    let files = folder.files.served();
    for dir in ["man1", "man7"] {
        files.make_dir(dir).map_err(|e| {
            Error::failed(format!("{}: cannot make this folder: {e}", args.dir.join(dir).display()))
        })?;
    }
    let commands = commands(program).map_err(|e| Error::failed(format!("cannot make the pages: {e}")))?;
    let chapters =
        CHAPTERS.iter().map(|chapter| (format!("man7/{}.7", man::name(chapter)), man::page(chapter)));
    for (name, page) in commands.into_iter().chain(chapters) {
        files.write_atomic(&name, page.as_bytes()).map_err(|e| {
            Error::failed(format!("{}: cannot write it: {e}", args.dir.join(&name).display()))
        })?;
        out.line(args.dir.join(&name).display().to_string())?;
    }
    Ok(true)
}

/// A page for the program, and one for each command and each of its commands: file name and text.
fn commands(mut program: Command) -> io::Result<Vec<(String, String)>> {
    program = program.disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    let mut todo = vec![program];
    while let Some(command) = todo.pop() {
        todo.extend(command.get_subcommands().filter(|c| !c.is_hide_set()).cloned());
        let man = Man::new(command).source(concat!("testbox ", env!("CARGO_PKG_VERSION"))).manual("testbox");
        let mut page = Vec::new();
        man.render(&mut page)?;
        pages.push((format!("man1/{}", man.get_filename()), String::from_utf8_lossy(&page).into_owned()));
    }
    pages.sort();
    Ok(pages)
}
