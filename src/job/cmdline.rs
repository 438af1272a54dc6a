//! The kernel command line, and everything else that is written in its grammar: the APPEND line of a PXELINUX
//! file and the file `testbox.cfg/<id>`.
//!
//! Parsing is total: whatever is wrong with a testbox word is a sentence in [`Cmdline::problems`]. A command
//! line with problems must not be acted on.
#![forbid(unsafe_code)]

use super::options::{Options, UnionKind};

use crate::job::Action;
use crate::text::quoted;
use crate::types::{JobId, JobSignature, MacAddr, MapEntry, Word, WordError, split};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A parsed command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cmdline {
    /// `testbox.action=<action>` or `testbox-action-<action>`; `None` also where several contradict.
    pub action: Option<Action>,
    /// `testbox.job=`.
    pub job: Option<JobId>,
    /// `testbox.signature=`: the signature over the job; it counts for the words beside it.
    pub signature: Option<JobSignature>,
    /// The other testbox words.
    pub options: Options,
    /// `boot=`: the boot mode of initramfs-tools, `nfs` or `testbox`.
    pub boot: Option<String>,
    /// `ip=`; see [`crate::net::netconf::IpWord`].
    pub ip: Option<String>,
    /// `nfsroot=`.
    pub nfsroot: Option<String>,
    /// `BOOTIF=`: the NIC that PXE used.
    pub bootif: Option<MacAddr>,
    /// `panic=` seconds.
    pub panic: Option<i64>,
    /// What is wrong with the testbox words, one sentence each.
    pub problems: Vec<String>,
}

/// Every option word, as the message about an unknown one lists them.
const KNOWN: &str = "action, job, signature, set, backup, tftp, disks, map, name, dns, keep, delta, used, free, bad-sectors, \
                     degraded, failing-disk, union, reboot, \
                     on-error, error-wait, attempts, settle, mount-wait, share-wait, net-wait, \
                     armed-file, boot-server";

impl Cmdline {
    /// Parses `/proc/cmdline` or an APPEND line: words as the kernel splits them.
    pub fn parse(line: &str) -> Cmdline {
        let mut parser = Parser::default();
        parser.line(line);
        parser.finish()
    }

    /// Parses the lines of a `testbox.cfg/<id>` file: the same words, and comments from a `#` that begins a word
    /// to the end of its line.
    pub fn parse_file(text: &str) -> Cmdline {
        let mut parser = Parser::default();
        for line in text.lines() {
            parser.line(without_comment(line));
        }
        parser.finish()
    }
}

/// The part of `line` before a `#` at its beginning or after a space.
pub(crate) fn without_comment(line: &str) -> &str {
    let mut at_start = true;
    for (at, c) in line.char_indices() {
        if c == '#' && at_start {
            return line.get(..at).unwrap_or(line);
        }
        at_start = c.is_ascii_whitespace();
    }
    line
}

#[derive(Default)]
struct Parser {
    out: Cmdline,
    action_words: Vec<String>,
    aufs_word: bool,
    after_dashes: bool,
}

impl Parser {
    fn line(&mut self, line: &str) {
        self.after_dashes = false;
        for word in split(line) {
            self.word(word);
        }
    }

    fn finish(mut self) -> Cmdline {
        if self.action_words.len() > 1 {
            let words = self.action_words.join(" and ");
            self.problem(format!("more than one action: {words}; exactly one must be given"));
            self.out.action = None;
        }
        if self.aufs_word {
            self.out.options.union.get_or_insert(UnionKind::Aufs);
        }
        self.out
    }

    fn problem(&mut self, sentence: String) {
        // A hostile line must not fill the memory with messages about itself.
        if self.out.problems.len() < 32 {
            self.out.problems.push(sentence);
        }
    }

    fn word(&mut self, word: Word<'_>) {
        let key = word.key;
        let is_ours = key.starts_with("testbox.") || key.starts_with("testbox-action-");
        if word.unclosed && word.text.contains("testbox") {
            return self.problem(format!("the quote in {} is never closed", quoted(word.text)));
        }
        if is_ours && self.after_dashes {
            return self.problem(format!(
                "{} stands after '--', where the kernel hands words to init; it must stand before",
                quoted(word.text)
            ));
        }
        if let Some(name) = key.strip_prefix("testbox-action-") {
            self.action(&word, name, word.value.is_none());
        } else if let Some(option) = key.strip_prefix("testbox.") {
            match word.value {
                Some(value) => self.option(&word, option, value),
                None => self.problem(format!(
                    "{} has no value; testbox words are testbox.NAME=VALUE with NAME one of {KNOWN}",
                    quoted(word.text)
                )),
            }
        } else if !self.after_dashes {
            self.kernel_word(key, word.value);
        }
    }

