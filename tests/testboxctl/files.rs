//! Files out of images: disks as a mounted folder, exported for virtual machines, and imported. `loop_*`: root.

use super::Lab;
use serde_json::json;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use testbox::image::{Image, MemberKind};

const MIB: u64 = 1 << 20;
const ME: &str = "10.42.1.20";

/// Runs a line of shell in the folder of the lab; what it says.
fn shell(lab: &Lab, line: &str) -> String {
    let path = format!("/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-ec", line]).env("PATH", path).current_dir(lab.dir.path());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = [stdout, stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(status.success(), "{line}: {status}\n{said}");
    said
}

/// Bytes that no codec shortens.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes())
    };
    std::iter::from_fn(step).flatten().take(len).collect()
}

/// `image mount`, while it runs.
struct Mounted {
    child: Child,
    out: BufReader<ChildStdout>,
    said: String,
    dir: PathBuf,
}

impl Mounted {
    fn new(lab: &Lab, words: &[&str]) -> Mounted {
        let dir = lab.path("mnt");
        fs::create_dir_all(&dir).unwrap();
        let mut command = lab.command(&[&["image", "mount"], words, &["mnt"]].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("mounted until") {
            if out.read_line(&mut said).unwrap() == 0 {
                let mut why = String::new();
                child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
                panic!("not mounted: {said}{why}");
            }
        }
        Mounted { child, out, said, dir }
    }

    fn open(&self, name: &str) -> File {
        File::open(self.dir.join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(&self.dir).unwrap().map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }

    fn is_there(&self) -> bool {
        fs::read_to_string("/proc/self/mountinfo").unwrap().contains(self.dir.to_str().unwrap())
    }

    /// Most memory that it has taken, in bytes.
    fn most_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits for its end; its exit code and what it has said on standard error.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut err = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        self.out.read_to_string(&mut self.said).unwrap();
        (self.child.wait().unwrap().code(), err)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.is_there() {
            let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
        }
    }
}

/// All of a file of the mount, by reads of a page: where it cannot be read, by EIO, and the rest.
fn pages(file: &File, size: u64) -> (Vec<u8>, Vec<Range<u64>>) {
    let (mut bytes, mut bad) = (vec![0; size as usize], Vec::<Range<u64>>::new());
    let mut at = 0;
    while at < size {
        let end = size.min(at + 4096);
        match file.read_exact_at(&mut bytes[at as usize..end as usize], at) {
            Ok(()) => {}
            Err(e) => {
                assert_eq!(e.raw_os_error(), Some(libc_eio()), "{e}");
                match bad.last_mut().filter(|last| last.end == at) {
                    Some(last) => last.end = end,
                    None => bad.push(at..end),
                }
            }
        }
        at = end;
    }
    (bytes, bad)
}

fn libc_eio() -> i32 {
    rustix::io::Errno::IO.raw_os_error()
}

fn zcat(lab: &Lab, image: &str) -> Vec<u8> {
    let output = Command::new("gzip").current_dir(lab.dir.path()).args(["-dc", image]).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Three file systems with the same large file in them, on a disk whose table sgdisk made.
const FILE_SYSTEMS: &str = r#"
truncate -s 448M sda
sgdisk -n 1:1M:+48M -c 1:../../etc -n 2:0:+320M -n 3:0:+64M -t 3:0700 sda >/dev/null
part() { loop=$(losetup --find --show --offset $1 --sizelimit $2 sda); trap 'losetup -d $loop' EXIT; }
mkdir -p at
( part $((1<<20)) $((48<<20)); mkfs.ext4 -q -L root $loop; mount $loop at; cp file at/; umount at )
( part $((49<<20)) $((320<<20)); mkfs.xfs -q -L data $loop; mount $loop at; cp file at/; cp large at/; umount at )
( part $((369<<20)) $((64<<20)); mkfs.ntfs -q -F -f -L win $loop; ntfscp -f $loop file file )
"#;

/// What is mounted is the disk and its partitions, byte for byte; what file systems hold comes out of them; readers do not
/// disturb each other; memory stays within its bound, and nothing is left behind.
#[test]
fn loop_a_mounted_image_is_the_disk_and_its_partitions() {
    let lab = Lab::empty();
    let file = noise(1, 5_000_001);
    lab.write("file", &file);
    lab.write("large", &noise(2, 90 << 20));
    shell(&lab, FILE_SYSTEMS);
    lab.run(&["image", "create", "sda", "sda.raw.gz"])
        .expect(0, &["ext4 'root'", "xfs 'data'", "ntfs 'win'"]);
    let disk = Arc::new(zcat(&lab, "sda.raw.gz"));
    let mut mounted = Mounted::new(&lab, &["sda.raw.gz"]);
    assert_eq!(mounted.names(), ["sda-p1.raw", "sda-p2.raw", "sda-p3.raw", "sda.raw"]);
    for part in ["ext4 'root'  mount -o loop,ro,noload", "loop,ro,norecovery,nouuid", "the whole disk"] {
        assert!(mounted.said.contains(part), "{part}: {}", mounted.said);
    }
    for (name, range) in [
        ("sda.raw", 0..448 * MIB),
        ("sda-p1.raw", MIB..49 * MIB),
        ("sda-p2.raw", 49 * MIB..369 * MIB),
        ("sda-p3.raw", 369 * MIB..433 * MIB),
    ] {
        let found = fs::read(mounted.dir.join(name)).unwrap();
        assert!(found == disk[range.start as usize..range.end as usize], "{name}");
    }
    let most = mounted.most_memory();
    assert!(most < 192 << 20, "it took {most} bytes");

    // Holes are told, and what is no hole is all of the data.
    let whole = mounted.open("sda.raw");
    let (mut at, mut data) = (0, 0);
    while let Ok(start) = rustix::fs::seek(&whole, rustix::fs::SeekFrom::Data(at)) {
        assert!(disk[at as usize..start as usize].iter().all(|byte| *byte == 0), "{at} {start}");
        at = rustix::fs::seek(&whole, rustix::fs::SeekFrom::Hole(start)).unwrap();
        data += at - start;
    }
    assert!(data < 230 << 20 && data > 90 << 20, "{data}");

    let readers: Vec<_> = (1..=8)
        .map(|seed| {
            let (whole, disk) = (mounted.open("sda.raw"), disk.clone());
            std::thread::spawn(move || {
                for place in noise(seed, 8 * 150).chunks_exact(8) {
                    let place = u64::from_le_bytes(place.try_into().unwrap());
                    let len = 1 + (place >> 40) as usize % 300_000;
                    let at = place as usize % (disk.len() - len);
                    let mut bytes = vec![0; len];
                    whole.read_exact_at(&mut bytes, at as u64).unwrap();
                    assert!(bytes == disk[at..at + len], "{at} {len}");
                }
            })
        })
        .collect();
    readers.into_iter().for_each(|reader| reader.join().unwrap());

    for (part, options) in [("sda-p1", "loop,ro,noload"), ("sda-p2", "loop,ro,norecovery,nouuid")] {
        shell(&lab, &format!("mount -o {options} mnt/{part}.raw at && cmp file at/file; umount at"));
    }
    shell(&lab, "ntfscat mnt/sda-p3.raw file | cmp - file");
    shell(
        &lab,
        "7z e -so mnt/sda-p1.raw file | cmp - file; debugfs -R 'cat /file' mnt/sda-p1.raw | cmp - file",
    );
    assert!(File::options().write(true).open(mounted.dir.join("sda.raw")).is_err());
    // The set is pruned: what is open stays.
    fs::remove_file(lab.path("sda.raw.gz")).unwrap();
    shell(
        &lab,
        "echo 3 >/proc/sys/vm/drop_caches; cmp <(head -c 1048576 sda) <(head -c 1048576 mnt/sda.raw)",
    );

    // In use it stays, until it is not.
    mounted.signal("TERM");
    let mut said = String::new();
    BufReader::new(mounted.child.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("still in use"), "{said}");
    assert!(mounted.is_there());
    drop(whole);
    assert_eq!(mounted.end().0, Some(0));
    assert!(!mounted.is_there());
}

/// One byte of one member is another: its part of the disk is an error and told with its place, all else is right; an export
/// of it fails, and leaves nothing.
#[test]
fn loop_damage_is_an_error_there_and_nowhere_else() {
    let lab = Lab::empty();
    lab.write("sda", &noise(3, 6 << 20));
    lab.run(&["image", "create", "sda", "sda.raw.gz"]).expect(0, &[]);
    let disk = lab.read("sda");
    let mut bytes = lab.read("sda.raw.gz");
    let image = Image::open(Arc::new(bytes.clone())).unwrap();
    let runs: Vec<_> = image.runs().map(Result::unwrap).filter(|run| run.kind == MemberKind::Data).collect();
    let run = runs[runs.len() / 2];
    bytes[(run.position + u64::from(run.member_length) / 2) as usize] ^= 1;
    lab.write("sda.raw.gz", &bytes);

    let mut mounted = Mounted::new(&lab, &["sda.raw.gz"]);
    assert_eq!(mounted.names(), ["sda.raw"]);
    let (found, bad) = pages(&mounted.open("sda.raw"), disk.len() as u64);
    let [bad] = &bad[..] else { panic!("{bad:?}") };
    let run = run.range();
    assert!(bad.start <= run.start && bad.start + 4096 > run.start, "{bad:?} {run:?}");
    assert!(bad.end >= run.end && bad.end < run.end + 4096, "{bad:?} {run:?}");
    let outside = |bytes: &[u8]| [&bytes[..bad.start as usize], &bytes[bad.end as usize..]].concat();
    assert!(outside(&found) == outside(&disk));
    shell(&lab, "umount mnt");
    let (code, said) = mounted.end();
    assert_eq!(code, Some(0));
    assert_eq!(said.matches(&format!("disk byte {}", run.start)).count(), 1, "{said}");
    assert!(said.contains("sda.raw.gz: the image is damaged at byte"), "{said}");

    for format in ["raw", "qcow2"] {
        lab.run(&["image", "export", "--format", format, "sda.raw.gz", "vm.img"])
            .expect(1, &["the image is damaged at byte", "nothing was exported to vm.img"]);
        assert!(!lab.path("vm.img").exists() && !lab.path("vm.img.part").exists());
    }
}

/// Boot code for a BIOS: it says VM-STARTED on the serial port, and ends QEMU by its isa-debug-exit.
const BOOT: &[u8] = b"\x31\xc0\x8e\xd8\xbe\x17\x7c\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8\xba\x01\x05\xee\xf4VM-STARTED\n";

/// What is exported is the disk, for QEMU too, which starts from it; and what is imported from that is the same image.
#[test]
fn loop_a_disk_goes_round_through_qcow2() {
    let lab = Lab::empty();
    let mut disk = noise(4, 6 << 20);
    disk[..512].fill(0);
    disk[..BOOT.len()].copy_from_slice(BOOT);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[1 << 20..4 << 20].fill(0);
    disk.extend(vec![0; 20 << 20]);
    lab.write("sda", &disk);
    lab.run(&["image", "create", "sda", "sda.raw.gz"]).expect(0, &[]);
    lab.run(&["image", "export", "sda.raw.gz", "--format", "qcow2", "sda.qcow2"])
        .expect(0, &["every hash was right"]);
    shell(&lab, "qemu-img compare -f raw -F qcow2 sda sda.qcow2 && qemu-img check -q sda.qcow2");
    let vm = "timeout 300 qemu-system-x86_64 -nodefaults -display none -accel tcg -serial stdio -device isa-debug-exit \\
        -drive file=sda.qcow2,format=qcow2,if=ide -snapshot || [ $? = 1 ]";
    assert!(shell(&lab, vm).contains("VM-STARTED"));
    let about = fs::metadata(lab.path("sda.qcow2")).unwrap();
    assert!(about.len() < 6 << 20, "zeros are not written: {}", about.len());
    assert_eq!(fs::read_dir(lab.dir.path()).unwrap().count(), 4, "nothing is left behind");
    lab.write("b/testbox-backup", b"");
    lab.run(&["image", "import", "--backup-dir", "b", "--machine", ME, "--disk", "sda", "sda.qcow2"])
        .expect(0, &["set 1 is the current one"]);
    assert!(content(lab.read(&format!("b/{ME}/sda.raw.gz"))) == content(lab.read("sda.raw.gz")));
    let device = shell(&lab, "losetup --find --show sda.qcow2");
    lab.run(&["image", "import", "--backup-dir", "b", "--machine", ME, "--disk", "sda", "sda.qcow2"])
        .expect(1, &["it is in use"]);
    shell(&lab, &format!("losetup --detach {device}"));
    // No qemu-img, no file.
    let mut command = lab.command(&["image", "export", "sda.raw.gz", "--format", "qcow2", "other.qcow2"]);
    let output = command.env("PATH", "/nowhere").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("apt install qemu-utils") && !lab.path("other.qcow2").exists(), "{said}");
}

/// A folder of a share with two disks in two sets.
fn share(lab: &Lab) -> [Vec<u8>; 3] {
    lab.write("b/testbox-backup", b"");
    let disks = [noise(5, 1 << 20), noise(6, 2 << 20), noise(7, 1 << 20)];
    for (set, generation, names) in [("history/3", 3, &["sda"][..]), ("", 4, &["sda", "nvme0n1"])] {
        let folder = lab.path(&format!("b/{ME}/{set}"));
        fs::create_dir_all(&folder).unwrap();
        let mut images = Vec::new();
        for (name, disk) in names.iter().zip(if generation == 3 { &disks[2..] } else { &disks }) {
            lab.write(name, disk);
            let file = format!("b/{ME}/{set}/{name}.raw.gz");
            lab.run(&["image", "create", name, &file]).expect(0, &[]);
            let image = Image::open(Arc::new(lab.read(&file))).unwrap().summary();
            images.push(json!({
                "name": name, "identity": {}, "location": "", "disk_size": disk.len(), "logical_block_size": 512,
                "physical_block_size": 512, "image_size": image.image, "root_hash": image.root_hash.to_string(),
                "state": "complete",
            }));
        }
        let record = json!({
            "format": 2, "generation": generation, "version": "0.1.0", "finished": "2026-11-29T12:00:00Z",
            "machine": {"ip": ME, "hexip": "0A2A0114", "hostname": "tb1"}, "images": images,
        });
        lab.write(&format!("b/{ME}/{set}/backup.json"), record.to_string().as_bytes());
    }
    disks
}

#[test]
fn a_set_of_a_machine_is_exported_by_its_name() {
    let lab = Lab::empty();
    let [sda, nvme, old] = share(&lab);
    let export = |words: &[&str]| {
        let first = ["image", "export", "--backup-dir", "b", "--format", "raw"];
        lab.run(&[&first, words].concat())
    };
    fs::create_dir(lab.path("out")).unwrap();
    export(&[ME, "one"]).expect(2, &["2 disks (sda, nvme0n1)", "--disk"]);
    export(&[ME, "out"]).expect(0, &["out/sda.raw", "out/nvme0n1.raw"]);
    assert!(lab.read("out/sda.raw") == sda && lab.read("out/nvme0n1.raw") == nvme);
    for word in [format!("{ME}:3"), format!("{ME}:previous")] {
        export(&["--force", &word, "old"]).expect(0, &[]);
        assert!(lab.read("old") == old);
    }
    export(&["--disk", "nvme0n1", ME, "old"]).expect(1, &["it exists", "--force"]);
    export(&["--disk", "sdb", ME, "x"]).expect(2, &["sda, nvme0n1"]);
    export(&[&format!("{ME}:9"), "x"]).expect(1, &["no such set", "4, 3"]);
    export(&["nobody.invalid", "x"]).expect(2, &["no such file"]);
    export(&["--force", &format!("b/{ME}/sda.raw.gz"), &format!("b/{ME}/sda.raw.gz")])
        .expect(1, &["it is the image itself"]);
    // Another image in its place.
    fs::copy(lab.path(&format!("b/{ME}/history/3/sda.raw.gz")), lab.path(&format!("b/{ME}/sda.raw.gz")))
        .unwrap();
    export(&["--disk", "sda", ME, "x"]).expect(1, &["not the image that its set names"]);
    assert!(!lab.path("x").exists());
}

#[test]
fn a_raw_export_is_sparse_and_replaces_nothing_unasked() {
    let lab = Lab::empty();
    let mut disk = noise(8, 3 << 20);
    disk[1 << 20..2 << 20].fill(0);
    disk[2_200_000..2_300_000].fill(0);
    disk.extend(vec![0; 40 << 20]);
    lab.write("sda", &disk);
    lab.run(&["image", "create", "sda", "sda.raw.gz"]).expect(0, &[]);
    let export =
        |words: &[&str]| lab.run(&[&["image", "export", "--format", "raw", "sda.raw.gz"], words].concat());
    export(&["out"]).expect(0, &["every hash was right"]);
    assert!(lab.read("out") == disk);
    use std::os::unix::fs::MetadataExt;
    let room = fs::metadata(lab.path("out")).unwrap().blocks() * 512;
    assert!(room < 2_100_000, "{room}");
    lab.write("out", b"precious");
    export(&["out"]).expect(1, &["it exists"]);
    assert_eq!(lab.read("out"), b"precious");
    lab.write("other.part", b"left");
    export(&["other"]).expect(1, &["other.part", "--force"]);
    export(&["--force", "other"]).expect(0, &[]);
    assert!(lab.read("other") == disk && !lab.path("other.part").exists());
    export(&["--force", "out"]).expect(0, &[]);
    assert!(lab.read("out") == disk);
    Command::new("gzip").args(["-1", "-k"]).arg(lab.path("sda")).status().unwrap();
    lab.run(&["image", "export", "--format", "raw", "sda.gz", "x"]).expect(1, &["no index", "image create"]);
}

/// What an image holds, whatever it is called: the kind, place and hash of each run.
fn content(bytes: Vec<u8>) -> Vec<(MemberKind, Range<u64>, String)> {
    let image = Image::open(Arc::new(bytes)).unwrap();
    image.runs().map(Result::unwrap).map(|run| (run.kind, run.range(), run.hash.to_string())).collect()
}

#[test]
fn what_is_imported_is_the_machine_s_set() {
    let lab = Lab::new();
    let mut disk = noise(9, 3 << 20);
    disk[1 << 20..2 << 20].fill(0);
    lab.write("vm.raw", &disk);
    let import = |words: &[&str]| {
        let first = ["image", "import", "--backup-dir", "b", "--machine", ME];
        lab.run(&[&first, words].concat())
    };
    import(&["--disk", "vda", "vm.raw"])
        .expect(0, &["set 1 is the current one, imported", "arm --map vda:serial="]);
    let record = |set: &str| -> serde_json::Value {
        serde_json::from_slice(&lab.read(&format!("b/{ME}/{set}backup.json"))).unwrap()
    };
    let first = record("");
    assert_eq!(first["images"][0]["identity"], json!({}));
    assert!(first["imported"].as_str().unwrap().ends_with("from vm.raw"), "{first}");
    lab.run(&["image", "create", "vm.raw", "vm.raw.gz"]).expect(0, &[]);
    let made = content(lab.read("vm.raw.gz"));
    assert!(content(lab.read(&format!("b/{ME}/vda.raw.gz"))) == made);
    lab.run(&["images", "--backup-dir", "b", ME]).expect(0, &["current, imported"]);

    // Out, changed, and in again: the identity is the one that was given, and stays where none is.
    lab.run(&["image", "export", "--backup-dir", "b", ME, "--format", "raw", "out.raw"]).expect(0, &[]);
    assert!(lab.read("out.raw") == disk);
    import(&["--disk", "vda", "--serial", "S3Z8NB0K", "out.raw"])
        .expect(0, &["set 2", "set 1 is in history/"]);
    assert!(content(lab.read(&format!("b/{ME}/vda.raw.gz"))) == made, "import(export(x)) is x");
    assert_eq!(record("history/1/"), first);
    disk[2 << 20..].reverse();
    lab.write("other.raw", &disk);
    lab.write("data.raw", &noise(10, 1 << 20));
    let run = import(&["--disk", "vda", "--disk", "vdb", "other.raw", "data.raw"]).expect(0, &["S3Z8NB0K"]);
    assert!(!run.err.contains("--map vda:") && run.err.contains("--map vdb:"), "{}", run.err);
    let json = import(&["--json", "--disk", "vdb", "--wwn", "naa.5000c500a1b2c3d4", "data.raw"]);
    let said: serde_json::Value = serde_json::from_str(&json.expect(0, &[]).out).unwrap();
    assert_eq!((&said["ip"], &said["generation"]), (&json!(ME), &json!(4)));
    let imported = |n: usize| (said["images"][n]["name"].clone(), said["images"][n]["imported"].clone());
    assert_eq!([imported(0), imported(1)], [("vda".into(), false.into()), ("vdb".into(), true.into())]);
    let images = record("")["images"].clone();
    assert_eq!(images[0]["identity"], json!({"serial": "S3Z8NB0K"}));
    assert_eq!((&images[0]["carried"], &images[1]["carried"]), (&json!(true), &json!(null)));
    assert_eq!(images[1]["identity"], json!({"wwn": "naa.5000c500a1b2c3d4"}));
    lab.run(&["verify", "--backup-dir", "b", "--inflate", ME]).expect(0, &["0 damaged"]);
    let line = [
        "image",
        "export",
        "--json",
        "--backup-dir",
        "b",
        ME,
        "--disk",
        "vda",
        "--format",
        "raw",
        "again.raw",
    ];
    let said: serde_json::Value = serde_json::from_str(&lab.run(&line).expect(0, &[]).out).unwrap();
    assert_eq!((&said[0]["file"], &said[0]["disk_bytes"]), (&json!("again.raw"), &json!(disk.len())));
    assert!(lab.read("again.raw") == disk);
}

#[test]
fn what_cannot_be_imported_changes_nothing() {
    let lab = Lab::new();
    share(&lab);
    lab.write("vm.raw", &noise(11, 1 << 20));
    lab.write("odd.raw", &[7; 1000]);
    Command::new("gzip").arg("-k").arg(lab.path("vm.raw")).status().unwrap();
    lab.write("vm.vmdk", &[&b"KDMV"[..], &[0; 1020]].concat());
    let mut backed = vec![0; 1024];
    backed[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    backed[15] = 104;
    lab.write("backed.qcow2", &backed);
    let before = lab.snapshot();
    let import = |words: &[&str]| {
        let first = ["image", "import", "--backup-dir", "b", "--machine", ME, "--disk"];
        lab.run(&[&first, words].concat())
    };
    import(&["sda", "vm.raw.gz"]).expect(1, &["a gzip file"]);
    import(&["sda", "vm.vmdk"]).expect(1, &["qemu-img convert"]);
    import(&["sda", "backed.qcow2"]).expect(1, &["backing file"]);
    import(&["sda", "odd.raw"]).expect(1, &["odd.raw", "512 bytes"]);
    import(&["sda", "none.raw"]).expect(1, &["none.raw"]);
    import(&["sda", "b"]).expect(1, &["not a file"]);
    import(&["../x", "vm.raw"]).expect(2, &["not the name of a disk"]);
    import(&["sda", "--disk", "sda", "vm.raw", "vm.raw"]).expect(2, &["each name once"]);
    import(&["sda", "vm.raw", "odd.raw"]).expect(2, &["--disk once for each file"]);
    import(&["sda", "--serial", "0000", "vm.raw"]).expect(2, &["--serial"]);
    assert!(lab.snapshot() == before, "nothing has changed");
    lab.write(&format!("b/{ME}/backup.json.part"), &lab.read(&format!("b/{ME}/backup.json")));
    import(&["sda", "vm.raw"]).expect(1, &["a set is being published"]);
    assert!(!lab.path(&format!("b/{ME}/sda.raw.gz.part")).exists());
}
