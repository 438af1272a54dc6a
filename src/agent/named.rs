//! The machine knows its job and its name: it proves the shares, or hands itself to its admin.

use super::address::Address;
use super::context::Context;
use super::disk_watch::DiskWatch;
use super::network::AgentNetwork;
use super::proven::{BootFiles, ProvenJob};
use super::shares::Shares;
use super::times::BootStage;
use super::{CLOSE_LIMIT, Ending, Mode, arming, stored};
use crate::agent::hostkey::HostKey;
use crate::agent::info::MachineIdentity;
use crate::agent::world::{Facts, MountOrder, Purpose, Share};
use crate::failure::{Failure, Kind};
use crate::job::{Action, Order};
use crate::share::mount::check_marker;
use crate::signature::Verdict;
use crate::store::layout::{BACKUP_MARKER, TFTP_MARKER};
use crate::store::status::Status;
use crate::store::{Folder, cannot_write};
use crate::sys::random_id;
use std::sync::Arc;
use std::time::Duration;

/// How long a rescue waits for the shares, which it only logs to.
const RESCUE_MOUNT_WAIT: Duration = Duration::from_secs(15);

/// Who the machine is and what it is to do are known, and the options of the job are in force.
pub struct Named<'a> {
    pub context: Context<'a>,
    pub facts: Facts,
    pub network: AgentNetwork,
    pub order: Order,
    pub who: MachineIdentity,
    /// Why this job needs a signature that it does not have; said only once it can be logged.
    pub unsigned: Option<Failure>,
}

impl<'a> Named<'a> {
    /// True where the machine is to be handed to its admin.
    pub fn is_rescue(&self) -> bool {
        // One that expires is refused, and by what is said of every other wrong order.
        self.order.words.action == Some(Action::Rescue)
            && self.unsigned.is_none()
            && self.order.options.expires.is_none()
    }

    /// Proves the shares for an action that works on its own; the disks are looked at meanwhile.
    ///
    /// # Errors
    /// [`Kind::ShareUnreachable`], [`Kind::NotTheShare`], [`Kind::NotArmed`], and those of the shares.
    pub fn begin(
        &self,
        shares: &mut Shares<'_>,
    ) -> Result<(Option<Arc<Address>>, ProvenJob, DiskWatch), Failure> {
        self.disable_reboot_keys();
        let Context { world, journal, ref settings, .. } = self.context;
        let disks = DiskWatch::start(world);
        let address = Address::keep(world, journal, self.network.lease.as_ref()).map(Arc::new);
        Ok((address, self.connect(shares, settings.mount_wait)?, disks))
    }

    /// Who the machine is and what it is about to do, for whoever stands before it.
    pub fn introduce(&self, signed: &Verdict) {
        let Named { order, who, context: Context { journal, trust, .. }, .. } = self;
        let job = order.words.job.as_ref().map_or_else(|| "no job id".into(), |id| format!("job {id}"));
        let action = order.words.action.map_or("unknown action", Action::as_str);
        journal.banner(&[
            format!("testbox {}  {}  ({})", who.ip, who.hostname, who.hexip),
            format!("about to do: {action}  ({job})"),
        ]);
        trust.problems.iter().for_each(|problem| journal.warn(problem));
        match signed {
            Verdict::By(who) => journal.info(&format!("the job is signed by {who}")),
            Verdict::Not(why) => journal.warn(&format!("the job's signature proves nothing: {why}")),
            Verdict::Unsigned => {}
        }
    }

    /// Nobody leans on a keyboard, or sends a break on the serial line, and reboots a machine that writes its disk: the
    /// kernel's default for Ctrl-Alt-Del is an immediate reboot, and SysRq can reboot, kill and remount (kernel document
    /// admin-guide/sysctl/kernel.rst). The boot scripts' own `/proc/sysrq-trigger` works all the same.
    fn disable_reboot_keys(&self) {
        for name in ["kernel/sysrq", "kernel/ctrl-alt-del"] {
            if let Err(e) = self.context.world.system().set_sysctl(name, "0") {
                self.context
                    .journal
                    .warn(&format!("cannot set {name} to 0, so the console's keys work: {e}"));
            }
        }
    }

    /// An NFSv4 server tells its clients apart by the host name that the kernel had when it mounted (kernel document
    /// filesystems/nfs/client-identifier.rst). Without a name, or with one that DHCP gives to all, all machines would be one
    /// client, and each would throw out what the others have open. So would two virtual machines that have one address
    /// behind their NATs, and one MAC, before the lease of the folder tells them apart: hence the random number. The price: after
    /// a power cut the server does not know this client again, and keeps what it had open until its lease of 4.x ends.
    fn set_host_name(&self) {
        // Without random numbers it takes no lease either.
        let own = format!("{}-{:08x}", self.who.hexip, random_id().unwrap_or_default() & 0xffff_ffff);
        // The kernel takes 64 bytes.
        let name: String = self.who.hostname.chars().filter(char::is_ascii).take(63 - own.len()).collect();
        if let Err(e) = self.context.world.system().set_host_name(&format!("{name}-{own}")) {
            self.context.journal.warn(&format!("cannot set the host name, which NFSv4 needs: {e}"));
        }
    }

