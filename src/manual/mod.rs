//! The manual: its chapters, as `testboxctl help` shows them. Tables of what the code knows stand in the chapters between
//! markers, `<!-- codes -->` and `<!-- end -->`; a test holds them equal to what is generated here, and with
//! `TESTBOX_BLESS=1` writes them.
#![forbid(unsafe_code)]

pub mod man;

use crate::failure::Kind;
use crate::job::{Action, OPTIONS};
use std::fmt::Write;

/// One chapter of the manual.
#[derive(Debug)]
pub struct Chapter {
    /// The word after `testboxctl help`, and the name of its file.
    pub name: &'static str,
    /// Its text, in Markdown.
    pub text: &'static str,
}

impl Chapter {
    /// Its first heading.
    pub fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }
}

macro_rules! chapters {
    ($($name:literal)+) => {
        /// All chapters, in the order in which they are read.
        pub const CHAPTERS: &[Chapter] =
            &[$(Chapter { name: $name, text: include_str!(concat!($name, ".md")) },)+];
    };
}

chapters! {
    "setup" "uefi" "actions" "disks" "images" "shares" "reference" "failures" "troubleshooting" "signatures" "safety" "security"
    "original"
}

/// The chapter of that name.
pub fn chapter(name: &str) -> Option<&'static Chapter> {
    CHAPTERS.iter().find(|c| c.name == name)
}

/// What stands between the marker `name` and its end in a chapter.
pub fn generated(name: &str) -> Option<String> {
    match name {
        "actions" => Some(actions()),
        "codes" => Some(codes()),
        "parameters" => Some(parameters()),
        _ => None,
    }
}

fn actions() -> String {
    let mut table = String::from("| Action | Does | Refuses | Leaves |\n|---|---|---|---|\n");
    for action in Action::ALL {
        let cells =
            action.about().map(|cell| if cell.is_empty() { String::new() } else { format!(" {cell}") });
        let _ = writeln!(table, "| `{action}` |{} |{} |{} |", cells[0], cells[1], cells[2]);
    }
    table
}

fn codes() -> String {
    let mut table = String::from("| Code | Word | What to do |\n|---|---|---|\n");
    for kind in Kind::ALL {
        let _ = writeln!(table, "| {} | {} | {} |", kind.code(), kind.as_str(), kind.remedy());
    }
    table
}

fn parameters() -> String {
    let mut table = String::from("| Parameter | Meaning | Default |\n|---|---|---|\n");
    let actions = Action::ALL.map(Action::as_str).join(", ");
    let _ = writeln!(
        table,
        "| `testbox.action=ACTION`, or `testbox-action-ACTION` | what to do: {actions} | asked by TFTP |\n\
         | `testbox.job=ID` | the job's id, 1 to 64 of `A-Z a-z 0-9 . _ -` | none |\n\
         | `testbox.signature=TEXT` | the signature of the job, 86 characters: [Signed sets](signatures.md) | none |"
    );
    for option in OPTIONS {
        let _ = writeln!(
            table,
            "| `testbox.{}={}` | {} | {} |",
            option.name,
            option.value,
            option.summary(),
            option.default
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// The chapter's text with every generated table as the code has it now.
    fn with_tables(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("<!-- ") {
            let (name, after) = after.split_once(" -->\n").expect("a marker ends its line");
            let table =
                generated(name).unwrap_or_else(|| panic!("nothing is generated for the marker {name}"));
            let (_, after) = after.split_once("<!-- end -->").expect("a marker has an end");
            out += &format!("{before}<!-- {name} -->\n{table}<!-- end -->");
            rest = after;
        }
        out + rest
    }

    #[test]
    fn tables_of_the_manual_are_those_of_the_code() {
        for chapter in CHAPTERS {
            let wanted = with_tables(chapter.text);
            if std::env::var_os("TESTBOX_BLESS").is_some() {
                let path =
                    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/manual/{}.md", chapter.name));
                std::fs::write(path, &wanted).unwrap();
            }
            assert_eq!(
                chapter.text, wanted,
                "{}: TESTBOX_BLESS=1 cargo test manual:: writes it",
                chapter.name
            );
        }
    }

    #[test]
    fn every_file_of_the_manual_is_a_chapter() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/manual");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let Some(name) = name.strip_suffix(".md") else { continue };
            assert!(chapter(name).is_some_and(|c| !c.title().is_empty()), "{name}");
        }
    }
}
