//! What a person at the machine must know where the network fails: one screen that fits a photo.

use crate::inventory::pci::{PciClass, PciDevice, without_driver};
use crate::job::Cmdline;
use crate::net::links::Link;
use crate::net::netconf::NetConf;
use crate::text::{COLUMNS, plain};
use std::fmt;
use std::net::Ipv4Addr;

/// Lines of a report at most.
const LINES_MAX: usize = 10;
/// Of those, for interfaces.
const LINKS_MAX: usize = 4;
/// And for cards that show no interface.
const DRIVERLESS_MAX: usize = 3;

/// Interface and link, address, gateway, boot server, what was asked, and what came: at most ten lines of 79 columns.
#[derive(Clone, Debug, Default)]
pub struct NetReport {
    /// The interfaces, the one that is used first.
    pub links: Vec<Link>,
    /// What ipconfig and `ip=` say.
    pub conf: NetConf,
    /// Network cards that nothing drives, where there is no address.
    pub driverless: Vec<String>,
    /// The `ip=` and BOOTIF words, where there is no address.
    pub words: String,
    /// Whether the gateway answers; `None` where nobody has looked.
    pub gateway_answers: Option<bool>,
    /// The boot servers, each with who named it.
    pub servers: Vec<(Ipv4Addr, &'static str)>,
    /// What was asked of whom, and what came, the latest last.
    pub asked: Vec<String>,
}

impl NetReport {
    /// The report of a machine that has no address.
    pub fn without_address(links: Vec<Link>, pci: &[PciDevice], kernel: &Cmdline) -> NetReport {
        let ip = kernel.ip.as_deref().unwrap_or("(none: DHCP)");
        let bootif = kernel.bootif.map_or_else(|| "(none)".into(), |mac| mac.to_string());
        let words = format!("ip={ip} BOOTIF={bootif}");
        let driverless = without_driver(pci, PciClass::Network).map(ToString::to_string).collect();
        NetReport { links, words, driverless, ..NetReport::default() }
    }

    /// The lines, plain, each short enough for any terminal.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for link in self.links.iter().take(LINKS_MAX) {
            lines.push(format!("interface: {link}"));
        }
        match self.links.len() {
            0 => {
                lines.push("interface: NONE: does the initramfs have the driver of the network card?".into())
            }
            n if n > LINKS_MAX => lines.push(format!("           and {} more", n - LINKS_MAX)),
            _ => {}
        }
        lines.extend(self.driverless.iter().take(DRIVERLESS_MAX).map(|card| format!("no driver: {card}")));
        lines.push(format!("address:   {}", self.address()));
        if self.conf.address.is_some() {
            let servers: Vec<String> = self.servers.iter().map(|(ip, who)| format!("{ip} ({who})")).collect();
            let servers = if servers.is_empty() { "UNKNOWN".into() } else { servers.join(", ") };
            lines.push(format!("boot server: {servers}"));
        }
        let room = LINES_MAX.saturating_sub(lines.len());
        let asked = self.asked.iter().skip(self.asked.len().saturating_sub(room));
        lines.extend(asked.map(|line| format!("asked: {line}")));
        lines.iter().map(|line| plain(line).chars().take(COLUMNS).collect()).collect()
    }

    fn address(&self) -> String {
        let Some(address) = self.conf.address else { return format!("NONE; {}", self.words) };
        let mask = self.conf.netmask.map_or_else(String::new, |m| format!("/{}", u32::from(m).count_ones()));
        let gateway = self.conf.gateway.map_or_else(|| "no gateway".into(), |ip| format!("gateway {ip}"));
        let answers = match (self.conf.gateway, self.gateway_answers) {
            (Some(_), Some(true)) => " answers",
            (Some(_), Some(false)) => " DOES NOT ANSWER",
            _ => "",
        };
        let dns: Vec<String> = self.conf.dns.iter().take(2).map(Ipv4Addr::to_string).collect();
        let dns = if dns.is_empty() { "no DNS".into() } else { format!("DNS {}", dns.join(" ")) };
        format!("{address}{mask}, {gateway}{answers}, {dns}")
    }
}

impl fmt::Display for NetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn link(name: &str) -> Link {
        Link { name: name.into(), carrier: Some(true), state: "up".into(), ..Link::default() }
    }

    #[test]
    fn a_report_says_interface_address_server_and_answers() {
        let conf = NetConf::parse(
            "IPV4ADDR=10.0.0.9\nIPV4NETMASK=255.255.255.0\nIPV4GATEWAY=10.0.0.2\nIPV4DNS0=10.0.0.3\n",
        );
        let report = NetReport {
            links: vec![link("enp0s2")],
            conf,
            gateway_answers: Some(false),
            servers: vec![([10, 0, 0, 1].into(), "testbox.tftp=")],
            asked: vec!["10.0.0.1 by TFTP for pxelinux.cfg/0A000009: no answer".into()],
            ..NetReport::default()
        };
        assert_eq!(
            report.to_string(),
            "interface: enp0s2 link (up)\n\
             address:   10.0.0.9/24, gateway 10.0.0.2 DOES NOT ANSWER, DNS 10.0.0.3\n\
             boot server: 10.0.0.1 (testbox.tftp=)\n\
             asked: 10.0.0.1 by TFTP for pxelinux.cfg/0A000009: no answer\n"
        );
        let kernel = Cmdline::parse("ip=dhcp BOOTIF=01-52-54-00-12-34-56");
        let card = PciDevice { vendor: 0x14e4, device: 0x16a1, class: 0x2_0000, ..PciDevice::default() };
        let driven = PciDevice { driver: Some("e1000e".into()), ..card.clone() };
        for (pci, card) in
            [(vec![driven.clone()], None), (vec![driven, card], Some("no driver: PCI 14e4:16a1"))]
        {
            let lines = NetReport::without_address(Vec::new(), &pci, &kernel).lines();
            assert!(lines[0].contains("NONE"), "{lines:?}");
            assert!(lines.last().unwrap().ends_with("NONE; ip=dhcp BOOTIF=52:54:00:12:34:56"), "{lines:?}");
            assert_eq!(lines.len(), 2 + usize::from(card.is_some()));
            assert!(card.is_none_or(|card| lines[1].starts_with(card)), "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn a_report_fits_a_photo(nics in 0usize..20, asked in prop::collection::vec(any::<String>(), 0..40), name in any::<String>()) {
            let links = (0..nics).map(|_| link(&name)).collect();
            let conf = NetConf { address: Some([10, 0, 0, 9].into()), ..NetConf::default() };
            let servers = vec![([10, 0, 0, 1].into(), "testbox.boot-server="); 9];
            let driverless = vec![name.clone(); nics];
            let lines = NetReport { links, conf, driverless, asked, servers, ..NetReport::default() }.lines();
            prop_assert!(lines.len() <= LINES_MAX && lines.iter().all(|l| l.chars().count() <= COLUMNS && !l.contains('\n')));
        }
    }
}
