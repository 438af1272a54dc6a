//! Signed sets and signed jobs: what an initramfs that demands them lets through, and what it refuses before the first
//! write.

use crate::world::{HEX, HOLD, IP, Machine, REBOOT, contents, disk};
use testbox::agent::world::Purpose;
use testbox::agent::{Ending, Mode};
use testbox::job::Action;
use testbox::job::Cmdline;
use testbox::job::job_text;
use testbox::share::{Files, MemFiles};
use testbox::signature::{JOB_NAMESPACE, SET_NAMESPACE, SecretKey, Trust, Verdict};
use testbox::store::record::Record;
use testbox::store::status::JobState;
use testbox::types::{JobSignature, SetHash};

const RECORD: &str = "backup.json";
const SIGNATURE: &str = "backup.json.sig";

fn admin() -> SecretKey {
    SecretKey::new(&[1; 32], "admin").unwrap()
}

fn stranger() -> SecretKey {
    SecretKey::new(&[2; 32], "stranger").unwrap()
}

fn trusting(required: bool) -> Trust {
    Trust::new([("lab.pub", admin().public().line().as_bytes())], required)
}

fn put(machine: &Machine, name: &str, bytes: impl Into<Vec<u8>>) {
    machine.backup.put(&format!("{IP}/{name}"), bytes);
}

fn remove(machine: &Machine, name: &str) {
    machine.backup.remove(&format!("{IP}/{name}")).unwrap();
}

/// What `testboxctl sign` does.
fn sign_set(machine: &Machine, key: &SecretKey) {
    let record = machine.file(RECORD).unwrap();
    put(machine, SIGNATURE, key.sign(SET_NAMESPACE, &record).to_file());
}

/// A machine that has the wrong bytes on its disk, with set 1 on the share, signed, and an initramfs that demands that.
fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.trust = trusting(true);
    machine.arm("testbox.action=backup testbox.job=first");
    assert_eq!(machine.boot().ending, REBOOT, "a backup need not be signed");
    sign_set(&machine, &admin());
    machine.set_disks(vec![disk("sda S1 @1", contents(2, 99))]);
    machine
}

/// What `testboxctl arm --sign-key` does.
fn arm_signed(machine: &mut Machine, words: &str, key: &SecretKey) {
    machine.arm(words);
    let line = Cmdline::parse(&machine.cmdline);
    let text = job_text(IP.parse().unwrap(), line.action.unwrap(), &line.job.unwrap(), &line.options);
    let signature = JobSignature(key.sign(JOB_NAMESPACE, text.as_bytes()).signature);
    machine.cmdline += &format!(" testbox.signature={signature}");
}

/// A restore of the set that is the current one now.
fn restore(machine: &Machine) -> String {
    format!(
        "testbox.action=restore testbox.job=r testbox.set={}",
        SetHash::of(&machine.file(RECORD).unwrap())
    )
}

#[track_caller]
fn assert_restored(machine: &Machine, seed: u64) {
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert!(!machine.is_armed(), "{}", seen.console);
    assert_eq!(machine.disk_bytes("sda"), contents(2, seed));
}

/// Refused with this code; the disk has what it had, and the machine stays armed.
#[track_caller]
fn assert_refused(machine: &Machine, code: u8, what: &str) -> String {
    let seen = machine.boot();
    let status = machine.status();
    assert_eq!(status.code, Some(code), "{what}: {}", seen.console);
    assert!(machine.is_armed(), "{what}");
    assert_eq!(machine.disk_bytes("sda"), contents(2, 99), "{what}: nothing is written");
    assert!(machine.text("maintenance.log").contains(&format!(" {code}]")), "{what}");
    seen.console
}

#[test]
fn a_signed_set_is_restored_by_a_signed_job() {
    let mut machine = machine();
    let words = restore(&machine);
    arm_signed(&mut machine, &words, &admin());
    assert_restored(&machine, 1);
    let who = format!("{} (admin)", admin().public().id());
    let log = machine.text("maintenance.log");
    assert!(log.contains(&format!("the job is signed by {who}")), "{log}");
    assert!(
        machine.status().notes.contains(&format!("set 1 is signed by {who}")),
        "{:?}",
        machine.status().notes
    );
    // Done once: the same job again only disarms.
    machine.set_disks(vec![disk("sda S1 @1", contents(2, 99))]);
    machine.put_pxe(&words);
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(!machine.is_armed());
    assert_eq!(machine.disk_bytes("sda"), contents(2, 99));
}

