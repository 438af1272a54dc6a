//! Who this machine is on the network, who its servers are, and waiting for them.

use super::Journal;
use super::net_report::NetReport;
use crate::agent::info::MachineIdentity;
use crate::agent::world::{Facts, Purpose, World};
use crate::failure::{Failure, Kind};
use crate::inventory::pci::{self, PciClass};
use crate::job::pxe::{HexIp, MachineIds};
use crate::job::{Action, Cmdline, Options};
use crate::net::dhcp::DhcpLease;
use crate::net::dns::DnsError;
use crate::net::netconf::{IpWord, NetConf};
use crate::net::tftp::folders;
use crate::store::layout::{BACKUP_EXPORT, TFTP_EXPORT};
use crate::types::{HostName, NfsSource};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a link that is not there yet is no news: most take one to three seconds.
const LINK_TIME: Duration = Duration::from_secs(5);
/// Between two looks at a link.
const LINK_LOOK: Duration = Duration::from_millis(50);
/// How long silent DNS servers are asked for a name that only labels the folder, once the network is known to work.
const LABEL_WAIT: Duration = Duration::from_secs(30);
/// How long a rescue waits for the network.
const RESCUE_WAIT: Duration = Duration::from_secs(15);
/// Answers that are remembered for a report.
const ASKED_MAX: usize = 16;

