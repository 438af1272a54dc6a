use super::*;
use crate::types::SetHash;
use proptest::prelude::*;
use std::process::Command;

fn key(n: u8) -> SecretKey {
    SecretKey::new(&[n; 32], &format!("admin {n}")).unwrap()
}

fn trust(keys: &[&SecretKey]) -> Trust {
    let text: String = keys.iter().map(|key| key.public().line() + "\n").collect();
    Trust::new([("lab.pub", text.as_bytes())], true)
}

#[test]
fn what_a_trusted_key_signed_is_known_and_nothing_else_passes() {
    let (admin, other) = (key(1), key(2));
    let sign = |key: &SecretKey, namespace: &str, text: &str| key.sign(namespace, text.as_bytes()).to_file();
    let rows = [
        (Some(sign(&admin, SET_NAMESPACE, "record")), None),
        (None, Some("is not signed")),
        (Some(sign(&other, SET_NAMESPACE, "record")), Some("is not trusted here")),
        (Some(sign(&admin, SET_NAMESPACE, "Record")), Some("of other bytes")),
        (Some(sign(&admin, JOB_NAMESPACE, "record")), Some("one for 'testbox-job'")),
        (Some(String::new()), Some("first and last lines")),
    ];
    for (signature, expected) in rows {
        let verdict = trust(&[&admin]).of_set(b"record", signature.as_ref().map(|s| s.as_bytes()));
        match expected {
            None => assert_eq!(verdict, Verdict::By(format!("{} (admin 1)", admin.public().id()))),
            Some(part) => {
                assert!(verdict.why_not().is_some_and(|why| why.contains(part)), "{verdict:?} {part}")
            }
        }
    }
    // A signature that names a trusted key and was made by another.
    let mut forged = other.sign(SET_NAMESPACE, b"record");
    forged.key = admin.public().clone();
    assert!(trust(&[&admin]).of_set(b"record", Some(forged.to_file().as_bytes())).why_not().is_some());
}

#[test]
fn key_files_that_cannot_be_read_trust_nobody_and_are_named() {
    let weak = {
        let mut blob = Vec::new();
        ssh::put(&mut blob, ssh::KEY_TYPE.as_bytes());
        ssh::put(&mut blob, &{
            let mut identity = [0; 32];
            identity[0] = 1;
            identity
        });
        use base64ct::Encoding;
        format!("ssh-ed25519 {}", base64ct::Base64::encode_string(&blob))
    };
    for (text, part) in [
        ("ssh-rsa AAAA x", "the only kind"),
        ("ssh-ed25519", "no Ed25519 key"),
        ("ssh-ed25519 !!!! x", "not base64"),
        ("ssh-ed25519 AAAA x", "cut short"),
        (weak.as_str(), "weak key"),
    ] {
        let trust = Trust::new([("a.pub", text.as_bytes())], true);
        assert!(trust.problems.iter().any(|p| p.contains("a.pub: line 1: ")), "{text}");
        let signed = key(1).sign(SET_NAMESPACE, b"r").to_file();
        let why = trust.of_set(b"r", Some(signed.as_bytes())).why_not().unwrap();
        let expected = if text == "ssh-ed25519" { "cut short" } else { part };
        assert!(why.contains(expected) && why.contains("no usable key"), "{text}: {why}");
    }
    assert!(Trust::new([("a.pub", &b"# nothing\n\n"[..])], true).problems.is_empty());
}

