//! What the programs are made of: where the crates come from, under which licences, and no crate twice without a
//! reason. Runs offline, on the lock files. Known vulnerabilities want a database from the network: see `README.md` here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rooms;
mod source;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const LOCKS: [&str; 2] = ["Cargo.lock", "tests/fuzz/Cargo.lock"];

/// Crates that are there in two versions, and why; each entry must still be needed.
const TWICE: [(&str, &str); 6] = [
    ("constant_time_eq", "blake3 and zip are each at their newest, and wait for different ones"),
    ("getrandom", "ring is two behind; and only tests: proptest's rand is one behind"),
    ("nom", "of a part of rcgen that is not compiled here"),
    ("r-efi", "for UEFI targets only, by getrandom; not compiled here"),
    ("syn", "macros only, nothing of it is in the programs: tracing and clap are one behind serde"),
    ("windows-sys", "for Windows only; not compiled here"),
];

/// Licence expressions that somebody has looked at: all allow what MIT or Apache-2.0 allow. A new one is a question for
/// a human, not for a parser of expressions.
const LICENCES: [&str; 22] = [
    "(MIT OR Apache-2.0) AND Unicode-3.0",
    "Apache-2.0",
    "Apache-2.0 / MIT",
    "Apache-2.0 AND ISC",
    "Apache-2.0 OR ISC OR MIT",
    "Apache-2.0 OR MIT",
    "Apache-2.0/MIT",
    "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
    "BSD-2-Clause OR Apache-2.0 OR MIT",
    "BSD-3-Clause",
    "BSD-3-Clause OR MIT OR Apache-2.0",
    "CC0-1.0 OR Apache-2.0 OR Apache-2.0 WITH LLVM-exception",
    "CC0-1.0 OR MIT-0 OR Apache-2.0",
    "ISC",
    "MIT",
    "MIT AND BSD-3-Clause",
    "MIT OR Apache-2.0",
    "MIT OR Apache-2.0 OR BSD-1-Clause",
    "MIT/Apache-2.0",
    "Unlicense OR MIT",
    "Unlicense/MIT",
    "Zlib",
];

fn packages(lock: &str) -> Vec<toml::Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(lock);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lock: toml::Value = toml::from_str(&text).unwrap();
    lock["package"].as_array().unwrap().clone()
}

fn text<'a>(package: &'a toml::Value, key: &str) -> Option<&'a str> {
    package.get(key)?.as_str()
}

/// crates.io never changes what it has once given, and the lock file has the hash of each: what is built tomorrow is
/// what was looked at today. A git branch or another registry has no such promise.
#[test]
fn every_crate_is_from_crates_io_and_pinned_by_its_hash() {
    for lock in LOCKS {
        for package in packages(lock) {
            let name = text(&package, "name").unwrap();
            if ["testbox", "testbox-fuzz"].contains(&name) {
                continue;
            }
            let source = text(&package, "source");
            assert_eq!(
                source,
                Some("registry+https://github.com/rust-lang/crates.io-index"),
                "{lock}: {name} comes from elsewhere"
            );
            assert!(
                text(&package, "checksum").is_some_and(|sum| sum.len() == 64),
                "{lock}: {name} has no hash"
            );
        }
    }
}

#[test]
fn no_crate_is_there_twice_without_a_reason() {
    let mut twice = BTreeMap::new();
    for lock in LOCKS {
        let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for package in packages(lock) {
            let version = text(&package, "version").unwrap().to_owned();
            versions.entry(text(&package, "name").unwrap().to_owned()).or_default().push(version);
        }
        twice.extend(versions.into_iter().filter(|(_, versions)| versions.len() > 1));
    }
    for (name, versions) in &twice {
        assert!(
            TWICE.iter().any(|(known, _)| known == name),
            "{name} is there as {versions:?}: `cargo tree -i {name}@VERSION` tells why. Make it one, or give the reason \
             in TWICE"
        );
    }
    for (name, _) in TWICE {
        assert!(twice.contains_key(name), "{name} is there once only by now: take it out of TWICE");
    }
}

#[test]
fn every_licence_is_one_that_was_looked_at() {
    // For this platform only: cargo has fetched no others.
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = metadata["packages"].as_array().unwrap();
    assert!(all.len() > 50, "{} packages", all.len());
    for package in all {
        let licence = package["license"].as_str().unwrap_or("(none is named)");
        assert!(LICENCES.contains(&licence), "{}: look at its licence: {licence}", package["name"]);
    }
}