/// A server that may have this machine's files, and who says so.
pub type BootServer = (Ipv4Addr, &'static str);

/// The machine's place in the network.
#[derive(Clone)]
pub struct AgentNetwork {
    /// Own address.
    pub address: Ipv4Addr,
    /// What PXELINUX knows the machine by.
    pub ids: MachineIds,
    /// Folders below the TFTP root that DHCP's boot file name suggests, each with its final `/`; the root last.
    pub folders: Vec<String>,
    conf: NetConf,
    /// The name that DHCP gave. What `ip=` says is no name: `arm` writes the same one for all machines.
    dhcp_name: Option<HostName>,
    /// Who names the boot server of the configuration.
    boot_server_by: &'static str,
    /// The lease of the address, where DHCP gave it.
    pub lease: Option<DhcpLease>,
    nfs_server: Option<HostName>,
    options: Options,
    /// When `testbox.net-wait` is over, on the monotonic clock.
    until: Duration,
    gateway_answers: Arc<Mutex<Option<bool>>>,
    asked: Arc<Mutex<Vec<(String, usize, String)>>>,
}

impl AgentNetwork {
    /// Puts together what ipconfig or dhcpcd has left and what the `ip=` word says. Of several interfaces with an
    /// address the one that the machine booted from counts.
    pub fn read(world: &dyn World, facts: &Facts, kernel: &Cmdline) -> Result<AgentNetwork, Failure> {
        let word = kernel.ip.as_deref().and_then(|ip| ip.parse::<IpWord>().ok()).map(|ip| ip.netconf());
        let word = word.unwrap_or_default();
        let of_bootif = facts.macs.iter().find(|(_, mac)| Some(*mac) == kernel.bootif).map(|(nic, _)| nic);
        let mut confs: Vec<NetConf> = facts.net_conf.iter().map(|text| NetConf::parse(text)).collect();
        confs.retain(|conf| conf.address.is_some());
        confs.sort_by_key(|conf| conf.device.as_ref() != of_bootif);
        let conf = confs.into_iter().next().unwrap_or_default();
        let dhcp_name = conf.hostname.clone().filter(|name| word.hostname.as_ref() != Some(name));
        // ipconfig writes down what `ip=` says, too.
        let of_word = word.boot_server;
        let conf = conf.or(word);
        let boot_server_by = if of_word == conf.boot_server { "ip=" } else { "DHCP" };
        let Some(address) = conf.address else {
            let blame = pci::blame(&world.pci(), PciClass::Network);
            let driver = if blame.is_empty() { "" } else { pci::NO_DRIVER };
            return Err(Failure::new(
                Kind::Network,
                format!("this machine has no IPv4 address{blame}"),
                format!("check cable, switch and DHCP server, and the ip= word. {driver}").trim_end(),
            ));
        };
        let of_device = |name: &String| facts.macs.iter().find(|(nic, _)| nic == name).map(|(_, mac)| *mac);
        let lease = conf.lease(conf.device.as_ref().and_then(of_device));
        let mac = kernel.bootif.or_else(|| conf.device.as_ref().and_then(of_device));
        let nfs_server =
            kernel.nfsroot.as_deref().and_then(|r| r.split_once(':')).and_then(|(h, _)| h.parse().ok());
        let wait = kernel.options.settings().net_wait;
        // A rescue is for machines whose network may be what is broken.
        let wait = if kernel.action == Some(Action::Rescue) { wait.min(RESCUE_WAIT) } else { wait };
        Ok(AgentNetwork {
            address,
            ids: MachineIds { uuid: facts.uuid, mac, ip: address },
            folders: folders(conf.filename.as_deref()),
            dhcp_name,
            boot_server_by,
            lease,
            nfs_server,
            options: kernel.options.clone(),
            until: world.system().monotonic().saturating_add(wait),
            gateway_answers: Arc::default(),
            asked: Arc::default(),
            conf,
        })
    }

    /// Takes over what the job says of the network, which may come from a file on the boot server.
    pub fn apply_options(&mut self, options: &Options) {
        self.options = options.clone();
    }

    /// True once `testbox.net-wait` is over.
    pub fn is_over(&self, world: &dyn World) -> bool {
        world.system().monotonic() >= self.until
    }

    /// Waits a little before the next round of questions.
    pub fn pause(world: &dyn World) {
        world.system().sleep(PAUSE);
    }

    /// Waits, while there is no link, for so long at most: whoever is asked before is asked in vain, and again only a second
    /// later. False where there was one.
    fn wait_for_link(&self, world: &dyn World, limit: Duration) -> bool {
        let has_no_link = || {
            let mut links = world.links().into_iter();
            links
                .find(|link| Some(&link.name) == self.conf.device.as_ref())
                .is_some_and(|link| !link.has_link())
        };
        let until = world.system().monotonic().saturating_add(limit).min(self.until);
        let mut has_waited = false;
        while has_no_link() && world.system().monotonic() < until {
            world.system().sleep(LINK_LOOK);
            has_waited = true;
        }
        has_waited
    }

    fn dns(&self) -> &[Ipv4Addr] {
        if self.options.dns.is_empty() { &self.conf.dns } else { &self.options.dns }
    }

    /// Remembers a question and its answer for the report.
    pub fn note(&self, whom: &str, what: &str, came: &str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = format!("{whom}: {came}");
        // The same answer to many questions is one line: a search asks for dozens of files.
        let times = match asked.iter().position(|(_, _, before)| *before == answer) {
            Some(at) => asked.remove(at).1 + 1,
            None => 1,
        };
        asked.push((what.to_owned(), times, answer));
        if asked.len() > ASKED_MAX {
            asked.remove(0);
        }
    }

    /// What a person must know where the network fails.
    pub fn report(&self, world: &dyn World) -> NetReport {
        let mut links = world.links();
        links.sort_by_key(|link| Some(&link.name) != self.conf.device.as_ref());
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |(what, times, answer): &(String, usize, String)| match times {
            1 => format!("{answer} ({what})"),
            n => format!("{answer} ({n} questions, the last {what})"),
        };
        let mut conf = self.conf.clone();
        conf.dns = self.dns().to_vec();
        NetReport {
            links,
            conf,
            gateway_answers: *self.gateway_answers.lock().unwrap_or_else(PoisonError::into_inner),
            servers: self.known_servers(),
            asked: asked.iter().map(line).collect(),
            ..NetReport::default()
        }
    }

    /// Waits until somebody on this network answers: the gateway, or a server that is reached without it. A switch
    /// port with spanning tree shows a link at once and forwards 30 s later. Whatever comes, the boot goes on after
    /// `testbox.net-wait`, and each question waits for its own answer.
    pub fn wait_for_neighbours(&self, world: &dyn World, journal: &Journal) {
        let servers = self.known_servers().into_iter().map(|(ip, _)| ip);
        let others = servers.chain(self.dns().iter().copied()).filter(|ip| self.conf.is_on_link(*ip));
        let mut neighbours: Vec<Ipv4Addr> = self.conf.gateway.into_iter().chain(others).collect();
        neighbours.retain(|ip| *ip != self.address);
        let mut said = false;
        if !neighbours.is_empty() {
            self.wait_for_link(world, LINK_TIME);
        }
        while !neighbours.is_empty() {
            let answer = neighbours.iter().find(|ip| world.answers(**ip));
            if let Some(gateway) = self.conf.gateway {
                *self.gateway_answers.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(answer == Some(&gateway) || (answer.is_some() && world.answers(gateway)));
            }
            if let Some(ip) = answer {
                journal.detail(&format!("{ip} answers on this network"));
                return;
            }
            if self.is_over(world) {
                journal.warn("nobody answers on this network, and testbox.net-wait is over");
                journal.report(&self.report(world).lines());
                return;
            }
            if !std::mem::replace(&mut said, true) {
                journal.info("nobody answers on this network yet: waiting, for testbox.net-wait at most");
                journal.report(&self.report(world).lines());
            }
            // A port that does not forward yet tells nobody when it does.
            if !self.wait_for_link(world, PAUSE) {
                Self::pause(world);
            }
        }
    }

    /// Asks DNS servers that may be silent because the network does not forward yet.
    fn ask<T>(
        &self,
        world: &dyn World,
        until: Duration,
        what: &str,
        mut ask: impl FnMut() -> Result<Option<T>, DnsError>,
    ) -> Result<Option<T>, DnsError> {
        let whom: Vec<String> = self.dns().iter().map(Ipv4Addr::to_string).collect();
        let whom = if whom.is_empty() { "no DNS server".into() } else { format!("DNS {}", whom.join(" ")) };
        loop {
            let answer = ask();
            match &answer {
                Ok(Some(_)) => {}
                Ok(None) => self.note(&whom, what, "there is no such name"),
                Err(e) => self.note(
                    &whom,
                    what,
                    if matches!(e, DnsError::NoAnswer { .. }) { "no answer" } else { "cannot be asked" },
                ),
            }
            match answer {
                Err(DnsError::NoAnswer { .. }) if world.system().monotonic() < until => Self::pause(world),
                answer => return answer,
            }
        }
    }

    /// The names of this machine: the host name is what the admin says, else what reverse DNS says, else what DHCP
    /// says, else `unknown`.
    pub fn who(&self, world: &dyn World, journal: &Journal) -> MachineIdentity {
        let name = self.options.name.clone().or_else(|| self.dns_name(world, journal));
        MachineIdentity {
            ip: self.address,
            hexip: HexIp(self.address).to_string(),
            hostname: name.map_or_else(|| "unknown".into(), |n| n.to_string()),
        }
    }

    fn dns_name(&self, world: &dyn World, journal: &Journal) -> Option<HostName> {
        let until = self.until.min(world.system().monotonic().saturating_add(LABEL_WAIT));
        let what = format!("the name of {}", self.address);
        let why = match self.ask(world, until, &what, || world.reverse(self.dns(), self.address)) {
            Ok(Some(name)) => return Some(name),
            Ok(None) => format!("reverse DNS has no name for {}", self.address),
            Err(e) => e.to_string(),
        };
        match &self.dhcp_name {
            Some(name) => journal.info(&format!("{why}: taking DHCP's name, {name}")),
            None => journal.warn(&format!("{why}, and DHCP gave none: this machine is called 'unknown'")),
        }
        self.dhcp_name.clone()
    }

    /// Where a share is: as the job says, else the original's export on the server that the machine booted from.
    pub fn source(&self, purpose: Purpose) -> Result<NfsSource, Failure> {
        let (said, path, word) = match purpose {
            Purpose::Backup | Purpose::Images => (&self.options.backup, BACKUP_EXPORT, "backup"),
            Purpose::Tftp => (&self.options.tftp, TFTP_EXPORT, "tftp"),
        };
        if let Some(source) = said {
            return Ok(source.clone());
        }
        // Only one of the two is said: the other is most likely on the same server.
        let other = self.options.backup.as_ref().or(self.options.tftp.as_ref()).map(|s| s.host.clone());
        let booted_from = self.options.boot_server.or(self.conf.boot_server).map(HostName::from);
        match other.or_else(|| self.nfs_server.clone()).or(booted_from) {
            Some(host) => Ok(NfsSource { host, path: path.into(), options: Vec::new() }),
            None => Err(Failure::new(
                Kind::ShareUnreachable,
                format!("nothing says where the {word} share is, and the boot server is unknown"),
                format!("give testbox.{word}=SERVER:/path."),
            )),
        }
    }

    /// Who may serve this machine's files by TFTP, the likeliest first: the server that the job names, and nobody else
    /// then; or that of the TFTP share, that of the NFS root, and the one that `ip=` or DHCP names, which is the
    /// router where boot information comes by proxy DHCP. Names of servers are resolved.
    pub fn boot_servers(&self, world: &dyn World) -> Vec<BootServer> {
        if self.options.boot_server.is_some() {
            return self.known_servers();
        }
        let mut servers = Vec::new();
        for (host, who) in self.hosts() {
            let ip = host.ipv4().or_else(|| self.resolve(world, host).ok());
            servers.extend(ip.map(|ip| (ip, who)));
        }
        servers.extend(self.known_servers());
        distinct(servers)
    }

    /// The same without those whose address would have to be asked for.
    fn known_servers(&self) -> Vec<BootServer> {
        if let Some(ip) = self.options.boot_server {
            return vec![(ip, "testbox.boot-server=")];
        }
        let named = self.hosts().into_iter().filter_map(|(host, who)| Some((host.ipv4()?, who)));
        distinct(named.chain(self.conf.boot_server.map(|ip| (ip, self.boot_server_by))).collect())
    }

    fn hosts(&self) -> Vec<(&HostName, &'static str)> {
        let tftp = self.options.tftp.as_ref().map(|source| (&source.host, "testbox.tftp="));
        let root = self.nfs_server.as_ref().map(|host| (host, "nfsroot="));
        tftp.into_iter().chain(root).collect()
    }

    /// The address of a server. Silent DNS servers are asked until `testbox.net-wait` is over.
    pub fn resolve(&self, world: &dyn World, host: &HostName) -> Result<Ipv4Addr, Failure> {
        if let Some(ip) = host.ipv4() {
            return Ok(ip);
        }
        let answer = self
            .ask(world, self.until, &format!("the address of {host}"), || world.resolve(self.dns(), host));
        let why = match answer {
            Ok(Some(ip)) => return Ok(ip),
            Ok(None) => "there is no such name".to_owned(),
            Err(e) => e.to_string(),
        };
        let servers: Vec<_> = self.dns().iter().map(ToString::to_string).collect();
        Err(Failure::new(
            Kind::Network,
            format!("cannot resolve the host name {host} (DNS servers: {}): {why}", servers.join(", ")),
            "write its address instead, or give testbox.dns=.",
        ))
    }
}

/// The report on the network of a machine whose boot scripts have failed before an action began.
pub fn network_report(world: &dyn World) -> NetReport {
    let facts = world.facts();
    let kernel = Cmdline::parse(&facts.cmdline);
    match AgentNetwork::read(world, &facts, &kernel) {
        Ok(network) => network.report(world),
        Err(_) => NetReport::without_address(world.links(), &world.pci(), &kernel),
    }
}

/// Each server once, named by the first who named it.
fn distinct(servers: Vec<BootServer>) -> Vec<BootServer> {
    let mut out: Vec<BootServer> = Vec::new();
    for server in servers {
        if out.iter().all(|(ip, _)| *ip != server.0) {
            out.push(server);
        }
    }
    out
}
