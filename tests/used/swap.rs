//! Swap: the first page is all that is used while it is not in use.

use crate::mount::try_shell;
use crate::proof::{Row, make, map_of_disk};
use crate::random::Random;
use crate::rows;
use crate::scratch::scratch;
use crate::tree::Tree;
use std::fs::OpenOptions;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use testbox::used::Used;

pub const SWAP: Row = Row {
    kind: "swap",
    mib: 8,
    make: "mkswap -L pages $IMG",
    used,
    fsck: "swaplabel $IMG",
    leave_out: Used::NoSwap,
    work,
    read,
    ..Row::DEFAULT
};

rows! {
    loop_swap: SWAP;
}

#[test]
fn loop_swap_is_kept_unless_asked() {
    let dir = scratch();
    let image = dir.path().join("image");
    make(&SWAP, &image).unwrap();
    let map = map_of_disk(&image, Used::Auto).unwrap();
    assert!(map.free.is_empty(), "{map:?}");
    assert_eq!(map.found[0].why_all.as_deref(), Some("swap content is kept"));
}

/// Pages are written anywhere but into the first one.
fn work(row: &Row, image: &Path, _: &Path, random: &mut Random) -> Result<(), String> {
    let file = OpenOptions::new().write(true).open(image).map_err(|e| e.to_string())?;
    for _ in 0..100 {
        let page = 1 + random.below((row.mib << 8) - 1);
        file.write_all_at(&random.bytes(4096), page * 4096).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Nothing but label and UUID.
fn read(_: &Row, image: &Path, dir: &Path) -> Result<Tree, String> {
    std::fs::create_dir_all(dir).map_err(|e| e.to_string())?;
    try_shell(
        &format!("swaplabel \"$IMG\" >'{0}/label'; touch -d @0 '{0}' '{0}/label'", dir.display()),
        image,
    )?;
    Tree::read(dir).map_err(|e| e.to_string())
}

fn used(_: &Path) -> Vec<Range<u64>> {
    vec![0..4096]
}
