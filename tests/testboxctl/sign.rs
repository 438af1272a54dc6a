//! `keygen`, `sign`, and what `arm --sign-key` signs.

use super::{FILE, Lab};
use jiff::Timestamp;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use testbox::inventory::Identity;
use testbox::job::Cmdline;
use testbox::job::job_text;
use testbox::job::pxe::PxeFile;
use testbox::signature::{Trust, Verdict};
use testbox::store::record::{ImageRecord, Machine, Record, SetState};
use testbox::types::SetHash;

/// Shares with one set of 10.42.1.20, and a key.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.run(&["keygen", "--comment", "lab admin", "key"]).expect(0, &["key.pub: public key", "SHA256:"]);
    let other = lab.run(&["keygen", "--json", "spare"]).expect(0, &[]).out;
    let other: Value = serde_json::from_str(&other).unwrap();
    let line = String::from_utf8(lab.read("spare.pub")).unwrap();
    assert_eq!((&other["secret_file"], &other["public_key"]), (&"spare".into(), &line.trim_end().into()));
    lab.write("disk", &vec![7; 1 << 20]);
    fs::create_dir_all(lab.path("b/10.42.1.20")).unwrap();
    lab.run(&["image", "create", "disk", "b/10.42.1.20/sda.raw.gz"]).expect(0, &[]);
    let info = lab.run(&["image", "info", "--json", "b/10.42.1.20/sda.raw.gz"]).expect(0, &[]);
    let info: Value = serde_json::from_str(&info.out).unwrap();
    let machine = Machine { ip: "10.42.1.20".into(), hexip: "0A2A0114".into(), hostname: "tb1".into() };
    let mut record = Record::new(3, Some("j1".into()), machine, Timestamp::UNIX_EPOCH);
    record.images.push(ImageRecord {
        name: "sda".into(),
        identity: Identity::default(),
        location: String::new(),
        disk_size: 1 << 20,
        logical_block_size: 512,
        physical_block_size: 512,
        image_size: info["image_bytes"].as_u64().unwrap(),
        root_hash: info["root_hash"].as_str().unwrap().parse().unwrap(),
        state: SetState::Complete,
        bad_ranges: Vec::new(),
        unreadable_bytes: 0,
        hidden_bytes: 0,
        partitions: Vec::new(),
        content: Default::default(),
        twin: false,
        carried: false,
    });
    lab.write("b/10.42.1.20/backup.json", &record.to_bytes());
    lab
}

fn trust(lab: &Lab) -> Trust {
    Trust::new([("key.pub", &lab.read("key.pub")[..])], true)
}

const SIGN: [&str; 5] = ["sign", "--backup-dir", "b", "--sign-key", "key"];
const SIGNATURE: &str = "b/10.42.1.20/backup.json.sig";

#[test]
fn a_key_is_secret_and_never_overwritten() {
    let lab = lab();
    let mode = |name: &str| fs::metadata(lab.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("key"), mode("key.pub") & 0o600), (0o600, 0o600));
    let before = lab.snapshot();
    lab.run(&["keygen", "key"]).expect(1, &["there already"]);
    fs::remove_file(lab.path("key.pub")).unwrap();
    lab.run(&["keygen", "key"]).expect(1, &["there already"]);
    assert!(!lab.path("key.pub").exists(), "no public key without its secret one");
    lab.write("key.pub", &before.iter().find(|(path, _)| path.ends_with("key.pub")).unwrap().1);
    assert_eq!(lab.snapshot(), before);
    fs::set_permissions(lab.path("key"), fs::Permissions::from_mode(0o640)).unwrap();
    lab.run(&[&SIGN[..], &["10.42.1.20"]].concat()).expect(1, &["key: others may read", "chmod 600"]);
    lab.run(&["sign", "10.42.1.20"]).expect(2, &["--sign-key"]);
}

