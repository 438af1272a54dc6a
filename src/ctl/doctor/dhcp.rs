//! What the answers of DHCP servers mean for the machines: pure.

use super::finding::AreaReport;
use super::lab::DoctorLab;
use super::offers::{BootAsker, BootOffer};
use crate::boot::loaders::{ClientKind, PROXY_GRUB};
use crate::boot::machines::KnownMachine;
use crate::store::layout::{GRUB, SHIM, SHIM_ARM64, TFTP_MARKER};
use crate::types::MacAddr;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Who was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WhoAsks {
    pub asker: BootAsker,
    pub mac: MacAddr,
    /// A known machine; nobody's card without.
    pub machine: Option<KnownMachine>,
}

/// An answer, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeardOffer {
    pub who: WhoAsks,
    pub offer: BootOffer,
}

/// What a loader comes to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoaderTold {
    pub asker: BootAsker,
    pub by: Ipv4Addr,
    /// Whom it asks by TFTP, where that is named.
    pub next_server: Option<Ipv4Addr>,
    pub file: String,
    /// The proxy that has told it.
    pub proxy: Option<Ipv4Addr>,
    /// The proxy does not answer at its own port.
    pub is_proxy_silent: bool,
    /// Whether that server has the file; `None` where there is nothing to ask for.
    pub served: Option<Result<(), String>>,
}

/// All that was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DhcpSeen {
    pub device: String,
    pub offers: Vec<HeardOffer>,
    pub told: Vec<LoaderTold>,
}

impl DhcpSeen {
    /// The offers to a known machine, or else to nobody's card.
    pub fn best_of(&self, asker: BootAsker) -> Option<(&WhoAsks, Vec<&BootOffer>)> {
        let of = |is_known: bool| {
            let mine = self.offers.iter().filter(move |heard| heard.who.asker == asker);
            mine.filter(move |heard| heard.who.machine.is_some() == is_known)
        };
        let (first, is_known) = match of(true).next() {
            Some(first) => (first, true),
            None => (of(false).next()?, false),
        };
        let of_first = of(is_known).filter(|heard| heard.who == first.who);
        Some((&first.who, of_first.map(|heard| &heard.offer).collect()))
    }

    /// Who gives addresses.
    fn servers(&self) -> BTreeSet<Ipv4Addr> {
        let full = self.offers.iter().filter(|heard| heard.offer.yours.is_some());
        full.map(|heard| heard.offer.server).collect()
    }

    fn proxies(&self) -> BTreeSet<Ipv4Addr> {
        let proxies = self.offers.iter().filter(|heard| heard.offer.is_proxy());
        proxies.map(|heard| heard.offer.server).collect()
    }
}

fn list(servers: &BTreeSet<Ipv4Addr>) -> String {
    servers.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(" and ")
}

const TELL: &str = "the lines for each DHCP server are printed by: testboxctl init; or let 'testboxctl serve --proxy-dhcp' answer";

/// Judges it.
pub(super) fn judge(lab: &DoctorLab, seen: &DhcpSeen) -> AreaReport {
    let mut report = AreaReport::new("dhcp");
    let asked = format!("who gives addresses on {}, by DHCP", seen.device);
    let (servers, proxies) = (seen.servers(), seen.proxies());
    if servers.is_empty() {
        let who =
            if proxies.is_empty() { "nobody" } else { "only a proxy DHCP server, which leases no addresses" };
        report.error(
            "dhcp-none",
            asked,
            format!("{who} answers (PXE-E51, PXE-E16 at the machine)"),
            "start the network's DHCP server; where there is none: testboxctl serve --tftp --dhcp FIRST-LAST --interface \
             IF; where it knows certain cards alone: testboxctl machines reservations dnsmasq|isc|kea",
        );
        return report;
    }
    if servers.len() > 1 {
        report.error(
            "dhcp-two-servers",
            asked,
            format!("{} servers do: {}: machines take whichever is quicker", servers.len(), list(&servers)),
            "stop all but one; a virtual machine's or a router's own DHCP server is often forgotten. What tells loaders \
             beside another server is: testboxctl serve --proxy-dhcp",
        );
        // What each of them says is beside the point while there are two.
        return report;
    }
    if proxies.len() > 1 {
        report.error(
            "dhcp-two-proxies",
            format!("which server names boot files on {}", seen.device),
            format!("{} proxies do: {}", proxies.len(), list(&proxies)),
            "stop all but one of them",
        );
    }
    let mut lines = Vec::new();
    for told in &seen.told {
        loader(lab, seen, told, &mut lines, &mut report);
    }
    addresses(lab, seen, &mut report);
    let by = if proxies.is_empty() { String::new() } else { format!(", and {} is a proxy", list(&proxies)) };
    report.fine.insert(0, format!("{} gives addresses on {}{by}", list(&servers), seen.device));
    if !lines.is_empty() {
        report.fine(lines.join(", "));
    }
    report
}

