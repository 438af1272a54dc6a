//! UEFI: a backup records the boot entries, a restore puts them back behind the network, `verify` says what differs; and
//! whatever the firmware does to that, the data count, and the machine boots the network or its disk.

use crate::world::esp::{FALLBACK, SHIM, entry, esp_disk, firmware, network, partition};
use crate::world::{HEX, IP, Machine, REBOOT, disk};
use testbox::efi::{BootNumber, BootState, FirmwareFault, FirmwareKind, LoadOption, MemVariables};
use testbox::failure::Kind;
use testbox::share::{Files, Survivors};
use testbox::store::record::Record;
use testbox::store::status::JobState;
use testbox::sys::Chance;

/// A machine whose set 1 has a disk with these files and this firmware.
fn backed_up(files: &[&str], variables: Option<MemVariables>) -> Machine {
    let mut machine = Machine::new();
    machine.set_disks(vec![disk("sda S1 @1", esp_disk(files))]);
    machine.set_efi(variables.map(Ok));
    machine.arm("testbox.action=backup testbox.job=one");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert!(!machine.is_armed(), "{}", seen.console);
    machine
}

/// The usual one: network, then Debian.
fn debian(files: &[&str]) -> Machine {
    backed_up(files, Some(firmware(&[network(), entry("debian", SHIM)], &[0, 1])))
}

/// The disk is empty by now, and the firmware has these variables.
fn restoring(machine: &mut Machine, variables: Option<Result<MemVariables, String>>) {
    machine.set_disks(vec![disk("sda S1 @1", vec![0; 3 << 20])]);
    machine.set_efi(variables);
    machine.arm("testbox.action=restore testbox.job=two testbox.attempts=99");
}

fn forgot() -> MemVariables {
    firmware(&[network()], &[0])
}

fn state(machine: &Machine) -> BootState {
    BootState::read(machine.efi.as_ref().unwrap().as_ref().unwrap()).unwrap()
}

fn notes(machine: &Machine) -> String {
    machine.status().notes.join("\n")
}

#[test]
fn a_backup_records_entries_order_and_loaders() {
    let machine = debian(&[SHIM, FALLBACK]);
    let firmware = machine.record().firmware.unwrap();
    assert_eq!(
        (firmware.kind, firmware.bits, firmware.secure_boot),
        (FirmwareKind::Uefi, Some(64), Some(true))
    );
    assert_eq!(firmware.boot_order, [BootNumber(0), BootNumber(1)]);
    let debian = firmware.entry(BootNumber(1)).unwrap();
    assert_eq!((debian.partition, debian.path.as_deref()), (Some(partition()), Some(SHIM)));
    assert!(debian.active && firmware.entry(BootNumber(0)).unwrap().partition.is_none());
    let [loaders] = &firmware.loaders[..] else { panic!("{:?}", firmware.loaders) };
    assert_eq!((loaders.image.as_str(), loaders.partition, loaders.fallback), ("sda", partition(), true));
    assert_eq!(loaders.files, [FALLBACK, SHIM]);
    assert!(machine.text("maintenance.log").contains("Boot0001 'debian': partition 1"));

    let machine = backed_up(&[SHIM], None);
    let firmware = machine.record().firmware.unwrap();
    assert_eq!((firmware.kind, firmware.loaders.len()), (FirmwareKind::Bios, 0));
}

#[test]
fn a_backup_without_readable_variables_is_done_and_says_so() {
    let mut machine = Machine::new();
    machine.set_disks(vec![disk("sda S1 @1", esp_disk(&[SHIM]))]);
    machine.set_efi(Some(Err("cannot mount efivarfs: ENODEV".into())));
    machine.arm("testbox.action=backup testbox.job=one");
    assert_eq!(machine.boot().ending, REBOOT);
    let firmware = machine.record().firmware.unwrap();
    assert_eq!((firmware.kind, firmware.loaders.len()), (FirmwareKind::Uefi, 1));
    assert!(notes(&machine).contains("not all in the record: cannot mount efivarfs: ENODEV"));
}

#[test]
fn loaders_of_an_image_that_is_carried_stay_in_the_record() {
    let mut machine = Machine::new();
    machine.set_disks(vec![disk("sda S1 @1", esp_disk(&[SHIM])), disk("sdb S2 @2", vec![7; 3 << 20])]);
    machine.set_efi(Some(Ok(forgot())));
    machine.arm("testbox.action=backup testbox.job=one");
    machine.boot();
    let before = machine.record().firmware.unwrap().loaders;
    machine.arm("testbox.action=backup-again testbox.job=two testbox.disks=sdb");
    machine.boot();
    let record = machine.record();
    assert_eq!((record.generation, record.firmware.unwrap().loaders), (2, before));
}

