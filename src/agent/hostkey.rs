//! The ssh host key of a rescue: a new one for each boot, made before the logs are closed, so that its fingerprint is
//! in them and an admin can compare it. The NFS root and the initrd are the same for all machines, and everybody on
//! the network can read them: a key in there would be nobody's.
//!
//! The tools are those of dropbear, which the initramfs hook copies where the system has them.
#![forbid(unsafe_code)]

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// dropbear's own key, for the ssh of the initramfs: its name in the run folder, which the boot scripts know too.
const KEY: &str = "ssh_host_ed25519_key";
/// The NFS root's, below it: the only one that its sshd reads (`scripts/nfsroot/files/etc/ssh`).
const ROOT_KEY: &str = "etc/ssh/ssh_host_ed25519_key";
/// Where the hook puts the tools.
const DROPBEARKEY: &str = "sbin/dropbearkey";
const DROPBEARCONVERT: &str = "sbin/dropbearconvert";
/// Who may log in to the initramfs; without one of these there is no ssh in it.
const AUTHORIZED_KEYS: &str = "rescue/.ssh/authorized_keys";

/// What became of the host key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKey {
    /// It is made; its fingerprint as ssh shows it, `SHA256:…`.
    Made(String),
    /// There is none of this boot, and why.
    None(&'static str),
}

/// Makes the key with the tools of the initramfs at `initramfs` (`/`): in the NFS root at `root`, or without one in
/// `run_dir` for the dropbear of the initramfs.
///
/// # Errors
/// Where a tool fails, or says no fingerprint.
pub fn make(initramfs: &Path, run_dir: &Path, root: Option<&Path>) -> io::Result<HostKey> {
    let keygen = initramfs.join(DROPBEARKEY);
    if root.is_none() && !initramfs.join(AUTHORIZED_KEYS).exists() {
        return Ok(HostKey::None("nobody may log in: this initrd was built without authorized keys"));
    }
    if root.is_some_and(|root| root.join(ROOT_KEY).exists()) {
        return Ok(HostKey::None("the NFS root has a host key of its own, which all machines share"));
    }
    if !keygen.exists() {
        return Ok(HostKey::None(
            "this initrd has no dropbearkey: the host key's fingerprint is not known here",
        ));
    }
    fs::create_dir_all(run_dir)?;
    let key = run_dir.join(KEY);
    let said = run(Command::new(&keygen).args(["-t", "ed25519", "-f"]).arg(&key))?;
    let fingerprint =
        fingerprint(&said).ok_or_else(|| io::Error::other("dropbearkey said no fingerprint"))?;
    if let Some(root) = root {
        let convert = initramfs.join(DROPBEARCONVERT);
        run(Command::new(convert).args(["dropbear", "openssh"]).arg(&key).arg(root.join(ROOT_KEY)))?;
        // Nobody has logged in yet; sshd takes no key that others can read.
        fs::set_permissions(root.join(ROOT_KEY), Permissions::from_mode(0o600))?;
        fs::remove_file(&key)?;
    }
    Ok(HostKey::Made(fingerprint.to_owned()))
}

/// Runs a tool to its end; what it says on standard output.
fn run(command: &mut Command) -> io::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{name} ended with {}: {}", output.status, why.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The fingerprint in what dropbearkey says: SHA-256 in base64 without padding, 43 characters.
fn fingerprint(said: &str) -> Option<&str> {
    let line = said.lines().find_map(|line| line.strip_prefix("Fingerprint: "))?;
    let hash = line.trim().strip_prefix("SHA256:")?;
    let good = hash.len() == 43 && hash.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b));
    good.then(|| line.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const SAID: &str = "Public key portion is:\nssh-ed25519 AAAA root@box\n\
        Fingerprint: SHA256:0123456789abcdefghijklmnopqrstuvwxyzABCDEFG\n";

    /// An initramfs whose tools are shell scripts, with authorized keys, beside an NFS root.
    fn initramfs(keygen: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["sbin", "rescue/.ssh", "root/etc/ssh"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join(AUTHORIZED_KEYS), "ssh-ed25519 AAAA me\n").unwrap();
        for (name, script) in
            [(DROPBEARKEY, keygen), (DROPBEARCONVERT, "read -r key <\"$3\" && echo \"$1 $2 $key\" >\"$4\"")]
        {
            let path = dir.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        let run = dir.path().join("run");
        (dir, run)
    }

    #[test]
    fn each_boot_has_a_key_of_its_own_and_its_fingerprint_is_told() {
        let (dir, run) = initramfs(&format!("echo secret >\"$4\" && printf '{}'", SAID.replace('\n', "\\n")));
        let made = HostKey::Made("SHA256:0123456789abcdefghijklmnopqrstuvwxyzABCDEFG".into());
        assert_eq!(make(dir.path(), &run, None).unwrap(), made);
        assert_eq!(fs::read_to_string(run.join(KEY)).unwrap(), "secret\n");

        let root = dir.path().join("root");
        assert_eq!(make(dir.path(), &run, Some(&root)).unwrap(), made);
        let key = root.join(ROOT_KEY);
        assert_eq!(fs::read_to_string(&key).unwrap(), "dropbear openssh secret\n");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o077, 0, "for root only");
        assert!(!run.join(KEY).exists(), "the key is in one place");
        // A key that is there already is not replaced: somebody put it there.
        assert!(matches!(make(dir.path(), &run, Some(&root)).unwrap(), HostKey::None(_)));
    }

    #[test]
    fn without_authorized_keys_or_tools_there_is_no_host_key() {
        let (dir, run) = initramfs("echo no entropy >&2; exit 1");
        let error = make(dir.path(), &run, None).unwrap_err().to_string();
        assert!(error.contains("dropbearkey") && error.contains("no entropy"), "{error}");
        fs::remove_file(dir.path().join(DROPBEARKEY)).unwrap();
        assert!(
            matches!(make(dir.path(), &run, None).unwrap(), HostKey::None(why) if why.contains("dropbearkey"))
        );
        fs::remove_file(dir.path().join(AUTHORIZED_KEYS)).unwrap();
        assert!(
            matches!(make(dir.path(), &run, None).unwrap(), HostKey::None(why) if why.contains("nobody"))
        );
    }

    #[test]
    fn only_a_fingerprint_is_taken_for_one() {
        assert!(fingerprint(SAID).is_some());
        for said in ["", "Fingerprint: ", "Fingerprint: md5 00:11", "Fingerprint: SHA256:short", "SHA256:x"] {
            assert_eq!(fingerprint(said), None, "{said}");
        }
        assert_eq!(fingerprint(&SAID.replace('9', "\u{1b}")), None);
    }
}
