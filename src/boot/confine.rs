//! What is left of this process's rights once its sockets are open: to read the TFTP tree, and to write its own folder.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use std::fs;
use std::io;
use std::path::Path;

/// Who a root process becomes where nobody says otherwise: the first of them that there is.
const USERS: [&str; 2] = ["testbox-boot", "nobody"];
/// What is handled: up to here the rules are about files, TCP, and signals and sockets of other processes; later ones are
/// about UDP, which this process lives of.
const RULES: ABI = ABI::V6;

/// What stays.
#[derive(Debug)]
pub struct Cage<'a> {
    /// Folders to read.
    pub read: &'a [&'a Path],
    /// Folders to write.
    pub write: &'a [&'a Path],
    /// Who to become, as root.
    pub user: Option<&'a str>,
    /// What must be out of reach afterwards.
    pub secret: &'a Path,
}

/// User and group by name or number, from the text of `/etc/passwd`.
fn user_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.first() == Some(&name) || fields.get(2) == Some(&name))?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

/// The user that a root process becomes; `None` where this is not root.
///
/// # Errors
/// There is no such user, or it is root; this is not root and another user is wanted.
pub fn user(wanted: Option<&str>) -> Result<Option<(u32, u32)>, String> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = match wanted {
        Some(name) => {
            Some(user_of(&passwd, name).ok_or_else(|| format!("--boot-user {name}: there is no such user"))?)
        }
        None => USERS.iter().find_map(|name| user_of(&passwd, name)),
    };
    let own = geteuid();
    match named {
        Some((0, _)) => Err("--boot-user: it must not be root".into()),
        _ if !own.is_root() => match (wanted, named) {
            (Some(name), Some((uid, _))) if uid != own.as_raw() => Err(format!(
                "--boot-user {name}: only root can become another user; leave it out, or start this as root"
            )),
            _ => Ok(None),
        },
        Some(user) => Ok(Some(user)),
        None => Err(format!(
            "boot services must not run as root, and there is none of the users {}: make one (useradd --system {}), or name \
             another by --boot-user",
            USERS.join(", "),
            USERS[0]
        )),
    }
}

/// Gives up everything else. What it says is how.
///
/// # Errors
/// The system does not let it, or what must be out of reach is not.
pub fn confine(cage: &Cage<'_>) -> Result<String, String> {
    let failed =
        |what: &str, e: &dyn std::fmt::Display| format!("cannot confine the boot services: {what}: {e}");
    let becomes = user(cage.user)?;
    // While it has the right to.
    CapabilitySet::all().iter().for_each(|capability| {
        // Without that right nobody else can get one back either: no_new_privs.
        let _ = remove_capability_from_bounding_set(capability);
    });
    if let Some((uid, gid)) = becomes {
        become_user(uid, gid).map_err(|e| failed(&format!("become the user {uid}"), &e))?;
    }
    set_no_new_privs(true).map_err(|e| failed("no_new_privs", &e))?;
    drop_capabilities().map_err(|e| failed("drop capabilities", &e))?;
    let status = landlock(cage).map_err(|e| failed("Landlock", &e))?;
    let who = match becomes {
        Some((uid, _)) => format!("as user {uid}"),
        None => format!("as user {}", geteuid().as_raw()),
    };
    let how = match (status, becomes) {
        (RulesetStatus::NotEnforced, None) => {
            return Err("the boot services would be able to read and write the backups: this kernel has no Landlock (Linux \
                        5.13, and 'landlock' in its parameter lsm=), and they run as the user that 'serve' runs as. Start \
                        'serve' as root, so that they become another user, or use another TFTP and DHCP server"
                .into());
        }
        (RulesetStatus::NotEnforced, Some(_)) => {
            format!("{who}, without Landlock, which this kernel does not have")
        }
        (RulesetStatus::PartiallyEnforced, _) => format!("{who}, with what this kernel has of Landlock"),
        (RulesetStatus::FullyEnforced, _) => format!("{who}, with Landlock"),
    };
    match reached(cage.secret) {
        Some(what) => Err(format!(
            "the boot services can still {what} {}: it must not be in the TFTP tree or in their own folder, nor be open to \
             everybody (chmod o= {})",
            cage.secret.display(),
            cage.secret.display()
        )),
        None => Ok(how),
    }
}

fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // These are the thread's own: it is the only one so far, and those that it starts have the same.
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

fn drop_capabilities() -> io::Result<()> {
    // Kernels before 4.3 have no such set.
    let _ = clear_ambient_capability_set();
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

fn landlock(cage: &Cage<'_>) -> Result<RulesetStatus, RulesetError> {
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::from_all(RULES))?
        .scope(Scope::from_all(RULES))?
        .create()?;
    let rules = allow(rules, cage.read, AccessFs::ReadFile | AccessFs::ReadDir)?;
    let write = AccessFs::from_all(RULES) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    let rules = allow(rules, cage.write, write)?;
    Ok(rules.restrict_self()?.ruleset)
}

fn allow(
    rules: RulesetCreated,
    folders: &[&Path],
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    folders.iter().try_fold(rules, |rules, folder| match PathFd::new(folder) {
        Ok(fd) => rules.add_rule(PathBeneath::new(fd, access)),
        // What is not there cannot be let through; whoever wants it says so.
        Err(_) => Ok(rules),
    })
}

/// What this process can do with a folder that it must not reach.
fn reached(folder: &Path) -> Option<&'static str> {
    if fs::read_dir(folder).is_ok() {
        return Some("read");
    }
    let probe = folder.join(".boot-services-must-not-write-here");
    if fs::write(&probe, "").is_ok() {
        // It should not be there.
        let _ = fs::remove_file(&probe);
        return Some("write");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\nbroken:x:a\n";
        for (name, expected) in [
            ("nobody", Some((65534, 65533))),
            ("65534", Some((65534, 65533))),
            ("broken", None),
            ("bod", None),
        ] {
            assert_eq!(user_of(passwd, name), expected, "{name}");
        }
    }
}
