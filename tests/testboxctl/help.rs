//! The manual is in the program.

use crate::{Lab, Run};

fn help(words: &[&str]) -> Run {
    let words = ["help"].iter().chain(words).copied().collect::<Vec<_>>();
    Lab::empty().run(&words)
}

#[test]
fn help_shows_chapters_and_the_help_of_commands() {
    help(&[]).expect(0, &["Usage: testboxctl", "failures", "When something fails"]);
    help(&["failures"]).expect(0, &["| 47 | ambiguous |"]);
    help(&["image", "create"]).expect(0, &["Usage: testboxctl image create"]);
}

#[test]
fn a_topic_that_is_not_there_lists_those_that_are() {
    help(&["nix"]).expect(2, &["'nix'", "troubleshooting"]);
    help(&["image", "nix"]).expect(2, &["'nix'"]);
}
