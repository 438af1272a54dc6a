//! `serve`: the lab's server, until a signal ends it.

use super::boot::BootArgs;
use super::config::SettingsFile;
use super::hooks::HookFlags;
use super::keep::KeepFlags;
use super::network::own_addresses;
use super::output::{Out, Stderr, warn};
use super::page::{LabFolders, LabPage};
use super::shares::{self, ShareFolder};
use super::{Answer, Error};
use crate::serve::admin::{self, ADMIN_VARIABLE, Admins};
use crate::serve::http::{self, AdminSide, Beside, Listen};
use crate::serve::line::AT_WORK;
use crate::serve::{Store, StoreRules, socket, tls};
use crate::share::{DirFiles, Files};
use crate::store::layout::{BACKUP_MARKER, TFTP_EXPORT, TFTP_MARKER};
use crate::store::lease::Tell;
use crate::sys::RealSystem;
use std::net::{IpAddr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The server's key, where nobody says otherwise.
pub(super) const KEY_FILE: &str = "/etc/testbox/store-key.pem";

const AFTER_HELP: &str = "\
Machines that are armed with --store reach this server by HTTPS, and need no NFS. It keeps the sets in the folder that an NFS
server would export; both kinds of machines may use it at once, as long as no machine can write it by NFS that should not.

Examples:
  testboxctl serve --backup-dir /export/testbox-backup --tftp-dir /export/testbox-tftp
        as the user that owns both folders; it prints the two lines that arm needs in /etc/testbox.toml
  testboxctl serve --backup-dir /export/testbox-backup --tftp-dir /export/testbox-tftp --interface eth1 --tftp --proxy-dhcp
        as root: what machines boot from, too, beside the DHCP server that the network has
  testboxctl serve
        as the table [serve] of the settings file says: 'testboxctl init --store' writes it
  testboxctl serve --listen 10.42.1.1:7443 --quota 200G --reserve 50G --keep-sets 5
  testboxctl serve --admin-socket /run/testbox/admin.sock --admin-group testbox
        members of that group arm by 'testboxctl --via /run/testbox/admin.sock arm ...'

SIGTERM ends it; machines at work wait, and go on when it is back.";

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The folder with the backups, here [default: the settings file's]
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
    /// The folder that the TFTP server serves, here [default: the settings file's, or /export/testbox-tftp]
    #[arg(long, value_name = "DIR")]
    tftp_dir: Option<PathBuf>,
    /// Address and port to listen on
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:7443")]
    listen: SocketAddr,
    /// The server's key, made where it is missing; agents are told its hash when they are armed
    #[arg(long, value_name = "FILE", default_value = KEY_FILE)]
    key: PathBuf,
    /// HTTP without TLS: whoever is on the network reads and changes what machines and server say. Machines need
    /// --store-plain allow too
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    hooks: HookFlags,
    /// A socket for admins of this computer, as /run/testbox/admin.sock: 'testboxctl --via' works there. Who is of its group
    /// may arm every machine
    #[arg(long, value_name = "SOCKET", help_heading = "Admins")]
    admin_socket: Option<PathBuf>,
    /// The group of that socket [default: the server's own]
    #[arg(long, value_name = "GROUP", requires = "admin_socket", help_heading = "Admins")]
    admin_group: Option<String>,
    /// Admins who come by HTTPS: a file with a name and a token, 64 hex digits, in each line
    #[arg(long, value_name = "FILE", conflicts_with = "plain", help_heading = "Admins")]
    admin_tokens: Option<PathBuf>,
    /// No page for browsers, no API and no metrics on that address. Without a login they show names and states only
    #[arg(long, help_heading = "Admins")]
    no_page: bool,
    #[command(flatten)]
    keep: KeepFlags,
    /// Bytes that sets, parts and logs of one machine may take (K, M, G, T) [default: a quarter of the file system]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    quota: Option<u64>,
    /// Bytes that stay free whoever writes (K, M, G, T) [default: a twentieth of what is free, at most 50G]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    reserve: Option<u64>,
    /// Machines that back up, restore or verify at once; the others wait in line, restores first, and say so on their consoles
    #[arg(long, value_name = "N", default_value_t = AT_WORK, value_parser = at_work)]
    at_work: usize,
    #[command(flatten)]
    boot: BootArgs,
}

fn at_work(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=256).contains(n));
    number.ok_or_else(|| format!("'{text}' is not a number from 1 to 256"))
}