#[test]
fn a_restore_puts_the_entry_back_behind_the_network() {
    let mut machine = debian(&[SHIM]);
    // A network card more, and the number of the entry is in use.
    restoring(&mut machine, Some(Ok(firmware(&[network(), network()], &[1, 0]))));
    let seen = machine.boot();
    assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{}", seen.console);
    let state = state(&machine);
    assert_eq!(state.order, [1, 2, 0].map(BootNumber));
    assert_eq!(state.entries[&BootNumber(2)], entry("debian", SHIM));
    assert_eq!(machine.status().state, JobState::Done);
    for line in [
        "boot entries: written: Boot0002 'debian' for '\\EFI\\debian\\shimx64.efi'",
        "boot entries: written: BootOrder 0001,0002,0000",
    ] {
        assert!(notes(&machine).contains(line) && machine.text("maintenance.log").contains(line), "{line}");
    }
    // Once more: nothing is written.
    let written = machine.efi.clone().unwrap().unwrap().written();
    assert_eq!(written, ["Boot0002", "BootOrder"]);
    let same = machine.efi.clone();
    restoring(&mut machine, same);
    machine.arm("testbox.action=restore testbox.job=three");
    machine.boot();
    assert_eq!(machine.efi.clone().unwrap().unwrap().written(), written);
    assert!(machine.text("maintenance.log").contains("boot entries: Boot0002 is there already"));
}

#[test]
fn firmware_that_refuses_is_an_outcome_of_its_own() {
    let refusing = |fault| {
        let variables = forgot();
        variables.fail(fault);
        Ok(variables)
    };
    let rows = [
        (refusing(FirmwareFault::Refuse(libc::ENOSPC)), "ENOSPC, No space left on device"),
        (refusing(FirmwareFault::Refuse(libc::EROFS)), "EROFS"),
        (refusing(FirmwareFault::Refuse(libc::EINVAL)), "EINVAL"),
        (refusing(FirmwareFault::Forget), "it is not there when it is read back"),
        (Err("cannot mount efivarfs: ENODEV".into()), "cannot mount efivarfs: ENODEV"),
        (Ok(MemVariables::default()), "no boot order with a network entry"),
    ];
    for (variables, why) in rows {
        let mut machine = debian(&[SHIM]);
        restoring(&mut machine, Some(variables.clone()));
        let seen = machine.boot();
        let status = machine.status();
        assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{why}: {}", seen.console);
        assert_eq!((status.state, status.code), (JobState::Failed, Some(65)), "{why}");
        assert!(machine.disk_bytes("sda") == esp_disk(&[SHIM]), "{why}: the data are restored");
        let error = status.error.unwrap();
        for part in
            [why, "the disks are restored and verified", "[boot-entries 65]", "the machine is disarmed"]
        {
            assert!(
                error.contains(part) && seen.console.contains("[boot-entries 65]"),
                "{error} lacks {part}"
            );
            assert!(machine.text("maintenance.log").contains(part), "{part}");
        }
        assert!(!machine.text("maintenance.log").contains("restore: done"), "{why}");
        // A note where the firmware finds its way by itself.
        let mut machine = debian(&[SHIM, FALLBACK]);
        restoring(&mut machine, Some(variables));
        assert_eq!(machine.boot().ending, REBOOT);
        assert_eq!(machine.status().state, JobState::Done, "{why}");
        let notes = notes(&machine);
        assert!(notes.contains("NOT PUT BACK") && notes.contains(why) && notes.contains(FALLBACK), "{notes}");
    }
}

#[test]
fn a_failure_of_boot_entries_holds_and_ends_as_settings_say() {
    let mut machine = debian(&[SHIM]);
    restoring(&mut machine, Some(Err("no".into())));
    machine.arm("testbox.action=restore testbox.job=two testbox.on-error=hold");
    assert_eq!(machine.boot().ending, crate::world::HOLD);
    assert_eq!((machine.status().state, machine.is_armed()), (JobState::Holding, false));
}

