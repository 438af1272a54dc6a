//! What the boot scripts must know before they bring the network up, told as shell assignments.
#![forbid(unsafe_code)]

use crate::job::Cmdline;
use crate::net::links::Link;
use crate::net::netconf::IpWord;
use crate::text::quoted;
use crate::types::split;

/// Words of dracut that ask for a port which initramfs-tools cannot make.
const REFUSED: [&str; 4] = ["vlan", "bond", "bridge", "team"];

/// What a boot script does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootNetPlan {
    /// Evaluates these assignments, and brings the network up.
    Ready(String),
    /// Brings all ports up, and looks again in a second: none has a link yet, and one must be chosen.
    Wait,
    /// Gives up: a sentence about what this boot cannot do.
    Refused(String),
}

/// Reads a kernel command line and gives the lines that the script evaluates before `configure_networking`:
///
/// - `BOOTIF='01-aa-bb-cc-dd-ee-ff'`, as initramfs-tools compares it, from whatever case, with colons or hyphens;
/// - `DEVICE='NIC'`, for a fixed address of which neither `ip=` nor BOOTIF says the NIC, on a machine with several: the
///   one that has a link, the first of them by name where several have.
///
/// VLANs, bonded and bridged ports are refused.
pub fn plan(cmdline: &str, links: &[Link]) -> BootNetPlan {
    let words = split(cmdline);
    let words = words.iter().take_while(|word| word.text != "--");
    if let Some(word) =
        words.clone().find(|word| REFUSED.contains(&word.key) && word.value.is_some_and(|v| !v.is_empty()))
    {
        return BootNetPlan::Refused(format!(
            "{} is not supported: testbox boots through a plain Ethernet port; make the machine's VLAN the untagged one \
             of its switch port, and let the switch treat a bonded port as a single one until LACP comes (fallback)",
            quoted(word.text)
        ));
    }
    let kernel = Cmdline::parse(cmdline);
    let mut lines = String::new();
    if let Some(mac) = kernel.bootif {
        lines.push_str(&format!("BOOTIF='01-{}'\n", mac.to_string().replace(':', "-")));
    }
    let word = kernel.ip.as_deref().and_then(|ip| ip.parse().ok());
    let is_fixed =
        matches!(&word, Some(IpWord::Fields(fields)) if fields.client.is_some() && fields.device.is_none());
    if is_fixed && kernel.bootif.is_none() && links.len() > 1 {
        match links.iter().find(|link| link.has_link() && is_shell_safe(&link.name)) {
            Some(link) => lines.push_str(&format!("DEVICE='{}'\n", link.name)),
            None => return BootNetPlan::Wait,
        }
    }
    BootNetPlan::Ready(lines)
}

/// The kernel takes nearly every character in the name of an interface.
fn is_shell_safe(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ready(lines: &str) -> BootNetPlan {
        BootNetPlan::Ready(lines.into())
    }

    fn link(name: &str, carrier: Option<bool>) -> Link {
        Link { name: name.into(), carrier, ..Link::default() }
    }

    #[test]
    fn bootif_in_any_spelling_is_what_initramfs_tools_compares() {
        for word in [
            "BOOTIF=01-52-54-00-AB-cd-EF",
            "BOOTIF=01:52:54:00:ab:cd:ef",
            "BOOTIF=52:54:00:AB:CD:EF",
            "bootif=52-54-00-ab-cd-ef",
            "BOOTIF=01-11-11-11-11-11-11 BOOTIF=01-52-54-00-ab-cd-ef",
        ] {
            assert_eq!(plan(word, &[]), ready("BOOTIF='01-52-54-00-ab-cd-ef'\n"), "{word}");
        }
        for word in ["", "BOOTIF=", "BOOTIF=x", "BOOTIF='; reboot'", "-- BOOTIF=01-52-54-00-ab-cd-ef"] {
            assert_eq!(plan(word, &[]), ready(""), "{word}");
        }
    }

    #[test]
    fn a_fixed_address_goes_to_the_port_with_a_link() {
        let two = [link("enp0s2", Some(false)), link("enp0s3", Some(true))];
        let fixed = "ip=10.0.0.9:10.0.0.1:10.0.0.2:255.255.255.0:maintenance:";
        for (words, links, device) in [
            (fixed, &two[..], "DEVICE='enp0s3'\n"),
            (fixed, &[link("a", None), link("b", Some(true)), link("c", Some(true))], "DEVICE='b'\n"),
            (fixed, &two[1..], ""),
            ("ip=dhcp", &two, ""),
            ("ip=10.0.0.9:::255.255.255.0::enp0s2", &two, ""),
            ("", &two, ""),
        ] {
            assert_eq!(plan(words, links), ready(device), "{words}");
        }
        assert_eq!(plan(fixed, &[link("a", None), link("b", Some(false))]), BootNetPlan::Wait);
        let both = plan(&format!("{fixed} BOOTIF=01-52-54-00-ab-cd-ef"), &two);
        assert_eq!(both, ready("BOOTIF='01-52-54-00-ab-cd-ef'\n"));
    }

    #[test]
    fn vlans_and_bonds_are_refused_by_name() {
        for word in ["vlan=v5:eth0", "bond=bond0:eth0,eth1:mode=4", "bridge=br0:eth0", "team=t0:eth0"] {
            let BootNetPlan::Refused(why) = plan(&format!("quiet {word}"), &[]) else {
                panic!("{word} is taken")
            };
            assert!(why.contains(&format!("'{word}' is not supported")), "{why}");
        }
        assert_eq!(plan("vlan= quiet -- vlan=5", &[]), ready(""));
    }

    proptest! {
        #[test]
        fn nothing_but_assignments_reaches_the_shell(line in any::<String>(), near in "(BOOTIF|ip|bond)=[0-9a-f:'; -]{0,24}") {
            for line in [line, near] {
                let BootNetPlan::Ready(lines) = plan(&line, &[]) else { continue };
                for assignment in lines.lines() {
                    let value = assignment.split_once("='").and_then(|(_, v)| v.strip_suffix('\''));
                    prop_assert!(value.is_some_and(|v| v.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')));
                }
            }
        }
    }
}
