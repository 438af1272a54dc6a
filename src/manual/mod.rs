//! The manual: its chapters, as `testboxctl help` shows them. Where a chapter has the markers `<!-- codes -->` and
//! `<!-- end -->`, or another name between them, the table of what the code knows stands in their place.
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
    /// Its file, in Markdown, without the tables.
    source: &'static str,
}

impl Chapter {
    /// Its first heading.
    pub fn title(&self) -> &'static str {
        self.source.lines().next().unwrap_or_default().trim_start_matches("# ")
    }

    /// Its text, in Markdown, with the tables.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut rest = self.source;
        while let Some((before, marked)) = rest.split_once("<!-- ") {
            let (name, table) = marked.split_once(" -->\n").unwrap_or((marked, ""));
            let (_, after) = table.split_once("<!-- end -->\n").unwrap_or_default();
            text += before;
            text += &generated(name).unwrap_or_default();
            rest = after;
        }
        text + rest
    }
}

macro_rules! chapters {
    ($($name:literal)+) => {
        /// All chapters, in the order in which they are read.
        pub const CHAPTERS: &[Chapter] =
            &[$(Chapter { name: $name, source: include_str!(concat!($name, ".md")) },)+];
    };
}

chapters! {
    "setup" "uefi" "actions" "lab" "disks" "images" "shares" "store" "reference" "failures" "troubleshooting" "signatures" "safety" "security"
    "original"
}

/// The chapter of that name.
pub fn chapter(name: &str) -> Option<&'static Chapter> {
    CHAPTERS.iter().find(|c| c.name == name)
}

/// What stands in the place of the marker `name`.
fn generated(name: &str) -> Option<String> {
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

    /// A new option, action or exit code is in the manual as soon as it is in the code.
    #[test]
    fn the_manual_has_all_that_the_code_knows() {
        let text = |name| chapter(name).unwrap().text();
        for option in OPTIONS {
            let row = format!("| `testbox.{}={}` | {} |", option.name, option.value, option.summary());
            assert!(text("reference").contains(&row), "{row}");
        }
        for kind in Kind::ALL {
            let row = format!("| {} | {} | {} |", kind.code(), kind.as_str(), kind.remedy());
            assert!(text("failures").contains(&row), "{row}");
        }
        for action in Action::ALL {
            assert!(text("actions").contains(&format!("\n| `{action}` |")), "{action}");
        }
        for chapter in CHAPTERS {
            let (text, source) = (chapter.text(), chapter.source);
            assert!(
                !text.contains("<!--") && text.starts_with(source.lines().next().unwrap()),
                "{}",
                chapter.name
            );
            assert!(
                text.ends_with(source.lines().last().unwrap_or_default().trim_end())
                    || text.ends_with(&format!("{}\n", source.lines().last().unwrap())),
                "{}",
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
