//! Where a run may be found compressed already.
#![forbid(unsafe_code)]

use crate::image::backup::resume::KeptRuns;
use crate::image::reader::Image;
use std::sync::atomic::AtomicBool;

/// Where a run may be found compressed already.
pub(super) struct MemberSources<'a> {
    /// The image before.
    pub base: Option<&'a Image>,
    /// Members of the base need not be read: the sink has them copied, and verification proves them.
    pub unread: &'a AtomicBool,
    /// What stands in the file already.
    pub kept: Option<KeptRuns>,
}
