//! `prune`: removes old sets by the rules that the server has too. Without `--yes` it only says what would go.

use super::config::SettingsFile;
use super::images;
use super::keep::KeepFlags;
use super::leased::leased;
use super::machine::MachineNames;
use super::many;
use super::output::Out;
use super::room::{FreedRoom, freed};
use super::sets::{ListedSet, SetShare};
use super::shares::{self, BackupFlag, ShareFolder};
use super::table::{minute, short, since};
use super::{Answer, Error};
use crate::serve::old_sets::OldSets;
use crate::serve::retention::{Keep, surplus};
use crate::serve::verified::VerifiedSets;
use crate::share::{DirFiles, Files};
use crate::store::layout::{LEASE, STORE_VERIFIED, history_dir};
use crate::store::lease;
use crate::store::{Folder, publish};
use crate::text::{ascii, human_bytes};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

const AFTER_HELP: &str = "\
Nothing is removed without --yes. What goes is decided as 'testboxctl serve' decides it, with the same options. Never: the \
current set, the last good one, one that is signed or pinned (a file 'pinned' beside its backup.json), one that is younger than \
--keep-days, one whose record cannot be read. The machine's folder is leased meanwhile: one that an agent holds, for a restore \
perhaps, is left alone, and the exit code is 1.

A set is good that is complete, whole and proven: by the server when it was published or by 'testboxctl verify', or, where no \
server has ever kept this share, by the machine itself.

Examples:
  testboxctl prune
  testboxctl prune --keep-last 3 --keep-weekly 4 --keep-monthly 12 --yes
  testboxctl prune --keep-days 30 rack3";

/// Arguments of `prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Machines [default: all]
    #[arg(value_name = "IP|HOST")]
    machines: Vec<String>,
    #[command(flatten)]
    keep: KeepFlags,
    /// Remove them
    #[arg(long)]
    yes: bool,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    backup: BackupFlag,
}

/// What goes of one machine.
struct Pruned {
    ip: Ipv4Addr,
    sets: Vec<ListedSet>,
    /// Why it is left alone.
    left: Option<String>,
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let names = MachineNames::load(&file)?;
    let settings = args.backup.or(file);
    let share = shares::need_backup_dir(&settings)?;
    let machines = images::machines(&names, &args.machines, &share)?;
    let (listed, rules) = (SetShare::open(&share)?, args.keep.rules());
    let verified =
        VerifiedSets::load(&*listed.files).map_err(|e| share.error(STORE_VERIFIED, "read it", &e))?;
    let look = |ip: &Ipv4Addr| look(&listed, *ip, &verified, &rules);
    let mut all: Vec<Pruned> = many::each(&machines, look).into_iter().collect::<Result<_, _>>()?;
    all.retain(|machine| !machine.sets.is_empty() || machine.left.is_some());
    // Asked before they are gone.
    let everybody = images::machines(&names, &[], &share)?;
    let folders = |all: &[Pruned]| -> HashSet<String> {
        let going = all.iter().filter(|machine| machine.left.is_none());
        going
            .flat_map(|machine| machine.sets.iter().map(|set| format!("{}/{}", machine.ip, set.dir)))
            .collect()
    };
    let mut room = freed(&listed, &everybody, &folders(&all));
    if args.yes {
        let asked = folders(&all);
        let files: Arc<dyn Files> =
            Arc::new(DirFiles::open(&share.path).map_err(|e| share.error("", "open it", &e))?);
        all = many::each(&all, |machine| remove(&share, &files, machine, &verified, &rules));
        room.is_exact &= asked == folders(&all);
    }
    show(&all, room, &args.keep.rules(), args.yes, args.json, out)?;
    Ok(all.iter().all(|machine| machine.left.is_none()))
}

/// Finds what would go of a machine.
fn look(share: &SetShare, ip: Ipv4Addr, verified: &VerifiedSets, rules: &Keep) -> Result<Pruned, Error> {
    let folder = share.folder(ip);
    let failed = |what: String| Error::failed(format!("{ip}: {what}; nothing was removed"));
    let gone = going(&folder, verified, rules).map_err(failed)?;
    let mut pruned = Pruned { ip, sets: Vec::new(), left: None };
    if gone.is_empty() {
        return Ok(pruned);
    }
    pruned.sets = share.of(ip).sets;
    pruned.sets.retain(|set| !set.is_current() && gone.contains(&set.generation));
    let held = lease::current(&*folder.files, &folder.path(LEASE)).map_err(|e| failed(e.to_string()))?;
    if let Some(lease) = held.filter(|lease| !lease.is_released()) {
        pruned.left = Some(format!("its folder is held by {}", lease.who()));
    }
    Ok(pruned)
}

