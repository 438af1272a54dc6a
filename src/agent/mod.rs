//! Performs one action from beginning to end, and ends every failure as the policy says.
//!
//! ```text
//! overlay root -> who am I -> order -> shares, armed? -> lease of the folder -> done already? -> disks settle
//!     -> plan -> steps -> status done -> disarm -> lease released -> flush -> reboot
//! ```
//!
//! A failure anywhere leaves the PXE config in place, is written to both logs as far as the share is proven ours,
//! waits, and reboots; after a bounded number of attempts, or where a success cannot be disarmed, the machine holds.

mod address;
mod arming;
mod asking;
mod beyond;
pub mod bootnet;
mod carried;
mod check;
pub mod console;
mod ending;
pub mod hostkey;
mod image_failure;
pub mod info;
mod journal;
mod lease_holder;
mod listed;
pub mod logging;
mod net_report;
mod network;
pub mod overlay;
mod policy;
mod report;
mod restore;
mod share_guard;
mod space;
mod steps;
mod watchdog;
pub mod world;

pub use journal::Journal;
pub use net_report::NetReport;
pub use network::network_report;

use crate::agent::hostkey::HostKey;
use crate::agent::info::Who;
use crate::agent::world::{Facts, MountOrder, Purpose, Share, World};
use crate::failure::{Failure, Kind};
use crate::inventory::{Inventory, Settle, settled};
use crate::job::{Action, Cmdline, Found, Job, OnError, Options, Order, Origin, RebootMode, Settings};
use crate::plan::{self, Request};
use crate::share::mount::{BACKUP_MARKER, TFTP_MARKER, check_marker};
use crate::share::{Files, exists, read_limited, write_atomic};
use crate::signature::{Trust, Verdict};
use crate::store::layout::is_free_for_host;
use crate::store::lease::Holder;
use crate::store::publish::{self, Recovered};
use crate::store::record::{Machine, RECORD};
use crate::store::status::{STATUS, STATUS_LIMIT, State, Status};
use crate::store::{Folder, cannot_write};
use address::Address;
use ending::CLOSE_LIMIT;
use image_failure::{caught, internal};
use lease_holder::Lease;
use network::Network;
use report::Reporter;
use share_guard::ShareGuard;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a rescue waits for the shares, which it only logs to.
const RESCUE_MOUNT_WAIT: Duration = Duration::from_secs(15);

/// Where the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In init-bottom, over a mounted read-only NFS root at this path.
    NfsRoot(PathBuf),
    /// In the boot mode without any root.
    AgentOnly,
}

/// What the agent does when the action is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Goes on with the boot into the full userspace.
    Continue,
    /// Hands the console to a shell, because of `rescue`.
    RescueShell,
    /// Hands the console to a shell, because of `testbox.on-error=shell`.
    ErrorShell,
    /// Ends the machine's boot this way.
    Machine(RebootMode),
}

/// Performs the action of this boot. Never panics on anything from outside; always says on the console what happened.
pub fn run(world: &dyn World, journal: &Journal, mode: &Mode) -> Ending {
    let mut engine = Engine {
        world,
        journal,
        trust: Trust::default(),
        settings: Settings::default(),
        who: None,
        network: None,
        address: None,
        guard: None,
        backup: None,
        tftp: None,
        folder: None,
        lease: None,
        status: None,
        given_up: None,
    };
    let performed = caught(&"testbox-agent", || engine.perform(mode));
    let ending = performed.unwrap_or_else(|failure| engine.fail(&failure));
    engine.close();
    ending
}

struct Engine<'a> {
    world: &'a dyn World,
    journal: &'a Journal,
    /// What the initramfs says of signatures.
    trust: Trust,
    settings: Settings,
    who: Option<Who>,
    network: Option<Network>,
    /// Renewed from the moment on at which there is something to do, but in a rescue.
    address: Option<Arc<Address>>,
    /// Watches the shares, from the first mount on.
    guard: Option<ShareGuard>,
    backup: Option<Share>,
    tftp: Option<Share>,
    /// Set once the share is proven ours: from then on failures are written there.
    folder: Option<Folder>,
    /// Held from then on, but in a rescue.
    lease: Option<Arc<Lease>>,
    status: Option<Status>,
    /// How the watchdog ended a run whose disk hung.
    given_up: Option<Ending>,
}

