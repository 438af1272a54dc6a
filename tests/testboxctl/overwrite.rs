//! Nothing is overwritten that nobody has named for that.

use super::Lab;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// Two disks and their images, a gzip of somebody else, and a larger file.
fn lab() -> Lab {
    let lab = Lab::empty();
    let noise = |seed: u64, len: usize| -> Vec<u8> {
        let next = |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        std::iter::successors(Some(seed), next).map(|state| (state >> 33) as u8).take(len).collect()
    };
    lab.write("a", &noise(1, 1 << 20));
    lab.write("b", &noise(2, 2 << 20));
    lab.write("large", &vec![0x5a; 4 << 20]);
    for disk in ["a", "b"] {
        lab.run(&["image", "create", disk, &format!("{disk}.gz")]).expect(0, &[]);
    }
    lab.write("cut.gz", &lab.read("b.gz")[..1 << 20]);
    let gzip = Command::new("gzip").args(["-1kc", "large"]).current_dir(lab.dir.path()).output().unwrap();
    lab.write("foreign.gz", &gzip.stdout);
    lab
}

/// Runs what must be refused; every file is as it was, and none is new.
#[track_caller]
fn refused(lab: &Lab, words: &str, part: &str) {
    let before = lab.snapshot();
    let run = lab.run(&words.split(' ').collect::<Vec<_>>());
    assert_ne!(run.code, 0, "{words}: {}", run.out);
    assert!(run.err.contains(part), "{words}: lacks '{part}': {}", run.err);
    assert!(lab.snapshot() == before, "{words} changed a file");
}

#[test]
fn restore_overwrites_a_file_only_where_told() {
    let lab = lab();
    fs::hard_link(lab.path("large"), lab.path("second")).unwrap();
    lab.write("alone", &vec![0x5a; 4 << 20]);
    symlink("alone", lab.path("link")).unwrap();
    symlink("missing", lab.path("dangling")).unwrap();
    fs::create_dir(lab.path("folder")).unwrap();
    for (words, part) in [
        ("a.gz alone", "--overwrite"),
        ("a.gz b.gz", "--overwrite"),
        ("a.gz a.gz", "the image itself"),
        ("--overwrite a.gz a.gz", "the image itself"),
        ("--overwrite a.gz b.gz", "it is an image"),
        ("--overwrite a.gz cut.gz", "cut or damaged"),
        ("--overwrite a.gz foreign.gz", "gzip"),
        ("--overwrite a.gz large", "2 names"),
        ("--overwrite a.gz second", "2 names"),
        ("--overwrite a.gz link", "symbolic link"),
        ("--overwrite a.gz dangling", "symbolic link"),
        ("a.gz link", "symbolic link"),
        ("--overwrite a.gz folder", "not a regular file"),
        ("--overwrite --yes b.gz a", "nothing was written"),
        ("--overwrite foreign.gz a", "nothing was written"),
    ] {
        refused(&lab, &format!("image restore {words}"), part);
    }
    lab.run(&["image", "restore", "--overwrite", "a.gz", "alone"]).expect(0, &[]);
    assert!(lab.read("alone")[..1 << 20] == lab.read("a"));
}

#[test]
fn create_never_writes_into_source_base_or_images() {
    let lab = lab();
    lab.write("disk.gz.part", &lab.read("a"));
    lab.write("n.gz.part", &lab.read("b.gz"));
    fs::hard_link(lab.path("b.gz"), lab.path("h.gz.part")).unwrap();
    symlink("large", lab.path("l.gz.part")).unwrap();
    symlink("a", lab.path("alias")).unwrap();
    fs::hard_link(lab.path("a"), lab.path("alias.gz")).unwrap();
    fs::create_dir(lab.path("d.gz.part")).unwrap();
    lab.write("o.gz.part", b"somebody's notes");
    for (words, part) in [
        ("disk.gz.part disk.gz", "the disk itself"),
        ("--force disk.gz.part disk.gz", "the disk itself"),
        ("--base n.gz.part a n.gz", "the base itself"),
        ("--force --base n.gz.part a n.gz", "the base itself"),
        ("a n.gz", "whole image"),
        ("--force a n.gz", "whole image"),
        ("a h.gz", "2 names"),
        ("--force a h.gz", "2 names"),
        ("--base b.gz a h.gz", "the base itself"),
        ("a l.gz", "symbolic link"),
        ("--force a l.gz", "symbolic link"),
        ("--force alias a", "the disk itself"),
        ("--force alias alias.gz", "the disk itself"),
        ("--force --base b.gz a b.gz", "the base itself"),
        ("--force a alias", "symbolic link"),
        ("a d.gz", "not a regular file"),
        ("a o.gz", "not what an interrupted create has left"),
    ] {
        refused(&lab, &format!("image create {words}"), part);
    }
    // What an interrupted create has left is taken over without a word.
    lab.write("left.gz.part", &lab.read("b.gz")[..100 << 10]);
    lab.run(&["image", "create", "a", "left.gz"]).expect(0, &["verified"]);
    lab.run(&["image", "verify", "left.gz", "--against", "a"]).expect(0, &["equal"]);
}