    /// The words that the kernel and initramfs-tools know; of several, the last counts, as in its init.
    fn kernel_word(&mut self, key: &str, value: Option<&str>) {
        match (key, value) {
            ("--", None) => self.after_dashes = true,
            ("boot", Some(v)) => self.out.boot = Some(v.to_owned()),
            ("ip", Some(v)) => self.out.ip = Some(v.to_owned()),
            ("nfsroot", Some(v)) => self.out.nfsroot = Some(v.to_owned()),
            ("BOOTIF", Some(v)) => self.out.bootif = v.parse().ok(),
            ("panic", Some(v)) => self.out.panic = v.parse().ok(),
            ("aufs", Some(v)) => self.aufs_word = v == "tmpfs",
            _ => {}
        }
    }

    fn action(&mut self, word: &Word<'_>, name: &str, well_formed: bool) {
        self.action_words.push(quoted(word.text));
        match name.parse::<Action>() {
            Ok(action) if well_formed => self.out.action = Some(action),
            Ok(_) => self.problem(format!("{} must stand without a value", quoted(word.text))),
            Err(_) => {
                let known = Action::ALL.map(Action::word).join(", ");
                self.problem(format!("{}: unknown action; it must be one of {known}", quoted(word.text)));
            }
        }
    }

    fn option(&mut self, word: &Word<'_>, option: &str, value: &str) {
        let mut o = std::mem::take(&mut self.out.options);
        let result = match option {
            "action" => {
                self.action(word, value, true);
                Ok(())
            }
            "job" => set(&mut self.out.job, value.parse()),
            "signature" => set(&mut self.out.signature, value.parse()),
            "set" => set(&mut o.set, value.parse()),
            "backup" => set(&mut o.backup, value.parse()),
            "tftp" => set(&mut o.tftp, value.parse()),
            "disks" => set_list(&mut o.disks, value, str::parse),
            // What contradicts itself is not kept: nothing may act on it.
            "map" => set_list(&mut o.map, value, str::parse)
                .and_then(|()| check_map(&o.map).inspect_err(|_| o.map.clear())),
            "name" => set(&mut o.name, value.parse()),
            "dns" => set_list(&mut o.dns, value, address),
            "keep" => set(&mut o.keep, number(value, 0..=100)),
            "delta" => set(&mut o.delta, value.parse()),
            "used" => set(&mut o.used, value.parse()),
            "free" => set(&mut o.free, value.parse()),
            "bad-sectors" => set(&mut o.bad_sectors, value.parse()),
            "degraded" => set(&mut o.degraded, value.parse()),
            "failing-disk" => set(&mut o.failing_disk, value.parse()),
            "union" => set(&mut o.union, value.parse()),
            "reboot" => set(&mut o.reboot, value.parse()),
            "on-error" => set(&mut o.on_error, value.parse()),
            "error-wait" => set(&mut o.error_wait, seconds(value)),
            "attempts" => set(&mut o.attempts, number(value, 1..=1000)),
            "settle" => set(&mut o.settle, seconds(value)),
            "mount-wait" => set(&mut o.mount_wait, seconds(value)),
            "share-wait" => {
                set(&mut o.share_wait, number(value, 10..=86_400).map(|n| Duration::from_secs(n.into())))
            }
            "net-wait" => set(&mut o.net_wait, seconds(value)),
            "armed-file" => set(&mut o.armed_file, value.parse()),
            "boot-server" => set(&mut o.boot_server, server_address(value)),
            _ => Err(WordError::new(format!(
                "unknown; testbox words are testbox.NAME= with NAME one of {KNOWN}"
            ))),
        };
        self.out.options = o;
        if let Err(e) = result {
            self.problem(format!("{}: {e}", quoted(word.text)));
        }
    }
}