/// The last part of a path, whichever slashes it has.
fn name_of(file: &str) -> &str {
    file.rsplit(['/', '\\']).next().unwrap_or_default()
}

/// What one loader is told.
fn loader(
    lab: &DoctorLab,
    seen: &DhcpSeen,
    told: &LoaderTold,
    lines: &mut Vec<String>,
    report: &mut AreaReport,
) {
    let (name, by) = (told.asker.name(), told.by);
    let asked = format!("what {name} is offered to boot, by DHCP on {}", seen.device);
    let file = told.file.as_str();
    if told.is_proxy_silent {
        report.error(
            "dhcp-proxy-silent",
            format!("{} at its port 4011, as a {name} machine asks it", told.proxy.unwrap_or(by)),
            "no answer (PXE-E55 at the machine)",
            "a proxy: open UDP port 4011 of its firewall, and restart it. A DHCP server that is none must not send the class \
             PXEClient: take its vendor-class-identifier away (option 60), and let it name the file",
        );
        return;
    }
    match told.asker {
        BootAsker::Firmware(ClientKind::Http) => {
            // Nothing but an address of HTTP is taken.
            if file.contains("://") {
                report.warning(
                    "dhcp-http-boot",
                    asked,
                    format!(
                        "{by} offers {file}: UEFI machines that are not armed take that before their disk"
                    ),
                    format!("answer the types 16 and 19 with no file; {TELL}"),
                );
            }
            return;
        }
        // A lab without such machines: the lines of 'init' name their loader all the same.
        BootAsker::Firmware(ClientKind::UefiArm64) if !has_arm64(lab) => return,
        BootAsker::Ipxe => return ipxe(seen, told, report),
        BootAsker::Firmware(ClientKind::Uefi) if file.is_empty() && !has_uefi(lab) => return,
        _ if file.is_empty() => {
            report.error(
                "dhcp-no-file",
                asked,
                format!("{by} names no boot file (PXE-E53 at the machine)"),
                TELL,
            );
            return;
        }
        BootAsker::Firmware(_) => {}
    }
    let wanted: &[&str] = match told.asker {
        BootAsker::Firmware(ClientKind::Uefi) => &[SHIM, PROXY_GRUB, GRUB],
        BootAsker::Firmware(ClientKind::UefiArm64) => &[SHIM_ARM64, "grubaa64.efi"],
        _ => &[TFTP_MARKER, "lpxelinux.0"],
    };
    let is_of_other = matches!(told.asker, BootAsker::Firmware(ClientKind::Uefi | ClientKind::UefiArm64))
        && (name_of(file).ends_with(".0") || name_of(file).ends_with(".kpxe"));
    if is_of_other {
        report.error(
            "dhcp-wrong-loader",
            asked,
            format!("{by} offers {file}, which is a BIOS loader: UEFI firmware cannot start it (PXE-E99, or it moves on silently)"),
            format!("offer {} to types 7 and 9; {TELL}", wanted.first().unwrap_or(&"")),
        );
        return;
    }
    if told.asker == BootAsker::Firmware(ClientKind::Bios)
        && name_of(file).to_ascii_lowercase().ends_with(".efi")
    {
        report.error(
            "dhcp-wrong-loader",
            asked,
            format!("{by} offers {file}, which is a UEFI loader: a BIOS cannot start it"),
            format!("offer {TFTP_MARKER} to type 0, and .efi files to types 7 and 9 only; {TELL}"),
        );
        return;
    }
    let Some(next) = told.next_server else {
        report.error(
            "dhcp-no-next-server",
            asked,
            format!("{by} offers {file} without a next-server: each loader guesses another one"),
            format!("next-server {} in the DHCP server; {TELL}", shown(lab.boot)),
        );
        return;
    };
    if lab.boot.is_some_and(|boot| boot != next) && !same_host(lab, next) {
        report.error(
            "dhcp-next-server",
            asked,
            format!(
                "{by} sends them to {next} for {file}; the TFTP server of testbox is {} (PXE-E11, PXE-E32, PXE-T01 at the \
                 machine)",
                shown(lab.boot)
            ),
            format!("next-server {} in that DHCP server; {TELL}", shown(lab.boot)),
        );
        return;
    }
    if let Some(Err(why)) = &told.served {
        report.error(
            "dhcp-file-not-served",
            format!("{next} by TFTP for {file}, which {by} offers to {name} machines"),
            why.clone(),
            format!(
                "the name in the DHCP server must be that below the root of the TFTP server: {}; {TELL}",
                wanted.first().unwrap_or(&"")
            ),
        );
        return;
    }
    let is_chain = ["undionly", "ipxe", "snponly"].iter().any(|part| name_of(file).contains(part));
    if !wanted.contains(&name_of(file)) && !is_chain {
        report.warning(
            "dhcp-other-loader",
            asked,
            format!("{by} offers {file}, which testbox does not know: it must load what 'arm' writes"),
            format!("{} is the loader for them; {TELL}", wanted.first().unwrap_or(&"")),
        );
        return;
    }
    lines.push(format!("{name} boots {file}"));
}