#[test]
fn other_firmware_than_that_of_the_set_is_told() {
    let mut machine = debian(&[SHIM]);
    restoring(&mut machine, None);
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(notes(&machine).contains("MAY NOT BOOT: UEFI had started"), "{}", notes(&machine));

    let mut machine = backed_up(&[SHIM], None);
    restoring(&mut machine, Some(Ok(forgot())));
    assert_eq!(machine.boot().ending, REBOOT);
    let said = notes(&machine);
    assert!(said.contains("MAY NOT BOOT: a BIOS had started"), "{said}");
    assert!(said.contains("no boot entry leads to the restored disk"), "{said}");
    assert_eq!(machine.efi.clone().unwrap().unwrap().written(), [""; 0]);

    let mut machine = debian(&[SHIM]);
    let variables = forgot();
    variables.put("SecureBoot", &[0]);
    restoring(&mut machine, Some(Ok(variables)));
    machine.boot();
    assert!(notes(&machine).contains("Secure Boot is off now, and was on"));
}

/// Changes the record of the set, as whoever writes to the share can.
fn edit(machine: &Machine, change: impl FnOnce(&mut Record)) {
    let mut record = machine.record();
    change(&mut record);
    machine.backup.put(&format!("{IP}/backup.json"), record.to_bytes());
}

#[test]
fn an_edited_record_starts_nothing_that_was_not_restored() {
    type Edit = fn(&mut testbox::efi::BootEntry);
    let rows: [(Edit, &str); 5] = [
        (|e| e.path = Some("\\EFI\\evil.efi".into()), "there is no '\\EFI\\evil.efi' on its partition"),
        (|e| e.path = Some("\\EFI\\debian\\..\\x.efi".into()), "on its partition"),
        (|e| e.partition.as_mut().unwrap().start = 64, "MAY NOT BOOT"),
        (|e| e.partition = None, "MAY NOT BOOT"),
        (|e| e.active = false, "MAY NOT BOOT"),
    ];
    for (change, said) in rows {
        let mut machine = debian(&[SHIM]);
        edit(&machine, |record| change(&mut record.firmware.as_mut().unwrap().entries[1]));
        restoring(&mut machine, Some(Ok(forgot())));
        assert_eq!(machine.boot().ending, REBOOT);
        assert!(notes(&machine).contains(said), "{} lacks {said}", notes(&machine));
        assert_eq!(machine.efi.clone().unwrap().unwrap().written(), [""; 0], "{said}");
        assert!(!machine.is_armed());
    }
    // One that no testbox writes is not used at all.
    let mut machine = debian(&[SHIM]);
    edit(&machine, |record| record.firmware.as_mut().unwrap().entries[1].path = Some("x".repeat(9000)));
    restoring(&mut machine, Some(Ok(forgot())));
    machine.boot();
    assert_eq!(machine.status().code, Some(Kind::BadRecord.code()));
    assert!(machine.is_armed() && machine.disk_bytes("sda") == vec![0; 3 << 20]);
}

#[test]
fn options_do_not_come_back() {
    let kernel = LoadOption { options: b"init=/bin/sh".to_vec(), ..entry("kernel", SHIM) };
    let mut machine = backed_up(&[SHIM], Some(firmware(&[network(), kernel], &[0, 1])));
    restoring(&mut machine, Some(Ok(forgot())));
    machine.boot();
    assert_eq!(state(&machine).entries[&BootNumber(1)], entry("kernel", SHIM));
    assert!(notes(&machine).contains("it comes without its 12 bytes of options"), "{}", notes(&machine));
}

