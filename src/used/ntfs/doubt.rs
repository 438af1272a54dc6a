//! How doubts of this file system begin.
#![forbid(unsafe_code)]

use crate::used::Doubt;

/// What it is called in [`VolumeAbout`](crate::used::VolumeAbout) and [`Doubt`].
pub const KIND: &str = "ntfs";

/// A doubt about a volume of this kind.
pub fn doubt(why: impl Into<String>) -> Doubt {
    Doubt::new(KIND, why)
}