/// iPXE that is told itself loads itself for ever.
fn ipxe(seen: &DhcpSeen, told: &LoaderTold, report: &mut AreaReport) {
    let is_ipxe =
        |file: &str| ["undionly", "ipxe", "snponly"].iter().any(|part| name_of(file).contains(part));
    let rom = seen.told.iter().find(|other| other.asker == BootAsker::Firmware(ClientKind::Bios));
    if is_ipxe(&told.file) && !told.file.contains("://") && rom.is_some_and(|rom| rom.file == told.file) {
        report.error(
            "dhcp-ipxe-loop",
            format!("what iPXE is offered once it runs, by DHCP on {}", seen.device),
            format!("{} offers it {} again: it loads itself for ever", told.by, told.file),
            format!("offer {TFTP_MARKER} to the user class iPXE (dnsmasq: dhcp-userclass=set:ipxe,iPXE and dhcp-boot=tag:ipxe,{TFTP_MARKER})"),
        );
    }
}

fn has_uefi(lab: &DoctorLab) -> bool {
    lab.tftp_dir.as_ref().is_none_or(|dir| dir.join(SHIM).is_file() || dir.join(GRUB).is_file())
}

fn has_arm64(lab: &DoctorLab) -> bool {
    lab.tftp_dir.as_ref().is_some_and(|dir| dir.join(SHIM_ARM64).is_file())
}

/// Both are addresses of this computer.
fn same_host(lab: &DoctorLab, other: Ipv4Addr) -> bool {
    lab.is_own(other) && lab.boot.is_some_and(|boot| lab.is_own(boot))
}

fn shown(server: Option<Ipv4Addr>) -> String {
    server.map_or_else(|| "SERVER".into(), |server| server.to_string())
}

/// Whether machines get the addresses that they are known by: the address names a machine's files.
fn addresses(lab: &DoctorLab, seen: &DhcpSeen, report: &mut AreaReport) {
    let mut wrong = BTreeSet::new();
    for heard in &seen.offers {
        let (Some(machine), Some(yours)) = (&heard.who.machine, heard.offer.yours) else { continue };
        if machine.address != yours {
            wrong.insert((machine.name.clone(), machine.address, yours, heard.offer.server));
        }
    }
    if let Some((_, _, _, server)) = wrong.first().cloned() {
        let words: Vec<String> = wrong
            .iter()
            .take(5)
            .map(|(name, known, given, _)| format!("{name} gets {given}, not {known}"))
            .collect();
        let more = if wrong.len() > 5 { format!(" and {} more", wrong.len() - 5) } else { String::new() };
        report.error(
            "dhcp-address",
            "which addresses the machines of the file of machines get, by DHCP with their cards",
            format!("{}{more}: what is armed is not found by them", words.join(", ")),
            format!("reserve the addresses in {server}: testboxctl machines reservations dnsmasq|isc|kea prints the lines"),
        );
    }
    let outside = |ip: &Ipv4Addr| lab.settings.network.is_some_and(|network| !network.contains(*ip));
    if let Some(ip) = seen.offers.iter().filter_map(|heard| heard.offer.yours).find(outside) {
        report.warning(
            "dhcp-other-network",
            "which addresses DHCP gives",
            format!("{ip} is not in the network of the settings; 'arm' refuses such machines"),
            "network = \"IP/BITS\" in /etc/testbox.toml, or the range of the DHCP server: one of the two is wrong",
        );
    }
}
