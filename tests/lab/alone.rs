//! A program in network, mount and process namespaces of its own.

use std::process::Command;

/// Runs what is added to it as the first process of the namespaces; all that runs in them ends with it. Root only.
pub fn alone() -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation=private",
    ]);
    unshare
}