#[test]
fn a_set_that_no_trusted_key_vouches_for_is_refused() {
    type Spoil = fn(&Machine);
    let rows: [(&str, Spoil, &str); 7] = [
        ("unsigned", |m| remove(m, SIGNATURE), "is not signed"),
        ("another key", |m| sign_set(m, &stranger()), "is not trusted here"),
        ("no signature at all", |m| put(m, SIGNATURE, "hello"), "first and last lines"),
        ("too long", |m| put(m, SIGNATURE, vec![b'-'; 10_000]), "cannot be read"),
        (
            "a record that was changed",
            |m| put(m, RECORD, m.text(RECORD).replace("\"serial\": \"S1\"", "\"serial\": \"S2\"")),
            "of other bytes",
        ),
        (
            "boot entries that were changed",
            |m| put(m, RECORD, m.text(RECORD).replace("\"kind\": \"bios\"", "\"kind\": \"uefi\"")),
            "of other bytes",
        ),
        (
            "a signature of a job",
            |m| {
                let record = m.file(RECORD).unwrap();
                put(m, SIGNATURE, admin().sign(JOB_NAMESPACE, &record).to_file());
            },
            "one for 'testbox-job'",
        ),
    ];
    for (what, spoil, why) in rows {
        let mut machine = machine();
        spoil(&machine);
        // The admin was deceived, and has signed the job.
        let words = restore(&machine);
        arm_signed(&mut machine, &words, &admin());
        let console = assert_refused(&machine, 62, what);
        assert!(machine.status().error.is_some_and(|e| e.contains(why)), "{what}: {console}");
    }
}

#[test]
fn a_signed_set_of_another_machine_is_none_of_this_one() {
    let mut machine = machine();
    let record = machine.text(RECORD).replace(IP, "10.40.41.43");
    put(&machine, RECORD, record);
    sign_set(&machine, &admin());
    let words = restore(&machine);
    arm_signed(&mut machine, &words, &admin());
    assert_refused(&machine, 62, "another machine");
    assert!(machine.status().error.unwrap().contains("signed as a set of 10.40.41.43"));
}

#[test]
fn a_gzip_without_a_record_cannot_be_signed() {
    let mut machine = machine();
    let image = machine.file("sda.raw.gz").unwrap();
    let hash = SetHash::of(&machine.file(RECORD).unwrap());
    for name in ["sda.raw.gz", RECORD, SIGNATURE] {
        remove(&machine, name);
    }
    put(&machine, "sda.gz", image);
    let words = format!("testbox.action=restore testbox.job=r testbox.set={hash} testbox.map=sda:serial=S1");
    arm_signed(&mut machine, &words, &admin());
    assert_refused(&machine, 62, "a foreign gzip");
}

/// The whole share is put back to what it was: every signature in it is right.
#[test]
fn an_older_signed_set_cannot_be_played_back() {
    let mut machine = machine();
    let old = machine.backup.tree();
    machine.set_disks(vec![disk("sda S1 @1", contents(2, 3))]);
    machine.arm("testbox.action=backup-again testbox.job=second");
    assert_eq!(machine.boot().ending, REBOOT);
    sign_set(&machine, &admin());
    machine.set_disks(vec![disk("sda S1 @1", contents(2, 99))]);
    let words = restore(&machine);
    arm_signed(&mut machine, &words, &admin());
    let new = machine.backup.tree();
    for path in new.keys().filter(|path| path.starts_with(IP)) {
        remove(&machine, &path[IP.len() + 1..]);
    }
    old.iter().for_each(|(path, bytes)| machine.backup.put(path, bytes.clone()));
    assert_refused(&machine, 62, "an older set");
    assert!(machine.status().error.unwrap().contains("not the one that testbox.set names"));
}

