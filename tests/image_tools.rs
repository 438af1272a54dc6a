//! Every gzip reader gives the exact disk from an image, and the images of every gzip writer can be restored.
//!
//! A tool that is not installed is a failure that names its package: what nobody tries is not known to work.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use testbox::block::mem::{DiskFault, DiskOp, MemDisk};
use testbox::block::sink::FileSink;
use testbox::image::{self, BackupOptions, Codec, DiskAbout};
use testbox::inventory::Identity;
use testbox::progress::Progress;
use testbox::used::Map;

/// Command and Debian package.
const READERS: [(&[&str], &str); 11] = [
    (&["gzip", "-dc"], "gzip"),
    (&["zcat"], "gzip"),
    (&["pigz", "-dc"], "pigz"),
    (&["igzip", "-dc"], "isal"),
    (&["bgzip", "-dc"], "tabix"),
    (&["zstd", "-dc"], "zstd"),
    (&["7z", "x", "-so"], "p7zip-full"),
    (&["libdeflate-gzip", "-dc"], "libdeflate-tools"),
    (&["bsdcat"], "libarchive-tools"),
    (&["python3", "-c", PYTHON], "python3"),
    (&["busybox", "gunzip", "-c"], "busybox"),
];

const PYTHON: &str =
    "import gzip, shutil, sys; shutil.copyfileobj(gzip.open(sys.argv[1]), sys.stdout.buffer, 1 << 20)";

fn start(command: &[&str], package: &str, file: &Path) -> std::process::Child {
    Command::new(command[0])
        .args(&command[1..])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}: install it: apt-get install {package}", command[0]))
}

/// Text, noise, zeros in between, and zeros beyond the longest run.
fn content() -> Vec<u8> {
    let mut bytes: Vec<u8> =
        b"all work and no play makes jack a dull boy\n".iter().cycle().take(3 << 20).copied().collect();
    let mut noise = vec![0; 2 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    bytes.extend_from_slice(&noise);
    bytes.resize(bytes.len() + (130 << 20), 0);
    bytes.extend_from_slice(&noise[..100 << 10]);
    bytes.resize(bytes.len() + 512, 0);
    bytes
}

#[test]
fn every_gzip_reader_gives_the_exact_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = content();
    let disk = MemDisk::new("sda", bytes.clone(), 512);
    disk.inject(DiskOp::Read, 1 << 20..(1 << 20) + 512, DiskFault::Errno(libc::EIO), u64::MAX);
    bytes[1 << 20..(1 << 20) + 512].fill(0);
    // Gaps, whose list makes the extra field longer.
    let used = Map { free: (1..100).map(|i| i * 8192..i * 8192 + 4096).collect(), ..Map::default() };
    for gap in &used.free {
        bytes[gap.start as usize..gap.end as usize].fill(0);
    }
    let wanted = blake3::hash(&bytes);
    for (codec, chunk_size) in [(Codec::Isal, 1 << 20), (Codec::Zlib, 16 << 10)] {
        let path = dir.path().join(format!("{codec:?}.gz"));
        let mut sink = FileSink::new(File::create(&path).unwrap());
        let used = Arc::new(used.clone());
        let opts =
            BackupOptions { chunk_size, codec, allow_bad_sectors: true, used, ..BackupOptions::default() };
        let about = DiskAbout::new("sda", Identity::default(), &disk);
        image::backup(&disk, &mut sink, &about, &opts, &Progress::new()).unwrap();
        for (command, package) in READERS {
            let mut child = start(command, package, &path);
            let mut hasher = blake3::Hasher::new();
            std::io::copy(&mut child.stdout.take().unwrap(), &mut hasher).unwrap();
            let status = child.wait().unwrap();
            assert!(status.success(), "{codec:?}: {command:?}: {status}");
            assert!(hasher.finalize() == wanted, "{codec:?}: {command:?} gives other bytes");
        }
        let status = Command::new("gzip").args(["-dkqN"]).arg(&path).status().unwrap();
        assert!(status.success() && dir.path().join("sda.raw").exists(), "gzip -N takes the disk's name");
        std::fs::remove_file(dir.path().join("sda.raw")).unwrap();
    }
}

