//! FAT: made by mkfs.fat, aged and counted by mtools without a mount, checked by fsck.fat.

use crate::mount::{shell, try_shell};
use crate::proof::Row;
use crate::random::Random;
use crate::ranges::union;
use crate::rows;
use crate::tree::Tree;
use std::fs;
use std::ops::Range;
use std::path::Path;

pub const FAT: Row = Row {
    kind: "fat16",
    mib: 24,
    make: "mkfs.fat -F 16 $IMG",
    used,
    fsck: "fsck.fat -n $IMG",
    steps: 60,
    rounds: 3,
    work,
    read,
    ..Row::DEFAULT
};

rows! {
    loop_fat16: FAT;
    loop_fat16_one_fat_4k_sectors: Row { make: "mkfs.fat -F 16 -f 1 -S 4096 -s 1 -R 9 $IMG", ..FAT };
    loop_fat12: Row { kind: "fat12", mib: 6, make: "mkfs.fat -F 12 $IMG", ..FAT };
    loop_fat12_32k_clusters: Row { kind: "fat12", make: "mkfs.fat -F 12 -s 64 -f 1 $IMG", ..FAT };
    loop_fat16_4k_sectors: Row { mib: 40, make: "mkfs.fat -F 16 -S 4096 -s 1 $IMG", ..FAT };
    loop_fat32: Row { kind: "fat32", mib: 40, make: "mkfs.fat -F 32 -s 1 $IMG", ..FAT };
    loop_fat32_one_fat: Row { kind: "fat32", mib: 80, make: "mkfs.fat -F 32 -s 2 -f 1 -n TESTBOX $IMG", ..FAT };
}

/// mtools do not think that a file system without the numbers of a floppy is wrong.
const TOOLS: &str = "export MTOOLS_SKIP_CHECK=1;";

/// Every name below the root, folders with a slash at the end.
fn names(image: &Path) -> Vec<String> {
    shell(&format!("{TOOLS} mdir -b -/ -i \"$IMG\" ::/ 2>/dev/null || true"), image)
        .lines()
        .map(Into::into)
        .collect()
}

/// Files come and go in some folders, between large ones that leave their data behind.
fn work(row: &Row, image: &Path, dir: &Path, random: &mut Random) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|e| e.to_string())?;
    let file = dir.join("file");
    let stale = (row.mib << 20) / 12;
    let mut all = names(image);
    for _ in 0..row.steps {
        let (dirs, files): (Vec<&String>, Vec<&String>) = all.iter().partition(|name| name.ends_with('/'));
        let place = random.pick(&dirs).map_or("::/", |place| place.as_str());
        let new =
            format!("{place}{}{:x}", ["short", "A", "A Long Name "][random.below(3) as usize], random.next());
        let old = random.pick(&files).cloned().cloned();
        match (random.below(10), old) {
            (0, _) => {
                if try_shell(&format!("{TOOLS} mmd -i \"$IMG\" '{new}'"), image).is_ok() {
                    all.push(format!("{new}/"));
                }
            }
            (1..=4, Some(old)) => {
                try_shell(&format!("{TOOLS} mdel -i \"$IMG\" '{old}'"), image)?;
                all.retain(|name| *name != old);
            }
            (kind, _) => {
                let bytes = match kind {
                    5 | 6 => vec![0xee; stale as usize],
                    _ => {
                        let len = random.skewed(stale) as usize;
                        random.bytes(len)
                    }
                };
                fs::write(&file, bytes).map_err(|e| e.to_string())?;
                let copy = format!("{TOOLS} mcopy -i \"$IMG\" '{}' '{new}'", file.display());
                if try_shell(&copy, image).is_ok() {
                    all.push(new);
                    continue;
                }
                // Full, and some of it may be there.
                let old: String = files.iter().take(4).map(|name| format!("'{name}' ")).collect();
                let _ = try_shell(&format!("{TOOLS} mdel -i \"$IMG\" '{new}' {old}"), image);
                all = names(image);
            }
        }
    }
    Ok(())
}

fn read(_: &Row, image: &Path, dir: &Path) -> Result<Tree, String> {
    let to = dir.join("to");
    let _ = fs::remove_dir_all(&to);
    fs::create_dir_all(&to).map_err(|e| e.to_string())?;
    let line = format!(
        "{TOOLS} mcopy -n -m -s -i \"$IMG\" ::/ '{}' && find '{0}' -type d -exec touch -d @0 {{}} +",
        to.display()
    );
    try_shell(&line, image)?;
    Tree::read(&to).map_err(|e| e.to_string())
}

/// What lies before the clusters, and the chains of all names as mshowfat follows them: as many as fsck.fat counts.
fn used(image: &Path) -> Vec<Range<u64>> {
    let said = shell("fsck.fat -vn \"$IMG\"", image);
    let field = |before: &str, after: &str| {
        let value = said.lines().find_map(|line| line.trim().strip_prefix(before)?.split_once(after));
        value.and_then(|(value, _)| value.trim().parse::<u64>().ok()).expect("a number of fsck.fat")
    };
    let (cluster, start) = (field("", "bytes per cluster"), field("Data area starts at byte", "("));
    let list =
        format!("{TOOLS} (echo ::/; mdir -b -/ -i \"$IMG\" ::/) | xargs -d '\\n' mshowfat -i \"$IMG\"");
    let mut used = vec![0..start];
    let mut count = 0;
    for line in shell(&list, image).lines() {
        for part in line.split('<').skip(1).filter_map(|part| part.split('>').next()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |word: &str| word.parse::<u64>().unwrap_or_else(|_| panic!("{line}"));
            // A fixed root folder has no cluster.
            let (first, last) = (number(first).max(2), number(last));
            count += (last + 1).saturating_sub(first);
            used.push(start + (first - 2) * cluster..start + (last + 1).saturating_sub(2) * cluster);
        }
    }
    let total = said.lines().last().and_then(|line| line.split(", ").nth(1)?.split_once('/')?.0.parse().ok());
    assert_eq!(Some(count), total, "mshowfat and fsck.fat count differently");
    union(used)
}
