//! What a kernel command line and a job file say.

use super::super::options::*;
use super::*;
use crate::job::choices::*;
use crate::types::{Delta, FreeSpace};
use crate::types::{DiskSelector, MapEntry, NfsSource};
use crate::used::Used;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::time::Duration;

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
    let line = "BOOT_IMAGE=maintenance-boot/vmlinuz ro boot=nfs root=/dev/nfs nfsroot=10.0.2.2:/nfsroot,ro,tcp \
         ip=10.1.2.3:10.0.2.2:10.0.2.1:255.255.0.0:maintenance: BOOTIF=01-52-54-00-12-34-56 panic=300 \
         testbox.action=restore testbox.job=ab-12 testbox.set=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 testbox.backup=nas:/export/testbox-backup,vers=3 \
         testbox.tftp=10.0.2.2:/export/testbox-tftp testbox.disks=sda,serial=A%20B,wwn=eui.00253 \
         testbox.map=sda:serial=A%2CB,nvme0n1:/dev/nvme1n1 testbox.name=tb1.lab testbox.dns=10.0.0.1,10.0.0.2 \
         testbox.keep=2 testbox.delta=never testbox.used=off testbox.free=zero testbox.bad-sectors=degraded testbox.degraded=replace testbox.failing-disk=write testbox.union=aufs testbox.reboot=poweroff testbox.on-error=hold \
         testbox.error-wait=5 testbox.attempts=3 testbox.settle=0 testbox.mount-wait=60 testbox.share-wait=120 testbox.net-wait=90 \
         testbox.armed-file=bios/pxelinux.cfg/0A010203 testbox.boot-server=10.0.2.2 testbox.no-job=boot-disk";
    let c = Cmdline::parse(line);
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
        net_wait: Duration::from_secs(90),
        ..o.settings()
    };
    assert_eq!(o.settings(), s);
    assert_eq!(o.net_wait, Some(Duration::from_secs(90)));
    assert_eq!(o.armed_file.as_ref().unwrap().file_name(), "0A010203");
    assert_eq!(o.boot_server, Some(Ipv4Addr::new(10, 0, 2, 2)));
    assert_eq!(o.settings().no_job, NoJob::BootDisk);
    let words = o.words();
    let keys = |words: &[&str]| {
        words.iter().map(|word| word.split('=').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let given: Vec<&str> = line.split_whitespace().filter(|word| word.starts_with("testbox.")).collect();
    let mut said = keys(&words.iter().map(String::as_str).collect::<Vec<_>>());
    said.extend(["testbox.action", "testbox.job"].map(str::to_owned));
    let missing: Vec<String> = keys(&given).into_iter().filter(|key| !said.contains(key)).collect();
    assert_eq!(missing, [""; 0], "words() says every option that is given");
}

#[test]
fn the_documented_defaults() {
    let s = Cmdline::parse("").options.settings();
    assert_eq!((s.keep, s.attempts), (1, 5));
    assert_eq!((s.delta, s.used, s.free), (Delta::Auto, Used::Auto, FreeSpace::Leave));
    assert_eq!((s.error_wait.as_secs(), s.settle.as_secs(), s.mount_wait.as_secs()), (300, 10, 300));
    assert_eq!((s.share_wait.as_secs(), s.net_wait.as_secs()), (900, 300));
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
        ("testbox.job=", "is not a valid job id"),
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
        ("testbox.reboot=now", "not one of reboot, halt, poweroff, hold"),
        ("testbox.union=unionfs", "not one of overlay, aufs"),
        ("testbox.used=on", "not one of auto, no-swap, off"),
        ("testbox.free=trim", "not one of leave, discard, zero"),
        ("testbox.bad-sectors=skip", "not one of fail, degraded"),
        ("testbox.degraded=yes", "not one of refuse, replace, restore"),
        ("quiet -- testbox.action=restore", "after '--'"),
        ("quiet -- Testbox_action=restore", "after '--'"),
        ("testbox=1", "unknown"),
        ("testbox", "unknown"),
        ("testbox_disks=sda", "unknown"),
        ("Testbox.Disks=sda", "unknown"),
        ("testboxdisks=sda", "unknown"),
        ("test-box.disks=sda", "unknown"),
        ("\"testbox_disks=sda\"", "unknown"),
        ("quiet\u{a0}testbox.disks=sda", "U+00A0"),
        ("testbox\u{200b}.disks=sda", "U+200B"),
        ("\u{feff}testbox.disks=sda", "U+FEFF"),
        ("\u{ff54}\u{ff45}\u{ff53}\u{ff54}box.disks=sda", "U+FF54"),
        ("testb\u{43e}x.disks=sda", "U+043E"),
        ("a=\u{2011}testbox.disks=sda", "U+2011"),
        ("a=\"b testbox.action=restore", "never closed"),
    ] {
        assert!(problems_of(line).contains(part), "{line}: {}", problems_of(line));
    }
    let c = Cmdline::parse("testbox.action=backup testbox.action=restore");
    assert_eq!(c.action, None);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let c = Cmdline::parse("quiet root=LABEL=Büro mytestbox.action=x dyndbg=\"file a.c +p\" -- 5 foo=bar");
    assert_eq!(c, Cmdline::default());
    assert_eq!(problems_of("testbox.keep=1 testbox.keep=1"), "");
}

#[test]
fn no_message_holds_a_secret() {
    for line in [
        "testbox_token=hush",
        "testbox.tokenx=hush",
        "testbox.token",
        "a.pass=hush\u{a0}",
        "x=\"testbox.key=hush",
    ] {
        assert!(!problems_of(line).contains("hush") && !problems_of(line).is_empty(), "{line}");
    }
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
    assert_eq!(c.problems.len(), 1, "a # inside a word does not begin a comment: {:?}", c.problems);
    assert_eq!(Cmdline::parse("# testbox.keep=3").options.keep, Some(3), "no comments on a kernel line");
}

#[test]
fn a_file_loses_no_restriction_in_silence() {
    for (text, part) in [
        ("\u{feff}testbox.disks=sda\r\n", ""),
        ("\u{feff}# rack 3\ntestbox.disks=sda", ""),
        ("testbox.disks=sda\ntestbox.disks=sda\n", ""),
        ("\u{feff}\u{feff}testbox.disks=sda", "U+FEFF"),
        ("testbox.keep=1\n\u{feff}testbox.disks=sda", "U+FEFF"),
        ("# rack 3\rtestbox.disks=sda\r", "line 1: the character U+000D"),
        ("testbox.keep=1 # a\u{2028}testbox.disks=sda", "line 1: the character U+2028"),
        ("# a\u{b}testbox.disks=sda", "U+000B"),
        ("testbox.disks=sda\u{a0}# only this one", "U+00A0"),
        ("t\0e\0s\0t\0b\0o\0x\0", "U+0000"),
        ("disks=sda", "not a testbox word"),
        ("quiet", "not a testbox word"),
        ("--", "not a testbox word"),
        ("testbox_disks=sda", "unknown"),
        ("testbox.disks=sda\ntestbox.disks=sdb", "given twice"),
    ] {
        let c = Cmdline::parse_file(text);
        let kept = c.options.disks.len() == 1 && c.problems.is_empty();
        assert!(if part.is_empty() { kept } else { c.problems.concat().contains(part) }, "{text:?}: {c:?}");
    }
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