#[test]
fn a_job_that_no_trusted_key_has_signed_so_is_refused() {
    type Arm = fn(&mut Machine, &str);
    let rows: [(&str, Arm, u8); 8] = [
        ("unsigned", |m, words| _ = m.arm(words), 63),
        ("another key", |m, words| arm_signed(m, words, &stranger()), 63),
        (
            "a word more",
            |m, words| {
                arm_signed(m, words, &admin());
                m.cmdline += " testbox.free=zero";
            },
            63,
        ),
        (
            "another disk",
            |m, words| {
                arm_signed(m, &format!("{words} testbox.map=sda:serial=S9"), &admin());
                m.cmdline = m.cmdline.replace("S9", "S1");
            },
            63,
        ),
        (
            "another job",
            |m, words| {
                arm_signed(m, words, &admin());
                m.cmdline = m.cmdline.replace("testbox.job=r", "testbox.job=s");
                m.put_pxe(&words.replace("testbox.job=r", "testbox.job=s"));
            },
            63,
        ),
        ("no set", |m, _| arm_signed(m, "testbox.action=restore testbox.job=r", &admin()), 63),
        ("no id", |m, words| _ = m.arm(&words.replace("testbox.job=r", "")), 63),
        // Nothing on the kernel command line switches it off: there is no such word.
        (
            "a word that would switch it off",
            |m, words| _ = m.arm(&format!("{words} testbox.require-signature=no")),
            23,
        ),
    ];
    for (what, arm, code) in rows {
        let mut machine = machine();
        let words = restore(&machine);
        arm(&mut machine, &words);
        assert_refused(&machine, code, what);
    }
}

#[test]
fn a_signed_job_is_one_of_its_machine() {
    let mut machine = machine();
    let words = restore(&machine);
    arm_signed(&mut machine, &words, &admin());
    // The same files for a machine that got another address.
    for (path, bytes) in machine.backup.tree() {
        machine.backup.put(&path.replace(IP, "10.40.41.44"), bytes);
    }
    let pxe = machine.tftp.get(&format!("pxelinux.cfg/{HEX}")).unwrap();
    machine.tftp.put("pxelinux.cfg/0A28292C", pxe);
    machine.net_conf = vec!["DEVICE='enp0s2'\nIPV4ADDR='10.40.41.44'\nROOTSERVER='10.0.0.1'\n".into()];
    let seen = machine.boot();
    assert!(seen.console.contains("[job-signature 63]"), "{}", seen.console);
    assert_eq!(machine.disk_bytes("sda"), contents(2, 99));
}

#[test]
fn an_image_that_is_not_the_signed_one_is_never_written() {
    // Whole, with right hashes of its own.
    let other = {
        let mut other = Machine::new();
        other.set_disks(vec![disk("sda S1 @1", contents(2, 5))]);
        other.arm("testbox.action=backup testbox.job=x");
        assert_eq!(other.boot().ending, REBOOT);
        other.file("sda.raw.gz").unwrap()
    };
    let mut machine = machine();
    let words = restore(&machine);
    let image = machine.file("sda.raw.gz").unwrap();
    put(&machine, "sda.raw.gz", other.clone());
    arm_signed(&mut machine, &words, &admin());
    assert_refused(&machine, 44, "another image");
    // Replaced after the plan was made.
    put(&machine, "sda.raw.gz", image);
    let share = machine.backup.clone();
    *machine.on_mount.lock().unwrap() = Some(Box::new(move |purpose| {
        if purpose == Purpose::Images {
            share.put(&format!("{IP}/sda.raw.gz"), other.clone());
        }
    }));
    assert_refused(&machine, 52, "an image that is replaced meanwhile");
}