#[test]
fn an_image_that_is_replaced_has_other_names_left() {
    let lab = lab();
    let old = lab.read("b.gz");
    fs::hard_link(lab.path("b.gz"), lab.path("history.gz")).unwrap();
    lab.run(&["image", "create", "--force", "a", "b.gz"]).expect(0, &[]);
    assert!(lab.read("history.gz") == old);
    lab.run(&["image", "verify", "b.gz", "--against", "a"]).expect(0, &["equal"]);
}

#[test]
fn a_key_is_never_overwritten() {
    let lab = Lab::empty();
    for (there, name) in [("key", "key"), ("k.pub", "k")] {
        lab.write(there, b"mine");
        refused(&lab, &format!("keygen {name}"), "was left alone");
    }
    symlink("elsewhere", lab.path("s.pub")).unwrap();
    refused(&lab, "keygen s", "was left alone");
}

/// What holds what disks hold is not for everybody, whatever the umask is.
#[test]
fn files_that_are_written_are_private() {
    let lab = lab();
    for umask in ["000", "022", "027", "077"] {
        let run = |words: &str| {
            let command = format!("umask {umask}; exec \"$0\" --config settings.toml {words}");
            let output = Command::new("sh")
                .args(["-c", &command, env!("CARGO_BIN_EXE_testboxctl")])
                .current_dir(lab.dir.path())
                .output();
            assert!(output.unwrap().status.success(), "{words}");
        };
        run(&format!("image create a {umask}.gz"));
        run(&format!("image restore a.gz {umask}.raw"));
        run(&format!("keygen {umask}.key"));
        lab.write(&format!("{umask}.left.gz.part"), b"");
        run(&format!("image create a {umask}.left.gz"));
        let mode = |name: &str| fs::metadata(lab.path(name)).unwrap().permissions().mode() & 0o777;
        for name in ["gz", "raw", "left.gz"] {
            assert_eq!(mode(&format!("{umask}.{name}")) & 0o137, 0, "{umask}.{name}");
        }
        assert_eq!(mode(&format!("{umask}.key")), 0o600);
    }
}

fn losetup(words: &[&str]) -> String {
    let output = Command::new("losetup").args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A loop device, gone at the end.
struct Loop(String);

impl Loop {
    fn over(file: &Path) -> Loop {
        Loop(losetup(&["--find", "--show", file.to_str().unwrap()]))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        losetup(&["--detach", &self.0]);
    }
}

#[test]
fn loop_the_file_below_a_loop_device_is_left_alone() {
    let lab = lab();
    let device = Loop::over(&lab.path("large"));
    let over_image = Loop::over(&lab.path("a.gz"));
    lab.write("x.gz.part", &lab.read("b.gz")[..1 << 20]);
    let over_part = Loop::over(&lab.path("x.gz.part"));
    let name = device.0.trim_start_matches("/dev/");
    refused(&lab, "image restore --overwrite a.gz large", name);
    refused(&lab, "image create --force a large", name);
    refused(&lab, &format!("image create --force {} large", device.0), name);
    refused(&lab, "image create a x.gz", over_part.0.trim_start_matches("/dev/"));
    refused(&lab, &format!("image restore --yes a.gz {}", over_image.0), "loop device of the image");
    drop(device);
    lab.run(&["image", "restore", "--overwrite", "a.gz", "large"]).expect(0, &[]);
}
