//! A machine in memory: disks, shares and boot server that a scenario puts together, and the real engine on top.
#![allow(dead_code)] // each test binary uses its own part of it
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod dhcp;
pub mod disk;
pub mod esp;
pub mod ext4;
pub mod store;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::{TestStore, token_of};
use testbox::agent::console::Console;
use testbox::agent::hostkey::HostKey;
use testbox::agent::info::MachineIdentity;
use testbox::agent::logging::AgentLog;
use testbox::agent::world::{
    Facts, ListDisks, MountOrder, MountedShares, OpenDisk, OpenWire, Purpose, Share, World,
};
use testbox::agent::{Ending, Journal, Mode, run};
use testbox::block::BlockDevice;
use testbox::block::mem::MemDisk;
use testbox::efi::{MemVariables, Platform, Variables};
use testbox::failure::{Failure, Kind};
use testbox::image::{Image, verify};
use testbox::inventory::pci::PciDevice;
use testbox::inventory::{Disk, Health, Identity, Inventory};
use testbox::job::{RebootMode, StoreOrder};
use testbox::net::dns::DnsError;
use testbox::net::links::Link;
use testbox::net::quota::{Export, Quota, QuotaError, QuotaSubject};
use testbox::net::tftp::TftpError;
use testbox::progress::Progress;
use testbox::share::mount::MountFailed;
use testbox::share::{DirFiles, Files, MemFiles, Survivors, Version};
use testbox::signature::Trust;
use testbox::store::record::Record;
use testbox::store::remote::Transport;
use testbox::store::status::Status;
use testbox::sys::{Chance, Power, Recording, System};
use testbox::types::HostName;
use testbox::used::DiskContent;

pub const IP: &str = "10.40.41.42";
pub const HEX: &str = "0A28292A";
pub const REBOOT: Ending = Ending::Machine(RebootMode::Reboot);
pub const HOLD: Ending = Ending::Machine(RebootMode::Hold);

/// How a machine reaches its backups: [`Machine::new`] or [`Machine::stored`].
pub type NewMachine = fn() -> Machine;

