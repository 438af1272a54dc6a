mod codec;
mod plan;
mod random;
mod record;
mod variables;

use super::*;
use std::collections::BTreeSet;

/// A partition by a number.
pub fn partition(n: u8) -> HardDrive {
    HardDrive { number: u32::from(n), start: 2048 * u64::from(n), blocks: 2048, guid: Guid([n; 16]) }
}

/// A restored partition with these files.
pub fn esp(n: u8, files: &[&str]) -> Esp {
    let files = files.iter().map(|file| (*file).to_owned()).collect();
    Esp { partition: partition(n), is_moved: false, files, is_cut: false, problem: None }
}

pub fn loader(name: &str, n: u8, file: &str) -> LoadOption {
    LoadOption::new(name, partition(n), file)
}

/// A network card, as OVMF names it.
pub fn network(name: &str) -> LoadOption {
    let path = vec![
        PathNode::Other(2, 1, vec![0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0]),
        PathNode::Other(1, 1, vec![0, 2]),
        PathNode::Other(3, 0x0b, vec![0x52; 33]),
        PathNode::Other(3, 0x0c, vec![0; 23]),
    ];
    LoadOption { attributes: 1, name: name.into(), path, ..LoadOption::default() }
}

/// What edk2's set-up is: hidden, an application in the firmware's own volume.
pub fn set_up() -> LoadOption {
    let path = vec![PathNode::Other(4, 7, vec![7; 16]), PathNode::Other(4, 6, vec![6; 16])];
    LoadOption { attributes: 0x109, name: "UiApp".into(), path, ..LoadOption::default() }
}

/// Firmware with these entries, numbered from 0, in this order, booted from the first number of it.
pub fn state(entries: &[LoadOption], order: &[u16]) -> BootState {
    let numbered = (0..).map(BootNumber).zip(entries.iter().cloned());
    BootState {
        entries: numbered.clone().collect(),
        taken: numbered.map(|(number, _)| number).collect(),
        order: order.iter().copied().map(BootNumber).collect(),
        current: order.first().copied().map(BootNumber),
        next: None,
        secure_boot: Some(true),
    }
}

/// What a record has of it.
pub fn recorded(state: &BootState) -> FirmwareRecord {
    let variables = variables_of(state);
    let platform = Platform { bits: Some(64), variables: Ok(std::sync::Arc::new(variables)) };
    FirmwareRecord::of(Some(&platform))
}

/// The variables of a state.
pub fn variables_of(state: &BootState) -> MemVariables {
    let bytes = |numbers: &[BootNumber]| numbers.iter().flat_map(|n| n.0.to_le_bytes()).collect::<Vec<u8>>();
    let mut values: Vec<(String, Vec<u8>)> =
        state.entries.iter().map(|(n, option)| (n.variable(), option.to_bytes().unwrap())).collect();
    let malformed: BTreeSet<_> = state.taken.iter().filter(|n| !state.entries.contains_key(n)).collect();
    values.extend(malformed.into_iter().map(|n| (n.variable(), b"?".to_vec())));
    values.extend(state.current.map(|n| ("BootCurrent".into(), bytes(&[n]))));
    values.extend(state.next.map(|n| ("BootNext".into(), bytes(&[n]))));
    values.extend(state.secure_boot.map(|on| ("SecureBoot".into(), vec![u8::from(on)])));
    if !state.order.is_empty() {
        values.push(("BootOrder".into(), bytes(&state.order)));
    }
    MemVariables::new(values)
}

/// The firmware after the changes of a plan.
pub fn after(state: &BootState, plan: &EntryPlan) -> BootState {
    let variables = variables_of(state);
    apply(&variables, &plan.changes).unwrap();
    BootState::read(&variables).unwrap()
}
