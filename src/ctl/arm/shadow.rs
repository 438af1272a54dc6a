//! Files that PXELINUX loads for a machine before the one named after its address.

use crate::share::Files;
use crate::store::layout::INFO_TEXT;
use crate::types::{MacAddr, Uuid};
use std::net::Ipv4Addr;

/// Largest `testbox-info.txt` that is searched, in bytes.
const INFO_LIMIT: usize = 64 << 20;

/// Folders of other machines that are searched at most, where a machine's own tells nothing.
const OTHERS: usize = 100;

/// Files that are named one by one.
const NAMED: usize = 3;

/// A file that is named after a UUID or a MAC.
struct Shadow {
    name: String,
    /// The texts that name its machine elsewhere.
    spellings: Vec<String>,
}

fn shadow(name: String) -> Option<Shadow> {
    let spellings = match (name.parse::<Uuid>(), name.strip_prefix("01-")) {
        (Ok(uuid), _) => vec![uuid.to_string(), uuid.swapped().to_string()],
        (_, Some(mac)) => vec![mac.parse::<MacAddr>().ok()?.to_string()],
        _ => return None,
    };
    Some(Shadow { name, spellings })
}

/// The lower-case text of a machine's information; `None` where there is none or it cannot be read: then it does not tell.
fn info(share: &dyn Files, ip: Ipv4Addr) -> Option<String> {
    let bytes = share.read_limited(&format!("{ip}/{INFO_TEXT}"), INFO_LIMIT).ok()?;
    Some(String::from_utf8_lossy(&bytes).to_ascii_lowercase())
}

fn is_of(shadow: &Shadow, info: &str) -> bool {
    shadow.spellings.iter().any(|text| info.contains(text))
}

/// Warnings about files in the folder of configurations (`names`) that are, or may be, of one of these machines.
///
/// The information of each machine is read once; that of other machines only where one of these has none, once each and
/// [`OTHERS`] at most.
pub(super) fn warnings(
    names: Vec<String>,
    backup: Option<&dyn Files>,
    machines: &[(Ipv4Addr, String)],
) -> Vec<String> {
    let shadows: Vec<Shadow> = names.into_iter().filter_map(shadow).collect();
    if shadows.is_empty() {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    let mut silent = Vec::new();
    for (ip, file) in machines {
        match backup.and_then(|share| info(share, *ip)) {
            Some(info) => {
                let own = shadows.iter().filter(|shadow| is_of(shadow, &info));
                warnings.extend(own.map(|shadow| {
                    format!(
                        "{} shadows {file}: PXELINUX looks for UUID and MAC before the address",
                        shadow.name
                    )
                }));
            }
            None => silent.push((ip, file)),
        }
    }
    if let Some((_, file)) = silent.first() {
        let open = unowned(shadows, backup, machines);
        let of = match silent.len() {
            1 => String::new(),
            n => format!(" (so for the others of {n} machines)"),
        };
        warnings.extend(open.iter().take(NAMED).map(|shadow| {
            format!(
                "{} shadows {file}{of} if it is of this machine: PXELINUX looks for UUID and MAC before the address",
                shadow.name
            )
        }));
        if let Some(more @ 1..) = open.len().checked_sub(NAMED) {
            warnings.push(format!(
                "{more} more files there are named after a UUID or MAC, and nobody knows whose they are"
            ));
        }
    }
    warnings
}

/// The files that are not of a machine whose information says so.
fn unowned(
    mut shadows: Vec<Shadow>,
    backup: Option<&dyn Files>,
    machines: &[(Ipv4Addr, String)],
) -> Vec<Shadow> {
    let Some(share) = backup else { return shadows };
    let folders = share.list("").unwrap_or_default();
    let others = folders.iter().filter_map(|name| name.parse::<Ipv4Addr>().ok());
    for ip in others.filter(|ip| machines.iter().all(|(machine, _)| machine != ip)).take(OTHERS) {
        if shadows.is_empty() {
            break;
        }
        if let Some(info) = info(share, ip) {
            shadows.retain(|shadow| !is_of(shadow, &info));
        }
    }
    shadows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::{MemFiles, ShareOp};

    fn uuid(n: usize) -> String {
        format!("b8945908-d6a6-41a9-611d-{n:012x}")
    }

    fn machine(n: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + n)
    }

    /// A share of many machines, each of which tells its UUID.
    fn share(machines: u32) -> MemFiles {
        let share = MemFiles::new();
        for n in 1..=machines {
            share.make_dir(&machine(n).to_string()).unwrap();
            let path = format!("{}/testbox-info.txt", machine(n));
            share.append(&path, format!("UUID: {}\n", uuid(n as usize).to_uppercase()).as_bytes()).unwrap();
        }
        share
    }

    fn reads(share: &MemFiles) -> usize {
        share.operations().iter().filter(|op| matches!(op, ShareOp::Open)).count()
    }

    #[test]
    fn files_of_other_machines_cost_no_read_of_the_share() {
        let share = share(1000);
        let names: Vec<String> = (500..505).map(uuid).collect();
        let armed = |n| [(machine(n), format!("{:08X}", 0x0a00_0000 + n))];
        let before = reads(&share);
        assert_eq!(warnings(names.clone(), Some(&share), &armed(7)), Vec::<String>::new());
        assert_eq!(reads(&share) - before, 1, "its own");
        let own = warnings(names.clone(), Some(&share), &armed(502));
        assert!(own.len() == 1 && own[0].starts_with(&uuid(502)), "{own:?}");
        // A machine that tells nothing: the others are asked once each, and not all of a thousand.
        let before = reads(&share);
        let open = warnings(names, Some(&share), &armed(5000));
        assert!(reads(&share) - before <= OTHERS + 1, "{}", reads(&share) - before);
        assert_eq!(open.len(), NAMED + 1, "{open:?}");
    }

    #[test]
    fn a_hundred_files_or_machines_are_no_hundred_warnings() {
        let names: Vec<String> = (0..100).map(uuid).collect();
        let machines: Vec<_> = (0..100).map(|n| (machine(n), format!("{n:08X}"))).collect();
        for share in [None, Some(share(0))] {
            let files = share.as_ref().map(|share| share as &dyn Files);
            assert_eq!(warnings(names.clone(), files, &machines).len(), NAMED + 1);
        }
    }
}