/// Sets an option. The same word again is fine while it says the same.
fn set<T: PartialEq>(slot: &mut Option<T>, value: Result<T, WordError>) -> Result<(), WordError> {
    let value = value?;
    match slot {
        Some(old) if *old != value => {
            Err(WordError::new("given twice with different values; it must be given once"))
        }
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// Sets a comma list; an empty item is an error, and so is a second, different list.
fn set_list<T: PartialEq>(
    slot: &mut Vec<T>,
    value: &str,
    parse: impl Fn(&str) -> Result<T, WordError>,
) -> Result<(), WordError> {
    // More disks than any machine has: a hostile list, compared pairwise later on.
    if value.split(',').nth(256).is_some() {
        return Err(WordError::new("more than 256 items"));
    }
    let mut whole = (!slot.is_empty()).then(|| std::mem::take(slot));
    let list = value.split(',').map(parse).collect();
    let result = set(&mut whole, list);
    *slot = whole.unwrap_or_default();
    result
}

fn address(text: &str) -> Result<Ipv4Addr, WordError> {
    text.parse().map_err(|_| WordError::new(format!("{} is no IPv4 address", quoted(text))))
}

/// The address of one host, which can be asked something.
fn server_address(text: &str) -> Result<Ipv4Addr, WordError> {
    let ip = address(text)?;
    if ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast() {
        return Err(WordError::new(format!("{ip} is not the address of one server")));
    }
    Ok(ip)
}

fn number(text: &str, range: RangeInclusive<u32>) -> Result<u32, WordError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(n) if digits && range.contains(&n) => Ok(n),
        _ => Err(WordError::new(format!(
            "{} is no whole number from {} to {}",
            quoted(text),
            range.start(),
            range.end()
        ))),
    }
}

fn seconds(text: &str) -> Result<Duration, WordError> {
    number(text, 0..=86_400).map(|n| Duration::from_secs(n.into()))
}