    /// A rescue depends on nothing: what cannot be logged is said on the console, and the shell comes all the same.
    /// So it takes no lease: it must not wait for one, it writes nothing but lines of logs, and the agent that would
    /// have to keep it is gone when the shell comes.
    pub fn rescue(&self, shares: &mut Shares<'_>) -> Ending {
        let journal = self.context.journal;
        for problem in &self.order.words.problems {
            journal.warn(problem);
        }
        if self.context.settings.store.is_some() {
            journal.warn("rescue continues without a log: a store takes lines only in a session, which nobody would end");
            return self.hand_over();
        }
        match self.connect(shares, RESCUE_MOUNT_WAIT) {
            Ok(ProvenJob { folder, .. }) => self.logged(&folder, || {
                journal.global("rescue: the machine is left to its admin");
                self.hand_over()
            }),
            Err(failure) => {
                journal.warn(&format!("rescue continues without a log on the share: {failure}"));
                self.hand_over()
            }
        }
    }

    fn hand_over(&self) -> Ending {
        let Context { world, journal, mode, .. } = self.context;
        let root = match mode {
            Mode::NfsRoot(root) => Some(root.as_path()),
            Mode::AgentOnly => None,
        };
        // Whoever logs in compares it with what the machine's log says.
        let ssh = match world.host_key(root) {
            Ok(HostKey::Made(fingerprint)) => format!("ssh host key of this boot: {fingerprint}"),
            Ok(HostKey::None(why)) => format!("ssh: {why}"),
            Err(e) => format!("ssh: no host key could be made: {e}"),
        };
        journal.global(&ssh);
        let end = "disarm it with 'testboxctl disarm', or remove its PXE config, and reboot it when done";
        journal.banner(&[format!("RESCUE: this machine stays armed; {end}."), ssh]);
        match mode {
            Mode::NfsRoot(_) => Ending::Continue,
            Mode::AgentOnly => Ending::RescueShell,
        }
    }

    /// Mounts the TFTP share and the backup share, and proves both ours: the markers are there, and the file that
    /// armed this machine is there under one of its own names. Only then is anything written: the machine's folder,
    /// and what names the machine there.
    fn connect(&self, shares: &mut Shares<'_>, wait: Duration) -> Result<ProvenJob, Failure> {
        self.context.times.enter(BootStage::Shares);
        if let Some(order) = self.context.settings.store() {
            if self.context.settings.backup.is_some() {
                self.context.journal.warn("testbox.backup= counts for nothing: the store keeps the backups");
            }
            return stored::connect(
                &self.context,
                &self.network,
                &self.order,
                shares,
                &order.map_err(bad_words)?,
                wait,
            );
        }
        self.set_host_name();
        let tftp = self.mount(shares, Purpose::Tftp, wait)?;
        check_marker(&*tftp.files, &tftp.name, TFTP_MARKER).map_err(|e| not_the_share(&e.to_string()))?;
        let armed = arming::find(&tftp, &self.network, &self.order)?;
        let backup = self.mount(shares, Purpose::Backup, wait)?;
        let proven = check_marker(&*backup.files, &backup.name, BACKUP_MARKER)
            .map_err(|e| not_the_share(&e.to_string()));
        proven?;
        let folder = Folder::new(backup.files.clone(), self.who.ip.to_string());
        let made = folder.make(&self.who.hostname, &self.who.hexip);
        made.map_err(|e| cannot_write(&format!("make the folder {}", self.who.ip), &e))?;
        Ok(ProvenJob { boot: BootFiles::Mounted(tftp), backup, armed, folder })
    }

    /// Mounts a share for this purpose, retrying for as long as `limit` says.
    ///
    /// # Errors
    /// [`Kind::ShareUnreachable`], [`Kind::Network`].
    pub fn mount(
        &self,
        shares: &mut Shares<'_>,
        purpose: Purpose,
        limit: Duration,
    ) -> Result<Share, Failure> {
        let network = &self.network;
        let source = network.source(purpose)?;
        let server = network.resolve(self.context.world, &source.host)?;
        let order = MountOrder { source: &source, server, client: network.address, purpose, limit };
        shares.mount(&order).map_err(|e| {
            network.note(&format!("{server} by NFS"), &source.path, &e.to_string());
            let advice =
                "check the server and its exports. The machine stays armed, and tries again after a reboot.";
            Failure::new(Kind::ShareUnreachable, e.to_string(), advice)
        })
    }

    /// Does this work while all lines go to the folder, too.
    pub fn logged(&self, folder: &Folder, work: impl FnOnce() -> Ending) -> Ending {
        let Named { context: Context { journal, .. }, order, who, .. } = self;
        let action = order.words.action.map_or("an unknown action", Action::as_str);
        let (version, host) = (env!("CARGO_PKG_VERSION"), format!("{} ({})", who.hostname, who.hexip));
        journal.attach(folder.files.clone(), who.ip, &format!("testbox {version}, {host}, action {action}"));
        journal.global(&format!("started: {host}, action {action}"));
        let ending = work();
        if !journal.detach(CLOSE_LIMIT) {
            journal.warn("the last lines of the log did not reach the share");
        }
        ending
    }

    /// Ends the run with this failure.
    pub fn fail(
        &self,
        shares: &Shares<'_>,
        failure: &Failure,
        status: Option<&mut Status>,
        folder: Option<&Folder>,
    ) -> Ending {
        // The guard of the shares has said it all; it waits here where it is not done yet.
        if let Some(ending) = shares.given_up() {
            return ending;
        }
        self.context.fail(failure, || self.network.report(self.context.world), status, folder)
    }
}

fn not_the_share(why: &str) -> Failure {
    Failure::new(
        Kind::NotTheShare,
        why,
        "check testbox.backup= and testbox.tftp=; 'testboxctl init' lays the shares out. Nothing was written there.",
    )
}

fn bad_words(why: String) -> Failure {
    Failure::new(Kind::BadWords, why, "arm the machine again with testboxctl arm. No disk was touched.")
}
