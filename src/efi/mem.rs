//! The variables of a firmware in memory, for tests.

use super::variables::Variables;
use crate::sys::Power;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Variables in memory, for tests. Clones are the same firmware.
#[derive(Clone, Default)]
pub struct MemVariables {
    state: Arc<Mutex<MemState>>,
}

#[derive(Clone, Default)]
struct MemState {
    values: BTreeMap<String, Vec<u8>>,
    power: Power,
    fault: Option<FirmwareFault>,
    written: Vec<String>,
}

/// What the firmware does with every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareFault {
    /// It refuses with this errno.
    Refuse(i32),
    /// It says that it is done, and does nothing.
    Forget,
    /// The power goes when the boot order is to be written.
    CutBeforeOrder,
}

impl MemVariables {
    /// Firmware with these variables.
    pub fn new(values: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let state = MemState { values: values.into_iter().collect(), ..MemState::default() };
        MemVariables { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, MemState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same variables in another firmware, without its faults and its power.
    pub fn copy(&self) -> Self {
        Self::new(self.state().values.clone())
    }

    /// All variables.
    pub fn values(&self) -> BTreeMap<String, Vec<u8>> {
        self.state().values.clone()
    }

    /// Names of those that were written, in order.
    pub fn written(&self) -> Vec<String> {
        self.state().written.clone()
    }

    /// What it hangs on.
    pub fn plug(&self, power: &Power) {
        self.state().power = power.clone();
    }

    /// Every write goes wrong in this way from now on.
    pub fn fail(&self, fault: FirmwareFault) {
        self.state().fault = Some(fault);
    }

    /// Sets a variable as the firmware itself does.
    pub fn put(&self, name: &str, value: &[u8]) {
        self.state().values.insert(name.into(), value.into());
    }
}

impl Variables for MemVariables {
    fn names(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        state.power.begin()?;
        Ok(state.values.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let state = self.state();
        state.power.begin()?;
        Ok(state.values.get(name).cloned())
    }

    fn write(&self, name: &str, value: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.power.begin()?;
        match state.fault {
            Some(FirmwareFault::Refuse(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(FirmwareFault::Forget) => return Ok(()),
            Some(FirmwareFault::CutBeforeOrder) if name == "BootOrder" => {
                state.power.cut_at(0);
                return state.power.begin();
            }
            Some(FirmwareFault::CutBeforeOrder) | None => {}
        }
        state.written.push(name.into());
        state.values.insert(name.into(), value.into());
        Ok(())
    }
}