/// `200G`: powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a size such as 500M, 200G or 2T");
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match text.get(digits.len()..) {
        Some("") => 0,
        Some("K") => 10,
        Some("M") => 20,
        Some("G") => 30,
        Some("T") => 40,
        _ => return Err(wrong()),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

pub(super) fn run(args: &Args, config: Option<&Path>, file: &SettingsFile, out: &mut Out) -> Answer {
    let settings =
        SettingsFile { backup_dir: args.backup_dir.clone(), ..SettingsFile::default() }.or(file.clone());
    let backup = shares::open_backup_dir(&settings)?
        .ok_or_else(|| Error::usage("where are the backups? Give --backup-dir"))?;
    let boot = args.tftp_dir.clone().or(settings.tftp_dir.clone());
    let boot = ShareFolder::open(&boot.unwrap_or_else(|| TFTP_EXPORT.into()))?;
    for (share, marker) in [(&backup, BACKUP_MARKER), (&boot, TFTP_MARKER)] {
        if !share.files.exists(marker).map_err(|e| share.error(marker, "look for it", &e))? {
            let dir = share.path.display();
            return Err(Error::failed(format!(
                "{dir} has no {marker}: it is not the folder, or is not mounted. 'testboxctl init' lays it out"
            )));
        }
    }
    exported_writable(&backup.path).iter().for_each(|line| {
        warn(&format!(
            "{} is exported writable by NFS ({line}): machines can delete and change every backup there, whatever this \
             server does. Export it read-only, or not at all",
            backup.path.display()
        ));
    });
    let free = backup.files.free_bytes("").map_err(|e| backup.error("", "look for free space in it", &e))?;
    let rules = StoreRules {
        keep: args.keep.rules(),
        quota: args.quota.unwrap_or(free / 4),
        reserve: args.reserve.unwrap_or((free / 20).min(50 << 30)),
        at_work: args.at_work,
    };
    let failed = |e: std::io::Error| Error::failed(format!("cannot serve on {}: {e}", args.listen));
    let files: Arc<dyn Files> = Arc::new(DirFiles::open(&backup.path).map_err(failed)?);
    let served: Arc<dyn Files> = Arc::new(DirFiles::open(&boot.path).map_err(failed)?.served());
    // They end with this function.
    let _boot = args.boot.start(&boot.path, &backup.path, file)?;
    let _hooks = args.hooks.start(files.clone(), Arc::new(Stderr))?;
    let store = Store::new(files, served, Arc::new(RealSystem::new()), rules, Arc::new(Stderr));
    let (listen, scheme) = match args.plain {
        true => (Listen::Plain(args.listen), "http"),
        false => {
            let pin = tls::pin(&args.key)
                .map_err(|e| Error::failed(format!("cannot use the server's key: {e}")))?;
            out.line(format!("store-key = \"{pin}\""))?;
            (Listen::Tls(args.listen, &args.key), "https")
        }
    };
    // Listening everywhere is no address that a machine could reach.
    let own = || own_addresses().first().map_or(args.listen.ip(), |(ip, _)| IpAddr::V4(*ip));
    let shown = if args.listen.ip().is_unspecified() { own() } else { args.listen.ip() };
    out.line(format!("store = \"{scheme}://{}\"", SocketAddr::new(shown, args.listen.port())))?;
    let admin = admin_side(args, config, &backup, &boot)?;
    let store = Arc::new(store);
    let folders = LabFolders {
        config: config.map(Path::to_owned),
        backup: backup.path.clone(),
        boot: boot.path.clone(),
    };
    let admins = admin.as_ref().map(|side| side.admins.clone());
    let page = LabPage::new(folders, store.clone(), admins, Arc::new(Stderr));
    let page = (!args.no_page).then(|| page.router());
    http::serve(store, listen, Beside { admin, page }, |address| {
        Stderr.info(&format!(
            "testboxctl {} serves {} on {address}",
            env!("CARGO_PKG_VERSION"),
            backup.path.display()
        ));
        notify_ready();
    })
    .map_err(failed)?;
    Stderr.info("ended; machines at work wait until it is back");
    Ok(true)
}

/// The admins that are served: their commands are done by this program, on the server's own folders.
fn admin_side(
    args: &Args,
    config: Option<&Path>,
    backup: &ShareFolder,
    boot: &ShareFolder,
) -> Result<Option<AdminSide>, Error> {
    if args.admin_socket.is_none() && args.admin_tokens.is_none() {
        return Ok(None);
    }
    let (config, backup, boot) = (config.map(Path::to_owned), backup.path.clone(), boot.path.clone());
    let program = move |who: &str, words: &[String]| {
        // The program as it was started: an upgrade has replaced the file meanwhile.
        let mut command = Command::new("/proc/self/exe");
        if let Some(config) = &config {
            command.arg("--config").arg(config);
        }
        command.arg("behalf").arg("--backup-dir").arg(&backup).arg("--tftp-dir").arg(&boot);
        command.arg("--").args(words).env(ADMIN_VARIABLE, who);
        command
    };
    if let Some(tokens) = &args.admin_tokens {
        admin::read_tokens(tokens)
            .map_err(|e| Error::failed(format!("cannot use the admins' tokens: {e}")))?;
    }
    let group = args.admin_group.as_deref().map(group).transpose()?;
    let socket = args.admin_socket.as_deref().map(|path| {
        let failed = |e| Error::failed(format!("{}: cannot serve admins there: {e}", path.display()));
        socket::listen(path, group).map_err(failed)
    });
    let admins = Admins::new(Box::new(program), args.admin_tokens.clone(), Arc::new(Stderr));
    Ok(Some(AdminSide { admins: Arc::new(admins), socket: socket.transpose()? }))
}

/// The number of a group (group(5)).
fn group(name: &str) -> Result<u32, Error> {
    let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let line = text.lines().find(|line| line.split(':').next() == Some(name));
    let number = line.and_then(|line| line.split(':').nth(2)).and_then(|number| number.parse().ok());
    number.ok_or_else(|| Error::usage(format!("there is no group {name}: addgroup --system {name}")))
}

/// Tells systemd that the server listens (sd_notify(3)), where it has started this.
fn notify_ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => UnixAddr::from_abstract_name(name),
        None => UnixAddr::from_pathname(&path),
    };
    let told = address.and_then(|to| UnixDatagram::unbound()?.send_to_addr(b"READY=1", &to));
    if let Err(e) = told {
        warn(&format!("cannot tell systemd that the server is ready: {e}"));
    }
}

