use super::super::*;
use super::{esp, loader, network, recorded, state, variables_of};
use std::fs;

const GUID: &str = "-8be4df61-93ca-11d2-aa0d-00e098032b8c";

#[test]
fn a_folder_stands_in_for_efivarfs() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (pxe, debian) = (network("PXE"), loader("debian", 1, "\\EFI\\debian\\shimx64.efi"));
    let with = |value: &[u8]| [&[7, 0, 0, 0], value].concat();
    fs::write(path(&format!("Boot0000{GUID}")), with(&pxe.to_bytes().unwrap())).unwrap();
    fs::write(path(&format!("BootOrder{GUID}")), with(&[0, 0])).unwrap();
    fs::write(path(&format!("BootCurrent{GUID}")), with(&[0, 0])).unwrap();
    // What a failed write leaves, what is too short for attributes, and what is somebody else's.
    fs::write(path(&format!("Boot0001{GUID}")), "").unwrap();
    fs::write(path(&format!("SecureBoot{GUID}")), "abc").unwrap();
    fs::write(path("Boot0005-00000000-0000-0000-0000-000000000000"), with(&pxe.to_bytes().unwrap())).unwrap();
    let variables = EfivarFs::new(folder.path());
    let now = BootState::read(&variables).unwrap();
    assert_eq!(now, BootState { secure_boot: None, ..state(std::slice::from_ref(&pxe), &[0]) });

    let record = recorded(&state(&[pxe, debian.clone()], &[0, 1]));
    let changes = plan(&record, &now, &[esp(1, &["\\EFI\\debian\\shimx64.efi"])]).changes;
    apply(&variables, &changes).unwrap();
    assert_eq!(fs::read(path(&format!("Boot0001{GUID}"))).unwrap(), with(&debian.to_bytes().unwrap()));
    assert_eq!(fs::read(path(&format!("BootOrder{GUID}"))).unwrap(), with(&[0, 0, 1, 0]));
    assert_eq!(recorded(&BootState::read(&variables).unwrap()).boot_order, record.boot_order);

    let missing = EfivarFs::new(path("missing"));
    assert!(missing.names().is_err() && missing.write("BootNext", &[0, 0]).is_err());
    fs::write(path(&format!("Boot0009{GUID}")), vec![0; 300 << 10]).unwrap();
    assert!(variables.read("Boot0009").is_err());
    assert!(BootState::read(&variables).unwrap().taken.contains(&BootNumber(9)));
}

#[test]
fn a_refusal_and_a_value_that_is_not_kept_are_told() {
    let now = state(&[network("PXE")], &[0]);
    let changes =
        [Change::Entry(BootNumber(3), loader("a", 1, "\\a.efi")), Change::Order(vec![BootNumber(0)])];
    for (fault, why) in [
        (FirmwareFault::Refuse(libc::ENOSPC), "Boot0003 'a' for '\\a.efi': ENOSPC, No space left on device"),
        (FirmwareFault::Refuse(libc::EROFS), "EROFS"),
        (FirmwareFault::Refuse(libc::EINVAL), "EINVAL"),
        (FirmwareFault::Forget, "Boot0003 'a' for '\\a.efi': it is not there when it is read back"),
    ] {
        let variables = variables_of(&now);
        variables.fail(fault);
        let said = apply(&variables, &changes).unwrap_err().to_string();
        assert!(said.contains(why), "{said} lacks {why}");
        assert_eq!(variables.values(), variables_of(&now).values());
    }
    let variables = variables_of(&now);
    variables.fail(FirmwareFault::Forget);
    let said = apply(&variables, &[Change::Order(vec![BootNumber(3)])]).unwrap_err().to_string();
    assert!(said.contains("BootOrder 0003: another value is read back"), "{said}");
}
