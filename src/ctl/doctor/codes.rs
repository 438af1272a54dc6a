//! What stands on the screen of a machine that does not boot: what it means here, and the cure.

/// A message of firmware or of a loader.
pub(super) struct BootMessage {
    /// Codes or words by which it is found, as they stand on the screen.
    pub words: &'static [&'static str],
    /// Who says it.
    pub by: &'static str,
    pub means: &'static str,
    pub cure: &'static str,
}

const DHCP: &str = "testboxctl doctor --only dhcp, on a computer of the machines' network; then the cable, the switch's VLAN, and \
                    spanning tree (portfast, or edge port, for the machines' ports)";
const TFTP: &str =
    "testboxctl doctor --only tftp; open UDP port 69 and the high ports of answers in the server's firewall";
const NEXT: &str =
    "testboxctl doctor --only dhcp shows whom machines are sent to; next-server must be the TFTP server";
const FILE: &str = "testboxctl doctor names the missing file; testboxctl init installs the loaders";

macro_rules! messages {
    ($([$($word:literal),+] $by:literal, $means:expr, $cure:expr;)+) => {
        /// All that are known.
        pub(super) const MESSAGES: &[BootMessage] =
            &[$(BootMessage { words: &[$($word),+], by: $by, means: $means, cure: $cure }),+];
    };
}