#[test]
fn the_words_of_a_job_read_back_and_have_one_spelling() {
    let signature = JobSignature(key(1).sign(JOB_NAMESPACE, b"x").signature);
    let text = signature.to_string();
    assert_eq!((text.len(), text.parse()), (86, Ok(signature)));
    let hash = SetHash::of(b"");
    assert_eq!(hash.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(hash.to_string().parse(), Ok(hash));
    for bad in
        ["", "AA", &text[..85], &format!("{text}A"), &format!("{text}="), &text.replace(&text[..1], "+")]
    {
        assert!(bad.parse::<JobSignature>().is_err(), "{bad}");
    }
    for bad in ["", &hash.to_string()[1..], &hash.to_string().to_uppercase(), &"+1".repeat(32)] {
        assert!(bad.parse::<SetHash>().is_err(), "{bad}");
    }
}

/// OpenSSH is what an admin checks with: it must take our files, and we its.
#[test]
fn openssh_and_testbox_read_each_others_keys_and_signatures() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let ssh_keygen = |words: &[&str], stdin: Option<&str>| {
        let mut command = Command::new("ssh-keygen");
        command.args(words);
        if let Some(file) = stdin {
            command.stdin(std::fs::File::open(path(file)).unwrap());
        }
        let output = command.output().expect("ssh-keygen of openssh-client");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    std::fs::write(path("backup.json"), "record\n").unwrap();
    // Ours, checked by OpenSSH.
    let ours = key(7);
    std::fs::write(path("ours"), ours.to_file(*b"abcd")).unwrap();
    std::fs::set_permissions(path("ours"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let public = ssh_keygen(&["-y", "-f", &path("ours")], None);
    assert_eq!(public.trim(), ours.public().line());
    std::fs::write(path("ours.pub"), public).unwrap();
    assert!(ssh_keygen(&["-l", "-f", &path("ours.pub")], None).contains(&ours.public().id()));
    std::fs::write(path("signers"), format!("admin {}\n", ours.public().line())).unwrap();
    std::fs::write(path("sig"), ours.sign(SET_NAMESPACE, b"record\n").to_file()).unwrap();
    let check =
        ["-Y", "verify", "-f", &path("signers"), "-I", "admin", "-n", SET_NAMESPACE, "-s", &path("sig")];
    assert!(ssh_keygen(&check, Some("backup.json")).contains("Good"));
    // OpenSSH's, checked by ours.
    ssh_keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "them", "-f", &path("theirs")], None);
    let theirs = SecretKey::parse(&std::fs::read(path("theirs")).unwrap()).unwrap();
    assert_eq!(theirs.public().line(), std::fs::read_to_string(path("theirs.pub")).unwrap().trim());
    ssh_keygen(&["-q", "-Y", "sign", "-n", SET_NAMESPACE, "-f", &path("theirs"), &path("backup.json")], None);
    let signature = std::fs::read(path("backup.json.sig")).unwrap();
    assert_eq!(theirs.sign(SET_NAMESPACE, b"record\n").to_file().as_bytes(), signature, "the very same file");
    assert_eq!(
        trust(&[&theirs]).of_set(b"record\n", Some(&signature)),
        Verdict::By(theirs.public().to_string())
    );
    // A passphrase is OpenSSH's business.
    ssh_keygen(&["-q", "-t", "ed25519", "-N", "secret", "-f", &path("locked")], None);
    let error = SecretKey::parse(&std::fs::read(path("locked")).unwrap()).err().unwrap();
    assert!(error.to_string().contains("passphrase"), "{error}");
}

#[test]
fn secret_keys_read_back_and_damage_is_found() {
    let key = key(3);
    let file = key.to_file(*b"chck");
    let again = SecretKey::parse(file.as_bytes()).unwrap();
    assert_eq!(again.public(), key.public());
    assert_eq!(again.to_file(*b"chck"), file);
    for bad in
        ["", "-----BEGIN OPENSSH PRIVATE KEY-----", &file[..file.len() / 2], &file.replace("OPENSSH", "EC")]
    {
        assert!(SecretKey::parse(bad.as_bytes()).is_err());
    }
}

proptest! {
    /// Total, and what is read is what would be written.
    #[test]
    fn no_file_makes_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..400, bit in 0u8..8) {
        let _ = (SshSignature::parse(&bytes), SecretKey::parse(&bytes), PublicKey::parse(&String::from_utf8_lossy(&bytes)));
        let whole = key(1).sign(SET_NAMESPACE, b"record");
        let mut file = whole.to_file().into_bytes();
        if let Some(byte) = file.get_mut(at) {
            *byte ^= 1 << bit;
        }
        if let Ok(read) = SshSignature::parse(&file) {
            prop_assert_eq!(SshSignature::parse(read.to_file().as_bytes()), Ok(read.clone()));
            let is_proof = trust(&[&key(1)]).of_set(b"record", Some(&file)).why_not().is_none();
            prop_assert!(!is_proof || (read.key.bytes(), read.signature) == (whole.key.bytes(), whole.signature));
        }
    }
}
