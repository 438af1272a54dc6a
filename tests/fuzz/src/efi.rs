//! Boot entries: what is written and read again is the same, and no longer; the firmware's other values do not panic. The
//! first byte chooses: one entry, or some variables.

use testbox::efi::{BootState, LoadOption, MemVariables};

pub fn efi(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    if kind % 2 == 0 { entry(rest) } else { variables(rest) }
}

fn entry(bytes: &[u8]) {
    let Ok(option) = LoadOption::parse(bytes) else { return };
    let written = option.to_bytes().expect("what was read can be written");
    assert_eq!(written.len(), bytes.len());
    assert_eq!(LoadOption::parse(&written).as_ref(), Ok(&option));
    if let Some((partition, file)) = option.loader() {
        assert!(file.starts_with('\\'), "{file:?}");
        let made = LoadOption::new(&option.name, partition, &file);
        assert_eq!(made.loader(), Some((partition, file)));
    }
}

/// Values one behind the other, a length before each: the order, the current entry, entries.
fn variables(mut bytes: &[u8]) {
    let names = ["BootOrder", "BootCurrent", "Boot0000", "Boot0001", "Boot0002", "SecureBoot", "BootNext"];
    let mut values = Vec::new();
    for name in names {
        let Some((len, rest)) = bytes.split_first() else { break };
        let (value, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        values.push((name.to_owned(), value.to_vec()));
        bytes = rest;
    }
    let state = BootState::read(&MemVariables::new(values)).expect("memory does not fail");
    assert!(state.entries.len() <= 3 && state.taken.len() <= 3);
}