/// One image cannot go to two disks, nor two images to one.
fn check_map(map: &[MapEntry]) -> Result<(), WordError> {
    for (at, entry) in map.iter().enumerate() {
        for before in map.iter().take(at) {
            if before.image == entry.image || before.disk == entry.disk {
                return Err(WordError::new(format!("{before} and {entry} contradict each other")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::options::*;
    use super::*;
    use crate::types::{Delta, FreeSpace};
    use crate::types::{DiskSelector, NfsSource};
    use crate::used::Used;
    use proptest::prelude::*;

    fn problems_of(line: &str) -> String {
        Cmdline::parse(line).problems.join("\n")
    }

    #[test]
    fn a_map_that_contradicts_itself_is_a_problem_and_not_kept() {
        let c = Cmdline::parse("testbox.map=sda:sdb,sda:sdc");
        assert!(c.options.map.is_empty() && c.problems.len() == 1, "{c:?}");
    }

    #[test]
    fn every_word_of_the_design() {
        let c = Cmdline::parse(
            "BOOT_IMAGE=maintenance-boot/vmlinuz ro boot=nfs root=/dev/nfs nfsroot=10.0.2.2:/nfsroot,ro,tcp \
             ip=10.1.2.3:10.0.2.2:10.0.2.1:255.255.0.0:maintenance: BOOTIF=01-52-54-00-12-34-56 panic=300 \
             testbox.action=restore testbox.job=ab-12 testbox.set=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 testbox.backup=nas:/export/testbox-backup,vers=3 \
             testbox.tftp=10.0.2.2:/export/testbox-tftp testbox.disks=sda,serial=A%20B,wwn=eui.00253 \
             testbox.map=sda:serial=A%2CB,nvme0n1:/dev/nvme1n1 testbox.name=tb1.lab testbox.dns=10.0.0.1,10.0.0.2 \
             testbox.keep=2 testbox.delta=never testbox.used=off testbox.free=zero testbox.bad-sectors=degraded testbox.degraded=replace testbox.failing-disk=write testbox.union=aufs testbox.reboot=poweroff testbox.on-error=hold \
             testbox.error-wait=5 testbox.attempts=3 testbox.settle=0 testbox.mount-wait=60 testbox.share-wait=120 testbox.net-wait=90 \
             testbox.armed-file=bios/pxelinux.cfg/0A010203 testbox.boot-server=10.0.2.2",
        );
        assert_eq!(c.problems, [""; 0]);
        assert_eq!(c.action, Some(Action::Restore));
        assert_eq!(c.job.as_ref().map(JobId::as_str), Some("ab-12"));
        assert_eq!(c.boot.as_deref(), Some("nfs"));
        assert_eq!(c.nfsroot.as_deref(), Some("10.0.2.2:/nfsroot,ro,tcp"));
        assert!(c.ip.is_some());
        assert_eq!(c.bootif, Some(MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56])));
        assert_eq!(c.panic, Some(300));
        let o = &c.options;
        assert_eq!(o.backup.as_ref().unwrap().to_string(), "nas:/export/testbox-backup,vers=3");
        assert_eq!(o.disks[1], DiskSelector::Serial("A B".into()));
        assert_eq!(o.map[0].disk, DiskSelector::Serial("A,B".into()));
        assert_eq!(o.dns, [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)]);
        assert_eq!(o.name.as_ref().unwrap().as_str(), "tb1.lab");
        let s = Settings {
            keep: 2,
            delta: Delta::Never,
            used: Used::Off,
            free: FreeSpace::Zero,
            bad_sectors: BadSectors::Degraded,
            degraded: DegradedSet::Replace,
            failing_disk: FailingDisk::Write,
            union: UnionKind::Aufs,
            reboot: RebootMode::PowerOff,
            on_error: OnError::Hold,
            error_wait: Duration::from_secs(5),
            attempts: 3,
            settle: Duration::ZERO,
            mount_wait: Duration::from_secs(60),
            share_wait: Duration::from_secs(120),
        };
        assert_eq!(o.settings(), s);
        assert_eq!(o.net_wait, Some(Duration::from_secs(90)));
        assert_eq!(o.armed_file.as_ref().unwrap().file_name(), "0A010203");
        assert_eq!(o.boot_server, Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(o.words().len(), 25, "words() knows every option");
    }

    #[test]
    fn the_documented_defaults() {
        let s = Cmdline::parse("").options.settings();
        assert_eq!((s.keep, s.attempts), (1, 5));
        assert_eq!((s.delta, s.used, s.free), (Delta::Auto, Used::Auto, FreeSpace::Leave));
        assert_eq!((s.error_wait.as_secs(), s.settle.as_secs(), s.mount_wait.as_secs()), (300, 10, 300));
        assert_eq!(s.share_wait.as_secs(), 900);
        assert_eq!((s.bad_sectors, s.degraded), (BadSectors::Fail, DegradedSet::Refuse));
        assert_eq!(s.failing_disk, FailingDisk::Refuse);
        let words = (s.union, s.reboot, s.on_error);
        assert_eq!(words, (UnionKind::Overlay, RebootMode::Reboot, OnError::Reboot));
    }

    #[test]
    fn old_and_new_spelling_of_every_action() {
        for action in Action::ALL {
            for line in [format!("quiet testbox.action={action}"), format!("testbox-action-{action} ro")] {
                let c = Cmdline::parse(&line);
                assert_eq!((c.action, c.problems), (Some(action), vec![]), "{line}");
            }
        }
    }

    /// More than one action, an unknown one, an unknown or a malformed word: named, and never acted on.
    #[test]
    fn what_is_wrong_is_named() {
        for (line, part) in [
            (
                "testbox.action=backup testbox.action=restore",
                "'testbox.action=backup' and 'testbox.action=restore'",
            ),
            ("testbox.action=backup testbox-action-backup", "more than one action"),
            ("testbox.action=bakup", "'testbox.action=bakup': unknown action; it must be one of backup,"),
            ("testbox-action-", "unknown action"),
            ("testbox-action-backup=1", "without a value"),
            ("testbox.action", "has no value"),
            ("testbox.actoin=restore", "'testbox.actoin=restore': unknown; testbox words are"),
            ("testbox.on_error=hold", "unknown"),
            ("testbox.=1", "unknown"),
            ("testbox.job=", "is no job id"),
            ("testbox.job=a testbox.job=b", "given twice"),
            ("testbox.backup=nas", "HOST:/path"),
            ("testbox.disks=", "disk name"),
            ("testbox.disks=sda,", "disk name"),
            ("testbox.disks=sda testbox.disks=sdb", "given twice"),
            ("testbox.map=sda", "IMAGE:DISK"),
            ("testbox.map=sda:sdb,sda:sdc", "contradict"),
            ("testbox.map=sda:sdc,sdb:sdc", "contradict"),
            ("testbox.name=a_b", "host name"),
            ("testbox.dns=10.0.0", "IPv4"),
            ("testbox.armed-file=/pxelinux.cfg/0A28292A", "below the TFTP root"),
            ("testbox.armed-file=../0A28292A", "below the TFTP root"),
            ("testbox.armed-file=a testbox.armed-file=b", "given twice"),
            ("testbox.boot-server=tftp.lab", "IPv4"),
            ("testbox.boot-server=0.0.0.0", "one server"),
            ("testbox.boot-server=224.0.0.1", "one server"),
            ("testbox.keep=-1", "from 0 to 100"),
            ("testbox.keep=+1", "from 0 to 100"),
            ("testbox.attempts=0", "from 1 to 1000"),
            ("testbox.error-wait=5m", "from 0 to 86400"),
            ("testbox.share-wait=0", "from 10 to 86400"),
            ("testbox.reboot=now", "none of reboot, halt, poweroff, hold"),
            ("testbox.union=unionfs", "none of overlay, aufs"),
            ("testbox.used=on", "none of auto, no-swap, off"),
            ("testbox.free=trim", "none of leave, discard, zero"),
            ("testbox.bad-sectors=skip", "none of fail, degraded"),
            ("testbox.degraded=yes", "none of refuse, replace, restore"),
            ("quiet -- testbox.action=restore", "after '--'"),
            ("a=\"b testbox.action=restore", "never closed"),
        ] {
            assert!(problems_of(line).contains(part), "{line}: {}", problems_of(line));
        }
        let c = Cmdline::parse("testbox.action=backup testbox.action=restore");
        assert_eq!(c.action, None);
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let c = Cmdline::parse("quiet testbox=1 mytestbox.action=x dyndbg=\"file a.c +p\" -- 5 foo=bar");
        assert_eq!(c, Cmdline::default());
        assert_eq!(problems_of("testbox.keep=1 testbox.keep=1"), "");
    }

    #[test]
    fn of_kernel_words_the_last_counts() {
        let c = Cmdline::parse("boot=nfs ip=dhcp boot=testbox ip=:::::eth0: -- boot=local");
        assert_eq!((c.boot.as_deref(), c.ip.as_deref()), (Some("testbox"), Some(":::::eth0:")));
    }

    #[test]
    fn aufs_is_chosen_by_either_word_and_the_testbox_word_decides() {
        for (line, kind) in [
            ("aufs=tmpfs", Some(UnionKind::Aufs)),
            ("testbox.union=aufs", Some(UnionKind::Aufs)),
            ("testbox.union=overlay aufs=tmpfs", Some(UnionKind::Overlay)),
            ("aufs=tmpfs testbox.union=overlay", Some(UnionKind::Overlay)),
            ("aufs=none", None),
        ] {
            assert_eq!(Cmdline::parse(line).options.union, kind, "{line}");
        }
    }

    #[test]
    fn files_have_lines_and_comments() {
        let c = Cmdline::parse_file(
            "# rack 3\ntestbox.action=backup # once\n\n  testbox.job=j1\r\ntestbox.name=a#b\n",
        );
        assert_eq!((c.action, c.job), (Some(Action::Backup), Some("j1".parse().unwrap())));
        assert_eq!(c.problems.len(), 1, "a # inside a word is no comment: {:?}", c.problems);
        assert_eq!(Cmdline::parse("# testbox.keep=3").options.keep, Some(3), "no comments on a kernel line");
    }

    #[test]
    fn a_fallback_fills_only_what_is_not_given() {
        let ours = Cmdline::parse("testbox.keep=3 testbox.disks=sda").options;
        let theirs = Cmdline::parse("testbox.keep=4 testbox.disks=sdb,sdc testbox.attempts=9").options;
        let both = ours.or(&theirs);
        assert_eq!((both.keep, both.attempts), (Some(3), Some(9)));
        assert_eq!(both.disks.len(), 1);
    }

    #[test]
    fn hostile_lines_do_not_grow_without_bound() {
        let c = Cmdline::parse(&"testbox.x=\u{1b} ".repeat(10_000));
        assert_eq!(c.problems.len(), 32);
        assert!(c.problems.iter().all(|p| !p.contains('\u{1b}')));
    }

    proptest! {
        #[test]
        fn never_panics(line in any::<String>(), near in "(testbox[.-]([a-z-]{0,12})[=:]?[!-~]{0,20} ){0,6}") {
            let _ = (Cmdline::parse(&line), Cmdline::parse_file(&line));
            let _ = (Cmdline::parse(&near), Cmdline::parse_file(&near));
        }

        #[test]
        fn words_parse_back(keep in 0u32..=100, wait in 0u64..=86_400, serial in "[!-~]{1,20}", path in "/[a-zA-Z %,\"*#]{0,20}") {
            let options = Options {
                backup: Some(NfsSource { host: "nas.lab".parse().unwrap(), path, options: vec!["vers=3".into()] }),
                disks: vec![DiskSelector::Serial(serial.clone()), DiskSelector::Name("sda".parse().unwrap())],
                map: vec![MapEntry { image: "sda".parse().unwrap(), disk: DiskSelector::Wwn(serial) }],
                keep: Some(keep),
                error_wait: Some(Duration::from_secs(wait)),
                on_error: Some(OnError::Shell),
                ..Options::default()
            };
            let parsed = Cmdline::parse(&options.words().join(" "));
            prop_assert_eq!(parsed.problems, Vec::<String>::new());
            prop_assert_eq!(parsed.options, options);
        }
    }
}
