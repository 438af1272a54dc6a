//! What the labs share and what takes minutes to make: the NFS root, kernel and initrd, the disk of a real Debian, and
//! a data disk. Each is cached under a key of its inputs, so that a change of the agent costs one `update-initramfs`.

use super::{manual, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

/// The assets that every lab needs.
#[derive(Clone)]
pub struct BootFiles {
    /// Debian, exported read-only.
    pub nfsroot: PathBuf,
    /// PXELINUX, kernel and initrd.
    pub tftp: PathBuf,
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// The static program that `scripts/build` made.
pub fn program(name: &str) -> PathBuf {
    let path = target_dir().join("x86_64-unknown-linux-musl/release").join(name);
    assert!(path.exists(), "{} is missing: run scripts/build first", path.display());
    path
}

fn arm64_agent() -> PathBuf {
    let path = target_dir().join("aarch64-unknown-linux-musl/release/testbox-agent");
    assert!(path.exists(), "{}: run scripts/build --target aarch64-unknown-linux-musl", path.display());
    path
}

fn cache() -> PathBuf {
    let dir =
        std::env::var_os("TESTBOX_LAB_CACHE").map_or_else(|| target_dir().join("lab-assets"), PathBuf::from);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Hash of every file below the paths, with their names: sixteen hex digits.
fn key(paths: &[PathBuf]) -> String {
    fn add(hasher: &mut blake3::Hasher, path: &Path) {
        hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        if path.is_dir() {
            let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
            entries.sort();
            entries.iter().for_each(|entry| add(hasher, entry));
        } else {
            hasher.update(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        }
    }
    let mut hasher = blake3::Hasher::new();
    paths.iter().for_each(|path| add(&mut hasher, path));
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The cached `<name>-<key>`, made by `make` (which gets a path that is not there yet) where it is missing.
/// Older ones of the same name are removed.
fn cached(name: &str, inputs: &[PathBuf], make: impl FnOnce(&Path)) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let wanted = cache().join(format!("{name}-{}", key(inputs)));
    if wanted.exists() {
        return wanted;
    }
    println!("lab: making {}", wanted.display());
    for entry in fs::read_dir(cache()).unwrap().map(|e| e.unwrap().path()) {
        if entry.file_name().unwrap().to_string_lossy().starts_with(&format!("{name}-")) {
            run(Command::new("rm").arg("-rf").arg(entry));
        }
    }
    let part = cache().join(format!("{name}-part"));
    run(Command::new("rm").arg("-rf").arg(&part));
    make(&part);
    fs::rename(&part, &wanted).unwrap();
    wanted
}

/// NFS root, kernel and initrd with the agent as built now.
pub fn boot_files() -> BootFiles {
    static ONCE: OnceLock<BootFiles> = OnceLock::new();
    ONCE.get_or_init(|| boot_files_of("bookworm", "amd64")).clone()
}

/// The same of another release of Debian, or of another architecture: its programs are emulated then.
pub fn boot_files_of(suite: &str, arch: &str) -> BootFiles {
    let scripts = repository().join("scripts");
    let agent = if arch == "arm64" { arm64_agent() } else { program("testbox-agent") };
    let key = rescue_key();
    let bootstrap = scripts.join("nfsroot/bootstrap");
    let nfsroot = cached(&format!("{suite}-{arch}-nfsroot"), std::slice::from_ref(&bootstrap), |part| {
        run(Command::new(&bootstrap).arg(part).args([suite, "", "", arch]));
    });
    let inputs = [
        nfsroot.join("etc/testbox-nfsroot"),
        scripts.join("nfsroot"),
        scripts.join("make-nfsroot"),
        repository().join("initramfs"),
        agent.clone(),
        key.with_extension("pub"),
    ];
    // It makes the initrd, so only here.
    let tftp = cached(&format!("{suite}-{arch}-tftp"), &inputs, |part| {
        run(Command::new(scripts.join("make-nfsroot"))
            .args(["--arch", arch, "--output"])
            .arg(&nfsroot)
            .arg("--tftp")
            .arg(part)
            .arg("--agent")
            .arg(&agent)
            .args(["--password-hash", PASSWORD_HASH])
            .arg("--authorized-keys")
            .arg(key.with_extension("pub")));
    });
    BootFiles { nfsroot, tftp }
}

/// The initrd of machines that are started directly.
pub fn small_initrd() -> PathBuf {
    let files = boot_files();
    let (script, initrd) = (script("small-initrd.sh"), files.tftp.join("maintenance-boot/initrd.img"));
    cached("small-initrd", &[script.clone(), initrd.clone()], |part| {
        run(Command::new("bash").arg(&script).args([&files.nfsroot, &initrd]).arg(part));
    })
}

/// The private ssh key of those who may log in to a rescue; the public one beside it, `.pub`.
pub fn rescue_key() -> PathBuf {
    let dir = cached("rescue-key", &[], |part| {
        fs::create_dir(part).unwrap();
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(part.join("key")));
    });
    dir.join("key")
}

/// The rescue user's password is `testbox`.
const PASSWORD_HASH: &str =
    "$6$testboxlab$XJ4ctvqrxrXmyTI1Ig7xN54pGanBtVDhwIfJDWqWR5UuwebWZ6J4TrbzJwBG5Zu7pRfC9EpoFwFzwBMCynCpW.";

fn script(name: &str) -> PathBuf {
    repository().join("tests/lab").join(name)
}

/// The disk of a real Debian on a file system (`ext4`, `xfs` or `btrfs`), started by `grub` (and SYSLINUX) or `systemd-boot`.
pub fn debian_disk(file_system: &str, loader: &str) -> PathBuf {
    debian_disk_of("amd64", file_system, loader)
}

/// The same for machines with arm64.
pub fn arm64_disk() -> PathBuf {
    debian_disk_of("arm64", "ext4", "grub")
}

/// The emulators of BMCs, fetched once; its programs are in the folder of this name with `.venv` behind it.
pub fn emulators() -> String {
    run(&mut Command::new(repository().join("tests/testboxctl/bmc.sh"))).trim().to_owned()
}

/// What drives a browser: the folder of its tools, and on the next line the browser.
pub fn browser_tools() -> String {
    run(&mut Command::new(repository().join("tests/page/browser.sh"))).trim().to_owned()
}

/// A real Debian with its own kernel, as a tar file.
pub fn debian_root() -> PathBuf {
    debian_root_of("amd64")
}

fn debian_root_of(arch: &str) -> PathBuf {
    let root_script = script("debian-root.sh");
    // No name is the beginning of another's: older ones are removed by it.
    cached(&format!("root-{arch}"), std::slice::from_ref(&root_script), |part| {
        run(Command::new("bash").arg(&root_script).arg(part).arg(arch));
    })
}

fn debian_disk_of(arch: &str, file_system: &str, loader: &str) -> PathBuf {
    let [root_script, disk_script, esp_script] =
        ["debian-root.sh", "debian-disk.sh", "debian-esp.sh"].map(script);
    let root = debian_root_of(arch);
    let name = format!("disk-{arch}-{file_system}-{loader}");
    cached(&name, &[root_script, disk_script.clone(), esp_script], |part| {
        run(Command::new("bash").arg(&disk_script).arg(file_system).args([&root, part]).args([arch, loader]));
    })
}

/// A disk with the partitions of Windows and their file systems, and a loader in the place of Windows' own.
pub fn windows_disk() -> PathBuf {
    let script = script("windows-disk.sh");
    cached("windows-disk", std::slice::from_ref(&script), |part| {
        run(Command::new("bash").arg(&script).arg(part));
    })
}

/// A folder with the `root` disk, `vmlinuz` and `initrd.img` of a server, with the packages of the manual.
pub fn server_disk() -> PathBuf {
    let line = manual::line("apt-get install git nfs-kernel-server");
    let packages: Vec<_> = line.split_whitespace().skip(2).collect();
    let (root_script, list) = (script("server-root.sh"), cache().join("server-packages"));
    fs::write(&list, packages.join(",")).unwrap();
    cached("server-disk", &[root_script.clone(), list], |part| {
        run(Command::new("bash").arg(&root_script).arg(part).arg(packages.join(",")));
    })
}

/// The disk with file systems of other systems.
pub fn foreign_disk() -> PathBuf {
    let script = script("foreign-disk.sh");
    cached("foreign-disk", std::slice::from_ref(&script), |part| {
        run(Command::new("bash").arg(&script).arg(part));
    })
}

/// A Python environment with virt-firmware, which enrols keys in OVMF's variables.
pub fn virt_firmware() -> PathBuf {
    cached("virt-firmware", &[], |part| {
        run(Command::new("python3").args(["-m", "venv"]).arg(part));
        run(Command::new(part.join("bin/python")).args(["-m", "pip", "install", "--quiet", "virt-firmware"]));
        // A program says in its first line where its interpreter is.
        let (tool, dir) =
            (part.join("bin/virt-fw-vars"), cache().join(format!("virt-firmware-{}", key(&[]))));
        let text = fs::read_to_string(&tool).unwrap();
        fs::write(&tool, text.replace(part.to_str().unwrap(), dir.to_str().unwrap())).unwrap();
    })
}