messages! {
    ["PXE-E00"] "BIOS ROM", "too little memory below 640 KiB is left for the ROM.", "update the firmware; switch off other boot ROMs in its set-up";
    ["PXE-E05"] "BIOS ROM", "the card's own memory is damaged.", "flash the card's firmware, or use another card";
    ["PXE-E11", "ARP timeout"] "BIOS ROM", "the machine has an address, but the boot server that DHCP names does not answer ARP: it is off, in another network, or the wrong one.", NEXT;
    ["PXE-E16", "No valid offer received", "No offer received"] "UEFI", "no DHCP server has answered the firmware, or none with something to boot.", DHCP;
    ["PXE-E18"] "UEFI", "the server that DHCP names did not answer: for a UEFI machine what PXE-E32 is for others.", TFTP;
    ["PXE-E21", "Remote boot cancelled"] "UEFI", "somebody pressed a key, or a proxy's menu has timed out without a choice.", "in dnsmasq leave pxe-prompt out, and give one pxe-service for each type";
    ["PXE-E22", "No menu timeout"] "UEFI", "the proxy DHCP server sent a boot menu without a timeout.", "let testboxctl serve --proxy-dhcp answer, or give dnsmasq one pxe-service for each type";
    ["PXE-E23"] "UEFI", "the server answers but does not have the file that DHCP names below its root, or the buffer was too small.", FILE;
    ["PXE-E24"] "UEFI", "the server does not report the size of the file (option tsize).", "use another TFTP server: testboxctl serve --tftp, tftpd-hpa or dnsmasq";
    ["PXE-E32", "TFTP open timeout"] "BIOS ROM", "the server that DHCP names does not answer by TFTP: it is not running, a firewall drops it, or it is the wrong server.", TFTP;
    ["PXE-E35", "TFTP read timeout"] "BIOS ROM", "the transfer began and broke off: packets are lost, or large ones are dropped.", "look for errors of the link (ethtool -S), a wrong MTU, and a firewall that follows no TFTP";
    ["PXE-E36"] "BIOS ROM", "the server has answered with an error.", FILE;
    ["PXE-E38"] "BIOS ROM", "the connection for TFTP cannot be opened by the ROM.", "update the firmware of the card";
    ["PXE-T01", "File not found"] "BIOS ROM", "the TFTP server does not have the file that DHCP names.", FILE;
    ["PXE-T02", "Access violation"] "BIOS ROM", "the TFTP server may not read the file, or it lies outside of its root.", "chmod -R u=rwX,go=rX on the TFTP folder; testboxctl doctor --only tftp";
    ["PXE-E3B"] "BIOS ROM", "the TFTP server has no such file (it is shown together with PXE-T01).", FILE;
    ["PXE-E3C"] "BIOS ROM", "the TFTP server refuses the file (it is shown together with PXE-T02).", "chmod -R u=rwX,go=rX on the TFTP folder";
    ["PXE-E51", "No DHCP or proxyDHCP offers"] "BIOS ROM", "no DHCP server answered the ROM.", DHCP;
    ["PXE-E52", "proxyDHCP offers were received. No DHCP"] "BIOS ROM", "a proxy DHCP server answered, but no server that leases addresses.", "start the network's DHCP server; a proxy gives none. Where there is no other: testboxctl serve --dhcp FIRST-LAST in place of --proxy-dhcp";
    ["PXE-E53", "No boot filename received"] "BIOS ROM", "the machine has an address, but no server named a boot file. In a lab of testbox: no boot file is configured for this type of machine, or serve does not know the machine.", "testboxctl doctor --only dhcp; add it to /etc/testbox/machines.toml (testboxctl machines learn), or the lines that testboxctl init prints to the DHCP server";
    ["PXE-E55"] "BIOS ROM", "a proxy was named, and does not answer at its own port 4011.", "open UDP port 4011 there; a DHCP server on the same computer that sends the class PXEClient without being a proxy does that too";
    ["PXE-E61", "Media test failure"] "BIOS ROM", "no link: the cable, the port, or it comes up too late.", "cable and switch; fix speed and duplex of neither end; portfast on the switch";
    ["PXE-E74", "PXE-E76", "PXE-E77", "PXE-E78", "PXE-E79"] "BIOS ROM", "the menu or the list of boot servers that a proxy sends is bad, or no server of it answers.", "let one server name the boot files: testboxctl serve --proxy-dhcp, or the lines of testboxctl init";
    ["PXE-E89", "PXE-E8A"] "BIOS ROM", "what was loaded is too large or not to be started: a file for UEFI was given to a BIOS.", "give pxelinux.0 to type 0, .efi files to the types 7 and 9 alone: testboxctl doctor --only dhcp";
    ["PXE-E99", "Unexpected network error"] "UEFI", "the transfer ended in a way that the firmware has no word for; often a file of the wrong kind, or a server that breaks off.", "testboxctl doctor: the loader must be shimx64.efi; then the cable and the MTU";
    ["PXE-M0F", "PXE-M0E"] "BIOS ROM", "no error: the ROM gives up and the next device is tried. An unarmed machine that ends like this was offered no boot file.", "network first, then the disk in its set-up; testboxctl doctor --only dhcp";
    ["HTTP Boot", "Start HTTP Boot", "Could not retrieve NBP file size from HTTP server"] "UEFI", "the firmware has tried to boot by HTTP, which a lab of testbox does not answer: machines that are not armed would take it before their disk.", "take HTTP boot out of its boot order and let PXE over IPv4 be the first; testboxctl doctor finds a DHCP server that answers it";
    ["Server response timeout", "PXE-E18: Server response timeout"] "UEFI", "the TFTP server does not answer.", TFTP;
    ["NBP file downloaded successfully", "NBP filesize is 0 Bytes"] "UEFI", "the loader came, and either it is empty or the firmware refuses to start it: with Secure Boot anything but shim.", "testboxctl doctor: shimx64.efi of Debian's shim-signed; not testbox-grub.efi, which wants Secure Boot off";
    ["Verification failed", "Security Violation", "Security Policy Violation", "bad shim signature"] "shim", "shim does not let start what it has loaded: the two are not of one release, or GRUB or kernel are not signed by Debian.", "shim and GRUB from one Debian: testboxctl init after apt-get install shim-signed grub-efi-amd64-signed; the kernel must be Debian's own";
    ["Verifying shim SBAT data failed", "SBAT"] "shim", "this machine has once booted a newer shim, which has put the older ones on a list.", "newer loaders: apt-get install shim-signed grub-efi-amd64-signed on a current Debian, then testboxctl init";
    ["Failed to open \\EFI\\BOOT\\grubx64.efi", "Unable to fetch TFTP image", "start_image() returned"] "shim", "shim runs and does not get GRUB from beside it.", "grubx64.efi must lie beside shimx64.efi in the root of the TFTP tree: testboxctl doctor --only tftp";
    ["error: couldn't send network packet", "couldn't autoconfigure"] "GRUB", "GRUB has no network: the firmware does not hand its card over.", "update the firmware; try another port of the card; set the boot entry to IPv4 PXE";
    ["error: timeout reading", "error: time out opening"] "GRUB", "GRUB asks a server that does not answer: with a proxy, Debian's signed GRUB asks the DHCP server and not the proxy.", "next-server in the DHCP server, or testbox-grub.efi as 'testboxctl init' tells under 3a";
    ["error: file `/grub/grub.cfg' not found", "grub>", "Minimal BASH-like line editing"] "GRUB", "GRUB runs and has no script: it lies in another folder than the one that GRUB looks in.", "testboxctl init makes grub/grub.cfg in the root of the TFTP tree; GRUB must be grubnetx64.efi.signed, not the one of a disk";
    ["error: you need to load the kernel first", "error: out of memory"] "GRUB", "the kernel or the initramfs did not come whole, or there is too little memory.", "testboxctl doctor --only boot; machines want 512 MB";
    ["Failed to load ldlinux.c32", "Failed to load COM32 file"] "PXELINUX", "PXELINUX runs and does not find its module of the same release beside it.", "testboxctl init, with pxelinux and syslinux-common of one Debian";
    ["Unable to locate configuration file"] "PXELINUX", "there is no pxelinux.cfg/default where PXELINUX looks: beside the file that it was loaded as.", "testboxctl init; the DHCP server must name pxelinux.0 in the root of the tree";
    ["Could not find kernel image", "Booting from local disk", "boot:"] "PXELINUX", "the configuration names a kernel that is not there, or is not testbox's.", "testboxctl doctor --only boot";
    ["040ee119", "ipxe.org/040ee119", "No configuration methods succeeded"] "iPXE", "iPXE has got no address.", DHCP;
    ["2d0c613b", "3d126001", "2d126001", "ipxe.org/2d"] "iPXE", "iPXE was given a file that the server does not have, or that it cannot start.", FILE;
    ["4c126035", "4c106035", "ipxe.org/4c", "Connection timed out"] "iPXE", "the server that iPXE asks does not answer.", TFTP;
    ["3c092003", "38086193", "ipxe.org/38086193"] "iPXE", "there is no link, or no card that iPXE has a driver for.", "cable and switch; load undionly.kpxe, which uses the card's own driver, or no iPXE at all";
    ["2e008081", "2e852001", "Exec format error"] "iPXE", "iPXE was given a file of another kind: a loader for UEFI on a BIOS or the other way round.", "testboxctl doctor --only dhcp: pxelinux.0 for BIOS, shimx64.efi for UEFI";
    ["iPXE initialising devices... again", "undionly.kpxe"] "iPXE", "iPXE loads itself again and again: the DHCP server gives it the same boot file as the ROM.", "give pxelinux.0 to the user class iPXE: testboxctl doctor --only dhcp has the line";
}

