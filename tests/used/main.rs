//! Used blocks, proved on file systems that the formats' own tools make, that are aged by a random work load, and that
//! the formats' own tools count and check. Root only: loop mounts.
//!
//! `TESTBOX_SEED=N` repeats a run, `TESTBOX_LONG=1` makes ten times as many file systems.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../scratch/mod.rs"]
mod scratch;

mod beyond;
mod btrfs;
mod dirty;
mod exfat;
mod ext4;
mod fat;
mod mount;
mod ntfs;
mod proof;
mod random;
mod ranges;
mod swap;
mod table;
mod tree;
mod work;
mod xfs;

/// A test for each row.
#[macro_export]
macro_rules! rows {
    ($($name:ident: $row:expr;)*) => {
        $(#[test] fn $name() { $crate::proof::prove(concat!(module_path!(), "::", stringify!($name)), &$row) })*
    };
}
