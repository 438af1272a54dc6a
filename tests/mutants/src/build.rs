//! The changed copy of the tree: all mutants of the sample at once, each behind its switch.

use crate::Options;
use crate::find::Mutant;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The switch; `TESTBOX_MUTANT=N` turns number N on.
const SWITCH: &str = "//! Which mutant is on.\n\
    /// True for the one that the environment names.\n\
    pub fn on(n: usize) -> bool {\n\
    static ON: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();\n\
    *ON.get_or_init(|| std::env::var(\"TESTBOX_MUTANT\").ok()?.parse().ok()) == Some(n)\n\
    }\n";

/// A test program.
pub struct TestProgram {
    pub name: String,
    pub path: PathBuf,
}

/// The changed copy, built.
pub struct Built {
    /// Those of the sample that compile.
    pub mutants: Vec<Mutant>,
    pub programs: Vec<TestProgram>,
    /// The folder that tests expect to run in.
    pub tree: PathBuf,
}

/// Builds the first of `drawn` that compile, as many as are wanted.
pub fn build(options: &Options, drawn: Vec<Mutant>) -> Result<Built> {
    let tree = std::path::absolute(&options.work)?.join("tree");
    let mut rest = drawn.into_iter();
    let mut mutants: Vec<Mutant> = Vec::new();
    loop {
        while mutants.len() < options.count {
            let Some(next) = rest.next() else { break };
            if !mutants.iter().any(|m| m.overlaps(&next)) {
                mutants.push(next);
            }
        }
        write_tree(&options.root, &tree, &mutants)?;
        let messages = cargo(&tree, options, &["check", "--all-features", "--lib"])?;
        let bad = blamed(&tree, &messages)?;
        if bad.is_empty() {
            break;
        }
        println!("{} do not compile and are left out", bad.len());
        let mut n = 0;
        mutants.retain(|_| {
            n += 1;
            !bad.contains(&(n - 1))
        });
    }
    let messages = cargo(
        &tree,
        options,
        &["test", "--no-run", "--all-features", "--lib", "--test", "machine", "--test", "testboxctl"],
    )?;
    let programs = programs(&messages);
    if programs.is_empty() {
        bail!("the tests of the changed copy do not build");
    }
    Ok(Built { mutants, programs, tree })
}

fn write_tree(root: &Path, tree: &Path, mutants: &[Mutant]) -> Result<()> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output()?.stdout;
    for name in String::from_utf8(listed)?.split('\0').filter(|n| !n.is_empty()) {
        let Ok(mut bytes) = fs::read(root.join(name)) else { continue };
        let mut here: Vec<_> = mutants.iter().enumerate().filter(|(_, m)| m.file == name).collect();
        if !here.is_empty() || name == "src/lib.rs" {
            let mut text = String::from_utf8(bytes)?;
            here.sort_by_key(|(_, m)| std::cmp::Reverse(m.span.start));
            for (n, mutant) in here {
                text.replace_range(mutant.span.clone(), &mutant.text(n));
            }
            if name == "src/lib.rs" {
                text += "pub mod mutant;\n";
            }
            bytes = text.into_bytes();
        }
        write_changed(&tree.join(name), &bytes)?;
        let mode = fs::metadata(root.join(name))?.permissions();
        fs::set_permissions(tree.join(name), mode)?;
    }
    write_changed(&tree.join("src/mutant.rs"), SWITCH.as_bytes())
}

/// Writes only what differs, so that cargo builds only what has changed.
fn write_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().context("a file without a folder")?)?;
    fs::write(path, bytes)?;
    Ok(())
}

fn cargo(tree: &Path, options: &Options, words: &[&str]) -> Result<Vec<serde_json::Value>> {
    let target = std::path::absolute(&options.work)?.join("build");
    let output = Command::new("cargo")
        .args(words)
        .args(["--message-format=json", "--quiet"])
        .env("CARGO_TARGET_DIR", target)
        .env("RUSTFLAGS", "-Awarnings")
        .current_dir(tree)
        .stderr(Stdio::null())
        .output()?;
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The numbers of the mutants that errors of the compiler stand beside: the nearest switch before each, or behind it.
fn blamed(tree: &Path, messages: &[serde_json::Value]) -> Result<BTreeSet<usize>> {
    let mut bad = BTreeSet::new();
    let errors = messages.iter().filter(|m| m["message"]["level"] == "error");
    let mut seen = 0;
    for span in errors.flat_map(|m| m["message"]["spans"].as_array().cloned().unwrap_or_default()) {
        seen += 1;
        let (Some(file), Some(line)) = (span["file_name"].as_str(), span["line_start"].as_u64()) else {
            continue;
        };
        let text = fs::read_to_string(tree.join(file))?;
        let lines: Vec<&str> = text.lines().collect();
        let number =
            |l: &&str| l.split("crate::mutant::on(").nth(1)?.split(')').next()?.parse::<usize>().ok();
        let line = line as usize;
        let before = lines.iter().take(line).rev().take(80).find_map(number);
        bad.extend(before.or_else(|| lines.iter().skip(line).take(40).find_map(number)));
    }
    if seen > 0 && bad.is_empty() {
        bail!("the changed copy does not compile, and no mutant is to blame");
    }
    Ok(bad)
}

/// The test programs that need neither root nor an emulated machine.
fn programs(messages: &[serde_json::Value]) -> Vec<TestProgram> {
    let made = messages.iter().filter(|m| m["reason"] == "compiler-artifact" && m["profile"]["test"] == true);
    let made = made.filter_map(|m| {
        Some(TestProgram {
            name: m["target"]["name"].as_str()?.into(),
            path: m["executable"].as_str()?.into(),
        })
    });
    made.filter(|p| {
        !p.name.starts_with("loop_") && !["qemu", "used", "dependencies"].contains(&p.name.as_str())
    })
    .collect()
}