impl Engine<'_> {
    fn perform(&mut self, mode: &Mode) -> Result<Ending, Failure> {
        let facts = self.world.facts();
        let kernel = Cmdline::parse(&facts.cmdline);
        self.trust = facts.trust.clone();
        self.obey(&kernel.options, &Verdict::Unsigned);
        if let Mode::NfsRoot(root) = mode {
            self.overlay_root(root)?;
        }
        let mut network = Network::read(self.world, &facts, &kernel)?;
        self.network = Some(network.clone());
        self.journal.set_address(network.address);
        network.wait_for_neighbours(self.world, self.journal);

        let Some(order) = self.order(&network, &kernel)? else {
            return match mode {
                // It would hand the machine to whatever the network has for a root.
                Mode::NfsRoot(_) if self.trust.required => Err(Failure::new(
                    Kind::JobSignature,
                    "no action is given, and this initramfs goes on into the full system only for a signed rescue",
                    "arm the machine with testboxctl arm --sign-key, or let it boot from its disk.",
                )),
                Mode::NfsRoot(_) => {
                    self.journal.info("no action is given: going on into the full system");
                    Ok(Ending::Continue)
                }
                Mode::AgentOnly => Err(Failure::new(
                    Kind::NoAction,
                    "no action is given, neither on the kernel command line nor by the boot server",
                    "arm the machine with testboxctl arm, or let it boot from its disk.",
                )),
            };
        };
        let signed = order.signed(network.address, &self.trust);
        self.obey(&order.options, &signed);
        network.obey(&order);
        self.network = Some(network.clone());
        if matches!(order.origin, Origin::Tftp(_))
            && (order.words.options.union.is_some() || order.words.options.net_wait.is_some())
        {
            self.journal.warn(
                "testbox.union and testbox.net-wait come too late in a file that is fetched by TFTP: ignored",
            );
        }
        let who = network.who(self.world, self.journal);
        self.who = Some(who.clone());
        self.introduce(&order, &who, &signed);
        let unsigned = self.trust.required.then(|| order.unsigned(&signed)).flatten();
        if order.words.action == Some(Action::Rescue) && unsigned.is_none() {
            return Ok(self.rescue(mode, &network, &order, &who));
        }
        self.silence_keyboard();
        self.address = Address::keep(self.world, self.journal, network.lease.as_ref()).map(Arc::new);
        let (armed, folder) = self.connect(&network, &order, &who, self.settings.mount_wait)?;
        self.take_lease(&folder, &order, &who, &facts)?;
        self.attach(folder, &order, &who);
        self.count_attempt(&order)?;
        let job = order.job()?;
        arming::check(&armed)?;
        if let Some(unsigned) = unsigned {
            return Err(unsigned);
        }
        if let Some(ending) = self.finish_earlier_attempt(&job, &network, &armed)? {
            return Ok(ending);
        }
        let notes = self.carry_out(&job, &network, &who)?;
        self.succeed(&job, &network, &armed, notes)
    }

    /// Nobody leans on a keyboard, or sends a break on the serial line, and reboots a machine that writes its disk: the
    /// kernel's default for Ctrl-Alt-Del is an immediate reboot, and SysRq can reboot, kill and remount (kernel document
    /// admin-guide/sysctl/kernel.rst). The boot scripts' own `/proc/sysrq-trigger` works all the same.
    fn silence_keyboard(&self) {
        for name in ["kernel/sysrq", "kernel/ctrl-alt-del"] {
            if let Err(e) = self.world.system().set_sysctl(name, "0") {
                self.journal.warn(&format!("cannot set {name} to 0, so the console's keys work: {e}"));
            }
        }
    }

    /// Who the machine is and what it is about to do, for whoever stands before it.
    fn introduce(&self, order: &Order, who: &Who, signed: &Verdict) {
        let action = order.words.action.map_or("unknown action", Action::word);
        let job = order.words.job.as_ref().map_or_else(|| "no job id".into(), |id| format!("job {id}"));
        self.journal.banner(&[
            format!("testbox {}  {}  ({})", who.ip, who.hostname, who.hexip),
            format!("about to do: {action}  ({job})"),
        ]);
        self.trust.problems.iter().for_each(|problem| self.journal.warn(problem));
        match signed {
            Verdict::By(who) => self.journal.info(&format!("the job is signed by {who}")),
            Verdict::Not(why) => self.journal.warn(&format!("the job's signature proves nothing: {why}")),
            Verdict::Unsigned => {}
        }
    }

    /// Takes over the options of an order. A shell has the disks: where an order must be signed to touch them, an
    /// unsigned one gets no shell by failing either.
    fn obey(&mut self, options: &Options, signed: &Verdict) {
        self.settings = options.settings();
        if self.trust.required && signed.why_not().is_some() && self.settings.on_error == OnError::Shell {
            self.settings.on_error = OnError::Hold;
        }
    }

    fn overlay_root(&self, root: &std::path::Path) -> Result<(), Failure> {
        let asked = self.settings.union;
        let area = self.world.run_dir().join("root");
        let union = overlay::mount_root(&*self.world.system(), root, &area, asked).map_err(|e| {
            Failure::new(Kind::OverlayRoot, e.to_string(), "check that the initramfs has the module overlay.")
        })?;
        if union != asked {
            self.journal
                .warn(&format!("{asked} was asked for, but this kernel does not have it: {union} is used"));
        }
        self.journal.info(&format!("{} is writable: {union} over the read-only NFS root", root.display()));
        Ok(())
    }

    /// The words of this boot: the kernel's, else those of a file on the boot server.
    fn order(&self, network: &Network, kernel: &Cmdline) -> Result<Option<Order>, Failure> {
        if let Some(order) = Order::from_kernel(kernel) {
            return Ok(Some(order));
        }
        asking::ask_boot_servers(self.world, self.journal, network, kernel)
    }

    /// A rescue depends on nothing: what cannot be logged is said on the console, and the shell comes all the same.
    /// So it takes no lease: it must not wait for one, it writes nothing but lines of logs, and the agent that would
    /// have to keep it is gone when the shell comes.
    fn rescue(&mut self, mode: &Mode, network: &Network, order: &Order, who: &Who) -> Ending {
        for problem in &order.words.problems {
            self.journal.warn(problem);
        }
        match self.connect(network, order, who, RESCUE_MOUNT_WAIT) {
            Ok((_, folder)) => {
                self.attach(folder, order, who);
                self.journal.global("rescue: the machine is left to its admin");
            }
            Err(failure) => {
                self.journal.warn(&format!("rescue continues without a log on the share: {failure}"))
            }
        }
        let root = match mode {
            Mode::NfsRoot(root) => Some(root.as_path()),
            Mode::AgentOnly => None,
        };
        // Whoever logs in compares it with what the machine's log says.
        let ssh = match self.world.host_key(root) {
            Ok(HostKey::Made(fingerprint)) => format!("ssh host key of this boot: {fingerprint}"),
            Ok(HostKey::None(why)) => format!("ssh: {why}"),
            Err(e) => format!("ssh: no host key could be made: {e}"),
        };
        self.journal.global(&ssh);
        let end = "disarm it with 'testboxctl disarm', or remove its PXE config, and reboot it when done";
        self.journal.banner(&[format!("RESCUE: this machine stays armed; {end}."), ssh]);
        match mode {
            Mode::NfsRoot(_) => Ending::Continue,
            Mode::AgentOnly => Ending::RescueShell,
        }
    }

    /// Mounts the TFTP share and the backup share, and proves both ours: the markers are there, and the file that
    /// armed this machine is there under one of its own names. Only then is anything written: the machine's folder,
    /// and what names the machine there.
    fn connect(
        &mut self,
        network: &Network,
        order: &Order,
        who: &Who,
        wait: Duration,
    ) -> Result<(Found, Folder), Failure> {
        let tftp = self.mount(network, order, Purpose::Tftp, wait)?;
        check_marker(&*tftp.files, &tftp.name, TFTP_MARKER).map_err(|e| not_the_share(&e.to_string()))?;
        let armed = arming::find(&tftp, network, order)?;
        self.tftp = Some(tftp);
        let backup = self.mount(network, order, Purpose::Backup, wait)?;
        check_marker(&*backup.files, &backup.name, BACKUP_MARKER)
            .map_err(|e| not_the_share(&e.to_string()))?;
        let folder = Folder::new(backup.files.clone(), who.ip.to_string());
        let made = || -> std::io::Result<()> {
            backup.files.make_dir(&folder.path(""))?;
            // A host name comes from whoever answers DNS.
            let host = Some(&who.hostname).filter(|name| is_free_for_host(name));
            for aid in host.into_iter().chain([&who.hexip]) {
                make_aid(&*backup.files, &folder.path(aid))?;
            }
            backup.files.sync_dir(&folder.path(""))?;
            backup.files.sync_dir("")
        };
        made().map_err(|e| cannot_write(&format!("make the folder {}", who.ip), &e))?;
        self.backup = Some(backup);
        Ok((armed, folder))
    }

    /// Every action that writes into the folder takes its lease, `refresh-info` and `verify` too: they write
    /// `status.json`, and an agent counts on it that nobody else does.
    fn take_lease(
        &mut self,
        folder: &Folder,
        order: &Order,
        who: &Who,
        facts: &Facts,
    ) -> Result<(), Failure> {
        let session = getrandom::u64().map_err(|e| internal(format!("no random numbers: {e}")))?;
        let mut macs: Vec<String> =
            facts.macs.iter().filter(|(_, mac)| mac.0 != [0; 6]).map(|(_, mac)| mac.to_string()).collect();
        macs.sort();
        let me = Holder {
            session: format!("{session:016x}"),
            uuid: facts.uuid.filter(|uuid| uuid.is_set()).map(|uuid| uuid.to_string()),
            macs,
            hostname: who.hostname.clone(),
            action: order.words.action.map_or("unknown", Action::word).into(),
            job: order.words.job.as_ref().map(|id| id.as_str().to_owned()),
        };
        let system = self.world.system();
        let lease = Lease::take(&*system, self.journal, folder, &me, self.world.tick())?;
        self.lease = Some(Arc::new(lease));
        Ok(())
    }

    /// From now on logs and status go to the folder.
    fn attach(&mut self, folder: Folder, order: &Order, who: &Who) {
        let action = order.words.action.map_or("an unknown action", Action::word);
        let session = format!(
            "testbox {}, {} ({}), action {action}",
            env!("CARGO_PKG_VERSION"),
            who.hostname,
            who.hexip
        );
        self.journal.attach(folder.files.clone(), who.ip, &session);
        self.journal.global(&format!("started: {} ({}), action {action}", who.hostname, who.hexip));
        self.folder = Some(folder);
    }

    fn mount(
        &mut self,
        network: &Network,
        order: &Order,
        purpose: Purpose,
        limit: Duration,
    ) -> Result<Share, Failure> {
        let source = network.source(order, purpose)?;
        let server = network.resolve(self.world, &source.host)?;
        let request = MountOrder { source: &source, server, client: network.address, purpose, limit };
        let share = self.world.mount(&request, &mut |line| self.journal.info(line)).map_err(|e| {
            network.note(&format!("{server} by NFS"), &source.path, &e.to_string());
            let advice =
                "check the server and its exports. The machine stays armed, and tries again after a reboot.";
            Failure::new(Kind::ShareUnreachable, e.to_string(), advice)
        })?;
        let (world, journal, settings) = (self.world, self.journal, &self.settings);
        let start = || ShareGuard::start(world.system(), journal, settings, world.tick());
        let guard = self.guard.get_or_insert_with(start);
        Ok(Share { files: guard.watch(&share.name, share.files), ..share })
    }

    /// Counts this attempt. The count is on the share before anything else happens: no failure, and no crash, can
    /// loop for ever. The status of a job that is done stays as it is.
    fn count_attempt(&mut self, order: &Order) -> Result<(), Failure> {
        let folder = self.folder()?.clone();
        let id = order.words.job.as_ref().map(|id| id.as_str().to_owned());
        let action = order.words.action.map_or("unknown", Action::word);
        let earlier = match read_limited(&*folder.files, &folder.path(STATUS), STATUS_LIMIT) {
            Ok(bytes) => Status::parse(&bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => {
                self.journal.warn(&format!("cannot read {}: {e}", folder.path(STATUS)));
                None
            }
        };
        let same = earlier.filter(|s| s.is_of(id.as_deref(), action));
        // Without an id nobody can tell the same job from the next one: then it is always a new one.
        if let Some(done) = same.as_ref().filter(|s| s.state == State::Done && id.is_some()) {
            self.status = Some(done.clone());
            return Ok(());
        }
        let attempt = same.filter(|s| s.state != State::Done).map_or(1, |s| s.attempt.saturating_add(1));
        let now = self.world.system().now();
        let who = self.who.as_ref();
        let status = Status {
            state: State::Running,
            action: action.into(),
            job: id,
            ip: who.map_or_else(String::new, |w| w.ip.to_string()),
            hostname: who.map_or_else(String::new, |w| w.hostname.clone()),
            step: "starting".into(),
            disk: None,
            bytes_done: 0,
            bytes_total: 0,
            rate: 0,
            eta: None,
            attempt,
            error: None,
            code: None,
            notes: Vec::new(),
            started: now,
            updated: now,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        write_atomic(&*folder.files, &folder.path(STATUS), &status.to_bytes())
            .map_err(|e| cannot_write(&format!("write {}", folder.path(STATUS)), &e))?;
        self.status = Some(status);
        if attempt > 1 {
            self.journal.info(&format!("attempt {attempt} of {}", self.settings.attempts));
        }
        Ok(())
    }

    /// What an earlier boot with the same job has left: a set that was cut while it was published is completed or
    /// rolled back, and a job that is done is only disarmed.
    fn finish_earlier_attempt(
        &mut self,
        job: &Job,
        network: &Network,
        armed: &Found,
    ) -> Result<Option<Ending>, Failure> {
        let folder = self.folder()?.clone();
        let lease = self.lease.clone().ok_or_else(|| internal("no lease"))?;
        let id = job.id.as_ref().map(|id| id.as_str().to_owned());
        // Only the action that made a set removes older ones.
        let maker = id.as_deref().filter(|_| job.action.is_backup());
        match publish::recover(&folder, maker, self.settings.keep, &|| lease.check())? {
            Recovered::Nothing => {}
            Recovered::Completed(record) => {
                self.journal
                    .global(&format!("completed set {}, whose publishing was cut", record.generation));
            }
            Recovered::RolledBack(why) => {
                self.journal.warn(&format!("rolled back a set whose publishing was cut: {why}"));
            }
        }
        let status = self.status.as_ref().ok_or_else(|| internal("no status"))?;
        let (attempt, notes, is_done) = (status.attempt, status.notes.clone(), status.state == State::Done);
        let is_published =
            id.is_some() && job.action.is_backup() && folder.record(RECORD)?.is_some_and(|r| r.job == id);
        if is_done || is_published {
            self.journal.global(&format!("{}: this job is done already; disarming", job.action));
            return self.succeed(job, network, armed, notes).map(Some);
        }
        if attempt > self.settings.attempts {
            let what = format!("{} was tried {} times without success", job.action, self.settings.attempts);
            let advice = "read maintenance.log for the reason; arm the machine again when it is mended.";
            return Err(Failure::new(Kind::TooManyAttempts, what, advice));
        }
        Ok(None)
    }

    fn carry_out(&mut self, job: &Job, network: &Network, who: &Who) -> Result<Vec<String>, Failure> {
        let folder = self.folder()?.clone();
        let inventory =
            if job.action == Action::RefreshInfo { Inventory::default() } else { self.inventory()? };
        let state = folder.state(&self.trust)?;
        let request = Request {
            action: job.action,
            disks: job.options.disks.clone(),
            map: job.options.map.clone(),
            used: self.settings.used,
            bad_sectors: self.settings.bad_sectors,
            degraded: self.settings.degraded,
            set: job.options.set,
            signed_for: self.trust.required.then_some(who.ip),
            failing_disk: self.settings.failing_disk,
        };
        let plan = plan::plan(&request, &inventory, &state)?;
        plan.findings.iter().for_each(|finding| self.journal.warn(finding));
        self.journal.lines(&plan.to_string());
        let lease = self.lease.clone().ok_or_else(|| internal("no lease"))?;
        if job.action.is_backup() {
            // The agent that was taken over may have its images open, and come back: they are made under new files.
            let gone_on_with = if lease.is_from_another { Vec::new() } else { steps::imaged(&plan) };
            // Settling has taken a while.
            lease.check()?;
            publish::sweep(&folder, &gone_on_with)?;
        }
        let images = match job.action {
            // Images are read through a mount that cannot write them.
            Action::Restore | Action::Verify => {
                let order = Order {
                    origin: Origin::KernelCommandLine,
                    words: Cmdline::default(),
                    options: job.options.clone(),
                };
                Some(self.mount(network, &order, Purpose::Images, self.settings.mount_wait)?)
            }
            _ => None,
        };
        let status = self.status.clone().ok_or_else(|| internal("no status"))?;
        let machine =
            Machine { ip: who.ip.to_string(), hexip: who.hexip.clone(), hostname: who.hostname.clone() };
        let export = self.backup.as_ref().ok_or_else(|| internal("no backup share"))?.export.clone();
        let run = steps::Run {
            world: self.world,
            disks: &inventory.disks,
            journal: self.journal,
            folder: &folder,
            export: &export,
            images: images
                .as_ref()
                .map_or_else(|| folder.clone(), |share| Folder::new(share.files.clone(), folder.path(""))),
            who,
            machine,
            job_id: status.job.clone(),
            keep: self.settings.keep,
            delta: self.settings.delta,
            free: self.settings.free,
            degraded: self.settings.degraded,
            may_go_on: status.attempt < self.settings.attempts,
            reporter: Reporter::new(
                self.world,
                self.journal,
                &folder,
                status,
                &self.settings,
                lease,
                self.address.clone(),
            ),
        };
        let result = run.all(&plan);
        let (status, given_up) = run.reporter.end();
        (self.status, self.given_up) = (Some(status), given_up);
        if let Some(share) = images
            && let Err(e) = (share.close)(CLOSE_LIMIT)
        {
            self.journal.warn(&format!("cannot unmount the images: {e}"));
        }
        result
    }

    /// The disk list once it has stopped changing: a driver that is late must not make a disk look gone.
    fn inventory(&self) -> Result<Inventory, Failure> {
        let system = self.world.system();
        self.journal.info(&format!("waiting for the disks to settle ({} s)", self.settings.settle.as_secs()));
        let settle = Settle { quiet: self.settings.settle, ..Settle::default() };
        let found = settled(settle, || self.world.scan(), || system.monotonic(), |time| system.sleep(time));
        let mut inventory = found.map_err(|e| {
            Failure::new(
                Kind::Inventory,
                e.to_string(),
                "look for a disk, cable or controller that comes and goes.",
            )
        })?;
        for disk in &mut inventory.disks {
            disk.health = self.world.health(disk);
            if !disk.health.locked {
                disk.content = self.world.content(disk);
            }
            self.journal.info(&format!("disk {disk}"));
        }
        Ok(inventory)
    }

    fn folder(&self) -> Result<&Folder, Failure> {
        self.folder.as_ref().ok_or_else(|| internal("no share is attached"))
    }
}

/// Makes an empty file whose name tells people something. What is there already, of whatever kind, stays as it is.
fn make_aid(files: &dyn Files, path: &str) -> std::io::Result<()> {
    match exists(files, path) {
        Ok(true) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => return Ok(()),
        Ok(false) => {}
        Err(e) => return Err(e),
    }
    match files.create(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        created => created?.sync(),
    }
}

fn not_the_share(why: &str) -> Failure {
    Failure::new(
        Kind::NotTheShare,
        why,
        "check testbox.backup= and testbox.tftp=; 'testboxctl init' lays the shares out. Nothing was written there.",
    )
}
