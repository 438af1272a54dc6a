//! Do the tests notice? A random sample of small changes of the code that decides is built into one copy of the tree,
//! each behind a switch that the environment turns at run time, so that one build serves all of them; then the tests are
//! run once for each. What no test notices is listed, with its place.
//!
//! The sample is drawn from a seed that is said before the first run; a change that does not compile is left out and
//! the next of the same drawing takes its place.

mod build;
mod find;
mod run;

use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// What decides: what disk is meant, which set counts, who has the folder, what is armed, what is written and read.
const DECIDES: &[&str] = &[
    "src/plan/",
    "src/store/",
    "src/job/",
    "src/agent/arming.rs",
    "src/agent/lease_holder.rs",
    "src/agent/run.rs",
    "src/agent/located.rs",
    "src/agent/named.rs",
    "src/agent/connected.rs",
    "src/agent/working.rs",
    "src/agent/steps",
    "src/agent/policy.rs",
    "src/image/restore/",
    "src/image/reader.rs",
    "src/image/verify.rs",
    "src/inventory/identity.rs",
    "src/inventory/mod.rs",
    "src/share/dir.rs",
    "src/watch.rs",
    "src/ctl/arm",
];

/// What was asked for.
pub struct Options {
    /// The checkout whose tests are tried.
    root: PathBuf,
    /// Where the changed copy and its build go.
    work: PathBuf,
    seed: u64,
    count: usize,
    /// Only mutants of files whose path begins so.
    only: Option<String>,
    list: bool,
}

fn main() -> Result<()> {
    let options = options()?;
    let mut all = find::in_tree(&options.root, DECIDES)?;
    if let Some(only) = &options.only {
        all.retain(|m| m.file.starts_with(only));
    }
    shuffle(&mut all, options.seed);
    println!("{} possible mutants; seed {}, sample of {}", all.len(), options.seed, options.count);
    if options.list {
        for (n, mutant) in all.iter().take(options.count).enumerate() {
            println!("{n:4} {mutant}");
        }
        return Ok(());
    }
    let built = build::build(&options, all)?;
    let survivors = run::run(&options, &built)?;
    println!("\n{} of {} killed", built.mutants.len() - survivors.len(), built.mutants.len());
    for n in survivors {
        println!("SURVIVED {n}: {}", built.mutants[n]);
    }
    Ok(())
}

fn options() -> Result<Options> {
    let mut options = Options {
        root: PathBuf::from("."),
        work: PathBuf::from("target/mutants"),
        seed: 1,
        count: 120,
        only: None,
        list: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--list" {
            options.list = true;
            continue;
        }
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--root" => options.root = value.into(),
            "--work" => options.work = value.into(),
            "--seed" => options.seed = value.parse()?,
            "--count" => options.count = value.parse()?,
            "--only" => options.only = Some(value),
            _ => bail!(
                "unknown option {word}: --seed N, --count N, --only PATH, --list, --root DIR, --work DIR"
            ),
        }
    }
    Ok(options)
}

/// Fisher and Yates' shuffle over splitmix64: the same seed draws the same sample on every machine.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    for at in (1..items.len()).rev() {
        items.swap(at, (next() % (at as u64 + 1)) as usize);
    }
}