#[test]
fn a_signed_set_is_one_for_openssh_too_and_image_info_says_so() {
    let lab = lab();
    let info = |words: &[&str]| lab.run(&[&["image", "info", "b/10.42.1.20/sda.raw.gz"], words].concat());
    info(&[]).expect(0, &["not signed"]);
    let run = lab
        .run(&[&SIGN[..], &["10.42.1.20"]].concat())
        .expect(0, &["set 3 of 10.42.1.20", "job j1", "(lab admin)"]);
    let record = lab.read("b/10.42.1.20/backup.json");
    assert!(run.out.contains(&SetHash::of(&record).to_string()), "{}", run.out);
    assert!(matches!(trust(&lab).of_set(&record, Some(&lab.read(SIGNATURE))), Verdict::By(_)));
    let public = String::from_utf8(lab.read("key.pub")).unwrap();
    lab.write("signers", format!("me {public}").as_bytes());
    let check = "-Y verify -n testbox-set -f signers -I me -s b/10.42.1.20/backup.json.sig";
    let mut ssh = Command::new("ssh-keygen");
    ssh.current_dir(lab.dir.path()).args(check.split(' '));
    ssh.stdin(fs::File::open(lab.path("b/10.42.1.20/backup.json")).unwrap()).stdout(Stdio::null());
    assert!(ssh.status().expect("ssh-keygen of openssh-client").success());

    info(&[]).expect(0, &["signed by key SHA256:", "--trusted-key tells"]);
    info(&["--trusted-key", "key.pub"]).expect(0, &["signed by SHA256:", "(lab admin)"]);
    lab.run(&["keygen", "other"]).expect(0, &[]);
    info(&["--trusted-key", "other.pub"]).expect(0, &["BAD SIGNATURE", "is not trusted"]);
    let json = info(&["--trusted-key", "key.pub", "--json"]).expect(0, &[]);
    assert!(
        serde_json::from_str::<Value>(&json.out).unwrap()["signature"]
            .as_str()
            .unwrap()
            .contains("lab admin")
    );
    lab.write("b/10.42.1.20/backup.json", &[&record[..], b"\n"].concat());
    info(&["--trusted-key", "key.pub"]).expect(0, &["BAD SIGNATURE", "of other bytes"]);
    info(&[]).expect(0, &["BAD SIGNATURE"]);
}

#[test]
fn a_set_whose_images_are_not_there_as_recorded_is_not_signed() {
    let lab = lab();
    let image = lab.read("b/10.42.1.20/sda.raw.gz");
    lab.write("disk", &vec![8; 1 << 20]);
    lab.run(&["image", "create", "disk", "other.gz"]).expect(0, &[]);
    for (bytes, part) in [
        (lab.read("other.gz"), "not the image that backup.json names"),
        (image[..image.len() - 4096].to_vec(), "sda.raw.gz"),
    ] {
        lab.write("b/10.42.1.20/sda.raw.gz", &bytes);
        lab.run(&[&SIGN[..], &["10.42.1.20"]].concat()).expect(1, &["NOT signed", part]);
        assert!(!lab.path(SIGNATURE).exists());
    }
    lab.run(&[&SIGN[..], &["10.42.1.77"]].concat()).expect(1, &["10.42.1.77"]);
    lab.write("empty/x", b"");
    lab.run(&[&SIGN[..], &["./empty"]].concat()).expect(1, &["no backup.json"]);
    // Every set is tried.
    lab.write("b/10.42.1.20/sda.raw.gz", &image);
    lab.run(&[&SIGN[..], &["./empty", "b/10.42.1.20"]].concat()).expect(1, &["signed by SHA256:"]);
}