/// The tests of a file over both kinds of shares: one that is mounted, and a store. What is no matter of the share, or of the
/// mounted one alone, is told with its reason.
#[macro_export]
macro_rules! over_both_kinds {
    (both: { $($both:ident),* $(,)? }, by_nfs: { $($(#[doc = $why:literal])+ $by_nfs:ident),* $(,)? } $(,)?) => {
        mod by_nfs {
            $(#[test] fn $both() { super::$both($crate::world::Machine::new) })*
            $(#[test] fn $by_nfs() { super::$by_nfs($crate::world::Machine::new) })*
        }
        mod by_store {
            $(#[test] fn $both() { super::$both($crate::world::Machine::stored) })*
        }
    };
}

/// A disk of the machine: what sysfs says, and its bytes.
#[derive(Clone)]
pub struct TestDisk {
    pub disk: Disk,
    pub bytes: Arc<MemDisk>,
}

/// The machine and everything around it.
pub struct Machine {
    pub system: Arc<Recording>,
    pub backup: MemFiles,
    pub tftp: MemFiles,
    pub disks: Arc<Mutex<Vec<TestDisk>>>,
    pub cmdline: String,
    pub net_conf: Vec<String>,
    pub mac: &'static str,
    /// What the initramfs says of signatures.
    pub trust: Trust,
    /// When the kernel started the initramfs's init, on the machine's clock.
    pub init_started: Option<Duration>,
    /// How often a step is looked at. Long, so that its writes of the status do not get between counted operations.
    pub tick: Duration,
    /// The console of the boot that is under way, or was last.
    pub screen: Mutex<Option<File>>,
    /// Shares that cannot be mounted.
    pub unreachable: Vec<Purpose>,
    pub host_name: Option<&'static str>,
    /// Who serves the TFTP share.
    pub tftp_servers: Vec<Ipv4Addr>,
    /// What was asked by TFTP, of whom.
    pub asked: Mutex<Vec<(Ipv4Addr, String)>>,
    /// When the switch port forwards, on the machine's clock: nobody answers before.
    pub forwards_after: Duration,
    /// When its link is up, on the machine's clock.
    pub link_after: Duration,
    /// Somebody was asked before.
    pub asked_without_link: AtomicBool,
    /// Names that DNS knows, beside that of the machine.
    pub hosts: Vec<(&'static str, Ipv4Addr)>,
    /// What TFTP gives in place of what is on the TFTP share, by path.
    pub served: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What TFTP says of files that it does not give, by path: code and text.
    pub refused: BTreeMap<String, (u16, &'static str)>,
    /// What the server says of quotas. Nobody asks it where root is not squashed.
    pub quota: fn(QuotaSubject) -> Result<Option<Quota>, QuotaError>,
    /// Called before each mount: to change the world under a running action.
    pub on_mount: Mutex<Option<Hook>>,
    /// Called before each file that is asked of the boot server.
    pub on_fetch: Mutex<Option<Box<dyn FnMut() + Send>>>,
    /// What the machine, its disks and its shares hang on.
    pub power: Power,
    /// A folder of the running system in place of the backup share in memory.
    pub files: Option<Arc<dyn Files>>,
    /// Called before each disk is opened, with how many were opened before.
    pub on_open: Mutex<Option<OpenHook>>,
    pub opened: Mutex<usize>,
    /// Called before the first write to the target disk that is opened first.
    pub on_first_write: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Name of its NIC.
    pub nic: &'static str,
    /// The real network of a machine that has a lease.
    pub open_wire: Option<fn(&str) -> OpenWire>,
    /// The network of a machine that has a lease, in memory.
    pub wire: Option<dhcp::TestWire>,
    /// The backup share as a real folder, in place of `backup`.
    pub folder: Option<tempfile::TempDir>,
    /// The variables of its firmware, or why they cannot be read; `None` is a BIOS.
    pub efi: Option<Result<MemVariables, String>>,
    /// Its PCI devices.
    pub pci: Vec<PciDevice>,
    /// A real disk, which is opened in place of every other one.
    pub real: Mutex<Option<Arc<dyn BlockDevice>>>,
    /// The store that keeps its backups, in place of the shares.
    pub store: Option<Arc<TestStore>>,
}

pub type Hook = Box<dyn FnMut(Purpose) + Send>;
pub type OpenHook = Box<dyn FnMut(usize) + Send>;

/// What one run left behind for people to see.
pub struct Seen {
    pub ending: Ending,
    pub console: String,
}

/// Disk contents that compress a little, with zeros between; `seed` tells disks apart.
pub fn contents(mib: usize, seed: u64) -> Vec<u8> {
    contents_of(mib << 20, seed)
}

/// The same, of any length in bytes.
pub fn contents_of(len: usize, seed: u64) -> Vec<u8> {
    // Tests ask for the same ones again and again.
    static MADE: Mutex<BTreeMap<(usize, u64), Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry((len, seed)).or_insert_with(|| make_contents(len, seed)).clone()
}

fn make_contents(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for (n, block) in bytes.chunks_mut(4096).enumerate() {
        if n % 5 == 3 {
            continue;
        }
        for word in block.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&(state & 0x0f0f_ffff_0000_ffff).to_le_bytes());
        }
    }
    bytes
}

/// `sda S1 @1`: kernel name, serial (`-` for none), location.
pub fn disk(text: &str, bytes: Vec<u8>) -> TestDisk {
    let parts: Vec<_> = text.split_whitespace().collect();
    let disk = Disk {
        name: parts[0].into(),
        path: format!("/dev/{}", parts[0]).into(),
        size: bytes.len() as u64,
        logical_block_size: 512,
        physical_block_size: 512,
        identity: Identity { serial: (parts[1] != "-").then(|| parts[1].into()), ..Identity::default() },
        location: parts[2].into(),
        ..Disk::default()
    };
    let bytes = Arc::new(MemDisk::new(parts[0], bytes, 512));
    TestDisk { disk, bytes }
}

impl Machine {
    /// A machine with one disk, shares that are laid out, and nothing armed.
    pub fn new() -> Self {
        let (backup, tftp) = (MemFiles::new(), MemFiles::new());
        backup.put("testbox-backup", "");
        tftp.put("pxelinux.0", "");
        tftp.put("pxelinux.cfg/default", "DEFAULT local-boot\nLABEL local-boot\nLOCALBOOT 0\n");
        let machine = Machine {
            system: Arc::new(Recording::new()),
            backup,
            tftp,
            disks: Arc::default(),
            cmdline: String::new(),
            net_conf: vec![format!(
                "DEVICE='enp0s2'\nIPV4ADDR='{IP}'\nROOTSERVER='10.0.0.1'\nfilename='pxelinux.0'\n"
            )],
            mac: "52:54:00:12:34:56",
            trust: Trust::default(),
            init_started: None,
            tick: Duration::from_secs(3),
            screen: Mutex::default(),
            unreachable: Vec::new(),
            host_name: Some("box1"),
            tftp_servers: vec![Ipv4Addr::new(10, 0, 0, 1)],
            asked: Mutex::default(),
            forwards_after: Duration::ZERO,
            link_after: Duration::ZERO,
            asked_without_link: AtomicBool::new(false),
            hosts: Vec::new(),
            served: Mutex::default(),
            refused: BTreeMap::new(),
            quota: |_| panic!("root has no quotas"),
            on_mount: Mutex::new(None),
            on_fetch: Mutex::new(None),
            power: Power::default(),
            files: None,
            on_open: Mutex::new(None),
            opened: Mutex::default(),
            on_first_write: Mutex::new(None),
            nic: "enp0s2",
            open_wire: None,
            wire: None,
            folder: None,
            efi: None,
            pci: Vec::new(),
            real: Mutex::default(),
            store: None,
        };
        machine.backup.plug(&machine.power);
        machine.tftp.plug(&machine.power);
        machine.set_disks(vec![disk("sda S1 @1", contents(2, 1))]);
        machine
    }

    /// The same with a store, which keeps the same folders.
    pub fn stored() -> Self {
        let mut machine = Machine::new();
        machine.restart_store();
        machine
    }

    /// The same machine, armed with the same words, its backups kept by a store from now on.
    pub fn over_store(mut self) -> Self {
        self.restart_store();
        let words = self.cmdline.split_once(" testbox.error-wait=5 ").expect("it is armed").1.to_owned();
        self.arm(&words);
        self
    }

    /// Starts the store anew.
    pub fn restart_store(&mut self) {
        self.store = Some(TestStore::new(&self.backup, &self.tftp, &self.system));
    }

    /// The same machine once more, with all that is on its disks and shares, and power again.
    pub fn copy(&self) -> Machine {
        let mut machine = Machine::new();
        (machine.backup, machine.tftp) = (self.backup.copy(), self.tftp.copy());
        machine.backup.plug(&machine.power);
        machine.tftp.plug(&machine.power);
        let disks = self.disks.lock().unwrap();
        let copy = |from: &TestDisk| TestDisk { disk: from.disk.clone(), bytes: Arc::new(from.bytes.copy()) };
        machine.set_disks(disks.iter().map(copy).collect());
        machine.cmdline = self.cmdline.clone();
        machine.trust = self.trust.clone();
        machine.set_efi(self.efi.clone().map(|efi| efi.map(|variables| variables.copy())));
        if self.store.is_some() {
            machine.restart_store();
        }
        machine
    }

    /// Gives the machine firmware with these variables, on its power.
    pub fn set_efi(&mut self, efi: Option<Result<MemVariables, String>>) {
        if let Some(Ok(variables)) = &efi {
            variables.plug(&self.power);
        }
        self.efi = efi;
    }

    /// What a power cut leaves, which is `survivors` on the shares; then a copy, because the old machine is dead.
    pub fn after_cut(&self, survivors: Survivors, chance: Chance) -> Machine {
        let mut machine = self.copy();
        machine.backup.crash(survivors);
        machine.tftp.crash(survivors);
        machine.disks.lock().unwrap().iter().for_each(|disk| disk.bytes.cut(chance));
        if machine.store.is_some() {
            machine.restart_store();
        }
        machine
    }

    /// Arms the machine as `testboxctl arm` does, and boots it with what PXELINUX would give the kernel.
    pub fn arm(&mut self, words: &str) -> &mut Self {
        self.cmdline = format!(
            "boot=testbox testbox.backup=10.0.0.1:/b testbox.tftp=10.0.0.1:/t testbox.settle=1 testbox.error-wait=5 {words}"
        );
        self.put_pxe(words);
        if let Some(store) = &self.store {
            store.know(words);
            let job = words.split(' ').find_map(|word| word.strip_prefix("testbox.job=")).unwrap_or_default();
            self.cmdline += &format!(
                " testbox.store=http://10.0.0.1 testbox.store-plain=allow testbox.token={}",
                token_of(job)
            );
        }
        self
    }

    /// Moves the backup share into a real folder; the path of the machine's own in it.
    pub fn move_to_folder(&mut self) -> PathBuf {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in self.backup.tree() {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let own = folder.path().join(IP);
        self.folder = Some(folder);
        own
    }

    /// Writes the machine's PXE config and nothing else.
    pub fn put_pxe(&self, words: &str) {
        let file = format!("DEFAULT m\nLABEL m\nKERNEL k\nAPPEND initrd=i {words}\n");
        self.tftp.put(&format!("pxelinux.cfg/{HEX}"), file);
    }

    pub fn is_armed(&self) -> bool {
        self.tftp.get(&format!("pxelinux.cfg/{HEX}")).is_some()
    }

    /// One boot.
    pub fn boot(&self) -> Seen {
        self.boot_as(&Mode::AgentOnly)
    }

    pub fn boot_as(&self, mode: &Mode) -> Seen {
        let mut file = tempfile::tempfile().unwrap();
        let console = Arc::new(Console::new(vec![("tty0".into(), file.try_clone().unwrap())]));
        *self.screen.lock().unwrap() = Some(file.try_clone().unwrap());
        let log = AgentLog::new(console.clone(), self.system.clone());
        let ending = run(self, &Journal::new(log, console), mode);
        file.rewind().unwrap();
        let mut text = Vec::new();
        File::read_to_end(&mut file, &mut text).unwrap();
        Seen { ending, console: String::from_utf8_lossy(&text).into_owned() }
    }

    /// Tells what is on disks and shares from anything else; what the logs say is left out.
    pub fn fingerprint(&self) -> u64 {
        let files = |share: &MemFiles| -> Vec<(String, Vec<u8>)> {
            share.tree().into_iter().filter(|(path, _)| !path.ends_with(".log")).collect()
        };
        let disks: Vec<Vec<u8>> =
            self.disks.lock().unwrap().iter().map(|disk| disk.bytes.content()).collect();
        Chance(0).of((files(&self.backup), files(&self.tftp), disks))
    }

    /// Waits until the console of the boot that is under way has said this so often.
    ///
    /// # Panics
    /// After a minute, with what it says: a test must not hang.
    pub fn wait_for_screen(&self, text: &str, times: usize) {
        let started = std::time::Instant::now();
        loop {
            let mut seen = vec![0; 1 << 20];
            let screen = self.screen.lock().unwrap();
            let len = screen.as_ref().map_or(0, |file| file.read_at(&mut seen, 0).unwrap());
            drop(screen);
            let said = String::from_utf8_lossy(&seen[..len]);
            if said.matches(text).count() >= times {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{text:?} was not said: {said}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        self.backup.get(&format!("{IP}/{name}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.file(name).unwrap_or_else(|| panic!("{name} is missing"))).unwrap()
    }

    pub fn status(&self) -> Status {
        Status::parse(&self.file("status.json").expect("status.json")).expect("a status")
    }

    pub fn record(&self) -> Record {
        Record::parse(&self.file("backup.json").expect("backup.json")).expect("a record")
    }

    /// The record in a folder of the machine's own, such as `history/3`.
    pub fn record_at(&self, folder: &str) -> Record {
        Record::parse(&self.file(&format!("{folder}/backup.json")).expect("backup.json")).expect("a record")
    }

    pub fn disk_bytes(&self, name: &str) -> Vec<u8> {
        self.disks.lock().unwrap().iter().find(|d| d.disk.name == name).unwrap().bytes.content()
    }

    pub fn set_disks(&self, disks: Vec<TestDisk>) {
        disks.iter().for_each(|disk| disk.bytes.plug(&self.power));
        *self.disks.lock().unwrap() = disks;
    }

    /// What the image at this path of the machine's folder holds; `None` where it is not a whole image.
    pub fn image(&self, path: &str) -> Option<Vec<u8>> {
        image_contents(self.file(path)?)
    }

    /// The contents of the sets that a reader would trust, by the number of their generation.
    pub fn good_sets(&self) -> BTreeMap<u64, BTreeMap<String, Vec<u8>>> {
        sets_of(&self.backup.tree())
    }
}

/// The contents of the sets on a share that a reader would trust, by the number of their generation.
pub fn sets_of(tree: &BTreeMap<String, Vec<u8>>) -> BTreeMap<u64, BTreeMap<String, Vec<u8>>> {
    let mut sets = BTreeMap::new();
    for (path, bytes) in tree {
        let Some(folder) = path.strip_suffix("backup.json") else { continue };
        let Ok(record) = Record::parse(bytes) else { continue };
        let images: Option<BTreeMap<String, Vec<u8>>> = record
            .images
            .iter()
            .map(|image| {
                let file = tree.get(&format!("{folder}{}", image.file()))?.clone();
                let hash = Image::open(Arc::new(file.clone())).ok()?.summary().root_hash;
                (hash == image.root_hash).then_some(())?;
                Some((image.name.clone(), image_contents(file)?))
            })
            .collect();
        if let Some(images) = images {
            sets.insert(record.generation, images);
        }
    }
    sets
}

fn image_contents(file: Vec<u8>) -> Option<Vec<u8>> {
    let image = Image::open(Arc::new(file)).ok()?;
    verify(&image, 1, &Progress::default()).ok()?;
    let mut out = Vec::new();
    image.cat(0..image.summary().disk, &mut out).ok()?;
    Some(out)
}

impl Machine {
    fn has_link(&self) -> bool {
        self.system.monotonic() >= self.link_after
    }

    fn is_blocked(&self) -> bool {
        self.asked_without_link.fetch_or(!self.has_link(), Relaxed);
        self.system.monotonic() < self.forwards_after.max(self.link_after)
    }

    fn dns<T>(&self, servers: &[Ipv4Addr], answer: Option<T>) -> Result<Option<T>, DnsError> {
        let silence = || DnsError::NoAnswer { query: "it".into(), servers: format!("{servers:?}") };
        if self.is_blocked() { Err(silence()) } else { Ok(answer) }
    }
}

impl World for Machine {
    fn system(&self) -> Arc<dyn System> {
        self.system.clone()
    }

    fn facts(&self) -> Facts {
        Facts {
            cmdline: self.cmdline.clone(),
            net_conf: self.net_conf.clone(),
            uuid: None,
            macs: vec![(self.nic.into(), self.mac.parse().unwrap())],
            trust: self.trust.clone(),
            init_started: self.init_started,
        }
    }

    fn run_dir(&self) -> &Path {
        Path::new("/run/testbox")
    }

    fn tick(&self) -> Duration {
        self.tick
    }

    fn fetch(&self, server: Ipv4Addr, path: &str) -> Result<Vec<u8>, TftpError> {
        self.asked.lock().unwrap().push((server, path.to_owned()));
        if self.is_blocked() || !self.tftp_servers.contains(&server) {
            return Err(TftpError::Timeout);
        }
        if let Some(hook) = self.on_fetch.lock().unwrap().as_mut() {
            hook();
        }
        if let Some((code, said)) = self.refused.get(path) {
            return Err(TftpError::NotFound { code: *code, said: format!("'{said}'") });
        }
        let served = self.served.lock().unwrap().get(path).cloned();
        let absent = TftpError::NotFound { code: 1, said: "'File not found'".into() };
        served.or_else(|| self.tftp.get(path)).ok_or(absent)
    }

    fn links(&self) -> Vec<Link> {
        let mac = self.mac.parse().ok();
        vec![Link {
            name: "enp0s2".into(),
            mac,
            carrier: Some(self.has_link()),
            state: "up".into(),
            mtu: Some(1500),
        }]
    }

    fn pci(&self) -> Vec<PciDevice> {
        self.pci.clone()
    }

    fn answers(&self, _: Ipv4Addr) -> bool {
        !self.is_blocked()
    }

    fn resolve(&self, servers: &[Ipv4Addr], name: &HostName) -> Result<Option<Ipv4Addr>, DnsError> {
        let found = self.hosts.iter().find(|(host, _)| *host == name.as_str()).map(|(_, ip)| *ip);
        self.dns(servers, found)
    }

    fn reverse(&self, servers: &[Ipv4Addr], _: Ipv4Addr) -> Result<Option<HostName>, DnsError> {
        self.dns(servers, self.host_name.map(|name| name.parse().unwrap()))
    }

    fn dhcp(&self, device: &str) -> OpenWire {
        if let Some(open) = self.open_wire {
            return open(device);
        }
        let wire = self.wire.clone().unwrap_or_else(|| panic!("no lease on {device} is known"));
        Box::new(move || Ok(Box::new(wire.clone())))
    }

    fn mount(&self, order: &MountOrder<'_>, _: &mut dyn FnMut(&str)) -> Result<MountedShares, MountFailed> {
        if let Some(hook) = self.on_mount.lock().unwrap().as_mut() {
            hook(order.purpose);
        }
        let share = format!("{}:{}", order.source.host, order.source.path);
        if self.unreachable.contains(&order.purpose) {
            let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
            return Err(MountFailed { share, attempts: vec![(Version::V3, refused)] });
        }
        let files: Arc<dyn Files> = match (&self.folder, order.purpose) {
            (_, Purpose::Tftp) => Arc::new(self.tftp.clone()),
            (None, _) => self.files.clone().unwrap_or_else(|| Arc::new(self.backup.clone())),
            (Some(folder), _) => Arc::new(DirFiles::open(folder.path()).unwrap()),
        };
        let export = Some(Export { server: order.server, path: order.source.path.clone() });
        Ok(MountedShares {
            share: Share { name: share, export, files },
            close: Box::new(|_: Duration| Ok(())),
        })
    }

    fn store(&self, order: &StoreOrder<'_>, _: Ipv4Addr, session: &str) -> Arc<dyn Transport> {
        let store = self.store.as_ref().unwrap_or_else(|| panic!("no store is there"));
        store.transport(order.token.as_str(), session)
    }

    fn quota(&self, export: &Export, of: QuotaSubject) -> Result<Option<Quota>, QuotaError> {
        assert_eq!((export.path.as_str(), export.server), ("/b", Ipv4Addr::new(10, 0, 0, 1)));
        (self.quota)(of)
    }

    fn list_disks(&self) -> ListDisks {
        let disks = self.disks.clone();
        Arc::new(move || {
            Ok(Inventory { disks: disks.lock().unwrap().iter().map(|d| d.disk.clone()).collect() })
        })
    }

    fn health(&self, disk: &Disk) -> Health {
        disk.health.clone()
    }

    fn content(&self, disk: &Disk) -> DiskContent {
        let disks = self.disks.lock().unwrap();
        let found = disks.iter().find(|d| d.disk.name == disk.name);
        // Not through the disk: its faults and its count of operations are about the steps.
        found.map_or_else(DiskContent::default, |d| {
            DiskContent::read(&d.bytes.content(), disk.size, disk.logical_block_size)
        })
    }

    fn open_source(&self, disk: &Disk) -> Result<OpenDisk, Failure> {
        let before = {
            let mut opened = self.opened.lock().unwrap();
            *opened += 1;
            *opened - 1
        };
        if let Some(hook) = self.on_open.lock().unwrap().as_mut() {
            hook(before);
        }
        if let Some(device) = self.real.lock().unwrap().clone() {
            return Ok(OpenDisk { device, found: disk.clone() });
        }
        let disks = self.disks.lock().unwrap();
        // By the name, as the kernel does: who has it now is opened.
        let found = disks.iter().find(|d| d.disk.name == disk.name);
        let found = found.ok_or_else(|| Failure::new(Kind::Unfit, "gone", ""))?;
        Ok(OpenDisk { device: found.bytes.clone(), found: found.disk.clone() })
    }

    fn open_target(&self, disk: &Disk) -> Result<OpenDisk, Failure> {
        let opened = self.open_source(disk)?;
        let disks = self.disks.lock().unwrap();
        if let Some(found) = disks.iter().find(|d| d.disk.name == disk.name)
            && let Some(hook) = self.on_first_write.lock().unwrap().take()
        {
            found.bytes.before_write(hook);
        }
        Ok(opened)
    }

    fn efi(&self) -> Option<Platform> {
        let variables = self.efi.clone()?;
        Some(Platform { bits: Some(64), variables: variables.map(|v| Arc::new(v) as Arc<dyn Variables>) })
    }

    fn host_key(&self, _: Option<&Path>) -> io::Result<HostKey> {
        Ok(HostKey::Made("SHA256:of-this-boot".into()))
    }

    fn info(&self, who: &MachineIdentity) -> (String, io::Result<Vec<u8>>) {
        (format!("IP: {}\nHostname: {}\n", who.ip, who.hostname), Ok(b"PK".to_vec()))
    }
}
