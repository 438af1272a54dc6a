//! UEFI in place of the BIOS: OVMF, with variables that stay while the machine is off.

use super::{Disk, Lab, assets, run};
use std::path::PathBuf;
use std::process::Command;

/// The firmware of one machine.
pub struct Uefi {
    /// Its variables.
    vars: PathBuf,
    /// As they come from the factory.
    factory: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    SecureBoot,
    Arm64,
}

/// A key of the lab's own, and its certificate.
pub struct SigningKey {
    pub key: PathBuf,
    pub cert: PathBuf,
}

impl Lab {
    /// A new firmware that has never seen a disk.
    pub fn uefi(&self) -> Uefi {
        self.firmware("/usr/share/OVMF/OVMF_VARS_4M.fd".into(), Kind::Open)
    }

    /// The same with Secure Boot and Microsoft's keys.
    pub fn secure_boot(&self) -> Uefi {
        self.firmware("/usr/share/OVMF/OVMF_VARS_4M.ms.fd".into(), Kind::SecureBoot)
    }

    /// The same with Secure Boot and no key but this.
    pub fn secure_boot_with(&self, key: &SigningKey) -> Uefi {
        let (vars, owner) = (self.file("own-keys.fd"), "a0baa8a3-041d-48a8-bc87-c36d121b5e3d");
        let mut enroll = Command::new(assets::virt_firmware().join("bin/virt-fw-vars"));
        enroll.args(["-i", "/usr/share/OVMF/OVMF_VARS_4M.fd", "--sb", "-o"]).arg(&vars);
        for option in ["--set-pk", "--add-kek", "--add-db"] {
            enroll.args([option, owner]).arg(&key.cert);
        }
        run(&mut enroll);
        self.firmware(vars, Kind::SecureBoot)
    }

    /// That of a machine with arm64.
    pub fn uefi_arm64(&self) -> Uefi {
        self.firmware("/usr/share/AAVMF/AAVMF_VARS.fd".into(), Kind::Arm64)
    }

    fn firmware(&self, factory: PathBuf, kind: Kind) -> Uefi {
        Uefi { vars: self.file("UEFI_VARS.fd"), factory, kind }.forget()
    }

    /// A new key.
    pub fn signing_key(&self) -> SigningKey {
        let made = SigningKey { key: self.file("lab.key"), cert: self.file("lab.crt") };
        let words = "req -new -x509 -newkey rsa:2048 -sha256 -nodes -days 3650 -subj /CN=lab/ -keyout";
        run(Command::new("openssl").args(words.split(' ')).arg(&made.key).arg("-out").arg(&made.cert));
        made
    }
}

impl SigningKey {
    /// Signs a loader on the ESP of a disk, beside the signatures that it has.
    pub fn sign_on(&self, disk: &Disk, path: &str) {
        let script = "mcopy -n -i \"$0@@1M\" \"::$1\" \"$0.efi\"; sbsign --key \"$2\" --cert \"$3\" --output \"$0.efi\" \"$0.efi\"; \
                      mcopy -o -i \"$0@@1M\" \"$0.efi\" \"::$1\"; rm \"$0.efi\"";
        run(Command::new("bash")
            .args(["-ec", script])
            .arg(&disk.path)
            .arg(path)
            .args([&self.key, &self.cert]));
    }
}

impl Disk {
    /// Removes what firmware starts on its ESP without an entry.
    pub fn remove_fallback(&self) {
        let script = "mdeltree -i \"$0@@1M\" ::/EFI/BOOT";
        run(Command::new("sh").args(["-c", script]).arg(&self.path));
    }
}

impl Uefi {
    /// All variables are as they come from the factory: what a dead battery or an update of the firmware leaves.
    pub fn forget(self) -> Uefi {
        run(Command::new("cp").args([&self.factory, &self.vars]));
        self
    }

    /// The processor is not this computer's.
    pub(super) fn is_arm64(&self) -> bool {
        self.kind == Kind::Arm64
    }

    /// QEMU's options for it.
    pub(super) fn arguments(&self) -> String {
        let (code, more) = match self.kind {
            Kind::Open => ("OVMF/OVMF_CODE_4M.fd", ""),
            Kind::Arm64 => ("AAVMF/AAVMF_CODE.fd", ""),
            // Only the system management mode may write the variables.
            Kind::SecureBoot => (
                "OVMF/OVMF_CODE_4M.secboot.fd",
                " -machine smm=on -global driver=cfi.pflash01,property=secure,value=on -global ICH9-LPC.disable_s3=1",
            ),
        };
        format!(
            " -drive if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/{code} \
             -drive if=pflash,unit=1,format=raw,file={} -device virtio-rng-pci,addr=4{more}",
            self.vars.display()
        )
    }
}
