//! Runs the tests once for each mutant, until one fails.

use crate::Options;
use crate::build::{Built, TestProgram};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
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

/// Which tests may notice a change of which files, cheapest first: a program, and names in its tests.
const NOTICED_BY: &[(&str, &[(&str, &[&str])])] = &[
    (
        "src/watch.rs",
        &[("testbox", &["watch::", "share::", "block::"]), ("machine", &["share_faults::", "disk_faults::"])],
    ),
    (
        "src/plan/",
        &[
            ("testbox", &["plan::", "inventory::"]),
            ("machine", &["which_disk::", "scenarios::", "hostile_share::", "signed::", "disk_faults::"]),
        ],
    ),
    (
        "src/store/",
        &[
            ("testbox", &["store::"]),
            ("machine", &["sets::", "lease_checks::", "hostile_share::", "scenarios::", "signed::"]),
            ("testboxctl", &[]),
            ("machine", &["faults::", "share_faults::"]),
        ],
    ),
    (
        "src/job/",
        &[
            ("testbox", &["job::", "signature::", "ctl::"]),
            ("testboxctl", &["arm::", "sign::"]),
            ("machine", &["boot_path::", "scenarios::", "signed::"]),
        ],
    ),
    (
        "src/image/",
        &[
            ("testbox", &["image::"]),
            ("machine", &["together::", "used_space::", "disk_faults::", "faults::"]),
        ],
    ),
    (
        "src/inventory/",
        &[("testbox", &["inventory::", "plan::"]), ("machine", &["which_disk::", "scenarios::"])],
    ),
    ("src/share/", &[("testbox", &["share::"]), ("testboxctl", &[]), ("machine", &["hostile_share::"])]),
    ("src/ctl/", &[("testboxctl", &["arm::"]), ("testbox", &["ctl::"])]),
    (
        "src/agent/",
        &[
            ("testbox", &["agent::"]),
            (
                "machine",
                &[
                    "scenarios::",
                    "lease_checks::",
                    "boot_path::",
                    "opened_disk::",
                    "carried::",
                    "together::",
                    "which_disk::",
                ],
            ),
            ("machine", &["disk_faults::", "faults::", "share_faults::", "internal_errors::", "signed::"]),
        ],
    ),
];

/// A program with the tests of it that are run, and how long they take unchanged.
struct Stage<'a> {
    program: &'a TestProgram,
    names: &'a [&'a str],
    took: Duration,
}

fn stages<'a>(built: &'a Built, file: &str) -> Result<Vec<Stage<'a>>> {
    let Some((_, wanted)) = NOTICED_BY.iter().find(|(prefix, _)| file.starts_with(prefix)) else {
        bail!("no tests are named for {file}");
    };
    let stage = |(name, names): &(&str, &'static [&'static str])| {
        let program = built.programs.iter().find(|p| p.name == *name);
        let Some(program) = program else { bail!("there is no test program {name}") };
        let start = Instant::now();
        if one(built, program, names, None, Duration::from_secs(3600))? != Outcome::Passed {
            bail!("{name} {names:?} fails without any mutant");
        }
        Ok(Stage { program, names, took: start.elapsed() })
    };
    wanted.iter().map(stage).collect()
}

/// The numbers of the mutants that no test notices.
pub fn run(_: &Options, built: &Built) -> Result<Vec<usize>> {
    let mut all: BTreeMap<&str, Vec<Stage>> = BTreeMap::new();
    for (prefix, _) in NOTICED_BY {
        if built.mutants.iter().any(|m| m.file.starts_with(prefix)) {
            all.insert(prefix, stages(built, prefix)?);
        }
    }
    let mut survivors = Vec::new();
    for (n, mutant) in built.mutants.iter().enumerate() {
        let stages =
            all.iter().filter(|(prefix, _)| mutant.file.starts_with(**prefix)).flat_map(|(_, stages)| stages);
        let mut by = None;
        for stage in stages {
            by = match one(built, stage.program, stage.names, Some(n), stage.took * 3 + PATIENCE)? {
                Outcome::Passed => continue,
                Outcome::Failed(test) => Some(format!("{} {test}", stage.program.name)),
                Outcome::Hung => Some(format!("{} does not end", stage.program.name)),
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
fn one(
    built: &Built,
    program: &TestProgram,
    names: &[&str],
    mutant: Option<usize>,
    limit: Duration,
) -> Result<Outcome> {
    let mut command = Command::new(&program.path);
    command.args(names).args(["--skip", "loop_"]).current_dir(&built.tree);
    command.env("CARGO_MANIFEST_DIR", &built.tree).env("RUST_BACKTRACE", "0");
    // A case that one mutant left in proptest's memory would be tried against all after it, and pass for their test.
    command.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
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
                break if child.wait()?.success() {
                    Outcome::Passed
                } else {
                    Outcome::Failed("(ended)".into())
                };
            }
        }
    };
    let _ = child.kill();
    child.wait()?;
    Ok(outcome)
}