/// A text as it is compared: without case and without what people leave out.
fn bare(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The messages that a text on a screen may be; a code alone by itself, words by their part.
pub(super) fn find(text: &str) -> Vec<&'static BootMessage> {
    let asked = bare(text);
    if asked.is_empty() {
        return Vec::new();
    }
    let short = asked.strip_prefix("pxe").unwrap_or(&asked).to_owned();
    let is_code = |word: &str| word.starts_with("PXE-");
    let exact = |word: &str| {
        let word_bare = bare(word);
        word_bare == asked
            || is_code(word) && (word_bare == format!("pxe{short}") || asked.starts_with(&word_bare))
    };
    let found: Vec<_> =
        MESSAGES.iter().filter(|message| message.words.iter().any(|word| exact(word))).collect();
    if !found.is_empty() {
        return found;
    }
    // Of what stands on a screen a part is enough, and more than the words, too.
    let near = |word: &str| {
        let word = bare(word);
        word.len() >= 4 && asked.len() >= 4 && (word.contains(&asked) || asked.contains(&word))
    };
    MESSAGES.iter().filter(|message| message.words.iter().any(|word| near(word))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_code_is_found_however_it_is_written() {
        for (text, word) in [
            ("PXE-E32", "PXE-E32"),
            ("pxe-e32", "PXE-E32"),
            ("E32", "PXE-E32"),
            ("PXE-E32: TFTP open timeout.", "PXE-E32"),
            ("TFTP open timeout", "PXE-E32"),
            ("PXE-E11", "PXE-E11"),
            ("PXE-E18", "PXE-E18"),
            ("PXE-E51", "PXE-E51"),
            ("PXE-E53", "PXE-E53"),
            ("PXE-E16", "PXE-E16"),
            ("PXE-E21", "PXE-E21"),
            ("PXE-E99", "PXE-E99"),
            ("unable to locate configuration file", "Unable to locate configuration file"),
            ("http://ipxe.org/040ee119", "040ee119"),
        ] {
            let found = find(text);
            assert!(
                found.first().is_some_and(|first| first.words.contains(&word)),
                "{text}: {}",
                found.len()
            );
        }
        for text in ["", "PXE-E98", "PXE-", "-", "nonsense"] {
            assert!(find(text).is_empty(), "{text}: {:?}", find(text).first().map(|found| found.words));
        }
    }

    #[test]
    fn every_code_is_explained_once_and_has_a_cure() {
        let mut seen = BTreeSet::new();
        for message in MESSAGES {
            assert!(!message.means.is_empty() && !message.cure.is_empty() && !message.by.is_empty());
            for word in message.words {
                assert!(seen.insert(*word), "{word} stands twice");
                assert!(find(word).iter().any(|found| found.words == message.words), "{word}");
            }
        }
    }
}
