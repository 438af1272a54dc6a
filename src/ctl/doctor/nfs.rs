//! The shares that machines mount by NFS.

use super::finding::AreaReport;
use super::lab::DoctorLab;
use super::rpc::{self, NfsAccess, NfsVersions, NoExport};
use crate::share::ownership::ACCOUNT;
use crate::store::layout::{BACKUP_MARKER, TFTP_MARKER};
use crate::types::{HostName, NfsSource};
use std::net::Ipv4Addr;

/// What a share is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShareUse {
    Backup,
    Tftp,
    Root,
    /// Machines reach the backups by a store, and should not by NFS.
    BesideStore,
}

/// One share, and what its server says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShareSeen {
    pub of: ShareUse,
    pub host: String,
    pub path: String,
    /// Its server, with an address.
    pub versions: Result<NfsVersions, String>,
    pub access: Result<NfsAccess, NoExport>,
}

/// The shares that the settings name, or that machines get without their naming.
fn shares(lab: &DoctorLab) -> Vec<(ShareUse, NfsSource)> {
    let options = lab.settings.options();
    let mut all = Vec::new();
    if let Some(source) = options.backup {
        all.push((ShareUse::Backup, source));
    }
    if options.store.is_some() {
        let host = lab.server.map(HostName::from);
        let path = lab.backup_dir.as_ref().map(|dir| dir.display().to_string());
        let of = |(host, path)| (ShareUse::BesideStore, NfsSource { host, path, options: Vec::new() });
        all.extend(host.zip(path).map(of));
    } else if let Some(source) = options.tftp {
        all.push((ShareUse::Tftp, source));
    }
    if lab.has_nfs_root()
        && let Ok(source) = lab.settings.nfsroot(lab.server)
    {
        all.push((ShareUse::Root, source));
    }
    all
}

/// Asks for all of them, beside each other.
pub(super) fn ask(lab: &DoctorLab) -> Vec<ShareSeen> {
    let all = shares(lab);
    std::thread::scope(|scope| {
        let started: Vec<_> =
            all.iter().map(|(of, source)| scope.spawn(move || ask_one(lab, *of, source))).collect();
        started.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}

fn ask_one(lab: &DoctorLab, of: ShareUse, source: &NfsSource) -> ShareSeen {
    let address: Result<Ipv4Addr, String> =
        super::super::machine::resolve(source.host.as_str()).map_err(|e| e.to_string());
    let file = match of {
        ShareUse::Backup | ShareUse::BesideStore => BACKUP_MARKER,
        ShareUse::Tftp => TFTP_MARKER,
        ShareUse::Root => "etc",
    };
    let versions = address.clone().and_then(|server| rpc::versions(server, lab.wait));
    let access = match (&versions, &address) {
        (Ok(_), Ok(server)) => rpc::access(*server, &source.path, file, lab.wait),
        (Err(why), _) | (_, Err(why)) => Err(NoExport::Unknown(why.clone())),
    };
    ShareSeen { of, host: source.host.to_string(), path: source.path.clone(), versions, access }
}

/// Judges them.
pub(super) fn judge(seen: &[ShareSeen]) -> AreaReport {
    let mut report = AreaReport::new("nfs");
    let mut silent: Vec<&str> = Vec::new();
    for share in seen {
        let is_beside = share.of == ShareUse::BesideStore;
        match &share.versions {
            Err(why) if !is_beside && !silent.contains(&share.host.as_str()) => {
                silent.push(&share.host);
                report.error(
                    "nfs-silent",
                    format!("{} by NFS, TCP port {}", share.host, rpc::NFS_PORT),
                    format!("{why}; machines wait for its shares"),
                    "start its NFS server, and open TCP port 2049 (for NFSv3 also 111 and mountd's): systemctl enable --now \
                     nfs-server; machines without NFS: testboxctl serve",
                );
            }
            Err(_) => {}
            Ok(versions) => one(share, versions, &mut report),
        }
    }
    report
}

fn one(share: &ShareSeen, versions: &NfsVersions, report: &mut AreaReport) {
    let ShareSeen { of, host, path, .. } = share;
    let asked = format!("{host} for {path}, as a client that mounts it by NFSv3");
    if *of == ShareUse::BesideStore {
        if share.access.as_ref().is_ok_and(|access| access.can_write) {
            report.warning(
                "nfs-beside-store",
                asked,
                "machines may write there, past the store: they can delete and change every backup",
                format!(
                    "take {path} out of /etc/exports and /etc/exports.d, or export it ro; then: exportfs -ra"
                ),
            );
        }
        return;
    }
    let line = match of {
        ShareUse::Root => format!("{path}  NETWORK/BITS(ro,sync,no_subtree_check,no_root_squash)"),
        _ => format!(
            "{path}  NETWORK/BITS(rw,sync,no_subtree_check,all_squash,anonuid=$(id -u {ACCOUNT}),anongid=$(id -g {ACCOUNT}))"
        ),
    };
    let cure =
        format!("in /etc/exports of {host}, as 'testboxctl init' prints it: {line}; then: exportfs -ra");
    match &share.access {
        Err(NoExport::Absent) => report.error("nfs-no-export", asked, "there is no such export", cure),
        Err(NoExport::Denied) => {
            report.error("nfs-denied", asked, "it is not exported to this computer; to machines perhaps", cure);
        }
        Err(NoExport::Unknown(why)) if versions.v4.is_ok() && *of != ShareUse::Root => {
            report.unknown(format!("{host}:{path} beyond that NFSv4 is spoken there: {why}"));
        }
        Err(NoExport::Unknown(why)) => report.error(
            "nfs-v3",
            asked,
            format!("{why}{}", if *of == ShareUse::Root { "; the NFS root is mounted by NFSv3" } else { "" }),
            "start rpcbind and mountd there, and open TCP port 111 and mountd's: systemctl enable --now rpcbind nfs-server",
        ),
        Ok(access) => allowed(share, access, asked, cure, report),
    }
}

fn allowed(share: &ShareSeen, access: &NfsAccess, asked: String, cure: String, report: &mut AreaReport) {
    let ShareSeen { of, host, path, .. } = share;
    let is_root = *of == ShareUse::Root;
    match access {
        NfsAccess { can_read: false, .. } => {
            let cure = format!(
                "give {path} to the account of the export: the commands that 'testboxctl init' prints"
            );
            report.error(
                "nfs-not-readable",
                asked,
                "it may not be read by who is squashed to its account",
                cure,
            );
        }
        NfsAccess { has_file: Some(false), .. } => {
            let (what, cure) = match of {
                ShareUse::Root => ("no Debian is in it", "scripts/make-nfsroot"),
                _ => ("its marker file is missing: no agent writes there", "testboxctl init"),
            };
            report.error(
                "nfs-no-marker",
                asked,
                format!("{path} is exported, but {what}"),
                format!("on {host}: {cure}"),
            );
        }
        NfsAccess { can_write: false, .. } if !is_root => {
            let found = "it is read-only: no logs, no backups, and no machine can disarm itself";
            report.error("nfs-read-only", asked, found, cure);
        }
        NfsAccess { can_write: true, .. } if is_root => {
            let found = "machines may write there: one can change what all others boot";
            report.warning("nfs-root-writable", asked, found, cure);
        }
        _ => {
            report.fine(format!("{host}:{path} may be {}", if is_root { "read" } else { "read and written" }))
        }
    }
}