#[test]
fn verify_says_what_differs_and_changes_nothing() {
    let mut machine = debian(&[SHIM]);
    let verify = |machine: &mut Machine, variables| {
        machine.set_efi(variables);
        machine.arm("testbox.action=verify");
        assert_eq!(machine.boot().ending, REBOOT);
        notes(machine)
    };
    let before = machine.efi.clone();
    assert!(verify(&mut machine, before).contains("the boot entries are those of the set"));
    let variables = forgot();
    let said = verify(&mut machine, Some(Ok(variables.clone())));
    for line in [
        "DIFFERS: boot entries: the firmware has none like Boot0001 'debian'",
        "DIFFERS: boot entries: the firmware has BootOrder 0000; a restore would make it BootOrder 0000,0001",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(variables.written(), [""; 0]);
    let said = verify(&mut machine, Some(Err("EPERM".into())));
    assert!(said.contains("the boot entries are not compared: EPERM"), "{said}");
    assert!(verify(&mut machine, None).contains("MAY NOT BOOT: UEFI had started"));
    machine.set_disks(vec![disk("sda S1 @1", esp_disk(&["\\EFI\\other.efi"]))]);
    let said = verify(&mut machine, Some(Ok(variables)));
    assert!(
        said.contains("DIFFERS: boot entry Boot0001 'debian': there is no '\\EFI\\debian\\shimx64.efi'"),
        "{said}"
    );
}

#[test]
fn a_set_without_firmware_in_its_record_is_restored_as_before() {
    let mut machine = debian(&[SHIM, FALLBACK]);
    edit(&machine, |record| record.firmware = None);
    restoring(&mut machine, Some(Ok(forgot())));
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(notes(&machine).contains("the firmware finds \\EFI\\BOOT\\BOOTX64.EFI on it by itself"));
    assert_eq!(machine.efi.clone().unwrap().unwrap().written(), [""; 0]);
}

/// After a cut in a restore, the firmware tries the network first, and the next boot ends the job.
fn check_after_cut(cut: &Machine, what: &str) {
    let order = state(cut).order;
    assert!(order[0] == BootNumber(1), "{what}: {order:?}");
    let boots = (0..3).take_while(|_| cut.is_armed()).map(|_| cut.boot().console).last();
    assert!(!cut.is_armed(), "{what}: does not end: {boots:?}");
    let done = state(cut);
    assert_eq!(done.order, [1, 2, 0].map(BootNumber), "{what}");
    assert_eq!(done.entries[&BootNumber(2)], entry("debian", SHIM), "{what}");
    assert_eq!(done.entries.len(), 3, "{what}: no entry is made twice");
    assert!(cut.disk_bytes("sda") == esp_disk(&[SHIM]), "{what}");
}

fn to_be_cut() -> Machine {
    let mut machine = debian(&[SHIM]);
    restoring(&mut machine, Some(Ok(firmware(&[network(), network()], &[1, 0]))));
    machine
}

#[test]
fn a_power_cut_at_any_operation_leaves_the_network_first() {
    let before = to_be_cut();
    for nth in 0.. {
        let machine = before.copy();
        machine.power.cut_at(nth);
        machine.boot();
        if machine.power.is_on() {
            assert!(nth > 50, "only {nth} operations");
            break;
        }
        let after = machine.after_cut(Survivors::AllNames, Chance(nth as u64));
        check_after_cut(&after, &format!("cut at operation {nth}"));
    }
}

#[test]
fn a_power_cut_between_entry_and_order_changes_no_boot() {
    let machine = to_be_cut();
    machine.efi.as_ref().unwrap().as_ref().unwrap().fail(FirmwareFault::CutBeforeOrder);
    machine.boot();
    assert!(!machine.power.is_on());
    let after = machine.after_cut(Survivors::AllNames, Chance(0));
    assert_eq!((state(&after).entries.len(), state(&after).order.len()), (3, 2));
    assert!(after.is_armed());
    check_after_cut(&after, "between entry and order");
}

/// GRUB is told what the firmware would start, in a file of this machine's own; again only where it differs.
#[test]
fn the_boot_server_is_told_the_loader_of_the_own_system() {
    let file = format!("testbox.cfg/{HEX}.boot");
    let mut machine = Machine::new();
    machine.tftp.make_dir("testbox.cfg").unwrap();
    machine.set_disks(vec![disk("sda S1 @1", esp_disk(&[SHIM]))]);
    machine.set_efi(Some(Ok(firmware(&[network(), entry("debian", SHIM)], &[0, 1]))));
    machine.arm("testbox.action=backup testbox.job=one");
    assert_eq!(machine.boot().ending, REBOOT);
    let told = String::from_utf8(machine.tftp.get(&file).unwrap()).unwrap();
    assert_eq!(told.lines().last(), Some("set tb_own=/EFI/debian/shimx64.efi"));
    machine.arm("testbox.action=verify testbox.job=two");
    let seen = machine.boot();
    assert!(!seen.console.contains(&file), "{}", seen.console);

    let mut bios = backed_up(&[SHIM], None);
    assert!(bios.tftp.get(&file).is_none());
    // A name that would be more than a name in a script of GRUB's.
    bios.set_efi(Some(Ok(firmware(&[network(), entry("odd", "\\EFI\\a b;reboot.efi")], &[0, 1]))));
    bios.arm("testbox.action=verify testbox.job=two");
    assert_eq!(bios.boot().ending, REBOOT);
    assert!(bios.tftp.get(&file).is_none());
}
