//! A set with an image that was found damaged never counts as a good one from then on.

use crate::agent::journal::Journal;
use crate::agent::report::Reporter;
use crate::image::Hash;
use crate::store::{Folder, publish};

/// Leaves a note beside the image at `path` with this root hash; `why` is for people.
pub fn note(
    reporter: &Reporter<'_>,
    journal: &Journal,
    folder: &Folder,
    (path, root_hash): (&str, &Hash),
    why: &str,
) {
    if reporter.check_lease().is_ok()
        && let Err(e) = publish::mark(folder, path, root_hash, why)
    {
        journal.warn(&format!("cannot note beside {path} that it is damaged: {e}"));
    }
}
