//! What the firmware says about booting, read once.

use super::load_option::LoadOption;
use super::number::BootNumber;
use super::variables::Variables;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Most boot entries that are read. Firmware that never forgets one has some dozens.
const MOST: usize = 1000;

/// Boot entries and their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootState {
    /// The entries that can be read.
    pub entries: BTreeMap<BootNumber, LoadOption>,
    /// Numbers of all that are there, those that are malformed too.
    pub taken: BTreeSet<BootNumber>,
    /// `BootOrder`.
    pub order: Vec<BootNumber>,
    /// `BootCurrent`: the entry that this boot came from.
    pub current: Option<BootNumber>,
    /// `BootNext`: what the next boot tries first, once.
    pub next: Option<BootNumber>,
    /// `SecureBoot`: whether the firmware checks loaders.
    pub secure_boot: Option<bool>,
}

impl BootState {
    /// Reads what is there.
    ///
    /// # Errors
    /// The variables cannot be listed, or the boot order cannot be read: nothing may be put in its place then.
    pub fn read(variables: &dyn Variables) -> io::Result<Self> {
        let taken: BTreeSet<_> =
            variables.names()?.iter().filter_map(|name| BootNumber::of_variable(name)).collect();
        let mut state = BootState { taken, ..BootState::default() };
        for number in state.taken.iter().take(MOST) {
            // One that cannot be read, or is malformed, only keeps its number.
            let value = variables.read(&number.variable()).ok().flatten();
            if let Some(option) = value.and_then(|value| LoadOption::parse(&value).ok()) {
                state.entries.insert(*number, option);
            }
        }
        let one = |name| variables.read(name).ok().flatten().and_then(|v| numbers(&v).first().copied());
        (state.current, state.next) = (one("BootCurrent"), one("BootNext"));
        state.order = numbers(&variables.read("BootOrder")?.unwrap_or_default());
        let secure = variables.read("SecureBoot").ok().flatten();
        state.secure_boot = secure.and_then(|value| Some(*value.first()? == 1));
        Ok(state)
    }

    /// True for the number of an entry that the firmware tries, and that boots from the network. Where firmware has a path of
    /// its own for that, only the entry that this boot came from is known to be one.
    pub fn is_network(&self, number: BootNumber) -> bool {
        let is_ours = |option: &LoadOption| self.current == Some(number) && option.loader().is_none();
        let is_one = |option: &LoadOption| option.is_tried() && (option.is_network() || is_ours(option));
        self.entries.get(&number).is_some_and(is_one)
    }

    /// True for the number of an entry that the firmware tries in its turn.
    pub fn is_tried(&self, number: BootNumber) -> bool {
        self.entries.get(&number).is_some_and(LoadOption::is_tried)
    }

    /// The lowest number that nothing has or names, `wanted` where that is one; `None` where all are taken.
    pub fn free(&self, wanted: BootNumber, allotted: &BTreeSet<BootNumber>) -> Option<BootNumber> {
        let named: BTreeSet<_> = self.order.iter().chain(&self.current).chain(&self.next).collect();
        let is_free = |n: &BootNumber| !self.taken.contains(n) && !named.contains(n) && !allotted.contains(n);
        std::iter::once(wanted).chain((0..=u16::MAX).map(BootNumber)).find(is_free)
    }
}

/// The numbers in the value of `BootOrder`, `BootNext` or `BootCurrent`.
pub fn numbers(value: &[u8]) -> Vec<BootNumber> {
    value.chunks_exact(2).map(|pair| BootNumber(u16::from_le_bytes([pair[0], pair[1]]))).collect()
}