/// The lines of the kernel's table of exports (exports(5), `/var/lib/nfs/etab`) by which the folder can be written.
pub(super) fn exported_writable(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let table = [read("/var/lib/nfs/etab"), read("/etc/exports")].concat();
    writable_exports(&table, &folder)
}

fn writable_exports(table: &str, folder: &Path) -> Vec<String> {
    let is_writable = |line: &&str| {
        let mut words = line.split_ascii_whitespace();
        let path = words.next().map(|path| Path::new(path.trim_matches('"')));
        let holds = path.is_some_and(|path| path.is_absolute() && folder.starts_with(path));
        let is_rw = |word: &str| {
            let options = word.split_once('(').map_or("", |(_, options)| options.trim_end_matches(')'));
            options.split(',').any(|option| option == "rw")
        };
        holds && words.any(is_rw)
    };
    table.lines().filter(is_writable).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("3K", Some(3 << 10)),
            ("200G", Some(200 << 30)),
            ("2T", Some(2 << 40)),
            ("", None),
            ("G", None),
            ("1GG", None),
            ("-1G", None),
            ("1.5G", None),
            ("99999999999T", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn an_export_that_machines_can_write_is_seen() {
        let table = "/export/testbox-backup 10.0.0.0/24(rw,sync)\n/export/ro *(ro)\n# /export *(rw)\n/srv *(ro) 10.0.0.9(rw,no_root_squash)\n";
        for (folder, seen) in [
            ("/export/testbox-backup", 1),
            ("/export/testbox-backup/below", 1),
            ("/export/testbox-backup2", 0),
            ("/export/ro", 0),
            ("/srv/x", 1),
            ("/home", 0),
        ] {
            assert_eq!(writable_exports(table, Path::new(folder)).len(), seen, "{folder}");
        }
    }
}