/// The numbers of the sets that the rules let go.
fn going(folder: &Folder, verified: &VerifiedSets, rules: &Keep) -> Result<Vec<u64>, String> {
    let now = Timestamp::now();
    let sets = OldSets::of(folder, verified, now).map_err(|failure| failure.what)?;
    Ok(surplus(rules, sets.current, &sets.old, now))
}

/// Removes what goes of a machine, decided anew while nobody else has its folder.
fn remove(
    share: &ShareFolder,
    files: &Arc<dyn Files>,
    machine: &Pruned,
    verified: &VerifiedSets,
    rules: &Keep,
) -> Pruned {
    let (ip, folder) = (machine.ip, Folder::new(files.clone(), machine.ip.to_string()));
    let mut pruned = Pruned { ip, sets: Vec::new(), left: None };
    match remove_leased(share, &folder, verified, rules) {
        Ok(gone) => {
            let sets = machine.sets.iter().filter(|set| gone.contains(&set.generation));
            pruned.sets = sets.cloned().collect();
        }
        Err(why) => pruned.left = Some(why),
    }
    pruned
}

fn remove_leased(
    share: &ShareFolder,
    folder: &Folder,
    verified: &VerifiedSets,
    rules: &Keep,
) -> Result<Vec<u64>, String> {
    leased(share, folder, "prune", |held| {
        let gone = going(folder, verified, rules)?;
        for generation in &gone {
            held.check().map_err(|failure| failure.what)?;
            publish::remove_set(folder, &history_dir(*generation)).map_err(|failure| failure.what)?;
        }
        Ok(gone)
    })
}

fn show(
    all: &[Pruned],
    room: FreedRoom,
    rules: &Keep,
    is_done: bool,
    is_json: bool,
    out: &mut Out,
) -> Result<(), Error> {
    let now = Timestamp::now();
    if is_json {
        let set = |set: &ListedSet| {
            json!({
                "generation": set.generation,
                "set": set.set.to_string(),
                "finished": set.finished,
                "room_bytes": set.room(),
            })
        };
        let machine = |machine: &Pruned| {
            json!({
                "ip": machine.ip,
                "sets": machine.sets.iter().map(set).collect::<Vec<_>>(),
                "left_alone": machine.left,
            })
        };
        return out.json(
            &json!({
                "removed": is_done,
                "keep": { "sets": rules.sets, "daily": rules.daily, "weekly": rules.weekly,
                    "monthly": rules.monthly, "seconds": rules.age },
                "machines": all.iter().map(machine).collect::<Vec<Value>>(),
                "freed_bytes": room.bytes,
                "freed_is_exact": room.is_exact,
            }),
            false,
        );
    }
    let verb = if is_done { "removed" } else { "would remove" };
    for machine in all {
        for set in &machine.sets {
            let images: Vec<String> = set.images.iter().map(|image| ascii(&image.name)).collect();
            out.line(format!(
                "{}: {verb} set {} of {}, {} old: {}, {}",
                machine.ip,
                set.generation,
                minute(set.finished),
                short(since(set.finished, now)),
                images.join(" "),
                human_bytes(set.room())
            ))?;
        }
        if let Some(why) = &machine.left {
            out.line(format!("{}: left alone: {why}", machine.ip))?;
        }
    }
    let going =
        || all.iter().filter(|machine| !machine.sets.is_empty() && (is_done || machine.left.is_none()));
    let (sets, machines) = (going().map(|machine| machine.sets.len()).sum::<usize>(), going().count());
    let frees = match room.is_exact {
        true => human_bytes(room.bytes),
        false => {
            format!("at most {} (this file system does not report shared blocks)", human_bytes(room.bytes))
        }
    };
    out.line(match (sets, is_done) {
        (0, _) if !all.is_empty() => "nothing was removed".into(),
        (0, _) => "nothing to remove by these rules".into(),
        (_, true) => format!("{sets} sets of {machines} machines removed: {frees} free again"),
        (_, false) => format!("{sets} sets of {machines} machines: {frees} would be free again; nothing was removed, --yes does it"),
    })
}
