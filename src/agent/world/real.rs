//! The machine that the agent runs on.

use super::{Facts, ListDisks, MountOrder, MountedShares, OpenDisk, OpenWire, Purpose, Share, World};
use crate::agent::hostkey::{self, HostKey};
use crate::agent::info::{self, InfoSources, MachineIdentity};
use crate::agent::times::init_started;
use crate::block::passthrough::Passthrough;
use crate::block::{OpenError, RealDisk as BlockDisk};
use crate::efi::{EfivarFs, Platform, Variables};
use crate::failure::{Failure, Kind};
use crate::inventory::health::Language;
use crate::inventory::pci::PciDevice;
use crate::inventory::{Disk, Health, Inventory, why_in_use};
use crate::job::StoreOrder;
use crate::net::dhcp::Datagrams;
use crate::net::dns::{DnsError, Resolver};
use crate::net::links::{self, Link};
use crate::net::quota::{self, Export, Quota, QuotaError, QuotaSubject};
use crate::net::tftp::{self, TftpError};
use crate::share::mount::{MountFailed, MountRequest, mount_nfs};
use crate::share::{DirFiles, NfsOptions};
use crate::signature::Trust;
use crate::store::remote::{HttpTransport, Transport};
use crate::sys::{MountFlags, RealSystem, System, errno_words, with_deadline};
use crate::types::{HostName, MacAddr};
use crate::used::DiskContent;
use std::fs;
use std::io::{self, Cursor, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where the kernel shows its devices.
const SYS: &str = "/sys";
/// How long one disk is asked for its state.
const HEALTH_LIMIT: Duration = Duration::from_secs(30);
/// How long an answer to ARP is waited for. The kernel asks once a second.
const ANSWER_LIMIT: Duration = Duration::from_millis(1200);
/// How long the firmware may take to list its variables.
const FIRMWARE_LIMIT: Duration = Duration::from_secs(60);
/// How long the root of a share that was just mounted may take to open.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// The real machine.
pub struct RealWorld {
    system: Arc<dyn System>,
    run_dir: PathBuf,
    tftp: tftp::TftpClient,
    efivars: Mutex<Option<PathBuf>>,
}

impl RealWorld {
    /// This machine; mount points are made in `run_dir`.
    pub fn new(run_dir: &Path) -> Self {
        RealWorld {
            system: Arc::new(RealSystem::new()),
            run_dir: run_dir.to_owned(),
            tftp: tftp::TftpClient::default(),
            efivars: Mutex::default(),
        }
    }
}

impl RealWorld {
    /// Where the variables of the firmware are mounted, for this agent alone: what is in the usual place would be copied into
    /// the archive of firmware data.
    fn efivars(&self) -> Result<PathBuf, String> {
        let mut mounted = self.efivars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = &*mounted {
            return Ok(dir.clone());
        }
        let (system, dir) = (self.system.clone(), self.run_dir.join("efivars"));
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let mount = move || {
            system.make_dir(&dir)?;
            system.mount("efivarfs", &dir, "efivarfs", flags, "").map(|()| dir)
        };
        // The module asks the firmware for all variables.
        let dir = with_deadline(FIRMWARE_LIMIT, mount)
            .map_err(|e| format!("cannot mount efivarfs: {}", errno_words(&e)))?;
        Ok(mounted.insert(dir).clone())
    }
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The texts of the files in a folder whose names pass, in the order of their names.
fn texts(folder: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.file_name().to_str().is_some_and(&wanted))
        .map(|e| e.path())
        .collect();
    paths.sort();
    paths.into_iter().filter_map(text).collect()
}

/// Where the hook puts the keys that are trusted (`*.pub`) and the file `require-signature`. Only the initramfs has
/// this folder, and nothing is mounted over it.
const TRUST: &str = "/etc/testbox";
/// Largest key file that is read, in bytes.
const KEYS_LIMIT: u64 = 64 << 10;

/// What the initramfs trusts. In doubt whether it demands signatures, it does.
fn trust(folder: &Path) -> Trust {
    let required = folder.join("require-signature").try_exists().unwrap_or(true);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "pub"));
    paths.sort();
    let read = |path: &PathBuf| {
        let mut bytes = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(KEYS_LIMIT).read_to_end(&mut bytes));
        read.map(|_| (path.display().to_string(), bytes)).map_err(|e| format!("{}: {e}", path.display()))
    };
    let (files, problems): (Vec<_>, Vec<_>) = paths.iter().map(read).partition(Result::is_ok);
    let files: Vec<(String, Vec<u8>)> = files.into_iter().flatten().collect();
    let mut trust = Trust::new(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())), required);
    trust.problems.extend(problems.into_iter().filter_map(Result::err));
    trust
}

