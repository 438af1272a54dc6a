//! The image format (`FORMAT.md`): header, members, runs, gaps, index and footer as bytes, the codecs, the map file.

pub(crate) mod codec;
pub(crate) mod footer;
pub(crate) mod found;
pub(crate) mod gaps;
pub(crate) mod header;
pub(crate) mod index;
pub(crate) mod mapfile;
pub(crate) mod member;
pub(crate) mod run;
pub(crate) mod zeros;
