//! Used blocks of XFS, against xfsprogs: what mkfs.xfs makes in all its variants, logs that are not clean, and damage.
//!
//! `TESTBOX_SEED=N` repeats a run, `TESTBOX_LONG=1` makes ten times as many file systems. `loop_*` need root.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../scratch/mod.rs"]
mod scratch;

mod hostile;
mod logs;
mod options;
mod patched;
mod tools;
mod unclean;