fn macs() -> Vec<(String, MacAddr)> {
    let nics = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mac = |name: &str| text(format!("/sys/class/net/{name}/address"))?.trim().parse().ok();
    let pairs = nics.filter_map(|nic| nic.file_name().into_string().ok());
    pairs.filter_map(|name| Some((name.clone(), mac(&name)?))).collect()
}

fn cannot_open(disk: &Disk, error: &OpenError) -> Failure {
    let proc = |name| text(format!("/proc/{name}")).unwrap_or_default();
    let users = why_in_use(Path::new(SYS), &disk.name, &proc("self/mountinfo"), &proc("swaps"));
    let users: Vec<String> = users.iter().map(ToString::to_string).collect();
    let why = if users.is_empty() { error.to_string() } else { format!("{error} ({})", users.join("; ")) };
    Failure::new(
        Kind::Unfit,
        format!("cannot open {disk}: {why}"),
        "nothing was written. Free the disk, or look at its cable.",
    )
}

/// Who the disk with this device number is.
fn identify(number: io::Result<Option<(u32, u32)>>) -> io::Result<Disk> {
    Disk::of_number(Path::new(SYS), Path::new("/dev"), number?)
}

/// Opens what has the disk's name now, and finds out who that is.
fn open(disk: &Disk, open: fn(PathBuf) -> Result<BlockDisk, OpenError>) -> Result<OpenDisk, Failure> {
    let device = open(disk.path.clone()).map_err(|e| cannot_open(disk, &e))?;
    let found = identify(device.device_number()).map_err(|why| {
        let what = format!("{disk}: it was opened, and cannot be identified again: {why}");
        Failure::new(
            Kind::OtherDisk,
            what,
            "nothing was written. Look for a disk or controller that comes and goes.",
        )
    })?;
    Ok(OpenDisk { device: Arc::new(device), found })
}

impl World for RealWorld {
    fn system(&self) -> Arc<dyn System> {
        self.system.clone()
    }

    fn facts(&self) -> Facts {
        Facts {
            cmdline: text("/proc/cmdline").unwrap_or_default(),
            net_conf: texts("/run", |name| name.starts_with("net-") && name.ends_with(".conf")),
            uuid: text("/sys/class/dmi/id/product_uuid").and_then(|uuid| uuid.trim().parse().ok()),
            macs: macs(),
            trust: trust(Path::new(TRUST)),
            init_started: info::read_kernel_log(Path::new("/dev/kmsg"))
                .ok()
                .and_then(|log| init_started(&log)),
        }
    }

    fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    fn fetch(&self, server: Ipv4Addr, path: &str) -> Result<Vec<u8>, TftpError> {
        self.tftp.fetch(SocketAddrV4::new(server, tftp::PORT), path)
    }

    fn links(&self) -> Vec<Link> {
        Link::scan(Path::new(SYS))
    }

    fn pci(&self) -> Vec<PciDevice> {
        PciDevice::scan(Path::new(SYS))
    }

    fn answers(&self, address: Ipv4Addr) -> bool {
        links::answers(address, ANSWER_LIMIT)
    }

    fn resolve(&self, servers: &[Ipv4Addr], name: &HostName) -> Result<Option<Ipv4Addr>, DnsError> {
        Resolver::new(servers).address_of(name)
    }

    fn reverse(&self, servers: &[Ipv4Addr], address: Ipv4Addr) -> Result<Option<HostName>, DnsError> {
        Resolver::new(servers).name_of(address)
    }

    fn dhcp(&self, device: &str) -> OpenWire {
        let device = device.to_owned();
        Box::new(move || Ok(Box::new(Datagrams::open(&device)?)))
    }

