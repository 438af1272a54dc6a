//! UEFI in place of the BIOS: OVMF, with variables that stay while the machine is off.

use super::{Lab, run};
use std::path::PathBuf;
use std::process::Command;

/// The firmware of one machine.
pub struct Uefi {
    /// Its variables.
    vars: PathBuf,
    is_secure: bool,
}

impl Lab {
    /// A new firmware that has never seen a disk.
    pub fn uefi(&self) -> Uefi {
        Uefi { vars: self.file("OVMF_VARS.fd"), is_secure: false }.forget()
    }

    /// The same with Secure Boot and Microsoft's keys.
    pub fn secure_boot(&self) -> Uefi {
        Uefi { is_secure: true, ..self.uefi() }.forget()
    }
}

impl Uefi {
    /// All variables are as they come from the factory: what a dead battery or an update of the firmware leaves.
    pub fn forget(self) -> Uefi {
        let name = if self.is_secure { "OVMF_VARS_4M.ms.fd" } else { "OVMF_VARS_4M.fd" };
        run(Command::new("cp").arg(format!("/usr/share/OVMF/{name}")).arg(&self.vars));
        self
    }

    /// QEMU's options for it.
    pub(super) fn arguments(&self) -> String {
        let (code, more) = match self.is_secure {
            false => ("OVMF_CODE_4M.fd", ""),
            // Only the system management mode may write the variables.
            true => (
                "OVMF_CODE_4M.secboot.fd",
                " -machine smm=on -global driver=cfi.pflash01,property=secure,value=on -global ICH9-LPC.disable_s3=1",
            ),
        };
        format!(
            " -drive if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/{code} \
             -drive if=pflash,unit=1,format=raw,file={} -device virtio-rng-pci,addr=4{more}",
            self.vars.display()
        )
    }
}
