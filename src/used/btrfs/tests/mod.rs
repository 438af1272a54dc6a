//! Against the format's own tools, and against hostile input. Needs btrfs-progs; `loop_*` needs root too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::type_complexity, clippy::ptr_arg)] // Rows of changes to nodes.

mod aged;
mod block_group_tree;
mod damaged;
mod disk;
mod hostile;
mod made;
mod oracle;

use super::parse;
use crate::io::ReadAt;
use crate::used::{Doubt, Free, Volume, VolumeAbout};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the parser says of a whole image, and every free range, however short.
fn map(image: &dyn ReadAt) -> Result<(Option<VolumeAbout>, Vec<Range<u64>>), Doubt> {
    let size = image.size().unwrap();
    let mut free = Free::new(1, 1 << 20);
    let about = parse(&Volume::new(image, 0, size, 512), &mut free)?;
    Ok((about, free.finish()))
}

/// Runs a line of shell with `$IMG` set; its standard output.
fn shell(line: &str, image: &Path) -> String {
    let output = Command::new("bash")
        .args(["-e", "-o", "pipefail", "-c", line])
        .env("IMG", image)
        .env("LC_ALL", "C")
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A sparse file with a new file system.
fn mkfs(dir: &Path, mib: u64, words: &str) -> PathBuf {
    let image = dir.join("image");
    File::create(&image).unwrap().set_len(mib << 20).unwrap();
    shell(&format!("mkfs.btrfs -q {words} \"$IMG\""), &image);
    image
}

/// A folder with files of all sizes up to 300 KB, the same each time.
fn folder(dir: &Path) -> PathBuf {
    let top = dir.join("folder");
    for n in 0..300u32 {
        let below = top.join(format!("{}", n % 7));
        std::fs::create_dir_all(&below).unwrap();
        let bytes = (0..n * n * 3).map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(n) >> 24) as u8);
        std::fs::write(below.join(format!("file {n}")), bytes.collect::<Vec<u8>>()).unwrap();
    }
    top
}
