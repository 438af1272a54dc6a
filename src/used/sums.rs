//! Comparing checksums.
#![forbid(unsafe_code)]

/// Whether a checksum is the one that stands there. No fuzzer guesses one: a build for fuzzing takes any, so that what
/// lies behind it is reached (`scripts/fuzz`).
pub(super) fn agree<T: PartialEq>(computed: T, stored: T) -> bool {
    cfg!(fuzzing) || computed == stored
}
