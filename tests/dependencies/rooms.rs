//! The rooms of `src/`: each stands above what it uses, and no two files of one room use each other.

use super::source::{Crate, Module};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// From top to bottom. A room uses only rooms of lower rows; those of one row, as the two programs, nothing of each other.
const ROWS: [&[&str]; 13] = [
    &["bin"],
    &["ctl", "agent"],
    &["serve", "boot"],
    &["plan", "manual"],
    &["store"],
    &["image"],
    &["share", "job"],
    &["signature", "net"],
    &["types"],
    &["inventory", "efi"],
    &["used"],
    &["block"],
    &["sys", "io", "text", "bytes", "guid", "progress", "failure", "watch"],
];

type Arrows = BTreeMap<Module, BTreeSet<Module>>;

fn arrows() -> Arrows {
    Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).arrows()
}

fn row(room: &str) -> usize {
    ROWS.iter()
        .position(|row| row.contains(&room))
        .unwrap_or_else(|| panic!("src/{room} is a new room: give it its place in ROWS, and in src/lib.rs"))
}

#[test]
fn no_room_uses_one_above_it_or_beside_it() {
    let arrows = arrows();
    let is_up = |from: &Module, to: &Module| {
        let (from, to) = (&from[0], &to[0]);
        from != to && row(to) <= row(from)
    };
    let wrong: Vec<String> = arrows
        .iter()
        .filter(|(file, _)| !file.is_empty())
        .flat_map(|(file, used)| used.iter().map(move |target| (file, target)))
        .filter(|(file, target)| is_up(file, target))
        .map(|(file, target)| format!("{} -> {}", file.join("::"), target.join("::")))
        .collect();
    assert!(wrong.is_empty(), "arrows that run up:\n{}", wrong.join("\n"));
    let seen: BTreeSet<&str> = arrows.keys().filter_map(|file| Some(file.first()?.as_str())).collect();
    for room in ROWS.concat() {
        assert!(seen.contains(room), "{room} is no longer there: take it out of ROWS");
    }
}

#[test]
fn no_two_files_of_a_room_use_each_other() {
    let arrows = arrows();
    let mut circles: BTreeSet<String> = BTreeSet::new();
    for file in arrows.keys().filter(|file| !file.is_empty()) {
        let reached = reachable(&arrows, file);
        if !reached.contains(file) {
            continue;
        }
        let circle = reached.iter().filter(|other| reachable(&arrows, other).contains(file));
        circles.insert(circle.map(|file| file.join("::")).collect::<Vec<_>>().join(", "));
    }
    assert!(circles.is_empty(), "files that use each other: {circles:#?}");
}

/// The files of the same room that a file uses, directly or by others. That a module puts together what is below it is no
/// arrow: its parts may use what it declares for all of them.
fn reachable(arrows: &Arrows, file: &Module) -> BTreeSet<Module> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![file];
    while let Some(from) = todo.pop() {
        for to in
            arrows.get(from).into_iter().flatten().filter(|to| to[0] == file[0] && !to.starts_with(from))
        {
            if seen.insert(to.clone()) {
                todo.push(to);
            }
        }
    }
    seen
}

/// The layout of the shares is the one owner of their names; the folders of configurations are the search's own.
#[test]
fn no_other_file_spells_a_name_of_the_shares() {
    use testbox::store::layout::*;
    let names = [
        BACKUP_EXPORT,
        TFTP_EXPORT,
        NFS_ROOT_EXPORT,
        BACKUP_MARKER,
        TFTP_MARKER,
        SHIM,
        GRUB,
        GRUB_CFG,
        MAINTENANCE_BOOT,
        KERNEL,
        INITRD,
        RECORD,
        RECORD_PENDING,
        SIGNATURE,
        STATUS,
        DISK_LIST,
        INFO_TEXT,
        INFO_ZIP,
        MAINTENANCE_LOG,
        OUTPUT_LOG,
        HISTORY,
        PART,
        PXELINUX_CFG,
        TESTBOX_CFG,
        ".raw.gz",
        ".gz",
    ];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut spelled = Vec::new();
    for (module, code) in super::source::texts(&src) {
        let is_owner = module.starts_with(&["store".into(), "layout".into()]) || module == ["job", "search"];
        // There a command is called so.
        let is_command = |name: &str| module == ["ctl", "behalf"] && name == HISTORY;
        let found = names
            .iter()
            .filter(|name| !is_owner && !is_command(name) && code.contains(&format!("\"{name}\"")));
        spelled.extend(found.map(|name| format!("{}: {name}", module.join("::"))));
    }
    assert!(spelled.is_empty(), "names of store::layout: {spelled:#?}");
}

/// What each command of `testboxctl` calls its arguments, as clap's users do; each is used in its own file and in its parent's.
const REPEATED: [&str; 1] = ["Args"];

#[test]
fn a_name_stands_for_one_type() {
    let types = Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).types();
    assert!(types.len() > 400, "{} types", types.len());
    let repeated: Vec<_> = types
        .iter()
        .filter(|(name, modules)| modules.len() > 1 && !REPEATED.contains(&name.as_str()))
        .map(|(name, modules)| format!("{name}: {modules:?}"))
        .collect();
    assert!(repeated.is_empty(), "one name, several types:\n{}", repeated.join("\n"));
}
