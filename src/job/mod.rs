//! What is asked for: action and options on the kernel command line or in a file of the boot server, where that file
//! is looked for, how `testboxctl arm` writes it, and what of it is signed.

pub mod action;
pub mod choices;
pub mod cmdline;
pub mod options;
pub mod order;
pub mod pxe;
pub mod search;
pub mod signed_text;

pub use action::{Action, UnknownAction};
pub use choices::{
    BadSectors, DegradedSet, FailingDisk, Grow, NoJob, OnError, RebootMode, StorePlain, UnionKind,
};
pub use cmdline::Cmdline;
pub(crate) use cmdline::without_comment;
pub use options::{Form, Given, OPTIONS, OptionAbout, Options, Settings, StoreOrder};
pub use order::{Job, Order, Origin};
pub use search::{FoundJob, JobSource, find_job_file};
pub use signed_text::job_text;
