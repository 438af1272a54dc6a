//! Runs the tests once for each mutant, until one fails.

use crate::Options;
use crate::build::{Built, TestProgram};
use anyhow::{Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longer than this, beside three times what the tests take unchanged, is a hang, and a hang is noticed.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(PartialEq)]
enum Outcome {
    Passed,
    Failed(String),
    Hung,
}

/// The numbers of the mutants that no test notices.
pub fn run(_: &Options, built: &Built) -> Result<Vec<usize>> {
    let mut programs = Vec::new();
    for program in &built.programs {
        let start = Instant::now();
        match one(built, program, None, Duration::from_secs(3600))? {
            Outcome::Passed => programs.push((start.elapsed(), program)),
            _ => bail!("{} fails without any mutant", program.name),
        }
    }
    programs.sort_by_key(|(took, _)| *took);
    for (took, program) in &programs {
        println!("{:7.1} s  {}", took.as_secs_f64(), program.name);
    }
    let mut survivors = Vec::new();
    for (n, mutant) in built.mutants.iter().enumerate() {
        let mut by = None;
        for (took, program) in &programs {
            by = match one(built, program, Some(n), *took * 3 + PATIENCE)? {
                Outcome::Passed => continue,
                Outcome::Failed(test) => Some(format!("{} {test}", program.name)),
                Outcome::Hung => Some(format!("{} does not end", program.name)),
            };
            break;
        }
        match by {
            Some(by) => println!("killed {n}: {mutant}: {by}"),
            None => {
                println!("SURVIVED {n}: {mutant}");
                survivors.push(n);
            }
        }
    }
    Ok(survivors)
}

/// One run of one test program, ended at the first failure.
fn one(built: &Built, program: &TestProgram, mutant: Option<usize>, limit: Duration) -> Result<Outcome> {
    let mut command = Command::new(&program.path);
    command.args(["--skip", "loop_"]).current_dir(&built.tree);
    command.env("CARGO_MANIFEST_DIR", &built.tree).env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(n) = mutant {
        command.env("TESTBOX_MUTANT", n.to_string());
    }
    let mut child = command.spawn()?;
    let (send, lines) = mpsc::channel();
    let Some(out) = child.stdout.take() else { bail!("no output of {}", program.name) };
    std::thread::spawn(move || {
        for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
            let _ = send.send(String::from_utf8_lossy(&line).into_owned());
        }
    });
    let end = Instant::now() + limit;
    let outcome = loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some(test) = line.strip_suffix(" ... FAILED") {
                    break Outcome::Failed(test.trim_start_matches("test ").to_owned());
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => break Outcome::Hung,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                break if child.wait()?.success() { Outcome::Passed } else { Outcome::Failed("(ended)".into()) };
            }
        }
    };
    let _ = child.kill();
    child.wait()?;
    Ok(outcome)
}
