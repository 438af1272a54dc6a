//! Whatever a record and the firmware say: the network first, no number twice, few writes, and nothing but what was restored.

use super::super::*;
use super::{after, esp, loader, network, recorded, set_up, state, variables_of};
use crate::sys::Power;
use proptest::prelude::*;

const FILES: [&str; 3] = ["\\EFI\\debian\\shimx64.efi", "\\EFI\\BOOT\\BOOTX64.EFI", "\\EFI\\x\\kernel.efi"];

fn option() -> impl Strategy<Value = LoadOption> {
    let attributes = prop_oneof![8 => Just(1u32), 1 => Just(0), 1 => Just(9), 1 => Just(0x101)];
    let options = prop_oneof![3 => Just(&b""[..]), 1 => Just(&b"one"[..])];
    let kind = prop_oneof![
        2 => Just(network("net")),
        1 => Just(set_up()),
        6 => (1u8..4, prop::sample::select(&FILES[..])).prop_map(|(n, file)| loader("disk", n, file)),
    ];
    (attributes, options, kind).prop_map(|(attributes, options, kind)| {
        let attributes = if kind.attributes == 1 { attributes } else { kind.attributes };
        LoadOption { attributes, options: options.into(), ..kind }
    })
}

fn firmware() -> impl Strategy<Value = BootState> {
    let entries = prop::collection::vec(option(), 0..7);
    let order = prop::collection::vec(0u16..9, 0..9);
    (entries, order, prop::option::of(0u16..9), prop::option::of(0u16..9)).prop_map(
        |(entries, order, current, next)| BootState {
            current: current.map(BootNumber),
            next: next.map(BootNumber),
            ..state(&entries, &order)
        },
    )
}

fn restored() -> impl Strategy<Value = Vec<Esp>> {
    let one = |n: u8| {
        let files = prop::sample::subsequence(FILES.to_vec(), 0..=FILES.len());
        (files, any::<bool>()).prop_map(move |(files, is_moved)| Esp { is_moved, ..esp(n, &files) })
    };
    (prop::option::of(one(1)), prop::option::of(one(2))).prop_map(|(a, b)| a.into_iter().chain(b).collect())
}

/// The first entry of the order that the firmware tries.
fn first(state: &BootState) -> Option<BootNumber> {
    state.order.iter().copied().find(|number| state.is_tried(*number))
}

fn check(record: &FirmwareRecord, now: &BootState, esps: &[Esp]) -> Result<EntryPlan, TestCaseError> {
    let plan = plan(record, now, esps);
    let orders = plan.changes.iter().filter(|change| matches!(change, Change::Order(_))).count();
    prop_assert!(orders <= 1 && plan.changes.len() <= 17);
    prop_assert!(orders == 0 || matches!(plan.changes.last(), Some(Change::Order(_))), "the order is last");
    for change in &plan.changes {
        let Change::Entry(number, option) = change else { continue };
        prop_assert!(!now.taken.contains(number), "{number} is in use");
        prop_assert!(
            !now.order.contains(number) && now.next != Some(*number) && now.current != Some(*number)
        );
        let (partition, file) = option.loader().unwrap();
        let esp = esps.iter().find(|esp| esp.partition == partition);
        prop_assert!(esp.is_some_and(|esp| esp.files.contains(&file)), "{option:?} was not restored");
        prop_assert!(option.options.is_empty() && option.more_paths.is_empty() && option.attributes == 1);
        prop_assert!(option.is_short_form() && option.to_bytes().unwrap().len() <= 1024);
    }
    let then = after(now, &plan);
    for (number, option) in &now.entries {
        prop_assert_eq!(then.entries.get(number), Some(option), "nothing is overwritten");
    }
    prop_assert!(now.order.iter().all(|number| then.order.contains(number)), "nothing leaves the order");
    let has_network = now.order.iter().copied().chain(now.current).any(|number| now.is_network(number));
    if then.order != now.order {
        let first = first(&then);
        prop_assert!(first.is_some_and(|n| then.is_network(n)) || !has_network, "{:?}", then.order);
        prop_assert!(has_network || then.order.starts_with(&now.order), "{:?}", then.order);
    }
    let places: Vec<_> =
        plan.restored.iter().map(|number| then.order.iter().position(|n| n == number)).collect();
    prop_assert!(places.iter().all(Option::is_some), "what is restored is in the order");
    prop_assert!(!has_network || places.is_sorted(), "as the record has it");
    prop_assert!(plan.restored.iter().all(|number| then.is_tried(*number)));
    Ok(plan)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn whatever_is_recorded_and_there_the_rules_of_entries_hold(
        before in firmware(), now in firmware(), esps in restored()
    ) {
        let record = recorded(&before);
        let plan = check(&record, &now, &esps)?;
        let again = check(&record, &after(&now, &plan), &esps)?;
        prop_assert!(again.changes.is_empty(), "once done, all is done: {:?}", again.changes);
    }

    #[test]
    fn a_cut_between_two_writes_leaves_the_order_that_was(
        before in firmware(), now in firmware(), esps in restored(), nth in 0usize..40
    ) {
        let record = recorded(&before);
        let plan = plan(&record, &now, &esps);
        let variables = variables_of(&now);
        let power = Power::default();
        variables.plug(&power);
        power.cut_at(nth);
        let is_done = apply(&variables, &plan.changes).is_ok();
        let then = BootState::read(&variables.copy()).unwrap();
        let end = after(&now, &plan);
        prop_assert!(then.order == now.order || then == end, "{:?}", then.order);
        prop_assert!(!is_done || then == end);
        // The next attempt ends as this one would have.
        let next = check(&record, &then, &esps)?;
        prop_assert_eq!(after(&then, &next).order, end.order);
    }
}
