//! Machines by chance: twins, disks without a serial, swapped cables, dead disks, new ones, new content. Whatever is
//! asked for, no disk is a target that a record knows in another role, unless the admin names it by what it is.

use super::super::testkit::*;
use super::super::{PlanStep, Publish, plan};
use crate::inventory::{Disk, Identity, Inventory};
use crate::job::Action;
use crate::store::record::{ImageRecord, Machine, OtherDisk, Record};
use crate::store::{HistorySet, SetDigest, ShareState};
use crate::types::{DiskSelector, MapEntry};
use crate::used::DiskContent;
use jiff::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A real disk, whatever anybody takes it for.
#[derive(Clone, Debug)]
struct Real {
    serial: Option<String>,
    /// 0: nothing that could be recognised.
    content: u32,
    place: u8,
    size: u64,
    here: bool,
}

/// What is true of a set: the role of each real disk, by its number.
type Roles = BTreeMap<usize, (String, bool)>;

#[derive(Debug, Default)]
struct PropertyLab {
    disks: Vec<Real>,
    sets: Vec<(Record, Roles)>,
    boots: usize,
    contents: u32,
}

impl PropertyLab {
    fn new(disks: &[(u8, bool)]) -> PropertyLab {
        let mut lab = PropertyLab::default();
        for (serial, has_content) in disks {
            let serial = ["T", "T", "U", "None", "", "V", "W"][usize::from(*serial) % 7];
            lab.add(Some(serial).filter(|text| !text.is_empty()).map(str::to_owned), *has_content);
        }
        lab
    }

    fn add(&mut self, serial: Option<String>, has_content: bool) {
        self.contents += 1;
        let place = u8::try_from(self.disks.len()).unwrap();
        let content = if has_content { self.contents } else { 0 };
        self.disks.push(Real { serial, content, place, size: 4 << 30, here: true });
    }

    /// Kernel names are given anew at each boot.
    fn inventory(&self) -> Inventory {
        let mut here: Vec<&Real> = self.disks.iter().filter(|disk| disk.here).collect();
        let turns = self.boots % here.len().max(1);
        here.rotate_left(turns);
        let disk = |(n, real): (u8, &Real)| Disk {
            name: format!("sd{}", char::from(b'a' + n)),
            size: real.size,
            logical_block_size: 512,
            physical_block_size: 512,
            identity: Identity { serial: real.serial.clone(), ..Identity::default() },
            location: format!("port{}", real.place),
            content: DiskContent {
                volumes: (real.content > 0).then(|| format!("ext4:{}", real.content)).into_iter().collect(),
                ..DiskContent::default()
            },
            ..Disk::default()
        };
        Inventory { disks: (0..).zip(here).map(disk).collect() }
    }

    /// The real disk that sits where a disk of the list does.
    fn real(&self, disk: &Disk) -> usize {
        self.disks.iter().position(|r| r.here && format!("port{}", r.place) == disk.location).unwrap()
    }

    fn share(&self) -> ShareState {
        let Some(((newest, _), older)) = self.sets.split_last() else { return ShareState::default() };
        let set = |(record, _): &(Record, Roles)| HistorySet {
            folder: format!("history/{}", record.generation),
            record: Some(record.clone()),
            digest: SetDigest::default(),
            images: files_of(record),
        };
        ShareState { history: older.iter().rev().map(set).collect(), ..share(newest.clone()) }
    }

    /// A backup of the disks that the mask leaves; what is refused changes nothing.
    fn backup(&mut self, mask: u8) {
        let inventory = self.inventory();
        let is_listed = |disk: &&Disk| mask == 0 || mask >> self.real(disk) & 1 == 1;
        let list = inventory.disks.iter().filter(is_listed).map(|d| DiskSelector::At(d.location.clone()));
        let share = ShareState { disk_list: Some(list.collect()), ..self.share() };
        let action = if self.sets.is_empty() { Action::Backup } else { Action::BackupAgain };
        let Ok(plan) = plan(&request(action), &inventory, &share) else { return };
        let mut made: Vec<(Disk, String)> = Vec::new();
        for step in plan.steps {
            match step {
                PlanStep::BackupDisk { disk, name, .. } => made.push((disk, name)),
                PlanStep::Publish(publish) => self.publish(&made, publish),
                _ => {}
            }
        }
    }

