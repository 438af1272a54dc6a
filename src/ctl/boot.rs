//! The boot services of `serve`, and the process that they are.

use super::output::Stderr;
use super::{Answer, Error};
use crate::boot::parent::{BootServices, MachinesSource};
use crate::boot::process::{self, BootConfig};
use crate::store::lease::Tell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The hidden command that is their process.
const COMMAND: &str = "boot-services";

/// What `serve` is told of them.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Boot services")]
pub(super) struct BootArgs {
    /// Serve the TFTP folder by TFTP; the files of one machine to its address alone
    #[arg(long, requires = "interface")]
    tftp: bool,
    /// An interface that the boot services answer on, and on no other; may be repeated
    #[arg(long, value_name = "IF")]
    interface: Vec<String>,
    /// The machines of the lab [default: /etc/testbox/machines.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    machines: Option<PathBuf>,
    /// As root: the user that the boot services run as [default: testbox-boot, or nobody]
    #[arg(long, value_name = "USER")]
    boot_user: Option<String>,
}

impl BootArgs {
    fn is_wanted(&self) -> bool {
        self.tftp
    }

    /// Starts what is wanted. It ends with what is given back.
    pub fn start(&self, tftp_dir: &Path, backup_dir: &Path) -> Result<Option<BootServices>, Error> {
        if !self.is_wanted() {
            let is_lost = !self.interface.is_empty() || self.machines.is_some() || self.boot_user.is_some();
            return match is_lost {
                true => Err(Error::usage("--interface, --machines and --boot-user go with --tftp")),
                false => Ok(None),
            };
        }
        let absolute = |dir: &Path| {
            dir.canonicalize().map_err(|e| Error::failed(format!("{}: cannot find it: {e}", dir.display())))
        };
        let config = BootConfig {
            interfaces: self.interface.clone(),
            tftp: self.tftp,
            tftp_dir: absolute(tftp_dir)?,
            backup_dir: absolute(backup_dir)?,
            user: self.boot_user.clone(),
        };
        let source = MachinesSource::new(self.machines.as_deref());
        // This program as it is now, even where an upgrade has put another in its place.
        let command = || {
            let mut command = Command::new("/proc/self/exe");
            command.arg(COMMAND);
            command
        };
        BootServices::start(command, &config, source, Arc::new(Stderr)).map(Some).map_err(Error::failed)
    }
}

/// The process itself.
pub(super) fn run() -> Answer {
    let tell = Arc::new(Stderr);
    process::run(tell.clone()).map(|()| true).map_err(|e| {
        tell.warn(&format!("boot services: {e}"));
        Error::failed("the boot services did not begin")
    })
}
