//! Scenarios on a real chain: see `tests/README.md`.

#[path = "../lab/mod.rs"]
mod lab;

mod chain;