    fn publish(&mut self, made: &[(Disk, String)], publish: Publish) {
        let Publish { generation, carried, others } = publish;
        let mut record = Record::new(generation, None, Machine::default(), Timestamp::UNIX_EPOCH);
        let mut roles = Roles::new();
        for (disk, name) in made {
            roles.insert(self.real(disk), (name.clone(), true));
            record.images.push(image_of(disk, name, generation));
        }
        let before = self.sets.last().map(|(_, roles)| roles.clone()).unwrap_or_default();
        for image in carried {
            let of = before.iter().find(|(_, role)| **role == (image.name.clone(), true));
            // A disk that is imaged under another name by now keeps the name of that image.
            if let Some((real, role)) = of {
                roles.entry(*real).or_insert_with(|| role.clone());
            }
            record.images.push(image);
        }
        for other in others {
            let real = self.disks.iter().position(|r| r.here && format!("port{}", r.place) == other.location);
            roles.entry(real.unwrap()).or_insert((other.name.clone(), false));
            record.others.push(other);
        }
        self.sets.push((record, roles));
    }

    fn happen(&mut self, (what, a, b): (u8, u8, u8)) {
        let n = self.disks.len();
        let (a, other) = (usize::from(a) % n, usize::from(b) % n);
        self.boots += usize::from(b);
        match what % 8 {
            0 => {
                let place = self.disks[a].place;
                self.disks[a].place = std::mem::replace(&mut self.disks[other].place, place);
            }
            1 => self.disks[a].here = !self.disks[a].here,
            2 if n < 6 => {
                // In the place of one that is dead, or in a free one.
                self.add(Some(format!("N{n}")), b & 1 == 1);
                if !self.disks[a].here {
                    let place = self.disks[a].place;
                    self.disks[a].place = std::mem::replace(&mut self.disks[n].place, place);
                }
            }
            3 => {
                self.contents += 1;
                self.disks[a].content = if b & 1 == 1 { 0 } else { self.contents };
            }
            4 => self.backup(0),
            _ => self.backup(b),
        }
    }
}

fn image_of(disk: &Disk, name: &str, generation: u64) -> ImageRecord {
    let OtherDisk { identity, location, content, twin, .. } = OtherDisk::new(disk, "");
    let root_hash = hash_of(name, generation);
    let name = name.to_owned();
    ImageRecord { name, identity, location, content, twin, root_hash, ..image("sda - 4G@x", generation) }
}

/// Restores by chance, and looks at every target.
fn check(lab: &PropertyLab, map: Option<(u8, u8)>, damaged: u8) -> Result<(), TestCaseError> {
    let inventory = lab.inventory();
    let mut share = lab.share();
    if damaged & 1 == 1 {
        share.images.clear();
    }
    if damaged & 2 == 2 && !share.history.is_empty() {
        share.history[0].images.clear();
    }
    let mut request = request(Action::Restore);
    let name = |n: u8| format!("sd{}", char::from(b'a' + n % 6)).parse().unwrap();
    request.map = map
        .map(|(i, d)| MapEntry { image: name(i), disk: DiskSelector::Name(name(d)) })
        .into_iter()
        .collect();
    let Ok(plan) = plan(&request, &inventory, &share) else { return Ok(()) };
    for step in &plan.steps {
        let PlanStep::RestoreDisk { source, disk, .. } = step else { continue };
        let real = lab.real(disk);
        let newest = lab.sets.last().map_or(0, |(record, _)| record.generation);
        let folder = source.path.strip_prefix("history/").and_then(|p| p.split('/').next()?.parse().ok());
        let chosen: u64 = folder.unwrap_or(newest);
        // Two without a serial or content, each where the other was: the admin has named one by hand, and the place agrees.
        let is_by_name = request.map.iter().any(|entry| entry.image.as_str() == source.name);
        if is_by_name && source.record.as_ref().is_some_and(|image| image.location == disk.location) {
            continue;
        }
        let wanted = (source.name.clone(), true);
        let of_chosen = lab.sets.iter().find(|(r, _)| r.generation == chosen).and_then(|(_, r)| r.get(&real));
        let (is_known, is_own) = (of_chosen.is_some(), of_chosen == Some(&wanted));
        for (record, roles) in &lab.sets {
            let counts = record.generation >= chosen || !is_known;
            let role = roles.get(&real).filter(|_| counts);
            // A disk that got another name since, and was imaged by it, is the same disk all the same.
            prop_assert!(
                role.is_none_or(|role| *role == wanted || (is_own && role.1)),
                "{} of set {chosen} onto {disk}, which is {role:?} in set {}\n{lab:#?}",
                source.path,
                record.generation
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]
    #[test]
    fn no_disk_with_another_role_is_ever_a_target(
        disks in proptest::collection::vec((any::<u8>(), any::<bool>()), 1..4),
        first: u8,
        events in proptest::collection::vec(any::<(u8, u8, u8)>(), 0..8),
        map in proptest::option::of(any::<(u8, u8)>()),
        damaged: u8,
    ) {
        let mut lab = PropertyLab::new(&disks);
        lab.backup(first);
        for event in events {
            lab.happen(event);
            check(&lab, map, damaged)?;
        }
        check(&lab, None, damaged)?;
    }
}
