//! The lines that the manual has for an admin to type or to paste, so that a scenario runs these and no others.

use std::fs;
use std::path::{Path, PathBuf};

fn pages() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![top.join("README.md")];
    let manual = fs::read_dir(top.join("src/manual")).into_iter().flatten();
    pages
        .extend(manual.map(|e| e.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "md")));
    pages
}

/// All blocks of lines that are indented by four spaces.
fn blocks() -> Vec<String> {
    let mut blocks = vec![String::new()];
    for page in pages() {
        for line in fs::read_to_string(&page).unwrap().lines().chain([""]) {
            match line.strip_prefix("    ") {
                Some(line) => *blocks.last_mut().unwrap() += &format!("{line}\n"),
                None if blocks.last().unwrap().is_empty() => {}
                None => blocks.push(String::new()),
            }
        }
    }
    blocks
}

/// The one block that has all of these words in it.
pub fn block(words: &[&str]) -> String {
    let mut found: Vec<_> =
        blocks().into_iter().filter(|block| words.iter().all(|w| block.contains(w))).collect();
    assert_eq!(found.len(), 1, "blocks of the manual with {words:?}: {found:#?}");
    found.remove(0)
}

/// The commands that the README begins with, each a line, without comments.
pub fn first_block_of_the_readme() -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with("    "));
    let commands = lines.map_while(|line| line.strip_prefix("    "));
    commands.map(|line| line.split(" #").next().unwrap_or_default().trim_end().to_owned()).collect()
}

/// The one line of the blocks that begins so.
pub fn line(start: &str) -> String {
    let blocks = blocks();
    let lines = blocks.iter().flat_map(|block| block.lines());
    let found: Vec<_> = lines.filter(|line| line.starts_with(start)).collect();
    assert_eq!(found.len(), 1, "lines of the manual that begin with {start:?}: {found:#?}");
    found[0].to_owned()
}
