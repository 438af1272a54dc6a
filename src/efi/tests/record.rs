use super::super::*;
use super::{esp, loader, network, partition, recorded, set_up, state};
use std::sync::Arc;

#[test]
fn the_record_has_what_the_firmware_had() {
    let mut windows = loader("Windows Boot Manager", 1, "\\EFI\\Microsoft\\Boot\\bootmgfw.efi");
    windows.options = vec![7; 136];
    let mut firmware = recorded(&state(&[set_up(), network("PXE"), windows], &[1, 2, 0]));
    firmware.loaders.push(Loaders::of("sda", esp(1, &["\\EFI\\BOOT\\BOOTX64.EFI"])));
    let text = serde_json::to_string(&firmware).unwrap();
    let hash = blake3::hash(&[7; 136]).to_hex();
    let partition =
        r#"{"number":1,"start":2048,"blocks":2048,"guid":"01010101-0101-0101-0101-010101010101"}"#;
    let expected = format!(
        "{{\"kind\":\"uefi\",\"bits\":64,\"secure_boot\":true,\"boot_current\":\"0001\",\
         \"boot_order\":[\"0001\",\"0002\",\"0000\"],\"entries\":[\
         {{\"number\":\"0000\",\"name\":\"UiApp\",\"active\":false,\"device\":\"other (04.07/04.06)\"}},\
         {{\"number\":\"0001\",\"name\":\"PXE\",\"active\":true,\"device\":\"network (02.01/01.01/03.0b/03.0c)\"}},\
         {{\"number\":\"0002\",\"name\":\"Windows Boot Manager\",\"active\":true,\"partition\":{partition},\
         \"path\":\"\\\\EFI\\\\Microsoft\\\\Boot\\\\bootmgfw.efi\",\"options\":{{\"bytes\":136,\"hash\":\"{}\"}}}}],\
         \"loaders\":[{{\"image\":\"sda\",\"partition\":{partition},\"files\":[\"\\\\EFI\\\\BOOT\\\\BOOTX64.EFI\"],\
         \"fallback\":true}}]}}",
        &hash[..16]
    );
    assert_eq!(text, expected);
    assert_eq!(serde_json::from_str::<FirmwareRecord>(&text).unwrap(), firmware);
    assert_eq!(firmware.check(), Ok(()));
    let lines = firmware.lines().join("\n");
    assert!(lines.contains("BootOrder: 0001,0002,0000") && lines.contains("136 bytes of options"), "{lines}");
}

#[test]
fn a_machine_without_uefi_or_with_unreadable_variables_says_so() {
    assert_eq!(serde_json::to_string(&FirmwareRecord::of(None)).unwrap(), r#"{"kind":"bios"}"#);
    let platform = Platform { bits: None, variables: Err("EPERM".into()) };
    let firmware = FirmwareRecord::of(Some(&platform));
    assert_eq!((firmware.kind, firmware.problem.as_deref()), (FirmwareKind::Uefi, Some("EPERM")));
}

#[test]
fn a_record_of_firmware_is_bounded_when_written_and_when_read() {
    let entries: Vec<_> = (0..600u16).map(|n| loader(&"n".repeat(9000), 1, &format!("\\{n}.efi"))).collect();
    let order: Vec<u16> = (0..600).rev().collect();
    let firmware = recorded(&state(&entries, &order));
    assert_eq!(firmware.check(), Ok(()));
    assert_eq!((firmware.entries.len(), firmware.entries[0].number), (256, BootNumber(344)));
    assert!(firmware.problem.as_deref().is_some_and(|why| why.contains("600 boot entries")));

    type Spoil = fn(&mut FirmwareRecord);
    let rows: [(Spoil, &str); 8] = [
        (|f| f.entries = vec![f.entries[0].clone(); 257], "257 boot entries"),
        (|f| f.boot_order = vec![BootNumber(0); 513], "513 numbers"),
        (|f| f.loaders = vec![f.loaders[0].clone(); 257], "257 partitions"),
        (|f| f.loaders[0].files = vec!["\\x".into(); 513], "513 loaders"),
        (|f| f.entries[0].name = "x".repeat(513), "more than 512 characters"),
        (|f| f.problem = Some("x".repeat(513)), "more than 512 characters"),
        (|f| f.entries[0].path = Some("EFI".into()), "a path that is none"),
        (|f| f.entries[0].path = Some("\\a\nb".into()), "a path that is none"),
    ];
    for (spoil, expected) in rows {
        let mut firmware = recorded(&state(&[loader("a", 1, "\\a.efi")], &[0]));
        firmware.loaders.push(Loaders::of("sda", esp(1, &["\\a.efi"])));
        spoil(&mut firmware);
        let why = firmware.check().unwrap_err();
        assert!(why.contains(expected), "{why} lacks {expected}");
    }
    for bad in
        [r#"{"kind":"x"}"#, r#"{"kind":"uefi","boot_order":["1"]}"#, r#"{"kind":"uefi","boot_current":1}"#]
    {
        assert!(serde_json::from_str::<FirmwareRecord>(bad).is_err(), "{bad}");
    }
}

#[test]
fn one_malformed_entry_hides_no_other() {
    let mut state = state(&[network("PXE"), loader("a", 1, "\\a.efi")], &[0, 1, 5]);
    state.taken.insert(BootNumber(5));
    let read = BootState::read(&super::variables_of(&state)).unwrap();
    assert_eq!(read, state);
    assert_eq!(read.free(BootNumber(5), &[BootNumber(2)].into()), Some(BootNumber(3)));
    assert_eq!(read.free(BootNumber(9), &[].into()), Some(BootNumber(9)));
    let shared: Arc<dyn Variables> = Arc::new(super::variables_of(&state));
    let firmware = FirmwareRecord::of(Some(&Platform { bits: Some(64), variables: Ok(shared) }));
    assert_eq!(firmware.entry(BootNumber(1)).unwrap().partition, Some(partition(1)));
}
