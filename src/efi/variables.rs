//! The variables of the firmware: the real ones, as a mounted efivarfs shows them, and a test's.

use crate::sys::Power;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// EFI_GLOBAL_VARIABLE, whose variables the specification defines; as efivarfs ends their names.
const GLOBAL: &str = "-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Non-volatile, for the boot loaders and for systems: what boot entries and their order must have.
const ATTRIBUTES: u32 = 7;
/// Longest value that is read, in bytes.
const LIMIT: u64 = 128 << 10;
/// Most variables that are looked at.
const MOST: usize = 10_000;

/// The firmware that has started this machine.
#[derive(Clone)]
pub struct Platform {
    /// 32 or 64; `None` where the kernel does not say.
    pub bits: Option<u8>,
    /// Its variables, or why they cannot be read.
    pub variables: Result<Arc<dyn Variables>, String>,
}

/// The global variables of the firmware.
pub trait Variables: Send + Sync {
    /// Their names, such as `Boot0003`.
    ///
    /// # Errors
    /// They cannot be listed.
    fn names(&self) -> io::Result<Vec<String>>;

    /// The value of one, without its attributes; `None` where it is not there.
    ///
    /// # Errors
    /// It is there and cannot be read, or is longer than 128 KiB.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Sets one, at once or not at all.
    ///
    /// # Errors
    /// The firmware refuses: no room left, write-protected, or it calls the value malformed.
    fn write(&self, name: &str, value: &[u8]) -> io::Result<()>;
}

/// A mounted efivarfs (the kernel's Documentation/filesystems/efivarfs.rst).
pub struct EfivarFs {
    dir: PathBuf,
}

impl EfivarFs {
    /// The one that is mounted here.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        EfivarFs { dir: dir.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{GLOBAL}"))
    }
}

impl Variables for EfivarFs {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for (count, file) in fs::read_dir(&self.dir)?.enumerate() {
            let file = file?;
            // What is not listed would be taken for free.
            if count >= MOST {
                return Err(io::Error::other(format!("there are more than {MOST} variables")));
            }
            let name = file.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(GLOBAL)) else { continue };
            // A write that failed leaves an empty file; the firmware has no such variable.
            if !file.metadata().is_ok_and(|data| data.len() == 0) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = File::open(self.path(name)).and_then(|file| file.take(LIMIT + 5).read_to_end(&mut bytes));
        match read {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        if bytes.len() as u64 > LIMIT + 4 {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {LIMIT} bytes")));
        }
        // The attributes stand in front.
        Ok(bytes.get(4..).map(<[u8]>::to_vec))
    }

    fn write(&self, name: &str, value: &[u8]) -> io::Result<()> {
        let mut bytes = ATTRIBUTES.to_le_bytes().to_vec();
        bytes.extend(value);
        // Not truncated before: each write(2) is a whole new value, and until then the old one counts.
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(self.path(name))?;
        match file.write(&bytes)? {
            n if n == bytes.len() => Ok(()),
            n => Err(io::Error::other(format!("only {n} of {} bytes were taken", bytes.len()))),
        }
    }
}

/// Variables in memory, for tests. Clones are the same firmware.
#[derive(Clone, Default)]
pub struct MemVariables {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    values: BTreeMap<String, Vec<u8>>,
    power: Power,
    fault: Option<Fault>,
    written: Vec<String>,
}

/// What the firmware does with every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
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
        let state = State { values: values.into_iter().collect(), ..State::default() };
        MemVariables { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
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
    pub fn fail(&self, fault: Fault) {
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
            Some(Fault::Refuse(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Fault::Forget) => return Ok(()),
            Some(Fault::CutBeforeOrder) if name == "BootOrder" => {
                state.power.cut_at(0);
                return state.power.begin();
            }
            Some(Fault::CutBeforeOrder) | None => {}
        }
        state.written.push(name.into());
        state.values.insert(name.into(), value.into());
        Ok(())
    }
}