    fn mount(&self, order: &MountOrder<'_>, say: &mut dyn FnMut(&str)) -> Result<MountedShares, MountFailed> {
        let name = format!("{}:{}", order.source.host, order.source.path);
        let mut words = order.source.options.clone();
        if order.purpose == Purpose::Tftp {
            // What is looked up here decides about disarming: never from the client's cache.
            words.push("noac".into());
        }
        let refused = |source: io::Error| MountFailed {
            share: name.clone(),
            attempts: vec![(crate::share::Version::V3, source)],
        };
        let options =
            NfsOptions::parse(&words).map_err(|e| refused(io::Error::new(io::ErrorKind::InvalidInput, e)))?;
        let target = self.run_dir.join(order.purpose.as_str());
        let request = MountRequest {
            source: order.source,
            server: order.server,
            client: Some(order.client),
            target: &target,
            options: &options,
            read_only: order.purpose == Purpose::Images,
        };
        let guard = mount_nfs(&self.system, &request, order.limit, say)?;
        // A server that dies just now must not keep the agent, which does not watch this share yet.
        let files = with_deadline(OPEN_LIMIT, move || DirFiles::open(&target)).map_err(refused)?;
        let files = if order.purpose == Purpose::Tftp { files.served() } else { files };
        let close = move |limit: Duration| guard.close(limit);
        let export = Some(Export { server: order.server, path: order.source.path.clone() });
        let share = Share { name, export, files: Arc::new(files) };
        Ok(MountedShares { share, close: Box::new(close) })
    }

    fn store(&self, order: &StoreOrder<'_>, server: Ipv4Addr, session: &str) -> Arc<dyn Transport> {
        Arc::new(HttpTransport::new(order, server, session))
    }

    fn quota(&self, export: &Export, of: QuotaSubject) -> Result<Option<Quota>, QuotaError> {
        quota::QuotaClient::new(export.server).quota(&export.path, of)
    }

    fn list_disks(&self) -> ListDisks {
        Arc::new(|| Inventory::scan(Path::new(SYS), Path::new("/dev")))
    }

    fn health(&self, disk: &Disk) -> Health {
        let Some(language) = Language::of(Path::new(SYS), disk) else { return Health::default() };
        let listed = disk.clone();
        // The commands have limits of their own, but the kernel's attempts to reset a dead disk come on top.
        let answer = with_deadline(HEALTH_LIMIT, move || {
            let opened = Passthrough::open(&listed.path)?;
            let found = identify(opened.device_number())?;
            match listed.difference(&found) {
                Some(what) => Err(io::Error::other(format!("{what}: {found} has its name by now"))),
                None => Health::ask(&opened, language, listed.size),
            }
        });
        answer.unwrap_or_else(|e| {
            if e.kind() == io::ErrorKind::TimedOut {
                log::warn!("{}: it does not say how it is: {e}", disk.name);
            } else {
                log::debug!("{}: it does not say how it is: {e}", disk.name);
            }
            Health::default()
        })
    }

    fn content(&self, disk: &Disk) -> DiskContent {
        let (path, size, sector) = (disk.path.clone(), disk.size, disk.logical_block_size);
        let read = move || Ok(DiskContent::read(&fs::File::open(&path)?, size, sector));
        with_deadline(HEALTH_LIMIT, read).unwrap_or_else(|e| {
            log::warn!("{}: cannot read what tells its content from others: {e}", disk.name);
            DiskContent::default()
        })
    }

    fn open_source(&self, disk: &Disk) -> Result<OpenDisk, Failure> {
        open(disk, BlockDisk::open_source)
    }

    fn open_target(&self, disk: &Disk) -> Result<OpenDisk, Failure> {
        open(disk, BlockDisk::open_write)
    }

    fn host_key(&self, root: Option<&Path>) -> io::Result<HostKey> {
        hostkey::make(Path::new("/"), &self.run_dir, root)
    }

    fn efi(&self) -> Option<Platform> {
        let efi = Path::new("/sys/firmware/efi");
        efi.exists().then(|| Platform {
            bits: text(efi.join("fw_platform_size")).and_then(|bits| bits.trim().parse().ok()),
            variables: self.efivars().map(|dir| Arc::new(EfivarFs::new(dir)) as Arc<dyn Variables>),
        })
    }

    fn info(&self, who: &MachineIdentity) -> (String, io::Result<Vec<u8>>) {
        let sources = InfoSources { firmware: self.efi(), ..InfoSources::system() };
        let mut zip = Cursor::new(Vec::new());
        let zipped = info::write_zip(&mut zip, &sources).map_err(io::Error::other);
        (info::collect(&sources, who).text, zipped.map(|_| zip.into_inner()))
    }
}