/// Machines share members only where equal data makes equal ones: the codec's text in the header says so, whatever the CPU.
#[test]
fn long_members_are_equal_on_every_cpu() {
    if std::env::var_os("TESTBOX_LONG").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    let program = std::fs::read(env!("CARGO_BIN_EXE_testboxctl")).unwrap();
    let noise = &content()[3 << 20..4 << 20];
    std::fs::write(&disk, [&program[..program.len().min(8 << 20) / 4096 * 4096], noise].concat()).unwrap();
    // Its codec, and each run's hashes.
    let members = |cpu: &str, level: &str| {
        let path = dir.path().join(format!("{cpu}-{level}.gz"));
        let made = Command::new("qemu-x86_64-static")
            .args(["-cpu", cpu, env!("CARGO_BIN_EXE_testboxctl"), "image", "create", "--level", level])
            .args([&disk, &path])
            .output()
            .unwrap_or_else(|e| panic!("{e}: install it: apt-get install qemu-user-static"));
        assert!(made.status.success(), "{cpu}: {made:?}");
        let image = image::Image::open(Arc::new(File::open(&path).unwrap())).unwrap();
        let hashes: Vec<_> =
            image.runs().map(|run| run.map(|run| (run.hash, run.member_hash)).unwrap()).collect();
        assert!(hashes.len() > 50);
        (image.header().codec.clone(), hashes)
    };
    for level in ["1", "3", "6", "9"] {
        let newest = members("max", level);
        for cpu in ["Nehalem", "SandyBridge", "Haswell"] {
            assert!(members(cpu, level) == newest, "{cpu}, level {level}");
        }
        let oldest = members("qemu64", level);
        assert!(
            oldest.1.iter().map(|run| run.0).eq(newest.1.iter().map(|run| run.0)),
            "the cuts are the same"
        );
        // Of level 1 the compressor is another one without SSE4.2, and says so.
        assert_eq!(oldest.0 == newest.0, level != "1", "level {level}: {} and {}", oldest.0, newest.0);
        assert_eq!(oldest.1 == newest.1, level != "1", "level {level}");
    }
}

/// The longest member of zeros, 2 GiB, and one of that kind behind it.
#[test]
fn long_every_gzip_reader_takes_the_longest_zeros() {
    if std::env::var_os("TESTBOX_LONG").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (disk, path) = (dir.path().join("disk"), dir.path().join("disk.gz"));
    File::create(&disk).unwrap().set_len(5 << 29).unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_testboxctl"))
        .args(["image", "create"])
        .args([&disk, &path])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut wanted = blake3::Hasher::new();
    for _ in 0..5 << 9 {
        wanted.update(&[0; 1 << 20]);
    }
    let wanted = wanted.finalize();
    for (command, package) in READERS {
        let mut child = start(command, package, &path);
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut child.stdout.take().unwrap(), &mut hasher).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() && hasher.finalize() == wanted, "{command:?}: {status}");
    }
}

#[test]
fn the_output_of_every_gzip_writer_restores() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = content();
    bytes.drain(8 << 20..120 << 20);
    let path = dir.path().join("disk");
    std::fs::write(&path, &bytes).unwrap();
    let writers: [(&[&str], &str); 6] = [
        (&["gzip", "-c"], "gzip"),
        (&["pigz", "-c"], "pigz"),
        (&["pigz", "-ci", "-b", "128"], "pigz"),
        (&["igzip", "-1", "-c"], "isal"),
        (&["bgzip", "-c"], "tabix"),
        (&["busybox", "gzip", "-c"], "busybox"),
    ];
    for (command, package) in writers {
        let mut child = start(command, package, &path);
        let mut file = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut file).unwrap();
        assert!(child.wait().unwrap().success());
        let progress = Progress::new();
        let content = image::foreign::measure(&file, bytes.len() as u64, &progress).unwrap();
        let target = MemDisk::new("sda", vec![0xaa; bytes.len()], 512);
        image::foreign::restore(&file, &content, &target, &progress).unwrap();
        assert!(target.durable() == bytes, "{command:?}");
    }
}