#[test]
fn a_signed_job_names_its_set_and_is_bound_to_its_words() {
    let lab = lab();
    let armed = || {
        let text = String::from_utf8(lab.read(FILE)).unwrap();
        let line: Cmdline = PxeFile::parse(&text).cmdline();
        assert_eq!(line.problems, [""; 0]);
        line
    };
    let signer = |ip: &str, line: &Cmdline| {
        let (action, job) = (line.action.unwrap(), line.job.clone().unwrap());
        trust(&lab)
            .of_job(&job_text(ip.parse().unwrap(), action, &job, &line.options), line.signature.as_ref())
    };
    let sign = ["--sign-key", "key", "--map", "sda:serial=X", "--extra", "aufs=tmpfs"];
    lab.arm(&[&sign[..], &["10.42.1.20", "restore"]].concat()).expect(0, &["the current set is not signed"]);
    let set = SetHash::of(&lab.read("b/10.42.1.20/backup.json"));
    let line = armed();
    assert_eq!(line.options.set, Some(set));
    assert!(matches!(signer("10.42.1.20", &line), Verdict::By(_)));
    assert!(matches!(signer("10.42.1.21", &line), Verdict::Not(_)));
    lab.run(&[&SIGN[..], &["10.42.1.20"]].concat()).expect(0, &[]);
    let run = lab.arm(&[&sign[..], &["10.42.1.20", "restore"]].concat()).expect(0, &[]);
    assert!(!run.err.contains("not signed"), "{}", run.err);
    // Another set, by its name; and with no set at all where there is nothing to restore.
    let other = SetHash::of(b"x").to_string();
    lab.arm(&["--sign-key", "key", "--set", &other, "10.42.1.20", "restore"]).expect(0, &[]);
    assert_eq!(armed().options.set.unwrap().to_string(), other);
    assert!(matches!(signer("10.42.1.20", &armed()), Verdict::By(_)));
    lab.arm(&["--sign-key", "key", "10.42.1.20", "backup-again"]).expect(0, &[]);
    assert!(armed().options.set.is_none() && matches!(signer("10.42.1.20", &armed()), Verdict::By(_)));
    lab.arm(&["--set", &other, "10.42.1.20", "backup"]).expect(2, &["--set is for restore and verify"]);
    lab.arm(&["--set", "abc", "10.42.1.20", "restore"]).expect(2, &["SHA-256"]);
    fs::remove_file(lab.path("b/10.42.1.20/backup.json")).unwrap();
    lab.arm(&["--sign-key", "key", "10.42.1.20", "restore"]).expect(1, &["there is no current set", "--set"]);
}

/// What a newer testbox has made, whichever of the sets it is: nothing is read out of it and nothing written beside it.
#[test]
fn a_set_of_a_newer_format_is_refused_by_every_command() {
    let image = "b/10.42.1.20/sda.raw.gz";
    for record in ["backup.json", "backup.json.part", "history/2/backup.json"] {
        let lab = lab();
        lab.write(&format!("b/10.42.1.20/{record}"), br#"{ "format": 3, "sets": [] }"#);
        let before = lab.snapshot();
        let says = &[record, "format 3", "[newer-format 64]", "testboxctl of that release"][..];
        for action in ["backup", "backup-again", "restore", "verify", "refresh-info"] {
            lab.arm(&["10.42.1.20", action]).expect(1, says);
        }
        lab.run(&[&SIGN[..], &["10.42.1.20"]].concat()).expect(1, says);
        lab.run(&["status", "--backup-dir", "b"]).expect(0, says);
        lab.run(&["image", "restore", image, "copy"]).expect(1, says);
        lab.run(&["image", "verify", image]).expect(1, says);
        lab.run(&["image", "info", image]).expect(1, says);
        lab.run(&["image", "cat", image]).expect(1, says);
        assert!(lab.snapshot() == before, "{record}");
        // A rescue touches no set; and whoever knows that the initrd is a newer one may arm all the same.
        lab.arm(&["10.42.1.20", "rescue"]).expect(0, &[]);
        lab.arm(&["--force", "10.42.1.20", "backup-again"]).expect(0, &[]);
    }
}