#[test]
fn backup_again_moves_the_signature_with_its_set() {
    let mut machine = machine();
    let old = (machine.file(RECORD).unwrap(), machine.file(SIGNATURE).unwrap());
    machine.set_disks(vec![disk("sda S1 @1", contents(2, 3))]);
    machine.arm("testbox.action=backup-again testbox.job=second");
    assert_eq!(machine.boot().ending, REBOOT);
    assert_eq!(machine.file(SIGNATURE), None, "it is not one of the new record");
    let kept =
        (machine.file("history/1/backup.json").unwrap(), machine.file("history/1/backup.json.sig").unwrap());
    assert_eq!(kept, old);
    // The new one is refused until it is signed. The old one is restored by its name.
    machine.set_disks(vec![disk("sda S1 @1", contents(2, 99))]);
    let words = restore(&machine);
    arm_signed(&mut machine, &words, &admin());
    assert_refused(&machine, 62, "not signed yet");
    let words = format!("testbox.action=restore testbox.job=o testbox.set={}", SetHash::of(&old.0));
    arm_signed(&mut machine, &words, &admin());
    assert_restored(&machine, 1);
    assert!(machine.status().notes.iter().any(|note| note.starts_with("USING THE OLDER SET 1")));
}

/// A verify writes nothing: an unsigned set is news, one whose signature is wrong must not be called good.
#[test]
fn verify_says_what_the_signature_is() {
    let machine = &mut machine();
    let verify = |machine: &mut Machine, job: &str| {
        machine.arm(&format!("testbox.action=verify testbox.job={job}"));
        machine.boot();
        machine.status()
    };
    let status = verify(machine, "a");
    assert!(
        status.state == JobState::Done && status.notes[0].contains("set 1 is signed by SHA256:"),
        "{status:?}"
    );
    remove(machine, SIGNATURE);
    let status = verify(machine, "b");
    assert!(status.state == JobState::Done && status.notes[0].starts_with("NOT SIGNED: set 1"), "{status:?}");
    sign_set(machine, &stranger());
    assert_eq!(verify(machine, "c").code, Some(62));
}

/// Keys that are known and not demanded: the log tells, and nothing is refused.
#[test]
fn where_signatures_are_not_demanded_a_bad_one_is_a_finding() {
    for (key, finding) in [(admin(), "set 1 is signed by"), (stranger(), "BAD SIGNATURE: set 1")] {
        let mut machine = machine();
        machine.trust = trusting(false);
        sign_set(&machine, &key);
        machine.arm("testbox.action=restore testbox.job=r");
        assert_restored(&machine, 1);
        assert!(machine.status().notes[0].starts_with(finding), "{:?}", machine.status().notes);
    }
}

/// A set is named by its record also where nothing is signed.
#[test]
fn a_job_that_names_a_set_takes_no_other() {
    let mut machine = machine();
    machine.trust = Trust::default();
    machine.arm(&format!("testbox.action=restore testbox.job=r testbox.set={}", SetHash::of(b"another")));
    assert_refused(&machine, 44, "another set");
}

/// Whatever hands the disks to somebody wants a signature: the rescue, the full system, the shell after an error.
#[test]
fn nobody_gets_a_shell_by_an_unsigned_job() {
    let mut machine = machine();
    machine.arm("testbox.action=rescue testbox.job=q");
    assert_refused(&machine, 63, "rescue");
    arm_signed(&mut machine, "testbox.action=rescue testbox.job=q", &admin());
    assert_eq!(machine.boot().ending, Ending::RescueShell);
    machine.arm("testbox.action=restore testbox.job=s testbox.on-error=shell");
    assert_eq!(machine.boot().ending, HOLD);
    machine.cmdline = "boot=nfs".into();
    machine.tftp = MemFiles::new();
    let seen = machine.boot_as(&Mode::NfsRoot("/root".into()));
    assert!(seen.ending == REBOOT && seen.console.contains("[job-signature 63]"), "{}", seen.console);
    assert!(Action::ALL.into_iter().filter(|a| a.needs_signature()).eq([Action::Restore, Action::Rescue]));
}

#[test]
fn an_initramfs_that_demands_signatures_without_a_key_refuses() {
    let mut machine = machine();
    machine.trust = Trust::new([("lab.pub", &b"ssh-rsa AAAA x"[..])], true);
    let words = restore(&machine);
    arm_signed(&mut machine, &words, &admin());
    let console = assert_refused(&machine, 63, "no key");
    assert!(console.contains("lab.pub: line 1"), "{console}");
    let record = machine.file(RECORD).unwrap();
    assert!(Record::parse(&record).is_ok());
    assert!(matches!(machine.trust.of_set(&record, machine.file(SIGNATURE).as_deref()), Verdict::Not(_)));
}
