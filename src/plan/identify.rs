//! Which disk is meant. Identity (serial, WWN) decides; a kernel name is only what a disk was called when a set
//! was made, or, where no set knows it, what it is called now.

use crate::failure::{Failure, Kind};
use crate::inventory::{Disk, Exclusion, Identity, Inventory};
use crate::store::record::Record;
use crate::types::DiskSelector;

/// A disk that a record knows, in whatever role.
pub struct Known<'a> {
    pub name: &'a str,
    pub identity: &'a Identity,
    pub location: &'a str,
    pub size: u64,
    pub imaged: bool,
}

/// Every disk of a record.
pub fn known(record: &Record) -> impl Iterator<Item = Known<'_>> {
    let images = record.images.iter().map(|i| Known {
        name: &i.name,
        identity: &i.identity,
        location: &i.location,
        size: i.disk_size,
        imaged: true,
    });
    let others = record.others.iter().map(|o| Known {
        name: &o.name,
        identity: &o.identity,
        location: &o.location,
        size: o.disk_size,
        imaged: false,
    });
    images.chain(others)
}

/// All disks that carry this identity: none, one, or, where a vendor was careless, several.
pub fn bearers<'a>(identity: &Identity, inventory: &'a Inventory) -> Vec<&'a Disk> {
    inventory.disks.iter().filter(|d| identity.is_unique() && d.identity.is_same_disk(identity)).collect()
}

/// Disks for a refusal's text, one a line.
pub fn listing<'a>(disks: impl IntoIterator<Item = &'a Disk>) -> String {
    let lines: Vec<_> = disks.into_iter().map(|d| format!("\n    {d}")).collect();
    if lines.is_empty() { "\n    (no disk)".into() } else { lines.concat() }
}

/// Finds the one disk that a selector means now. `record` is the set that names refer to.
pub fn find<'a>(
    selector: &DiskSelector,
    inventory: &'a Inventory,
    record: Option<&Record>,
    where_from: &str,
) -> Result<&'a Disk, Failure> {
    // A USB or removable disk is another one tomorrow, in the same port.
    let by_serial = matches!(selector, DiskSelector::Serial(_) | DiskSelector::Wwn(_));
    let found: Vec<&Disk> = match selector {
        DiskSelector::Serial(_) | DiskSelector::Wwn(_) | DiskSelector::At(_) => {
            inventory.disks.iter().filter(|d| selector.matches(d)).collect()
        }
        DiskSelector::Name(name) => find_name(name.as_str(), inventory, record, where_from)?,
    };
    match found[..] {
        [disk] if disk.excluded.is_some() && !by_serial => {
            let why = if disk.excluded == Some(Exclusion::Usb) { "a USB disk" } else { "removable" };
            let advice = "name it by serial= if it is really meant.";
            Err(Failure::new(Kind::DiskList, format!("{where_from}: '{selector}' is {why}: {disk}"), advice))
        }
        [disk] => Ok(disk),
        [] => Err(Failure::new(
            Kind::DiskList,
            format!(
                "{where_from}: '{selector}' matches no disk of this machine:{}",
                listing(&inventory.disks)
            ),
            "correct the entry, or plug the disk in.",
        )),
        _ => Err(Failure::new(
            Kind::Ambiguous,
            format!("{where_from}: '{selector}' matches several disks:{}", listing(found)),
            "use wwn=, or the kernel name.",
        )),
    }
}

fn find_name<'a>(
    name: &str,
    inventory: &'a Inventory,
    record: Option<&Record>,
    where_from: &str,
) -> Result<Vec<&'a Disk>, Failure> {
    let now = || inventory.disks.iter().filter(|d| d.name == name).collect::<Vec<_>>();
    let Some(record) = record else { return Ok(now()) };
    // An imaged disk's name is the set's own word, so it goes before the name of a disk that was left out.
    if let Some(role) = known(record).find(|k| k.name == name) {
        if role.identity.is_unique() {
            let found = bearers(role.identity, inventory);
            if found.is_empty() {
                return Err(Failure::new(
                    Kind::DiskMissing,
                    format!(
                        "{where_from}: '{name}' is the disk {} of set {}, which is not here:{}",
                        role.identity,
                        record.generation,
                        listing(&inventory.disks)
                    ),
                    format!("if it was replaced, say by what: testbox.map={name}:serial=<new serial>."),
                ));
            }
            return Ok(found);
        }
        return Ok(now().into_iter().filter(|d| !d.identity.is_unique() && d.size == role.size).collect());
    }
    for disk in now() {
        if let Some(role) = known(record).find(|k| k.identity.is_same_disk(&disk.identity)) {
            return Err(Failure::new(
                Kind::Ambiguous,
                format!(
                    "{where_from}: '{name}' is today's name of the disk that set {} calls '{}': {disk}",
                    record.generation, role.name
                ),
                format!("write '{}', or name the disk by serial=.", role.name),
            ));
        }
    }
    Ok(now())
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;

    fn found(selector: &str, disks: &[&str], record: Option<&Record>) -> Result<String, Kind> {
        find(&selectors(selector)[0], &inventory(disks), record, "test")
            .map(|d| d.name.clone())
            .map_err(|f| f.kind)
    }

    #[test]
    fn a_name_means_the_disk_that_the_set_called_so_not_the_one_called_so_today() {
        let set = record(1, &["sda S1 4G@1"], &["sdb S2 8G@2"]);
        let swapped = ["sda S2 8G@2", "sdb S1 4G@1"];
        assert_eq!(found("sda", &swapped, Some(&set)), Ok("sdb".into()));
        assert_eq!(found("sdb", &swapped, Some(&set)), Ok("sda".into()));
        assert_eq!(found("sda", &swapped, None), Ok("sda".into()));
        // The system disk is dead, the data disk took its name: never the data disk.
        assert_eq!(found("sda", &["sda S2 8G@2"], Some(&set)), Err(Kind::DiskMissing));
        // The set does not know the name, but knows the disk under another one.
        assert_eq!(found("sdc", &["sdc S1 4G@1"], Some(&set)), Err(Kind::Ambiguous));
    }

    #[test]
    fn usb_disks_only_by_serial_and_twins_never() {
        let disks = ["sda S1 4G@1", "usb:sdb S2 8G@2", "sdc T 4G@3", "sdd T 4G@4"];
        assert_eq!(found("serial=S2", &disks, None), Ok("sdb".into()));
        assert_eq!(found("at=2", &disks, None), Err(Kind::DiskList));
        assert_eq!(found("at=4", &disks, None), Ok("sdd".into()));
        assert_eq!(found("sdb", &disks, None), Err(Kind::DiskList));
        assert_eq!(found("serial=T", &disks, None), Err(Kind::Ambiguous));
        assert_eq!(found("serial=nobody", &disks, None), Err(Kind::DiskList));
        assert_eq!(found("sdx", &disks, None), Err(Kind::DiskList));
    }
}
